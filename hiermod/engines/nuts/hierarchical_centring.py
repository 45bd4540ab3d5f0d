"""What centred group effects are sampled together with: everything that their levels have in common.

Hierarchical centring (Gelfand, Sahu and Carlin 1995, Biometrika 82, 479-488) samples a group's own intercept and
slopes, beta_c + b_j.  A predictor that describes the levels (the size of a school) belongs to them too: the school's
intercept is beta_0 + gamma size_j + b_j, the mean of b_j's conditional prior, or gamma and b would move against each
other.  With a slope, the interaction of its variable and such a predictor is the part of each group's slope.  And a
class has the effects of the school that it is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hiermod.formula.design import Block, Design


@dataclass(frozen=True, eq=False)
class Nesting:
    """A column of a block whose levels hold those of another: (J,) the level that holds each, and its factor."""

    block: Block
    column: int
    parent: np.ndarray
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class Total:
    """What each of the J levels has besides its own effect."""

    common: dict[int, np.ndarray] = field(default_factory=dict)  # common column -> (J,) factor of its coefficient
    nesting: list[Nesting] = field(default_factory=list)


def totals(design: Design, blocks: Sequence[Block], centred: Mapping[str, float]) -> dict[tuple[str, str], Total]:
    """(factor, effect) of the centred blocks -> what is sampled in its sum.

    Where crossed factors could have a common column, it is in the sums of the one that leaves its coefficient least
    known (largest number in ``centred``: the sd of the mean of its effects) and of those nested with it."""
    mine = {factor: [block for block in blocks if block.factor == factor] for factor in centred}
    found = {(factor, label): Total() for factor, own in mine.items() for block in own for label in block.labels}
    for c, name in enumerate(design.common):
        able = {factor: one for factor, own in mine.items() if (one := _described(design.X[:, c], own, name))}
        owner = max(able, key=lambda factor: centred[factor], default=None)
        for factor, (block, i, share) in able.items():
            if factor == owner or _nested(block, able[owner][0]):  # type: ignore[index]
                found[factor, block.labels[i]].common[c] = share
    for factor, own in mine.items():
        for outer in design.blocks:
            parent = _parents(own[0], outer) if own and len(outer.levels) < len(own[0].levels) else None
            for k, label in enumerate(outer.labels if parent is not None else ()):
                if one := _described(outer.values[:, k], own, label):
                    block, i, share = one
                    found[factor, block.labels[i]].nesting.append(Nesting(outer, k, parent, share))  # type: ignore[arg-type]
    return found


def _described(column: np.ndarray, blocks: Sequence[Block], name: str) -> tuple[Block, int, np.ndarray] | None:
    """The effect of these blocks, of one factor, that the column is a multiple of within every level: the one of the
    same name, else the first; with (J,) the multiples."""
    places = [(block, i) for block in blocks for i in range(block.size)]
    for block, i in sorted(places, key=lambda place: place[0].labels[place[1]] != name):
        share = _share(column, block, block.values[:, i])
        if share is not None:
            return block, i, share
    return None


def _share(column: np.ndarray, block: Block, values: np.ndarray) -> np.ndarray | None:
    """(J,) z with column = z[level] * values in every row; None where there is no such z."""
    seen = values != 0
    if column[~seen].any():
        return None
    z = np.zeros(len(block.levels))
    z[block.codes[seen]] = column[seen] / values[seen]
    return z if np.allclose(z[block.codes] * values, column, rtol=1e-9, atol=0.0) else None


def _parents(inner: Block, outer: Block) -> np.ndarray | None:
    """(J,) the outer level that holds each inner one; None where some lie in several."""
    parent = np.zeros(len(inner.levels), dtype=np.intp)
    parent[inner.codes] = outer.codes
    return parent if (parent[inner.codes] == outer.codes).all() else None


def _nested(one: Block, other: Block) -> bool:
    return _parents(one, other) is not None or _parents(other, one) is not None


def sum_of(
    design: Design,
    total: Total,
    coefficient: Callable[[str], Any],
    effects: Callable[[Block, int], Any],
    center_predictors: bool,
) -> Any:
    """Each level's total without its own effect: a scalar if it is the same for all, else (J,).

    coefficient(term): the graph's variable; effects(block, column): its effects (J,) of another factor.  Bambi's
    intercept is that at the predictors' means."""
    coefficients: dict[int, Any] = {}
    for term in dict.fromkeys(design.common_terms):
        where = [i for i, owner in enumerate(design.common_terms) if owner == term]
        variable = coefficient(term)
        coefficients |= {i: variable if variable.ndim == 0 else variable[j] for j, i in enumerate(where)}
    if center_predictors and "Intercept" in design.common:
        at, means = design.common.index("Intercept"), design.X.mean(axis=0)
        others = [-means[i] * one for i, one in coefficients.items() if i != at]
        coefficients[at] = sum(others, coefficients[at])
    found: Any = 0.0
    for c, share in total.common.items():
        found = found + coefficients[c] * (1.0 if (share == 1.0).all() else share)
    for one in total.nesting:
        found = found + effects(one.block, one.column)[one.parent] * one.share
    return found
