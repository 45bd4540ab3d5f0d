"""Independence Metropolis-Hastings: equal-weight draws from proposals that do not depend on where the chain is.

Tierney (1994, Annals of Statistics 22, 1701-1762), section 2.3.3: accept a proposal with probability min(1, w' / w),
w = target / proposal.  Each chain has its own proposals, so R-hat and ESS mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accepted(log_ratio: np.ndarray, start: int, rng: np.random.Generator) -> np.ndarray:
    """Which proposal the chain is at after each step, (n,).  log_ratio (n,): log target - log proposal of each proposal.

    start: the proposals before this one only decide where the chain begins (drawn by their weights)."""
    first = log_ratio[:start]
    at = start
    if start:
        weights = np.exp(first - first.max()) if np.isfinite(first).any() else np.ones(start)
        at = int(rng.choice(start, p=weights / weights.sum()))
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
