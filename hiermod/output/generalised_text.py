"""The words and layout of a generalised fit's summary (glmer's sections, R's glm's) and check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.answers import remembered
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary, number_column, p_value
from hiermod.engines.likelihood.enough_nodes import integration_error
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.errors import listing
from hiermod.families.catalogue import FAMILIES
from hiermod.inference.assumptions.assumption_text import assumption_sentences
from hiermod.output import frequentist_text, singular_text
from hiermod.output.summary_sections import correlation_section, varcorr_section

if TYPE_CHECKING:
    from hiermod.fits.generalised import GeneralisedFit
    from hiermod.fits.vocabulary import Fit

OFF = 0.1  # standard errors by which exact integrals move an estimate: less is a trifle
LARGE, FEW = 2.0, 30.0  # an sd, and trials of a level, with which Laplace's approximation is known to be poor
RUNAWAY = 10.0  # an sd on the scale of the linear predictor beyond which outcomes hardly vary within a level


@checked
@remembered
def summary(fit: GeneralisedFit) -> Summary:
    """lme4's summary of a glmer fit, R's of a glm."""
    design = fit.design
    title = "Generalised linear model fit by maximum likelihood"
    if fit.is_mixed:
        how = "Laplace approximation" if fit.nodes == 1 else f"adaptive Gauss-Hermite quadrature, {fit.nodes} nodes"
        title = f"Generalised linear mixed model fit by maximum likelihood ({how})"
    values = {"AIC": fit.aic, "BIC": fit.bic, "logLik": fit.loglik, "-2 logLik": fit.deviance}
    sections = [
        Section("", f"Family: {fit.family} ({fit.link})\nFormula: {fit.formula}{_missing(fit)}"),
        Section("", "   ".join(f"{name} {value:.1f}" for name, value in values.items())),
        Section("Scaled residuals:", _residual_table(fit), show_index=False),
    ]
    if fit.is_mixed:
        sections.append(varcorr_section(fit.varcorr(), fit.nobs, fit.ngroups))
    sections.append(Section("Fixed effects:" if fit.is_mixed else "Coefficients:", _coefficients(fit)))
    correlations = correlation_section(fit.vcov().loc[design.estimable, design.estimable]) if fit.is_mixed else None
    if correlations is not None:
        sections.append(correlations)
    if fit.record.auxiliary:
        sections.append(Section("Further parameters:", _further(fit)))
    if not fit.is_mixed:
        null, df = fit.record.null_deviance, fit.record.df_residual  # type: ignore[union-attr]
        null_df = fit.nobs - int(design.has_intercept)
        text = f"Null deviance: {null:.2f} on {null_df} degrees of freedom"
        sections.append(
            Section("", f"{text}\nResidual deviance: {fit.residual_deviance:.2f} on {df} degrees of freedom")
        )
    dropped = [name for name, kept in zip(design.common, design.estimable, strict=True) if not kept]
    if dropped:
        told = f"Rank deficient: no estimate for {listing(dropped)}, which earlier columns explain."
        sections.append(Section("", told))
    found = sentences(fit)
    if found:
        sections.append(Section("", " ".join(found)))
    return Summary(title, tuple(sections))


def _missing(fit: GeneralisedFit) -> str:
    design = fit.design
    if not design.missing:
        return ""
    told = ", ".join(f"{name}: {count}" for name, count in design.missing.items())
    return f"\n{design.n_rows_data - design.nobs} of {design.n_rows_data} rows left out for missing values ({told})"


def _residual_table(fit: GeneralisedFit) -> pd.DataFrame:
    quantiles = np.quantile(fit.residuals("pearson").to_numpy(), [0, 0.25, 0.5, 0.75, 1])
    return pd.DataFrame([[f"{value:.4f}" for value in quantiles]], columns=["Min", "1Q", "Median", "3Q", "Max"])


def _coefficients(fit: GeneralisedFit) -> pd.DataFrame:
    table = fit.fixef()
    shown = number_column(table[["estimate", "std_error"]].to_numpy().ravel(), 4)
    columns = {
        "Estimate": shown[0::2],
        "Std. Error": shown[1::2],
        "z value": [f"{value:.3f}" if np.isfinite(value) else "" for value in table["z"]],
        "Pr(>|z|)": [p_value(value) for value in table["p"]],
    }
    return pd.DataFrame(columns, index=table.index.to_list())


def _further(fit: GeneralisedFit) -> pd.DataFrame:
    """The family's own parameters, those of the response's distribution, with 95 % limits."""
    names = list(fit.record.likelihood.auxiliary_names)
    table = fit.parameters().loc[names]
    shown = number_column(table.to_numpy(dtype=float).ravel(), 4)
    columns = ["Estimate", "Std. Error", "lower", "upper"]
    return pd.DataFrame({name: shown[i::4] for i, name in enumerate(columns)}, index=names)


def sentences(fit: GeneralisedFit) -> list[str]:
    """What is wrong with a fit and what to do, one sentence each; empty when nothing is."""
    return [*frequentist_text.sentences(fit), *_doubts(fit)] if fit.is_mixed else _at_an_edge(fit)


def _at_an_edge(fit: GeneralisedFit) -> list[str]:
    """Parameters of the family that ran to the end of their scale."""
    found, likelihood = [], fit.record.likelihood
    for k, name in enumerate(likelihood.auxiliary_names):
        if np.isinf(fit.record.vcov_auxiliary[k, k]):
            limit = FAMILIES[fit.family].parameter(name).limit
            found.append(
                f"{name} has run to {likelihood.natural(k, fit.record.auxiliary[k]):.3g}, where the likelihood does "
                "not depend on it any more"
                + (f": {limit} describes these data as well, with one parameter less." if limit else ".")
            )
    return found


def _doubts(fit: GeneralisedFit) -> list[str]:
    """Runaway variances and standard errors that are not the Hessian's."""
    record, found = fit.record, []
    runaway = RUNAWAY * record.likelihood.unit
    for block, cov in zip(fit.design.blocks, record.covariance, strict=True):  # type: ignore[union-attr]
        scale = np.sqrt(np.mean(np.square(block.values), axis=0))
        large = [a for a, s in zip(block.labels, np.sqrt(np.diag(cov)) * scale, strict=True) if s > runaway]
        if large:
            found.append(
                f"The standard deviation of {listing(large)} between levels of {block.factor} is above {runaway:g} on "
                f"the {fit.link} scale: outcomes hardly vary within a level, the estimate may have no upper limit, and "
                "the Laplace approximation is poor there. Take more quadrature nodes, or fit() with a prior."
            )
    if record.vcov_method != "hessian":  # type: ignore[union-attr]
        found.append(
            "The Hessian over variances and coefficients is not positive, so standard errors are those given the "
            "variances (lme4's use.hessian = FALSE): too small, if anything."
        )
    return found + _at_an_edge(fit)


