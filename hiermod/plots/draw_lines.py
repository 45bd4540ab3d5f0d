"""Lines of groups over the data: with the population's line (spaghetti), or against complete pooling (Simpson).

Simpson (1951), J. R. Stat. Soc. B 13(2): within groups a relation may go the other way than over all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.families.catalogue import is_linear
from hiermod.fits.tables import LEVEL
from hiermod.inference.groups.group_lines import (
    average_slopes,
    group_lines,
    group_rows,
    line_block,
    population_line,
    within_slope,
    without_groups,
)
from hiermod.plots.style import COLOURS, PALETTE, new_axes, plain_name, styled, titled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

STRANDS = "#56B4E9"
TOLD_APART = 8  # groups that get colours of their own


def spaghetti(
    fit: Any,
    x: str | None = None,
    group: str | None = None,
    interval: float = LEVEL,
    data: bool = True,
    over: str = "own",
    ax: Axes | None = None,
) -> Axes:
    """Every group's line along ``x``, the population's with its band over them, the data behind.

    x: a number of the formula, group: a grouping factor; the first by default.  A group's line has its own means of
    other numbers, its most frequent factor levels, and other factors' effects at 0; the population's is
    ``fit.means([x])``, for a typical group.  interval: of the band.  over: "own", the range of the group's rows, or
    "all".  Of more than 150 groups those with the most rows.  Returns the Axes.  Raises UnknownNameError,
    ArgumentError, and UnsupportedError without groups.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.spaghetti(fit, "Days")
    >>> ax.get_title(loc="left")
    'Reaction by Days, 18 levels of Subject'
    """
    lines = group_lines(fit, x, group, over)
    x, group = str(lines.attrs["x"]), str(lines.attrs["group"])
    population = population_line(fit, x, interval)
    with styled():
        ax = new_axes(7.2, 4.8, ax)
        if data:
            rows = group_rows(fit.design, x, group)
            ax.scatter(rows[x], rows["response"], s=14, color=COLOURS["none"], alpha=0.4, lw=0, zorder=1, label="data")
        _strands(ax, lines, x, {}, group)
        ax.fill_between(
            population[x], population["lower"], population["upper"], color=COLOURS["population"], alpha=0.16, lw=0,
            zorder=4, label=f"{100 * interval:g} % interval",
        )  # fmt: skip
        typical = ", a typical one" if fit.link != "identity" else ""
        ax.plot(
            population[x], population["estimate"], color=COLOURS["population"], lw=2.6, zorder=5,
            label=f"population{typical}",
        )  # fmt: skip
        total, shown = lines.attrs["levels"], lines.attrs["shown"]
        count = f"{total}" if shown == total else f"{shown} of {total}"
        titled(ax, f"{plain_name(fit.design.response)} by {x}, {count} levels of {group}")
        ax.set_xlabel(x)
        ax.set_ylabel(plain_name(fit.design.response))
        ax.legend(loc="best", fontsize="small")
    return ax


def simpson(
    fit: Any, x: str | None = None, group: str | None = None, interval: float = LEVEL, ax: Axes | None = None
) -> Axes:
    """Each group's line within its own rows, and the line that ignores the groups (complete pooling) across them.

    Where the two go different ways, differences between groups and within them have been mixed up.  The legend holds
    the slopes: of the groups' lines, their mean (change of the response over that of ``x``), which with random
    intercepts mixes within and between; within the groups, by least squares with an intercept for each (Gaussian
    models); of complete pooling.  Up to eight groups have colours and names.  Arguments as ``spaghetti``'s.  Returns
    the Axes.  Raises UnknownNameError, ArgumentError, UnsupportedError.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (1 | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.simpson(fit, "Days")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['lines of Subject by the model: slope 10.5', 'within Subject: slope 10.5', 'ignoring Subject: slope 10.5']
    """
    lines = group_lines(fit, x, group)
    x, group = str(lines.attrs["x"]), str(lines.attrs["group"])
    complete = population_line(without_groups(fit), x, interval)
    levels = list(line_block(fit, group).levels)
    colours = dict(zip(levels, PALETTE, strict=False)) if len(levels) <= TOLD_APART else {}
    rows = group_rows(fit.design, x, group)
    slopes = average_slopes(pd.concat([lines, complete.assign(level=None)]).fillna({"level": ""}), x)
    with styled():
        ax = new_axes(7.2, 4.8, ax)
        shades = [colours.get(str(level), COLOURS["none"]) for level in rows["level"]]
        ax.scatter(rows[x], rows["response"], s=16, c=shades, alpha=0.65 if colours else 0.4, lw=0, zorder=1)
        _strands(ax, lines, x, colours, f"lines of {group} by the model: slope {_number(slopes.drop('').mean())}")
        if is_linear(fit.family, fit.link):
            ax.plot([], [], ls="", label=f"within {group}: slope {_number(within_slope(fit, x, group))}")
        ax.fill_between(
            complete[x], complete["lower"], complete["upper"], color=COLOURS["complete"], alpha=0.14, lw=0, zorder=4
        )
        ax.plot(
            complete[x], complete["estimate"], color=COLOURS["complete"], ls=(0, (4, 1.5)), lw=2.6, zorder=5,
            label=f"ignoring {group}: slope {_number(slopes[''])}",
        )  # fmt: skip
        titled(ax, f"{plain_name(fit.design.response)} by {x}, within {group} and across")
        ax.set_xlabel(x)
        ax.set_ylabel(plain_name(fit.design.response))
        ax.legend(loc="best", fontsize="small")
    return ax


def _strands(ax: Axes, lines: pd.DataFrame, x: str, colours: Mapping[str, str], label: str) -> None:
    """The groups' lines; a group with one value of x has a ring.  label: of one entry in the legend for all."""
    shown = lines["level"].nunique()
    thin = shown > 60
    for i, (level, part) in enumerate(lines.groupby("level", sort=False)):
        values = part[x].to_numpy()
        point = values[0] == values[-1]
        ax.plot(
            values[:1] if point else values,
            part["estimate"].to_numpy()[: 1 if point else None],
            color=colours.get(str(level), STRANDS),
            lw=0.7 if thin else 2.0 if colours else 1.3,
            alpha=0.5 if thin else 0.9,
            marker="o" if point else "",
            mfc="none",
            ms=7,
            zorder=3,
            gid=f"line {level}",
            label=label if i == 0 and not colours else None,
        )
        if colours:  # the name at the line's end
            end = (values[-1], part["estimate"].iloc[-1])
            ax.annotate(
                str(level), end, (5, 0), textcoords="offset points", va="center", fontsize="small", fontweight="bold",
                color=colours[str(level)], zorder=6,
            )  # fmt: skip
    if colours:
        ax.plot([], [], color=COLOURS["none"], lw=2.0, label=label)


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3g}".replace("-", "−")
