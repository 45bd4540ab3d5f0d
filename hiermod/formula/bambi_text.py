"""The formula for Bambi: the same terms in its language, and the columns it needs because it would compute others.

Bambi evaluates the text again, with formulae's own rules: whole numbers overflow there, truth values are numbers, and
factors are coded in the order of writing.  Where that matters a column computed here takes the call's place, under
its name, and terms are written in the order in which they are coded."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from formulae.model_description import model_description
from formulae.terms.call import Call
from formulae.terms.terms import Intercept
from formulae.terms.variable import Variable

from hiermod.formula.coding import Coding, crossed
from hiermod.formula.evaluate import Evaluated
from hiermod.formula.functions import LEFT_ONLY
from hiermod.formula.language import TRUTH, closed_namespace, describe, is_truth, source, unbound


def check_for_bambi(text: str, columns: Any, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The namespace for Bambi to evaluate ``text`` in, once every name in it is seen to be allowed (functions.py)."""
    return closed_namespace(describe(text), columns, extra, LEFT_ONLY)


def terms_for_bambi(
    text: str, terms: Evaluated, frame: pd.DataFrame, left_of_bar: bool = False
) -> tuple[str, dict[str, Any]]:
    """Terms (a common part, or the left side of a bar) as text for Bambi, and the columns it refers to.

    The text is as typed where formulae reads and codes it alike."""
    columns: dict[str, Any] = {}
    written = ["1" if any(isinstance(term, Intercept) for term in terms.common_terms) else "0"]
    ordered = [term for term in terms.common_terms if not isinstance(term, Intercept)]
    for term in sorted(ordered, key=lambda term: (len(term.components), _depth(term))):
        pieces = [_written(component, frame, columns) for component in term.components]
        written.append(":".join(_crossed(term, pieces, terms.coding.get(term.name), frame, columns)))
    if not columns and _alike(text, terms, left_of_bar):
        return text, {}
    return " + ".join(written), columns


def _alike(text: str, terms: Evaluated, left_of_bar: bool) -> bool:
    """Whether formulae reads the text as the same terms in the same order, with components of their own and the
    same coding.  Left of a bar it does not read ``x - 1``, and keeps the intercept of ``x + z - 1``."""
    try:
        if left_of_bar:
            read = [term.expr for term in model_description(f"0 + ({text}|g)").group_terms]
        else:
            read = model_description(text).common_terms
    except Exception:  # its comparison of calls and its hashes fail on some formulas
        return False
    names = [term.name for term in read]
    components = [id(one) for term in read for one in getattr(term, "components", ())]
    if names != [term.name for term in terms.common_terms] or len(set(components)) < len(components):
        return False
    found = terms.model._get_encoding_bools()
    for name, coding in terms.coding.items():
        choices = found.get(name, [{}])
        one = choices[0] if choices else {}
        if len(choices) > 1 or coding.covered is not None:
            return False
        if coding.full != frozenset(factor for factor, full in one.items() if full):
            return False
    return True


def _depth(term: Any) -> tuple[Any, ...]:
    """Calls of columns before calls of calls: formulae can compare them in this order only."""

    def key(node: Any) -> tuple[Any, ...]:
        return tuple(key(arg) for arg in getattr(node, "args", ())) if hasattr(node, "callee") else ()

    return tuple(len(str(key(one.call))) if isinstance(one, Call) else 0 for one in term.components)


def _written(component: Any, frame: pd.DataFrame, columns: dict[str, Any]) -> str:
    if isinstance(component, Variable):
        return f"`{component.name}`"
    instead = _computed(component, frame)
    if instead is None:
        return source(component.call)
    columns[component.name] = instead
    return f"offset(`{component.name}`)" if component.kind == "offset" else f"`{component.name}`"


def _computed(component: Any, frame: pd.DataFrame) -> Any:
    """The values of a call as a column, where formulae's own evaluation would give others; else None."""
    mine = component._intermediate_data
    if is_truth(mine):
        return pd.Categorical.from_codes(mine.codes, list(TRUTH), ordered=True)
    values = mine.eval() if component.kind == "offset" and mine.kind == "variable" else mine
    if not isinstance(values, pd.Series | np.ndarray) or values.ndim != 1 or values.dtype.kind not in "fiu":
        return None
    return None if _same(component, frame, np.asarray(values)) else np.asarray(values, dtype=float)


def _crossed(
    term: Any, pieces: list[str], coding: Coding | None, frame: pd.DataFrame, columns: dict[str, Any]
) -> list[str]:
    """The pieces of a term with factors made into one where that gives its cells."""
    components = {one.name: one for one in term.components}
    names = tuple(components)
    factors = tuple(name for name in names if components[name].kind == "categoric")
    together = crossed(coding, factors) if coding is not None else None
    if not together:
        return pieces
    start = names.index(together[0])
    if names[start : start + len(together)] != together:
        return pieces
    factorial = {one: pd.Series(columns.get(one, frame.get(one))) for one in together}  # None: some other call
    name = ":".join(together)
    if name in frame.columns or any(not isinstance(one.dtype, pd.CategoricalDtype) for one in factorial.values()):
        return pieces
    levels = [list(one.cat.categories) for one in factorial.values()]
    codes = np.zeros(len(frame), dtype=int)
    for one, its in zip(factorial.values(), levels, strict=True):
        codes = codes * len(its) + one.cat.codes.to_numpy()
    labels = [", ".join(map(str, cell)) for cell in product(*levels)]
    columns[name] = pd.Categorical.from_codes(codes, labels, ordered=True)
    return [*pieces[:start], f"`{name}`", *pieces[start + len(together) :]]


def computed_otherwise(response: Any, frame: pd.DataFrame, y: np.ndarray) -> bool:
    """Whether Bambi, given the text of ``response`` (formulae's Term), would compute other values than ``y`` (n,)."""
    component = response.components[0]
    return isinstance(component, Call) and not _same(component, frame, y)


def _same(component: Any, frame: pd.DataFrame, values: np.ndarray) -> bool:
    """Whether formulae's own evaluation of a call gives ``values``."""
    try:
        with np.errstate(all="ignore"):
            theirs = unbound(component.call).eval(frame, component.env)
        theirs = theirs.eval() if component.kind == "offset" else theirs
        return np.allclose(np.asarray(theirs, dtype=float), values, rtol=1e-12, atol=0, equal_nan=True)
    except Exception:  # whatever it cannot evaluate, it need not
        return False
