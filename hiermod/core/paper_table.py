"""A table of text cells for a paper: LaTeX (booktabs), HTML and Markdown, names escaped, numbers rounded sensibly.

A number is shown with as many decimals as give its standard error two digits, since further ones say nothing (the
BIPM's Guide to the expression of uncertainty in measurement, 7.2.6).  pandas' Styler and tabulate do the writing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiermod.core.escaping import NO_MATH, html_text, latex, markdown
from hiermod.core.files import file_path
from hiermod.errors import ArgumentError, ArgumentTypeError, FileError, UnknownNameError, nearest

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
CSS = [
    {"selector": "", "props": "border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid;"},
    {"selector": "caption", "props": "caption-side: top; text-align: left; padding-bottom: .4em;"},
    {"selector": "th, td", "props": "padding: .15em .8em; text-align: right; white-space: nowrap;"},
    {"selector": "th", "props": "font-weight: normal;"},
    {"selector": "th.row_heading", "props": "text-align: left;"},
    {"selector": "thead th", "props": "border-bottom: 1px solid;"},
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class PaperTable:
    """Cells as text under column heads; a row that is only a heading has its label in ``headings`` and empty cells.

    rows: (label, cells) in order, a heading's cells None.  note: what stands under the table."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...] | None], ...]
    note: str = ""

    def latex(self, caption: str | None = None, label: str | None = None) -> str:
        r"""A ``table`` with a ``tabular`` of package booktabs, for ``\input``."""
        body = self._styler("latex", r"\textit{%s}", r"\quad %s")
        text = body.to_latex(hrules=True, column_format="l" + "r" * len(self.heads))
        lines = [r"\begin{table}", r"\centering"]
        if caption is not None:
            lines.append(rf"\caption{{{_escaped(caption)}}}")
        if label is not None:
            lines.append(rf"\label{{{label}}}")
        lines.append(text.rstrip("\n"))
        if self.note:
            lines.append(rf"\par\smallskip\footnotesize {_escaped(self.note)}")
        return "\n".join([*lines, r"\end{table}", ""])

    def html(self, caption: str | None = None) -> str:
        """A ``<table>`` with its own style, for a page or a word processor."""
        styler = self._styler("html", "<i>%s</i>", "&emsp;%s").set_table_styles(CSS)
        styler = styler.set_table_attributes(f'class="{NO_MATH}"')
        if caption is not None:
            styler = styler.set_caption(_escaped(caption, "html"))
        text = styler.set_uuid("estimates").to_html(doctype_html=False)
        return text + (f"<p class='{NO_MATH}'>{_escaped(self.note, 'html')}</p>\n" if self.note else "")

    def markdown(self, caption: str | None = None) -> str:
        """A pipe table, as GitHub, Quarto and pandoc read it."""
        rows = [(f"*{markdown(label)}*" if cells is None else markdown(label), *map(markdown, cells or self._blank))
                for label, cells in self.rows]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["", *map(markdown, self.heads)])
        align = ["left", *["right"] * len(self.heads)]
        text = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
        above = f"{markdown(caption)}\n\n" if caption else ""
        return f"{above}{text}\n" + (f"\n{markdown(self.note)}\n" if self.note else "")

    @property
    def _blank(self) -> tuple[str, ...]:
        return ("",) * len(self.heads)

    def _styler(self, escape: str, heading: str, plain: str) -> pd.io.formats.style.Styler:
        """The cells as pandas writes them, labels escaped and then set apart."""

        def shown(i: int) -> str:
            label, cells = self.rows[i]
            return (heading if cells is None else plain) % _escaped(label, escape)

        def signed(cell: str) -> str:
            return cell.replace(MINUS, "$-$").replace(NONE, "--") if escape == "latex" else cell

        frame = pd.DataFrame([cells or self._blank for _, cells in self.rows])
        styler = frame.style.format(signed, escape=escape)
        styler = styler.format_index(lambda j: _escaped(self.heads[j], escape), axis=1)
        return styler.format_index(shown, axis=0)  # labels may repeat, row numbers do not


def _escaped(text: str, how: str = "latex") -> str:
    """The text for LaTeX, with its minus signs and dashes, or HTML."""
    if how == "html":
        return html_text(text)
    return latex(text).replace(MINUS, "$-$").replace(NONE, "--")


def decimals(se: np.ndarray, values: np.ndarray, digits: int) -> int:
    """Decimals that show the smallest standard error with ``digits`` digits; without one, values with one more."""
    sizes = se[np.isfinite(se) & (se > 0)]
    if sizes.size == 0:
        digits, sizes = digits + 1, np.abs(values[np.isfinite(values) & (values != 0)])
    if sizes.size == 0:
        return digits
    return int(np.clip(digits - 1 - np.floor(np.log10(sizes.min())), 0, 12))


def number(value: float, places: int) -> str:
    """``−0.45``, with a real minus and without a negative zero; a dash where there is no number."""
    if np.isnan(value):
        return NONE
    if np.isinf(value):
        return f"{MINUS if value < 0 else ''}∞"
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def renamed(labels: list[str], rename: Mapping[str, str] | None, known: list[str]) -> list[str]:
    """Labels by ``rename``, whose keys are those of ``known``; UnknownNameError for a key that is not there."""
    if rename is None:
        return labels
    if not isinstance(rename, Mapping):
        raise ArgumentTypeError(f"rename must be a dict such as {{'Days': 'Days awake'}}, got {type(rename).__name__}")
    for key in rename:
        if key not in known:
            raise UnknownNameError(f"rename has {key!r}, which the table has not.{nearest(str(key), known)} "
                                   f"It has: {', '.join(known)}")  # fmt: skip
    return [str(rename.get(key, label)) for key, label in zip(known, labels, strict=True)]


def check_digits(digits: int) -> int:
    """ArgumentError unless a whole number from 1 to 10."""
    if isinstance(digits, bool) or not isinstance(digits, int | np.integer) or not 1 <= digits <= 10:
        raise ArgumentError(f"digits must be a whole number from 1 to 10, got {digits!r}")
    return int(digits)


def written(text: str, buf: object) -> str | None:
    """The text, or None once it is written to ``buf``: a path, or an open file."""
    if buf is None:
        return text
    if isinstance(buf, str | os.PathLike):
        try:
            file_path(buf, "buf").write_text(text, encoding="utf-8")
        except OSError as error:
            raise FileError(f"{buf} could not be written: {error.strerror or error}") from error
        return None
    if not hasattr(buf, "write"):
        raise ArgumentTypeError(f"buf must be a path or an open file, got {type(buf).__name__}")
    buf.write(text)
    return None
