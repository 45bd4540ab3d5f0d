"""Where each row falls in its own predictive distribution given the other rows: a mixture of normals over phi.

y_i given the rest and phi is normal (held_out.py), so Pr(new y_i <= y_i | the rest) = sum_s w_is Phi(z_is), with
z_is = (y_i - mean_is) / sd_is and w_is the smoothed weights 1 / p(y_i | the rest, phi_s).  The probability integral
transform: Gneiting, Balabdaoui and Raftery (2007, JRSS B 69), left-one-out: Gelfand, Dey and Chang (1992)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.proposal import defended
from hiermod.inference.scores import held_out as exact
from hiermod.inference.scores import own_proposal
from hiermod.inference.scores.integrated import AT_ONCE, SLOW_DRAWS
from hiermod.inference.scores.record import MAX_K
from hiermod.inference.scores.rows import Units, pick
from hiermod.inference.scores.smoothing import _smoothed
from hiermod.kernel.rows import project


@dataclass(frozen=True, eq=False)
class Transforms:
    """(n,) each: Pr(new <= y), Pr(new > y), Pareto k of the weights."""

    below: np.ndarray
    above: np.ndarray
    k: np.ndarray


def integrated_transforms(
    density: MarginalDensity, units: Units, phi: np.ndarray, seed: int, own: bool = True
) -> Transforms:
    """units: one row each.  phi (S, d): posterior draws.  own: rows of Pareto k above 0.7 get a proposal of their own.

    One BLAS thread: matrices are tiny."""
    from threadpoolctl import threadpool_limits

    if density.batch is None and len(phi) > SLOW_DRAWS:
        phi = phi[np.linspace(0, len(phi) - 1, SLOW_DRAWS).astype(int)]
    n = len(units)
    below, above, k = np.empty(n), np.empty(n), np.empty(n)
    streams = np.random.SeedSequence([seed, 1]).spawn(n)
    step = max(1, AT_ONCE // len(phi))
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, n, step):
            which = np.arange(start, min(n, start + step))
            z, log_p, _ = standardised(density, pick(units, which), phi)
            below[which], above[which], k[which] = weighted_normal(z.T, log_p.T)
            for i in which[k[which] > MAX_K] if own and density.batch is not None else ():
                rng = np.random.default_rng(streams[i])
                below[i], above[i], k[i] = _alone(density, pick(units, [i]), phi, log_p[:, i - start], rng)
    return Transforms(below, above, k)


def quick_transforms(density: MarginalDensity, units: Units, phi: np.ndarray, few: int, look: int = 8) -> Transforms:
    """The same in a fraction of the time: plain weights at ``few`` draws, then all draws and smoothed weights for the
    ``look`` rows whose weights are the least even; k is nan for the others."""
    from threadpoolctl import threadpool_limits

    thin = phi[np.linspace(0, len(phi) - 1, min(few, len(phi))).round().astype(int)]
    with threadpool_limits(limits=1, user_api="blas"):
        z, log_p, _ = standardised(density, units, thin)
        weights = np.exp(log_p.min(axis=0) - log_p)
        weights /= weights.sum(axis=0)
        below, above = (weights * special.ndtr(z)).sum(axis=0), (weights * special.ndtr(-z)).sum(axis=0)
        k = np.full(len(units), np.nan)
        doubtful = np.argsort(-np.square(weights).sum(axis=0), kind="stable")[:look]
        closer = integrated_transforms(density, pick(units, doubtful), phi, seed=0, own=False)
        below[doubtful], above[doubtful], k[doubtful] = closer.below, closer.above, closer.k
    return Transforms(below, above, k)


def weighted_normal(z: np.ndarray, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pr(new <= y), Pr(new > y) and Pareto k from z and log densities of y, (n, S) each; weights 1 / p."""
    log_weights, k = _smoothed(-np.ascontiguousarray(log_p))
    weights = np.exp(log_weights)
    return (weights * special.ndtr(z)).sum(axis=1), (weights * special.ndtr(-z)).sum(axis=1), k


def standardised(density: MarginalDensity, units: Units, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z (S, U), log p(y_i | the rest, phi) (S, U) and log p(phi, y) (S,), -inf outside the priors' support."""
    S, U = len(phi), len(units)
    z, log_p = np.zeros((S, U)), np.zeros((S, U))
    prior, _ = density.log_prior(phi)
    log_joint = np.full(S, -np.inf)
    inside = np.flatnonzero(np.isfinite(prior))
    pieces = exact._pieces(density, units)
    step = exact._step(density, pieces)
    for start in range(0, len(inside), step):
        at = inside[start : start + step]
        factor = exact._factor(density, phi[at])
        if factor is None:
            continue
        sigma = density.sigma(phi[at])
        logs = prior[at] + density._log_likelihood(factor.logdet_random + factor.logdet_fixed, factor.pwrss, sigma)
        log_joint[at] = np.where(factor.ok & np.isfinite(logs), logs, -np.inf)
        for which, piece in pieces:
            seen = project(density.problem, factor, piece.rows)
            left = np.maximum(1 - seen.hat_diagonal(), exact.LEAST)
            found = seen.e / (sigma[:, None] * np.sqrt(left))
            constant = piece.half_log_w - 0.5 * np.log(2 * np.pi) - np.log(sigma)[:, None]
            ok = np.isfinite(log_joint[at])
            z[np.ix_(at[ok], which)] = found[ok]
            log_p[np.ix_(at[ok], which)] = (constant + 0.5 * (np.log(left) - np.square(found)))[ok]
    return z, log_p, log_joint


def _alone(
    density: MarginalDensity, unit: Units, phi: np.ndarray, log_p: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The same for one row with a proposal moved to the posterior without it (own_proposal.py)."""
    seen: dict[str, np.ndarray] = {}

    def target(x: np.ndarray) -> np.ndarray:
        z, logs, log_joint = standardised(density, unit, x)
        seen["z"] = z[:, 0]
        return log_joint - logs[:, 0]

    core = own_proposal._adapted(own_proposal._start(phi, log_p), target, own_proposal.ADAPT, rng)
    sample = own_proposal._weigh(defended(core), target, own_proposal.KEEP, rng)
    log_weights, k = _smoothed(sample.log_ratio[None])
    weights = np.exp(log_weights[0])
    return float(weights @ special.ndtr(seen["z"])), float(weights @ special.ndtr(-seen["z"])), float(k[0])
