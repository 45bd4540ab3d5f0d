"""Thresholds of an ordinal response under their prior: independent laws, restricted to ascending values.

That restriction is what PyMC's ordered transform makes of a prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hiermod.priors.distributions import Distribution, scipy_or_none

CELLS = 4000  # quantiles of the laws at which their common range is cut


def threshold_laws(law: Distribution, count: int) -> tuple[Distribution, ...]:
    """The law of each of ``count`` thresholds: those of a list, or the same for all."""
    several = any(isinstance(value, tuple) for _, value in law.args)
    return tuple(law.column(k) if several else law for k in range(count))


def ascending_start(law: Distribution, count: int) -> np.ndarray | None:
    """(count,) ascending quantiles where the medians do not ascend; None where they do, or there are no quantiles."""
    laws = [scipy_or_none(one) for one in threshold_laws(law, count)]
    if any(one is None for one in laws) or (np.diff([one.ppf(0.5) for one in laws]) > 0).all():
        return None
    return (
        np.maximum.accumulate([one.ppf((k + 1) / (count + 1)) for k, one in enumerate(laws)]) + np.arange(count) * 1e-3
    )


def ascending_draws(laws: Sequence[Any], draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, m) independent draws from m scipy distributions, given that they are ascending.

    The range is cut into cells at quantiles of all laws, and the cells of the thresholds are a Markov chain, drawn
    exactly from the first to the last; those that share a cell are drawn each from its law there, and sorted.  A cell
    has at most m / CELLS of a law's mass, so that what this leaves out is far below what draws can show."""
    levels = np.linspace(0.0, 1.0, max(CELLS // len(laws), 50))
    ends = np.unique(np.concatenate([law.ppf(levels) for law in laws]))
    below = np.stack([law.cdf(ends) for law in laws])
    mass = np.diff(below, axis=1)
    # later[k, c]: chance, up to a factor, of ascending thresholds after the k-th in cell c; half for one in the same
    later = np.ones_like(mass)
    for k in range(len(laws) - 2, -1, -1):
        weight = mass[k + 1] * later[k + 1]
        after = weight[::-1].cumsum()[::-1] - 0.5 * weight
        later[k] = after / after.max()
    cell = np.zeros(draws, dtype=int)
    found = np.empty((draws, len(laws)))
    for k in range(len(laws)):
        weight = mass[k] * later[k]
        total = np.concatenate([[0.0], weight.cumsum()])
        first = total[cell] + 0.5 * weight[cell] if k else 0.0  # half of the cell where the one before is
        at = first + rng.random(draws) * (total[-1] - first)
        cell = np.clip(np.searchsorted(total, at, side="right") - 1, cell, len(weight) - 1)
        found[:, k] = laws[k].ppf(rng.uniform(below[k, cell], below[k, cell + 1]))
    return np.sort(found, axis=1)
