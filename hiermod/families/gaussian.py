"""Normal(mu, sigma)."""

from __future__ import annotations

import numpy as np

from hiermod.families.family import Family, Further, Notation, Parameter

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    return -0.5 * np.square((y - mu) / p["sigma"]) - np.log(p["sigma"]) - HALF_LOG_2PI


GAUSSIAN = Family(
    name="gaussian",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("Normal", arguments=("sigma",)),
    parameters=(Parameter("sigma"),),
    also_called=("normal", "norm", "gauss", "linear"),
    logpdf=_logpdf,
    draw=lambda mu, p, rng: mu + p["sigma"] * rng.standard_normal(mu.shape),
    variance=lambda mu, p: np.square(p["sigma"]) + 0 * mu,
    normal_errors=True,
    default_scale="response",
)
