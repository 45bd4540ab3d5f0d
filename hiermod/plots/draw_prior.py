"""Priors as pictures: their densities, REML's estimates and posteriors against them, and the data they expect.

After Gabry, Simpson, Vehtari, Betancourt and Gelman (2019, J. R. Stat. Soc. A 182, 389-402), figure 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core.checked import checked
from hiermod.engines.posterior import labelled
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, nearest
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.priors_and_reml.conflict import bandwidth, kernel_density
from hiermod.inference.priors_and_reml.prior import PriorPredictive
from hiermod.inference.priors_and_reml.prior_against import marginals
from hiermod.inference.priors_and_reml.tail_tests import Marginal
from hiermod.plots.style import COLOURS, ink, new_axes, over_all, plain_name, styled, titled
from hiermod.priors.distributions import scipy_or_none
from hiermod.priors.lkj import correlation_law, lkj_marginal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hiermod.formula.design import Design
    from hiermod.model import Model
    from hiermod.priors.table import Entry

PRIOR = "#8c8c8c"
CURVE = 400  # points of a density
MOST_LABELS = 30  # levels that are named on an axis


def prior_against_reml(
    prior: PriorPredictive, reml: Any, fit: BayesianFit | None = None, parameters: Sequence[str] | None = None
) -> Figure:
    """One panel per parameter: the prior, the posterior when a Bayesian fit is given, REML with its 95 % interval.

    Every curve is scaled to the same height, so that a wide prior and a narrow posterior are both seen.  parameters:
    only these, by their names in ``prior.against(reml)``.  A title in colour with "conflict" is a prior-data conflict.
    Returns the Figure.  Raises ArgumentTypeError for other objects, UnknownNameError for a parameter."""
    _check(prior)
    if fit is not None and not isinstance(fit, BayesianFit):
        raise ArgumentTypeError(f"fit must be a Bayesian fit, what m.fit() returns, got {type(fit).__name__}")
    table = prior.against(reml)
    known = marginals(prior.draws, prior.design, prior.centred)
    names = list(known) if parameters is None else list(parameters)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"no parameter {name!r}.{nearest(name, known)} It has: {', '.join(known)}")
    posterior = {} if fit is None else dict(labelled(fit.record, fit.design, effects=False))
    with styled():
        figure, axes = _panels(len(names))
        for i, (name, ax) in enumerate(zip(names, axes, strict=True)):
            _against(ax, known[name], table.loc[name], posterior.get(name), labels=i == 0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
        over_all(figure, f"Prior against REML: {prior.formula}", x=0.01, ha="left")
    return figure


def _check(prior: Any) -> None:
    if not isinstance(prior, PriorPredictive):
        raise ArgumentTypeError(f"prior must be what m.prior_predictive() returns, got {type(prior).__name__}")


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    if not count:
        raise ArgumentError("no parameter to draw: give at least one")
    columns = min(3, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.2 * rows + 1.0), squeeze=False)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    for ax in axes.flat[:count]:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    return figure, list(axes.flat[:count])


def _against(ax: Axes, marginal: Marginal, row: Any, posterior: np.ndarray | None, labels: bool) -> None:
    ends = [row[name] for name in ("prior_lower", "prior_upper", "lower", "upper", "reml")]
    if posterior is not None:
        ends += list(np.quantile(posterior, [0.002, 0.998]))
    ends = [value for value in ends if np.isfinite(value)]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin
    if marginal.kind in ("sd", "sigma"):
        low = 0.0 - 0.02 * (high - 0.0)
    elif marginal.kind == "corr":
        low, high = -1.05, 1.05
    x = np.linspace(low, high, CURVE)
    if row["verdict"] == "fixed":
        ax.axvline(row["prior_median"], color=PRIOR, lw=2.0, label="prior" if labels else None)
    else:
        _curve(ax, x, marginal.density(x), PRIOR, "prior" if labels else None)
    if posterior is not None:
        draws = posterior.ravel()
        inside = np.linspace(max(low, draws.min()), min(high, draws.max()), CURVE)
        density = kernel_density(inside, draws, bandwidth(draws), positive=marginal.kind in ("sd", "sigma"))
        _curve(ax, inside, density, COLOURS["Bayes"], "posterior" if labels else None)
    if np.isfinite(row["lower"]):
        ax.plot([row["lower"], row["upper"]], [-0.07, -0.07], color=COLOURS["REML"], lw=3.0, solid_capstyle="butt")
    ax.plot(
        [row["reml"]],
        [-0.07],
        marker="o",
        ls="",
        color=COLOURS["REML"],
        clip_on=False,
        label="REML, 95 % interval" if labels else None,
    )
    ax.set_xlim(low, high)
    ax.set_ylim(-0.16, 1.08)
    conflict = bool(row["conflict"])
    titled(
        ax,
        f"{marginal.name}{': conflict' if conflict else ''}",
        fontsize="small",
        color=COLOURS["REML"] if conflict else ink(),
    )


def _curve(ax: Axes, x: np.ndarray, density: np.ndarray, colour: str, label: str | None) -> None:
    """A density scaled to height 1, shaded."""
    finite = np.where(np.isfinite(density), density, np.nan)
    top = np.nanmax(finite, initial=0.0)
    height = finite / top if top > 0 else finite
    ax.plot(x, height, color=colour, lw=1.8, label=label)
    ax.fill_between(x, 0.0, height, color=colour, alpha=0.18, lw=0)


def prior_densities(source: Any, design: Design | None = None) -> Figure:
    """The density of every prior of a model, one panel per parameter: what ``Model.plot_priors()`` draws.

    source: a Model, what its prior_predictive() returned, or its entries.  Correlations: the density of each of a
    matrix under LKJ.  The intercept's is that at the predictors' means, as it is given.  Returns the Figure."""
    entries: tuple[Entry, ...]
    if isinstance(source, PriorPredictive):
        entries, design = source.draws.entries, source.design
    elif hasattr(source, "_prior_entries"):
        entries, design = source._prior_entries(), source.spec
    elif isinstance(source, tuple | list) and source and all(hasattr(one, "law") for one in source):
        entries = tuple(source)
    else:
        raise ArgumentTypeError(
            f"source must be a Model, or what its prior_predictive() returned, got {type(source).__name__}"
        )
    blocks = {} if design is None else {block.corr_name: block for block in design.correlated_blocks}
    with styled():
        figure, axes = _panels(len(entries))
        for one, ax in zip(entries, axes, strict=True):
            titled(ax, f"{one.parameter}\n{one.text}", fontsize="small", fontweight="normal")
            if one.eta is None:
                found = scipy_or_none(one.law)
            elif one.parameter in blocks:
                found = correlation_law(blocks[one.parameter], one.eta, (0, 1))
            else:
                found = lkj_marginal(one.eta, 2)
            if found is None:
                ax.set_xticks([])
                said = "a known number" if one.fixed is not None else "no density to draw"
                ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", fontsize="small")
                continue
            low, high = (float(end) for end in found.support())
            low = low if np.isfinite(low) else float(found.ppf(0.005))
            high = high if np.isfinite(high) else float(found.ppf(0.995 if low < 0 else 0.99))
            x = np.linspace(low, high, CURVE)
            with np.errstate(divide="ignore"):
                _curve(ax, x, np.asarray(found.pdf(x), dtype=float), PRIOR, None)
            ax.set_ylim(0.0, 1.08)
    return figure


@checked
def plot_priors(model: Model) -> Figure:
    """The density of every prior, one panel per parameter."""
    return prior_densities(model)


def prior_predictive(
    prior: PriorPredictive,
    x: str | None = None,
    group: str | None = None,
    n: int = 50,
    random_seed: int | np.random.Generator | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Groups that the prior thinks possible, one line for each of ``n`` draws, behind the data.

    x: a numeric column (default: the first with a slope); without one the lines run across the levels of ``group``.
    Lines are expected responses, without residual noise.  The vertical axis holds the data and the middle 90 % of the
    lines.  Returns the Axes."""
    _check(prior)
    lines = prior.lines(x=x, group=group, draws=n, random_seed=random_seed)
    data, column, factor = lines.attrs["data"], lines.attrs["x"], lines.attrs["group"]
    with styled():
        ax = new_axes(7.0, 4.6, ax)
        for i, (_, one) in enumerate(lines.groupby("draw", sort=False)):
            what = f"one {factor}" if factor and column else "one data set"
            label = f"simulated from the prior, {what} each" if i == 0 else None
            marker = "o" if len(one) == 1 else None
            ax.plot(one["x"], one["y"], color=PRIOR, lw=0.9, alpha=0.6, marker=marker, zorder=1, label=label)
        ax.scatter(data["x"], data["y"], s=14, color=COLOURS["REML"], zorder=3, label="data")
        low, high = np.nanquantile(lines["y"], [0.05, 0.95])
        low, high = min(low, data["y"].min()), max(high, data["y"].max())
        margin = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
        ax.set_xlabel(column or factor)
        ax.set_ylabel(plain_name(prior.design.response))
        titled(ax, f"Prior predictive: {prior.formula}")
        if column is None and len(ax.get_xticks()) > MOST_LABELS:
            ax.set_xticks([])
        ax.legend(loc="upper left", fontsize="small", frameon=True, framealpha=0.9, edgecolor="none")
    return ax
