"""What a prediction is about: the arguments of ``predict``, checked once for every kind of fit.

conditional: the group effects as estimated; population: group effects at 0; new_group: a new level of every factor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.synonyms import refuse_value
from hiermod.errors import ArgumentError, UnknownNameError, listing, nearest
from hiermod.fits.tables import check_level
from hiermod.formula.data import check_positive, row_vector
from hiermod.formula.design import Design
from hiermod.formula.newdata import NewRows, fitted_rows, new_rows
from hiermod.formula.parts import parts_of
from hiermod.formula.response import new_trials

TARGETS = ("conditional", "population", "new_group")
KINDS = ("mean", "response")
NEW_LEVELS = ("raise", "zero", "sample")


@dataclass(frozen=True, eq=False)
class Request:
    """A checked prediction request.

    noise_scale (m,): residual sd of each row relative to sigma (nan: unknown).  trials (m,): of counts, where new
    responses are asked for.  parts: the rows of each further parameter that has a formula.  notes: what was assumed."""

    rows: NewRows
    target: str
    level: float | None
    kind: str
    new_levels: str
    noise_scale: np.ndarray
    in_sample: bool
    trials: np.ndarray | None = None
    parts: Mapping[str, NewRows] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_notes(self, table: pd.DataFrame) -> pd.DataFrame:
        """The finished table, its notes under it where there are any."""
        return noted(table, self.notes) if self.notes else table

    def group_rows(self, design: Design) -> list[tuple[np.ndarray, np.ndarray]]:
        """Level codes (m,) and values (m, k) per block: -1 outside target "conditional", zeros for the population."""
        nobody = np.full(len(self.rows), -1)
        if self.target == "population":
            return [(nobody, np.zeros((len(self.rows), block.size))) for block in design.blocks]
        codes = self.rows.codes if self.target == "conditional" else (nobody,) * len(design.blocks)
        return list(zip(codes, self.rows.values, strict=True))


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """``value`` when it is one of ``allowed``, else ArgumentError with the nearest."""
    if value not in allowed:
        refuse_value(name, value, allowed)
    return str(value)


def read_request(
    design: Design, newdata: Any, target: str, interval: float | None, kind: str, new_levels: str
) -> Request:
    """Check ``predict``'s arguments and evaluate the rows.

    Raises UnknownNameError for levels the fit has not seen, unless ``new_levels`` or ``target`` say what to do."""
    target = choice("target", target, TARGETS)
    kind = choice("kind", kind, KINDS)
    new_levels = choice("new_levels", new_levels, NEW_LEVELS)
    level = None if interval is None else check_level(interval, "interval")
    if newdata is None:
        rows = fitted_rows(design)
        noise = design.precision.sd(1.0)
        parts = {name: fitted_rows(part) for name, part in parts_of(design).items()}
        return Request(rows, target, level, kind, new_levels, noise, True, design.trials, parts)
    rows = _rows(design, newdata, target)
    parts = {name: _rows(part, newdata, target) for name, part in parts_of(design).items()}
    if target == "conditional" and new_levels == "raise":
        unknown = rows.unknown(design)
        for name, part in parts_of(design).items():
            unknown |= parts[name].unknown(part)
        if unknown:
            told = "; ".join(f"{factor}: {listing(map(repr, levels), 5)}" for factor, levels in unknown.items())
            near = _near_levels(design, unknown)
            raise UnknownNameError(
                f"newdata has levels that the fit has not seen ({told}).{near} new_levels='zero' gives them an effect "
                "of 0, new_levels='sample' adds the spread between groups, target='population' leaves group effects out"
            )
    noise = np.full(len(rows), 1.0 if design.precision.is_iid else np.nan)
    notes: tuple[str, ...] = ()
    if kind == "response":
        noise, notes = _new_noise(design, newdata, level)
    trials = None
    if kind == "response" and design.trials is not None:
        trials = new_trials(design.response, newdata, design.evaluator.extra_namespace)
    return Request(rows, target, level, kind, new_levels, noise, False, trials, parts, notes)


def _new_noise(design: Design, newdata: pd.DataFrame, level: float | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Residual sd of each new row relative to sigma, and what had to be assumed about it.

    From the column that ``weights=`` or ``se=`` named.  Without it weights are 1; a known sd has no such default."""
    what = design.precision.kind
    column = design.row_columns.get(what)
    if column is not None and column in newdata.columns:
        values = row_vector(f"newdata: {what}", column, newdata)
        numbers = values.to_numpy(dtype=float, na_value=np.nan)  # type: ignore[union-attr]
        check_positive(f"newdata: {what}={column!r}", numbers)
        return design.precision.of_new_rows(len(newdata), numbers).sd(1.0), ()
    if design.precision.sigma_known:
        if column is None:
            way_out = "Make the model with a column's name, se='column', and newdata with that column"
        else:
            way_out = f"Add the column {column!r} to newdata"
        raise ArgumentError(
            "kind='response' needs the residual sd of each new row, and the model's se= gives it for the rows of the "
            f"fit only. {way_out}, or use kind='mean'"
        )
    noise = design.precision.of_new_rows(len(newdata)).sd(1.0)
    if design.precision.is_iid or level is None:
        return noise, ()
    told = f"newdata has no column {column!r}" if column else "the model's weights= are an array, not a column's name"
    return noise, (f"The new responses have weight 1 (residual sd sigma): {told}.",)


def _near_levels(design: Design, unknown: Mapping[str, list[str]]) -> str:
    """The known level that the first misspelt one may stand for.  Levels that differ in a number are others."""
    known = {block.factor: block.levels for one in (design, *parts_of(design).values()) for block in one.blocks}
    for factor, levels in unknown.items():
        for level in levels:
            digits = re.sub(r"\D", "", level)
            same = [other for other in known[factor] if re.sub(r"\D", "", other) == digits]
            hint = nearest(level, same) if digits != level else ""
            if hint:
                return hint if len(unknown) == len(levels) == 1 else f" For {level!r}:{hint}"
    return ""


def _rows(design: Design, newdata: Any, target: str) -> NewRows:
    """The columns of one linear predictor on new rows."""
    if isinstance(newdata, pd.DataFrame) and len(newdata) == 0:
        return _no_rows(design, newdata.index)
    if target == "new_group" and design.blocks:
        return new_rows(design, _with_placeholder_groups(design, newdata))
    return new_rows(design, newdata, groups=target == "conditional")


def _no_rows(design: Design, index: pd.Index) -> NewRows:
    """What an empty frame asks for: predictions of no rows, as a table that has its columns."""
    nobody, nothing = np.empty(0, dtype=int), np.empty(0)
    return NewRows(
        index=index,
        X=np.empty((0, len(design.common))),
        offset=nothing,
        codes=(nobody,) * len(design.blocks),
        values=tuple(np.empty((0, block.size)) for block in design.blocks),
        labels=(np.empty(0, dtype=object),) * len(design.blocks),
    )


def _with_placeholder_groups(design: Design, newdata: pd.DataFrame) -> pd.DataFrame:
    """A new group has no name: any level does where only the left side of the bar matters."""
    filled = newdata.copy()
    for name in {name for block in design.blocks for name in block.factor_columns}:
        if name not in filled.columns:
            filled[name] = design.frame[name].iloc[0]
        elif filled[name].isna().any():
            filled[name] = filled[name].astype(object).where(filled[name].notna(), design.frame[name].iloc[0])
    return filled
