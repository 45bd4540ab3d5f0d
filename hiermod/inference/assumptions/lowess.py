"""Locally weighted regression, the smooth of residual plots (Cleveland 1979, J. Am. Stat. Assoc. 74; R's lowess).

Local lines with tricube weights over the nearest share of points, then bisquare weights against outliers."""

from __future__ import annotations

import numpy as np

POINTS = 200  # places where lines are fitted; between them the curve is interpolated, as R's delta does


def lowess(x: np.ndarray, y: np.ndarray, share: float = 2 / 3, robust: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth y (n,) against x (n,): the distinct places, ascending, and the curve there.

    share: of the points that each line sees; robust: rounds of downweighting.  With fewer than three distinct x the
    means there."""
    order = np.argsort(x, kind="stable")
    x, y = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    places = np.unique(x)
    if len(places) < 3:
        return places, np.array([y[x == place].mean() for place in places])
    if len(places) > POINTS:
        places = np.unique(np.quantile(x, np.linspace(0, 1, POINTS), method="nearest"))
    n = len(x)
    nearest = min(n, max(2, int(share * n + 1e-7)))
    weights = np.ones(n)
    curve = _lines(x, y, weights, places, nearest)
    for _ in range(robust):
        residual = np.abs(y - np.interp(x, places, curve))
        scale = 6.0 * float(np.median(residual))
        if scale <= 1e-9 * float(np.abs(y).max(initial=0.0)):
            break
        ratio = residual / scale
        weights = np.where(ratio < 0.999, np.square(1.0 - np.square(np.minimum(ratio, 1.0))), 0.0)
        weights[ratio <= 0.001] = 1.0
        curve = _lines(x, y, weights, places, nearest)
    return places, curve


def _lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray, places: np.ndarray, nearest: int) -> np.ndarray:
    """The local line's value at each place; x ascending."""
    result = np.empty(len(places))
    spread = x[-1] - x[0]
    left = 0
    for i, place in enumerate(places):
        while left + nearest < len(x) and place - x[left] > x[left + nearest] - place:
            left += 1
        width = max(place - x[left], x[left + nearest - 1] - place)
        start = int(np.searchsorted(x, place - width, side="left"))  # ties of the farthest point count too
        stop = int(np.searchsorted(x, place + width, side="right"))
        here, there = x[start:stop], y[start:stop]
        distance = np.abs(here - place)
        tricube = np.where(distance <= 0.001 * width, 1.0, (1.0 - np.minimum(distance / width, 1.0) ** 3) ** 3)
        w = np.where(distance <= 0.999 * width, tricube, 0.0) * weights[start:stop]
        total = w.sum()
        if total <= 0:
            result[i] = np.median(there)
            continue
        w = w / total
        centre = float(w @ here)
        variance = float(w @ np.square(here - centre))
        if np.sqrt(variance) > 0.001 * spread:
            w = w * (1.0 + (place - centre) * (here - centre) / variance)
        result[i] = float(w @ there)
    return result
