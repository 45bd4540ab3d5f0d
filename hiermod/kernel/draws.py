"""Exact draws of (beta, b) given phi: back substitution through the same blocked factor that gave the density.

In the penalised system the law of (u, gamma) is Gaussian with precision M / sigma^2 (Bates et al. 2015, equation 13),
so a draw is a triangular solve with noise on its right side; eliminated factors follow level by level."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtrs

from hiermod.kernel.batch import BatchFactor, stack_of_one
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.sparse_rows import SparseRows

Effects = tuple[np.ndarray, tuple[np.ndarray, ...]]  # beta (S, p), and b (S, J, k) per block in formula order


def draw(
    problem: Problem,
    factor: BatchFactor | Factorisation,
    sigma: np.ndarray,
    rng: np.random.Generator,
    first: int = 0,
) -> Effects:
    """One draw at each of the S factors (a single one is a stack of one); sigma (S,).

    first: of the eliminated factors to draw; those before get no levels (they can be drawn later, given the rest)."""
    if isinstance(factor, Factorisation):
        factor = stack_of_one(factor, first)
    cross, S = problem.cross, len(sigma)
    size = cross.n_tail_effects + problem.p
    by_factor = [np.zeros((S, 0, layout.size)) for layout in problem.factors]
    # (u, gamma) = mode + sigma L^-T noise: the mode is L^-T times y's row of L, so one solve does both.
    right = np.zeros((S, size + 1))
    right[:, :size] = factor.L[:, -1, :size] + sigma[:, None] * rng.standard_normal((S, size))
    tail = -_backward(factor.L, right)
    tail[:, -1] = 1.0
    for index, where, Lam in zip(cross.tail_factors, cross.tail_slices, factor.tail_lambdas, strict=True):
        K = problem.factors[index].size
        b = np.einsum("sab,sjb->sja", Lam, -tail[:, where].reshape(S, -1, K))
        by_factor[index] = b
        tail[:, where] = -b.reshape(S, -1)
    for position in reversed(range(first, len(factor.levels))):
        # b_j ~ N(Q_j r_j, sigma^2 Q_j), r_j what later members and the tail leave of the level's products.
        level = factor.levels[position]
        total = _rows_times(level.tail, tail)
        for g, ancestor in enumerate(level.ancestors):
            later = by_factor[cross.chain_factors[position + 1 + g]][:, level.parents[g]]
            total = total - np.einsum("sjab,sjb->sja", np.broadcast_to(ancestor, (S, *ancestor.shape[1:])), later)
        Q, M = level.Q, level.M
        noise = rng.standard_normal(total.shape) * sigma[:, None, None]
        spread = spread_of(level.Lam, M)  # (S, G, K, K)
        if level.distinct is not None and Q.shape[1] > 1:
            Q, spread = Q[:, level.distinct], spread[:, level.distinct]
        by_factor[cross.chain_factors[position]] = times(Q, total) + times(spread, noise)
    return _beta(problem, -tail[:, cross.n_tail_effects : size]), _blocks(problem, by_factor)


def _backward(L: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L^-T right for lower triangular L (S, m, m), right (S, m) with 0 in y's place."""
    if len(L) == 1:
        return dtrtrs(L[0], right[0], lower=1, trans=1)[0][None]  # the whole L, which needs no copy
    solved = np.zeros_like(right)
    if right.shape[1] > 1:
        solved[:, :-1] = np.linalg.solve(np.swapaxes(L[:, :-1, :-1], 1, 2), right[:, :-1, None])[..., 0]
    return solved


def _rows_times(rows: np.ndarray | SparseRows, tail: np.ndarray) -> np.ndarray:
    """R_j v for every level and draw, (S, J, K); rows (1 or S, J, K, m), v (S, m)."""
    if isinstance(rows, SparseRows):
        return np.stack([rows.times(v) for v in tail])
    if len(rows) > 1:
        return np.einsum("sjam,sm->sja", rows, tail)
    _, J, K, m = rows.shape
    return (tail @ rows.reshape(J * K, m).T).reshape(len(tail), J, K)


def times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """A (S, 1 or J, K, K) matrix times the vector (S, J, K) of each level: loops cost less than tiny products."""
    K = vectors.shape[-1]
    if K > 3:
        return (matrices @ vectors[..., None])[..., 0]
    product = matrices[..., :, 0] * vectors[..., None, 0]
    for b in range(1, K):
        product = product + matrices[..., :, b] * vectors[..., None, b]
    return product


def spread_of(Lam: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Lam C^-T with M = C C': noise through it has covariance Lam M^-1 Lam' (S, G, K, K)."""
    K = Lam.shape[-1]
    if K == 1:
        return Lam[:, None] / np.sqrt(M)
    if K == 2:
        p, q, r, s = Lam[:, None, 0, 0], Lam[:, None, 1, 0], Lam[:, None, 1, 1], Lam[:, None, 0, 1]
        first = np.sqrt(M[..., 0, 0])
        corner = M[..., 0, 1] / first
        second = np.sqrt(M[..., 1, 1] - corner**2)
        out = np.empty_like(M)
        out[..., 0, 0], out[..., 1, 0] = p / first, q / first
        out[..., 0, 1] = (s - out[..., 0, 0] * corner) / second
        out[..., 1, 1] = (r - out[..., 1, 0] * corner) / second
        return out
    C = np.linalg.cholesky(M)
    return np.swapaxes(np.linalg.solve(C, np.broadcast_to(np.swapaxes(Lam, 1, 2)[:, None], M.shape)), 2, 3)


def _beta(problem: Problem, gamma: np.ndarray) -> np.ndarray:
    """(S, p) coefficients as typed, from the conditioned ones."""
    if problem.p == 0:
        return gamma
    return solve_triangular(problem.R, (problem.gamma_ols + gamma).T).T


def _blocks(problem: Problem, by_factor: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """(S, J, k) per block in formula order, in the columns as typed."""
    blocks: list[np.ndarray] = [np.zeros(0)] * len(problem.whiteners)
    for layout, b in zip(problem.factors, by_factor, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            blocks[block] = b[..., where] @ problem.whiteners[block].T
    return tuple(blocks)
