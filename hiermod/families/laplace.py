"""Laplace(mu, b), the double exponential."""

from __future__ import annotations

import numpy as np

from hiermod.families.family import Family, Notation, Parameter

LAPLACE = Family(
    name="laplace",
    kind="continuous",
    links=("identity", "log", "inverse"),
    notation=Notation("Laplace", arguments=("b",)),
    parameters=(Parameter("b", prior="HalfNormal(sigma=1)"),),
    logpdf=lambda y, mu, p: -np.abs(y - mu) / p["b"] - np.log(2 * p["b"]),
    draw=lambda mu, p, rng: mu + p["b"] * rng.laplace(size=mu.shape),
    variance=lambda mu, p: 2 * np.square(p["b"]) + 0 * mu,
)
