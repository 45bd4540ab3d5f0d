"""Tables of inference about the common coefficients of a frequentist fit: t, F and any linear combination.

ddf names the method of denominator degrees of freedom: "satterthwaite", "kenward-roger", or None for none (normal)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError, listing, nearest
from hiermod.fits.tables import LEVEL, check_level, quantile
from hiermod.inference.coefficient_tests.ftests import DegreesOfFreedom, Residual
from hiermod.inference.coefficient_tests.kenward_roger import kenward_roger
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite
from hiermod.inference.coefficient_tests.type_three import type_three

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit
    from hiermod.fits.vocabulary import Fit
    from hiermod.formula.design import Design

METHODS: dict[str, Callable[[MixedFit], DegreesOfFreedom]] = {
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
}


def is_bayesian(fit: Fit) -> bool:
    """Draws, not estimates."""
    return isinstance(fit.record, Posterior)  # type: ignore[attr-defined]


def chosen_ddf(fit: Fit, ddf: str | None) -> str | None:
    """The method of degrees of freedom: "auto" is Satterthwaite's for Gaussian REML and ML fits, none elsewhere.

    A linear model has its residual degrees of freedom whatever is asked.

    UnsupportedError where degrees of freedom are asked of a fit that has none."""
    generalised = isinstance(fit.record, GeneralisedMixedFit | GeneralisedLinearFit)  # type: ignore[attr-defined]
    if is_bayesian(fit) or generalised:
        if ddf not in ("auto", None):
            why = "its intervals come from draws" if is_bayesian(fit) else "its tests are normal (z)"
            raise UnsupportedError(f"ddf={ddf!r} is for Gaussian REML and ML fits; of this fit {why}. Leave ddf out")
        return None
    return "satterthwaite" if ddf == "auto" else check_ddf(ddf)


def check_ddf(ddf: str | None) -> str | None:
    """The method's name in lower case.  ArgumentTypeError, ArgumentError for what is none."""
    if ddf is None:
        return None
    if not isinstance(ddf, str):
        raise ArgumentTypeError(f"ddf must be 'satterthwaite', 'kenward-roger' or None, got {type(ddf).__name__}")
    name = ddf.lower().replace("_", "-")
    if name not in METHODS:
        hint = nearest(name, METHODS)
        raise ArgumentError(f"ddf must be 'satterthwaite', 'kenward-roger' or None, got {ddf!r}.{hint}")
    return name


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


def fixef_table(fit: FrequentistFit, ddf: str | None = "satterthwaite", level: float = LEVEL) -> pd.DataFrame:
    """estimate, std_error, lower, upper, df, t, p of each common coefficient; index term.

    Kenward-Roger brings its own standard errors.  A mixed model with ddf=None has df and p nan and normal intervals; a
    linear model always has the t distribution.  nan for a coefficient that could not be estimated."""
    design = fit.design
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


def estimable_rows(design: Design, L: np.ndarray) -> np.ndarray:
    """(m,) False where a row of L depends on what the data cannot tell: it is no combination of the rows of X."""
    used = design.estimable
    if used.all():
        return np.ones(len(L), dtype=bool)
    explained = np.linalg.lstsq(design.X[:, used], design.X[:, ~used], rcond=None)[0]
    implied = L[:, used] @ explained
    size = np.abs(L[:, used]) @ np.abs(explained) + np.abs(L[:, ~used])
    return np.asarray((np.abs(L[:, ~used] - implied) <= 1e-8 * np.maximum(size, 1e-300)).all(axis=1))


def lost_rows_note(design: Design, X: np.ndarray, index: pd.Index) -> tuple[str, ...]:
    """A sentence about rows to predict that the data cannot tell: what is not estimable counts as 0, as in R."""
    told = estimable_rows(design, X)
    if told.all():
        return ()
    dropped = [name for name, used in zip(design.common, design.estimable, strict=True) if not used]
    return (
        f"The data cannot tell the prediction of {listing(index[~told], 5)}, since the model matrix is rank deficient: "
        f"{listing(dropped, 5)} counted as 0 there.",
    )


def f_tests(fit: FrequentistFit, ddf: str | None = "satterthwaite") -> pd.DataFrame:
    """Type III F tests of the common terms: sum_sq, mean_sq, num_df, den_df, F, p; index term, the intercept left out.

    lmerTest's anova(type = 3): the same whatever the contrasts (``type_three.py``).  sum_sq and mean_sq are
    F times sigma^2, before Kenward and Roger's scale factor.  attrs: ddf, and notes (sentences about empty cells).
    ddf=None raises ArgumentError."""
    name = check_ddf(ddf)
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
