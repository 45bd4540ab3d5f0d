"""Estimates of several fits in one table, parameter by parameter, the difference in REML standard errors.

Parameters go by their names in the posterior (``Days``, ``1|Subject_sigma``, ``Subject_corr[Intercept,Days]``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import NotedFrame
from hiermod.core.checked import checked
from hiermod.core.paper_table import PaperTable, check_digits, written
from hiermod.core.summary import number_column
from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.targets import choice
from hiermod.inference.comparison.paper import CELLS, kind_of, paper_table, section_and_label, sizes_of

Fit = BayesianFit | FrequentistFit
NOTE = "se: standard error, or posterior sd.  difference: from {base}'s estimate, in standard errors of {base}."


class Estimates(NotedFrame):
    """What ``compare_estimates`` returns: a DataFrame that can also be written for a paper.

    Printed, every row has decimals of its own, the fits stand beside each other, and intervals under them.  Whatever is
    computed from it is a plain DataFrame."""

    def _printed(self) -> list[pd.DataFrame]:
        return [printable(self), _intervals(self)]

    def to_latex(
        self,
        buf: Any = None,
        *,
        cells: str = "interval",
        digits: int = 2,
        difference: bool = False,
        rename: Mapping[str, str] | None = None,
        note: bool = True,
        caption: str | None = None,
        label: str | None = None,
    ) -> Any:
        """The table for a paper, in LaTeX with booktabs: the text, or None once written to ``buf``, a path or file.

        cells: "interval" (estimate [lower, upper]), "std_error" (estimate (se)) or "estimate".  digits: how many the
        standard error gets.  difference: with columns of differences in standard errors of the reference.  rename:
        labels by parameter, ``{"Days": "Days awake"}``.  note: a line under the table that says what the cells hold."""
        table = self._paper(cells, digits, difference, rename, note)
        return written(table.latex(caption, label), buf)

    def to_html(
        self,
        buf: Any = None,
        *,
        cells: str = "interval",
        digits: int = 2,
        difference: bool = False,
        rename: Mapping[str, str] | None = None,
        note: bool = True,
        caption: str | None = None,
    ) -> Any:
        """The table for a paper, in HTML; arguments as of ``to_latex``."""
        return written(self._paper(cells, digits, difference, rename, note).html(caption), buf)

    def to_markdown(
        self,
        buf: Any = None,
        *,
        cells: str = "interval",
        digits: int = 2,
        difference: bool = False,
        rename: Mapping[str, str] | None = None,
        note: bool = True,
        caption: str | None = None,
    ) -> Any:
        """The table for a paper, in Markdown; arguments as of ``to_latex``."""
        return written(self._paper(cells, digits, difference, rename, note).markdown(caption), buf)

    def _paper(
        self, cells: str, digits: int, difference: bool, rename: Mapping[str, str] | None, note: bool
    ) -> PaperTable:
        return paper_table(self, choice("cells", cells, CELLS), check_digits(digits), difference, rename, note)


@checked
def compare_estimates(fits: Mapping[str, Fit], reference: str | None = None) -> Estimates:
    """Estimates of two or more fits of the same response, one row per parameter.

    fits: name -> fit, in the order of the columns.  reference: the fit the others are measured against; by default the
    first REML fit, else the first frequentist one, else the first.  Returns a DataFrame, index parameter; for each fit
    the columns (name, estimate), (name, std_error), (name, lower), (name, upper), and for each fit but the reference
    ("difference", name): its estimate minus the reference's, in standard errors of the reference (nan where the
    reference has none, as for variances by REML).  Its to_latex(), to_html() and to_markdown() are tables for a paper.

    Raises ArgumentTypeError for what is not a fit, ArgumentError for fits of different responses or rows.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> table = hm.compare_estimates({"ML": m.ml(), "REML": m.reml()})
    >>> bool(abs(table["difference"].loc["Days", "ML"]) < 1e-3)
    True
    """
    _check(fits)
    base = _reference(fits, reference)
    tables = {name: fit.parameters()[["estimate", "std_error", "lower", "upper"]] for name, fit in fits.items()}
    order = list(dict.fromkeys(parameter for table in tables.values() for parameter in table.index))
    # common coefficients first, then the rest, whichever fit has them
    common = {label for fit in fits.values() for label in fit.design.common}
    order = [name for name in order if name in common] + [name for name in order if name not in common]
    columns = {
        (name, statistic): table[statistic].reindex(order)
        for name, table in tables.items()
        for statistic in table.columns
    }
    scale = tables[base]["std_error"].reindex(order).astype(float)
    for name, table in tables.items():
        if name != base:
            gap = table["estimate"].reindex(order) - tables[base]["estimate"].reindex(order)
            columns["difference", name] = gap.astype(float) / scale.replace(0.0, np.nan)
    frame = Estimates(columns, index=pd.Index(order, name="parameter"))
    frame.columns = pd.MultiIndex.from_tuples(frame.columns, names=["fit", "statistic"])
    frame.attrs["reference"] = base
    if len(fits) > 1:
        frame.attrs["notes"] = (NOTE.format(base=base),)
    frame.attrs["labels"] = {name: section_and_label(name, fits) for name in order}
    frame.attrs["kinds"] = {name: kind_of(fit) for name, fit in fits.items()}
    frame.attrs["sizes"] = sizes_of(fits)
    return frame


def printable(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as text for a page or an 80-column terminal: per fit the estimate and its se, then differences.

    Each row has its own unit, so its own decimals."""
    names = list(dict.fromkeys(top for top, _ in comparison.columns if top != "difference"))
    columns = [(name, statistic) for name in names for statistic in ("estimate", "std_error")]
    cells = [number_column(row.to_numpy(dtype=float), 3) for _, row in comparison[columns].iterrows()]
    heads = [name if statistic == "estimate" else f"{name} se" for name, statistic in columns]
    table = pd.DataFrame(cells, index=comparison.index.to_list(), columns=heads)
    others = [sub for top, sub in comparison.columns if top == "difference"]
    for other in others:
        head = "difference" if len(others) == 1 else f"difference {other}"
        table[head] = ["" if np.isnan(gap) else f"{gap:z.2f}" for gap in comparison["difference", other]]
    return table


