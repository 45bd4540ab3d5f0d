"""Slopes of a numeric predictor: how fast the expected response changes with it, at typical values or on average over
the rows (Lenth's emtrends; Williams 2012, Stata Journal 12(2), for average marginal effects).

The model matrix is evaluated a small step to either side, so poly(), log() and splines of the predictor count too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.checked import checked
from hiermod.errors import ArgumentError
from hiermod.fits.ddf import chosen_ddf
from hiermod.fits.tables import LEVEL, check_level
from hiermod.fits.targets import choice
from hiermod.inference.marginal_effects.coefficient_functions import Functions, function_table, lost_notes
from hiermod.inference.marginal_effects.marginal_means import (
    MEAN_TARGETS,
    SCALES,
    Names,
    averaged_over,
    check_scale,
    described,
    label_index,
    level_names,
    scale_notes,
)
from hiermod.inference.marginal_effects.reference_grid import (
    check_number,
    check_variables,
    observed_rows,
    reference_grid,
)

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

OVER = ("grid", "rows")
STEP = 1e-4  # of the predictor's range: central differences are then right to about 1e-9


@checked
def slopes(
    fit: Fit,
    variable: str,
    by: Names | None = None,
    at: Mapping[str, Any] | None = None,
    over: str = "grid",
    weights: str = "equal",
    scale: str = "link",
    target: str = "population",
    ddf: str | None = "auto",
    level: float = LEVEL,
) -> pd.DataFrame:
    """Change of the expected response per unit of a numeric predictor, whatever poly(), log() or splines it is in.

    by: at each level of these.  at: values of predictors, ``variable`` itself among them.  over: "grid", at the
    reference grid of ``means`` (emmeans' emtrends); "rows", averaged over the rows of the data, or with ``by`` of
    each level (average marginal effects).  The rest as in ``means``.  Raises UnsupportedError for a factor.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> fit.slopes("Days")["estimate"].round(3).to_dict()
    {'Days': 10.467}
    """
    level, ddf, scale = check_level(level), chosen_ddf(fit, ddf), choice("scale", scale, SCALES)
    over, target = choice("over", over, OVER), choice("target", target, MEAN_TARGETS)
    name, design = check_number(fit.design, variable), fit.design
    within = [] if by is None else check_variables(design, by, "by")
    if name in within:
        raise ArgumentError(f"the slope of {name!r} at values of its own: at={{{name!r}: [...]}}, not by={name!r}")
    check_scale(fit, scale, target)
    new_group = target == "new_group" and bool(design.blocks) and fit.link != "identity"
    if over == "rows":
        if at is not None:
            raise ArgumentError("over='rows' takes the predictors as they are in the data: leave at out")
        grid, shown = observed_rows(design), within
    else:
        grid = reference_grid(design, at, lefts=new_group)
        shown = [*within, name] if name in (at or {}) else within
    if shown:
        labels, W = grid.averages(shown, "equal" if over == "rows" else weights)
    else:
        labels, W = pd.DataFrame({"variable": [name]}), grid.averages([], weights)[1]
    step = STEP * float(np.ptp(design.frame[name].to_numpy(dtype=float)))
    (above, o_above), (below, o_below) = grid.rows(name, step), grid.rows(name, -step)
    X, offset = W @ (above - below) / (2 * step), W @ (o_above - o_below) / (2 * step)
    if scale == "link":
        functions = Functions(X, offset)
    else:
        effects = None
        if new_group:
            sides = grid.effect_values(name, step), grid.effect_values(name, -step)
            effects = tuple(np.concatenate(pair) for pair in zip(*sides, strict=True))
        C = np.hstack([W, -W]) / (2 * step)
        functions = Functions(np.vstack([above, below]), np.hstack([o_above, o_below]), C, True, effects=effects)
    table = function_table(fit, functions, label_index(labels), level, ddf)
    notes = [f"averaged over the rows of the data{' of each level' if within else ''}"]
    if over == "grid":
        notes = [*averaged_over(grid, shown, weights), *grid.notes]
    notes += scale_notes(fit, scale, target, "slopes")
    notes += lost_notes(fit, design, X, level_names(labels))
    return described(table, scale, target, ddf, level, notes)
