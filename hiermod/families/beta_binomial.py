"""Successes out of trials whose probability has a beta distribution with mean mu and sample size kappa.

Overdispersed binomial counts: kappa to infinity is the binomial, and the rows of a trial share one probability."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families import beta
from hiermod.families.binomial import log_choose, outside_trials
from hiermod.families.family import Family, Further, Notation, Parameter


def _logpmf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    n, a, b = p["trials"], mu * p["kappa"], (1 - mu) * p["kappa"]
    outside = outside_trials(y, n)
    y = np.where(outside, 0.0, y)
    return np.where(outside, -np.inf, log_choose(n, y) + special.betaln(y + a, n - y + b) - special.betaln(a, b))


def _draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """A probability for each row, then its successes."""
    return rng.binomial(np.asarray(p["trials"]).astype(int), beta.draw(mu, p, rng)).astype(float)


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """Of the proportion."""
    n, kappa = p["trials"], p["kappa"]
    return mu * (1 - mu) * (kappa + n) / (n * (kappa + 1))


BETA_BINOMIAL = Family(
    name="beta_binomial",
    kind="proportion",
    links=("logit", "probit", "cloglog"),
    notation=Notation("BetaBinomial", arguments=("kappa",)),
    parameters=(Parameter("kappa"),),
    also_called=("betabinomial", "betabinom", "beta.binomial"),
    logpdf=_logpmf,
    draw=_draw,
    variance=_variance,
)
