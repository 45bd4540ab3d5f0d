"""The elimination of ``elimination.py`` at many Lambdas at once, for problems whose tail is small.

A posterior needs thousands of evaluations; for everyday models one costs microseconds of arithmetic and a hundred
of overhead.  Levels with the same cross-products (balanced designs: all of them) are eliminated once and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.kernel.crossproducts import CrossProducts
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.stacks import FAR, cholesky_each, rows_times, steady

SMALL_TAIL = 80  # columns of the tail up to which a stack of dense factors beats one factor after the other
NUMBERS = 6_000_000  # held at once by one chunk: about 50 MB
DIGITS = 1e-12  # relative size of a determinant below which rounding has eaten it
SAME = 1e-11  # relative difference below which two levels' cross-products are the same


@dataclass(frozen=True, eq=False)
class BatchLevel:
    """An eliminated factor at S Lambdas: what drawing its effects needs."""

    Lam: np.ndarray  # (S, K, K)
    M: np.ndarray  # (S, G, K, K) Lam'A Lam + I, for each distinct level
    Q: np.ndarray  # (S, G, K, K) Lam M^-1 Lam'
    distinct: np.ndarray | None  # (J,) which of the G each level is; None: G = J
    parents: tuple[np.ndarray, ...]
    ancestors: tuple[np.ndarray, ...]  # (1 or S, J, K, K_g)
    tail: np.ndarray | SparseRows  # (1 or S, J, K, m), or sparse, of a stack of one


@dataclass(frozen=True, eq=False)
class BatchFactor:
    """S factorisations.  ``ok`` is False where rounding left no positive pivot; its numbers are then meaningless."""

    levels: tuple[BatchLevel, ...]
    tail_lambdas: tuple[np.ndarray, ...]  # (S, K, K)
    L: np.ndarray  # (S, m, m)
    logdet_random: np.ndarray  # (S,)
    logdet_fixed: np.ndarray
    pwrss: np.ndarray
    ok: np.ndarray  # (S,) bool


@dataclass(frozen=True, eq=False)
class Batch:
    """Cross-products prepared for many evaluations."""

    cross: CrossProducts
    A: np.ndarray | None  # (G, K, K) distinct blocks of the only chain member
    count: np.ndarray | None  # (G,)
    distinct: np.ndarray | None  # (J,)
    grams: np.ndarray | None  # (G K K, m m): sum of R_a'R_b over the levels alike

    def chunk(self) -> int:
        """Lambdas to evaluate at once within NUMBERS."""
        m = len(self.cross.tail)
        size = 3 * m * m
        for level in self.cross.chain:
            J, K, _ = level.diagonal.shape
            if self.A is not None:
                size += 4 * len(self.A) * K * K
            else:
                size += J * K * (4 * K + 2 * m + 2 * sum(a.shape[2] for a in level.ancestors))
        return max(1, NUMBERS // size)


def stack_of_one(factor: Factorisation, first: int = 0) -> BatchFactor:
    """One factor as a stack with S = 1, nothing copied; M of the eliminated factors from ``first`` on."""
    levels = tuple(
        BatchLevel(
            level.Lam[None],
            level.M[None] if position >= first else level.Q[None, :0],
            level.Q[None],
            None,
            level.parents,
            tuple(ancestor[None] for ancestor in level.ancestors),
            level.tail if isinstance(level.tail, SparseRows) else level.tail[None],
        )
        for position, level in enumerate(factor.levels)
    )
    return BatchFactor(
        levels,
        tuple(Lam[None] for Lam in factor.tail_lambdas),
        factor.L[None],
        np.array([factor.logdet_random]),
        np.array([factor.logdet_fixed]),
        np.array([factor.pwrss]),
        np.ones(1, dtype=bool),
    )


def prepare(cross: CrossProducts) -> Batch | None:
    """None when the tail is too large, or sparse, for stacks."""
    if len(cross.tail) > SMALL_TAIL or any(isinstance(level.tail, SparseRows) for level in cross.chain):
        return None
    if len(cross.chain) != 1:
        return Batch(cross, None, None, None, None)
    level = cross.chain[0]
    J, K, m = level.tail.shape
    A, distinct, count = _distinct_blocks(level.diagonal)
    if len(A) * K * K * m * m > max(J * K * m, NUMBERS):
        return Batch(cross, None, None, None, None)
    grams = np.empty((len(A), K, K, m, m))
    order = np.argsort(distinct, kind="stable")
    for g, members in enumerate(np.split(order, np.cumsum(count)[:-1])):
        rows = level.tail[members]  # type: ignore[index]
        for a in range(K):
            for b in range(K):
                grams[g, a, b] = rows[:, a].T @ rows[:, b]
    return Batch(cross, A, count.astype(float), distinct, grams.reshape(len(A) * K * K, m * m))


def _distinct_blocks(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (G, K, K) blocks up to rounding, which one each level has (J,), and how many levels each stands for."""
    flat = blocks.reshape(len(blocks), -1)
    unit = SAME * max(float(np.abs(flat).max(initial=0.0)), np.finfo(float).tiny)
    _, first, inverse, count = np.unique(
        np.round(flat / unit), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    return blocks[first], inverse.reshape(-1), count


def factorise_batch(batch: Batch, lambdas: Sequence[np.ndarray], added: np.ndarray) -> BatchFactor:
    """Eliminate at S Lambdas.  lambdas: (S, K, K) per factor, whitened; added (S, p + 1, p + 1): onto X and y."""
    cross, lambdas = batch.cross, [steady(Lam) for Lam in lambdas]
    S, m, m_z = len(added), len(cross.tail), cross.n_tail_effects
    U = np.broadcast_to(cross.tail, (S, m, m)).copy()
    logdet, good, least = np.zeros(S), np.ones(S, dtype=bool), np.ones(S)
    done: list[BatchLevel] = []
    chain: list[list[Any]] = [
        [level.diagonal[None], [a[None] for a in level.ancestors], level.tail[None]]  # type: ignore[index]
        for level in cross.chain
    ]
    for position, level in enumerate(cross.chain):
        A, ancestors, tail = chain[position]
        Lam = lambdas[cross.chain_factors[position]]
        if batch.A is not None:
            A = batch.A[None]
        M, Q, logs, trusted = penalised(A, Lam)
        good &= trusted
        if Lam.shape[-1] > 1:  # what cancellation has left of the digits of M^-1
            whole = np.log(np.diagonal(M, axis1=2, axis2=3)).sum(axis=-1)
            least = np.minimum(least, np.exp((logs - whole).min(axis=1)))
        logdet += logs.sum(axis=1) if batch.count is None else rows_times(logs, batch.count[:, None])[:, 0]
        done.append(BatchLevel(Lam, M, Q, batch.distinct, level.parents, tuple(ancestors), tail))
        if batch.grams is not None:
            U -= rows_times(Q.reshape(S, -1), batch.grams).reshape(S, m, m)
            continue
        through = Q @ tail  # (S, J, K, m)
        flat = tail.reshape(len(tail), -1, m)
        U -= np.swapaxes(flat, 1, 2) @ through.reshape(S, -1, m)
        for g, (ancestor, incidence) in enumerate(zip(ancestors, level.incidence, strict=True)):
            left = np.swapaxes(Q @ ancestor, 2, 3)  # (S, J, K_g, K)
            later = chain[position + 1 + g]
            later[0] = later[0] - _sum_levels(incidence, left @ ancestor)
            for h in range(g + 1, len(ancestors)):
                later[1][h - g - 1] = later[1][h - g - 1] - _sum_levels(incidence, left @ ancestors[h])
            later[2] = later[2] - _sum_levels(incidence, left @ tail)
    tail_lambdas = tuple(lambdas[g] for g in cross.tail_factors)
    for Lam, where in zip(tail_lambdas, cross.tail_slices, strict=True):
        U[:, where, :] = _levels_times(np.swapaxes(Lam, 1, 2), U[:, where, :])
        U[:, :, where] = np.swapaxes(_levels_times(np.swapaxes(Lam, 1, 2), np.swapaxes(U[:, :, where], 1, 2)), 1, 2)
    U[:, range(m_z), range(m_z)] += 1.0
    U[:, m_z:, m_z:] += added
    good &= np.isfinite(U).all(axis=(1, 2))
    L, ok = cholesky_each(np.where(good[:, None, None], U, np.eye(m)))
    ok &= good & (L[:, -1, -1] ** 2 * least > DIGITS * cross.tail[-1, -1])  # else the residuals are rounding errors
    pivots = np.log(np.where(ok[:, None], np.diagonal(L, axis1=1, axis2=2), 1.0))
    return BatchFactor(
        tuple(done),
        tail_lambdas,
        L,
        logdet + 2.0 * pivots[:, :m_z].sum(axis=1),
        2.0 * pivots[:, m_z:-1].sum(axis=1),
        L[:, -1, -1] ** 2,
        ok,
    )


def penalised(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """M = Lam'A Lam + I, Q = Lam M^-1 Lam' (S, G, K, K), log|M| (S, G), and where these can be trusted (S,).

    A (1 or S, G, K, K), Lam (S, K, K).  Proposals can be wild: an M without digits left is put to I
    and reported.  For K = 1 and 2 the entries are written out: products of tiny matrices take ten times as long."""
    M, Q, logs, good = _penalised(A, Lam)
    far = good & (np.abs(Lam).max(axis=(1, 2), initial=0.0) > FAR)
    if Lam.shape[-1] > 1 and far.any():
        root = np.empty_like(M[far])
        for s, (Ms, L) in enumerate(zip(M[far], Lam[far], strict=True)):
            root[s] = np.linalg.solve(cholesky_each(Ms)[0], np.broadcast_to(L.T, Ms.shape))
        Q[far] = np.swapaxes(root, 2, 3) @ root  # as in ``penalised_inverse``
    return M, Q, logs, good


def _penalised(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    K = Lam.shape[-1]
    with np.errstate(all="ignore"):
        if K == 1:
            square = Lam[:, None] ** 2
            M = 1.0 + square * A
            good = np.isfinite(M).all(axis=(1, 2, 3))
            M = np.where(good[:, None, None, None], M, 1.0)
            return M, np.where(np.isfinite(square), square, 0.0) / M, np.log(M)[..., 0, 0], good
        if K == 2:
            return _penalised_pairs(A, Lam)
        outer = Lam[:, None]
        M = np.swapaxes(outer, 2, 3) @ (A @ outer)
        M[..., range(K), range(K)] += 1.0
        diagonal = np.diagonal(M, axis1=2, axis2=3)
        determinant = np.linalg.det(np.where(np.isfinite(M), M, 0.0))
        trusted = (determinant > DIGITS * diagonal.prod(axis=-1)) & np.isfinite(M).all(axis=(2, 3))
    M = np.where(trusted[..., None, None], M, np.eye(K))
    determinant = np.where(trusted, determinant, 1.0)
    good = trusted.all(axis=1)
    kept = np.where(good[:, None, None, None], outer, 0.0)
    return M, kept @ np.linalg.inv(M) @ np.swapaxes(kept, 2, 3), np.log(determinant), good


def _penalised_pairs(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``penalised`` for K = 2."""
    p, q, r, s = (Lam[:, row, column, None] for row, column in ((0, 0), (1, 0), (1, 1), (0, 1)))  # (S, 1)
    x, y, z = A[..., 0, 0], A[..., 0, 1], A[..., 1, 1]  # (1 or S, G)
    above, below = x * p + y * q, y * p + z * q
    a, b, c = 1.0 + p * above + q * below, r * below + s * above, 1.0 + s * (x * s + 2.0 * y * r) + r * r * z
    determinant = a * c - b * b
    trusted = (determinant > DIGITS * a * c) & np.isfinite(determinant)
    good = trusted.all(axis=1)
    if not good.all():
        bad = ~good[:, None]
        p, q, r, s = (np.where(bad, 0.0, one) for one in (p, q, r, s))
        a, c, determinant = (np.where(bad, 1.0, one) for one in (a, c, determinant))
        b = np.where(bad, 0.0, b)
    M, Q = np.empty((*a.shape, 2, 2)), np.empty((*a.shape, 2, 2))
    M[..., 0, 0], M[..., 1, 1] = a, c
    M[..., 0, 1] = M[..., 1, 0] = b
    c, b, a = c / determinant, b / determinant, a / determinant
    first, second = q * c - r * b, r * a - q * b
    Q[..., 0, 0] = p * (p * c - s * b) + s * (s * a - p * b)
    Q[..., 0, 1] = Q[..., 1, 0] = p * first + s * second
    Q[..., 1, 1] = q * first + r * second
    return M, Q, np.log(determinant), good


def _levels_times(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A (S, K, K) matrix applied to each level's K rows of (S, J K, c)."""
    S, size, c = rows.shape
    K = matrix.shape[-1]
    return (matrix[:, None] @ rows.reshape(S, size // K, K, c)).reshape(S, size, c)


def _sum_levels(incidence: object, stack: np.ndarray) -> np.ndarray:
    """Sum (S, J, a, b) over the levels inside each parent: (S, J_g, a, b)."""
    S, J, a, b = stack.shape
    first = np.moveaxis(stack, 1, 0).reshape(J, -1)
    return np.moveaxis((incidence @ first).reshape(-1, S, a, b), 0, 1)
