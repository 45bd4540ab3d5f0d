"""Maximum likelihood of any family that has row functions: the form of ``PredictorLikelihood`` at given parameters.

Laplace's determinant takes minus the second derivative itself (glmmTMB's; Fisher's expected weight gives another number
wherever the link is not canonical).  It may have any sign, so Newton's method has the expected one to fall back on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import special
from scipy.optimize import minimize

from hiermod.errors import UnsupportedError
from hiermod.families.family import Derivatives, Family
from hiermod.families.links import FAR
from hiermod.families.row_function import RowFunction

STEPS = 100  # of Newton's method for the best linear predictor of each row
OUT, NOTHING = 12.0, 1e-9  # a linear predictor far out on a log or logit scale, and a score that is rounding there
STARTS = (-2.0, 0.0, 2.0)  # auxiliary parameters from which their first values are looked for


@dataclass(frozen=True, eq=False)
class RowLikelihood:
    """The log likelihood as a function of the linear predictor, the auxiliary parameters a held (K,)."""

    family: Family
    link: str
    a: tuple[float, ...]

    @property
    def functions(self) -> RowFunction:
        """Of a row."""
        return self.family.rows[self.link]

    @property
    def links(self) -> tuple[str, ...]:
        """For which there are row functions."""
        return tuple(self.family.rows)

    @property
    def canonical(self) -> str:
        """The weights of the determinant are those of Newton's method, whatever the link."""
        return self.link

    def refusal(self, response: str, y: np.ndarray) -> str:
        """Of a response outside the support."""
        support = self.family.support
        if support is None or not support.outside(y).any():
            return ""
        return f"is {support.words}; {response!r} has other values. {support.advice}"

    def constant(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Nothing: it is in ``rows``."""
        return np.zeros(len(y))

    def rows(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """Log likelihood of each row."""
        return np.asarray(self._quiet(self.functions.density, y, n, eta))

    def score(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """d log likelihood / d eta of each row."""
        return np.asarray(self._quiet(self.functions.first, y, n, eta)[1])

    def derivatives(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> Derivatives:
        """Score, both informations, and the slope of the observed one."""
        observed, expected = self._quiet(self.functions.weights, y, n, eta)
        third = self._quiet(self.functions.third, y, n, eta)[0]
        zero = 0.0 * eta
        return Derivatives(
            self.score(link, y, n, eta), observed + zero, expected + zero, -third + zero, determinant=observed + zero
        )

    def by_auxiliary(self, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, n) each: derivatives by a of the log likelihood, of its score and of its second derivative by eta."""
        first = self._quiet(self.functions.first, y, n, eta)[2]
        _, score, curvature = self._quiet(self.functions.third, y, n, eta)
        shape = (len(self.a), *np.shape(eta))
        stacked = [np.array([one + 0.0 * eta for one in found]).reshape(shape) for found in (first, score, curvature)]
        return stacked[0], stacked[1], stacked[2]

    def start(self, link: str, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The link of a response that is a little nearer to the middle."""
        if link == "identity":
            return y if self.family.support is None else np.log(y)  # of positive numbers the location is their log's
        if link == "log":
            return np.log(np.where(y > 0, y, 0.1)) if self.family.kind == "continuous" else np.log(y + 0.1)
        share = np.clip(y, 1e-6, 1 - 1e-6) if self.family.kind == "continuous" else (y + 0.5) / (n + 1.0)
        return special.logit(share)

    def saturated(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """At the best linear predictor of each row by itself, a held: of a location that is the response itself."""
        eta = self.start(self.link, y, n)
        if self.link == "identity":
            return self.rows(self.link, y, n, eta)
        eta = np.clip(eta, -FAR, FAR)
        best = self.rows(self.link, y, n, eta)
        for _ in range(STEPS):
            score = self.score(self.link, y, n, eta)
            observed, expected = self._quiet(self.functions.weights, y, n, eta)
            weight = np.where(observed > 0, observed, expected)
            step = np.clip(score / np.maximum(weight, 1e-10), -2.0, 2.0)
            moved = np.clip(eta + step, -FAR, FAR)
            value = self.rows(self.link, y, n, moved)
            better = value > best
            eta, best = np.where(better, moved, eta), np.where(better, value, best)
            if not better.any():
                break
        return best

    def directions(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """By the score far out: a measurement's turns back on both sides."""
        if self.family.kind == "continuous":
            return np.zeros(len(y), dtype=int)
        low, high = (self.score(self.link, y, n, np.full(len(y), side)) for side in (-OUT, OUT))
        return np.where(low < -NOTHING, -1, np.where(high > NOTHING, 1, 0))

    def informative(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """(n,) whether a row's density depends on eta at all: that of a zero before a hurdle does not."""
        sides = (self.score(self.link, y, n, np.full(len(y), side)) for side in (-OUT, 0.0, OUT))
        return np.any([np.abs(score) > 0 for score in sides], axis=0)

    def law(self, mean: np.ndarray, n: np.ndarray) -> Any:
        """scipy's frozen distribution of the response."""
        if self.family.law is None:
            raise UnsupportedError(f"intervals of new responses of family {self.family.name!r} are not known here")
        return self.family.law(mean, self.further(n))

    def further(self, n: np.ndarray) -> dict[str, np.ndarray]:
        """The auxiliary parameters on their own scales, and the trials."""
        named = {name: np.asarray(self.functions.natural(k, self.a[k])) for k, name in enumerate(self.functions.names)}
        return {**named, "trials": n}

    def _quiet(self, function: Callable[..., Any], y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> Any:
        with np.errstate(all="ignore"):  # where eta is out of reach the value is inf or nan, which searches see
            return function(y, n, eta, self.a)


def first_auxiliary(family: Family, link: str, y: np.ndarray, n: np.ndarray, offset: np.ndarray) -> tuple[float, ...]:
    """a where a model with nothing but an intercept has its maximum: where a search starts."""
    K = len(family.rows[link].auxiliary)
    if not K:
        return ()
    eta0 = float(np.median(RowLikelihood(family, link, (0.0,) * K).start(link, y, n) - offset))
    spread = float(np.std(y)) if link == "identity" and family.support is None else 1.0
    shift = np.log(spread) if spread > 0 else 0.0
    sides = [tuple(side) for side in product((0.0, shift), repeat=K)] if shift else [(0.0,) * K]
    found = []
    for side in sides:  # which parameters have the unit of the response, the density tells
        centre = np.array([eta0, *side])
        scale = np.array([spread if spread > 0 else 1.0, *([1.0] * K)])

        def badness(z: np.ndarray, centre: np.ndarray = centre, scale: np.ndarray = scale) -> float:
            x = centre + scale * z
            value = -float(np.mean(RowLikelihood(family, link, tuple(x[1:])).rows(link, y, n, offset + x[0])))
            return value + 1e-4 * float(np.square(z[1:]).sum()) if np.isfinite(value) else 1e10

        for start in STARTS:
            z = np.array([0.0, *([start] * K)])
            simplex = np.vstack([z, z + 0.5 * np.eye(K + 1)])
            best = minimize(badness, z, method="Nelder-Mead", options={"initial_simplex": simplex})
            found.append((float(best.fun), centre[1:] + np.clip(best.x[1:], -8.0, 8.0)))
    return tuple(float(one) for one in min(found, key=lambda one: one[0])[1])
