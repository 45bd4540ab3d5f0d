"""Profile zeta curves, one panel per parameter (Bates 2010, lme4: Mixed-effects modeling with R, section 1.5).

A straight line means that the estimate is as good as normal; a bend, that symmetric intervals mislead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentTypeError
from hiermod.plots.style import COLOURS, over_all, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = {"parameter", "value", "zeta", "slope"}


def profile(curves: Any, absolute: bool = False) -> Figure:
    """Draw the zeta curves of ``FrequentistFit.profile()``; a fit is profiled first.

    absolute: |zeta|, on which an interval is read off as the width of a valley at the quantile's height.  Returns the
    Figure.  Raises ArgumentTypeError for anything but a fit or its curves."""
    if hasattr(curves, "profile") and not isinstance(curves, pd.DataFrame):
        curves = curves.profile()
    if not isinstance(curves, pd.DataFrame) or not COLUMNS.issubset(curves.columns) or "limits" not in curves.attrs:
        raise ArgumentTypeError("profile needs a fit by REML or ML, or what its .profile() returned")
    import matplotlib.pyplot as plt

    names = list(curves.attrs["limits"])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with styled():
        figure, axes = plt.subplots(
            rows, columns, figsize=(3.6 * columns, 2.9 * rows + 0.4), squeeze=False, sharey=True
        )
        for name, ax in zip(names, axes.flat, strict=False):
            _panel(curves, name, absolute, ax)
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel("|ζ|" if absolute else "ζ")
        over_all(
            figure, f"Profile ζ of the ML deviance, {100 * curves.attrs['level']:.4g} % intervals", x=0.01, ha="left"
        )
    return figure


def _panel(curves: pd.DataFrame, name: str, absolute: bool, ax: Axes) -> None:
    from scipy.stats import norm

    height = float(norm.ppf(0.5 + curves.attrs["level"] / 2))
    part = curves[curves["parameter"] == name]
    value, zeta = smooth(part["value"].to_numpy(), part["zeta"].to_numpy(), part["slope"].to_numpy())
    ax.plot(value, np.abs(zeta) if absolute else zeta, color=COLOURS["REML"], lw=2.0)
    for line in (height,) if absolute else (-height, height):
        ax.axhline(line, color=COLOURS["none"], lw=1.0, ls=":")
    for limit in curves.attrs["limits"][name]:
        if np.isfinite(limit):
            ax.axvline(limit, color=COLOURS["none"], lw=1.0, ls="--")
    estimate = curves.attrs["estimate"][name]
    if np.isfinite(estimate):
        ax.plot([estimate], [0.0], marker="o", ms=6, color=COLOURS["complete"])
    else:
        ax.text(0.5, 0.5, "undefined: an sd is 0", transform=ax.transAxes, ha="center", fontsize="small")
    titled(ax, name, fontsize="small")


def smooth(value: np.ndarray, zeta: np.ndarray, slope: np.ndarray, points: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """The curve between its points: cubic with the known slopes, a straight line where a slope is missing."""
    from scipy.interpolate import CubicHermiteSpline

    if len(value) < 2:
        return value, zeta
    xs, ys = [value[:1]], [zeta[:1]]
    for i in range(len(value) - 1):
        x = np.linspace(value[i], value[i + 1], points + 1)[1:]
        ends = slice(i, i + 2)
        if np.isfinite(slope[ends]).all():
            y = CubicHermiteSpline(value[ends], zeta[ends], slope[ends])(x)
        else:
            y = np.interp(x, value[ends], zeta[ends])
        xs.append(x)
        ys.append(y)
    return np.concatenate(xs), np.concatenate(ys)
