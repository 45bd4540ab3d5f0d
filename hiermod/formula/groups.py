"""Grouping factors as integer codes, taken from the columns directly: no indicator matrix is ever formed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.errors import DesignError
from hiermod.formula.data import plain_column


def group_codes(frame: pd.DataFrame, columns: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and labels of the levels that occur, for one column or an interaction such as ``("batch", "cask")``.

    Levels of an interaction are in lexicographic order of its columns' levels, labelled ``A:a``."""
    first = _as_categorical(frame[columns[0]])
    codes = first.cat.codes.to_numpy().astype(np.int64)
    labels = first.cat.categories.to_numpy(dtype=object)
    for column in columns[1:]:
        other = _as_categorical(frame[column])
        size = len(other.cat.categories)
        combined, codes = np.unique(codes * size + other.cat.codes.to_numpy(), return_inverse=True)
        names = other.cat.categories.to_numpy(dtype=object)
        labels = np.array([f"{labels[i // size]}:{names[i % size]}" for i in combined], dtype=object)
    if len(labels) < 2:
        name = ":".join(columns)
        raise DesignError(
            f"the grouping factor {name!r} has one level ({labels[0]!r}): the variation between groups cannot be "
            f"estimated from one group. Leave out the term with '| {name}', or use a factor with more levels"
        )
    return codes.astype(np.int32), tuple(labels)


def _as_categorical(values: pd.Series) -> pd.Series:
    """A grouping column that the formula also uses as a number is still one here."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    return plain_column(str(values.name), values, grouping_only=True)


def match_levels(labels: list[np.ndarray], levels: tuple[str, ...]) -> np.ndarray:
    """Codes (m,) of new rows among known levels, -1 where a level is new.  ``labels``: one array per column."""
    joined = labels[0]
    for more in labels[1:]:
        joined = np.array([f"{one}:{other}" for one, other in zip(joined, more, strict=True)], dtype=object)
    return pd.Index(levels).get_indexer(pd.Index(joined))
