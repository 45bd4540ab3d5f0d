"""The person's data frame checked and made plain: one private frame of numbers and ordered categoricals.

Everything that could give a wrong number later is refused here, with counts; the caller's frame is never changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import label_text
from hiermod.core.written_numbers import is_number, numbers_as_text
from hiermod.errors import ArgumentTypeError, DataError, HiermodError, UnknownNameError, listing, nearest
from hiermod.formula.functions import VALUES, find_function, no_such_function
from hiermod.formula.parse import ParsedFormula
from hiermod.formula.scan import marked


def check_frame(data: Any) -> pd.DataFrame:
    """The frame itself when it is one with rows; ArgumentTypeError or DataError when not."""
    if not isinstance(data, pd.DataFrame):
        raise ArgumentTypeError(
            f"data must be a pandas DataFrame with one row per observation, got {type(data).__name__}: "
            "pandas.DataFrame(...) makes one from a dict or a list of records, hiermod.read_csv(...) from a file"
        )
    if data.columns.nlevels > 1:
        raise DataError(
            f"the data's columns have {data.columns.nlevels} levels (the first: {data.columns[0]}), and a formula "
            "needs one name per column: data.columns = data.columns.map('_'.join) makes one of text levels"
        )
    if len(data) == 0:
        raise DataError(f"the data frame has no rows (columns: {listing(data.columns)}): there is nothing to fit")
    return data


def backtick_hint(text: str, columns: Iterable[object]) -> str:
    """What to do about a column that stands in the formula bare though its name is none: `` `hours studied` ``.

    >>> backtick_hint("score ~ hours studied", ["score", "hours studied"])
    "The data have a column 'hours studied': write `hours studied` in backticks."
    """
    bare = " ".join(re.sub("`[^`]*`?", " ", text).split())
    found = [
        name
        for name in columns
        if isinstance(name, str)
        and not name.isidentifier()
        and any(map(str.isalpha, name))
        and re.search(rf"(?<!\w){re.escape(' '.join(name.split()))}(?!\w)", bare)
    ]
    if not found:
        return ""
    name = max(found, key=len)
    return f"The data have a column {name!r}: write `{name}` in backticks."


def used_columns(parsed: ParsedFormula, data: pd.DataFrame, extra: Mapping[str, Any] | None) -> list[str]:
    """Columns the formula uses, in order of mention.

    extra: names of the person's own.  Raises UnknownNameError, the place marked and the nearest name told, for
    functions that a formula cannot call and names that are no column."""
    for token in parsed.functions:
        whole_response = token.start == 0 and token.text == parsed.response_call
        if whole_response or find_function(token.text, extra) is not None:
            continue
        told = no_such_function(token.text, extra)
        quoted = re.match(r"""\(\s*(["'])(.+?)\1\s*\)""", parsed.text[token.stop :])
        if token.text == "Q" and quoted:  # patsy's
            told = (
                f"the formula calls {token.text!r}, and no such function is known. A column's name with spaces or "
                f"signs goes in backticks: write `{quoted[2]}`."
            )
        first, _, advice = told.partition("\n")
        raise UnknownNameError(f"{first}\n{marked(parsed.text, token.start, token.stop)}\n{advice}".rstrip())
    used: dict[str, None] = {}
    for token in parsed.names:
        if token.text in data.columns:
            used[token.text] = None
        elif token.text not in (extra or {}) and token.text not in VALUES:
            bare = backtick_hint(parsed.text, [name for name in data.columns if token.text in str(name)])
            if token.text in ("TRUE", "FALSE"):
                bare = f"A truth value is written {token.text.capitalize()}."
            raise UnknownNameError(
                f"the formula uses {token.text!r}, and the data have no such column."
                f"{f' {bare}' if bare else _near_column(token.text, data)}\n"
                f"{marked(parsed.text, token.start, token.stop)}\n"
                f"The columns are: {listing(data.columns, 20) or 'none'}."
            )
    repeated = [name for name in used if isinstance(data[name], pd.DataFrame)]
    if repeated:
        raise DataError(
            f"the data have more than one column named {listing(map(repr, repeated))}, so it is not clear which one "
            "the formula means: rename or drop the duplicates"
        )
    return list(used)


def _near_column(name: str, data: pd.DataFrame) -> str:
    """Why ``name`` is no column: a column named by a number, a name from outside, a misspelling."""
    for column in data.columns:
        if not isinstance(column, str) and str(column) == name:
            return f" The column {column!r} is not named by text: data.columns = data.columns.astype(str) changes that."
    if name.startswith("np."):
        return " Only functions are taken from numpy; a number of your own goes in extra_namespace={'name': ...}."
    return nearest(name, data.columns)


def by_label(what: str, values: pd.Series, index: pd.Index) -> pd.Series:
    """A Series with one value for each label of ``index``, in that order; DataError where the labels are others.

    Equal labels in equal order are taken as they stand, so repeated ones do too."""
    if values.index.equals(index):
        return values
    if values.index.is_unique and index.is_unique and index.isin(values.index).all():
        return values.reindex(index)
    if not (values.index.is_unique and index.is_unique):
        why = "labels repeat, so it is not clear which value belongs to which row"
    else:
        lost = index[~index.isin(values.index)]
        why = f"it has no value for {len(lost)} of the {len(index)} rows (the first: {lost[0]!r})"
    raise DataError(
        f"{what} is a Series, which is matched to the rows by its index, and the two differ: {why}. "
        "Give it the index of the rows or, where it stands in their order, hand over its values: values.to_numpy()"
    )


def by_rows(namespace: Mapping[str, Any] | None, index: pd.Index, keep: np.ndarray) -> Mapping[str, Any] | None:
    """Names for the formula, a Series with a value for each row of the data matched to the rows kept by its index.

    One of another length is something else of the person's, such as a table to look things up in."""
    if namespace is None:
        return None
    return {
        name: by_label(f"{name!r} in extra_namespace", value, index)[keep]
        if isinstance(value, pd.Series) and len(value) == len(index)
        else value
        for name, value in namespace.items()
    }


def row_vector(what: str, given: Any, data: pd.DataFrame) -> pd.Series | None:
    """``weights`` or ``se``: a column's name, an array with one number per row, or a Series by its index."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in data.columns:
            raise UnknownNameError(
                f"{what}={given!r}: the data have no such column.{_near_column(given, data)} "
                f"The columns are: {listing(data.columns, 20)}."
            )
        values = data[given]
        if isinstance(values, pd.DataFrame):
            raise DataError(f"{what}={given!r}: the data have more than one column of that name")
    elif isinstance(given, pd.Series) and len(given) == len(data):
        values = by_label(what, given, data.index)
    else:
        array = np.asarray(given)
        if array.shape != (len(data),):
            raise DataError(
                f"{what} must have one number per row of the data, {len(data)}, got an array of shape {array.shape}"
            )
        values = pd.Series(array, index=data.index)
    if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_complex_dtype(values.dtype):
        raise DataError(f"{what} must be numbers, got values of type {values.dtype}")
    return values


def check_positive(what: str, values: np.ndarray) -> None:
    """DataError unless every one of ``values`` (n,) is positive and finite."""
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise DataError(
            f"{what} must be positive and finite in every row; {int(bad.sum())} of {len(values)} rows are not "
            f"(the first: {values[np.argmax(bad)]:g}). Leave out such rows first."
        )


def missing_rows(parts: Mapping[str, pd.Series], dropna: bool) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows are complete, and how many values each column lacks; DataError unless ``dropna``."""
    counts: dict[str, int] = {}
    complete: np.ndarray | None = None
    for name, values in parts.items():
        absent = values.isna().to_numpy()
        if absent.any():
            counts[name] = int(absent.sum())
        complete = ~absent if complete is None else complete & ~absent
    keep = np.ones(0, dtype=bool) if complete is None else complete
    if counts:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        if not dropna:
            raise DataError(
                f"missing values in the columns the model uses ({told}; {int((~keep).sum())} of {len(keep)} rows). "
                "dropna=True leaves those rows out; filling them in is another option"
            )
        if not keep.any():
            raise DataError(f"every row has a missing value ({told}), so nothing is left to fit")
    return keep, counts


def plain_column(
    name: str, values: pd.Series, *, grouping_only: bool, truth_is_factor: bool = False, keep_whole: bool = True
) -> pd.Series:
    """One column as numpy numbers or an ordered categorical with its unused levels gone.

    Text becomes a categorical in code-point order, a categorical keeps its own order of levels.  A column that only
    groups rows becomes a categorical whose levels are text, numbers in numerical order.  truth_is_factor: True and
    False become the levels "False" and "True", else 1 and 0.  keep_whole: whole numbers stay integers, which a factor's
    levels and counts are; else they become floats, in which powers do not overflow."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        present = values.cat.remove_unused_categories()
        return _categorical(present, [_label(level) for level in present.cat.categories])
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        raise DataError(
            f"column {name!r} holds dates or times, which a formula cannot use: turn it into a number first, "
            f"for example (data[{name!r}] - data[{name!r}].min()).dt.days"
        )
    if pd.api.types.is_bool_dtype(dtype):
        return _from_text(name, values) if grouping_only or truth_is_factor else values.astype("int64")
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"column {name!r} holds complex numbers, which a formula cannot use")
    if pd.api.types.is_numeric_dtype(dtype):
        kind = "int64" if pd.api.types.is_integer_dtype(dtype) and (keep_whole or grouping_only) else "float64"
        numbers = pd.Series(values.to_numpy(dtype=kind), index=values.index)
        return _numeric_levels(numbers) if grouping_only else numbers
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal", "boolean"):
        plain = pd.to_numeric(values)
        return plain_column(
            name, plain, grouping_only=grouping_only, truth_is_factor=truth_is_factor, keep_whole=keep_whole
        )
    if inferred not in ("string", "empty"):
        raise DataError(
            f"column {name!r} holds neither only numbers nor only text ({inferred}): make it one of them, "
            f"for example data[{name!r}].astype(str)"
        )
    return _from_text(name, values)


def written_as_text(name: str, values: pd.Series) -> str:
    """What to do about a column of text, or of a text's levels, that are numbers as people write them; else empty."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = list(values.cat.categories)
    elif pd.api.types.infer_dtype(values, skipna=True) == "string":
        levels = list(values.dropna().unique())
    else:
        return ""
    texts = [level.strip() for level in levels if isinstance(level, str)]
    return numbers_as_text(name, texts) if levels and len(texts) == len(levels) and is_number(texts[0]) else ""


def level_labels(values: pd.Series) -> np.ndarray:
    """Each row's level as text, the way ``plain_column`` writes the levels of a grouping column."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        labels = np.array([_label(level) for level in values.cat.categories] + [""], dtype=object)
        return labels[values.cat.codes.to_numpy()]
    return np.array([_label(value) for value in values], dtype=object)


def _label(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return label_text(str(value))


def _from_text(name: str, values: pd.Series) -> pd.Series:
    codes, uniques = pd.factorize(values.astype(object), sort=False)
    order = np.argsort(np.array([str(unique) for unique in uniques], dtype=object), kind="stable")
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    labels = [label_text(str(uniques[i])) for i in order]
    if len(set(labels)) < len(labels):
        raise DataError(f"column {name!r}: two of its levels read the same as text")
    return pd.Series(pd.Categorical.from_codes(rank[codes], labels, ordered=True), index=values.index)


def _numeric_levels(values: pd.Series) -> pd.Series:
    uniques, codes = np.unique(values.to_numpy(), return_inverse=True)
    return pd.Series(
        pd.Categorical.from_codes(codes, [_label(unique) for unique in uniques], ordered=True), index=values.index
    )


def _categorical(values: pd.Series, labels: list[str]) -> pd.Series:
    if len(set(labels)) < len(labels):
        raise DataError(f"column {values.name!r}: two of its levels read the same as text")
    return pd.Series(pd.Categorical.from_codes(values.cat.codes.to_numpy(), labels, ordered=True), index=values.index)


def check_finite(what: str, array: np.ndarray) -> None:
    """DataError when a number is infinite or undefined, which a transformation such as log(0) makes."""
    bad = ~np.isfinite(array)
    if bad.any():
        rows = int(bad.any(axis=tuple(range(1, array.ndim))).sum())
        raise DataError(
            f"{what} is infinite or undefined in {rows} of {len(array)} rows (a logarithm of 0 or of a negative "
            "number, a division by 0, or inf in the data): correct or leave out those rows"
        )


def as_hiermod_error(what: str, error: Exception, frame: pd.DataFrame | None = None) -> HiermodError:
    """An error met while a part of the formula was evaluated, told with that part's text.

    frame: the columns it is made of, of which one that is text but numbers is named."""
    detail = f"{error.args[0]!r} is not known" if isinstance(error, KeyError) and error.args else str(error)
    told = {name: written_as_text(str(name), frame[name]) for name in frame} if frame is not None else {}
    advice = next((f". Column {name!r} is text, and {words}" for name, words in told.items() if words), "")
    return DataError(f"{what} could not be evaluated: {detail}{advice}")
