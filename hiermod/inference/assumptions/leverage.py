"""Rows of the data seen from the penalised factor: their hat matrix and what each contributes to beta.

In rows scaled by sqrt(w), fitted = H y with H = C P C', C = [Z X] and P the joint variance of (b, beta) over sigma^2.
Eliminating the factors one by one leaves H_rs = z_r'z_s + sum over factors of v_r'Q v_s where r and s share a level,
and beta = R^-1 L_X^-T z_X y (Bates et al. 2015, J. Stat. Softw. 67(1), section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.formula.design import Design
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.sparse_rows import SparseRows

FEW = 60  # rows not worth compressing

Record = MixedFit | LinearFit | GeneralisedMixedFit | GeneralisedLinearFit


@dataclass(frozen=True, eq=False)
class Projected:
    """m rows.  z (m, columns), the last p of X; members: level (m,), v and Q v (m, K) per eliminated factor."""

    z: np.ndarray
    members: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class SeenRows:
    """m rows in the coordinates of the factor.  Rows may stand for more rows of data with the same products."""

    codes: tuple[np.ndarray, ...]  # (m,) per grouping factor of the kernel
    values: tuple[np.ndarray, ...]  # (m, K), whitened and scaled by sqrt(w)
    X: np.ndarray  # (m, p) orthonormal over all rows (up to weights that came later)
    e: np.ndarray  # (m,) residuals, scaled by sqrt(w)
    R: np.ndarray  # (p, p) X as typed = X R
    L_X: np.ndarray  # (p, p) lower; its L L' is the inverse of beta's variance over sigma^2, in X's coordinates
    factor: Factorisation | None  # None without group effects
    kind: Record

    def __len__(self) -> int:
        return len(self.e)

    def take(self, index: np.ndarray) -> SeenRows:
        """Some of the rows."""
        return self._with([c[index] for c in self.codes], [v[index] for v in self.values], self.X[index], self.e[index])

    def _with(self, codes: list[np.ndarray], values: list[np.ndarray], X: np.ndarray, e: np.ndarray) -> SeenRows:
        return SeenRows(tuple(codes), tuple(values), X, e, self.R, self.L_X, self.factor, self.kind)

    def compressed(self) -> SeenRows:
        """Fewer rows with the same products within each combination of levels, where there are few combinations."""
        wide = np.column_stack([*self.values, self.X, self.e])
        width = wide.shape[1]
        if len(wide) <= max(FEW, 2 * width):
            return self
        cell = np.zeros(len(wide), dtype=np.intp)
        for codes in self.codes:
            cell = np.unique(cell * (int(codes.max()) + 1) + codes, return_inverse=True)[1].reshape(-1)
        if (int(cell.max()) + 1) * width > len(wide) // 2:
            return self
        pieces, owners = [], []
        order = np.argsort(cell, kind="stable")
        for rows in np.split(order, np.cumsum(np.bincount(cell))[:-1]):
            piece = np.linalg.qr(wide[rows], mode="r") if len(rows) > width else wide[rows]
            pieces.append(piece)
            owners.append(np.full(len(piece), rows[0]))
        owner, wide = np.concatenate(owners), np.concatenate(pieces)
        ends = np.cumsum([v.shape[1] for v in self.values], dtype=int)
        values = [wide[:, end - v.shape[1] : end] for end, v in zip(ends, self.values, strict=True)]
        p = self.X.shape[1]
        return self._with([c[owner] for c in self.codes], values, wide[:, width - 1 - p : -1], wide[:, -1])

    def project(self) -> Projected:
        """Eliminate the chain's levels from the rows, then solve with the factor of what is left."""
        if self.factor is None:
            return Projected(solve_triangular(self.L_X, self.X.T, lower=True).T if self.X.shape[1] else self.X, ())
        cross, m = self.factor.cross, len(self)
        m_z = cross.n_tail_effects
        size = m_z + cross.n_fixed
        t = np.zeros((m, size))
        for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
            K = self.values[index].shape[1]
            for a in range(K):
                t[np.arange(m), where.start + self.codes[index] * K + a] = self.values[index][:, a]
        t[:, m_z:] = self.X
        v = list(self.values)
        members = []
        for position, level in enumerate(self.factor.levels):
            index = cross.chain_factors[position]
            codes = self.codes[index]
            Qv = np.einsum("mab,mb->ma", level.Q[codes], v[index])
            members.append((codes, v[index], Qv))
            tail = level.tail.dense(codes) if isinstance(level.tail, SparseRows) else level.tail[codes]
            for a in range(Qv.shape[1]):
                t -= tail[:, a, :size] * Qv[:, a, None]
            for g, ancestor in enumerate(level.ancestors):
                later = cross.chain_factors[position + 1 + g]
                v[later] = v[later] - np.einsum("mab,ma->mb", ancestor[codes], Qv)
        for Lam, where in zip(self.factor.tail_lambdas, cross.tail_slices, strict=True):
            K = len(Lam)
            t[:, where] = (t[:, where].reshape(m, -1, K) @ Lam).reshape(m, -1)
        L = self.factor.L[:size, :size]
        return Projected(solve_triangular(L, t.T, lower=True, check_finite=False).T if size else t, tuple(members))


def hat_blocks(seen: Projected, U: int, size: int) -> np.ndarray:
    """(U, size, size) the hat matrix of each of U units of ``size`` rows, which stand one after the other."""
    z = seen.z.reshape(U, size, -1)
    H = z @ np.swapaxes(z, 1, 2)
    for codes, v, Qv in seen.members:
        by_unit = codes.reshape(U, size)
        same = by_unit[:, :, None] == by_unit[:, None, :]
        H += np.where(same, v.reshape(U, size, -1) @ np.swapaxes(Qv.reshape(U, size, -1), 1, 2), 0.0)
    return 0.5 * (H + np.swapaxes(H, 1, 2))


def working(record: Record, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """(n,) weights and residuals of the least-squares problem that the fit solved last."""
    if isinstance(record, MixedFit | LinearFit):
        return design.precision.of_each_row, design.y - record.fitted
    derivatives = record.likelihood.derivatives(np.array(record.eta))
    weights = np.maximum(derivatives.expected, 1e-300)
    return weights, derivatives.score / weights


def seen_rows(record: Record, design: Design) -> SeenRows:
    """Every row of a fit's data."""
    weights, residuals = working(record, design)
    root = np.sqrt(weights)
    e = root * residuals
    raw = design.X[:, design.estimable]
    if isinstance(record, LinearFit | GeneralisedLinearFit):
        Q, R = np.linalg.qr(raw * root[:, None]) if raw.shape[1] else (raw, np.zeros((0, 0)))
        return SeenRows((), (), Q, e, R, np.eye(raw.shape[1]), None, record)
    problem, factor = record.problem, record.factor
    codes: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for layout in problem.factors:
        parts = [design.blocks[b].values @ problem.whiteners[b] for b in layout.blocks]
        codes.append(np.asarray(design.blocks[layout.blocks[0]].codes, dtype=np.intp))
        values.append(np.hstack(parts) * root[:, None])
    X = raw
    if problem.p:
        X = solve_triangular(problem.R, raw.T, trans=1).T
    m_z, size = factor.cross.n_tail_effects, factor.cross.n_tail_effects + problem.p
    L_X = factor.L[m_z:size, m_z:size]
    return SeenRows(tuple(codes), tuple(values), X * root[:, None], e, problem.R, L_X, factor, record)
