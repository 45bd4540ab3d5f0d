"""Small generalised models of every structure that the kernel tells apart, and their dense matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from kernel_cases import frame as linear_frame
from scipy.linalg import block_diag

from hiermod.engines.likelihood.laplace import LaplaceCriterion
from hiermod.engines.likelihood.likelihoods import likelihood_of
from hiermod.engines.likelihood.quadrature import QuadratureCriterion
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.weighted import WeightedProblem, prepare

RESPONSES = {
    "binomial logit": ("p(k, n)", "binomial", "logit"),
    "binomial probit": ("p(k, n)", "binomial", "probit"),
    "bernoulli cloglog": ("one", "bernoulli", "cloglog"),
    "poisson log": ("count", "poisson", "log"),
}
STRUCTURES = {
    "one factor": "x + (1 | a)",
    "slopes, crossed, offset": "x + offset(0.1 * z) + (x | a) + (z | b) + (1 | site)",
    "chain of three": "x + (z | site) + (x | batch) + (1 | cask)",
    "nested and crossed": "x + (x | cask) + (1 | batch) + (z | a) + (1 | b) + (1 | site)",
    "uncorrelated": "x + (x || a)",
    "no fixed part": "0 + (1 | a)",
}


def frame() -> pd.DataFrame:
    """150 rows with responses of every family; seed 4."""
    rng = np.random.default_rng(4)
    data = linear_frame()
    data["x"] = (data["x"] - 5) / 3
    eta = 0.3 + 0.4 * data["x"] + rng.normal(0, 0.6, 15)[data["a"].cat.codes] + rng.normal(0, 0.4, len(data))
    data["n"] = rng.integers(1, 9, len(data))
    data["k"] = rng.binomial(data["n"], 1 / (1 + np.exp(-eta)))
    data["one"] = (rng.random(len(data)) < 1 / (1 + np.exp(-eta))).astype(float)
    data["count"] = rng.poisson(np.exp(eta))
    return data


def terms_of(design: Design) -> list[GroupTerm]:
    return [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]


def criterion_of(response: str, structure: str, nodes: int = 1) -> tuple[Design, LaplaceCriterion]:
    """The criterion of a named response and structure, a function of (x, gamma)."""
    left, family, link = RESPONSES[response]
    design = build_design(f"{left} ~ {structure}", frame(), family=family)
    likelihood = likelihood_of(design, family, link)
    rows = prepare(design.X, terms_of(design))
    offset = np.zeros(design.nobs) if design.offset is None else design.offset
    if nodes == 1:
        return design, LaplaceCriterion(rows, likelihood, offset)
    return design, QuadratureCriterion(rows, likelihood, offset, nodes)


def dense(rows: WeightedProblem, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Z (n, q) in whitened columns and Lambda (q, q), factor after factor."""
    columns, blocks = [], []
    for factor, Lam in zip(rows.factors, rows.problem.factor_lambdas(x), strict=True):
        Z = np.zeros((len(rows.Q), factor.n_levels, factor.size))
        Z[np.arange(len(rows.Q)), factor.codes] = factor.values
        columns.append(Z.reshape(len(rows.Q), -1))
        blocks.append(np.kron(np.eye(factor.n_levels), Lam))
    return np.hstack(columns), block_diag(*blocks)


def differences(function, point: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences: error about step^2 and rounding / step, both near 1e-9 of the function's size."""
    gradient = np.empty(len(point))
    for i in range(len(point)):
        up, down = point.copy(), point.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (function(up) - function(down)) / (2 * step)
    return gradient
