"""``fit.report()``: sample, methods and results of one fit in sentences, a draft to be finished by the person.

What a report must say follows the usual advice: rows and groups, the model with its random part, how it was estimated,
how uncertainty was judged, what went wrong, versions.  What the numbers mean for the question only the person knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiermod.core.checked import checked
from hiermod.core.escaping import NO_MATH, html_text, markdown, markdown_code, terminal
from hiermod.core.summary import wrapped
from hiermod.output.writing import report_estimation, report_results, report_sample
from hiermod.output.writing.report_sample import CODE

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit


@dataclass(frozen=True, eq=False)
class Report:
    """Headed paragraphs.  ``str()`` is plain text, ``to_markdown()`` Markdown; notebooks show it formatted."""

    sections: tuple[tuple[str, tuple[str, ...]], ...]  # (heading, paragraphs)

    def to_markdown(self, heading: str = "##") -> str:
        """The report in Markdown, its headings of this depth."""
        pieces = []
        for title, paragraphs in self.sections:
            pieces += [f"{heading} {title}", *(_rendered(one, markdown, markdown_code) for one in paragraphs)]
        return "\n\n".join(pieces) + "\n"

    def __str__(self) -> str:
        pieces = []
        for title, paragraphs in self.sections:
            pieces += [title, *(wrapped(terminal(_rendered(one, str, str))) for one in paragraphs)]
        return "\n\n".join(pieces)

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown("####")

    def _repr_html_(self) -> str:
        pieces = []
        for title, paragraphs in self.sections:
            pieces.append(f"<h4>{html_text(title)}</h4>")
            texts = [_rendered(one, html_text, lambda code: f"<code>{html_text(code)}</code>") for one in paragraphs]
            pieces += [f"<p>{text}</p>" for text in texts]
        return f"<div class='{NO_MATH}'>{''.join(pieces)}</div>"


@checked
def report(fit: Fit) -> Report:
    """Sample, model, estimation and results in sentences: a draft for the methods section, text or Markdown."""
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
