"""What the common coefficients would be without one group or one row, the variance parameters held: no refit.

With theta held the fit is penalised least squares, so leaving out the rows u changes the coefficients by
P C_u'(I - H_uu)^-1 e_u and their variance P by P C_u'(I - H_uu)^-1 C_u P, exactly (Christensen, Pearson and Johnson
1992, Technometrics 34(1); Cook 1977; Belsley, Kuh and Welsch 1980).  For a generalised fit this is one step of
iteratively reweighted least squares from the estimates (Pregibon 1981, Ann. Statist. 9(4); R's influence.glm)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.errors import FitError, listing
from hiermod.formula.design import Design, FrozenArrays
from hiermod.inference.assumptions.leverage import FEW, Record, SeenRows, seen_rows, working
from hiermod.kernel import conditional
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.criterion import build_problem
from hiermod.kernel.threads import SHORT, suitable_threads

NUMBERS = 4_000_000  # numbers in one dense piece of rows x columns
MANY = 1000  # rows of a unit beyond which a factorisation without it is cheaper than its part of the hat matrix
ALONE = 1e-9  # of a direction of beta: what is left of its information without the unit, below which it is lost


@dataclass(frozen=True, eq=False)
class Deletion(FrozenArrays):
    """U units left out one at a time.  p: all common columns; nan where there is nothing to say."""

    n_rows: np.ndarray  # (U,)
    leverage: np.ndarray  # (U,) trace of H_uu: degrees of freedom of the fitted values that the unit takes
    leverage_common: np.ndarray  # (U,) its share of the p degrees of freedom of the common coefficients
    cooks_distance: np.ndarray  # (U,)
    mdffits: np.ndarray  # (U,) as Cook's distance, in the covariance without the unit
    covratio: np.ndarray  # (U,) determinant of the coefficients' covariance without the unit, over that with it
    change: np.ndarray  # (U, p) estimate less the estimate without the unit
    dfbetas: np.ndarray  # (U, p) change over the standard error without the unit
    parameters: np.ndarray  # (U, q) change of the variance parameters; (U, 0) where they are held
    messages: tuple[str, ...]  # what is missing and why


def held_deletion(record: Record, design: Design, codes: np.ndarray, labels: tuple[str, ...]) -> Deletion:
    """Leave out each unit, the variance parameters and sigma as estimated.  codes (n,): the unit of each row."""
    if isinstance(record, MixedFit) and np.isnan(record.criterion):
        raise FitError(f"there are no estimates for units to influence: {record.convergence.message}")
    columns = len(record.factor.U) if isinstance(record, MixedFit | GeneralisedMixedFit) else 0
    with suitable_threads(max(columns, SHORT)):  # short steps, many of them: threads would only spin
        return _held(record, design, codes, labels)


def _held(record: Record, design: Design, codes: np.ndarray, labels: tuple[str, ...]) -> Deletion:
    rows, U = seen_rows(record, design), len(labels)
    p, kept, q = len(design.common), design.estimable, len(rows.R)
    lost = lost_directions(rows, codes, U)
    alone = np.array([direction is not None for direction in lost])
    scale = residual_variance(record)
    leverage, measures = np.full((2, U), np.nan), np.full((3, U), np.nan)
    change, dfbetas = np.full((2, U, p), np.nan)
    back = solve_triangular(rows.L_X.T @ rows.R, np.eye(q)) if q else np.zeros((0, 0))  # beta = back z_X y
    P = back @ back.T
    width = q if rows.factor is None else rows.factor.L.shape[1]
    full = None
    for which, piece, size in _pieces(rows, codes, U, width):
        if size > MANY and rows.factor is not None:
            parts = [piece.take(np.arange(at, min(at + MANY, size))) for at in range(0, size, MANY)]
            leverage[:, which[0]] = sum(_leverages(part, len(part), 1)[0].sum(axis=1) for part in parts)
            if alone[which[0]] or not q:
                continue
            if full is None:
                full = _refactorised(record, design, np.ones(design.nobs, dtype=bool))[0]
            without, V = _refactorised(record, design, codes != which[0])
            moved, V = (full - without)[None], V[None]
        else:
            leverage[:, which], H, Z = _leverages(piece, len(which), size)
            keep = ~alone[which]
            which = which[keep]
            if not len(which) or not q:
                continue
            e = piece.e.reshape(-1, size, 1)[keep]
            Z = Z[keep]
            solved = np.linalg.solve(np.eye(size) - H[keep], np.concatenate([e, Z], axis=2))
            g = np.swapaxes(Z, 1, 2) @ solved
            moved = g[:, :, 0] @ back.T
            V = P + back @ (0.5 * (g[:, :, 1:] + np.swapaxes(g[:, :, 1:], 1, 2))) @ back.T
        measures[:, which], standardised = measured(moved, scale * V, scale * P)
        change[np.ix_(which, kept)], dfbetas[np.ix_(which, kept)] = moved, standardised
    told = tuple(_told(lost, labels, design))
    n_rows = np.bincount(codes, minlength=U)
    return Deletion(
        n_rows,
        leverage=leverage[0],
        leverage_common=leverage[1],
        cooks_distance=measures[0],
        mdffits=measures[1],
        covratio=measures[2],
        change=change,
        dfbetas=dfbetas,
        parameters=np.empty((U, 0)),
        messages=told,
    )


def measured(moved: np.ndarray, V: np.ndarray, V_all: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3, U) Cook's distance, mdffits, covratio and (U, q) dfbetas.  V (U, q, q) covariances without the units."""
    q = len(V_all)
    unit = np.sqrt(np.diag(V_all))  # coefficients in units of their standard errors: no trouble with their scales
    moved, V, V_all = moved / unit, V / np.outer(unit, unit), V_all / np.outer(unit, unit)
    cooks = np.einsum("uq,qu->u", moved, np.linalg.solve(V_all, moved.T)) / q
    mdffits = np.einsum("uq,uq->u", moved, np.linalg.solve(V, moved[..., None])[..., 0]) / q
    covratio = np.exp(np.linalg.slogdet(V)[1] - np.linalg.slogdet(V_all)[1])
    return np.stack([cooks, mdffits, covratio]), moved / np.sqrt(np.einsum("uqq->uq", V))


