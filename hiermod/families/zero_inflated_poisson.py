"""Poisson counts of mean mu for a share psi of the rows; the others are 0."""

from __future__ import annotations

from typing import Any

from numpy import where
from scipy import stats
from scipy.special import expit

from hiermod.families import poisson
from hiermod.families.family import INTEGERS, Family, Notation, inside, the_location
from hiermod.families.poisson import density as base_density
from hiermod.families.poisson import first as base_first
from hiermod.families.poisson import third as base_third
from hiermod.families.poisson import weights as base_weights
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
)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By that of the count and of its 0."""
    return inflated_density(y, a[0], base_density(y, n, eta, ()), base_density(0.0 * y, n, eta, ()))


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """At 0 times the probability that the 0 was counted."""
    log_f, score, _ = base_first(y, n, eta, ())
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    p, _, _ = counted(a[0], log_zero)
    value = inflated_density(y, a[0], log_f, log_zero)
    return value, where(y == 0, p * c1, score), (where(y == 0, p, 1.0) - expit(a[0]),)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The expected one is the count's, at 0 times the probability that it was counted: nearly, and never negative."""
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    p, r, s = counted(a[0], log_zero)
    observed, expected = base_weights(y, n, eta, ())
    _, d2, _ = through(p, r, s, c1, -base_weights(0.0 * y, n, eta, ())[0], 0.0)
    return where(y == 0, -d2, observed), where(y == 0, p, 1.0) * expected


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By the chain rule at 0; elsewhere the count's."""
    slope = base_third(y, n, eta, ())[0]
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    c2, c3 = -base_weights(0.0 * y, n, eta, ())[0], base_third(0.0 * y, n, eta, ())[0]
    p, r, s = counted(a[0], log_zero)
    _, _, d3 = through(p, r, s, c1, c2, c3)
    mixed, zero = p * r * (c2 + s * c1 * c1), y == 0
    return where(zero, d3, slope), (where(zero, p * c1 * r, 0.0),), (where(zero, mixed, 0.0),)


ROWS = RowFunction(density, first, weights, third, (("psi", "logit"),))


ZERO_INFLATED_POISSON = Family(
    name="zero_inflated_poisson",
    kind="count",
    links=("log", "identity"),
    notation=Notation("ZeroInflatedPoisson", arguments=("psi",)),
    parameters=(PSI,),
    also_called=("zip",),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, inflated_logpmf(poisson.logpmf)),
    draw=drawn_or_zero(poisson.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=inflated_variance(the_location),
    rows={"log": ROWS},
    law=lambda mu, p: WithZeros(stats.poisson(mu), p["psi"]),
)
