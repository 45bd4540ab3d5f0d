"""log p(y_i | all parameters) of each row at each posterior draw, of any fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core import versions
from hiermod.engines.gaussian_rows import log_likelihood
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import is_linear
from hiermod.fits import row_draws
from hiermod.fits.targets import read_request
from hiermod.inference.scores.rows import take_rows

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

AT_ONCE = 6_000_000  # draws x rows of log likelihood held at once
GROUP = "log_likelihood"


def row_log_likelihood(fit: BayesianFit) -> Callable[[slice | np.ndarray], np.ndarray]:
    """A function of a slice or numbers of rows that returns (c, d, rows): by the family's own density,
    or by Bambi where the left side weighs or censors it.

    UnsupportedError where it is neither stored with the fit nor to be had from its model."""
    design = fit.design
    if is_linear(fit.family, fit.link) and design.special is None:
        record = fit.record.drawn()
        return lambda rows: log_likelihood(record, take_rows(design, np.arange(design.nobs)[rows]))
    idata = None if fit.record.idata is None else fit.idata  # where a person may have added it
    if idata is None or GROUP not in versions.group_names(idata):
        if row_draws.by_numpy(fit):
            predictor = fit._predictor(read_request(design, None, "conditional", None, "response", "raise"))
            return lambda rows: predictor.log_densities(rows).reshape(*fit.record.shape, -1)
        idata = _by_bambi(fit)
    dataset = versions.group_dataset(idata, GROUP)
    array = next(iter(dataset.data_vars.values())).transpose("chain", "draw", ...)
    values = np.asarray(array.values, dtype=float).reshape(*fit.record.shape, -1)
    if values.shape[-1] != design.nobs:
        raise UnsupportedError(
            f"the stored log likelihood has {values.shape[-1]} values per draw and the fit {design.nobs} rows, so rows "
            "cannot be scored one by one"
        )
    return lambda rows: values[..., rows]


def _by_bambi(fit: BayesianFit) -> Any:
    """A copy of the fit's idata with the log likelihood that Bambi computes; takes seconds."""
    if fit.model is None or fit.record.idata is None:
        raise UnsupportedError(
            f"the log likelihood of each row is not stored with this fit of family {fit.family!r}, and its model is "
            "not known. Fit the model with Model(...).fit(), or add it with "
            "model.bambi.compute_log_likelihood(fit.idata), model being the Model that was fitted, and ask again"
        )
    from hiermod.engines.nuts.quiet import collected

    with collected():
        copy = versions.replace_groups(fit.record.idata)
        fit.model._graph.compute_log_likelihood(copy)
    return copy
