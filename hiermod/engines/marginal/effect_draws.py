"""Exact draws of (beta, b) given phi: back substitution through the same blocked factor that gave the density.

In the penalised system the law of (u, gamma) is Gaussian with precision M / sigma^2 (Bates et al. 2015, equation 13),
so a draw is a triangular solve with noise on its right side; eliminated factors follow level by level."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtrs

from hiermod.kernel.batch import BatchFactor
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.sparse_rows import SparseRows

Effects = tuple[np.ndarray, tuple[np.ndarray, ...]]  # beta (S, p), and b (S, J, k) per block in formula order


def draw_batch(
    problem: Problem, factor: BatchFactor, sigma: np.ndarray, rng: np.random.Generator, first: int = 0
) -> Effects:
    """One draw at each of the S factors; sigma (S,).

    first: of the eliminated factors to draw; those before get no levels (they can be drawn later, given the rest)."""
    cross, S = problem.cross, len(sigma)
    size = cross.n_tail_effects + problem.p
    by_factor = [np.zeros((S, 0, layout.size)) for layout in problem.factors]
    tail = np.zeros((S, size + 1))
    tail[:, -1] = 1.0
    if size:
        right = factor.L[:, -1, :size] + sigma[:, None] * rng.standard_normal((S, size))
        drawn = np.linalg.solve(np.swapaxes(factor.L[:, :size, :size], 1, 2), right[..., None])[..., 0]
        tail[:, :size] = -drawn
    for index, where, Lam in zip(cross.tail_factors, cross.tail_slices, factor.tail_lambdas, strict=True):
        K = problem.factors[index].size
        b = np.einsum("sab,sjb->sja", Lam, -tail[:, where].reshape(S, -1, K))
        by_factor[index] = b
        tail[:, where] = -b.reshape(S, -1)
    for position in reversed(range(first, len(factor.levels))):
        level = factor.levels[position]
        J = level.tail.shape[1]
        rows = level.tail if len(level.tail) > 1 else level.tail[0]
        total = np.einsum("sjam,sm->sja", rows, tail) if rows.ndim == 4 else _plain(rows, tail)
        for g, ancestor in enumerate(level.ancestors):
            later = by_factor[cross.chain_factors[position + 1 + g]][:, level.parents[g]]
            total = total - np.einsum("sjab,sjb->sja", np.broadcast_to(ancestor, (S, *ancestor.shape[1:])), later)
        Q, M = level.Q, level.M
        noise = rng.standard_normal((S, J, Q.shape[-1])) * sigma[:, None, None]
        spread = spread_of(level.Lam, M)  # (S, G, K, K)
        if level.distinct is not None and Q.shape[1] > 1:
            Q, spread = Q[:, level.distinct], spread[:, level.distinct]
        b = times(Q, total) + times(spread, noise)
        by_factor[cross.chain_factors[position]] = b
    return _beta(problem, -tail[:, cross.n_tail_effects : size]), _blocks(problem, by_factor)


def _plain(rows: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """R_j v for every level and draw, (S, J, K), from rows (J, K, m) shared by the draws."""
    J, K, m = rows.shape
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


def draw_one(
    problem: Problem, factor: Factorisation, sigma: float, rng: np.random.Generator, first: int = 0
) -> Effects:
    """``draw_batch`` at one factor, for problems too large for stacks; arrays with a leading axis of 1."""
    cross = problem.cross
    size = cross.n_tail_effects + problem.p
    by_factor = [np.zeros((0, layout.size)) for layout in problem.factors]
    right = np.zeros(size + 1)
    right[:size] = factor.L[-1, :size] + sigma * rng.standard_normal(size)
    tail = -dtrtrs(factor.L, right, lower=1, trans=1)[0]  # the whole L, which needs no copy: y's part is 0
    tail[-1] = 1.0
    for index, where, Lam in zip(cross.tail_factors, cross.tail_slices, factor.tail_lambdas, strict=True):
        b = -tail[where].reshape(-1, len(Lam)) @ Lam.T
        by_factor[index] = b
        tail[where] = -b.ravel()
    for position in reversed(range(first, len(factor.levels))):
        level = factor.levels[position]
        total = level.tail.times(tail) if isinstance(level.tail, SparseRows) else level.tail @ tail
        for g, ancestor in enumerate(level.ancestors):
            later = by_factor[cross.chain_factors[position + 1 + g]][level.parents[g]]
            total = total - np.einsum("jab,jb->ja", ancestor, later)
        noise = sigma * rng.standard_normal(total.shape)
        spread = spread_of(level.Lam[None], level.M[None])[0]
        b = np.einsum("jab,jb->ja", level.Q, total) + np.einsum("jab,jb->ja", spread, noise)
        by_factor[cross.chain_factors[position]] = b
    gamma = -tail[None, cross.n_tail_effects : size]
    return _beta(problem, gamma), _blocks(problem, [b[None] for b in by_factor])


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
