"""Gamma with mean mu and shape alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, expm1, log
from scipy import special, stats

from hiermod.families.elementary import HALF_LOG_2PI, digamma_less_log, expm1_less, stirling
from hiermod.families.family import POSITIVE, Family, Further, LinkVariance, Notation, Parameter, inside
from hiermod.families.row_function import RowFunction


def log_density(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """Of positive numbers."""
    alpha = p["alpha"]
    return special.xlogy(alpha, alpha / mu) - special.gammaln(alpha) + special.xlogy(alpha - 1, y) - alpha * y / mu


def draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """One for each mean."""
    alpha = np.broadcast_to(p["alpha"], mu.shape)
    return rng.standard_gamma(alpha) * mu / alpha


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By z = y / mu: alpha (log z - z + 1) and what does not depend on mu, Stirling's formula taken out."""
    alpha = exp(a[0])
    return 0.5 * a[0] - HALF_LOG_2PI - stirling(alpha) - alpha * expm1_less(log(y) - eta) - log(y)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha (z - 1)."""
    alpha, w = exp(a[0]), log(y) - eta
    by_a = -alpha * (digamma_less_log(alpha) + expm1_less(w))
    return density(y, n, eta, a), alpha * expm1(w), (by_a,)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha z, and alpha."""
    alpha = exp(a[0])
    return alpha * exp(log(y) - eta), alpha + 0.0 * eta


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha z."""
    alpha, w = exp(a[0]), log(y) - eta
    return alpha * exp(w), (alpha * expm1(w),), (-alpha * exp(w),)


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"),), concave=True)


GAMMA = Family(
    name="gamma",
    kind="continuous",
    links=("inverse", "log", "identity"),
    notation=Notation("Gamma", arguments=("alpha",)),
    parameters=(Parameter("alpha"),),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, log_density),
    draw=draw,
    variance=lambda mu, p: np.square(mu) / p["alpha"],
    link_variance={
        "log": LinkVariance(
            lambda _, p: np.log1p(1 / p["alpha"]), "residual variance on the log scale: log(1 + 1 / alpha)"
        )
    },
    rows={"log": ROWS},
    law=lambda mu, p: stats.gamma(p["alpha"], scale=mu / p["alpha"]),
)
