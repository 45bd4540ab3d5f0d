"""log p(y | beta, phi) of a Gaussian hierarchical model: group effects integrated out, coefficients given.

With the prior of beta taken out, the factor's last rows hold R_X and R_X gamma_hat, so that the penalised residual sum
of squares at any gamma is pwrss + |R_X (gamma - gamma_hat)|^2 (Bates et al. 2015, equation 13)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hiermod.engines.marginal.density import MarginalDensity


def integrated_log_likelihood(density: MarginalDensity, phi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(S,) with every constant, from phi (S, d) and beta (S, p); -inf where floating point cannot hold the factor."""
    flat = replace(density, penalty=np.zeros_like(density.penalty))
    problem = density.problem
    start = problem.cross.n_tail_effects
    gamma = beta @ problem.R.T - problem.gamma_ols
    sigma = density.sigma(phi)
    logdet, square = np.empty(len(phi)), np.empty(len(phi))
    step = 1 if flat.batch is None else flat.batch.chunk()
    for first in range(0, len(phi), step):
        rows = slice(first, first + step)
        if flat.batch is None:
            one = flat.factorise(phi[first])
            L = np.full((1, start + problem.p + 1, start + problem.p + 1), np.nan) if one is None else one.L[None]
            logdet[rows] = np.nan if one is None else one.logdet_random
        else:
            many = flat.factorise_many(phi[rows])
            L = many.L
            logdet[rows] = np.where(many.ok, many.logdet_random, np.nan)
        corner = np.tril(L[:, start:, start:])
        vector = np.concatenate([-gamma[rows], np.ones((len(corner), 1))], axis=1)
        square[rows] = np.square(np.einsum("sab,sa->sb", corner, vector)).sum(axis=1)
    constant = problem.n * np.log(2 * np.pi) - problem.sum_log_w
    with np.errstate(all="ignore"):
        value = -0.5 * (constant + 2 * problem.n * np.log(sigma) + logdet + square / np.square(sigma))
    return np.where(np.isfinite(value), value, -np.inf)
