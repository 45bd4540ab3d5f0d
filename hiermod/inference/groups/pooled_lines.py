"""Each group's line under every kind of pooling: the expected response along one variable, others as in the group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, UnknownNameError, nearest
from hiermod.formula.design import Block, Design
from hiermod.formula.newdata import new_rows
from hiermod.formula.roles import NUMBER, variable_roles

POINTS = 25  # along the variable: enough for a curve


def line_variable(design: Design, variable: str | None) -> str:
    """The variable lines are drawn along: the first numeric predictor unless named.

    Raises ArgumentError where there is none, UnknownNameError for one that is no numeric predictor."""
    known = [name for name, role in variable_roles(design, lefts=True).items() if role == NUMBER]
    if variable is not None and variable not in known:
        raise UnknownNameError(
            f"{variable!r} is no numeric predictor of {design.formula!r}.{nearest(str(variable), known)} "
            f"Those are: {', '.join(known) or 'none'}."
        )
    if not known:
        raise ArgumentError(f"{design.formula!r} has no numeric predictor to draw lines along: use plot_shrinkage()")
    return variable or known[0]


def pooled_lines(
    design: Design, blocks: tuple[Block, ...], own: pd.DataFrame, rest: pd.DataFrame, variable: str | None = None
) -> pd.DataFrame:
    """method, level, ``variable``, estimate: ``POINTS`` points a line, over the range of the whole data.

    own: the tidy estimates of the coefficients that differ by level (method, level, term, estimate); rest: the others,
    (term, method).  Other numeric predictors are at the level's mean, factors at its most frequent value."""
    name = line_variable(design, variable)
    values = design.frame[name].to_numpy(dtype=float)
    grid = np.linspace(values.min(), values.max(), POINTS)
    typical = typical_rows(design, blocks[0])
    frame = typical.loc[np.repeat(typical.index, POINTS)].reset_index(drop=True)
    frame[name] = np.tile(grid, len(typical))
    rows = new_rows(design, frame)
    columns = dict(zip(design.common, rows.X.T, strict=True))
    for block in blocks:
        columns |= dict(zip(block.labels, rows.values[design.blocks.index(block)].T, strict=True))
    pieces = []
    for method in own["method"].unique():
        wide = own[own["method"] == method].pivot_table(
            index="level", columns="term", values="estimate", sort=False, dropna=False
        )
        wide = wide.reindex(blocks[0].levels)
        total = rows.offset + sum(
            (np.repeat(wide[term].to_numpy(), POINTS) * columns[term] for term in wide.columns), np.zeros(len(frame))
        )
        for term, value in rest[method].items():
            total = total + value * columns[str(term)]
        line = {"method": method, "level": np.repeat(np.asarray(blocks[0].levels, dtype=object), POINTS)}
        pieces.append(pd.DataFrame(line | {name: frame[name], "estimate": total}))
    return pd.concat(pieces, ignore_index=True)


def typical_rows(design: Design, block: Block) -> pd.DataFrame:
    """One row a level: its means of numbers and its most frequent factor values, grouping columns its own."""
    grouped = design.frame.groupby(block.codes)
    typical = {}
    for name in design.frame.columns:
        column = grouped[name]
        if name not in block.factor_columns and pd.api.types.is_numeric_dtype(design.frame[name]):
            typical[name] = column.mean()
        else:
            typical[name] = column.agg(lambda values: values.mode().iloc[0])
    return pd.DataFrame(typical)
