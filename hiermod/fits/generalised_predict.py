"""Predictions and simulated responses of a generalised fit: the linear predictor's law, then the inverse link.

Given theta, (beta, b) is taken as normal around its modes (the Laplace criterion's quadratic approximation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.generalised_refit import simulated
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.engines.likelihood.mixed import joint_variance
from hiermod.fits.tables import quantile, simulated_frame
from hiermod.fits.targets import Request
from hiermod.formula.design import Design

Record = GeneralisedMixedFit | GeneralisedLinearFit
Rows = list[tuple[np.ndarray, np.ndarray]]
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def predict(design: Design, record: Record, request: Request) -> pd.DataFrame:
    """The table of a checked request: estimate, and lower and upper when it asks for an interval."""
    rows, X = request.group_rows(design), request.rows.X
    eta = X @ np.nan_to_num(np.array(record.beta)) + request.rows.offset
    spread = np.zeros(len(eta))
    if isinstance(record, GeneralisedMixedFit):
        sampled = request.target == "new_group" or (request.target == "conditional" and request.new_levels == "sample")
        for (codes, values), modes, Lambda in zip(rows, record.modes, record.Lambda, strict=True):
            eta = eta + np.where((codes >= 0)[:, None], modes[np.maximum(codes, 0)] * values, 0.0).sum(axis=1)
            if sampled:
                spread += np.where(codes < 0, np.square(values @ Lambda).sum(axis=1), 0.0)
    likelihood = record.likelihood
    table = pd.DataFrame({"estimate": _averaged(likelihood, eta, np.sqrt(spread))}, index=request.rows.index)
    if request.level is None:
        return table
    se = np.sqrt(linear_variance(record, X, rows) + spread)
    if request.kind == "response":
        lower, upper = _response_bounds(likelihood, request, eta, se)
    else:
        half = quantile(request.level) * se
        lower, upper = likelihood.mean(eta - half), likelihood.mean(eta + half)
    return table.assign(lower=lower, upper=upper)


def _averaged(likelihood: Likelihood, eta: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The mean over a normal linear predictor, by quadrature (exact for the log link)."""
    mean = likelihood.mean(eta)
    new = sd > 0
    if not new.any():
        return mean
    if likelihood.link == "log" and likelihood.record.location_is_mean:
        return likelihood.mean(eta + 0.5 * sd**2)
    mean[new] = likelihood.mean(eta[new, None] + sd[new, None] * NODES) @ WEIGHTS
    return mean


def linear_variance(record: Record, X: np.ndarray, rows: Rows) -> np.ndarray:
    """Of the linear predictor: the joint law given theta, plus what not knowing theta adds to beta's covariance."""
    if isinstance(record, GeneralisedLinearFit):
        return np.einsum("mi,ij,mj->m", X, np.nan_to_num(record.vcov_beta), X)
    added = np.nan_to_num(record.vcov_beta - record.vcov_conditional)
    variance = joint_variance(record, X, rows)  # type: ignore[arg-type]
    return np.maximum(variance + np.einsum("mi,ij,mj->m", X, added, X), 0.0)


def _response_bounds(
    likelihood: Likelihood, request: Request, eta: np.ndarray, se: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of a new response: its distribution mixed over the normal linear predictor."""
    trials = np.ones(len(eta))
    if request.trials is not None:
        trials = np.asarray(request.trials, dtype=float)
    distribution = likelihood.law(eta[:, None] + se[:, None] * NODES, trials[:, None])
    level = float(request.level or 0.0)
    tails, discrete, middle = ((1 - level) / 2, (1 + level) / 2), likelihood.record.discrete, likelihood.mean(eta)
    lower, upper = (_mixed_quantile(tail, distribution, discrete, middle) for tail in tails)
    return lower / trials, upper / trials


def _mixed_quantile(
    probability: float, distribution: stats.distributions.rv_frozen, discrete: bool, middle: np.ndarray
) -> np.ndarray:
    """(m,) the smallest response whose mixed distribution function reaches a probability, by bisection."""
    cdf: Callable[[np.ndarray], np.ndarray] = distribution.cdf
    if not discrete:
        return _continuous_quantile(probability, cdf, middle)
    each = distribution.ppf(probability)
    low, high = each.min(axis=1) - 1.0, each.max(axis=1)  # the mixture's lies among its parts'
    while (high - low > 1.0).any():
        at = np.floor(0.5 * (low + high))
        reached = cdf(at[:, None]) @ WEIGHTS >= probability - 1e-12
        low, high = np.where(reached, low, at), np.where(reached, at, high)
    return high


def _continuous_quantile(probability: float, cdf: Callable[[np.ndarray], np.ndarray], middle: np.ndarray) -> np.ndarray:
    """The same of measurements: a bracket around ``middle`` grows until it holds the quantile, and is halved then."""
    width = np.maximum(np.abs(middle), 1e-3)
    low, high = middle - width, middle + width
    for _ in range(200):
        short, long = cdf(low[:, None]) @ WEIGHTS > probability, cdf(high[:, None]) @ WEIGHTS < probability
        if not (short | long).any():
            break
        low, high, width = np.where(short, low - width, low), np.where(long, high + width, high), 2.0 * width
    for _ in range(80):
        at = 0.5 * (low + high)
        reached = cdf(at[:, None]) @ WEIGHTS >= probability
        low, high = np.where(reached, low, at), np.where(reached, at, high)
    return high


def simulate(design: Design, record: Record, draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """New responses at the estimates, group effects drawn anew: (n, draws), columns sim_1, sim_2, ..."""
    return simulated_frame(design, simulated(record, draws, rng))
