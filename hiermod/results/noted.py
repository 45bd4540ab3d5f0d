"""NotedFrame: a DataFrame whose notes are printed under it, as text and as HTML.

A number with a condition attached must not be shown without it, so every column is printed too.  Whatever is computed
from the table (a selection, a join, ``round``) is a plain DataFrame; the notes stay in its ``attrs["notes"]``."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import pandas as pd

from hiermod.results.summary import wrapped


class NotedFrame(pd.DataFrame):
    """A DataFrame with sentences about it in ``attrs["notes"]``.

    >>> table = noted(pd.DataFrame({"p": [0.5]}), ["p is conservative."])
    >>> table
         p
    0  0.5
    <BLANKLINE>
    p is conservative.
    >>> table + 1
         p
    0  1.5
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join([self.to_string(na_rep=""), *([""] if self._notes else []), *map(wrapped, self._notes)])

    def _repr_html_(self) -> str | None:
        table = super()._repr_html_()
        return None if table is None else table + "".join(f"<p>{html.escape(note)}</p>" for note in self._notes)

    @property
    def _notes(self) -> tuple[str, ...]:
        return tuple(self.attrs.get("notes", ()))


def noted(table: pd.DataFrame, notes: Sequence[str]) -> NotedFrame:
    """The table with its notes."""
    found = NotedFrame(table)
    found.attrs = {**table.attrs, "notes": tuple(notes)}
    return found
