"""One model's fits as a single HTML file: summaries, tables and figures, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hiermod.core.escaping import html_table, html_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
tbody th { text-align: left; vertical-align: top; font-weight: normal; } thead th { border-bottom-color: #888; }
pre { background: #f7f7f7; padding: 1rem; overflow-x: auto; font-size: .85rem; } img { max-width: 100%; height: auto; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: bold; margin-top: 2.2rem; }
footer { margin-top: 3rem; padding-top: .5rem; border-top: 1px solid #ddd; color: #555; font-size: .85rem; }
"""
FOOTER = (
    "This report is made of the rows of your data: it names variables and groups, has estimates for every group, and "
    "shows rows as points. Share it, and the tables and figures beside it, as you may share the data; a fit kept by "
    "fit.save() holds the rows themselves."
)


@dataclass(frozen=True, eq=False)
class Part:
    """A headed part of the report: a sentence, then a table, preformatted text or a figure.  long: folded at first."""

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    verbatim: str = ""
    figure: Figure | None = None
    long: bool = False


def write_report(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Write the report; an existing file is replaced only once the new one is whole."""
    body = "\n".join(_part(part) for part in parts)
    page = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{html_text(title)}</title>"
        f"<style>{CSS}</style></head>\n<body><h1>{html_text(title)}</h1>\n{body}\n<footer>{html_text(FOOTER)}</footer>\n"
        "</body></html>\n"
    )
    with whole(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to; ``path`` gets its content when the block ends well, and nothing is left when it does not."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        error.filename = str(path)  # of a disk that is full Python names no file
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _part(part: Part) -> str:
    pieces = []
    if part.text:
        pieces.append(f"<p>{html_text(part.text)}</p>")
    if part.table is not None:
        pieces.append(html_table(part.table, float_format=number))
    if part.verbatim:
        pieces.append(f"<pre>{html_text(part.verbatim)}</pre>")
    if part.figure is not None:
        pieces.append(f"<img alt='{html_text(part.title)}' src='data:image/png;base64,{_png(part.figure)}'>")
    body = "\n".join(pieces)
    if part.long:
        return f"<details><summary>{html_text(part.title)}</summary>\n{body}\n</details>"
    return f"<h2>{html_text(part.title)}</h2>\n{body}"


def number(value: Any) -> str:
    """Four significant digits, without an exponent for everyday sizes."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
