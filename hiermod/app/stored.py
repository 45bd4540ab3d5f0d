"""hiermod.load: a fit from the file that ``fit.save(path)`` wrote, with the Model it belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hiermod.core.checked import checked
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.vocabulary import Fit
from hiermod.model import Model
from hiermod.output.storage.storage import read


@checked
def load(path: str | os.PathLike[str], extra_namespace: Mapping[str, Any] | None = None) -> Fit:
    """Read a fit that ``fit.save(path)`` wrote, in this or another process, on this or another version of Python.

    extra_namespace: the functions of your own that the formula uses; a file holds values, never code.  Nothing in a
    file is run: a formula that calls more than what every formula may and what is given is refused unevaluated.
    Nothing stays open.  Raises FileError for a file that is missing, truncated, changed, foreign or of
    a later format; and UnknownNameError where the formula needs functions that were not given.

    >>> import hiermod as hm, pathlib, tempfile
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = hm.load(fit.save(pathlib.Path(folder) / "fit.nc"))
    >>> again.theta.equals(fit.theta)
    True
    """
    fit = read(path, extra_namespace)
    if isinstance(fit, BayesianFit):
        fit.model = _model(fit)
    return fit


def _model(fit: BayesianFit) -> Model | None:
    """The Model of a fit read from a file; None where one of its priors was a function."""
    origin = fit.origin
    if origin is None or origin.given is None:
        return None
    model = Model.__new__(Model)
    vars(model).update(
        family=fit.family,
        link=fit.link,
        center_predictors=origin.center_predictors,
        noncentered=origin.noncentered,
        extra_namespace=dict(fit.design.evaluator.extra_namespace) or None,
        spec=fit.design,
        _priors=origin.given,
        _bambi=None,
        _named=None,
        _centring="",
    )
    return model
