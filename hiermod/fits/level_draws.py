"""Posterior of what every level of a grouping factor has: its effects, or its coefficients (common + group).

Estimates and standard deviations average the law of each draw where draws of the effects were not made (Gelfand and
Smith 1990, JASA 85, 398-409, section 2.3): no noise of their own.  Intervals are quantiles of draws, part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.posterior import Draws, Posterior
from hiermod.fits.tables import effects_frame
from hiermod.formula.design import Block, Design

Record = Posterior | Draws


def level_table(
    design: Design, record: Record, blocks: Sequence[Block], terms: Sequence[str], level: float, fixed: bool = True
) -> pd.DataFrame:
    """``ranef``'s columns for the levels of the blocks of one factor; with ``fixed`` common coefficients are added."""
    at = [(1 - level) / 2, (1 + level) / 2]
    mine = [term for term in terms if any(term in block.labels for block in blocks)]
    found = []
    for part in record.level_parts(design.blocks.index(blocks[0])):
        draws = _sum(design, record, blocks, mine, fixed, partial(record.effects_of, levels=part))
        mean, sd = level_moments(design, record, blocks, mine, part, fixed)
        found.append(np.stack([mean, sd, *np.quantile(draws, at, axis=0)]))
    of_levels = np.concatenate(found, axis=1)  # (4, J, terms that differ between levels)
    columns = np.empty((4, of_levels.shape[1], len(terms)))
    for t, term in enumerate(terms):
        if term in mine:
            columns[..., t] = of_levels[..., mine.index(term)]
        else:  # the same for every level
            beta = _common(design, record, term)
            columns[..., t] = np.array([beta.mean(), beta.std(ddof=1), *np.quantile(beta, at)])[:, None]
    return effects_frame(blocks[0].factor, blocks[0].levels, terms, *columns)


def level_moments(
    design: Design,
    record: Record,
    blocks: Sequence[Block],
    terms: Sequence[str],
    part: Any = slice(None),
    fixed: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and sds (levels, terms) of some levels; every term is one of the blocks'."""
    moments = {design.blocks.index(block): record.effect_moments(design.blocks.index(block), part) for block in blocks}
    mean = _sum(design, record, blocks, terms, fixed, lambda i: moments[i][0])
    variance = mean.var(axis=0, ddof=1)
    for block in blocks:
        spread = moments[design.blocks.index(block)][1]
        if isinstance(spread, np.ndarray):
            for own, label in enumerate(block.labels):
                variance[:, list(terms).index(label)] += spread[..., own].mean(axis=0)
    return mean.mean(axis=0), np.sqrt(variance)


def _sum(
    design: Design,
    record: Record,
    blocks: Sequence[Block],
    terms: Sequence[str],
    fixed: bool,
    values: Callable[[int], np.ndarray],
) -> np.ndarray:
    """(draws, levels, terms) from values(i) (draws, levels, k) of the blocks, common coefficients added where asked."""
    parts = [values(design.blocks.index(block)) for block in blocks]
    columns = {
        label: own[..., k] for block, own in zip(blocks, parts, strict=True) for k, label in enumerate(block.labels)
    }
    return np.stack(
        [
            columns[term] + _common(design, record, term)[:, None] if fixed and term in design.common else columns[term]
            for term in terms
        ],
        axis=-1,
    )


def _common(design: Design, record: Record, term: str) -> np.ndarray:
    """Draws of one common coefficient, chain after chain."""
    return record.beta[..., design.common.index(term)].reshape(-1)
