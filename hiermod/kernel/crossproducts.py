"""[Z X y]'W[Z X y] in blocks, computed in one pass over the rows (docs/architecture.md).

After this nothing depends on the number of rows.  The tail is ordered: levels of the crossed factors, columns of X,
y."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from hiermod.errors import UnsupportedError
from hiermod.kernel.conditioning import Conditioned
from hiermod.kernel.sparse_rows import SparseRows, SparseSums, sparse_rows
from hiermod.kernel.structure import Factor, Nesting, chain_and_tail

PAIR_COST, FLOP_COST = 12e-9, 5e-11  # seconds, measured: they only decide between two exact ways
SPARSE_FROM = 200  # columns of the tail up to which dense rows are always as fast
LARGEST_TAIL = 20_000  # columns of the dense tail: 3.2 GB for each of three matrices


@dataclass(frozen=True, eq=False, slots=True)
class ChainLevel:
    """One eliminated factor: its diagonal blocks and what joins it to the later chain members and to the tail."""

    diagonal: np.ndarray  # (J, K, K)
    parents: tuple[np.ndarray, ...]  # per later member: (J,) its level that holds this one
    incidence: tuple[sparse.csr_matrix, ...]  # per later member: (J_g, J), sums over the levels inside one
    ancestors: tuple[np.ndarray, ...]  # per later member: (J, K, K_g)
    tail: np.ndarray | SparseRows  # (J, K, m)


@dataclass(frozen=True, eq=False, slots=True)
class CrossProducts:
    """Everything the criterion needs to know about the data."""

    chain: tuple[ChainLevel, ...]
    chain_factors: tuple[int, ...]  # position among the factors
    tail: np.ndarray  # (m, m), m = m_z + p + 1
    tail_factors: tuple[int, ...]
    tail_slices: tuple[slice, ...]  # where each tail factor's levels x columns stand
    n_tail_effects: int  # m_z
    n_fixed: int  # p

    def with_response(self, by_factor: Sequence[np.ndarray], square: float) -> CrossProducts:
        """The same rows with another response r, orthogonal to X: Z'r as (J, K) for each factor, and r'r."""
        levels = []
        for level, index in zip(self.chain, self.chain_factors, strict=True):
            if isinstance(level.tail, SparseRows):
                rows: np.ndarray | SparseRows = level.tail.with_last_column(by_factor[index])
            else:
                rows = level.tail.copy()
                rows[:, :, -1] = by_factor[index]
            levels.append(replace(level, tail=rows))
        tail = self.tail.copy()
        tail[-1, :] = tail[:, -1] = 0.0
        for where, index in zip(self.tail_slices, self.tail_factors, strict=True):
            tail[-1, where] = tail[where, -1] = by_factor[index].ravel()
        tail[-1, -1] = square
        return replace(self, chain=tuple(levels), tail=tail)


def cross_products(conditioned: Conditioned, factors: Sequence[Factor]) -> CrossProducts:
    """Sum the products of rows.  Raises UnsupportedError when the crossed factors have too many levels to be dense."""
    return summed(conditioned.Q, conditioned.residual, factors, chain_and_tail(factors), cheapest=True)


def summed(
    Q: np.ndarray, residual: np.ndarray, factors: Sequence[Factor], nesting: Nesting, cheapest: bool
) -> CrossProducts:
    """The sums over some rows, all of them or a chunk whose nesting is that of all.

    cheapest: choose between dense and sparse rows; else a chunk keeps the non-zero sums wherever sparse may come."""
    dense_columns = np.column_stack([Q, residual])  # X and y
    if not factors:
        return CrossProducts((), (), dense_columns.T @ dense_columns, (), (), 0, Q.shape[1])
    chain, tail, parents = nesting.chain, nesting.tail, nesting.parents
    ends = np.cumsum([0] + [factors[g].n_levels * factors[g].size for g in tail])
    slices = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
    m_z = int(ends[-1])
    if m_z > LARGEST_TAIL:
        raise UnsupportedError(
            f"the crossed grouping factors have {m_z} effects besides those of the largest factor; this kernel "
            f"keeps them dense, up to {LARGEST_TAIL}. Use fewer levels, or leave a crossed factor out."
        )
    levels = []
    for position, index in enumerate(chain):
        later = chain[position + 1 :]
        to_tail: Any = _rows_to_tail(  # SparseSums only where they are to grow: then nobody else sees them
            factors[index], [factors[g] for g in tail], slices, dense_columns, position == 0, cheapest
        )
        levels.append(
            ChainLevel(
                _joint(factors[index], factors[index]),
                tuple(parents[index, g] for g in later),
                tuple(_incidence(parents[index, g], factors[g].n_levels) for g in later),
                tuple(_joint(factors[index], factors[g]) for g in later),
                to_tail,
            )
        )
    dense_tail = _dense_tail([factors[g] for g in tail], slices, dense_columns, m_z)
    return CrossProducts(tuple(levels), chain, dense_tail, tail, slices, m_z, Q.shape[1])


def _incidence(parent: np.ndarray, n_parents: int) -> sparse.csr_matrix:
    J = len(parent)
    return sparse.csr_matrix((np.ones(J), (parent, np.arange(J))), shape=(n_parents, J))


def _joint(inner: Factor, outer: Factor) -> np.ndarray:
    """sum of v_inner v_outer' over the rows of each inner level (which lie in one outer level): (J, K, Kg)."""
    result = np.empty((inner.n_levels, inner.size, outer.size))
    for a in range(inner.size):
        for b in range(outer.size):
            if inner is outer and b < a:
                result[:, a, b] = result[:, b, a]
            else:
                result[:, a, b] = np.bincount(inner.codes, inner.values[:, a] * outer.values[:, b], inner.n_levels)
    return result


