"""Families with a parameter of their own for zeros, made of a family without: zero-inflated counts, and hurdles.

Zero-inflated: psi is the share of rows that are *not* structural zeros.  Hurdle: the probability of a response above 0
(PyMC's docs of ZeroInflatedPoisson and HurdlePoisson); what is above has the law of the base without its zeros."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hiermod.families.family import Density, Draw, Further, Moment, Parameter, Support

PSI = Parameter("psi", link="logit", support="share", prior="Beta(alpha=2, beta=2)")
LogZero = Callable[[np.ndarray, Further], np.ndarray]


def drawn_or_zero(draw: Draw) -> Draw:
    """The draw with probability psi, else 0."""
    return lambda mean, further, rng: np.where(rng.random(mean.shape) < further["psi"], draw(mean, further, rng), 0.0)


def inflated_logpmf(base: Density) -> Density:
    """psi f(y), and 1 - psi more at 0."""

    def logs(y: np.ndarray, mean: np.ndarray, p: Further) -> np.ndarray:
        with np.errstate(divide="ignore"):
            counted = np.log(p["psi"]) + base(y, mean, p)
            return np.where(y == 0, np.logaddexp(np.log1p(-p["psi"]), counted), counted)

    return logs


def inflated_variance(base: Moment) -> Moment:
    """Of a count that is 0 with probability 1 - psi."""

    def variance(mean: np.ndarray, p: Further) -> np.ndarray:
        return p["psi"] * (base(mean, p) + np.square(mean)) - np.square(p["psi"] * mean)

    return variance


def hurdle_logpmf(base: Density, log_zero: LogZero | None = None) -> Density:
    """1 - psi at 0, psi f(y) / (1 - f(0)) above; log_zero: log f(0), None for continuous families, which have none."""

    def logs(y: np.ndarray, mean: np.ndarray, p: Further) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.log(p["psi"]) + base(y, mean, p)
            if log_zero is not None:
                above = above - np.log(-np.expm1(log_zero(mean, p)))
            return np.where(y == 0, np.log1p(-p["psi"]), above)

    return logs


def hurdle_mean(log_zero: LogZero) -> Moment:
    """psi times the mean of a count above 0."""

    def mean(location: np.ndarray, p: Further) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            above = -np.expm1(log_zero(location, p))
            found = np.where(above > 0, location / above, 1.0)  # a count above 0 with a mean of 0 is 1
        return found * p["psi"]

    return mean


def hurdle_variance(base: Moment, log_zero: LogZero) -> Moment:
    """Of 0 with probability 1 - psi, else of a count above 0."""
    mean_of = hurdle_mean(log_zero)

    def variance(location: np.ndarray, p: Further) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            above = -np.expm1(log_zero(location, p))
            second = np.where(above > 0, (base(location, p) + np.square(location)) / above, 1.0)
        return p["psi"] * second - np.square(mean_of(location, p))

    return variance


def drawn_above_zero(log_zero: LogZero, quantile: Callable[[np.ndarray, np.ndarray, Further], np.ndarray]) -> Draw:
    """Counts of a family without zeros, by inversion.  quantile: of a probability, the mean and the parameters."""

    def draw(mean: np.ndarray, further: Further, rng: np.random.Generator) -> np.ndarray:
        zero = np.exp(log_zero(mean, further))
        u = np.minimum(zero + (1 - zero) * rng.random(mean.shape), 1 - 1e-16)
        return np.maximum(quantile(u, mean, further), 1.0)  # a mean so small that P(0) rounds to 1

    return draw


FROM_ZERO = Support(lambda y: y < 0, "for numbers from 0 up", "Choose 'gaussian' or 't'")
