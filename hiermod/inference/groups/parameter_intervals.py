"""Parameters of several fits with their intervals in one long table, whatever kind of fit they come from.

Bayes: posterior means, equal-tailed.  REML and ML: coefficients with t or Wald limits, standard deviations and
correlations with profile limits (Bates et al. 2015, J. Stat. Softw. 67(1), section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentTypeError, UnknownNameError, nearest
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import LEVEL, check_level

Fit = BayesianFit | FrequentistFit


def named_fits(fits: Any, what: str) -> dict[str, Fit]:
    """``{name: fit}``; a fit alone is named after its method.  ArgumentTypeError for anything else."""
    if isinstance(fits, Fit):
        kind = "Bayes" if isinstance(fits, BayesianFit) else "REML" if fits.reml and fits.is_mixed else "ML"
        fits = {kind: fits}
    if not isinstance(fits, Mapping) or not fits or not all(isinstance(fit, Fit) for fit in fits.values()):
        raise ArgumentTypeError(
            f'{what} takes a fit, or a dict of fits such as {{"Bayes": fit, "REML": reml}}; got {type(fits).__name__}'
        )
    return {str(name): fit for name, fit in fits.items()}


def parameter_intervals(
    fits: Mapping[str, Fit], parameters: Sequence[str] | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """parameter, fit, estimate, lower, upper; parameters outermost, fits in order; only rows that a fit has.

    parameters: by their names in ``fit.parameters()``; by default all common coefficients but the intercept (with it
    where there is no other).  Profile limits are computed for the variance parameters asked for, and nan where
    the profile has none.  UnknownNameError for a parameter that no fit has."""
    check_level(level)
    known = {name: fit.parameters() for name, fit in fits.items()}
    names = list(dict.fromkeys(p for table in known.values() for p in table.index))
    if parameters is None:
        common = list(dict.fromkeys(label for fit in fits.values() for label in fit.design.common))
        parameters = [label for label in common if label != "Intercept"] or common
    for parameter in parameters:
        if parameter not in names:
            raise UnknownNameError(
                f"no fit has a parameter {parameter!r}.{nearest(str(parameter), names)} They have: {', '.join(names)}"
            )
    tables = {
        name: _limits(fit, known[name], [p for p in parameters if p in known[name].index], level)
        for name, fit in fits.items()
    }
    rows = [
        {"parameter": parameter, "fit": name} | table.loc[parameter].to_dict()
        for parameter in parameters
        for name, table in tables.items()
        if parameter in table.index
    ]
    return pd.DataFrame(rows, columns=["parameter", "fit", "estimate", "lower", "upper"])


def _limits(fit: Fit, known: pd.DataFrame, parameters: list[str], level: float) -> pd.DataFrame:
    columns = ["estimate", "lower", "upper"]
    if isinstance(fit, BayesianFit):
        return fit.parameters(level).loc[parameters, columns]
    table = known.loc[parameters, columns].astype(float)
    fixed = fit.fixef(level=level)
    common = [p for p in parameters if p in fixed.index]
    table.loc[common, ["lower", "upper"]] = fixed.loc[common, ["lower", "upper"]].to_numpy(dtype=float)
    rest = [p for p in parameters if p not in fixed.index]
    table.loc[rest, ["lower", "upper"]] = np.nan
    if rest and fit.is_mixed:
        found = fit.confint(level, "profile", rest, progressbar=False)
        table.loc[rest, ["lower", "upper"]] = found.loc[rest, ["lower", "upper"]].to_numpy(dtype=float)
    return table
