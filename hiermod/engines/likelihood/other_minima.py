"""Are there other minima?  Topographical global optimisation (kernel/topograph.py).

The criterion is evaluated at points spread over all Lambdas, by value only and many at once; a point that is lower than
all its nearest neighbours marks a basin, and from the best of these descents go down side by side.  Coordinates:
x = UNIT sinh z for every element of the whitened Lambda, linear near zero and logarithmic far away, so that standard
deviations of a thirtieth and of a thousand residual ones are equally easy to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hiermod.engines.likelihood.optimise import updated_inverses
from hiermod.kernel.batch import Batch, factorise_batch, prepare
from hiermod.kernel.covariance import Template, positive_columns, triangle
from hiermod.kernel.criterion import Problem
from hiermod.kernel.topograph import even_points, lowest_points, nearest_points

Values = Callable[[np.ndarray], np.ndarray]  # (S, n_theta) points -> (S,) criteria, inf where there is none

UNIT = 0.1
SPAN = 0.03, 1000.0  # relative standard deviations from and to which points are spread, in whitened columns
POINTS = 1024
LEAST_POINTS = 32  # fewer say nothing: the search is left out
NEIGHBOURS = 3
STARTS, MOST_STARTS = 2, 96  # descents side by side: for each pair of dimensions, and at most
FLAT = 2  # dimensions that the points fill so densely that each basin has one
ONE_BY_ONE = 2e8  # products spent on points where they cannot be stacked
DIFFERENCE, WIDE = 1e-5, 0.05  # of z, for gradients and for first guesses of the curvature
ROUGH = 1e-3  # predicted decrease at which a descent ends
LONGEST = 1.5  # step of z
MOST_STEPS, MOST_SHORTER = 40, 8
MOST_FOUND = 4
NEARLY = 2.0  # units of the criterion above the lowest minimum: nearly as good
RISE = 0.003  # between two minima: above what descents leave (ROUGH), below any difference that matters
CLOSE = 0.25  # in every element of z: on the way to the same minimum


def other_minima(problem: Problem, reml: bool, known: np.ndarray) -> list[np.ndarray]:
    """Points x (n_theta,) near minima that are lower than ``known`` (n_theta,) or at most NEARLY higher, lowest first.

    Those as low as the lowest, and the next one.  Each lies behind a rise of the criterion from ``known``, unless it is
    lower, and from the others.  Rough: within about ROUGH of a minimum.  Empty for problems so large that points cost
    too much."""
    values, count = stacked_criterion(problem, reml)
    if count < LEAST_POINTS:
        return []
    here = in_z(problem.template, known)
    graph = topograph(problem.template.sizes, problem.template.order, count, span_about(known))
    everywhere = values(np.concatenate([known[None], graph.points]))
    depth, level = everywhere[0], everywhere[1:]

    def of_z(z: np.ndarray) -> np.ndarray:
        return values(UNIT * np.sinh(z))

    starts = graph.minima(level, here, depth)
    if len(starts) and len(here) <= FLAT:  # in more dimensions a straight way says nothing about where descents lead
        starts = starts[rises(of_z, graph.z[starts], here, level[starts])]
    starts = starts[: min(STARTS * len(here) ** 2, MOST_STARTS)]
    if not len(starts):
        return []
    z, level = descend(of_z, graph.z[starts], level[starts], here, diagonals(problem.template))
    found: list[np.ndarray] = []
    for s in np.argsort(level, kind="stable"):
        if level[s] > depth + NEARLY or len(found) == MOST_FOUND:
            break
        end = in_z(problem.template, UNIT * np.sinh(z[s]))
        others = found if level[s] < depth - ROUGH else [*found, here]
        if all(rises(of_z, end[None], other, level[s : s + 1])[0] for other in others):
            found.append(end)
            if level[s] > level.min() + 10.0 * ROUGH:
                break
    return [UNIT * np.sinh(end) for end in found]


def span_about(known: np.ndarray) -> tuple[float, float]:
    """SPAN, or up to ten times the largest known element: sds of a gram within groups that differ by tons."""
    largest = float(np.abs(known).max(initial=0.0))
    return SPAN if largest < SPAN[1] else (SPAN[0], 10.0 ** np.ceil(np.log10(largest) + 1.0))


def rises(values: Values, ends: np.ndarray, other: np.ndarray, level: np.ndarray) -> np.ndarray:
    """(S,) whether the criterion rises on the straight way from each of the ends (S, d), of value level, to another."""
    along = np.linspace(0.0, 1.0, 18)[1:, None, None]
    way = ends + along * (other - ends)
    heights = values(way.reshape(-1, ends.shape[1])).reshape(len(along), len(ends))
    lowest = np.minimum.accumulate(np.concatenate([level[None], heights]), axis=0)[:-1]
    return np.asarray((heights > lowest + RISE).any(axis=0))


def far_out(problem: Problem, reml: bool) -> float:
    """The lowest criterion seen where the largest element of x is SPAN[1]: near sigma = 0, where X and Z span all."""
    values, _ = stacked_criterion(problem, reml)

    def of_z(z: np.ndarray) -> np.ndarray:
        x = UNIT * np.sinh(z)
        return values(x * (SPAN[1] / np.abs(x).max(axis=1, keepdims=True)))

    graph = topograph(problem.template.sizes, problem.template.order, LEAST_POINTS, SPAN)
    level = of_z(graph.z)
    starts = np.argsort(level, kind="stable")[: LEAST_POINTS // 4]
    nowhere = np.full(graph.z.shape[1], np.inf)
    return float(descend(of_z, graph.z[starts], level[starts], nowhere, diagonals(problem.template))[1].min())


@dataclass(frozen=True, eq=False)
class Topograph:
    """Points spread over Lambda's elements, and which are neighbours."""

    points: np.ndarray  # (S, n_theta)
    z: np.ndarray  # (S, n_theta) the same in the coordinates of distances
    nearest: np.ndarray  # (S, NEIGHBOURS) indices
    reach: np.ndarray  # (S,) squared distance to the furthest of them

    def minima(self, level: np.ndarray, known: np.ndarray, depth: float) -> np.ndarray:
        """Indices of the points lower than all their neighbours, lowest first.

        level (S,) of the criterion; known (n_theta,) in coordinates z, of value depth: a neighbour too."""
        lowest = lowest_points(level, self.nearest)
        near = np.square(self.z[lowest] - known).sum(axis=1) <= self.reach[lowest]
        return lowest[~near | (level[lowest] < depth)]


