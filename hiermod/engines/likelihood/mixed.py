"""Linear mixed models by REML or ML (Bates et al. 2015, J. Stat. Softw. 67(1)): from a Design to a MixedFit.

Numbers only: tables, names of rows and warnings are added by results and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.engines.likelihood.covariances_at_theta import AtTheta
from hiermod.engines.likelihood.lowest_minimum import OUTSIDE, lowest_minimum
from hiermod.engines.likelihood.optimise import FAR, ROUNDED, Convergence, Minimum, believed
from hiermod.engines.likelihood.undetermined import explained_columns, sentence, settled
from hiermod.errors import DesignError, FitError, UnsupportedError
from hiermod.formula.design import Block, Design, read_only
from hiermod.kernel import conditional
from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.covariance import null_directions, positive_columns
from hiermod.kernel.criterion import Problem, build_problem
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.orthogonal import eliminate_rows
from hiermod.kernel.threads import suitable_threads

EXACT = 1e-13  # share of the sum of squares, the fixed part taken off, that elimination cannot tell from nothing
MOST_LOST = 1e-3  # of the criterion to rounding, while anything is reported
MOST_COLUMNS = 60  # of the terms whose parameters are checked against a structure's
UNIDENTIFIED = 1e-9  # smallest eigenvalue of the scaled Gram matrix of V's derivatives that counts as zero
ZERO = 1e-5  # a diagonal element of the whitened Lambda below this is tried at exactly 0


@dataclass(frozen=True, eq=False)
class MixedFit(AtTheta):
    """A linear mixed model at its optimum.  Blocks stand in formula order, theta in lme4's.

    Arrays are read-only.  beta and vcov_beta are nan for columns that are not estimable.  Where rounding left
    nothing of the criterion every number but theta and Lambda is nan, and ``convergence`` says so."""

    design: Design
    problem: Problem
    reml: bool
    theta: np.ndarray  # (n_theta,)
    theta_names: tuple[str, ...]
    Lambda: tuple[np.ndarray, ...]  # (k, k) per block, relative to sigma
    beta: np.ndarray  # (p,)
    vcov_beta: np.ndarray  # (p, p)
    sigma: float  # 1.0 when sigma_known
    sigma_known: bool  # residual standard deviations were given (se)
    criterion: float  # REML criterion, or -2 log likelihood for ML
    pwrss: float  # penalised weighted residual sum of squares
    npar: int  # estimable fixed effects, covariance parameters and sigma unless known
    convergence: Convergence
    singular: bool
    null_directions: tuple[np.ndarray, ...]  # (k, r) per block: see kernel.covariance
    modes: tuple[np.ndarray, ...]  # (J, k) per block: conditional modes b
    population: np.ndarray  # (n,) offset + X beta
    fitted: np.ndarray  # (n,) offset + X beta + Z b

    @property
    def residuals(self) -> np.ndarray:
        """(n,) y - fitted."""
        return self.design.y - self.fitted

    @cached_property
    def hessian(self) -> np.ndarray:
        """(n_theta, n_theta) of the criterion with respect to theta, by central differences of the gradient."""
        rows = []
        for i, size in enumerate(np.abs(self.theta)):
            step = np.zeros(len(self.theta))
            step[i] = 1e-4 * max(float(size), 0.01)
            up = self.problem.criterion_and_gradient(self.theta + step, self.reml)[1]
            down = self.problem.criterion_and_gradient(self.theta - step, self.reml)[1]
            rows.append((up - down) / (2.0 * step[i]))
        return read_only(0.5 * (np.array(rows) + np.array(rows).T))


def fit_mixed(design: Design, reml: bool = True, start: np.ndarray | None = None) -> MixedFit:
    """Fit by REML (or ML) and return the record.  start: theta in lme4's order, for tests and refits.

    DesignError where the variances cannot be told from the residual's; whether the search succeeded is data, in
    ``convergence`` and ``singular``."""
    check_identifiable(design)
    problem = problem_of(design)
    if not problem.residual_square > 1e-24 * float(design.y @ design.y):
        raise DesignError(
            f"the fixed part explains {design.response} exactly in every row: "
            "nothing is left to estimate variances from"
        )
    with suitable_threads(problem.n_dense):
        return fit_problem(design, problem, reml, start)


def problem_of(design: Design) -> Problem:
    """The design's arrays, reduced to cross-products."""
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    return build_problem(design.y, design.X[:, design.estimable], terms, design.precision, design.offset)


