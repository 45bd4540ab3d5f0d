"""Exact refits of a BayesianFit: K-fold cross-validation by rows or by groups, and single units by themselves.

Priors, centring, contrasts and levels stay those of all data in every refit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core.arguments import LARGEST_CORES, check_count, resolve_seed
from hiermod.core.checked import checked
from hiermod.core.progress import progress
from hiermod.engines.catalogue import ENGINES, check_installed
from hiermod.engines.engine import RefittingEngine
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.nuts.engine import TUNE, refitting_sampler
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError, listing
from hiermod.families.catalogue import is_linear
from hiermod.fits.tables import check_group
from hiermod.inference.scores.exact_folds import ExactRefits, LeftOut, run_exact
from hiermod.inference.scores.folds import Fold, divide, make_folds
from hiermod.inference.scores.record import Score
from hiermod.inference.scores.redrawn_folds import run_redrawn
from hiermod.inference.scores.row_likelihood import AT_ONCE, row_log_likelihood
from hiermod.inference.scores.score_of_fit import make_score
from hiermod.inference.scores.smoothing import log_average

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit
    from hiermod.priors.gaussian import GaussianPriors

EXACT = "refits with common and group effects integrated out exactly"
GRAPH = "refits by NUTS on the graph"
REDRAWN = "refits by the engine that made the fit"


@checked
def kfold(
    fit: BayesianFit,
    k: int | str = 10,
    group: str | None = None,
    stratify: str | None = None,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    progressbar: bool = True,
) -> Score:
    """K-fold cross-validation by exact refits, priors and centring those of all data.

    k: number of folds, or "all" for one unit each (leave-one-out, leave-one-group-out).  group: leave out whole
    levels of this factor, scored jointly; else rows are left out, with ``stratify`` balanced within its levels.
    The same seed gives the same folds and numbers whatever ``cores``.  A model whose effects integrate out is
    refitted without sampling them, in tenths of a second; others are drawn anew by the engine that made the fit: in
    whitened coordinates, or by NUTS on a graph that is compiled once."""
    design = fit.design
    cores = check_count("cores", cores, most=LARGEST_CORES)
    unit, labels, members = _units(fit, group)
    count = len(members)
    folds = _number_of_folds(k, count, "rows" if group is None else f"levels of {group}")
    strata = None
    if stratify is not None:
        if group is not None:
            raise ArgumentError(
                "give group or stratify, not both: group= leaves out whole levels, stratify= shares out the rows of "
                "each level over the folds"
            )
        strata = check_group(design, stratify)[0].codes
    seed = resolve_seed(random_seed)
    first, second = np.random.SeedSequence(seed).generate_state(2) >> 1
    fold = divide(count, folds, np.random.default_rng(int(first)), strata)
    jobs = make_folds(fold, members, design.nobs, int(second))
    how, answers = _run(fit, jobs, cores, progressbar)
    found = _gather(jobs, answers, count)
    alone = folds == count
    return make_score(
        fit, ("loo" if group is None else "logo") if alone else "kfold", unit, labels, members,
        found.elpd, _seen(fit, members) - found.elpd, found.k, found.mcse, estimator="refits", reason=how,
        refitted=tuple(range(count)), folds=None if alone else fold, seed=seed, notes=found.messages,
    )  # fmt: skip


def refit_units(
    fit: BayesianFit,
    members: Sequence[np.ndarray],
    which: np.ndarray,
    cores: int | None = None,
    progressbar: bool = True,
) -> LeftOut:
    """Some units, each from a refit without it; seeds follow from the fit's own.

    cores: None for as many as the fit itself may take, where starting them costs nothing."""
    seeds = np.random.SeedSequence([fit.inference.seed, 1]).generate_state(len(members)) >> 1
    every = np.arange(fit.design.nobs)
    jobs = [
        Fold(np.setdiff1d(every, members[u]), (members[u],), np.array([at]), int(seeds[u]))
        for at, u in enumerate(which)
    ]
    return _gather(jobs, _run(fit, jobs, cores, progressbar)[1], len(jobs))


def _units(fit: BayesianFit, group: str | None) -> tuple[str, tuple[Any, ...], list[np.ndarray]]:
    """Name of the unit, labels, and the rows of each."""
    design = fit.design
    if group is None:
        return "row", tuple(design.index), [np.array([i]) for i in range(design.nobs)]
    block = check_group(design, group)[0]
    return group, block.levels, [np.flatnonzero(block.codes == level) for level in range(len(block.levels))]


def _number_of_folds(k: int | str, count: int, what: str) -> int:
    if k == "all":
        return count
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise ArgumentTypeError(f'k must be a whole number or "all", got {k!r}')
    if not 2 <= k <= count:
        raise ArgumentError(f'k is {k}; there are {count} {what}, so it must lie between 2 and {count} ("all")')
    return int(k)


def _run(fit: BayesianFit, jobs: list[Fold], cores: int | None, progressbar: bool) -> tuple[str, list[LeftOut]]:
    """How, in words, and every job's answer."""
    chains, draws = fit.record.shape
    if fit.priors is not None and _integrates(fit, fit.priors):
        with progress("refits", progressbar) as report:
            return EXACT, run_exact(ExactRefits(fit.design, fit.priors, draws, chains), jobs, cores or 1, report)
    model = _model(fit)
    engine = next((one for one in ENGINES if one.name == fit.inference.method), None)
    if isinstance(engine, RefittingEngine):
        with progress("refits", progressbar) as report:
            return REDRAWN, run_redrawn(fit, engine, model._specification(), jobs, cores, report)
    graph = model.pymc
    from hiermod.inference.scores.graph_folds import run_graph

    sampler = refitting_sampler(fit.inference.method)
    check_installed(sampler)
    tune = fit.inference.tune if fit.inference.method == sampler.name else TUNE
    settings: dict[str, Any] = {"draws": draws, "tune": tune, "chains": chains, "cores": cores or 1, "sampler": sampler}
    with progress("refits", progressbar) as report:
        return GRAPH, run_graph(graph, fit.design.nobs, jobs, report=report, **settings)


