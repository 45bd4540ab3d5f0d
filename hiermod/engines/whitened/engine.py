"""The engine for generalised models: NUTS in coordinates whitened at every theta, compiled once for all models.

Warm-up of all chains in two parts: draws of the first give the metric and whiten anew, where that brings the Gaussian
approximation nearer; the second finds the step size.  Draws that are not good enough are made again, more carefully,
and at last by NUTS on the graph; ``fit.inference.reason`` says so."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

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
from hiermod.engines.nuts.engine import NUTPIE
from hiermod.engines.posterior import MAX_R_HAT, MIN_ESS, Draws, Inference, Posterior, assess
from hiermod.engines.whitened.arrays import SINH, with_own_room
from hiermod.engines.whitened.mode import boundary_scales, covariance_of, find_mode
from hiermod.engines.whitened.model_arrays import Start, obstacle, start_of
from hiermod.engines.whitened.nuts import ACCEPT, DEPTH, DIVERGED, ENERGY, LP, STEPS
from hiermod.engines.whitened.whitening import Whitening
from hiermod.errors import ArgumentError, FitError
from hiermod.formula.design import Design

TUNE = 200
TARGET_ACCEPT = 0.8
CAREFUL = 0.95
MOST_CAREFUL = 0.99
DEEPEST = 10
DENSE = 120  # coordinates up to which crossed factors share the dense metric of theta and beta
LEAST_E_BFMI = 0.3  # Betancourt (2016, arXiv 1604.00695): below it momenta do not carry a chain through its energies
WORST = 50  # group effects whose R-hat and ESS are computed, by each of two quick measures: a sort takes its time
TELLING = 100  # draws of a chain from which its R-hat tells something
AT_ONCE = 2_000_000  # linear predictors of draws held at once
REASON = "NUTS on the posterior itself, group effects whitened by their Gaussian approximation"


@dataclass(frozen=True, eq=False)
class Metric:
    """q = centre + root z in the first coordinates; q_i = spread_i z_i in the others."""

    centre: np.ndarray
    root: np.ndarray
    spread: np.ndarray

    def z_of(self, q: np.ndarray) -> np.ndarray:
        """z (size,) of q."""
        head = len(self.centre)
        first = np.linalg.solve(self.root, q[:head] - self.centre) if head else q[:0]
        return np.concatenate([first, q[head:] / self.spread])


@dataclass(frozen=True, eq=False)
class Chains:
    """What all chains drew: t (c, d, head), x (c, d, p + effects), statistics (c, d, 6), step sizes (c,)."""

    t: np.ndarray
    x: np.ndarray
    stats: np.ndarray
    steps: np.ndarray


def run_chains(
    w: Whitening, metric: Metric, z: list[np.ndarray], steps: np.ndarray, rngs: list[np.random.Generator], draws: int,
    adapting: bool, target: float, threads: int, every: int = 1,
) -> Chains:  # fmt: skip
    """Moves each of z on; every chain has its own generator, so that the number of threads changes nothing."""
    chains, m = len(z), w.arrays
    t, x = np.empty((chains, draws, w.head)), np.empty((chains, draws, len(m.d)))
    stats, last = np.empty((chains, draws, 6)), np.empty(chains)
    stop = np.zeros(1, np.int64)

    def one(c: int) -> None:
        last[c] = w.sampler(
            w.pointer, w.rows, with_own_room(m), z[c], metric.centre, metric.root, metric.spread, float(steps[c]),
            int(adapting), target, DEEPEST, rngs[c], every, stop, t[c], x[c], stats[c], np.empty(w.size),
            np.empty(len(m.d)),
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        try:
            list(pool.map(one, range(chains)))
        except BaseException:  # Ctrl-C: the chains end at their next draw
            stop[0] = 1
            raise
    return Chains(t, x, stats, last)


def first_metric(w: Whitening, t: np.ndarray, covariance: np.ndarray) -> Metric:
    """From the Laplace approximation."""
    dense = w.head + w.p
    for g in range(len(w.groups) - 1, 0, -1):  # the group with most levels is whitened level by level
        size = w.groups[g].size * w.groups[g].levels
        if dense + size > DENSE:
            break
        dense += size
    root = np.eye(dense)
    root[: w.head, : w.head] = np.linalg.cholesky(covariance)
    centre = np.zeros(dense)
    centre[: w.head] = t
    return Metric(centre, root, np.ones(w.size - dense))


def signs(w: Whitening, t: np.ndarray) -> np.ndarray:
    """(..., columns of all groups) the signs of the sds; 1 where they have none."""
    columns = len(w.arrays.V)
    found = np.where(t[..., :columns] < 0.0, -1.0, 1.0)
    return np.where(w.arrays.kind[:columns] == SINH, found, 1.0)


def folded(w: Whitening, t: np.ndarray) -> np.ndarray:
    """t (..., head) with all sds positive: the same covariance matrices, from the mirror where an sd was negative.

    diag(s) R diag(s) stays when the sign of s_a is changed and row and column a of R are too."""
    m, sign, t = w.arrays, signs(w, t), t.copy()
    columns = len(m.V)
    t[..., :columns] *= sign
    for g, group in enumerate(w.groups):
        place, at = int(m.correlation_at[g]), int(m.column_at[g])
        for a in range(group.size):
            for i in range(int(group.first[a]), a):
                t[..., place] *= sign[..., at + a] * sign[..., at + i]
                place += 1
    return t


def adapted_metric(w: Whitening, before: Metric, t: np.ndarray, x: np.ndarray) -> tuple[Metric, np.ndarray]:
    """From draws t (D, head), x (D, p + effects) of warm-up, and their q (D, size) in this whitening.

    A coordinate of an sd that comes near 0 is in both signs: its variance is around 0, without covariances."""
    epsilon = w.epsilon(t, x)[0]
    q = np.concatenate([t, epsilon], axis=1)
    D, dense = len(q), len(before.centre)
    centre, first = q[:, :dense].mean(axis=0), q[:, :dense]
    both = np.zeros(dense, dtype=bool)
    columns = len(w.arrays.V)
    near = (w.arrays.kind[:columns] == SINH) & (centre[:columns] < 2.0 * first[:, :columns].std(axis=0))
    both[:columns] = near
    for g, group in enumerate(w.groups):
        place, at = int(w.arrays.correlation_at[g]), int(w.arrays.column_at[g])
        for a in range(group.size):
            for i in range(int(group.first[a]), a):
                both[place] = near[at + a] or near[at + i]
                place += 1
    centre = np.where(both, 0.0, centre)
    away = first - centre
    covariance = away.T @ away / max(D - 1, 1)
    covariance[both] *= np.eye(dense)[both]
    covariance[:, both] *= np.eye(dense)[:, both]
    prior = before.root @ before.root.T
    prior[w.head :, w.head :] = np.eye(dense - w.head)
    share = D / (D + 5.0 + 0.5 * dense)
    root = np.linalg.cholesky(share * covariance + (1.0 - share) * prior)
    share = D / (D + 60.0)
    spread = np.sqrt(share * q[:, dense:].var(axis=0) + (1.0 - share))
    return Metric(centre, np.ascontiguousarray(root), spread), q


def nearness(w: Whitening, t: np.ndarray, x: np.ndarray) -> float:
    """Mean log density, under the Gaussian approximation given t, of the effects that were drawn: higher is nearer."""
    epsilon, log_slope = w.epsilon(t, x)
    return float(np.mean(-0.5 * np.square(epsilon).sum(axis=1) - log_slope))


def whitened_anew(w: Whitening, t: np.ndarray, x: np.ndarray) -> Whitening:
    """Whitened by expectations over draws (D, ...): mean eta and t, expected weights and scores."""
    n, D = len(w.arrays.y), len(x)
    eta, weight, score = np.zeros(n), np.zeros(n), np.zeros(n)
    step = max(1, AT_ONCE // n)
    for start in range(0, D, step):
        part = slice(start, start + step)
        for one, a in zip(w.eta(x[part]), w.further(t[part]), strict=True):
            parts = w.weights(one, a)
            eta += one / D
            weight += parts[0] / D
            score += parts[1] / D
    return w.at(t.mean(axis=0), eta, weight, score)


@dataclass(frozen=True, eq=False)
class Attempt:
    """How carefully draws are made."""

    tune: int
    target: float
    times: float = 1.0  # of the boundary's scale
    every: int = 1  # draws for each that is kept


@dataclass(frozen=True, eq=False)
class Made:
    """What one attempt brought, and ``assess``'s verdict on it."""

    draws: Draws
    run: Chains
    tuned: int
    divergences: int
    verdict: tuple[float, float, float, tuple[str, ...]]

    def posterior(self, reason: str, seed: int, begin: float) -> Posterior:
        """begin: when it was asked for, by ``time.perf_counter``."""
        stats, (max_r_hat, bulk, tail, words) = self.run.stats, self.verdict
        chains, draws = stats.shape[:2]
        inference = Inference(
            method="whitened",
            reason=reason,
            seconds=time.perf_counter() - begin,
            draws=draws,
            tune=self.tuned,
            chains=chains,
            seed=seed,
            divergences=self.divergences,
            max_r_hat=max_r_hat,
            min_ess_bulk=bulk,
            min_ess_tail=tail,
            messages=words,
        )
        named = {
            "lp": stats[..., LP],
            "acceptance_rate": stats[..., ACCEPT],
            "n_steps": stats[..., STEPS].astype(int),
            "diverging": stats[..., DIVERGED] > 0.0,
            "energy": stats[..., ENERGY],
            "tree_depth": stats[..., DEPTH].astype(int),
            "step_size": np.repeat(self.run.steps[:, None], draws, axis=1),
        }
        return Posterior(**vars(self.draws), inference=inference, idata=None, stats=named)


