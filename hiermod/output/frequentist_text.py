"""The words and layout of a frequentist fit's summary (lme4's sections) and check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.answers import remembered
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary, number_column, p_value, wrapped
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.likelihood.optimise import Convergence
from hiermod.errors import listing
from hiermod.inference.assumptions.assumption_text import assumption_sentences
from hiermod.output import singular_text
from hiermod.output.summary_sections import correlation_section, varcorr_section

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit
    from hiermod.fits.vocabulary import Fit

FINE = "The optimiser converged and no variance or correlation is at its boundary."
FAR = 60.0  # |mean| / sd of a slope's predictor from which (x || g) loses digits


@checked
@remembered
def summary(fit: FrequentistFit) -> Summary:
    """lme4's summary: criterion, scaled residuals, random effects, fixed effects, their correlations."""
    design = fit.design
    if fit.is_mixed:
        title = "Linear mixed model fit by " + ("REML" if fit.reml else "maximum likelihood")
    else:
        title = "Linear model fit by " + ("least squares" if fit.reml else "maximum likelihood")
    sections = [Section("", f"Formula: {fit.formula}" + _data_notes(fit))]
    if fit.is_mixed:
        sections.append(Section("", _criterion(fit)))
    sections.append(
        Section("Scaled residuals:" if fit.is_mixed else "Residuals:", _residual_table(fit), show_index=False)
    )
    if fit.is_mixed:
        sections.append(varcorr_section(fit.varcorr(), fit.nobs, fit.ngroups))
    heading = "Fixed effects:" if fit.is_mixed else "Coefficients:"
    sections.append(Section(heading, _coefficients(fit), _method_note(fit)))
    if fit.is_mixed:
        correlations = correlation_section(fit.vcov().loc[design.estimable, design.estimable])
        if correlations is not None:
            sections.append(correlations)
    else:
        sections.append(Section("", _linear_footer(fit)))
    dropped = [name for name, kept in zip(design.common, design.estimable, strict=True) if not kept]
    if dropped:
        sections.append(
            Section("", f"Rank deficient: no estimate for {listing(dropped)}, which earlier columns explain.")
        )
    if fit.is_mixed and (fit.singular or not fit.converged):
        sections.append(Section("", " ".join(sentences(fit))))
    return Summary(title, tuple(sections))


def _data_notes(fit: FrequentistFit) -> str:
    design = fit.design
    notes = ""
    if design.missing:
        told = ", ".join(f"{name}: {count}" for name, count in design.missing.items())
        notes += (
            f"\n{design.n_rows_data - design.nobs} of {design.n_rows_data} rows left out for missing values ({told})"
        )
    if design.precision.kind == "weights":
        notes += "\nPrior weights: residual variance is sigma^2 / w"
    if design.precision.sigma_known:
        notes += "\nResidual standard deviations known (se): sigma is not estimated"
    return notes


def _criterion(fit: FrequentistFit) -> str:
    if fit.reml:
        return f"REML criterion at convergence: {fit.criterion:.1f}"
    values = {"AIC": fit.aic, "BIC": fit.bic, "logLik": fit.loglik, "deviance": fit.deviance}
    return "   ".join(f"{name} {value:.1f}" for name, value in values.items())


def _residual_table(fit: FrequentistFit) -> pd.DataFrame:
    values = fit.residuals("scaled" if fit.is_mixed else "pearson").to_numpy()
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    largest = np.abs(quantiles).max()
    places = max(0, 5 - int(np.ceil(np.log10(largest)))) if largest > 0 else 4  # R's zapsmall(x, 5)
    shown = [f"{value:.{places}f}" for value in quantiles]
    return pd.DataFrame([shown], columns=["Min", "1Q", "Median", "3Q", "Max"])


def _coefficients(fit: FrequentistFit) -> pd.DataFrame:
    table = fit.fixef()
    together = table[["estimate", "std_error"]].to_numpy()
    shown = number_column(together.ravel(), 4)
    columns = {"Estimate": shown[0::2], "Std. Error": shown[1::2]}
    if fit.is_mixed and table["df"].notna().any():
        columns["df"] = [f"{value:.2f}" if np.isfinite(value) else "" for value in table["df"]]
    columns["t value"] = [f"{value:.3f}" if np.isfinite(value) else "" for value in table["t"]]
    if table["p"].notna().any():
        columns["Pr(>|t|)"] = [p_value(value) for value in table["p"]]
    return pd.DataFrame(columns, index=table.index.to_list())


def _method_note(fit: FrequentistFit) -> str:
    """How df and p came about, or why there are none."""
    if not fit.is_mixed or fit.design.precision.sigma_known:
        return ""
    known = fit.fixef()["df"].notna().to_numpy()[fit.design.estimable]
    if known.all():
        return "df and p by Satterthwaite's method"
    frame, terms = fit.design.frame, fit.design.common_terms
    both = [
        block.factor
        for block in fit.design.blocks
        if block.factor in terms and isinstance(getattr(frame.get(block.factor), "dtype", None), pd.CategoricalDtype)
    ]
    why = (
        "Satterthwaite's method needs a criterion that rises to all sides of the estimated variances, and here it "
        "does not: these data do not tell all variances apart."
    )
    if both:
        why += (
            f" {both[0]} stands in the formula as a common effect and as a grouping factor; with a coefficient for "
            "each level nothing is left for group effects to explain. Leave one of the two out."
        )
    return wrapped(f"No df and p{' where none stand above' if known.any() else ''}: {why}")


