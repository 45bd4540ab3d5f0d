"""Frames of predictors and groups for the designs courses teach, to simulate responses on: no response, no randomness.

Names of columns and levels are the caller's; identifiers are categorical, so that none is taken for a slope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hiermod.core.arguments import check_count
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError


@checked
def between(
    subjects: int = 40,
    levels: Sequence[str] = ("control", "treatment"),
    repeats: int = 1,
    *,
    subject: str = "subject",
    condition: str = "condition",
) -> pd.DataFrame:
    """Every subject in one condition, ``repeats`` rows each: subjects x repeats rows, conditions in turn.

    >>> import hiermod as hm
    >>> hm.designs.between(subjects=4)["condition"].tolist()
    ['control', 'treatment', 'control', 'treatment']
    """
    subjects, repeats = check_count("subjects", subjects, len(levels)), check_count("repeats", repeats)
    ids = np.repeat(np.arange(subjects), repeats)
    return pd.DataFrame({subject: _labels("S", subjects, ids), condition: _factor(levels, ids % len(levels))})


@checked
def within(
    subjects: int = 20,
    levels: Sequence[str] = ("control", "treatment"),
    repeats: int = 1,
    *,
    subject: str = "subject",
    condition: str = "condition",
) -> pd.DataFrame:
    """Every subject in every condition, ``repeats`` times: subjects x conditions x repeats rows.

    >>> import hiermod as hm
    >>> hm.designs.within(subjects=20, levels=["a", "b", "c"], repeats=2).shape
    (120, 2)
    """
    subjects, repeats = check_count("subjects", subjects), check_count("repeats", repeats)
    ids, codes, _ = _grid(subjects, len(levels), repeats)
    return pd.DataFrame({subject: _labels("S", subjects, ids), condition: _factor(levels, codes)})


@checked
def crossed(
    subjects: int = 24,
    items: int = 12,
    levels: Sequence[str] = ("control", "treatment"),
    assign: str = "latin-square",
    *,
    subject: str = "subject",
    item: str = "item",
    condition: str = "condition",
) -> pd.DataFrame:
    """Every subject sees every item once: subjects x items rows.

    assign: which condition, "latin-square" (counterbalanced: every subject and every item in all conditions), "subject"
    or "item" (each in one condition only).

    >>> import hiermod as hm
    >>> d = hm.designs.crossed(subjects=4, items=4)
    >>> d.groupby("item", observed=True)["condition"].nunique().tolist()
    [2, 2, 2, 2]
    """
    if assign not in ("latin-square", "subject", "item"):
        raise ArgumentError(f"assign must be 'latin-square', 'subject' or 'item', got {assign!r}")
    subjects, items = check_count("subjects", subjects), check_count("items", items)
    ids, cells = _grid(subjects, items)
    codes = {"latin-square": ids + cells, "subject": ids, "item": cells}[assign] % len(levels)
    columns = {subject: _labels("S", subjects, ids), item: _labels("I", items, cells)}
    return pd.DataFrame(columns | {condition: _factor(levels, codes)})


@checked
def longitudinal(
    subjects: int = 18, times: int | Sequence[float] = 10, *, subject: str = "subject", time: str = "time"
) -> pd.DataFrame:
    """Every subject at every time, as in sleepstudy: subjects x times rows.  times: a number (0, 1, ...) or the values.

    >>> import hiermod as hm
    >>> hm.designs.longitudinal(subjects=2, times=[0, 1, 7])["time"].tolist()
    [0.0, 1.0, 7.0, 0.0, 1.0, 7.0]
    """
    values = np.asarray(times, dtype=float) if np.ndim(times) else np.arange(check_count("times", times), dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ArgumentError(f"times must be a whole number of at least 1, or numbers; got {times!r}")
    ids, steps = _grid(check_count("subjects", subjects), len(values))
    return pd.DataFrame({subject: _labels("S", subjects, ids), time: values[steps]})


@checked
def nested(sizes: Mapping[str, int] | None = None) -> pd.DataFrame:
    """Units within units: ``{"school": 20, "classroom": 3, "pupil": 10}`` has 20 schools of 3 classes of 10 pupils.

    The last name counts rows and gets no column.  Labels are unique within the unit above only, as they usually come:
    the formula must say ``(1 | school/classroom)``.

    >>> import hiermod as hm
    >>> d = hm.designs.nested({"school": 2, "classroom": 2, "pupil": 3})
    >>> d.shape, d["classroom"].nunique()
    ((12, 2), 2)
    """
    sizes = {"school": 20, "classroom": 3, "pupil": 10} if sizes is None else dict(sizes)
    if len(sizes) < 2:
        raise ArgumentError("nested() needs at least two levels: the groups, and the rows within them")
    counts = [check_count(name, size) for name, size in sizes.items()]
    codes = _grid(*counts)
    names = list(sizes)[:-1]
    return pd.DataFrame({n: _labels(n[0].upper(), sizes[n], c) for n, c in zip(names, codes, strict=False)})


def _grid(*sizes: int) -> tuple[np.ndarray, ...]:
    """Codes of a full crossing, the last one fastest."""
    return tuple(part.ravel() for part in np.indices(sizes))


def _labels(letter: str, count: int, codes: np.ndarray) -> pd.Categorical:
    width = len(str(count))
    return pd.Categorical.from_codes(codes, categories=[f"{letter}{i + 1:0{width}d}" for i in range(count)])


def _factor(levels: Sequence[str], codes: np.ndarray) -> pd.Categorical:
    if isinstance(levels, str) or len(set(levels)) != len(levels) or len(levels) < 2:
        raise ArgumentError(f"levels must be two or more different names, got {levels!r}")
    return pd.Categorical.from_codes(codes, categories=[str(level) for level in levels])
