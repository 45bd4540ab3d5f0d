"""0, or with probability psi a positive number with a gamma distribution of mean mu and shape alpha."""

from __future__ import annotations

import numpy as np

from hiermod.families import gamma
from hiermod.families.family import Family, Further, Notation, Parameter, inside
from hiermod.families.zeros_apart import FROM_ZERO, PSI, drawn_or_zero, hurdle_logpmf


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    return p["psi"] * np.square(mu) * (1 + 1 / p["alpha"]) - np.square(p["psi"] * mu)


HURDLE_GAMMA = Family(
    name="hurdle_gamma",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("HurdleGamma", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    support=FROM_ZERO,
    own_zeros=True,
    logpdf=inside(FROM_ZERO, hurdle_logpmf(gamma.log_density)),
    draw=drawn_or_zero(gamma.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=_variance,
)
