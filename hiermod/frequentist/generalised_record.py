"""GeneralisedMixedFit: a generalised linear mixed model at its optimum, as numbers (lme4's glmer).

There is no residual variance, so sigma is 1 and known.  Tables, names of rows and warnings are added by results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hiermod.errors import FitError
from hiermod.formula.design import Design, FrozenArrays, read_only
from hiermod.frequentist.families import Likelihood
from hiermod.frequentist.optimise import Convergence
from hiermod.kernel import conditional
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation


@dataclass(frozen=True, eq=False)
class GeneralisedMixedFit(FrozenArrays):
    """Blocks stand in formula order, theta in lme4's.  Arrays are read-only; nan where a column is not estimable.

    ``problem`` holds the cross-products at the last weights: with ``factor`` it gives the joint law of (beta, b) given
    theta, in the quadratic approximation at the modes."""

    design: Design
    likelihood: Likelihood
    problem: Problem
    nodes: int  # 1: Laplace; more: adaptive Gauss-Hermite quadrature
    theta: np.ndarray  # (n_theta,)
    theta_names: tuple[str, ...]
    Lambda: tuple[np.ndarray, ...]  # (k, k) per block: covariance of b is Lambda Lambda'
    beta: np.ndarray  # (p,)
    vcov_beta: np.ndarray  # (p, p) by ``vcov_method``
    vcov_conditional: np.ndarray  # (p, p) given theta (lme4's vcov(use.hessian = FALSE))
    vcov_method: str  # "hessian" over (theta, beta), or "conditional" where that is not positive
    criterion: float  # -2 log likelihood with its constants
    npar: int  # estimable coefficients and covariance parameters
    convergence: Convergence
    singular: bool
    null_directions: tuple[np.ndarray, ...]  # (k, r) per block: see kernel.covariance
    modes: tuple[np.ndarray, ...]  # (J, k) per block: conditional modes b
    population_eta: np.ndarray  # (n,) offset + X beta
    eta: np.ndarray  # (n,) offset + X beta + Z b
    fitted: np.ndarray  # (n,) mean at eta: probability or expected count
    iterations: int  # of the last search for the modes

    reml = False
    sigma = 1.0
    sigma_known = True

    @property
    def loglik(self) -> float:
        """Log likelihood with its constants, R's logLik (for one node; R leaves them out for more)."""
        return -0.5 * self.criterion

    @property
    def converged(self) -> bool:
        """The gradient is zero and the criterion curves upwards."""
        return self.convergence.converged

    @property
    def covariance(self) -> tuple[np.ndarray, ...]:
        """Sigma = Lambda Lambda' of each block, (k, k), on the scale of the linear predictor."""
        return tuple(Lam @ Lam.T for Lam in self.Lambda)

    @property
    def residual_deviance(self) -> float:
        """Sum of the squared deviance residuals given the modes: what lme4's deviance(glmer fit) returns."""
        return float(self.likelihood.unit_deviances(self.eta).sum())

    @cached_property
    def factor(self) -> Factorisation:
        """The blocked Cholesky factor at theta and the last weights."""
        factor = self.problem.factorise(self.theta)
        if factor is None:
            raise FitError("the penalised normal equations could not be factorised again at the optimum")
        return factor

    @cached_property
    def cond_cov(self) -> tuple[np.ndarray, ...]:
        """(J, k, k) per block: covariance of b given theta and beta at the modes (lme4's condVar)."""
        return tuple(read_only(block) for block in conditional.covariance_blocks(self.problem, self.factor))

    @property
    def cond_sd(self) -> tuple[np.ndarray, ...]:
        """(J, k) per block: lme4's condsd.  Rounding may leave -1e-17 where a variance is 0."""
        return tuple(np.sqrt(np.einsum("jaa->ja", block).clip(min=0.0)) for block in self.cond_cov)
