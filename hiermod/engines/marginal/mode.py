"""The mode of the marginal posterior and the curvature there."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from hiermod.engines.marginal.boundary_transform import Warp, best_centre, identity
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.elliptical import find_bulk
from hiermod.engines.marginal.proposal import laplace
from hiermod.kernel.start import start_x
from hiermod.priors.distributions import Density

OUTSIDE = 1e15  # what the minimiser sees where the density is 0
STEP = 1e-4  # of the differences of the gradient
MANY = 6  # dimensions from which on a mode can be far from the bulk
LOOSE = 0.2  # sd of a log sd beyond which it may be skewed
SLICE, SLICE_LARGE = np.linspace(-12, 5, 52), np.linspace(-6, 3, 19)  # from the mode; where evaluations are dear


def find_mode(density: MarginalDensity) -> tuple[np.ndarray, np.ndarray, Warp]:
    """Mode (d,) and minus the Hessian of the log density there (d, d), by differences of the gradient, both in the
    coordinates of the Warp, in which the density is closest to a Normal."""
    warp = identity(density.coordinates.d)
    mode, precision = climb(density, warp, start_phi(density))
    warp = _bend(density, mode, precision)
    if len(warp.bent):
        mode, precision = climb(density, warp, warp.to_x(mode))
    if len(mode) < MANY or density.batch is None:  # walkers take too long
        return mode, precision, warp
    # these points only decide where proposals go, so a stream of their own does no harm to independence of chains
    bulk = find_bulk(density.values, laplace(mode, precision, warp), np.random.default_rng(0))
    return bulk.means[0], np.linalg.inv(bulk.roots[0] @ bulk.roots[0].T), bulk.warp


def value_and_gradient(density: MarginalDensity, warp: Warp, x: np.ndarray) -> tuple[float, np.ndarray]:
    """The log density of x, where phi = warp.to_phi(x), and its gradient (d,)."""
    value, gradient = density.value_and_gradient(warp.to_phi(x))
    if not len(warp.bent):
        return value, gradient
    return value + float(warp.log_slope(x)), gradient * warp.slopes(x) + warp.log_slope_gradient(x)


def climb(density: MarginalDensity, warp: Warp, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From start (d,) to a maximum (d,), and minus the Hessian there (d, d), in the coordinates of the Warp."""

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(density, warp, x)
        return (-value, -gradient) if np.isfinite(value) else (OUTSIDE, np.zeros(len(x)))

    options = {"ftol": 1e-10, "maxiter": 500}
    mode = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    rows = []
    for direction in np.eye(len(mode)) * STEP:
        up, down = (
            value_and_gradient(density, warp, mode + direction),
            value_and_gradient(density, warp, mode - direction),
        )
        one_sided = not (np.isfinite(up[0]) and np.isfinite(down[0]))  # next to a bound of a prior
        rows.append(np.zeros(len(mode)) if one_sided else (down[1] - up[1]) / (2 * STEP))
    H = np.array(rows)
    return mode, (H + H.T) / 2


def _bend(density: MarginalDensity, mode: np.ndarray, precision: np.ndarray) -> Warp:
    """The warp that slices of the density through its mode ask for, along coordinates that are not known well."""
    centre, slice_ = np.full(len(mode), np.nan), SLICE_LARGE if density.batch is None else SLICE
    loose = np.flatnonzero(np.diag(precision) < 1 / LOOSE**2)
    points = np.repeat(mode[None], len(loose) * len(slice_), axis=0).reshape(len(loose), len(slice_), len(mode))
    for row, i in zip(points, loose, strict=True):
        row[:, i] += slice_
    values = density.values(points.reshape(-1, len(mode))).reshape(len(loose), len(slice_))
    for i, row in zip(loose, values, strict=True):
        weights = np.exp(row - row.max())
        centre[i] = best_centre(mode[i] + slice_, weights / weights.sum())
    return Warp(centre)


def start_phi(density: MarginalDensity) -> np.ndarray:
    """Where to start: sds from the spread of the groups' residual sums, correlations 0; inside the priors' support."""
    problem, coordinates = density.problem, density.coordinates
    x = start_x(problem)
    total = max(problem.residual_square / problem.n, np.finfo(float).tiny)
    sigma = density.fixed_sigma if not coordinates.has_sigma else float(np.sqrt(total / 2))
    phi = np.zeros(coordinates.d)
    blocks = zip(coordinates.structures, problem.lambdas_from_x(x), strict=True)
    for (where, _), (structure, Lam) in zip(coordinates.parts(), blocks, strict=True):
        variances = np.square(Lam).sum(axis=1)
        phi[where] = np.log(sigma * np.sqrt(variances.mean() if structure.hom else variances))
    if coordinates.has_sigma:
        phi[-1] = np.log(sigma)
    for (where, _), densities in zip(coordinates.parts(), density.sd_densities, strict=True):
        for at, one in zip(range(where.start, where.stop), densities, strict=True):
            phi[at] = _inside(one, phi[at])
    if density.sigma_density is not None:
        phi[-1] = _inside(density.sigma_density, phi[-1])
    return phi


def _inside(density: Density, t: float) -> float:
    """t, or the nearest of a grid around it where the prior is positive."""
    if np.isfinite(density(np.array([t]))[0][0]):
        return t
    grid = t + np.linspace(-12, 12, 2401)
    allowed = grid[np.isfinite(density(grid)[0])]
    if not len(allowed):
        return t
    middle = allowed[np.abs(allowed - t).argsort()[: max(1, len(allowed) // 2)]]
    return float(np.median(middle))