def residual_variance(record: Record) -> float:
    """sigma^2 of the coefficients' covariance; for least squares that of the residual degrees of freedom, as in R."""
    if isinstance(record, LinearFit) and not record.sigma_known:
        return record.rss / record.df_residual
    return float(record.sigma) ** 2


def _leverages(piece: SeenRows, U: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(2, U) leverage and its common part, (U, size, size) hat blocks, (U, size, q) the rows' part that X decides."""
    seen, q = piece.project(), piece.X.shape[1]
    H = seen.hat_blocks(U, size)[0]
    Z = seen.z[0, seen.z.shape[1] - q :].T
    own = solve_triangular(piece.L_X, piece.X.T, lower=True).T if q else Z
    common = np.einsum("iq,iq->i", own, Z).reshape(U, size).sum(axis=1)
    return np.stack([np.einsum("uii->u", H), common]), H, Z.reshape(U, size, q)


def _pieces(rows: SeenRows, codes: np.ndarray, U: int, width: int) -> Iterator[tuple[np.ndarray, SeenRows, int]]:
    """(units, their rows one unit after the other, rows of each): units of one size, few enough for one pass."""
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes, minlength=U))[:-1])
    sizes = np.array([len(of_unit) for of_unit in members])
    for u in np.flatnonzero(sizes > FEW):
        own = rows.take(members[u]).compressed()
        if len(own) < sizes[u] or sizes[u] > MANY:
            sizes[u] = 0
            yield np.array([u]), own, len(own)
    for size in np.unique(sizes[sizes > 0]):
        same = np.flatnonzero(sizes == size)
        step = max(1, NUMBERS // (int(size) * (width + int(size))))
        for start in range(0, len(same), step):
            which = same[start : start + step]
            yield which, rows.take(np.concatenate([members[u] for u in which])), int(size)


def _refactorised(record: Record, design: Design, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q,) estimable coefficients from the rows ``left`` at the same theta, and (q, q) their variance over sigma^2."""
    weights, residuals = working(record, design)
    linear = record.fitted if isinstance(record, MixedFit | LinearFit) else record.eta
    terms = [GroupTerm(b.factor, b.text, b.codes[left], len(b.levels), b.values[left]) for b in design.blocks]
    offset = None if design.offset is None else design.offset[left]
    X = design.X[left][:, design.estimable]
    precision = ResidualPrecision(len(X), weights=weights[left])
    problem = build_problem((linear + residuals)[left], X, terms, precision, offset)
    factor = problem.factorise(record.theta)  # type: ignore[union-attr]
    if factor is None:
        raise FitError("the penalised normal equations could not be factorised without one of the groups")
    return conditional.coefficients(problem, factor)[0], conditional.fixed_covariance(problem, factor)


def lost_directions(rows: SeenRows, codes: np.ndarray, U: int) -> list[np.ndarray | None]:
    """For each unit None, or the direction of beta (as typed, q numbers) about which the other rows say nothing."""
    q = rows.X.shape[1]
    if q == 0:
        return [None] * U
    root = cholesky(rows.X.T @ rows.X, lower=True)
    X = solve_triangular(root, rows.X.T, lower=True).T
    gram = np.empty((U, q, q))
    for a in range(q):
        for b in range(a + 1):
            gram[:, a, b] = gram[:, b, a] = np.bincount(codes, X[:, a] * X[:, b], U)
    values, vectors = np.linalg.eigh(np.eye(q) - gram)
    lost: list[np.ndarray | None] = [None] * U
    for u in np.flatnonzero(values[:, 0] < ALONE):
        lost[u] = solve_triangular(rows.R, solve_triangular(root, vectors[u, :, 0], lower=True, trans=1))
    return lost


def _told(lost: list[np.ndarray | None], labels: tuple[str, ...], design: Design) -> Iterator[str]:
    """One sentence for each unit without which a coefficient cannot be estimated."""
    names = [name for name, kept in zip(design.common, design.estimable, strict=True) if kept]
    size = np.sqrt(np.square(design.X[:, design.estimable]).sum(axis=0))
    for label, direction in zip(labels, lost, strict=True):
        if direction is not None:
            share = np.abs(direction) * size
            involved = [name for name, s in zip(names, share, strict=True) if s > 1e-6 * share.max()]
            yield f"without {label} the data say nothing about {listing(involved)}: its measures are nan"
