"""Frames of other sample sizes: what a study would look like with more groups, or fewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, nearest


def sized_frames(
    design: Callable[[int], pd.DataFrame] | pd.DataFrame, sizes: Sequence[int] | None, along: str | None
) -> dict[int, pd.DataFrame]:
    """size -> frame, ascending.  ArgumentError, ArgumentTypeError for what makes none."""
    if isinstance(design, pd.DataFrame):
        if sizes is None:
            return {len(design) if along is None else int(design[_known(design, along)].nunique()): design}
        if along is None:
            raise ArgumentError(
                "sizes with a frame need along=, the grouping column whose number of levels they are; or give a "
                "function of the size, such as lambda n: hm.designs.within(subjects=n)"
            )
        return {size: extended(design, along, size) for size in checked_sizes(sizes)}
    if not callable(design):
        raise ArgumentTypeError(f"design must be a function of the size, or a DataFrame; got {type(design).__name__}")
    if along is not None:
        raise ArgumentError("along= goes with a frame; a function of the size makes its own")
    if sizes is None:
        raise ArgumentError("sizes: say for which sample sizes, such as sizes=[10, 20, 40]")
    found: dict[int, Any] = {size: design(size) for size in checked_sizes(sizes)}
    for size, frame in found.items():
        if not isinstance(frame, pd.DataFrame):
            raise ArgumentTypeError(f"design({size}) must be a pandas DataFrame, got {type(frame).__name__}")
    return found


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """Ascending, each once, all at least 1."""
    values = list(np.atleast_1d(np.asarray(sizes, dtype=object)))
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(f"sizes must be whole numbers of at least 1, got {value!r}")
    if not values:
        raise ArgumentError("sizes: give at least one")
    return sorted({int(value) for value in values})


def extended(frame: pd.DataFrame, along: str, size: int) -> pd.DataFrame:
    """The frame with ``size`` levels of the grouping column: levels repeated in turn under new names, or fewer.

    >>> d = pd.DataFrame({"g": ["a", "a", "b"], "x": [1, 2, 3]})
    >>> extended(d, "g", 3)["g"].tolist(), extended(d, "g", 3)["x"].tolist()
    (['a', 'a', 'b', 'a:2', 'a:2'], [1, 2, 3, 1, 2])
    """
    column = frame[_known(frame, along)]
    levels = [level for level in pd.unique(column.dropna())]
    rows = {level: np.flatnonzero((column == level).to_numpy()) for level in levels}
    chosen, names = [], []
    for k in range(size):
        turn, level = divmod(k, len(levels))
        chosen.append(rows[levels[level]])
        name = str(levels[level]) if turn == 0 else f"{levels[level]}:{turn + 1}"
        names += [name] * len(chosen[-1])
    found = frame.iloc[np.concatenate(chosen)].reset_index(drop=True)
    return found.assign(**{along: pd.Categorical(names, categories=list(dict.fromkeys(names)))})


def _known(frame: pd.DataFrame, along: str) -> str:
    if along not in frame.columns:
        raise UnknownNameError(f"along: the frame has no column {along!r}.{nearest(along, map(str, frame.columns))}")
    return along
