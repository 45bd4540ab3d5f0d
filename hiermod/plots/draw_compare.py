"""Comparisons of models by their scores: the table as a picture, and where in the data two models differ.

After the compare plot of Vehtari, Gelman and Gabry's loo and of ArviZ; pointwise differences: the loo glossary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.inference.scores.comparable import paired_units
from hiermod.inference.scores.record import MAX_K, NAMES, Score
from hiermod.plots.style import COLOURS, ink, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = {"elpd", "elpd_diff", "se", "dse"}
BELOW = 0.24  # of a line: how far under a model's elpd its difference stands


def compare_scores(table: Any, ax: Axes | None = None) -> Axes:
    """Draw what ``hm.compare`` returned: elpd with its standard error, under it the difference to the best.

    The dotted line marks the best model: a difference whose bar stays away from it is one that the data tell apart.
    Returns the Axes.  ArgumentTypeError for anything but such a table."""
    if not isinstance(table, pd.DataFrame) or not NEEDED.issubset(table.columns):
        raise ArgumentTypeError("compare_scores draws what hm.compare returned")
    with styled():
        ax = new_axes(7.2, 1.3 + 0.7 * len(table), ax)
        y = np.arange(len(table), dtype=float)
        elpd, best = table["elpd"].to_numpy(), float(table["elpd"].iloc[0])
        ax.errorbar(
            elpd, y, xerr=table["se"].to_numpy(), fmt="o", ms=7, lw=2, color=COLOURS["Bayes"], label="elpd ± se"
        )
        ax.errorbar(
            elpd[1:],
            y[1:] + BELOW,
            xerr=table["dse"].to_numpy()[1:],
            fmt="^",
            ms=6,
            lw=2,
            color=COLOURS["REML"],
            label="difference to the best ± dse",
        )
        ax.axvline(best, color=COLOURS["complete"], ls=":", lw=1.2)
        for at, (diff, dse) in enumerate(zip(table["elpd_diff"], table["dse"], strict=True)):
            if at:
                words = f"{diff:.1f} ± {dse:.1f}".replace("-", "−")
                ax.annotate(
                    words, (elpd[at], y[at] + BELOW), (0, -12), textcoords="offset points",
                    ha="center", va="center", fontsize="x-small", color=COLOURS["REML"],
                    bbox={"facecolor": ink(0.0), "edgecolor": "none", "pad": 0.5},
                )  # fmt: skip
        ax.set_yticks(y, [str(name) for name in table.index])
        ax.set_ylim(len(table) - 0.3, -0.6)
        ax.grid(axis="y", visible=False)
        criterion = NAMES.get(table.attrs.get("criterion", ""), "")
        titled(ax, f"{criterion[:1].upper()}{criterion[1:]}" or "Predictive comparison")
        ax.set_xlabel("expected log predictive density (larger is better)")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.0, ncols=2)
    return ax


def score_differences(models: Mapping[str, Any], by: Sequence[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Where two models differ: elpd of the first less the second's, unit by unit.

    models: two names -> scores of the same kind (``fit.loo()``, ``fit.logo(group)``).  by (n,): a label for each row,
    such as a column of the data; differences are then summed over the rows of each label.  Open circles: units with
    Pareto k above 0.7 in either.  Returns the Axes."""
    if not isinstance(models, Mapping) or len(models) != 2 or not all(isinstance(s, Score) for s in models.values()):
        raise ArgumentTypeError("score_differences takes a dict of two scores: {'a': fit_a.loo(), 'b': fit_b.loo()}")
    (first, a), (second, b) = models.items()
    units = paired_units(a, b)
    if by is not None:
        if len(by) != len(units):
            raise ArgumentError(f"by has {len(by)} labels and the scores {len(units)} units: give one for each")
        labels = pd.Index(np.asarray(by), name=getattr(by, "name", None) or "group")
        units = units.groupby(labels).agg({"difference": "sum", "k_a": "max", "k_b": "max"})
    listed = by is not None or a.unit != "row"
    bad = (units[["k_a", "k_b"]].max(axis=1) > MAX_K).to_numpy()
    if listed:
        order = np.argsort(units["difference"].to_numpy(), kind="stable")
        units, bad = units.iloc[order], bad[order]
    value = units["difference"].to_numpy()
    place = np.arange(len(units), dtype=float)
    colours = np.where(value >= 0, COLOURS["Bayes"], COLOURS["REML"])
    faces = np.where(bad, ink(0.0), colours)
    with styled():
        if listed:
            ax = new_axes(6.4, 1.6 + 0.26 * len(units), ax)
            ax.hlines(place, 0, value, color=colours, lw=2)
            ax.scatter(value, place, s=36, c=faces, edgecolors=colours, zorder=3)
            ax.axvline(0, color=COLOURS["complete"], lw=1)
            ax.set_yticks(place, [label_text(str(label)) for label in units.index], fontsize="small")
            ax.set_ylim(-0.7, len(units) - 0.3)
            ax.set_ylabel(str(units.index.name))
            ax.set_xlabel("difference of elpd")
            ax.grid(axis="y", visible=False)
        else:
            ax = new_axes(7.2, 4.0, ax)
            ax.vlines(place, 0, value, color=colours, lw=0.8, alpha=0.5)
            ax.scatter(place, value, s=16, c=faces, edgecolors=colours, zorder=3)
            ax.axhline(0, color=COLOURS["complete"], lw=1)
            ax.set_xlabel("row")
            ax.set_ylabel("difference of elpd")
        for colour, better in ((COLOURS["Bayes"], first), (COLOURS["REML"], second)):
            ax.plot([], [], "o-", color=colour, label=f"{better} predicts better")
        if bad.any():
            ax.plot([], [], "o", mfc=ink(0.0), color=COLOURS["none"], label=f"Pareto k > {MAX_K}")
        ax.legend(fontsize="small")
        total = f"{value.sum():+.1f}".replace("-", "−")
        titled(ax, f"elpd: {first} less {second}, {total} in all")
    return ax
