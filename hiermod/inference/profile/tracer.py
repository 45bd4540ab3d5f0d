"""One side of a profile: from the estimate outwards until zeta reaches the quantile, which is then solved for.

Each point is a minimum over all other parameters, started where the points before it lead to.  Where the walk finds a
lower valley beside its own it goes on there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.inference.profile.deviance import Held
from hiermod.inference.profile.local_minimum import Descent, certified, descend

STOPS = (0.45, 0.8, 1.0)  # |zeta|, in units of the quantile, that the walk aims at
BEYOND = 1.1  # and where the curve ends
REACHED = 1e-4  # zeta this near the quantile: one more step of Newton's method, without a new point, is exact
SURPRISE = 1.3  # a zeta this many times what the last slope lets expect asks for a second search
MOST_STEPS = 60
LOWER = 1e-5  # a deviance below the minimum by more: the fit was not the minimum


@dataclass(frozen=True, eq=False)
class Point:
    """A point of the curve."""

    phi: float
    zeta: float
    slope: float  # d zeta / d phi
    x: np.ndarray
    gradient: np.ndarray  # with respect to x, what is left of it


class LowerMinimum(Exception):
    """The deviance fell below the minimum of the fit.  theta: where to search again."""

    def __init__(self, theta: np.ndarray) -> None:
        super().__init__("the deviance fell below the minimum of the fit")
        self.theta = theta


class Walk:
    """One side of a profile: from the estimate outwards, each point started where the curve so far points to."""

    def __init__(
        self, held: Held, minimum: float, sign: float, end: float, start: Point, tangent: np.ndarray, H: np.ndarray
    ) -> None:
        self.held, self.minimum, self.sign, self.end = held, minimum, sign, end
        self.points, self.tangent, self.H = [start], tangent, H
        self.branch = [start]  # the points that the next one continues
        self.word = "lower" if sign < 0 else "upper"

    def to(self, quantile: float) -> tuple[float, str]:
        """The limit, and a note where it is a boundary or missing.  Leaves the points of the curve behind."""
        edge = self.held.natural(self.end)
        if self.points[0].phi == self.end:
            return edge, f"the estimate lies on its boundary {edge:g}"
        for _ in range(MOST_STEPS):
            size = abs(self.points[-1].zeta)
            if size >= quantile:
                limit = self._root(quantile)
                if limit is None:  # another valley lies lower: on along it
                    continue
                if abs(self.points[-1].zeta) < BEYOND * quantile and self._solve(self._next(BEYOND * quantile)):
                    self.points.sort(key=lambda point: self.sign * point.phi)
                return limit, ""
            if len(self.points) > 1 and self.points[-1].phi == self.end:
                return edge, f"{self.word} limit {edge:g}: the data do not exclude this boundary"
            aim = next(stop for stop in STOPS if size < (stop - 0.1) * quantile or stop == STOPS[-1])
            if self._solve(self._next(aim * quantile)) is None:
                return np.nan, f"no {self.word} limit: the deviance could not be computed on the way to it"
        return np.nan, f"no {self.word} limit: zeta stays below {quantile:.3g} however far the parameter is moved"

    def _next(self, target: float) -> float:
        """phi where the last slope reaches |zeta| = target, at most three times as far as it came; or the boundary."""
        last = self.points[-1]
        came = abs(last.phi - self.points[0].phi)
        rises = bool(np.isfinite(last.slope) and last.slope > 0)
        step = (target - abs(last.zeta)) / last.slope if rises else np.inf
        if came:
            step = min(max(step, 0.05 * came), 3.0 * came)
        elif not rises:
            step = 0.3 * self.held.unit
        phi = last.phi + self.sign * step
        if np.isfinite(self.end) and self.sign * (self.end - phi) < 1e-3 * abs(self.end - self.points[0].phi):
            return self.end
        return phi

    def _solve(self, phi: float) -> Point | None:
        """Append the point at phi, or nearer where the start led nowhere; None when there is none."""
        near = min(self.branch, key=lambda point: abs(point.phi - phi))
        best = descend(self.held, phi, self._predict(phi), self.H)
        for _ in range(8):
            if best is not None:
                break
            phi = 0.5 * (phi + near.phi)
            best = descend(self.held, phi, near.x, self.H)
        if best is None:
            return None
        expected = abs(near.zeta) + near.slope * abs(phi - near.phi)
        if best.value - self.minimum > (SURPRISE * expected + 0.2) ** 2:  # the prediction led into another valley
            other = descend(self.held, phi, near.x, self.H)
            best = best if other is None or other.value > best.value else other
        self.H = best.hessian
        self.points.append(self._point(phi, best))
        self.branch.append(self.points[-1])
        return self.points[-1]

    def _point(self, phi: float, best: Descent) -> Point:
        excess = best.value - self.minimum
        if excess < -LOWER:
            raise LowerMinimum(self.held.theta(phi, best.x))
        zeta = self.sign * float(np.sqrt(max(excess, 0.0)))
        return Point(phi, zeta, best.slope / (2.0 * zeta) if abs(zeta) > 1e-4 else np.nan, best.x, best.gradient)

    def _predict(self, phi: float) -> np.ndarray:
        """x at phi: along the tangent from the estimate, later by the polynomial through the three nearest points."""
        near = sorted(self.branch, key=lambda point: abs(point.phi - phi))[:3]
        if len(near) == 1:
            return near[0].x + self.tangent * (phi - near[0].phi)
        x = np.zeros(len(self.tangent))
        for point in near:
            x = x + point.x * np.prod([(phi - o.phi) / (point.phi - o.phi) for o in near if o is not point])
        return x

    def _root(self, quantile: float) -> float | None:
        """Where |zeta| = quantile between the last two points, by Newton's method kept inside the bracket.

        None, the points beyond dropped, when that place turns out to be a saddle with lower values beside it."""
        inner, outer = self.points[-2:]
        while True:
            near = min((outer, inner), key=lambda point: abs(abs(point.zeta) - quantile))
            miss = abs(near.zeta) - quantile
            phi = near.phi - self.sign * miss / near.slope if near.slope else np.nan
            if abs(miss) < REACHED:
                break
            low, high = min(inner.phi, outer.phi), max(inner.phi, outer.phi)
            if high - low < 1e-9 * (abs(low) + abs(high)):  # a jump: is there a valley that goes on?
                other = descend(self.held, outer.phi, inner.x, self.H)
                if other is not None and np.sqrt(max(other.value - self.minimum, 0.0)) < quantile:
                    self._leave(outer, other)
                    return None
                break
            if not low < phi < high:
                phi = 0.5 * (low + high)
            point = self._solve(phi)
            if point is None or point.phi != phi:
                return float("nan")
            inner, outer = (inner, point) if abs(point.zeta) >= quantile else (point, outer)
        self.points.sort(key=lambda point: self.sign * point.phi)
        start = Descent(near.x, near.zeta**2 + self.minimum, 2.0 * near.zeta * near.slope, near.gradient, self.H)
        best = certified(self.held, near.phi, start)
        if best is start:
            return self.held.natural(phi if abs(miss) < REACHED and np.isfinite(phi) else near.phi)
        self._leave(near, best)
        return None

    def _leave(self, point: Point, best: Descent) -> None:
        """Go on from a lower minimum at the same phi; the points before it are looked at again from there."""
        before = sorted(
            (p for p in self.points if self.sign * (point.phi - p.phi) > 0), key=lambda p: self.sign * p.phi
        )
        self.H, self.tangent = best.hessian, 0.0 * self.tangent
        self.branch = [self._point(point.phi, best)]
        for index in reversed(range(1, len(before))):
            old = before[index]
            again = descend(self.held, old.phi, self.branch[-1].x, self.H)
            if again is None or again.value > old.zeta**2 + self.minimum - 1e-8:
                break
            before[index] = self._point(old.phi, again)
            self.branch.append(before[index])
        self.points = [*before, self.branch[0]]
