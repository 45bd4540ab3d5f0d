"""Estimates and intervals of several fits, parameter by parameter (Lewis and Clarke 2001, BMJ 322: forest plots)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.fits.tables import LEVEL
from hiermod.inference.groups.parameter_intervals import named_fits, parameter_intervals
from hiermod.plots.style import COLOURS, looks, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDEST, LETTERS = 32, 85  # letters of a parameter on one line, and of the legend's names with their marks
ROOM = 0.6  # of a line that its fits share


def forest(fits: Any, parameters: Sequence[str] | None = None, level: float = LEVEL, ax: Axes | None = None) -> Axes:
    """Estimates with intervals of one or several fits, a line for each parameter; the fits may be of different data.

    fits: ``{name: fit}``, or a fit.  parameters: names as in ``fit.parameters()``, drawn on one scale, so of like size;
    by default the common coefficients but the intercept.  level: of the intervals: posterior (equal-tailed), t or Wald
    for coefficients, profile for standard deviations and correlations.  A fit without a parameter has a gap there, an
    estimate without an interval no bar.  Returns the Axes.  Raises ArgumentTypeError, UnknownNameError.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> ax = hm.plots.forest({"REML": m.reml(), "ML": m.ml()}, ["1|Subject_sigma", "sigma"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['1|Subject_sigma', 'sigma']
    """
    named = named_fits(fits, "forest")
    table = parameter_intervals(named, parameters, level)
    names = list(dict.fromkeys(table["parameter"]))
    look = looks(named)
    with styled():
        ax = new_axes(7.2, 1.5 + (0.3 + 0.16 * len(named)) * len(names), ax)
        for i, name in enumerate(named):
            part = table[table["fit"] == name]
            at = np.array([names.index(parameter) for parameter in part["parameter"]], dtype=float)
            at += ROOM * ((i + 0.5) / len(named) - 0.5)
            ax.hlines(at, part["lower"], part["upper"], color=look[name]["color"], lw=2.2, zorder=3)
            ax.plot(part["estimate"], at, ls="", ms=7, zorder=4, label=name, **look[name])
        low, high = table[["estimate", "lower"]].min().min(), table[["estimate", "upper"]].max().max()
        if low <= 0.0 <= high or 0.0 < min(abs(low), abs(high)) < 0.6 * (high - low):
            ax.axvline(0.0, color=COLOURS["population"], lw=1.2, zorder=1)
        ax.set_yticks(np.arange(len(names)), ["\n".join(textwrap.wrap(name, WIDEST)) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.set_xlabel(f"estimate, {100 * level:g} % interval")
        if len(named) > 1:
            columns = max(1, min(4, int(LETTERS / (max(map(len, named)) + 6))))
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, fontsize="small")  # above the names too
    return ax
