"""[Z X]'W[Z X] again and again with new weights: what iteratively reweighted least squares needs.

Codes, whitened columns, nesting and the places of non-zero entries stay as they are; only the numbers change.  The
column of y is left out of it (zero, with a one on the diagonal), right-hand sides come to ``weighted_solve.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.criterion import Problem, build_problem
from hiermod.kernel.crossproducts import ChainLevel, CrossProducts
from hiermod.kernel.sparse_rows import SparseRows, pair_products
from hiermod.kernel.structure import Factor, merge


@dataclass(frozen=True, eq=False, slots=True)
class _Member:
    """Which products of one factor's rows are summed over the rows of each level."""

    order: np.ndarray  # (n,) rows sorted by level
    pointers: np.ndarray  # (J + 1,) where each level's rows start in it
    products: np.ndarray  # (n, c) own products, those with later chain members, those with X

    def sums(self, w: np.ndarray) -> np.ndarray:
        """(J, c) sums of w times the products."""
        shape = (len(self.pointers) - 1, len(w))
        return sparse.csr_matrix((w[self.order], self.order, self.pointers), shape=shape) @ self.products


@dataclass(frozen=True, eq=False)
class WeightedProblem:
    """The rows of a model, ready for any weights.

    ``problem`` has its coordinates and structure; only what ``reweighted`` returns can be factorised."""

    problem: Problem
    factors: tuple[Factor, ...]  # whitened columns, without weights
    Q: np.ndarray  # (n, p) orthonormal: X = QR
    members: tuple[_Member, ...]  # one for each factor
    positions: np.ndarray  # (n, entries of a row) where a row's products stand in the sparse list; (n, 0) when dense

    def reweighted(self, w: np.ndarray) -> Problem:
        """The problem with cross-products at weights w (n,), not negative."""
        return replace(self.problem, cross=self._cross(w))

    def project(self, values: np.ndarray) -> list[np.ndarray]:
        """Z'values, (J, K) for each factor, in whitened columns."""
        result = []
        for factor in self.factors:
            columns = [np.bincount(factor.codes, values * column, factor.n_levels) for column in factor.values.T]
            result.append(np.stack(columns, axis=1))
        return result

    def combine(self, effects: Sequence[np.ndarray]) -> np.ndarray:
        """Z effects (n,), effects (J, K) for each factor, in whitened columns."""
        total = np.zeros(len(self.Q))
        for factor, b in zip(self.factors, effects, strict=True):
            for a in range(factor.size):
                total += factor.values[:, a] * b[factor.codes, a]
        return total

    def _cross(self, w: np.ndarray) -> CrossProducts:
        old = self.problem.cross
        levels = []
        for position, index in enumerate(old.chain_factors):
            later = [self.factors[g] for g in old.chain_factors[position + 1 :]]
            own, joint, fixed = self._cut(index, later, self.members[index].sums(w))
            before = old.chain[position]
            if isinstance(before.tail, SparseRows):
                tail: np.ndarray | SparseRows = self._sparse(before.tail, index, w)
            else:
                others = [self._pairs(index, g, w) for g in old.tail_factors]
                tail = np.concatenate([*others, fixed, np.zeros((*fixed.shape[:2], 1))], axis=2)
            levels.append(ChainLevel(own, before.parents, before.incidence, tuple(joint), tail))
        return replace(old, chain=tuple(levels), tail=self._tail(w))

    def _cut(
        self, index: int, later: Sequence[Factor], sums: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """One member's sums as (J, K, K), (J, K, K_g) for each later member, (J, K, p)."""
        K, J = self.factors[index].size, len(sums)
        rows, columns = np.triu_indices(K)
        own = np.empty((J, K, K))
        own[:, rows, columns] = own[:, columns, rows] = sums[:, : len(rows)]
        start, joint = len(rows), []
        for other in later:
            stop = start + K * other.size
            joint.append(sums[:, start:stop].reshape(J, K, other.size))
            start = stop
        return own, joint, sums[:, start:].reshape(J, K, -1)

    def _pairs(self, index: int, other_index: int, w: np.ndarray) -> np.ndarray:
        """sum of w v v' over the rows of each pair of levels of two crossed factors: (J, K, J_other * K_other)."""
        one, other = self.factors[index], self.factors[other_index]
        cell = one.codes * other.n_levels + other.codes
        result = np.empty((one.n_levels, one.size, other.n_levels, other.size))
        for a in range(one.size):
            for b in range(other.size):
                sums = np.bincount(cell, w * one.values[:, a] * other.values[:, b], one.n_levels * other.n_levels)
                result[:, a, :, b] = sums.reshape(one.n_levels, other.n_levels)
        return result.reshape(one.n_levels, one.size, -1)

    def _sparse(self, before: SparseRows, index: int, w: np.ndarray) -> SparseRows:
        """The same list of entries with new numbers."""
        factor = self.factors[index]
        others = [self.factors[g].values for g in self.problem.cross.tail_factors]
        columns = np.hstack([*others, self.Q])
        values = np.zeros_like(before.values)
        for a in range(factor.size):
            for c, places in enumerate(self.positions.T):
                values[:, a] += np.bincount(places, w * factor.values[:, a] * columns[:, c], len(values))
        return replace(before, values=values, products=pair_products(values, before.first, before.second))

    def _tail(self, w: np.ndarray) -> np.ndarray:
        """(m, m) products among crossed factors and X; y's place holds a one."""
        cross = self.problem.cross
        m, m_z, p = len(cross.tail), cross.n_tail_effects, cross.n_fixed
        A = np.zeros((m, m))
        A[m_z : m_z + p, m_z : m_z + p] = (self.Q * w[:, None]).T @ self.Q
        A[-1, -1] = 1.0
        for i, (index, where) in enumerate(zip(cross.tail_factors, cross.tail_slices, strict=True)):
            own, _, fixed = self._cut(index, [], self.members[index].sums(w))
            J, K, _ = own.shape
            block = np.zeros((J, K, J, K))
            block[np.arange(J), :, np.arange(J), :] = own
            A[where, where] = block.reshape(J * K, J * K)
            A[where, m_z : m_z + p] = fixed.reshape(J * K, p)
            A[m_z : m_z + p, where] = A[where, m_z : m_z + p].T
            for other, there in zip(cross.tail_factors[i + 1 :], cross.tail_slices[i + 1 :], strict=True):
                A[where, there] = self._pairs(index, other, w).reshape(J * K, -1)
                A[there, where] = A[where, there].T
        return A


def prepare(X: np.ndarray, terms: Sequence[GroupTerm]) -> WeightedProblem:
    """Whiten the columns and find the structure.  X (n, p) of full column rank; at least one group term.

    Raises what ``condition`` and ``cross_products`` raise."""
    y = np.zeros(len(X))
    conditioned = condition(y, X, terms)
    problem = build_problem(y, X, terms)
    factors = tuple(merge(conditioned.terms))
    cross = problem.cross
    members: list[_Member | None] = [None] * len(factors)
    for position, index in enumerate(cross.chain_factors):
        later = [factors[g] for g in cross.chain_factors[position + 1 :]]
        dense = not isinstance(cross.chain[position].tail, SparseRows)
        members[index] = _member(factors[index], later, conditioned.Q if dense else conditioned.Q[:, :0])
    for index in cross.tail_factors:
        members[index] = _member(factors[index], [], conditioned.Q)
    return WeightedProblem(
        problem,
        factors,
        conditioned.Q,
        tuple(member for member in members if member is not None),
        _positions(cross, factors, conditioned.Q.shape[1]),
    )


def _member(factor: Factor, later: Sequence[Factor], Q: np.ndarray) -> _Member:
    rows, columns = np.triu_indices(factor.size)
    v = factor.values
    parts = [v[:, rows] * v[:, columns]]
    parts += [(v[:, :, None] * other.values[:, None, :]).reshape(len(v), -1) for other in later]
    parts.append((v[:, :, None] * Q[:, None, :]).reshape(len(v), -1))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(factor.codes, minlength=factor.n_levels))])
    return _Member(np.argsort(factor.codes, kind="stable"), pointers, np.hstack(parts))


def _positions(cross: CrossProducts, factors: Sequence[Factor], p: int) -> np.ndarray:
    """For each row, where the columns of the crossed factors and of X stand in the first member's sparse list."""
    if not cross.chain or not isinstance(cross.chain[0].tail, SparseRows):
        return np.empty((len(factors[0].codes), 0), dtype=np.intp)
    rows, m = cross.chain[0].tail, len(cross.tail)
    level = factors[cross.chain_factors[0]].codes.astype(np.int64)
    columns = []
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        factor = factors[index]
        columns += [where.start + factor.codes * factor.size + b for b in range(factor.size)]
    columns += [np.full(len(level), cross.n_tail_effects + c) for c in range(p)]
    listed = rows.level * m + rows.column  # ascending: the list is sorted by level, then column
    return np.stack([np.searchsorted(listed, level * m + column) for column in columns], axis=1)
