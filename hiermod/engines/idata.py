"""An InferenceData or DataTree from a Posterior's arrays, with the names, dims and coordinates that Bambi gives.

Built when first asked for: it needs xarray and ArviZ, which a marginal fit does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.engines.gaussian_rows import gaussian_responses, log_likelihood
from hiermod.engines.posterior import Posterior
from hiermod.formula.design import Block, Design

AT_ONCE = 50e6  # bytes up to which the pointwise log likelihood and the posterior predictive are put in
PREDICTIVE_STREAM = 2  # of random numbers, beside those of the fit


def build_idata(record: Posterior, design: Design, on_demand: bool = True, gaussian: bool = True) -> Any:
    """posterior, sample_stats, observed_data; of Gaussian models log_likelihood and posterior_predictive too, where
    each takes at most 50 MB (else ``fit.log_likelihood()`` and ``fit.posterior_predictive()`` add them).  The same
    record gives the same.

    on_demand: False leaves out group effects that have not been drawn, and what is made of them."""
    import xarray as xr

    record = record.drawn() if on_demand else record
    coords: dict[str, Any] = {"chain": np.arange(record.shape[0]), "draw": np.arange(record.shape[1])}
    variables: dict[str, Any] = {}
    _add_common(variables, coords, record, design)
    for block, sd, corr, b in zip(design.blocks, record.sd, record.corr, _effects(record, on_demand), strict=True):
        _add_block(variables, coords, block, sd, corr, b)
    if record.sigma is not None:
        variables["sigma"] = (("chain", "draw"), record.sigma)
    for name, values in record.auxiliary.items():  # thresholds have a dim of their own
        own_dims = [f"{name}_dim"] * (values.ndim - 2)
        coords |= {dim: np.arange(values.shape[-1]) for dim in own_dims}
        variables[name] = (("chain", "draw", *own_dims), values)
    posterior = xr.Dataset(variables, coords=coords, attrs={"modeling_interface": "hiermod"})
    rows = {"__obs__": np.arange(design.nobs)}
    groups = {
        "posterior": posterior,
        "observed_data": xr.Dataset({design.response: (("__obs__",), design.y)}, coords=rows),
    }
    own = {name: coords[name] for name in ("chain", "draw")}
    if record.stats:
        stats = {name: (("chain", "draw"), values) for name, values in record.stats.items()}
        groups["sample_stats"] = xr.Dataset(stats, coords=own, attrs=posterior.attrs)
    if on_demand and gaussian and 8.0 * design.nobs * record.shape[0] * record.shape[1] <= AT_ONCE:
        dims = ("chain", "draw", "__obs__")
        new = gaussian_responses(record, design, np.random.default_rng([record.inference.seed, PREDICTIVE_STREAM]))
        for name, values in (("log_likelihood", log_likelihood(record, design)), ("posterior_predictive", new)):
            groups[name] = xr.Dataset({design.response: (dims, values)}, coords=own | rows, attrs=posterior.attrs)
    return versions.make_idata(groups)


def _effects(record: Posterior, on_demand: bool) -> tuple[np.ndarray | None, ...]:
    return record.b if on_demand else tuple(b if isinstance(b, np.ndarray) else None for b in record.effects)


def _add_common(variables: dict[str, Any], coords: dict[str, Any], record: Posterior, design: Design) -> None:
    for term in dict.fromkeys(design.common_terms):
        columns = [i for i, owner in enumerate(design.common_terms) if owner == term]
        labels = [design.common[i] for i in columns]
        if len(columns) == 1 and labels[0] == term:
            variables[term] = (("chain", "draw"), record.beta[..., columns[0]])
            continue
        dim = f"{term}_dim"
        names = [label.removeprefix(f"{term}[").removesuffix("]") for label in labels]
        coords[dim] = names if ":" not in term else [_levels_only(label) for label in labels]
        variables[term] = (("chain", "draw", dim), record.beta[..., columns])


def _levels_only(label: str) -> str:
    """``a[x]:b[y]`` as Bambi's coordinate ``x, y``."""
    return ", ".join(part[part.index("[") + 1 : -1] for part in label.split(":") if part.endswith("]"))


def _add_block(
    variables: dict[str, Any],
    coords: dict[str, Any],
    block: Block,
    sd: np.ndarray,
    corr: np.ndarray | None,
    b: np.ndarray | None,
) -> None:
    levels = f"{block.factor}__factor_dim"
    if b is not None:
        coords[levels] = list(block.levels)
    for name in dict.fromkeys(column.variable for column in block.columns):
        new: dict[str, Any] = {}
        where = [i for i, column in enumerate(block.columns) if column.variable == name]
        if block.columns[where[0]].level is None:
            new[f"{name}_sigma"] = (("chain", "draw"), sd[..., where[0]])
            if b is not None:
                new[name] = (("chain", "draw", levels), b[..., where[0]])
        else:
            dim = f"{name.split('|')[0]}__expr_dim"
            mine = [block.columns[i].level for i in where]
            coords[dim] = [*coords.get(dim, []), *(one for one in mine if one not in coords.get(dim, []))]
            new[f"{name}_sigma"] = (("chain", "draw", dim), sd[..., where])
            if b is not None:
                new[name] = (("chain", "draw", dim, levels), np.moveaxis(b[..., where], -1, -2))
        for key, (dims, values) in new.items():
            if key in variables:  # a second block holds another column of the same variable, as in (f || g)
                axis = dims.index(next(one for one in dims if one.endswith("__expr_dim")))
                values = np.concatenate([variables[key][1], values], axis=axis)
            variables[key] = (dims, values)
    if corr is not None:
        dims = (f"{block.corr_name}_dim_0", f"{block.corr_name}_dim_1")
        coords.update({dim: list(block.labels) for dim in dims})
        variables[block.corr_name] = (("chain", "draw", *dims), corr)
