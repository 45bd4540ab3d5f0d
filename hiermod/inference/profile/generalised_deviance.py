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
from hiermod.engines.likelihood.laplace import Slopes, by_block
from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.inference.profile.deviance import Held, Parameter
from hiermod.kernel.conditioning import condition
from hiermod.kernel.criterion import Problem, build_problem


class Criterion(Protocol):
    """-2 log likelihood at whitened Lambdas (one for each factor) and gamma, with its gradients; None out of reach."""

    likelihood: Likelihood

    def set_auxiliary(self, a: np.ndarray) -> None:
        """The family's further parameters, from now on."""

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray) -> Slopes | None:
        """The value and its gradients."""


class Coefficients:
    """(gamma, a) as numbers of order one: (phi, w), one of them held at estimate + se phi, else w.

    gamma = R beta and the family's further parameters a; T: any root of their covariance."""

    def __init__(self, R: np.ndarray, beta: np.ndarray, a: np.ndarray, T: np.ndarray, held: Parameter) -> None:
        self.p = len(beta)
        self.centre, self.T = np.concatenate([R @ beta, a]), T
        self.along, self.across = np.zeros(len(self.centre)), np.eye(len(self.centre))
        self.estimate, self.se = np.nan, np.nan
        if held.kind not in ("fixed", "auxiliary"):
            return
        direction = np.zeros(len(self.centre))
        if held.kind == "fixed":
            direction[: self.p] = np.linalg.solve(R.T, np.eye(self.p)[held.i])
            self.estimate = float(beta[held.i])
        else:
            direction[self.p + held.i] = 1.0
            self.estimate = float(a[held.i])
        along = T.T @ direction  # the parameter less its estimate is along'z
        self.se = float(np.linalg.norm(along))
        self.along = along / self.se
        self.across = np.linalg.svd(self.along[None])[2][1:].T  # orthonormal, one column less

    @property
    def free(self) -> int:
        """How many numbers w has."""
        return self.across.shape[1]

    def at(self, phi: float, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p,) coefficients of the orthonormal columns, and a."""
        both = self.centre + self.T @ (phi * self.along + self.across @ w)
        return both[: self.p], both[self.p :]

    def pulled_back(self, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        """d / dphi and d / dw from d / d(gamma, a)."""
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
        self.criterion, self.likelihood = criterion, criterion.likelihood
        self.coefficients = Coefficients(problem.R, beta, np.array(self.likelihood.auxiliary), T, parameter)
        self.own = len(self.start)
        if self.counts_errors:
            self.phi = 0.0
        self.start = np.concatenate([self.start, np.zeros(self.coefficients.free)])
        self.bound = np.concatenate([self.bound, np.full(self.coefficients.free, -np.inf)])

    @property
    def counts_errors(self) -> bool:
        """Whether phi counts standard errors."""
        return self.parameter.kind in ("fixed", "auxiliary")

    def natural(self, phi: float) -> float:
        """The parameter itself at phi."""
        if not self.counts_errors:
            return super().natural(phi)
        at = self.coefficients.estimate + self.coefficients.se * phi
        return at if self.parameter.kind == "fixed" else self.likelihood.natural(self.parameter.i, at)

    def natural_slope(self, phi: float) -> float:
        """d parameter / d phi."""
        if not self.counts_errors:
            return super().natural_slope(phi)
        if self.parameter.kind == "fixed":
            return self.coefficients.se
        at = self.coefficients.estimate + self.coefficients.se * phi
        return self.coefficients.se * self.likelihood.natural_slope(self.parameter.i, at)

    def theta(self, phi: float, x: np.ndarray) -> np.ndarray:
        """lme4's theta at (phi, x), a start for a new search."""
        return super().theta(phi, x[: self.own])

    def __call__(self, phi: float, x: np.ndarray) -> tuple[float, float, np.ndarray]:
        """(criterion, d / dphi, d / dx); (inf, nan, nan) where it could not be computed."""
        self.evaluations += 1
        own, w = x[: self.own], x[self.own :]
        at = self.lambdas(phi, own)
        gamma, a = self.coefficients.at(phi if self.counts_errors else 0.0, w)
        with np.errstate(all="ignore"):
            self.criterion.set_auxiliary(a)
            found = self.criterion.at(self.problem.by_factor(at), gamma)
        if found is None or not np.isfinite([found.value, *found.gamma, *found.a]).all():
            return np.inf, np.nan, np.full(len(x), np.nan)
        slope, by_w = self.coefficients.pulled_back(np.concatenate([found.gamma, found.a]))
        blocks = by_block(self.problem, found.by_factor)
        if self.counts_errors:
            return found.value, slope, np.concatenate([self.problem.template.pack(blocks), by_w])
        slope, parts = self.pulled_back(phi, own, blocks, 1.0)
        return found.value, slope, np.concatenate([*parts, by_w])


class _Likelihood:
    """-2 log likelihood without group effects."""

    def __init__(self, likelihood: Likelihood, Q: np.ndarray, offset: np.ndarray) -> None:
        self.likelihood, self.Q, self.offset = likelihood, Q, offset

    def set_auxiliary(self, a: np.ndarray) -> None:
        if len(a):
            self.likelihood = self.likelihood.at(a)

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray) -> Slopes:
        eta = self.offset + self.Q @ gamma
        by_gamma = -2.0 * (self.Q.T @ self.likelihood.score(eta))
        by_a = -2.0 * self.likelihood.by_auxiliary(eta)[0].sum(axis=1)
        return Slopes(-2.0 * self.likelihood.loglik(eta), [], by_gamma, by_a)


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
    p, K = len(beta), len(fit.auxiliary)
    T = np.zeros((p + K, p + K))
    if p:
        T[:p, :p] = problem.R @ np.linalg.cholesky(fit.vcov_beta[used])
    variances = np.diag(fit.vcov_auxiliary)
    T[p:, p:] = np.diag(np.sqrt(np.where(np.isfinite(variances) & (variances > 0), variances, 1.0)))
    return lambda parameter: GeneralisedHeld(problem, criterion, parameter, lambdas, beta, T)
