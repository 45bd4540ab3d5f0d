"""Lines of the groups along a number, and the population's and complete pooling's beside them.

Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, sections 12.2 and 13.1."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import GENERALISED, is_linear
from hiermod.families.responses import check_mean
from hiermod.fits.by_likelihood import by_likelihood
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import LEVEL, check_group, check_level
from hiermod.fits.targets import choice
from hiermod.formula.design import Block, Design
from hiermod.formula.newdata import new_rows
from hiermod.formula.roles import variable_roles
from hiermod.inference.groups.pooled_lines import POINTS, line_variable, typical_rows

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

MOST = 150  # groups whose lines are computed unless asked for: more would be a carpet
NOBODY = "(no level)"  # of another grouping factor: its effect is then 0
OVER = ("own", "all")


def line_block(fit: Fit, group: str | None) -> Block:
    """The first block of the named factor, by default of the formula's first.  UnsupportedError without groups."""
    if not fit.design.blocks:
        raise UnsupportedError(f"{fit.formula!r} has no group effects, so no group has a line: add a term (1 | g)")
    return check_group(fit.design, group)[0]


def group_lines(fit: Fit, x: str | None = None, group: str | None = None, over: str = "own") -> pd.DataFrame:
    """level, x, estimate: each level's expected response at ``POINTS`` values of ``x``, unit of the response.

    Other numbers stand at the level's mean and factors at its most frequent value; effects of other grouping factors
    are 0.  over: "own" for the range of the level's rows, "all" for that of all data.  With more than 150 levels those
    with the most rows; ``attrs`` names x, group and the number of levels.  Raises UnknownNameError, ArgumentError,
    UnsupportedError."""
    check_mean(fit.family)
    block, x, over = line_block(fit, group), line_variable(fit.design, x), choice("over", over, OVER)
    frame, chosen = _line_rows(fit.design, block, x, over)
    _leave_out_others(fit.design, block, frame)
    estimate = fit.predict(frame, new_levels="zero")["estimate"].to_numpy()
    levels = np.asarray(block.levels, dtype=object)[chosen]
    table = pd.DataFrame({"level": np.repeat(levels, POINTS), x: frame[x], "estimate": estimate})
    table.attrs |= {"x": x, "group": block.factor, "levels": len(block.levels), "shown": len(chosen)}
    return table


def _line_rows(design: Design, block: Block, x: str, over: str) -> tuple[pd.DataFrame, np.ndarray]:
    """``POINTS`` typical rows of each chosen level along ``x``, and which levels those are."""
    typical = typical_rows(design, block)
    counts = np.bincount(block.codes, minlength=len(block.levels))
    chosen = np.sort(np.argsort(-counts, kind="stable")[:MOST])
    values = pd.Series(design.frame[x].to_numpy(dtype=float)).groupby(block.codes)
    first, last = values.min().to_numpy()[chosen], values.max().to_numpy()[chosen]
    if over == "all":
        first, last = np.full_like(first, first.min()), np.full_like(last, last.max())
    frame = typical.iloc[np.repeat(chosen, POINTS)].reset_index(drop=True)
    frame[x] = np.linspace(first, last, POINTS, axis=1).ravel()
    return frame, chosen


