"""One model's fits as a single HTML file: summaries, tables and figures, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
pre { background: #f7f7f7; padding: 1rem; overflow-x: auto; font-size: .85rem; } img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True, eq=False)
class Part:
    """A headed part of the report: a sentence, then a table, preformatted text or a figure."""

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    verbatim: str = ""
    figure: Figure | None = None


def write_report(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Write the report; an existing file is replaced only once the new one is whole."""
    body = "\n".join(_part(part) for part in parts)
    page = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{html.escape(title)}</title>"
        f"<style>{CSS}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)


def _part(part: Part) -> str:
    pieces = [f"<h2>{html.escape(part.title)}</h2>"]
    if part.text:
        pieces.append(f"<p>{html.escape(part.text)}</p>")
    if part.table is not None:
        pieces.append(part.table.to_html(border=0, na_rep="", float_format=number))
    if part.verbatim:
        pieces.append(f"<pre>{html.escape(part.verbatim)}</pre>")
    if part.figure is not None:
        pieces.append(f"<img alt='{html.escape(part.title)}' src='data:image/png;base64,{_png(part.figure)}'>")
    return "\n".join(pieces)


def number(value: Any) -> str:
    """Four significant digits, without an exponent for everyday sizes."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
