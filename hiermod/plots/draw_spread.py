"""From no pooling to complete pooling as the spread of the groups shrinks: curves, steps, and a film.

Curves: Gelman et al. (2013), Bayesian Data Analysis, figure 5.6 (Rubin's eight schools), here for REML fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from hiermod.core.arguments import check_count
from hiermod.errors import UnknownNameError, nearest
from hiermod.inference.groups.group_lines import group_rows, line_block
from hiermod.inference.groups.spread_path import NO_POOLING, SpreadPath, spread_path
from hiermod.plots.style import COLOURS, counted, ink, new_axes, plain_log, plain_name, sampled, styled, titled

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = (NO_POOLING, 3.0, 1.0, 0.3, 0.1, 0.0)
NAMED = 30  # levels that are named at the end of their curves
STRANDS = "#56B4E9"


def pooling_path(fit: Any, term: str | None = None, group: str | None = None, ax: Axes | None = None) -> Axes:
    """Each level's coefficient as a curve over the spread of the groups: complete pooling left, no pooling right.

    fit: by REML or ML, linear.  term: the factor's first by default.  The spreads of all terms of ``group`` (the first
    factor by default) are scaled together, correlations kept; the axis, on a log scale, is the standard deviation
    of ``term``, and the line upright the fit's own.  Levels whose own rows say little leave the middle last.  Of
    more than 300 levels 150 are drawn, evenly spaced over their ordered estimates.  Returns the Axes.  Raises
    ArgumentTypeError for other fits, UnknownNameError, UnsupportedError without groups.

    >>> import hiermod as hm
    >>> fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()
    >>> ax = hm.plots.pooling_path(fit)
    >>> ax.get_xlabel()
    'sd of Intercept between Batch (held)'
    """
    path = spread_path(fit, group)
    if term is not None and term not in path.terms:
        raise UnknownNameError(
            f"no coefficient {term!r} varies by {path.group}.{nearest(str(term), path.terms)} "
            f"Those that do: {', '.join(path.terms)}."
        )
    term = path.terms[0] if term is None else term
    table = path.estimates[(path.estimates["term"] == term) & (path.estimates["scale"] > 0)]
    shown = _drawn_levels(path, term)
    total = table["level"].nunique()
    table = table[table["level"].isin(shown)]
    with styled():
        ax = new_axes(7.6, 5.0, ax)
        curves = [(str(level), part) for level, part in table.groupby("level", sort=False)]
        for i, (level, part) in enumerate(curves):
            ax.plot(
                part["sd"], part["estimate"], color=COLOURS["REML"], alpha=0.75, lw=1.3, gid=f"path {level}",
                label=path.group if i == 0 else None,
            )  # fmt: skip
        ax.set_xscale("log")
        plain_log(ax.xaxis)
        if path.at_fit:
            ax.axvline(float(path.sds[term]), color=COLOURS["population"], lw=1.2, ls="--", label=_method(fit))
        else:  # not a place on this axis
            words = "an sd of 0, complete pooling" if path.pooled else "singular, not on these curves"
            ax.plot([], [], ls="", label=f"{_method(fit)}'s own fit: {words}")
        if len(curves) <= NAMED:
            _names(ax, curves)
        ax.set_xlabel(f"sd of {term} between {path.group} (held)")
        ax.set_ylabel(
            f"{term}, {counted(len(shown), total, path.group)}"
            if len(shown) < total
            else f"{term} of each {path.group}"
        )
        titled(ax, "← complete pooling", fontsize="medium", fontweight="normal")
        ax.set_title("no pooling →", loc="right", fontsize="medium", fontweight="normal")
        ax.margins(x=0.0)
        ax.legend(loc="upper left", fontsize="small")
    return ax


def pooling_steps(
    fit: Any,
    x: str | None = None,
    group: str | None = None,
    scales: Sequence[float] = STEPS,
    columns: int = 3,
) -> Figure:
    """The groups' lines along ``x`` at several spreads of the groups, a panel each, from no to complete pooling.

    scales: what the fit's standard deviations of ``group`` are multiplied with, 0 to 10,000; 100 is as good as no
    pooling, 1 the fit, 0 complete pooling.  A panel also says by how much its criterion is worse than the fit's.  fit,
    group: as in ``pooling_path``.  Returns the Figure.  Raises as ``pooling_path``, and ArgumentError where the model
    has no numeric predictor or for a scale.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> figure = hm.plots.pooling_steps(fit, scales=[100, 1, 0])
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['no pooling', 'partial pooling, REML', 'complete pooling']
    """
    import matplotlib.pyplot as plt

    path = spread_path(fit, group, [float(scale) for scale in scales])
    lines = path.lines(x)
    lines = lines[lines["level"].isin(_drawn_levels(path, path.terms[0]))]
    x = str(lines.columns[2])
    width = min(columns, len(scales))
    height = -(-len(scales) // width)
    with styled():
        figure, axes = plt.subplots(
            height, width, figsize=(3.5 * width, 3.1 * height + 0.6), sharex=True, sharey=True, squeeze=False
        )
        for ax, scale in zip(axes.flat, path.criterion.index, strict=False):
            _data(ax, path, x)
            for _, part in lines[lines["scale"] == scale].groupby("level", sort=False):
                ax.plot(part[x], part["estimate"], color=_colour(scale), lw=1.3, alpha=0.85, zorder=3)
            _head(ax, *_words(fit, path, scale))
        for ax in axes.flat[len(scales) :]:
            ax.set_axis_off()
        total = len(line_block(fit, path.group).levels)
        figure.supxlabel(", ".join(filter(None, [x, counted(lines["level"].nunique(), total, path.group)])))
        figure.supylabel(plain_name(path.design.response))
    return figure


def pooling_animation(
    fit: Any,
    x: str | None = None,
    group: str | None = None,
    frames: int = 40,
    interval: int = 100,
    ax: Axes | None = None,
) -> FuncAnimation:
    """The film of ``pooling_steps``: the groups' lines move from no pooling to complete pooling.

    frames: pictures, one of them the fit; interval: milliseconds between two.  Keep what is returned until it has been
    shown or saved: ``animation.save("pooling.gif", writer="pillow")``, or in a notebook
    ``IPython.display.HTML(animation.to_jshtml())``.  The rest as ``pooling_steps``'s.  ArgumentError for frames."""
    from matplotlib.animation import FuncAnimation

    frames = check_count("frames", frames, 5)
    path = spread_path(fit, group, film_scales(frames))
    lines = path.lines(x)
    lines = lines[lines["level"].isin(_drawn_levels(path, path.terms[0]))]
    x = str(lines.columns[2])
    by_scale = {scale: part for scale, part in lines.groupby("scale", sort=False)}
    with styled():
        ax = new_axes(6.4, 4.8, ax)
        _data(ax, path, x)
        first = by_scale[path.criterion.index[0]]
        drawn = {
            str(level): ax.plot(part[x], part["estimate"], lw=1.4, alpha=0.9, zorder=3)[0]
            for level, part in first.groupby("level", sort=False)
        }
        title, note = _head(ax, *_words(fit, path, path.criterion.index[0]))
        total = len(line_block(fit, path.group).levels)
        ax.set_xlabel(", ".join(filter(None, [x, counted(lines["level"].nunique(), total, path.group)])))
        ax.set_ylabel(plain_name(path.design.response))
        known = lines["estimate"].to_numpy()
        y = path.design.y
        room = 0.04 * (max(known.max(), y.max()) - min(known.min(), y.min()))
        ax.set_ylim(min(known.min(), y.min()) - room, max(known.max(), y.max()) + room)

    def show(scale: float) -> list[Any]:
        for level, part in by_scale[scale].groupby("level", sort=False):
            drawn[str(level)].set_ydata(part["estimate"])
            drawn[str(level)].set_color(_colour(scale))
        for text, words in zip((title, note), _words(fit, path, scale), strict=True):
            text.set_text(words)
        return [*drawn.values(), title, note]

    return FuncAnimation(
        ax.figure, show, frames=list(path.criterion.index), init_func=lambda: [], interval=interval, repeat_delay=1000
    )


