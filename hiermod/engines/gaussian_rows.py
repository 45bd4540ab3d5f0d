"""The rows of a Gaussian model at every draw of a Posterior: linear predictor, log likelihood, new responses."""

from __future__ import annotations

import numpy as np

from hiermod.engines.posterior import Posterior
from hiermod.formula.design import Design

ALL = slice(None)
NUMBERS_AT_ONCE = 4_000_000  # draws x rows of random numbers at once: 32 MB beside the result


def log_likelihood(record: Posterior, design: Design) -> np.ndarray:
    """log p(y_i | beta, b, sigma) of a Gaussian model, (c, d, n)."""
    sd = residual_sd(record, design)
    z = (design.y - linear_predictor(record, design)) / sd
    return -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def residual_sd(record: Posterior, design: Design) -> np.ndarray:
    """Of each row at every draw of a Gaussian model, broadcastable to (c, d, n)."""
    return design.precision.sd(record.sigma)


def linear_predictor(record: Posterior, design: Design) -> np.ndarray:
    """X beta + Z b + offset at every draw, (c, d, n)."""
    eta = record.beta @ design.X.T
    if design.offset is not None:
        eta = eta + design.offset
    for i, block in enumerate(design.blocks):
        levels, at = np.unique(block.codes, return_inverse=True) if record.waits(i) else (ALL, block.codes)
        b = record.effects_of(i, levels)
        for k in range(block.size):
            eta = eta + (b[..., k][:, at] * block.values[:, k]).reshape(eta.shape)
    return eta


def gaussian_responses(record: Posterior, design: Design, rng: np.random.Generator) -> np.ndarray:
    """X beta + Z b + noise at every draw, (c, d, n)."""
    y = linear_predictor(record, design)
    sd = np.broadcast_to(residual_sd(record, design), y.shape)
    step = max(1, NUMBERS_AT_ONCE // max(design.nobs, 1))
    for chain, sds in zip(y, sd, strict=True):
        for start in range(0, len(chain), step):
            part = chain[start : start + step]
            part += sds[start : start + step] * rng.standard_normal(part.shape)
    return y
