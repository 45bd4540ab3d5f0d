"""Weibull with mean mu and shape alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, expm1, log
from scipy import special, stats

from hiermod.families.elementary import digamma_less_log, log_gamma
from hiermod.families.family import POSITIVE, Family, Further, Notation, Parameter, inside
from hiermod.families.row_function import RowFunction


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    alpha = p["alpha"]
    z = y * special.gamma(1 + 1 / alpha) / mu  # over the scale
    return np.log(alpha / y) + alpha * np.log(z) - z**alpha


def _draw(mu: np.ndarray, p: Further, rng: np.random.Generator) -> np.ndarray:
    alpha = np.broadcast_to(p["alpha"], mu.shape)
    return mu / special.gamma(1 + 1 / alpha) * rng.weibull(alpha)


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    first, second = special.gamma(1 + 1 / p["alpha"]), special.gamma(1 + 2 / p["alpha"])
    return np.square(mu) * (second / np.square(first) - 1)


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """log alpha + w - e^w - log y, w = alpha log(y / scale): e^w is exponential."""
    w = _log_exponential(y, eta, a)
    return a[0] + w - exp(w) - log(y)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha (e^w - 1)."""
    alpha, w = exp(a[0]), _log_exponential(y, eta, a)
    return density(y, n, eta, a), alpha * expm1(w), (1.0 - _by_shape(w, alpha) * expm1(w),)


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha^2 e^w, and alpha^2."""
    alpha = exp(a[0])
    return alpha * alpha * exp(_log_exponential(y, eta, a)), alpha * alpha + 0.0 * eta


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """alpha^3 e^w."""
    alpha, w = exp(a[0]), _log_exponential(y, eta, a)
    q, observed = _by_shape(w, alpha), alpha * alpha * exp(w)
    return alpha * observed, (alpha * expm1(w) + alpha * exp(w) * q,), (-observed * (2.0 + q),)


def _log_exponential(y: Any, eta: Any, a: Any) -> Any:
    alpha = exp(a[0])
    return alpha * (log(y) - eta + log_gamma(1.0 + 1.0 / alpha))


def _by_shape(w: Any, alpha: Any) -> Any:
    """dw / dlog alpha."""
    x = 1.0 + 1.0 / alpha
    return w - digamma_less_log(x) - log(x)


ROWS = RowFunction(density, first, weights, third, (("alpha", "log"),), concave=True)


WEIBULL = Family(
    name="weibull",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("Weibull", arguments=("alpha",)),
    parameters=(Parameter("alpha"),),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, _logpdf),
    draw=_draw,
    variance=_variance,
    rows={"log": ROWS},
    law=lambda mu, p: stats.weibull_min(p["alpha"], scale=mu / special.gamma(1 + 1 / p["alpha"])),
)
