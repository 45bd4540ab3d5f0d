"""The inverse Gaussian with mean mu and shape lam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, expm1, log
from scipy import stats

from hiermod.families.elementary import HALF_LOG_2PI
from hiermod.families.family import POSITIVE, Family, Further, Notation, Parameter, inside
from hiermod.families.row_function import RowFunction


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    return 0.5 * (np.log(p["lam"]) - np.log(2 * np.pi * y**3) - p["lam"] * np.square((y - mu) / mu) / y)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """(log lam - log(2 pi y^3) - lam (y / mu - 1)^2 / y) / 2."""
    off = expm1(log(y) - eta)
    return 0.5 * a[0] - HALF_LOG_2PI - 1.5 * log(y) - 0.5 * exp(a[0]) * off * off / y


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """lam (y / mu - 1) / mu."""
    lam, off = exp(a[0]), expm1(log(y) - eta)
    return density(y, n, eta, a), lam * exp(-eta) * off, (0.5 - 0.5 * lam * off * off / y,)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """lam (2 y / mu - 1) / mu, and lam / mu."""
    rate = exp(a[0] - eta)
    return rate * (2.0 * exp(log(y) - eta) - 1.0), rate


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """lam (4 y / mu - 1) / mu."""
    rate, ratio = exp(a[0] - eta), exp(log(y) - eta)
    return rate * (4.0 * ratio - 1.0), (rate * expm1(log(y) - eta),), (-rate * (2.0 * ratio - 1.0),)


ROWS = RowFunction(density, first, weights, third, (("lam", "log"),))


WALD = Family(
    name="wald",
    kind="continuous",
    links=("inverse_squared", "inverse", "log", "identity"),
    notation=Notation("InverseGaussian", arguments=("lam",)),
    parameters=(Parameter("lam", symbol="lambda"),),
    also_called=("inverse_gaussian", "inverse.gaussian", "inversegaussian"),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, _logpdf),
    draw=lambda mu, p, rng: rng.wald(mu, np.broadcast_to(p["lam"], mu.shape)),
    variance=lambda mu, p: mu**3 / p["lam"],
    rows={"log": ROWS},
    law=lambda mu, p: stats.invgauss(mu / p["lam"], scale=p["lam"]),
)
