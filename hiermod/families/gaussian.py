"""Normal(mu, sigma)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp

from hiermod.families.family import Family, Further, Notation, Parameter
from hiermod.families.row_function import RowFunction

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    return -0.5 * np.square((y - mu) / p["sigma"]) - np.log(p["sigma"]) - HALF_LOG_2PI


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By z = (y - mu) / sigma."""
    z = (y - eta) * exp(-a[0])
    return -0.5 * z * z - a[0] - HALF_LOG_2PI


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """z / sigma."""
    z = (y - eta) * exp(-a[0])
    return density(y, n, eta, a), z * exp(-a[0]), (z * z - 1.0,)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """1 / sigma^2, twice."""
    w = exp(-2.0 * a[0]) + 0.0 * eta
    return w, w


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """0."""
    return 0.0 * eta, (-2.0 * (y - eta) * exp(-2.0 * a[0]),), (2.0 * exp(-2.0 * a[0]) + 0.0 * eta,)


ROWS = RowFunction(density, first, weights, third, (("sigma", "log"),), concave=True, expected_is_observed=True)


GAUSSIAN = Family(
    name="gaussian",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("Normal", arguments=("sigma",)),
    parameters=(Parameter("sigma", prior="HalfStudentT(nu=4, sigma=1)"),),
    also_called=("normal", "norm", "gauss", "linear"),
    logpdf=_logpdf,
    draw=lambda mu, p, rng: mu + p["sigma"] * rng.standard_normal(mu.shape),
    variance=lambda mu, p: np.square(p["sigma"]) + 0 * mu,
    normal_errors=True,
    default_scale="response",
    rows={"identity": ROWS},
)
