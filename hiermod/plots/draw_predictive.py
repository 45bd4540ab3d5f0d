"""The data among data simulated from the posterior: densities, frequencies, statistics and intervals.

Gelman et al. (2013, Bayesian Data Analysis, section 6.3); Gabry et al. (2019, JRSS A 182), whose bayesplot set the
forms.  The data are dark, what the model makes is light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.fits.targets import choice
from hiermod.inference.predictive.predictive_checks import Statistics, statistic_draws
from hiermod.inference.predictive.predictive_checks import predictive_intervals as interval_table
from hiermod.inference.predictive.predictive_shapes import densities, distribution_functions, frequencies
from hiermod.inference.predictive.replicates import Replicates, group_codes, replicates
from hiermod.plots.style import COLOURS, ink, new_axes, over_all, plain_name, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL = COLOURS["Bayes"]
FACETS = 24  # groups that are drawn; with more, the first
COLUMNS = 6


def predictive_density(
    fit: Any,
    kind: str = "auto",
    curves: int = 50,
    target: str = "conditional",
    random_seed: int | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of the responses over those of simulated data sets.

    kind: "density", "ecdf" (shares at or below each value: no smoothing), "bars" (frequencies with 95 % intervals) or
    "auto": bars for counts, 0/1 and categories, else densities.  target: "conditional" or "new_group" (every group
    drawn anew).  Counts out of trials are drawn as counts.  Raises ArgumentError, UnsupportedError.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).fit(random_seed=1)
    >>> ax = hm.plots.predictive_density(fit)
    >>> ax.get_xlabel()
    'Reaction'
    """
    drawn = replicates(fit, None if kind == "bars" else 1000, random_seed, target)
    kind = _kind(kind, drawn)
    with styled():
        ax = new_axes(6.4, 4.4, ax)
        _shape(ax, drawn, kind, curves)
        ax.set_xlabel(plain_name(drawn.response))
        ax.set_ylabel({"density": "density", "ecdf": "share of rows", "bars": "rows"}[kind])
        titled(ax, "Observed and simulated responses")
        ax.legend(fontsize="x-small")
    return ax


def predictive_groups(
    fit: Any,
    group: str | None = None,
    kind: str = "auto",
    curves: int = 30,
    target: str = "conditional",
    random_seed: int | None = 0,
) -> Figure:
    """Draw ``predictive_density`` for each level of a grouping factor (the first by default) or column of the model.

    kind: as there, and "auto" draws distribution functions, which need fewer rows than densities do.  With more than
    24 levels the first 24 are drawn."""
    import matplotlib.pyplot as plt

    group = _group(fit, group)
    codes, levels = group_codes(fit, group)
    drawn = replicates(fit, 1000, random_seed, target)
    kind = _kind("ecdf" if kind == "auto" and not drawn.discrete else kind, drawn)
    present = [j for j in range(len(levels)) if (codes == j).any()]
    shown = present[:FACETS]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with styled():
        figure, axes = plt.subplots(
            rows, columns, figsize=(2.1 * columns + 0.6, 1.9 * rows + 0.8), sharex=True, sharey=True, squeeze=False
        )
        for ax, j in zip(axes.ravel(), shown, strict=False):
            part = drawn.rows(codes == j)
            _shape(ax, part, kind, curves)
            titled(ax, levels[j], fontsize="small")
        for ax in axes.ravel()[len(shown) :]:
            ax.set_axis_off()
        more = "" if len(shown) == len(present) else f" ({len(shown)} of {len(present)} levels)"
        over_all(figure, f"Observed (dark) and simulated responses by {group}{more}", fontsize="medium")
        figure.supxlabel(plain_name(drawn.response), fontsize="medium")
        figure.supylabel({"density": "density", "ecdf": "share of rows", "bars": "rows"}[kind], fontsize="medium")
    return figure


