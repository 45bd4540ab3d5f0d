"""Every prior of a model, of any family: what the person gave, and Bambi's defaults where nothing was given.

The defaults are those of bambi.priors.scaler (after rstanarm), without importing Bambi; tests/ compare them with
Bambi's own for every family and link.  Slopes have the sd 2.5 sd(y) / sd(x), sd(y) being 1 but for Gaussian and t
models; with a logit or probit link of bernoulli and binomial ones 1 / sd(x), and 1 for factors.  The intercept's 2.5
sd(y) is widened by what the slopes' defaults add at the predictors' means; group intercepts have a half-normal of that
scale, group slopes that of a slope.  The formulas of further parameters (parameters=) have the sd 1 throughout.

Two of them are hiermod's own, since Bambi's are not finite there: where a column does not vary, as an interaction over
an empty cell, its size stands for its sd (``column_scale``); and with weighted(), censored() or truncated() on the left
sd(y) is that of the response alone, which Bambi takes together with the weights, the codes or the infinite bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.family import Parameter
from hiermod.formula.design import Block, Column, Design, FrozenArrays
from hiermod.formula.parts import parts_of
from hiermod.priors.distributions import Distribution
from hiermod.priors.given import PriorSet
from hiermod.priors.parse import parse_distribution

SPREAD = 2.5  # standard deviations of y that a default prior spans
LATENT_INTERCEPT = 1.5  # sd of the default intercept of bernoulli and binomial models with logit or probit link
THRESHOLDS = 2.0  # default ascending thresholds are spread from -2 to 2, rounded to two digits
CONSTANT = 1e-12  # relative range up to which a column's variation is rounding

ON_GRAPH = "which only the graph can evaluate"
NOT_CENTRED = "not a Normal around 0 with a prior for its sd"


@dataclass(frozen=True)
class OnGraph:
    """A prior that only the PyMC graph has, and why: one made by a function, or of group effects that are no Normal."""

    key: str
    prior: Any  # Distribution, or a bambi.Prior
    why: str = ON_GRAPH

    def __str__(self) -> str:
        return str(self.prior)


Law = Distribution | OnGraph


def evaluable(law: Law) -> Distribution:
    """The same, if it is a distribution; else UnsupportedError, saying which prior and why not."""
    if isinstance(law, OnGraph):
        raise UnsupportedError(f"the prior of {law.key!r} is {law.prior}, {law.why}")
    return law


@dataclass(frozen=True, eq=False)
class ModelPriors(FrozenArrays):
    """Priors of a model, one per parameter, resolved on the full data.

    common: per column of X; that of the intercept is on the intercept of centred predictors when ``centred``.
    sds: of the group effects, per block and column; an OnGraph where these are not Normal around 0.  auxiliary: of
    further parameters without a formula, a number where one is fixed; thresholds have lists of arguments, and ascending
    ones are restricted to their order."""

    common: tuple[Law, ...]
    centred: bool
    centre: np.ndarray  # (p,) means of X's columns on the full data: where predictors are centred in every refit too
    sds: tuple[tuple[Law, ...], ...]
    eta: tuple[float, ...]  # per block; nan without correlations
    auxiliary: Mapping[str, Law | float] = field(default_factory=dict)
    further: Mapping[str, ModelPriors] = field(default_factory=dict)  # of further parameters with a formula

    def evaluable(self) -> ModelPriors:
        """The same, if every prior is a distribution; else UnsupportedError, saying which is not and why."""
        laws = (*self.common, *(law for block in self.sds for law in block), *self.auxiliary.values())
        for law in laws:
            if isinstance(law, OnGraph):
                evaluable(law)
        for part in self.further.values():
            part.evaluable()
        return self


def is_constant(x: np.ndarray) -> np.ndarray:
    """Which columns (n, ...) do not vary, up to rounding."""
    return np.asarray(np.ptp(x, axis=0) <= CONSTANT * np.abs(x).max(axis=0))


def column_scale(x: np.ndarray) -> np.ndarray:
    """What a default prior's width is divided by: a column's sd; |c| where it is c in every row, 1 where it is 0.

    So a default prior is finite whatever the columns, and lets each move the response by 2.5 of its sds."""
    size = np.abs(x).max(axis=0)
    return np.where(is_constant(x), np.where(size > 0, size, 1.0), x.std(axis=0))


@dataclass(frozen=True, eq=False)
class Defaults:
    """What the default priors of one linear predictor are scaled by."""

    design: Design
    mean: float = 0.0  # of the intercept
    spread: float | None = SPREAD  # 2.5 sd(y); None: nothing is scaled, as in the formulas of further parameters
    latent: bool = False  # whether slopes are scaled for a logit or probit link

    @cached_property
    def terms(self) -> dict[str, tuple[int, int]]:
        """Of each common term, how many components it has and how many of them are factors."""
        return {term.name: (term.degree, term.factors) for term in self.design.evaluator.common_terms()}

    def predictor(self, term: str) -> np.ndarray | None:
        """(n, c) or (n, 1) what the sds of a term's coefficients are divided by the scale of; None: by nothing.

        With a logit or probit link the columns of an interaction are taken together."""
        columns = self.design.X[:, [owner == term for owner in self.design.common_terms]]
        if self.spread is None:
            return None
        if self.latent:
            degree, factors = self.terms[term]
            if factors == degree:
                return None
            if degree > 1:
                return columns.sum(axis=1, keepdims=True)
        return columns

    def slopes(self, term: str) -> np.ndarray:
        """(c,) sds of the coefficients of a term, or one for all."""
        columns = self.predictor(term)
        if columns is None:
            return np.ones(1)
        return (1.0 if self.latent or self.spread is None else self.spread) / column_scale(columns)

    def group_slope(self, x: np.ndarray) -> float:
        """Scale of the half-normal prior of a group slope's sd, of its column x (n,)."""
        return 1.0 if self.spread is None else float(self.spread / column_scale(x))

    def widened(self, sds: Mapping[str, np.ndarray]) -> float:
        """Scale of an intercept's prior and of group intercepts', with the default slopes' sds by term."""
        if self.spread is None:
            return 1.0
        variance = self.spread**2
        for term, sd in sds.items():
            columns = self.design.X[:, [owner == term for owner in self.design.common_terms]]
            variance += float(np.sum(sd**2 * columns.mean(axis=0) ** 2))
        return float(np.sqrt(variance))


