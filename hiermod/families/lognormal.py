"""exp(Normal(mu, sigma)): positive numbers whose logarithm is Normal; mu and sigma are of the logarithm."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hiermod.families.family import POSITIVE, Family, Further, LinkVariance, Notation, Parameter, inside

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


LOGNORMAL = Family(
    name="lognormal",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("LogNormal", arguments=("sigma",)),
    parameters=(Parameter("sigma"),),
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
)
