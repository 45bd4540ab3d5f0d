"""A model of formula, data, family and priors as the arrays of the compiled density, or why it cannot be.

Predictors are centred once where the model's intercept is that of centred predictors: beta then is the coefficients
as typed, but for the intercept, which is put back in ``engine.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hiermod.engines.engine import Specification
from hiermod.engines.whitened.arrays import LOG, SINH, WORK, Arrays, proper
from hiermod.engines.whitened.compiled import density, inverse, row_loop, sampler
from hiermod.engines.whitened.laws import coefficient_law, scalar_law
from hiermod.engines.whitened.whitening import Group, Whitening, groups_of
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.row_function import RowFunction
from hiermod.priors.distributions import UNIT
from hiermod.priors.model_priors import Law, evaluable, model_priors
from hiermod.priors.terms import PLACE, SPREAD, SQUARE, TAIL, TERMS

START = 0.3  # sd of a group's contribution to eta at the start


@dataclass(frozen=True, eq=False)
class Numbers:
    """The priors as numbers: of coefficients (p, TERMS), of scalars, of partial correlations per group."""

    beta: np.ndarray
    laws: np.ndarray  # (S, TERMS)
    kind: list[int]
    low: list[float]
    high: list[float]
    shapes: list[float]
    fixed: list[float]  # per further parameter: nan where sampled
    centred: bool


def row_function_of(family: Any, link: Any) -> RowFunction | None:
    """The rows of a family with this link, where they are known."""
    known = FAMILIES.get(family) if isinstance(family, str) else None
    return None if known is None else known.rows.get(link)


def obstacle(model: Specification) -> str | None:
    """Why not, in words, or None."""
    design = model.design
    rows = row_function_of(model.family, model.link)
    if rows is None:
        return f"family {model.family!r} with link {model.link!r} has no row function"
    if design.formulas:
        return f"{', '.join(design.formulas)} has a formula of its own"
    if design.special is not None:
        return f"{design.response!r} weighs or censors the log likelihood of each row"
    if not design.precision.is_iid or design.precision.sigma_known:
        return "the rows have weights or known standard deviations"
    for block in design.blocks:
        if not (block.structure.free or (block.structure.name == "diag" and not block.structure.hom)):
            return f"{block.term} has a structure"
    try:
        numbers_of(model, rows, groups_of(design.blocks))
    except UnsupportedError as error:
        return str(error)
    return None


def numbers_of(model: Specification, rows: RowFunction, groups: tuple[Group, ...]) -> Numbers:
    """UnsupportedError where a prior is of a kind that the compiled density has not."""
    design = model.design
    priors = model_priors(design, model.priors, model.family, model.link, model.center_predictors)
    beta = np.empty((len(design.common), TERMS))
    for i, (name, law) in enumerate(zip(design.common, priors.common, strict=True)):
        beta[i] = coefficient_law(evaluable(law), name)
    laws: list[np.ndarray] = []
    kind: list[int] = []
    low: list[float] = []
    high: list[float] = []
    shapes: list[float] = []
    fixed: list[float] = []

    def add(law: Law, name: str, even: bool) -> None:
        numbers, how, least, most = scalar_law(evaluable(law), name, even)
        laws.append(numbers)
        kind.append(how)
        low.append(least)
        high.append(most)

    for group in groups:
        for index in group.blocks:
            block = design.blocks[index]
            for column, law in zip(block.columns, priors.sds[index], strict=True):
                add(law, column.sd_name, even=True)
            if block.pairs:
                eta, k = priors.eta[index], block.size
                shapes += [eta + (k - 2 - i) / 2.0 for a in range(k) for i in range(a)]
    for name, transform in rows.auxiliary:
        given = priors.auxiliary[name]
        fixed.append(given if isinstance(given, float) else np.nan)
        if not isinstance(given, float):
            add(given, name, even=False)
            if transform == "logit" and (low[-1], high[-1]) != UNIT:
                raise UnsupportedError(f"the prior of {name!r} is {given}, which is not on all shares")
    return Numbers(beta, np.array(laws).reshape(-1, TERMS), kind, low, high, shapes, fixed, priors.centred)


@dataclass(frozen=True, eq=False)
class Start:
    """A model before anything is approximated."""

    whitening: Whitening
    t: np.ndarray
    eta: np.ndarray
    shift: np.ndarray  # (p,) centres of the columns, 0 where none: intercept as typed = intercept - beta @ shift
    further: tuple[tuple[str, float], ...]  # further parameters of the response: name, nan or what it is fixed at


def start_of(model: Specification, kept: np.ndarray | None = None) -> Start:
    """The arrays of a model without an obstacle, and where the search for its mode starts.

    kept: the rows that its likelihood is of (None: all); priors, centring and levels are those of all rows."""
    design = model.design
    rows = row_function_of(model.family, model.link)
    if rows is None:
        raise UnsupportedError(str(obstacle(model)))
    groups = groups_of(design.blocks)
    numbers = numbers_of(model, rows, groups)
    kept = np.arange(design.nobs) if kept is None else np.asarray(kept)
    n, p = len(kept), len(design.common)
    order = kept[np.argsort(groups[0].codes[kept], kind="stable")] if groups else kept
    shift = np.zeros(p)
    if numbers.centred:
        shift = np.asarray(design.X).mean(axis=0)
        shift[design.common.index("Intercept")] = 0.0
    X = np.asarray(design.X, dtype=float)[order] - shift
    groups = tuple(Group(g.blocks, g.codes[order], g.levels, g.values[order], g.first) for g in groups)
    patterns, pattern = _patterns(X)
    sizes = np.array([g.size for g in groups], dtype=int)
    levels = np.array([g.levels for g in groups], dtype=int)
    effects = sizes * levels
    after = np.concatenate([np.cumsum(effects[::-1])[::-1][1:], [0]]) if groups else np.zeros(0)
    correlations = [sum(k - int(f) for k, f in enumerate(g.first)) for g in groups]
    kinds, S = numbers.kind, len(numbers.kind)
    further = len(numbers.fixed)
    sampled = [k for k in range(further) if np.isnan(numbers.fixed[k])]
    scalar_of = np.full(further, -1)
    scalar_of[sampled] = sizes.sum() + np.arange(len(sampled))
    scale = np.ones(S)
    V = np.vstack([g.values.T for g in groups]) if groups else np.zeros((0, n))
    for s in range(len(V)):
        scale[s] = START / max(float(np.sqrt(np.mean(V[s] ** 2))), 1e-8)
    q = p + int(effects.sum())
    given: dict[str, Any] = {
        "y": proper(design.y[order], float),
        "trials": proper(np.ones(n) if design.trials is None else design.trials[order], float),
        "offset": proper(np.zeros(n) if design.offset is None else design.offset[order], float),
        "pattern": proper(pattern, int),
        "X": proper(patterns.T, float),
        "codes": proper(np.stack([g.codes for g in groups]) if groups else np.zeros((0, n)), int),
        "V": proper(V, float),
        "size": proper(sizes, int),
        "levels": proper(levels, int),
        "column_at": proper(_starts(sizes), int),
        "x_at": proper(p + after, int),
        "A_at": proper(_starts(levels * sizes**2), int),
        "correlation_at": proper(S + _starts(correlations), int),
        "first": proper(np.concatenate([g.first for g in groups]) if groups else [], int),
        "kind": proper(kinds, int),
        "scale": proper(scale, float),
        "low": proper(numbers.low, float),
        "high": proper(numbers.high, float),
        "laws": proper(numbers.laws, float),
        "by_log": proper(
            [k in sampled and rows.auxiliary[k][1] == "log" and kinds[scalar_of[k]] != LOG for k in range(further)], int
        ),
        "fixed": proper(
            [rows.unconstrained(k, value) if np.isfinite(value) else np.nan for k, value in enumerate(numbers.fixed)],
            float,
        ),
        "scalar_of": proper(scalar_of, int),
        "shapes": proper(numbers.shapes, float),
        "beta_laws": proper(numbers.beta, float),
        "A": np.zeros(int((levels * sizes**2).sum())),
        "d": np.zeros(q),
        "pointers": np.zeros(q + 1, np.int64),
        "columns": np.zeros(0, np.int64),
        "entries": np.zeros(0),
        "root": proper(np.eye(p), float),
        "centre": np.zeros(p),
        **{name: np.zeros(0) for name in WORK},
    }
    given |= {
        "scalar": np.zeros((4, S)),
        "eta": np.zeros(n),
        "score": np.zeros(n),
        "xb": np.zeros(len(patterns)),
        "C": np.zeros(len(given["A"])),
    }
    given |= {name: np.zeros(q) for name in ("u", "z", "r", "gx")}
    arrays = Arrays(**given)
    precision = -2.0 * numbers.beta[:, SQUARE] - 2.0 * numbers.beta[:, TAIL] * numbers.beta[:, SPREAD]
    whitening = Whitening(
        arrays, groups, X, _indicators(groups, n), precision, numbers.beta[:, PLACE].copy(),
        row_loop(f"{model.family}_{model.link}", rows.first, further), density(), sampler(), inverse(),
        _weights(arrays, rows), np.zeros(0),
    )  # fmt: skip
    t = np.zeros(whitening.head)
    for s in range(S):
        t[s] = np.arcsinh(2.0) if kinds[s] == SINH else 0.0
    eta = arrays.offset + _constant(arrays, rows, whitening.further(t))
    return Start(whitening, t, eta, shift, tuple(zip(rows.names, numbers.fixed, strict=True)))


def _weights(arrays: Arrays, rows: RowFunction) -> Any:
    """eta (n,), further parameters -> expected weights and scores of the rows."""

    def weights(eta: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            _, score, _ = rows.first(arrays.y, arrays.trials, eta, tuple(a))
            _, expected = rows.weights(arrays.y, arrays.trials, eta, tuple(a))
        shape = arrays.y.shape
        expected, score = np.broadcast_to(expected, shape), np.broadcast_to(score, shape)
        return np.where(np.isfinite(expected), expected, 0.0), np.where(np.isfinite(score), score, 0.0)

    return weights


def _constant(arrays: Arrays, rows: RowFunction, a: np.ndarray) -> float:
    """The one number which, added to the offset of every row, fits best: Fisher scoring with halved steps."""

    def value(c: float) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum(rows.density(arrays.y, arrays.trials, arrays.offset + c, tuple(a))))

    weights, c = _weights(arrays, rows), 0.0
    best = value(c)
    for _ in range(30):
        w, s = weights(arrays.offset + c, a)
        step = float(np.clip(s.sum() / max(w.sum(), 1e-8), -3.0, 3.0))
        while abs(step) > 1e-3 and not value(c + step) > best:
            step /= 2.0
        if abs(step) <= 1e-3:
            break
        c += step
        best = value(c)
    return c


def _patterns(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of X where there are not many, and which each row has: sums over them take less time."""
    n, p = X.shape
    if p == 0:
        return np.zeros((1, 0)), np.zeros(n, dtype=int)
    found, pattern = np.unique(X, axis=0, return_inverse=True)
    if len(found) > n // 2:
        return X, np.arange(n)
    return found, pattern.ravel()


def _starts(sizes: Any) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)])[: len(sizes)]


def _indicators(groups: tuple[Group, ...], n: int) -> Any:
    """Z (n, effects), the group eliminated last first."""
    parts = []
    for group in reversed(groups):
        K = group.size
        columns = group.codes[:, None] * K + np.arange(K)
        shape = (n, group.levels * K)
        parts.append(sparse.csr_array((group.values.ravel(), columns.ravel(), np.arange(n + 1) * K), shape=shape))
    return sparse.csr_array(sparse.hstack(parts)) if parts else sparse.csr_array((n, 0))
