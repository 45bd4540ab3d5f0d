"""The Laplace approximation of -2 log likelihood, and its gradient with respect to theta, beta and further parameters.

D(theta, beta, a) = h(u~) + log|M|, M = Lambda'Z'WZ Lambda + I at the conditional modes u~.  For bernoulli, binomial and
poisson models W are Fisher's weights, as in lme4's glmer with nAGQ = 1 (for probit and cloglog others take the observed
ones, a slightly different number); for every other family the observed ones, as in glmmTMB.  The gradient follows the
modes: log|M| depends on eta through W, and eta on the parameters through u~ too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.engines.likelihood.pirls import Mode, find_mode
from hiermod.kernel.adjoint import lambda_gradients
from hiermod.kernel.criterion import Problem
from hiermod.kernel.weighted import WeightedProblem
from hiermod.kernel.weighted_solve import row_variances, solve


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """The criterion at one point, and its gradients by theta in whitened coordinates, by gamma = R beta, by a."""

    value: float
    x: np.ndarray  # (n_theta,)
    gamma: np.ndarray  # (p,)
    a: np.ndarray  # (K,)


@dataclass(frozen=True, eq=False, slots=True)
class Slopes:
    """The same with the gradients by every element of each factor's Lambda (K, K)."""

    value: float
    by_factor: list[np.ndarray]
    gamma: np.ndarray
    a: np.ndarray


class LaplaceCriterion:
    """D as a function; remembers its last modes, from which the next search for them starts."""

    def __init__(self, rows: WeightedProblem, likelihood: Likelihood, offset: np.ndarray) -> None:
        self.rows, self.likelihood, self.offset = rows, likelihood, offset
        self._u = [np.zeros((factor.n_levels, factor.size)) for factor in rows.factors]
        self._gamma = np.zeros(rows.problem.p)

    def mode(self, x: np.ndarray, gamma: np.ndarray | None) -> Mode | None:
        """The conditional modes at (theta, beta), or jointly with beta when gamma is None."""
        return self.mode_at(self.rows.problem.factor_lambdas(x), gamma)

    def mode_at(self, lambdas: list[np.ndarray], gamma: np.ndarray | None) -> Mode | None:
        """The same at whitened Lambdas (K, K), one for each factor, lower triangular or not."""
        start = self._gamma if gamma is None else gamma
        mode = find_mode(self.rows, self.likelihood, self.offset, lambdas, start, self._u, gamma is None)
        if mode is not None:
            self._u, self._gamma = mode.u, mode.gamma
        return mode

    def start_at(self, gamma: np.ndarray) -> None:
        """Where the first joint search starts."""
        self._gamma = gamma

    def value_of(self, mode: Mode) -> float:
        """D at a mode."""
        return laplace_value(mode)

    def set_auxiliary(self, a: np.ndarray) -> None:
        """The family's further parameters, from now on."""
        if len(a):
            self.likelihood = self.likelihood.at(a)

    def __call__(self, x: np.ndarray, gamma: np.ndarray | None, a: np.ndarray | None = None) -> Evaluation:
        """D and its gradient.  With gamma None beta minimises h (lme4's nAGQ = 0) and gamma's gradient is empty.

        a: the family's further parameters; None for those of the last call."""
        problem = self.rows.problem
        if a is not None:
            self.set_auxiliary(a)
        found = self.at(problem.factor_lambdas(x), gamma)
        if found is None:  # out of reach in floating point: the search turns back
            fixed = np.full(0 if gamma is None else problem.p, np.nan)
            further = np.full(len(self.likelihood.auxiliary), np.nan)
            return Evaluation(np.inf, np.full(problem.template.n_theta, np.nan), fixed, further)
        return Evaluation(found.value, problem.template.pack(by_block(problem, found.by_factor)), found.gamma, found.a)

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray | None) -> Slopes | None:
        """D and its gradients, those by each factor's Lambda (K, K) in every element."""
        mode = self.mode_at(lambdas, gamma)
        if mode is None:
            return None
        variances = row_variances(mode.expected, self.rows.factors)
        s = mode.derivatives.slope * variances
        determinant = lambda_gradients(mode.expected, with_fixed=False, weight=0.0)
        followed = follow_modes(self.rows, mode, s, -2.0 * mode.derivatives.score, free=gamma is None)
        total = [one + other for one, other in zip(determinant, followed.by_factor, strict=True)]
        by_a, score_by_a, curvature_by_a = self.likelihood.by_auxiliary(mode.eta)
        a = -2.0 * by_a.sum(axis=1) + score_by_a @ followed.through - curvature_by_a @ variances
        return Slopes(laplace_value(mode), total, followed.gamma, a)


def laplace_value(mode: Mode) -> float:
    """h plus the log determinant of its expected curvature."""
    return mode.penalised + mode.expected.logdet_random


@dataclass(frozen=True, eq=False, slots=True)
class Followed:
    """What moves with the modes.  through (n,): d/d score of each row, by way of the modes."""

    by_factor: list[np.ndarray]  # (K, K) for each factor: d/d Lambda
    gamma: np.ndarray  # (p,) d/d gamma; empty where it is free
    through: np.ndarray


def follow_modes(rows: WeightedProblem, mode: Mode, s: np.ndarray, held: np.ndarray, free: bool) -> Followed:
    """d/d Lambda, one (K, K) for each factor, and d/d gamma of a function of eta and Lambda, along the modes.

    s (n,): its derivative with respect to eta where eta moves with u~; held (n,): the same for the part in which u~
    stands still because it is stationary there.  With t = M^-1 Lambda'Z's and v = Lambda t the modes' own movement
    takes W Z v off s and adds (Z'score) t'; where the score itself moves, u~ moves by M^-1 Lambda'Z' of that."""
    d = mode.derivatives
    found = solve(mode.observed, rows.project(s), rows.Q.T @ s if free else None)
    through = rows.combine(found.b) + (rows.Q @ found.gamma if free else 0.0)
    moving = s - d.observed * through + held
    left, score = rows.project(moving), rows.project(d.score)
    by_lambda = [z.T @ u + a.T @ t for z, u, a, t in zip(left, mode.u, score, found.u, strict=True)]
    return Followed(by_lambda, rows.Q.T @ moving if not free else np.zeros(0), through)


def by_block(problem: Problem, by_factor: list[np.ndarray]) -> list[np.ndarray]:
    """Gradients with respect to each factor's Lambda, cut into those of its blocks (k, k), in formula order."""
    blocks: list[np.ndarray] = [np.zeros((0, 0))] * len(problem.template.sizes)
    for layout, gradient in zip(problem.factors, by_factor, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            blocks[block] = gradient[where, where]
    return blocks
