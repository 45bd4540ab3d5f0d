"""The left side of the formula: one number per row, counts out of trials, or a two-level factor as 0 and 1.

``cbind(s, f)`` is R's successes and failures, ``p(s, n)`` Bambi's successes and trials.  For a two-level factor the
first level is the failure, as in R."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, DataError, HiermodError, listing
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.bambi_text import computed_otherwise
from hiermod.formula.data import check_finite, written_as_text
from hiermod.formula.evaluate import evaluate_arguments, evaluate_number, evaluate_response
from hiermod.formula.functions import COUNT_CALLS, SPECIAL_RESPONSES
from hiermod.formula.parse import ParsedFormula, parse_formula
from hiermod.formula.support import category_values, check_order, check_support, ratings

CATEGORIES = ("binary", "proportion", "ordinal")  # kinds of families whose response may be text


@dataclass(frozen=True, eq=False)
class Response:
    """y (n,), trials (n,) for counts, what Bambi is to read, and the columns it needs besides the person's."""

    y: np.ndarray
    trials: np.ndarray | None
    bambi_text: str
    extra_columns: dict[str, Any]  # arrays, or a Categorical
    special: str | None
    categories: tuple[str, ...] = ()  # of an ordinal response, in order; y holds their numbers (category_values)


def read_response(
    parsed: ParsedFormula,
    frame: pd.DataFrame,
    family: str,
    extra_namespace: Mapping[str, Any] | None,
    ordered: bool = True,
) -> Response:
    """Evaluate the response for a family; DataError when it cannot be that family's response.

    ordered: whether categories of the response stand in an order that the person chose."""
    if parsed.response_call in COUNT_CALLS:
        return _counts(parsed, frame, extra_namespace)
    if parsed.response_call in SPECIAL_RESPONSES:
        y = evaluate_number(parsed.response_args[0], frame, extra_namespace)
        check_finite(f"the response {parsed.response_args[0]!r}", y)
        check_support(parsed.response_args[0], y, family)
        evaluate_arguments(parsed.response, frame, extra_namespace)
        return Response(y, None, parsed.response, {}, parsed.response_call)
    return _single(parsed, frame, family, extra_namespace, ordered)


