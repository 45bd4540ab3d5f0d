"""Which group effects NUTS should sample centred: those of which the data know more than their prior.

Papaspiliopoulos, Roberts and Skold (2007, Statistical Science 22, 59-73): samplers of centred effects are fast where
the data inform them well, of non-centred ones where they do not.  How well is read off a quick fit by REML or ML: the
share of the variance between groups that the data take away, 1 - condsd^2 / tau^2, at the smallest tau that the data
leave plausible: near tau = 0 centred effects meet the funnel, and few levels leave tau uncertain."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from hiermod.errors import HiermodError
from hiermod.families.catalogue import FAMILIES, GENERALISED

LEAST_SHARE = 0.5  # at the smallest plausible tau, of every term of a factor
PLAUSIBLE = 0.999  # of the chi-square law of the spread between J levels, whose lower end gives that tau


@dataclass(frozen=True)
class Centring:
    """centred: factor -> sd of the mean of its effects; words: what was chosen and why, for ``fit.inference``."""

    centred: dict[str, float]
    words: str


def choose_centring(model: Any) -> Centring:
    """For a ``Model`` with ``noncentered="auto"``; where no quick fit is to be had, nothing is centred."""
    if model.noncentered != "auto":
        how = "non-centred" if model.noncentered else "centred"
        return Centring({}, f"{how}, as asked" if model.spec.blocks else "")
    if not model.spec.blocks:
        return Centring({}, "")
    if not FAMILIES[model.family].normal_errors and model.family not in GENERALISED:
        return Centring({}, f"non-centred, since family {model.family!r} has no quick fit to choose by")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # singular fits are an answer here, not a problem
            fit = model.reml() if FAMILIES[model.family].normal_errors else model.ml()
    except HiermodError:
        return Centring({}, "non-centred, since no quick fit by maximum likelihood is to be had")
    shares = _shares(model.spec, fit)
    levels = model.spec.ngroups
    spread = fit.varcorr().query("term2.isna()").groupby("group", sort=False)["sdcor"].first()
    centred = {
        factor: float(spread[factor] / np.sqrt(levels[factor]))
        for factor, share in shares.items()
        if _pessimistic(share, levels[factor]) >= LEAST_SHARE
    }
    parts = [
        f"{factor} {'centred' if factor in centred else 'non-centred'} "
        f"(the data take away {share:.0%} of the variance between levels)"
        for factor, share in shares.items()
    ]
    return Centring(centred, ", ".join(parts))


def _pessimistic(share: float, levels: int) -> float:
    """The share at the smallest plausible tau.  1 - share is 1 / (1 + n tau^2 / sigma^2) in balanced data, and the mean
    square between J levels estimates 1 + n tau^2 / sigma^2 with J - 1 degrees of freedom."""
    df = max(levels - 1, 1)
    return 1 - (1 - share) * 2 * float(gammaincinv(df / 2, PLAUSIBLE)) / df


def _shares(design: Any, fit: Any) -> dict[str, float]:
    """1 - mean(condsd^2) / tau^2 of each factor's least informed term; 0 where tau is."""
    varcorr = fit.varcorr()
    tau2 = varcorr[varcorr["term2"].isna()].set_index(["group", "term1"])["vcov"]
    left = fit.ranef().assign(square=lambda d: d["std_error"] ** 2).groupby(["group", "term"])["square"].mean()
    found: dict[str, float] = {}
    for block in design.blocks:
        for label in block.labels:
            key = (block.factor, label)
            share = 1 - left[key] / tau2[key] if tau2[key] > 0 else 0.0
            found[block.factor] = min(found.get(block.factor, 1.0), float(max(share, 0.0)) if share == share else 0.0)
    return found
