"""Generalised linear models by maximum likelihood, with R's definitions (McCullagh and Nelder 1989, section 2.5).

Fisher scoring with step halving, in orthonormal columns of X.  Perfect prediction, where no estimate exists, is found
by linear programming (Konis 2007) and refused in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linprog

from hiermod.engines.likelihood.likelihoods import Likelihood, likelihood_of
from hiermod.errors import FitError, listing
from hiermod.formula.design import Design, FrozenArrays
from hiermod.kernel.conditioning import condition

TIGHT = 1e-13  # squared length of a step, in standard errors, that counts as zero
ITERATIONS = 100
CERTAIN = 1e-6  # a row predicted this well makes separation worth a look


@dataclass(frozen=True, eq=False)
class GeneralisedLinearFit(FrozenArrays):
    """A generalised linear model at its maximum.  nan for coefficients that are not estimable."""

    design: Design
    likelihood: Likelihood
    beta: np.ndarray  # (p,)
    vcov_beta: np.ndarray  # (p, p) inverse of the expected information
    loglik: float  # with its constants
    residual_deviance: float  # R's deviance: twice the distance from the saturated model
    null_deviance: float  # the same for the intercept (and offset) alone
    npar: int
    df_residual: int
    iterations: int
    eta: np.ndarray  # (n,) linear predictor with the offset
    fitted: np.ndarray  # (n,) mean: probability or expected count
    hat: np.ndarray  # (n,) leverages

    reml = False
    sigma = 1.0
    sigma_known = True
    converged = True

    @property
    def criterion(self) -> float:
        """-2 log likelihood."""
        return -2.0 * self.loglik


def fit_glm(design: Design, family: str, link: str) -> GeneralisedLinearFit:
    """Fit a formula without bars.  FitError when the predictors tell the response apart perfectly."""
    likelihood = likelihood_of(design, family, link)
    n, p = design.nobs, int(design.estimable.sum())
    offset = np.zeros(n) if design.offset is None else np.asarray(design.offset)
    parts = condition(np.zeros(n), design.X[:, design.estimable])
    gamma, eta, iterations = scoring(likelihood, parts.Q, offset, names_of(design, parts.R))
    root = np.sqrt(likelihood.derivatives(eta).expected)
    thin, R = np.linalg.qr(parts.Q * root[:, None])
    beta, vcov = np.full(len(design.common), np.nan), np.full((len(design.common),) * 2, np.nan)
    if p:
        beta[design.estimable] = solve_triangular(parts.R, gamma)
        half = solve_triangular(R @ parts.R, np.eye(p))
        vcov[np.ix_(design.estimable, design.estimable)] = half @ half.T
    null = offset
    if design.has_intercept:
        null = scoring(likelihood, np.full((n, 1), 1.0 / np.sqrt(n)), offset, _Names((), np.eye(1)))[1]
    return GeneralisedLinearFit(
        design=design,
        likelihood=likelihood,
        beta=beta,
        vcov_beta=vcov,
        loglik=likelihood.loglik(eta),
        residual_deviance=float(likelihood.unit_deviances(eta).sum()),
        null_deviance=float(likelihood.unit_deviances(null).sum()),
        npar=p,
        df_residual=n - p,
        iterations=iterations,
        eta=eta,
        fitted=likelihood.mean(eta),
        hat=np.einsum("ij,ij->i", thin, thin),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Names:
    """What a direction in the columns of Q is called."""

    labels: tuple[str, ...]
    R: np.ndarray  # (p, p)

    def of(self, direction: np.ndarray) -> str:
        """The coefficients that a direction moves, the largest moves only."""
        beta = solve_triangular(self.R, direction)
        size = np.abs(beta) * np.sqrt(np.einsum("ij,ij->j", self.R, self.R))
        return listing([name for name, s in zip(self.labels, size, strict=False) if s > 1e-6 * size.max()], 8)


def names_of(design: Design, R: np.ndarray) -> _Names:
    """The estimable coefficients' names, with the triangle of X = QR."""
    return _Names(tuple(name for name, kept in zip(design.common, design.estimable, strict=True) if kept), R)


def scoring(
    likelihood: Likelihood, Q: np.ndarray, offset: np.ndarray, names: _Names
) -> tuple[np.ndarray, np.ndarray, int]:
    """Maximise over gamma: gamma (p,), eta (n,) and the number of iterations.  FitError for separation."""
    gamma, eta = np.zeros(Q.shape[1]), offset
    if not Q.shape[1]:
        return gamma, eta, 0
    target, value, length, iteration = likelihood.start(), -np.inf, np.inf, 0
    for iteration in range(1, ITERATIONS + 1):
        at = eta if iteration > 1 else target
        d = likelihood.derivatives(at)
        root = np.sqrt(np.maximum(d.expected, 1e-300))
        new = np.linalg.lstsq(Q * root[:, None], root * (at - offset) + d.score / root, rcond=None)[0]
        step, shrink = new - gamma, 1.0
        length = float(d.expected @ (Q @ step) ** 2)
        for _ in range(40):
            if likelihood.loglik(offset + Q @ (gamma + shrink * step)) >= value - 1e-12 * max(1.0, abs(value)):
                break
            shrink *= 0.5
        gamma = gamma + shrink * step
        eta = offset + Q @ gamma
        value = likelihood.loglik(eta)
        if iteration > 1 and length < TIGHT:
            break
    sure = (np.abs(likelihood.directions()) > 0) & (np.abs(likelihood.score(eta)) < CERTAIN)
    if sure.any() or length >= TIGHT or not np.isfinite(value):
        direction = separating_direction(Q, likelihood.directions())
        if direction is not None:
            raise FitError(
                f"the predictors ({names.of(direction)}) tell apart rows whose outcome never varies (separation): the "
                "likelihood keeps rising as those coefficients grow, so no maximum likelihood estimate exists. Look at "
                "the table of outcomes by these predictors; join rare categories or leave one out; or use Model.fit(), "
                "whose prior keeps the coefficients finite"
            )
        if length >= 1e-6 or not np.isfinite(value):
            raise FitError(f"Fisher scoring did not converge in {ITERATIONS} iterations: rescale or drop predictors")
    return gamma, eta, iteration


def separating_direction(Q: np.ndarray, directions: np.ndarray) -> np.ndarray | None:
    """A direction along which no row loses and some row gains for ever, else None.

    It leaves rows of direction 0 where they are and moves no other row against its own."""
    fixed, free = Q[directions == 0], Q[directions != 0] * directions[directions != 0, None]
    values, vectors = np.linalg.eigh(fixed.T @ fixed)
    basis = vectors[:, values < 1e-10 * max(1.0, float(values[-1]))]
    if not basis.shape[1] or not len(free):
        return None
    gains = np.unique(np.round(free @ basis * np.sqrt(len(Q)), 12), axis=0)
    found = linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=(-1, 1), method="highs")
    if found.status != 0 or (gains @ found.x).max(initial=0.0) < 1e-7:
        return None
    return basis @ found.x