def fit_problem(design: Design, problem: Problem, reml: bool, start: np.ndarray | None = None) -> MixedFit:
    """Search, then read everything off the factor at the optimum.

    start: where a refit's parent has its optimum; the search then stays in its neighbourhood."""
    best = lowest_minimum(design, problem, reml, start)
    structured = bool(design.structured_blocks)
    x = best.x if structured else _at_the_boundary(problem, reml, best)
    Lambda = tuple(positive_columns(Lam) for Lam in problem.lambdas_from_x(x))
    explained = explained_columns(design) if reml else ()
    undetermined = any(which.any() for which in explained)
    if undetermined and structured:
        raise DesignError(
            f"{sentence(design.blocks, explained)}. A structure relates it to the others', of which REML then says "
            "nothing either: leave the columns out of one side of the formula, or fit by ML with m.ml()"
        )
    if undetermined:
        Lambda = tuple(positive_columns(settled(*pair)) for pair in zip(Lambda, explained, strict=True))
        record = replace(best.convergence, status="undetermined", message=sentence(design.blocks, explained))
        best = replace(best, convergence=record)
    theta = problem.template.pack(Lambda)
    factor = problem.factorise(theta)
    if factor is None:
        raise FitError("the penalised normal equations could not be factorised at the optimum")
    found = _solution(design, problem, theta, factor)
    value = problem.value(found, reml)
    lost = believed(abs(value - problem.value(factor, reml)), problem.rounding(found.pwrss, reml))
    exact = not (best.convergence.converged or undetermined) and found.pwrss < EXACT * problem.residual_square
    if exact or (best.convergence.status == "unbounded" and np.abs(best.x).max() > OUTSIDE):
        if structured:
            raise DesignError(
                "the residual standard deviation is estimated as 0, which leaves all variance to "
                f"{design.structured_blocks[0].term}; relative to it no estimate is finite. With one row for each "
                "column of a level this happens by chance. Give a small known residual standard deviation with se=, "
                "such as a measurement error, take another structure, or use Model.fit()"
            )
        raise DesignError(
            f"common and group effects together explain {design.response} as good as exactly in every row: no residual "
            "variance is left. Are the responses computed from the groups, or is there one row per group and "
            "condition? Leave a term out, or give known residual standard deviations with se=."
        )
    if lost > MOST_LOST:
        found, value = _nowhere(found), np.nan
    m = problem.n - problem.p if reml else problem.n
    sigma = float(np.sqrt(found.pwrss / m))
    if problem.sigma_known:
        sigma = 1.0 if lost <= MOST_LOST else np.nan
    nulls = tuple(null_directions(Lam, rms) for Lam, rms in zip(Lambda, problem.rms, strict=True))
    beta = np.full(len(design.common), np.nan)
    beta[design.estimable] = found.beta
    vcov = np.full((len(beta), len(beta)), np.nan)
    vcov[np.ix_(design.estimable, design.estimable)] = sigma**2 * found.covariance
    population = design.X[:, design.estimable] @ found.beta
    if design.offset is not None:
        population = population + design.offset
    fitted = population.copy()
    for block, b in zip(design.blocks, found.modes, strict=True):
        fitted += np.einsum("ik,ik->i", block.values, b[block.codes])
    return MixedFit(
        design=design,
        problem=problem,
        reml=reml,
        theta=theta,
        theta_names=theta_names(design, problem),
        Lambda=Lambda,
        beta=beta,
        vcov_beta=vcov,
        sigma=sigma,
        sigma_known=problem.sigma_known,
        criterion=value,
        pwrss=found.pwrss,
        npar=problem.p + design.n_covariance + (0 if problem.sigma_known else 1),
        convergence=_judged(best.convergence, lost),
        singular=any(null.shape[1] > 0 for null in nulls),
        null_directions=nulls,
        modes=found.modes,
        population=population,
        fitted=fitted,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Solution:
    """What theta implies, in the columns as typed; sigma^2 left out of the covariance."""

    logdet_random: float
    logdet_fixed: float
    pwrss: float
    beta: np.ndarray  # (p,) the estimable ones
    covariance: np.ndarray  # (p, p)
    modes: tuple[np.ndarray, ...]


def _solution(design: Design, problem: Problem, theta: np.ndarray, factor: Factorisation) -> _Solution:
    """Read off the factor; off the rows where Lambda is so large that cross-products have lost digits."""
    x = problem.x_from_theta(theta)
    found = None
    if np.abs(x).max() > FAR:
        terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
        rows = condition(design.y, design.X[:, design.estimable], terms, design.precision, design.offset)
        found = eliminate_rows(rows, problem.factor_lambdas(x))
    if found is None:
        beta, modes = conditional.coefficients(problem, factor)
        covariance = conditional.fixed_covariance(problem, factor)
        return _Solution(factor.logdet_random, factor.logdet_fixed, factor.pwrss, beta, covariance, modes)
    b = [u @ Lam.T for u, Lam in zip(found.u, problem.factor_lambdas(x), strict=True)]
    modes = conditional.modes_by_block(problem, b)
    beta, root = np.zeros(0), np.zeros((0, 0))
    if problem.p:
        beta = solve_triangular(problem.R, rows.gamma_ols + found.gamma)
        root = solve_triangular(problem.R, solve_triangular(found.R, np.eye(problem.p)))
    return _Solution(found.logdet_random, found.logdet_fixed, found.pwrss, beta, root @ root.T, modes)


def _nowhere(found: _Solution) -> _Solution:
    """nan for every number: the search followed a criterion that theta does not have."""
    modes = tuple(np.full(b.shape, np.nan) for b in found.modes)
    return _Solution(np.nan, np.nan, np.nan, found.beta * np.nan, found.covariance * np.nan, modes)


def _judged(convergence: Convergence, lost: float) -> Convergence:
    """The search's verdict, unless its criterion was another than that of the rows."""
    if lost <= MOST_LOST:
        return convergence
    message = f"{ROUNDED}: by {lost:.1g}, so that no estimate can be given"
    return replace(convergence, status="gradient", message=message)


def check_identifiable(design: Design) -> None:
    """lme4's rules: fewer levels, and fewer effects of one term, than rows; fewer fixed effects than rows."""
    n, p = design.nobs, int(design.estimable.sum())
    if design.special is not None:
        raise UnsupportedError(
            f"{design.special}() in the response is a likelihood of its own, which REML and ML do not have. "
            "Fit it with Model.fit(); for lme4's prior weights pass weights= to Model instead."
        )
    if n <= p:
        raise DesignError(
            f"{n} rows for {p} fixed effects: no degree of freedom is left for the residual variance. "
            "Drop terms or add data."
        )
    if design.precision.sigma_known:
        return
    way_out = (
        "lme4 refuses this model too. Leave a term out; or give known residual standard deviations with se=; or use "
        "Model.fit(), where the prior decides how the variance is shared."
    )
    for block in design.blocks:
        J, k = len(block.levels), block.size
        if not block.structure.free:
            _check_structure(design, block)
            continue
        if n <= J:
            raise DesignError(
                f"grouping factor {block.factor!r} of {block.term} has {J} levels for {n} rows: its variance "
                f"cannot be told from the residual variance. {way_out}"
            )
        if J * k >= n:
            raise DesignError(
                f"{block.term} asks for as many random effects as there are observations, or more: {J} levels x "
                f"{k} effects = {J * k}, for {n} rows. Their variances cannot be told from the residual "
                f"variance. {way_out}"
            )


def _check_structure(design: Design, block: Block) -> None:
    """Whether a structure's covariance can be told from the residual's and from those of its factor's other terms.

    A structure may have more effects than there are rows.  Locally identified are the parameters when the derivatives
    of V = Z Sigma Z' + sigma^2 W^-1 are linearly independent, here at standard deviations of 1 to 1.5 residual ones and
    a moderate correlation: <dV/da, dV/db> = sum over levels of tr(Z'W Z dSigma_a Z'W Z dSigma_b)."""
    mine = [other for other in design.blocks if other.factor == block.factor and other.size <= MOST_COLUMNS]
    values = np.hstack([other.values / np.sqrt(np.square(other.values).mean(axis=0)) for other in mine])
    values = design.precision.whiten(values)
    K, slopes, start = values.shape[1], [], 0
    gram = np.zeros((len(block.levels), K, K))
    np.add.at(gram, block.codes, values[:, :, None] * values[:, None, :])
    for other in mine:
        structure = other.structure
        theta = structure.start(np.linspace(1.0, 1.5, other.size))
        low, high = structure.bounds[-1]
        if not structure.free and structure.n_parameters > structure.n_sds:
            theta[-1] = max(low + 0.3 * (high - low), 0.3)
        for step in 1e-5 * np.eye(len(theta)):
            up, down = structure.factor(theta + step), structure.factor(theta - step)
            slope = np.zeros((K, K))
            where = slice(start, start + other.size)
            slope[where, where] = (up @ up.T - down @ down.T) / 2e-5
            slopes.append(slope)
        start += other.size
    products = [np.einsum("jab,bc->jac", gram, slope) for slope in slopes]
    traces = np.array([[np.einsum("jab,jba->", one, two) for two in products] for one in products])
    if not design.precision.sigma_known:
        with_residual = np.array([np.einsum("jaa->", one) for one in products])
        traces = np.block([[traces, with_residual[:, None]], [with_residual[None], np.array([[design.nobs]])]])
    size = np.sqrt(np.diag(traces))
    eigenvalues = np.linalg.eigvalsh(traces / np.outer(size, size))
    if (size > 0).all() and eigenvalues[0] > UNIDENTIFIED:
        return
    residual, advice = "", "Leave a term out"
    if not design.precision.sigma_known:
        residual = ", or from the residual variance"
        advice += ", take several rows for each effect of a level, or give known residual standard deviations with se="
    raise DesignError(
        f"the parameters of {block.term} cannot be told from one another, from those of other terms of {block.factor}"
        f"{residual}: more than one choice gives the same law of {design.response}. {advice}."
    )


def theta_names(design: Design, problem: Problem) -> tuple[str, ...]:
    """lme4's names of theta: "Subject.(Intercept)", "Subject.Days.(Intercept)", "Subject.Days"."""
    names: list[str] = []
    for index in problem.template.order:
        block = design.blocks[index]
        labels = ["(Intercept)" if label == "Intercept" else label for label in block.labels]
        for column in range(block.size):
            names.append(f"{block.factor}.{labels[column]}")
            names += [f"{block.factor}.{labels[row]}.{labels[column]}" for row in range(column + 1, block.size)]
    return tuple(names)


def joint_variance(fit: MixedFit, X_new: np.ndarray, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(m,) variances of x'beta + z'b under the joint law of (beta, b) given theta and sigma, units of y squared.

    X_new (m, p), its columns as in ``design.common`` (those that are not estimable are left out); rows: for each
    block codes (m,), -1 for a level that is absent or unseen, and values (m, k)."""
    X = np.asarray(X_new, dtype=float)[:, fit.design.estimable]
    return fit.sigma**2 * conditional.joint_variance(fit.problem, fit.factor, X, rows)


def _at_the_boundary(problem: Problem, reml: bool, best: Minimum) -> np.ndarray:
    """x with columns of Lambda whose diagonal is as good as zero put to zero exactly, if the criterion agrees."""
    blocks = problem.template.unpack(best.x)
    changed = False
    for Lam in blocks:
        for j in range(len(Lam)):
            if 0 < abs(Lam[j, j]) < ZERO:
                Lam[j:, j] = np.where(np.abs(Lam[j:, j]) < ZERO, 0.0, Lam[j:, j])
                changed = True
    if not changed:
        return best.x
    x = problem.template.pack(blocks)
    return x if problem.criterion_x(x, reml) <= best.value + 1e-8 else best.x
