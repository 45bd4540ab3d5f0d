"""Columns of X and of each bar's left side, evaluated by formulae, on the data of the fit and again on new data.

Stateful transformations (scale, poly, center, spline bases) keep what they learned from the data of the fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from formulae.categorical import CategoricalBox, Sum, Treatment
from formulae.environment import Environment
from formulae.terms.call import Call
from formulae.terms.terms import Intercept
from formulae.transforms import TRANSFORMS

from hiermod.errors import DataError, FormulaError, HiermodError, listing, nearest
from hiermod.formula.coding import Coding, codings
from hiermod.formula.data import as_hiermod_error
from hiermod.formula.functions import LEFT_ONLY
from hiermod.formula.language import closed_namespace, describe, is_truth


@dataclass(frozen=True, eq=False)
class Term:
    """One evaluated term: its name, its columns' labels and coordinates, and the values (n, c)."""

    name: str
    labels: tuple[str, ...]
    levels: tuple[str, ...] | None  # Bambi's coordinates when the term has several columns, else None
    degree: int  # of its components ...
    factors: int  # ... and of those among them that are categories
    values: np.ndarray
    is_offset: bool


class Evaluator:
    """Evaluates ``common`` and every ``left`` text; remembers the state of transformations.

    Pickles as text, data and the person's own names; unpickling evaluates the same frame again.
    keep_intercept: False for ordinal responses, whose thresholds are their intercepts (factors stay coded as with one).
    """

    keep_intercept = True  # of evaluators written to files before there was a choice
    as_in_r = False  # ... and before truth values were factors and interactions without main effects coded as in R

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
        self.as_in_r = True
        self._evaluate()

    def _evaluate(self) -> None:
        texts = (self.common, *self.lefts)
        self._models = tuple(
            evaluated(text, repr(text), self.frame, self.extra_namespace, self.as_in_r) for text in texts
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_models"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = ("common", "lefts", "frame", "extra_namespace", "keep_intercept", "as_in_r")
        vars(self).update({name: state[name] for name in known if name in state})
        self._evaluate()

    @property
    def models(self) -> tuple[Evaluated, ...]:
        """The common part and every left side, evaluated."""
        return self._models

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
                    values = self._models[i].kept(term, np.asarray(term.eval_new_data(frame), dtype=float))
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


@dataclass(frozen=True, eq=False)
class Evaluated:
    """formulae's Model with its data, how its factors are coded, and the columns of terms that do not keep them all."""

    model: Any
    coding: dict[str, Coding]
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # term -> (c,) bool

    @property
    def common_terms(self) -> list[Any]:
        """formulae's terms, the intercept and offsets among them."""
        return list(self.model.common_terms)

    def kept(self, term: Any, values: np.ndarray) -> np.ndarray:
        """The columns of ``values`` that ``term`` keeps."""
        chosen = self.columns.get(term.name)
        return values if chosen is None else values[:, chosen]

    def names(self, term: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Labels and levels of the columns of ``term``, as formulae has them, of those that it keeps."""
        found = [tuple(term.labels), tuple(term.levels or ())]
        chosen = self.columns.get(term.name)
        if chosen is not None:
            found = [tuple(one for one, keep in zip(names, chosen, strict=True) if keep) for names in found]
        return found[0], found[1]


def evaluated(
    text: str, what: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None, as_in_r: bool = True
) -> Evaluated:
    """``text`` on ``frame``; everything in it is seen to be allowed before anything is evaluated.

    as_in_r: False for fits of older files, whose truth values are numbers and whose factors formulae coded."""
    model = describe(text)
    env = Environment([closed_namespace(model, frame.columns, extra_namespace)])
    for term in model.common_terms:  # in f/x two terms share the component f
        if not isinstance(term, Intercept):
            term.components = deepcopy(term.components)
    if as_in_r:
        model.common_terms = _without_repeats(model.common_terms)
    try:
        with np.errstate(all="ignore"):
            model.set_types(frame, env)
            if model.response is not None:
                model.response.set_type(frame, env)
            if as_in_r:
                _truth_values(model)
            _check_types(model, len(frame))
            if model.response is not None:
                model.response.set_data()
            return _coded(model) if as_in_r else _coded_by_formulae(model, frame, env)
    except HiermodError:
        raise
    except Exception as error:  # formulae evaluates the person's own functions, which can raise anything
        raise as_hiermod_error(what, error, frame) from error


def _without_repeats(terms: list[Any]) -> list[Any]:
    """f:h and h:f are one term, the one that comes first."""
    first: dict[frozenset[str], Any] = {}
    for i, term in enumerate(terms):
        components = getattr(term, "components", ())
        key = frozenset(str(one.name) for one in components) if len(components) > 1 else frozenset({f" {i}"})
        first.setdefault(key, term)
    return list(first.values())


def _truth_values(model: Any) -> None:
    """A call that gives True and False stands for a factor with these levels, as in R."""
    for term in model.common_terms:
        for component in getattr(term, "components", ()):
            values = component._intermediate_data
            if isinstance(component, Call) and pd.api.types.is_bool_dtype(values) and np.ndim(values) == 1:
                component.kind = "categoric"
                component._intermediate_data = pd.Categorical(values, categories=[False, True], ordered=True)
        if len(getattr(term, "components", ())) == 1:
            term.kind = term.components[0].kind


def _coded(model: Any) -> Evaluated:
    """Every term with its data, its factors coded as coding.py says."""
    described = []
    for term in model.common_terms:
        components = [] if isinstance(term, Intercept) else term.components
        factors = tuple(one.name for one in components if one.kind == "categoric")
        numbers = frozenset(one.name for one in components if one.kind not in ("categoric", "offset"))
        if getattr(term, "kind", None) != "offset":
            described.append((term.name, factors, numbers))
    found = codings(described)
    columns = {}
    for term in model.common_terms:
        coding = found.get(term.name, Coding(frozenset()))
        if isinstance(term, Intercept):
            term.set_data(False)
            continue
        if coding.covered is not None:
            columns[term.name] = _cells(term, coding)
        else:
            term.set_data({one.name: one.name in coding.full for one in term.components})
    return Evaluated(model, found, columns)


def _cells(term: Any, coding: Coding) -> np.ndarray:
    """Gives ``term`` a column for every cell of its factors; returns which of them it keeps, (c,) bool."""
    references = {}
    for component in term.components:
        values = component._intermediate_data
        if isinstance(values, CategoricalBox):
            references[component.name] = getattr(values.contrast, "reference", None)
            values.contrast = None  # indicators, whatever contrasts were asked for
    term.set_data({one.name: True for one in term.components})
    axes: list[list[str | None]] = []  # per component and column, the factor that is away from its reference there
    for component in term.components:
        if component.kind == "categoric":
            reference = references.get(component.name)
            at = 0 if reference is None else list(component.levels).index(reference)
            axes.append([None if i == at else component.name for i in range(len(component.levels))])
        else:
            width = component.value.shape[1] if np.ndim(component.value) == 2 else 1
            axes.append([None] * width)
    return np.array([coding.keeps(name for name in cell if name is not None) for cell in product(*axes)])


def _coded_by_formulae(model: Any, frame: pd.DataFrame, env: Environment) -> Evaluated:
    model.add_extra_terms(model._get_encoding_bools(), frame, env)
    encodings = model._get_encoding_bools()
    for term in model.common_terms:
        term.set_data(encodings[term.name][0] if term.name in encodings else False)
    return Evaluated(model, {})


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
            if component.kind == "categoric" and _n_levels(component._intermediate_data) < 2:
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


def _n_levels(values: Any) -> int:
    """Of a factor; of a call that gives True or False, those that occur."""
    if is_truth(values):
        return len(np.unique(values.codes))
    return len(_levels(values))


def evaluate_response(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> Any:
    """The response as formulae's Term: kind, levels, data, and its one component."""
    return evaluated(f"{text} ~ 1", f"the response {text!r}", frame, extra_namespace).model.response.term


def evaluate_arguments(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> None:
    """Work out the arguments of a likelihood such as ``weighted(y, w / 2)``, which Bambi will; HiermodError if none."""
    model = describe(f"{text} ~ 1")
    call = model.response.term.components[0].call
    env = Environment([{**TRANSFORMS, **closed_namespace(model, frame.columns, extra_namespace, LEFT_ONLY)}])
    for argument in (*call.args, *call.kwargs.values()):
        try:
            with np.errstate(all="ignore"):
                argument.eval(frame, env)
        except HiermodError:
            raise
        except Exception as error:  # the person's own functions can raise anything
            raise as_hiermod_error(f"the response {text!r}", error) from error


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


def _terms(model: Evaluated, n: int) -> list[Term]:
    found = []
    for term in model.common_terms:
        name = term.name
        values = model.kept(term, _as_rows(name, np.asarray(term.data, dtype=float), n))
        is_offset = getattr(term, "kind", None) == "offset"
        if isinstance(term, Intercept):
            found.append(Term("Intercept", ("Intercept",), None, 0, 0, values, False))
            continue
        labels, levels = ((name,), ()) if is_offset else model.names(term)
        coordinates = _coordinates(term, levels, values)
        factors = sum(one.kind == "categoric" for one in term.components)
        found.append(Term(name, labels, coordinates, len(term.components), factors, values, is_offset))
    return found


def _coordinates(term: Any, levels: tuple[str, ...], values: np.ndarray) -> tuple[str, ...] | None:
    """Bambi's coordinate labels: levels where a factor takes part, 0, 1, ... for other matrices, None for scalars."""
    kinds = {component.kind for component in term.components}
    if "categoric" in kinds:
        return tuple(str(level) for level in levels)
    return tuple(str(i) for i in range(values.shape[1])) if values.shape[1] > 1 else None
