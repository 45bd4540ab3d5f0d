"""The same elimination by orthogonal transformations of the rows: exact where cross-products lose their digits.

[Z Lambda, X, y; I, 0, 0] = QR (Golub and Van Loan, Matrix Computations, section 5.2), level by level for the factor
with most levels and then for what it leaves.  R is the Cholesky factor of ``elimination``, but a relative standard
deviation theta costs eps theta of its digits instead of eps theta^2.  The price is a pass over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.kernel.conditioning import Conditioned
from hiermod.kernel.structure import merge

LARGEST = 20_000_000  # numbers in the dense rows of the tail


@dataclass(frozen=True, eq=False, slots=True)
class RowElimination:
    """What ``Factorisation`` holds, in the conditioned coordinates.  u: (J, K) for each factor."""

    logdet_random: float
    logdet_fixed: float
    pwrss: float
    u: tuple[np.ndarray, ...]
    gamma: np.ndarray  # (p,) of the least-squares residual, as ``Conditioned`` has it
    R: np.ndarray  # (p, p) upper triangular, R_X


def eliminate_rows(rows: Conditioned, lambdas: Sequence[np.ndarray]) -> RowElimination | None:
    """lambdas: whitened, one (K, K) for each factor.  None where the dense rows would be too many."""
    factors = merge(rows.terms)
    first = int(np.argmax([factor.n_levels for factor in factors]))
    others = [index for index in range(len(factors)) if index != first]
    widths = [factors[index].n_levels * factors[index].size for index in others]
    n, p, q = len(rows.residual), rows.Q.shape[1], sum(widths)
    if n * (q + p + 1) > LARGEST or q * q > LARGEST:
        return None
    tail = np.zeros((n, q + p + 1))
    start = 0
    for index, width in zip(others, widths, strict=True):
        factor = factors[index]
        columns = start + factor.codes[:, None] * factor.size + np.arange(factor.size)
        tail[np.arange(n)[:, None], columns] = factor.values @ lambdas[index]
        start += width
    tail[:, q : q + p], tail[:, -1] = rows.Q, rows.residual
    head, K = factors[first], factors[first].size
    own, across, left = _by_level(head.codes, head.n_levels, head.values @ lambdas[first], tail)
    below = np.zeros((max(len(left) + q, q + p + 1), q + p + 1))
    below[: len(left)] = left
    below[len(left) : len(left) + q, :q] = np.eye(q)
    R = np.asarray(np.linalg.qr(below, mode="r"))
    solution = solve_triangular(R[:-1, :-1], R[:-1, -1]) if q + p else np.zeros(0)
    u: list[np.ndarray] = [np.zeros((0, 0))] * len(factors)
    right = across[:, :, -1] - across[:, :, :-1] @ solution
    u[first] = np.linalg.solve(own, right[:, :, None])[:, :, 0]
    start = 0
    for index, width in zip(others, widths, strict=True):
        u[index] = solution[start : start + width].reshape(-1, factors[index].size)
        start += width
    logs = 2.0 * np.log(np.abs(np.diag(R)))
    heads = 2.0 * np.log(np.abs(own[:, np.arange(K), np.arange(K)])).sum()
    return RowElimination(
        logdet_random=float(heads + logs[:q].sum()),
        logdet_fixed=float(logs[q : q + p].sum()),
        pwrss=float(R[-1, -1]) ** 2,
        u=tuple(u),
        gamma=solution[q:],
        R=R[q : q + p, q : q + p],
    )


def _by_level(
    codes: np.ndarray, J: int, values: np.ndarray, tail: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """QR of each level's [values, tail; I, 0]: its own triangle (J, K, K), its rows across the tail, and the rest.

    Levels of about the same number of rows go together, filled up with rows of zeros."""
    K, m = values.shape[1], tail.shape[1]
    own, across, left = np.empty((J, K, K)), np.empty((J, K, m)), []
    counts = np.bincount(codes, minlength=J)
    order = np.argsort(codes, kind="stable")
    place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a row within its level
    room = 2 ** np.ceil(np.log2(np.maximum(counts, 1))).astype(int)
    for size in np.unique(room):
        levels = np.flatnonzero(room == size)
        slot = np.full(J, -1)
        slot[levels] = np.arange(len(levels))
        here = slot[codes[order]] >= 0
        stack = np.zeros((len(levels), size + K, K + m))
        at = (slot[codes[order][here]], place[here])
        stack[..., :K][at], stack[..., K:][at] = values[order[here]], tail[order[here]]
        stack[:, size:, :K] = np.eye(K)
        R = np.asarray(np.linalg.qr(stack, mode="r"))
        own[levels], across[levels] = R[:, :K, :K], R[:, :K, K:]
        left.append(R[:, K:, K:].reshape(-1, m))
    return own, across, np.concatenate(left)
