"""Priors given by people, checked against the model before anything heavy is imported.

Keys are Bambi's names (``"Intercept"``, ``"Days"``, ``"sigma"``, ``"1|Subject"``, ``"common"``, ``"group_specific"``)
and, for the correlations of a block, its ``corr_name``: ``{"Subject_corr": "LKJ(2)"}``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError, nearest
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.design import Block, Design
from hiermod.formula.parts import parts_of
from hiermod.priors.distributions import Distribution, is_bambi_prior
from hiermod.priors.lkj import DEFAULT_ETA, parse_lkj
from hiermod.priors.parse import check_bambi_prior, parse_distribution


@dataclass(frozen=True)
class PriorSet:
    """Priors as given, resolved: one entry per key of Bambi's, and one LKJ eta per correlated block."""

    given: Mapping[str, Any] = field(default_factory=dict)  # key -> Distribution, number or bambi.Prior
    eta: Mapping[str, float] = field(default_factory=dict)  # corr_name -> eta

    def to_bambi(self) -> dict[str, Any]:
        """The dict for ``bambi.Model(priors=...)``: fresh Prior objects, since Bambi changes those it is given."""
        from copy import deepcopy

        return {
            key: value.to_bambi() if isinstance(value, Distribution) else deepcopy(value)
            for key, value in self.given.items()
        }


def auxiliary_names(family: str, design: Design) -> tuple[str, ...]:
    """The response's own parameters: ``("sigma",)`` for a gaussian; none when the residual sds are known."""
    if design.precision.sigma_known:
        return ()
    names = FAMILIES[family].parameter_names if family in FAMILIES else ()
    return tuple(name for name in names if name not in design.formulas)


def prior_keys(design: Design, family: str = "gaussian") -> tuple[str, ...]:
    """Every key that ``priors=`` understands for this model, in the order of the model's tables."""
    terms = dict.fromkeys(design.common_terms)
    groups = dict.fromkeys(column.variable for block in design.blocks for column in block.columns)
    wide = (["common"] if terms else []) + (["group_specific"] if groups else [])
    correlations = [block.corr_name for block in design.correlated_blocks]
    further: list[str] = []
    for part in parts_of(design).values():  # the wide keys are for the formula itself, as in Bambi
        further += [*dict.fromkeys(part.common_terms)]
        further += dict.fromkeys(column.variable for block in part.blocks for column in block.columns)
        further += [block.corr_name for block in part.correlated_blocks]
    return (*terms, *auxiliary_names(family, design), *groups, *correlations, *further, *wide)


def resolve_priors(priors: Mapping[str, Any] | None, design: Design, family: str = "gaussian") -> PriorSet:
    """Checks ``priors=`` and turns its texts into records; None or {} means Bambi's defaults and LKJ(2).

    Raises UnknownNameError for a key the model has not, Argument(Type)Error for a value that is no prior."""
    designs = (design, *parts_of(design).values())
    eta = {block.corr_name: DEFAULT_ETA for one in designs for block in one.correlated_blocks}
    if priors is None:
        return PriorSet({}, eta)
    if not isinstance(priors, Mapping):
        raise ArgumentTypeError(
            f"priors must be a dict such as {{'Intercept': 'Normal(0, 10)'}}, got {type(priors).__name__}"
        )
    valid = prior_keys(design, family)
    groups = {column.variable: block for one in designs for block in one.blocks for column in block.columns}
    auxiliary = auxiliary_names(family, design)
    given: dict[str, Any] = {}
    for key, value in priors.items():
        if key not in valid:
            raise _unknown_key(key, valid, design)
        if key in eta:
            eta[key] = parse_lkj(value, key)
        elif key in groups or key == "group_specific":
            width = sum(c.variable == key for one in designs for block in one.blocks for c in block.columns)
            given[key] = _group_prior(value, key, groups.get(key), width)
        elif key in auxiliary:
            given[key] = _auxiliary_prior(value, key)
        else:
            owner = next((one for one in designs if key in one.common_terms), design)
            given[key] = _common_prior(value, key, owner)
    return PriorSet(given, eta)


def _unknown_key(key: Any, valid: tuple[str, ...], design: Design) -> UnknownNameError:
    hint = nearest(str(key), valid)
    if key == "sigma" and design.precision.sigma_known:
        hint = " The residual sds are known (se=), so there is no sigma."
    elif key in design.formulas:
        hint = f" {key} has a formula of its own: give priors to its coefficients, such as {key}_Intercept."
    elif str(key).endswith("_sigma") and str(key).removesuffix("_sigma") in valid:
        group = str(key).removesuffix("_sigma")
        hint = f' The prior of that sd is given under the term: {{"{group}": "HalfNormal(...)"}}.'
    return UnknownNameError(f"no parameter {key!r} in this model to give a prior to.{hint} It has: {', '.join(valid)}")


