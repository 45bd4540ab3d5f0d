"""The exponential distribution with mean mu."""

from __future__ import annotations

import numpy as np

from hiermod.families.family import POSITIVE, Family, Notation, inside

EXPONENTIAL = Family(
    name="exponential",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("Exponential"),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, lambda y, mu, _: -np.log(mu) - y / mu),
    draw=lambda mu, _, rng: mu * rng.standard_exponential(mu.shape),
    variance=lambda mu, _: np.square(mu),
)
