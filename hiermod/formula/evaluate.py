"""Columns of X and of each bar's left side, evaluated by formulae, on the data of the fit and again on new data.

Stateful transformations (scale, poly, center, spline bases) keep what they learned from the data of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulae.environment import Environment
from formulae.matrices import DesignMatrices
from formulae.model_description import model_description
from formulae.terms.terms import Intercept
from formulae.transforms import C

from hiermod.errors import FormulaError
from hiermod.formula.data import as_hiermod_error


def base_namespace() -> dict[str, Any]:
    """Functions every formula can use besides formulae's own (center, scale, poly, bs, C, T, S, I, offset)."""
    names: dict[str, Any] = {"np": np, "factor": C}
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

    Pickles as text and data: functions and modules stay out, and unpickling evaluates the same frame again."""

    def __init__(
        self, common: str, lefts: tuple[str, ...], frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None
    ) -> None:
        self.common, self.lefts, self.frame = common, lefts, frame
        self.extra_namespace = dict(extra_namespace or {})
        self._matrices = tuple(self._design(text, frame) for text in (common, *lefts))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_matrices"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._matrices = tuple(self._design(text, self.frame) for text in (self.common, *self.lefts))

    def _design(self, text: str, frame: pd.DataFrame) -> DesignMatrices:
        env = Environment([base_namespace() | self.extra_namespace])
        try:
            with np.errstate(all="ignore"):
                return DesignMatrices(model_description(text), frame, env)
        except Exception as error:  # formulae evaluates the person's own functions, which can raise anything
            raise as_hiermod_error(f"{text!r}", error) from error

    def common_terms(self) -> list[Term]:
        return _terms(self._matrices[0], len(self.frame))

    def left_terms(self, i: int) -> list[Term]:
        return _terms(self._matrices[1 + i], len(self.frame))

    def new_common(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """X (m, p) and the offset (m,) on new rows."""
        pieces, offset = [np.empty((len(frame), 0))], np.zeros(len(frame))
        for term, values in self._new(0, frame):
            if getattr(term, "kind", None) == "offset":
                offset = offset + values[:, 0]
            else:
                pieces.append(values)
        return np.hstack(pieces), offset

    def new_left(self, i: int, frame: pd.DataFrame) -> np.ndarray:
        """The columns left of bar ``i`` on new rows, (m, k)."""
        return np.hstack([np.empty((len(frame), 0)), *(values for _, values in self._new(1 + i, frame))])

    def _new(self, i: int, frame: pd.DataFrame) -> list[tuple[Any, np.ndarray]]:
        common = self._matrices[i].common
        pieces = []
        for name, term in (common.terms if common is not None else {}).items():
            try:
                with np.errstate(all="ignore"):
                    values = np.asarray(term.eval_new_data(frame), dtype=float)
            except Exception as error:  # unseen levels, the person's own functions
                raise as_hiermod_error(f"{name!r} on the new data", error) from error
            pieces.append((term, values.reshape(len(frame), -1)))
        return pieces


def evaluate_response(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> Any:
    """The response as formulae evaluates it: its ResponseMatrix (kind, levels, design_matrix)."""
    env = Environment([base_namespace() | dict(extra_namespace or {})])
    try:
        with np.errstate(all="ignore"):
            return DesignMatrices(model_description(f"{text} ~ 1"), frame, env).response
    except Exception as error:
        raise as_hiermod_error(f"the response {text!r}", error) from error


def evaluate_number(text: str, frame: pd.DataFrame, extra_namespace: Mapping[str, Any] | None) -> np.ndarray:
    """A numeric expression such as ``size - incidence`` on every row, (n,)."""
    if text.strip().isdigit():
        return np.full(len(frame), float(text))
    values = np.asarray(evaluate_response(f"I({text})", frame, extra_namespace).design_matrix)
    if values.ndim != 1 or values.dtype.kind not in "ifub":
        raise FormulaError(f"{text!r} must give one number per row")
    return values.astype(float)


def _terms(matrices: DesignMatrices, n: int) -> list[Term]:
    common = matrices.common
    if common is None:
        return []
    found = []
    for name, term in common.terms.items():
        values = np.asarray(term.data, dtype=float)
        is_offset = getattr(term, "kind", None) == "offset"
        if values.ndim == 0:
            values = np.full(n, float(values))
        values = values.reshape(n, -1)
        if isinstance(term, Intercept):
            found.append(Term("Intercept", ("Intercept",), None, 0, values, False))
            continue
        labels = (name,) if is_offset else tuple(term.labels)
        found.append(Term(name, labels, _coordinates(term, values), len(term.components), values, is_offset))
    return found


def _coordinates(term: Any, values: np.ndarray) -> tuple[str, ...] | None:
    """Bambi's coordinate labels: levels for a term with a factor in it, 0, 1, ... for other matrices, None for scalars."""
    kinds = {component.kind for component in term.components}
    if "categoric" in kinds:
        return tuple(str(level) for level in term.levels)
    return tuple(str(i) for i in range(values.shape[1])) if values.shape[1] > 1 else None
