"""log p(y_u | y without u, phi) of units u, exact, from one penalised factor of all data (docs/architecture.md).

V^-1 = (I - H) / sigma^2 in rows scaled by sqrt(w), H = C P C' the joint variance of the fit over sigma^2 and e its
residuals (Woodbury).  So y_u given the rest is normal, mean y_u - (I - H_uu)^-1 e_u, variance sigma^2 (I - H_uu)^-1;
a second y_u given all of the data, effects kept in, has mean y_u - e_u and variance sigma^2 (I + H_uu)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.engines.marginal.density import MarginalDensity
from hiermod.inference.scores.rows import Rows, Units, pick
from hiermod.kernel.batch import BatchFactor, stack_of_one
from hiermod.kernel.sparse_rows import SparseRows

NUMBERS = 1_000_000  # held at once by one array: 8 MB, which stays in the processor's cache
LEAST = 1e-14  # of 1 - h: below it rounding decides, and so far out no posterior has weight


@dataclass(frozen=True, eq=False)
class HeldOut:
    """At S values of phi and for U units."""

    log_p: np.ndarray  # (S, U) log p(y_u | the rest, phi)
    log_replicate: np.ndarray  # (S, U) log p(a second y_u | all data, phi), effects kept in
    log_joint: np.ndarray  # (S,) log p(phi, y); -inf outside the priors' support


def held_out(density: MarginalDensity, units: Units, phi: np.ndarray) -> HeldOut:
    """All three at each row of phi (S, d).  Where log_joint is -inf the others are 0."""
    S, U = len(phi), len(units)
    log_p, log_replicate = np.zeros((S, U)), np.zeros((S, U))
    prior, _ = density.log_prior(phi)
    log_joint = np.full(S, -np.inf)
    inside = np.flatnonzero(np.isfinite(prior))
    pieces = _pieces(density, units)
    step = _step(density, pieces)
    for start in range(0, len(inside), step):
        at = inside[start : start + step]
        factor = _factor(density, phi[at])
        if factor is None:
            continue
        sigma = density.sigma(phi[at])
        logs = prior[at] + density._log_likelihood(factor.logdet_random + factor.logdet_fixed, factor.pwrss, sigma)
        log_joint[at] = np.where(factor.ok & np.isfinite(logs), logs, -np.inf)
        ok = np.isfinite(log_joint[at])
        for which, piece in pieces:
            for target, found in zip((log_p, log_replicate), _unit_logs(density, factor, piece, sigma), strict=True):
                _put(target, at[ok], which, found if ok.all() else found[ok])
    return HeldOut(log_p, log_replicate, log_joint)


def _put(target: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """target[rows, columns] = values; by slices where both are runs, which is several times faster."""
    if all(len(one) and one[-1] - one[0] == len(one) - 1 for one in (rows, columns)):
        target[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = values
    else:
        target[np.ix_(rows, columns)] = values


def _pieces(density: MarginalDensity, units: Units) -> list[tuple[np.ndarray, Units]]:
    """Units of one size together, few enough for one pass."""
    width = _width(density)
    found = []
    for size in np.unique(units.sizes):
        same = np.flatnonzero(units.sizes == size)
        step = max(1, NUMBERS // (int(size) * (width + int(size))))
        found += [(same[i : i + step], pick(units, same[i : i + step])) for i in range(0, len(same), step)]
    return found


def _width(density: MarginalDensity) -> int:
    """Numbers that one row takes at one phi."""
    sizes = [layout.size for layout in density.problem.factors]
    m = len(density.problem.cross.tail)
    deep = max(sizes) if len(density.problem.cross.chain) > 1 else 0  # then every phi has rows of its own to the tail
    return 2 * m + 3 * sum(sizes) + deep * m


def _step(density: MarginalDensity, pieces: list[tuple[np.ndarray, Units]]) -> int:
    """How many phi at once."""
    if density.batch is None:
        return 1
    width = _width(density)
    most = max((len(piece.rows.y) * (width + int(piece.sizes[0])) for _, piece in pieces), default=1)
    return max(1, min(density.batch.chunk(), NUMBERS // most))


def _factor(density: MarginalDensity, phi: np.ndarray) -> BatchFactor | None:
    if density.batch is not None:
        return density.factorise_many(phi)
    factor = density.factorise(phi[0])
    return None if factor is None else stack_of_one(factor)


@dataclass(frozen=True, eq=False)
class _Projected:
    """Rows r = 1..m seen from the factor: H_rs = z_r'z_s, and v_r'Q v_s for each member where r and s share a level."""

    z: np.ndarray  # (S, columns, m)
    members: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]  # codes (m,), v (1 or S, K, m), Q v (S, K, m)
    e: np.ndarray  # (S, m) residuals


def _project(density: MarginalDensity, factor: BatchFactor, rows: Rows) -> _Projected:
    """Eliminate the chain's levels from the rows, then solve with the tail's factor; y travels as the last column."""
    cross, S, m = density.problem.cross, len(factor.L), len(rows.y)
    size = factor.L.shape[1]
    m_z = cross.n_tail_effects
    t = np.zeros((1, size, m))
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        K = rows.values[index].shape[1]
        for a in range(K):
            t[0, where.start + rows.codes[index] * K + a, np.arange(m)] = rows.values[index][:, a]
    t[0, m_z:-1], t[0, -1] = rows.X.T, rows.y
    t = np.broadcast_to(t, (S, size, m)).copy()
    v = {index: rows.values[index].T[None] for index in cross.chain_factors}
    members = []
    for position, level in enumerate(factor.levels):
        index = cross.chain_factors[position]
        codes = rows.codes[index]
        own = codes if level.distinct is None else level.distinct[codes]
        Qv = _times(_by_row(level.Q, own), v[index])
        members.append((codes, v[index], Qv))
        tail = level.tail.dense(codes)[None] if isinstance(level.tail, SparseRows) else level.tail[:, codes]
        rows_last = np.ascontiguousarray(np.moveaxis(tail, 1, 3))  # (1 or S, K, columns, m)
        for a in range(Qv.shape[1]):
            t -= rows_last[:, a] * Qv[:, a, None]
        for g, ancestor in enumerate(level.ancestors):
            later = cross.chain_factors[position + 1 + g]
            v[later] = v[later] - _times(_by_row(np.swapaxes(ancestor, 2, 3), codes), Qv)
    for Lam, where in zip(factor.tail_lambdas, cross.tail_slices, strict=True):
        K = Lam.shape[-1]
        part = t[:, where].reshape(S, -1, K, m)
        t[:, where] = (np.swapaxes(Lam, 1, 2)[:, None] @ part).reshape(S, -1, m)
    z = solve_triangular(factor.L[0], t[0], lower=True)[None] if S == 1 else _forward(factor.L, t)
    return _Projected(z[:, :-1], tuple(members), z[:, -1] * factor.L[:, -1, -1][:, None])


def _by_row(stack: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(., a, b, m), or (., a, b, 1) where all levels are alike, from one small matrix per level (., G, a, b)."""
    if stack.shape[1] > 1:
        stack = stack[:, codes]
    return np.ascontiguousarray(np.moveaxis(stack, 1, 3))


