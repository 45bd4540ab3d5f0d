"""Predictions and simulated responses of a frequentist fit: x'beta + z'b, and their variances given theta.

Bates et al. (2015), J. Stat. Softw. 67(1), section 2: (beta, b) has a joint Gaussian law once theta is given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit, joint_variance
from hiermod.fits.tables import quantile, simulated_frame
from hiermod.fits.targets import Request
from hiermod.formula.design import Design

Record = MixedFit | LinearFit
Rows = list[tuple[np.ndarray, np.ndarray]]  # per block: level codes (m,), -1 for none, and values (m, k)


def linear_predictor(record: Record, X: np.ndarray, rows: Rows, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """offset + X beta + Z b of m rows; coefficients that could not be estimated count as 0, as in R."""
    total = X @ np.where(record.design.estimable, record.beta, 0.0) + offset
    if isinstance(record, MixedFit):
        for (codes, values), modes in zip(rows, record.modes, strict=False):
            effects = np.where((codes >= 0)[:, None], np.array(modes)[np.maximum(codes, 0)], 0.0)
            total = total + (effects * values).sum(axis=1)
    return total


def predict(design: Design, record: Record, request: Request) -> pd.DataFrame:
    """The table of a checked request: estimate, and lower and upper when it asks for an interval."""
    rows = request.group_rows(design)
    estimate = linear_predictor(record, request.rows.X, rows, request.rows.offset)
    table = pd.DataFrame({"estimate": estimate}, index=request.rows.index)
    if request.level is None:
        return table
    least_squares = isinstance(record, LinearFit) and not design.precision.sigma_known
    df = float(record.df_residual) if least_squares else np.inf  # type: ignore[union-attr]
    half = quantile(request.level, df) * np.sqrt(_variance(design, record, request, rows))
    return request.with_notes(table.assign(lower=estimate - half, upper=estimate + half))


def _variance(design: Design, record: Record, request: Request, rows: Rows) -> np.ndarray:
    X = request.rows.X
    if isinstance(record, MixedFit):
        variance = joint_variance(record, X, rows)
        if request.target == "new_group" or (request.target == "conditional" and request.new_levels == "sample"):
            for (codes, values), Lambda in zip(rows, record.Lambda, strict=True):
                spread = record.sigma**2 * np.square(values @ Lambda).sum(axis=1)
                variance = variance + np.where(codes < 0, spread, 0.0)
    else:
        variance = np.einsum("mi,ij,mj->m", X, np.nan_to_num(record.vcov_beta), X)
    if request.kind == "response":
        variance = variance + (record.sigma * request.noise_scale) ** 2  # sigma is 1 where se gives the noise
    return variance


def simulate(design: Design, record: Record, draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """New responses at the estimates, group effects drawn anew: (n, draws), columns sim_1, sim_2, ..."""
    mean = linear_predictor(record, design.X, [], 0.0 if design.offset is None else design.offset)
    noise = design.precision.sd(record.sigma)
    simulated = np.empty((design.nobs, draws))
    for d in range(draws):
        y = mean + noise * rng.standard_normal(design.nobs)
        if isinstance(record, MixedFit):
            for block, Lambda in zip(design.blocks, record.Lambda, strict=True):
                b = record.sigma * rng.standard_normal((len(block.levels), block.size)) @ Lambda.T
                y = y + (block.values * b[block.codes]).sum(axis=1)
        simulated[:, d] = y
    return simulated_frame(design, simulated.T)