def defaults_of(design: Design, family: str, link: str | None) -> Defaults:
    """The default priors of the formula's own coefficients and group effects."""
    scale = FAMILIES[family].default_scale
    if scale == "response":
        return Defaults(design, float(np.mean(design.y)), SPREAD * float(np.std(design.y)))
    latent = scale == "latent" and (link or FAMILIES[family].links[0]) in ("logit", "probit")
    return Defaults(design, latent=latent)


def model_priors(
    design: Design, priors: PriorSet, family: str = "gaussian", link: str | None = None, center_predictors: bool = True
) -> ModelPriors:
    """Resolve all priors of a model on the full data.  link: None is the family's default.

    ArgumentError where the columns of a block with one sd have different priors."""
    defaults = defaults_of(design, family, link)
    whole = _predictor_priors(defaults, priors, center_predictors)
    parts = {
        name: _predictor_priors(Defaults(part, spread=None), priors, center_predictors, prefix=f"{name}_")
        for name, part in parts_of(design).items()
    }
    auxiliary = {
        parameter.name: _auxiliary(parameter, design, priors, family)
        for parameter in FAMILIES[family].parameters
        if parameter.name not in design.formulas and not (parameter.name == "sigma" and design.precision.sigma_known)
    }
    return ModelPriors(**whole, auxiliary=auxiliary, further={name: ModelPriors(**one) for name, one in parts.items()})


def _predictor_priors(
    defaults: Defaults, priors: PriorSet, center_predictors: bool, prefix: str = ""
) -> dict[str, Any]:
    """The fields of ModelPriors for one linear predictor.  The wide keys are for the formula itself, as in Bambi."""
    design, wide = defaults.design, not prefix
    common_to_all = priors.given.get("common") if wide else None
    intercept = f"{prefix}Intercept"
    given = {term: priors.given.get(term, common_to_all) for term in dict.fromkeys(design.common_terms)}
    sds = {term: defaults.slopes(term) for term, own in given.items() if own is None and term != intercept}
    scale = defaults.widened(sds)
    common: list[Law] = []
    seen: dict[str, int] = {}
    for term in design.common_terms:
        position = seen[term] = seen.get(term, -1) + 1
        if given[term] is not None:
            common.append(_given(given[term], term, position))
        elif term == intercept:
            common.append(_normal(defaults.mean, LATENT_INTERCEPT if defaults.latent else scale))
        else:
            common.append(_normal(0.0, float(sds[term][position if len(sds[term]) > 1 else 0])))
    groups = priors.given.get("group_specific") if wide else None
    return {
        "common": tuple(common),
        "centred": bool(center_predictors and intercept in design.common and len(design.common) > 1),
        "centre": design.X.mean(axis=0),
        "sds": _group_sds(defaults, priors, groups, scale, prefix),
        "eta": tuple(priors.eta.get(block.corr_name, np.nan) for block in design.blocks),
    }