def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(., a, b, m) times (., b, m): the matrices are tiny and many."""
    total = matrix[:, :, 0] * vector[:, None, 0]
    for b in range(1, matrix.shape[2]):
        total = total + matrix[:, :, b] * vector[:, None, b]
    return total


def _forward(L: np.ndarray, t: np.ndarray) -> np.ndarray:
    """L^-1 t for stacks of lower triangular L (S, m, m); t (S, m, r) is overwritten."""
    if L.shape[1] > 12:
        return np.linalg.solve(L, t)
    for a in range(L.shape[1]):
        for b in range(a):
            t[:, a] -= L[:, a, b, None] * t[:, b]
        t[:, a] /= L[:, a, a, None]
    return t


def _unit_logs(
    density: MarginalDensity, factor: BatchFactor, units: Units, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(S, U) log density of each unit given the rest, and of its replicate; units all of one size."""
    seen = _project(density, factor, units.rows)
    S, U, size = len(sigma), len(units), int(units.sizes[0])
    constant = units.half_log_w - 0.5 * np.log(2 * np.pi) * units.n_rows - units.n_rows * np.log(sigma)[:, None]
    if size == 1:
        h = np.square(seen.z).sum(axis=1)
        for _, v, Qv in seen.members:
            for a in range(v.shape[1]):
                h += v[:, a] * Qv[:, a]
        square = np.square(seen.e / sigma[:, None])
        left, more = np.maximum(1 - h, LEAST), 1 + h
        return (
            constant + 0.5 * (np.log(left) - square / left),
            constant - 0.5 * (np.log(more) + square / more),
        )
    z = np.moveaxis(seen.z.reshape(S, -1, U, size), 1, 3)  # (S, U, rows, columns)
    H = z @ np.swapaxes(z, 2, 3)
    for codes, v, Qv in seen.members:
        by_unit = codes.reshape(U, size)
        same = by_unit[:, :, None] == by_unit[:, None, :]
        left_side = np.moveaxis(v.reshape(len(v), -1, U, size), 1, 3)
        right_side = np.moveaxis(Qv.reshape(S, -1, U, size), 1, 2)
        H += np.where(same, left_side @ right_side, 0.0)
    H = (H + np.swapaxes(H, 2, 3)) / 2
    e = (seen.e / sigma[:, None]).reshape(S, U, size)
    values, vectors = np.linalg.eigh(H)
    turned = np.square((np.swapaxes(vectors, 2, 3) @ e[..., None])[..., 0])
    left, more = np.maximum(1 - values, LEAST), 1 + np.maximum(values, 0.0)
    return (
        constant + 0.5 * (np.log(left) - turned / left).sum(axis=2),
        constant - 0.5 * (np.log(more) + turned / more).sum(axis=2),
    )
