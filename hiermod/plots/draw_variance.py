"""Where the variance is, a stacked bar a fit (Nakagawa, Johnson and Schielzeth 2017, J. R. Soc. Interface 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.fits.tables import LEVEL
from hiermod.inference.groups.parameter_intervals import named_fits
from hiermod.inference.marginal_effects.variance_shares import COMMON, RESIDUAL, variance_shares
from hiermod.plots.style import PALETTE, ink, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN = {COMMON: "#595959", RESIDUAL: "#bdbdbd"}
NARROW = {False: 0.06, True: 0.13}  # a share below this, without and with an interval, has its number above the bar
NOTHING = 1e-6  # a model without predictors has none of them
HEIGHT = 0.6  # of a bar


def variance_partition(fit: Any, common: bool = True, level: float = LEVEL, ax: Axes | None = None) -> Axes:
    """The shares of predictors, each grouping factor and the residual in the variance, a stacked bar for each fit.

    fit: one fit, or ``{name: fit}``.  A factor with random slopes counts with the mean over the rows of z' Sigma z, as
    in ``fit.icc()`` and ``fit.r2()``.  common: False leaves the predictors out, as the adjusted ICC does.  Bayes: the
    posterior means with their intervals of ``level`` in brackets.  Generalised models: on the scale of the linear
    predictor, with the residual variance that ``fit.r2().attrs["notes"]`` names.  Returns the Axes.  Raises
    ArgumentTypeError, and UnsupportedError for families without such a variance.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.variance_partition(fit)
    >>> [text.get_text() for text in ax.texts]
    ['28 %', '52 %', '20 %']
    """
    fits = named_fits(fit, "variance_partition")
    tables = {name: variance_shares(one, common, level) for name, one in fits.items()}
    components = [c for table in tables.values() for c in table.index if c != RESIDUAL]
    components = [*dict.fromkeys(components), RESIDUAL]
    factors = [c for c in components if c not in OWN]
    colours = OWN | {factor: PALETTE[i % len(PALETTE)] for i, factor in enumerate(factors)}
    with styled():
        ax = new_axes(8.0, 1.9 + 0.85 * len(fits), ax)
        for row, table in enumerate(tables.values()):
            start, above = 0.0, 0
            for name in components:
                if name not in table.index:
                    continue
                share = float(table.loc[name, "share"])
                if share < NOTHING:
                    continue
                ax.barh(row, share, HEIGHT, left=start, color=colours[name], edgecolor=ink(0.0), gid=f"bar {name}")
                words = _words(*table.loc[name, ["share", "lower", "upper"]])
                if share >= NARROW["[" in words]:
                    dark = name != RESIDUAL and colours[name] not in ("#E69F00", "#56B4E9")
                    place = {"va": "center", "color": "white" if dark else "black"}
                    ax.text(start + share / 2, row, words, ha="center", fontsize="small", **place)
                else:
                    _above(ax, start + share / 2, row, words.replace("\n", " "), above, colours[name])
                    above += 1
                start += share
        for name in components:
            ax.barh([0], [0], color=colours[name], label=name)
        ax.set_yticks(np.arange(len(tables)), list(tables))
        ax.set_ylim(len(tables) - 0.5, -0.75)
        ax.set_xlim(0, 1)
        ax.set_xticks(np.linspace(0, 1, 6), [f"{100 * x:.0f} %" for x in np.linspace(0, 1, 6)])
        ax.grid(False)
        ax.set_xlabel("share of the variance" + ("" if common else " that predictors leave"))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, len(components)), fontsize="small")
    return ax


def _words(share: float, lower: float, upper: float) -> str:
    text = f"{100 * share:.0f} %"
    return text if np.isnan(lower) else f"{text}\n[{100 * lower:.0f}, {100 * upper:.0f}]"


def _above(ax: Axes, x: float, row: int, words: str, count: int, colour: str) -> None:
    """A narrow share's number over the bar with a short line down to it; the next one a line higher."""
    left = x < 0.5
    ax.annotate(
        words,
        (x, row - HEIGHT / 2),
        (4 if left else -4, 3 + 12 * (count % 2)),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom",
        fontsize="x-small",
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 1.0, "shrinkA": 0, "shrinkB": 0},
    )
