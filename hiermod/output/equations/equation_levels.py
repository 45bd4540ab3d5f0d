"""Which coefficient belongs to which level: a Design read as the multilevel model a course writes on the board.

Raudenbush and Bryk (2002), Hierarchical Linear Models, chapters 2 and 8: a predictor that is constant within the groups
stands in the equation of the group's intercept, its product with a level-1 predictor in that of the slope."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hiermod.formula.design import Block, Design

INTERCEPT = "Intercept"


@dataclass(frozen=True)
class Predictor:
    """A column in a coefficient's equation: the label it is shown by, and the column of X its coefficient has."""

    shown: str  # "sector[Catholic]"; INTERCEPT for the constant
    column: str  # "ses:sector[Catholic]", a label of Design.common; "" when X has no such column
    height: int  # the level it belongs to: 0 the rows, 1 the finest factor, 2 the next


@dataclass(frozen=True)
class Coefficient:
    """A level-1 coefficient: what it multiplies, what stands in its equation, and the factors it varies by."""

    term: str  # "Intercept", "Days"
    predictors: tuple[Predictor, ...]
    factors: tuple[str, ...]


@dataclass(frozen=True)
class Levels:
    """chain: the nested grouping factors, finest first; empty when there are none, or more than two, or they cross."""

    chain: tuple[str, ...]
    coefficients: tuple[Coefficient, ...]


def read_levels(design: Design) -> Levels:
    """Sort the columns of X and of the blocks into equations."""
    factors = list(dict.fromkeys(block.factor for block in design.blocks))
    codes = {block.factor: block.codes for block in design.blocks}
    factors.sort(key=lambda name: -len(np.unique(codes[name])))
    nested = len(factors) <= 2 and all(_nested(codes[a], codes[b]) for a, b in pairwise(factors))
    chain = tuple(factors) if nested else ()
    varying = list(dict.fromkeys(label for block in design.blocks for label in block.labels))
    height = {label: _height(design.X[:, j], chain, codes) for j, label in enumerate(design.common)}
    height |= dict.fromkeys(
        [INTERCEPT, *(label for label in varying if _varies_by(design.blocks, label, chain[:1]))], 0
    )
    own = [label for label in design.common if height[label] == 0 and not _product(label, height, varying)]
    own += [label for label in varying if label not in own and height.get(label, 0) == 0]
    above = any(h > 0 for h in height.values())
    if INTERCEPT not in own and above:
        own.append(INTERCEPT)
    own.sort(key=lambda label: label != INTERCEPT)
    found: dict[str, list[Predictor]] = {label: [] for label in own}
    for label in own:
        found[label].append(Predictor(INTERCEPT, label if label in design.common else "", 0))
    for label in design.common:
        if height[label] > 0:
            found[INTERCEPT].append(Predictor(label, label, height[label]))
        elif label not in found:
            within, between = _product(label, height, varying)  # type: ignore[misc]
            found[within].append(Predictor(between, label, min(height[part] for part in between.split(":"))))
    blocks = {label: tuple(b.factor for b in design.blocks if label in b.labels) for label in own}
    return Levels(
        chain,
        tuple(Coefficient(label, tuple(found[label]), tuple(dict.fromkeys(blocks[label]))) for label in own),
    )


def _nested(fine: np.ndarray, coarse: np.ndarray) -> bool:
    pairs = np.unique(np.column_stack([fine, coarse]), axis=0)
    return len(pairs) == len(np.unique(fine))


def _height(column: np.ndarray, chain: tuple[str, ...], codes: dict[str, np.ndarray]) -> int:
    """The coarsest level of the chain within whose groups the column does not change; 0 for a level-1 predictor."""
    found = 0
    for height, factor in enumerate(chain, 1):
        order = np.argsort(codes[factor], kind="stable")
        same = codes[factor][order][1:] == codes[factor][order][:-1]
        if same.any() and (column[order][1:][same] == column[order][:-1][same]).all():
            found = height
    return found


def _varies_by(blocks: tuple[Block, ...], label: str, factors: tuple[str, ...]) -> bool:
    return any(label in block.labels for block in blocks if not factors or block.factor in factors)


def _product(label: str, height: dict[str, int], varying: list[str]) -> tuple[str, str] | None:
    """(level-1 part, level-2 part) of a cross-level interaction; None for any other column."""
    parts = label.split(":")
    between = [part for part in parts if height.get(part, 0) > 0]
    within = ":".join(part for part in parts if part not in between)
    if label in varying or not between or not within or height.get(within) != 0:
        return None
    return within, ":".join(between)
