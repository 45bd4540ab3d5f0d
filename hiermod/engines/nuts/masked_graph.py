"""A graph whose rows can be left out one set after the other: their log likelihood is taken away from the whole again.

Everything that depends on the data (priors, centring, contrasts, levels) stays that of all rows.  Which rows are
left out is an argument, so that a graph is compiled once for all refits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hiermod.errors import UnsupportedError

HELD, LOGS = "hiermod_rows_left_out", "hiermod_row_log_likelihood"

Sampler = Callable[[np.ndarray, int], Any]  # (rows left out (n,), seed) -> idata with LOGS


def masked_graph(graph: Any, nobs: int) -> Any:
    """A copy of a PyMC model with a 0/1 vector HELD (nobs,) of rows to leave out, and LOGS, each row's log likelihood.

    UnsupportedError where the likelihood is not one term per row."""
    import pymc as pm
    from pymc.model.fgraph import clone_model

    if len(graph.observed_RVs) != 1:
        raise UnsupportedError(
            f"the graph of this model has {len(graph.observed_RVs)} observed variables, and rows can be left out of "
            "one only"
        )
    starts = {rv: start for rv, start in graph.rvs_to_initial_values.items() if start is not None}
    try:
        graph.rvs_to_initial_values.update(dict.fromkeys(starts))  # PyMC copies no graph that has any
        copy = clone_model(graph)
    finally:
        graph.rvs_to_initial_values.update(starts)
    for rv, start in starts.items():
        copy.set_initval(copy[rv.name], start)
    observed = copy.observed_RVs[0]
    logs = pm.logp(observed, copy.rvs_to_values[observed])
    if logs.ndim != 1 or copy.rvs_to_values[observed].type.shape[0] not in (nobs, None):
        raise UnsupportedError("the likelihood of this model is not one number per row, so rows cannot be left out")
    with copy:
        held = pm.Data(HELD, np.zeros(nobs))
        pm.Potential("hiermod_left_out", -pm.math.switch(held > 0, logs, 0.0).sum())
        pm.Deterministic(LOGS, logs)
    return copy


_COMPILED: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by graph: compiling takes most of the time


def nutpie_sampler(
    graph: Any, nobs: int, draws: int, tune: int, chains: int, cores: int, target_accept: float
) -> Sampler:
    """nutpie on a graph of ``nobs`` rows, compiled once per graph.  cores: chains at the same time."""
    import nutpie

    compiled = _COMPILED.get(graph)
    if compiled is None:
        compiled = _COMPILED[graph] = nutpie.compile_pymc_model(masked_graph(graph, nobs), var_names=[LOGS])

    def run(held: np.ndarray, seed: int) -> Any:
        return nutpie.sample(
            compiled.with_data(**{HELD: held}),
            draws=draws, tune=tune, chains=chains, cores=cores, seed=seed, save_warmup=False, progress_bar=False,
            target_accept=target_accept,
        )  # fmt: skip

    return run


def pymc_sampler(
    graph: Any, nobs: int, draws: int, tune: int, chains: int, cores: int, target_accept: float
) -> Sampler:
    """PyMC's own NUTS, as ``nutpie_sampler``."""
    import pymc as pm

    masked = masked_graph(graph, nobs)

    def run(held: np.ndarray, seed: int) -> Any:
        with masked:
            pm.set_data({HELD: held})
            return pm.sample(
                draws=draws, tune=tune, chains=chains, cores=cores, random_seed=seed, progressbar=False,
                target_accept=target_accept, var_names=[LOGS], compute_convergence_checks=False,
            )  # fmt: skip

    return run
