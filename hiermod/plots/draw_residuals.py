"""Residuals against fitted values, their spread, and their place in each group (Cook and Weisberg 1982; R's plot.lm).

A level cloud without a bend, and boxes of one width, are what the model promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.errors import ArgumentTypeError
from hiermod.inference.assumptions.assumption_tables import residual_points, residual_smooth, residuals_within_groups
from hiermod.inference.assumptions.quantile_residuals import SimulatedResiduals, uniform_quantiles
from hiermod.plots.style import COLOURS, ink, new_axes, plain_name, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_SLOPE = 0.05  # residual sds per sd of the fitted values, below which a line would lie on zero's
NAMED = 3  # largest residuals that are named
BOXES = 60  # groups that are drawn; with more, those of the largest spread


def residuals_fitted(fit: Any, label: int = NAMED, ax: Axes | None = None) -> Axes:
    """Standardised residuals (counts: Pearson's) against fitted values, with a lowess curve.

    A curve away from 0 (with group effects from the dashed line: fitted values of groups are shrunken, so residuals
    rise with them in a true model too) asks for another shape of a predictor.  label: how many of the largest are
    named.  Raises UnsupportedError for families whose residuals only show the family's shape: see
    ``simulated_residuals``."""
    points = residual_points(fit).assign(shown=lambda table: table["residual"])
    return _cloud(fit, points, "standardised residual", "Residuals against fitted", label, ax, zero=True)


def scale_location(fit: Any, label: int = NAMED, ax: Axes | None = None) -> Axes:
    """Square roots of the residuals' sizes against fitted values, with a lowess curve.

    A curve that rises or falls: the spread is not the same everywhere.  Arguments as for ``residuals_fitted``."""
    points = residual_points(fit).assign(shown=lambda table: np.sqrt(np.abs(table["residual"])))
    return _cloud(fit, points, "√|standardised residual|", "Spread against fitted", label, ax, zero=False)


def _cloud(fit: Any, points: pd.DataFrame, ylabel: str, title: str, label: int, ax: Axes | None, zero: bool) -> Axes:
    """Column ``shown`` against fitted."""
    curve = residual_smooth(points, "shown")
    with styled():
        ax = new_axes(6.0, 5.4, ax)
        x, y = points["fitted"].to_numpy(), points["shown"].to_numpy()
        if zero:
            ax.axhline(0.0, color=COLOURS["complete"], lw=1.0)
            slope = points.attrs.get("slope", 0.0)
            if slope > LEAST_SLOPE / max(float(x.std()), np.finfo(float).tiny):
                ends = np.array([x.min(), x.max()])
                line = {"color": COLOURS["complete"], "lw": 1.2, "ls": "--", "label": "expected from shrinkage"}
                ax.plot(ends, slope * (ends - x.mean()), **line)
        many = len(x) > 2000
        ax.plot(
            x,
            y,
            ls="",
            marker="o",
            ms=2 if many else 4,
            alpha=0.3 if many else 0.7,
            color=COLOURS["Bayes"],
            label="rows",
        )
        ax.plot(curve["fitted"], curve["curve"], color=COLOURS["REML"], lw=2.0, label="lowess")
        size = np.nan_to_num(np.abs(y), nan=-1.0)
        for i in np.argsort(-size, kind="stable")[: max(0, label)]:
            ax.annotate(
                label_text(str(points.index[i])),
                (x[i], y[i]),
                xytext=(5, 0),
                textcoords="offset points",
                fontsize="x-small",
            )
        ax.set_xlabel(f"fitted {plain_name(fit.design.response)}")
        ax.set_ylabel(ylabel)
        titled(ax, title)
        if zero and len(ax.lines) > 3:
            ax.legend(handles=[ax.lines[1], ax.lines[3]], fontsize="x-small")
    return ax


def residuals_by_group(fit: Any, group: str | None = None, ax: Axes | None = None) -> Axes:
    """A box of standardised residuals for each level of a grouping factor (the first by default), by median.

    Box: quartiles; whiskers: the extremes.  With more than 60 levels those whose residuals spread most are drawn, as
    a line under the title says."""
    table = residuals_within_groups(fit, group)
    widest = np.argsort(-table["sd"].fillna(0.0).to_numpy(), kind="stable")[:BOXES]
    shown = table.iloc[np.sort(widest)].sort_values("median", kind="stable")
    boxes = [
        {"med": row["median"], "q1": row["q1"], "q3": row["q3"], "whislo": row["min"], "whishi": row["max"]}
        for _, row in shown.iterrows()
    ]
    with styled():
        ax = new_axes(6.0, max(3.0, 0.24 * len(shown) + 1.4), ax)
        _flat_boxes(ax, boxes)
        ax.axvline(0.0, color=COLOURS["complete"], lw=1.0)
        few = len(shown) <= 40
        ax.set_yticks(np.arange(len(shown)), [str(level) for level in shown.index] if few else [""] * len(shown))
        ax.tick_params(axis="y", labelsize="x-small")
        ax.set_xlabel("standardised residual")
        ax.set_ylabel(str(table.index.name))
        who = "" if len(shown) == len(table) else f"the {len(shown)} of {len(table)} levels that spread most, "
        titled(ax, f"Residuals by {table.index.name}", pad=20)
        place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points"}
        ax.annotate(f"{who}ordered by median", **place, fontsize="x-small", color=ink(0.67))
    return ax


def _flat_boxes(ax: Axes, boxes: list[dict[str, Any]]) -> None:
    """Horizontal boxes from five numbers each, at 0, 1, ... (matplotlib renames the argument of ``bxp`` for that)."""
    for y, box in enumerate(boxes):
        ax.plot([box["whislo"], box["whishi"]], [y, y], color=COLOURS["none"], lw=1.0, zorder=1)
        ax.barh(y, box["q3"] - box["q1"], left=box["q1"], height=0.6, color=COLOURS["Bayes"], alpha=0.55, zorder=2)
        ax.plot([box["med"], box["med"]], [y - 0.3, y + 0.3], color=COLOURS["complete"], lw=1.6, zorder=3)


def simulated_residuals(residuals: Any, ax: Axes | None = None) -> Axes:
    """Simulated residuals against uniform quantiles with their band, and the p-values of the tests.

    residuals: what ``fit.simulated_residuals()`` returned, or a fit (simulated now, with random_seed=0)."""
    if not isinstance(residuals, SimulatedResiduals):
        if not hasattr(residuals, "simulated_residuals"):
            raise ArgumentTypeError(
                f"residuals must be what fit.simulated_residuals() returned, or a fit, got {type(residuals).__name__}"
            )
        residuals = residuals.simulated_residuals(random_seed=0)
    points, tests = uniform_quantiles(residuals), residuals.tests()
    with styled():
        ax = new_axes(6.0, 5.4, ax)
        x = points["theoretical"].to_numpy()
        band = {"color": COLOURS["none"], "alpha": 0.25, "lw": 0.0}
        ax.fill_between(x, points["lower"], points["upper"], label="95 %, all points, independent rows", **band)
        ax.plot([0, 1], [0, 1], color=COLOURS["complete"], lw=1.0)
        ax.plot(x, points["sample"], ls="", marker="o", ms=3, color=COLOURS["Bayes"], label="rows")
        told = "\n".join(f"{name}: ratio {row['ratio']:.2f}, p = {row['p']:.3g}" for name, row in tests.iterrows())
        ax.text(0.98, 0.03, told, transform=ax.transAxes, ha="right", va="bottom", fontsize="x-small")
        how = "group effects held" if residuals.conditional else "group effects drawn anew"
        ax.set_xlabel(f"uniform quantile ({how})")
        ax.set_ylabel("simulated residual")
        titled(ax, "Simulated residuals")
        ax.legend(loc="upper left", fontsize="x-small")
    return ax
