"""Ordinary and weighted least squares with R's definitions (summary.lm and logLik.lm of R 4).

A formula without a bar.  With known residual standard deviations (se) sigma is 1 and the weights are 1 / se^2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.errors import DesignError
from hiermod.formula.design import Design, FrozenArrays
from hiermod.kernel.conditioning import condition


@dataclass(frozen=True, eq=False)
class LinearFit(FrozenArrays):
    """A linear model at its least-squares solution.  nan for coefficients that are not estimable."""

    design: Design
    reml: bool
    beta: np.ndarray  # (p,)
    vcov_beta: np.ndarray  # (p, p), with the degrees-of-freedom sigma unless sigma_known
    sigma: float  # sqrt(rss / df) for reml, sqrt(rss / n) for ML, 1.0 when sigma_known
    sigma_known: bool
    df_residual: int  # n - p
    rss: float  # weighted residual sum of squares
    r_squared: float
    adj_r_squared: float
    f_statistic: tuple[float, int, int]  # value, numerator and denominator df; nan without a term to test
    loglik_ml: float  # R's logLik(lm)
    loglik_reml: float  # R's logLik(lm, REML = TRUE)
    npar: int
    fitted: np.ndarray  # (n,) with the offset
    hat: np.ndarray  # (n,) leverages

    @property
    def criterion(self) -> float:
        """-2 log likelihood: the restricted one for reml."""
        return -2.0 * (self.loglik_reml if self.reml else self.loglik_ml)

    @property
    def loglik(self) -> float:
        """The likelihood that R prints, by ML, for both kinds of fit: compare REML fits by ``criterion``."""
        return self.loglik_ml

    @property
    def residuals(self) -> np.ndarray:
        """(n,) y - fitted."""
        return self.design.y - self.fitted


def fit_linear(design: Design, reml: bool = True) -> LinearFit:
    """Least squares.  DesignError when no degree of freedom is left for the residual variance (unless se is known)."""
    n, p = design.nobs, int(design.estimable.sum())
    known = design.precision.sigma_known
    if n <= p and not (known and n == p):
        raise DesignError(
            f"{n} rows for {p} coefficients: no degree of freedom is left for the residual variance. "
            "Drop terms or add data."
        )
    parts = condition(design.y, design.X[:, design.estimable], (), design.precision, design.offset)
    rss = float(parts.residual @ parts.residual)
    df = n - p
    variance = 1.0 if known else rss / df
    estimated = solve_triangular(parts.R, parts.gamma_ols) if p else np.zeros(0)
    root = solve_triangular(parts.R, np.eye(p)) if p else np.zeros((0, 0))
    beta, vcov = np.full(len(design.common), np.nan), np.full((len(design.common),) * 2, np.nan)
    beta[design.estimable] = estimated
    vcov[np.ix_(design.estimable, design.estimable)] = variance * root @ root.T
    fitted = design.y - design.precision.unwhiten(parts.residual)
    r_squared, adjusted, f_statistic = _explained(design, fitted, rss, variance, n, p)
    logdet_R = 2.0 * float(np.log(np.abs(np.diag(parts.R))).sum())
    return LinearFit(
        design=design,
        reml=reml,
        beta=beta,
        vcov_beta=vcov,
        sigma=1.0 if known else float(np.sqrt(rss / (df if reml else n))),
        sigma_known=known,
        df_residual=df,
        rss=rss,
        r_squared=r_squared,
        adj_r_squared=adjusted,
        f_statistic=f_statistic,
        loglik_ml=float(loglik_of(n, rss, design.precision.logdet, 0.0, known)),
        loglik_reml=float(loglik_of(df, rss, design.precision.logdet, logdet_R, known)),
        npar=p + (0 if known else 1),
        fitted=fitted,
        hat=np.einsum("ij,ij->i", parts.Q, parts.Q),
    )


def loglik_of(m: int, rss: Any, sum_log_w: float, logdet: float, known: bool) -> Any:
    """Of one residual sum of squares or many.  m is n for ML and n - p for REML."""
    if known:
        return -0.5 * (m * np.log(2 * np.pi) + rss + logdet - sum_log_w)
    with np.errstate(divide="ignore"):  # a perfect fit has an infinite likelihood, as in R
        return -0.5 * (m * (1.0 + np.log(2 * np.pi * rss / m)) + logdet - sum_log_w)


def _explained(
    design: Design, fitted: np.ndarray, rss: float, variance: float, n: int, p: int
) -> tuple[float, float, tuple[float, int, int]]:
    """R squared, adjusted R squared and F against the intercept (against nothing when there is none).

    The offset is left out of the explained part, as in R."""
    f = fitted if design.offset is None else fitted - design.offset
    w = design.precision.of_each_row
    intercept = int(design.has_intercept)
    centre = float(w @ f) / float(w.sum()) if intercept else 0.0
    explained = float(w @ (f - centre) ** 2)
    df, tested = n - p, p - intercept
    if tested == 0:
        return 0.0, 0.0, (np.nan, 0, df)
    if df == 0 or explained + rss == 0:
        return np.nan, np.nan, (np.nan, tested, df)
    r_squared = explained / (explained + rss)
    adjusted = 1.0 - (1.0 - r_squared) * (n - intercept) / df
    value = explained / tested / variance if variance > 0 else np.inf
    return r_squared, adjusted, (value, tested, df)
