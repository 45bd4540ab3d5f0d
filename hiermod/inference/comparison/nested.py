"""Is one linear mixed model a special case of another, and how many variances does the larger one add?

A model is its column space of X and the set of covariance matrices its blocks allow, sum over blocks of Z Sigma Z'.
A block fits into another when the levels are the same groups and its columns are combinations of the other's; or when
its levels are cells of the other's groups and the other has columns for each cell: (1 | g:f) into (0 + f | g).  Into a
structured block fits one of the same columns whose structure is a special case: cs with one standard deviation into cs
with several, diag into cs and ar1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.formula.design import Block, Design
from hiermod.formula.groups import group_codes

CLOSE = 1e-7  # R's rank tolerance: a column's unexplained part, relative to its size


@dataclass(frozen=True)
class Nesting:
    """obstacle: in words, why the first model is no special case of the second; None when it is one."""

    obstacle: str | None
    added_variances: int = 0  # directions of group effects that only the second has: 0 in the first, on the boundary


def nesting(small: Design, large: Design) -> Nesting:
    """Both designs must have the same rows, in the same order."""
    X0, X1 = small.X[:, small.estimable], large.X[:, large.estimable]
    names = [label for label, kept in zip(small.common, small.estimable, strict=True) if kept]
    outside = [name for name, inside in zip(names, _explained(X0, X1), strict=True) if not inside]
    if outside:
        return Nesting(f"the common effect {outside[0]!r} is no combination of the larger model's common effects")
    into: list[list[np.ndarray]] = [[] for _ in large.blocks]
    for block in small.blocks:
        for position, other in enumerate(large.blocks):
            coordinates = _within(block, other, small)
            if coordinates is not None:
                into[position].append(coordinates)
                break
        else:
            return Nesting(f"the group effects {block.term} are not among those of the larger model")
    added = 0
    for block, parts in zip(large.blocks, into, strict=True):
        if not block.structure.free:  # without it rho means nothing: no law of one variance on the boundary
            added += 0 if parts else block.structure.n_parameters
            continue
        rank = int(np.linalg.matrix_rank(np.hstack(parts), tol=CLOSE)) if parts else 0
        added += block.size - rank
    return Nesting(None, added)


def _explained(columns: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(c,) True for the columns (n, c) that are combinations of those of ``by`` (n, d)."""
    size = np.linalg.norm(columns, axis=0)
    norms = np.linalg.norm(by, axis=0)
    Q = np.linalg.qr(by / np.where(norms > 0, norms, 1.0))[0] if by.shape[1] else by
    rest = columns - Q @ (Q.T @ columns)
    rest = rest - Q @ (Q.T @ rest)
    return np.asarray(np.linalg.norm(rest, axis=0) <= CLOSE * size)


def _within(block: Block, other: Block, design: Design) -> np.ndarray | None:
    """(k_other, c): the block's effects as combinations of the other's, in units of its columns; None when not so."""
    if not other.structure.free and not _special_case(block, other):
        return None
    pairs = len(np.unique(block.codes.astype(np.int64) * len(other.levels) + other.codes))
    wanted = block.values
    if pairs != len(np.unique(other.codes)) or pairs != len(np.unique(block.codes)):
        extra = [name for name in block.factor_columns if name not in other.factor_columns]
        if pairs != len(np.unique(block.codes)) or not extra or set(other.factor_columns) - set(block.factor_columns):
            return None
        cell = group_codes(design.frame, tuple(extra))[0]
        if (int(cell.max()) + 1) * block.size > other.size:
            return None
        wanted = np.hstack([block.values * (cell == one)[:, None] for one in range(int(cell.max()) + 1)])
    if not _explained(wanted, other.values).all():
        return None
    scale = np.sqrt((other.values**2).mean(axis=0))
    size = np.sqrt((wanted**2).mean(axis=0))
    found = np.linalg.lstsq(other.values / scale, wanted / np.where(size > 0, size, 1.0), rcond=None)[0]
    return np.asarray(found)


def _special_case(block: Block, other: Block) -> bool:
    """Whether a structured ``other`` has the same columns and allows every covariance of the block."""
    mine, theirs = block.structure, other.structure
    if block.values.shape != other.values.shape or not np.array_equal(block.values, other.values):
        return False
    return mine.name in (theirs.name, "diag") and (mine.hom or not theirs.hom)
