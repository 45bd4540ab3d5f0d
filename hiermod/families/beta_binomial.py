"""Successes out of trials whose probability has a beta distribution with mean mu and sample size kappa.

Overdispersed binomial counts: kappa to infinity is the binomial, and the rows of a trial share one probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, log
from scipy import special, stats
from scipy.special import expit

from hiermod.families import beta
from hiermod.families.beta import shape
from hiermod.families.binomial import log_choose, log_ways, outside_trials
from hiermod.families.elementary import digamma_less_log, log_ratio, stirling, tetragamma, trigamma
from hiermod.families.family import Family, Further, Notation, Parameter
from hiermod.families.row_function import RowFunction


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


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """Three ratios of gamma functions, Stirling's formula taken out of each."""
    kappa = exp(a[0])
    p, q = expit(eta), expit(-eta)
    return log_ways(y, n) + _log_rising(kappa * p, y) + _log_rising(kappa * q, n - y) - _log_rising(kappa, n)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """kappa m (up - down), up = psi(y + a) - psi(a), down = psi(n - y + b) - psi(b)."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    up, down, both = _harmonic(kappa * p, y), _harmonic(kappa * q, n - y), _harmonic(kappa, n)
    return density(y, n, eta, a), kappa * p * q * (up - down), (kappa * (p * up + q * down - both),)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The expected one is that of a binomial count with this variance, a lower bound."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    m, shape_a, shape_b = p * q, shape(kappa * p), shape(kappa * q)
    difference = _harmonic(shape_a, y) - _harmonic(shape_b, n - y)
    falls = trigamma(shape_a) - trigamma(shape_a + y) + trigamma(shape_b) - trigamma(shape_b + (n - y))
    observed = kappa * (kappa * m * m * falls - m * (q - p) * difference)
    return observed, n * m * (1.0 + kappa) / (n + kappa)


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """As the beta's, with differences of polygamma functions."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    m, shape_a, shape_b = p * q, shape(kappa * p), shape(kappa * q)
    a1, b1 = trigamma(shape_a + y) - trigamma(shape_a), trigamma(shape_b + (n - y)) - trigamma(shape_b)
    a2, b2 = tetragamma(shape_a + y) - tetragamma(shape_a), tetragamma(shape_b + (n - y)) - tetragamma(shape_b)
    m1 = m * (q - p)
    m2 = m1 * (q - p) - 2.0 * m * m
    off = _harmonic(shape_a, y) - _harmonic(shape_b, n - y)
    off1 = kappa * m * (a1 + b1)
    off2 = kappa * (m1 * (a1 + b1) + kappa * m * m * (a2 - b2))
    by_a = shape_a * a1 - shape_b * b1
    by_a1 = 2.0 * m * (a1 + b1) + m * (shape_a * a2 + shape_b * b2)
    return (
        kappa * (m2 * off + 2.0 * m1 * off1 + m * off2),
        (kappa * m * (off + by_a),),
        (kappa * (m1 * (off + by_a) + kappa * m * by_a1),),
    )


def _log_rising(x: Any, k: Any) -> Any:
    """log Gamma(x + k) - log Gamma(x)."""
    return (x - 0.5) * log_ratio(x + k, x, k) + k * (log(x + k) - 1.0) + stirling(x + k) - stirling(x)


def _harmonic(x: Any, k: Any) -> Any:
    """psi(x + k) - psi(x)."""
    return log_ratio(x + k, x, k) + digamma_less_log(x + k) - digamma_less_log(x)


ROWS = RowFunction(density, first, weights, third, (("kappa", "log"),))


BETA_BINOMIAL = Family(
    name="beta_binomial",
    kind="proportion",
    links=("logit", "probit", "cloglog"),
    notation=Notation("BetaBinomial", arguments=("kappa",)),
    parameters=(Parameter("kappa", limit="family='binomial'"),),
    also_called=("betabinomial", "betabinom", "beta.binomial"),
    logpdf=_logpmf,
    draw=_draw,
    variance=_variance,
    rows={"logit": ROWS},
    law=lambda mu, p: stats.betabinom(p["trials"], mu * p["kappa"], (1 - mu) * p["kappa"]),
)
