"""The marginal engine: samples the few variance parameters, draws all effects exactly (DESIGN.md, section 4).

Laplace at the mode, a mixture adapted by its own weights, then independence Metropolis-Hastings in chains that share no
proposals.  Where the mixture cannot follow the posterior, NUTS runs on the same marginal density."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hiermod import _versions
from hiermod.bayes.effects import Effects, draw_batch, draw_one
from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.bayes.metropolis import accepted
from hiermod.bayes.mode import find_mode
from hiermod.bayes.nuts import check_count, resolve_seed
from hiermod.bayes.posterior import Draws, Inference, Posterior, assess
from hiermod.errors import ArgumentError, FitError
from hiermod.bayes.proposal import Mixture, Weighted, adapt, defended, laplace, split, weigh
from hiermod.formula.design import Design

MAX_K_HAT, LEAST_EFFICIENCY = 0.7, 0.25  # beyond these independence proposals are not to be trusted
PASSES, GOOD = 6, 0.8  # adaptation stops at this importance efficiency
SAMPLE, SAMPLE_LARGE = 2000, 250  # proposals of one pass; where one evaluation takes many milliseconds
LARGEST = 8e9  # bytes of group effects
START = 100  # proposals of a chain that only decide where it begins
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
    """Mode, Laplace approximation, then passes of adaptation until the importance efficiency is GOOD."""
    core = mixture = laplace(*find_mode(density))
    count = SAMPLE if density.batch is not None else SAMPLE_LARGE
    sample = weigh(mixture, density.values, count, rng)
    passes = 0
    while passes < PASSES and (passes < 1 or sample.efficiency < GOOD):
        if density.batch is None and sample.efficiency >= GOOD:
            break
        weights = _truncated(sample)
        core = adapt(split(sample.x, weights, core) if passes == 0 else core, sample.x, weights)
        mixture = defended(core)
        sample = weigh(mixture, density.values, count, rng)
        passes += 1
    return Search(mixture, sample, float(_versions.psis(sample.log_ratio)[1]), passes)


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
    found = search(density, first)
    proposals, method, reason, tuned, divergences = 0, "marginal", REASON, 0, 0
    if found.usable:
        thin = _thinning(found.sample.efficiency, density.batch is not None)
        runs = [_chain(density, found.mixture, draws, thin, stream) for stream in streams]
        proposals = chains * (START + draws * thin)
        phi = np.stack([run[0] for run in runs])
        effects = [run[1] for run in runs]
    else:
        from hiermod.bayes.marginal_nuts import sample_phi

        tuned = tune
        phi, divergences = sample_phi(density, found, draws, tune, chains, seed, target_accept, cores)
        effects = [draw_effects(density, phi[c], stream) for c, stream in enumerate(streams)]
        method = "marginal-nuts"
        reason = (
            f"{REASON}; independence proposals did not fit (Pareto k-hat {found.k_hat:.2f}, importance efficiency "
            f"{found.sample.efficiency:.0%}), so NUTS ran on the marginal density"
        )
    arrays = collect(density, phi, effects)
    max_r_hat, bulk, tail, words = assess(arrays, design, divergences, effects=False)
    inference = Inference(
        method=method, reason=reason, seconds=time.perf_counter() - begin, draws=draws, tune=tuned, chains=chains, seed=seed,
        divergences=divergences, max_r_hat=max_r_hat, min_ess_bulk=bulk, min_ess_tail=tail, messages=words,
        k_hat=found.k_hat, importance_efficiency=found.sample.efficiency, proposals=proposals,
    )  # fmt: skip
    return Posterior(**vars(arrays), inference=inference, idata=None)


def _thinning(efficiency: float, cheap: bool) -> int:
    """Proposals per kept draw: enough for nearly independent draws where an evaluation costs microseconds."""
    return int(np.clip(np.ceil(2.5 / efficiency), 3, 10)) if cheap else 1


def _chain(
    density: MarginalDensity, mixture: Mixture, draws: int, thin: int, rng: np.random.Generator
) -> tuple[np.ndarray, Effects]:
    """phi (draws, d) and the effects of one chain, on proposals of its own."""
    x = mixture.draw(START + draws * thin, rng)
    log_ratio = density.values(x) - mixture.log_density(x)
    where = accepted(log_ratio, START, rng)[START + thin - 1 :: thin]
    return x[where], draw_effects(density, x[where], rng)


def draw_effects(density: MarginalDensity, phi: np.ndarray, rng: np.random.Generator) -> Effects:
    """beta (S, p) and b (S, J, k) per block, one exact draw at each phi (S, d)."""
    pieces: list[Effects] = []
    if density.batch is None:
        for one in phi:
            factor = density.factorise(one)
            if factor is None:
                raise FitError("the penalised system could not be factorised again at an accepted draw")
            pieces.append(draw_one(density.problem, factor, float(density.sigma(one)), rng))
    else:
        step = max(1, density.batch.chunk() // 2)
        for start in range(0, len(phi), step):
            part = phi[start : start + step]
            pieces.append(draw_batch(density.problem, density.factorise_many(part), density.sigma(part), rng))
    beta = np.concatenate([piece[0] for piece in pieces])
    return beta, tuple(np.concatenate(blocks) for blocks in zip(*(piece[1] for piece in pieces), strict=True))


def collect(density: MarginalDensity, phi: np.ndarray, effects: list[Effects]) -> Draws:
    """Draws in the Design's order from phi (c, d, D) and each chain's effects."""
    coordinates = density.coordinates
    factors = coordinates.correlation_factors(phi)
    corr = tuple(L @ np.swapaxes(L, -1, -2) if L.shape[-1] > 1 else None for L in factors)
    return Draws(
        beta=np.stack([beta for beta, _ in effects]),
        b=tuple(np.stack(blocks) for blocks in zip(*(b for _, b in effects), strict=True)),
        sd=tuple(coordinates.sds(phi)),
        corr=corr,
        sigma=None if density.problem.sigma_known else density.sigma(phi),
        auxiliary={},
    )

