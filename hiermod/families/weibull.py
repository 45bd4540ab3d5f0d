"""Weibull with mean mu and shape alpha."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families.family import POSITIVE, Family, Further, Notation, Parameter, inside


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    alpha = p["alpha"]
    z = y * special.gamma(1 + 1 / alpha) / mu  # over the scale
    return np.log(alpha / y) + alpha * np.log(z) - z**alpha


def _draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    alpha = np.broadcast_to(p["alpha"], mu.shape)
    return mu / special.gamma(1 + 1 / alpha) * rng.weibull(alpha)


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    first, second = special.gamma(1 + 1 / p["alpha"]), special.gamma(1 + 2 / p["alpha"])
    return np.square(mu) * (second / np.square(first) - 1)


WEIBULL = Family(
    name="weibull",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("Weibull", arguments=("alpha",)),
    parameters=(Parameter("alpha"),),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, _logpdf),
    draw=_draw,
    variance=_variance,
)
