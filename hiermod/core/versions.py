"""The one place that knows how supported versions of ArviZ, PyMC and Bambi differ: by features, not by numbers.

Old: ArviZ 0.23 (InferenceData), PyMC 5, Bambi 0.17.  New: ArviZ 1.x (xarray.DataTree), PyMC 6, Bambi 0.21.
Everything heavy is imported inside the functions, so importing this module costs nothing."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


# --- results: InferenceData or DataTree ---------------------------------------------------------------------------


def group_names(idata: Any) -> tuple[str, ...]:
    """The groups of an InferenceData or DataTree: ``("posterior", "sample_stats", ...)``."""
    groups = getattr(idata, "groups", None)
    if callable(groups):  # InferenceData; a DataTree's groups is a tuple of paths
        return tuple(str(name) for name in groups())
    return tuple(str(name) for name in idata.children)


def group_dataset(idata: Any, group: str) -> xr.Dataset:
    """One group as a plain Dataset.  Raises KeyError when there is no such group."""
    if group not in group_names(idata):
        raise KeyError(group)
    found = idata[group]
    return found.to_dataset() if hasattr(found, "to_dataset") and hasattr(found, "children") else found


def posterior_dataset(idata: Any) -> xr.Dataset:
    """The posterior as a plain Dataset with dims (chain, draw, ...)."""
    return group_dataset(idata, "posterior")


def make_idata(groups: Mapping[str, xr.Dataset]) -> Any:
    """An InferenceData (ArviZ 0.x) or DataTree (ArviZ 1.x) holding these groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces its successor when imported
        import arviz as az

    old = vars(az).get("InferenceData")  # not getattr: ArviZ 1.x answers with DataTree and a warning
    if old is not None:
        return old(**groups)
    import xarray as xr

    return xr.DataTree.from_dict(dict(groups))


def replace_groups(idata: Any, **groups: xr.Dataset | None) -> Any:
    """A new result in which these groups are added or replaced (None: left out); the one given stays as it is."""
    kept: dict[str, xr.Dataset] = {name: group_dataset(idata, name) for name in group_names(idata)}
    for name, dataset in groups.items():
        if dataset is None:
            kept.pop(name, None)
        else:
            kept[name] = dataset
    return make_idata(kept)


def set_group(idata: Any, name: str, dataset: xr.Dataset) -> None:
    """Add or replace one group of a result in place."""
    if hasattr(idata, "children"):
        import xarray as xr

        idata[name] = xr.DataTree(dataset)
        return
    if name in group_names(idata):
        delattr(idata, name)
    idata.add_groups({name: dataset})


# --- diagnostics on arrays -----------------------------------------------------------------------------------------


def _diagnose(name: str, array: np.ndarray, **options: Any) -> np.ndarray:
    """An ``arviz_stats`` function of (chain, draw, ...); nan, without noise, for constant or too short chains."""
    from arviz_stats.base import array_stats

    values = np.asarray(array, dtype=float)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        out = getattr(array_stats, name)(values, chain_axis=0, draw_axis=1, **options)
    out = np.asarray(out, dtype=float)
    still = np.ptp(values, axis=(0, 1)) == 0 if values.size else np.ones(values.shape[2:], dtype=bool)
    return np.where(still, np.nan, out)


