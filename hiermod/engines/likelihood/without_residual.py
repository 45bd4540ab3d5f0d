"""The criterion where the residual standard deviation is 0: group effects, given the common ones, are all there is.

Where X and Z together reproduce any response, V = sigma^2 (W^-1 + Z Lambda Lambda'Z') stays regular on what X leaves
when Lambda grows and sigma falls.  The limit is a criterion with V = Z Lambda Lambda'Z', whose scale is profiled out as
sigma is elsewhere: with A an orthonormal basis of what X leaves, |A'VA| and r'A(A'VA)^-1A'r (Harville 1974, Biometrika
61(2)).  The normal equations lose their digits on the way there; A'VA is linear in Lambda Lambda' and keeps them."""

from __future__ import annotations

import numpy as np

from hiermod.engines.likelihood.other_minima import SPAN, UNIT, Values, descend, diagonals, topograph
from hiermod.formula.design import Design
from hiermod.kernel.covariance import triangle
from hiermod.kernel.criterion import Problem
from hiermod.kernel.stacks import cholesky_each, transpose

MOST_ROWS = 200  # a value costs their cube
POINTS, STARTS = 128, 16
NUMBERS = 4_000_000  # held at once


def lowest_without_residual(design: Design, problem: Problem, reml: bool) -> float:
    """The lowest criterion seen with sigma = 0, inf where there is none; for designs of at most MOST_ROWS rows."""
    values = criterion_without_residual(design, problem, reml)

    def of_z(z: np.ndarray) -> np.ndarray:
        x = UNIT * np.sinh(z)
        return values(x / np.abs(x).max(axis=1, keepdims=True))  # only ratios matter

    graph = topograph(problem.template.sizes, problem.template.order, POINTS, SPAN)
    level = of_z(graph.z)
    starts = np.argsort(level, kind="stable")[:STARTS]
    nowhere = np.full(graph.z.shape[1], np.inf)
    return float(descend(of_z, graph.z[starts], level[starts], nowhere, diagonals(problem.template))[1].min())


def criterion_without_residual(design: Design, problem: Problem, reml: bool) -> Values:
    """The limit of the criterion at t x (S, n_theta) as t grows; inf where A'Z Lambda has not full rank."""
    X = design.precision.whiten(design.X[:, design.estimable])
    y = design.precision.whiten(design.y if design.offset is None else design.y - design.offset)
    A = np.linalg.qr(X, mode="complete")[0][:, X.shape[1] :] if X.shape[1] else np.eye(len(y))
    r = A.T @ y
    products = [  # (k, k, n, n) for each block: sum over the levels of what two columns leave in V
        np.einsum("iaj,lbj->abil", values, values)
        for values in (
            problem.search_columns(i, design.precision.whiten(block.values))[:, :, None]
            * np.equal.outer(block.codes, np.arange(len(block.levels)))[:, None, :]
            for i, block in enumerate(design.blocks)
        )
    ]
    chunk = max(1, NUMBERS // len(y) ** 2)

    def some(x: np.ndarray) -> np.ndarray:
        V = np.zeros((len(x), len(y), len(y)))
        for part, k, product in zip(problem.template.slices, problem.template.sizes, products, strict=True):
            Lam = np.zeros((len(x), k, k))
            rows, columns = triangle(k)
            Lam[:, rows, columns] = x[:, part]
            V += np.einsum("sab,abil->sil", Lam @ transpose(Lam), product)
        within, good = cholesky_each(A.T @ V @ A)
        logdet = _logdet(within)
        if not reml:
            whole, regular = cholesky_each(V)
            logdet, good = _logdet(whole), good & regular
        half = np.linalg.solve(within, np.broadcast_to(r[:, None], (len(x), len(r), 1)))[..., 0]
        found = problem.value_of(logdet, np.zeros(len(x)), np.square(half).sum(axis=1), reml)
        return np.where(good & np.isfinite(found), found, np.inf)

    def values(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.concatenate([some(x[at : at + chunk]) for at in range(0, len(x), chunk)])

    return values


def _logdet(L: np.ndarray) -> np.ndarray:
    return np.asarray(2.0 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1))
