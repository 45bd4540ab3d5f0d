"""Who carries the result: Cook's distance and dfbetas of groups or rows (Nieuwenhuis et al. 2012, R Journal 4(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.errors import ArgumentTypeError, UnknownNameError, nearest
from hiermod.plots.style import COLOURS, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 30  # units that are drawn, the most influential first


def influence(table: Any, term: str | None = None, group: str | None = None, ax: Axes | None = None) -> Axes:
    """A line per group or row left out: Cook's distance, or the dfbetas of one coefficient (term).

    table: what ``fit.influence(...)`` returned, or a fit, whose levels of ``group`` (its first factor by default) are
    left out.  The 30 with the largest values are drawn.  Raises ArgumentTypeError, UnknownNameError."""
    if hasattr(table, "influence") and not isinstance(table, pd.DataFrame):
        factors = list(table.design.ngroups)
        table = table.influence(group if group is not None or not factors else factors[0])
    if not isinstance(table, pd.DataFrame) or "cooks_distance" not in table.columns:
        raise ArgumentTypeError("influence needs a fit by REML or ML, or the table that its .influence() returned")
    column = "cooks_distance" if term is None else f"dfbetas[{term}]"
    if column not in table.columns:
        known = [name[8:-1] for name in table.columns if name.startswith("dfbetas[")]
        raise UnknownNameError(
            f"no coefficient is named {term!r}.{nearest(str(term), known)} There are: {', '.join(known)}"
        )
    values = table[column].dropna()
    shown = values.iloc[np.argsort(-values.abs().to_numpy(), kind="stable")[:SHOWN]][::-1]
    unit = table.attrs.get("group") or "row"
    with styled():
        ax = new_axes(6.0, max(3.0, 0.24 * len(shown) + 1.4), ax)
        at = np.arange(len(shown))
        ax.hlines(at, 0.0, shown.to_numpy(), color=COLOURS["none"], lw=1.2)
        ax.plot(shown.to_numpy(), at, ls="", marker="o", ms=6, color=COLOURS["Bayes"])
        ax.axvline(0.0, color=COLOURS["complete"], lw=1.0)
        for bound in (1.0,) if term is None else (-1.0, 1.0):
            if np.abs(shown).max() > 0.5:
                ax.axvline(bound, color=COLOURS["REML"], lw=1.0, ls="--")
        ax.set_yticks(at, [label_text(str(label)) for label in shown.index])
        ax.tick_params(axis="y", labelsize="x-small")
        ax.set_ylabel(f"{unit} left out")
        how = "refitted" if table.attrs.get("refit") else "variance parameters held"
        what = "Cook's distance" if term is None else f"change of {term} in standard errors"
        ax.set_xlabel(f"{what} ({how})")
        more = "" if len(shown) == len(values) else f", largest {len(shown)} of {len(values)}"
        titled(ax, f"Influence of each {unit}{more}")
    return ax
