"""log p(y_g | beta, sds, sigma, other effects) of one level's rows in a Gaussian model: the level's effects integrate
out in closed form at each draw, also where the priors of beta keep the rest from doing so (Woodbury's identity)."""

from __future__ import annotations

import numpy as np

from hiermod.engines.posterior import Posterior
from hiermod.formula.design import Design
from hiermod.inference.scores.level_quadrature import LevelLogs, effects_at, flat_draws, half_covariance

LOG_2PI = float(np.log(2 * np.pi))


def gaussian_level_logs(design: Design, record: Posterior, factor: str) -> LevelLogs:
    """For every level of a factor, in the block's order: as ``level_logs`` of generalised models."""
    own = [i for i, block in enumerate(design.blocks) if block.factor == factor]
    blocks = [design.blocks[i] for i in own]
    values = np.hstack([block.values for block in blocks])
    half = half_covariance([flat_draws(record.sd[i]) for i in own], [record.corr[i] for i in own])
    sigma = np.ones(len(half)) if record.sigma is None else record.sigma.reshape(-1)
    root = np.sqrt(design.precision.of_each_row)
    integrated, at_draws = [], []
    effects = [record.effects_of(i) for i in range(len(design.blocks))]
    for level in range(len(blocks[0].levels)):
        rows = np.flatnonzero(blocks[0].codes == level)
        mean = flat_draws(record.beta) @ design.X[rows].T
        if design.offset is not None:
            mean = mean + design.offset[rows]
        for i, block in enumerate(design.blocks):
            if i not in own:
                mean = mean + effects_at(block, effects[i], rows)
        seen = mean + sum(effects_at(design.blocks[i], effects[i], rows) for i in own)
        constant = np.log(root[rows]).sum() - len(rows) * (0.5 * LOG_2PI + np.log(sigma))
        r = (design.y[rows] - mean) * root[rows] / sigma[:, None]
        A = (root[rows, None] * values[rows]) @ half / sigma[:, None, None]  # (S, m, K)
        M = np.eye(A.shape[2]) + np.swapaxes(A, 1, 2) @ A
        t = np.einsum("smk,sm->sk", A, r)
        square = np.square(r).sum(axis=1) - np.einsum("sk,sk->s", t, np.linalg.solve(M, t[:, :, None])[:, :, 0])
        integrated.append(constant - 0.5 * (np.linalg.slogdet(M)[1] + square))
        e = (design.y[rows] - seen) * root[rows] / sigma[:, None]
        at_draws.append(constant - 0.5 * np.square(e).sum(axis=1))
    return LevelLogs(np.array(integrated), np.array(at_draws))
