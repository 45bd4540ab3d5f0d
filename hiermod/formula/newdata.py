"""A Design's columns on new rows: X, offset, and for each block its columns and levels (-1 where a level is new)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentTypeError, DataError, UnknownNameError, listing, nearest
from hiermod.formula.data import check_finite, level_labels, plain_column
from hiermod.formula.design import Design, FrozenArrays
from hiermod.formula.groups import match_levels
from hiermod.formula.parse import parse_formula


@dataclass(frozen=True, eq=False)
class NewRows(FrozenArrays):
    """m rows to predict: X (m, p), offset (m,); codes and values hold one (m,) and one (m, k) array per block."""

    index: pd.Index
    X: np.ndarray
    offset: np.ndarray
    codes: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]  # per block, the level of each row as text

    def __len__(self) -> int:
        return len(self.index)

    def unknown(self, design: Design) -> dict[str, list[str]]:
        """Levels the fit has not seen, per grouping factor."""
        found: dict[str, list[str]] = {}
        for block, codes, labels in zip(design.blocks, self.codes, self.labels, strict=True):
            new = list(dict.fromkeys(labels[codes < 0]))
            if new:
                found[block.factor] = new
        return found


def fitted_rows(design: Design) -> NewRows:
    """The rows of the fit themselves."""
    offset = np.zeros(design.nobs) if design.offset is None else design.offset
    labels = tuple(np.array(block.levels, dtype=object)[block.codes] for block in design.blocks)
    codes = tuple(block.codes for block in design.blocks)
    return NewRows(design.index, design.X, offset, codes, tuple(block.values for block in design.blocks), labels)


def new_rows(design: Design, newdata: Any, *, groups: bool = True) -> NewRows:
    """Evaluate ``newdata`` as the fit's data were.  Without ``groups`` grouping columns are not needed.

    Raises ArgumentTypeError for no frame, UnknownNameError for a column that is not there, DataError for missing values
    and for a categorical predictor's unseen level."""
    if not isinstance(newdata, pd.DataFrame):
        raise ArgumentTypeError(f"newdata must be a pandas DataFrame, got {type(newdata).__name__}")
    if len(newdata) == 0:
        raise DataError("newdata has no rows: there is nothing to predict")
    _check_row_values(design, newdata)
    frame = _plain_new_frame(design, newdata, groups)
    X, offset = design.evaluator.new_common(frame)
    check_finite("a predictor in newdata", X)
    if not groups:
        return NewRows(newdata.index, X, offset, (), (), ())
    bars = {block.bar: design.evaluator.new_left(block.bar, frame) for block in design.blocks}
    values = tuple(bars[block.bar][:, list(block.positions)] for block in design.blocks)
    labels = []
    codes = []
    for block in design.blocks:
        parts = [level_labels(frame[column]) for column in block.factor_columns]
        codes.append(match_levels(parts, block.levels))
        labels.append(np.array([":".join(row) for row in zip(*parts, strict=True)], dtype=object))
    return NewRows(newdata.index, X, offset, tuple(codes), values, tuple(labels))


def _check_row_values(design: Design, newdata: pd.DataFrame) -> None:
    """DataError where the formula uses a Series of the fit's own rows, which other rows have no values of."""
    mentioned = {token.text for token in parse_formula(design.formula).names}
    for name, value in design.evaluator.extra_namespace.items():
        of_rows = isinstance(value, pd.Series) and value.index.equals(design.index)
        if name in mentioned and of_rows and not newdata.index.equals(design.index):
            raise DataError(
                f"the formula {design.formula!r} uses {name!r}, a Series from extra_namespace, a value for each row of "
                "the fit, and new rows have none: make it a column of the data, and of newdata"
            )


def _plain_new_frame(design: Design, newdata: pd.DataFrame, groups: bool) -> pd.DataFrame:
    needed = _needed_columns(design, groups)
    for name in needed:
        if name not in newdata.columns:
            raise UnknownNameError(
                f"newdata lacks the column {name!r}, which the formula {design.formula!r} uses."
                f"{nearest(name, newdata.columns)} Its columns are: {listing(newdata.columns, 20)}."
            )
    repeated = [name for name in needed if isinstance(newdata[name], pd.DataFrame)]
    if repeated:
        raise DataError(f"newdata has more than one column named {listing(map(repr, repeated))}: rename or drop one")
    missing = {name: int(newdata[name].isna().sum()) for name in needed if newdata[name].isna().any()}
    if missing:
        told = ", ".join(f"{name}: {count}" for name, count in missing.items())
        raise DataError(f"newdata has missing values ({told}): leave out or fill in those rows")
    columns = {}
    for name in needed:
        known = design.frame[name]
        if isinstance(known.dtype, pd.CategoricalDtype):
            columns[name] = pd.Series(level_labels(newdata[name]), index=newdata.index, dtype=object)
        else:
            columns[name] = plain_column(name, newdata[name], grouping_only=False)
            if isinstance(columns[name].dtype, pd.CategoricalDtype):
                raise DataError(f"newdata: column {name!r} is text, but the fit used numbers")
    return pd.DataFrame(columns, index=newdata.index)


def _needed_columns(design: Design, groups: bool) -> list[str]:
    """Columns of the right side; the response's own columns are not asked for."""
    parsed = parse_formula(design.formula)
    right = (
        "y ~ "
        + parsed.common
        + (
            ""
            if not groups
            else "".join(f" + ({bar.left} | {':'.join(f'`{c}`' for c in bar.factor)})" for bar in parsed.bars)
        )
    )
    names = dict.fromkeys(token.text for token in parse_formula(right).names[1:])
    return [name for name in names if name in design.frame.columns]