def within_slope(fit: Fit, x: str, group: str) -> float:
    """The slope along ``x`` within the levels of ``group``, by least squares with an intercept for each level.

    The within (fixed-effects) estimate: rows less their level's means, so that differences between levels cannot enter;
    a mixed model's own coefficient is a mixture of within and between unless it has the levels' means as a predictor.
    Averaged over the levels as their lines are.  nan for other families, and where the data cannot tell it."""
    design, block = fit.design, line_block(fit, group)
    if not is_linear(fit.family, fit.link) or not design.common:
        return float("nan")
    frame, chosen = _line_rows(design, block, x, "own")
    ends = frame.iloc[np.sort(np.r_[0 : len(frame) : POINTS, POINTS - 1 : len(frame) : POINTS])]
    X = new_rows(design, ends, groups=False).X.reshape(len(chosen), 2, -1)
    run = ends[x].to_numpy(dtype=float).reshape(-1, 2) @ [-1.0, 1.0]
    if not (run > 0).any():
        return float("nan")
    change = ((X[:, 1] - X[:, 0])[run > 0] / run[run > 0, None]).mean(axis=0)
    w = design.precision.of_each_row
    y = design.y if design.offset is None else design.y - design.offset
    together = np.column_stack([design.X, y])
    J = len(block.levels)
    total = np.stack([np.bincount(block.codes, w * column, J) for column in together.T], axis=1)
    centred = np.sqrt(w)[:, None] * (together - (total / np.bincount(block.codes, w, J)[:, None])[block.codes])
    scale = np.sqrt(np.square(together).mean(axis=0))[:-1]
    M = centred[:, :-1] / np.where(scale > 0, scale, 1.0)
    change = change / np.where(scale > 0, scale, 1.0)
    inverse = np.linalg.pinv(M, rcond=1e-9)
    told = np.allclose(change @ inverse @ M, change, rtol=0, atol=1e-6 * np.abs(change).max(initial=0.0))
    return float(change @ inverse @ centred[:, -1]) if told else float("nan")


def _leave_out_others(design: Design, block: Block, frame: pd.DataFrame) -> None:
    """A level nobody has in the columns of other grouping factors, but where such a column is a predictor too."""
    roles = variable_roles(design, lefts=True)
    for other in design.blocks:
        for name in other.factor_columns:
            if name not in block.factor_columns and name not in roles:
                frame[name] = pd.Series([NOBODY] * len(frame), dtype=object)


def population_line(fit: Fit, x: str, level: float = LEVEL) -> pd.DataFrame:
    """x, estimate, lower, upper of a typical group over the range of all data.

    ``fit.means``: other factors averaged over, numbers at their mean.  An ``x`` that only groups differ by (left of the
    bar alone) has a level line."""
    check_level(level)
    values = fit.design.frame[x].to_numpy(dtype=float)
    grid = np.linspace(values.min(), values.max(), POINTS)
    if x in variable_roles(fit.design):
        table: Any = fit.means([x], at={x: grid}, scale="response", level=level)
    else:
        rows = typical_rows(fit.design, replace(fit.design.blocks[0], codes=np.zeros(fit.nobs, dtype=int)))
        table = fit.predict(rows.iloc[np.zeros(POINTS, dtype=int)], target="population", interval=level)
    return pd.DataFrame({x: grid} | {name: table[name].to_numpy() for name in ("estimate", "lower", "upper")})


def without_groups(fit: Fit) -> FrequentistFit:
    """Complete pooling: the same common part by least squares (other families: maximum likelihood), nobody told apart.

    UnsupportedError for families that are not fitted by maximum likelihood here."""
    design, link = replace(fit.design, blocks=()), fit.link
    if is_linear(fit.family, link) or fit.family in GENERALISED:
        return by_likelihood(design, fit.family, link, reml=True)
    raise UnsupportedError(
        f"complete pooling is fitted by maximum likelihood, which hiermod has for gaussian, bernoulli, binomial and "
        f"poisson models, not for family {fit.family!r}: fit a formula without bars and draw it with hm.plots.effects"
    )


def average_slopes(lines: pd.DataFrame, x: str) -> pd.Series:
    """Per level (last value - first) / (range of x) of its line; nan where the level has one value of ``x`` only."""
    ends = lines.groupby("level", sort=False)[[x, "estimate"]].agg(["first", "last"])
    run = ends[x]["last"] - ends[x]["first"]
    return (ends["estimate"]["last"] - ends["estimate"]["first"]).divide(run.where(run > 0))


def group_rows(design: Design, x: str, group: str) -> pd.DataFrame:
    """level, x, response: the data, proportions for counts out of trials; the rows' own labels."""
    block = check_group(design, group)[0]
    y = np.asarray(design.y if design.trials is None else design.y / design.trials, dtype=float)
    levels = np.asarray(block.levels, dtype=object)[block.codes]
    columns = {"level": levels, x: design.frame[x].to_numpy(dtype=float), "response": y}
    return pd.DataFrame(columns, index=design.index)
