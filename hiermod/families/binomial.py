"""Binomial(trials, p): successes out of trials, and the log likelihood of a linear predictor for maximum likelihood.

McCullagh and Nelder (1989), chapter 4.  The binomial coefficients are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special, stats

from hiermod.families.family import Derivatives, Family, Further, LinkVariance, Notation, PredictorLikelihood
from hiermod.families.links import FAR, LATENT

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def _latent(variance: float) -> LinkVariance:
    return LinkVariance(
        lambda _, __: np.full(1, variance), "residual variance on the {link} scale: that of the latent variable"
    )


LATENT_VARIANCES = {link: _latent(variance) for link, variance in LATENT.items()}


class BinomialLikelihood:
    """Successes y out of n trials as a function of eta: with logit, probit and cloglog link."""

    links: tuple[str, ...] = ("logit", "probit", "cloglog")
    canonical = "logit"

    def refusal(self, response: str, y: np.ndarray) -> str:
        """Nothing: the counts were seen when the formula was read."""
        return ""

    def constant(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Log binomial coefficients."""
        return log_choose(n, y)

    def rows(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """y log p + (n - y) log(1 - p)."""
        with np.errstate(over="ignore", invalid="ignore"):
            if link == "logit":
                return y * eta - n * np.logaddexp(0.0, eta)
            if link == "probit":
                return y * special.log_ndtr(eta) + (n - y) * special.log_ndtr(-eta)
            t = np.exp(eta)
            return np.where(y > 0, y * _log1mexp(t), 0.0) - (n - y) * t

    def score(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """(y - n p) dp/deta / (p (1 - p))."""
        with np.errstate(over="ignore", invalid="ignore"):
            if link == "logit":
                return y - n * special.expit(eta)
            if link == "probit":
                up, down = _mills(eta), _mills(-eta)
                return y * up - (n - y) * down
            t, r = _cloglog_parts(eta)
            return y * r - (n - y) * t

    def derivatives(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> Derivatives:
        """Score, both informations, and the slope of the expected one."""
        with np.errstate(over="ignore", invalid="ignore"):
            if link == "logit":
                mean = special.expit(eta)
                w = n * mean * special.expit(-eta)
                return Derivatives(y - n * mean, w, w, w * (1.0 - 2.0 * mean))
            if link == "probit":
                up, down = _mills(eta), _mills(-eta)
                observed = y * up * (eta + up) + (n - y) * down * (down - eta)
                expected = n * up * down
                return Derivatives(y * up - (n - y) * down, observed, expected, expected * (down - up - 2.0 * eta))
            t, r = _cloglog_parts(eta)
            observed = (n - y) * t + y * r * (t + r - 1.0)
            expected = n * t * r
            return Derivatives(y * r - (n - y) * t, observed, expected, expected * (2.0 - t - r))

    def start(self, link: str, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The link of (y + 1/2) / (n + 1)."""
        share = (y + 0.5) / (n + 1.0)
        if link == "logit":
            return special.logit(share)
        return special.ndtri(share) if link == "probit" else np.log(-np.log1p(-share))

    def saturated(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """At p = y / n."""
        return special.xlogy(y, y / n) + special.xlogy(n - y, 1.0 - y / n)

    def directions(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Down where there is no success, up where there is no failure."""
        return np.where(y == 0, -1, np.where(y == n, 1, 0))

    def law(self, mean: np.ndarray, n: np.ndarray) -> Any:
        """Of the successes."""
        return stats.binom(n, mean)


def log_choose(n: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log of the binomial coefficient."""
    return special.gammaln(n + 1.0) - special.gammaln(y + 1.0) - special.gammaln(n - y + 1.0)


def _mills(eta: np.ndarray) -> np.ndarray:
    """phi(eta) / Phi(eta)."""
    return np.exp(-0.5 * eta * eta - HALF_LOG_2PI - special.log_ndtr(eta))


def _log1mexp(t: np.ndarray) -> np.ndarray:
    """log(1 - exp(-t)), t > 0."""
    with np.errstate(divide="ignore"):
        return np.where(t < 0.7, np.log(-np.expm1(-t)), np.log1p(-np.exp(-t)))


def _cloglog_parts(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """t = exp(eta) and t / (exp(t) - 1), which is 1 where t vanishes."""
    t = np.exp(np.minimum(eta, FAR))
    return t, np.where(t > 0, t / np.expm1(np.where(t > 0, t, 1.0)), 1.0)


def outside_trials(y: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Which numbers are no successes out of n."""
    return (y < 0) | (y > n) | (y != np.round(y))


def _logpmf(y: np.ndarray, p: np.ndarray, further: Further) -> np.ndarray:
    n = further["trials"]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = log_choose(n, y) + special.xlogy(y, p) + special.xlog1py(n - y, -p)
    return np.where(outside_trials(y, n), -np.inf, logs)


LIKELIHOOD: PredictorLikelihood = BinomialLikelihood()
BINOMIAL = Family(
    name="binomial",
    kind="proportion",
    links=("logit", "probit", "cloglog", "identity"),
    notation=Notation("Binomial", "p"),
    logpdf=_logpmf,
    draw=lambda p, further, rng: rng.binomial(np.asarray(further["trials"]).astype(int), p).astype(float),
    variance=lambda p, further: p * (1.0 - p) / further["trials"],
    likelihood=LIKELIHOOD,
    link_variance=LATENT_VARIANCES,
    default_scale="latent",
)
