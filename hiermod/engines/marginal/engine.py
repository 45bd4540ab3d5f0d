"""The marginal engine: samples the few variance parameters, draws all effects exactly (docs/architecture.md).

Laplace at every mode, a mixture adapted by its own weights, then independence Metropolis-Hastings in chains that share
no proposals.  Chains that did not mix are run again with a mixture adapted further; where that does not help, NUTS runs
on the same marginal density.  What is decided depends on model, data and seed, never on time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from hiermod.core import versions
from hiermod.core.arguments import (
    LARGEST_CORES,
    LARGEST_COUNT,
    check_count,
    check_settings,
    check_target_accept,
    resolve_seed,
)
from hiermod.core.memory import check_room
from hiermod.engines.engine import Method, Sampling, Specification
from hiermod.engines.marginal.coordinates import correlation_matrix
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.metropolis import accepted, choose, step_on
from hiermod.engines.marginal.mode import find_mode
from hiermod.engines.marginal.modes import all_modes
from hiermod.engines.marginal.on_demand import LARGEST, EffectsOnDemand, blocks_on_demand, on_demand
from hiermod.engines.marginal.proposal import Mixture, Weighted, adapt, defended, effective_share, grow, split, weigh
from hiermod.engines.marginal.surrogate import Surrogate, fit_surrogate
from hiermod.engines.posterior import MAX_R_HAT, MIN_ESS, Draws, Inference, Posterior, assess
from hiermod.errors import ArgumentError, FitError, UnsupportedError
from hiermod.formula.design import Block, Design
from hiermod.kernel.batch import NUMBERS
from hiermod.kernel.draws import Effects, draw
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.freed_memory import keep_freed_memory
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
GOOD_SURROGATE = 0.95  # efficiency at which the surrogate leaves nothing to adapt the mixture for
INNER = 10  # steps on the surrogate for one evaluation, over the efficiency of the mixture
BLOCK = 500  # evaluations whose proposals are made at once
ATTEMPTS, MORE = 3, 4  # at chains that mix, and how many times larger samples of later adaptation are
TELLING = 100  # draws per chain from which R-hat and ESS can tell whether chains mix
REASON = "Gaussian model with Normal priors on its common effects: those and the group effects integrate out exactly"


Tried = tuple[tuple[Mixture, Weighted], ...]


@dataclass(frozen=True, eq=False)
class Search:
    """How the proposals were found: the mixture, its last weighted sample, and all that was tried before."""

    mixture: Mixture
    sample: Weighted
    k_hat: float
    passes: int
    modes: Mixture  # around each mode, as adaptation began
    core: Mixture  # the mixture without its defences, which adaptation goes on from
    tried: Tried
    surrogate: Surrogate | None = None  # where evaluations are dear

    @property
    def efficiency(self) -> float:
        """Expected importance effective size of what the chains propose, as a share."""
        return self.sample.efficiency if self.surrogate is None else self.surrogate.efficiency

    @property
    def usable(self) -> bool:
        """Whether independence proposals from the mixture can be trusted."""
        return self.k_hat <= MAX_K_HAT and self.sample.efficiency >= LEAST_EFFICIENCY


def _check_size(density: MarginalDensity, design: Design, count: int, later: tuple[int, ...]) -> None:
    effects = sum(len(block.levels) * block.size for i, block in enumerate(design.blocks) if i not in later)
    p, d = density.problem.p, density.coordinates.d
    size = 8.0 * count * (effects + p + MOST_THIN * d)
    check_room(
        f"{count:,} draws of {effects:,} group effects, {p} coefficients and {d} variance parameters",
        size,
        "Ask for fewer with draws= and chains=",
        ArgumentError,
        LARGEST,
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
    _check_digits(density, warp.to_phi(mode), precision)
    modes = all_modes(density, mode, precision, warp)
    large = density.batch is None
    count, most = (SAMPLE_LARGE, PASSES_LARGE) if large else (SAMPLE, PASSES)
    found = _judged(density, modes, modes, modes, weigh(modes, density.values, count, rng), ())
    while found.passes < most and not (_good(found, large) and (large or found.passes)):
        found = _adapted(density, found, count, rng)
    return found


def search_on(density: MarginalDensity, found: Search, rng: np.random.Generator) -> Search:
    """Two more passes of adaptation, with four times as many proposals each, for chains that did not mix."""
    count = MORE * (SAMPLE_LARGE if density.batch is None else SAMPLE)
    for _ in range(2):
        found = _adapted(density, found, count, rng)
    return found


def _adapted(density: MarginalDensity, found: Search, count: int, rng: np.random.Generator) -> Search:
    """One pass: the mixture moved by the weights of everything tried so far, and its own sample."""
    core = found.core
    x, _, weights = _pooled(found.tried)
    if found.passes == 0:
        core = split(x, weights, core)
    elif found.sample.efficiency < POOR:
        core = grow(core, x, weights)
    core = adapt(core, x, weights)
    mixture = defended(core, found.modes)
    return _judged(density, found.modes, core, mixture, weigh(mixture, density.values, count, rng), found.tried)


def _judged(
    density: MarginalDensity, modes: Mixture, core: Mixture, mixture: Mixture, sample: Weighted, before: Tried
) -> Search:
    """What is known after one more weighted sample."""
    tried = (*before, (mixture, sample))
    surrogate = fit_surrogate(mixture, *_pooled(tried)) if density.batch is None else None
    k_hat = float(versions.psis(sample.log_ratio)[1])
    return Search(mixture, sample, k_hat, len(before), modes, core, tried, surrogate)


def _good(found: Search, large: bool) -> bool:
    """Whether more adaptation would gain little."""
    efficiency, last = found.sample.efficiency, found.tried[-2:][0][1].efficiency
    stalled = found.passes > 1 and POOR < efficiency < 1.05 * last
    follows = found.passes > 0 and efficiency > POOR and found.efficiency >= GOOD_SURROGATE
    return (efficiency >= GOOD or stalled or follows) and found.k_hat <= (MAX_K_HAT if large else GOOD_K_HAT)


def _pooled(tried: Tried) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All proposals so far (n, d), their log target, and weights (n,) against the mixture of all that proposed (Veach
    and Guibas 1995).

    Weights are cut at mean * sqrt(n) (Ionides 2008, J. Comput. Graph. Stat. 17): no point alone moves a mixture."""
    x = np.concatenate([sample.x for _, sample in tried])
    log_target = np.concatenate([sample.log_target for _, sample in tried])
    share = np.log([len(sample.x) for _, sample in tried])
    log_proposal = special.logsumexp(
        [n + mixture.log_density(x) for n, (mixture, _) in zip(share, tried, strict=True)], axis=0
    )
    weights = Weighted(x, log_target, log_target - log_proposal).weights
    weights = np.minimum(weights, len(x) ** -0.5)
    return x, log_target, weights / weights.sum()


