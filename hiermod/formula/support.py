"""Which values each family's response can take, checked before anything is built.

Ratings that are whole numbers are taken as ordered categories; text has no order of its own and is refused there."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hiermod.errors import DataError, listing
from hiermod.families.catalogue import FAMILIES

MOST_RATINGS = 20  # whole numbers with more values than this are hardly ratings


def check_support(text: str, y: np.ndarray, family: str) -> None:
    """DataError where a numeric response (n,) has values that the family gives no probability."""
    support = FAMILIES[family].support
    if support is None:
        return
    bad = support.outside(y)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"the response {text!r} cannot have this family: family {family!r} is {support.words}, and "
            f"{int(bad.sum())} of {len(y)} rows are not (the first: {y[row]:g}, in row {row} of those used). "
            f"{support.advice}"
        )


def ratings(text: str, y: np.ndarray, family: str) -> pd.Categorical:
    """Whole numbers as ordered categories; DataError for other numbers."""
    values = np.unique(y)
    if (y != np.round(y)).any() or len(values) > MOST_RATINGS:
        raise DataError(
            f"the response {text!r} has {len(values)} different numbers, and family {family!r} is for ordered "
            f"categories: whole numbers with at most {MOST_RATINGS} values, or a column made by "
            "pandas.Categorical(values, categories=[lowest, ..., highest], ordered=True)"
        )
    labels = [str(int(value)) for value in values]
    return pd.Categorical.from_codes(np.searchsorted(values, y), labels, ordered=True)


def category_values(labels: Sequence[str]) -> np.ndarray:
    """(K,) the number of each category of an ordinal response, the scale of y and of all that is simulated.

    Categories that are whole numbers in ascending order are those numbers, all others are 1, 2, ... in their order.

    >>> category_values(["1", "2", "5"]), category_values(["low", "high"])
    (array([1., 2., 5.]), array([1., 2.]))
    """
    if all(re.fullmatch(r"[+-]?\d{1,15}", label) for label in labels):
        values = np.array([float(label) for label in labels])
        if (np.diff(values) > 0).all():
            return values
    return np.arange(1.0, len(labels) + 1)


def check_order(text: str, levels: list[str], ordered: bool, family: str) -> None:
    """DataError where the categories of an ordinal response have no order."""
    if FAMILIES[family].ordinal and not ordered:
        raise DataError(
            f"the response {text!r} has the categories {listing(map(repr, levels), 6)} in no order of yours, and "
            f"family {family!r} needs one: data[{text!r}] = pandas.Categorical(data[{text!r}], "
            "categories=[lowest, ..., highest], ordered=True)"
        )
