"""Student's t with location mu, scale sigma and nu degrees of freedom."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, log1p
from scipy import special, stats

from hiermod.families.elementary import HALF_LOG_2PI, digamma_less_log, stirling
from hiermod.families.family import Family, Further, LinkVariance, Notation, Parameter
from hiermod.families.row_function import RowFunction


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    nu, sigma = p["nu"], p["sigma"]
    constant = special.gammaln(0.5 * (nu + 1)) - special.gammaln(0.5 * nu) - 0.5 * np.log(nu * np.pi) - np.log(sigma)
    return constant - 0.5 * (nu + 1) * np.log1p(np.square((y - mu) / sigma) / nu)


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """Undefined where nu is at most 2."""
    nu = p["nu"]
    return np.square(p["sigma"]) * np.where(nu > 2, nu / np.where(nu > 2, nu - 2, 1.0), np.nan) + 0 * mu


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By z = (y - mu) / sigma."""
    nu, z = exp(a[1]), (y - eta) * exp(-a[0])
    half = 0.5 * nu
    constant = half * log1p(0.5 / half) + stirling(half + 0.5) - stirling(half) - 0.5 - HALF_LOG_2PI
    return constant - a[0] - 0.5 * (nu + 1.0) * log1p(z * z / nu)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """w z / sigma, w = (nu + 1) / (nu + z^2)."""
    nu, z = exp(a[1]), (y - eta) * exp(-a[0])
    half, w = 0.5 * nu, (nu + 1.0) / (nu + z * z)
    gammas = log1p(1.0 / nu) + digamma_less_log(half + 0.5) - digamma_less_log(half) - 1.0 / nu
    by_nu = 0.5 * nu * (gammas - log1p(z * z / nu) + w * z * z / nu)
    return density(y, n, eta, a), w * z * exp(-a[0]), (w * z * z - 1.0, by_nu)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """Negative where |z| is above sqrt(nu); (nu + 1) / (nu + 3) / sigma^2 is expected."""
    nu, z, precision = exp(a[1]), (y - eta) * exp(-a[0]), exp(-2.0 * a[0])
    s = nu + z * z
    return (nu + 1.0) * (nu - z * z) / (s * s) * precision, (nu + 1.0) / (nu + 3.0) * precision + 0.0 * eta


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By h(z) = (nu + 1) (nu - z^2) / (nu + z^2)^2, the observed weight times sigma^2."""
    nu, z, rate = exp(a[1]), (y - eta) * exp(-a[0]), exp(-a[0])
    s, w = nu + z * z, (nu + 1.0) / (nu + z * z)
    h = w * (nu - z * z) / s
    slope = -2.0 * z * w * (3.0 * nu - z * z) / (s * s)
    by_nu = ((2.0 * nu + 1.0 - z * z) * s - 2.0 * (nu + 1.0) * (nu - z * z)) / (s * s * s)
    return (
        slope * rate * rate * rate,
        (-rate * z * (h + w), nu * (z * z - 1.0) / (s * s) * z * rate),
        (rate * rate * (z * slope + 2.0 * h), -nu * by_nu * rate * rate),
    )


ROWS = RowFunction(density, first, weights, third, (("sigma", "log"), ("nu", "log")))


T = Family(
    name="t",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("StudentT", arguments=("nu", "sigma")),
    parameters=(
        Parameter("sigma", prior="HalfStudentT(nu=4, sigma=1)"),
        Parameter("nu", prior="Gamma(alpha=2, beta=0.1)", limit="family='gaussian'"),
    ),
    also_called=("student", "student_t", "studentt"),
    logpdf=_logpdf,
    draw=lambda mu, p, rng: mu + p["sigma"] * rng.standard_t(np.broadcast_to(p["nu"], mu.shape)),
    variance=_variance,
    link_variance={
        "identity": LinkVariance(
            lambda _, p: _variance(np.zeros(1), p), "residual variance: sigma squared nu / (nu - 2)"
        )
    },
    default_scale="response",
    rows={"identity": ROWS},
    law=lambda mu, p: stats.t(p["nu"], mu, p["sigma"]),
)
