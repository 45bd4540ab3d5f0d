"""How the chains went: traces, rank histograms (Vehtari et al. 2021, Bayesian Analysis 16), energy (Betancourt 2016).

Chains are told apart by colour; all of it is read from ``fit.idata``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hiermod.inference.predictive.chain_draws import LOW_ENERGY, chain_draws, chain_energy
from hiermod.plots.style import COLOURS, Palette, ink, new_axes, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHAINS = Palette("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", None, "#8c8c8c")
BINS = 20


def trace(fit: Any, parameters: str | Sequence[str] | None = None) -> Figure:
    """Draw every chain's density and its draws in order, one row per parameter; ticks under a trace: divergences.

    parameters: names of ``fit.parameters()``, "1|Subject" for all effects of a factor, "1|Subject[308]" for one; None:
    all but the group effects, 40 at most.  Chains that overlap, without trends: nothing to see, which is good.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).fit(random_seed=1)
    >>> figure = hm.plots.trace(fit, ["Days", "sigma"])
    >>> len(figure.axes)
    4
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    found = chain_draws(fit, parameters)
    with styled():
        rows = len(found.names)
        figure, axes = plt.subplots(rows, 2, figsize=(9.0, 1.5 * rows + 0.5), squeeze=False, width_ratios=(1, 2))
        for (left, right), name, draws in zip(axes, found.names, found.draws, strict=True):
            grid = np.linspace(draws.min(), draws.max(), 200)
            for c, chain in enumerate(draws):
                colour = CHAINS[c % len(CHAINS)]
                if np.ptp(chain) > 0:
                    left.plot(grid, stats.gaussian_kde(chain)(grid), color=colour, lw=1.2)
                right.plot(chain, color=colour, lw=0.5, alpha=0.8)
            where = np.flatnonzero(found.divergent.any(axis=0))
            if len(where):
                right.plot(
                    where,
                    np.full(len(where), draws.min()),
                    ls="",
                    marker="|",
                    ms=8,
                    color=ink(),
                    label="divergences",
                )
            titled(left, name, fontsize="small")
            left.set_yticks([])
            left.xaxis.set_major_locator(MaxNLocator(4))
            for one in (left, right):
                one.tick_params(labelsize="x-small")
                one.grid(False)
        axes[-1, 1].set_xlabel("draw", fontsize="small")
    return figure


def ranks(fit: Any, parameters: str | Sequence[str] | None = None) -> Figure:
    """Draw how often each chain's draws take each rank among all draws: level for every chain when they agree.

    The grey band holds each bar in 95 of 100 cases for independent draws; draws that are alike widen the bars' spread.
    parameters: as for ``trace``."""
    import matplotlib.pyplot as plt

    found = chain_draws(fit, parameters)
    places = found.ranks
    _, chains, draws = places.shape
    edges = np.linspace(0.5, chains * draws + 0.5, BINS + 1)
    low, high = stats.binom.ppf([0.025, 0.975], draws, 1 / BINS)
    with styled():
        columns = min(3, len(found.names))
        rows = -(-len(found.names) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.3 * rows + 0.3), squeeze=False)
        for ax, name, place in zip(axes.ravel(), found.names, places, strict=False):
            ax.axhspan(low, high, color=COLOURS["none"], alpha=0.2, lw=0)
            for c, chain in enumerate(place):
                counts = np.histogram(chain, bins=edges)[0]
                ax.stairs(counts, edges, baseline=None, color=CHAINS[c % len(CHAINS)], lw=1.3)
            ax.axhline(draws / BINS, color=COLOURS["complete"], lw=1.0, ls=":")
            ax.set_ylim(0, None)
            titled(ax, name, fontsize="small")
            ax.tick_params(labelsize="x-small")
            ax.grid(False)
        for ax in axes.ravel()[len(found.names) :]:
            ax.set_axis_off()
        figure.supxlabel("rank among all draws", fontsize="small")
        figure.supylabel("draws of a chain", fontsize="small")
    return figure


def energy(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw the energy of NUTS's draws about its mean and its changes between draws; E-BFMI of each chain.

    Changes much narrower than the energy (E-BFMI below 0.3): the chains walk slowly through the tails; a non-centred
    model or more draws help.  UnsupportedError for engines without energy (the marginal posterior)."""
    found = chain_energy(fit)
    level, change = (found.energy - found.energy.mean()).ravel(), found.transitions.ravel()
    wide = max(np.abs(level).max(), np.abs(change).max())
    grid = np.linspace(-wide, wide, 300)
    with styled():
        ax = new_axes(6.4, 4.4, ax)
        for values, colour, name in (
            (level, COLOURS["Bayes"], "energy about its mean"),
            (change, COLOURS["REML"], "change from draw to draw"),
        ):
            density = stats.gaussian_kde(values)(grid)
            ax.fill_between(grid, density, color=colour, alpha=0.25, lw=0)
            ax.plot(grid, density, color=colour, lw=1.5, label=name)
        low = " (low)" if (found.bfmi < LOW_ENERGY).any() else ""
        ax.set_xlabel("energy")
        ax.set_yticks([])
        titled(ax, "E-BFMI " + ", ".join(f"{one:.2f}" for one in found.bfmi) + low)
        ax.legend(fontsize="x-small")
    return ax
