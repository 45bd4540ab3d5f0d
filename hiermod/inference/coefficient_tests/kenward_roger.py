"""Kenward-Roger: a covariance of beta corrected for small samples, and degrees of freedom.

Kenward and Roger (1997), Biometrics 53, 983-997, in the form of Halekoh and Hojsgaard (2014), J. Stat. Softw. 59(9)
(pbkrtest): V(y) = sum over r of gamma_r G_r, the gammas being the variances and covariances of the group effects and
the residual variance.  What both need from V^-1 is in kenward_roger_sums.py.

Where a structure relates the gammas to fewer parameters the sums follow by the chain rule.  V then is no sum of these,
and second derivatives of V are left out, as by SAS's ddfm=kr(firstorder) and mmrm's "Kenward-Roger-Linear": with them
the answer would depend on how the covariance is written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.errors import UnsupportedError
from hiermod.formula.design import FrozenArrays
from hiermod.inference.coefficient_tests.ftests import FTest, as_rows, independent_rows
from hiermod.inference.coefficient_tests.kenward_roger_sums import covariance_sums
from hiermod.kernel.conditional import fixed_covariance

FLAT = 1e-10  # an eigenvalue of the scaled information below this: the gammas cannot be told apart, left out


@dataclass(frozen=True, eq=False)
class KenwardRoger(FrozenArrays):
    """What any hypothesis needs.  p counts estimable coefficients, v the gammas."""

    vcov: np.ndarray  # (p, p) of beta, adjusted
    unadjusted: np.ndarray  # (p, p) Phi
    jacobian: np.ndarray  # (v, p, p) dPhi / dgamma_r = -Phi P_r Phi
    covariance: np.ndarray  # (v, v) W, of the gammas: twice the inverse of their expected information

    def df(self, L: np.ndarray) -> np.ndarray:
        """(m,) degrees of freedom of each row of L (m, p)."""
        return np.array([self._df_and_scale(row[None])[1] for row in as_rows(L, len(self.vcov))])

    def f_test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """The scaled F test of all rows together: the adjusted covariance, scale factor and df of the 1997 paper."""
        q, df, scale = self._df_and_scale(as_rows(L, len(self.vcov)))
        if q == 0:
            return FTest(np.nan, 0, np.nan, np.nan)
        rows, values = independent_rows(L, self.vcov)
        unscaled = float(((rows @ beta) ** 2 / values).mean())
        return FTest(scale * unscaled, q, df, unscaled)

    def _df_and_scale(self, L: np.ndarray) -> tuple[int, float, float]:
        """Rank of L, denominator degrees of freedom, and the factor that F is multiplied by (1 for one row)."""
        rows, values = independent_rows(L, self.unadjusted)
        q = len(values)
        if q == 0:
            return 0, np.nan, np.nan
        rows = rows / np.sqrt(values)[:, None]  # L Phi L' = I
        parts = np.einsum("ia,vab,jb->vij", rows, self.jacobian, rows)
        traces = np.einsum("vii->v", parts)
        A1 = float(traces @ self.covariance @ traces)
        A2 = float(np.einsum("vw,vij,wji->", self.covariance, parts, parts))
        if not A2 > 1e-14:  # the variance is known, or as good as known
            return q, np.inf, 1.0
        return q, *_moments(A1, A2, q)


def _moments(A1: float, A2: float, q: int) -> tuple[float, float]:
    """Denominator df and scale that match mean and variance of Wald / q (Kenward and Roger 1997, section 3)."""
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    d = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / d, (q - g) / d, (q + 2 - g) / d
    V0, V1, V2, E = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B, 1.0 - A2 / q
    V0 = 0.0 if abs(V0) < 1e-10 else V0  # as pbkrtest: exact designs give 0 here
    ratio = 1.0 if abs(E) < 1e-14 and abs(V1) < 1e-14 else E / V1
    rho = ratio**2 * V0 / (V2 * q)
    df = 4.0 + (q + 2) / (q * rho - 1.0)
    return df, 1.0 if abs(df - 2.0) < 0.01 else df * E / (df - 2.0)


def kenward_roger(fit: MixedFit) -> KenwardRoger:
    """Adjusted covariance of beta and what the degrees of freedom need, at a REML fit.

    Weights enter V(y) as they do in the model (pbkrtest leaves them out).  UnsupportedError for an ML fit: the method
    corrects REML's covariance, and pbkrtest's silent refit by REML would mix two fits in one table."""
    if not fit.reml:
        raise UnsupportedError(
            "Kenward-Roger corrects the covariance of a REML fit, and this one is by ML: use m.reml(), or "
            "ddf='satterthwaite', which both have"
        )
    problem = fit.problem
    phi_beta = fixed_covariance(problem, fit.factor)
    Phi = problem.R @ phi_beta @ problem.R.T  # of X = Q's coefficients, over sigma^2
    half = np.linalg.inv(problem.R)  # from those to beta
    sums = covariance_sums(fit, half, np.linalg.inv(Phi))
    if fit.design.structured_blocks:
        sums = sums.by(_slopes(fit, len(sums.K)))
    middle = np.einsum("ab,vbc,cd->vad", Phi, sums.S, Phi)  # -Phi P_r Phi
    information = sums.K - 2.0 * np.einsum("ab,vwba->vw", Phi, sums.Q) + np.einsum("vab,wba->vw", middle, sums.S)
    W = 2.0 * _inverse(information)
    U = np.einsum("vw,vwab->ab", W, sums.Q) - np.einsum("vw,vab,bc,wcd->ad", W, sums.S, Phi, sums.S, optimize=True)
    adjusted = Phi + 2.0 * Phi @ (0.5 * (U + U.T)) @ Phi
    scale = fit.sigma**2
    return KenwardRoger(
        vcov=scale * half @ adjusted @ half.T,
        unadjusted=scale * phi_beta,
        jacobian=scale * np.einsum("ab,vbc,dc->vad", half, middle, half),
        covariance=W,
    )


def _slopes(fit: MixedFit, v: int) -> np.ndarray:
    """(parameters, v) d gamma / d parameter, blocks in order; the residual's, where it has one, is its own."""
    parts = []
    for block, (one, Lam) in enumerate(zip(fit.design.blocks, fit.Lambda, strict=True)):
        slopes = one.structure.covariance_slopes(one.structure.theta_of(Lam))
        if not one.structure.free:  # the gammas are those of whitened columns; of a free block they are the parameters
            halves = (fit.problem.search_lambda(block, slope) for slope in slopes)
            slopes = np.array([fit.problem.search_lambda(block, half.T) for half in halves])
        columns, rows = np.triu_indices(one.size)
        parts.append(slopes[:, rows, columns])
    whole = block_diag(*parts)
    return block_diag(whole, np.eye(v - whole.shape[1]))


def _inverse(information: np.ndarray) -> np.ndarray:
    """The inverse, scaled first; without the directions in which nothing is known."""
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
    values, vectors = np.linalg.eigh(information * np.outer(scale, scale))
    keep = np.abs(values) > FLAT * np.abs(values).max()
    half = scale[:, None] * vectors[:, keep]
    return (half / values[keep]) @ half.T
