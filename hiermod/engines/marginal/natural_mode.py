"""The mode of p(phi | y) with phi on its natural scale: sds, correlation matrices, sigma, without a Jacobian.

Under flat priors it is the REML estimate: log p(y | phi) with flat beta is -criterion / 2 (Harville 1974, Biometrika
61, 383-385).  docs/architecture.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from hiermod.engines.marginal.density import MarginalDensity

OUTSIDE = 1e15  # what the minimiser sees where the density is 0
FAR, STEEP = 12.0, 8.0  # of a log sd below its start, and of a Fisher-transformed correlation: the boundary, in effect


@dataclass(frozen=True, eq=False)
class NaturalMode:
    """phi (d,), the coefficients there (p,), and the elements of phi that ran to their boundary (d,) bool."""

    phi: np.ndarray
    beta: np.ndarray
    at_edge: np.ndarray


def natural_prior(density: MarginalDensity, phi: np.ndarray) -> tuple[float, np.ndarray]:
    """log p of the sds, correlation matrices and sigma at phi (d,), up to LKJ's constant, and its gradient (d,).

    LKJ(eta) is (eta - 1) log det R, and det R the product of 1 - r^2 over the vine's partial correlations."""
    value, gradient = 0.0, np.zeros(len(phi))
    for (where_sd, where_z), densities, eta in zip(
        density.coordinates.parts(), density.sd_densities, density.priors.eta, strict=True
    ):
        for at, one in zip(range(where_sd.start, where_sd.stop), densities, strict=True):
            log_p, slope = one(phi[at : at + 1])
            value, gradient[at] = value + float(log_p[0] - phi[at]), float(slope[0]) - 1.0
        z = phi[where_z]
        if len(z):
            value -= 2 * (eta - 1.0) * float(np.logaddexp(z, -z).sum() - len(z) * np.log(2))
            gradient[where_z] = -2 * (eta - 1.0) * np.tanh(z)
    if density.sigma_density is not None:
        log_p, slope = density.sigma_density(phi[-1:])
        value, gradient[-1] = value + float(log_p[0] - phi[-1]), float(slope[0]) - 1.0
    return value, gradient


def natural_mode(density: MarginalDensity, start: np.ndarray, prior: bool = True) -> NaturalMode:
    """Climb from ``start`` (d,), REML's estimate say.  prior=False: the likelihood alone (priors of beta stay)."""

    def objective(phi: np.ndarray) -> tuple[float, np.ndarray]:
        with np.errstate(all="ignore"):
            value, gradient = density.value_and_gradient(phi)
            if not np.isfinite(value):
                return OUTSIDE, np.zeros(len(phi))
            unbounded, slope = density.log_prior(phi)
            value, gradient = value - float(unbounded), gradient - slope
            if prior:
                natural, slope = natural_prior(density, phi)
                value, gradient = value + natural, gradient + slope
        return -value, -gradient

    lower, upper = _bounds(density, start)
    bounds = list(zip(lower.tolist(), upper.tolist(), strict=True))
    options = {"ftol": 1e-13, "gtol": 1e-7, "maxiter": 500}
    phi = minimize(
        objective, np.clip(start, lower, upper), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return NaturalMode(phi, coefficients_at(density, phi), (phi <= lower + 1.0) | (phi >= upper - 1.0))


def coefficients_at(density: MarginalDensity, phi: np.ndarray) -> np.ndarray:
    """E[beta | phi, y] (p,), in the columns as typed; nan where the factor cannot be had."""
    factor = density.factorise(phi)
    if factor is None:
        return np.full(density.problem.p, np.nan)
    gamma = density.problem.gamma_ols - factor.solution[factor.cross.n_tail_effects : -1]
    return solve_triangular(density.problem.R, gamma) if len(gamma) else gamma


def _bounds(density: MarginalDensity, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = start - FAR, start + FAR
    for _, where in density.coordinates.parts():
        lower[where], upper[where] = -STEEP, STEEP
    return lower, upper