def r_hat(array: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat (Vehtari et al. 2021, doi 10.1214/20-BA1221) of (chain, draw, ...) -> (...)."""
    return _diagnose("rhat", array, method="rank")


def ess_bulk(array: np.ndarray) -> np.ndarray:
    """Bulk effective sample size of (chain, draw, ...) -> (...)."""
    return _diagnose("ess", array, method="bulk")


def ess_tail(array: np.ndarray) -> np.ndarray:
    """Tail effective sample size (5 % and 95 % quantiles) of (chain, draw, ...) -> (...)."""
    return _diagnose("ess", array, method="tail", prob=(0.05, 0.95))


def mcse(array: np.ndarray, method: str = "mean", prob: float | None = None) -> np.ndarray:
    """Monte Carlo standard error of the mean, "sd" or, with ``prob``, "quantile" of (chain, draw, ...) -> (...)."""
    options: dict[str, Any] = {"method": method}
    if prob is not None:
        options["prob"] = prob
    return _diagnose("mcse", array, **options)


# --- Bambi's insides -----------------------------------------------------------------------------------------------


def bambi_parameters(model: Any) -> dict[str, Any]:
    """Every parameter of the response distribution: name -> Bambi's component."""
    found = getattr(model, "parameters", None)
    return dict(model.components if found is None else found)


def bambi_constants(model: Any) -> dict[str, Any]:
    """Parameters without a formula of their own, such as sigma: name -> component with ``.prior``."""
    found = getattr(model, "marginal_parameters", None)
    return dict(model.constant_components if found is None else found)


def bambi_parent(model: Any) -> Any:
    """The component that the formula describes, with common_terms, group_specific_terms and intercept_term."""
    return bambi_parameters(model)[model.family.likelihood.parent]


def bambi_response(model: Any) -> Any:
    """Bambi's response term, with ``.name`` and ``.data``."""
    found = getattr(model, "response_term", None)
    return model.response_component.term if found is None else found


def bambi_clean(model: Any, idata: Any) -> Any:
    """What Bambi does with raw draws: drops offsets, orders dims, moves the intercept back to predictors = 0."""
    return model.backend._clean_results(idata, omit_offsets=True, include_response_params=False)


# --- packages ------------------------------------------------------------------------------------------------------


def has_package(name: str) -> bool:
    """Whether a package is installed, without importing it."""
    return importlib.util.find_spec(name) is not None


def splits_labels_at_commas() -> bool:
    """Whether nutpie fails on dims with a comma in their name: its conversion for ArviZ 0.x joins names by commas."""
    import arviz as az

    return "InferenceData" in vars(az)  # not hasattr: ArviZ 1.x answers with a warning


# --- importance sampling -------------------------------------------------------------------------------------------


def psis(log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance sampling (Vehtari et al. 2024, JMLR 25(72)): log weights summing to 1, and k-hat.

    log_ratio (..., n): log target - log proposal; -inf is allowed.  Returns (..., n) and (...)."""
    from arviz_stats.base import array_stats

    finite = np.isfinite(log_ratio)
    lowest = np.min(np.where(finite, log_ratio, np.inf), axis=-1, keepdims=True)
    filled = np.where(finite, log_ratio, lowest - 50.0)
    with np.errstate(all="ignore"):
        weights, k = array_stats.psislw(-filled)  # its argument is a log likelihood: the negative log ratio of LOO
    return np.asarray(weights), np.asarray(k)


def power_scaled(log_density: np.ndarray, alpha: float) -> np.ndarray:
    """Weights (chain, draw), summing to 1, for a density raised to ``alpha``; both tails Pareto-smoothed."""
    from arviz_stats.base import array_stats

    with np.errstate(all="ignore"):
        weights = np.exp(array_stats.power_scale_lw(np.asarray(log_density, dtype=float), alpha=alpha, axis=(0, 1)))
    return np.asarray(weights / weights.sum())


def power_scaling(draws: np.ndarray, log_density: np.ndarray, alphas: tuple[float, float]) -> float:
    """Sensitivity of one parameter (chain, draw) to powers of a density: the cumulative Jensen-Shannon distance per
    doubling of the power (Kallioinen et al. 2024, Stat. Comput. 34, 57, equation 11).  nan for constant draws."""
    from arviz_stats.base import array_stats

    if np.ptp(draws) == 0 or not np.isfinite(draws).all():
        return float("nan")
    lower, upper = (power_scaled(log_density, alpha) for alpha in alphas)
    with np.errstate(all="ignore"):
        found = array_stats.power_scale_sense(draws, lower, upper, *alphas, chain_axis=0, draw_axis=1)
    return float(found)