def _drawn_levels(path: SpreadPath, term: str) -> pd.Index:
    """The levels that are drawn: of more than 300 a sample along their estimates with the least pooling."""
    mine = path.estimates[path.estimates["term"] == term]
    return sampled(mine[mine["scale"] == mine["scale"].max()].set_index("level")["estimate"])


def film_scales(frames: int) -> list[float]:
    """From 100 down to 0, even on a log scale to 0.01, one of them 1."""
    falling = np.geomspace(NO_POOLING, 1.0 / NO_POOLING, frames - 1)
    falling[np.argmin(np.abs(np.log(falling)))] = 1.0
    return [*(float(scale) for scale in falling), 0.0]


def _method(fit: Any) -> str:
    return "REML" if fit.reml else "ML"


def _colour(scale: float) -> str:
    if scale == 0.0:
        return COLOURS["complete"]
    return COLOURS["REML"] if scale == 1.0 else STRANDS if scale < NO_POOLING else COLOURS["none"]


def _data(ax: Axes, path: SpreadPath, x: str) -> None:
    rows = group_rows(path.design, x, path.group)
    ax.scatter(rows[x], rows["response"], s=9, color=COLOURS["none"], alpha=0.35, lw=0, zorder=1)


def _head(ax: Axes, title: str, note: str) -> tuple[Any, Any]:
    """The title, and under it two lines in small letters; both texts."""
    place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
    head = titled(ax, title, fontsize="medium", pad=30)
    return head, ax.annotate(note, **place, fontsize="x-small", color=ink(0.75))


def _words(fit: Any, path: SpreadPath, scale: float) -> tuple[str, str]:
    """Where on the way this is; the sds held, and the criterion against the fit's."""
    method = _method(fit)
    if scale == 0.0:
        head = "complete pooling"
    elif scale >= NO_POOLING:
        head = "no pooling"
    elif scale == 1.0 and path.at_fit:
        head = f"partial pooling, {method}"
    else:
        head = f"groups' sd × {scale:.3g}"
    sds = ", ".join(f"{term} {_number(scale * sd)}" for term, sd in path.sds.items())
    worse = path.criterion[scale] - float(fit.criterion)
    criterion = f"{method} criterion " + ("lowest" if worse < 0.005 else f"+{worse:.3g}")
    return head, f"sd: {sds}\n{criterion}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _names(ax: Axes, curves: list[tuple[str, pd.DataFrame]]) -> None:
    """Each level's name at the right end of its curve, as near as names that do not overlap can be."""
    ends = sorted((float(part["estimate"].iloc[-1]), level) for level, part in curves)
    low, high = ax.get_ylim()
    gap = 0.036 * (high - low)
    steps = gap * np.arange(len(ends))
    places = isotonic_regression(np.array([end for end, _ in ends]) - steps).x + steps
    for (end, level), at in zip(ends, places, strict=True):
        ax.annotate(
            level, xy=(1.0, end), xycoords=("axes fraction", "data"), xytext=(1.015, at),
            textcoords=("axes fraction", "data"), fontsize="x-small", va="center", annotation_clip=False,
        )  # fmt: skip
