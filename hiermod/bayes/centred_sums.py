"""What centred group effects are sampled together with: the part of the common predictors that each level has.

Hierarchical centring (Gelfand, Sahu and Carlin 1995, Biometrika 82, 479-488) samples a group's own intercept and
slopes, beta_c + b_j.  A predictor that describes the levels (the size of a school) belongs to them too: the school's
intercept is beta_0 + gamma size_j + b_j, the mean of b_j's conditional prior, or gamma and b would move against each
other.  With a slope, the interaction of its variable and such a predictor is the part of each group's slope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hiermod.formula.design import Block, Design

Shares = dict[int, np.ndarray]  # common column -> (J,) what one unit of its coefficient adds to each level's effect


def shares(design: Design, blocks: Sequence[Block], centred: Mapping[str, float]) -> dict[tuple[str, str], Shares]:
    """(factor, effect) -> the common columns sampled in its sum, each column in one sum.

    Where several could have a column, it is the effect of the factor that leaves its coefficient least known (largest
    number in ``centred``: the sd of the mean of its effects), and of these the one of the same name."""
    found: dict[tuple[str, str], Shares] = {}
    for c, name in enumerate(design.common):
        best = (-np.inf, False)
        chosen: tuple[tuple[str, str], np.ndarray] | None = None
        for block in (one for one in blocks if one.factor in centred):
            for i, label in enumerate(block.labels):
                rank = (centred[block.factor], label == name)
                if rank > best and (share := _share(design.X[:, c], block, block.values[:, i])) is not None:
                    best, chosen = rank, ((block.factor, label), share)
        if chosen is not None:
            found.setdefault(chosen[0], {})[c] = chosen[1]
    return found


def _share(column: np.ndarray, block: Block, values: np.ndarray) -> np.ndarray | None:
    """(J,) z with column = z[level] * values in every row; None where there is no such z."""
    seen = values != 0
    if column[~seen].any():
        return None
    z = np.zeros(len(block.levels))
    z[block.codes[seen]] = column[seen] / values[seen]
    return z if np.allclose(z[block.codes] * values, column, rtol=1e-9, atol=0.0) else None


def sum_of(graph: Any, design: Design, parts: Shares, order: np.ndarray, center_predictors: bool) -> Any:
    """The common part of each level's effect, a scalar where it is the same for all, else (J,) in the graph's order.

    order: the Design's number of each of the graph's levels.  Bambi's intercept is that at the predictors' means."""
    coefficients: dict[int, Any] = {}
    for term in dict.fromkeys(design.common_terms):
        where = [i for i, owner in enumerate(design.common_terms) if owner == term]
        variable = graph[term]
        coefficients |= {i: variable if variable.ndim == 0 else variable[j] for j, i in enumerate(where)}
    if center_predictors and "Intercept" in design.common:
        at, means = design.common.index("Intercept"), design.X.mean(axis=0)
        others = [-means[i] * one for i, one in coefficients.items() if i != at]
        coefficients[at] = sum(others, coefficients[at])
    total: Any = 0.0
    for c, share in parts.items():
        total = total + coefficients[c] * (1.0 if (share == 1.0).all() else share[order])
    return total
