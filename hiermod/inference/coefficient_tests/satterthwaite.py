"""Satterthwaite degrees of freedom (Kuznetsova, Brockhoff and Christensen 2017, J. Stat. Softw. 82(13), section 2).

For a row l of L: df = 2 (l'V l)^2 / (g'A g), V = vcov(beta), g = the gradient of l'V l with respect to the covariance
parameters, A their asymptotic covariance: twice the inverse Hessian of the deviance in (theta, sigma), beta profiled
out.  Several rows: Fai and Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378, as lmerTest.

Neither depends on how the parameters are written, so the computation uses x (the kernel's whitened theta, or the search
coordinates of structured covariances) and s = log sigma^2: V = e^s C(x), deviance = log-determinants(x) + r^2(x) e^-s +
m s, m = n - p for REML and n for ML."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.likelihood.structured import SearchSpace
from hiermod.errors import FitError
from hiermod.formula.design import FrozenArrays
from hiermod.inference.coefficient_tests.ftests import FTest, as_rows, independent_rows
from hiermod.kernel.conditional import fixed_covariance
from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.threads import suitable_threads

STEP, SMALLEST = 1e-4, 0.03  # a difference in x goes over STEP * max(|x|, SMALLEST); the error is its square
ROUNDING = 1e-15  # times x^2: what elimination loses where group effects dwarf the residual; longer steps there
FLAT = 1e-9  # an eigenvalue of the scaled Hessian below this is no curvature
SAME = 1e-8  # lmerTest: degrees of freedom of the rows that differ less are averaged


@dataclass(frozen=True, eq=False)
class Satterthwaite(FrozenArrays):
    """What the degrees of freedom of any hypothesis need.  p counts estimable coefficients, v free parameters."""

    vcov: np.ndarray  # (p, p) of beta
    jacobian: np.ndarray  # (v, p, p) derivatives of vcov with respect to each parameter
    covariance: np.ndarray  # (v, v) A, of the parameters; nan where the criterion does not curve upwards

    def df(self, L: np.ndarray) -> np.ndarray:
        """(m,) degrees of freedom for each row of L (m, p); nan where the fit is no minimum or the row is zero."""
        L = as_rows(L, len(self.vcov))
        variance = np.einsum("ma,ab,mb->m", L, self.vcov, L)
        gradient = np.einsum("ma,vab,mb->mv", L, self.jacobian, L)
        spread = np.einsum("mv,vw,mw->m", gradient, self.covariance, gradient)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2.0 * variance**2 / spread

    def f_test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """The F test of all rows together, with lmerTest's degrees of freedom.

        They depend on how the hypothesis is written, the F value does not; one row gives df() and t^2."""
        rows, values = independent_rows(L, self.vcov)
        if not len(values):
            return FTest(np.nan, 0, np.nan, np.nan)
        F = float(((rows @ beta) ** 2 / values).mean())
        return FTest(F, len(values), joint_df(self.df(rows)), F)


def joint_df(df: np.ndarray) -> float:
    """Denominator df of a mean of independent squared t with these df: its expectation is that of F (E = F's mean).

    >>> [round(joint_df(np.array(pair)), 3) for pair in ([10.0, 10.0], [10.0, 20.0], [2.0, 20.0])]
    [10.0, 13.077, 2.0]
    """
    if np.isnan(df).any():
        return float("nan")
    if np.ptp(df) < SAME or np.isinf(df).all():
        return float(df.mean())
    if (df <= 2.0).any():
        return 2.0
    excess = (2.0 / (df - 2.0)).sum()  # sum of df / (df - 2), less their number
    return float(2.0 * (excess + len(df)) / excess)


def satterthwaite(fit: MixedFit) -> Satterthwaite:
    """Differentiate at the optimum: two factorisations for each element of theta.

    At a singular fit the columns of Lambda that are zero stay zero (the deviance is even in them, so they would neither
    move vcov(beta) nor correlate with the others).  With known residual sds sigma is no parameter."""
    if np.isnan(fit.criterion):  # rounding left no estimate
        p = fit.problem.p
        return Satterthwaite(np.full((p, p), np.nan), np.zeros((0, p, p)), np.zeros((0, 0)))
    with suitable_threads(fit.problem.n_dense):
        return _differentiate(fit)


def _differentiate(fit: MixedFit) -> Satterthwaite:
    problem, variance = fit.problem, fit.sigma**2
    space = SearchSpace.of(fit.design, problem) if fit.design.structured_blocks else None
    x = problem.x_from_theta(fit.theta) if space is None else space.s(fit.Lambda)
    free = np.flatnonzero(_free(problem, x) if space is None else space.inside(x)).tolist()
    relative = max(STEP, float(np.cbrt(ROUNDING * np.square(x).max(initial=0.0))))
    v, known = len(free), problem.sigma_known
    size = v + (0 if known else 1)
    p = problem.p
    hessian, jacobian = np.zeros((size, size)), np.zeros((size, p, p))
    for i, element in enumerate(free):
        step = relative * max(abs(float(x[element])), SMALLEST)
        (up, V_up, r_up), (down, V_down, r_down) = (
            _at(problem, space, x, element, sign * step, fit.reml, variance) for sign in (1.0, -1.0)
        )
        hessian[i, :v] = (up - down)[free] / (2.0 * step)
        jacobian[i] = variance * (V_up - V_down) / (2.0 * step)
        if not known:
            hessian[i, v] = -(r_up - r_down) / (2.0 * step * variance)
    hessian[:v, :v] = 0.5 * (hessian[:v, :v] + hessian[:v, :v].T)
    vcov = variance * fixed_covariance(problem, fit.factor)
    if not known:
        hessian[v, :v] = hessian[:v, v]
        hessian[v, v] = fit.pwrss / variance
        jacobian[v] = vcov
    if fit.convergence.status == "undetermined":  # the criterion is flat: its Hessian is rounding
        return Satterthwaite(vcov, jacobian, np.full_like(hessian, np.nan))
    return Satterthwaite(vcov, jacobian, 2.0 * _inverse(hessian))


def _free(problem: Problem, x: np.ndarray) -> np.ndarray:
    """(n_theta,) True for the elements of Lambda's columns that are not zero."""
    columns = [np.broadcast_to((Lam != 0).any(axis=0), Lam.shape) for Lam in problem.template.unpack(x)]
    return problem.template.pack(columns).astype(bool)


def _at(
    problem: Problem,
    space: SearchSpace | None,
    x: np.ndarray,
    element: int,
    step: float,
    reml: bool,
    variance: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """One element of x moved: gradient of the deviance at this sigma^2, covariance of beta over sigma^2, and r^2."""
    moved = x.copy()
    moved[element] += step
    factor = problem.factorise_x(moved if space is None else space.x(moved))
    if factor is None:
        raise FitError("the penalised normal equations could not be factorised beside the optimum")
    gradient = _gradient(problem, factor, reml, 1.0 / variance)
    return (
        gradient if space is None else space.gradient(moved, gradient),
        fixed_covariance(problem, factor),
        factor.pwrss,
    )


def _gradient(problem: Problem, factor: Factorisation, reml: bool, weight: float) -> np.ndarray:
    """(n_theta,) gradient of the log-determinants + weight r^2 with respect to x."""
    return problem.template.pack(problem.search_slopes(factor, reml, weight))


def _inverse(hessian: np.ndarray) -> np.ndarray:
    """The inverse, scaled first; directions without curvature are left out, as in lmerTest; nan for a saddle."""
    if not len(hessian):
        return hessian
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
    if not values[0] > -1e-5 * values[-1]:
        return np.full_like(hessian, np.nan)
    keep = values > FLAT * values[-1]
    root = scale[:, None] * vectors[:, keep] / np.sqrt(values[keep])
    return root @ root.T
