"""Refits by NUTS without some rows, on one graph (engines/nuts/masked_graph.py), and the density of those rows.

Effects of levels without rows come from their prior, so the mean over draws of exp(log likelihood) is the predictive
density, new levels included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.core.progress import Report
from hiermod.engines.nuts.engine import NUTPIE, TARGET_ACCEPT, GraphSampler, calm
from hiermod.engines.nuts.masked_graph import LOGS
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import FitError, UnsupportedError
from hiermod.inference.scores.exact_folds import LeftOut
from hiermod.inference.scores.folds import Fold
from hiermod.inference.scores.redrawn_folds import scored


def run_graph(
    graph: Any,
    nobs: int,
    folds: Sequence[Fold],
    *,
    draws: int,
    tune: int,
    chains: int,
    cores: int,
    target_accept: float = TARGET_ACCEPT,
    sampler: GraphSampler = NUTPIE,
    report: Report | None = None,
) -> list[LeftOut]:
    """Every fold's answer, in order; cores: chains at the same time, which changes no number.  sampler: one
    that has ``without_rows``.

    FitError, naming the fold, where the sampler stops."""
    if sampler.without_rows is None:
        raise UnsupportedError(f"{sampler.title} cannot leave rows out of a compiled graph; nutpie and PyMC can")
    found = []
    with collected(), calm(sampler):
        run = sampler.without_rows(graph, nobs, draws, tune, chains, min(cores, chains), target_accept)
        for done, fold in enumerate(folds, start=1):
            held = np.zeros(nobs)
            held[fold.held] = 1.0
            try:
                idata = run(held, fold.seed)
            except RuntimeError as error:
                raise FitError(
                    f"the refit without fold {done} of {len(folds)} ({len(fold.held)} rows) stopped: {error}. "
                    "Give the priors of what these rows alone determine more strength, or use other folds"
                ) from error
            found.append(_scored(idata, fold))
            if report is not None:
                report(done, len(folds))
    return found


def _scored(idata: Any, fold: Fold) -> LeftOut:
    posterior = versions.posterior_dataset(idata)
    rows = np.asarray(posterior[LOGS].transpose("chain", "draw", ...).values, dtype=float)
    divergences = 0
    if "sample_stats" in versions.group_names(idata):
        stats = versions.group_dataset(idata, "sample_stats")
        divergences = int(np.asarray(stats["diverging"]).sum()) if "diverging" in stats else 0
    return scored(rows[..., fold.held], fold, divergences)
