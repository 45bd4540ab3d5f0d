"""New responses for the rows of a fit, and the log likelihood of each row, at every posterior draw, for ArviZ.

p(y_new | y) of Gelman et al. (2013, Bayesian Data Analysis, section 6.3): the rows keep their own group effects.  In
numpy for every family whose law families/links.py has, through Bambi's own methods for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core import versions
from hiermod.core.arguments import check_count, resolve_seed
from hiermod.core.memory import check_room
from hiermod.engines.gaussian_rows import NUMBERS_AT_ONCE, gaussian_responses, log_likelihood
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError
from hiermod.formula.design import Design

if TYPE_CHECKING:
    import xarray as xr

LARGEST = 8e9  # bytes of one group of the result
LOG_WORDS = "log likelihoods"
PREDICTIVE, LOGS = "posterior_predictive", "log_likelihood"


def posterior_predictive(
    record: Posterior,
    idata: Any,
    design: Design,
    gaussian: bool,
    build: Callable[[], Any],
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """One new response per row and draw, (chain, draw, row), under the response's name; counts for binomial models.

    gaussian: whether it is a Gaussian model with identity link.  build: gives the built Bambi model, called otherwise.
    draws: how many in all, evenly spaced (None: every draw of the posterior).  ArgumentError where that takes more
    than LARGEST bytes, naming the size."""
    chosen = _chosen(record, draws)
    _check_size(record, design, len(chosen), "posterior predictive draws")
    seed = resolve_seed(random_seed)
    if gaussian:
        values = gaussian_responses(_thinned(record, chosen), design, np.random.default_rng(seed))
        return _dataset(values, design, chosen)
    return _by_bambi(idata, build(), chosen, PREDICTIVE, seed)


def drawn(
    record: Posterior,
    design: Design,
    responses: Callable[[np.ndarray, np.random.Generator, slice], np.ndarray],
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """As ``posterior_predictive``, by a function of flat draw numbers, generator and rows that gives (draws, rows)."""
    chosen = _chosen(record, draws)
    _check_size(record, design, len(chosen), "posterior predictive draws")
    rng = np.random.default_rng(resolve_seed(random_seed))
    chains, there = record.shape
    flat = (np.arange(chains)[:, None] * there + chosen).ravel()
    values = np.empty((len(flat), design.nobs))
    step = max(1, NUMBERS_AT_ONCE // len(flat))
    for start in range(0, design.nobs, step):
        part = slice(start, start + step)
        values[:, part] = responses(flat, rng, part)
    return _dataset(values.reshape(chains, len(chosen), design.nobs), design, chosen)


def pointwise_log_likelihood(
    record: Posterior, idata: Any, design: Design, gaussian: bool, build: Callable[[], Any]
) -> xr.Dataset:
    """log p(y_i | all parameters) at every draw, (chain, draw, row), under the response's name.

    ArgumentError where that takes more than LARGEST bytes, naming the size."""
    chosen = _chosen(record, None)
    _check_size(record, design, len(chosen), LOG_WORDS)
    if gaussian:
        return _dataset(log_likelihood(record, design), design, chosen, responses=False)
    return _by_bambi(idata, build(), chosen, LOGS, 0)


def log_likelihoods(record: Posterior, design: Design, logs: Callable[[slice], np.ndarray]) -> xr.Dataset:
    """As ``pointwise_log_likelihood``, by a function of rows that gives (draws, rows)."""
    chosen = _chosen(record, None)
    _check_size(record, design, len(chosen), LOG_WORDS)
    values = np.empty((record.shape[0] * record.shape[1], design.nobs))
    step = max(1, NUMBERS_AT_ONCE // len(values))
    for start in range(0, design.nobs, step):
        part = slice(start, start + step)
        values[:, part] = logs(part)
    return _dataset(values.reshape(*record.shape, design.nobs), design, chosen, responses=False)


def _chosen(record: Posterior, draws: int | None) -> np.ndarray:
    """Which draws of each chain."""
    chains, there = record.shape
    if draws is None:
        return np.arange(there)
    check_count("draws", draws, 1)
    each = -(-int(draws) // chains)
    if each > there:
        raise ArgumentError(f"draws is {draws}, and the posterior has {chains * there}: ask for at most that many")
    return np.linspace(0, there - 1, each).round().astype(int) if each > 1 else np.array([there - 1])


def _thinned(record: Posterior, chosen: np.ndarray) -> Posterior:
    if len(chosen) == record.shape[1]:
        return record
    sigma = None if record.sigma is None else record.sigma[:, chosen]
    chains, there = record.shape
    flat = (np.arange(chains)[:, None] * there + chosen).ravel()
    effects = tuple(
        record.effects_of(i, draws=flat).reshape(chains, len(chosen), *one.shape[2:])
        for i, one in enumerate(record.effects)
    )
    return replace(record, beta=record.beta[:, chosen], effects=effects, sigma=sigma)


def _check_size(record: Posterior, design: Design, each: int, what: str) -> None:
    size = 8.0 * record.shape[0] * each * design.nobs
    way_out = "fit.loo() takes the rows in parts" if what == LOG_WORDS else "Ask for fewer with draws="
    check_room(f"{record.shape[0] * each:,} {what} of {design.nobs:,} rows", size, way_out, ArgumentError, LARGEST)


def _dataset(values: np.ndarray, design: Design, chosen: np.ndarray, responses: bool = True) -> xr.Dataset:
    import xarray as xr

    coords = {"chain": np.arange(len(values)), "draw": chosen, "__obs__": np.arange(design.nobs)}
    told = [f"{value:g} = {name}" for value, name in zip(design.category_values, design.categories, strict=True)]
    attrs = {"categories": ", ".join(told)} if told and responses else {}
    if told and responses:
        values = values.astype(int)  # by which ArviZ draws bars, not a density
    variables = {design.response: (("chain", "draw", "__obs__"), values, attrs)}
    return xr.Dataset(variables, coords=coords, attrs={"modeling_interface": "hiermod"})


def _by_bambi(idata: Any, model: Any, chosen: np.ndarray, group: str, seed: int) -> xr.Dataset:
    from hiermod.engines.nuts.quiet import collected

    with collected():
        copy = versions.make_idata({"posterior": versions.posterior_dataset(idata).isel(draw=chosen)})
        if group == LOGS:
            model.compute_log_likelihood(copy, inplace=True)
        else:
            model.predict(copy, kind="response", inplace=True, random_seed=seed)
        return versions.group_dataset(copy, group)
