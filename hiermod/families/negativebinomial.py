"""The negative binomial with mean mu and shape alpha: Poisson counts whose means have a gamma distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp
from scipy import special
from scipy.special import gammaln

from hiermod.families import poisson
from hiermod.families.elementary import digamma_less_log, log_ratio, log_ratio_less, stirling
from hiermod.families.family import INTEGERS, Family, Further, LinkVariance, Notation, Parameter, inside
from hiermod.families.row_function import RowFunction


def logpmf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """Of counts."""
    alpha = p["alpha"]
    ways = special.gammaln(y + alpha) - special.gammaln(alpha) - special.gammaln(y + 1.0)
    return ways - alpha * np.log1p(mu / alpha) + special.xlogy(y, mu / (alpha + mu))


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
    """log Gamma(y + alpha) / (Gamma(alpha) y!) and what mu has to do with it, as one ratio that may be near 1."""
    mu, alpha = exp(eta), exp(a[0])
    ratio = (alpha + y) * log_ratio(y - mu, alpha + mu)
    return (
        ratio - 0.5 * log_ratio(y, alpha) + y * (eta - 1.0) + stirling(alpha + y) - stirling(alpha) - gammaln(y + 1.0)
    )


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """With r = alpha / (alpha + mu): (y - mu) r."""
    mu, alpha = exp(eta), exp(a[0])
    t = (y - mu) / (alpha + mu)
    by_a = alpha * (log_ratio_less(y - mu, alpha + mu) + digamma_less_log(alpha + y) - digamma_less_log(alpha))
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
    parameters=(Parameter("alpha"),),
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
)
