"""Posteriors made by hand: draws from known laws in an engine's arrays, so that results are tested without sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiermod.engines.posterior import Inference, Posterior
from hiermod.fits.bayesian import BayesianFit
from hiermod.model import Model


def inference(draws: int, chains: int, **changes: Any) -> Inference:
    values: dict[str, Any] = {
        "method": "nutpie",
        "reason": "made by hand",
        "seconds": 1.5,
        "draws": draws,
        "tune": 1000,
        "chains": chains,
        "seed": 1,
        "divergences": 0,
        "max_r_hat": 1.0,
        "min_ess_bulk": 800.0,
        "min_ess_tail": 700.0,
        "messages": (),
    }
    return Inference(**(values | changes))


def hand_made(
    model: Model,
    beta: Any = None,
    spread: float = 0.1,
    sds: float = 1.0,
    draws: int = 500,
    chains: int = 2,
    seed: int = 1,
    b: float | None = None,
    **changes: Any,
) -> BayesianFit:
    """A BayesianFit of ``model`` with independent normal coefficients, lognormal sds and uniform correlations.

    beta (p,): means of the coefficients (default 1, 2, ...); spread: their sd.  sds: the median of every sd.  b: None
    for group effects drawn from N(0, their own sds and correlations), or one number for all."""
    design, rng, shape = model.spec, np.random.default_rng(seed), (chains, draws)
    means = np.arange(1.0, len(design.common) + 1) if beta is None else np.asarray(beta, dtype=float)
    sd, corr, effects = [], [], []
    for block in design.blocks:
        k, J = block.size, len(block.levels)
        sd.append(sds * np.exp(0.2 * rng.standard_normal((*shape, k))))
        r = rng.uniform(-0.8, 0.8, shape) if k == 2 else np.zeros(shape)
        matrix = np.broadcast_to(np.eye(k), (*shape, k, k)).copy()
        if k == 2:
            matrix[..., 0, 1] = matrix[..., 1, 0] = r
        corr.append(matrix if k > 1 else None)
        L = np.linalg.cholesky(matrix)
        z = rng.standard_normal((*shape, J, k))
        drawn = np.einsum("cdij,cdJj->cdJi", L, z) * sd[-1][:, :, None, :]
        effects.append(drawn if b is None else np.full(drawn.shape, b))
    has_sigma = model.family == "gaussian" and design.se is None
    record = Posterior(
        beta=means + spread * rng.standard_normal((*shape, len(means))),
        effects=tuple(effects),
        sd=tuple(sd),
        corr=tuple(corr),
        sigma=sds * np.exp(0.1 * rng.standard_normal(shape)) if has_sigma else None,
        auxiliary={},
        inference=inference(draws, chains, **changes),
        idata=None,
    )
    return BayesianFit(design, record, model.family, model.link)
