"""The effects of two terms against each other, on the bivariate normal that level 2 of the model fits them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.errors import ArgumentTypeError
from hiermod.fits.tables import LEVEL
from hiermod.inference.groups.effect_pairs import EffectPair, effect_pair
from hiermod.plots.style import COLOURS, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELD = (0.5, 0.9)  # of the groups, inside the ellipses
NAMED = 40  # with more levels, intervals and names would cover each other


def effect_correlation(
    fit: Any,
    group: str | None = None,
    x: str | None = None,
    y: str | None = None,
    level: float = LEVEL,
    label: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Group effects of term ``y`` against those of ``x``, with intervals, on ellipses that hold 50 and 90 % of groups.

    The ellipses are those of the fitted covariance (by Bayes its posterior mean).  Estimates, being pooled, spread
    less than the groups themselves.  group, x, y: by default the first two terms of the first factor that has two.
    level: of the intervals (left out beyond 40 groups) and of the correlation's by Bayes.  label: how many of the
    outermost are named.  Returns the Axes.  Raises ArgumentTypeError, UnknownNameError, UnsupportedError.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> hm.plots.effect_correlation(fit).get_title(loc="left")
    'Effects by Subject: correlation 0.07'
    """
    if not (hasattr(fit, "varcorr") and hasattr(fit, "design")):
        one = "effect_correlation(fits['REML'], ax=left)" if isinstance(fit, Mapping) else "effect_correlation(reml)"
        raise ArgumentTypeError(
            f"effect_correlation draws one fit, made by reml(), ml() or fit(), got {type(fit).__name__}: pass a single "
            f"fit, as in {one}"
        )
    pair = effect_pair(fit, group, x, y, level)
    colour = COLOURS["Bayes" if hasattr(fit, "idata") else "REML"]
    points = pair.effects
    with styled():
        ax = new_axes(6.4, 5.4, ax)
        for share in HELD:
            outline = pair.ellipse(share)
            ax.fill(*outline, color=COLOURS["none"], alpha=0.13, lw=0, zorder=0.5)
            ax.plot(
                *outline, color=COLOURS["none"], lw=1.2, ls="-" if share == HELD[0] else "--", zorder=1,
                gid=f"ellipse {share:g}", label=f"{100 * share:g} % of groups expected inside",
            )  # fmt: skip
        if len(points) <= NAMED:
            ax.hlines(points["y"], points["x_lower"], points["x_upper"], color=colour, lw=0.8, alpha=0.4, zorder=2)
            ax.vlines(points["x"], points["y_lower"], points["y_upper"], color=colour, lw=0.8, alpha=0.4, zorder=2)
        few = len(points) <= 300
        ax.plot(
            points["x"], points["y"], ls="", marker="o", ms=6 if few else 2.5, alpha=1.0 if few else 0.5, color=colour,
            zorder=3, label=f"{pair.group} (estimates)",
        )  # fmt: skip
        ax.axhline(0.0, color=COLOURS["population"], lw=1.0, zorder=1)
        ax.axvline(0.0, color=COLOURS["population"], lw=1.0, zorder=1)
        spread = np.maximum(np.sqrt(pair.covariance.diagonal()), 1e-300)
        outermost = np.hypot(points["x"] / spread[0], points["y"] / spread[1]).sort_values(ascending=False)
        for name in outermost.index[: max(0, label)]:
            at = tuple(points.loc[name, ["x", "y"]])
            ax.annotate(str(name), at, (6, 5), textcoords="offset points", fontsize="small", zorder=6)
        ax.set_xlabel(f"effect on {pair.x}")
        ax.set_ylabel(f"effect on {pair.y}")
        titled(ax, f"Effects by {pair.group}: {_correlation(pair)}")
        ax.legend(loc="best", fontsize="small", frameon=True, framealpha=0.85, edgecolor="none")
    return ax


def _correlation(pair: EffectPair) -> str:
    if np.isnan(pair.correlation):
        return "no correlation in the model" if pair.covariance.diagonal().all() else "correlation undefined"
    words = f"correlation {pair.correlation:.2f}"
    words += "" if np.isnan(pair.lower) else f" [{pair.lower:.2f}, {pair.upper:.2f}]"
    return words.replace("-", "−")
