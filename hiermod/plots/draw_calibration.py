"""Calibration of predictive distributions: LOO-PIT, rootograms of counts, reliability diagrams of probabilities.

Säilynoja, Bürkner and Vehtari (2022); Kleiber and Zeileis (2016); Dimitriadis, Gneiting and Jordan (2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.fits.targets import choice
from hiermod.inference.predictive.loo_pit import LooPit
from hiermod.inference.predictive.predictive_shapes import frequencies
from hiermod.inference.predictive.reliability import Calibration
from hiermod.inference.predictive.replicates import replicates
from hiermod.plots.style import COLOURS, new_axes, plain_name, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def loo_pit_ecdf(pit: Any, level: float = 0.95, ax: Axes | None = None) -> Axes:
    """Draw the distribution function of the LOO-PIT values less that of a uniform, with its simultaneous band.

    pit: a Bayesian fit, or what ``fit.loo_pit()`` returned.  A curve inside the band: no fault seen.  An S (below, then
    above the line): the predictive distributions are too wide for most rows, often because a few rows are far out; the
    mirrored S: too narrow; a bow: biased.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).fit(random_seed=1)
    >>> hm.plots.loo_pit_ecdf(fit).get_xlabel()
    'LOO-PIT'
    """
    found = pit if isinstance(pit, LooPit) else _method(pit, "loo_pit")()
    table = found.ecdf(level)
    x = table["value"].to_numpy()
    with styled():
        ax = new_axes(6.4, 4.4, ax)
        ax.fill_between(
            x,
            table["lower"],
            table["upper"],
            step="post",
            color=COLOURS["none"],
            alpha=0.25,
            lw=0.0,
            label=f"{100 * level:g} %, the whole curve",
        )
        ax.axhline(0.0, color=COLOURS["complete"], lw=1.0)
        ax.plot(x, table["difference"], drawstyle="steps-post", color=COLOURS["Bayes"], lw=1.6, label="rows")
        y = table["difference"].to_numpy()
        outside = (y < table["lower"].to_numpy()) | (y > table["upper"].to_numpy())
        if outside.any():
            ax.plot(x[outside], y[outside], ls="", marker="o", ms=4, color=COLOURS["REML"], label="outside the band")
        ax.set_xlabel("LOO-PIT")
        ax.set_ylabel("share of rows − uniform")
        titled(ax, f"LOO-PIT: uniformity p = {found.p:.2g}")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize="small")
    return ax


def rootogram(
    fit: Any,
    style: str = "hanging",
    width: int | None = None,
    level: float = 0.95,
    target: str = "conditional",
    random_seed: int | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw square roots of how often each count occurs, hung from how often the model expects it.

    style: "hanging" (bars end at 0 where the model is right), "standing", or "suspended" (only the differences).
    width: whole numbers put together in one bar (None: at most 100 bars).  The interval is that of observed
    frequencies among simulated data.  UnsupportedError for responses that are no counts.

    >>> import hiermod as hm
    >>> fit = hm.Model("TICKS ~ YEAR + (1 | BROOD)", hm.load_dataset("grouseticks"), family="poisson").fit()
    ... # doctest: +SKIP
    >>> ax = hm.plots.rootogram(fit)  # doctest: +SKIP
    """
    style = choice("style", style, ("hanging", "standing", "suspended"))
    drawn = replicates(fit, None, random_seed, target)
    if drawn.kind != "count":
        raise UnsupportedError(
            f"a rootogram is for counts, and the responses of family {fit.family!r} are none: "
            "hm.plots.predictive_density(fit) draws theirs, hm.plots.calibration(fit) yes/no responses"
        )
    table = frequencies(drawn, level, width)
    value = table.index.to_numpy()
    step = float(table["high"].iloc[0] - table["low"].iloc[0] + 1)
    observed, expected, lower, upper = (
        np.sqrt(table[name].to_numpy()) for name in ("observed", "predicted", "lower", "upper")
    )
    with styled():
        ax = new_axes(7.0, 4.4, ax)
        bar = {"width": 0.9 * step, "color": COLOURS["none"], "alpha": 0.65, "label": "observed"}
        if style == "suspended":
            ax.bar(value, expected - observed, **bar)
            ax.fill_between(
                value, expected - upper, expected - lower, color=COLOURS["Bayes"], alpha=0.2, lw=0, label=f"{level:.0%}"
            )
        else:
            bottom = expected - observed if style == "hanging" else np.zeros(len(value))
            ax.bar(value, observed, bottom=bottom, **bar)
            if style == "hanging":  # where the bars' feet may stand under the model
                ax.fill_between(
                    value,
                    expected - upper,
                    expected - lower,
                    color=COLOURS["REML"],
                    alpha=0.2,
                    lw=0,
                    label=f"feet, {level:.0%}",
                )
            else:
                ax.fill_between(value, lower, upper, color=COLOURS["Bayes"], alpha=0.2, lw=0, label=f"{level:.0%}")
            ax.plot(value, expected, color=COLOURS["Bayes"], marker="o", ms=3.5, lw=1.5, label="expected")
        ax.axhline(0.0, color=COLOURS["complete"], lw=1.2)
        ax.set_xlabel(plain_name(drawn.response))
        ax.set_ylabel("√rows" if style != "suspended" else "√expected − √observed")
        titled(ax, "Rootogram")
        ax.legend(fontsize="x-small")
    return ax


