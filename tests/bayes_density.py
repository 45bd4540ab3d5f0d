"""The joint log density of a Gaussian model in PyMC's unconstrained space, written with numpy and scipy alone.

Correlation matrices come from partial correlations by the recursion of Lewandowski, Kurowicka and Joe (2009, section
2.4) and numpy's Cholesky, another way than the graph's."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from hiermod.formula.design import Block, Design


def random_point(graph: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random values for every unconstrained variable of a PyMC model."""
    return random_points(graph, rng, 1)[0]


def random_points(graph: Any, rng: np.random.Generator, count: int) -> list[dict[str, np.ndarray]]:
    """Several of them: PyMC compiles a graph to find its variables' shapes."""
    start = graph.initial_point()
    return [{name: 0.7 * rng.normal(size=np.shape(value)) for name, value in start.items()} for _ in range(count)]


def correlation_from_partials(u: np.ndarray, k: int) -> np.ndarray:
    """(k, k) from k (k - 1) / 2 numbers in (0, 1), row after row: entry (i, j) is (1 + rho_ij given 0..j-1) / 2."""
    partial = np.zeros((k, k))
    partial[np.tril_indices(k, -1)] = 2 * u - 1
    R = np.eye(k)
    for i in range(k):
        for j in range(i):
            rho = partial[i, j]
            for m in reversed(range(j)):
                rho = rho * np.sqrt((1 - partial[i, m] ** 2) * (1 - partial[j, m] ** 2)) + partial[i, m] * partial[j, m]
            R[i, j] = R[j, i] = rho
    return R


def hand_logp(point: dict[str, np.ndarray], design: Design, priors: dict[str, Any], eta: float, center: bool) -> float:
    """log p(y, parameters) + log Jacobians.  ``priors``: frozen scipy distributions for Intercept, sigma, "common" (all
    other coefficients) and "sd" (all group sds)."""
    total = 0.0
    beta = np.empty(len(design.common))
    for term in dict.fromkeys(design.common_terms):
        columns = [i for i, owner in enumerate(design.common_terms) if owner == term]
        beta[columns] = point[term]
        total += np.sum((priors["Intercept"] if term == "Intercept" else priors["common"]).logpdf(point[term]))
    X = design.X.copy()
    if center:
        slopes = [i for i, name in enumerate(design.common) if name != "Intercept"]
        X[:, slopes] -= X[:, slopes].mean(axis=0)
    mean = X @ beta
    for block in design.blocks:
        b, log_density = _block(point, block, priors["sd"], eta)
        total += log_density
        mean = mean + np.sum(b[block.codes] * block.values, axis=1)
    if design.se is not None:
        sd: Any = design.se
    else:
        log_sigma = float(point["sigma_log__"])
        total += priors["sigma"].logpdf(np.exp(log_sigma)) + log_sigma
        sd = np.exp(log_sigma) / np.sqrt(np.ones(design.nobs) if design.weights is None else design.weights)
    return float(total + stats.norm(mean, sd).logpdf(design.y).sum())


def _block(point: dict[str, np.ndarray], block: Block, sd_prior: Any, eta: float) -> tuple[np.ndarray, float]:
    """b (J, k) and the log density of the block's parameters, Jacobians included."""
    total, sds, z = 0.0, [], []
    for column in block.columns:
        siblings = [one.level for one in block.columns if one.variable == column.variable]
        at = siblings.index(column.level)
        log_sd = np.atleast_1d(point[f"{column.variable}_sigma_log__"])[at]
        offset = point[f"{column.variable}_offset"]
        offset = offset if column.level is None else offset[:, at]
        total += sd_prior.logpdf(np.exp(log_sd)) + log_sd + stats.norm.logpdf(offset).sum()
        sds.append(np.exp(log_sd))
        z.append(offset)
    k = block.size
    R = np.eye(k)
    if k > 1:
        u = 1 / (1 + np.exp(-point[f"{block.corr_name}_partial_offset_logodds__"]))
        shape = np.array([eta + (k - 2 - j) / 2 for i in range(k) for j in range(i)])
        total += np.sum(stats.beta(shape, shape).logpdf(u) + np.log(u * (1 - u)))
        R = correlation_from_partials(u, k)
    return (np.array(sds)[:, None] * (np.linalg.cholesky(R) @ np.array(z))).T, float(total)
