"""Student's t with location mu, scale sigma and nu degrees of freedom."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families.family import Family, Further, LinkVariance, Notation, Parameter


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    nu, sigma = p["nu"], p["sigma"]
    constant = special.gammaln(0.5 * (nu + 1)) - special.gammaln(0.5 * nu) - 0.5 * np.log(nu * np.pi) - np.log(sigma)
    return constant - 0.5 * (nu + 1) * np.log1p(np.square((y - mu) / sigma) / nu)


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """Undefined where nu is at most 2."""
    nu = p["nu"]
    return np.square(p["sigma"]) * np.where(nu > 2, nu / np.where(nu > 2, nu - 2, 1.0), np.nan) + 0 * mu


T = Family(
    name="t",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("StudentT", arguments=("nu", "sigma")),
    parameters=(Parameter("sigma"), Parameter("nu")),
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
)
