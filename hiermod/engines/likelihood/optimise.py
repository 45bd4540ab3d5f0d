"""Minimum of the criterion over Lambda: BFGS, then Newton steps that prove it (Nocedal and Wright 2006, ch. 4 and 6).

The criterion is a smooth function of all of Lambda's lower triangle and does not change when a column changes its sign.
So there are no bounds to handle: the search is free and the diagonal is made non-negative at the end.  For the same
reason a zero column is always stationary, minimum or saddle; only the curvature can tell, hence the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]

ROUGH = 1e-4  # predicted decrease of the criterion at which BFGS hands over to Newton
TIGHT = 1e-11  # predicted decrease that counts as zero
DIFFERENCE = 1e-5  # step of the gradient differences that give the Hessian
ROUGH_DIFFERENCE = 1e-3  # where those were lost in rounding
NEGATIVE = 1e-6  # an eigenvalue below -NEGATIVE * largest is negative curvature
SMALL_GRADIENT = 1e-3  # scaled size that counts as zero: the criterion is then within 5e-7 of its minimum
LONGEST = 2.0  # longest step of x, whose unit is one residual standard deviation
TOO_LONG = 1e6  # no step has to grow beyond: where there is no minimum they would without end
FAR = 20.0  # an element of x above this is measured in units of itself
SURPASSED = 5.0  # a search that leads this many times further starts again in the new units
MOST_SCALES = 6
LOUDER = 10.0  # times the expected rounding: what the values themselves show is then believed
LOUD = 1e-8  # noise of the values above which short differences of the gradient say nothing
UNIMPORTANT = 0.05  # scaled size of a gradient, in standard errors, that rounding may hide
ROUNDED = "rounding blurs the criterion: group effects are so large that their differences hide the residual"


@dataclass(frozen=True, eq=False)
class Convergence:
    """How the search ended.  gradient: sqrt(g'H^-1 g), in units of the square root of the criterion."""

    status: Literal["converged", "gradient", "saddle", "evaluations", "unbounded", "undetermined"]
    gradient: float
    smallest_eigenvalue: float  # of the Hessian, relative to the largest
    evaluations: int
    restarts: int  # after negative curvature
    second_start: bool  # the answer came from another start than the first
    message: str
    other_criterion: float = np.nan  # at the lowest other minimum that is nearly as good; nan where none was seen
    other_theta: tuple[float, ...] = ()  # and lme4's theta there

    @property
    def converged(self) -> bool:
        """The gradient is zero and no direction goes down."""
        return self.status == "converged"


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the search ended: x, criterion, gradient and Hessian there."""

    x: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    convergence: Convergence


def better(other: Minimum, best: Minimum) -> bool:
    """Whether another search ended lower; or as low, and proved where this one is not."""
    lower = other.value < best.value - 1e-7
    return lower or (other.convergence.converged and not best.convergence.converged and other.value < best.value + 1e-7)


class _Counter:
    """The objective, counting its evaluations."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.count = objective, 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.count += 1
        return self.objective(x)


def minimise(
    objective: Objective,
    start: np.ndarray,
    curvature: np.ndarray,
    max_evaluations: int = 1000,
    max_restarts: int = 5,
    noise: float = 0.0,
) -> Minimum:
    """Minimise a smooth function given with its gradient.

    start (m,); curvature (m,) positive: a guess of the Hessian's diagonal, only for the first steps.  noise: what
    rounding adds to the function's values, where that is known to be more than their last digits."""
    rough = max(ROUGH_DIFFERENCE, float(np.cbrt(noise)))
    function = _Counter(objective)
    value, gradient = function(start)
    x, inverse, restarts = start, np.diag(1.0 / curvature), 0
    while True:
        x, value, gradient, inverse = _bfgs(function, x, value, gradient, inverse, max_evaluations)
        fine = rough if noise > LOUD else DIFFERENCE
        x, value, gradient, hessian = _newton(function, x, value, gradient, max_evaluations, fine, noise)
        record = _judge(gradient, hessian, function.count, restarts, max_evaluations, noise)
        if record.status in ("gradient", "saddle"):  # where rounding is large, differences need longer steps
            x, value, gradient, hessian = _newton(function, x, value, gradient, max_evaluations, rough, noise)
            record = _judge(gradient, hessian, function.count, restarts, max_evaluations, noise)
        if record.status != "saddle" or restarts == max_restarts:
            break
        eigenvalues, vectors = np.linalg.eigh(hessian)
        moved = _leave_saddle(function, x, value, vectors[:, 0])
        if moved is None:
            break
        restarts += 1
        x, value, gradient = moved
        size = np.abs(eigenvalues)
        inverse = (vectors / np.maximum(size, 1e-3 * size.max())) @ vectors.T
    return Minimum(x, value, gradient, hessian, record)


def minimise_scaled(
    objective: Objective,
    start: np.ndarray,
    curvature: Callable[[np.ndarray], np.ndarray],
    rounding: Callable[[np.ndarray], float] = lambda x: 0.0,
    max_evaluations: int = 1000,
) -> Minimum:
    """``minimise`` in units in which no element of x is large; curvature: a guess of the Hessian's diagonal at a point;
    rounding: how far the value at a point may be off.

    An element of 1,000 has a curvature 1e-6 times that of an element of 1, below what rounding leaves of the Hessian,
    and takes steps of its own size.  Nothing changes where every element is below ``FAR``."""
    x, evaluations = start, 0
    for _ in range(MOST_SCALES):
        unit = np.where(np.abs(x) > FAR, np.abs(x), 1.0)

        noise = _noise(objective, x, rounding(x)) if (unit > 1.0).any() else 0.0

        def scaled(z: np.ndarray, unit: np.ndarray = unit) -> tuple[float, np.ndarray]:
            value, gradient = objective(z * unit)
            return value, gradient * unit

        found = minimise(scaled, x / unit, curvature(x) * unit**2, max_evaluations, noise=noise)
        evaluations += found.convergence.evaluations
        x = found.x * unit
        if (np.abs(x) < SURPASSED * np.maximum(unit, FAR)).all():
            break
    convergence = replace(found.convergence, evaluations=evaluations)
    return Minimum(x, found.value, found.gradient / unit, found.hessian / np.outer(unit, unit), convergence)


def _noise(objective: Objective, x: np.ndarray, expected: float) -> float:
    """How far rounding moves values next to each other: the spread about a line through nine of them."""
    steps = np.arange(-4.0, 5.0)
    values = np.array([objective(x * (1.0 + 1e-9 * step))[0] for step in steps])
    if not np.isfinite(values).all():
        return expected
    seen = float(np.ptp(values - np.polyval(np.polyfit(steps, values, 1), steps)))
    return believed(seen, expected)


def believed(seen: float, expected: float) -> float:
    """How far rounding has moved a value: as expected, unless much more is seen.

    What is seen at one point may be anything between 0 and twice what it is beside it: a verdict that hung on it would
    depend on the processor."""
    return seen if seen > LOUDER * expected else expected


def _bfgs(
    function: _Counter, x: np.ndarray, value: float, gradient: np.ndarray, inverse: np.ndarray, max_evaluations: int
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Quasi-Newton steps until the predicted decrease is below ROUGH.  inverse (m, m): inverse Hessian, updated."""
    while function.count < max_evaluations:
        direction = -inverse @ gradient
        slope = float(gradient @ direction)
        if slope > -2.0 * ROUGH:
            break
        longest = float(np.abs(direction).max())
        scale = min(1.0, LONGEST / longest)
        found = _line_search(function, x, value, direction * scale, slope * scale)
        if found is None:
            break
        step, new_value, new_gradient = found
        change = new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-10 * np.sqrt(float(step @ step) * float(change @ change)):
            product = inverse @ change
            inverse = (
                inverse
                + (1.0 + float(change @ product) / curvature) * np.outer(step, step) / curvature
                - (np.outer(product, step) + np.outer(step, product)) / curvature
            )
        elif longest < TOO_LONG:  # curvature is negative along the step: trust longer steps
            inverse = inverse * 4.0
        x, value, gradient = x + step, new_value, new_gradient
    return x, value, gradient, inverse


def updated_inverses(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """BFGS of the inverse Hessians (S, d, d) of S searches, after steps and changes of the gradient (S, d).

    Where the curvature along the step is negative: longer steps."""
    curved = np.einsum("si,si->s", step, change)
    size = np.sqrt(np.einsum("si,si->s", step, step) * np.einsum("si,si->s", change, change))
    fine = curved > 1e-10 * size
    safe = np.where(fine, curved, 1.0)[:, None, None]
    product = np.einsum("sij,sj->si", inverse, change)
    inner = np.einsum("si,si->s", change, product)[:, None, None]
    outer = step[:, :, None] * step[:, None, :]
    mixed = product[:, :, None] * step[:, None, :]
    new = inverse + (1.0 + inner / safe) * outer / safe - (mixed + np.swapaxes(mixed, 1, 2)) / safe
    return np.where(fine[:, None, None], new, 4.0 * inverse)


def _line_search(
    function: _Counter, x: np.ndarray, value: float, step: np.ndarray, slope: float
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The step, shortened by quadratic interpolation until it keeps a fair part of the promised decrease."""
    shrink = 1.0
    for _ in range(30):
        new_value, new_gradient = function(x + shrink * step)
        if new_value <= value + 1e-4 * shrink * slope:
            return shrink * step, new_value, new_gradient
        if np.isfinite(new_value):
            best = -0.5 * slope * shrink**2 / (new_value - value - shrink * slope)
            shrink = min(max(best, 0.1 * shrink), 0.5 * shrink)
        else:
            shrink *= 0.1
    return None


def _hessian(function: _Counter, x: np.ndarray, gradient: np.ndarray, difference: float) -> np.ndarray:
    """Differences of the gradient, made symmetric: forward ones, central ones for a long step."""
    hessian = np.empty((len(x), len(x)))
    for i in range(len(x)):
        up, down, below = x.copy(), x.copy(), gradient
        up[i] += difference * (1.0 + abs(x[i]))
        above = function(up)[1]
        if difference > DIFFERENCE:
            down[i] -= difference * (1.0 + abs(x[i]))
            below = function(down)[1]
        hessian[i] = (above - below) / (up[i] - down[i])
    return 0.5 * (hessian + hessian.T)


def _newton(
    function: _Counter,
    x: np.ndarray,
    value: float,
    gradient: np.ndarray,
    max_evaluations: int,
    difference: float = DIFFERENCE,
    noise: float = 0.0,
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Newton's method in a trust region.  The Hessian is kept as long as it predicts the next gradient."""
    hessian, fresh, radius = _hessian(function, x, gradient, difference), True, LONGEST
    while function.count < max_evaluations and np.isfinite(hessian).all():
        eigenvalues, vectors = np.linalg.eigh(hessian)
        step, predicted = _trust_step(gradient, eigenvalues, vectors, radius)
        if predicted < max(TIGHT, 0.1 * noise):
            if fresh or eigenvalues[0] > 0.01 * eigenvalues[-1]:
                break
            hessian, fresh = _hessian(function, x, gradient, difference), True
            continue
        new_value, new_gradient = function(x + step)
        size = float(np.linalg.norm(step))
        rounding = max(1e-12 * max(1.0, abs(value)), noise)
        ratio = (value - new_value) / predicted
        shrinks = float(np.linalg.norm(new_gradient)) < 0.5 * float(np.linalg.norm(gradient))
        if ratio < 1e-3 and not (shrinks and new_value <= value + rounding):
            if radius < 1e-9 or predicted < rounding:
                break  # nothing left but rounding
            radius = 0.25 * min(size, radius)
            if not fresh:
                hessian, fresh = _hessian(function, x, gradient, difference), True
            continue
        surprise = np.linalg.norm(new_gradient - gradient - hessian @ step)
        good = surprise < 0.1 * np.linalg.norm(gradient)
        radius = 0.5 * size if ratio < 0.25 and predicted > rounding else min(max(radius, 2.0 * size), TOO_LONG)
        x, value, gradient, fresh = x + step, new_value, new_gradient, False
        if not good:
            hessian, fresh = _hessian(function, x, gradient, difference), True
    return x, value, gradient, hessian


def _trust_step(
    gradient: np.ndarray, eigenvalues: np.ndarray, vectors: np.ndarray, radius: float
) -> tuple[np.ndarray, float]:
    """The minimiser of the quadratic model within a radius, and the decrease it promises (Nocedal and Wright, 4.3)."""
    along = vectors.T @ gradient
    floor = 1e-10 * max(float(np.abs(eigenvalues).max()), 1e-300)
    low = max(0.0, floor - float(eigenvalues[0]))
    part = -along / (eigenvalues + low)
    if float(np.linalg.norm(part)) > radius:
        high = low + float(np.linalg.norm(along)) / radius
        for _ in range(60):
            middle = 0.5 * (low + high)
            part = -along / (eigenvalues + middle)
            if float(np.linalg.norm(part)) > radius:
                low = middle
            else:
                high = middle
            if high - low < 1e-3 * high:
                break
        part = -along / (eigenvalues + high)
    return vectors @ part, -float(along @ part + 0.5 * (eigenvalues * part) @ part)


def _leave_saddle(
    function: _Counter, x: np.ndarray, value: float, direction: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The best of a few steps along a direction of negative curvature, both ways; None when none goes down."""
    best = None
    for sign in (1.0, -1.0):
        for length in (0.03, 0.1, 0.3, 1.0):
            moved = x + sign * length * direction
            new_value, new_gradient = function(moved)
            if new_value < (value if best is None else best[1]):
                best = (moved, new_value, new_gradient)
            elif best is not None:
                break
    return best


def _judge(
    gradient: np.ndarray, hessian: np.ndarray, evaluations: int, restarts: int, most: int, noise: float = 0.0
) -> Convergence:
    """What gradient and Hessian say about the place where the search stopped."""
    if not (np.isfinite(hessian).all() and np.isfinite(gradient).all()):
        message = "the criterion could not be computed near the place where the search stopped"
        return Convergence("gradient", np.nan, np.nan, evaluations, restarts, False, message)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    largest = max(float(np.abs(eigenvalues).max()), 1e-200)
    along = (vectors.T @ gradient) ** 2
    predicted = 0.5 * float((along / np.maximum(np.abs(eigenvalues), 1e-8 * largest)).sum())
    smallest = float(eigenvalues[0]) / largest
    size = float(np.sqrt(2.0 * predicted))
    status: Literal["converged", "gradient", "saddle", "evaluations"]
    enough = max(SMALL_GRADIENT, min(2.0 * float(np.sqrt(noise)), UNIMPORTANT))
    if noise > UNIMPORTANT**2:
        status, message = "gradient", f"{ROUNDED} (by {noise:.1g})"
    elif evaluations >= most and not size < enough:
        status, message = "evaluations", f"the search stopped at its limit of {most} evaluations"
    elif not size < enough:
        status, message = "gradient", f"the gradient is not zero where the search stopped (scaled size {size:.2g})"
    elif smallest < -NEGATIVE:
        status, message = "saddle", "the search stopped at a saddle: the criterion still falls in some direction"
    else:
        status, message = "converged", "the gradient is zero and the criterion curves upwards in every direction"
    return Convergence(status, size, smallest, evaluations, restarts, False, message)
