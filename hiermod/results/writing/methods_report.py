"""``fit.report()``: sample, methods and results of one fit in sentences, a draft to be finished by the person.

What a report must say follows the usual advice: rows and groups, the model with its random part, how it was estimated,
how uncertainty was judged, what went wrong, versions.  What the numbers mean for the question only the person knows."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiermod.results.summary import wrapped
from hiermod.results.writing import report_estimation, report_results, report_sample
from hiermod.results.writing.report_sample import CODE

if TYPE_CHECKING:
    from hiermod.results.vocabulary import Fit


@dataclass(frozen=True, eq=False)
class Report:
    """Headed paragraphs.  ``str()`` is plain text, ``to_markdown()`` Markdown; notebooks show it formatted."""

    sections: tuple[tuple[str, tuple[str, ...]], ...]  # (heading, paragraphs)

    def to_markdown(self, heading: str = "##") -> str:
        """The report in Markdown, its headings of this depth."""
        pieces = []
        for title, paragraphs in self.sections:
            pieces += [f"{heading} {title}", *(_rendered(one, _escaped, _span) for one in paragraphs)]
        return "\n\n".join(pieces) + "\n"

    def __str__(self) -> str:
        pieces = []
        for title, paragraphs in self.sections:
            pieces += [title, *(wrapped(_rendered(one, str, str)) for one in paragraphs)]
        return "\n\n".join(pieces)

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown("####")

    def _repr_html_(self) -> str:
        pieces = []
        for title, paragraphs in self.sections:
            pieces.append(f"<h4>{html.escape(title)}</h4>")
            texts = [
                _rendered(one, html.escape, lambda code: f"<code>{html.escape(code)}</code>") for one in paragraphs
            ]
            pieces += [f"<p>{text}</p>" for text in texts]
        return f"<div>{''.join(pieces)}</div>"


def report(fit: Fit) -> Report:
    """The report of any fit."""
    return Report(
        (
            ("Sample", report_sample.sample(fit)),
            ("Methods", (*report_sample.model(fit), *report_estimation.estimation(fit))),
            ("Results", report_results.results(fit)),
        )
    )


def _rendered(text: str, plain: Callable[[str], str], code: Callable[[str], str]) -> str:
    """The text with its plain parts and its code each written their own way."""
    parts = re.split(f"[{CODE}]", text)
    return "".join(code(part) if i % 2 else plain(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Characters that Markdown would read as emphasis, table or HTML made plain."""
    return re.sub(r"([*_|\\`]|<(?=[A-Za-z/!]))", r"\\\1", text)


def _span(code: str) -> str:
    """Code, between more backticks than stand in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", code)), default=0))
    pad = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{fence}{pad}{code}{pad}{fence}"
