"""-2 log likelihood of a generalised model with one parameter held, for its profile (Bates et al. 2015, section 5).

The same coordinates of sds and correlations as for Gaussian models (``held.py``; here sigma is 1); the coefficients are
moved in standard errors, gamma = centre + T z with T T' their covariance, so that every coordinate is of order one.
The criterion is the one that was fitted: Laplace's, the quadrature's; without group effects the likelihood itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from hiermod.engines.likelihood.generalised import criterion_of, rows_of
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.laplace import by_block
from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.inference.profile.deviance import Held, Parameter
from hiermod.kernel.conditioning import condition
from hiermod.kernel.criterion import Problem, build_problem


class Criterion(Protocol):
    """-2 log likelihood at whitened Lambdas (one for each factor) and gamma, with its gradients; None out of reach."""

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray) -> tuple[float, list[np.ndarray], np.ndarray] | None:
        """The value, a gradient (K, K) for each factor, one (p,) for gamma."""


class Coefficients:
    """gamma = R beta as numbers of order one: (phi, w) with coefficient ``column`` held at estimate + se phi, else w.

    T (p, p): any root of gamma's covariance."""

    def __init__(self, R: np.ndarray, beta: np.ndarray, T: np.ndarray, column: int | None) -> None:
        self.centre, self.T = R @ beta, T
        self.along, self.across = np.zeros(len(beta)), np.eye(len(beta))
        self.estimate, self.se = np.nan, np.nan
        if column is None:
            return
        a = T.T @ np.linalg.solve(R.T, np.eye(len(beta))[column])  # beta_i - estimate = a'z
        self.estimate, self.se = float(beta[column]), float(np.linalg.norm(a))
        unit = a / self.se
        self.along = unit
        self.across = np.linalg.svd(unit[None])[2][1:].T  # orthonormal, (p, p - 1)

    @property
    def free(self) -> int:
        """How many numbers w has."""
        return self.across.shape[1]

    def gamma(self, phi: float, w: np.ndarray) -> np.ndarray:
        """(p,) coefficients of the orthonormal columns."""
        return self.centre + self.T @ (phi * self.along + self.across @ w)

    def pulled_back(self, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        """d / dphi and d / dw from d / dgamma."""
        z = self.T.T @ gradient
        return float(self.along @ z), self.across.T @ z


class GeneralisedHeld(Held):
    """The criterion as a function of (phi, x); a coefficient's phi counts standard errors from its estimate.

    x: the other elements of the Lambdas as in ``Held``, then the coefficients' w."""

    def __init__(
        self,
        problem: Problem,
        criterion: Criterion,
        parameter: Parameter,
        lambdas: tuple[np.ndarray, ...],
        beta: np.ndarray,
        T: np.ndarray,
    ) -> None:
        """problem: with sigma known; lambdas (k, k) as typed and the estimable beta (p,), where the search starts."""
        super().__init__(problem, parameter, lambdas, 1.0, beta)
        self.criterion = criterion
        fixed = parameter.kind == "fixed"
        self.coefficients = Coefficients(problem.R, beta, T, parameter.i if fixed else None)
        self.own = len(self.start)
        if fixed:
            self.phi = 0.0
        self.start = np.concatenate([self.start, np.zeros(self.coefficients.free)])
        self.bound = np.concatenate([self.bound, np.full(self.coefficients.free, -np.inf)])

    def natural(self, phi: float) -> float:
        """The parameter itself at phi."""
        if self.parameter.kind == "fixed":
            return self.coefficients.estimate + self.coefficients.se * phi
        return super().natural(phi)

    def natural_slope(self, phi: float) -> float:
        """d parameter / d phi."""
        return self.coefficients.se if self.parameter.kind == "fixed" else super().natural_slope(phi)

    def theta(self, phi: float, x: np.ndarray) -> np.ndarray:
        """lme4's theta at (phi, x), a start for a new search."""
        return super().theta(phi, x[: self.own])

    def __call__(self, phi: float, x: np.ndarray) -> tuple[float, float, np.ndarray]:
        """(criterion, d / dphi, d / dx); (inf, nan, nan) where it could not be computed."""
        self.evaluations += 1
        own, w = x[: self.own], x[self.own :]
        at, fixed = self.lambdas(phi, own), self.parameter.kind == "fixed"
        gamma = self.coefficients.gamma(phi if fixed else 0.0, w)
        with np.errstate(all="ignore"):
            found = self.criterion.at(self.problem.by_factor(at), gamma)
        if found is None or not np.isfinite(found[0]):
            return np.inf, np.nan, np.full(len(x), np.nan)
        value, by_factor, by_gamma = found
        slope, by_w = self.coefficients.pulled_back(by_gamma)
        blocks = by_block(self.problem, by_factor)
        if fixed:
            return value, slope, np.concatenate([self.problem.template.pack(blocks), by_w])
        slope, parts = self.pulled_back(phi, own, blocks, 1.0)
        return value, slope, np.concatenate([*parts, by_w])


class _Likelihood:
    """-2 log likelihood without group effects."""

    def __init__(self, likelihood: Likelihood, Q: np.ndarray, offset: np.ndarray) -> None:
        self.likelihood, self.Q, self.offset = likelihood, Q, offset

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray) -> tuple[float, list[np.ndarray], np.ndarray]:
        eta = self.offset + self.Q @ gamma
        return -2.0 * self.likelihood.loglik(eta), [], -2.0 * (self.Q.T @ self.likelihood.score(eta))


def held_functions(fit: GeneralisedMixedFit | GeneralisedLinearFit) -> Callable[[Parameter], GeneralisedHeld]:
    """What makes the function to profile out of a parameter; the rows are prepared once."""
    design = fit.design
    used = np.ix_(design.estimable, design.estimable)
    beta = fit.beta[design.estimable]
    criterion: Criterion
    if isinstance(fit, GeneralisedMixedFit):
        criterion = criterion_of(rows_of(design), fit.likelihood, design, fit.nodes)
        problem, lambdas = fit.problem, fit.Lambda
    else:
        parts = condition(np.zeros(design.nobs), design.X[:, design.estimable])
        offset = np.zeros(design.nobs) if design.offset is None else np.asarray(design.offset, dtype=float)
        criterion = _Likelihood(fit.likelihood, parts.Q, offset)
        problem, lambdas = build_problem(np.zeros(design.nobs), design.X[:, design.estimable], ()), ()
    T = problem.R @ np.linalg.cholesky(fit.vcov_beta[used]) if len(beta) else np.zeros((0, 0))
    return lambda parameter: GeneralisedHeld(problem, criterion, parameter, lambdas, beta, T)
