"""The topographic map of shrinkage: estimates on the contours of the group effects' fitted bivariate normal.

After Mahr (2019), "Another mixed effects model visualization"; ellipses hold 10, 30, 50, 70 and 90 % of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.plots.draw_shrinkage import shrinkage
from hiermod.plots.style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiermod.study.pooling import Pooling

HELD = (0.1, 0.3, 0.5, 0.7, 0.9)
SHADE, EDGE = "#9ecae1", "#4a8fc0"


def shrinkage_map(
    pooling: Pooling, x: str | None = None, y: str | None = None, partial: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the shrinkage arrows of two terms over ellipses that hold 10 to 90 % of the groups the fit expects.

    The centre is the fit's population value, the ellipses are those of the covariance of the group effects (for Bayes
    its posterior mean); partial pooling moves estimates towards the centre along the slope of the hill.  Arguments as
    ``shrinkage``'s.  Returns the Axes.  Raises UnsupportedError where fewer than two terms vary."""
    if len(pooling.terms) < 2:
        raise UnsupportedError(
            f"a map needs two coefficients that vary by {pooling.group}; {', '.join(pooling.terms)} is one: "
            "use plot_shrinkage()"
        )
    ax = shrinkage(pooling, x=x, y=y, partial=partial, ax=ax)
    first = x or next(term for term in pooling.terms if term != y)
    second = y or next(term for term in pooling.terms if term != first)
    fit = pooling.bayes if (partial or "Bayes") == "Bayes" and pooling.bayes is not None else pooling.reml
    centre = [float(fit.fixef()["estimate"].get(term, 0.0)) for term in (first, second)]
    outline = np.array([np.cos(angle := np.linspace(0, 2 * np.pi, 200)), np.sin(angle)])
    root = _root(pooling, fit, first, second)
    with styled():
        for held in HELD:
            radius = np.sqrt(-2.0 * np.log1p(-held))  # chi-square quantile with 2 degrees of freedom, in closed form
            ellipse = np.array(centre)[:, None] + radius * root @ outline
            ax.fill(*ellipse, color=SHADE, alpha=0.22, zorder=0.5, lw=0)
            label = "where 10, 30, 50, 70 and 90 % are expected" if held == HELD[0] else None
            ax.plot(*ellipse, color=EDGE, lw=1.0, zorder=0.6, gid=f"contour {held:g}", label=label)
        # below the axes: inside it would hide groups
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize="small")
    return ax


def _root(pooling: Pooling, fit: object, x: str, y: str) -> np.ndarray:
    """A square root (2, 2) of the two effects' covariance; an eigenvalue that rounding made negative is 0."""
    table = fit.varcorr()  # type: ignore[attr-defined]
    table = table[table["group"] == pooling.group]
    cov = np.zeros((2, 2))
    for i, one in enumerate((x, y)):
        alone = table[(table["term1"] == one) & table["term2"].isna()]["vcov"]
        cov[i, i] = float(alone.sum())
    both = table[table["term1"].isin([x, y]) & table["term2"].isin([x, y])]["vcov"]
    cov[0, 1] = cov[1, 0] = float(both.sum())
    values, vectors = np.linalg.eigh(cov)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
