"""Posteriors under a weaker and a stronger prior or likelihood, one panel per parameter.

After Kallioinen, Paananen, Buerkner and Vehtari (2024, Stat. Comput. 34, 57), figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hiermod.errors import ArgumentTypeError
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.priors_and_reml.power_curves import power_curves
from hiermod.plots.style import ink, over_all, styled, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BELOW, ABOVE = "#E69F00", "#0072B2"  # Okabe and Ito (2008)


def power_scaling(
    fit: BayesianFit,
    component: str = "prior",
    parameters: Sequence[str] | None = None,
    alphas: Sequence[float] = (0.8, 1.0, 1.25),
    kind: str = "density",
) -> Figure:
    """The posterior of each parameter with the prior (or the likelihood) to the powers ``alphas``.

    Curves that lie on each other: the strength of the prior does not matter.  component: "prior" or "likelihood".
    kind: "density" or "ecdf".  parameters: only these.  Returns the Figure.  Raises UnknownNameError, ArgumentError."""
    import matplotlib.pyplot as plt

    if not isinstance(fit, BayesianFit):
        raise ArgumentTypeError(f"fit must be a Bayesian fit, what m.fit() returns, got {type(fit).__name__}")
    curves = power_curves(fit, component, parameters, alphas, kind)
    names = list(dict.fromkeys(curves["parameter"]))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with styled():
        figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.1 * rows + 1.0), squeeze=False)
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        for name, ax in zip(names, axes.flat, strict=False):
            for alpha, one in curves[curves["parameter"] == name].groupby("alpha", sort=True):
                _curve(ax, one, float(alpha), component)
            titled(ax, name, fontsize="small")
            ax.locator_params(axis="x", nbins=5)
            if kind == "density":
                ax.set_yticks([])
                ax.set_ylim(bottom=0.0)
                ax.spines["left"].set_visible(False)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")
        over_all(figure, f"Posterior under powers of the {component}: {fit.formula}", x=0.01, ha="left")
    return figure


def _curve(ax: Any, one: Any, alpha: float, component: str) -> None:
    colour = ink() if alpha == 1 else BELOW if alpha < 1 else ABOVE
    strength = "as fitted" if alpha == 1 else f"{component} to the power {alpha:g}"
    ax.plot(one["x"], one["y"], color=colour, lw=1.8, ls="-" if alpha == 1 else "--", label=strength)