def _linear_footer(fit: FrequentistFit) -> str:
    record = fit.record
    F, df1, df2 = record.f_statistic  # type: ignore[union-attr]
    lines = [f"Residual standard error: {fit.sigma:.4g} on {df2:g} degrees of freedom"]
    lines.append(f"Multiple R-squared: {record.r_squared:.4f}, adjusted R-squared: {record.adj_r_squared:.4f}")  # type: ignore[union-attr]
    if df1 > 0:
        from scipy import stats

        lines.append(f"F-statistic: {F:.4g} on {df1:g} and {df2:g} DF, p-value: {p_value(stats.f.sf(F, df1, df2))}")
    return "\n".join(lines)


def sentences(fit: FrequentistFit) -> list[str]:
    """What is wrong with a mixed fit and what to do, one sentence each; empty when nothing is."""
    found = unconverged(fit)
    if fit.singular:
        found += [f"Boundary (singular) fit: {what}." for what in boundary(fit)]
        found.append("check() says what that means and what to try, the Bayesian fit among it.")
    return found


def cure(convergence: Convergence) -> str:
    """What may help a search that did not converge; scales do not matter where the criterion has no minimum."""
    if convergence.status == "unbounded":
        return "Simplify the group effects"
    if convergence.status == "undetermined":
        return "Leave the common or the group effects of that factor out"
    return "Rescale predictors or simplify the group effects"


def unconverged(fit: FrequentistFit) -> list[str]:
    """Why the search did not end at a minimum, and what to do."""
    if fit.converged:
        return []
    convergence = fit.record.convergence  # type: ignore[union-attr]
    found = [
        f"The optimiser did not converge ({convergence.message}): do not report these estimates. {cure(convergence)}."
    ]
    for factor, label, distance in _far_from_zero(fit):
        found.append(
            f"{label} lies {distance:.0f} standard deviations from 0, and its effects and the intercepts of {factor} "
            "are kept uncorrelated (||): then almost the same column stands in the model twice, and which lines it "
            f"allows depends on where {label} is 0. Centre {label}, or let them correlate with (... | {factor})."
        )
    return found


def too_many(fit: FrequentistFit) -> list[str]:
    """A sentence where there are as many covariance parameters as degrees of freedom to estimate them from."""
    design, record = fit.design, fit.record
    if not isinstance(record, MixedFit):
        return []
    parameters = design.n_covariance + (not design.precision.sigma_known)
    left = design.nobs - int(design.estimable.sum())
    if parameters < left:
        return []
    return [
        f"{parameters} variances and correlations are estimated from {design.nobs} rows, of which the fixed effects "
        f"leave {left} degrees of freedom: they cannot be told apart. Simplify the group effects."
    ]


def other_optimum(fit: FrequentistFit) -> list[str]:
    """A sentence where another optimum is nearly as good: what the group effects look like there."""
    record = fit.record
    if not isinstance(record, MixedFit) or not np.isfinite(record.convergence.other_criterion):
        return []
    theta = np.array(record.convergence.other_theta)
    factor = record.problem.factorise(theta)
    if factor is None:
        return []
    m = fit.nobs - int(fit.design.estimable.sum()) if fit.reml else fit.nobs
    sigma = 1.0 if fit.design.precision.sigma_known else float(np.sqrt(factor.pwrss / m))
    told = []
    for block, here, there in zip(fit.design.blocks, record.covariance, record.problem.lambdas(theta), strict=True):
        sds = zip(block.columns, np.sqrt(np.diag(here)), sigma * np.linalg.norm(there, axis=1), strict=True)
        told += [f"{column.sd_name} {other:.3g} instead of {own:.3g}" for column, own, other in sds]
    if not fit.design.precision.sigma_known:
        told.append(f"sigma {sigma:.3g} instead of {fit.sigma:.3g}")
    more = record.convergence.other_criterion - record.criterion
    return [
        f"Another optimum is nearly as good: its {'REML criterion' if fit.reml else 'deviance'} is only {more:.2f} "
        f"higher, with {', '.join(told)}. The data do not tell the two apart; a posterior (m.fit()) holds both."
    ]


def _far_from_zero(fit: FrequentistFit) -> list[tuple[str, str, float]]:
    """(factor, column, |mean| / sd) of slopes apart from their intercept whose columns are nearly constant."""
    blocks, found = fit.design.blocks, []
    constant = {block.factor for block in blocks if block.labels == ("Intercept",)}
    for block in blocks:
        if block.size == 1 and block.factor in constant and block.labels != ("Intercept",):
            values = block.values[:, 0]
            distance = float(np.abs(values.mean()) / values.std()) if values.std() > 0 else 0.0
            if distance > FAR:
                found.append((block.factor, block.labels[0], distance))
    return found


def boundary(fit: FrequentistFit) -> list[str]:
    """Which variances are 0, which correlations are -1 or 1, which combination has no variance: a clause each."""
    return [found.what for found in singular_text.boundaries(fit)]


@checked
def check(fit: FrequentistFit, posterior: Fit | None = None) -> Summary:
    """Convergence and singularity in words; posterior: a Bayesian fit, whose parameters stand beside."""
    assumptions = [Section("", sentence) for sentence in assumption_sentences(fit)]
    if not fit.is_mixed:
        return Summary("Check", (Section("", "Least squares has a closed form: nothing to converge."), *assumptions))
    found = [Section("", sentence) for sentence in [*unconverged(fit), *too_many(fit), *other_optimum(fit)]]
    found += singular_text.sections(fit, posterior)
    if not (fit.singular or not fit.converged):
        found.insert(0, Section("", FINE))
    return Summary("Check", (*found, *assumptions))
