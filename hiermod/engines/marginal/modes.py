"""Whether the marginal posterior has more modes than the first that was found, and where.

Points spread evenly over the variance parameters, by value only; those higher than their neighbours are tops
(kernel/topograph.py).  From each a straight way to the known modes: where all lead through a valley another climb
starts.  Straight in the coordinates of the Warp, in which a density with one mode is nearly Normal, so that it has
hardly any valleys and costs no climb."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.marginal.boundary_transform import Warp
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.mode import climb
from hiermod.engines.marginal.proposal import Mixture, laplace
from hiermod.kernel.topograph import even_points, lowest_points, nearest_points

POINTS, MOST_POINTS, POINTS_LARGE = 32, 256, 32  # for each dimension; at most; where evaluations are dear
NEIGHBOURS = 5  # that a top is higher than
TOPS, TOPS_LARGE = 32, 8  # from which ways are looked at, at most
WAY = np.arange(1, 8) / 8  # places on a straight way
VALLEY = 0.5  # nats below the lower end, which a way of one mode hardly has
CLIMBS = 6  # at most
LEAST, MOST = 0.03, 100.0  # sds over sigma, in whitened columns
STRONGEST = 0.85  # partial correlation
FAINT = 10.0  # nats below the largest, at which a mode's mass does not count
SMALLEST = 0.05  # share of proposals that a mode gets to begin with


@dataclass(frozen=True, eq=False)
class Mode:
    """A maximum of the density in the coordinates of a Warp, and the t around it."""

    x: np.ndarray  # (d,)
    value: float  # log density of x
    around: Mixture  # Laplace's approximation, one component

    @property
    def log_mass(self) -> float:
        """Of the probability around it, up to a constant."""
        return self.value + float(np.log(np.diag(self.around.roots[0])).sum())


def all_modes(density: MarginalDensity, x: np.ndarray, precision: np.ndarray, warp: Warp) -> Mixture:
    """The modes that count as one mixture, a component for each, weighted by its mass; first the one at x (d,) with
    precision (d, d), which is known already."""

    def values(points: np.ndarray) -> np.ndarray:
        return density.values(warp.to_phi(points)) + warp.log_slope(points)

    def valley(points: np.ndarray, heights: np.ndarray, mode: Mode) -> np.ndarray:
        """(n,) bool: whether the way from each point (n, d) to the mode leads through a valley."""
        ways = points[:, None] + (mode.x - points)[:, None] * WAY[:, None]
        lowest = values(ways.reshape(-1, points.shape[1])).reshape(ways.shape[:2]).min(axis=1)
        return lowest < np.minimum(heights, mode.value) - VALLEY

    found = [Mode(x, float(values(x[None])[0]), laplace(x, precision, warp))]
    least = POINTS_LARGE if density.batch is None else min(POINTS * density.coordinates.d, MOST_POINTS)
    d = density.coordinates.d - int(density.coordinates.has_sigma)
    unit = even_points(2 ** int(np.ceil(np.log2(least))), d)
    points = warp.to_x(spread_over(density, unit))
    heights = values(points)
    tops = lowest_points(-heights, nearest_points(unit, NEIGHBOURS)[0])
    tops = tops[: TOPS_LARGE if density.batch is None else TOPS]
    points, heights = points[tops], heights[tops]
    left = valley(points, heights, found[0])
    for _ in range(CLIMBS):
        if not left.any():
            break
        start = int(np.flatnonzero(left)[0])
        left[start] = False
        top, precision = climb(density, warp, points[start])
        height = float(values(top[None])[0])
        if not np.isfinite(height):
            continue
        mode = Mode(top, height, laplace(top, precision, warp))
        if all(valley(top[None], np.array([height]), other)[0] for other in found):
            found.append(mode)
        left[left] = valley(points[left], heights[left], mode)
    masses = np.array([mode.log_mass for mode in found])
    counts = [i for i in range(len(found)) if masses[i] > masses.max() - FAINT]
    shares = np.maximum(np.exp(masses[counts] - masses.max()), SMALLEST)
    return Mixture(
        shares / shares.sum(),
        np.stack([found[i].x for i in counts]),
        np.concatenate([found[i].around.roots for i in counts]),
        warp,
    )


def spread_over(density: MarginalDensity, unit: np.ndarray) -> np.ndarray:
    """phi (N, d) from points of the unit cube: relative sds and correlations all over, sigma where it fits the data
    best given those."""
    problem, coordinates = density.problem, density.coordinates
    phi = np.zeros((len(unit), coordinates.d))
    unit_lambdas = problem.lambdas_from_x(problem.template.diagonal().astype(float))
    for (where, where_z), structure, Lam in zip(coordinates.parts(), coordinates.structures, unit_lambdas, strict=True):
        variances = np.square(Lam).sum(axis=1)
        units = np.log(np.sqrt(variances.mean() if structure.hom else variances))
        phi[:, where] = units + np.log(LEAST) + np.log(MOST / LEAST) * unit[:, where]
        phi[:, where_z] = np.arctanh(STRONGEST) * (2 * unit[:, where_z] - 1)
    if not coordinates.has_sigma:
        phi[:, np.concatenate([np.arange(where.start, where.stop) for where, _ in coordinates.parts()])] += np.log(
            density.fixed_sigma
        )
        return phi
    # as if sigma were 1: then sigma^2 is the residual sum of squares over its degrees of freedom
    sigma = 0.5 * np.log(np.maximum(density.penalised_squares(phi), 1e-300) / max(problem.n - problem.p, 1))
    for where, _ in coordinates.parts():
        phi[:, where] += sigma[:, None]
    phi[:, -1] = sigma
    return phi
