"""Beta with mean mu and sample size kappa: proportions strictly between 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, log, log1p, logaddexp, where
from scipy import special, stats
from scipy.special import expit

from hiermod.families.elementary import HALF_LOG_2PI, digamma_less_log, stirling, tetragamma, trigamma
from hiermod.families.family import Family, Further, Notation, Parameter, Support, inside
from hiermod.families.row_function import RowFunction

LEAST = 1e-90  # shape of a beta distribution that is as good as 0
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


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """With Stirling's formula taken out of the gamma functions, ratios of proportions stay."""
    kappa, first_shape, second_shape = exp(a[0]), exp(a[0]) * expit(eta), exp(a[0]) * expit(-eta)
    remainders = stirling(kappa) - stirling(first_shape) - stirling(second_shape)
    ratios = first_shape * (log(y) + logaddexp(0.0, -eta)) + second_shape * (log1p(-y) + logaddexp(0.0, eta))
    shapes = 0.5 * (log(first_shape) + log(second_shape) - a[0])
    return remainders + ratios + shapes - HALF_LOG_2PI - log(y) - log1p(-y)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """kappa m (logit y - its expectation), m = mu (1 - mu)."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    up, down = log(y) + logaddexp(0.0, -eta), log1p(-y) + logaddexp(0.0, eta)  # log(y / mu), log((1 - y) / (1 - mu))
    at_a, at_b = digamma_less_log(kappa * p), digamma_less_log(kappa * q)
    by_a = kappa * (p * (up - at_a) + q * (down - at_b) + digamma_less_log(kappa))
    return density(y, n, eta, a), kappa * p * q * (up - down - at_a + at_b), (by_a,)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """kappa^2 m^2 (psi'(a) + psi'(b)) is the expected one."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    m = p * q
    expected = kappa * kappa * m * m * (trigamma(shape(kappa * p)) + trigamma(shape(kappa * q)))
    return expected - kappa * m * (q - p) * _off(y, eta, kappa), expected


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """By derivatives of m and of the expectation of logit y."""
    kappa, p, q = exp(a[0]), expit(eta), expit(-eta)
    m, shape_a, shape_b = p * q, shape(kappa * p), shape(kappa * q)
    one, two = trigamma(shape_a) + trigamma(shape_b), tetragamma(shape_a) - tetragamma(shape_b)
    m1 = m * (q - p)
    m2 = m1 * (q - p) - 2.0 * m * m
    off = _off(y, eta, kappa)
    off1 = -kappa * m * one
    off2 = -kappa * (m1 * one + kappa * m * m * two)
    by_a = shape_b * trigamma(shape_b) - shape_a * trigamma(shape_a)
    by_a1 = -2.0 * m * one - m * (shape_a * tetragamma(shape_a) + shape_b * tetragamma(shape_b))
    return (
        kappa * (m2 * off + 2.0 * m1 * off1 + m * off2),
        (kappa * m * (off + by_a),),
        (kappa * (m1 * (off + by_a) + kappa * m * by_a1),),
    )


def shape(x: Any) -> Any:
    """A shape, not so small that its third power vanishes."""
    return where(x > LEAST, x, LEAST)


def _off(y: Any, eta: Any, kappa: Any) -> Any:
    """logit y less its expectation."""
    ratio = log(y) + logaddexp(0.0, -eta) - log1p(-y) - logaddexp(0.0, eta)
    return ratio - digamma_less_log(kappa * expit(eta)) + digamma_less_log(kappa * expit(-eta))


ROWS = RowFunction(density, first, weights, third, (("kappa", "log"),))


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
    rows={"logit": ROWS},
    law=lambda mu, p: stats.beta(mu * p["kappa"], (1 - mu) * p["kappa"]),
)
