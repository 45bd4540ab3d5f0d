"""phi inside the hard bounds of its priors: a sampler with gradients would step over the ends of a Uniform.

A bounded sd is lower + (upper - lower) / (1 + exp(-s)), or lower + exp(s) without an upper bound, s without bounds:
the interval and lower-bound transforms of Stan (Reference Manual, "Constraint transforms").  phi holds log(sd)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from hiermod.engines.marginal.coordinates import Coordinates
from hiermod.priors.distributions import Distribution
from hiermod.priors.gaussian import GaussianPriors


@dataclass(frozen=True, eq=False)
class Bounds:
    """lower, upper (d,): of exp(phi); 0 and inf where phi is free."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def bounded(self) -> np.ndarray:
        """(d,) whether phi has a bound."""
        return (self.lower > 0) | np.isfinite(self.upper)

    def to_phi(self, s: np.ndarray) -> np.ndarray:
        """phi (..., d) from s (..., d)."""
        phi = s.copy()
        for i, low, high in self._each():
            phi[..., i] = _log_sd(s[..., i], low, high)
        return phi

    def to_free(self, phi: np.ndarray) -> np.ndarray:
        """s (..., d) from phi (..., d); infinite at a bound, nan outside."""
        s = phi.copy()
        with np.errstate(all="ignore"):
            for i, low, high in self._each():
                if low == 0:
                    above = -np.expm1(phi[..., i] - np.log(high))  # 1 - sd / high, with its digits
                    s[..., i] = phi[..., i] - np.log(high) - np.log(above)
                    continue
                over = np.exp(phi[..., i]) - low
                s[..., i] = np.log(over) - (np.log(high - low - over) if np.isfinite(high) else 0.0)
        return s

    def log_slope(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log |d phi / d s| (...), its gradient (..., d), and d phi / d s (..., d)."""
        total, gradient, slopes = np.zeros(s.shape[:-1]), np.zeros(s.shape), np.ones(s.shape)
        for i, low, high in self._each():
            t = s[..., i]
            share = special.expit(t) if np.isfinite(high) else 0.0
            rise = special.log_expit(t) + special.log_expit(-t) + np.log(high - low) if np.isfinite(high) else t
            log_slope = special.log_expit(-t) if low == 0 else rise - _log_sd(t, low, high)
            slopes[..., i] = np.exp(log_slope)
            gradient[..., i] = 1 - 2 * share - slopes[..., i]
            total = total + log_slope
        return total, gradient, slopes

    def _each(self) -> list[tuple[int, float, float]]:
        return [(int(i), float(self.lower[i]), float(self.upper[i])) for i in np.flatnonzero(self.bounded)]


def _log_sd(s: np.ndarray, low: float, high: float) -> np.ndarray:
    if low == 0:
        return np.log(high) + special.log_expit(s)
    if not np.isfinite(high):
        return np.logaddexp(np.log(low), s)
    return np.minimum(np.log(low + (high - low) * special.expit(s)), np.log(high))  # rounding must not step over


def bounds_of(coordinates: Coordinates, priors: GaussianPriors) -> Bounds:
    """Where the priors of sds and sigma end."""
    lower, upper = np.zeros(coordinates.d), np.full(coordinates.d, np.inf)
    for (where, _), sds in zip(coordinates.parts(), priors.sds, strict=True):
        for i, prior in zip(range(where.start, where.stop), sds, strict=False):  # one of equal ones, where all share
            lower[i], upper[i] = _support(prior)
    if coordinates.has_sigma and isinstance(priors.sigma, Distribution):
        lower[-1], upper[-1] = _support(priors.sigma)
    return Bounds(lower, upper)


def _support(prior: Distribution) -> tuple[float, float]:
    """Of the positive numbers, those that the prior allows."""
    lower, upper = prior.support
    return max(lower, 0.0), upper
