"""Two ways to write the same mathematics: LaTeX for notebooks and papers, plain text for terminals."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hiermod.core.escaping import label_text

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "psi": "ψ",
    "Sigma": "Σ",
}
LINKS = {
    "identity": ("{}", "{}"),
    "log": (r"\log({})", "log({})"),
    "logit": (r"\operatorname{{logit}}({})", "logit({})"),
    "probit": (r"\Phi^{{-1}}({})", "probit({})"),
    "cloglog": (r"\operatorname{{cloglog}}({})", "cloglog({})"),
    "inverse": (r"1 / {}", "1 / {}"),
    "inverse_squared": (r"1 / {}^2", "1 / {}²"),
}
SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}  # MathJax has few of LaTeX's


class Text:
    """Plain text: ``β0j = γ00 + u0j``."""

    times, at_most, distributed, equals, plus = " × ", " ≤ ", " ~ ", " = ", " + "
    dots, dots_below = "…", "…"

    def symbol(self, name: str, sub: str = "") -> str:
        """A letter with an index: β0j; where the index is made of parts, β[0, Subject[i]]."""
        letter = GREEK.get(name, name)
        return f"{letter}[{sub}]" if "," in sub else f"{letter}{sub}"

    def variable(self, label: str, sub: str) -> str:
        """A column of data; a product for an interaction."""
        return self.times.join(f"{part}_{sub}" for part in label.split(":"))

    def squared(self, symbol: str) -> str:
        """The square of a symbol."""
        return f"{symbol}²"

    def power(self, symbol: str, exponent: int) -> str:
        """A symbol to a whole power."""
        return symbol if exponent == 1 else symbol + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))

    def link(self, name: str, inside: str) -> str:
        """A link function of its argument."""
        return LINKS[name][1].format(inside)

    def call(self, name: str, *args: str) -> str:
        """A distribution or a function."""
        return f"{name}({', '.join(args)})"

    def vector(self, entries: Sequence[str]) -> str:
        """A column of symbols."""
        return f"({', '.join(entries)})"

    def matrix(self, rows: Sequence[Sequence[str]]) -> str:
        """Rows of entries, each in brackets."""
        return "[" + ", ".join("[" + ", ".join(row) + "]" for row in rows) + "]"

    def product(self, *factors: str) -> str:
        """Symbols multiplied."""
        return " ".join(factors)

    def words(self, text: str) -> str:
        """Text inside a formula."""
        return text


class Latex(Text):
    """LaTeX for MathJax and for papers (amsmath)."""

    times, at_most, distributed, equals, plus = r" \times ", r" \le ", r" &\sim ", " &= ", " + "
    dots, dots_below = r"\dots", r"& \vdots"

    def symbol(self, name: str, sub: str = "") -> str:
        r"""A letter with an index: \beta_{0j}."""
        letter = f"\\{name}" if name in GREEK else name
        return f"{letter}_{{{sub}}}" if sub else letter

    def variable(self, label: str, sub: str) -> str:
        """A column of data in upright letters; a product for an interaction."""
        return self.times.join(f"{self.words(part)}_{{{sub}}}" for part in label.split(":"))

    def squared(self, symbol: str) -> str:
        """The square of a symbol."""
        return f"{symbol}^2"

    def power(self, symbol: str, exponent: int) -> str:
        """A symbol to a whole power."""
        return symbol if exponent == 1 else f"{symbol}^{{{exponent}}}"

    def link(self, name: str, inside: str) -> str:
        """A link function of its argument."""
        return LINKS[name][0].format(inside)

    def call(self, name: str, *args: str) -> str:
        """A distribution or a function."""
        return rf"\operatorname{{{name}}}\left({', '.join(args)}\right)"

    def vector(self, entries: Sequence[str]) -> str:
        """A column of symbols."""
        below = [r"\vdots" if entry == self.dots else entry for entry in entries]
        return r"\begin{bmatrix} " + r" \\ ".join(below) + r" \end{bmatrix}"

    def matrix(self, rows: Sequence[Sequence[str]]) -> str:
        """A matrix of entries."""
        return r"\begin{bmatrix} " + r" \\ ".join(" & ".join(row) for row in rows) + r" \end{bmatrix}"

    def product(self, *factors: str) -> str:
        """Symbols multiplied, a thin space between them."""
        return r" \, ".join(factors)

    def words(self, text: str) -> str:
        """Upright text with LaTeX's own characters escaped."""
        return r"\text{" + re.sub(r"[\\^~#$%&_{}]", lambda m: SPECIAL.get(m[0], "\\" + m[0]), label_text(text)) + "}"
