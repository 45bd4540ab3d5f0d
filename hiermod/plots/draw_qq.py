"""Quantile-quantile plots of residuals and of group effects, with bands (Weine, McPeek, Abney 2023, J. Stat. Softw.).

Points on the line: the shape is normal.  The wide band holds all points together in 95 of 100 normal samples, the
narrow one each point by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.inference.assumptions.assumption_tables import qq_points
from hiermod.plots.style import COLOURS, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 5  # points outside the band that are named, the furthest first


def qq(
    fit: Any, group: str | None = None, term: str | None = None, level: float = 0.95, ax: Axes | None = None
) -> Axes:
    """Draw standardised residuals (group=None), or one term's effects of a grouping factor, against normal quantiles.

    fit: by REML, ML or Bayes; residuals need a Gaussian one.  term: the factor's first by default.  level: of both
    bands.  Points outside the simultaneous band carry their names.  Raises UnsupportedError, UnknownNameError.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.qq(fit)
    >>> ax.get_ylabel()
    'standardised residual'
    """
    points = qq_points(fit, group, term, level)
    with styled():
        ax = new_axes(6.0, 5.4, ax)
        theoretical = points["theoretical"].to_numpy()
        edge = {"color": COLOURS["none"], "lw": 0.0}
        ax.fill_between(
            theoretical, points["lower"], points["upper"], alpha=0.18, label=f"{100 * level:g} %, all points", **edge
        )
        ax.fill_between(
            theoretical,
            points["pointwise_lower"],
            points["pointwise_upper"],
            alpha=0.3,
            label=f"{100 * level:g} %, each point",
            **edge,
        )
        ax.plot(theoretical, theoretical, color=COLOURS["complete"], lw=1.0)
        outside = points["outside"].to_numpy()
        inside = points[~outside]
        ax.plot(
            inside["theoretical"], inside["sample"], ls="", marker="o", ms=4, color=COLOURS["Bayes"], label="inside"
        )
        if outside.any():
            _outside(points[outside], ax)
        ax.set_xlabel("normal quantile")
        ax.set_ylabel("standardised residual" if group is None else f"standardised effect: {points.attrs['term']}")
        titled(ax, "Residuals" if group is None else f"{points.attrs['term']} by {group}")
        ax.legend(loc="upper left", fontsize="x-small")
    return ax


def _outside(points: pd.DataFrame, ax: Axes) -> None:
    ax.plot(points["theoretical"], points["sample"], ls="", marker="o", ms=5, color=COLOURS["REML"], label="outside")
    order = np.argsort(-np.abs(points["sample"].to_numpy()))[:NAMED]
    for _, point in points.iloc[order].iterrows():
        right = point["theoretical"] < 0
        ax.annotate(
            label_text(str(point["label"])),
            (point["theoretical"], point["sample"]),
            xytext=(6 if right else -6, -3),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize="x-small",
        )