def _distribution(value: Any, key: str) -> Any:
    if isinstance(value, Distribution):
        return value
    if is_bambi_prior(value):
        check_bambi_prior(value, key)
        return value
    if isinstance(value, str):
        return parse_distribution(value, key)
    raise ArgumentTypeError(
        f'the prior of {key!r} must be a text such as "Normal(0, 10)" or a bambi.Prior, got {value!r}. '
        "A number alone is no distribution"
    )


def _is_nested(prior: Any) -> bool:
    if isinstance(prior, Distribution):
        return prior.nested
    return any(is_bambi_prior(argument) for argument in prior.args.values())


def _common_prior(value: Any, key: str, design: Design) -> Any:
    prior = _distribution(value, key)
    if _is_nested(prior):
        raise ArgumentError(
            f"the prior of {key!r} is {prior}: coefficients common to all groups cannot have a prior inside their "
            "prior. Give its arguments as numbers"
        )
    _check_lists(prior, key, sum(term == key for term in design.common_terms))
    return prior


def _check_lists(given: Any, key: str, width: int) -> None:
    """Lists are one number per coefficient; a key for several terms (width 0) has none."""
    try:
        whole = Distribution.from_bambi(given, key)
    except UnsupportedError:  # PyMC itself evaluates its arguments
        return
    _check_list(whole, whole, key, width)


def _check_list(whole: Distribution, prior: Distribution, key: str, width: int) -> None:
    for name, number in prior.args:
        if isinstance(number, Distribution):
            _check_list(whole, number, key, width)
        if isinstance(number, tuple) and len(number) != width:
            raise ArgumentError(
                f"the prior of {key!r} is {whole}: {name} has {len(number)} values and {key!r} has {width} "
                "coefficients. Give one number for all, or one per coefficient"
            )


def _auxiliary_prior(value: Any, key: str) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) and value > 0):
            raise ArgumentError(f"{key!r} is fixed at {value!r}, and must be a positive number")
        return float(value)
    prior = _distribution(value, key)
    if _is_nested(prior):
        raise ArgumentError(f"the prior of {key!r} is {prior}, with a prior inside. Give its arguments as numbers")
    if isinstance(prior, Distribution) and key in ("sigma", "alpha", "kappa", "b", "lam") and not prior.positive:
        raise ArgumentError(
            f"the prior of {key!r} is {prior}, which allows negative values, and {key} is positive. "
            'Use a distribution on positive numbers, such as "HalfNormal(50)" or "HalfStudentT(nu=4, sigma=60)"'
        )
    if key != "threshold":  # one number for all rows; thresholds are several
        _check_lists(prior, key, 1)
    return prior


def _group_prior(value: Any, key: str, block: Block | None, width: int) -> Any:
    """A Normal whose sigma has a prior; a prior of positive numbers alone is that sigma's."""
    prior = _distribution(value, key)
    if isinstance(prior, Distribution):
        if not prior.nested and prior.positive:
            prior = Distribution("Normal", (("mu", 0.0), ("sigma", prior)))
        sigma = prior.get("sigma")
        if not isinstance(sigma, Distribution) or sigma.nested:
            raise ArgumentError(
                f"the prior of {key!r} is {prior}: group effects need a prior for their standard deviation, so that "
                'the data can say how much groups differ. Write "HalfNormal(50)", which means Normal(0, HalfNormal(50))'
            )
        if not sigma.positive:
            raise ArgumentError(
                f"the prior of {key!r} is {prior}: its sigma is a standard deviation and {sigma} allows negative "
                'values. Use a distribution on positive numbers, such as "HalfNormal(50)"'
            )
    elif not _is_nested(prior):
        raise ArgumentError(
            f"the prior of {key!r} is {prior}: group effects need a prior for their standard deviation. "
            "Give sigma a bambi.Prior of its own"
        )
    _check_lists(prior, key, width)
    if block is not None and block.size > 1 and prior.name != "Normal":
        raise UnsupportedError(
            f"the prior of {key!r} is {prior}: correlated group effects ({block.text!r}) are multivariate Normal. "
            f'Give the prior of the sd only ("HalfNormal(50)"), or separate the terms with "||"'
        )
    return prior


def where_the_prior_decides(design: Design) -> list[str]:
    """What to say of terms with as many group effects as observations, which REML refuses; none with known sds."""
    if design.precision.sigma_known:
        return []
    return [
        f"{block.term} has {len(block.levels) * block.size} group effects for {design.nobs} observations: the data "
        "cannot tell their variance from the residual variance, so the prior decides how it is shared. Drop a term, "
        "or give known residual sds with se="
        for block in design.blocks
        if block.structure.free and len(block.levels) * block.size >= design.nobs
    ]