def _counts(parsed: ParsedFormula, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> Response:
    first, second = parsed.response_args
    successes = evaluate_number(first, frame, extra_namespace)
    other = evaluate_number(second, frame, extra_namespace)
    trials = successes + other if parsed.response_call == "cbind" else other
    for name, values in ((first, successes), (second, other)):
        check_finite(f"{name!r}", values)
        if (values < 0).any() or (values != np.round(values)).any():
            raise DataError(
                f"{parsed.response}: counts must be whole numbers from 0 up, and {name!r} is not in every row"
            )
    if (successes > trials).any():
        row = int(np.argmax(successes > trials))
        raise DataError(
            f"{parsed.response}: more successes than trials in {int((successes > trials).sum())} rows (the first: "
            f"{successes[row]:g} of {trials[row]:g}). p(s, n) takes successes and trials, cbind(s, f) successes and "
            "failures"
        )
    if (trials == 0).any():
        raise DataError(f"{parsed.response}: {int((trials == 0).sum())} rows have no trials: leave them out")
    columns = {}
    names = []
    for name, values, column in ((first, successes, first), (second, trials, f"trials of {parsed.response}")):
        if name == column and name in frame.columns:
            names.append(f"`{name}`" if not name.isidentifier() else name)
            continue
        if values is trials and parsed.response_call != "cbind" and second in frame.columns:
            names.append(f"`{second}`" if not second.isidentifier() else second)
            continue
        columns[column] = values.astype("int64")
        names.append(f"`{column}`")
    return Response(successes, trials, f"p({names[0]}, {names[1]})", columns, None)


def _single(
    parsed: ParsedFormula,
    frame: pd.DataFrame,
    family: str,
    extra_namespace: Mapping[str, Any] | None,
    ordered: bool,
) -> Response:
    text = parsed.response
    response = evaluate_response(text, frame, extra_namespace)
    values = np.asarray(response.data)
    component = response.components[0]
    reference = getattr(component, "reference", None)
    if reference is not None and (component.kind != "categoric" or reference not in component.levels):
        found = f"its levels are {listing(map(repr, component.levels))}" if component.levels else "it is numeric"
        raise DataError(f"the response {text!r} chooses the level {reference!r} of {component.name!r}, but {found}")
    if response.kind == "categoric" and reference is None:
        return _factor(text, frame, family, component, ordered)
    if values.ndim != 1:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        else:
            raise DataError(f"the response {text!r} has {values.shape[1]} columns; one response is modelled at a time")
    y = values.astype(float)
    check_finite(f"the response {text!r}", y)
    if np.ptp(y) == 0:
        raise DataError(f"the response {text!r} is constant (always {y[0]:g}): there is no variation to explain")
    if FAMILIES[family].ordinal:
        categories, column = ratings(text, y, family), f"{text} as categories".replace("`", "")
        return Response(y, None, f"`{column}`", {column: categories}, None, tuple(categories.categories))
    check_support(text, y, family)
    if reference is None and computed_otherwise(response, frame, y):
        values = y.astype("int64") if FAMILIES[family].kind == "count" else y
        return Response(y, None, f"`{component.name}`", {component.name: values}, None)
    return Response(y, None, text, {}, None)


def _factor(text: str, frame: pd.DataFrame, family: str, component: Any, ordered: bool) -> Response:
    levels = [str(level) for level in component.levels]
    if FAMILIES[family].kind not in CATEGORIES:
        advice = written_as_text(text, frame[text]) if text in frame else ""
        two = ", or choose family='bernoulli' for two categories" if len(levels) < 3 else ""
        raise DataError(
            f"the response {text!r} is not numeric (its values: {listing(map(repr, levels), 5)}), and family "
            f"{family!r} needs numbers: {advice or f'convert the column with pandas.to_numeric{two}'}"
        )
    if len(levels) < 2:
        raise DataError(f"the response {text!r} is constant (always {levels[0]!r}): there is no variation to explain")
    codes = np.asarray(component.value).argmax(axis=1)  # a response has one column per level
    if not FAMILIES[family].ordinal:
        if len(levels) != 2:
            raise DataError(
                f"the response {text!r} has {len(levels)} levels ({listing(levels, 5)}); family {family!r} needs two"
            )
        if text.isidentifier() and not set("'\"`") & set(levels[1]):
            return Response(codes.astype(float), None, f"{text}['{levels[1]}']", {}, None)
        column = f"{text} {levels[1]}".replace("`", "")  # Bambi's language chooses levels of bare names only
        return Response(codes.astype(float), None, f"`{column}`", {column: codes}, None)
    check_order(text, levels, ordered, family)
    return Response(category_values(levels)[codes], None, text, {}, None, tuple(levels))


def new_trials(text: str, newdata: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> np.ndarray:
    """Trials (m,) of the counts ``p(s, n)`` or ``cbind(s, f)`` on new rows, of which p() needs ``n`` only.

    ArgumentError where a column for them is not there, DataError for numbers that are no trials."""
    parsed = parse_formula(f"{text} ~ 1")
    first, second = parsed.response_args
    try:
        trials = evaluate_number(second, newdata, extra_namespace)
        if parsed.response_call == "cbind":
            trials = trials + evaluate_number(first, newdata, extra_namespace)
    except HiermodError as error:
        needed = f"{first!r} and {second!r}" if parsed.response_call == "cbind" else repr(second)
        raise ArgumentError(
            f"kind='response' for counts needs the number of trials of each row, from {needed} of {text}, and newdata "
            f"does not give it: {error}. Add the column, or use kind='mean'"
        ) from error
    if not np.isfinite(trials).all() or (trials < 1).any() or (trials != np.round(trials)).any():
        raise DataError(f"newdata: the trials of {text} must be whole numbers of at least 1 in every row")
    return trials
