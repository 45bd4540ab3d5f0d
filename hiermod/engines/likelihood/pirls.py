"""The conditional modes of the group effects by penalised iteratively reweighted least squares.

Minimises h(u) = -2 log f(y | eta) + ||u||^2, eta = offset + X beta + Z Lambda u, over u, or over (beta, u) (Bates,
lme4's vignette "Theory of generalized linear mixed models"; Bates et al. 2015 for the linear step).  Newton's method
with step halving; where h is not convex, as Student's t and mixtures may have it, Fisher's weights stand in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.families.family import Derivatives
from hiermod.kernel.elimination import Factorisation, factorise
from hiermod.kernel.weighted import WeightedProblem
from hiermod.kernel.weighted_solve import solve

TIGHT = 1e-11  # squared Newton step that is the last: the next one would be its square
ITERATIONS = 100


@dataclass(frozen=True, eq=False, slots=True)
class Mode:
    """The minimiser and everything that the Laplace criterion reads off it."""

    u: list[np.ndarray]  # (J, K) for each factor
    b: list[np.ndarray]  # Lambda u, whitened columns
    gamma: np.ndarray  # (p,) coefficients of Q
    eta: np.ndarray  # (n,)
    derivatives: Derivatives
    penalised: float  # h at the mode, constants included
    expected: Factorisation  # at the determinant's weights: Fisher's, or the observed ones
    observed: Factorisation  # at the weights of Newton's method; often the same one
    iterations: int


def find_mode(
    rows: WeightedProblem,
    likelihood: Likelihood,
    offset: np.ndarray,
    lambdas: list[np.ndarray],
    gamma: np.ndarray,
    u: list[np.ndarray],
    free: bool,
) -> Mode | None:
    """Minimise from (gamma, u).  lambdas (K, K), one for each factor, whitened; free: gamma is minimised over as well.

    None where it cannot be done in floating point (a linear predictor out of reach)."""
    b = [effects @ Lam.T for effects, Lam in zip(u, lambdas, strict=True)]
    fixed, random = rows.Q @ gamma, rows.combine(b)
    value = _penalised(likelihood, offset + fixed + random, u)
    if not np.isfinite(value):  # a start that has nothing to do with this Lambda
        u = [np.zeros_like(effects) for effects in u]
        random = np.zeros_like(random)
        value = _penalised(likelihood, offset + fixed, u)
        if not np.isfinite(value):
            return None
    for iteration in range(1, ITERATIONS + 1):
        d = likelihood.derivatives(offset + fixed + random)
        weight, factor = d.observed, factorise(rows.reweighted(d.observed).cross, lambdas)
        if factor is None and d.determinant is not None:
            weight, factor = d.expected, factorise(rows.reweighted(d.expected).cross, lambdas)
        if factor is None:
            return None
        working = d.score + weight * (random + fixed if free else random)
        found = solve(factor, rows.project(working), rows.Q.T @ working if free else None)
        new_random = rows.combine(found.b)
        new_fixed = rows.Q @ found.gamma if free else fixed
        steps = [new - old for new, old in zip(found.u, u, strict=True)]
        move = new_random - random + new_fixed - fixed
        length = float(weight @ (move * move)) + sum(float((step * step).sum()) for step in steps)
        if not np.isfinite(length):
            return None
        shrink, slack = 1.0, 1e-11 * (1.0 + abs(value))
        for _ in range(60):
            moved = [old + shrink * step for old, step in zip(u, steps, strict=True)]
            eta = offset + fixed + random + shrink * move
            new_value = _penalised(likelihood, eta, moved)
            if new_value <= value - 1e-4 * shrink * length + slack or length < TIGHT:
                break
            shrink *= 0.5
        else:
            return None
        u, value = moved, new_value
        gamma = gamma + shrink * (found.gamma - gamma) if free else gamma
        fixed, random = fixed + shrink * (new_fixed - fixed), random + shrink * (new_random - random)
        if length < TIGHT:
            return _mode(rows, likelihood, offset, lambdas, gamma, u, iteration)
    return None


def _mode(
    rows: WeightedProblem,
    likelihood: Likelihood,
    offset: np.ndarray,
    lambdas: list[np.ndarray],
    gamma: np.ndarray,
    u: list[np.ndarray],
    iterations: int,
) -> Mode | None:
    """Everything once more at the final u, without the rounding of the steps."""
    b = [effects @ Lam.T for effects, Lam in zip(u, lambdas, strict=True)]
    eta = offset + rows.Q @ gamma + rows.combine(b)
    d = likelihood.derivatives(eta)
    expected = factorise(rows.reweighted(d.weight).cross, lambdas)
    observed = expected if likelihood.canonical else factorise(rows.reweighted(d.observed).cross, lambdas)
    if expected is None or observed is None:
        return None
    return Mode(u, b, gamma, eta, d, _penalised(likelihood, eta, u), expected, observed, iterations)


def _penalised(likelihood: Likelihood, eta: np.ndarray, u: list[np.ndarray]) -> float:
    """h, inf where the likelihood cannot be had."""
    value = -2.0 * likelihood.loglik(eta) + sum(float((effects * effects).sum()) for effects in u)
    return value if np.isfinite(value) else np.inf
