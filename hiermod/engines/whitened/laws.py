"""Prior densities as eleven numbers each, which the compiled code evaluates without knowing their names.

log p(x) = c_0 log x + c_1 x + c_2 (x - c_3)^2 + c_4 log(1 + c_5 (x - c_3)^2) + c_6 / x + c_7 (log x - c_8)^2
+ c_9 x^c_10 up to a constant: Normal, Student-t, Gamma, inverse Gamma, lognormal, Weibull and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hiermod.engines.whitened.arrays import INTERVAL, LAW, LOG, SINH
from hiermod.errors import UnsupportedError
from hiermod.priors.distributions import CATALOGUE, POSITIVE, REAL, UNIT, Distribution

Values = Mapping[str, float]
LOGX, LINEAR, SQUARE, PLACE, TAIL, SPREAD, INVERSE, LOG_SQUARE, LOG_PLACE, POWER, EXPONENT = range(LAW)


def _precision(a: Values, precision: str = "tau", sd: str = "sigma") -> float:
    return a[precision] if precision in a else a.get(sd, 1.0) ** -2.0


def _normal(a: Values) -> dict[int, float]:
    return {SQUARE: -0.5 * _precision(a), PLACE: a.get("mu", 0.0)}


def _student(a: Values) -> dict[int, float]:
    nu = a["nu"]
    return {TAIL: -0.5 * (nu + 1.0), SPREAD: _precision(a, "lam") / nu, PLACE: a.get("mu", 0.0)}


def _cauchy(a: Values) -> dict[int, float]:
    return {TAIL: -1.0, SPREAD: a["beta"] ** -2.0, PLACE: a.get("alpha", 0.0)}


def _gamma(a: Values) -> dict[int, float]:
    shape, rate = CATALOGUE["Gamma"]._shape_and_rate(a)  # type: ignore[attr-defined]
    return {LOGX: shape - 1.0, LINEAR: -rate}


def _inverse_gamma(a: Values) -> dict[int, float]:
    shape, scale = CATALOGUE["InverseGamma"]._shape_and_scale(a)  # type: ignore[attr-defined]
    return {LOGX: -shape - 1.0, INVERSE: -scale}


FORMS: dict[str, Callable[[Values], dict[int, float]]] = {
    "Normal": _normal,
    "HalfNormal": _normal,
    "TruncatedNormal": _normal,
    "StudentT": _student,
    "HalfStudentT": _student,
    "Cauchy": _cauchy,
    "HalfCauchy": _cauchy,
    "Flat": lambda a: {},
    "Uniform": lambda a: {},
    "Exponential": lambda a: {LINEAR: -1.0 / a["scale"] if "scale" in a else -a.get("lam", 1.0)},
    "ChiSquared": lambda a: {LOGX: a["nu"] / 2.0 - 1.0, LINEAR: -0.5},
    "Gamma": _gamma,
    "InverseGamma": _inverse_gamma,
    "LogNormal": lambda a: {LOGX: -1.0, LOG_SQUARE: -0.5 * _precision(a), LOG_PLACE: a.get("mu", 0.0)},
    "Weibull": lambda a: {LOGX: a["alpha"] - 1.0, POWER: -(a["beta"] ** -a["alpha"]), EXPONENT: a["alpha"]},
}
EVEN = ("HalfNormal", "HalfStudentT", "HalfCauchy")  # smooth and positive at 0: an sd may pass through it


def law_of(prior: Distribution, name: str) -> np.ndarray:
    """(LAW,) the numbers of a prior.  UnsupportedError, naming the parameter, where it has another form."""
    values = prior.values
    if prior.name in FORMS and values is not None:
        found = np.zeros(LAW)
        try:
            for place, number in FORMS[prior.name](values).items():
                found[place] = number
        except (KeyError, ZeroDivisionError):  # an argument is lacking, or 0
            found[:] = np.nan
        if np.isfinite(found).all():
            return found
    raise UnsupportedError(f"the prior of {name!r} is {prior}, which the compiled density has not")


def coefficient_law(prior: Distribution, name: str) -> np.ndarray:
    """The same of a common coefficient, whose prior is on all numbers."""
    if prior.support != REAL:
        raise UnsupportedError(f"the prior of {name!r} is {prior}, which is not on all numbers")
    return law_of(prior, name)


def scalar_law(prior: Distribution, name: str, even: bool) -> tuple[np.ndarray, int, float, float]:
    """The same of an sd or a further parameter, how it is made of its coordinate, and its bounds.

    even: whether it may be taken with a sign, as sds may."""
    if prior.kind.improper:
        raise UnsupportedError(f"the prior of {name!r} is {prior}, with which the posterior may be improper")
    law, (low, high) = law_of(prior, name), prior.support
    if (low, high) == POSITIVE:
        return law, SINH if even and prior.name in EVEN else LOG, 0.0, np.inf
    if (low, high) == UNIT or (low >= 0.0 and np.isfinite(high)):
        return law, INTERVAL, low, high
    raise UnsupportedError(f"the prior of {name!r} is {prior}, on numbers from {low:g} to {high:g}")
