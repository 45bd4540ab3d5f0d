"""Columns of X and of each bar's left side, evaluated by formulae, on the data of the fit and again on new data.

Stateful transformations (scale, poly, center, spline bases) keep what they learned from the data of the fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulae.categorical import ENCODINGS, CategoricalBox, Sum, Treatment
from formulae.environment import Environment
from formulae.model_description import model_description
from formulae.terms.terms import Intercept
from formulae.terms.variable import Variable
from formulae.transforms import TRANSFORMS, C

from hiermod.errors import DataError, FormulaError, HiermodError, listing, nearest
from hiermod.formula.data import as_hiermod_error

KNOWN_CALLS = frozenset(TRANSFORMS) | frozenset(ENCODINGS)  # formulae's own functions


def base_namespace() -> dict[str, Any]:
    """Functions every formula can use besides formulae's own (center, scale, poly, bs, C, T, S, I, offset)."""
    names: dict[str, Any] = {"np": np, "factor": C}
    names.update(ENCODINGS)  # contrasts, for C(f, Sum)
    names.update({name: getattr(np, name) for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")})
    return names


@dataclass(frozen=True, eq=False)
class Term:
    """One evaluated term: its name, its columns' labels and coordinates, and the values (n, c)."""

    name: str
    labels: tuple[str, ...]
    levels: tuple[str, ...] | None  # Bambi's coordinates when the term has several columns, else None
    degree: int
    values: np.ndarray
    is_offset: bool


class Evaluator:
    """Evaluates ``common`` and every ``left`` text; remembers the state of transformations.

    Pickles as text, data and the person's own names; unpickling evaluates the same frame again.
    keep_intercept: False for ordinal responses, whose thresholds are their intercepts (factors stay coded as with one).
    """

    keep_intercept = True  # of evaluators written to files before there was a choice

    def __init__(
        self,
        common: str,
        lefts: tuple[str, ...],
        frame: pd.DataFrame,
        extra_namespace: Mapping[str, Any] | None,
        keep_intercept: bool = True,
    ) -> None:
        if not keep_intercept:
            self.keep_intercept = False
        self.common, self.lefts, self.frame = common, lefts, frame
        self.extra_namespace = dict(extra_namespace or {})
        self._models = tuple(_evaluated(text, repr(text), frame, extra_namespace) for text in (common, *lefts))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_models"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        texts = (self.common, *self.lefts)
        self._models = tuple(_evaluated(text, repr(text), self.frame, self.extra_namespace) for text in texts)

    def common_terms(self) -> list[Term]:
        """The terms of the common part, offsets among them, in formula order."""
        terms = _terms(self._models[0], len(self.frame))
        if self.keep_intercept:
            return terms
        if not any(term.name == "Intercept" for term in terms):
            raise FormulaError(
                f"{self.common!r} leaves out the intercept; ordinal responses have theirs in the thresholds between "
                "the categories: leave out the '0 +'"
            )
        return [term for term in terms if term.name != "Intercept"]

    def left_terms(self, i: int) -> list[Term]:
        """The terms left of bar ``i``, in formula order."""
        return _terms(self._models[1 + i], len(self.frame))

    def new_common(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """X (m, p) and the offset (m,) on new rows."""
        pieces, offset = [np.empty((len(frame), 0))], np.zeros(len(frame))
        for term, values in self._new(0, frame):
            if isinstance(term, Intercept) and not self.keep_intercept:
                continue
            if getattr(term, "kind", None) == "offset":
                offset = offset + values[:, 0]
            else:
                pieces.append(values)
        return np.hstack(pieces), offset

    def new_left(self, i: int, frame: pd.DataFrame) -> np.ndarray:
        """The columns left of bar ``i`` on new rows, (m, k)."""
        return np.hstack([np.empty((len(frame), 0)), *(values for _, values in self._new(1 + i, frame))])

    def _new(self, i: int, frame: pd.DataFrame) -> list[tuple[Any, np.ndarray]]:
        pieces = []
        for term in self._models[i].common_terms:
            try:
                with np.errstate(all="ignore"):
                    values = np.asarray(term.eval_new_data(frame), dtype=float)
            except Exception as error:  # unseen levels, the person's own functions
                self._check_levels(getattr(term, "var_names", ()), frame)
                raise as_hiermod_error(f"{term.name!r} on the new data", error) from error
            pieces.append((term, _as_rows(term.name, values, len(frame))))
        return pieces

    def _check_levels(self, names: Iterable[str], frame: pd.DataFrame) -> None:
        """DataError, with the nearest, for a level of a predictor that the data of the fit did not have."""
        for name in names:
            known = self.frame.get(name)
            if known is None or not isinstance(known.dtype, pd.CategoricalDtype):
                continue
            levels = list(known.cat.categories)
            unknown = [level for level in dict.fromkeys(frame[name]) if level not in levels]
            if unknown:
                told = f"the level {unknown[0]!r}" if len(unknown) == 1 else f"levels ({listing(unknown)})"
                raise DataError(
                    f"newdata: the predictor {name!r} has {told} that the fit has not seen, so no coefficient is known."
                    f"{nearest(unknown[0], levels)} Its levels are: {listing(levels, 20)}. Correct it, or leave out "
                    "those rows"
                )


def _evaluated(text: str, what: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> Any:
    """formulae's Model of ``text``, evaluated on ``frame`` in its own two steps, with a check between them."""
    try:
        model = model_description(text)
    except Exception as error:  # formulae raises many kinds
        if "'callee'" in str(error):  # its comparison of two calls fails in one of the two orders
            raise FormulaError(
                f"{what}: two calls of one function, the first with a call inside, cannot be compared. Write the plain "
                "one first, as in scale(x) + scale(log(x))"
            ) from error
        raise FormulaError(
            f"{what} means no set of terms: {error}. Terms are joined by + - : * / and **; arithmetic goes inside I()"
        ) from error
    for term in model.common_terms:  # see separate_terms: in f/x two terms share the component f
        if not isinstance(term, Intercept):
            term.components = deepcopy(term.components)
    env = Environment([base_namespace() | dict(extra_namespace or {})])
    try:
        with np.errstate(all="ignore"):
            model.set_types(frame, env)
            if model.response is not None:
                model.response.set_type(frame, env)
            _check_types(model, len(frame))
            model.add_extra_terms(model._get_encoding_bools(), frame, env)
            encodings = model._get_encoding_bools()
            for term in model.common_terms:
                term.set_data(encodings[term.name][0] if term.name in encodings else False)
            if model.response is not None:
                model.response.set_data()
    except HiermodError:
        raise
    except Exception as error:  # formulae evaluates the person's own functions, which can raise anything
        raise as_hiermod_error(what, error) from error
    return model


def separate_terms(text: str) -> str:
    """``text`` for Bambi: terms written out one by one where formulae would let two of them share a component.

    In ``f/x`` the factor of ``f`` and of ``f:x`` is one object, coded for the last: Bambi's columns and names part."""
    terms = model_description(text).common_terms
    components = [component for term in terms for component in getattr(term, "components", ())]
    if len({id(component) for component in components}) == len(components):
        return text
    written = ["1" if any(isinstance(term, Intercept) for term in terms) else "0"]
    for term in terms:
        if not isinstance(term, Intercept):
            written.append(":".join(_quoted(component) for component in term.components))
    alone = " + ".join(written)
    return alone if model_description(alone).common_terms == terms else text  # a call's name can lose parentheses


def _quoted(component: Any) -> str:
    return f"`{component.name}`" if isinstance(component, Variable) else component.name


def _check_types(model: Any, n: int) -> None:
    """What formulae would stumble over later, or take without a word."""
    names = [term.name for term in model.common_terms]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FormulaError(
            f"two different terms of the formula are both called {twice[0]!r}; make one of them a column of the data"
        )
    for term in model.common_terms:
        for component in getattr(term, "components", ()):
            _check_component(component, n)
            if component.kind == "categoric" and len(_levels(component._intermediate_data)) < 2:
                raise DataError(
                    f"the predictor {component.name!r} has one level in the rows used, which explains nothing: "
                    "leave it out"
                )
            if component.kind == "proportion":
                raise FormulaError(f"{component.name}: counts out of trials are a response, left of '~'")
            if component.kind == "offset" and len(term.components) > 1:
                raise FormulaError(f"{term.name}: an offset has no coefficient and cannot be part of an interaction")
    for component in model.response.term.components if model.response is not None else ():
        _check_component(component, n)


def _check_component(component: Any, n: int) -> None:
    """A contrast names known levels, and a function gives one value per row."""
    values = component._intermediate_data
    if isinstance(values, CategoricalBox):
        levels = _levels(values)
        chosen = {Treatment: "reference", Sum: "omit"}.get(type(values.contrast))
        named = None if chosen is None else getattr(values.contrast, chosen)
        unknown = [named] if named is not None and named not in levels else sorted(set(values.data) - set(levels))
        if unknown:
            raise DataError(
                f"{component.name}: {str(unknown[0])!r} is not one of the levels, which are {listing(levels)}"
            )
    elif component.kind in ("numeric", "categoric") and not (
        isinstance(values, np.ndarray | pd.Series | pd.Categorical) and len(values) == n
    ):
        raise DataError(f"{component.name} does not give one value per row of the data ({n} rows)")


def _levels(values: Any) -> list[Any]:
    """The levels formulae will use for a factor, in no particular order where it sorts them."""
    if isinstance(values, CategoricalBox):
        return list(dict.fromkeys(values.data)) if values.levels is None else list(values.levels)
    if isinstance(values.dtype, pd.CategoricalDtype) and values.dtype.ordered:
        return list(values.dtype.categories)
    return list(pd.unique(values))


def evaluate_response(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> Any:
    """The response as formulae's Term: kind, levels, data, and its one component."""
    return _evaluated(f"{text} ~ 1", f"the response {text!r}", frame, extra_namespace).response.term


def evaluate_number(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> np.ndarray:
    """A numeric expression such as ``size - incidence`` on every row, (n,)."""
    if text.strip().isdigit():
        return np.full(len(frame), float(text))
    values = np.asarray(evaluate_response(f"I({text})", frame, extra_namespace).data)
    if values.ndim != 1 or values.dtype.kind not in "ifub":
        raise FormulaError(f"{text!r} must give one number per row")
    return values.astype(float)


def _as_rows(name: str, values: np.ndarray, n: int) -> np.ndarray:
    """(n, c) from (n,) or (n, c)."""
    if values.ndim not in (1, 2) or len(values) != n:
        raise DataError(f"{name} does not give one value per row of the data ({n} rows)")
    return values[:, None] if values.ndim == 1 else values


def _terms(model: Any, n: int) -> list[Term]:
    found = []
    for term in model.common_terms:
        name = term.name
        values = _as_rows(name, np.asarray(term.data, dtype=float), n)
        is_offset = getattr(term, "kind", None) == "offset"
        if isinstance(term, Intercept):
            found.append(Term("Intercept", ("Intercept",), None, 0, values, False))
            continue
        labels = (name,) if is_offset else tuple(term.labels)
        found.append(Term(name, labels, _coordinates(term, values), len(term.components), values, is_offset))
    return found


def _coordinates(term: Any, values: np.ndarray) -> tuple[str, ...] | None:
    """Bambi's coordinate labels: levels where a factor takes part, 0, 1, ... for other matrices, None for scalars."""
    kinds = {component.kind for component in term.components}
    if "categoric" in kinds:
        return tuple(str(level) for level in term.levels)
    return tuple(str(i) for i in range(values.shape[1])) if values.shape[1] > 1 else None
