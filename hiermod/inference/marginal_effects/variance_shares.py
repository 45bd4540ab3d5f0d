"""How the variance of a response divides: the common part, each grouping factor, the rest (Nakagawa et al. 2017).

The parts are those of ``fit.icc()`` and ``fit.r2()``: a factor with random slopes counts with the mean over the rows of
z' Sigma z (Johnson 2014, Methods Ecol. Evol. 5, equation 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import UnsupportedError
from hiermod.fits.tables import LEVEL, check_level
from hiermod.inference.marginal_effects.variance_explained import variances

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

COMMON, RESIDUAL = "predictors", "residual"


def variance_shares(fit: Fit, common: bool = True, level: float = LEVEL) -> pd.DataFrame:
    """One row per component: share, lower, upper, variance; index component.

    share: of the total, adding up to 1 (Bayes: posterior mean and equal-tailed interval; else lower, upper are nan).
    variance: on the scale of the linear predictor, squared units of it.  common=False leaves the predictors' part out,
    as the adjusted ICC does; ``attrs["notes"]`` says what stands for the residual's.  UnsupportedError for families
    whose variance on that scale is not defined, and for a formula without group effects."""
    check_level(level)
    if not fit.design.blocks:
        raise UnsupportedError(
            f"{fit.formula!r} has no group effects to give a share of the variance: add a term such as (1 | g), or ask "
            "for fit.r2()"
        )
    found = variances(fit)
    parts = ({COMMON: found.fixed} if common else {}) | dict(found.groups) | {RESIDUAL: found.residual}
    total = np.sum(list(parts.values()), axis=0)
    rows = {}
    for name, variance in parts.items():
        share = np.asarray(variance / total)
        tails = [(1 - level) / 2, (1 + level) / 2]
        lower, upper = np.quantile(share, tails) if len(share) > 1 else (np.nan, np.nan)
        rows[name] = {"share": share.mean(), "lower": lower, "upper": upper, "variance": float(np.mean(variance))}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("component")
    table.attrs |= {"level": level, "notes": list(found.notes)}
    return table
