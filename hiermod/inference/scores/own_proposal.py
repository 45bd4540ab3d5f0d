"""A proposal of its own for a unit without which the posterior of phi moves too far to be reached by weights.

p(phi | y without u) is p(phi, y) / p(y_u | the rest, phi) up to a constant, so nothing is rebuilt: a mixture of t
distributions is moved from the posterior of all data to that target, as in engines/marginal/proposal.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hiermod.core import versions
from hiermod.engines.marginal.proposal import Mixture, Weighted, adapt, defended, laplace, split
from hiermod.inference.scores.held_out import HeldOut
from hiermod.inference.scores.record import MAX_K
from hiermod.inference.scores.smoothing import log_mean

ADAPT, KEEP = 2000, 4000  # proposals of one pass of adaptation, and of the estimate
PASSES, GOOD = 8, 0.8  # adaptation stops at this importance efficiency
ROUNDS = 3  # tries with more proposals, where k stays too large
WIDER = 1.2  # of the first proposals than the posterior of all data


@dataclass(frozen=True)
class OwnEstimate:
    """log p(y_u | the rest), the larger Pareto k of its two integrals, its Monte Carlo error."""

    elpd: float
    k: float
    mcse: float


def own_estimate(
    evaluate: Callable[[np.ndarray], HeldOut], phi: np.ndarray, log_p: np.ndarray, rng: np.random.Generator
) -> OwnEstimate:
    """evaluate: phi (m, d) -> HeldOut of this unit alone.  phi (S, d), log_p (S,): posterior draws given all data."""
    seen: dict[str, np.ndarray] = {}

    def target(x: np.ndarray) -> np.ndarray:
        held = evaluate(x)
        seen["log_p"] = held.log_p[:, 0]
        return held.log_joint - held.log_p[:, 0]

    core = _start(phi, log_p)
    for round_ in range(ROUNDS):
        core = _adapted(core, target, ADAPT * 2**round_, rng)
        sample = _weigh(defended(core), target, KEEP * 2**round_, rng)
        found = _estimate(sample.log_ratio, seen["log_p"])
        if found.k <= MAX_K:
            break
    return found


def _start(phi: np.ndarray, log_p: np.ndarray) -> Mixture:
    """One t with the moments of the draws weighted towards the target as far as their weights can be trusted."""
    weights = np.exp(log_p.min() - log_p)
    weights = np.minimum(weights / weights.sum(), len(phi) ** -0.5)
    weights /= weights.sum()
    mean = weights @ phi
    centred = phi - mean
    cov = WIDER**2 * (centred.T * weights) @ centred
    d = len(mean)
    return laplace(mean, np.linalg.inv(cov + 1e-10 * np.trace(cov) / d * np.eye(d)))


def _adapted(
    core: Mixture, target: Callable[[np.ndarray], np.ndarray], count: int, rng: np.random.Generator
) -> Mixture:
    sample = _weigh(defended(core), target, count, rng)
    for done in range(PASSES):
        if done and sample.efficiency >= GOOD:
            break
        weights = np.minimum(sample.weights, count**-0.5)  # Ionides (2008): no point alone moves the mixture
        weights /= weights.sum()
        start = split(sample.x, weights, core) if len(core.weights) == 1 else core
        core = adapt(start, sample.x, weights)
        sample = _weigh(defended(core), target, count, rng)
    return core


def _weigh(
    mixture: Mixture, target: Callable[[np.ndarray], np.ndarray], count: int, rng: np.random.Generator
) -> Weighted:
    x = mixture.draw(count, rng)
    log_target = target(x)
    return Weighted(x, log_target, log_target - mixture.log_density(x))


def _estimate(log_ratio: np.ndarray, log_p: np.ndarray) -> OwnEstimate:
    found = log_mean(log_ratio[None], log_p[None])
    _, k_product = versions.psis(log_ratio + log_p)  # of the numerator, where p varies as much as the weights
    return OwnEstimate(float(found.elpd[0]), float(max(found.k[0], k_product)), float(found.mcse[0]))
