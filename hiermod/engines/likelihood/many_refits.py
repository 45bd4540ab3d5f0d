"""Many searches side by side: BFGS, then Newton steps that prove each minimum (as ``optimise.minimise`` does for one).

A search that does not end at a proven minimum is reported, to be repeated alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.likelihood.many_responses import Stack, evaluate
from hiermod.engines.likelihood.optimise import updated_inverses
from hiermod.kernel.start import opposed_start, start_x

ROUGH = 1e-4  # predicted decrease at which BFGS hands over to Newton
TIGHT = 1e-12  # and below which a Newton step is the last
DIFFERENCE = 1e-5
LONGEST = 2.0
ZERO = 1e-5  # as in mixed: a diagonal element below is put to 0


@dataclass(frozen=True, eq=False)
class Found:
    """S ends of searches.  proven: the gradient is zero there and every direction goes up."""

    x: np.ndarray  # (S, n_theta), the diagonal's signs as they came
    value: np.ndarray
    pwrss: np.ndarray
    gamma: np.ndarray  # (S, p)
    proven: np.ndarray


def search_all(stack: Stack, reml: bool, start: np.ndarray) -> Found:
    """From one start (n_theta,); again from elsewhere where a second minimum is likely, as ``mixed`` does."""
    problem = stack.problem
    diagonal = problem.template.diagonal()
    S = len(stack.squares)
    x = np.where(diagonal & (np.abs(start) < 0.1), 0.1, start)  # a zero column would be a saddle
    best, proven = _search(stack, reml, np.repeat(x[None], S, axis=0))
    value = evaluate(stack, best, reml).value
    opposed = opposed_start(problem)
    doubtful = np.flatnonzero(~proven | (np.abs(best[:, diagonal]).min(axis=1) < 1e-3))
    for other, which in ((diagonal * 1.0, doubtful), (start_x(problem), doubtful), (opposed, np.arange(S))):
        if other is None or not len(which):
            continue
        again, sure = _search(stack.part(which), reml, np.repeat(other[None], len(which), axis=0))
        lower = evaluate(stack.part(which), again, reml).value
        take = sure & (~proven[which] | (lower < value[which] - 1e-9)) & (lower < value[which] + 1e-7)
        at = which[take]
        best[at], value[at], proven[at] = again[take], lower[take], True
    best = _at_the_boundary(stack, reml, best, value)
    end = evaluate(stack, best, reml)
    return Found(best, end.value, end.pwrss, end.gamma, proven & np.isfinite(end.value))


def _search(stack: Stack, reml: bool, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, proven) of every problem."""
    x = x.copy()
    here = evaluate(stack, x, reml)
    value, gradient = here.value, here.gradient
    with np.errstate(all="ignore"):
        hessian = _hessian(stack, reml, x, gradient)
        size, vectors = np.linalg.eigh(np.where(np.isfinite(hessian), hessian, 0.0))
        size = np.maximum(np.abs(size), 1e-3 * np.abs(size).max(axis=1, keepdims=True) + 1e-12)
        inverse = (vectors / size[:, None]) @ np.swapaxes(vectors, 1, 2)
        active = np.isfinite(value)
        for _ in range(60):
            direction = -np.einsum("sij,sj->si", inverse, gradient)
            slope = np.einsum("si,si->s", direction, gradient)
            active &= slope < -2.0 * ROUGH
            at = np.flatnonzero(active)
            if not len(at):
                break
            moved, new_value, new_gradient, went = _line_search(stack, reml, at, x, value, gradient, direction)
            active[at[~went]] = False
            at, moved = at[went], moved[went]
            step, change = moved - x[at], new_gradient[went] - gradient[at]
            inverse[at] = updated_inverses(inverse[at], step, change)
            x[at], value[at], gradient[at] = moved, new_value[went], new_gradient[went]
        proven = np.zeros(len(x), dtype=bool)
        left = np.flatnonzero(np.isfinite(value))
        for _ in range(8):
            if not len(left):
                break
            part = stack.part(left)
            H = _hessian(part, reml, x[left], gradient[left])
            usable = np.isfinite(H).all(axis=(1, 2))
            size, vectors = np.linalg.eigh(np.where(usable[:, None, None], H, 0.0))
            up = usable & (size[:, 0] > 1e-7 * size[:, -1]) & (size[:, -1] > 0)
            along = np.einsum("sij,si->sj", vectors, gradient[left]) / np.where(up[:, None], size, 1.0)
            step = -np.einsum("sij,sj->si", vectors, along)
            promised = -0.5 * np.einsum("si,si->s", step, gradient[left])
            up &= np.abs(step).max(axis=1) < LONGEST
            moved = x[left] + np.where(up[:, None], step, 0.0)
            after = evaluate(part, moved, reml)
            good = up & (after.value <= value[left] + 1e-10 * np.abs(value[left]))
            at = left[good]
            x[at], value[at], gradient[at] = moved[good], after.value[good], after.gradient[good]
            proven[left[good & (promised < TIGHT)]] = True
            left = left[good & (promised >= TIGHT)]
    return x, proven


def _hessian(stack: Stack, reml: bool, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """(S, n_theta, n_theta) by forward differences of the gradient."""
    H = np.empty((*x.shape, x.shape[1]))
    for i in range(x.shape[1]):
        moved = x.copy()
        moved[:, i] += DIFFERENCE * (1.0 + np.abs(x[:, i]))
        H[:, i] = (evaluate(stack, moved, reml).gradient - gradient) / (moved[:, i] - x[:, i])[:, None]
    return 0.5 * (H + np.swapaxes(H, 1, 2))


def _line_search(
    stack: Stack, reml: bool, at: np.ndarray, x: np.ndarray, value: np.ndarray, gradient: np.ndarray, way: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For the problems ``at``: where they go, value and gradient there, and whether they moved at all."""
    step = way[at] * np.minimum(1.0, LONGEST / np.abs(way[at]).max(axis=1))[:, None]
    slope = np.einsum("si,si->s", step, gradient[at])
    moved, new_value, new_gradient = x[at].copy(), value[at].copy(), gradient[at].copy()
    shrink, waiting = np.ones(len(at)), np.arange(len(at))
    for _ in range(20):
        trial = x[at[waiting]] + shrink[waiting, None] * step[waiting]
        found = evaluate(stack.part(at[waiting]), trial, reml)
        fine = found.value <= value[at[waiting]] + 1e-4 * shrink[waiting] * slope[waiting]
        done = waiting[fine]
        moved[done], new_value[done], new_gradient[done] = trial[fine], found.value[fine], found.gradient[fine]
        waiting = waiting[~fine]
        if not len(waiting):
            break
        shrink[waiting] *= 0.35
    went = np.ones(len(at), dtype=bool)
    went[waiting] = False
    return moved, new_value, new_gradient, went


def _at_the_boundary(stack: Stack, reml: bool, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Diagonal elements as good as zero put to zero, with their column where that is as small, if nothing is lost."""
    small = np.abs(x) < ZERO
    zero = np.zeros_like(small)
    for k, part in zip(stack.problem.template.sizes, stack.problem.template.slices, strict=True):
        columns = np.triu_indices(k)[0]  # of each element, by column
        first = np.flatnonzero(np.diff(columns, prepend=-1))
        zero[:, part] = small[:, part] & small[:, part][:, first[columns]]
    at = np.flatnonzero(zero.any(axis=1))
    if len(at):
        moved = np.where(zero[at], 0.0, x[at])
        fine = evaluate(stack.part(at), moved, reml).value <= value[at] + 1e-8
        x = x.copy()
        x[at[fine]] = moved[fine]
    return x
