"""Where the bulk of a density is, when its mode is far from it: walkers by elliptical slice sampling.

Generalised elliptical slice sampling (Nishihara, Murray and Adams 2014, JMLR 15, 2087-2112): each walker moves on an
ellipse through its place, drawn from a t distribution like the target, to a point above a random height.  No step sizes
and no gradients.  The walkers only show proposals where to go: no draw of theirs is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hiermod.engines.marginal.boundary_transform import choose_warp
from hiermod.engines.marginal.proposal import Mixture, adapt, weigh

WALKERS, MOVES = 100, 60  # per round; a step takes about three moves
ROUNDS = 8
CHECKED = 500  # proposals that show how good the fitted t is
GOOD = 0.2  # importance efficiency at which the proposals can adapt themselves


def find_bulk(target: Callable[[np.ndarray], np.ndarray], start: Mixture, rng: np.random.Generator) -> Mixture:
    """One t with the location, the scale and the warp of walkers that began at draws from ``start``.

    target: (n, d) -> (n,) log density."""
    mixture, sample = start, weigh(start, target, CHECKED, rng)
    chosen = rng.choice(CHECKED, WALKERS, p=sample.weights)
    phi = sample.x[chosen]
    for _ in range(ROUNDS):
        if sample.efficiency > GOOD:
            break
        visited = move(target, mixture, phi, rng)
        phi, late = visited[-1], visited[len(visited) // 2 :].reshape(-1, phi.shape[1])
        even = np.full(len(late), 1 / len(late))
        warp = choose_warp(late, even)
        x = warp.to_x(late)
        root = np.linalg.cholesky(np.cov(x.T) + 1e-9 * np.eye(x.shape[1]))
        mixture = adapt(Mixture(np.ones(1), x.mean(axis=0)[None], root[None], warp), late, even)
        sample = weigh(mixture, target, CHECKED, rng)
    return mixture


def move(
    target: Callable[[np.ndarray], np.ndarray], mixture: Mixture, phi: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Places (MOVES, W, d) of walkers that start at phi (W, d), on the ellipses of a t with the mixture's moments.

    Walkers do not wait for each other: one that has found its next point begins another ellipse."""
    mean, cov = mixture.moments()
    root, df, warp = np.linalg.cholesky(cov), mixture.df, mixture.warp
    W, d = phi.shape

    def log_ratio(z: np.ndarray) -> np.ndarray:
        x = mean + z @ root.T
        return target(warp.to_phi(x)) + warp.log_slope(x) + (df + d) / 2 * np.log1p(np.square(z).sum(axis=1) / df)

    z = np.linalg.solve(root, (warp.to_x(phi) - mean).T).T
    level = log_ratio(z)
    other, height = np.empty((W, d)), np.empty(W)
    angle, low, high = np.empty(W), np.empty(W), np.empty(W)
    fresh = np.ones(W, dtype=bool)
    visited = np.empty((MOVES, W, d))
    for i in range(MOVES):
        count = int(fresh.sum())
        stretch = np.sqrt((df + np.square(z[fresh]).sum(axis=1)) / rng.chisquare(df + d, count))
        other[fresh] = rng.standard_normal((count, d)) * stretch[:, None]
        height[fresh] = level[fresh] + np.log(rng.random(count))
        angle[fresh] = rng.uniform(0, 2 * np.pi, count)
        low[fresh], high[fresh] = angle[fresh] - 2 * np.pi, angle[fresh]
        proposed = z * np.cos(angle)[:, None] + other * np.sin(angle)[:, None]
        reached = log_ratio(proposed)
        fresh = reached > height
        z[fresh], level[fresh] = proposed[fresh], reached[fresh]
        below = angle < 0  # the bracket shrinks towards 0, where the walker is
        low, high = np.where(below, angle, low), np.where(below, high, angle)
        angle = rng.uniform(low, high)
        visited[i] = z
    return warp.to_phi(mean + visited @ root.T)
