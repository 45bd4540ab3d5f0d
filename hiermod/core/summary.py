"""A printed summary: titled sections of text and tables, the same content as plain text and as HTML."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiermod.core.escaping import NO_MATH, html_table, html_text, terminal

WIDTH = 80  # sentences of a printed summary are broken here; tables are as wide as they are


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a summary: a title (may be empty) over a table, or over a sentence or two."""

    title: str
    body: pd.DataFrame | str
    note: str = ""
    show_index: bool = True


@dataclass(frozen=True, eq=False)
class Summary:
    """What ``fit.summary()`` returns: prints as text, shows as HTML in notebooks."""

    title: str
    sections: tuple[Section, ...]

    def __str__(self) -> str:
        pieces = [self.title]
        for section in self.sections:
            body = section.body
            body = wrapped(body) if isinstance(body, str) else _text_table(body, section.show_index)
            pieces.append("\n".join(part for part in (section.title, body, section.note) if part))
        return terminal("\n\n".join(pieces))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        pieces = [f"<h4>{html_text(self.title)}</h4>"]
        for section in self.sections:
            if section.title:
                pieces.append(f"<b>{html_text(section.title.rstrip(':'))}</b>")
            if isinstance(section.body, str):
                pieces.append(f"<p style='white-space:pre-wrap'>{html_text(section.body)}</p>")
            else:
                pieces.append(html_table(section.body, index=section.show_index))
            if section.note:
                pieces.append(f"<p>{html_text(section.note)}</p>")
        return f"<div class='{NO_MATH}'>{''.join(pieces)}</div>"


def wrapped(text: str) -> str:
    """The text with lines of at most ``WIDTH`` characters; line breaks that are there stay."""
    lines = (textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join("\n".join(line) for line in lines)


def _text_table(table: pd.DataFrame, show_index: bool) -> str:
    """The table as text; without an index its label columns stand left and its numbers right, as R prints a VarCorr."""
    if show_index:
        return table.to_string(na_rep="")
    labels = [column for column in table.columns if column in ("Groups", "Name", "group", "term", "level")]
    widths = {c: max([len(str(c)), *(len(str(value)) for value in table[c])]) for c in table.columns}
    lines = []
    for row in [list(table.columns), *table.to_numpy().tolist()]:
        cells = [
            f"{v:<{widths[c]}}" if c in labels else f"{v:>{widths[c]}}" for c, v in zip(table.columns, row, strict=True)
        ]
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def decimals(values: np.ndarray, significant: int = 4) -> int:
    """Decimals that show the smallest of ``values`` with about ``significant`` digits, as R's print does."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if sizes.size == 0:
        return 3
    return int(np.clip(significant - 1 - np.floor(np.log10(sizes.min())), 0, 8))


def number_column(values: np.ndarray, significant: int = 4) -> list[str]:
    """A column of numbers with common decimals; empty where undefined."""
    array = np.asarray(values, dtype=float)
    places = min(decimals(array, significant), decimals(np.array([np.nanmax(np.abs(array), initial=0.0)]), 6))
    return ["" if np.isnan(value) else f"{value:.{places}f}" for value in array]


def p_value(value: float) -> str:
    """A p-value as R prints it: three digits, ``< 2e-16``, empty when undefined."""
    if np.isnan(value):
        return ""
    return "< 2e-16" if value < 2e-16 else f"{value:.3g}"
