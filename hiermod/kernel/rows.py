"""Rows in the coordinates of the penalised system, and what they look like from its factor: the hat matrix.

A row is sqrt(w) times (z, x, y), columns whitened as in conditioning.py.  With C = [Z X] and P the joint variance of
(b, beta) over sigma^2, fitted = H y with H = C P C' (Bates et al. 2015, section 3).  Eliminating the factors one by one
leaves H_rs = z_r'z_s + sum over eliminated factors of v_r'Q v_s where r and s share a level.  Leaving rows out is then
Woodbury's identity: V^-1 = (I - H) / sigma^2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtrs

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.kernel.batch import BatchFactor
from hiermod.kernel.criterion import Problem
from hiermod.kernel.sparse_rows import SparseRows


@dataclass(frozen=True, eq=False)
class Rows:
    """m rows.  Per grouping factor of the kernel: codes (m,) and values (m, K)."""

    codes: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]
    X: np.ndarray  # (m, p) conditioned
    y: np.ndarray  # (m,) what X gamma leaves over, or other residuals

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray | slice) -> Rows:
        """Some of the rows."""
        return Rows(
            tuple(codes[index] for codes in self.codes),
            tuple(values[index] for values in self.values),
            self.X[index],
            self.y[index],
        )

    def compressed(self, least_gain: int = 1) -> Rows:
        """Fewer rows with the same products within each combination of levels, by a QR of each.

        least_gain: as they are where not even this many times fewer could come out."""
        wide = np.column_stack([*self.values, self.X, self.y])
        width = wide.shape[1]
        if len(wide) <= width:
            return self
        cell = np.zeros(len(wide), dtype=np.intp)
        for codes in self.codes:
            cell = np.unique(cell * (int(codes.max()) + 1) + codes, return_inverse=True)[1].reshape(-1)
        if least_gain > 1 and (int(cell.max()) + 1) * width > len(wide) // least_gain:
            return self
        pieces, owners = [], []
        order = np.argsort(cell, kind="stable")
        for rows in np.split(order, np.cumsum(np.bincount(cell))[:-1]):
            piece = np.linalg.qr(wide[rows], mode="r") if len(rows) > width else wide[rows]
            pieces.append(piece)
            owners.append(np.full(len(piece), rows[0]))
        owner, wide = np.concatenate(owners), np.concatenate(pieces)
        ends = np.cumsum([v.shape[1] for v in self.values], dtype=int)
        return Rows(
            tuple(codes[owner] for codes in self.codes),
            tuple(wide[:, end - v.shape[1] : end] for end, v in zip(ends, self.values, strict=True)),
            wide[:, width - 1 - self.X.shape[1] : -1],
            wide[:, -1],
        )


def stacked_rows(pieces: Sequence[Rows]) -> Rows:
    """One after the other."""
    return Rows(
        tuple(np.concatenate(parts) for parts in zip(*(piece.codes for piece in pieces), strict=True)),
        tuple(np.concatenate(parts) for parts in zip(*(piece.values for piece in pieces), strict=True)),
        np.concatenate([piece.X for piece in pieces]),
        np.concatenate([piece.y for piece in pieces]),
    )


def rows_of(
    problem: Problem,
    X: np.ndarray,
    blocks: Sequence[tuple[np.ndarray, np.ndarray]],
    precision: ResidualPrecision,
    y: np.ndarray,
) -> Rows:
    """Any rows in a problem's coordinates, its own or new ones: codes (m,) and values (m, k) for each block, as typed.

    y (m,) is whitened, and nothing is taken off."""
    X = precision.whiten(X)
    if problem.p:
        X = solve_triangular(problem.R, X.T, trans=1).T
    values = tuple(
        precision.whiten(np.hstack([blocks[b][1] @ problem.whiteners[b] for b in layout.blocks]))
        for layout in problem.factors
    )
    codes = tuple(np.asarray(blocks[layout.blocks[0]][0], dtype=np.intp) for layout in problem.factors)
    return Rows(codes, values, X, precision.whiten(y))


@dataclass(frozen=True, eq=False)
class Projected:
    """Rows r = 1..m seen from S factors: H_rs = z_r'z_s, and v_r'Q v_s for each member where r and s share a level."""

    z: np.ndarray  # (S, columns, m), the last p of X
    members: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]  # codes (m,), v (1 or S, K, m), Q v (S, K, m)
    e: np.ndarray  # (S, m) residuals, of rows whose y is that of the cross-products

    def hat_diagonal(self) -> np.ndarray:
        """(S, m)."""
        h = np.square(self.z).sum(axis=1)
        for _, v, Qv in self.members:
            for a in range(v.shape[1]):
                h += v[:, a] * Qv[:, a]
        return h

    def hat_blocks(self, U: int, size: int) -> np.ndarray:
        """(S, U, size, size) the hat matrix of each of U units of ``size`` rows, which stand one after the other."""
        S = len(self.z)
        z = np.moveaxis(self.z.reshape(S, -1, U, size), 1, 3)  # (S, U, rows, columns)
        H = z @ np.swapaxes(z, 2, 3)
        for codes, v, Qv in self.members:
            by_unit = codes.reshape(U, size)
            same = by_unit[:, :, None] == by_unit[:, None, :]
            left_side = np.moveaxis(v.reshape(len(v), -1, U, size), 1, 3)
            right_side = np.moveaxis(Qv.reshape(S, -1, U, size), 1, 2)
            H += np.where(same, left_side @ right_side, 0.0)
        return (H + np.swapaxes(H, 2, 3)) / 2


def project(problem: Problem, factor: BatchFactor, rows: Rows) -> Projected:
    """Eliminate the chain's levels from the rows, then solve with the tail's factor; y travels as the last column."""
    cross, S, m = problem.cross, len(factor.L), len(rows)
    size = factor.L.shape[1]
    m_z = cross.n_tail_effects
    t = np.zeros((m, size)).T[None]  # row by row in memory: what one factor asks for
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        K = rows.values[index].shape[1]
        for a in range(K):
            t[0, where.start + rows.codes[index] * K + a, np.arange(m)] = rows.values[index][:, a]
    t[0, m_z:-1], t[0, -1] = rows.X.T, rows.y
    if S > 1:
        t = np.broadcast_to(t, (S, size, m)).copy()
    v = {index: rows.values[index].T[None] for index in cross.chain_factors}
    members = []
    for position, level in enumerate(factor.levels):
        index = cross.chain_factors[position]
        codes = rows.codes[index]
        own = codes if level.distinct is None else level.distinct[codes]
        Qv = _by_row(level.Q, own, v[index])
        members.append((codes, v[index], Qv))
        _take_off(t, level.tail, codes, Qv)
        for g, ancestor in enumerate(level.ancestors):
            later = cross.chain_factors[position + 1 + g]
            v[later] = v[later] - _by_row(np.swapaxes(ancestor, 2, 3), codes, Qv)
    for Lam, where in zip(factor.tail_lambdas, cross.tail_slices, strict=True):
        K = Lam.shape[-1]
        if S == 1:
            one = t[0].T[:, where]
            one[:] = (one.reshape(m, -1, K) @ Lam[0]).reshape(m, -1)
            continue
        part = t[:, where].reshape(S, -1, K, m)
        t[:, where] = (np.swapaxes(Lam, 1, 2)[:, None] @ part).reshape(S, -1, m)
    z = _forward(factor.L, t)
    return Projected(z[:, :-1], tuple(members), z[:, -1] * factor.L[:, -1, -1][:, None])


def _take_off(t: np.ndarray, tail: np.ndarray | SparseRows, codes: np.ndarray, Qv: np.ndarray) -> None:
    """t -= R_j'Q_j v for each row, j its level: t (S, columns, m), R (1 or S, J, K, columns), Qv (S, K, m)."""
    K, m = Qv.shape[1:]
    if isinstance(tail, SparseRows):  # a stack of one
        where = codes[:, None] * K + np.arange(K)
        picked = sparse.csr_matrix((Qv[0].T.ravel(), where.ravel(), np.arange(0, m * K + 1, K)), (m, tail.shape[0] * K))
        t[0].T[:] -= (picked @ tail.matrix()).toarray()
    elif len(t) == 1:
        for a in range(K):
            t[0].T[:] -= tail[0, codes, a] * Qv[0, a, :, None]
    else:
        rows_last = np.ascontiguousarray(np.moveaxis(tail[:, codes], 1, 3))  # (1 or S, K, columns, m)
        for a in range(K):
            t -= rows_last[:, a] * Qv[:, a, None]


