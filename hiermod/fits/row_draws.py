"""What ArviZ wants of every row and draw, put into a fit's idata when asked for: new responses, log likelihoods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.engines import predictive
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES, is_linear
from hiermod.fits.tables import LEVEL
from hiermod.fits.targets import read_request
from hiermod.formula.further import DISTRIBUTIONAL

if TYPE_CHECKING:
    import xarray as xr

    from hiermod.fits.bayesian import BayesianFit


def posterior_predictive(
    fit: BayesianFit, draws: int | None = None, random_seed: int | np.random.Generator | None = None
) -> xr.DataArray:
    """New responses for the rows of the fit with their own group effects: (chain, draw, __obs__).

    One per posterior draw, or ``draws`` in all, evenly spaced; successes for counts out of trials; ordinal
    responses as numbers, 1, 2, ... where their categories are words (``attrs["categories"]``).  ``__obs__`` are
    the labels of the rows.  Also kept in ``fit.idata`` as the group posterior_predictive.  ``simulate`` draws new
    groups too.  ArgumentError where it takes more than 8 GB."""
    return _keep(fit, predictive.PREDICTIVE, new_responses(fit, draws, random_seed))


def new_responses(fit: BayesianFit, draws: int | None, random_seed: int | np.random.Generator | None) -> Any:
    """``posterior_predictive`` as a group of idata that is kept nowhere."""
    if is_gaussian(fit) or not by_numpy(fit):
        return predictive.posterior_predictive(
            fit.record, fit.record.idata, fit.design, is_gaussian(fit), lambda: _bambi(fit), draws, random_seed
        )
    request = read_request(fit.design, None, "conditional", LEVEL, "response", "raise")
    predictor = fit._predictor(request)
    return predictive.drawn(fit.record, fit.design, predictor.responses_at, draws, random_seed)


def log_likelihood(fit: BayesianFit) -> xr.DataArray:
    """log p(y_i | all parameters) of each row at each draw: (chain, draw, __obs__), kept in ``fit.idata`` too.

    ArgumentError where it takes more than 8 GB."""
    there = fit._added.get(predictive.LOGS)
    if there is None and _at_hand(fit) and predictive.LOGS in versions.group_names(fit.idata):
        there = versions.group_dataset(fit.idata, predictive.LOGS)
    if there is not None:
        return _labelled(fit, there)
    if by_numpy(fit) and not is_gaussian(fit):
        request = read_request(fit.design, None, "conditional", None, "response", "raise")
        logs = fit._predictor(request).log_densities
        return _keep(fit, predictive.LOGS, predictive.log_likelihoods(fit.record, fit.design, logs))
    found = predictive.pointwise_log_likelihood(
        fit.record, fit.record.idata, fit.design, is_gaussian(fit), lambda: _bambi(fit)
    )
    return _keep(fit, predictive.LOGS, found)


def is_gaussian(fit: BayesianFit) -> bool:
    """Whether it is a Gaussian model with identity link."""
    return is_linear(fit.family, fit.link) and fit.design.special is None


def by_numpy(fit: BayesianFit) -> bool:
    """Whether the family's own law draws new responses here, without a graph."""
    return fit.design.special in (None, DISTRIBUTIONAL) and FAMILIES[fit.family].drawn


def _bambi(fit: BayesianFit) -> Any:
    if fit.model is None or fit.record.idata is None:
        raise UnsupportedError(
            f"a fit of family {fit.family!r} needs its model for this, which is not known here (a fit that was loaded "
            "from a file?). Fit the model with Model(...).fit(), or use model.bambi.predict(fit.idata, kind='response')"
        )
    return fit.model._graph


def _at_hand(fit: BayesianFit) -> bool:
    """Whether idata is there, or costs little: not where it would draw effects that wait."""
    return "_idata" in vars(fit) or not any(fit.record.waits(i) for i in range(len(fit.record.effects)))


def _keep(fit: BayesianFit, group: str, found: Any) -> xr.DataArray:
    if _at_hand(fit):
        versions.set_group(fit.idata, group, found)
    else:
        fit._added[group] = found
    return _labelled(fit, found)


def _labelled(fit: BayesianFit, found: Any) -> xr.DataArray:
    """The one variable, its rows labelled as the person's data are."""
    array = next(iter(found.data_vars.values()))
    dim = array.dims[2]
    if isinstance(fit.design.index, pd.MultiIndex) or array.sizes[dim] != fit.nobs:
        return array
    return array.assign_coords({dim: fit.design.index})
