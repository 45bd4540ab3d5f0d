"""Prior information against the likelihood's, one parameter at a time.

The likelihood is taken as normal around REML's estimate with its standard error (sds on the log scale, correlations on
Fisher's), and multiplied by the prior; what a flat prior would have given is the reference.  For a Normal prior the
weight is its share of the precision, se^2 / (se^2 + prior sd^2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

EDGE = 1 - 1e-6  # a correlation beyond this is at its boundary
POINTS, ZOOMS, DEPTH = 1201, 6, 40.0  # a grid, narrowed to where the log density is within DEPTH of its maximum
LogDensity = Callable[[np.ndarray], np.ndarray]


def prior_pull(law: Any, kind: str, estimate: float, se: float) -> tuple[float, float]:
    """(weight, shift).  weight: 1 - posterior variance / variance under a flat prior, in [0, 1].  shift: how far the
    prior moves the posterior mean, in standard errors.  Both nan where REML has no estimate or standard error."""
    at, error = transformed(kind, estimate, se)
    if not (np.isfinite(at) and np.isfinite(error) and error > 0):
        return float("nan"), float("nan")

    def flat(t: np.ndarray) -> np.ndarray:
        return -0.5 * ((t - at) / error) ** 2 + _natural(kind, t)[1]

    def informed(t: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            value = flat(t) + np.asarray(law.logpdf(_natural(kind, t)[0]), dtype=float)
        return np.where(np.isfinite(value), value, -np.inf)

    with np.errstate(all="ignore"):
        inner = np.array([_transform(kind, float(law.ppf(u))) for u in (1e-6, 0.5, 1 - 1e-6)])
    ends = [at - 10 * error, at + 10 * error, *inner[np.isfinite(inner)]]
    mean, variance = _moments(informed, min(ends), max(ends))
    mean_flat, variance_flat = _moments(flat, at - 10 * error, at + 10 * error)
    return float(np.clip(1 - variance / variance_flat, 0.0, 1.0)), (mean - mean_flat) / error


def transformed(kind: str, estimate: float, se: float) -> tuple[float, float]:
    """Estimate and standard error on the scale on which the likelihood is nearest to normal; nan at a boundary."""
    if kind in ("sd", "sigma"):
        return (float(np.log(estimate)), se / estimate) if estimate > 0 else (float("nan"), float("nan"))
    if kind == "corr":
        inside = abs(estimate) < EDGE
        return (float(np.arctanh(estimate)), se / (1 - estimate**2)) if inside else (float("nan"), float("nan"))
    return estimate, se


def to_scale(kind: str, values: np.ndarray) -> np.ndarray:
    """Values on that scale: log of sds, Fisher's z of correlations."""
    if kind in ("sd", "sigma"):
        with np.errstate(divide="ignore"):
            return np.log(values)
    return np.arctanh(np.clip(values, -EDGE, EDGE)) if kind == "corr" else values


def reml_interval(kind: str, estimate: float, se: float, width: float = 1.959964) -> tuple[float, float]:
    """Estimate -+ 1.96 standard errors on that scale, taken back; nan at a boundary."""
    at, error = transformed(kind, estimate, se)
    if np.isnan(at + error):
        return float("nan"), float("nan")
    ends = _natural(kind, np.array([at - width * error, at + width * error]))[0]
    return float(ends[0]), float(ends[1])


def _transform(kind: str, x: float) -> float:
    if kind in ("sd", "sigma"):
        return float(np.log(x)) if x > 0 else float("nan")
    return float(np.arctanh(x)) if kind == "corr" else x


def _natural(kind: str, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parameter at t, and the logarithm of its derivative."""
    if kind in ("sd", "sigma"):
        return np.exp(t), t
    if kind == "corr":
        return np.tanh(t), -2 * np.logaddexp(t, -t) + 2 * np.log(2)
    return t, np.zeros_like(t)


def _moments(log_density: LogDensity, low: float, high: float) -> tuple[float, float]:
    """Mean and variance of an unnormalised density on an interval that holds it."""
    grid = np.linspace(low, high, POINTS)
    values = log_density(grid)
    for _ in range(ZOOMS):
        if not np.isfinite(values).any():
            return float("nan"), float("nan")
        inside = np.flatnonzero(values > values.max() - DEPTH)
        grid = np.linspace(grid[max(inside[0] - 1, 0)], grid[min(inside[-1] + 1, POINTS - 1)], POINTS)
        values = log_density(grid)
    weights = np.exp(values - values.max())
    weights[[0, -1]] *= 0.5
    weights /= weights.sum()
    mean = float(weights @ grid)
    return mean, float(weights @ np.square(grid - mean))