def draw(
    start: Start, attempt: Attempt, draws: int, chains: int, seed: np.random.Generator, threads: int
) -> tuple[Whitening, Chains, int]:
    """All chains of one attempt, the whitening they ended with, and how many iterations warm-up took."""
    mode = find_mode(start.whitening, start.t, start.eta)
    w, t, covariance = mode.whitening, mode.t, mode.covariance
    if attempt.times != 1.0:
        scale, t = boundary_scales(w, t, attempt.times)
        w = w.rescaled(scale, t)
        covariance = covariance_of(w, t)
    metric = first_metric(w, t, covariance)
    rngs = seed.spawn(chains)
    z = [rng.standard_normal(w.size) for rng in rngs]
    for c in range(1, chains, 2):  # every second chain starts overdispersed
        z[c] *= 1.5
    step = np.full(chains, 1.0 / w.size**0.25)
    settling = max(attempt.tune // 4, 1)
    learning = max(attempt.tune * 3 // 8, 1)
    last = max(attempt.tune - settling - learning, 1)
    run = run_chains(w, metric, z, step, rngs, settling, True, attempt.target, threads)
    run = run_chains(w, metric, z, run.steps, rngs, learning, True, attempt.target, threads)
    t_all, x_all = folded(w, run.t.reshape(chains * learning, w.head)), run.x.reshape(chains * learning, -1)
    if len(t_all) >= 40:
        anew = whitened_anew(w, t_all, x_all)
        if nearness(anew, t_all, x_all) > nearness(w, t_all, x_all):
            w = anew
        metric, q = adapted_metric(w, metric, t_all, x_all)
        here = q.reshape(chains, learning, -1)[:, -1]
        z = [np.ascontiguousarray(metric.z_of(one)) for one in here]
    run = run_chains(w, metric, z, run.steps, rngs, last, True, attempt.target, threads)
    run = run_chains(w, metric, z, run.steps, rngs, draws, False, attempt.target, threads, attempt.every)
    return w, run, settling + learning + last


def collected(
    w: Whitening, run: Chains, design: Design, shift: np.ndarray, further: tuple[tuple[str, float], ...]
) -> Draws:
    """Draws in the Design's order and the names of its parameters."""
    m, c, d = w.arrays, *run.t.shape[:2]
    t = folded(w, run.t)
    beta = run.x[..., : w.p].copy()
    if shift.any():
        beta[..., design.common.index("Intercept")] -= beta @ shift
    effects: dict[int, np.ndarray] = {}
    sd: dict[int, np.ndarray] = {}
    corr: dict[int, np.ndarray | None] = {}
    for g, group in enumerate(w.groups):
        K, J, at = group.size, group.levels, int(m.x_at[g])
        b = run.x[..., at : at + J * K].reshape(c, d, J, K)
        s, place, begin = int(m.column_at[g]), int(m.correlation_at[g]), 0
        for index in group.blocks:
            block = design.blocks[index]
            stop = begin + block.size
            effects[index] = np.ascontiguousarray(b[..., begin:stop])
            sd[index] = np.stack([np.abs(w.scalar(t, s + a)) for a in range(begin, stop)], axis=-1)
            corr[index] = None
            if block.pairs:
                many = block.size * (block.size - 1) // 2
                corr[index] = _correlations(t[..., place : place + many], block.size)
                place += many
            begin = stop
    auxiliary: dict[str, np.ndarray] = {}
    sigma: np.ndarray | None = None
    for k, (name, fixed) in enumerate(further):
        s = int(m.scalar_of[k])
        value = np.full((c, d), fixed) if s < 0 else w.scalar(t, s)
        if name == "sigma":
            sigma = value
        else:
            auxiliary[name] = value
    order = range(len(design.blocks))
    return Draws(
        beta, tuple(effects[i] for i in order), tuple(sd[i] for i in order), tuple(corr[i] for i in order), sigma,
        auxiliary,
    )  # fmt: skip


def _correlations(y: np.ndarray, k: int) -> np.ndarray:
    """Matrices (..., k, k) from the coordinates of partial correlations, row by row."""
    L = np.zeros((*y.shape[:-1], k, k))
    r, rest = np.tanh(y), 1.0 / np.cosh(np.clip(y, -350.0, 350.0))
    place = 0
    for a in range(k):
        left = np.ones(y.shape[:-1])
        for i in range(a):
            L[..., a, i] = left * r[..., place]
            left = left * rest[..., place]
            place += 1
        L[..., a, a] = left
    return correlation_matrix(L)


def e_bfmi(energy: np.ndarray) -> float:
    """The smallest over chains (c, d) of E (E_i - E_i-1)^2 / var E."""
    spread = energy.var(axis=1)
    moves = np.square(np.diff(energy, axis=1)).mean(axis=1)
    return float(np.min(moves / np.where(spread > 0.0, spread, np.inf), initial=np.inf))


def sample_whitened(
    model: Specification,
    /,
    *,
    draws: int = 1000,
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
    cores: int | None = None,
    tune: int | None = None,
    target_accept: float | None = None,
    **settings: Any,
) -> Posterior:
    """The posterior of a generalised mixed model without an obstacle.  The same seed gives the same draws.

    tune: iterations of warm-up (None: 200).  target_accept: None for 0.8.  cores: chains at the same time."""
    begin = time.perf_counter()
    check_settings(settings)
    check_target_accept(target_accept)
    tune = TUNE if tune is None else tune
    for name, value, least in (("draws", draws, 4), ("tune", tune, 1), ("chains", chains, 1), ("cores", cores, 1)):
        if not (value is None and name == "cores"):
            check_count(name, value, least, LARGEST_CORES if name in ("chains", "cores") else LARGEST_COUNT)
    design = model.design
    check_room(
        f"{draws * chains:,} draws of {model.n_effects:,} effects",
        16.0 * draws * chains * (model.n_effects + model.n_variances + 6),
        "Ask for fewer with draws= and chains=",
        ArgumentError,
    )
    seed = resolve_seed(random_seed)
    threads = min(int(chains), cores or _processors())
    start = start_of(model)
    ladder = attempts_of(int(tune), TARGET_ACCEPT if target_accept is None else float(target_accept))
    made, told, good = attempts(start, design, ladder, int(draws), int(chains), seed, threads)
    reason = REASON
    if told:
        reason += f"; {told[0]}, so the draws were made again with longer warm-up and smaller steps"
    if not good:
        short = f"draws in whitened coordinates fell short ({'; then '.join(told)})"
        sampling = Sampling(draws, chains, seed, progressbar, cores)
        try:
            record = NUTPIE.run(model, sampling, target_accept=target_accept or CAREFUL)
        except FitError as error:
            if made is None:
                raise
            reason = f"{REASON}; {short}, and the graph could not be sampled: {error}"
        else:
            if made is None or not record.inference.max_r_hat > max(MAX_R_HAT, made.verdict[0]):
                reason = f"NUTS on the graph, since {short}"
                return replace(record, inference=replace(record.inference, reason=reason))
            reason = f"{REASON}; {short}, and chains on the graph agreed less (R-hat {record.inference.max_r_hat:.3f})"
    assert made is not None
    return made.posterior(reason, seed, begin)


def sample_without(
    model: Specification,
    left_out: np.ndarray,
    /,
    *,
    draws: int,
    chains: int,
    tune: int,
    random_seed: int,
    cores: int | None = None,
) -> Posterior:
    """The posterior given the other rows; priors, centring and levels are those of all.

    FitError where the Gaussian approximation cannot be made; draws that fall short say so in ``inference.messages``."""
    begin = time.perf_counter()
    start = start_of(model, np.setdiff1d(np.arange(model.design.nobs), left_out))
    ladder = attempts_of(tune, TARGET_ACCEPT)
    made, told, _ = attempts(
        start, model.design, ladder, draws, chains, random_seed, min(chains, cores or _processors())
    )
    if made is None:
        raise FitError(f"the posterior without {len(left_out)} rows cannot be drawn: {told[-1]}")
    return made.posterior(REASON, random_seed, begin)


def attempts_of(tune: int, target: float) -> tuple[Attempt, ...]:
    """Each more careful than the one before."""
    return (
        Attempt(tune, target),
        Attempt(2 * tune, max(target, CAREFUL), 3.0),
        Attempt(4 * tune, max(target, MOST_CAREFUL), 3.0, 2),
    )


def attempts(
    start: Start, design: Design, ladder: tuple[Attempt, ...], draws: int, chains: int, seed: int, threads: int
) -> tuple[Made | None, list[str], bool]:
    """What the first attempt brought whose draws are good enough, else the last (None where none could be made); why
    those before it were not; whether the draws are good enough."""
    told: list[str] = []
    made: Made | None = None
    for rng, attempt in zip(np.random.default_rng(seed).spawn(len(ladder)), ladder, strict=True):
        try:
            w, run, tuned = draw(start, attempt, draws, chains, rng, threads)
        except np.linalg.LinAlgError:
            told.append("the Gaussian approximation has no inverse")
            continue
        arrays = collected(w, run, design, start.shift, start.further)
        divergences = int(run.stats[..., DIVERGED].sum())
        verdict = assess(arrays, design, divergences, worst=WORST)
        made = Made(arrays, run, tuned, divergences, verdict)
        why = _shortfall(verdict, divergences, e_bfmi(run.stats[..., ENERGY]), draws, chains)
        if why is None:
            return made, told, True
        told.append(why)
    return made, told, False


def _shortfall(
    verdict: tuple[float, float, float, tuple[str, ...]], divergences: int, bfmi: float, draws: int, chains: int
) -> str | None:
    """What is not good enough of draws, in words, or None.

    R-hat and ESS of Vehtari et al. (2021), where so many independent draws would pass."""
    max_r_hat, bulk, tail, _ = verdict
    if divergences:
        return f"{divergences} transitions diverged"
    if draws < TELLING:
        return None
    if max_r_hat > max(MAX_R_HAT, 1.0 + 10.0 / draws):
        return f"R-hat was {max_r_hat:.3f}"
    if min(bulk, tail) < min(MIN_ESS, draws * chains / 5.0):
        return f"the smallest effective sample size was {min(bulk, tail):.0f}"
    return f"E-BFMI was {bfmi:.2f}" if bfmi < LEAST_E_BFMI else None


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class WhitenedEngine:
    """NUTS in whitened coordinates as one of the list: families with a row function."""

    name: str = "whitened"
    reason: str = REASON
    hindrance: str = "the compiled density does not fit: "
    way_out: str = ": use inference_method='nutpie'"
    methods: tuple[Method, ...] = (
        Method(
            "whitened",
            "NUTS, group effects whitened",
            "The posterior was sampled with the No-U-Turn sampler in coordinates that whiten group effects by their "
            "Gaussian approximation",
            transitions=True,
        ),
    )
    needs: tuple[str, ...] = ("numba",)
    pip_install: str = "pip install numba"
    software: tuple[str, ...] = ("arviz-stats", "numba", "llvmlite")
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"tune": TUNE})

    def obstacle(self, model: Specification) -> str | None:
        """Rows without a row function, weights, formulas of further parameters, structures, other priors."""
        return obstacle(model)

    def cost(self, model: Specification) -> float:
        """Every coordinate is moved, in fewer steps than on the graph, and nothing is compiled for the model."""
        return 0.5 * (1 + model.n_effects) + model.n_variances

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        """As ``sample_whitened``."""
        return sample_whitened(model, **vars(sampling), **settings)

    def run_without(
        self,
        model: Specification,
        left_out: np.ndarray,
        /,
        draws: int,
        chains: int,
        tune: int,
        seed: int,
        cores: int | None,
    ) -> Posterior:
        """As ``sample_without``."""
        return sample_without(model, left_out, draws=draws, chains=chains, tune=tune, random_seed=seed, cores=cores)


WHITENED = WhitenedEngine()