def _integrates(fit: BayesianFit, priors: GaussianPriors) -> bool:
    """Whether common and group effects integrate out, so that refits need no graph."""
    if not is_linear(fit.family, fit.link) or fit.design.special is not None:
        return False
    try:
        marginal_density(fit.design, priors)
    except UnsupportedError:
        return False
    return True


def _model(fit: BayesianFit) -> Any:
    """The Model that was fitted.  UnsupportedError where it cannot be refitted without some rows."""
    if fit.model is None:
        raise UnsupportedError(
            "this fit does not know its model, so it cannot be refitted. Fit the model with Model(...).fit()"
        )
    if fit.design.formulas:
        raise UnsupportedError(
            f"K-fold is not there for models with a formula for {', '.join(fit.design.formulas)}: loo() scores rows"
        )
    if fit.design.special is not None:
        raise UnsupportedError(
            f"the response {fit.design.response!r} weighs or censors the likelihood of its rows, so by what a row "
            "that is left out should be scored is not clear: refit and score it by hand"
        )
    return fit.model


def _gather(jobs: Sequence[Fold], answers: Sequence[LeftOut], count: int) -> LeftOut:
    """The answers of all folds in the order of the units, and what was said, with how often."""
    elpd, mcse, k = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    said: dict[str, list[int]] = {}
    for number, (job, answer) in enumerate(zip(jobs, answers, strict=True), start=1):
        elpd[job.positions], mcse[job.positions], k[job.positions] = answer.elpd, answer.mcse, answer.k
        for message in answer.messages:
            said.setdefault(message, []).append(number)
    words = tuple(f"Refit {listing(numbers)} of {len(jobs)}: {message}" for message, numbers in said.items())
    return LeftOut(elpd, mcse, k, words)


def _seen(fit: BayesianFit, members: Sequence[np.ndarray]) -> np.ndarray:
    """(U,) log density of each unit's rows at the draws given all data: what elpd falls short of by p."""
    logs = row_log_likelihood(fit)
    step = max(1, AT_ONCE // (fit.record.shape[0] * fit.record.shape[1]))
    count = fit.design.nobs
    total = np.zeros((len(members), fit.record.shape[0] * fit.record.shape[1]))
    owner = np.empty(count, dtype=np.intp)
    for u, rows in enumerate(members):
        owner[rows] = u
    for start in range(0, count, step):
        part = logs(slice(start, start + step))
        np.add.at(total, owner[start : start + step], part.reshape(-1, part.shape[-1]).T)
    return log_average(total)
