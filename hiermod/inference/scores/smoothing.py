"""log of a mean under importance weights, its Pareto k and Monte Carlo error (Vehtari et al. 2024, JMLR 25(72))."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.core import versions
from hiermod.errors import UnsupportedError

FEWEST = 25  # draws: PSIS fits its tail to a fifth of them, five at least


@dataclass(frozen=True, eq=False)
class Estimates:
    """One number per unit, (U,) each."""

    elpd: np.ndarray
    k: np.ndarray
    mcse: np.ndarray


def log_mean(log_ratio: np.ndarray, log_value: np.ndarray, efficiency: float = 1.0) -> Estimates:
    """log of the mean of exp(log_value) under weights proportional to exp(log_ratio), both (U, S), smoothed.

    efficiency: effective sample size of the draws over S, which the Monte Carlo error needs."""
    log_weights, k = _smoothed(log_ratio)
    weights = np.exp(log_weights)
    top = log_value.max(axis=1, keepdims=True)
    value = np.exp(log_value - top)
    mean = np.einsum("us,us->u", weights, value)
    weights *= value / mean[:, None] - 1.0
    return Estimates(np.log(mean) + top[:, 0], k, np.sqrt(np.einsum("us,us->u", weights, weights) / efficiency))


def _smoothed(log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log weights (U, S) summing to 1 and k (U,); equal weights and nan where the ratios do not vary."""
    U, S = log_ratio.shape
    if S < FEWEST:
        raise UnsupportedError(
            f"a score needs at least {FEWEST} posterior draws to judge its weights, and this fit has {S}: take more"
        )
    log_weights, k = np.full((U, S), -np.log(S)), np.full(U, np.nan)
    varies = np.ptp(log_ratio, axis=1) > 0
    if varies.all():
        return versions.psis(log_ratio)
    if varies.any():
        log_weights[varies], k[varies] = versions.psis(log_ratio[varies])
    return log_weights, k


def leave_out(log_p: np.ndarray, efficiency: float = 1.0) -> Estimates:
    """PSIS leave-one-out: log_p (U, S) log densities of each unit at posterior draws; weights are their inverses."""
    return log_mean(-log_p, log_p, efficiency)


def log_average(log_value: np.ndarray) -> np.ndarray:
    """(U,) log of the plain mean over draws of exp(log_value) (U, S)."""
    top = log_value.max(axis=1, keepdims=True)
    return np.log(np.exp(log_value - top).mean(axis=1)) + top[:, 0]


def efficiency(draws: np.ndarray) -> float:
    """Mean bulk effective sample size of draws (c, d, D) over their number, at most 1; 1 where it is unknown."""
    ess = versions.ess_bulk(draws)
    known = ess[np.isfinite(ess)]
    return float(min(1.0, known.mean() / (draws.shape[0] * draws.shape[1]))) if known.size else 1.0
