"""Shrinkage: arrows from each group's own estimate to its partially pooled one, drawn towards the population value.

After the plot of Gelman and Hill (2007), figure 12.1, and Efron and Morris (1977), Scientific American 236(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, UnknownNameError, listing, nearest
from hiermod.plots.style import COLOURS, counted, ink, new_axes, plain_name, sampled, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiermod.study.pooling import Pooling

ARROW = {"arrowstyle": "-|>", "color": COLOURS["none"], "lw": 1.2, "shrinkA": 4, "shrinkB": 6, "mutation_scale": 11}
ROWS = 40  # names that have room under one another
OPEN = {"facecolors": "none", "linewidths": 1.5}  # a ring or diamond through which what lies below is seen


def shrinkage(
    pooling: Pooling,
    x: str | None = None,
    y: str | None = None,
    partial: str | None = None,
    label: int = 5,
    ax: Axes | None = None,
) -> Axes:
    """Draw ``Model.pooling()``: for two terms a plane with arrows, for one term a line per group.

    x, y: terms on the axes (default: the first two).  partial: "Bayes" or "REML", the arrows' end; by default Bayes
    where there is one, REML then shown as small diamonds.  label: how many of the drawn groups that moved most
    are named.  Of more than 300 groups 150 are drawn, evenly spaced over their ordered estimates (for two terms, half
    of them by each), extremes included.  ax: draw here.  Returns the Axes.  Raises UnknownNameError for a term,
    ArgumentError for ``partial``."""
    methods = list(dict.fromkeys(pooling.estimates["method"]))
    partial = partial or ("Bayes" if "Bayes" in methods else "REML")
    if partial not in methods or partial not in ("Bayes", "REML"):
        raise ArgumentError(f"partial must be 'Bayes' or 'REML', and one that was fitted; got {partial!r}")
    for term in (x, y):
        if term is not None and term not in pooling.terms:
            raise UnknownNameError(
                f"no coefficient {term!r} varies by {pooling.group}.{nearest(term, pooling.terms)} "
                f"Those that do: {', '.join(pooling.terms)}."
            )
    if x is None:
        x = next((term for term in pooling.terms if term != y), pooling.terms[0])
    terms = [x, y] if y else [x, *[term for term in pooling.terms if term != x][:1]]
    with styled():
        if len(terms) == 1 or terms[0] == terms[1]:
            return _one_term(pooling, terms[0], partial, label, ax)
        return _two_terms(pooling, terms[0], terms[1], partial, label, ax)


def _estimates(pooling: Pooling, method: str, term: str, levels: pd.Index | None = None) -> pd.Series:
    table = pooling.estimates
    chosen = table[(table["method"] == method) & (table["term"] == term)]
    estimates = chosen.set_index("level")["estimate"]
    return estimates if levels is None else estimates.loc[levels]


def _shown(pooling: Pooling, partial: str, *terms: str) -> pd.Index:
    """The levels that are drawn, chosen by partially pooled estimates, which all of them have."""
    return sampled(*(_estimates(pooling, partial, term) for term in terms))


def _population(pooling: Pooling, partial: str, term: str) -> float:
    """The fit's population value of a term (0 for a group effect without a common counterpart)."""
    fit = pooling.bayes if partial == "Bayes" else pooling.reml
    fixed = fit.fixef()["estimate"]  # type: ignore[union-attr]
    return float(fixed.get(term, 0.0))


def _two_terms(pooling: Pooling, x: str, y: str, partial: str, label: int, ax: Axes | None) -> Axes:
    ax = new_axes(8.0, 6.0, ax)
    shown = _shown(pooling, partial, x, y)
    own = pd.DataFrame({"x": _estimates(pooling, "none", x, shown), "y": _estimates(pooling, "none", y, shown)})
    pooled = pd.DataFrame({"x": _estimates(pooling, partial, x, shown), "y": _estimates(pooling, partial, y, shown)})
    known = own.notna().all(axis=1)
    for level in own.index[known]:
        ax.annotate(
            "",
            xy=tuple(pooled.loc[level]),
            xytext=tuple(own.loc[level]),
            zorder=2,
            arrowprops=ARROW,
        )
    ax.scatter(
        own["x"][known],
        own["y"][known],
        s=48,
        edgecolors=COLOURS["none"],
        zorder=3,
        **OPEN,
        label=f"no pooling (each {pooling.group} alone)",
    )
    if partial == "Bayes":
        ax.scatter(
            _estimates(pooling, "REML", x, shown),
            _estimates(pooling, "REML", y, shown),
            s=60,
            marker="D",
            edgecolors=COLOURS["REML"],
            zorder=6,
            label="partial pooling, REML",
            **OPEN,
        )
    ax.scatter(pooled["x"], pooled["y"], s=36, color=COLOURS[partial], zorder=5, label=f"partial pooling, {partial}")
    centre = (_population(pooling, partial, x), _population(pooling, partial, y))
    ax.scatter(*centre, s=150, marker="+", color=COLOURS["population"], linewidths=2.4, zorder=6, label="population")
    _label_moved(ax, own[known], pooled[known], label)
    ax.set_xlabel(_axis_name(pooling, x))
    ax.set_ylabel(_axis_name(pooling, y))
    _title(ax, pooling, [x, y], own.index[~known], len(shown))
    ax.legend(loc="best", fontsize="small")
    ax.margins(0.08)
    return ax


