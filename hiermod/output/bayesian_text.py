"""The words and layout of a Bayesian fit's summary and check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.answers import remembered
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary, number_column
from hiermod.engines.catalogue import method_named
from hiermod.engines.posterior import MAX_R_HAT, MIN_ESS
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.inference.predictive.bayesian_checks import data_sentences
from hiermod.inference.scores.record import MAX_K
from hiermod.output.summary_sections import varcorr_section

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit
    from hiermod.fits.vocabulary import Fit


@checked
@remembered
def summary(fit: BayesianFit) -> Summary:
    """The sections of a mixed model's summary with posterior means, and how the sampling went."""
    inference = fit.inference
    family = "" if FAMILIES[fit.family].normal_errors else f" ({fit.family}, {fit.link} link)"
    kind = "hierarchical" if fit.design.blocks else "linear"
    title = f"Bayesian {kind} model{family}, {method_named(inference.method).title}"
    run = (
        f"Formula: {fit.formula}\n{inference.chains} chains of {inference.draws} draws"
        + (f" after {inference.tune} of tuning" if inference.tune else "")
        + f" in {inference.seconds:.1f} s; seed {inference.seed}"
    )
    run += "".join(f"\nFormula for {name}: {text}" for name, text in fit.design.formulas.items())
    sections = [Section("", run)]
    if fit.design.missing:
        left_out = fit.design.n_rows_data - fit.nobs
        sections.append(Section("", f"{left_out} of {fit.design.n_rows_data} rows left out for missing values"))
    if fit.design.blocks:
        sections.append(varcorr_section(fit.varcorr(), fit.nobs, fit.ngroups))
    sections.append(Section("Parameters (posterior mean, sd, 95 % interval):", _parameters(fit)))
    sections.append(Section("", "\n".join(_health(fit))))
    return Summary(title, tuple(sections))


def _health(fit: BayesianFit) -> tuple[str, ...]:
    """What deserves attention, or that nothing does."""
    divergences = "no divergences, " if method_named(fit.inference.method).transitions else ""
    all_well = f"{divergences}R-hat and effective sample sizes in order."
    return fit.inference.messages or (all_well[0].upper() + all_well[1:],)


def _parameters(fit: BayesianFit) -> pd.DataFrame:
    table = fit.parameters()
    columns = {
        "mean": "estimate",
        "sd": "std_error",
        "2.5%": "lower",
        "97.5%": "upper",
    }
    shown: dict[str, list[str]] = {name: [] for name in columns}
    for _, row in table.iterrows():  # each parameter has its own unit, so its own decimals
        cells = number_column(row[list(columns.values())].to_numpy(dtype=float), 3)
        for name, cell in zip(columns, cells, strict=True):
            shown[name].append(cell)
    shown["ess"] = [f"{value:.0f}" for value in table[["ess_bulk", "ess_tail"]].min(axis=1)]  # the tables have both
    shown["r_hat"] = [f"{value:.3f}" for value in table["r_hat"]]
    return pd.DataFrame(shown, index=table.index.to_list())


@checked
def check(fit: BayesianFit, posterior: Fit | None = None) -> Summary:
    """Divergences, R-hat and effective sample sizes in words.

    posterior: stands beside REML and ML fits; this fit is one itself, so another raises UnsupportedError."""
    if posterior is not None and posterior is not fit:
        raise UnsupportedError(
            "posterior= sets a Bayesian fit beside a REML or ML fit, and this fit is Bayesian itself: "
            "reml.check(posterior=fit), or hm.compare_estimates({...}) for two posteriors"
        )
    effects = (f"Group effects: {fit.inference.group_effects}.",) if fit.inference.group_effects else ()
    sentences = (f"Engine: {fit.inference.reason}.", *effects, *_health(fit), _numbers(fit), *data_sentences(fit))
    return Summary("Check", tuple(Section("", sentence) for sentence in sentences))


def _numbers(fit: BayesianFit) -> str:
    """The diagnostics themselves, also when nothing is wrong with them."""
    i = fit.inference
    told = [
        f"largest R-hat {i.max_r_hat:.3f} (at most {MAX_R_HAT})",
        f"smallest effective sample size {min(i.min_ess_bulk, i.min_ess_tail):.0f} (at least {MIN_ESS:.0f})",
    ]
    if method_named(i.method).transitions:
        told.append(f"divergences {i.divergences}")
    if not np.isnan(i.k_hat):
        told.append(f"Pareto k-hat of the proposals {i.k_hat:.2f} (at most {MAX_K})")
    return f"In numbers: {', '.join(told)}."
