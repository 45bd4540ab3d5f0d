"""Solutions of the penalised system for any right-hand side, and the variance of each row's z'b given beta.

Both read the blocked factor of ``elimination.py``: (Lambda'Z'WZ Lambda + I) u = Lambda'r, b = Lambda u, with beta held
fixed or free.  The row variances need the inverse only where two factors meet in a row (Takahashi et al. 1973)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from hiermod.kernel.adjoint import tail_inverse, unscaled
from hiermod.kernel.elimination import Factorisation, scale_rows, unscale_rows
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.stacks import multiply, transpose
from hiermod.kernel.structure import Factor

CHUNK = 10_000_000  # numbers in one dense piece of levels x tail


@dataclass(frozen=True, eq=False, slots=True)
class Solution:
    """u spherical and b = Lambda u, (J, K) for each factor in whitened columns; gamma (p,), zero when held fixed."""

    u: list[np.ndarray]
    b: list[np.ndarray]
    gamma: np.ndarray


def solve(factor: Factorisation, rhs: Sequence[np.ndarray], fixed: np.ndarray | None = None) -> Solution:
    """Solve for Z'-side right-hand sides (J, K) for each factor; fixed (p,): X's, when gamma is free too."""
    cross = factor.cross
    m_z, p = cross.n_tail_effects, cross.n_fixed
    size = m_z if fixed is None else m_z + p
    chain = [rhs[index] for index in cross.chain_factors]
    tail = np.zeros(len(factor.U))
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        tail[where] = rhs[index].ravel()
    if fixed is not None:
        tail[m_z : m_z + p] = fixed
    for position, level in enumerate(factor.levels):
        eliminated = np.einsum("jab,jb->ja", level.Q, chain[position])
        tail -= _tail_transposed(level.tail, eliminated)
        for g, ancestor in enumerate(level.ancestors):
            passed = np.einsum("jab,ja->jb", ancestor, eliminated)
            chain[position + 1 + g] = chain[position + 1 + g] - cross.chain[position].incidence[g] @ passed
    u_tail = np.zeros(len(tail))
    if size:
        L = factor.L[:size, :size]
        half = solve_triangular(L, scale_rows(cross, factor.tail_lambdas, tail)[:size], lower=True, check_finite=False)
        u_tail[:size] = solve_triangular(L, half, lower=True, trans=1, check_finite=False)
    b_tail = unscale_rows(cross, factor.tail_lambdas, u_tail)
    u: list[np.ndarray] = [np.zeros((0, 0))] * len(rhs)
    b: list[np.ndarray] = [np.zeros((0, 0))] * len(rhs)
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        u[index], b[index] = u_tail[where].reshape(rhs[index].shape), b_tail[where].reshape(rhs[index].shape)
    for position in reversed(range(len(factor.levels))):
        level, index = factor.levels[position], cross.chain_factors[position]
        rest = chain[position]
        rest = rest - (level.tail.times(b_tail) if isinstance(level.tail, SparseRows) else level.tail @ b_tail)
        for g, ancestor in enumerate(level.ancestors):
            above = b[cross.chain_factors[position + 1 + g]][level.parents[g]]
            rest = rest - np.einsum("jab,jb->ja", ancestor, above)
        u[index] = np.einsum("jab,ja->jb", level.half, rest)
        b[index] = u[index] @ level.Lam.T
    u = [one if V is None else one @ V.T for one, V in zip(u, factor.turns, strict=True)]
    return Solution(u, b, b_tail[m_z : m_z + p])


def _tail_transposed(tail: np.ndarray | SparseRows, stack: np.ndarray) -> np.ndarray:
    """sum_j R_j'stack_j, (m,)."""
    if isinstance(tail, SparseRows):
        return np.bincount(tail.column, (tail.values * stack[tail.level]).sum(axis=1), tail.shape[2])
    return stack.ravel() @ tail.reshape(-1, tail.shape[2])


@dataclass(frozen=True, eq=False, slots=True)
class _Blocks:
    """The blocks of the inverse that belong to one chain member: own, with later members, with the tail."""

    diagonal: np.ndarray  # (J, K, K)
    ancestors: list[np.ndarray]  # (J, K, K_g)
    tail: np.ndarray  # (J, K, m)


