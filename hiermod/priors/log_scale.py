"""Log densities of priors for standard deviations, as functions of the logarithm of the sd, with derivatives.

Parameters and their meaning are PyMC's.  Each function takes t = log(x) and returns log p(x) + t (the Jacobian of the
logarithm) and its derivative with respect to t; both have the shape of t."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from hiermod.priors.distributions import Distribution

Density = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _half_normal(prior: Distribution) -> Density:
    s = _scale(prior, "sigma", "tau")

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = np.exp(2 * (t - np.log(s)))
        return 0.5 * np.log(2 / np.pi) - np.log(s) - 0.5 * square + t, 1 - square

    return density


def _half_student_t(prior: Distribution) -> Density:
    nu, s = _number(prior, "nu"), _scale(prior, "sigma", "lam")
    constant = (
        np.log(2) + special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(s)
    )

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = np.exp(2 * (t - np.log(s))) / nu
        return constant - (nu + 1) / 2 * np.log1p(square) + t, 1 - (nu + 1) * square / (1 + square)

    return density


def _half_cauchy(prior: Distribution) -> Density:
    return _half_student_t(Distribution("HalfStudentT", (("nu", 1.0), ("sigma", _number(prior, "beta")))))


def _exponential(prior: Distribution) -> Density:
    lam = 1 / _number(prior, "scale") if prior.get("scale") is not None else _number(prior, "lam", 1.0)

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.exp(t)
        return np.log(lam) - lam * x + t, 1 - lam * x

    return density


def _gamma(prior: Distribution) -> Density:
    a, b = _gamma_shape(prior)

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.exp(t)
        return a * np.log(b) - special.gammaln(a) + a * t - b * x, a - b * x

    return density


def _gamma_shape(prior: Distribution) -> tuple[float, float]:
    if prior.get("mu") is not None:
        mu, sigma = _number(prior, "mu"), _number(prior, "sigma")
        return mu**2 / sigma**2, mu / sigma**2
    return _number(prior, "alpha"), _number(prior, "beta", 1.0)


def _inverse_gamma(prior: Distribution) -> Density:
    if prior.get("mu") is not None:
        mu, sigma = _number(prior, "mu"), _number(prior, "sigma")
        a, b = mu**2 / sigma**2 + 2, mu * (mu**2 / sigma**2 + 1)
    else:
        a, b = _number(prior, "alpha"), _number(prior, "beta", 1.0)

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inverse = np.exp(-t)
        return a * np.log(b) - special.gammaln(a) - a * t - b * inverse, -a + b * inverse

    return density


def _log_normal(prior: Distribution) -> Density:
    mu, s = _number(prior, "mu", 0.0), _scale(prior, "sigma", "tau")

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (t - mu) / s
        return -0.5 * np.log(2 * np.pi) - np.log(s) - 0.5 * z**2, -z / s

    return density


def _uniform(prior: Distribution) -> Density:
    lower, upper = _number(prior, "lower", 0.0), _number(prior, "upper", 1.0)
    return _within(lambda t: (t - np.log(upper - lower), np.ones_like(t)), lower, upper)


def _truncated_normal(prior: Distribution) -> Density:
    mu, s = _number(prior, "mu", 0.0), _scale(prior, "sigma", "tau")
    lower, upper = _number(prior, "lower", -np.inf), _number(prior, "upper", np.inf)
    a, b = (lower - mu) / s, (upper - mu) / s
    if a > 0:  # both bounds in the upper tail: the difference is taken where the digits are
        a, b = -b, -a
    mass = special.log_ndtr(b) + np.log1p(-np.exp(special.log_ndtr(a) - special.log_ndtr(b)))
    constant = -0.5 * np.log(2 * np.pi) - np.log(s) - mass

    def inside(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.exp(t)
        z = (x - mu) / s
        return constant - 0.5 * z**2 + t, 1 - z * x / s

    return _within(inside, lower, upper)


def _within(inside: Density, lower: float, upper: float) -> Density:
    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = inside(t)
        allowed = (t >= (np.log(lower) if lower > 0 else -np.inf)) & (t <= np.log(upper))
        return np.where(allowed, value, -np.inf), slope

    return density


def _number(prior: Distribution, name: str, default: float | None = None) -> float:
    value = prior.get(name)
    if isinstance(value, float):
        return value
    return float("nan") if default is None else default


def _scale(prior: Distribution, name: str, precision: str) -> float:
    if prior.get(precision) is not None:
        return _number(prior, precision) ** -0.5
    return _number(prior, name, 1.0)


KINDS: dict[str, Callable[[Distribution], Density]] = {
    "HalfNormal": _half_normal,
    "HalfStudentT": _half_student_t,
    "HalfCauchy": _half_cauchy,
    "Exponential": _exponential,
    "Gamma": _gamma,
    "InverseGamma": _inverse_gamma,
    "LogNormal": _log_normal,
    "Uniform": _uniform,
    "TruncatedNormal": _truncated_normal,
}


def log_scale_density(prior: Distribution) -> Density | None:
    """The density of log(sd) under ``prior``; None for a distribution that is not among KINDS or lacks an argument."""
    if prior.name not in KINDS or prior.nested:
        return None
    density = KINDS[prior.name](prior)
    at_one = density(np.array([np.log(_inside(prior))]))[0]
    return density if np.isfinite(at_one).all() else None


def _inside(prior: Distribution) -> float:
    """A point of positive density."""
    lower, upper = max(_number(prior, "lower", 0.0), 0.0), _number(prior, "upper", np.inf)
    if not np.isfinite(upper):
        return lower + 1.0
    return (lower + upper) / 2
