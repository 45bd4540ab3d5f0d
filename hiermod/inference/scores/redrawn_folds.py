"""Refits by drawing anew without some rows, and the density of those rows at the draws.

Effects of levels without rows come from their prior, so the mean over draws of exp(log likelihood) is the predictive
density, new levels included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiermod.core import versions
from hiermod.core.progress import Report
from hiermod.engines.engine import RefittingEngine, Specification
from hiermod.errors import FitError
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.scores.exact_folds import MAX_R_HAT, LeftOut, log_mean_exp
from hiermod.inference.scores.folds import Fold
from hiermod.inference.scores.row_likelihood import AT_ONCE, row_log_likelihood

DIVERGENT = 0.01  # share of divergent transitions worth a word


def run_redrawn(
    fit: BayesianFit,
    engine: RefittingEngine,
    model: Specification,
    folds: Sequence[Fold],
    cores: int | None,
    report: Report | None = None,
) -> list[LeftOut]:
    """Every fold's answer, in order, from as many draws as the fit has.  cores: chains at the same time, which changes
    no number.

    FitError, naming the fold, where a posterior cannot be drawn."""
    found, (chains, draws) = [], fit.record.shape
    for done, fold in enumerate(folds, start=1):
        try:
            record = engine.run_without(model, fold.held, draws, chains, fit.inference.tune, fold.seed, cores)
        except FitError as error:
            raise FitError(
                f"the refit without fold {done} of {len(folds)} ({len(fold.held)} rows) stopped: {error}. "
                "Give the priors of what these rows alone determine more strength, or use other folds"
            ) from error
        logs = row_log_likelihood(BayesianFit(fit.design, record, fit.family, fit.link))
        step = max(1, AT_ONCE // (chains * draws))
        parts = [logs(fold.held[start : start + step]) for start in range(0, len(fold.held), step)]
        found.append(scored(np.concatenate(parts, axis=-1), fold, record.inference.divergences))
        if report is not None:
            report(done, len(folds))
    return found


def scored(logs: np.ndarray, fold: Fold, divergences: int) -> LeftOut:
    """The units of a fold from log p(y_i | draw) (c, d, rows), its rows unit after unit."""
    starts = np.cumsum([0, *(len(unit) for unit in fold.units)])[:-1]
    units = np.add.reduceat(logs, starts, axis=-1)
    elpd, mcse = log_mean_exp(units)
    k = np.full(len(elpd), np.nan)
    joint = np.array([len(unit) > 1 for unit in fold.units])
    if joint.any():  # a mean of products of many densities, which a few draws can dominate
        k[joint] = versions.psis(units[..., joint].reshape(-1, int(joint.sum())).T)[1]
    return LeftOut(elpd, mcse, k, _words(units, divergences))


def _words(units: np.ndarray, divergences: int) -> tuple[str, ...]:
    words, count = [], units.shape[0] * units.shape[1]
    if divergences > DIVERGENT * count:
        words.append(f"{divergences} of {count} transitions diverged")
    r_hat = versions.r_hat(np.exp(units - units.max(axis=(0, 1))))
    if np.any(r_hat > MAX_R_HAT):
        words.append(f"R-hat of a held-out density is {np.nanmax(r_hat):.2f}: the chains disagree")
    return tuple(words)
