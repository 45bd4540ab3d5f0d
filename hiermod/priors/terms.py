"""The terms that most prior densities are sums of: a prior as numbers, for compiled code that knows no names.

log p(x) = c[LOGX] log x + c[LINEAR] x + c[SQUARE] (x - c[PLACE])^2 + c[TAIL] log(1 + c[SPREAD] (x - c[PLACE])^2)
+ c[INVERSE] / x + c[LOG_SQUARE] (log x - c[LOG_PLACE])^2 + c[POWER] x^c[EXPONENT] + c[LOG_REST] log(1 - x), up to a
constant."""

from __future__ import annotations

TERMS = 12
(LOGX, LINEAR, SQUARE, PLACE, TAIL, SPREAD, INVERSE, LOG_SQUARE, LOG_PLACE, POWER, EXPONENT, LOG_REST) = range(TERMS)
