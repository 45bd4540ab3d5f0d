"""What data look like in a few numbers, for observed and simulated responses alike: level, spread, groups, slopes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hiermod.formula.design import Block, Design

Summaries = dict[str, Callable[[np.ndarray], np.ndarray]]  # name -> (m, n) responses to (m,) numbers
AT_LEAST_ZERO = ("sd", "range")  # words that begin the names of those which cannot be negative


def data_summaries(design: Design) -> Summaries:
    """mean, sd, range; per grouping factor the sd of its levels' means; per slope the steepest one within a level.

    Counts out of trials are taken as proportions.  Names: ``mean``, ``sd``, ``range``, ``sd between Subject``,
    ``steepest Days within Subject`` (the largest least-squares slope in absolute value)."""
    out: Summaries = {
        "mean": lambda y: y.mean(axis=1),
        "sd": lambda y: y.std(axis=1, ddof=1),
        "range": lambda y: np.ptp(y, axis=1),
    }
    factors: dict[str, Block] = {}
    for block in design.blocks:
        factors.setdefault(block.factor, block)
    for factor, block in factors.items():
        if len(block.levels) > 1:
            out[f"sd between {factor}"] = _between(block)
    for block in design.blocks:
        for label, x in zip(block.labels, block.values.T, strict=True):
            slope = None if label == "Intercept" else _steepest(block, x)
            if slope is not None:
                out[f"steepest {label} within {block.factor}"] = slope
    return out


def summarise(y: np.ndarray, design: Design, summaries: Summaries) -> dict[str, np.ndarray]:
    """Each summary of responses (m, n): (m,) numbers."""
    values = y if design.trials is None else y / design.trials
    return {name: np.asarray(function(values), dtype=float) for name, function in summaries.items()}


def at_least_zero(name: str) -> bool:
    """Whether this summary is a size: a spread, or an absolute slope."""
    return name.startswith((*AT_LEAST_ZERO, "steepest"))


def _sums(block: Block) -> Callable[[np.ndarray], np.ndarray]:
    """(m, n) -> (m, J): sums within levels that have rows."""
    order = np.argsort(block.codes, kind="stable")
    starts = np.flatnonzero(np.diff(block.codes[order], prepend=-1))
    return lambda y: np.add.reduceat(y[:, order], starts, axis=1)


def _between(block: Block) -> Callable[[np.ndarray], np.ndarray]:
    sums = _sums(block)
    sizes = sums(np.ones((1, len(block.codes))))
    return lambda y: (sums(y) / sizes).std(axis=1, ddof=1)


def _steepest(block: Block, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """None where x does not vary within any level."""
    sums = _sums(block)
    sizes = sums(np.ones((1, len(x))))[0]
    present = np.unique(block.codes)
    centre = np.zeros(len(block.levels))
    centre[present] = sums(x[None])[0] / sizes
    away = x - centre[block.codes]
    squares = sums(np.square(away)[None])[0]
    varies = squares > 1e-12 * max(float(np.square(x).sum()), 1e-300)
    if not varies.any():
        return None
    return lambda y: np.abs(sums(y * away)[:, varies] / squares[varies]).max(axis=1)
