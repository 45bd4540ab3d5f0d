"""Priors as numbers (priors/terms.py), which the compiled density evaluates without knowing their names."""

from __future__ import annotations

import numpy as np

from hiermod.engines.whitened.arrays import INTERVAL, LOG, SINH
from hiermod.errors import UnsupportedError
from hiermod.priors.distributions import POSITIVE, REAL, UNIT, Distribution
from hiermod.priors.terms import TERMS

EVEN = ("HalfNormal", "HalfStudentT", "HalfCauchy")  # smooth and positive at 0: an sd may pass through it


def law_of(prior: Distribution, name: str) -> np.ndarray:
    """(TERMS,) the numbers of a prior.  UnsupportedError, naming the parameter, where it is no sum of such terms."""
    found, values = np.full(TERMS, np.nan), prior.values
    try:
        terms = None if values is None else prior.kind.as_terms(values)
    except (KeyError, ZeroDivisionError):  # an argument is lacking, or 0
        terms = None
    if terms is not None:
        found[:] = 0.0
        found[list(terms)] = list(terms.values())
    if not np.isfinite(found).all():
        raise UnsupportedError(f"the prior of {name!r} is {prior}, which the compiled density has not")
    return found


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