def _by_row(stack: np.ndarray, codes: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(., a, m): each row's matrix of (., G, a, b), G all levels or 1 where all are alike, times (., b, m)."""
    if len(stack) == len(vector) == 1:  # row by row in memory, as ``t``
        matrices = stack[0, codes] if stack.shape[1] > 1 else np.broadcast_to(stack[0], (len(codes), *stack.shape[2:]))
        return np.einsum("mab,mb->ma", matrices, vector[0].T).T[None]
    if stack.shape[1] > 1:
        stack = stack[:, codes]
    matrix = np.ascontiguousarray(np.moveaxis(stack, 1, 3))
    total = matrix[:, :, 0] * vector[:, None, 0]  # the matrices are tiny and many
    for b in range(1, matrix.shape[2]):
        total = total + matrix[:, :, b] * vector[:, None, b]
    return total


def _forward(L: np.ndarray, t: np.ndarray) -> np.ndarray:
    """L^-1 t for stacks of lower triangular L (S, m, m); t (S, m, r) may be overwritten."""
    if len(L) == 1:
        return dtrtrs(L[0], t[0], lower=1, overwrite_b=1)[0][None]
    if L.shape[1] > 12:
        return np.linalg.solve(L, t)
    for a in range(L.shape[1]):
        for b in range(a):
            t[:, a] -= L[:, a, b, None] * t[:, b]
        t[:, a] /= L[:, a, a, None]
    return t
