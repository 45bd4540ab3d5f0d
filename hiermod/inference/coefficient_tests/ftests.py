"""Hypotheses L beta = 0 on the common coefficients: t and F with denominator degrees of freedom.

What every method of denominator degrees of freedom shares (Satterthwaite, Kenward-Roger, the exact one of a linear
model): a covariance of beta, degrees of freedom for one row of L, and an F test for several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hiermod.errors import ArgumentError
from hiermod.formula.design import FrozenArrays

RANK = 1e-8  # an eigenvalue of the estimates' correlation matrix below this: a row that the others imply


@dataclass(frozen=True)
class FTest:
    """F of one hypothesis.  num_df is the rank of L; den_df inf when the variance is known."""

    statistic: float
    num_df: int
    den_df: float
    unscaled: float  # F before Kenward and Roger's scale factor, else the same


class DegreesOfFreedom(Protocol):
    """A method of denominator degrees of freedom for one fit.  L: one row per hypothesis, estimable columns only."""

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of beta that standard errors come from."""

    def df(self, L: np.ndarray) -> np.ndarray:
        """(m,) degrees of freedom of each row's t."""

    def f_test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """The F test of all rows together."""


@dataclass(frozen=True, eq=False)
class Residual(FrozenArrays):
    """A linear model: one number of degrees of freedom for everything, exact.  inf when se= made sigma known."""

    vcov: np.ndarray  # (p, p)
    residual_df: float

    def df(self, L: np.ndarray) -> np.ndarray:
        """n - p for every row."""
        return np.full(len(as_rows(L, len(self.vcov))), self.residual_df)

    def f_test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """The F test of a linear hypothesis (of R's anova between nested lm fits)."""
        vectors, values = independent_rows(L, self.vcov)
        F = float(((vectors @ beta) ** 2 / values).mean()) if len(values) else np.nan
        return FTest(F, len(values), self.residual_df, F)


def as_rows(L: np.ndarray, p: int) -> np.ndarray:
    """L as (m, p).  ArgumentError for anything else, and for numbers that are not finite."""
    rows = np.atleast_2d(np.asarray(L, dtype=float))
    if rows.ndim != 2 or rows.shape[1] != p:
        raise ArgumentError(f"a hypothesis has one number for each of the {p} coefficients, got shape {np.shape(L)}")
    if not np.isfinite(rows).all():
        raise ArgumentError("a hypothesis must be made of finite numbers")
    return rows


def independent_rows(L: np.ndarray, vcov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Combinations of the rows of L whose estimates are uncorrelated: (q, p), and their variances (q,), largest first.

    The eigenvectors of L vcov L', as in Fai and Cornelius (1996).  q is the rank of L, judged on rows scaled to unit
    variance, so that units do not decide it."""
    L = as_rows(L, len(vcov))
    variance = L @ vcov @ L.T
    if np.isnan(variance).any():  # rounding left no estimate, and no hypothesis to test
        return L[:0], np.zeros(0)
    sd = np.sqrt(np.diag(variance).clip(min=0.0))
    scaled = variance / np.outer(np.where(sd > 0, sd, 1.0), np.where(sd > 0, sd, 1.0))
    q = int((np.linalg.eigvalsh(scaled) > RANK).sum())
    values, vectors = np.linalg.eigh(variance)
    last = len(values) - q
    return (vectors[:, last:][:, ::-1].T @ L), values[last:][::-1]
