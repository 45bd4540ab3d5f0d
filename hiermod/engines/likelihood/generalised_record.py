"""GeneralisedMixedFit: a generalised linear mixed model at its optimum, as numbers (lme4's glmer).

There is no residual variance, so sigma is 1 and known.  Tables, names of rows and warnings are added by results."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hiermod.engines.likelihood.covariances_at_theta import AtTheta
from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.engines.likelihood.optimise import Convergence
from hiermod.formula.design import Design
from hiermod.kernel.criterion import Problem


@dataclass(frozen=True, eq=False)
class GeneralisedMixedFit(AtTheta):
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
    auxiliary: tuple[float, ...] = ()  # the family's further parameters, on scales without ends
    vcov_auxiliary: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (K, K), on scales without ends

    reml = False
    sigma = 1.0
    sigma_known = True

    @property
    def residual_deviance(self) -> float:
        """Sum of the squared deviance residuals given the modes: what lme4's deviance(glmer fit) returns."""
        return float(self.likelihood.unit_deviances(self.eta).sum())
