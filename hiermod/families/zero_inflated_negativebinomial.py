"""Negative binomial counts of mean mu for a share psi of the rows; the others are 0."""

from __future__ import annotations

from typing import Any

from numpy import where
from scipy import stats
from scipy.special import expit

from hiermod.families import negativebinomial
from hiermod.families.family import INTEGERS, Family, Notation, Parameter, inside
from hiermod.families.negativebinomial import density as base_density
from hiermod.families.negativebinomial import first as base_first
from hiermod.families.negativebinomial import third as base_third
from hiermod.families.negativebinomial import weights as base_weights
from hiermod.families.row_function import RowFunction
from hiermod.families.zeros_apart import (
    PSI,
    WithZeros,
    counted,
    drawn_or_zero,
    inflated_density,
    inflated_logpmf,
    inflated_variance,
    through,
    through_auxiliary,
)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By that of the count and of its 0."""
    return inflated_density(y, a[1], base_density(y, n, eta, (a[0],)), base_density(0.0 * y, n, eta, (a[0],)))


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """At 0 times the probability that the 0 was counted."""
    log_f, score, (by_base,) = base_first(y, n, eta, (a[0],))
    log_zero, c1, (by_zero,) = base_first(0.0 * y, n, eta, (a[0],))
    p, _, _ = counted(a[1], log_zero)
    value = inflated_density(y, a[1], log_f, log_zero)
    return (
        value,
        where(y == 0, p * c1, score),
        (where(y == 0, p * by_zero, by_base), where(y == 0, p, 1.0) - expit(a[1])),
    )


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The expected one is the count's, at 0 times the probability that it was counted: nearly, and never negative."""
    log_zero, c1, _ = base_first(0.0 * y, n, eta, (a[0],))
    p, r, s = counted(a[1], log_zero)
    observed, expected = base_weights(y, n, eta, (a[0],))
    _, d2, _ = through(p, r, s, c1, -base_weights(0.0 * y, n, eta, (a[0],))[0], 0.0)
    return where(y == 0, -d2, observed), where(y == 0, p, 1.0) * expected


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By the chain rule at 0; elsewhere the count's."""
    slope, (a1,), (a2,) = base_third(y, n, eta, (a[0],))
    log_zero, c1, (b0,) = base_first(0.0 * y, n, eta, (a[0],))
    c2, (c3, (b1,), (b2,)) = -base_weights(0.0 * y, n, eta, (a[0],))[0], base_third(0.0 * y, n, eta, (a[0],))
    p, r, s = counted(a[1], log_zero)
    _, _, d3 = through(p, r, s, c1, c2, c3)
    _, by1, by2 = through_auxiliary(p, r, s, c1, c2, b0, b1, b2)
    mixed, zero = p * r * (c2 + s * c1 * c1), y == 0
    return (
        where(zero, d3, slope),
        (where(zero, by1, a1), where(zero, p * c1 * r, 0.0)),
        (where(zero, by2, a2), where(zero, mixed, 0.0)),
    )


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"), ("psi", "logit")))


ZERO_INFLATED_NEGATIVEBINOMIAL = Family(
    name="zero_inflated_negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("ZeroInflatedNegativeBinomial", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    also_called=("zinb",),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, inflated_logpmf(negativebinomial.logpmf)),
    draw=drawn_or_zero(negativebinomial.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=inflated_variance(negativebinomial.variance),
    rows={"log": ROWS},
    law=lambda mu, p: WithZeros(stats.nbinom(p["alpha"], p["alpha"] / (p["alpha"] + mu)), p["psi"]),
)