def _group_sds(
    defaults: Defaults, priors: PriorSet, wide: Any, scale: float, prefix: str
) -> tuple[tuple[Law, ...], ...]:
    """Per block and column.  wide: given for all group effects, or None; scale: of a group intercept's default."""
    found = []
    seen: dict[str, int] = {}  # the columns of (0 + f || g) are blocks of their own, and one term to Bambi
    for block in defaults.design.blocks:
        sds: list[Law] = []
        for i, column in enumerate(block.columns):
            position = seen[column.variable] = seen.get(column.variable, -1) + 1
            given = priors.given.get(column.variable, wide)
            if given is not None:
                sds.append(_given_sd(given, column, position))
                continue
            intercept = column.variable.startswith(f"{prefix}1|")
            sds.append(_half_normal(scale if intercept else defaults.group_slope(block.values[:, i])))
        laws = [law for law in sds if isinstance(law, Distribution)]
        if block.structure.hom and len(laws) == block.size:
            sds = [common_law(block, laws)] * block.size
        found.append(tuple(sds))
    return tuple(found)


def _given(value: Any, key: str, position: int) -> Law:
    try:
        return Distribution.from_bambi(value, key).column(position)
    except UnsupportedError:
        return OnGraph(key, value)


def _given_sd(value: Any, column: Column, position: int) -> Law:
    try:
        effects = Distribution.from_bambi(value, column.variable)
    except UnsupportedError:
        return OnGraph(column.variable, value)
    own = effects.column(position)
    sigma = own.get("sigma")
    if effects.name != "Normal" or not isinstance(sigma, Distribution) or own.get("mu") not in (None, 0.0):
        return OnGraph(column.variable, effects, NOT_CENTRED)
    return sigma


def _auxiliary(parameter: Parameter, design: Design, priors: PriorSet, family: str) -> Law | float:
    name, thresholds = parameter.name, parameter.support in ("cuts", "ascending")
    given = priors.given.get(name)
    if isinstance(given, float):
        return given
    if given is not None:
        try:
            return Distribution.from_bambi(given, name)
        except UnsupportedError:
            return OnGraph(name, given)
    default = parse_distribution(parameter.prior, name)
    if thresholds:
        count = len(design.categories) - 1
        ends = THRESHOLDS if parameter.support == "ascending" else 0.0
        where = np.round(np.linspace(-ends, ends, count), 2)
        return Distribution("Normal", (("mu", tuple(where.tolist())), ("sigma", 1.0)))
    if name == "sigma" and FAMILIES[family].default_scale == "response":
        return Distribution(default.name, (*default.args[:-1], ("sigma", float(np.std(design.y)))))
    return default


def common_law(block: Block, laws: Sequence[Distribution]) -> Distribution:
    """The prior of the one standard deviation of all columns: theirs; of half-normals of different scales the one with
    their root mean square.  ArgumentError for other laws that differ."""
    if all(law == laws[0] for law in laws):
        return laws[0]
    found = [law.get("sigma") for law in laws]
    scales = [
        scale for law, scale in zip(laws, found, strict=True) if law.name == "HalfNormal" and isinstance(scale, float)
    ]
    if len(scales) < len(laws):
        told = ", ".join(dict.fromkeys(str(law) for law in laws))
        raise ArgumentError(
            f"the columns of {block.term} share one standard deviation, and their priors differ: {told}. Give the same "
            "for all of them"
        )
    return _half_normal(float(np.sqrt(np.mean(np.square(scales)))))


def _normal(mean: float, sd: float) -> Distribution:
    return Distribution("Normal", (("mu", mean), ("sigma", sd)))


def _half_normal(scale: float) -> Distribution:
    return Distribution("HalfNormal", (("sigma", scale),))
