"""0, or with probability psi a positive number with a gamma distribution of mean mu and shape alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import logaddexp, where
from scipy import stats
from scipy.special import expit

from hiermod.families import gamma
from hiermod.families.family import Family, Further, Notation, Parameter, inside
from hiermod.families.gamma import density as base_density
from hiermod.families.gamma import first as base_first
from hiermod.families.gamma import third as base_third
from hiermod.families.gamma import weights as base_weights
from hiermod.families.row_function import RowFunction
from hiermod.families.zeros_apart import FROM_ZERO, PSI, WithZeros, drawn_or_zero, hurdle_logpmf


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    return p["psi"] * np.square(mu) * (1 + 1 / p["alpha"]) - np.square(p["psi"] * mu)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """log psi f(y), and log(1 - psi) at 0."""
    return where(
        y > 0, base_density(where(y > 0, y, 1.0), n, eta, (a[0],)) - logaddexp(0.0, -a[1]), -logaddexp(0.0, a[1])
    )


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """A 0 says nothing about the mean."""
    _, score, (by_a,) = base_first(where(y > 0, y, 1.0), n, eta, (a[0],))
    by_psi = where(y > 0, 1.0, 0.0) - expit(a[1])
    return density(y, n, eta, a), where(y > 0, score, 0.0), (where(y > 0, by_a, 0.0), by_psi)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The gamma's, above 0."""
    observed, expected = base_weights(where(y > 0, y, 1.0), n, eta, (a[0],))
    return where(y > 0, observed, 0.0), where(y > 0, expected, 0.0)


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The gamma's, above 0."""
    slope, (a1,), (a2,) = base_third(where(y > 0, y, 1.0), n, eta, (a[0],))
    none = 0.0 * eta
    return where(y > 0, slope, 0.0), (where(y > 0, a1, 0.0), none), (where(y > 0, a2, 0.0), none)


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"), ("psi", "logit")), concave=True)


HURDLE_GAMMA = Family(
    name="hurdle_gamma",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("HurdleGamma", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    support=FROM_ZERO,
    own_zeros=True,
    logpdf=inside(FROM_ZERO, hurdle_logpmf(gamma.log_density)),
    draw=drawn_or_zero(gamma.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=_variance,
    rows={"log": ROWS},
    law=lambda mu, p: WithZeros(stats.gamma(p["alpha"], scale=mu / p["alpha"]), p["psi"]),
)
