"""The results of a fit in sentences: every fixed effect with its interval and test, then the group effects' spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.paper_table import decimals, number
from hiermod.families.catalogue import FAMILIES
from hiermod.fits.bayesian import BayesianFit
from hiermod.output.writing.report_sample import code, joined

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

MOST = 12  # coefficients told one by one
RATIOS = {"logit": "odds ratio", "log": "ratio"}


def results(fit: Fit) -> tuple[str, ...]:
    """Fixed effects; group effects; fit as a whole."""
    table = fit.fixef()
    table = table[np.isfinite(table["estimate"])]
    told = [_coefficient(fit, str(name), row) for name, row in table.iloc[:MOST].iterrows()]
    if len(table) > MOST:
        told.append(f"The other {len(table) - MOST} coefficients are in a table of their own.")
    pieces = [" ".join(told)] if told else []
    spread = _spread(fit)
    if spread:
        pieces.append(spread)
    further = _further(fit)
    if further:
        pieces.append(further)
    return tuple(pieces)


def _coefficient(fit: Fit, name: str, row: pd.Series) -> str:
    """``For Days the estimate was 10.5 (SE 1.5), 95 % CI [7.2, 13.7], t(17.0) = 6.77, p < 0.001.``"""
    bayes = isinstance(fit, BayesianFit)
    places = decimals(np.array([row["std_error"]], dtype=float), np.array([row["estimate"]], dtype=float), 2)
    value, se, low, high = (number(float(row[one]), places) for one in ("estimate", "std_error", "lower", "upper"))
    what = "the posterior mean" if bayes else "the estimate"
    told = f"For {_plain(name)} {what} was {value} ({'SD' if bayes else 'SE'} {se}), 95 % CI [{low}, {high}]"
    test = _test(row)
    ratio = RATIOS.get(getattr(fit, "link", "identity"))
    if ratio is not None and name != "Intercept":
        with np.errstate(over="ignore"):
            ends = np.exp(row[["estimate", "lower", "upper"]].to_numpy(dtype=float))
        middle, low, high = (_three(value) for value in ends)
        test += f" ({ratio} {middle} [{low}, {high}])"
    return f"{told}{test}."


def _test(row: pd.Series) -> str:
    if "p" not in row or not np.isfinite(row["p"]):
        return ""
    p = "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
    if "z" in row:
        return f", z = {number(float(row['z']), 2)}, {p}"
    df = f"({row['df']:.1f})" if np.isfinite(row["df"]) and row["df"] % 1 else f"({row['df']:.0f})"
    return f", t{df if np.isfinite(row['df']) else ''} = {number(float(row['t']), 2)}, {p}"


def _three(value: float) -> str:
    """Three significant digits."""
    return number(value, decimals(np.array([np.nan]), np.array([value]), 2))


def _spread(fit: Fit) -> str:
    varcorr: pd.DataFrame = fit.varcorr()
    told = []
    for factor in dict.fromkeys(varcorr["group"]):
        rows = varcorr[varcorr["group"] == factor]
        sds, correlations = rows[rows["term2"].isna()], rows[rows["term2"].notna()]
        if factor == "Residual":
            told.append(f"The residual standard deviation was {_value(rows.iloc[0], 'sd')}.")
            continue
        parts = []
        for _, row in sds.iterrows():
            what = "the intercept" if row["term1"] == "Intercept" else f"the effect of {code(row['term1'])}"
            parts.append(f"{_value(row, 'sd')} for {what}")
        text = f"Between levels of {code(factor)}, the standard deviation was {joined(parts)}"
        pairs = [f"{_value(row, 'r')} between {_plain(row['term1'])} and {_plain(row['term2'])}" for _, row in
                 correlations.iterrows()]  # fmt: skip
        if pairs:
            text += f", with {'a correlation of' if len(pairs) == 1 else 'correlations of'} {joined(pairs)}"
        told.append(text + ".")
    return " ".join(told)


def _further(fit: Fit) -> str:
    """The parameters of the response's distribution besides its mean: those that the tables of variances have not."""
    names = [name for name in FAMILIES[fit.family].parameter_names if name not in fit.design.formulas]
    if fit.varcorr()["group"].eq("Residual").any():
        names = [name for name in names if name != "sigma"]
    told, table = [], fit.parameters()
    for name in names:
        if name in table.index:
            row = table.loc[name, ["estimate", "lower", "upper"]].to_numpy(dtype=float)
            value, low, high = (_three(one) if np.isfinite(one) else "∞" for one in row)
            told.append(f"{code(name)} was {value}, 95 % CI [{low}, {high}]")
    return f"Of the {fit.family} distribution, {joined(told)}." if told else ""


def _plain(term: str) -> str:
    return "the intercept" if term == "Intercept" else f"{code(term)}"


def _value(row: pd.Series, kind: str) -> str:
    """An sd with three digits or a correlation with two decimals, and a posterior's interval."""
    value = float(row["sdcor"])
    known = "lower" in row and np.isfinite(row["lower"])
    places = 2 if kind == "r" else decimals(np.array([np.nan]), np.array([value]), 2)
    if not known:
        return number(value, places)
    low, high = (number(float(row[end]), places) for end in ("lower", "upper"))
    return f"{number(value, places)} (95 % CI [{low}, {high}])"
