"""The mode of the marginal posterior and the curvature there."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.bayes.positive import Density
from hiermod.kernel.start import start_x

OUTSIDE = 1e15  # what the minimiser sees where the density is 0
STEP = 1e-4  # of the differences of the gradient


def find_mode(density: MarginalDensity) -> tuple[np.ndarray, np.ndarray]:
    """Mode (d,) and minus the Hessian of the log density there (d, d), by differences of the gradient."""

    def objective(phi: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = density.value_and_gradient(phi)
        return (-value, -gradient) if np.isfinite(value) else (OUTSIDE, np.zeros(len(phi)))

    options = {"ftol": 1e-10, "maxiter": 500}
    found = minimize(objective, start_phi(density), jac=True, method="L-BFGS-B", options=options)
    mode = found.x
    rows = []
    for direction in np.eye(len(mode)) * STEP:
        up, down = density.value_and_gradient(mode + direction), density.value_and_gradient(mode - direction)
        one_sided = not (np.isfinite(up[0]) and np.isfinite(down[0]))  # next to a bound of a prior
        rows.append(np.zeros(len(mode)) if one_sided else (down[1] - up[1]) / (2 * STEP))
    H = np.array(rows)
    return mode, (H + H.T) / 2


def start_phi(density: MarginalDensity) -> np.ndarray:
    """Where to start: sds from the spread of the groups' residual sums, correlations 0; inside the priors' support."""
    problem, coordinates = density.problem, density.coordinates
    x = start_x(problem)
    total = max(float(problem.cross.tail[-1, -1]) / problem.n, np.finfo(float).tiny)
    sigma = density.fixed_sigma if not coordinates.has_sigma else float(np.sqrt(total / 2))
    phi = np.zeros(coordinates.d)
    for (where, _), C, L in zip(coordinates.parts(), problem.whiteners, problem.template.unpack(x), strict=True):
        Lam = C @ L
        phi[where] = np.log(sigma * np.sqrt(np.square(Lam).sum(axis=1)))
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
