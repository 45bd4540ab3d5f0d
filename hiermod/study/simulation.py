"""Data from a model with known parameters: the response of a formula, drawn on a frame of predictors and groups.

y = X beta + Z b + e with b ~ N(0, Sigma) for each level, through the inverse link and the family's distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.arguments import generator
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, ArgumentTypeError, FormulaError, UnknownNameError, listing, nearest
from hiermod.families.catalogue import FAMILIES, check_family, check_link
from hiermod.families.links import inverse_link
from hiermod.families.responses import category_draws, category_probabilities, response_draws
from hiermod.formula.build import build_design
from hiermod.formula.design import Block, Column, Design, FrozenArrays
from hiermod.formula.parse import ParsedFormula, parse_formula


@dataclass(frozen=True, eq=False)
class Simulator(FrozenArrays):
    """A model whose parameters are known.  beta (p,); roots: per block a (k, k) square root of the covariance."""

    design: Design
    beta: np.ndarray
    roots: tuple[np.ndarray, ...]
    sigma: float  # nan for families without one
    family: str
    link: str
    auxiliary: Mapping[str, np.ndarray]  # the family's other parameters: alpha, psi, threshold (K - 1,), ...

    def truth(self) -> dict[str, float]:
        """Every parameter under its name in ``fit.parameters()``."""
        values = dict(zip(self.design.common, self.beta.tolist(), strict=True))
        for block, root in zip(self.design.blocks, self.roots, strict=True):
            cov = root @ root.T
            sd = np.sqrt(np.diag(cov))
            values |= {c.sd_name: float(s) for c, s in zip(block.columns, sd, strict=True)}
            for i, j in block.pairs:
                with np.errstate(invalid="ignore"):
                    r = cov[i, j] / (sd[i] * sd[j])
                values[f"{block.corr_name}[{block.labels[i]},{block.labels[j]}]"] = float(r)
        if not np.isnan(self.sigma):
            values["sigma"] = self.sigma
        for name, value in self.auxiliary.items():
            flat = np.atleast_1d(value).tolist()
            values |= {name: flat[0]} if np.ndim(value) == 0 else {f"{name}[{i}]": one for i, one in enumerate(flat)}
        return values

    def effects(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Group effects of every level: per block (J, k)."""
        return tuple(
            rng.standard_normal((len(block.levels), block.size)) @ root.T
            for block, root in zip(self.design.blocks, self.roots, strict=True)
        )

    def response(self, rng: np.random.Generator, effects: tuple[np.ndarray, ...] | None = None) -> np.ndarray:
        """One response for each row, (n,), group effects drawn anew unless given."""
        design = self.design
        eta = design.X @ self.beta + (0.0 if design.offset is None else design.offset)
        for block, b in zip(design.blocks, self.effects(rng) if effects is None else effects, strict=True):
            eta = eta + (block.values * b[block.codes]).sum(axis=1)
        if FAMILIES[self.family].ordinal:
            probabilities = category_probabilities(
                self.family, self.link, eta[None, :], self.auxiliary["threshold"][None, :]
            )
            return np.asarray(category_draws(probabilities, rng)[0]).astype(int) + 1
        noise = None
        if design.precision.sigma_known or "sigma" in FAMILIES[self.family].parameter_names:
            noise = design.precision.sd(self.sigma)
        mean = inverse_link(self.link, eta)[None, :]
        noise = None if noise is None else noise[None, :]
        further = {name: value[None, None] for name, value in self.auxiliary.items()}
        drawn = response_draws(self.family, mean, noise, design.trials, rng, counts=True, auxiliary=further)
        return np.asarray(drawn[0])