def row_variances(factor: Factorisation, factors: Sequence[Factor]) -> np.ndarray:
    """(n,) z'(Z'WZ + (Lambda Lambda')^-1)^-1 z for every row, beta held fixed.  factors: the rows' whitened columns."""
    cross = factor.cross
    P = unscaled(factor, tail_inverse(factor, with_fixed=False))
    n = len(factors[0].codes)
    variance = np.zeros(n)
    tails = list(zip([factors[g] for g in cross.tail_factors], cross.tail_slices, strict=True))
    for i, (one, where) in enumerate(tails):
        for other, there in tails[i:]:
            double = 1.0 if other is one else 2.0
            for a in range(one.size):
                at = where.start + one.codes * one.size + a
                for b in range(other.size):
                    entry = P[at, there.start + other.codes * other.size + b]
                    variance += double * one.values[:, a] * other.values[:, b] * entry
    later: list[_Blocks] = []
    for position in reversed(range(len(factor.levels))):
        level, index = factor.levels[position], cross.chain_factors[position]
        J, K, m = level.tail.shape
        own = factors[index]
        members = [factors[g] for g in cross.chain_factors[position + 1 :]]
        step = max(1, CHUNK // (K * m))
        if step >= J or position > 0:
            blocks = _inverse_blocks(factor, position, slice(None), later, P)
            variance += _row_part(own, members, tails, blocks, np.arange(n), own.codes)
            later.insert(0, blocks)
            continue
        order = np.argsort(own.codes, kind="stable")
        bounds = np.searchsorted(own.codes[order], np.arange(0, J + step, step))
        for piece, start in enumerate(range(0, J, step)):
            rows = order[bounds[piece] : bounds[piece + 1]]
            blocks = _inverse_blocks(factor, position, slice(start, min(start + step, J)), later, P)
            variance[rows] += _row_part(own, members, tails, blocks, rows, own.codes[rows] - start)
    return variance


def _inverse_blocks(
    factor: Factorisation, position: int, part: slice, later: Sequence[_Blocks], P: np.ndarray
) -> _Blocks:
    """P_jt = -Q_j R_j P_tt, then P_jj = Q_j - P_jt R_j'Q_j, t running over all that is eliminated later."""
    level = factor.levels[position]
    Q = level.Q[part]
    R = level.tail.dense(part) if isinstance(level.tail, SparseRows) else level.tail[part]
    ancestors = [ancestor[part] for ancestor in level.ancestors]
    parents = [parent[part] for parent in level.parents]
    J, K, m = R.shape
    flat = sparse.csr_matrix(R.reshape(-1, m)) if isinstance(level.tail, SparseRows) else R.reshape(-1, m)
    products = [(flat @ P).reshape(J, K, m)]
    for g, ancestor in enumerate(ancestors):
        products[0] = products[0] + ancestor @ later[g].tail[parents[g]]
    for h in range(len(ancestors)):
        total = R @ transpose(later[h].tail[parents[h]])
        for g, ancestor in enumerate(ancestors):
            if g == h:
                block = later[g].diagonal[parents[g]]
            elif g < h:
                block = later[g].ancestors[h - g - 1][parents[g]]
            else:
                block = transpose(later[h].ancestors[g - h - 1][parents[h]])
            total = total + ancestor @ block
        products.append(total)
    inverse = [-multiply(Q, product) for product in products]
    through = np.einsum("jam,jbm->jab", inverse[0], R)
    for block, ancestor in zip(inverse[1:], ancestors, strict=True):
        through = through + block @ transpose(ancestor)
    return _Blocks(Q - through @ Q, inverse[1:], inverse[0])


def _row_part(
    own: Factor,
    members: Sequence[Factor],
    tails: Sequence[tuple[Factor, slice]],
    blocks: _Blocks,
    rows: np.ndarray,
    codes: np.ndarray,
) -> np.ndarray:
    """One member's share of the variance of some rows: itself, and twice its covariance with the later factors."""
    v = own.values[rows]
    total = np.zeros(len(rows))
    for a in range(own.size):
        for b in range(own.size):
            total += v[:, a] * v[:, b] * blocks.diagonal[codes, a, b]
        for member, block in zip(members, blocks.ancestors, strict=True):
            for b in range(member.size):
                total += 2.0 * v[:, a] * member.values[rows, b] * block[codes, a, b]
        for other, where in tails:
            for b in range(other.size):
                column = where.start + other.codes[rows] * other.size + b
                total += 2.0 * v[:, a] * other.values[rows, b] * blocks.tail[codes, a, column]
    return total
