"""Elementary functions that row functions are written in, of arrays, and beside each its form for single numbers.

A row function is written once, in numpy's and scipy's functions and those of this file.  Of arrays it runs as it is;
numba compiles it with each name replaced by what ``SCALAR`` has for it (a row at a time, without temporary arrays).
The gamma function's logarithm and its derivatives stand here less their leading terms, which cancel: counts with a
shape of 1e8 keep their digits (DLMF 5.11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import abs, expm1, log, log1p, where
from scipy import special
from scipy.special import gammaln, psi

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
ASYMPTOTIC = 15.0  # from which the series below have all digits


def stirling(x: Any) -> Any:
    """log Gamma(x) less (x - 1/2) log x - x + log(2 pi) / 2, x > 0."""
    small = where(x < ASYMPTOTIC, x, 1.0)
    return where(
        x < ASYMPTOTIC, gammaln(small) - (small - 0.5) * log(small) + small - HALF_LOG_2PI, _stirling_series(x)
    )


def _stirling_series(x: Any) -> Any:
    u = 1.0 / (x * x)
    return (1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u * (1 / 1188 - u * 691 / 360360))))) / x


def log_gamma(x: Any) -> Any:
    """log Gamma(x), x > 0, of parameters; of data alone ``gammaln``, which engines leave out with other constants."""
    return (x - 0.5) * log(x) - x + HALF_LOG_2PI + stirling(x)


def digamma_less_log(x: Any) -> Any:
    """psi(x) - log x, x > 0."""
    small = where(x < ASYMPTOTIC, x, 1.0)
    return where(x < ASYMPTOTIC, psi(small) - log(small), _digamma_series(x))


def _digamma_series(x: Any) -> Any:
    u = 1.0 / (x * x)
    return -0.5 / x - u * (1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * 691 / 32760)))))


def trigamma(x: Any) -> Any:
    """psi'(x), x > 0."""
    return special.zeta(2.0, x)


def tetragamma(x: Any) -> Any:
    """psi''(x), x > 0."""
    return -2.0 * special.zeta(3.0, x)


def mills(x: Any) -> Any:
    """phi(x) / Phi(x), the inverse of Mills' ratio at -x."""
    return np.exp(-0.5 * x * x - HALF_LOG_2PI - special.log_ndtr(x))


def log_ndtr(x: Any) -> Any:
    """log Phi(x)."""
    return special.log_ndtr(x)


def log_ratio_less(top: Any, b: Any, difference: Any) -> Any:
    """log(top / b) - difference / b, difference = top - b, with all digits where the ratio is near 1."""
    t = difference / b
    near = where(abs(t) < 0.1, t, 0.0)
    w = near / (2.0 + near)
    u = w * w
    series = 1 / 3 + u * (1 / 5 + u * (1 / 7 + u * (1 / 9 + u * (1 / 11 + u / 13))))
    return where(abs(t) < 0.1, -near * w + 2.0 * w * u * series, log_ratio(top, b, difference) - t)


def expm1_less(w: Any) -> Any:
    """exp(w) - 1 - w, with all digits where w is small."""
    v = where(abs(w) < 0.2, w, 0.0)
    series = 1 + v / 9 * (1 + v / 10 * (1 + v / 11 * (1 + v / 12)))
    series = 1 + v / 3 * (1 + v / 4 * (1 + v / 5 * (1 + v / 6 * (1 + v / 7 * (1 + v / 8 * series)))))
    return where(abs(w) < 0.2, 0.5 * v * v * series, expm1(w) - w)


def log_ratio(top: Any, b: Any, difference: Any) -> Any:
    """log(top / b), difference = top - b known better than by subtraction, with all digits wherever the ratio is."""
    t = difference / b
    near = where(abs(t) < 0.5, t, 0.0)
    return where(abs(t) < 0.5, log1p(near), log(top) - log(b))