def _label_moved(ax: Axes, own: pd.DataFrame, pooled: pd.DataFrame, count: int) -> None:
    """Name the groups whose estimates moved most, distances in units of each axis's spread."""
    spread = own.std(ddof=0).replace(0.0, 1.0)
    moved = np.sqrt((((pooled - own) / spread) ** 2).sum(axis=1)).sort_values(ascending=False)
    for level in moved.index[: max(0, count)]:
        away = np.sign(own.loc[level] - pooled.loc[level])
        ax.annotate(
            str(level),
            xy=tuple(own.loc[level]),
            xytext=(7 * away["x"], 7 * away["y"]),
            textcoords="offset points",
            ha="left" if away["x"] >= 0 else "right",
            va="bottom" if away["y"] >= 0 else "top",
            fontsize="small",
            zorder=7,
        )


def _one_term(pooling: Pooling, term: str, partial: str, label: int, ax: Axes | None) -> Axes:
    shown = _shown(pooling, partial, term)
    own, pooled = _estimates(pooling, "none", term, shown), _estimates(pooling, partial, term, shown)
    order = own.fillna(pooled).sort_values().index
    ax = new_axes(8.0, float(np.clip(1.8 + 0.22 * len(order), 4.0, 8.0)), ax)
    rows = pd.Series(np.arange(len(order)), index=order)
    known = own.notna()
    for level in order[known[order]]:
        ax.annotate(
            "",
            xy=(pooled[level], rows[level]),
            xytext=(own[level], rows[level]),
            zorder=2,
            arrowprops=ARROW,
        )
    at = rows[own.index]
    ax.scatter(
        own,
        at,
        s=44,
        edgecolors=COLOURS["none"],
        zorder=3,
        **OPEN,
        label=f"no pooling (each {pooling.group} alone)",
    )
    if partial == "Bayes":
        reml = _estimates(pooling, "REML", term, shown)
        ax.scatter(
            reml,
            rows[reml.index],
            s=60,
            marker="D",
            edgecolors=COLOURS["REML"],
            zorder=6,
            label="partial pooling, REML",
            **OPEN,
        )
    ax.scatter(pooled, rows[pooled.index], s=34, color=COLOURS[partial], zorder=5, label=f"partial pooling, {partial}")
    ax.axvline(_population(pooling, partial, term), color=COLOURS["population"], lw=1.4, zorder=1, label="population")
    named = order if len(order) <= ROWS else _apart((pooled - own).abs().sort_values(ascending=False), rows, label)
    ax.set_yticks(rows[named].to_numpy(), [str(level) for level in named], fontsize="small")
    ax.set_ylabel(pooling.group)
    ax.set_xlabel(_axis_name(pooling, term))
    _title(ax, pooling, [term], own.index[~known], len(shown))
    ax.legend(loc="best", fontsize="small")
    return ax


def _apart(moved: pd.Series, rows: pd.Series, count: int) -> list[str]:
    """The ``count`` levels that moved most, less those whose names would stand over one another."""
    named: list[str] = []
    for level in moved.dropna().index:
        if len(named) >= count:
            break
        if all(abs(rows[level] - rows[other]) >= len(rows) / ROWS for other in named):
            named.append(level)
    return named


def _axis_name(pooling: Pooling, term: str) -> str:
    return (
        f"{term} ({plain_name(pooling.design.response)})"
        if term == "Intercept"
        else f"{term} (change in {plain_name(pooling.design.response)})"
    )


def _title(ax: Axes, pooling: Pooling, terms: list[str], alone: pd.Index, shown: int) -> None:
    """The title, and under it the levels that have no arrow because their own rows do not suffice."""
    total = len(next(block for block in pooling.design.blocks if block.factor == pooling.group).levels)
    count = counted(shown, total, pooling.group)
    title = f"Shrinkage of {' and '.join(terms)}" + (f", {count}" if count else f" by {pooling.group}")
    titled(ax, title, pad=24 if len(alone) else None)
    if len(alone):
        note = f"No arrow, too few rows of their own: {pooling.group} {listing(alone, 5)}"
        place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 7), "textcoords": "offset points"}
        ax.annotate(note, **place, fontsize="small", color=ink(0.67))
