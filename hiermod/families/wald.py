"""The inverse Gaussian with mean mu and shape lam."""

from __future__ import annotations

import numpy as np

from hiermod.families.family import POSITIVE, Family, Further, Notation, Parameter, inside


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    return 0.5 * (np.log(p["lam"]) - np.log(2 * np.pi * y**3) - p["lam"] * np.square((y - mu) / mu) / y)


WALD = Family(
    name="wald",
    kind="continuous",
    links=("inverse_squared", "inverse", "log", "identity"),
    notation=Notation("InverseGaussian", arguments=("lam",)),
    parameters=(Parameter("lam", symbol="lambda"),),
    also_called=("inverse_gaussian", "inverse.gaussian", "inversegaussian"),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, _logpdf),
    draw=lambda mu, p, rng: rng.wald(mu, np.broadcast_to(p["lam"], mu.shape)),
    variance=lambda mu, p: mu**3 / p["lam"],
)