def log1mexp(t: Any) -> Any:
    """log(1 - exp(-t)), t > 0."""
    return where(t < 0.7, log(-expm1(-t)), log1p(-np.exp(-t)))


# --- of single numbers, for numba ------------------------------------------------------------------------------------
def _expit(x: float) -> float:
    small = math.exp(-math.fabs(x))
    return 1.0 / (1.0 + small) if x >= 0.0 else small / (1.0 + small)


def _logaddexp(a: float, b: float) -> float:
    if a == b:  # infinities too
        return a + math.log(2.0)
    return max(a, b) + math.log1p(math.exp(-math.fabs(a - b)))


def _where(condition: bool, a: float, b: float) -> float:
    return a if condition else b


def _stirling_of_one(x: float) -> float:
    if x < ASYMPTOTIC:
        return math.lgamma(x) - (x - 0.5) * math.log(x) + x - HALF_LOG_2PI
    return _stirling_series(x)


def _digamma_of_one(x: float) -> float:
    """By psi(x) = psi(x + 1) - 1/x up to where the series holds."""
    if x >= ASYMPTOTIC:
        return _digamma_series(x)
    start, down = x, 0.0
    while x < ASYMPTOTIC:
        down += 1.0 / x
        x += 1.0
    return _digamma_series(x) + math.log(x / start) - down


def _trigamma_of_one(x: float) -> float:
    up = 0.0
    while x < ASYMPTOTIC:
        up += 1.0 / (x * x)
        x += 1.0
    u = 1.0 / (x * x)
    series = 1 / 6 - u * (1 / 30 - u * (1 / 42 - u * (1 / 30 - u * (5 / 66 - u * 691 / 2730))))
    return up + (1.0 + 0.5 / x + u * series) / x


def _tetragamma_of_one(x: float) -> float:
    down = 0.0
    while x < ASYMPTOTIC:
        down += 2.0 / (x * x * x)
        x += 1.0
    u = 1.0 / (x * x)
    series = 1 / 2 - u * (1 / 6 - u * (1 / 6 - u * (3 / 10 - u * (5 / 6 - u * 691 / 210))))
    return -down - u * (1.0 + 1.0 / x + u * series)


def _log_ndtr_of_one(x: float) -> float:
    if x > -1.0:
        return math.log1p(-0.5 * math.erfc(x * math.sqrt(0.5)))
    if x > -25.0:
        return math.log(0.5 * math.erfc(-x * math.sqrt(0.5)))
    return -0.5 * x * x - HALF_LOG_2PI - math.log(-x) + math.log(_tail(x))


def _mills_of_one(x: float) -> float:
    if x > -25.0:
        return math.exp(-0.5 * x * x - HALF_LOG_2PI) / (0.5 * math.erfc(-x * math.sqrt(0.5)))
    return -x / _tail(x)


def _tail(x: float) -> float:
    """-x Phi(x) / phi(x) far out (DLMF 7.12.1)."""
    u = 1.0 / (x * x)
    return 1.0 - u * (1.0 - u * (3.0 - u * (15.0 - u * (105.0 - u * (945.0 - u * (10395.0 - u * 135135.0))))))


# Where a function of arrays and numba's of the same name agree on numbers (exp, log, ...) the latter is math's.
SCALAR: dict[Any, Callable[..., Any]] = {
    np.exp: math.exp,
    np.log: math.log,
    np.log1p: math.log1p,
    np.expm1: math.expm1,
    np.sqrt: math.sqrt,
    np.abs: math.fabs,
    np.logaddexp: _logaddexp,
    np.where: _where,
    special.expit: _expit,
    special.gammaln: math.lgamma,
    stirling: _stirling_of_one,
    digamma_less_log: _digamma_of_one,
    trigamma: _trigamma_of_one,
    tetragamma: _tetragamma_of_one,
    mills: _mills_of_one,
    log_ndtr: _log_ndtr_of_one,
}