def integration_sentences(fit: GeneralisedFit) -> list[str]:
    """How far the approximation of the integrals over group effects is off, where that is more than a trifle.

    Measured for one scalar group term; for others a rule says where Laplace's approximation is known to be poor."""
    record = fit.record
    if not isinstance(record, GeneralisedMixedFit):
        return []
    how = "Laplace's approximation" if fit.nodes == 1 else f"Quadrature with {fit.nodes} nodes"
    error = integration_error(record, OFF)
    if error is not None:
        if error.refit is None:
            return []
        factor, moves = fit.design.blocks[0].factor, pd.Series(error.refit.beta - record.beta, index=fit.design.common)
        in_se = (moves / fit.fixef()["std_error"]).dropna()
        sds = f"{error.refit.theta[0]:.3g}, not {record.theta[0]:.3g}"
        told = f"the standard deviation between levels of {factor} is {sds}"
        if len(in_se):
            most = in_se.abs().idxmax()
            told += f", and {most} moves by {moves[most]:+.2g} ({abs(in_se[most]):.2g} standard errors)"
        return [
            f"{how} is off here: with the integrals over {factor} taken by {error.nodes} nodes the log likelihood at "
            f"these estimates is {error.loglik:+.2g} away, {told}. Fit with ml(nodes='auto')."
        ]
    if fit.nodes > 1 or FAMILIES[fit.family].kind not in ("binary", "proportion"):
        return []
    found = []
    for block, cov in zip(fit.design.blocks, record.covariance, strict=True):
        sd = float(np.sqrt(np.einsum("ij,jk,ik->i", block.values, cov, block.values).mean()))
        trials = record.likelihood.trials.sum() / len(block.levels)
        if sd > LARGE and trials < FEW:
            found.append(
                f"Levels of {block.factor} differ by a standard deviation of {sd:.1f} on the {fit.link} scale and "
                f"have {trials:.0f} trials on average: there Laplace's approximation may be off by a standard error or "
                "more. "
                + (
                    "Fit with ml(nodes='auto')."
                    if len(fit.design.blocks) == 1 and block.size == 1
                    else "No quadrature is here for these group terms: compare with the posterior of fit()."
                )
            )
    return found


@checked
def check(fit: GeneralisedFit, posterior: Fit | None = None) -> Summary:
    """Convergence, singularity and runaway variances in words; posterior as for Gaussian fits."""
    assumptions = [Section("", sentence) for sentence in assumption_sentences(fit)]
    if not fit.is_mixed:
        fine = "Fisher scoring converged and no combination of predictors tells the outcomes apart perfectly."
        edges = [Section("", sentence) for sentence in _at_an_edge(fit)]
        return Summary("Check", (Section("", fine), *edges, *assumptions))
    told = [*frequentist_text.unconverged(fit), *_doubts(fit), *integration_sentences(fit)]
    found = [Section("", sentence) for sentence in told]
    if not found and not fit.singular:
        found = [Section("", frequentist_text.FINE)]
    return Summary("Check", (*found, *singular_text.sections(fit, posterior), *assumptions))
