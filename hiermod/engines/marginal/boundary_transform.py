"""Coordinates in which the logarithm of a group sd that may be 0 looks Normal, as its proposals are.

Near the boundary p(t) falls like exp(t), t = log sd: with t = c + T(x), T' = RHO + (sqrt(x^2 + 1) - x) / 2, that tail
is Gaussian in x (t ~ -x^2 / 2), while far to the right, where T' is RHO, a tail keeps its weight.  A monotone change of
one variable, as in Jones and Pewsey (2009, Biometrika 96, 761-780); with c far to the left only the scale changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RHO = 0.2
LEAST_GAIN = 0.02  # nats of log density in one coordinate, below which it stays as it is
CENTRES = np.arange(-6.0, 5.1, 0.5)  # of c, from the mean of t
BINS, FARTHEST = 200, 5e-4  # of a histogram, and the share at either end that it does not tell apart
NEWTON = 2  # steps to full precision from the table's four digits or more
TABLE_X = np.concatenate([np.linspace(-60, -4, 400), np.linspace(-3.99, 8, 1200), np.linspace(8.1, 300, 100)])


def _forward(x: np.ndarray) -> np.ndarray:
    """T(x): the integral of ``_slope``."""
    falling = _falling(x)
    return RHO * x + 0.25 * (x * falling - np.log(falling))  # arsinh(x) = -log(sqrt(x^2 + 1) - x)


def _falling(x: np.ndarray) -> np.ndarray:
    """sqrt(x^2 + 1) - x, without the loss of digits that the difference has for large x."""
    size = np.abs(x)
    sum_ = np.sqrt(x * x + 1) + size
    return np.where(x > 0, 1 / sum_, sum_)


def _slope(x: np.ndarray) -> np.ndarray:
    return RHO + 0.5 * _falling(x)


TABLE_T = _forward(TABLE_X)


def _inverse(t: np.ndarray) -> np.ndarray:
    """x with T(x) = t: from a table, each of Newton's steps doubling the digits."""
    x = np.interp(t, TABLE_T, TABLE_X)
    x = np.where(t < TABLE_T[0], RHO - np.sqrt(np.maximum(RHO**2 - 2 * t, 0.0)), x)
    x = np.where(t > TABLE_T[-1], TABLE_X[-1] + (t - TABLE_T[-1]) / RHO, x)
    for _ in range(NEWTON):
        falling = _falling(x)
        x = x - (RHO * x + 0.25 * (x * falling - np.log(falling)) - t) / (RHO + 0.5 * falling)
    return x


@dataclass(frozen=True, eq=False)
class Warp:
    """centre (d,): c of each coordinate, nan where phi is x itself."""

    centre: np.ndarray

    @property
    def bent(self) -> np.ndarray:
        """Which coordinates are changed."""
        return np.flatnonzero(~np.isnan(self.centre))

    def to_phi(self, x: np.ndarray) -> np.ndarray:
        """phi (..., d) from x (..., d)."""
        at = self.bent
        if not len(at):
            return x
        phi = x.copy()
        phi[..., at] = self.centre[at] + _forward(x[..., at])
        return phi

    def to_x(self, phi: np.ndarray) -> np.ndarray:
        """x (..., d) from phi (..., d)."""
        at = self.bent
        if not len(at):
            return phi
        x = phi.copy()
        x[..., at] = _inverse(phi[..., at] - self.centre[at])
        return x

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """d phi / d x (..., d)."""
        slopes = np.ones(x.shape)
        slopes[..., self.bent] = _slope(x[..., self.bent])
        return slopes

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """log |d phi / d x| (...)."""
        return np.log(_slope(x[..., self.bent])).sum(axis=-1)

    def log_slope_gradient(self, x: np.ndarray) -> np.ndarray:
        """Its gradient (..., d)."""
        gradient = np.zeros(x.shape)
        part = x[..., self.bent]
        gradient[..., self.bent] = 0.5 * (part / np.sqrt(part**2 + 1) - 1) / _slope(part)
        return gradient


def identity(d: int) -> Warp:
    """No coordinate changed."""
    return Warp(np.full(d, np.nan))


def best_centre(t: np.ndarray, weights: np.ndarray) -> float:
    """The c with which a sample t (n,), weights (n,) summing to 1, is closest to a Normal in x; nan if none helps.

    Closest: the largest mean log density of the Normal with its moments, the change of variable included."""
    mean = weights @ t
    spread = weights @ (t - mean) ** 2
    if not spread > 0:
        return np.nan
    centres = mean + CENTRES
    x = np.interp(t[:, None] - centres, TABLE_T, TABLE_X)
    variances = weights @ (x - weights @ x) ** 2
    gain = 0.5 * np.log(spread / variances) - weights @ np.log(_slope(x))
    best = int(gain.argmax())
    return float(centres[best]) if gain[best] > LEAST_GAIN else np.nan


def choose_warp(x: np.ndarray, weights: np.ndarray) -> Warp:
    """The warp of each coordinate of a weighted sample (n, d), from histograms of all but its farthest points."""
    found = np.full(x.shape[1], np.nan)
    for i, t in enumerate(x.T):
        order = np.argsort(t)
        below = np.cumsum(weights[order])
        ends = t[order[np.searchsorted(below, [FARTHEST, 1 - FARTHEST])]]
        counts, edges = np.histogram(np.clip(t, *ends), BINS, weights=weights)
        filled = counts > 0
        found[i] = best_centre(((edges[1:] + edges[:-1]) / 2)[filled], counts[filled] / counts.sum())
    return Warp(found)
