"""The log density of a row as a function of its linear predictor, with the derivatives that fitting needs.

eta is the linear predictor; the family's further parameters are auxiliary ones, on scales without ends:
a = (log alpha, ...).  Each function is written once, in the functions of elementary.py: it takes arrays that broadcast
(maximum likelihood, no numba), and numba compiles it for single rows (engines).  Invalid parts of the other branch of a
``where`` may be computed, so callers of arrays hold numpy's floating point warnings back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

# there, back, and the derivative of the way back
TRANSFORMS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log": (np.log, np.exp, np.exp),
    "logit": (special.logit, special.expit, lambda a: special.expit(a) * special.expit(-a)),
}


@dataclass(frozen=True, eq=False, slots=True)
class RowFunction:
    """Functions of (y, n, eta, a): response, trials (1 where there are none), linear predictor, auxiliary parameters.

    auxiliary: Bambi's names of the parameters a stands for, each with the transform that makes it free of ends."""

    density: Callable[..., Any]  # -> l, its constants included
    first: Callable[..., Any]  # -> (l, dl/deta, (dl/da, ...))
    weights: Callable[..., Any]  # -> (observed, expected): -d2l/deta2 of any sign, and about its expectation, >= 0
    third: Callable[..., Any]  # -> (d3l/deta3, (d2l/deta da, ...), (d3l/deta2 da, ...))
    auxiliary: tuple[tuple[str, str], ...] = ()
    concave: bool = False  # l is concave in eta whatever y and a: every Newton step goes up
    expected_is_observed: bool = False  # the canonical link: the two weights are the same

    @property
    def names(self) -> tuple[str, ...]:
        """Of the auxiliary parameters."""
        return tuple(name for name, _ in self.auxiliary)

    def unconstrained(self, k: int, value: Any) -> Any:
        """a_k for a value of the k-th auxiliary parameter."""
        return TRANSFORMS[self.auxiliary[k][1]][0](value)

    def natural(self, k: int, a: Any) -> Any:
        """The k-th auxiliary parameter for a value of a_k."""
        return TRANSFORMS[self.auxiliary[k][1]][1](a)

    def natural_slope(self, k: int, a: Any) -> Any:
        """d parameter / d a_k."""
        return TRANSFORMS[self.auxiliary[k][1]][2](a)
