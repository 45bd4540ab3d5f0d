"""Independence Metropolis-Hastings: equal-weight draws from proposals that do not depend on where the chain is.

Tierney (1994, Annals of Statistics 22, 1701-1762), section 2.3.3: accept a proposal with probability min(1, w' / w),
w = target / proposal.  Each chain has its own proposals, so R-hat and ESS mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accepted(log_ratio: np.ndarray, start: int, rng: np.random.Generator) -> np.ndarray:
    """Which proposal the chain is at after each step, (n,).  log_ratio (n,): log target - log proposal of each.

    start: the proposals before this one only decide where the chain begins (drawn by their weights)."""
    at = choose(log_ratio[:start], rng) if start else 0
    log_u = np.log(rng.random(len(log_ratio))).tolist()
    ratios: Sequence[float] = log_ratio.tolist()
    where = np.empty(len(log_ratio), dtype=np.intp)
    where[:start] = at
    current = ratios[at]
    for i in range(start, len(ratios)):
        if log_u[i] < ratios[i] - current:
            at, current = i, ratios[i]
        where[i] = at
    return where


def step_on(log_ratio: np.ndarray, current: float, rng: np.random.Generator) -> tuple[int | None, float]:
    """Where steps with these proposals lead from a place with the ratio ``current``: which proposal, None for staying,
    and the ratio there."""
    at: int | None = None
    log_u = np.log(rng.random(len(log_ratio))).tolist()
    for i, ratio in enumerate(log_ratio.tolist()):
        if log_u[i] < ratio - current:
            at, current = i, ratio
    return at, current


def choose(log_ratio: np.ndarray, rng: np.random.Generator) -> int:
    """One of some proposals, by their weights; any where all have weight 0."""
    weights = np.exp(log_ratio - log_ratio.max()) if np.isfinite(log_ratio).any() else np.ones(len(log_ratio))
    return int(rng.choice(len(log_ratio), p=weights / weights.sum()))