def predictive_statistics(
    fit: Any,
    statistic: Statistics = None,
    draws: int | None = 1000,
    target: str = "conditional",
    random_seed: int | None = 0,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw a histogram of each statistic over simulated data, the data's value as a line, p in the title.

    statistic, draws, target: as for ``fit.predictive_check``.  ax: for one statistic; returns it, else a Figure."""
    import matplotlib.pyplot as plt

    found = statistic_draws(fit, statistic, None, draws, target, random_seed)
    count = len(found.names)
    if ax is not None and count != 1:
        raise ArgumentError(f"ax= holds one statistic, and {count} were asked for: name one, or leave out ax=")
    with styled():
        if ax is not None:
            axes = np.array([ax])
        else:
            columns = min(3, count)
            rows = -(-count // columns)
            figure, grid = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.7 * rows), squeeze=False)
            axes = grid.ravel()
        for i, one in enumerate(axes[:count]):
            simulated = found.simulated[:, i]
            known = simulated[np.isfinite(simulated)]
            one.hist(known, bins=30, color=MODEL, alpha=0.45, label="simulated data")
            one.axvline(found.observed[i], color=ink(), lw=2.0, label="data")
            one.set_yticks([])
            one.grid(False)
            titled(one, f"{found.names[i][0]}  (p = {found.p[i]:.3g})", fontsize="small")
        for one in axes[count:]:
            one.set_axis_off()
        axes[0].legend(fontsize="x-small")
    return ax if ax is not None else figure


def predictive_intervals(
    fit: Any,
    group: str | None = None,
    x: str | None = None,
    level: float = 0.95,
    target: str = "conditional",
    random_seed: int | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw each response, or each level's mean, in its predictive intervals (the inner one holds half).

    x: a column of the model to draw rows over; by default rows or levels stand in order of their predictions.  Points
    outside their interval stand out: 5 in 100 are expected at level 0.95, fewer where each was fitted."""
    table = interval_table(fit, group, 1000, target, level, random_seed=random_seed)
    order = np.argsort(table["predicted"].to_numpy(), kind="stable")
    place = np.empty(len(table))
    place[order] = np.arange(len(table))
    xlabel = "rows" if group is None else group
    if x is not None:
        place, xlabel = _column(fit, x, group), x
    else:
        xlabel += ", by prediction"
    with styled():
        ax = new_axes(7.6, 4.4, ax)
        wide = {"color": MODEL, "alpha": 0.35 if len(table) <= 400 else 0.15}
        width = 3.0 if len(table) <= 60 else 1.2
        ax.vlines(place, table["lower"], table["upper"], lw=width / 2, label=f"{100 * level:g} %", **wide)
        ax.vlines(place, table["inner_lower"], table["inner_upper"], lw=width * 1.5, label="50 %", **wide)
        inside = table["inside"].to_numpy()
        y = table["observed"].to_numpy()
        ax.plot(place[inside], y[inside], ls="", marker="o", ms=3, color=ink(), label="data")
        if not inside.all():
            ax.plot(place[~inside], y[~inside], ls="", marker="o", ms=4.5, color=COLOURS["REML"], label="data outside")
            for i in np.flatnonzero(~inside)[:12]:
                ax.annotate(
                    label_text(str(table.index[i])),
                    (place[i], y[i]),
                    xytext=(4, 2),
                    textcoords="offset points",
                    fontsize="x-small",
                )
        if x is None and group is not None and len(table) <= 30:
            ax.set_xticks(place[order], [str(one) for one in table.index[order]], rotation=60, fontsize="x-small")
        ax.set_xlabel(xlabel)
        ax.set_ylabel(table.attrs["response"] if group is None else f"mean {table.attrs['response']}")
        titled(ax, f"{int(inside.sum())} of {len(table)} inside")
        ax.legend(fontsize="x-small")
    return ax


# --- parts --------------------------------------------------------------------------------------------------------
def _kind(kind: str, drawn: Replicates) -> str:
    kind = choice("kind", kind, ("auto", "density", "ecdf", "bars"))
    if kind == "auto":
        return "bars" if drawn.discrete else "density"
    if kind == "bars" and not drawn.discrete:
        raise UnsupportedError(
            "bars are for counts, 0/1 and categories: kind='density' or 'ecdf' draws other responses"
        )
    return kind


def _shape(ax: Axes, drawn: Replicates, kind: str, curves: int) -> None:
    if kind == "bars":
        _bars(ax, frequencies(drawn), drawn)
        return
    found = densities(drawn, curves) if kind == "density" else distribution_functions(drawn, curves)
    style: dict[str, Any] = {"drawstyle": "steps-post"} if kind == "ecdf" else {}
    for i, curve in enumerate(found.simulated):
        ax.plot(
            found.x, curve, color=MODEL, lw=0.7, alpha=0.3, label="simulated data" if i == 0 else "_nolegend_", **style
        )
    ax.plot(found.x, found.observed, color=ink(), lw=2.0, label="data", **style)


def _bars(ax: Axes, table: pd.DataFrame, drawn: Replicates) -> None:
    value = table.index.to_numpy()
    width = float(table["high"].iloc[0] - table["low"].iloc[0] + 1)
    ax.bar(value, table["observed"], width=0.9 * width, color=COLOURS["none"], alpha=0.6, label="data")
    errors = [table["predicted"] - table["lower"], table["upper"] - table["predicted"]]
    ax.errorbar(
        value, table["predicted"], yerr=errors, fmt="o", ms=4, lw=1.4, color=MODEL, label="simulated: mean and 95 %"
    )
    if len(value) <= 12 and width == 1:
        ax.set_xticks(value, drawn.labels(value))


def _group(fit: Any, group: str | None) -> str:
    if group is not None:
        return group
    if not fit.design.blocks:
        raise ArgumentError("this model has no grouping factor: give group= a column of the model")
    return str(fit.design.blocks[0].factor)


def _column(fit: Any, x: str, group: str | None) -> np.ndarray:
    """Numbers of a column, one per row."""
    if group is not None:
        raise ArgumentError("x= places rows, and group= takes means over them: use one of the two")
    frame = fit.design.frame
    if x not in frame.columns:
        raise ArgumentError(f"{x!r} is not a column of the model; there are {', '.join(map(repr, frame.columns))}")
    column = frame[x]
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    place = column.to_numpy(dtype=float) if numeric else pd.factorize(column, sort=True)[0].astype(float)
    values, which, counts = np.unique(place, return_inverse=True, return_counts=True)
    gap = float(np.diff(values).min()) if len(values) > 1 else 1.0
    among = pd.Series(which).groupby(which).cumcount().to_numpy()  # rows of one value stand side by side
    return place + 0.7 * gap * (among + 0.5 - counts[which] / 2) / counts.max()
