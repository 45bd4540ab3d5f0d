"""A posterior against REML in one picture: every parameter in REML standard errors, whatever its unit."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import LEVEL, quantile
from hiermod.inference.priors_and_reml.agreement_table import agreement as agreement_table
from hiermod.inference.priors_and_reml.agreement_words import AGREE, FEW_GROUPS, LITTLE, LOST, NEAR
from hiermod.inference.priors_and_reml.verdicts import BOUNDARY, CONFLICT, DECIDES, NO_ERROR, SAY
from hiermod.plots.style import COLOURS, Colours, ink, new_axes, over_all, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = Colours(
    {  # Okabe and Ito (2008)
        AGREE: COLOURS["Bayes"],
        FEW_GROUPS: "#E69F00",
        LITTLE: "#56B4E9",
        SAY: "#CC79A7",
        DECIDES: "#CC79A7",
        CONFLICT: "#CC79A7",
        BOUNDARY: "#D55E00",
        NO_ERROR: "#8c8c8c",
        LOST: None,
    }
)
MARKS = {
    AGREE: "o",
    FEW_GROUPS: "s",
    LITTLE: "D",
    SAY: "<",
    DECIDES: "^",
    CONFLICT: "*",
    BOUNDARY: "X",
    NO_ERROR: "o",
    LOST: "v",
}
LONGEST = 30  # letters of a parameter's name in one line
WIDEST = 12.0  # REML standard errors beyond which intervals are cut


def agreement(fit: BayesianFit, reml: FrequentistFit, level: float = LEVEL, ax: Axes | None = None) -> Axes:
    """Posterior means and intervals, one row per parameter, in REML standard errors from REML's estimate.

    Sds are on the log scale, correlations on Fisher's.  The grey band is REML's own interval, the darker one half a
    standard error; colour and mark are the verdict of ``hm.agreement``.  A parameter that REML has at a boundary has no
    standard error: its row says so.  Returns the Axes."""
    table = agreement_table(fit, reml, level)
    method, half = table.attrs["method"], float(quantile(level))
    with styled():
        own = ax is None
        ax = new_axes(7.5, 2.0 + 0.42 * len(table), ax)
        ax.axvspan(-half, half, color=ink(0.09), lw=0, zorder=0, label=f"{method}'s {100 * level:g} % interval")
        ax.axvspan(-NEAR, NEAR, color=ink(0.16), lw=0, zorder=0)
        ax.axvline(0.0, color=ink(0.67), lw=1.0, zorder=1)
        seen: set[str] = set()
        for place, (_, row) in enumerate(table.iterrows()):
            _row(ax, len(table) - 1 - place, row, method, seen)
        ax.set_yticks(range(len(table)), ["\n".join(textwrap.wrap(name, LONGEST)) for name in table.index[::-1]])
        if max(map(len, table.index)) > LONGEST:
            ax.tick_params(axis="y", labelsize="small")
        ax.set_ylim(-0.6, len(table) - 0.4)
        low, high = _limits(table, half)
        ax.set_xlim(low, high)
        ax.set_xlabel(f"posterior minus {method},\nin {method} standard errors")
        told = f"Posterior against {method}\n{fit.formula}"
        if own:
            over_all(ax.figure, told, x=0.01, ha="left", fontsize="medium", fontweight="bold")
        else:
            titled(ax, told, fontsize="medium")
        ax.grid(axis="y", visible=False)
        if own:
            ax.figure.legend(loc="outside lower center", ncols=4, fontsize="small")
        else:
            ax.legend(fontsize="small")
    return ax


def _row(ax: Axes, y: int, row: pd.Series, method: str, seen: set[str]) -> None:
    verdict = str(row["verdict"])
    label = None if verdict in seen else verdict
    seen.add(verdict)
    style = {"color": SHADES[verdict], "zorder": 3}
    if np.isfinite(row["difference"]):
        ax.plot([row["lower_difference"], row["upper_difference"]], [y, y], lw=2.2, solid_capstyle="butt", **style)
        ax.plot([row["difference"]], [y], marker=MARKS[verdict], ms=7, ls="", label=label, **style)
        return
    if np.isnan(row["reml"]):
        said = f"{method} has no estimate"
    elif verdict == BOUNDARY:
        said = f"{method} at {row['reml']:+.0f}" if row["kind"] == "corr" else f"{method} at 0"
    else:
        said = f"{method} {row['reml']:.3g}"
    said += f"; posterior {row['estimate']:.2g} [{row['lower']:.2g}, {row['upper']:.2g}]"
    across = ax.get_yaxis_transform()  # there is no place for it on this axis, so it stands at its left end
    ax.plot([0.02], [y], marker=MARKS[verdict], ms=7, ls="", label=label, transform=across, **style)
    ax.text(0.045, y, said, transform=across, va="center", fontsize="small", zorder=4)


def _limits(table: pd.DataFrame, half: float) -> tuple[float, float]:
    """All of REML's interval, every mean, and intervals up to WIDEST."""
    ends = table[["lower_difference", "difference", "upper_difference"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    means = table["difference"].dropna().abs().max() if table["difference"].notna().any() else 0.0
    most = max(WIDEST, 1.2 * float(means))
    low = max(min([-half, *ends]), -most)
    high = min(max([half, *ends]), most)
    margin = 0.06 * (high - low)
    return low - margin, high + margin
