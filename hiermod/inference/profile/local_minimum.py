"""Minimising over all parameters but one, from a good start: quasi-Newton steps (Nocedal and Wright 2006, ch. 6).

Along a profile each minimum lies close to where the last ones point and the Hessian changes little, so that one or two
evaluations are enough.  The minimum may lie on the bound of a standard deviation, 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

ENOUGH = 1e-7  # predicted decrease of the deviance that is left, and subtracted: zeta is then exact to about 1e-8
DIFFERENCE = 1e-5  # step of the gradient differences that give a Hessian
LONGEST = 1.0  # of a step of x, whose unit is about one residual standard deviation
NEGATIVE = 1e-5  # an eigenvalue below -NEGATIVE * largest is negative curvature
MOST = 200  # evaluations for one minimum


class Function(Protocol):
    """(phi, x) -> value, d / dphi, d / dx; x stays at or above ``bound``."""

    bound: np.ndarray

    def __call__(self, phi: float, x: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Value and derivatives; (inf, nan, nan) where there are none."""


@dataclass(frozen=True, eq=False)
class Descent:
    """A minimum over x: its value, the slope along phi there, and the Hessian gathered on the way."""

    x: np.ndarray
    value: float
    slope: float
    gradient: np.ndarray  # (m,) what is left of it
    hessian: np.ndarray  # (m, m)


def curvature(function: Function, phi: float, x: np.ndarray) -> np.ndarray:
    """(1 + m, 1 + m) Hessian over (phi, x) by differences of the gradient, forwards: bounds are below."""
    z = np.concatenate([[phi], x])
    _, slope, gradient = function(phi, x)
    here = np.concatenate([[slope], gradient])
    hessian = np.empty((len(z), len(z)))
    for i in range(len(z)):
        moved = z.copy()
        moved[i] += DIFFERENCE * (1.0 + abs(z[i]))
        _, slope, gradient = function(moved[0], moved[1:])
        hessian[i] = (np.concatenate([[slope], gradient]) - here) / (moved[i] - z[i])
    hessian = 0.5 * (hessian + hessian.T)
    return hessian if np.isfinite(hessian).all() else np.eye(len(z))


def descend(function: Function, phi: float, x: np.ndarray, hessian: np.ndarray) -> Descent | None:
    """The minimum over x at a fixed phi, or None when nothing finite is near the start."""
    x = np.maximum(x, function.bound)
    value, slope, gradient = function(phi, x)
    if not np.isfinite(value):
        return None
    for _ in range(MOST):
        step, left = _step(x, gradient, hessian, function.bound)
        if left < ENOUGH:
            return Descent(x, value - left, slope, gradient, hessian)
        shrink = min(1.0, LONGEST / float(np.abs(step).max()))
        for _ in range(30):
            moved = np.maximum(x + shrink * step, function.bound)
            new_value, new_slope, new_gradient = function(phi, moved)
            promised = float(gradient @ (moved - x))
            calm = abs(new_value - value) < 1e-11 * max(1.0, abs(value)) and np.abs(new_gradient).max() < 0.5 * np.abs(
                gradient
            ).max(initial=0.0)
            if new_value <= value + 1e-4 * promised or calm:
                break
            shrink *= 0.3
        else:  # nothing left but rounding
            return Descent(x, value, slope, gradient, hessian)
        hessian = _updated(hessian, moved - x, new_gradient - gradient)
        x, value, slope, gradient = moved, new_value, new_slope, new_gradient
    return Descent(x, value, slope, gradient, hessian)


def certified(function: Function, phi: float, best: Descent) -> Descent:
    """The same minimum when every direction goes up from it; else the one found by leaving the saddle."""
    for _ in range(5):
        free = best.x > function.bound
        hessian = np.array(best.hessian)
        for i in np.flatnonzero(free):
            moved = best.x.copy()
            moved[i] += DIFFERENCE * (1.0 + abs(moved[i]))
            hessian[i] = (function(phi, moved)[2] - best.gradient) / (moved[i] - best.x[i])
        if not free.any() or not np.isfinite(hessian).all():
            return best
        hessian = 0.5 * (hessian + hessian.T)
        values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
        if values[0] >= -NEGATIVE * np.abs(values).max():
            return best
        found = None
        for length in (0.03, 0.1, 0.3, 1.0, -0.03, -0.1, -0.3, -1.0):
            moved = best.x.copy()
            moved[free] += length * vectors[:, 0]
            value = function(phi, np.maximum(moved, function.bound))[0]
            if value < (best.value if found is None else found[0]) - 1e-9:
                found = (value, moved)
        lower = None if found is None else descend(function, phi, found[1], _positive(hessian))
        if lower is None or not lower.value < best.value - 1e-9:
            return best
        best = replace(lower)
    return best


def _step(x: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, float]:
    """Newton's step over the coordinates that are not held at their bound, and the decrease it promises."""
    free = (x > bound) | (gradient < 0)
    step = np.zeros(len(x))
    if not free.any():
        return step, 0.0
    values, vectors = np.linalg.eigh(hessian if free.all() else hessian[np.ix_(free, free)])
    size = np.abs(values)
    along = vectors.T @ gradient[free] / np.maximum(size, 1e-9 * float(size.max()) + 1e-300)
    step[free] = -vectors @ along
    return step, -0.5 * float(gradient @ step)


def _positive(hessian: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(hessian)
    return (vectors * np.maximum(np.abs(values), 1e-6 * np.abs(values).max())) @ vectors.T


def _updated(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """BFGS where the curvature along the step is positive; else what was."""
    curved, product = float(step @ change), hessian @ step
    inner = float(step @ product)
    if not (curved > 1e-10 * np.sqrt(float(step @ step) * float(change @ change)) and inner > 0):
        return hessian
    return hessian + np.outer(change, change) / curved - np.outer(product, product) / inner
