"""Gamma with mean mu and shape alpha."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families.family import POSITIVE, Family, Further, LinkVariance, Notation, Parameter, inside


def log_density(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """Of positive numbers."""
    alpha = p["alpha"]
    return special.xlogy(alpha, alpha / mu) - special.gammaln(alpha) + special.xlogy(alpha - 1, y) - alpha * y / mu


def draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """One for each mean."""
    alpha = np.broadcast_to(p["alpha"], mu.shape)
    return rng.standard_gamma(alpha) * mu / alpha


GAMMA = Family(
    name="gamma",
    kind="continuous",
    links=("inverse", "log", "identity"),
    notation=Notation("Gamma", arguments=("alpha",)),
    parameters=(Parameter("alpha"),),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, log_density),
    draw=draw,
    variance=lambda mu, p: np.square(mu) / p["alpha"],
    link_variance={
        "log": LinkVariance(
            lambda _, p: np.log1p(1 / p["alpha"]), "residual variance on the log scale: log(1 + 1 / alpha)"
        )
    },
)
