"""0, or with probability psi a Poisson count of mean mu that is above 0."""

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
    AboveHurdle,
    above,
    drawn_above_zero,
    drawn_or_zero,
    hurdle_density,
    hurdle_logpmf,
    hurdle_mean,
    hurdle_variance,
    through,
)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By that of the count and of its 0."""
    return hurdle_density(y, a[0], base_density(y, n, eta, ()), base_density(0.0 * y, n, eta, ()))


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """A 0 says nothing about the count."""
    log_f, score, _ = base_first(y, n, eta, ())
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    p, _, _ = above(log_zero)
    value = hurdle_density(y, a[0], log_f, log_zero)
    return value, where(y > 0, score + p * c1, 0.0), (where(y > 0, 1.0, 0.0) - expit(a[0]),)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The expected one is the count's above the hurdle, without what is lost by not seeing its 0: never negative."""
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    p, r, s = above(log_zero)
    observed, expected = base_weights(y, n, eta, ())
    _, d2, _ = through(p, r, s, c1, -base_weights(0.0 * y, n, eta, ())[0], 0.0)
    return where(y > 0, observed - d2, 0.0), where(y > 0, expected, 0.0)


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By the chain rule above the hurdle."""
    slope = base_third(y, n, eta, ())[0]
    log_zero, c1, _ = base_first(0.0 * y, n, eta, ())
    c2, c3 = -base_weights(0.0 * y, n, eta, ())[0], base_third(0.0 * y, n, eta, ())[0]
    p, r, s = above(log_zero)
    _, _, d3 = through(p, r, s, c1, c2, c3)
    up = y > 0
    return where(up, slope + d3, 0.0), (0.0 * eta,), (0.0 * eta,)


ROWS = RowFunction(density, first, weights, third, (("psi", "logit"),))


HURDLE_POISSON = Family(
    name="hurdle_poisson",
    kind="count",
    links=("log", "identity"),
    notation=Notation("HurdlePoisson", arguments=("psi",)),
    parameters=(PSI,),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, hurdle_logpmf(poisson.logpmf, poisson.log_zero)),
    draw=drawn_or_zero(drawn_above_zero(poisson.log_zero, lambda u, mean, _: stats.poisson.ppf(u, mean))),
    mean=hurdle_mean(poisson.log_zero),
    variance=hurdle_variance(the_location, poisson.log_zero),
    rows={"log": ROWS},
    law=lambda mu, p: AboveHurdle(stats.poisson(mu), p["psi"]),
)
