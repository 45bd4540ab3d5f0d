"""Complete, no and partial pooling as lines through each group's data, one facet a group.

After the figure of Mahr (2017), "Plotting partial pooling in mixed-effects models"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, UnknownNameError, nearest
from hiermod.inference.groups.pooled_lines import line_variable
from hiermod.plots.style import COLOURS, counted, ink, plain_name, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hiermod.study.pooling import Pooling

LINES = {
    "complete": {"ls": (0, (1, 1.2)), "lw": 1.6, "label": "complete pooling"},
    "none": {"ls": (0, (4, 1.5)), "lw": 1.6, "label": "no pooling"},
    "REML": {"ls": "-", "lw": 2.0, "label": "partial pooling, REML"},
    "Bayes": {"ls": "-", "lw": 2.0, "label": "partial pooling, Bayes"},
}
FACETS = 36  # more would be too small to read


def pooling_lines(
    pooling: Pooling,
    variable: str | None = None,
    levels: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: int = 6,
) -> Figure:
    """Draw each level's data and its lines under complete, no and partial pooling.

    variable: the numeric predictor along the axis (the first by default).  levels: which to show (by default all, at
    most 36: those with the fewest rows, where pooling matters most).  methods: of "complete", "none", "REML",
    "Bayes" (default: all but REML where there is a Bayesian fit, whose line would hide it).  Returns the Figure.
    Raises UnknownNameError."""
    import matplotlib.pyplot as plt

    for given, what in ((levels, "levels"), (methods, "methods")):
        if given is not None and (isinstance(given, str) or not len(given)):
            raise ArgumentError(f"{what} must be a list of one name or more, or left out, got {given!r}")
    name = line_variable(pooling.design, variable)
    table = pooling.lines(name)
    fitted = list(table["method"].unique())
    methods = list(methods) if methods is not None else [m for m in fitted if m != "REML" or "Bayes" not in fitted]
    for method in methods:
        if method not in fitted:
            raise UnknownNameError(f"no method {method!r} was fitted.{nearest(str(method), fitted)}")
    block = next(block for block in pooling.design.blocks if block.factor == pooling.group)
    shown = _shown(block.levels, np.bincount(block.codes, minlength=len(block.levels)), levels)
    width = min(columns, len(shown))
    height = -(-len(shown) // width)
    y = pooling.design.y
    table = table[table["level"].isin(shown)]
    with styled():
        figure, axes = plt.subplots(
            height, width, figsize=(1.9 * width + 0.8, 1.75 * height + 1.2), sharex=True, sharey=True, squeeze=False
        )
        for ax, level in zip(axes.flat, shown, strict=False):
            rows = block.codes == block.levels.index(level)
            ax.scatter(pooling.design.frame[name][rows], y[rows], s=14, color=ink(0.7), zorder=3)
            for method in methods:
                line = table[(table["method"] == method) & (table["level"] == level)]
                if line["estimate"].notna().all():
                    ax.plot(line[name], line["estimate"], color=COLOURS[method], zorder=4, **LINES[method])
            ax.set_title(level, fontsize="medium", fontweight="normal")
        for ax in axes.flat[len(shown) :]:
            ax.set_axis_off()
        for ax in axes.flat[len(shown) - width : len(shown)]:
            ax.tick_params(labelbottom=True)  # the lowest facet of each column, also above an empty place
        handles = [plt.Line2D([], [], color=COLOURS[method], **LINES[method]) for method in methods]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(methods))
        count = counted(len(shown), len(block.levels), pooling.group) if levels is None else ""
        figure.supxlabel(f"{name} ({count}, those with the fewest rows)" if count else name)
        figure.supylabel(plain_name(pooling.design.response))
        return figure


def _shown(levels: Sequence[str], counts: np.ndarray, wanted: Sequence[str] | None) -> list[str]:
    if wanted is not None:
        for level in wanted:
            if str(level) not in levels:
                raise UnknownNameError(f"no level {level!r}.{nearest(str(level), levels)}")
        return [str(level) for level in wanted]
    if len(levels) <= FACETS:
        return list(levels)
    few = pd.Series(counts, index=list(levels)).sort_values(kind="stable").index[:FACETS]
    return [level for level in levels if level in set(few)]
