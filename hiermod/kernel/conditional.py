"""The law of (beta, b) given theta and sigma: modes, covariance blocks, variances of linear combinations.

(beta, b) is Gaussian with precision [X Z]'W[X Z] + blockdiag(0, (Lambda Lambda')^-1), all over sigma^2.  Everything is
read off the elimination; nothing of the size of all random effects squared is formed, and Lambda may be singular."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.kernel.adjoint import backward, tail_inverse, unscaled
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation, scale_rows, unscale_rows
from hiermod.kernel.sparse_rows import SparseRows

CHUNK = 4_000_000  # numbers in one dense piece of rows x tail

Rows = Sequence[tuple[np.ndarray, np.ndarray]]


def coefficients(problem: Problem, factor: Factorisation) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """beta (p,) and the conditional modes b, one (J, k) for each block in formula order."""
    cross, p = factor.cross, problem.p
    tail = unscale_rows(cross, factor.tail_lambdas, factor.solution)
    by_factor: list[np.ndarray] = [np.zeros((0, 0))] * len(problem.factors)
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        by_factor[index] = -tail[where].reshape(-1, problem.factors[index].size)
    for position in reversed(range(len(factor.levels))):
        level = factor.levels[position]
        total = level.tail.times(tail) if isinstance(level.tail, SparseRows) else level.tail @ tail
        for g, ancestor in enumerate(level.ancestors):
            mode = by_factor[cross.chain_factors[position + 1 + g]][level.parents[g]]
            total = total - np.einsum("jab,jb->ja", ancestor, mode)
        by_factor[cross.chain_factors[position]] = np.einsum("jab,jb->ja", level.Q, total)
    gamma = problem.gamma_ols - tail[cross.n_tail_effects : cross.n_tail_effects + p]
    beta = solve_triangular(problem.R, gamma) if p else gamma
    return beta, modes_by_block(problem, by_factor)


def modes_by_block(problem: Problem, by_factor: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """b of each factor, (J, K) in whitened columns, cut into (J, k) for each block in the columns as typed."""
    return _to_blocks(problem, by_factor, lambda b, C: b @ C.T)


def fixed_factor(problem: Problem, factor: Factorisation) -> np.ndarray:
    """(p, p) lower L with L L' the inverse of the conditioned coefficients' covariance over sigma^2."""
    m_z = factor.cross.n_tail_effects
    return factor.L[m_z : m_z + problem.p, m_z : m_z + problem.p]


def fixed_covariance(problem: Problem, factor: Factorisation) -> np.ndarray:
    """(p, p) covariance of beta over sigma^2: the inverse of R_X'R_X."""
    p = problem.p
    if p == 0:
        return np.zeros((0, 0))
    root = solve_triangular(fixed_factor(problem, factor), np.eye(p), lower=True)
    root = solve_triangular(problem.R, root.T)
    return root @ root.T


def covariance_blocks(problem: Problem, factor: Factorisation, with_fixed: bool = False) -> tuple[np.ndarray, ...]:
    """Covariance of each level's b over sigma^2, one (J, k, k) for each block in formula order.

    with_fixed=False: beta held fixed (lme4's condVar); True: beta unknown, with its flat prior."""
    cross = factor.cross
    P = unscaled(factor, tail_inverse(factor, with_fixed))
    by_factor: list[np.ndarray] = [np.zeros((0, 0, 0))] * len(problem.factors)
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        K = problem.factors[index].size
        J = (where.stop - where.start) // K
        by_factor[index] = P[where, where].reshape(J, K, J, K)[np.arange(J), :, np.arange(J), :]
    for position, _, _, diagonal in backward(factor, P):
        by_factor[cross.chain_factors[position]] = diagonal
    return _to_blocks(problem, by_factor, lambda V, C: C @ V @ C.T)


