"""The rows that join a many-levelled factor to crossed factors with many levels, kept sparse.

For level j with the columns C_j the elimination needs R_j'Q_j R_j: one number for every pair of columns in C_j.  The
pairs are listed once; an evaluation is then a few passes over that list (InstEval: two million pairs, against 3.4
million entries of R and 4 billion multiplications when dense)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

PRODUCTS = 2  # columns up to which the products of each pair are kept: three numbers a pair


@dataclass(frozen=True, eq=False, slots=True)
class SparseRows:
    """R (J, K, m) as a sorted list of its non-zero columns (j, c), each with K values, and the pairs within a level."""

    shape: tuple[int, int, int]
    level: np.ndarray  # (nnz,)
    column: np.ndarray  # (nnz,) ascending within a level
    values: np.ndarray  # (nnz, K)
    first: np.ndarray  # (pairs,) position in the list; column[first] >= column[second]
    second: np.ndarray
    starts: np.ndarray  # (levels with entries,) where their pairs start
    present: np.ndarray  # (levels with entries,) which levels they are
    itself: np.ndarray  # (nnz,) where each entry's pair with itself stands
    target: np.ndarray  # (pairs,) column[first] * m + column[second]
    products: np.ndarray | None  # ``pair_products``; None where K is larger than PRODUCTS

    def matrix(self) -> sparse.csr_matrix:
        """R as one matrix, the K rows of each level below each other: (J K, m)."""
        J, K, m = self.shape
        rows = np.repeat(self.level * K, K) + np.tile(np.arange(K), len(self.level))
        return sparse.csr_matrix((self.values.ravel(), (rows, np.repeat(self.column, K))), shape=(J * K, m))

    def dense(self, levels: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The rows of some levels, (levels, K, m)."""
        J, K, m = self.shape
        wanted = np.arange(J)[levels]
        picked = self.matrix()[(wanted[:, None] * K + np.arange(K)).ravel()]
        return picked.toarray().reshape(len(wanted), K, m)

    def with_last_column(self, values: np.ndarray) -> SparseRows:
        """y's column, which every level has, replaced by values (J, K)."""
        entries = self.values.copy()
        entries[self.column == self.shape[2] - 1] = values  # levels ascend
        return replace(self, values=entries, products=pair_products(entries, self.first, self.second))

    def times(self, vector: np.ndarray) -> np.ndarray:
        """R_j vector for every level: (J, K)."""
        J, K, _ = self.shape
        weighted = self.values * vector[self.column, None]
        return np.stack([np.bincount(self.level, weighted[:, a], J) for a in range(K)], axis=1)

    def column_sums(self, column: int) -> np.ndarray:
        """One column of R for every level, (J, K); -1 is the last."""
        vector = np.zeros(self.shape[2])
        vector[column] = 1.0
        return self.times(vector)

    def gram(self, Q: np.ndarray) -> np.ndarray:
        """Lower triangle of sum_j R_j'Q_j R_j, (m, m).  Q (J, K, K)."""
        m = self.shape[2]
        if self.products is not None:
            counts, weights = np.diff(self.starts, append=len(self.target)), np.zeros(len(self.target))
            for (a, b), product in zip(_entries(self.shape[1]), self.products, strict=True):
                part = np.repeat(Q[self.present, a, b], counts)
                part *= product
                weights += part
            return np.bincount(self.target, weights, m * m).reshape(m, m)
        right = np.einsum("nab,nb->na", Q[self.level], self.values)
        weights = self.values[self.first, 0] * right[self.second, 0]
        for a in range(1, self.shape[1]):
            weights += self.values[self.first, a] * right[self.second, a]
        return np.bincount(self.target, weights, m * m).reshape(m, m)

    def sandwich(self, P: np.ndarray) -> np.ndarray:
        """R_j P R_j' for every level, (J, K, K).  P (m, m) symmetric, C-contiguous."""
        J, K, _ = self.shape
        result = np.zeros((J, K, K))
        if not len(self.starts):
            return result
        middle = P.ravel().take(self.target)
        middle[self.itself] *= 0.5  # every other pair stands for two
        if self.products is not None:
            for (a, b), product in zip(_entries(K), self.products, strict=True):
                sums = np.add.reduceat(middle * product, self.starts)
                result[self.present, a, b] = result[self.present, b, a] = 2.0 * sums if a == b else sums
            return result
        for a in range(K):
            left = self.values[self.first, a] * middle
            for b in range(K):
                result[self.present, a, b] = np.add.reduceat(left * self.values[self.second, b], self.starts)
        return result + np.swapaxes(result, 1, 2)

    def gather(self, blocks: np.ndarray, parent: np.ndarray) -> np.ndarray:
        """sum_c R_j[:, c] blocks[parent_j, :, c]': (J, K, Kg).  blocks (Jg, Kg, m)."""
        J, K, _ = self.shape
        picked = blocks[parent[self.level], :, self.column]  # (nnz, Kg)
        result = np.empty((J, K, picked.shape[1]))
        for a in range(K):
            for g in range(picked.shape[1]):
                result[:, a, g] = np.bincount(self.level, self.values[:, a] * picked[:, g], J)
        return result

    def scatter(self, left: np.ndarray, parent: np.ndarray, n_parents: int) -> np.ndarray:
        """sum over the levels j of each parent of left_j'R_j: (Jg, Kg, m).  left (J, K, Kg)."""
        m, Kg = self.shape[2], left.shape[2]
        result = np.empty((n_parents, Kg, m))
        target = parent[self.level] * m + self.column
        for g in range(Kg):
            weights = np.einsum("na,na->n", left[self.level, :, g], self.values)
            result[:, g] = np.bincount(target, weights, n_parents * m).reshape(n_parents, m)
        return result


