"""Generalised linear models by maximum likelihood, with R's definitions (McCullagh and Nelder 1989, section 2.5).

Fisher scoring with step halving, in orthonormal columns of X.  Perfect prediction, where no estimate exists, is found
by linear programming (Konis 2007) and refused in words."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linprog

from hiermod.engines.likelihood.likelihoods import Likelihood, first_auxiliary, likelihood_of
from hiermod.engines.likelihood.optimise import minimise
from hiermod.errors import FitError, listing
from hiermod.formula.design import Design, FrozenArrays
from hiermod.kernel.conditioning import condition

TIGHT = 1e-13  # squared length of a step, in standard errors, that counts as zero
ITERATIONS = 100
DIFFERENCE = 1e-4  # of the further parameters, for their information
UNKNOWN = 1e-3  # information about a further parameter that is none: a standard error of 30 on its scale
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
    auxiliary: tuple[float, ...] = ()  # the family's further parameters, on scales without ends
    vcov_auxiliary: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (K, K), on scales without ends

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
    names = names_of(design, parts.R)
    likelihood = likelihood.at(_best_auxiliary(likelihood, parts.Q, offset, names))
    gamma, eta, iterations = scoring(likelihood, parts.Q, offset, names)
    root = np.sqrt(np.maximum(likelihood.derivatives(eta).expected, 0.0))
    thin, R = np.linalg.qr(parts.Q * root[:, None])
    beta, vcov = np.full(len(design.common), np.nan), np.full((len(design.common),) * 2, np.nan)
    vcov_auxiliary = np.zeros((0, 0))
    if p:
        beta[design.estimable] = solve_triangular(parts.R, gamma)
        half = solve_triangular(R @ parts.R, np.eye(p))
        vcov[np.ix_(design.estimable, design.estimable)] = half @ half.T
    if likelihood.auxiliary:
        both = _joint_covariance(likelihood, parts.Q, offset, gamma)
        back = solve_triangular(parts.R, np.eye(p))
        vcov[np.ix_(design.estimable, design.estimable)] = back @ both[:p, :p] @ back.T
        vcov_auxiliary = both[p:, p:]
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
        npar=p + len(likelihood.auxiliary),
        df_residual=n - p - len(likelihood.auxiliary),
        iterations=iterations,
        eta=eta,
        fitted=likelihood.mean(eta),
        hat=np.einsum("ij,ij->i", thin, thin),
        auxiliary=likelihood.auxiliary,
        vcov_auxiliary=vcov_auxiliary,
    )


def _best_auxiliary(likelihood: Likelihood, Q: np.ndarray, offset: np.ndarray, names: _Names) -> tuple[float, ...]:
    """The family's further parameters at the maximum, gamma at its best for each."""
    if not likelihood.auxiliary:
        return ()

    def objective(a: np.ndarray) -> tuple[float, np.ndarray]:
        at = likelihood.at(a)
        eta = scoring(at, Q, offset, names)[1]
        return -2.0 * at.loglik(eta), -2.0 * at.by_auxiliary(eta)[0].sum(axis=1)

    def within_reach(a: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            return objective(a)
        except FitError:  # a step too far: the search turns back
            return np.inf, np.full(len(a), np.nan)

    start = np.array(first_auxiliary(likelihood, offset))
    objective(start)  # says what is wrong with the predictors, if something is
    best = minimise(within_reach, start, np.full(len(start), max(1.0, 0.1 * len(Q))))
    if not best.convergence.converged:
        raise FitError(
            f"the search for {', '.join(likelihood.auxiliary_names)} did not converge ({best.convergence.message}): "
            "rescale the response or predictors, drop predictors, or use Model.fit()"
        )
    return tuple(best.x)


def _joint_covariance(likelihood: Likelihood, Q: np.ndarray, offset: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """(p + K, p + K) inverse of the observed information about gamma and the further parameters.

    A parameter the data say nothing about, as where it has run to its boundary, has a variance of inf."""
    p, centre = len(gamma), np.concatenate([gamma, likelihood.auxiliary])
    eta = offset + Q @ gamma
    _, score_by_a, _ = likelihood.by_auxiliary(eta)
    information = np.zeros((len(centre), len(centre)))
    information[:p, :p] = Q.T @ (likelihood.derivatives(eta).observed[:, None] * Q)
    information[:p, p:] = -Q.T @ score_by_a.T
    information[p:, :p] = information[:p, p:].T
    for k in range(p, len(centre)):
        step = np.zeros(len(centre))
        step[k] = DIFFERENCE
        rise = (
            likelihood.at((centre + step)[p:]).by_auxiliary(eta)[0]
            - likelihood.at((centre - step)[p:]).by_auxiliary(eta)[0]
        )
        information[p:, k] = -rise.sum(axis=1) / (2.0 * DIFFERENCE)
    information[p:, p:] = 0.5 * (information[p:, p:] + information[p:, p:].T)
    known = np.ones(len(centre), dtype=bool)
    known[p:] = np.diag(information)[p:] > UNKNOWN
    found, kept = np.zeros_like(information), information[np.ix_(known, known)]
    if not np.linalg.eigvalsh(kept).min(initial=1.0) > 0:
        raise FitError(
            f"the likelihood is not curved at its highest point in every direction of the coefficients and "
            f"{', '.join(likelihood.auxiliary_names)}: drop predictors, or use Model.fit()"
        )
    found[np.ix_(known, known)] = np.linalg.inv(kept)
    found[~known, ~known] = np.inf
    return found


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
    told = likelihood.informative()
    if not told.all():
        _check_determined(Q[told], names, likelihood.family)
    target, value, length, iteration = likelihood.start(), -np.inf, np.inf, 0
    for iteration in range(1, ITERATIONS + 1):
        at = eta if iteration > 1 else target
        d = likelihood.derivatives(at)
        weight = d.expected if d.determinant is None else np.where(d.observed > 0, d.observed, d.expected)
        root = np.sqrt(np.maximum(weight, 1e-300))
        if not np.isfinite([root, d.score / root]).all():
            raise FitError("Fisher scoring left floating point: rescale or drop predictors")
        new = np.linalg.lstsq(Q * root[:, None], root * (at - offset) + d.score / root, rcond=None)[0]
        step, shrink = new - gamma, 1.0
        length = float(weight @ (Q @ step) ** 2)
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
        direction = separating_direction(Q[told], likelihood.directions()[told])
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


def _check_determined(Q: np.ndarray, names: _Names, family: str) -> None:
    """The rows that say anything about the linear predictor have to determine all of it."""
    values, vectors = np.linalg.eigh(Q.T @ Q)
    if values[0] < 1e-10:
        raise FitError(
            f"of the responses of family {family!r} only those that are not 0 say anything about the mean, and they do "
            f"not determine the coefficients of {names.of(vectors[:, 0])}: where all responses are 0 there is no mean "
            "to estimate. Leave those rows or predictors out, join rare categories, or use Model.fit(), whose prior "
            "keeps the coefficients finite"
        )


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