def _to_blocks(
    problem: Problem, by_factor: Sequence[np.ndarray], change: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Cut each factor's arrays into its blocks and go back to the columns as typed."""
    blocks: list[np.ndarray] = [np.zeros(0)] * len(problem.whiteners)
    for layout, array in zip(problem.factors, by_factor, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            part = array[:, where] if array.ndim == 2 else array[:, where, where]
            blocks[block] = change(part, problem.whiteners[block])
    return tuple(blocks)


def joint_variance(problem: Problem, factor: Factorisation, X: np.ndarray, rows: Rows) -> np.ndarray:
    """(m,) variance over sigma^2 of x'beta + sum over blocks of z'b under the joint law of (beta, b).

    X (m, p).  rows: for each block in formula order codes (m,), -1 where the level is absent, and values (m, k), both
    in the columns as typed; every code below the block's number of levels."""
    m = len(X)
    step = max(1, CHUNK // len(factor.U))
    result = np.empty(m)
    for start in range(0, m, step):
        part = slice(start, start + step)
        result[part] = _variance_chunk(
            problem, factor, X[part], [(codes[part], values[part]) for codes, values in rows]
        )
    return result


class _Entries:
    """For some rows: coefficients on one factor's levels, as few (level, K numbers) per row as there are levels."""

    def __init__(self, m: int, K: int) -> None:
        self.m, self.K = m, K
        self.slots: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, codes: np.ndarray, values: np.ndarray) -> None:
        """Add values (m, K) at codes (m,), -1 for none."""
        left = codes >= 0
        for match in ("same", "empty"):
            for slot_codes, slot_values in self.slots:
                here = left & ((slot_codes == codes) if match == "same" else (slot_codes < 0))
                slot_codes[here] = codes[here]
                slot_values[here] += values[here]
                left = left & ~here
        if left.any():
            self.slots.append((np.where(left, codes, -1), np.where(left[:, None], values, 0.0)))


def _variance_chunk(problem: Problem, factor: Factorisation, X: np.ndarray, rows: Rows) -> np.ndarray:
    """Eliminate the factors from the combination one by one: c'Pc = c1'Q c1 + (c_rest - R'Q c1)'P_rest(...)."""
    cross, m = factor.cross, len(X)
    entries = [_Entries(m, layout.size) for layout in problem.factors]
    for layout, target in zip(problem.factors, entries, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            codes, values = rows[block]
            padded = np.zeros((m, layout.size))
            padded[:, where] = np.asarray(values, dtype=float) @ problem.whiteners[block]
            target.add(np.asarray(codes, dtype=np.intp), padded)
    c = np.zeros((m, len(factor.U)))
    m_z, p = cross.n_tail_effects, problem.p
    if p:
        c[:, m_z : m_z + p] = solve_triangular(problem.R, X.T, trans=1).T
    variance = np.zeros(m)
    for position, level in enumerate(factor.levels):
        for codes, values in entries[cross.chain_factors[position]].slots:
            at = np.flatnonzero(codes >= 0)
            here = codes[at]
            coefficient = np.einsum("iab,ib->ia", level.Q[here], values[at])
            variance[at] += (coefficient * values[at]).sum(axis=1)
            tail_rows = level.tail.dense(here) if isinstance(level.tail, SparseRows) else level.tail[here]
            c[at] -= np.einsum("iam,ia->im", tail_rows, coefficient)
            for g, ancestor in enumerate(level.ancestors):
                everywhere = np.full(m, -1, dtype=np.intp)
                everywhere[at] = level.parents[g][here]
                passed = np.zeros((m, ancestor.shape[2]))
                passed[at] = -np.einsum("iag,ia->ig", ancestor[here], coefficient)
                entries[cross.chain_factors[position + 1 + g]].add(everywhere, passed)
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        K = problem.factors[index].size
        for codes, values in entries[index].slots:
            at = np.flatnonzero(codes >= 0)
            for a in range(K):
                c[at, where.start + codes[at] * K + a] += values[at, a]
    size = m_z + p
    if size:
        scaled = scale_rows(cross, factor.tail_lambdas, c.T)[:size]
        root = solve_triangular(factor.L[:size, :size], scaled, lower=True, overwrite_b=True, check_finite=False)
        variance += np.einsum("im,im->m", root, root)
    return variance
