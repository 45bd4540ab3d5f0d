"""What every mixed fit reads off its theta: covariances of the group effects, the factor, and lme4's condVar."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from hiermod.engines.likelihood.optimise import Convergence
from hiermod.errors import FitError
from hiermod.formula.design import FrozenArrays, read_only
from hiermod.kernel import conditional
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation


class AtTheta(FrozenArrays):
    """Base of the records of mixed fits, which have these fields; sigma is 1 for generalised ones."""

    problem: Problem
    theta: np.ndarray
    Lambda: tuple[np.ndarray, ...]
    sigma: float
    criterion: float
    convergence: Convergence

    @property
    def loglik(self) -> float:
        """Log likelihood with its constants, R's logLik: the REML one for a REML fit."""
        return -0.5 * self.criterion

    @property
    def converged(self) -> bool:
        """The gradient is zero and no direction goes down."""
        return self.convergence.converged

    @property
    def covariance(self) -> tuple[np.ndarray, ...]:
        """Sigma = sigma^2 Lambda Lambda' of each block, (k, k), units of y (of the linear predictor) squared."""
        return tuple(self.sigma**2 * Lam @ Lam.T for Lam in self.Lambda)

    @cached_property
    def factor(self) -> Factorisation:
        """The blocked Cholesky factor at theta (generalised fits: and the last weights)."""
        factor = self.problem.factorise(self.theta)
        if factor is None:
            raise FitError("the penalised normal equations could not be factorised again at the optimum")
        return factor

    @cached_property
    def cond_cov(self) -> tuple[np.ndarray, ...]:
        """(J, k, k) per block: lme4's condVar, the covariance of b given theta, sigma and beta (or the modes)."""
        return tuple(
            read_only(self.sigma**2 * block) for block in conditional.covariance_blocks(self.problem, self.factor)
        )

    @property
    def cond_sd(self) -> tuple[np.ndarray, ...]:
        """(J, k) per block: lme4's condsd.  Rounding may leave -1e-17 where a variance is 0."""
        return tuple(np.sqrt(np.einsum("jaa->ja", block).clip(min=0.0)) for block in self.cond_cov)
