"""0, or with probability psi a negative binomial count of mean mu that is above 0."""

from __future__ import annotations

import numpy as np
from scipy import stats

from hiermod.families import negativebinomial
from hiermod.families.family import INTEGERS, Family, Further, Notation, Parameter, inside
from hiermod.families.zeros_apart import (
    PSI,
    drawn_above_zero,
    drawn_or_zero,
    hurdle_logpmf,
    hurdle_mean,
    hurdle_variance,
)


def _quantile(u: np.ndarray, mean: np.ndarray, p: Further) -> np.ndarray:
    alpha = np.broadcast_to(p["alpha"], mean.shape)
    return stats.nbinom.ppf(u, alpha, alpha / (alpha + mean))


HURDLE_NEGATIVEBINOMIAL = Family(
    name="hurdle_negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("HurdleNegativeBinomial", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, hurdle_logpmf(negativebinomial.logpmf, negativebinomial.log_zero)),
    draw=drawn_or_zero(drawn_above_zero(negativebinomial.log_zero, _quantile)),
    mean=hurdle_mean(negativebinomial.log_zero),
    variance=hurdle_variance(negativebinomial.variance, negativebinomial.log_zero),
)
