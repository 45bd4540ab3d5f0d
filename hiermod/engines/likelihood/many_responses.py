"""Criterion and gradient for many responses at once, each at its own Lambda (the algebra of kernel.elimination).

For everyday models one evaluation is microseconds of arithmetic and a hundred of overhead; here the arithmetic of S
refits shares the overhead.  For one grouping factor and others crossed with it, if their levels are few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hiermod.engines.likelihood.refit import Products
from hiermod.kernel.batch import prepare
from hiermod.kernel.covariance import triangle
from hiermod.kernel.criterion import Problem
from hiermod.kernel.stacks import cholesky_each, rows_times

LARGEST_TAIL = 40  # columns of the tail up to which stacks pay
NUMBERS = 4_000_000  # that the largest arrays may hold: 32 MB each


@dataclass(frozen=True, eq=False)
class Stack:
    """S problems that differ in y.  G distinct levels of the first factor; tail: other factors' effects, then X (m)."""

    problem: Problem
    A: np.ndarray  # (G, K, K)
    count: np.ndarray  # (G,)
    grams_xx: np.ndarray  # (G K K, m m) sum of R_a R_b' over the levels alike
    grams_xy: np.ndarray  # (S, G K K, m) the same with y, symmetric in (a, b)
    grams_yy: np.ndarray  # (S, G K K)
    tail_xx: np.ndarray  # (m, m)
    tail_xy: np.ndarray  # (S, m)
    squares: np.ndarray  # (S,)

    def part(self, at: np.ndarray) -> Stack:
        """Only some of the S."""
        names = ("grams_xy", "grams_yy", "tail_xy", "squares")
        return replace(self, **{name: getattr(self, name)[at] for name in names})


@dataclass(frozen=True, eq=False)
class Evaluation:
    """At S points x: the criterion (inf where it cannot be had) and what can be read off the factor."""

    value: np.ndarray  # (S,)
    gradient: np.ndarray  # (S, n_theta)
    pwrss: np.ndarray  # (S,)
    gamma: np.ndarray  # (S, p) coefficients of the conditioned X, less those of least squares


