"""The assumptions of one fit on one page: shape, spread and trend of residuals, shape of group effects, influence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.plots.draw_influence import influence
from hiermod.plots.draw_qq import qq
from hiermod.plots.draw_residuals import residuals_by_group, residuals_fitted, scale_location, simulated_residuals
from hiermod.plots.style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def assumptions(fit: Any, group: str | None = None, random_seed: int | None = 0) -> Figure:
    """All panels that the fit's family allows; returns the Figure.

    Gaussian: QQ plot of the residuals, residuals against fitted, scale-location, residuals by group, QQ plots of each
    term's group effects, influence of groups (frequentist fits).  Other families: simulated residuals (random_seed),
    counts also their Pearson residuals.  group: the grouping factor, the first by default."""
    import matplotlib.pyplot as plt

    panels = _panels(fit, group, random_seed)
    columns = 2 if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    with styled():
        figure, axes = plt.subplots(rows, columns, figsize=(5.0 * columns, 4.3 * rows), squeeze=False)
        for draw, ax in zip(panels, axes.flat, strict=False):
            try:
                draw(ax)
            except UnsupportedError as error:  # a variance of 0 has no plot; the panel says so
                ax.set_axis_off()
                ax.text(0.5, 0.5, str(error), transform=ax.transAxes, ha="center", va="center", wrap=True)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
    return figure


def _panels(fit: Any, group: str | None, random_seed: int | None) -> list[Callable[[Axes], Any]]:
    factors = list(fit.design.ngroups)
    group = factors[0] if group is None and factors else group
    if FAMILIES[fit.family].normal_errors:
        panels: list[Callable[[Axes], Any]] = [
            lambda ax: qq(fit, ax=ax),
            lambda ax: residuals_fitted(fit, ax=ax),
            lambda ax: scale_location(fit, ax=ax),
        ]
    else:
        residuals = fit.simulated_residuals(random_seed=random_seed)
        panels = [lambda ax: simulated_residuals(residuals, ax=ax)]
        if FAMILIES[fit.family].pearson_residuals:
            panels += [lambda ax: residuals_fitted(fit, ax=ax)]
    if group is not None:
        if FAMILIES[fit.family].normal_errors:
            panels.append(lambda ax: residuals_by_group(fit, group, ax=ax))
        terms = [label for block in fit.design.blocks if block.factor == group for label in block.labels]
        panels += [lambda ax, term=term: qq(fit, group, term, ax=ax) for term in terms]  # type: ignore[misc]
    if hasattr(fit, "influence"):
        table = fit.influence(group)
        panels.append(lambda ax: influence(table, ax=ax))
    return panels