def _entries(K: int) -> list[tuple[int, int]]:
    """The upper triangle of a (K, K), row by row."""
    return [(a, b) for a in range(K) for b in range(a, K)]


def pair_products(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """(K (K + 1) / 2, pairs): what multiplies each entry of a symmetric (K, K) in R_j'Q_j R_j and in R_j P R_j'."""
    if values.shape[1] > PRODUCTS:
        return None
    rows = []
    for a, b in _entries(values.shape[1]):
        product = values[first, a] * values[second, b]
        rows.append(product if a == b else product + values[first, b] * values[second, a])
    return np.stack(rows)


@dataclass(frozen=True, eq=False, slots=True)
class SparseSums:
    """The entries of R (J, K, m) alone, each (level, column) once, in any order: sums that grow with further rows."""

    shape: tuple[int, int, int]
    level: np.ndarray  # (nnz,)
    column: np.ndarray  # (nnz,)
    values: np.ndarray  # (nnz, K)

    def plus(self, other: SparseSums) -> SparseSums:
        """The sum; an entry is there where either has it."""
        m = self.shape[2]
        place = np.concatenate([self.level * m + self.column, other.level * m + other.column])
        both = np.concatenate([self.values, other.values])
        place, at = np.unique(place, return_inverse=True)
        sums = np.stack([np.bincount(at.reshape(-1), column, len(place)) for column in both.T], axis=1)
        return SparseSums(self.shape, place // m, place % m, sums)

    def dense(self) -> np.ndarray:
        """(J, K, m)."""
        whole = np.zeros(self.shape)
        whole[self.level, :, self.column] = self.values
        return whole


def sparse_rows(sums: SparseSums) -> SparseRows:
    """Sort the entries and list the pairs within each level."""
    shape, level, column, values = sums.shape, sums.level, sums.column, sums.values
    order = np.lexsort((column, level))
    level, column, values = level[order], column[order], np.ascontiguousarray(values[order])
    counts = np.bincount(level, minlength=shape[0])
    begin = np.cumsum(counts) - counts
    rank = np.arange(len(level)) - begin[level]  # an entry pairs with itself and those before it in its level
    first = np.repeat(np.arange(len(level)), rank + 1)
    ends = np.cumsum(rank + 1)
    second = np.arange(len(first)) - np.repeat(ends - rank - 1, rank + 1) + begin[level[first]]
    present = np.flatnonzero(counts)
    pairs = counts[present] * (counts[present] + 1) // 2
    target = column[first] * shape[2] + column[second]
    products = pair_products(values, first, second)
    return SparseRows(
        shape, level, column, values, first, second, np.cumsum(pairs) - pairs, present, ends - 1, target, products
    )
