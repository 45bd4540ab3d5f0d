"""Points spread over a function's arguments, and which of them mark a basin: those lower than all their neighbours.

The first step of topographical global optimisation (Törn and Viitanen 1994, "Topographical global optimization using
pre-sampled points", J. Global Optim. 5, 267-276).  What is searched from such points, and how, is the caller's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def even_points(count: int, d: int) -> np.ndarray:
    """The first ``count`` of Sobol's points in the open unit cube, (count, d); evenest where count is a power of 2."""
    from scipy.stats import qmc

    power = int(np.ceil(np.log2(count)))
    points = np.asarray(qmc.Sobol(d, scramble=False).random_base2(power))[:count] + 0.5 / 2**power
    points.setflags(write=False)
    return points


def nearest_points(places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest other points of each of places (S, d): indices (S, k), and how far they reach, squared (S,)."""
    squares = np.einsum("si,si->s", places, places)
    distance = squares[:, None] + squares - 2.0 * (places @ places.T)
    np.fill_diagonal(distance, np.inf)
    k = min(k, len(places) - 1)
    nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
    return nearest, np.take_along_axis(distance, nearest, axis=1).max(axis=1)


def lowest_points(level: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Indices of the points whose level (S,) is finite and no neighbour's is lower, lowest first."""
    found = np.flatnonzero(np.isfinite(level) & (level <= level[nearest].min(axis=1)))
    return found[np.argsort(level[found], kind="stable")]
