"""The elementary functions that row functions are made of, for numba: several rows at once.

As families/elementary.py's of single numbers, but without branches and calls, so that a loop over rows becomes vector
instructions (a nanosecond for an exponential, instead of ten).  exp and log go as in fdlibm, to about a unit in the
last place; tests/engines/whitened/test_whitened_compiled.py compares them with scipy."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy import special

from hiermod.families import elementary as families

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
SMALLEST, LARGEST = -708.3, 709.7  # arguments of exp between which its result is a normal number


def bits_of(x: float) -> int:
    """The 64 bits of a number as an integer; in machine code no instruction at all (``machine_forms``)."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def number_of(bits: int) -> float:
    """The number with these bits."""
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


@cache
def machine_forms() -> dict[Any, Any]:
    """For numba: functions of this file that have a form of their own in machine code."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def bits(typing: Any, x: Any) -> Any:
        def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(types.int64))

        return types.int64(types.float64), made

    @intrinsic
    def number(typing: Any, x: Any) -> Any:
        def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(types.float64))

        return types.float64(types.int64), made

    return {bits_of: bits, number_of: number}


def exp(x: float) -> float:
    """0 below -708.3, inf above 709.7."""
    y = SMALLEST if x < SMALLEST else x
    y = LARGEST if y > LARGEST else y
    k = math.floor(y * 1.4426950408889634 + 0.5)
    r = y - k * LN2_HIGH
    r = r - k * LN2_LOW
    p = 1 / 6227020800.0
    p = p * r + 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * r * r + r + 1.0
    found = p * number_of((int(k) + 1022) << 52) * 2.0
    found = 0.0 if x < SMALLEST else found
    return math.inf if x > LARGEST else found


def log(x: float) -> float:
    """-inf at 0, nan below."""
    tiny = x < 2.3e-308
    y = x * 18014398509481984.0 if tiny else x
    b = bits_of(y)
    # the exponent such that what is left lies between sqrt(1/2) and sqrt(2)
    k = (b - 0x3FE6A09E667F3BCD) >> 52
    m = number_of(b - (k << 52))
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    R = 1.479819860511658591e-01
    R = R * z + 1.531383769920937332e-01
    R = R * z + 1.818357216161805012e-01
    R = R * z + 2.222219843214978396e-01
    R = R * z + 2.857142874366239149e-01
    R = R * z + 3.999999999940941908e-01
    R = R * z + 6.666666666666735130e-01
    R = R * z
    half = 0.5 * f * f
    e = k - 54.0 if tiny else float(k)
    found = e * LN2_HIGH - ((half - (s * (half + R) + e * LN2_LOW)) - f)
    found = -math.inf if x == 0.0 else found
    found = math.nan if x < 0.0 else found
    return x if x == math.inf or x != x else found


def log1p(x: float) -> float:
    """log(1 + x), with what rounding takes from 1 + x put back."""
    u = 1.0 + x
    lost = (x - (u - 1.0)) / u if u > 0.0 and u < math.inf else 0.0
    return log(u) + lost


def expm1(x: float) -> float:
    """exp(x) - 1 by tanh(x / 2) where it is small."""
    h = 0.5 * x if abs(x) < 0.5 else 0.0
    z = h * h
    # sinh(h) and cosh(h) as series: exp(2 h) - 1 = 2 sinh(h) (cosh(h) + sinh(h))
    sinh = h * (1 + z / 6 * (1 + z / 20 * (1 + z / 42 * (1 + z / 72 * (1 + z / 110 * (1 + z / 156))))))
    cosh = 1 + z / 2 * (1 + z / 12 * (1 + z / 30 * (1 + z / 56 * (1 + z / 90 * (1 + z / 132)))))
    return 2.0 * sinh * (cosh + sinh) if abs(x) < 0.5 else exp(x) - 1.0


def expit(x: float) -> float:
    """1 / (1 + exp(-x))."""
    small = exp(-abs(x))
    return (1.0 if x >= 0.0 else small) / (1.0 + small)


def logaddexp(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    return (a if a > b else b) + log1p(exp(-abs(a - b)))


def stirling(x: float) -> float:
    """log Gamma(x) less (x - 1/2) log x - x + log(2 pi) / 2, x > 0: its series (DLMF 5.11.1), where x is below 15 at
    x + 8 and brought back by log Gamma(x + 8) = log Gamma(x) + log(x (x + 1) ... (x + 7))."""
    low = x < 15.0
    y = x + 8.0 if low else x
    d = x if low else 1.0
    product = d * (d + 1.0) * (d + 2.0) * (d + 3.0) * (d + 4.0) * (d + 5.0) * (d + 6.0) * (d + 7.0)
    back = (d + 7.5) * log(d + 8.0) - 8.0 - log(product) - (d - 0.5) * log(d)
    u = 1.0 / (y * y)
    series = (1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u * (1 / 1188 - u * 691 / 360360))))) / y
    return series + (back if low else 0.0)


def digamma_less_log(x: float) -> float:
    """psi(x) - log x, x > 0, in the same way."""
    low = x < 15.0
    y = x + 8.0 if low else x
    d = x if low else 1.0
    sums = 1 / d + 1 / (d + 1) + 1 / (d + 2) + 1 / (d + 3) + 1 / (d + 4) + 1 / (d + 5) + 1 / (d + 6) + 1 / (d + 7)
    back = log(d + 8.0) - log(d) - sums
    u = 1.0 / (y * y)
    series = -0.5 / y - u * (1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * 691 / 32760)))))
    return series + (back if low else 0.0)


def constant(x: float) -> float:
    """0, for terms of the data alone: row functions take ``gammaln`` of nothing else (of parameters ``stirling``)."""
    return 0.0


FAST: dict[Any, Callable[..., Any]] = {
    **families.SCALAR,
    np.exp: exp,
    np.log: log,
    np.log1p: log1p,
    np.expm1: expm1,
    np.logaddexp: logaddexp,
    special.expit: expit,
    special.gammaln: constant,
    families.stirling: stirling,
    families.digamma_less_log: digamma_less_log,
}
