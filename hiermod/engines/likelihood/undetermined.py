"""Group effects that the common ones explain: REML says nothing about their variances.

REML sees y only as A'y, A orthonormal and orthogonal to X (Harville 1974, Biometrika 61(2)).  Where A'Z_k = 0 for
column k of a term, as with a factor on both sides of the formula, row k of Lambda does not enter the criterion, and a
search ends wherever rounding leads it.  The standard errors of the common effects depend on that row all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiermod.formula.design import Block, Design

NOTHING = 1e-9  # of a column's sum of squares: what X leaves of it where it explains the column; rounding leaves 1e-14
DEFAULT = 1.0  # the standard deviation, over the residual's, that lme4 starts from and then keeps


def explained_columns(design: Design) -> tuple[np.ndarray, ...]:
    """Per block (k,): which of its columns X explains within every level."""
    p = int(design.estimable.sum())
    found = tuple(np.zeros(block.size, dtype=bool) for block in design.blocks)
    few = [i for i, block in enumerate(design.blocks) if len(block.levels) <= p]  # levels need as many columns of X
    if not few:
        return found
    X = design.precision.whiten(design.X[:, design.estimable])
    Q = np.linalg.qr(X / np.linalg.norm(X, axis=0))[0]
    for i in few:
        block = design.blocks[i]
        for k in range(block.size):
            column = design.precision.whiten(block.values[:, k])
            along = np.zeros((len(block.levels), p))
            np.add.at(along, block.codes, Q * column[:, None])
            size = float(column @ column)
            found[i][k] = size - float(np.square(along).sum()) < NOTHING * size
    return found


def settled(Lambda: np.ndarray, explained: np.ndarray) -> np.ndarray:
    """Lambda (k, k) with the same covariance of the other columns, and DEFAULT for the explained ones."""
    kept = np.flatnonzero(~explained)
    settled = np.diag(np.where(explained, DEFAULT, 0.0))
    if len(kept):
        settled[np.ix_(kept, kept)] = np.asarray(np.linalg.qr(Lambda[kept].T, mode="r")).T
    return settled


def sentence(blocks: Sequence[Block], explained: Sequence[np.ndarray]) -> str:
    """Which terms REML says nothing about."""
    terms = [block.term for block, which in zip(blocks, explained, strict=True) if which.any()]
    return f"common effects explain those of {' and '.join(terms)}, so that REML says nothing about their variance"
