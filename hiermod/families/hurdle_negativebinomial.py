"""0, or with probability psi a negative binomial count of mean mu that is above 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import where
from scipy import stats
from scipy.special import expit

from hiermod.families import negativebinomial
from hiermod.families.family import INTEGERS, Family, Further, Notation, Parameter, inside
from hiermod.families.negativebinomial import density as base_density
from hiermod.families.negativebinomial import first as base_first
from hiermod.families.negativebinomial import third as base_third
from hiermod.families.negativebinomial import weights as base_weights
from hiermod.families.row_function import RowFunction
from hiermod.families.zeros_apart import (
    PSI,
    AboveHurdle,
    above,
    drawn_above_zero,
    drawn_or_zero,
    hurdle_density,
    hurdle_logpmf,
    hurdle_mean,
    hurdle_variance,
    through,
    through_auxiliary,
)


def _quantile(u: np.ndarray, mean: np.ndarray, p: Further) -> np.ndarray:
    alpha = np.broadcast_to(p["alpha"], mean.shape)
    return stats.nbinom.ppf(u, alpha, alpha / (alpha + mean))


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By that of the count and of its 0."""
    return hurdle_density(y, a[1], base_density(y, n, eta, (a[0],)), base_density(0.0 * y, n, eta, (a[0],)))


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """A 0 says nothing about the count."""
    log_f, score, (by_base,) = base_first(y, n, eta, (a[0],))
    log_zero, c1, (by_zero,) = base_first(0.0 * y, n, eta, (a[0],))
    p, _, _ = above(log_zero)
    value = hurdle_density(y, a[1], log_f, log_zero)
    return (
        value,
        where(y > 0, score + p * c1, 0.0),
        (where(y > 0, by_base + p * by_zero, 0.0), where(y > 0, 1.0, 0.0) - expit(a[1])),
    )


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The expected one is the count's above the hurdle, without what is lost by not seeing its 0: never negative."""
    log_zero, c1, _ = base_first(0.0 * y, n, eta, (a[0],))
    p, r, s = above(log_zero)
    observed, expected = base_weights(y, n, eta, (a[0],))
    _, d2, _ = through(p, r, s, c1, -base_weights(0.0 * y, n, eta, (a[0],))[0], 0.0)
    return where(y > 0, observed - d2, 0.0), where(y > 0, expected, 0.0)


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By the chain rule above the hurdle."""
    slope, (a1,), (a2,) = base_third(y, n, eta, (a[0],))
    log_zero, c1, (b0,) = base_first(0.0 * y, n, eta, (a[0],))
    c2, (c3, (b1,), (b2,)) = -base_weights(0.0 * y, n, eta, (a[0],))[0], base_third(0.0 * y, n, eta, (a[0],))
    p, r, s = above(log_zero)
    _, _, d3 = through(p, r, s, c1, c2, c3)
    _, by1, by2 = through_auxiliary(p, r, s, c1, c2, b0, b1, b2)
    up = y > 0
    return where(up, slope + d3, 0.0), (where(up, a1 + by1, 0.0), 0.0 * eta), (where(up, a2 + by2, 0.0), 0.0 * eta)


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"), ("psi", "logit")))


HURDLE_NEGATIVEBINOMIAL = Family(
    name="hurdle_negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("HurdleNegativeBinomial", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, hurdle_logpmf(negativebinomial.logpmf, negativebinomial.log_zero)),
    draw=drawn_or_zero(drawn_above_zero(negativebinomial.log_zero, _quantile)),
    mean=hurdle_mean(negativebinomial.log_zero),
    variance=hurdle_variance(negativebinomial.variance, negativebinomial.log_zero),
    rows={"log": ROWS},
    law=lambda mu, p: AboveHurdle(stats.nbinom(p["alpha"], p["alpha"] / (p["alpha"] + mu)), p["psi"]),
)
