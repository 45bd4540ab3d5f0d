"""The negative binomial with mean mu and shape alpha: Poisson counts whose means have a gamma distribution."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families import poisson
from hiermod.families.family import INTEGERS, Family, Further, LinkVariance, Notation, Parameter, inside


def logpmf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """Of counts."""
    alpha = p["alpha"]
    ways = special.gammaln(y + alpha) - special.gammaln(alpha) - special.gammaln(y + 1.0)
    return ways - alpha * np.log1p(mu / alpha) + special.xlogy(y, mu / (alpha + mu))


def draw(mean: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """A gamma mean, then a count."""
    alpha = np.broadcast_to(p["alpha"], mean.shape)
    return poisson.draw(mean * rng.standard_gamma(alpha) / alpha, p, rng)


def log_zero(mu: np.ndarray, p: Further) -> np.ndarray:
    """log P(0)."""
    return -p["alpha"] * np.log1p(mu / p["alpha"])


def variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """Larger than the mean."""
    return mu + np.square(mu) / p["alpha"]


NEGATIVEBINOMIAL = Family(
    name="negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("NegativeBinomial", arguments=("alpha",)),
    parameters=(Parameter("alpha"),),
    also_called=("nbinom", "negbin", "negative_binomial"),
    support=INTEGERS,
    logpdf=inside(INTEGERS, logpmf),
    draw=draw,
    variance=variance,
    link_variance={
        "log": LinkVariance(
            lambda count, p: np.log1p(1 / count + 1 / p["alpha"]),
            "residual variance on the log scale: log(1 + 1 / count + 1 / alpha), with the mean count of a typical "
            "group",
            count="rows",
        )
    },
)
