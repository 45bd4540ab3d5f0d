"""Beta with mean mu and sample size kappa: proportions strictly between 0 and 1."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families.family import Family, Further, Notation, Parameter, Support, inside

_SUPPORT = Support(
    lambda y: (y <= 0) | (y >= 1),
    "for proportions strictly between 0 and 1",
    "Counts out of a known total are p(successes, trials) with family='binomial'; percentages are divided by 100; a "
    "few exact 0 or 1 can be drawn in, (y * (n - 1) + 0.5) / n (Smithson and Verkuilen 2006)",
)


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    a, b = mu * p["kappa"], (1 - mu) * p["kappa"]
    return special.xlogy(a - 1, y) + special.xlog1py(b - 1, -y) - special.betaln(a, b)


def draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """Shapes that are rounded to 0 are as small as can be."""
    kappa, least = p["kappa"], np.finfo(float).tiny
    return rng.beta(np.maximum(mu * kappa, least), np.maximum((1 - mu) * kappa, least))


BETA = Family(
    name="beta",
    kind="continuous",
    links=("logit", "probit", "cloglog"),
    notation=Notation("Beta", arguments=("kappa",)),
    parameters=(Parameter("kappa"),),
    support=_SUPPORT,
    example=(0.25, 0.75),
    logpdf=inside(_SUPPORT, _logpdf),
    draw=draw,
    variance=lambda mu, p: mu * (1 - mu) / (p["kappa"] + 1),
)
