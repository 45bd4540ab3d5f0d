"""Integrated leave-one-out and leave-one-group-out: all effects integrated out exactly, PSIS over phi only.

log p(y_u | the rest) = -log E[1 / p(y_u | the rest, phi)] over p(phi | y); a unit with Pareto k above 0.7 gets a
proposal of its own.  docs/architecture.md; the idea: Vehtari, Mononen, Tolvanen et al. (2016, JMLR 17(103))."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.formula.design import Design
from hiermod.inference.scores.held_out import HeldOut, held_out
from hiermod.inference.scores.own_proposal import own_estimate
from hiermod.inference.scores.record import MAX_K
from hiermod.inference.scores.rows import Units, pick, take_rows
from hiermod.inference.scores.smoothing import efficiency, leave_out, log_average

AT_ONCE = 4_000_000  # units x draws held at once
LARGEST_UNIT = 150  # pseudo-rows up to which a dense matrix per unit beats a second model without the unit
SLOW_DRAWS = 200  # draws used where every factor takes a good part of a second


@dataclass(frozen=True, eq=False)
class Integrated:
    """(U,) each: elpd, Pareto k and Monte Carlo error; log density of a second unit given all data; own proposals."""

    elpd: np.ndarray
    k: np.ndarray
    mcse: np.ndarray
    log_seen: np.ndarray
    own: tuple[int, ...]
    draws: int  # posterior draws used: fewer than there are where each factor takes a good part of a second


def integrated(density: MarginalDensity, design: Design, units: Units, phi: np.ndarray, seed: int) -> Integrated:
    """phi (c, d, D): posterior draws.  The same seed gives the same numbers.  One BLAS thread: matrices are tiny."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return _integrated(density, design, units, phi, seed)


def _integrated(density: MarginalDensity, design: Design, units: Units, phi: np.ndarray, seed: int) -> Integrated:
    share = efficiency(phi)
    flat = phi.reshape(-1, phi.shape[-1])
    if density.batch is None and len(flat) > SLOW_DRAWS:
        flat = flat[np.linspace(0, len(flat) - 1, SLOW_DRAWS).astype(int)]
        share = 1.0
    U, S = len(units), len(flat)
    evaluate = _Evaluator(density, design, units)
    elpd, k, mcse, log_seen = np.empty(U), np.empty(U), np.empty(U), np.empty(U)
    own: list[int] = []
    streams = np.random.SeedSequence(seed).spawn(U)
    step = max(1, AT_ONCE // S)
    for start in range(0, U, step):
        which = np.arange(start, min(U, start + step))
        held = evaluate(which, flat)
        log_p = np.ascontiguousarray(held.log_p.T)
        found = leave_out(log_p, share)
        elpd[which], k[which], mcse[which] = found.elpd, found.k, found.mcse
        log_seen[which] = log_average(np.ascontiguousarray(held.log_replicate.T))
        for u in which[found.k > MAX_K] if density.batch is not None else ():
            alone = partial(evaluate, np.array([u]))
            one = own_estimate(alone, flat, log_p[u - start], np.random.default_rng(streams[u]))
            elpd[u], k[u], mcse[u] = one.elpd, one.k, one.mcse
            own.append(int(u))
    return Integrated(elpd, k, mcse, log_seen, tuple(own), S)


@dataclass(frozen=True, eq=False)
class _Evaluator:
    """HeldOut of chosen units at many phi: small ones from the factor, large ones from models without them."""

    density: MarginalDensity
    design: Design
    units: Units

    @cached_property
    def _others(self) -> dict[int, tuple[MarginalDensity, MarginalDensity]]:
        return {}

    def __call__(self, which: np.ndarray, phi: np.ndarray) -> HeldOut:
        large = self.units.sizes[which] > LARGEST_UNIT
        if not large.any():
            return held_out(self.density, pick(self.units, which), phi)
        small = held_out(self.density, pick(self.units, which[~large]), phi)
        log_p, log_replicate = np.zeros((len(phi), len(which))), np.zeros((len(phi), len(which)))
        log_p[:, ~large], log_replicate[:, ~large] = small.log_p, small.log_replicate
        there = np.isfinite(small.log_joint)
        for at in np.flatnonzero(large):
            without, twice = self._models(int(which[at]))
            log_p[there, at] = small.log_joint[there] - without.values(phi[there])
            log_replicate[there, at] = twice.values(phi[there]) - small.log_joint[there]
        return HeldOut(log_p, log_replicate, small.log_joint)

    def _models(self, unit: int) -> tuple[MarginalDensity, MarginalDensity]:
        if unit not in self._others:
            every, mine = np.arange(self.design.nobs), self.units.members[unit]
            self._others[unit] = (
                frozen_density(self.design, np.setdiff1d(every, mine), self.density),
                frozen_density(self.design, np.concatenate([every, mine]), self.density),
            )
        return self._others[unit]


def frozen_density(design: Design, index: np.ndarray, density: MarginalDensity) -> MarginalDensity:
    """The density given some rows only, its priors and the point where predictors are centred those of all rows."""
    return marginal_density(take_rows(design, index), density.priors)