@lru_cache(maxsize=32)
def topograph(sizes: tuple[int, ...], order: tuple[int, ...], count: int, span: tuple[float, float]) -> Topograph:
    """Points for blocks of these sizes (see ``Template``), with standard deviations in a span."""
    points = spread_points(Template(sizes, order), count, span)
    z = np.arcsinh(points / UNIT)
    nearest, reach = nearest_points(z, NEIGHBOURS)
    for array in (points, z, nearest, reach):
        array.setflags(write=False)
    return Topograph(points, z, nearest, reach)


def stacked_criterion(problem: Problem, reml: bool) -> tuple[Values, int]:
    """The criterion at many points, and how many are worth their time."""
    batch = prepare(problem.cross)
    if batch is not None:
        added = np.zeros((1, problem.p + 1, problem.p + 1))
        chunk = batch.chunk()

        def values(x: np.ndarray) -> np.ndarray:
            return np.concatenate(
                [_values(problem, reml, batch, added, x[at : at + chunk]) for at in range(0, len(x), chunk)]
            )

        return values, min(POINTS, chunk)

    def one_by_one(x: np.ndarray) -> np.ndarray:
        return np.array([problem.criterion_x(row, reml) for row in x])

    cost = problem.n_dense**3 / 3.0
    cost += sum(level.diagonal.size * problem.n_dense for level in problem.cross.chain)
    return one_by_one, int(min(POINTS, ONE_BY_ONE / cost))


