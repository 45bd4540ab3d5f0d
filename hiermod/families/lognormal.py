"""exp(Normal(mu, sigma)): positive numbers whose logarithm is Normal; mu and sigma are of the logarithm."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy import log
from scipy import stats

from hiermod.families.family import POSITIVE, Family, Further, LinkVariance, Notation, Parameter, inside
from hiermod.families.gaussian import density as gaussian_density
from hiermod.families.gaussian import first as gaussian_first
from hiermod.families.gaussian import third as gaussian_third
from hiermod.families.gaussian import weights as gaussian_weights
from hiermod.families.row_function import RowFunction

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    return -0.5 * np.square((np.log(y) - mu) / p["sigma"]) - np.log(p["sigma"]) - HALF_LOG_2PI - np.log(y)


def _mean(mu: np.ndarray, p: Further) -> np.ndarray:
    return np.exp(mu + 0.5 * np.square(p["sigma"]))


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    return np.expm1(np.square(p["sigma"])) * np.square(_mean(mu, p))


def _bambi() -> Any:
    """Bambi 0.17 has no such family; this is the one of later versions, with their default prior."""
    from bambi import Likelihood, Prior
    from bambi.families.univariate import UnivariateFamily

    class LogNormal(UnivariateFamily):
        SUPPORTED_LINKS: ClassVar = {"mu": [*LOGNORMAL.links], "sigma": ["log"]}

    family = LogNormal("lognormal", Likelihood("LogNormal", ["mu", "sigma"], "mu"), {"mu": "identity", "sigma": "log"})
    family.set_default_priors({"sigma": Prior("HalfNormal", sigma=1)})
    return family


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """That of log y, less log y."""
    return gaussian_density(log(y), n, eta, a) - log(y)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The Normal's, of log y."""
    logs, score, by_a = gaussian_first(log(y), n, eta, a)
    return logs - log(y), score, by_a


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The Normal's."""
    return gaussian_weights(y, n, eta, a)


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The Normal's, of log y."""
    return gaussian_third(log(y), n, eta, a)


ROWS = RowFunction(density, first, weights, third, (("sigma", "log"),), concave=True, expected_is_observed=True)


LOGNORMAL = Family(
    name="lognormal",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("LogNormal", arguments=("sigma",)),
    parameters=(Parameter("sigma", prior="HalfNormal(sigma=1)"),),
    also_called=("log_normal", "log.normal", "lnorm"),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, _logpdf),
    draw=lambda mu, p, rng: np.exp(mu + p["sigma"] * rng.standard_normal(mu.shape)),
    mean=_mean,
    variance=_variance,
    link_variance={
        "identity": LinkVariance(lambda _, p: np.square(p["sigma"]), "residual variance: sigma squared, of log y")
    },
    bambi=_bambi,
    rows={"identity": ROWS},
    law=lambda mu, p: stats.lognorm(p["sigma"], scale=np.exp(mu)),
)