@checked
def simulate(
    formula: str,
    data: pd.DataFrame,
    fixef: Mapping[str, float] | pd.Series | pd.DataFrame,
    varcorr: Mapping[str, Any] | pd.DataFrame | None = None,
    sigma: float | None = None,
    *,
    family: str = "gaussian",
    link: str | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    weights: str | np.ndarray | None = None,
    se: str | np.ndarray | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """A copy of ``data`` with a response drawn from the model: ``hm.designs`` makes frames to draw on.

    data: predictors and groups; a column of the response's name is overwritten.  fixef: the common coefficients by the
    names of ``fit.fixef()``, or that table.  varcorr: standard deviations and correlations,
    ``{"1|Subject": 25, "Days|Subject": 6, "Subject_corr": 0.1}`` (a number for two terms, a (k, k) matrix, or
    ``"Subject_corr[Intercept,Days]"`` each; 0 where not given), or the table ``fit.varcorr()``.  sigma: residual sd.
    auxiliary: the family's other parameters, ``{"alpha": 2}``, or ``{"threshold": [-1, 1]}`` of an ordinal family, with
    categories are 1, 2, ...  Counts are written ``p(successes, trials)``.
    ``attrs["truth"]`` holds every parameter under its name in ``fit.parameters()``.

    Raises UnknownNameError and ArgumentError for parameters that are missing, unknown or impossible, FormulaError for a
    response that is more than a name.

    >>> import hiermod as hm
    >>> frame = hm.designs.longitudinal(subjects=100, times=5)
    >>> d = hm.simulate(
    ...     "y ~ time + (1 | subject)", frame, fixef={"Intercept": 10, "time": 2}, varcorr={"1|subject": 3}, sigma=1,
    ...     random_seed=1,
    ... )
    >>> d.attrs["truth"]
    {'Intercept': 10.0, 'time': 2.0, '1|subject_sigma': 3.0, 'sigma': 1.0}
    >>> hm.Model("y ~ time + (1 | subject)", d).reml().fixef()["estimate"].round(1).to_dict()
    {'Intercept': 9.7, 'time': 2.0}
    """
    if not isinstance(data, pd.DataFrame):
        raise ArgumentTypeError(f"data must be a pandas DataFrame, got {type(data).__name__}")
    options = {"weights": weights, "se": se, "extra_namespace": extra_namespace}
    made = simulator(formula, data, fixef, varcorr, sigma, family=family, link=link, auxiliary=auxiliary, **options)
    drawn = data.copy()
    drawn[response_column(formula)] = made.response(generator(random_seed))
    drawn.attrs["truth"] = made.truth()
    return drawn


def simulator(
    formula: str,
    data: pd.DataFrame,
    fixef: Any,
    varcorr: Any = None,
    sigma: float | None = None,
    *,
    family: str = "gaussian",
    link: str | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    **options: Any,
) -> Simulator:
    """The model behind ``simulate``, for drawing many responses.  options: weights, se, extra_namespace."""
    family = check_family(family)
    link = check_link(family, link)
    parsed = parse_formula(formula)
    column = response_column(formula)
    further = _auxiliary(family, auxiliary)
    frame = data.copy()
    values: Any = FAMILIES[family].example  # what every row may have before there are data, not constant
    if FAMILIES[family].ordinal:
        values = range(1, len(further["threshold"]) + 2)
    frame[column] = np.resize(list(values), len(frame))
    design = build_design(formula, frame, family=family, **options)
    _check_counts(parsed, design, family)
    return Simulator(
        design,
        _common(design, fixef),
        tuple(_roots(design, varcorr)),
        _sigma(design, family, sigma),
        family,
        link,
        further,
    )


def response_column(formula: str) -> str:
    """The column a simulated response goes to; FormulaError where the left side is more than a name."""
    parsed = parse_formula(formula)
    name = parsed.response_args[0] if parsed.response_call in ("p", "prop", "proportion") else parsed.response
    name = name.strip("`")
    if (parsed.response_call is not None and name == parsed.response) or not name.isidentifier():
        raise FormulaError(
            f"simulating needs the name of a column left of '~', or p(successes, trials); got {parsed.response!r}. "
            "Simulate on the scale of the formula and transform afterwards"
        )
    return name


def _check_counts(parsed: ParsedFormula, design: Design, family: str) -> None:
    if FAMILIES[family].out_of_trials != (design.trials is not None):
        raise FormulaError(
            f"counts out of trials are family 'binomial' with p(successes, trials) left of '~'; got family {family!r} "
            f"and {parsed.response!r}"
        )


def _common(design: Design, fixef: Any) -> np.ndarray:
    if isinstance(fixef, pd.DataFrame):
        if "estimate" not in fixef.columns:
            raise ArgumentError("fixef: a table must have the column 'estimate', as fit.fixef() has")
        fixef = fixef["estimate"]
    if not isinstance(fixef, (Mapping, pd.Series)):
        raise ArgumentTypeError(f"fixef must be a dict of coefficients or fit.fixef(), got {type(fixef).__name__}")
    given = {str(name): float(value) for name, value in fixef.items()}
    for name in given:
        if name not in design.common:
            raise UnknownNameError(
                f"fixef: the formula has no coefficient {name!r}.{nearest(name, design.common)} "
                f"Its coefficients are: {listing(design.common, 20)}."
            )
    missing = [name for name in design.common if name not in given or not np.isfinite(given[name])]
    if missing:
        raise ArgumentError(f"fixef: give every coefficient a number; missing: {listing(missing, 20)}")
    return np.array([given[name] for name in design.common])


def _sigma(design: Design, family: str, sigma: float | None) -> float:
    if "sigma" not in FAMILIES[family].parameter_names or design.precision.sigma_known:
        if sigma is not None and not np.isnan(sigma):
            why = "se= gives it for every row" if design.precision.sigma_known else f"family {family!r} has none"
            raise ArgumentError(f"sigma: leave the residual sd out, {why}")
        return float("nan")
    if sigma is None or not np.isfinite(sigma) or sigma < 0:
        raise ArgumentError(f"sigma: the residual sd must be a number of at least 0, got {sigma!r}")
    return float(sigma)


def _auxiliary(family: str, auxiliary: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The family's parameters beside the mean and sigma, each given, finite and possible."""
    needed = tuple(name for name in FAMILIES[family].parameter_names if name != "sigma")
    given = dict(auxiliary or {})
    for name in given:
        if name not in needed:
            raise UnknownNameError(
                f"auxiliary: family {family!r} has no parameter {name!r}.{nearest(str(name), needed)} "
                f"Those it has: {listing(needed) or 'none'}."
            )
    missing = [name for name in needed if name not in given]
    if missing:
        raise ArgumentError(
            f"auxiliary: family {family!r} needs {listing(missing)}, as in auxiliary={{{missing[0]!r}: ...}}"
        )
    found = {name: np.asarray(value, dtype=float) for name, value in given.items()}
    for name, value in found.items():
        support = FAMILIES[family].parameter(name).support
        if support in ("cuts", "ascending"):
            possible = value.ndim == 1 and len(value) > 0 and (support == "cuts" or bool((np.diff(value) > 0).all()))
            told = "a list of numbers, each above the one before"
        else:
            possible = value.ndim == 0 and bool(value > 0) and (support != "share" or bool(value <= 1))
            told = "a number above 0" + (" and at most 1" if support == "share" else "")
        if not possible or not np.isfinite(value).all():
            raise ArgumentError(f"auxiliary: {name} must be {told}, got {given[name]!r}")
    return found


def _roots(design: Design, varcorr: Any) -> list[np.ndarray]:
    given = _named(design, varcorr)
    unused = set(given)
    roots = []
    for block in design.blocks:
        sd = np.array([_take(given, unused, (c.sd_name, *_short(c, block)), block, design) for c in block.columns])
        corr = _correlations(given, unused, block)
        _check_structure(block, sd, corr)
        values, vectors = np.linalg.eigh(corr)
        if values[0] < -1e-10:
            raise ArgumentError(
                f"varcorr: the correlations of {block.corr_name} are impossible together: their matrix has the "
                f"eigenvalue {values[0]:.3g}, and none may be negative"
            )
        roots.append(sd[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))
    if unused:
        known = [name for b in design.blocks for name in (*(c.sd_name for c in b.columns), b.corr_name) if name]
        name = sorted(unused)[0]
        raise UnknownNameError(
            f"varcorr: the formula has no parameter {name!r}.{nearest(name, known)} Those it has: {listing(known, 20)}."
        )
    return roots


def _short(column: Column, block: Block) -> tuple[str, ...]:
    """``1|Subject`` for ``1|Subject_sigma``, as in priors=; a factor's level may stay away where it has one column."""
    alone = sum(other.variable == column.variable for other in block.columns) == 1
    whole = (column.variable, f"{column.variable}_sigma") if alone else ()
    return (*whole, column.variable if column.level is None else f"{column.variable}[{column.level}]")


def _take(given: Mapping[str, Any], unused: set[str], names: tuple[str, ...], block: Block, design: Design) -> float:
    for name in names:
        if name in given:
            unused.discard(name)
            value = float(given[name])
            if not np.isfinite(value) or value < 0:
                raise ArgumentError(f"varcorr: the standard deviation {name!r} must be at least 0, got {given[name]!r}")
            return value
    raise ArgumentError(f"varcorr: give the standard deviation {names[-1]!r} of {block.text!r}, a number of at least 0")


def _correlations(given: Mapping[str, Any], unused: set[str], block: Block) -> np.ndarray:
    """(k, k): the matrix given, or its entries one by one, 0 where nothing is said."""
    k = block.size
    corr = np.eye(k)
    if k > 1 and block.corr_name in given:
        unused.discard(block.corr_name)
        value = np.asarray(given[block.corr_name], dtype=float)
        if value.ndim == 0 and k == 2:
            value = np.array([[1.0, float(value)], [float(value), 1.0]])
        elif value.ndim == 0 and not block.structure.free:
            value = _structured_correlations(block, float(value))
        if value.shape != (k, k) or not np.allclose(value, value.T) or not np.allclose(np.diag(value), 1.0):
            raise ArgumentError(
                f"varcorr: {block.corr_name!r} must be a ({k}, {k}) correlation matrix of {', '.join(block.labels)}"
                + (", or one number" if k == 2 or not block.structure.free else "")
            )
        corr = value
    for i, j in block.pairs:
        for a, b in ((i, j), (j, i)):
            name = f"{block.corr_name}[{block.labels[a]},{block.labels[b]}]"
            if name in given:
                unused.discard(name)
                corr[i, j] = corr[j, i] = float(given[name])
    if np.abs(corr).max() > 1 + 1e-12:
        raise ArgumentError(f"varcorr: a correlation of {block.corr_name} is outside -1 to 1")
    return corr


def _structured_correlations(block: Block, rho: float) -> np.ndarray:
    """(k, k) of a structure with one correlation."""
    structure = block.structure
    low, high = structure.bounds[-1]
    if not low <= rho <= high:
        raise ArgumentError(
            f"varcorr: {block.corr_name!r} is {rho:g}, and the correlation of {block.term} lies between {low:.4g} and "
            f"{high:g}"
        )
    theta = structure.start(np.ones(block.size))
    theta[-1] = rho
    root = structure.factor(theta)
    return np.asarray(root @ root.T)


def _check_structure(block: Block, sd: np.ndarray, corr: np.ndarray) -> None:
    """ArgumentError where the covariance given is none of the block's structure."""
    structure = block.structure
    if structure.free:
        return
    values, vectors = np.linalg.eigh(sd[:, None] * corr * sd)
    nearest_one = structure.factor(structure.theta_of(vectors * np.sqrt(values.clip(min=0.0))))
    if np.abs(nearest_one @ nearest_one.T - sd[:, None] * corr * sd).max() > 1e-8 * max(
        1.0, float(np.square(sd).max())
    ):
        one = " one standard deviation for all columns and" if structure.hom else ""
        raise ArgumentError(
            f"varcorr: {block.term} has{one} correlations that follow from one number, and those given do not: give "
            f"{block.corr_name!r} as that number"
            if block.corr_name
            else f"varcorr: {block.term} has one standard deviation for all columns: give the same for each"
        )


def _named(design: Design, varcorr: Any) -> dict[str, Any]:
    """By parameter name, also when it came as the table of ``fit.varcorr()``."""
    if varcorr is None:
        return {}
    if isinstance(varcorr, Mapping):
        return dict(varcorr)
    if not isinstance(varcorr, pd.DataFrame) or not {"group", "term1", "term2", "sdcor"} <= set(varcorr.columns):
        raise ArgumentTypeError(
            f"varcorr must be a dict of parameters or the table fit.varcorr(), got {type(varcorr).__name__}"
        )
    table = varcorr[varcorr["group"] != "Residual"]
    names: list[str] = []
    for block in design.blocks:
        names += [column.sd_name for column in block.columns]
        names += [f"{block.corr_name}[{block.labels[i]},{block.labels[j]}]" for i, j in block.pairs]
    told = [(b.factor, b.labels[i]) for b in design.blocks for i in range(b.size)]
    found = list(table[table["term2"].isna()][["group", "term1"]].itertuples(index=False, name=None))
    if len(table) != len(names) or sorted(told) != sorted(found):
        raise ArgumentError(f"varcorr: the table is of another formula's group effects than {design.formula!r}")
    return dict(zip(names, table["sdcor"], strict=True))
