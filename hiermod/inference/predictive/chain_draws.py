"""Draws of named parameters, their ranks over all chains, and the energy of Hamiltonian chains, for figures.

Ranks: Vehtari et al. (2021, Bayesian Analysis 16(2), section 4).  Energy and E-BFMI: Betancourt (2016,
arXiv:1604.00695), E-BFMI_c = sum_t (E_t - E_{t-1})^2 / sum_t (E_t - mean E)^2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hiermod.core import versions
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError, nearest
from hiermod.formula.design import FrozenArrays
from hiermod.inference.predictive.replicates import bayesian_record

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

MOST = 40  # parameters in one figure
LOW_ENERGY = 0.3  # E-BFMI below which chains explore the tails too slowly (Betancourt 2016)


@dataclass(frozen=True, eq=False)
class ChainDraws(FrozenArrays):
    """P parameters by name."""

    names: tuple[str, ...]
    draws: np.ndarray  # (P, chain, draw)
    divergent: np.ndarray  # (chain, draw) bool; all False for engines without divergences

    @property
    def ranks(self) -> np.ndarray:
        """(P, chain, draw) places 1 to chains x draws of each draw among all draws of its parameter."""
        flat = self.draws.reshape(len(self.draws), -1)
        return np.asarray(stats.rankdata(flat, axis=1)).reshape(self.draws.shape)


@dataclass(frozen=True, eq=False)
class Energy(FrozenArrays):
    """Of each transition, (chain, draw), and E-BFMI of each chain, (chain,)."""

    energy: np.ndarray
    bfmi: np.ndarray

    @property
    def transitions(self) -> np.ndarray:
        """(chain, draw - 1) changes between successive draws."""
        return np.diff(self.energy, axis=1)


def chain_draws(fit: BayesianFit, parameters: str | Sequence[str] | None = None) -> ChainDraws:
    """Draws from ``fit.idata`` by the names of ``fit.parameters()``, or "1|Subject[308]" for a group effect.

    parameters: one or several; a variable of several values ("Subject_corr", "1|Subject", "Machine") stands for all of
    them; None: every parameter but the group effects.  UnknownNameError; ArgumentError beyond 40."""
    bayesian_record(fit)
    dataset = versions.posterior_dataset(fit.idata)
    scalars = _scalars(fit)
    if parameters is None:
        chosen = dict(list(scalars.items())[:MOST])
    else:
        chosen = {}
        for name in [parameters] if isinstance(parameters, str) else list(parameters):
            chosen |= _named(str(name), scalars, dataset)
    if not chosen:
        raise ArgumentError("parameters is empty: name one, such as 'sigma', or leave it out")
    if len(chosen) > MOST:
        raise ArgumentError(f"{len(chosen)} parameters are more than the {MOST} that one figure holds: name fewer")
    return ChainDraws(tuple(chosen), np.stack(list(chosen.values())), _divergent(fit))


def chain_energy(fit: BayesianFit) -> Energy:
    """UnsupportedError for engines without energy: the marginal posterior is not sampled by Hamiltonian dynamics."""
    bayesian_record(fit)
    found = None
    if "sample_stats" in versions.group_names(fit.idata):
        found = versions.group_dataset(fit.idata, "sample_stats").get("energy")
    if found is None:
        raise UnsupportedError(
            f"this fit's engine ({fit.inference.method}) keeps no energy, which belongs to Hamiltonian Monte Carlo. "
            "fit.check() says how well it worked; m.fit(inference_method='nutpie') samples by NUTS"
        )
    energy = np.asarray(found.transpose("chain", "draw").values, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        bfmi = np.square(np.diff(energy, axis=1)).sum(axis=1) / (energy.shape[1] * energy.var(axis=1))
    return Energy(energy, bfmi)


def _scalars(fit: BayesianFit) -> dict[str, np.ndarray]:
    """Every parameter but the group effects, in the order of ``fit.parameters()``."""
    from hiermod.engines.posterior import labelled

    found = labelled(fit.record, fit.design, effects=False)
    return {name: draws for name, draws in found if np.isfinite(draws).all()}


def _named(name: str, scalars: dict[str, np.ndarray], dataset: Any) -> dict[str, np.ndarray]:
    """One name as typed: a parameter, a variable of idata, or a value of one ("1|Subject[308]")."""
    if name in scalars:
        return {name: scalars[name]}
    if f"{name}[" in " ".join(scalars):  # a vector among the parameters: Machine, Subject_corr, threshold
        parts = {one: draws for one, draws in scalars.items() if one.startswith(f"{name}[")}
        if parts:
            return parts
    variable, _, level = name.partition("[")
    if variable in dataset:
        found = _elements(variable, dataset[variable])
        if not level:
            return found
        if name in found:
            return {name: found[name]}
        known = list(found)
    else:
        known = [*scalars, *map(str, dataset.data_vars)]
    raise UnknownNameError(f"no parameter is called {name!r}.{nearest(name, known)} fit.parameters() lists them")


def _elements(variable: str, array: Any) -> dict[str, np.ndarray]:
    """Each value of a variable under its coordinates."""
    array = array.transpose("chain", "draw", ...)
    values = np.asarray(array.values, dtype=float)
    dims = array.dims[2:]
    if not dims:
        return {variable: values}
    labels = [[str(one) for one in array.coords[dim].values] for dim in dims]
    out = {}
    for place in np.ndindex(*values.shape[2:]):
        told = ",".join(names[i] for names, i in zip(labels, place, strict=True))
        out[f"{variable}[{told}]"] = values[(slice(None), slice(None), *place)]
    return out


def _divergent(fit: BayesianFit) -> np.ndarray:
    none = np.zeros(fit.record.shape, dtype=bool)
    if "sample_stats" not in versions.group_names(fit.idata):
        return none
    found = versions.group_dataset(fit.idata, "sample_stats").get("diverging")
    return none if found is None else np.asarray(found.transpose("chain", "draw").values, dtype=bool)