def chunk_size(problem: Problem) -> int:
    """How many responses to put into one stack; 0 where stacks do not pay or the structure is another."""
    cross = problem.cross
    m = len(cross.tail) - 1
    if len(cross.chain) != 1 or m >= LARGEST_TAIL or prepare(cross) is None:
        return 0
    G, K = len(_distinct(cross.chain[0].diagonal)[0]), cross.chain[0].diagonal.shape[1]
    size = int(NUMBERS // (G * K * K * (m + 4) + 4 * (m + 1) ** 2))
    return min(size, 500) if size >= 20 else 0


def _distinct(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels with the same cross-products up to rounding: (which stand for them, which one each is, how many)."""
    flat = blocks.reshape(len(blocks), -1)
    unit = 1e-11 * max(float(np.abs(flat).max(initial=0.0)), np.finfo(float).tiny)
    found = np.unique(np.round(flat / unit), axis=0, return_index=True, return_inverse=True, return_counts=True)
    return found[1], found[2].reshape(-1), found[3]


def stack(problem: Problem, products: Products) -> Stack:
    """Prepare the sums over levels that do not change with Lambda."""
    cross = problem.cross
    level = cross.chain[0]
    J, K, m1 = level.tail.shape
    m, S = m1 - 1, len(products.squares)
    first, distinct, count = _distinct(level.diagonal)
    G = len(first)
    own = products.by_factor[cross.chain_factors[0]]  # (S, J, K)
    X = np.ascontiguousarray(level.tail[:, :, :m])  # type: ignore[index]
    xx, xy, yy = np.empty((G, K, K, m, m)), np.empty((S, G, K, K, m)), np.empty((S, G, K, K))
    if G == J:  # sums of one term
        order = first  # the levels in the order of A
        rows, mine = X[order], own[:, order]
        xx[:] = rows[:, :, None, :, None] * rows[:, None, :, None, :]
        xy[:] = rows[None, :, :, None, :] * mine[:, :, None, :, None]
        yy[:] = mine[:, :, :, None] * mine[:, :, None, :]
    else:
        order = np.argsort(distinct, kind="stable")
        for g, members in enumerate(np.split(order, np.cumsum(count)[:-1])):
            # one layout whatever S: numpy multiplies a matrix by its own transpose in another way
            rows, mine = X[members], np.ascontiguousarray(own[:, members])
            xx[g] = np.einsum("jam,jbn->abmn", rows, rows)
            sums = rows_times(mine.transpose(0, 2, 1).reshape(S * K, -1), rows.reshape(len(members), -1))
            xy[:, g] = sums.reshape(S, K, K, m)
            yy[:, g] = mine.transpose(0, 2, 1) @ mine
    xy = 0.5 * (xy + np.swapaxes(xy, 2, 3))
    tail_xy = np.zeros((S, m))
    for where, index in zip(cross.tail_slices, cross.tail_factors, strict=True):
        tail_xy[:, where] = products.by_factor[index].reshape(S, -1)
    return Stack(
        problem,
        level.diagonal[first],
        count.astype(float),
        xx.reshape(G * K * K, m * m),
        xy.reshape(S, G * K * K, m),
        yy.reshape(S, G * K * K),
        np.array(cross.tail[:m, :m]),
        tail_xy,
        products.squares,
    )


def evaluate(stack: Stack, x: np.ndarray, reml: bool) -> Evaluation:
    """Criterion, gradient with respect to x (S, n_theta) and coefficients of every problem."""
    with np.errstate(all="ignore"):
        return _evaluate(stack, x, reml)


def _evaluate(stack: Stack, x: np.ndarray, reml: bool) -> Evaluation:
    problem, cross = stack.problem, stack.problem.cross
    S, m, m_z, p = len(x), len(stack.tail_xx), cross.n_tail_effects, problem.p
    lambdas = problem.stacked_lambdas(x)
    Lam = lambdas[cross.chain_factors[0]][:, None]  # (S, 1, K, K)
    M = np.swapaxes(Lam, 2, 3) @ (stack.A @ Lam)
    K = M.shape[-1]
    M[..., range(K), range(K)] += 1.0
    inverse, logs = _inverse(M)
    half = Lam @ inverse
    Q = half @ np.swapaxes(Lam, 2, 3)
    flat = Q.reshape(S, -1)
    U = np.empty((S, m + 1, m + 1))
    U[:, :m, :m] = stack.tail_xx - rows_times(flat, stack.grams_xx).reshape(S, m, m)
    U[:, :m, m] = U[:, m, :m] = stack.tail_xy - (flat[:, None] @ stack.grams_xy)[:, 0]
    U[:, m, m] = stack.squares - np.einsum("sq,sq->s", flat, stack.grams_yy)
    T = _tail_scale(problem, lambdas, S) if m_z else None
    penalised = U.copy() if T is None else np.swapaxes(T, 1, 2) @ U @ T
    penalised[:, range(m_z), range(m_z)] += 1.0
    finite = np.asarray(np.isfinite(penalised).all(axis=(1, 2)))
    L, good = cholesky_each(np.where(finite[:, None, None], penalised, np.eye(m + 1)))
    good &= finite
    root = np.linalg.inv(L)
    pivots = np.log(np.diagonal(L, axis1=1, axis2=2))
    pwrss = L[:, m, m] ** 2
    n = problem.n - p if reml else problem.n
    value = rows_times(logs, stack.count[:, None])[:, 0] + 2.0 * pivots[:, :m_z].sum(axis=1) - problem.sum_log_w
    if reml:
        value += 2.0 * pivots[:, m_z:m].sum(axis=1) + problem.logdet_R
    if problem.sigma_known:
        weight = np.ones(S)
        value += pwrss + n * np.log(2 * np.pi)
    else:
        weight = n / pwrss
        value += n * (1.0 + np.log(2 * np.pi * pwrss / n))
    solution = L[:, m, m, None] * root[:, m]
    size = m if reml else m_z
    P = weight[:, None, None] * solution[:, :, None] * solution[:, None, :]
    P[:, :size, :size] += np.swapaxes(root[:, :size, :size], 1, 2) @ root[:, :size, :size]
    gradients: list[Any] = [None] * len(problem.factors)
    if T is not None:
        scaled = U @ T
        for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
            k = problem.factors[index].size
            left = scaled[:, where].reshape(S, -1, k, m + 1)
            gradients[index] = 2.0 * np.einsum("sjam,sjbm->sab", left, P[:, where].reshape(S, -1, k, m + 1))
        P = T @ P @ np.swapaxes(T, 1, 2)
    bar = rows_times(P[:, :m, :m].reshape(S, -1), stack.grams_xx.T)
    bar += 2.0 * np.einsum("sqm,sm->sq", stack.grams_xy, P[:, :m, m]) + P[:, m, m, None] * stack.grams_yy
    bar = -bar.reshape(Q.shape)
    inner = stack.count[:, None, None] * stack.A + bar - stack.A @ (Q @ bar)
    gradients[cross.chain_factors[0]] = 2.0 * np.einsum("sgab,sgbc->sac", inner, half)
    gradient = np.empty_like(x)
    for layout, matrix in zip(problem.factors, gradients, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            rows, columns = triangle(where.stop - where.start)
            gradient[:, problem.template.slices[block]] = matrix[:, where, where][:, rows, columns]
    good &= np.isfinite(value) & np.isfinite(gradient).all(axis=1)
    return Evaluation(np.where(good, value, np.inf), gradient, pwrss, -solution[:, m_z:m])


def _tail_scale(problem: Problem, lambdas: list[np.ndarray], S: int) -> np.ndarray:
    """(S, m + 1, m + 1) T: Lambda for every level of the crossed factors, 1 for X and y."""
    cross = problem.cross
    T = np.zeros((S, len(cross.tail), len(cross.tail)))
    T[:, range(len(cross.tail)), range(len(cross.tail))] = 1.0
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        k = problem.factors[index].size
        for start in range(where.start, where.stop, k):
            T[:, start : start + k, start : start + k] = lambdas[index]
    return T


def _inverse(M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse and log determinant of symmetric (S, G, K, K); nan where there is none."""
    K = M.shape[-1]
    if K == 1:
        return 1.0 / M, np.log(M[..., 0, 0])
    if K == 2:
        determinant = M[..., 0, 0] * M[..., 1, 1] - M[..., 0, 1] ** 2
        turned = np.empty_like(M)
        turned[..., 0, 0], turned[..., 1, 1] = M[..., 1, 1], M[..., 0, 0]
        turned[..., 0, 1] = turned[..., 1, 0] = -M[..., 0, 1]
        return turned / determinant[..., None, None], np.log(determinant)
    finite = np.isfinite(M).all(axis=(2, 3), keepdims=True)
    M = np.where(finite, M, np.eye(K))
    return np.where(finite, np.linalg.inv(M), np.nan), np.linalg.slogdet(M)[1]
