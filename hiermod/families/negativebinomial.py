"""The negative binomial with mean mu and shape alpha: Poisson counts whose means have a gamma distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp
from scipy import special, stats
from scipy.special import gammaln

from hiermod.families import poisson
from hiermod.families.elementary import digamma_less_log, log_ratio, log_ratio_less, stirling
from hiermod.families.family import INTEGERS, Family, Further, LinkVariance, Notation, Parameter, inside
from hiermod.families.row_function import RowFunction


def logpmf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """Of counts."""
    return _log_probability(y, mu, p["alpha"], special.xlogy(y, mu))


def draw(mean: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    """A gamma mean, then a count."""
    alpha = np.broadcast_to(p["alpha"], mean.shape)
    return poisson.draw(mean * rng.standard_gamma(alpha) / alpha, p, rng)


def log_zero(mu: np.ndarray, p: Further) -> np.ndarray:
    """log P(0)."""
    return -p["alpha"] * np.log1p(mu / p["alpha"])


def variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """Larger than the mean."""
    return mu + np.square(mu) / p["alpha"]


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The log probability of a count."""
    return _log_probability(y, exp(eta), exp(a[0]), y * eta)


def _log_probability(y: Any, mu: Any, alpha: Any, y_log_mu: Any) -> Any:
    """log Gamma(y + alpha) / (Gamma(alpha) y!) and what mu has to do with it, as one ratio that may be near 1."""
    ratio = (alpha + y) * log_ratio(alpha + y, alpha + mu, y - mu)
    ways = (stirling(alpha + y) - stirling(alpha)) - 0.5 * log_ratio(alpha + y, alpha, y) - gammaln(y + 1.0)
    return ratio + (ways + y_log_mu - y)  # all but the ratio is exactly 0 for a count of 0


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """With r = alpha / (alpha + mu): (y - mu) r."""
    mu, alpha = exp(eta), exp(a[0])
    t = (y - mu) / (alpha + mu)
    by_a = alpha * (
        log_ratio_less(alpha + y, alpha + mu, y - mu) + digamma_less_log(alpha + y) - digamma_less_log(alpha)
    )
    return density(y, n, eta, a), alpha * t, (by_a,)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """(y + alpha) q r with q = 1 - r, and alpha q."""
    mu, alpha = exp(eta), exp(a[0])
    q, r = mu / (alpha + mu), alpha / (alpha + mu)
    return (y + alpha) * q * r, alpha * q


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By dq/deta = dr/dlog alpha = q r."""
    mu, alpha = exp(eta), exp(a[0])
    q, r = mu / (alpha + mu), alpha / (alpha + mu)
    w = (y + alpha) * q * r
    return w * (q - r), ((y - mu) * q * r,), (w * (r - q) - alpha * q * r,)


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"),), concave=True)


NEGATIVEBINOMIAL = Family(
    name="negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("NegativeBinomial", arguments=("alpha",)),
    parameters=(Parameter("alpha", limit="family='poisson'"),),
    also_called=("nbinom", "negbin", "negative_binomial"),
    support=INTEGERS,
    logpdf=inside(INTEGERS, logpmf),
    draw=draw,
    variance=variance,
    link_variance={
        "log": LinkVariance(
            lambda count, p: np.log1p(1 / count + 1 / p["alpha"]),
            "residual variance on the log scale: log(1 + 1 / count + 1 / alpha), with the mean count of a typical "
            "group",
            count="rows",
        )
    },
    rows={"log": ROWS},
    law=lambda mu, p: stats.nbinom(p["alpha"], p["alpha"] / (p["alpha"] + mu)),
)
