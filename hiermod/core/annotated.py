"""NotedFrame: a DataFrame that prints whole, in lines a terminal can hold, with sentences and notes under the numbers.

pandas leaves out columns beyond 80 characters and cuts text at 50.  A number with a condition attached must not be
shown without it, so here every column is printed, and long text under the table.  Whatever is computed from it (a
selection, a join, ``round``) is a plain DataFrame; the notes stay in its ``attrs``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from hiermod.core.escaping import NO_MATH, html_text, terminal

WIDTH = 80  # of a line where pandas has no ``display.width``
SENTENCES = ("words", "why", "note", "columns", "description", "licence", "source")  # columns that may move down


class NotedFrame(pd.DataFrame):
    """A DataFrame with sentences about it in ``attrs["notes"]`` or ``attrs["sentences"]``.

    Columns named in ``attrs["aside"]`` are not printed: a note should say that they are there.

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

    def _printed(self) -> list[pd.DataFrame]:
        """The tables that are printed, one under the other, with their numbers as text."""
        return [as_text(pd.DataFrame(self))]

    def __repr__(self) -> str:
        width = pd.get_option("display.width") or WIDTH
        most = pd.get_option("display.max_rows") or None
        first, *others = self._printed()
        first = first.drop(columns=[name for name in self.attrs.get("aside", ()) if name in first])
        told = [name for name in SENTENCES if name in first.columns]
        lines: list[str] = []
        if told and _widest(first.head(most)) > width:
            lines = _told(first, told, most)
            first = first.drop(columns=told)
        blocks = [one.to_string(na_rep="", line_width=width, max_rows=most) for one in (first, *others)]
        if lines:
            blocks.append("\n".join(_wrapped(line, width, "  ") for line in lines))
        if self._notes:
            blocks.append("\n".join(_wrapped(note, width) for note in self._notes))
        return terminal("\n\n".join("\n".join(line.rstrip() for line in block.split("\n")) for block in blocks))

    def _repr_html_(self) -> str | None:
        with pd.option_context(
            "display.max_colwidth", None, "display.max_columns", None, "display.html.use_mathjax", False
        ):
            table = super()._repr_html_()
        notes = "".join(f"<p class='{NO_MATH}'>{html_text(note)}</p>" for note in self._notes)
        return None if table is None else table + notes

    @property
    def _notes(self) -> tuple[str, ...]:
        return tuple(self.attrs.get("notes", ())) or tuple(self.attrs.get("sentences", ()))


def noted(table: pd.DataFrame, notes: Sequence[str] | None = None) -> NotedFrame:
    """The table with its notes; without ``notes`` those that its attrs hold."""
    found = NotedFrame(table)
    found.attrs = dict(table.attrs) if notes is None else {**table.attrs, "notes": tuple(notes)}
    return found


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each column of floats as text of common decimals, empty where undefined."""
    cells = {
        at: _numbers(one.to_numpy()) if one.dtype.kind == "f" else one for at, (_, one) in enumerate(table.items())
    }
    return pd.DataFrame(cells, index=table.index).set_axis(table.columns, axis=1)


def _numbers(values: np.ndarray) -> list[str]:
    """Six digits of the largest, or three of the smallest and two decimals; no number but 0 is shown as 0."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    tens = np.floor(np.log10([sizes.max(), sizes.min()])) if len(sizes) else np.zeros(2)
    places = int(np.clip(min(5 - tens[0], max(2 - tens[1], 2)), 1, 8))
    while places > 1 and not (np.round(sizes, places) != np.round(sizes, places - 1)).any():
        places -= 1
    style = ".3g" if len(sizes) and round(float(sizes.min()), places) == 0 else f".{places}f"
    return ["" if np.isnan(value) else f"{value:{style}}" for value in values]


def _widest(table: pd.DataFrame) -> int:
    return max(map(len, table.to_string(na_rep="").split("\n")))


def _told(table: pd.DataFrame, columns: list[str], most: int | None) -> list[str]:
    """A sentence or more for each row, after its name: its label, or its first cell where rows are only numbered."""
    names = table.iloc[:, 0] if isinstance(table.index, pd.RangeIndex) else table.index
    lines = []
    for name, (_, row) in zip(names, table[columns].head(most).iterrows(), strict=False):
        parts = [str(text).rstrip(".") for text in row if isinstance(text, str) and text]
        if parts:
            lines.append(f"{name}: {'. '.join(parts)}")
    return [*lines, *([f"... and {len(table) - most} rows more"] if most is not None and len(table) > most else [])]


def _wrapped(text: str, width: int, indent: str = "") -> str:
    wrapper = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, text.split("\n")))
