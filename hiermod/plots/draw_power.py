"""The power curve: shares of significant fits over sample size, with their Monte Carlo intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.errors import ArgumentTypeError
from hiermod.plots.style import COLOURS, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = ("table", "curve", "smallest_size")


def power_curve(found: Any, power: float = 0.8, ax: Axes | None = None) -> Axes:
    """Draw what ``hm.power`` returned.  power: where the dotted lines meet, with the interval of the smallest size.

    Points: simulated shares with Wilson's 95 % intervals; line and band: the fitted curve.  Returns the Axes."""
    if not all(hasattr(found, name) for name in NEEDED):
        raise ArgumentTypeError(f"power_curve draws what hm.power returned, got {type(found).__name__}")
    table = found.table
    sizes, share = table.index.to_numpy(dtype=float), table["power"].to_numpy()
    with styled():
        ax = new_axes(7.2, 4.4, ax)
        if len(table) > 1:
            curve = found.curve()
            ax.plot(curve["size"], curve["power"], color=COLOURS["Bayes"], lw=2, label="fitted curve", zorder=2)
            ax.fill_between(curve["size"], curve["lower"], curve["upper"], color=COLOURS["Bayes"], alpha=0.15, lw=0)
        errors = np.vstack([share - table["lower"], table["upper"] - share]).clip(min=0.0)
        ax.errorbar(
            sizes, share, yerr=errors, fmt="o", ms=6, lw=1.6, color=COLOURS["REML"], label="simulated, 95 % interval",
            zorder=3,
        )  # fmt: skip
        ax.axhline(power, color=COLOURS["complete"], ls=":", lw=1.2)
        need = found.smallest_size(power) if len(table) > 1 else None
        if need is not None and np.isfinite(need.estimate):
            ax.axvline(need.estimate, color=COLOURS["complete"], ls=":", lw=1.2)
            low, high = max(need.lower, sizes[0]), min(need.upper, sizes[-1])
            ax.axvspan(low, high, color=COLOURS["none"], alpha=0.2, lw=0)
            ax.annotate(f"{need.size:.0f}", (need.estimate, 0), (4, 4), textcoords="offset points", fontweight="bold")
        ax.set_ylim(0, 1.03)
        ax.set_xlabel("sample size")
        ax.set_ylabel("power")
        titled(ax, f"Power for {found.term} ({found.method}, alpha {found.alpha:g})")
        ax.legend(loc="upper left", fontsize="small")
    return ax
