"""Recovery studies as pictures: bias, coverage, and rank histograms, each with its Monte Carlo error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.errors import ArgumentTypeError
from hiermod.plots.style import COLOURS, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {"REML": ("o", COLOURS["REML"]), "ML": ("s", "#009E73"), "Bayes": ("D", COLOURS["Bayes"])}
GAP = 0.24  # between the methods of one parameter


def recovery_bias(found: Any, ax: Axes | None = None) -> Axes:
    """Bias of every parameter by method, in standard deviations of the estimates, with 95 % Monte Carlo intervals.

    found: what ``hm.recovery`` returned.  A bias of 0.1 is small beside the uncertainty of one study.  Returns the
    Axes."""
    table = _table(found)
    spread = np.sqrt((table["rmse"] ** 2 - table["bias"] ** 2).clip(lower=0.0)).replace(0.0, np.nan)
    with styled():
        value, half = table["bias"] / spread, 1.96 * table["bias_mcse"] / spread
        ax = _by_method(value, value - half, value + half, ax)
        ax.axvline(0.0, color=COLOURS["complete"], ls=":", lw=1.2)
        ax.set_xlabel("bias / sd of the estimates")
        titled(ax, "Bias")
    return ax


def recovery_coverage(found: Any, ax: Axes | None = None) -> Axes:
    """Share of intervals that hold the truth by parameter and method, with Wilson's 95 % intervals.

    found: what ``hm.recovery`` returned; the dotted line is the nominal level.  Returns the Axes."""
    table = _table(found).dropna(subset=["coverage"])
    with styled():
        ax = _by_method(table["coverage"], table["coverage_lower"], table["coverage_upper"], ax)
        ax.axvline(found.level, color=COLOURS["complete"], ls=":", lw=1.2)
        ax.set_xlim(right=1.003)
        ax.set_xlabel(f"coverage of {found.level:.0%} intervals")
        titled(ax, "Coverage")
    return ax


def rank_histogram(found: Any) -> Figure:
    """How often the truth has each rank among posterior draws, one panel per parameter.

    found: what ``hm.recovery(truth="prior")`` returned.  Band: where a bar lies in 99 of 100 studies if all is well.  A
    hill means posteriors that are too wide, a valley too narrow, a slope biased.  Returns the Figure."""
    if not hasattr(found, "rank_counts"):
        raise ArgumentTypeError(f"rank_histogram draws what hm.recovery returned, got {type(found).__name__}")
    import matplotlib.pyplot as plt

    counts = found.rank_counts()
    across = 2 if len(counts.columns) == 4 else min(3, len(counts.columns))
    down = -(-len(counts.columns) // across)
    width = counts.index[1] - counts.index[0]
    with styled():
        figure, panels = plt.subplots(down, across, figsize=(3.2 * across, 2.5 * down), squeeze=False, sharey=True)
        for ax, name in zip(panels.flat, counts.columns, strict=False):
            ax.axhspan(counts.attrs["lower"], counts.attrs["upper"], color=COLOURS["none"], alpha=0.3, lw=0, zorder=3)
            ax.axhline(counts.attrs["expected"], color=COLOURS["complete"], ls=":", lw=1.2, zorder=4)
            ax.bar(counts.index, counts[name], width=0.92 * width, align="edge", color=COLOURS["Bayes"])
            titled(ax, name, fontsize="small")
            ax.grid(axis="x", visible=False)
        for ax in panels.flat[len(counts.columns) :]:
            ax.set_visible(False)
        figure.supxlabel("rank of the truth among 99 posterior draws", fontsize="medium")
        figure.supylabel("data sets", fontsize="medium")
    return figure


def _table(found: Any) -> Any:
    table = getattr(found, "table", None)
    if table is None or not {"bias_mcse", "coverage_mcse"} <= set(table.columns):
        raise ArgumentTypeError(f"this draws what hm.recovery returned, got {type(found).__name__}")
    return table


def _by_method(value: Any, lower: Any, upper: Any, ax: Axes | None) -> Axes:
    """A line for each parameter, from the top; a mark for each method."""
    parameters = list(dict.fromkeys(value.index.get_level_values("parameter")))
    methods = list(dict.fromkeys(value.index.get_level_values("method")))
    ax = new_axes(7.2, 1.5 + 0.55 * len(parameters), ax)
    for k, method in enumerate(methods):
        own = value.xs(method, level="method")
        at = [parameters.index(name) + GAP * (k - (len(methods) - 1) / 2) for name in own.index]
        mark, colour = MARKS[method]
        half = np.vstack([own - lower.xs(method, level="method"), upper.xs(method, level="method") - own])
        ax.errorbar(own, at, xerr=half.clip(min=0.0), fmt=mark, ms=6, lw=1.8, color=colour, label=method)
    ax.set_yticks(range(len(parameters)), parameters)
    ax.set_ylim(len(parameters) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    if len(methods) > 1:
        ax.legend(fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=len(methods))
    return ax
