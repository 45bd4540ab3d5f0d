"""theta <-> Lambda: the relative covariance factors and lme4's order of their elements (Bates et al. 2015, 2.2).

theta holds the lower triangle of each block's Lambda by column; blocks come by number of levels, most first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

SINGULAR = 1e-4  # lme4's isSingular tolerance


def block_order(n_levels: Sequence[int]) -> tuple[int, ...]:
    """lme4's order of blocks: kept when the numbers of levels fall, else ``rev(order(nlevels))``, ties reversed."""
    sizes = np.asarray(n_levels)
    if (np.diff(sizes) <= 0).all():
        return tuple(range(len(sizes)))
    return tuple(int(i) for i in np.argsort(sizes, kind="stable")[::-1])


@lru_cache(maxsize=64)
def triangle(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a k x k lower triangle, by column.

    >>> [index.tolist() for index in triangle(2)]
    [[0, 1, 1], [0, 0, 1]]
    """
    columns, rows = np.triu_indices(k)
    columns.setflags(write=False)
    rows.setflags(write=False)
    return rows, columns


@dataclass(frozen=True, eq=False)
class Template:
    """Where each element of theta stands in the Lambdas.  sizes: k of each block, in formula order."""

    sizes: tuple[int, ...]
    order: tuple[int, ...]  # blocks in theta's order

    @cached_property
    def n_theta(self) -> int:
        """How many elements theta has."""
        return sum(k * (k + 1) // 2 for k in self.sizes)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The part of theta that belongs to each block, in formula order."""
        found, start = [slice(0)] * len(self.sizes), 0
        for block in self.order:
            stop = start + self.sizes[block] * (self.sizes[block] + 1) // 2
            found[block] = slice(start, stop)
            start = stop
        return tuple(found)

    def unpack(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """Lambda (..., k, k) of each block, in formula order; theta (..., n_theta)."""
        lambdas = []
        for k, part in zip(self.sizes, self.slices, strict=True):
            rows, columns = triangle(k)
            Lam = np.zeros((*theta.shape[:-1], k, k))
            Lam[..., rows, columns] = theta[..., part]
            lambdas.append(Lam)
        return tuple(lambdas)

    def pack(self, matrices: Sequence[np.ndarray]) -> np.ndarray:
        """The lower triangles (of Lambdas, or of gradients with respect to them) as one vector in theta's order."""
        theta = np.empty(self.n_theta)
        for k, part, matrix in zip(self.sizes, self.slices, matrices, strict=True):
            theta[part] = matrix[triangle(k)]
        return theta

    def diagonal(self) -> np.ndarray:
        """(n_theta,) True where theta is a diagonal element, whose bound is 0."""
        return self.pack([np.eye(k) for k in self.sizes]).astype(bool)


def positive_columns(Lam: np.ndarray) -> np.ndarray:
    """The same covariance with a non-negative diagonal: each column may change its sign.

    A column whose diagonal is zero while elements below are not is folded into the later columns, so that one
    covariance has one factor."""
    Lam = Lam * np.where(np.diag(Lam) < 0, -1.0, 1.0)
    for j in range(len(Lam) - 1):
        if Lam[j, j] == 0 and Lam[j + 1 :, j].any():
            below = np.transpose(np.linalg.qr(Lam[j + 1 :, j:].T)[1])
            Lam[j + 1 :, j] = 0.0
            Lam[j + 1 :, j + 1 :] = np.tril(below * np.where(np.diag(below) < 0, -1.0, 1.0))
    return Lam


def null_directions(Lam: np.ndarray, rms: np.ndarray) -> np.ndarray:
    """(k, r): combinations of the block's effects that have no variance, effects measured in units of 1 / rms.

    A singular value of diag(rms) Lam below SINGULAR counts as zero; r = 0 for a covariance of full rank."""
    left, values, _ = np.linalg.svd(rms[:, None] * Lam)
    return left[:, values < SINGULAR]
