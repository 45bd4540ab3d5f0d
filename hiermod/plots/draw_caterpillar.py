"""Group effects with their intervals, sorted: the caterpillar plot, several fits side by side.

After the dotplot of lme4's ranef; Goldstein and Healy (1995), J. R. Stat. Soc. A 158(1), on reading such intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError, nearest
from hiermod.fits.tables import LEVEL, check_group
from hiermod.fits.targets import choice
from hiermod.inference.groups.parameter_intervals import named_fits
from hiermod.plots.style import COLOURS, counted, looks, new_axes, sampled, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("ranef", "coef")
NAMED = 60  # with more levels only the ends are told
ENDS = 5


def caterpillar(
    fit: Any,
    group: str | None = None,
    term: str | None = None,
    kind: str = "ranef",
    level: float = LEVEL,
    ax: Axes | None = None,
) -> Axes:
    """One term's effects by level with intervals, sorted by the first fit's estimates.

    fit: one fit, or several of the same groups, ``{"Bayes": fit, "REML": reml}``.  group, term: the first by default.
    kind: "ranef" (differences to the population, a line at 0) or "coef" (the groups' own values, a line at the
    population's).  level: of the intervals, by REML those of the modes given the variances.  With more than 60 levels
    only the five at either end are told, in the corner; of more than 300 levels 150 are drawn, evenly spaced over the
    ordered estimates, ends included.  Returns the Axes.  Raises UnknownNameError, ArgumentError, and
    UnsupportedError without group effects.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.caterpillar(fit, term="Days")
    >>> [text.get_text() for text in ax.get_yticklabels()][-1]
    '308'
    """
    fits, group, terms = _checked(fit, group, term, kind)
    tables = {name: _effects(one, group, kind, level) for name, one in fits.items()}
    with styled():
        order = _order(tables, terms[0])
        ax = new_axes(6.4, float(np.clip(1.6 + 0.2 * len(order), 3.2, 8.5)), ax)
        _one(ax, tables, fits, terms[0], kind, order)
        count = counted(len(_drawn(order)), len(order), group)
        titled(ax, ", ".join(filter(None, [terms[0], count])))
        ax.set_ylabel(group)
        if len(fits) > 1:
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(fits), fontsize="small")  # beside the title
    return ax


def caterpillars(fit: Any, group: str | None = None, kind: str = "ranef", level: float = LEVEL) -> Figure:
    """All terms of a grouping factor beside each other, every level on its own line, sorted by the first term.

    The pattern across panels is the correlation of the effects.  With more than 60 levels each panel tells its own
    five highest and lowest.  Arguments as ``caterpillar``'s; returns the Figure."""
    import matplotlib.pyplot as plt

    fits, group, terms = _checked(fit, group, None, kind)
    tables = {name: _effects(one, group, kind, level) for name, one in fits.items()}
    order = _order(tables, terms[0])
    with styled():
        height = float(np.clip(1.8 + 0.2 * len(order), 3.2, 8.5))
        figure, axes = plt.subplots(1, len(terms), figsize=(1.2 + 3.6 * len(terms), height), sharey=True, squeeze=False)
        for ax, term in zip(axes.flat, terms, strict=True):
            _one(ax, tables, fits, term, kind, order)
        axes[0, 0].set_ylabel(counted(len(_drawn(order)), len(order), group) or group)
        if len(fits) > 1:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=len(fits))
    return figure


def _checked(fit: Any, group: str | None, term: str | None, kind: str) -> tuple[dict[str, Any], str, list[str]]:
    """Fits by name, the factor, and its terms (one of them where it is named)."""
    choice("kind", kind, KINDS)
    fits = named_fits(fit, "caterpillar")
    first_name, first = next(iter(fits.items()))
    if not first.design.blocks:
        raise UnsupportedError(f"{first.formula!r} has no group effects: add a term such as (1 | g)")
    group = check_group(first.design, group)[0].factor
    for name, one in fits.items():
        if check_group(one.design, group)[0].levels != check_group(first.design, group)[0].levels:
            raise ArgumentError(f"{name!r} and {first_name!r} have different levels of {group}: draw them apart")
    terms = list(dict.fromkeys(label for block in check_group(first.design, group) for label in block.labels))
    if term is None:
        return fits, group, terms
    for name, one in fits.items():
        known = [label for block in check_group(one.design, group) for label in block.labels]
        if term not in known:
            raise UnknownNameError(
                f"no effect {term!r} varies by {group} in {name}.{nearest(str(term), known)} "
                f"Those that do: {', '.join(known)}."
            )
    return fits, group, [term]


def _effects(fit: Any, group: str, kind: str, level: float) -> pd.DataFrame:
    """estimate, lower, upper; index term, level."""
    table = fit.ranef(group, level=level) if kind == "ranef" else fit.coef(group, level=level)
    table = table.set_index(["term", "level"])[["estimate", "lower", "upper"]]
    return table[~table.index.duplicated()]


def _order(tables: Mapping[str, pd.DataFrame], term: str) -> list[str]:
    """All levels, from the lowest estimate to the highest, by the first fit that has the term."""
    table = next(one for one in tables.values() if term in one.index.get_level_values("term"))
    return list(table.loc[term]["estimate"].sort_values(kind="stable").index)


def _drawn(order: list[str]) -> list[str]:
    return list(sampled(pd.Series(range(len(order)), index=order)))


def _one(
    ax: Axes, tables: Mapping[str, pd.DataFrame], fits: Mapping[str, Any], term: str, kind: str, order: list[str]
) -> None:
    """One panel: intervals and points, a fit's a little above the next one's; ends are the term's, of all levels."""
    own = _order(tables, term)
    words = f"highest: {', '.join(own[: -ENDS - 1 : -1])}\nlowest: {', '.join(own[:ENDS])}"
    order = _drawn(order)
    many = len(order) > NAMED
    look = looks(tables)
    for i, (name, table) in enumerate(tables.items()):
        if term not in table.index.get_level_values("term"):
            continue
        part = table.loc[term].loc[order]
        at = np.arange(len(order)) + 0.36 * ((len(tables) - 1) / 2 - i) / max(1, len(tables) - 1)
        colour = look[name]["color"]
        ax.hlines(at, part["lower"], part["upper"], color=colour, lw=0.6 if many else 1.8, alpha=0.5 if many else 0.8)
        ax.plot(
            part["estimate"], at, ls="", ms=1.5 if many else 5, marker=look[name]["marker"], color=colour, label=name
        )
    first = next(iter(fits.values()))
    centre = 0.0 if kind == "ranef" else float(first.fixef()["estimate"].get(term, 0.0))
    ax.axvline(centre, color=COLOURS["population"], lw=1.2, zorder=1)
    if many:
        ax.text(0.02, 0.98, words, transform=ax.transAxes, va="top", fontsize="x-small")
        ax.set_yticks([])
    else:
        ax.set_yticks(range(len(order)), [str(level) for level in order], fontsize="small")
    ax.set_ylim(-0.8, len(order) - 0.2)
    ax.grid(False, axis="y")
    ax.set_xlabel("difference to the population" if kind == "ranef" else f"{term} of each level")
    titled(ax, term)