def _intervals(comparison: pd.DataFrame) -> pd.DataFrame:
    """Lower and upper ends as text, one column a fit: "237.9, 264.9"."""
    names = list(dict.fromkeys(top for top, _ in comparison.columns if top != "difference"))
    ends = comparison[[(name, end) for name in names for end in ("lower", "upper")]]
    rows = [number_column(row.to_numpy(dtype=float), 3) for _, row in ends.iterrows()]
    cells = [[", ".join(filter(None, row[at : at + 2])) for at in range(0, len(row), 2)] for row in rows]
    return pd.DataFrame(cells, index=comparison.index.to_list(), columns=[f"{name} lower, upper" for name in names])


def _check(fits: Mapping[str, Fit]) -> None:
    if not isinstance(fits, Mapping):
        raise ArgumentTypeError(
            f"compare_estimates takes a dict such as {{'Bayes': fit, 'REML': reml}}, got {type(fits).__name__}"
        )
    if not fits:
        raise ArgumentError("compare_estimates needs at least one fit, got an empty dict")
    if "difference" in fits:
        raise ArgumentError("a fit cannot be called 'difference': the table's own columns are. Give it another name")
    for name, fit in fits.items():
        if not isinstance(fit, BayesianFit | FrequentistFit):
            raise ArgumentTypeError(f"{name!r} is not a fit of hiermod but {type(fit).__name__}")
    first_name, first = next(iter(fits.items()))
    for name, fit in fits.items():
        same = fit.nobs == first.nobs and fit.design.response == first.design.response
        if not (same and np.array_equal(fit.design.y, first.design.y)):
            raise ArgumentError(
                f"{name!r} and {first_name!r} are fits of different data ({fit.design.response}, {fit.nobs} rows; "
                f"{first.design.response}, {first.nobs} rows): their estimates do not answer the same question"
            )


def _reference(fits: Mapping[str, Fit], reference: str | None) -> str:
    if reference is not None:
        if reference not in fits:
            raise ArgumentError(f"reference={reference!r} is not one of the fits ({', '.join(fits)})")
        return reference
    frequentist = [name for name, fit in fits.items() if isinstance(fit, FrequentistFit)]
    by_reml = [name for name in frequentist if fits[name].reml]  # type: ignore[union-attr]
    return (by_reml or frequentist or list(fits))[0]
