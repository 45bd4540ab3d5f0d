"""Binomial(trials, p): successes out of trials, and the log likelihood of a linear predictor for maximum likelihood.

McCullagh and Nelder (1989), chapter 4.  The binomial coefficients are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, expm1, logaddexp, where
from scipy import special, stats
from scipy.special import expit, gammaln

from hiermod.families.elementary import log1mexp, log_ndtr, mills
from hiermod.families.family import Derivatives, Family, Further, LinkVariance, Notation, PredictorLikelihood
from hiermod.families.links import FAR, LATENT
from hiermod.families.row_function import RowFunction

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


def log_ways(y: Any, n: Any) -> Any:
    """Log of the binomial coefficient, 0 for a single trial."""
    return gammaln(n + 1.0) - gammaln(y + 1.0) - gammaln(n - y + 1.0)


def logit_density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y eta - n log(1 + e^eta)."""
    return log_ways(y, n) - y * logaddexp(0.0, -eta) - (n - y) * logaddexp(0.0, eta)


def logit_first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y - n p, where p is near 1 as n - y failures."""
    return logit_density(y, n, eta, a), y * expit(-eta) - (n - y) * expit(eta), ()


def logit_weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """n p (1 - p), twice."""
    w = n * expit(eta) * expit(-eta)
    return w, w


def logit_third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """-n p (1 - p) (1 - 2 p)."""
    return n * expit(eta) * expit(-eta) * (expit(eta) - expit(-eta)), (), ()


def probit_density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y log Phi(eta) + (n - y) log Phi(-eta)."""
    return log_ways(y, n) + y * log_ndtr(eta) + (n - y) * log_ndtr(-eta)


def probit_first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By phi / Phi on both sides."""
    return probit_density(y, n, eta, a), y * mills(eta) - (n - y) * mills(-eta), ()


def probit_weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """d mills(eta) / d eta = -mills (mills + eta)."""
    up, down = mills(eta), mills(-eta)
    return y * up * (up + eta) + (n - y) * down * (down - eta), n * up * down


def probit_third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The same once more."""
    up, down = mills(eta), mills(-eta)
    over, under = up + eta, down - eta
    return y * up * (over * over + up * over - 1.0) - (n - y) * down * (under * under + down * under - 1.0), (), ()


def cloglog_density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y log(1 - e^-t) - (n - y) t, t = e^eta."""
    t = exp(eta)
    success = where(t < 1e-8, eta - 0.5 * t, log1mexp(where(t < 1e-8, 1.0, t)))
    return log_ways(y, n) + where(y > 0, y * success, 0.0) - where(y < n, (n - y) * t, 0.0)


def cloglog_first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y r - (n - y) t, r = t / (e^t - 1)."""
    t = exp(eta)
    return cloglog_density(y, n, eta, a), y * _over_expm1(t) - where(y < n, (n - y) * t, 0.0), ()


def cloglog_weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By dr/deta = r (1 - t - r)."""
    t = exp(eta)
    r = _over_expm1(t)
    down = where(y < n, (n - y) * t, 0.0)
    return down - where(y > 0, y * r * _cloglog_slope(t), 0.0), n * r * where(t < 700.0, t, 0.0)


def cloglog_third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """The same once more; dt/deta = t."""
    t = where(exp(eta) < 700.0, exp(eta), 700.0)
    r, slope = _over_expm1(t), _cloglog_slope(t)
    down = where(y < n, (n - y) * exp(eta), 0.0)
    return y * r * (slope * slope - t - r * slope) - down, (), ()


def _over_expm1(t: Any) -> Any:
    """t / (e^t - 1)."""
    inside = where(t < 700.0, where(t > 1e-300, t, 1.0), 1.0)
    return where(t < 700.0, where(t > 1e-300, inside / expm1(inside), 1.0), 0.0)


def _cloglog_slope(t: Any) -> Any:
    """1 - t - t / (e^t - 1), -t/2 where t is small."""
    near = where(t < 0.1, t, 0.0)
    u = near * near
    series = -near * (0.5 + near * (1 / 12 - u * (1 / 720 - u * (1 / 30240 - u / 1209600))))
    return where(t < 0.1, series, 1.0 - t - _over_expm1(where(t < 0.1, 1.0, t)))


ROWS = {
    "logit": RowFunction(
        logit_density, logit_first, logit_weights, logit_third, concave=True, expected_is_observed=True
    ),
    "probit": RowFunction(probit_density, probit_first, probit_weights, probit_third, concave=True),
    "cloglog": RowFunction(cloglog_density, cloglog_first, cloglog_weights, cloglog_third, concave=True),
}


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
    rows=ROWS,
)