def sample_marginal(
    density: MarginalDensity,
    design: Design,
    /,
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
    check_target_accept(target_accept)
    for name, value, least in (("draws", draws, 4), ("tune", tune, 1), ("chains", chains, 1)):
        check_count(name, value, least, LARGEST_CORES if name == "chains" else LARGEST_COUNT)
    later = blocks_on_demand(density.problem, draws * chains)
    _check_size(density, design, draws * chains, later)
    seed = resolve_seed(random_seed)
    first, *streams = np.random.default_rng(seed).spawn(chains + 1)
    beta, b = empty_effects(design, chains, draws, later)
    jobs = [(stream, (beta[c], tuple(block[c] for block in b))) for c, stream in enumerate(streams)]
    how: dict[str, Any] = {"method": "marginal", "reason": REASON, "tune": 0, "divergences": 0}
    stats: dict[str, np.ndarray] = {}

    def judged(phi: np.ndarray) -> tuple[Draws, Assessment]:
        arrays = _collect(density, phi, beta, b, seed if later else None)
        return arrays, assess(arrays, design, how["divergences"], effects=False)

    with _threads(density):
        if density.coordinates.d == 0:  # no groups and known residual sds: the posterior is Gaussian
            phi = np.empty((chains, draws, 0))
            for stream, out in jobs:
                draw_effects(density, phi[0], stream, out)
            arrays, verdict = judged(phi)
        else:
            found = search(density, first)
            for attempt in range(ATTEMPTS):
                mixed, why = False, "did not fit"
                how |= {"k_hat": found.k_hat, "importance_efficiency": found.sample.efficiency}
                if not found.usable:
                    break
                runs = [_chain(density, found, attempt, *job) for job in jobs]
                phi = np.stack([run.phi for run in runs])
                stats = {name: np.stack([run.stats[name] for run in runs]) for name in runs[0].stats}
                # fresh proposals, many more than the mixture was adapted to: an estimate that adaptation cannot flatter
                ratios = np.concatenate([run.log_ratio for run in runs])
                how |= {
                    "proposals": sum(run.evaluations for run in runs),
                    "importance_efficiency": effective_share(ratios),
                }
                if how["importance_efficiency"] < LEAST_EFFICIENCY:
                    break
                arrays, verdict = judged(phi)
                mixed, why = _mixed(verdict, draws, chains), "did not mix"
                if mixed:
                    break
                if attempt + 1 < ATTEMPTS:
                    found = search_on(density, found, first)
            if not mixed:
                from hiermod.engines.marginal.nuts import sample_phi

                phi, stats = sample_phi(density, found, draws, tune, chains, seed, target_accept, cores)
                for one, (stream, out) in zip(phi, jobs, strict=True):
                    draw_effects(density, one, stream, out)
                reason = (
                    f"{REASON}; independence proposals {why} (Pareto k-hat {found.k_hat:.2f}, importance "
                    f"efficiency {how['importance_efficiency']:.0%}), so NUTS ran on the marginal density"
                )
                divergences = int(stats["diverging"].sum())
                how |= {"method": "marginal-nuts", "reason": reason, "tune": tune, "divergences": divergences}
                arrays, verdict = judged(phi)
    for block in b:
        block.setflags(write=False)  # complete, and ours: the record need not copy what can be most of memory
    if later:
        how |= {"group_effects": _words(design.blocks[later[0]], draws * chains)}
    max_r_hat, bulk, tail, words = verdict
    how |= {"max_r_hat": max_r_hat, "min_ess_bulk": bulk, "min_ess_tail": tail, "messages": words}
    seconds = time.perf_counter() - begin
    inference = Inference(seconds=seconds, draws=draws, chains=chains, seed=seed, **how)
    return Posterior(**vars(arrays), inference=inference, idata=None, stats=stats, unconstrained=phi)


Assessment = tuple[float, float, float, tuple[str, ...]]
"""Largest R-hat, smallest bulk and tail ESS, and words."""


def _mixed(verdict: Assessment, draws: int, chains: int) -> bool:
    """Whether chains are as good as a fit of this length should be: R-hat and ESS of Vehtari et al. (2021), where so
    many independent draws would pass (their split R-hat exceeds 1 by some 2.5 / draws), and draws enough to tell."""
    max_r_hat, bulk, tail, _ = verdict
    if draws < TELLING:
        return True
    return not (max_r_hat > max(MAX_R_HAT, 1 + 2.5 / draws) or min(bulk, tail) < min(MIN_ESS, draws * chains / 4))


def _threads(density: MarginalDensity) -> AbstractContextManager[Any]:
    """One BLAS thread for stacks of small matrices, where more only wait for each other (cake: 0.2 s, else 1 s)."""
    if density.batch is None:
        keep_freed_memory()
        return suitable_threads(density.problem.n_dense)
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


@dataclass(frozen=True, eq=False)
class Run:
    """One chain."""

    phi: np.ndarray  # (draws, d)
    log_ratio: np.ndarray  # (n,) log target - log proposal of each proposal that was evaluated
    stats: dict[str, np.ndarray]  # (draws,) each
    evaluations: int


def _thinning(density: MarginalDensity, efficiency: float) -> int:
    """Proposals per kept draw: enough for nearly independent draws where evaluations are cheap, else 1."""
    if density.batch is None or density.batch.chunk() < CHEAP:
        return 1
    return int(np.clip(np.ceil(2.5 / efficiency), 3, MOST_THIN))


def _chain(density: MarginalDensity, found: Search, attempt: int, rng: np.random.Generator, out: Effects) -> Run:
    """One chain from its own proposals; effects go to ``out``.  Each attempt takes twice as many for a kept draw."""
    thin = _thinning(density, found.sample.efficiency) * 2**attempt
    if density.batch is None:
        return _chain_one_by_one(density, found, thin, rng, out)
    x = found.mixture.draw(START + len(out[0]) * thin, rng)
    log_target = density.values(x)
    log_ratio = log_target - found.mixture.log_density(x)
    path = accepted(log_ratio, START, rng)
    where = path[START + thin - 1 :: thin]
    draw_effects(density, x[where], rng, out)
    return Run(x[where], log_ratio, _stats(log_target[where], path[START:] == np.arange(START, len(x)), thin), len(x))


def _stats(log_target: np.ndarray, moved: np.ndarray, thin: int) -> dict[str, np.ndarray]:
    """For idata's sample_stats, one number per kept draw: ``lp``, log p(phi, y) with phi on its unbounded scale, and
    ``acceptance_rate``, the share of the proposals since the last kept draw that were accepted."""
    return {"lp": log_target, "acceptance_rate": moved.reshape(-1, thin).mean(axis=1)}


def _chain_one_by_one(
    density: MarginalDensity, found: Search, thin: int, rng: np.random.Generator, out: Effects
) -> Run:
    """As ``_chain`` where a factor takes many milliseconds: each is made once, and serves for the effects too.

    A proposal is where some steps on the surrogate lead, from where the chain is (surrogate.py)."""
    draws, mixture, surrogate = len(out[0]), found.mixture, found.surrogate
    inner = 1 if surrogate is None else int(np.clip(np.ceil(INNER / found.sample.efficiency), INNER, 4 * INNER))

    def propose(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """phi, log proposal density and log surrogate - log mixture of ``count`` draws of the mixture."""
        x = mixture.draw(count, rng)
        over = np.zeros(count) if surrogate is None else surrogate.log_ratio(x)
        return x, mixture.log_density(x) + over, over

    x, log_proposal, over = propose(START_LARGE)
    log_target = density.values(x)
    first = choose(log_target - log_proposal, rng)
    phi, value, ratio, at = x[first], log_target[first], log_target[first] - log_proposal[first], float(over[first])
    factor = density.factorise(phi)
    ratios = []
    kept, log_kept, moved = np.empty((draws, len(phi))), np.empty(draws), np.zeros(draws * thin, dtype=bool)
    for i in range(draws * thin):
        if i % BLOCK == 0:
            x, log_proposal, over = propose(min(BLOCK, draws * thin - i) * inner)
        begin = i % BLOCK * inner
        to, there = step_on(over[begin : begin + inner], at, rng)
        if to is not None:
            j = begin + to
            proposed = density.factorise(x[j])
            log_p = density.value(x[j], proposed)
            ratios.append(log_p - log_proposal[j])
            if np.log(rng.random()) < ratios[-1] - ratio:
                phi, value, ratio, at, factor, moved[i] = x[j], log_p, ratios[-1], there, proposed, True
        row, left = divmod(i + 1, thin)
        if left == 0:
            kept[row - 1], log_kept[row - 1] = phi, value
            _write(density, phi, factor, rng, out, row - 1)
    return Run(kept, np.array(ratios), _stats(log_kept, moved, thin), START_LARGE + len(ratios))


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
        beta, b = draw(density.problem, density.factorise_many(part), density.sigma(part), rng, first)
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
    sigma = np.reshape(density.sigma(phi), 1)
    beta, b = draw(density.problem, factor, sigma, rng, _first_drawn(density, out))
    out[0][s] = beta[0]
    for target, block in zip(out[1], b, strict=True):
        target[s] = block[0]


def _first_drawn(density: MarginalDensity, out: Effects) -> int:
    """1 where ``out`` has no room for the largest factor, whose effects are drawn on demand."""
    largest = density.problem.first_factor
    return int(largest is not None and out[1][largest.blocks[0]].shape[-2] == 0)


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
    factors = coordinates.correlation_factors(phi)
    corr = tuple(
        correlation_matrix(L) if one.n_parameters > one.n_sds else None
        for one, L in zip(coordinates.structures, factors, strict=True)
    )
    sigma = None if density.problem.sigma_known else density.sigma(phi)
    effects: tuple[np.ndarray | EffectsOnDemand, ...] = b
    if seed is not None:
        lambdas, sigmas = density.lambdas(phi)
        effects = on_demand(density.problem, density.by_factor(lambdas), sigmas, beta, b, seed)
    return Draws(beta=beta, effects=effects, sd=tuple(coordinates.sds(phi)), corr=corr, sigma=sigma, auxiliary={})


INTEGRATED = "{effects} were integrated out analytically; the variance parameters were sampled"
THEN = "and all effects drawn exactly given them"


@dataclass(frozen=True)
class MarginalEngine:
    """The marginal engine as one of the list: Gaussian models whose effects integrate out."""

    name: str = "marginal"
    reason: str = REASON
    hindrance: str = "the effects cannot be integrated out: "
    way_out: str = ""
    methods: tuple[Method, ...] = (
        Method("marginal", "marginal posterior", f"{INTEGRATED} by independence Metropolis-Hastings, {THEN}"),
        Method(
            "marginal-nuts",
            "NUTS on the marginal posterior",
            f"{INTEGRATED} with the No-U-Turn sampler, {THEN}",
            transitions=True,
        ),
    )
    needs: tuple[str, ...] = ()
    pip_install: str = ""
    software: tuple[str, ...] = ("arviz-stats",)
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"tune": 1000})  # of NUTS, where it has to take over

    def obstacle(self, model: Specification) -> str | None:
        """What keeps the density of the variance parameters from a closed form."""
        try:
            model.density  # noqa: B018 - made here, used by run
        except UnsupportedError as error:
            return str(error)
        return None

    def cost(self, model: Specification) -> float:
        """Only the variance parameters are sampled, and without gradients."""
        return float(model.n_variances)

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        """As ``sample_marginal``; there is nothing to wait for that a progress bar would show."""
        how = {name: value for name, value in vars(sampling).items() if name != "progressbar"}
        return sample_marginal(model.density, model.design, **how, **settings)


MARGINAL = MarginalEngine()
