"""Families with a parameter of their own for zeros, made of a family without: zero-inflated counts, and hurdles.

Zero-inflated: psi is the share of rows that are *not* structural zeros.  Hurdle: the probability of a response above 0
(PyMC's docs of ZeroInflatedPoisson and HurdlePoisson); what is above has the law of the base without its zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import expm1, logaddexp, where
from scipy.special import expit

from hiermod.families.elementary import log1mexp
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


class WithZeros:
    """The distribution of a response that is 0 with probability 1 - psi, else has ``base``'s (scipy's, frozen)."""

    def __init__(self, base: Any, psi: np.ndarray) -> None:
        self.base, self.psi, self.dist = base, psi, base.dist

    def cdf(self, y: np.ndarray) -> np.ndarray:
        """P(Y <= y)."""
        return np.where(y >= 0, 1 - self.psi + self.psi * self.base.cdf(y), 0.0)

    def ppf(self, q: float) -> np.ndarray:
        """The smallest y with P(Y <= y) >= q."""
        counted = np.asarray((q - 1 + self.psi) / self.psi)
        return np.where(counted > 0, self.base.ppf(np.clip(counted, 0.0, 1.0)), 0.0)


class AboveHurdle(WithZeros):
    """The same, where what is not 0 has ``base``'s distribution without its 0."""

    def cdf(self, y: np.ndarray) -> np.ndarray:
        """P(Y <= y)."""
        zero = self.base.cdf(0)
        above_zero = np.where(zero < 1, (self.base.cdf(y) - zero) / np.where(zero < 1, 1 - zero, 1.0), 1.0 * (y >= 1))
        return np.where(y >= 0, 1 - self.psi + self.psi * above_zero, 0.0)

    def ppf(self, q: float) -> np.ndarray:
        """The smallest y with P(Y <= y) >= q."""
        zero, above_zero = self.base.cdf(0), np.asarray((q - 1 + self.psi) / self.psi)
        found = self.base.ppf(np.clip(zero + (1 - zero) * above_zero, 0.0, 1.0))
        return np.where(above_zero > 0, np.maximum(found, 1.0), 0.0)


# --- derivatives of rows: of a function of log f(0), from those of log f(0) (c1, c2, c3 by eta) ----------------------
# By log f(0) they are p, p r and p r s.  Zero-inflated rows, log(1 - psi + psi f(0)): p is the probability that a 0 was
# counted, r = 1 - p, s = 1 - 2 p.  Rows above a hurdle, -log(1 - f(0)): p = f(0) / (1 - f(0)), r = 1 + p, s = 1 + 2 p.
# Products of p come first, since above a hurdle p overflows where c1 vanishes.
def through(p: Any, r: Any, s: Any, c1: Any, c2: Any, c3: Any) -> Any:
    """Its first, second and third derivative by eta."""
    return p * c1, p * c2 + (p * c1) * (r * c1), p * c3 + 3.0 * (p * c1) * (r * c2) + (p * c1) * (r * c1) * (s * c1)


def through_auxiliary(p: Any, r: Any, s: Any, c1: Any, c2: Any, a: Any, a1: Any, a2: Any) -> Any:
    """Its derivative by a parameter of the base, and that of its first and second derivative by eta.

    a, a1, a2: the same of log f(0)."""
    both = p * a2 + (p * c2) * (r * a) + 2.0 * (p * c1) * (r * a1) + (p * c1) * (r * c1) * (s * a)
    return p * a, p * a1 + (p * c1) * (r * a), both


def counted(v: Any, log_zero: Any) -> Any:
    """p, r and s of a zero-inflated row, v = logit psi."""
    return expit(v + log_zero), expit(-v - log_zero), expit(-v - log_zero) - expit(v + log_zero)


def inflated_density(y: Any, v: Any, base: Any, log_zero: Any) -> Any:
    """log psi f(y), and log(1 - psi + psi f(0)) at 0."""
    return where(y == 0, logaddexp(0.0, v + log_zero) - logaddexp(0.0, v), base - logaddexp(0.0, -v))


def above(log_zero: Any) -> Any:
    """p, r and s above a hurdle."""
    p = 1.0 / expm1(-log_zero)
    return p, 1.0 + p, 1.0 + 2.0 * p


def hurdle_density(y: Any, v: Any, base: Any, log_zero: Any) -> Any:
    """log psi f(y) / (1 - f(0)), and log(1 - psi) at 0."""
    return where(y == 0, -logaddexp(0.0, v), base - logaddexp(0.0, -v) - log1mexp(-log_zero))


FROM_ZERO = Support(lambda y: y < 0, "for numbers from 0 up", "Choose 'gaussian' or 't'")