def _with_columns(factor: Factor, columns: np.ndarray) -> np.ndarray:
    """sum of v x' over the rows of each level, (J, K, columns)."""
    result = np.empty((factor.n_levels, factor.size, columns.shape[1]))
    for a in range(factor.size):
        for c in range(columns.shape[1]):
            result[:, a, c] = np.bincount(factor.codes, factor.values[:, a] * columns[:, c], factor.n_levels)
    return result


def _with_factor(factor: Factor, other: Factor) -> np.ndarray:
    """sum of v v' over the rows of each pair of levels, (J, K, J_other * K_other), dense."""
    J, K, width = factor.n_levels, factor.size, other.n_levels * other.size
    result = np.empty((J, K, other.n_levels, other.size))
    cell = factor.codes * other.n_levels + other.codes
    for a in range(K):
        for b in range(other.size):
            sums = np.bincount(cell, factor.values[:, a] * other.values[:, b], J * other.n_levels)
            result[:, a, :, b] = sums.reshape(J, other.n_levels)
    return result.reshape(J, K, width)


def _rows_to_tail(
    factor: Factor,
    others: list[Factor],
    slices: tuple[slice, ...],
    columns: np.ndarray,
    sparse_allowed: bool,
    cheapest: bool,
) -> np.ndarray | SparseRows | SparseSums:
    """The factor's rows of the cross-products with the tail, dense or sparse, whichever is faster to eliminate."""
    J, K, p1 = factor.n_levels, factor.size, columns.shape[1]
    m = (slices[-1].stop if slices else 0) + p1
    if others and sparse_allowed and m > SPARSE_FROM:
        cells = [_distinct(factor, other) for other in others]
        if not cheapest:
            return _sparse_tail(factor, others, slices, columns, cells)
        entries = (
            sum(np.bincount(level, minlength=J) * g.size for (level, *_), g in zip(cells, others, strict=True)) + p1
        )
        if sparse_pays(entries, K, m):
            return sparse_rows(_sparse_tail(factor, others, slices, columns, cells))
    parts = [_with_factor(factor, other) for other in others]
    return np.concatenate([*parts, _with_columns(factor, columns)], axis=2)


def sparse_pays(entries: np.ndarray, K: int, m: int) -> bool:
    """Whether the list of pairs is faster than dense rows.  entries (J,): columns of each level that are not zero."""
    pairs = float((entries.astype(float) ** 2).sum()) / 2
    return pairs * PAIR_COST * K < 2.0 * len(entries) * K * m * m * FLOP_COST


def _distinct(factor: Factor, other: Factor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of levels that occur: (level, other level, index of each row's pair)."""
    cell, inverse = np.unique(factor.codes * other.n_levels + other.codes, return_inverse=True)
    return cell // other.n_levels, cell % other.n_levels, inverse


def _sparse_tail(
    factor: Factor,
    others: list[Factor],
    slices: tuple[slice, ...],
    columns: np.ndarray,
    cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> SparseSums:
    level, column, values = [], [], []
    for other, where, (own, its, inverse) in zip(others, slices, cells, strict=True):
        for b in range(other.size):
            products = factor.values * other.values[:, b, None]
            level.append(own)
            column.append(where.start + its * other.size + b)
            values.append(
                np.stack([np.bincount(inverse, products[:, a], len(own)) for a in range(factor.size)], axis=1)
            )
    J, m_z = factor.n_levels, slices[-1].stop
    dense = _with_columns(factor, columns)
    for c in range(columns.shape[1]):
        level.append(np.arange(J))
        column.append(np.full(J, m_z + c))
        values.append(dense[:, :, c])
    shape = (J, factor.size, m_z + columns.shape[1])
    return SparseSums(shape, np.concatenate(level), np.concatenate(column), np.concatenate(values))


def _dense_tail(factors: list[Factor], slices: tuple[slice, ...], columns: np.ndarray, m_z: int) -> np.ndarray:
    """(m, m) cross-products among crossed factors, X and y."""
    m = m_z + columns.shape[1]
    A = np.zeros((m, m))
    A[m_z:, m_z:] = columns.T @ columns
    for i, (factor, where) in enumerate(zip(factors, slices, strict=True)):
        J, K = factor.n_levels, factor.size
        own = np.zeros((J, K, J, K))
        own[np.arange(J), :, np.arange(J), :] = _joint(factor, factor)
        A[where, where] = own.reshape(J * K, J * K)
        A[where, m_z:] = _with_columns(factor, columns).reshape(J * K, -1)
        A[m_z:, where] = A[where, m_z:].T
        for other, there in zip(factors[i + 1 :], slices[i + 1 :], strict=True):
            A[where, there] = _with_factor(factor, other).reshape(J * K, -1)
            A[there, where] = A[where, there].T
    return A
