"""Random models and a dense reference for them, which shares nothing with hiermod but numpy and scipy.

``draw(seed)`` makes a formula and data, and from the same recipe, by hand, the response, a basis of the common columns
and the columns of every block of group effects.  ``failures(case)`` fits the model and compares every number with
dense algebra at the theta that the fit reports: an orthogonal factorisation of all rows, no cross-products.
``worse_optimum`` searches from random starts, with a criterion and a search of its own, for one that the fit missed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import block_diag, solve_triangular
from scipy.optimize import minimize
from scipy.special import gammaln, log_ndtr, logsumexp, ndtr
from scipy.stats import norm

import hiermod as hm
from hiermod.errors import HiermodError, HiermodWarning

# --- what the formula layer should make of a model, by hand ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bar:
    """(left | factor): its columns (n, k), by R's coding; split: ``||``."""

    factor: str
    codes: np.ndarray  # (n,) by order of the levels
    levels: tuple[str, ...]
    columns: np.ndarray
    split: bool


@dataclass(frozen=True, eq=False)
class Case:
    """A model as a person would write it, and what it means."""

    seed: int
    formula: str
    data: pd.DataFrame
    options: dict[str, Any]
    kept: np.ndarray  # positions of the rows without missing values
    y: np.ndarray  # (n,)
    X: np.ndarray  # (n, m): spans what R's model matrix spans, not all columns estimable
    named: dict[str, np.ndarray]  # columns whose name is certain
    bars: tuple[Bar, ...]
    offset: np.ndarray  # (n,)
    precision: np.ndarray  # (n,) weights, or 1 / se^2
    trials: np.ndarray  # (n,)
    family: str = "gaussian"
    link: str = "identity"

    def code(self) -> str:
        """The model as code that can be pasted."""
        text = " ".join([self.formula, *map(str, self.options.values())])
        used = [name for name in self.data.columns if re.search(rf"\b{name}\b", text)]
        columns = ", ".join(f"{name!r}: {_literal(self.data[name])}" for name in used)
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"hm.Model({self.formula!r}, pd.DataFrame({{{columns}}}){options})"


def _literal(values: pd.Series) -> str:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return f"pd.Categorical({values.tolist()!r}, {values.cat.categories.tolist()!r})".replace("nan", "None")
    return repr(values.tolist()).replace("nan", "float('nan')")


class _Recipe:
    """Columns of data, and what a text in a formula means on the rows that are kept."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng, self.n = rng, n
        self.columns: dict[str, Any] = {}
        self.kept = np.arange(n)

    def number(self, name: str, values: np.ndarray) -> None:
        """Four digits, as data are typed; more where there is a large mean."""
        spread = float(np.std(values)) or 1.0
        digits = 3 - int(np.floor(np.log10(spread)))
        self.columns[name] = np.round(values, digits) if abs(digits) < 300 else values

    def factor(self, name: str, codes: np.ndarray, n_levels: int, kind: str) -> None:
        """kind: text, whole numbers, or a categorical with an order of its own and a level that is not used."""
        if kind == "text":
            self.columns[name] = np.array([f"{name}{code:03d}" for code in codes], dtype=object)
        elif kind == "numbers":
            self.columns[name] = codes + 1
        else:
            levels = [f"{name}{code}" for code in self.rng.permutation(n_levels)] + ["unused"]
            self.columns[name] = pd.Categorical.from_codes(codes, levels)

    def coded(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Codes of the rows kept, and the levels in them, in order."""
        values = pd.Series(self.columns[name]).iloc[self.kept]
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat.remove_unused_categories()
            return values.cat.codes.to_numpy().astype(int), tuple(map(str, values.cat.categories))
        levels = sorted(set(values))
        return np.array([levels.index(value) for value in values]), tuple(map(str, levels))

    def raw(self, name: str) -> np.ndarray:
        return np.asarray(self.columns[name], dtype=float)[self.kept]

    def atom(self, text: str) -> np.ndarray | tuple[np.ndarray, tuple[str, ...]]:
        """(n, c) numbers, or codes and levels of a factor."""
        name = text.strip("`")
        if name in self.columns:
            values = np.asarray(pd.Series(self.columns[name]))
            if values.dtype == bool or values.dtype == object or isinstance(self.columns[name], pd.Categorical):
                return self.coded(name)
            return self.raw(name)[:, None]
        call, _, rest = text.partition("(")
        inner = rest.rstrip(")").split(",")[0].split("**")[0].strip()
        x = self.raw(inner)
        if call == "I":
            return x[:, None] ** 2
        if call in ("log", "np.log"):
            return np.log(x)[:, None]
        if call in ("scale", "center"):
            return ((x - x.mean()) / (x.std() if call == "scale" else 1.0))[:, None]
        assert call == "poly"
        return np.linalg.qr(np.vander((x - x.mean()) / np.abs(x).max(), 3, increasing=True))[0][:, 1:]

    def matrix(self, terms: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, list[str]]:
        """R's columns of ``terms`` (() is the intercept), and their names."""
        present = {frozenset(term) for term in terms}
        pieces, names = [np.empty((len(self.kept), 0))], []
        for term in terms:
            values, labels = np.ones((len(self.kept), 1)), [""]
            for text in term:
                atom = self.atom(text)
                if isinstance(atom, tuple):
                    first = 1 if frozenset(term) - {text} in present else 0
                    right = (atom[0][:, None] == np.arange(first, len(atom[1]))).astype(float)
                    more = [f"{text}[{level}]" for level in atom[1][first:]]
                else:
                    right = atom
                    more = [text.strip("`")] if atom.shape[1] == 1 else [f"{text}[{i}]" for i in range(atom.shape[1])]
                values = np.einsum("ij,ik->ijk", values, right).reshape(len(values), -1)
                labels = [f"{a}:{b}" if a else b for a in labels for b in more]
            pieces.append(values)
            names += labels if term else ["Intercept"]
        return np.hstack(pieces), names


NUMBERS = ("x", "z", "`hours studied`", "I(x**2)", "np.log(p)", "log(p)", "scale(x)", "center(z)", "poly(x, 2)", "gx")
FACTORS = ("f", "h", "b")
FAMILIES = (("bernoulli", "logit"), ("binomial", "logit"), ("poisson", "log"), ("bernoulli", "probit"))
FAMILIES += (("binomial", "cloglog"), ("bernoulli", "cloglog"), ("binomial", "probit"))


