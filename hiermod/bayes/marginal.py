"""The marginal engine: samples the few variance parameters, draws all effects exactly (DESIGN.md, section 4).

Laplace at the mode, a mixture adapted by its own weights, then independence Metropolis-Hastings in chains that share no
proposals.  Where the mixture cannot follow the posterior, NUTS runs on the same marginal density."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from hiermod import _versions
from hiermod.arguments import check_count, check_settings, resolve_seed
from hiermod.bayes.coordinates import correlation_matrix
from hiermod.bayes.effect_draws import Effects, draw_batch, draw_one
from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.bayes.metropolis import accepted, choose
from hiermod.bayes.mode import find_mode
from hiermod.bayes.on_demand import LARGEST, EffectsOnDemand, blocks_on_demand, on_demand
from hiermod.bayes.posterior import Draws, Inference, Posterior, assess
from hiermod.bayes.proposal import Mixture, Weighted, adapt, defended, effective_share, grow, laplace, split, weigh
from hiermod.errors import ArgumentError, FitError
from hiermod.formula.design import Block, Design
from hiermod.kernel.batch import NUMBERS
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.threads import suitable_threads

MAX_K_HAT, LEAST_EFFICIENCY = 0.7, 0.25  # beyond these independence proposals are not to be trusted
PASSES, PASSES_LARGE = 12, 6  # of adaptation, at most: ridges (one row per group) need ten, most models one or two
GOOD, GOOD_K_HAT = 0.8, 0.5  # adaptation stops at this importance efficiency and Pareto k-hat
UPWARDS = -10.0  # curvature that no log density has at its mode, however rough
POOR = 0.5  # efficiency below which the mixture gets more components
SAMPLE, SAMPLE_LARGE = 2000, 250  # proposals of one pass; where one evaluation takes many milliseconds
CHEAP = 200  # evaluations that fit into one stack, from which several are made for each kept draw
MOST_THIN = 10  # proposals per kept draw
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


def _check_size(density: MarginalDensity, design: Design, count: int, later: tuple[int, ...]) -> None:
    effects = sum(len(block.levels) * block.size for i, block in enumerate(design.blocks) if i not in later)
    p, d = density.problem.p, density.coordinates.d
    size = 8.0 * count * (effects + p + MOST_THIN * d)
    if size > LARGEST:
        raise ArgumentError(
            f"{count} draws of {effects} group effects, {p} coefficients and {d} variance parameters take "
            f"{size / 1e9:.1f} GB, more than the {LARGEST / 1e9:.0f} GB this engine keeps. Ask for fewer with draws= "
            "and chains="
        )


def _check_digits(density: MarginalDensity, phi: np.ndarray, precision: np.ndarray) -> None:
    """FitError where rounding has eaten the density: stacks cannot hold it, or it curves upwards at its mode."""
    held = density.batch is None or np.isfinite(density.values(phi[None])[0])
    if held and (np.linalg.eigvalsh(precision) > UPWARDS).all():
        return
    sigma, sds = float(density.sigma(phi)), np.concatenate([np.ravel(one) for one in density.coordinates.sds(phi)])
    raise FitError(
        f"the residual sd (about {sigma:.2g}) is so small beside those of the groups (up to {sds.max():.2g}) that the "
        "density of the variance parameters cannot be computed accurately: the groups explain the response almost "
        "exactly. Look whether it is a function of them; m.reml() estimates such models, and inference_method='nutpie' "
        "samples them, slowly"
    )


def search(density: MarginalDensity, rng: np.random.Generator) -> Search:
    """Mode, Laplace approximation, then passes of adaptation until efficiency and k-hat are good: one at least, where
    evaluations are cheap."""
    mode, precision, warp = find_mode(density)
    large = density.batch is None
    _check_digits(density, warp.to_phi(mode), precision)
    core = mixture = laplace(mode, precision, warp)
    count, most = (SAMPLE_LARGE, PASSES_LARGE) if large else (SAMPLE, PASSES)
    tried: list[tuple[Mixture, Weighted]] = []
    while True:
        sample = weigh(mixture, density.values, count, rng)
        tried.append((mixture, sample))
        passes, k_hat = len(tried) - 1, float(_versions.psis(sample.log_ratio)[1])
        stalled = passes > 1 and sample.efficiency > POOR and sample.efficiency < 1.05 * tried[-2][1].efficiency
        good = (sample.efficiency >= GOOD or stalled) and k_hat <= (MAX_K_HAT if large else GOOD_K_HAT)
        if passes == most or (good and (large or passes)):
            return Search(mixture, sample, k_hat, passes)
        x, weights = _pooled(tried)
        if passes == 0:
            core = split(x, weights, core)
        elif sample.efficiency < POOR:
            core = grow(core, x, weights)
        core = adapt(core, x, weights)
        mixture = defended(core)


def _pooled(tried: list[tuple[Mixture, Weighted]]) -> tuple[np.ndarray, np.ndarray]:
    """All proposals so far (n, d), weighted (n,) against the mixture of all that proposed (Veach and Guibas 1995).

    Weights are cut at mean * sqrt(n) (Ionides 2008, J. Comput. Graph. Stat. 17): no point alone moves a mixture."""
    x = np.concatenate([sample.x for _, sample in tried])
    log_target = np.concatenate([sample.log_target for _, sample in tried])
    log_proposal = special.logsumexp([mixture.log_density(x) for mixture, _ in tried], axis=0)
    weights = Weighted(x, log_target, log_target - log_proposal).weights
    weights = np.minimum(weights, len(x) ** -0.5)
    return x, weights / weights.sum()


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
    **settings: Any,
) -> Posterior:
    """Posterior of a Gaussian hierarchical model.  The same seed gives the same draws.

    Effects of the largest grouping factor are drawn when asked for, where they would take more than 50 MB.  tune, cores
    and target_accept matter only where NUTS has to take over.  Raises ArgumentError for impossible numbers, for any
    ``settings``, and where the draws would not fit into memory, naming the size."""
    begin = time.perf_counter()
    check_settings(settings)
    for name, value, least in (("draws", draws, 4), ("tune", tune, 1), ("chains", chains, 1)):
        check_count(name, value, least)
    later = blocks_on_demand(density.problem, draws * chains)
    _check_size(density, design, draws * chains, later)
    seed = resolve_seed(random_seed)
    first, *streams = np.random.default_rng(seed).spawn(chains + 1)
    beta, b = empty_effects(design, chains, draws, later)
    jobs = [(stream, (beta[c], tuple(block[c] for block in b))) for c, stream in enumerate(streams)]
    how: dict[str, Any] = {"method": "marginal", "reason": REASON, "tune": 0, "divergences": 0}
    stats: dict[str, np.ndarray] = {}
    with _threads(density):
        if density.coordinates.d == 0:  # no groups and known residual sds: the posterior is Gaussian
            phi = np.empty((chains, draws, 0))
            for stream, out in jobs:
                draw_effects(density, phi[0], stream, out)
        else:
            found = search(density, first)
            efficiency = found.sample.efficiency
            if found.usable:
                thin = _thinning(density, efficiency)
                start = START if density.batch is not None else START_LARGE
                chain = _chain if density.batch is not None else _chain_one_by_one
                runs = [chain(density, found.mixture, start, thin, *job) for job in jobs]
                phi = np.stack([run[0] for run in runs])
                stats = {name: np.stack([run[2][name] for run in runs]) for name in runs[0][2]}
                how |= {"proposals": chains * (start + draws * thin)}
                # fresh proposals, many more than the mixture was adapted to: an estimate that adaptation cannot flatter
                efficiency = effective_share(np.concatenate([run[1] for run in runs]))
            how |= {"k_hat": found.k_hat, "importance_efficiency": efficiency}
            if not found.usable or efficiency < LEAST_EFFICIENCY:
                from hiermod.bayes.marginal_nuts import sample_phi

                phi, stats = sample_phi(density, found, draws, tune, chains, seed, target_accept, cores)
                for one, (stream, out) in zip(phi, jobs, strict=True):
                    draw_effects(density, one, stream, out)
                reason = (
                    f"{REASON}; independence proposals did not fit (Pareto k-hat {found.k_hat:.2f}, importance "
                    f"efficiency {efficiency:.0%}), so NUTS ran on the marginal density"
                )
                divergences = int(stats["diverging"].sum())
                how |= {"method": "marginal-nuts", "reason": reason, "tune": tune, "divergences": divergences}
    arrays = _collect(density, phi, beta, b, seed if later else None)
    if later:
        how |= {"group_effects": _words(design.blocks[later[0]], draws * chains)}
    max_r_hat, bulk, tail, words = assess(arrays, design, how["divergences"], effects=False)
    how |= {"max_r_hat": max_r_hat, "min_ess_bulk": bulk, "min_ess_tail": tail, "messages": words}
    seconds = time.perf_counter() - begin
    inference = Inference(seconds=seconds, draws=draws, chains=chains, seed=seed, **how)
    return Posterior(**vars(arrays), inference=inference, idata=None, stats=stats)


def _threads(density: MarginalDensity) -> AbstractContextManager[Any]:
    """One BLAS thread for stacks of small matrices, where more only wait for each other (cake: 0.2 s, else 1 s)."""
    if density.batch is None:
        return suitable_threads(len(density.problem.cross.tail))
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


Run = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
"""phi (draws, d), log target - log proposal (n,) of all proposals, and the statistics of each kept draw."""


def _thinning(density: MarginalDensity, efficiency: float) -> int:
    """Proposals per kept draw: enough for nearly independent draws where evaluations are cheap, else 1."""
    if density.batch is None or density.batch.chunk() < CHEAP:
        return 1
    return int(np.clip(np.ceil(2.5 / efficiency), 3, MOST_THIN))


def _chain(
    density: MarginalDensity, mixture: Mixture, start: int, thin: int, rng: np.random.Generator, out: Effects
) -> Run:
    """One chain from its own proposals; effects go to ``out``."""
    x = mixture.draw(start + len(out[0]) * thin, rng)
    log_target = density.values(x)
    log_ratio = log_target - mixture.log_density(x)
    path = accepted(log_ratio, start, rng)
    where = path[start + thin - 1 :: thin]
    draw_effects(density, x[where], rng, out)
    return x[where], log_ratio, _stats(log_target[where], path[start:] == np.arange(start, len(x)), thin)


def _stats(log_target: np.ndarray, moved: np.ndarray, thin: int) -> dict[str, np.ndarray]:
    """For idata's sample_stats, one number per kept draw: ``lp``, log p(phi, y) with phi on its unbounded scale, and
    ``acceptance_rate``, the share of the proposals since the last kept draw that were accepted."""
    return {"lp": log_target, "acceptance_rate": moved.reshape(-1, thin).mean(axis=1)}


def _chain_one_by_one(
    density: MarginalDensity, mixture: Mixture, start: int, thin: int, rng: np.random.Generator, out: Effects
) -> Run:
    """As ``_chain`` where a factor takes many milliseconds: each is made once, and serves for the effects too."""
    draws = len(out[0])
    x = mixture.draw(start + draws * thin, rng)
    log_target, moved = np.empty(len(x)), np.zeros(len(x), dtype=bool)
    log_ratio = -mixture.log_density(x)
    log_target[:start] = density.values(x[:start])
    log_ratio[:start] += log_target[:start]
    at = choose(log_ratio[:start], rng)
    factor = density.factorise(x[at])
    where = np.empty(draws, dtype=np.intp)
    for i in range(start, len(x)):
        proposed = density.factorise(x[i])
        log_target[i] = density.value(x[i], proposed)
        log_ratio[i] += log_target[i]
        if np.log(rng.random()) < log_ratio[i] - log_ratio[at]:
            at, factor, moved[i] = i, proposed, True
        kept, left = divmod(i - start + 1, thin)
        if left == 0:
            where[kept - 1] = at
            _write(density, x[at], factor, rng, out, kept - 1)
    return x[where], log_ratio, _stats(log_target[where], moved[start:], thin)


def empty_effects(design: Design, chains: int, draws: int, later: tuple[int, ...] = ()) -> Effects:
    """Room for beta (c, d, p) and b (c, d, J, k) per block: filled in place, since they can be most of memory.

    later: blocks whose effects are drawn on demand; J = 0 for these."""
    sizes = [(0 if i in later else len(block.levels), block.size) for i, block in enumerate(design.blocks)]
    beta = np.empty((chains, draws, len(design.common)))
    return beta, tuple(np.empty((chains, draws, J, k)) for J, k in sizes)


def draw_effects(density: MarginalDensity, phi: np.ndarray, rng: np.random.Generator, out: Effects) -> None:
    """beta (S, p) and b (S, J, k) per block into ``out``, one exact draw at each phi (S, d)."""
    if density.batch is None:
        for s, one in enumerate(phi):
            _write(density, one, density.factorise(one), rng, out, s)
        return
    first = _first_drawn(density, out)
    step = max(1, min(density.batch.chunk() // 2, NUMBERS // (8 * sum(b[0].size for b in out[1]) + 1)))
    for start in range(0, len(phi), step):
        part = phi[start : start + step]
        beta, b = draw_batch(density.problem, density.factorise_many(part), density.sigma(part), rng, first)
        out[0][start : start + step] = beta
        for target, block in zip(out[1], b, strict=True):
            target[start : start + step] = block


def _write(
    density: MarginalDensity,
    phi: np.ndarray,
    factor: Factorisation | None,
    rng: np.random.Generator,
    out: Effects,
    s: int,
) -> None:
    """One exact draw at one factor, into place ``s`` of ``out``."""
    if factor is None:
        raise FitError("the penalised system could not be factorised at an accepted draw")
    beta, b = draw_one(density.problem, factor, float(density.sigma(phi)), rng, _first_drawn(density, out))
    out[0][s] = beta[0]
    for target, block in zip(out[1], b, strict=True):
        target[s] = block[0]


def _first_drawn(density: MarginalDensity, out: Effects) -> int:
    """1 where ``out`` has no room for the largest factor, whose effects are drawn on demand."""
    chain = density.problem.cross.chain_factors
    return int(bool(chain) and out[1][density.problem.factors[chain[0]].blocks[0]].shape[-2] == 0)


def _words(block: Block, count: int) -> str:
    effects = len(block.levels) * block.size
    return (
        f"those of {block.factor} are drawn when asked for ({count} draws of {effects} effects are "
        f"{8e-9 * count * effects:.1f} GB); their means and sds need no draws"
    )


def _collect(
    density: MarginalDensity, phi: np.ndarray, beta: np.ndarray, b: tuple[np.ndarray, ...], seed: int | None
) -> Draws:
    """Draws in the Design's order from phi (c, d, D) and the effects; seed: that of effects drawn on demand, if any."""
    coordinates = density.coordinates
    for block in b:
        block.setflags(write=False)  # complete, and ours: the record need not copy what can be most of memory
    factors = coordinates.correlation_factors(phi)
    corr = tuple(correlation_matrix(L) if L.shape[-1] > 1 else None for L in factors)
    sigma = None if density.problem.sigma_known else density.sigma(phi)
    effects: tuple[np.ndarray | EffectsOnDemand, ...] = b
    if seed is not None:
        lambdas, sigmas = density.lambdas(phi)
        effects = on_demand(density.problem, density.by_factor(lambdas), sigmas, beta, b, seed)
    return Draws(beta=beta, effects=effects, sd=tuple(coordinates.sds(phi)), corr=corr, sigma=sigma, auxiliary={})
