"""Tables of inference about the common coefficients of a frequentist fit: t, F and any linear combination.

ddf names the method of denominator degrees of freedom: "satterthwaite", "kenward-roger", or None for none (normal)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.checked import checked
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.fits.ddf import check_ddf, chosen_ddf
from hiermod.fits.estimable import estimable_rows
from hiermod.fits.tables import LEVEL, check_level, quantile
from hiermod.inference.coefficient_tests.ftests import DegreesOfFreedom, Residual
from hiermod.inference.coefficient_tests.kenward_roger import kenward_roger
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite
from hiermod.inference.coefficient_tests.type_three import type_three

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

METHODS: dict[str, Callable[[MixedFit], DegreesOfFreedom]] = {
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
}


def degrees_of_freedom(fit: FrequentistFit, ddf: str | None) -> DegreesOfFreedom:
    """The method at this fit, computed once and kept with the fit.  A linear model has its own, whatever ``ddf``."""
    name = check_ddf(ddf)
    if name is None:
        raise ArgumentError("ddf=None has no degrees of freedom: choose 'satterthwaite' or 'kenward-roger'")
    kept: dict[str, DegreesOfFreedom] = vars(fit).setdefault("_degrees_of_freedom", {})
    if name not in kept:
        kept[name] = METHODS[name](fit.record) if isinstance(fit.record, MixedFit) else _residual(fit)
    return kept[name]


def _residual(fit: FrequentistFit) -> Residual:
    used = np.ix_(fit.design.estimable, fit.design.estimable)
    df = np.inf if fit.design.precision.sigma_known else float(fit.record.df_residual)  # type: ignore[union-attr]
    return Residual(np.array(fit.record.vcov_beta)[used], df)


@checked
def fixef(fit: FrequentistFit, level: float = LEVEL, ddf: str | None = "auto") -> pd.DataFrame:
    """Common ("fixed") effects: estimate, std_error, lower, upper, df, t, p; index term.

    ddf: degrees of freedom of the t distribution behind lower, upper and p: "auto" is "satterthwaite" (lmerTest's
    default); "kenward-roger" (pbkrtest's, REML fits only, with its adjusted standard errors), or None: no df, no p,
    a normal interval, as in lme4's own summary.  A formula without bars has n - p degrees of freedom.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> m.reml().fixef()["estimate"].round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    ddf, level, design = chosen_ddf(fit, ddf), check_level(level), fit.design
    rows = np.eye(len(design.common))  # as R: the columns kept are reported, though others might have been kept instead
    return _t_table(fit, rows, np.array(design.estimable), pd.Index(design.common, name="term"), ddf, level)


def linear_tests(
    fit: FrequentistFit,
    L: np.ndarray,
    labels: Sequence[str] | None = None,
    ddf: str | None = "satterthwaite",
    level: float = LEVEL,
) -> pd.DataFrame:
    """The same columns for each row of L (m, p), a combination of the coefficients in the order of ``fixef()``.

    nan for a combination that the data cannot estimate.  ArgumentError when L has another number of columns."""
    rows = np.atleast_2d(np.asarray(L, dtype=float))
    p = len(fit.design.common)
    if rows.ndim != 2 or rows.shape[1] != p:
        raise ArgumentError(f"L must have {p} columns, one for each coefficient of fixef(), got shape {np.shape(L)}")
    if labels is not None and len(labels) != len(rows):
        raise ArgumentError(f"{len(rows)} rows of L need as many labels, got {len(labels)}")
    index = pd.Index(range(len(rows)) if labels is None else list(labels), name="contrast")
    return _t_table(fit, rows, estimable_rows(fit.design, rows), index, ddf, level)


def _t_table(
    fit: FrequentistFit, L: np.ndarray, told: np.ndarray, index: pd.Index, ddf: str | None, level: float
) -> pd.DataFrame:
    """told (m,): False for the rows of L to leave nan."""
    ddf, level = check_ddf(ddf), check_level(level)
    used = fit.design.estimable
    beta = np.array(fit.record.beta)[used]
    rows = np.where(told[:, None], L, 0.0)[:, used]
    if ddf is None and isinstance(fit.record, MixedFit):
        vcov, df = np.array(fit.record.vcov_beta)[np.ix_(used, used)], np.full(len(L), np.nan)
    else:
        method = degrees_of_freedom(fit, ddf or "satterthwaite")
        vcov, df = method.vcov, method.df(rows)
    estimate = np.where(told, rows @ beta, np.nan)
    se = np.where(told, np.sqrt(np.einsum("ma,ab,mb->m", rows, vcov, rows)), np.nan)
    df = np.where(told, df, np.nan)
    half = quantile(level, np.where(np.isfinite(df), df, np.inf)) * se
    with np.errstate(invalid="ignore", divide="ignore"):
        t = estimate / se
    p = 2 * np.where(np.isinf(df), stats.norm.sf(np.abs(t)), stats.t.sf(np.abs(t), df))
    table = {"estimate": estimate, "std_error": se, "lower": estimate - half, "upper": estimate + half}
    return pd.DataFrame(table | {"df": df, "t": t, "p": p}, index=index)


@checked
def anova(fit: FrequentistFit, ddf: str | None = "auto") -> pd.DataFrame:
    """Type III F tests of the terms, the same whatever the contrast coding: sum_sq, mean_sq, num_df, den_df, F, p.

    ddf as in ``fixef``.  sum_sq and mean_sq are F times sigma^2, before Kenward and Roger's scale factor, as lmerTest's
    anova(type = 3).  ``attrs["notes"]`` says what empty cells leave untested; ArgumentError for ddf=None."""
    name = chosen_ddf(fit, ddf)
    if not fit.design.common:
        raise UnsupportedError(f"{fit.formula!r} has no common terms to test")
    method = degrees_of_freedom(fit, name)
    hypotheses, notes = type_three(fit.design)
    beta = np.array(fit.record.beta)[fit.design.estimable]
    variance = float(fit.record.sigma) ** 2
    rows = []
    for L in hypotheses.values():
        test = method.f_test(L, beta)
        p = stats.f.sf(test.statistic, test.num_df, test.den_df) if np.isfinite(test.den_df) else np.nan
        if np.isinf(test.den_df):
            p = stats.chi2.sf(test.statistic * test.num_df, test.num_df)
        mean_sq = test.unscaled * variance
        rows.append((mean_sq * test.num_df, mean_sq, test.num_df, test.den_df, test.statistic, p))
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p"]
    table = pd.DataFrame(rows, index=pd.Index(list(hypotheses), name="term"), columns=columns)
    table.attrs["ddf"] = name if isinstance(fit.record, MixedFit) else "residual"
    table.attrs["notes"] = notes
    return table
