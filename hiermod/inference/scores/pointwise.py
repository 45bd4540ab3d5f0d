"""Conditional leave-one-out and WAIC from pointwise log likelihoods, group effects at their draws.

Vehtari, Gelman and Gabry (2017, Statistics and Computing 27, 1413-1432), equations 10 and 13.  Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.inference.scores.smoothing import efficiency, leave_out, log_average


@dataclass(frozen=True, eq=False)
class Pointwise:
    """(n,) each; k is nan for WAIC."""

    elpd: np.ndarray
    p: np.ndarray
    k: np.ndarray
    mcse: np.ndarray


def conditional_loo(log_likelihood: np.ndarray) -> Pointwise:
    """PSIS-LOO from log p(y_i | parameters), (c, d, n)."""
    by_row = _by_row(log_likelihood)
    found = leave_out(by_row, efficiency(log_likelihood))
    return Pointwise(found.elpd, log_average(by_row) - found.elpd, found.k, found.mcse)


def waic(log_likelihood: np.ndarray) -> Pointwise:
    """WAIC on the elpd scale from log p(y_i | parameters), (c, d, n): p_i is the posterior variance of that."""
    by_row = _by_row(log_likelihood)
    log_seen, p = log_average(by_row), by_row.var(axis=1, ddof=1)
    unknown = np.full(len(p), np.nan)
    return Pointwise(log_seen - p, p, unknown, unknown)


def _by_row(log_likelihood: np.ndarray) -> np.ndarray:
    """(n, S)."""
    return np.ascontiguousarray(log_likelihood.reshape(-1, log_likelihood.shape[-1]).T)
