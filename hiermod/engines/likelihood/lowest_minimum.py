"""The lowest minimum of the criterion of a linear mixed model, not just the nearest.

With few levels the criterion of Bates et al. (2015) may have several minima: crossed factors that can explain the same
differences, slopes against intercepts.  And where X and Z together can reproduce any y it may have none: it then falls
towards sigma = 0, which no theta says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hiermod.engines.likelihood.optimise import Convergence, Minimum, minimise_scaled
from hiermod.engines.likelihood.other_minima import (
    LEAST_POINTS,
    NEARLY,
    NEIGHBOURS,
    descend,
    far_out,
    other_minima,
    stacked_criterion,
)
from hiermod.engines.likelihood.structured import LARGEST, SearchSpace
from hiermod.engines.likelihood.without_residual import MOST_ROWS, criterion_without_residual, lowest_without_residual
from hiermod.formula.design import Design
from hiermod.kernel.covariance import positive_columns
from hiermod.kernel.criterion import Problem
from hiermod.kernel.start import curvature_guess, opposed_start, start_x
from hiermod.kernel.topograph import lowest_points, nearest_points

LARGE, MOST_TENFOLD = 4.0, 10  # a start this large may be far too small
OUTSIDE = 100.0  # an element of the whitened Lambda above this, where sigma may vanish, is on its way there
SAME = 0.01  # relative difference of covariances that are the same
EQUAL = 1e-7  # the same minimum, found twice
PROVED = 1e-3  # a minimum that is proved may lie this far above a lower point that is not
FAR_OUT = 0.05  # the criterion at Lambdas of a thousand is this far from where sigma is 0
FEW_ROWS = 600  # up to which ranks are found from the columns


def lowest_minimum(design: Design, problem: Problem, reml: bool, start: np.ndarray | None) -> Minimum:
    """The lowest minimum of the criterion that is seen.

    A search, and others from elsewhere: where a second minimum is likely, or it ends singular or unconverged.  Without
    a start (theta, the optimum of a refit's parent) also where points spread over all Lambdas show another minimum."""
    if design.structured_blocks:
        return lowest_structured(design, problem, reml, start)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        return problem.criterion_and_gradient_x(x, reml)

    def rounding(x: np.ndarray) -> float:
        factor = problem.factorise_x(x)
        return 0.0 if factor is None else problem.rounding(factor.pwrss, reml)

    def search(x: np.ndarray) -> Minimum:
        return minimise_scaled(objective, x, lambda at: curvature_guess(problem, at), rounding)

    diagonal = problem.template.diagonal()
    if start is None:
        found = [search(_far_start(problem, reml, start_x(problem)))]
    else:
        found = [search(problem.x_from_theta(np.asarray(start, dtype=float)))]
    further = [opposed_start(problem)]
    if not found[0].convergence.converged or np.abs(found[0].x[diagonal]).min() < 1e-3:
        further.append(diagonal * 1.0)
    found += [_from_elsewhere(search(x)) for x in further if x is not None]
    if start is not None:
        return _counted(best_of(found), found)
    return _among_all(design, problem, reml, found, search)


def _among_all(
    design: Design, problem: Problem, reml: bool, found: list[Minimum], search: Callable[[np.ndarray], Minimum]
) -> Minimum:
    """The lowest minimum that is seen, with the next one where it is nearly as good.

    Where X and Z together can reproduce any y the criterion may be lowest where sigma is 0, which no theta says: the
    lowest minimum inside is returned then, as not converged."""
    spanned = spans_everything(design, problem)

    def leaves(x: np.ndarray) -> bool:
        return spanned and bool(np.abs(x).max() > OUTSIDE)

    known = best_of(found)
    found = [*found, *(_from_elsewhere(search(x)) for x in other_minima(problem, reml, known.x) if not leaves(x))]
    near = [one for one in found if not leaves(one.x)]
    lowest = _counted(best_of(near) if near else known, found)
    inside = [one for one in near if one.convergence.converged]
    record = lowest.convergence
    if spanned:
        record = where_sigma_vanishes(design, problem, reml, lowest, record)
    others = [one for one in inside if one.value < lowest.value + NEARLY and _differ(problem, one.x, lowest.x)]
    if others:
        other = min(others, key=lambda one: one.value)
        theta = problem.template.pack([positive_columns(Lam) for Lam in problem.lambdas(problem.theta_from_x(other.x))])
        record = replace(record, other_criterion=other.value, other_theta=tuple(theta.tolist()))
    return replace(lowest, convergence=record)


def best_of(found: list[Minimum]) -> Minimum:
    """The lowest point, or a minimum that is proved and hardly higher; the first of those as low."""
    lowest = min(one.value for one in found)
    proved = [one for one in found if one.convergence.converged and one.value < lowest + PROVED]
    least = min((one.value for one in proved), default=lowest)
    return next((one for one in proved or found if one.value <= least + EQUAL), found[0])


def _counted(one: Minimum, found: list[Minimum]) -> Minimum:
    """With the evaluations of all searches."""
    evaluations = sum(each.convergence.evaluations for each in found)
    return replace(one, convergence=replace(one.convergence, evaluations=evaluations))


def _differ(problem: Problem, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two points stand for different covariances."""
    pairs = zip(problem.template.unpack(x), problem.template.unpack(y), strict=True)
    return any(np.abs(A @ A.T - B @ B.T).max() > SAME * max(1.0, float(np.abs(A @ A.T).max())) for A, B in pairs)


def _from_elsewhere(found: Minimum) -> Minimum:
    return replace(found, convergence=replace(found.convergence, second_start=True))


def spans_everything(design: Design, problem: Problem) -> bool:
    """Whether X and Z together can reproduce any response: [X Z] has rank n.

    Found from the columns for few rows, else from y, whose penalised residual then vanishes as Lambda grows."""
    effects = sum(len(block.levels) * block.size for block in design.blocks)
    if problem.sigma_known or effects < problem.n - problem.p:
        return False
    if problem.n <= FEW_ROWS:
        return _rank(np.hstack([design.X, _effect_columns(design)])) == problem.n
    factor = problem.factorise_x(problem.template.diagonal() * 1e4)
    return factor is None or factor.pwrss < 1e-7 * problem.residual_square


def _effect_columns(design: Design) -> np.ndarray:
    """(n, q) Z with all its columns."""
    columns = []
    for block in design.blocks:
        levels = np.equal.outer(block.codes, np.arange(len(block.levels))).astype(float)
        columns += [levels * value[:, None] for value in block.values.T]
    return np.hstack(columns)


def _rank(matrix: np.ndarray) -> int:
    """Rank, of columns scaled to unit length."""
    size = np.linalg.norm(matrix, axis=0)
    return int(np.linalg.matrix_rank(matrix / np.where(size > 0, size, 1.0)))


def where_sigma_vanishes(
    design: Design, problem: Problem, reml: bool, lowest: Minimum, record: Convergence
) -> Convergence:
    """The verdict where X and Z can reproduce any y: what the criterion does as sigma nears 0.

    A search that did not end and is far out is on its way there; only rounding says whether further out is lower."""
    cause = f"common and group effects together can reproduce {design.response} in every row"
    if not reml and design.nobs <= FEW_ROWS and _rank(_effect_columns(design)) < design.nobs:
        message = f"{cause}: the likelihood grows without limit as the residual standard deviation nears 0"
        return replace(record, status="unbounded", message=message)
    small = design.nobs <= MOST_ROWS
    infimum = lowest_without_residual(design, problem, reml) if small else far_out(problem, reml)
    far = np.abs(lowest.x).max() > OUTSIDE
    on_the_way = far and (not record.converged or infimum < lowest.value + 1e-3)  # flat there, which passes for an end
    if not (on_the_way or infimum < lowest.value - 1e-3):
        return record
    name = "REML criterion" if reml else "deviance"
    message = (
        f"{cause}: the {name} falls to {infimum:.2f} or below as the residual standard deviation nears 0, and the best "
        f"optimum away from there has {lowest.value:.2f}"
    )
    return replace(record, status="unbounded", message=message)


def _far_start(problem: Problem, reml: bool, x: np.ndarray) -> np.ndarray:
    """The start, with standard deviations that hardly leave anything to the residual made tenfold while that is better.

    ``start_x`` cannot tell 5 residual standard deviations from 50,000."""
    large = np.flatnonzero(problem.template.diagonal() & (x >= LARGE))
    if not len(large):
        return x
    value = problem.criterion_x(x, reml)
    for element in large:
        for _ in range(MOST_TENFOLD):
            further = x.copy()
            further[element] *= 10.0
            new = problem.criterion_x(further, reml)
            if not new < value:
                break
            x, value = further, new
    return x


# --- structured covariances ---------------------------------------------------------------------------------------
SHORT_SEARCH = 150  # evaluations after which a search from a spread point is left: it wanders off towards sigma = 0
STRUCTURED_POINTS, STRUCTURED_STARTS = 512, 6  # points spread over the structures' parameters; searches from the lowest
AT_BOUND = 1e-3  # a standard deviation, or an angle's distance from a bound, below this is tried at the bound


def lowest_structured(design: Design, problem: Problem, reml: bool, start: np.ndarray | None) -> Minimum:
    """The lowest minimum that is seen over the parameters of the blocks' structures; x are the whitened Lambdas there.

    A search from the natural start and others from the lowest of points spread over all covariances of the structures;
    with a start (theta) from there, and from elsewhere where that ends unconverged."""
    space = SearchSpace.of(design, problem)

    def objective(s: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_x = problem.criterion_and_gradient_x(space.x(s), reml)
        return value, space.gradient(s, by_x)

    def rounding(s: np.ndarray) -> float:
        factor = problem.factorise_x(space.x(s))
        return 0.0 if factor is None else problem.rounding(factor.pwrss, reml)

    def search(s: np.ndarray, most: int = 1000) -> Minimum:
        found = minimise_scaled(objective, s, lambda at: _bends(objective, at), rounding, most)
        return _on_bounds(objective, space, replace(found, x=space.tidy(found.x)))

    natural = space.s(problem.lambdas_from_x(start_x(problem)))
    found = [search(natural if start is None else space.s(problem.lambdas(np.asarray(start, dtype=float))))]
    if start is None or not found[0].convergence.converged:
        starts = _spread_starts(problem, reml, space)
        starts += [natural] if start is not None else []
        found += [_from_elsewhere(search(s, SHORT_SEARCH)) for s in starts]
        first = best_of(found)
        if not first.convergence.converged and first.convergence.second_start:
            found.append(_from_elsewhere(search(first.x)))
    lowest = _counted(best_of(found), found)
    record = lowest.convergence
    if spans_everything(design, problem):
        record = _where_sigma_vanishes_structured(design, problem, reml, space, lowest, objective)
    near = [one for one in found if one.convergence.converged and one.value < lowest.value + NEARLY]
    others = [one for one in near if start is None and _differ(problem, space.x(one.x), space.x(lowest.x))]
    if others:
        other = min(others, key=lambda one: one.value)
        theta = problem.template.pack([positive_columns(Lam) for Lam in space.lambdas(other.x)])
        record = replace(record, other_criterion=other.value, other_theta=tuple(theta.tolist()))
    return replace(lowest, x=space.x(lowest.x), convergence=record)


def _spread_starts(problem: Problem, reml: bool, space: SearchSpace) -> list[np.ndarray]:
    """Points lower than all their neighbours, lowest first."""
    values, count = stacked_criterion(problem, reml)
    count = min(STRUCTURED_POINTS, count)
    if count < LEAST_POINTS:
        return []
    points = space.spread(count)
    level = values(space.x(points))
    nearest, _ = nearest_points(space.places(points), NEIGHBOURS)
    return list(points[lowest_points(level, nearest)[:STRUCTURED_STARTS]])


def _bends(objective: Callable[[np.ndarray], tuple[float, np.ndarray]], s: np.ndarray) -> np.ndarray:
    """(d,) positive: the size of the second derivatives along each coordinate, by differences."""
    bend = np.empty(len(s))
    for i in range(len(s)):
        step = np.zeros(len(s))
        step[i] = 0.01 * max(1.0, abs(float(s[i])))
        with np.errstate(invalid="ignore"):
            bend[i] = abs(objective(s + step)[1][i] - objective(s - step)[1][i]) / (2.0 * step[i])
    bend = np.where(np.isfinite(bend), bend, 1.0)
    return np.maximum(bend, 1e-3 * bend.max(initial=0.0) + 1e-3)


def _on_bounds(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]], space: SearchSpace, found: Minimum
) -> Minimum:
    """Standard deviations and correlations as good as at a bound put there, if the criterion agrees."""
    s, value = found.x, found.value
    for block, structure in enumerate(space.structures):
        where = space.slices[block]
        for at in range(where.start, where.stop):
            moved = s.copy()
            if structure.free:
                Lam = structure.factor(s[where])
                j = np.triu_indices(structure.size)[0][at - where.start]
                if not 0 < np.abs(Lam[:, j]).max() < AT_BOUND**2:
                    continue
                moved[at] = 0.0
            elif at - where.start < structure.n_sds:
                moved[at] = 0.0 if 0 < abs(s[at]) < AT_BOUND else s[at]
            else:
                edge = 0.0 if s[at] < 0.25 * np.pi else 0.5 * np.pi
                moved[at] = edge if 0 < abs(s[at] - edge) < AT_BOUND else s[at]
            if moved[at] != s[at]:
                new = objective(moved)[0]
                if new <= found.value + 1e-8:
                    s, value = moved, min(value, new)
    return replace(found, x=s, value=value)


def _where_sigma_vanishes_structured(
    design: Design,
    problem: Problem,
    reml: bool,
    space: SearchSpace,
    lowest: Minimum,
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
) -> Convergence:
    """The verdict where X and Z can reproduce any y: is the criterion lower still as sigma nears 0?

    With an autoregressive structure and a row for each occasion it may be: no part of the variance is then that of
    single rows."""
    infimum = _without_residual_structured(design, problem, reml, space, lowest, objective)
    largest = float(np.abs(space.x(lowest.x)).max())
    on_the_way = largest > OUTSIDE and infimum < lowest.value + 1e-3
    if not (on_the_way or infimum < lowest.value - (1e-3 if design.nobs <= MOST_ROWS else FAR_OUT)):
        return lowest.convergence
    message = (
        f"common and group effects together can reproduce {design.response} in every row: the "
        f"{'REML criterion' if reml else 'deviance'} falls to {min(infimum, lowest.value):.2f} as the residual "
        "standard deviation nears 0"
    )
    return replace(lowest.convergence, status="unbounded", message=message)


def _without_residual_structured(
    design: Design,
    problem: Problem,
    reml: bool,
    space: SearchSpace,
    lowest: Minimum,
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
) -> float:
    """The lowest criterion seen with sigma = 0: exactly for few rows, else where Lambda is LARGEST."""
    if design.nobs <= MOST_ROWS:
        limit, points, starts = criterion_without_residual(design, problem, reml), 128, 8

        def values(s: np.ndarray) -> np.ndarray:
            x = space.x(s)
            return limit(x / np.abs(x).max(axis=1, keepdims=True))
    else:
        points, starts = 16, 2

        def values(s: np.ndarray) -> np.ndarray:
            return np.array([objective(_outwards(space, one, LARGEST))[0] for one in s])

    s = np.concatenate([lowest.x[None], space.spread(points)])
    level = values(s)
    best = np.unique(np.append(0, np.argsort(level, kind="stable")[:starts]))
    return float(descend(values, s[best], level[best], np.full(space.d, np.inf), np.arange(space.d))[1].min())


def _outwards(space: SearchSpace, s: np.ndarray, scale: float) -> np.ndarray:
    """The same Lambdas multiplied so that the largest element of the whitened ones is ``scale``."""
    factor = scale / max(float(np.abs(space.x(s)).max()), np.finfo(float).tiny)
    return space.s([factor * Lam for Lam in space.lambdas(space.tidy(s))])