def calibration(fit: Any, predictions: str = "loo", level: float = 0.95, ax: Axes | None = None) -> Axes:
    """Draw how often events happened over the probability they were given, with the band of a calibrated model.

    fit: a Bayesian fit of 0/1 responses or counts out of trials, or what ``fit.calibration()`` returned.  On the
    diagonal probabilities mean what they say; above it events are more frequent than predicted.  The bars at the foot
    show how many predictions there are.  Raises UnsupportedError for other responses."""
    found = fit if isinstance(fit, Calibration) else _method(fit, "calibration")(predictions, level)
    with styled():
        ax = new_axes(5.6, 5.4, ax)
        ax.fill_between(
            found.predicted,
            found.lower,
            found.upper,
            color=COLOURS["none"],
            alpha=0.25,
            lw=0.0,
            label=f"{100 * found.level:g} % if calibrated, each point",
        )
        ax.plot([0, 1], [0, 1], color=COLOURS["complete"], lw=1.0)
        ax.plot(found.predicted, found.calibrated, color=COLOURS["Bayes"], lw=2.0, label="observed (isotonic)")
        counts, edges = np.histogram(found.predicted, bins=25, range=(0, 1), weights=found.trials)
        ax.bar(edges[:-1], 0.15 * counts / counts.max(), width=0.04, align="edge", color=COLOURS["Bayes"], alpha=0.25)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("predicted probability" + (", own row left out" if found.predictions == "loo" else ""))
        ax.set_ylabel("share of events")
        told = (
            f"Brier score {found.brier:.3f}\nmiscalibration {found.miscalibration:.4f}, p = {found.p:.2g}\n"
            f"discrimination {found.discrimination:.3f}"
        )
        ax.text(0.98, 0.18, told, transform=ax.transAxes, ha="right", va="bottom", fontsize="x-small")
        titled(ax, "Calibration")
        ax.legend(loc="upper left", fontsize="x-small")
    return ax


def _method(fit: Any, name: str) -> Any:
    """A method of Bayesian fits; UnsupportedError for others."""
    found = getattr(fit, name, None)
    if found is None:
        raise UnsupportedError(
            f"this needs a Bayesian fit (m.fit()), and {type(fit).__name__} has no posterior: "
            "hm.plots.simulated_residuals(fit) judges fits by REML and maximum likelihood"
        )
    return found