def draw(seed: int, generalised: bool = False, most_rows: int = 500) -> Case:
    """The model of a seed."""
    rng = np.random.default_rng([seed, int(generalised)])
    n = int(np.exp(rng.uniform(np.log(20), np.log(most_rows + 1))))
    recipe = _Recipe(rng, n)
    _groups(recipe)
    _predictors(recipe, tame=generalised)
    terms, text = _common(recipe)
    bars, bar_texts = _bars(recipe, generalised)
    text += [f"({bar})" for bar in bar_texts if bar]
    options: dict[str, Any] = {}
    has_offset = rng.random() < 0.1
    if has_offset:
        recipe.number("o", rng.normal(0, 0.5, n))
        text.insert(int(rng.integers(1, len(text) + 1)), "offset(o)")
    weighting = "" if generalised else str(rng.choice(["", "weights", "se"], p=[0.8, 0.12, 0.08]))
    if weighting:
        recipe.number("w", np.exp(rng.normal(0, 0.7, n)))
        options[weighting] = "w"
    if rng.random() < 0.1:
        _holes(recipe, terms)
        options["dropna"] = True
    X, names = recipe.matrix(terms)
    built = []
    for (left, factor, split), _ in zip(bars, bar_texts, strict=True):
        columns = recipe.matrix(left)[0]
        built.append(_bar(recipe, columns, factor, split))
    family, link = FAMILIES[int(rng.integers(len(FAMILIES)))] if generalised else ("gaussian", "identity")
    w = recipe.raw("w") if weighting else np.ones(len(recipe.kept))
    precision = 1.0 / w**2 if weighting == "se" else w
    offset = recipe.raw("o") if has_offset else np.zeros(len(recipe.kept))
    response = _response(recipe, X, built, offset, precision, family, link)
    y, trials = response[1], response[2]
    if generalised:
        options["family"] = family
        if link not in ("logit", "log"):
            options["link"] = link
    simple = all(len(term) < 2 for term in terms) and () in terms
    named = dict(zip(names, X.T, strict=True)) if simple else {}
    named = {name: column for name, column in named.items() if "(" not in name and not name.startswith("b[")}
    return Case(
        seed=seed,
        formula=f"{response[0]} ~ {' + '.join(text)}",
        data=pd.DataFrame(recipe.columns),
        options=options,
        kept=recipe.kept,
        y=y,
        X=X,
        named=named,
        bars=tuple(built),
        offset=offset,
        precision=precision,
        trials=trials,
        family=family,
        link=link,
    )


