"""Formula and data frame to Design: parse, check, evaluate, group, judge the rank.  One way in, for every engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentTypeError, DesignError, FormulaError, HiermodWarning, warn
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.bambi_text import check_for_bambi, terms_for_bambi
from hiermod.formula.data import (
    backtick_hint,
    by_rows,
    check_finite,
    check_frame,
    check_positive,
    missing_rows,
    plain_column,
    row_vector,
    used_columns,
    written_as_text,
)
from hiermod.formula.design import Block, Column, Design
from hiermod.formula.evaluate import Evaluator, Term
from hiermod.formula.further import DISTRIBUTIONAL, parse_further
from hiermod.formula.groups import group_codes
from hiermod.formula.language import columns_of_factors, describe
from hiermod.formula.parse import Bar, ParsedFormula, parse_formula
from hiermod.formula.rank import estimable_columns
from hiermod.formula.response import Response, read_response


def build_design(
    formula: str,
    data: pd.DataFrame,
    *,
    weights: str | np.ndarray | None = None,
    se: str | np.ndarray | None = None,
    dropna: bool = False,
    extra_namespace: Mapping[str, Any] | None = None,
    family: str = "gaussian",
    parameters: Mapping[str, str] | None = None,
) -> Design:
    """Resolve ``formula`` on ``data`` once, for every engine.

    weights, se: a column's name, a (n,) array or a Series, matched by its index; prior weights (precisions) and known
    residual sds.  parameters: formulas for further parameters of the response, ``{"sigma": "x + (1 | g)"}``.  Raises
    FormulaError, DataError, DesignError, UnknownNameError or ArgumentTypeError, saying what was found and what to do.

    >>> import pandas as pd
    >>> d = pd.DataFrame({"y": [1.0, 2, 4, 3], "x": [0, 1, 2, 3], "g": ["a", "a", "b", "b"]})
    >>> design = build_design("y ~ x + (1 | g)", d)
    >>> design.common, design.blocks[0].levels
    (('Intercept', 'x'), ('a', 'b'))
    """
    if extra_namespace is not None and not isinstance(extra_namespace, Mapping):
        raise ArgumentTypeError(
            f"extra_namespace must be a dict of names for the formula, got {type(extra_namespace).__name__}"
        )
    try:
        parsed = parse_formula(formula)
        data = check_frame(data)
        further = parse_further(parameters, parsed, family)
    except FormulaError as error:
        texts = [formula, *(parameters.values() if isinstance(parameters, Mapping) else ())]
        hint = backtick_hint(" ~ ".join(map(str, texts)), getattr(data, "columns", ()))
        raise (FormulaError(f"{error}\n{hint}") if hint else error) from None
    formulas = (parsed, *further.values())
    used = list(dict.fromkeys(name for one in formulas for name in used_columns(one, data, extra_namespace)))
    rows = {"weights": row_vector("weights", weights, data), "se": row_vector("se", se, data)}
    for one in formulas:
        _check_group_columns(one, used)
    keep, missing = missing_rows(_columns_to_check(data, used, rows, {"weights": weights, "se": se}), dropna)
    frame = _plain_frame(formulas, data, used, keep)
    extra_namespace = by_rows(extra_namespace, data.index, keep)
    numbers = {
        name: None if values is None else values.to_numpy(dtype=float, na_value=np.nan)[keep]
        for name, values in rows.items()
    }
    for name, values in numbers.items():
        if values is not None:
            check_positive(name, values)
    response = read_response(parsed, frame, family, extra_namespace, _is_ordered(data.get(parsed.response)))
    for name, column in response.extra_columns.items():
        frame[name] = column
    for bar in parsed.bars:
        if len(bar.factor) > 1:
            codes, levels = group_codes(frame, bar.factor)
            frame[bar.name] = pd.Categorical.from_codes(codes, list(levels), ordered=True)
    lefts = tuple(bar.left for bar in parsed.bars)
    evaluator = Evaluator(parsed.common, lefts, frame, extra_namespace, keep_intercept=not FAMILIES[family].ordinal)
    bambi_formula, more = _bambi_formula(parsed, response, evaluator, frame)
    for name, column in more.items():
        frame[name] = column
    blocks = _blocks(parsed, evaluator, frame)
    check_for_bambi(bambi_formula, frame.columns, extra_namespace)  # a likelihood's further arguments are only its
    common = [term for term in evaluator.common_terms() if not term.is_offset]
    offsets = [term for term in evaluator.common_terms() if term.is_offset]
    X = np.hstack([np.empty((len(frame), 0)), *(term.values for term in common)])
    for term in (*common, *offsets):
        check_finite(f"the predictor {term.name!r}", term.values)
    degree = np.repeat([term.degree for term in common], [term.values.shape[1] for term in common])
    return Design(
        formula=parsed.text,
        response=parsed.response,
        y=response.y,
        X=X,
        common=tuple(label for term in common for label in term.labels),
        common_terms=tuple(term.name for term in common for _ in term.labels),
        estimable=estimable_columns(X, degree),
        blocks=blocks,
        frame=frame,
        evaluator=evaluator,
        bambi_formula=bambi_formula,
        trials=response.trials,
        offset=np.sum([term.values[:, 0] for term in offsets], axis=0) if offsets else None,
        weights=numbers["weights"],
        se=numbers["se"],
        special=DISTRIBUTIONAL if further else response.special,
        n_rows_data=len(data),
        missing=missing,
        categories=response.categories,
        formulas={name: one.text.partition("~")[2].strip() for name, one in further.items()},
        row_columns={name: given for name, given in (("weights", weights), ("se", se)) if isinstance(given, str)},
    )


def _columns_to_check(
    data: pd.DataFrame, used: list[str], rows: dict[str, pd.Series | None], given: dict[str, Any]
) -> dict[str, pd.Series]:
    parts = {name: data[name] for name in used}
    for what, values in rows.items():
        if values is not None:
            parts[given[what] if isinstance(given[what], str) else what] = values
    return parts


def _check_group_columns(parsed: ParsedFormula, used: list[str]) -> None:
    for bar in parsed.bars:
        for column in bar.factor:
            if column not in used:
                raise FormulaError(
                    f"the grouping factor in ({bar.text}) must be a column of the data; {column!r} is not"
                )


def _is_ordered(column: pd.Series | None) -> bool:
    dtype = getattr(column, "dtype", None)
    return isinstance(dtype, pd.CategoricalDtype) and bool(dtype.ordered)


def _plain_frame(
    formulas: Sequence[ParsedFormula], data: pd.DataFrame, used: list[str], keep: np.ndarray
) -> pd.DataFrame:
    mentions = Counter(token.text for one in formulas for token in one.names)
    as_group = Counter(column for one in formulas for bar in _written_bars(one) for column in bar.factor)
    left, right, whole = _where_used(formulas)
    columns = {}
    for name in used:
        values = data[name] if keep.all() else data.loc[keep, name]
        if name in right and mentions[name] > as_group[name] and not isinstance(values.dtype, pd.CategoricalDtype):
            advice = written_as_text(name, values)
            if advice:
                warn(
                    f"column {name!r} is text and so a factor with a coefficient for every value but one; {advice}. "
                    f"Where a factor is meant, d[{name!r}].astype('category') says so",
                    HiermodWarning,
                )
        columns[name] = plain_column(
            name,
            values,
            grouping_only=mentions[name] <= as_group[name],
            truth_is_factor=name in right,
            keep_whole=name in left or name in whole,
        )
    return pd.DataFrame(columns, index=data.index if keep.all() else data.index[keep])


def _where_used(formulas: Sequence[ParsedFormula]) -> tuple[set[str], set[str], set[str]]:
    """The names left of ``~``, those right of it, and those that stand in a call which makes a factor of numbers."""
    left: set[str] = set()
    right = {column for one in formulas for bar in one.bars for column in bar.factor}
    whole = set(right)  # a level of a grouping factor is 7, not 7.0
    for one in formulas:
        left |= describe(f"{one.response} ~ 1").response.var_names
        for text in (one.common, *(bar.left for bar in one.bars)):
            model = describe(text)
            right |= model.var_names
            whole |= columns_of_factors(model)
    return left, right, whole


def _written_bars(parsed: ParsedFormula) -> list[Bar]:
    """One bar per bar term as typed (``a/b`` was split into several): the longest factor has every column."""
    longest: dict[str, Bar] = {}
    for i, bar in enumerate(parsed.bars):
        key = f"{bar.text}#{sum(other.text == bar.text and other.factor == bar.factor for other in parsed.bars[:i])}"
        if key not in longest or len(bar.factor) > len(longest[key].factor):
            longest[key] = bar
    return list(longest.values())


def _blocks(parsed: ParsedFormula, evaluator: Evaluator, frame: pd.DataFrame) -> tuple[Block, ...]:
    blocks: list[Block] = []
    seen: dict[tuple[str, str], str] = {}
    for i, bar in enumerate(parsed.bars):
        terms = evaluator.left_terms(i)
        if not terms:
            raise FormulaError(
                f"({bar.text}) has no column left of the bar; write (1 | {bar.name}) for a group intercept"
            )
        codes, levels = group_codes(frame, bar.factor)
        columns = [(column, term.values[:, j]) for term in terms for j, column in enumerate(_columns(term, bar))]
        for term in terms:
            check_finite(f"{term.name!r} in ({bar.text})", term.values)
            if term.is_offset:
                raise FormulaError(f"an offset cannot stand inside ({bar.text}): add it to the formula outside the bar")
        for column, values in columns:
            key = (bar.name, column.label)
            if key in seen:
                raise FormulaError(
                    f"the group effect {column.label!r} of {bar.name!r} stands in the formula twice, in ({seen[key]}) "
                    f"and in ({bar.text}), so its two variances cannot be told apart. (x | g) includes (1 | g): "
                    "write (0 + x | g) to leave it out"
                )
            if not values.any():
                raise DesignError(f"the group effect {column.label!r} in ({bar.text}) is 0 in every row: leave it out")
            seen[key] = bar.text
        if len(columns) == 1 and (bar.hom or bar.covariance in ("cs", "ar1")):
            raise FormulaError(
                f"{bar.covariance}({bar.text}) has one column, {columns[0][0].label!r}, and a structure relates "
                f"several. A numeric column of occasions becomes one column for each when it is a factor: "
                f"{bar.covariance}(0 + factor(time) | {bar.name}); for one column write ({bar.text})"
            )
        groups = [columns] if bar.correlated else [[one] for one in columns]
        for group in groups:
            same = sum(block.factor == bar.name and block.corr_name != "" for block in blocks)
            correlates = len(group) > 1 and bar.covariance != "diag"
            blocks.append(
                Block(
                    factor=bar.name,
                    factor_columns=bar.factor,
                    levels=levels,
                    columns=tuple(column for column, _ in group),
                    codes=codes,
                    values=np.column_stack([values for _, values in group]),
                    text=bar.text,
                    corr_name=f"{bar.name}_corr" + (f"_{same + 1}" if same else "") if correlates else "",
                    bar=i,
                    positions=tuple(next(j for j, c in enumerate(columns) if c[0] is column) for column, _ in group),
                    covariance=bar.covariance,
                    hom=bar.hom,
                )
            )
    return tuple(blocks)


def _columns(term: Term, bar: Bar) -> list[Column]:
    variable = f"{'1' if term.name == 'Intercept' else term.name}|{bar.name}"
    levels = term.levels or (None,) * len(term.labels)
    return [Column(label, variable, level) for label, level in zip(term.labels, levels, strict=True)]


def _bambi_formula(
    parsed: ParsedFormula, response: Response, evaluator: Evaluator, frame: pd.DataFrame
) -> tuple[str, dict[str, Any]]:
    """The formula in Bambi's language and the columns it needs besides the person's."""
    texts = (parsed.common, *(bar.left for bar in parsed.bars))
    written: list[str] = []
    columns: dict[str, Any] = {}
    for i, (text, terms) in enumerate(zip(texts, evaluator.models, strict=True)):
        one, more = terms_for_bambi(text, terms, frame, left_of_bar=i > 0)
        written.append(one)
        columns |= more
    pieces = [written[0]]
    for bar, left in zip(parsed.bars, written[1:], strict=True):
        name = bar.name if bar.name.isidentifier() else f"`{bar.name}`"
        pieces.append(f"({left}|{name})")
    return f"{response.bambi_text} ~ {' + '.join(pieces)}", columns
