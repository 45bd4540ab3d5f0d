"""Names and labels from the data as text in whatever they are written into: terminal, HTML, LaTeX, Markdown, CSV.

A label is the person's, or whoever's file it came from.  It must be read as it is, never obeyed: no escape sequence to
a terminal (ECMA-48), no tag to a browser, no command to TeX, no formula to a spreadsheet (OWASP, CSV injection)."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the kernel's errors come through here, and it needs no pandas
    import pandas as pd

# Controls C0 and C1, line and paragraph separators, overrides of the direction of writing, halves of surrogate pairs.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_NOT_A_LINE_BREAK = re.compile(f"(?![\n\t])[{_CONTROLS}]")
_LATEX = {one: f"\\{one}" for one in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$&]|<(?=[A-Za-z/!?]))")
_FORMULA = re.compile(r"(^|[;\t\r\n])(\s*)(?=[=+\-@\uff0b\uff0d\uff1d\uff20])")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
NO_MATH = "tex2jax_ignore mathjax_ignore"  # classes of HTML in which MathJax looks for no formulas


def label_text(text: str) -> str:
    r"""A label as one line of printable text: controls as Python writes them, ``\x1b``.

    >>> print(label_text("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _CONTROL.sub(_visible, text)


def terminal(text: str) -> str:
    """Text of several lines whose controls are visible, and have no effect."""
    return _NOT_A_LINE_BREAK.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def latex(text: str) -> str:
    """Text for the body of a LaTeX document."""
    return "".join(_LATEX.get(one, one) for one in label_text(text))


def markdown(text: str) -> str:
    """Text for a paragraph or a table's cell of Markdown, where neither emphasis, links, mathematics nor HTML begin."""
    return _MARKDOWN.sub(r"\\\1", label_text(text))


def markdown_code(text: str) -> str:
    """Code in Markdown, between more backticks than stand in it."""
    text = label_text(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def html_text(text: str) -> str:
    """Text for an element or a quoted attribute of HTML."""
    return html.escape(terminal(text))


def html_table(table: pd.DataFrame, **options: Any) -> str:
    """A table's HTML by pandas, which escapes its cells, closed to MathJax."""
    return str(table.to_html(classes=NO_MATH, border=0, na_rep="", escape=True, **options))


def csv_cell(value: Any) -> Any:
    """A cell for a spreadsheet: text that it would compute begins with an apostrophe, numbers stay numbers.

    >>> csv_cell("+1+1"), csv_cell("-1.5"), csv_cell(-1.5), csv_cell("a - b")
    ("'+1+1", '-1.5', -1.5, 'a - b')
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return _FORMULA.sub(r"\1\2'", terminal(value))


def csv_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every text in it, its heads and its index among them, as ``csv_cell``s."""
    import pandas as pd

    cells = {
        at: one.array if pd.api.types.is_numeric_dtype(one.dtype) else one.astype(object).map(csv_cell).array
        for at, (_, one) in enumerate(table.items())
    }
    found = pd.DataFrame(cells, index=_csv_index(table.index))
    return found.set_axis(_csv_index(table.columns), axis=1)


def _csv_index(index: pd.Index) -> pd.Index:
    import pandas as pd

    names = [csv_cell(name) for name in index.names]
    if isinstance(index, pd.MultiIndex):
        return pd.MultiIndex.from_tuples([tuple(map(csv_cell, one)) for one in index], names=names)
    return index.map(csv_cell).set_names(names)
