"""The reference grid: every combination of the predictors' typical values, and averages over it (Searle, Speed and
Milliken 1980, The American Statistician 34(4); the conventions are those of Lenth's R package emmeans).

Factors stand at all their levels; numbers at their mean, those with two values at both; ``at`` says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError, listing, nearest
from hiermod.fits.targets import choice
from hiermod.formula.data import level_labels
from hiermod.formula.design import Design, FrozenArrays
from hiermod.formula.newdata import new_rows
from hiermod.formula.roles import FACTOR, offset_columns, variable_roles

WEIGHTS = ("equal", "proportional", "cells")
LARGEST = 200_000  # rows of a grid: beyond this something was not meant


@dataclass(frozen=True, eq=False)
class ReferenceGrid(FrozenArrays):
    """m combinations of the predictors.  ``counts`` (m,): rows of the data (their prior weights, if any) in each."""

    design: Design
    frame: pd.DataFrame  # (m, variables), the last variable varying fastest
    counts: np.ndarray
    kept: tuple[str, ...]  # the variables that counts tell apart
    notes: tuple[str, ...] = field(default=())  # what stands at a typical value, in words
    mean_offset: bool = False  # the offset is held at its mean over the data (emmeans' way), not evaluated

    def averages(self, variables: Sequence[str], weights: str = "equal") -> tuple[pd.DataFrame, np.ndarray]:
        """The J combinations of ``variables``, and W (J, m): each row averages the grid over everything else.

        weights: "equal"; "proportional" to how often the combinations averaged over occur in the data; "cells": how
        often they occur beside the row's own levels (nan where never).  Raises ArgumentError for another word."""
        weights = choice("weights", weights, WEIGHTS)
        labels = pd.DataFrame(index=range(1))
        if variables:
            labels = self.frame[list(variables)].drop_duplicates().reset_index(drop=True)
        mine = _codes(self.frame, variables)
        W = np.zeros((len(labels), len(self.frame)))
        share = np.ones(len(self.frame))
        if weights != "equal" and self.kept:
            share = self.counts
            if weights == "proportional":
                others = [name for name in self.kept if name not in variables]
                share = pd.Series(self.counts).groupby(_codes(self.frame, others)).transform("sum").to_numpy(float)
        W[mine, np.arange(len(self.frame))] = share
        with np.errstate(invalid="ignore"):
            return labels, W / W.sum(axis=1, keepdims=True)

    def rows(self, variable: str | None = None, step: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """X (m, p) and the offset (m,), one variable moved by ``step``."""
        frame = self.frame if variable is None else self.frame.assign(**{variable: self.frame[variable] + step})
        found = new_rows(self.design, frame, groups=False)
        if self.mean_offset and variable not in offset_columns(self.design):
            return np.array(found.X), np.full(len(frame), mean_offset(self.design))
        return np.array(found.X), np.array(found.offset)

    def effect_values(self, variable: str | None = None, step: float = 0.0) -> tuple[np.ndarray, ...]:
        """Per block the columns left of the bar, (m, k): what a new group's effects are multiplied by."""
        frame = self.frame.copy()
        if variable is not None:
            frame[variable] = frame[variable] + step
        for name in {name for block in self.design.blocks for name in block.factor_columns} - set(frame.columns):
            frame[name] = self.design.frame[name].iloc[0]  # a new group has no name: any does
        return new_rows(self.design, frame).values


def _codes(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """(m,) which combination of ``names`` each row has, numbered by first appearance."""
    if not names:
        return np.zeros(len(frame), dtype=int)
    return frame.groupby(list(names), sort=False, observed=True).ngroup().to_numpy()


def reference_grid(design: Design, at: Mapping[str, Any] | None = None, lefts: bool = False) -> ReferenceGrid:
    """The grid of a fit's predictors.

    at: variable -> a value or several, in place of the mean or of all levels.  lefts: with the variables left of the
    bars.  Raises UnknownNameError for a variable or level that is not there, ArgumentError for a value that cannot be
    and for a grid of more than 200,000 rows."""
    if at is not None and not isinstance(at, Mapping):
        raise ArgumentTypeError(f"at must be a dict such as {{'x': [0, 1]}}, got {type(at).__name__}")
    roles = variable_roles(design, lefts)
    chosen = {check_variable(design, name, roles): value for name, value in (at or {}).items()}
    columns, kept, notes = {}, [], []
    for name, role in roles.items():
        observed = design.frame[name]
        if name in chosen:
            columns[name] = _given(name, chosen[name], observed, role)
            if role == FACTOR:
                kept.append(name)
        elif role == FACTOR:
            kept.append(name)
            columns[name] = levels_of(observed)
        elif observed.nunique() <= 2:
            kept.append(name)
            columns[name] = np.sort(observed.unique())
        else:
            columns[name] = np.array([float(observed.mean())])
            notes.append(f"{name} = {columns[name][0]:.6g}")
    if prod(len(values) for values in columns.values()) > LARGEST:
        told = ", ".join(f"{name}: {len(values)}" for name, values in columns.items() if len(values) > 1)
        raise ArgumentError(
            f"the grid of all combinations ({told}) has more than {LARGEST} rows: name fewer levels with at={{...}}"
        )
    frame = _crossed(columns)
    held = design.offset is not None and offset_columns(design).isdisjoint(chosen)
    if held:
        notes = [note for note in notes if note.split(" = ")[0] not in offset_columns(design)]
        notes.append(f"offset = {mean_offset(design):.6g}")
    said = (f"numbers not named stand at their mean: {', '.join(notes)}",) if notes else ()
    return ReferenceGrid(design, frame, _counts(design, frame, kept), tuple(kept), said, held)


def mean_offset(design: Design) -> float:
    """The mean of the offset over the rows used; 0 without one."""
    return 0.0 if design.offset is None else float(design.offset.mean())


def observed_rows(design: Design) -> ReferenceGrid:
    """The rows of the data themselves as a grid, each counted once: for averages over the sample."""
    roles = variable_roles(design, lefts=True)
    groups = [name for block in design.blocks for name in block.factor_columns]
    frame = design.frame[list(dict.fromkeys([*roles, *groups]))].reset_index(drop=True)
    return ReferenceGrid(design, frame, np.ones(len(frame)), tuple(roles), ())


def check_variable(design: Design, name: Any, roles: Mapping[str, str] | None = None, argument: str = "") -> str:
    """The name of a predictor of the common part.  UnknownNameError, with the nearest, for anything else."""
    roles = variable_roles(design) if roles is None else roles
    if name in roles:
        return str(name)
    known = list(roles)
    groups = [*design.ngroups, *(column for block in design.blocks for column in block.factor_columns)]
    if name in groups:
        raise UnknownNameError(
            f"{name!r} only groups rows and has no common effect: ranef(), coef() and predict() tell about its levels. "
            f"The predictors are: {listing(known, 20) or 'none'}."
        )
    what = f"The predictors are: {listing(known, 20)}." if known else f"{design.formula!r} has no predictors."
    raise UnknownNameError(f"{argument}no predictor is called {name!r}.{nearest(str(name), known)} {what}")


def check_variables(design: Design, names: Any, argument: str) -> list[str]:
    """One name or several, each once.  ArgumentTypeError for what is neither, UnknownNameError for no predictor."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, Sequence) or not listed or not all(isinstance(name, str) for name in listed):
        raise ArgumentTypeError(f"{argument} must be a predictor's name or a list of names, got {names!r}")
    if len(set(listed)) < len(listed):
        raise ArgumentError(f"{argument} names a predictor twice: {listing(listed)}")
    roles = variable_roles(design)
    return [check_variable(design, name, roles) for name in listed]


def check_number(design: Design, name: Any) -> str:
    """The name of a numeric predictor: UnsupportedError for a factor."""
    name = check_variable(design, name)
    if variable_roles(design)[name] == FACTOR:
        raise UnsupportedError(f"{name!r} is a factor, which has no slope: contrasts({name!r}) compares its levels")
    return name


def typical_values(design: Design, name: str) -> np.ndarray:
    """All levels of a factor; both values of a two-valued number; of another its mean and one sd to either side."""
    role = variable_roles(design)[check_variable(design, name)]
    observed = design.frame[name]
    if role == FACTOR:
        return levels_of(observed)
    if observed.nunique() <= 2:
        return np.sort(observed.unique())
    return float(observed.mean()) + float(observed.std()) * np.array([-1.0, 0.0, 1.0])


def levels_of(observed: pd.Series) -> np.ndarray:
    """A factor's levels in their order: text, or the numbers that C() turns into levels."""
    if isinstance(observed.dtype, pd.CategoricalDtype):
        return np.array(observed.cat.categories, dtype=object)
    return np.sort(observed.unique())


def _given(name: str, value: Any, observed: pd.Series, role: str) -> np.ndarray:
    """``at``'s values for one variable, checked."""
    several = isinstance(value, Sequence | np.ndarray | pd.Series | pd.Index | set | range) and not isinstance(
        value, str
    )
    values = list(value) if several else [value]
    if not values:
        raise ArgumentError(f"at: {name!r} has no values")
    if role == FACTOR:
        levels = levels_of(observed)
        asked = level_labels(pd.Series(values, dtype=object))
        labels = level_labels(pd.Series(levels, dtype=object))
        unknown = [label for label in asked if label not in set(labels)]
        if unknown:
            raise UnknownNameError(
                f"at: {name!r} has no level {unknown[0]!r}.{nearest(unknown[0], labels)} Its levels are: "
                f"{listing(labels, 20)}."
            )
        return np.array([levels[list(labels).index(label)] for label in dict.fromkeys(asked)], dtype=levels.dtype)
    try:
        numbers = np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"at: {name!r} is a number, got {value!r}") from error
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ArgumentError(f"at: {name!r} needs finite numbers, got {value!r}")
    return np.array(list(dict.fromkeys(numbers.tolist())))


def _crossed(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    if not columns:
        return pd.DataFrame(index=range(1))
    rows = list(product(*(range(len(values)) for values in columns.values())))
    codes = np.array(rows, dtype=int).reshape(len(rows), len(columns))
    return pd.DataFrame({name: values[codes[:, i]] for i, (name, values) in enumerate(columns.items())})


def _counts(design: Design, frame: pd.DataFrame, kept: Sequence[str]) -> np.ndarray:
    """(m,) rows of the data in each combination of the factors; prior weights where there are some."""
    if not kept:
        return np.ones(len(frame))
    weights = design.precision.of_each_row if design.precision.kind == "weights" else np.ones(design.nobs)
    data = {name: level_labels(design.frame[name]) for name in kept}
    grid = {name: level_labels(frame[name]) for name in kept}
    total: dict[tuple[Any, ...], float] = {}
    for key, weight in zip(zip(*data.values(), strict=True), weights, strict=True):
        total[key] = total.get(key, 0.0) + float(weight)
    return np.array([total.get(key, 0.0) for key in zip(*grid.values(), strict=True)])