def _values(problem: Problem, reml: bool, batch: Batch, added: np.ndarray, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        factor = factorise_batch(batch, problem.stacked_lambdas(x), np.broadcast_to(added, (len(x), *added.shape[1:])))
        found = problem.value_of(factor.logdet_random, factor.logdet_fixed, factor.pwrss, reml)
    return np.where(factor.ok & np.isfinite(found), found, np.inf)


def spread_points(template: Template, count: int, span: tuple[float, float]) -> np.ndarray:
    """(count, n_theta) Lambdas: standard deviations spread evenly over logarithms, half of them with correlations.

    A row of Lambda is its standard deviation times a direction: the axis, or for correlations any direction."""
    u = even_points(count, template.n_theta + 1)
    points = np.empty((count, template.n_theta))
    correlated = u[:, -1] > 0.5
    for k, part in zip(template.sizes, template.slices, strict=True):
        own = u[:, :-1][:, part]
        rows, below = triangle(k)
        Lam = np.zeros((count, k, k))
        Lam[:, rows, below] = np.where(correlated[:, None] & (rows != below), np.tan(np.pi * (own - 0.5)), 0.0)
        Lam[:, range(k), range(k)] = 1.0
        sd = span[0] * (span[1] / span[0]) ** own[:, rows == below]
        Lam *= (sd / np.linalg.norm(Lam, axis=2))[:, :, None]
        points[:, part] = Lam[:, rows, below]
    return points


def descend(
    values: Values, z: np.ndarray, level: np.ndarray, known: np.ndarray, diagonal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """BFGS from every row of z (S, d) at once, gradients by differences: rough ends, and the values there.

    diagonal (d,): which element is the diagonal one of each element's column (``diagonals``).

    Descents that come close to ``known`` (d,) or to a lower one are left out."""
    z, level = z.copy(), level.copy()
    gradient, inverse = _first_step(values, z, level)
    active, lost = np.isfinite(gradient).all(axis=1), np.zeros(len(z), dtype=bool)
    for _ in range(MOST_STEPS):
        way = -np.einsum("sij,sj->si", inverse, gradient)
        slope = np.einsum("si,si->s", way, gradient)
        lost |= _arrived(np.where(z[:, diagonal] < 0, -z, z), level, known)
        active &= (slope < -2.0 * ROUGH) & ~lost
        at = np.flatnonzero(active)
        if not len(at):
            break
        length = np.minimum(1.0, LONGEST / np.abs(way[at]).max(axis=1))
        waiting = np.arange(len(at))
        for _ in range(MOST_SHORTER):
            rows = at[waiting]
            step = way[rows] * length[waiting, None]
            new, after = _steps(values, z[rows], step)
            fine = (new <= level[rows] + 1e-4 * length[waiting] * slope[rows]) & np.isfinite(after).all(axis=1)
            rows, step, new, after = rows[fine], step[fine], new[fine], after[fine]
            inverse[rows] = updated_inverses(inverse[rows], step, after - gradient[rows])
            z[rows], level[rows], gradient[rows] = z[rows] + step, new, after
            waiting = waiting[~fine]
            if not len(waiting):
                break
            length[waiting] *= 0.3
        active[at[waiting]] = False
    return z[~lost], level[~lost]


def diagonals(template: Template) -> np.ndarray:
    """(n_theta,) the index of the diagonal element in the column of each element."""
    matrices = template.unpack(np.arange(template.n_theta))
    return template.pack([np.broadcast_to(np.diag(M), M.shape) for M in matrices]).astype(int)


def _arrived(z: np.ndarray, level: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(S,) which descents are close to the known minimum, or to another one that is lower: they go the same way.

    z (S, d) with non-negative diagonals: the sign of a column means nothing, that of a correlation does."""
    near = np.abs(z[:, None] - z).max(axis=2) < CLOSE
    return (np.abs(z - known).max(axis=1) < CLOSE) | (near & (level < level[:, None])).any(axis=1)


def _first_step(values: Values, z: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (S, d), and inverse Hessians (S, d, d) that are diagonal, by central differences."""
    S, d = z.shape
    offsets = WIDE * np.concatenate([np.eye(d), -np.eye(d)])
    found = values((z[:, None] + offsets).reshape(-1, d)).reshape(S, 2, d)
    with np.errstate(invalid="ignore"):
        gradient = (found[:, 0] - found[:, 1]) / (2.0 * WIDE)
        bend = np.abs(found.sum(axis=1) - 2.0 * level[:, None]) / WIDE**2
    bend = np.where(np.isfinite(bend), bend, 1.0)
    bend = np.maximum(bend, 0.01 * bend.max(axis=1, keepdims=True) + 1e-3)
    return gradient, np.eye(d) / bend[:, :, None]


def _steps(values: Values, z: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (S,) after the steps, and gradients (S, d) there by forward differences."""
    S, d = z.shape
    points = np.repeat((z + step)[:, None], d + 1, axis=1)
    points[:, 1:] += DIFFERENCE * np.eye(d)
    found = values(points.reshape(-1, d)).reshape(S, d + 1)
    with np.errstate(invalid="ignore"):
        return found[:, 0], (found[:, 1:] - found[:, :1]) / DIFFERENCE


def in_z(template: Template, x: np.ndarray) -> np.ndarray:
    """Coordinates z of the same covariances with non-negative diagonals."""
    return np.arcsinh(template.pack([positive_columns(L) for L in template.unpack(x)]) / UNIT)