def _groups(recipe: _Recipe) -> None:
    """g and s crossed, or c within a; balanced, at random or most rows in few levels."""
    rng, n = recipe.rng, recipe.n

    def codes(J: int) -> np.ndarray:
        how = rng.choice(["balanced", "random", "few"])
        if how == "balanced":
            return np.arange(n) * J // n if rng.random() < 0.5 else np.arange(n) % J
        weights = np.ones(J) if how == "random" else rng.exponential(size=J) ** 2 + 1e-3
        return rng.choice(J, n, p=weights / weights.sum())

    def count(low: int, high: int) -> int:
        return int(np.exp(rng.uniform(np.log(low), np.log(max(high, low + 1)))))

    for name in ("g", "s"):
        J = count(3, max(4, min(n // 3, 60)))
        recipe.factor(name, codes(J), J, str(rng.choice(["text", "numbers", "categorical"])))
    J = count(2, max(3, min(n // 6, 12)))
    outer, inner = codes(J), codes(count(2, 6))
    recipe.factor("a", outer, J, "text")
    recipe.factor("c", inner, int(inner.max()) + 1, str(rng.choice(["text", "numbers"])))


def _predictors(recipe: _Recipe, tame: bool) -> None:
    rng, n = recipe.rng, recipe.n
    unit = 1.0 if tame else float(10.0 ** rng.choice([0, 0, 0, 0, 0, -6, -2, 3, 6]))
    centre = 0.0 if tame else float(rng.choice([0, 0, 0, 0, 3, 50]))
    recipe.number("x", unit * (centre + rng.normal(size=n)))
    recipe.number("z", rng.normal(size=n) if rng.random() < 0.7 else rng.integers(0, 4, n).astype(float))
    recipe.number("hours studied", rng.gamma(2.0, size=n))
    recipe.number("p", 0.1 + rng.gamma(2.0, size=n))
    recipe.number("gx", rng.normal(size=200)[recipe.coded("g")[0]])
    for name, most in (("f", 4), ("h", 3)):
        L = int(rng.integers(2, most + 1))
        codes = rng.integers(0, L, n) if rng.random() < 0.6 else rng.choice(L, n, p=_uneven(L))
        codes[:L] = np.arange(L)
        recipe.factor(name, codes, L, str(rng.choice(["text", "categorical"])))
    flags = rng.random(n) < rng.choice([0.5, 0.2])
    flags[:2] = [True, False]
    recipe.columns["b"] = flags


def _uneven(L: int) -> np.ndarray:
    weights = 3.0 ** -np.arange(L)
    return weights / weights.sum()


def _common(recipe: _Recipe) -> tuple[list[tuple[str, ...]], list[str]]:
    """Terms and their texts; () is the intercept."""
    rng = recipe.rng
    intercept = rng.random() < 0.9
    terms: list[tuple[str, ...]] = [()] if intercept else []
    text = ["1" if rng.random() < 0.1 else ""] if intercept else ["0"]

    def add(*new: tuple[str, ...], written: str = "") -> None:
        if any(frozenset(term) in {frozenset(old) for old in terms} for term in new):
            return
        terms.extend(new)
        text.append(written or ":".join(new[-1]))

    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.2, 0.35, 0.25, 0.15, 0.05]))):
        number, factor = str(rng.choice(NUMBERS)), str(rng.choice(FACTORS))
        first, second = (str(one) for one in rng.choice(FACTORS, 2, replace=False))
        plain = str(rng.choice(["x", "z", "`hours studied`"]))
        kind = rng.choice(["number", "factor", "x*f", "f*h", "x:f", "f:h", "x:z", "same", "constant"], p=_KINDS)
        if kind == "number":
            add((number,))
        elif kind == "factor":
            add((factor,))
        elif kind == "x*f":
            add((plain,), (factor,), (plain, factor), written=f"{plain}*{factor}")
        elif kind == "f*h":
            add((first,), (second,), (first, second), written=f"{first}*{second}")
        elif kind == "x:f":
            add((plain, factor))
        elif kind == "f:h":
            add((first, second))
        elif kind == "x:z":
            add(("x", "z"))
        elif kind == "same":  # collinear: earlier columns explain it
            recipe.columns["x2"] = 2.0 * np.asarray(recipe.columns["x"], dtype=float)
            add(("x",))
            add(("x2",))
        else:
            recipe.columns["k"] = np.full(recipe.n, 3.0)
            add(("k",))
    if not terms:
        terms, text = [()], [""]
    text = [one for one in text if one] or ["1"]
    return terms, text


_KINDS = [0.34, 0.24, 0.1, 0.08, 0.05, 0.05, 0.06, 0.05, 0.03]
LEFTS: dict[str, list[tuple[str, ...]]] = {
    "1": [()],
    "x": [(), ("x",)],
    "z": [(), ("z",)],
    "0 + z": [("z",)],
    "0 + x": [("x",)],
    "x + z": [(), ("x",), ("z",)],
    "f": [(), ("f",)],
    "0 + f": [("f",)],
    "b": [(), ("b",)],
    "0 + b": [("b",)],
    "I(x**2)": [(), ("I(x**2)",)],
    "0 + x:f": [("x", "f")],
    "z*b": [(), ("z",), ("b",), ("z", "b")],
    "scale(x)": [(), ("scale(x)",)],
    "`hours studied`": [(), ("`hours studied`",)],
}


def _bars(recipe: _Recipe, generalised: bool) -> tuple[list[tuple[list, tuple[str, ...], bool]], list[str]]:
    """(terms left of the bar, factor, split), and the texts; several texts for a/c."""
    rng = recipe.rng
    bars: list[tuple[list, tuple[str, ...], bool]] = []
    texts: list[str] = []

    def left(p_plain: float) -> str:
        return "1" if rng.random() < p_plain else str(rng.choice(list(LEFTS)[1:]))

    def add(side: str, factor: tuple[str, ...], split: bool = False) -> None:
        bars.append((LEFTS[side], factor, split))
        texts.append(f"{side} {'||' if split else '|'} {':'.join(factor)}")

    layout = str(rng.choice(["one", "crossed", "nested", "same", "three"], p=[0.4, 0.25, 0.17, 0.13, 0.05]))
    if layout == "one":
        add(left(0.35), ("g",), bool(rng.random() < 0.25))
    elif layout == "crossed":
        add(left(0.6), ("g",), bool(rng.random() < 0.2))
        add(left(0.7), ("s",), bool(rng.random() < 0.2))
    elif layout == "nested":
        side = left(0.75)
        if rng.random() < 0.5:
            bars += [(LEFTS[side], ("a",), False), (LEFTS[side], ("a", "c"), False)]
            texts.append(f"{side} | a/c")
        else:
            add(side, ("a",))
            add("1", ("a", "c"))
    elif layout == "same":
        add("1", ("g",))
        add("0 + z", ("g",))
        if rng.random() < 0.4:
            add("0 + x", ("g",))
    else:
        for factor in ("g", "s", "a"):
            add("1", (factor,))
    if len(texts) < len(bars):
        texts += [""] * (len(bars) - len(texts))
    return bars, texts


def _holes(recipe: _Recipe, terms: list[tuple[str, ...]]) -> None:
    """Missing values in a column that the model uses, and in one that it does not."""
    rng, n = recipe.rng, recipe.n
    absent = rng.random(n) < 0.06
    recipe.columns["y_missing"] = absent  # read when y is made
    used = {text for term in terms for text in term}
    for name in ("x", "gx"):
        if name in used and rng.random() < 0.5:
            more = rng.random(n) < 0.05
            recipe.columns[name] = np.where(more, np.nan, recipe.columns[name])
            absent = absent | more
    recipe.kept = np.flatnonzero(~absent)


def _bar(recipe: _Recipe, columns: np.ndarray, factor: tuple[str, ...], split: bool) -> Bar:
    coded = [recipe.coded(name) for name in factor]
    codes, levels = coded[0]
    if len(factor) > 1:
        pairs = sorted(set(zip(codes, coded[1][0], strict=True)))
        lookup = {pair: i for i, pair in enumerate(pairs)}
        levels = tuple(f"{coded[0][1][i]}:{coded[1][1][j]}" for i, j in pairs)
        codes = np.array([lookup[pair] for pair in zip(codes, coded[1][0], strict=True)])
    return Bar(":".join(factor), codes, levels, columns, split)


def _response(
    recipe: _Recipe,
    X: np.ndarray,
    bars: Sequence[Bar],
    offset: np.ndarray,
    precision: np.ndarray,
    family: str,
    link: str,
) -> tuple[str, np.ndarray, np.ndarray]:
    """Text, y and trials; the data get the columns."""
    rng, n, m = recipe.rng, recipe.n, len(recipe.kept)
    norms = np.sqrt(np.mean(X**2, axis=0))
    eta = (X / np.where(norms > 0, norms, 1.0)) @ rng.normal(0, 0.5, X.shape[1])
    gaussian = family == "gaussian"
    sizes = [0.0, 0.2, 0.7, 1.5, 5.0, 100.0, 3e4] if gaussian else [0.0, 0.3, 0.7, 1.5]
    chances = [0.15, 0.2, 0.25, 0.25, 0.1, 0.04, 0.01] if gaussian else [0.2, 0.3, 0.3, 0.2]
    for bar in bars:
        scaled = bar.columns / np.maximum(np.sqrt(np.mean(bar.columns**2, axis=0)), 1e-300)
        k = scaled.shape[1]
        L = np.linalg.qr(rng.normal(size=(k, k)))[0] if not bar.split else np.eye(k)
        b = rng.normal(size=(len(bar.levels), k)) @ L * rng.choice(sizes, k, p=chances)
        eta = eta + np.einsum("ij,ij->i", scaled, b[bar.codes])
    eta = eta + offset
    full = np.zeros(n)
    absent = recipe.columns.pop("y_missing", np.zeros(n, dtype=bool))
    ones = np.ones(m)

    def store(name: str, values: np.ndarray) -> None:
        full[recipe.kept] = values
        recipe.columns[name] = np.where(absent, np.nan, full) if absent.any() else full.copy()

    if not gaussian:
        if family == "poisson":
            y = rng.poisson(np.exp(np.clip(eta, -30, 5))).astype(float)
            store("y", y)
            return "y", y, ones
        p = {"logit": 1 / (1 + np.exp(-eta)), "probit": ndtr(eta), "cloglog": -np.expm1(-np.exp(eta))}[link]
        trials = rng.integers(1, 12, m).astype(float) if family == "binomial" else ones
        y = rng.binomial(trials.astype(int), np.clip(p, 0, 1)).astype(float)
        if family == "bernoulli":
            store("y", y)
            return "y", y, ones
        store("k1", y)
        style = rng.random() < 0.5
        store("k2", trials if style else trials - y)
        return ("p(k1, k2)" if style else "cbind(k1, k2)"), y, trials
    y = eta + rng.normal(size=m) / np.sqrt(precision)
    how = str(rng.choice(["plain", "unit", "log", "sqrt", "I", "backtick", "rounded", "shifted"], p=_RESPONSES))
    digits = 3 - int(np.floor(np.log10(max(float(np.std(y)), 1e-6))))
    y = np.round(y, max(digits, 3) if how != "rounded" else 0)
    if how == "log":
        store("y", np.exp(np.clip(y, -20, 20)))
        return "log(y)", np.log(np.exp(np.clip(y, -20, 20))), ones
    if how == "sqrt":
        store("y", (y - y.min() + 1) ** 2)
        return "np.sqrt(y)", np.sqrt((y - y.min() + 1) ** 2), ones
    if how == "I":
        store("y", y)
        return "I(y / 2)", y / 2, ones
    if how == "unit" and ("w" not in recipe.columns or rng.random() < 0.1):  # known sds are in y's unit, as a rule
        y = y * 10.0 ** float(rng.choice([-12, -6, 6, 12]))
    elif how == "shifted":
        y = y + 1e6
    name = "test score" if how == "backtick" else "y"
    store(name, y)
    return ("`test score`" if how == "backtick" else "y"), y, ones


_RESPONSES = [0.55, 0.1, 0.06, 0.05, 0.05, 0.06, 0.08, 0.05]


# --- the same numbers by dense algebra ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear mixed model's rows, times the square roots of their precisions."""

    y: np.ndarray  # (n,) less the offset
    X: np.ndarray  # (n, p) the estimable columns
    Z: np.ndarray  # (n, q) block after block, a level's effects side by side
    sizes: tuple[tuple[int, int], ...]  # (J, k) of each block
    levels: tuple[tuple[str, ...], ...]
    reml: bool
    sigma_known: bool
    sum_log_w: float

    def lambdas(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """(q, q) from one (k, k) for each block."""
        return block_diag(*(np.kron(np.eye(J), L) for (J, _), L in zip(self.sizes, blocks, strict=True)))

    def at(self, blocks: Sequence[np.ndarray]) -> Solution:
        """Everything given Lambda, by QR of [Z Lambda, X; I, 0]: Bates et al. (2015), equation 17, without products."""
        n, p = self.X.shape
        q = self.Z.shape[1]
        ZL = self.Z @ self.lambdas(blocks)
        norms = np.linalg.norm(self.X, axis=0)
        X = self.X / norms
        first = np.linalg.lstsq(X, self.y, rcond=None)[0]
        Q, R = np.linalg.qr(np.block([[ZL, X], [np.eye(q), np.zeros((q, p))]]))
        right = np.concatenate([self.y - X @ first, np.zeros(q)])
        found = solve_triangular(R, Q.T @ right)
        residual = right - np.concatenate([ZL @ found[:q] + X @ found[q:], found[:q]])
        again = solve_triangular(R, Q.T @ residual)
        found, residual = found + again, residual - Q @ (Q.T @ residual)
        pwrss = float(residual @ residual)
        logs = np.log(np.abs(np.diag(R)))
        m = n - p if self.reml else n
        value = 2 * logs[:q].sum() - self.sum_log_w
        if self.reml:
            value += 2 * logs[q:].sum() + 2 * np.log(norms).sum()
        value += pwrss + m * np.log(2 * np.pi) if self.sigma_known else m * (1 + np.log(2 * np.pi * pwrss / m))
        sigma = 1.0 if self.sigma_known else float(np.sqrt(pwrss / m))
        inverse = solve_triangular(R, np.eye(q + p))
        return Solution(float(value), sigma, (found[q:] + first) / norms, found[:q], inverse, norms)


@dataclass(frozen=True, eq=False)
class Solution:
    """What Lambda implies; inverse (q + p, q + p): of R, whose columns are u, then X's over their norms."""

    criterion: float
    sigma: float
    beta: np.ndarray
    u: np.ndarray
    inverse: np.ndarray
    norms: np.ndarray

    def sds(self, columns: np.ndarray) -> np.ndarray:
        """Standard deviations of rows of [Z Lambda, X / norms] times (u, beta) given theta."""
        return self.sigma * np.linalg.norm(columns @ self.inverse, axis=1)


def _dense_effects(case: Case) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    """(n, q) all columns of Z, and (levels, columns) of each block."""
    pieces, sizes = [], []
    for codes, J, columns in _blocks(case):
        Z = np.zeros((len(codes), J, columns.shape[1]))
        Z[np.arange(len(codes)), codes] = columns
        pieces.append(Z.reshape(len(codes), -1))
        sizes.append((J, columns.shape[1]))
    return np.hstack(pieces), tuple(sizes)


def dense_rows(case: Case, X: np.ndarray, reml: bool) -> Dense:
    """The case with the columns ``X`` that were judged estimable."""
    scale = np.sqrt(case.precision)[:, None]
    Z, sizes = _dense_effects(case)
    return Dense(
        y=(case.y - case.offset) * scale[:, 0],
        X=X * scale,
        Z=Z * scale,
        sizes=sizes,
        levels=tuple(bar.levels for bar in _bar_of_blocks(case)),
        reml=reml,
        sigma_known="se" in case.options,
        sum_log_w=float(np.log(case.precision).sum()),
    )


def _blocks(case: Case) -> list[tuple[np.ndarray, int, np.ndarray]]:
    """codes, J and columns of each block: one for each bar, or for each column of a ``||``."""
    found = []
    for bar in case.bars:
        parts = np.split(bar.columns, bar.columns.shape[1], axis=1) if bar.split else [bar.columns]
        found += [(bar.codes, len(bar.levels), part) for part in parts]
    return found


def _bar_of_blocks(case: Case) -> list[Bar]:
    return [bar for bar in case.bars for _ in range(bar.columns.shape[1] if bar.split else 1)]


def reported_lambdas(fit: Any) -> list[np.ndarray]:
    """Lambda (k, k) of each block from ``theta``, read by its names alone."""
    found = []
    for block in fit.design.blocks:
        labels = ["(Intercept)" if label == "Intercept" else label for label in block.labels]
        L = np.zeros((len(labels), len(labels)))
        for i in range(len(labels)):
            for j in range(i + 1):
                name = f"{block.factor}.{labels[j]}" if i == j else f"{block.factor}.{labels[i]}.{labels[j]}"
                L[i, j] = float(fit.theta[name])
        found.append(L)
    return found


# --- comparing ------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What was found about one case."""

    seed: int
    formula: str
    failures: list[tuple[str, str]] = field(default_factory=list)  # (kind, what was seen)
    notes: list[str] = field(default_factory=list)  # "refused: ...", "reml did not converge", ...

    def fail(self, kind: str, what: str) -> None:
        self.failures.append((kind, what))

    def close(self, kind: str, got: Any, expected: Any, within: Any) -> None:
        """A failure unless every |got - expected| <= within."""
        got, expected = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        if got.shape != expected.shape:
            self.fail(kind, f"shape {got.shape} for {expected.shape}")
            return
        bad = ~(np.abs(got - expected) <= within)
        if bad.any():
            i = int(np.argmax(np.where(np.isnan(got - expected), np.inf, np.abs(got - expected) / within)))
            said = f"{got.ravel()[i]:.10g} for {expected.ravel()[i]:.10g}"
            self.fail(kind, f"{said} in {int(bad.sum())} of {bad.size} places")


FOREIGN = "foreign warning"


def tried(report: Report, what: str, call: Any) -> Any:
    """The call's value; None where hiermod refused, and where it failed (which is noted)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = call()
        except HiermodError as error:
            report.notes.append(f"refused: {what}: {type(error).__name__}: {str(error)[:100]}")
            value = None
        except Exception as error:  # whatever it is: that is what is looked for
            report.fail("foreign exception", f"{what}: {type(error).__name__}: {error}")
            value = None
    for one in caught:
        if not issubclass(one.category, HiermodWarning):
            report.fail(FOREIGN, f"{what}: {one.category.__name__}: {one.message}")
    return value


def check(case: Case, starts: int = 0, methods: Sequence[str] = ("reml", "ml")) -> Report:
    """Fit by REML and ML (a generalised model by ML) and compare; starts: random starts of the search for better."""
    report = Report(case.seed, case.formula)
    model = tried(report, "Model", lambda: hm.Model(case.formula, case.data, **case.options))
    if model is None:
        return report
    _check_design(report, case, model)
    if report.failures:
        return report
    for name in methods if case.family == "gaussian" else ("ml",):
        fit = tried(report, name, getattr(model, name))
        if fit is None:
            continue
        if not fit.converged:
            report.notes.append(f"{name} did not converge")
        if starts or case.seed % 5 == 0:  # words and tables: that they come
            for table in ("fixef", "summary", "check", "glance", "parameters"):
                tried(report, f"{name}().{table}()", getattr(fit, table))
        if case.family == "gaussian":
            _check_linear(report, case, fit, name, starts)
        else:
            _check_generalised(report, case, model, fit, starts)
    return report


def _check_design(report: Report, case: Case, model: Any) -> None:
    design = model.spec
    if list(design.index) != list(case.data.index[case.kept]):
        report.fail("rows", "not the rows without missing values")
        return
    report.close("response", design.y, case.y, 1e-12 * np.abs(case.y).max())
    if case.family == "binomial":
        report.close("trials", design.trials, case.trials, 0.0)
    report.close("offset", np.zeros(len(case.y)) if design.offset is None else design.offset, case.offset, 1e-12)
    for name, column in case.named.items():
        if name not in design.common:
            report.fail("columns", f"no {name!r} among {design.common}")
        else:
            got = design.X[:, design.common.index(name)]
            report.close(f"column {name}", got, column, 1e-12 * max(float(np.abs(column).max()), 1e-300))
    X, hand = design.X[:, design.estimable], case.X
    span, gap = _basis(hand), 0.0
    if X.shape[1] != span.shape[1]:
        report.fail("rank", f"{X.shape[1]} estimable columns for {span.shape[1]}: {design.common}")
    elif X.shape[1]:
        unit = X / np.linalg.norm(X, axis=0)
        gap = float(np.abs(unit - span @ (span.T @ unit)).max())
    if gap > 1e-8:
        report.fail("span", f"the columns leave R's span by {gap:.1g}: {design.common}")
    hand_blocks = _blocks(case)
    if len(hand_blocks) != len(design.blocks):
        report.fail("blocks", f"{len(design.blocks)} blocks for {len(hand_blocks)}")
        return
    for block, bar, (codes, _, columns) in zip(design.blocks, _bar_of_blocks(case), hand_blocks, strict=True):
        if block.factor != bar.factor or sorted(block.levels) != sorted(bar.levels):
            report.fail("levels", f"{block.factor} {block.levels[:5]} for {bar.factor} {bar.levels[:5]}")
        elif [block.levels[i] for i in block.codes] != [bar.levels[i] for i in codes]:
            report.fail("codes", f"rows are in other levels of {bar.factor}")
        else:
            report.close(f"columns of {block.text}", block.values, columns, 1e-10 * np.abs(columns).max(axis=0))


def _basis(X: np.ndarray) -> np.ndarray:
    """Orthonormal, of the columns' span: R's tolerance."""
    found = np.zeros((len(X), 0))
    for column in X.T:
        size = np.linalg.norm(column)
        rest = column - found @ (found.T @ column)
        rest = rest - found @ (found.T @ rest)
        if np.linalg.norm(rest) > 1e-7 * size:
            found = np.column_stack([found, rest / np.linalg.norm(rest)])
    return found


# What rounding may take: of the criterion, and of an estimate in units of its standard error.
CRITERION, SHARE = 1e-5, 1e-4


def _check_linear(report: Report, case: Case, fit: Any, name: str, starts: int) -> None:
    design = fit.design
    X = design.X[:, design.estimable]
    rows = dense_rows(case, X, reml=name == "reml")
    Lambda = reported_lambdas(fit)
    failed = len(report.failures)
    if not fit.converged and np.isnan(fit.criterion):
        _all_missing(report, fit, name)
        return
    right = rows.at(Lambda)
    q = rows.Z.shape[1]
    Lam = rows.lambdas(Lambda)
    unit = right.sigma / np.sqrt(case.precision)  # of each row's residual
    rounding = 1e-9 * float(np.abs(case.y).max())
    enough = CRITERION + 1e-10 * abs(right.criterion)
    report.close(f"{name} criterion", fit.criterion, right.criterion, enough)
    report.close(f"{name} loglik", fit.loglik, -0.5 * right.criterion, enough)
    npar = X.shape[1] + sum(k * (k + 1) // 2 for _, k in rows.sizes) + (not rows.sigma_known)
    report.close(f"{name} aic", fit.aic, right.criterion + 2 * npar, enough)
    report.close(f"{name} bic", fit.bic, right.criterion + np.log(len(case.y)) * npar, enough)
    if rows.sigma_known != bool(np.isnan(fit.sigma)):
        report.fail(f"{name} sigma", f"{fit.sigma}")
    elif not rows.sigma_known:
        report.close(f"{name} sigma", fit.sigma, right.sigma, SHARE * right.sigma)
    table = tried(report, f"{name} fixef", lambda: fit.fixef(ddf=None))
    if table is None:
        return
    beta = np.full(len(design.common), np.nan)
    beta_sd = beta.copy()
    beta[design.estimable] = right.beta
    common = np.hstack([np.zeros((X.shape[1], q)), np.diag(1 / right.norms)]) if X.shape[1] else np.zeros((0, q))
    beta_sd[design.estimable] = right.sds(common)
    if (np.isnan(table["estimate"].to_numpy()) != ~design.estimable).any():
        report.fail(f"{name} fixef", "nan in other places than the columns that are not estimable")
    at = design.estimable
    got = table[at]
    report.close(f"{name} beta", got["estimate"], beta[at], SHARE * beta_sd[at] + 1e-9 * np.abs(beta[at]))
    report.close(f"{name} std_error", got["std_error"], beta_sd[at], SHARE * beta_sd[at])
    report.close(
        f"{name} lower",
        got["lower"],
        (beta - norm.ppf(0.975) * beta_sd)[at],
        2 * SHARE * beta_sd[at] + 1e-9 * np.abs(beta[at]),
    )
    alone = np.linalg.qr(np.vstack([rows.Z @ Lam, np.eye(q)]), mode="r")  # beta held: lme4's condsd
    half = solve_triangular(alone, np.eye(q))
    _check_groups(report, fit, name, rows, Lambda, right.u, half, right.sigma)
    fixed = X @ right.beta + case.offset
    Zb = (rows.Z @ Lam @ right.u) / np.sqrt(case.precision)
    report.close(f"{name} fitted", fit.fitted(), fixed + Zb, SHARE * unit + rounding)
    report.close(
        f"{name} residuals", fit.residuals("scaled"), (case.y - fixed - Zb) / unit, 2 * SHARE + rounding / unit
    )
    here = case.data.iloc[case.kept]
    both = np.hstack([rows.Z @ Lam, rows.X / right.norms]) / np.sqrt(case.precision)[:, None]
    sd = right.sds(both)
    predicted = tried(report, f"{name} predict", lambda: fit.predict(here, interval=0.95))
    if predicted is not None:
        report.close(f"{name} predict", predicted["estimate"], fixed + Zb, SHARE * unit + rounding)
        report.close(
            f"{name} predict upper",
            predicted["upper"],
            fixed + Zb + norm.ppf(0.975) * sd,
            2 * SHARE * unit + 2 * rounding,
        )
    typical = tried(report, f"{name} predict", lambda: fit.predict(here, target="population"))
    if typical is not None:
        slack = (
            SHARE * np.linalg.norm(X / right.norms @ np.atleast_2d(right.inverse[q:, q:]), axis=1) * right.sigma
            if X.shape[1]
            else 0.0
        )
        report.close(f"{name} population", typical["estimate"], fixed, slack + rounding)
    if not fit.converged and len(report.failures) > failed:
        wrong = [kind for kind, _ in report.failures[failed:]]
        del report.failures[failed:]
        report.fail(f"{name} unconverged and wrong", f"{', '.join(wrong)} are not what theta gives, and not nan")
    if starts and fit.converged:
        better = worse_optimum(case, rows, right.criterion, starts)
        if better is not None:
            report.fail(f"{name} worse optimum", f"{right.criterion:.6g}, but {better[0]:.6g} at {better[1]}")


def _check_groups(
    report: Report,
    fit: Any,
    name: str,
    rows: Dense | DenseGeneralised,
    Lambda: list[np.ndarray],
    u: np.ndarray,
    half: np.ndarray,
    sigma: float,
) -> None:
    """varcorr, ranef and its standard errors, block by block.  half half' is the covariance of u over sigma^2."""
    varcorr, effects = fit.varcorr(), fit.ranef()
    told = {
        (group, term, level): (estimate, se)
        for group, level, term, estimate, se in effects[["group", "level", "term", "estimate", "std_error"]].itertuples(
            index=False
        )
    }
    start = place = 0
    for block, (J, k), levels, L in zip(fit.design.blocks, rows.sizes, rows.levels, Lambda, strict=True):
        V = sigma**2 * L @ L.T
        sd = np.sqrt(np.diag(V))
        mine = varcorr.iloc[place : place + k * (k + 1) // 2]
        place += len(mine)
        sdcor = mine["sdcor"].to_numpy()
        report.close(f"{name} varcorr", mine["vcov"].iloc[:k], sd**2, 3 * SHARE * sd**2)
        report.close(f"{name} varcorr sd", sdcor[:k], sd, 2 * SHARE * sd)
        for correlation, (i, j) in zip(sdcor[k:], zip(*np.triu_indices(k, 1), strict=True), strict=True):
            if sd[i] > 0 and sd[j] > 0:
                report.close(f"{name} correlation", correlation, V[i, j] / (sd[i] * sd[j]), 1e-6)
        b = u[start : start + J * k].reshape(J, k) @ L.T
        part = half[start : start + J * k].reshape(J, k, -1)
        condsd = sigma * np.sqrt(np.square(np.einsum("ab,jbq->jaq", L, part)).sum(axis=2))
        start += J * k
        for i, label in enumerate(block.labels):
            got = np.array([told[block.factor, label, level] for level in levels])
            report.close(f"{name} ranef", got[:, 0], b[:, i], 2 * SHARE * sd[i] + 1e-300)
            report.close(f"{name} condsd", got[:, 1], condsd[:, i], 2 * SHARE * sd[i] + 1e-300)
    if len(told) != start:
        report.fail(f"{name} ranef", f"{len(told)} effects for {start}")


def _all_missing(report: Report, fit: Any, name: str) -> None:
    """A fit without an answer says nan everywhere, not here and there."""
    numbers = [fit.fixef(ddf=None)["estimate"], fit.varcorr()["vcov"], fit.ranef()["estimate"], fit.fitted()]
    if any(np.isfinite(np.asarray(values, dtype=float)).any() for values in numbers):
        report.fail(f"{name} half an answer", "the criterion is nan, and other numbers are not")


# --- a search of its own --------------------------------------------------------------------------------------------

BETTER = 0.01  # a criterion lower by more than this is another optimum


@dataclass(frozen=True, eq=False)
class _Objective:
    """The profiled criterion of Lambda's elements and its gradient, from products with the part that X leaves."""

    inner: np.ndarray  # (q, q) Z'Z for log|V|: by REML of what X leaves
    C: np.ndarray  # (q, q) Z'PZ
    c: np.ndarray  # (q,) Z'Py
    yy: float
    m: int
    sizes: tuple[tuple[int, int], ...]
    sigma_known: bool

    def lambdas(self, x: np.ndarray) -> list[np.ndarray]:
        found, at = [], 0
        for _, k in self.sizes:
            L = np.zeros((k, k))
            L[np.tril_indices(k)] = x[at : at + k * (k + 1) // 2]
            at += k * (k + 1) // 2
            found.append(L)
        return found

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        Lam = block_diag(*(np.kron(np.eye(J), L) for (J, _), L in zip(self.sizes, self.lambdas(x), strict=True)))
        CL = self.C @ Lam
        M = Lam.T @ CL
        M[np.diag_indices_from(M)] += 1.0
        right = Lam.T @ self.c
        u = np.linalg.solve(M, right)
        pwrss = self.yy - float(right @ u)
        if not pwrss > 1e-12 * self.yy:
            return 1e10, np.zeros(len(x))
        if self.inner is self.C:
            other, K = CL, M
        else:
            other = self.inner @ Lam
            K = Lam.T @ other
            K[np.diag_indices_from(K)] += 1.0
        value = np.linalg.slogdet(K)[1]
        slope = -2.0 * np.outer(self.c - CL @ u, u)
        if self.sigma_known:
            value += pwrss
        else:
            value += self.m * np.log(pwrss)
            slope *= self.m / pwrss
        slope += 2.0 * np.linalg.solve(K, other.T).T
        gradient, at = [], 0
        for J, k in self.sizes:
            part = slope[at : at + J * k, at : at + J * k].reshape(J, k, J, k)
            at += J * k
            gradient.append(np.einsum("jajb->ab", part)[np.tril_indices(k)])
        return float(value), np.concatenate(gradient)


def worse_optimum(case: Case, rows: Dense, reached: float, starts: int) -> tuple[float, list[float]] | None:
    """(criterion, theta by blocks) lower than what was reached by more than BETTER, from random starts; or None."""
    scale = [np.sqrt(np.mean(columns**2 * case.precision[:, None], axis=0)) for _, _, columns in _blocks(case)]
    Z = rows.Z / np.concatenate([np.tile(s, J) for s, (J, _) in zip(scale, rows.sizes, strict=True)])
    Q = np.linalg.qr(rows.X / np.linalg.norm(rows.X, axis=0))[0]
    PZ, Py = Z - Q @ (Q.T @ Z), rows.y - Q @ (Q.T @ rows.y)
    PZ, Py = PZ - Q @ (Q.T @ PZ), Py - Q @ (Q.T @ Py)
    C = PZ.T @ PZ
    inner = C if rows.reml else Z.T @ Z
    m = len(Py) - (Q.shape[1] if rows.reml else 0)
    unit = 1.0 if rows.sigma_known else float(Py @ Py)
    objective = _Objective(inner, C, PZ.T @ Py / np.sqrt(unit), float(Py @ Py) / unit, m, rows.sizes, rows.sigma_known)
    rng = np.random.default_rng(case.seed)
    best: tuple[float, list[float]] | None = None

    def starting_point() -> np.ndarray:
        pieces = []
        for _, k in rows.sizes:
            L = np.linalg.cholesky(np.corrcoef(rng.normal(size=(k, k + 2)))) if k > 1 else np.eye(1)
            pieces.append((np.exp(rng.uniform(-2.5, 4.5, k))[:, None] * L)[np.tril_indices(k)])
        return np.concatenate(pieces)

    for _ in range(starts):
        found = minimize(objective, starting_point(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
        blocks = [L / s[:, None] for L, s in zip(objective.lambdas(found.x), scale, strict=True)]
        value = rows.at(blocks).criterion
        if value < min(reached - BETTER, np.inf if best is None else best[0]):
            best = (value, [round(float(x), 4) for L in blocks for x in L[np.tril_indices(len(L))]])
    return best


# --- generalised models ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DenseGeneralised:
    """Rows of a generalised model; the Laplace approximation with Fisher's weights, and the integral itself."""

    case: Case
    X: np.ndarray  # (n, p) the estimable columns
    Z: np.ndarray  # (n, q)
    sizes: tuple[tuple[int, int], ...]
    levels: tuple[tuple[str, ...], ...]

    def lambdas(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        return block_diag(*(np.kron(np.eye(J), L) for (J, _), L in zip(self.sizes, blocks, strict=True)))

    def logs(self, eta: np.ndarray) -> np.ndarray:
        """Log likelihood of each row with its constant; eta (n, ...)."""
        shape = (-1, *([1] * (eta.ndim - 1)))
        y, n = self.case.y.reshape(shape), self.case.trials.reshape(shape)
        if self.case.family == "poisson":
            return y * eta - np.exp(eta) - gammaln(y + 1)
        constant = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
        if self.case.link == "logit":
            return y * eta - n * np.logaddexp(0, eta) + constant
        if self.case.link == "probit":
            return y * log_ndtr(eta) + (n - y) * log_ndtr(-eta) + constant
        t = np.exp(eta)
        with np.errstate(divide="ignore", invalid="ignore"):
            success = np.where(y > 0, y * np.log(-np.expm1(-t)), 0.0)
        return success - (n - y) * t + constant

    def mean(self, eta: np.ndarray) -> np.ndarray:
        if self.case.family == "poisson":
            return np.exp(eta)
        return {"logit": lambda: 1 / (1 + np.exp(-eta)), "probit": lambda: ndtr(eta)}.get(
            self.case.link, lambda: -np.expm1(-np.exp(eta))
        )()

    def score_and_weight(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First derivative by eta, and Fisher's weight n mu'^2 / (mu (1 - mu))."""
        y, n = self.case.y, self.case.trials
        if self.case.family == "poisson":
            return y - np.exp(eta), np.exp(eta)
        if self.case.link == "logit":
            mu = 1 / (1 + np.exp(-eta))
            return y - n * mu, n * mu * (1 - mu)
        if self.case.link == "probit":  # phi / Phi, by logarithms
            density = -0.5 * eta**2 - 0.5 * np.log(2 * np.pi)
            up, down = np.exp(density - log_ndtr(eta)), np.exp(density - log_ndtr(-eta))
            return y * up - (n - y) * down, n * up * down
        t = np.exp(eta)
        up = np.where(t < 700, t / np.expm1(np.clip(t, 1e-300, 700)), 0.0)
        return y * up - (n - y) * t, n * t * up

    def mode(self, blocks: Sequence[np.ndarray], beta: np.ndarray, u: np.ndarray | None = None) -> Mode:
        """u by Fisher scoring with halved steps, from 0 or a start."""
        ZL = self.Z @ self.lambdas(blocks)
        fixed = self.X @ beta + self.case.offset
        u = np.zeros(ZL.shape[1]) if u is None else u
        value, found = self.logs(fixed + ZL @ u).sum() - 0.5 * u @ u, False
        for _ in range(500):
            score, weight = self.score_and_weight(fixed + ZL @ u)
            M = ZL.T @ (weight[:, None] * ZL) + np.eye(len(u))
            step = np.linalg.solve(M, ZL.T @ score - u)
            if np.abs(step).max() < 1e-11 * (1 + np.abs(u).max()):
                found = True
                break
            step *= min(
                1.0, 30.0 / max(float(np.abs(ZL @ step).max()), 1e-300)
            )  # cloglog far out: weight 0, score e^eta
            for shrink in 0.5 ** np.arange(30):
                new = u + shrink * step
                moved = self.logs(fixed + ZL @ new).sum() - 0.5 * new @ new
                if moved >= value - 1e-12 * (1 + abs(value)):  # the last steps change its rounding only
                    break
            else:
                break
            u, value = new, moved
        eta = fixed + ZL @ u
        weight = self.score_and_weight(eta)[1]
        M = ZL.T @ (weight[:, None] * ZL) + np.eye(len(u))
        return Mode(float(-2 * value + np.linalg.slogdet(M)[1]), u, eta, fixed, weight, M, ZL, found)

    def integral(self, mode: Mode, nodes: int | None) -> float:
        """-2 log likelihood for one scalar term: with adaptive nodes, or (None) by a fine grid about each mode."""
        sd = 1 / np.sqrt(np.diag(mode.M))
        if nodes is None:
            z = np.linspace(-14, 14, 1401)
            log_weights = np.full(len(z), np.log(z[1] - z[0]) - 0.5 * np.log(2 * np.pi))
        else:
            z, weights = np.polynomial.hermite.hermgauss(nodes)
            z, log_weights = z * np.sqrt(2), np.log(weights) + z**2 - 0.5 * np.log(np.pi)
        u = mode.u[:, None] + sd[:, None] * z
        codes, slope = self.case.bars[0].codes, mode.ZL.sum(axis=1)
        member = (codes == np.arange(len(sd))[:, None]).astype(float)
        sums = member @ self.logs(mode.fixed[:, None] + slope[:, None] * u[codes])
        return float(-2 * (np.log(sd) + logsumexp(sums - 0.5 * u**2 + log_weights, axis=1)).sum())


@dataclass(frozen=True, eq=False)
class Mode:
    """The conditional modes at (theta, beta): criterion by Laplace, u, eta, offset + X beta, weights, M."""

    criterion: float
    u: np.ndarray
    eta: np.ndarray
    fixed: np.ndarray
    weight: np.ndarray
    M: np.ndarray
    ZL: np.ndarray
    found: bool  # the last step was short; in floating point there may be none for Lambdas of hundreds


def dense_generalised(case: Case, X: np.ndarray) -> DenseGeneralised:
    """The case with the columns ``X`` that were judged estimable."""
    Z, sizes = _dense_effects(case)
    return DenseGeneralised(case, X, Z, sizes, tuple(bar.levels for bar in _bar_of_blocks(case)))


NODES, RUNAWAY = 15, 20.0


def _check_generalised(report: Report, case: Case, model: Any, fit: Any, starts: int) -> None:
    design = fit.design
    rows = dense_generalised(case, design.X[:, design.estimable])
    failed = len(report.failures)
    table = tried(report, "ml fixef", fit.fixef)
    if table is None:
        return
    if not fit.converged and np.isnan(fit.criterion):
        _all_missing(report, fit, "ml")
        return
    beta = table["estimate"].to_numpy()[design.estimable]
    Lambda = reported_lambdas(fit)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # this reference is no user's
        right = rows.mode(Lambda, beta)
        if not (right.found or fit.converged):
            report.notes.append("no reference where ml stopped")
            return
        _compare_generalised(report, case, fit, rows, right, Lambda, beta)
        if fit.converged and fit.record.vcov_method == "hessian":
            expected = _hessian_sds(rows, Lambda, beta, right)
            if expected is not None:
                got = table["std_error"].to_numpy()[design.estimable]
                report.close("ml std_error", got, expected, 5e-3 * expected)
        if not fit.converged and len(report.failures) > failed:
            wrong = [kind for kind, _ in report.failures[failed:]]
            del report.failures[failed:]
            report.fail("ml unconverged and wrong", f"{', '.join(wrong)} are not what theta gives, and not nan")
        if len(rows.sizes) == 1 and rows.sizes[0][1] == 1:
            _check_quadrature(report, model, rows)
        if starts and fit.converged:
            better = _worse_generalised(rows, right.criterion, starts, beta)
            if better is not None:
                m = len(better[1]) - len(beta)
                away = np.abs(better[1][:m]).max() > RUNAWAY  # no optimum: the criterion falls as a variance grows
                kind = "ml lower where a variance runs away" if away else "ml worse optimum"
                report.fail(kind, f"{right.criterion:.6g}, but {better[0]:.6g} at {better[1]}")


def _compare_generalised(
    report: Report,
    case: Case,
    fit: Any,
    rows: DenseGeneralised,
    right: Mode,
    Lambda: list[np.ndarray],
    beta: np.ndarray,
) -> None:
    npar = len(beta) + sum(k * (k + 1) // 2 for _, k in rows.sizes)
    for what, got, expected in (
        ("criterion", fit.criterion, right.criterion),
        ("loglik", fit.loglik, -0.5 * right.criterion),
        ("deviance", fit.deviance, right.criterion),
        ("aic", fit.aic, right.criterion + 2 * npar),
        ("bic", fit.bic, right.criterion + np.log(len(case.y)) * npar),
    ):
        report.close(f"ml {what}", got, expected, CRITERION)
    mean = rows.mean(right.eta)
    report.close("ml fitted", fit.fitted(), mean, SHARE * (1e-3 + np.abs(mean)))
    here = case.data.iloc[case.kept]
    q = rows.Z.shape[1]
    A = np.hstack([right.ZL, rows.X])
    joint = A.T @ (right.weight[:, None] * A) + np.diag(np.r_[np.ones(q), np.zeros(len(beta))])
    predicted = tried(report, "ml predict", lambda: fit.predict(here, interval=0.95))
    if predicted is not None:
        report.close("ml predict", predicted["estimate"], mean, SHARE * (1e-3 + np.abs(mean)))
        if np.linalg.cond(joint) < 1e9:
            inverse = np.linalg.inv(joint)
            added = fit.vcov().to_numpy()[np.ix_(*[fit.design.estimable] * 2)] - inverse[q:, q:]  # not knowing theta
            inverse[q:, q:] += added
            sd = np.sqrt(np.einsum("ij,jk,ik->i", A, inverse, A).clip(min=0))
            upper = rows.mean(right.eta + norm.ppf(0.975) * sd)
            report.close("ml predict upper", predicted["upper"], upper, 1e-3 * (1e-3 + np.abs(upper)))
    typical = tried(report, "ml predict", lambda: fit.predict(here, target="population"))
    if typical is not None:
        report.close("ml population", typical["estimate"], rows.mean(right.fixed), 1e-8 * (1 + rows.mean(right.fixed)))
    half = solve_triangular(np.linalg.cholesky(right.M), np.eye(q), lower=True).T
    _check_groups(report, fit, "ml", rows, Lambda, right.u, half, 1.0)


def _hessian_sds(rows: DenseGeneralised, Lambda: list[np.ndarray], beta: np.ndarray, right: Mode) -> np.ndarray | None:
    """Standard errors of beta from second differences over (theta, beta).

    None where they would take too long, or where longer differences say something else: rounding, or too long ones."""
    short, long = (_sds_by_differences(rows, Lambda, beta, right, times) for times in (1.0, 4.0))
    if short is None or long is None or np.abs(short / long - 1.0).max() > 2e-3:
        return None
    return short


def _sds_by_differences(
    rows: DenseGeneralised, Lambda: list[np.ndarray], beta: np.ndarray, right: Mode, times: float
) -> np.ndarray | None:
    at = np.concatenate([*(L[np.tril_indices(len(L))] for L in Lambda), beta])
    m = len(at) - len(beta)
    if len(at) > 8:
        return None
    unit = 1e-3 / np.sqrt(np.einsum("ij,ij->j", rows.Z, right.weight[:, None] * rows.Z).mean() + 1e-12)
    information = rows.X.T @ (right.weight[:, None] * rows.X)
    steps = times * np.concatenate([np.full(m, unit), 2e-3 / np.sqrt(np.diag(information))])

    def value(point: np.ndarray) -> float:
        blocks, start = [], 0
        for L in Lambda:
            new = np.zeros_like(L)
            size = len(L) * (len(L) + 1) // 2
            new[np.tril_indices(len(L))] = point[start : start + size]
            start += size
            blocks.append(new)
        return rows.mode(blocks, point[m:], right.u).criterion

    centre = value(at)
    pairs = np.empty((len(at), len(at)))
    for i in range(len(at)):
        for j in range(i + 1):
            a, b = np.zeros(len(at)), np.zeros(len(at))
            a[i], b[j] = steps[i], steps[j]
            if i == j:
                pairs[i, i] = value(at + a) - 2 * centre + value(at - a)
            else:
                corners = value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)
                pairs[i, j] = pairs[j, i] = corners / 4
    if np.linalg.eigvalsh(pairs)[0] < 1e-3 * np.linalg.eigvalsh(pairs)[-1]:
        return None  # so flat in some direction that differences of values say little
    return np.sqrt(2 * np.diag(np.linalg.inv(pairs))[m:]) * steps[m:]


def _check_quadrature(report: Report, model: Any, rows: DenseGeneralised) -> None:
    fit = tried(report, "ml(nodes)", lambda: model.ml(nodes=NODES))
    if fit is None:
        return
    if not fit.converged and np.isnan(fit.criterion):
        return
    beta = fit.fixef()["estimate"].to_numpy()[fit.design.estimable]
    mode = rows.mode(reported_lambdas(fit), beta)
    report.close("quadrature criterion", fit.criterion, rows.integral(mode, NODES), CRITERION)
    if abs(float(fit.theta.iloc[0])) < 2 and float(np.diag(mode.M).max()) < 1e3:  # beyond, 15 nodes may be too few
        report.close("quadrature against a grid", fit.criterion, rows.integral(mode, None), 1e-2)


def _worse_generalised(
    rows: DenseGeneralised, reached: float, starts: int, beta: np.ndarray
) -> tuple[float, list[float]] | None:
    """As ``worse_optimum``, by differences of values over (theta, beta)."""
    rng = np.random.default_rng(rows.case.seed)
    m = sum(k * (k + 1) // 2 for _, k in rows.sizes)
    unit = 1 / np.sqrt(np.mean(rows.X**2, axis=0)) if rows.X.shape[1] else np.ones(0)
    best: tuple[float, list[float]] | None = None

    def value(point: np.ndarray) -> float:
        if np.abs(point[:m]).max() > 50:  # a variance that runs away is no optimum
            return 1e10
        blocks, start = [], 0
        for _, k in rows.sizes:
            L = np.zeros((k, k))
            L[np.tril_indices(k)] = point[start : start + k * (k + 1) // 2]
            start += k * (k + 1) // 2
            blocks.append(L)
        found = rows.mode(blocks, point[m:] * unit).criterion
        return found if np.isfinite(found) else 1e10

    for _ in range(starts):
        pieces = []
        for _, k in rows.sizes:
            L = np.linalg.cholesky(np.corrcoef(rng.normal(size=(k, k + 2)))) if k > 1 else np.eye(1)
            pieces.append((np.exp(rng.uniform(-2, 1.5, k))[:, None] * L)[np.tril_indices(k)])
        start = np.concatenate([*pieces, beta / unit + 0.3 * rng.normal(size=len(beta))])
        found = minimize(value, start, method="L-BFGS-B", options={"maxiter": 100})
        if found.fun < min(reached - BETTER, np.inf if best is None else best[0]):
            best = (float(found.fun), [round(float(x), 4) for x in found.x])
    return best
