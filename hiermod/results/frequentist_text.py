"""The words and layout of a frequentist fit's summary (lme4's sections) and check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import listing
from hiermod.results.summary import Section, Summary, correlation_section, number_column, p_value, varcorr_section

if TYPE_CHECKING:
    from hiermod.results.frequentist import FrequentistFit


def summary(fit: FrequentistFit) -> Summary:
    """lme4's sections for a mixed model, R's lm's for a linear one."""
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
    note = "df and p by Satterthwaite's method" if fit.is_mixed and fit.design.se is None else ""
    sections.append(Section("Fixed effects:" if fit.is_mixed else "Coefficients:", _coefficients(fit), note))
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
    if design.weights is not None:
        notes += "\nPrior weights: residual variance is sigma^2 / w"
    if design.se is not None:
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
    found = []
    if not fit.converged:
        found.append(
            f"The optimiser did not converge ({fit.record.convergence.message}): do not report these estimates."  # type: ignore[union-attr]
            " Rescale predictors or simplify the group effects."
        )
    if fit.singular:
        found += [f"Boundary (singular) fit: {what}." for what in boundary(fit)]
        found.append(
            "The data do not support all the group effects asked for. Drop the effect at its boundary, or see what the "
            "Bayesian fit says: its posterior shows which values of that parameter the data leave open."
        )
    return found


def boundary(fit: FrequentistFit) -> list[str]:
    """Which variances are 0, which correlations are -1 or 1, which block has a combination without variance."""
    told = []
    varcorr = fit.varcorr()
    scale = {id(block): np.sqrt(np.mean(np.square(block.values), axis=0)) for block in fit.design.blocks}
    for block, Lambda in zip(fit.design.blocks, fit.record.Lambda, strict=True):  # type: ignore[union-attr]
        D = scale[id(block)]
        if np.linalg.svd(D[:, None] * Lambda, compute_uv=False).min() >= 1e-4:
            continue
        sds = D * np.sqrt(np.square(Lambda).sum(axis=1))
        zero = [label for label, sd in zip(block.labels, sds, strict=True) if sd < 1e-4]
        if zero:
            told.append(f"the variance of {listing(zero)} between levels of {block.factor} is estimated as 0")
            continue
        rows = varcorr[(varcorr["group"] == block.factor) & varcorr["term2"].notna()]
        extreme = rows[rows["term1"].isin(block.labels) & (rows["sdcor"].abs() > 0.999)]
        for _, row in extreme.iterrows():
            told.append(
                f"the correlation of {row['term1']} and {row['term2']} within {block.factor} is estimated as "
                f"{row['sdcor']:+.2f}"
            )
        if extreme.empty:
            told.append(f"a combination of {listing(block.labels)} has no variance between levels of {block.factor}")
    return told


def check(fit: FrequentistFit) -> Summary:
    """The fit's health as sentences."""
    if not fit.is_mixed:
        return Summary("Check", (Section("", "Least squares has a closed form: nothing to converge."),))
    found = sentences(fit)
    if not found:
        found = ["The optimiser converged and no variance or correlation is at its boundary."]
    return Summary("Check", tuple(Section("", sentence) for sentence in found))
