"""log p(y_u | y without u, phi) of units u, exact, from one penalised factor of all data (docs/architecture.md).

V^-1 = (I - H) / sigma^2 in rows scaled by sqrt(w), H = C P C' the joint variance of the fit over sigma^2 and e its
residuals (Woodbury).  So y_u given the rest is normal, mean y_u - (I - H_uu)^-1 e_u, variance sigma^2 (I - H_uu)^-1;
a second y_u given all of the data, effects kept in, has mean y_u - e_u and variance sigma^2 (I + H_uu)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.marginal.density import MarginalDensity
from hiermod.inference.scores.rows import Units, pick
from hiermod.kernel.batch import BatchFactor, stack_of_one
from hiermod.kernel.rows import project

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
    m = density.problem.n_dense
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


def _unit_logs(
    density: MarginalDensity, factor: BatchFactor, units: Units, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(S, U) log density of each unit given the rest, and of its replicate; units all of one size."""
    seen = project(density.problem, factor, units.rows)
    S, U, size = len(sigma), len(units), int(units.sizes[0])
    constant = units.half_log_w - 0.5 * np.log(2 * np.pi) * units.n_rows - units.n_rows * np.log(sigma)[:, None]
    if size == 1:
        h = seen.hat_diagonal()
        square = np.square(seen.e / sigma[:, None])
        left, more = np.maximum(1 - h, LEAST), 1 + h
        return (
            constant + 0.5 * (np.log(left) - square / left),
            constant - 0.5 * (np.log(more) + square / more),
        )
    H = seen.hat_blocks(U, size)
    e = (seen.e / sigma[:, None]).reshape(S, U, size)
    values, vectors = np.linalg.eigh(H)
    turned = np.square((np.swapaxes(vectors, 2, 3) @ e[..., None])[..., 0])
    left, more = np.maximum(1 - values, LEAST), 1 + np.maximum(values, 0.0)
    return (
        constant + 0.5 * (np.log(left) - turned / left).sum(axis=2),
        constant - 0.5 * (np.log(more) + turned / more).sum(axis=2),
    )
