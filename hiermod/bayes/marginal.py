"""The marginal engine: samples the few variance parameters, draws all effects exactly (DESIGN.md, section 4).

Laplace at the mode, a mixture adapted by its own weights, then independence Metropolis-Hastings in chains that share no
proposals.  Where the mixture cannot follow the posterior, NUTS runs on the same marginal density."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod import _versions
from hiermod.bayes.effects import Effects, draw_batch, draw_one
from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.bayes.metropolis import accepted, choose
from hiermod.bayes.mode import find_mode
from hiermod.bayes.nuts import check_count, resolve_seed
from hiermod.bayes.posterior import Draws, Inference, Posterior, assess
from hiermod.bayes.proposal import Mixture, Weighted, adapt, defended, laplace, split, weigh
from hiermod.errors import ArgumentError, FitError
from hiermod.formula.design import Design
from hiermod.kernel.batch import NUMBERS
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.threads import suitable_threads

MAX_K_HAT, LEAST_EFFICIENCY = 0.7, 0.25  # beyond these independence proposals are not to be trusted
PASSES, GOOD, GOOD_K_HAT = 6, 0.8, 0.5  # adaptation stops at this importance efficiency and Pareto k-hat
SAMPLE, SAMPLE_LARGE = 2000, 250  # proposals of one pass; where one evaluation takes many milliseconds
LARGEST = 8e9  # bytes of group effects
START, START_LARGE = 100, 25  # proposals of a chain that only decide where it begins
REASON = "Gaussian model with Normal priors on its common effects: those and the group effects integrate out exactly"


@dataclass(frozen=True, eq=False)
class Search:
    """How the proposals were found: the mixture and its last weighted sample."""

    mixture: Mixture
    sample: Weighted
    k_hat: float
    passes: int

    @property
    def usable(self) -> bool:
        """Whether independence proposals from the mixture can be trusted."""
        return self.k_hat <= MAX_K_HAT and self.sample.efficiency >= LEAST_EFFICIENCY


def _check_size(design: Design, count: int) -> None:
    size = 8.0 * count * sum(len(block.levels) * block.size for block in design.blocks)
    if size > LARGEST:
        raise ArgumentError(
            f"{count} draws of {sum(len(b.levels) * b.size for b in design.blocks)} group effects take {size / 1e9:.1f} GB, "
            f"more than the {LARGEST / 1e9:.0f} GB this engine keeps. Ask for fewer with draws= and chains="
        )


def search(density: MarginalDensity, rng: np.random.Generator) -> Search:
    """Mode, Laplace approximation, then passes of adaptation until efficiency and k-hat are good: one at least, where
    evaluations are cheap."""
    core = mixture = laplace(*find_mode(density))
    large = density.batch is None
    count, passes = SAMPLE_LARGE if large else SAMPLE, 0
    sample = weigh(mixture, density.values, count, rng)
    while True:
        k_hat = float(_versions.psis(sample.log_ratio)[1])
        good = sample.efficiency >= GOOD and k_hat <= (MAX_K_HAT if large else GOOD_K_HAT)
        if passes == PASSES or (good and (large or passes)):
            return Search(mixture, sample, k_hat, passes)
        weights = _truncated(sample)
        core = adapt(split(sample.x, weights, core) if passes == 0 else core, sample.x, weights)
        mixture = defended(core)
        sample = weigh(mixture, density.values, count, rng)
        passes += 1


def _truncated(sample: Weighted) -> np.ndarray:
    """Weights cut at mean * sqrt(n) (Ionides 2008, J. Comput. Graph. Stat. 17), so that no point alone moves a mixture."""
    weights = np.minimum(sample.weights, len(sample.x) ** -0.5)
    return weights / weights.sum()


def sample_marginal(
    density: MarginalDensity,
    design: Design,
    *,
    draws: int = 1000,
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
    tune: int = 1000,
    cores: int | None = None,
    target_accept: float | None = None,
) -> Posterior:
    """Posterior of a Gaussian hierarchical model.  The same seed gives the same draws.

    tune, cores and target_accept matter only where NUTS has to take over.  Raises ArgumentError for impossible numbers, and
    where the draws would not fit into memory, naming the size."""
    begin = time.perf_counter()
    for name, value, least in (("draws", draws, 4), ("tune", tune, 1), ("chains", chains, 1)):
        check_count(name, value, least)
    _check_size(design, draws * chains)
    seed = resolve_seed(random_seed)
    first, *streams = np.random.default_rng(seed).spawn(chains + 1)
    beta, b = empty_effects(design, chains, draws)
    parts = [(beta[c], tuple(block[c] for block in b)) for c in range(chains)]
    proposals, method, reason, tuned, divergences = 0, "marginal", REASON, 0, 0
    with _threads(density):
        found = search(density, first)
        if found.usable:
            thin = _thinning(found.sample.efficiency) if density.batch is not None else 1
            chain = _chain if density.batch is not None else _chain_one_by_one
            start = START if density.batch is not None else START_LARGE
            phi = np.stack([chain(density, found.mixture, start, thin, *job) for job in zip(streams, parts, strict=True)])
            proposals = chains * (start + draws * thin)
        else:
            from hiermod.bayes.marginal_nuts import sample_phi

            tuned = tune
            phi, divergences = sample_phi(density, found, draws, tune, chains, seed, target_accept, cores)
            for c, stream in enumerate(streams):
                draw_effects(density, phi[c], stream, parts[c])
            method = "marginal-nuts"
            reason = (
                f"{REASON}; independence proposals did not fit (Pareto k-hat {found.k_hat:.2f}, importance efficiency "
                f"{found.sample.efficiency:.0%}), so NUTS ran on the marginal density"
            )
    arrays = _collect(density, phi, beta, b)
    max_r_hat, bulk, tail, words = assess(arrays, design, divergences, effects=False)
    inference = Inference(
        method=method, reason=reason, seconds=time.perf_counter() - begin, draws=draws, tune=tuned, chains=chains, seed=seed,
        divergences=divergences, max_r_hat=max_r_hat, min_ess_bulk=bulk, min_ess_tail=tail, messages=words,
        k_hat=found.k_hat, importance_efficiency=found.sample.efficiency, proposals=proposals,
    )  # fmt: skip
    return Posterior(**vars(arrays), inference=inference, idata=None)


def _threads(density: MarginalDensity) -> AbstractContextManager[Any]:
    """One BLAS thread for stacks of small matrices, where more only wait for each other (cake: 0.2 s, else 1 s)."""
    if density.batch is None:
        return suitable_threads(len(density.problem.cross.tail))
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _thinning(efficiency: float) -> int:
    """Proposals per kept draw: enough for nearly independent draws where an evaluation costs microseconds."""
    return int(np.clip(np.ceil(2.5 / efficiency), 3, 10))


def _chain(
    density: MarginalDensity, mixture: Mixture, start: int, thin: int, rng: np.random.Generator, out: Effects
) -> np.ndarray:
    """phi (draws, d) of one chain, on proposals of its own; its effects are written to ``out``."""
    x = mixture.draw(start + len(out[0]) * thin, rng)
    log_ratio = density.values(x) - mixture.log_density(x)
    where = accepted(log_ratio, start, rng)[start + thin - 1 :: thin]
    draw_effects(density, x[where], rng, out)
    return x[where]


def _chain_one_by_one(
    density: MarginalDensity, mixture: Mixture, start: int, thin: int, rng: np.random.Generator, out: Effects
) -> np.ndarray:
    """As ``_chain`` where a factor takes many milliseconds: each is made once, and serves for the effects too."""
    draws = len(out[0])
    x = mixture.draw(start + draws * thin, rng)
    log_proposal = mixture.log_density(x)
    first = density.values(x[:start]) - log_proposal[:start]
    at = choose(first, rng)
    current, factor = first[at], density.factorise(x[at])
    where = np.empty(draws, dtype=np.intp)
    for step in range(draws * thin):
        i = start + step
        proposed = density.factorise(x[i])
        ratio = density.value(x[i], proposed) - log_proposal[i]
        if np.log(rng.random()) < ratio - current:
            at, current, factor = i, ratio, proposed
        if (step + 1) % thin == 0:
            where[step // thin] = at
            _write(density, x[at], factor, rng, out, step // thin)
    return x[where]


def empty_effects(design: Design, chains: int, draws: int) -> Effects:
    """Room for beta (c, d, p) and b (c, d, J, k) per block: filled in place, since they can be most of memory."""
    sizes = [(len(block.levels), block.size) for block in design.blocks]
    beta = np.empty((chains, draws, len(design.common)))
    return beta, tuple(np.empty((chains, draws, J, k)) for J, k in sizes)


def draw_effects(density: MarginalDensity, phi: np.ndarray, rng: np.random.Generator, out: Effects) -> None:
    """beta (S, p) and b (S, J, k) per block into ``out``, one exact draw at each phi (S, d)."""
    if density.batch is None:
        for s, one in enumerate(phi):
            _write(density, one, density.factorise(one), rng, out, s)
        return
    step = max(1, min(density.batch.chunk() // 2, NUMBERS // (8 * sum(b[0].size for b in out[1]) + 1)))
    for start in range(0, len(phi), step):
        part = phi[start : start + step]
        beta, b = draw_batch(density.problem, density.factorise_many(part), density.sigma(part), rng)
        out[0][start : start + step] = beta
        for target, block in zip(out[1], b, strict=True):
            target[start : start + step] = block


def _write(
    density: MarginalDensity, phi: np.ndarray, factor: Factorisation | None, rng: np.random.Generator, out: Effects, s: int
) -> None:
    """One exact draw at one factor into ``out``."""
    if factor is None:
        raise FitError("the penalised system could not be factorised at an accepted draw")
    beta, b = draw_one(density.problem, factor, float(density.sigma(phi)), rng)
    out[0][s] = beta[0]
    for target, block in zip(out[1], b, strict=True):
        target[s] = block[0]


def _collect(density: MarginalDensity, phi: np.ndarray, beta: np.ndarray, b: tuple[np.ndarray, ...]) -> Draws:
    """Draws in the Design's order from phi (c, d, D) and the effects."""
    coordinates = density.coordinates
    factors = coordinates.correlation_factors(phi)
    corr = tuple(L @ np.swapaxes(L, -1, -2) if L.shape[-1] > 1 else None for L in factors)
    sigma = None if density.problem.sigma_known else density.sigma(phi)
    return Draws(beta=beta, b=b, sd=tuple(coordinates.sds(phi)), corr=corr, sigma=sigma, auxiliary={})
