"""A comparison of fits as a table for a paper: parameters in words under headings, one column per fit, sample sizes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hiermod.core.paper_table import MINUS, NONE, PaperTable, decimals, number, renamed
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import corr_names, sd_names

Fit = BayesianFit | FrequentistFit
CELLS = ("interval", "std_error", "estimate")
COMMON, SDS, CORRELATIONS, OTHERS = "Common effects", "Standard deviations", "Correlations", "Other parameters"
SECTIONS = (COMMON, SDS, CORRELATIONS, OTHERS)


def paper_table(
    comparison: pd.DataFrame,
    cells: str = "interval",
    digits: int = 2,
    difference: bool = False,
    rename: Mapping[str, str] | None = None,
    note: bool = True,
) -> PaperTable:
    """The comparison as text for a paper: a row per parameter under headings, a column per fit, then sample sizes."""
    fits = [top for top in dict.fromkeys(comparison.columns.get_level_values(0)) if top != "difference"]
    others = [sub for top, sub in comparison.columns if top == "difference"] if difference else []
    parameters = [str(name) for name in comparison.index]
    told = comparison.attrs["labels"]
    labels = renamed([told[name][1] for name in parameters], rename, parameters)
    rows: list[tuple[str, tuple[str, ...] | None]] = []
    section = ""
    for i in sorted(range(len(parameters)), key=lambda i: SECTIONS.index(told[parameters[i]][0])):
        if told[parameters[i]][0] != section:
            section = told[parameters[i]][0]
            rows.append((section, None))
        row = comparison.iloc[i]
        se = np.array([row[fit, "std_error"] for fit in fits], dtype=float)
        values = np.array([row[fit, "estimate"] for fit in fits], dtype=float)
        places = decimals(se, values, digits) if section != CORRELATIONS else digits
        gaps = [number(float(row["difference", fit]), 2) for fit in others]
        rows.append((labels[i], (*(_cell(row[fit], cells, places) for fit in fits), *gaps)))
    rows.append(("Sample", None))
    for what, count in comparison.attrs["sizes"].items():
        counts = [str(count[fit]) if fit in count else NONE for fit in fits]
        rows.append((what, (*counts, *[""] * len(others))))
    heads = (*fits, *(f"{fit} {MINUS} {comparison.attrs['reference']}" for fit in others))
    return PaperTable(heads, tuple(rows), _note(comparison, fits, cells, others) if note else "")


def _cell(row: pd.Series, cells: str, places: int) -> str:
    estimate = number(float(row["estimate"]), places)
    if cells == "interval" and np.isfinite(row["lower"]):
        return f"{estimate} [{number(float(row['lower']), places)}, {number(float(row['upper']), places)}]"
    if cells == "std_error" and np.isfinite(row["std_error"]):
        return f"{estimate} ({number(float(row['std_error']), places)})"
    return estimate


def _note(comparison: pd.DataFrame, fits: list[str], cells: str, others: list[str]) -> str:
    """What the cells hold, fit by fit."""
    beside = {
        "interval": {True: " [95 % equal-tailed credible interval]", False: " [95 % confidence interval]"},
        "std_error": {True: " (posterior standard deviation)", False: " (standard error)"},
        "estimate": {True: "", False: ""},
    }[cells]
    parts = []
    for fit in fits:
        kind = comparison.attrs["kinds"][fit]
        bayes = kind == "Bayes"
        name = fit if fit == kind else f"{fit} ({kind})"
        parts.append(f"{name}: {'posterior mean' if bayes else 'estimate'}{beside[bayes]}")
    told = "; ".join(parts) + "."
    if others:
        told += f" Differences are in standard errors of {comparison.attrs['reference']}."
    return told


def section_and_label(parameter: str, fits: Mapping[str, Fit]) -> tuple[str, str]:
    """The section of a parameter and its name in words: ("Standard deviations", "Days by Subject")."""
    for fit in fits.values():
        design = fit.design
        if parameter in design.common:
            return COMMON, parameter
        if parameter == "sigma":
            return SDS, "Residual"
        for block in design.blocks:
            if parameter in sd_names(block):
                return SDS, f"{block.labels[sd_names(block).index(parameter)]} by {block.factor}"
            if parameter in corr_names(block):
                pairs = [(a, b) for i, a in enumerate(block.labels) for b in block.labels[i + 1 :]]
                first, second = pairs[corr_names(block).index(parameter)]
                return CORRELATIONS, f"{first}, {second} by {block.factor}"
    return OTHERS, parameter


def kind_of(fit: Fit) -> str:
    """Bayes, REML, ML or least squares."""
    if isinstance(fit, BayesianFit):
        return "Bayes"
    return "REML" if fit.reml and fit.is_mixed else "least squares" if fit.reml else "ML"


def sizes_of(fits: Mapping[str, Fit]) -> dict[str, dict[str, int]]:
    """Rows, and levels of each grouping factor, by fit."""
    found: dict[str, dict[str, int]] = {"Observations": {name: fit.nobs for name, fit in fits.items()}}
    for name, fit in fits.items():
        for factor, count in fit.ngroups.items():
            found.setdefault(f"Levels of {factor}", {})[name] = count
    return found
