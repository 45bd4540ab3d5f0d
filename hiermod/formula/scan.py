"""A formula's text as tokens with their places, and what can be judged without data, every error with its place marked.

formulae's Scanner makes the tokens and its Parser judges each part; what passes there and means nothing is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from formulae.parser import ParseError, Parser
from formulae.scanner import ScanError, Scanner

from hiermod.errors import FormulaError

OPENING = ("LEFT_PAREN", "LEFT_BRACE", "LEFT_BRACKET")
CLOSING = ("RIGHT_PAREN", "RIGHT_BRACE", "RIGHT_BRACKET")
DEEPEST = 40  # parentheses in parentheses: each takes a dozen of Python's 1000 nested calls
COMPARISONS = ("EQUAL_EQUAL", "BANG_EQUAL", "LESS_EQUAL", "LESS", "GREATER_EQUAL", "GREATER")


@dataclass(frozen=True)
class Token:
    """A token of the formula with the place where it stands."""

    kind: str
    text: str
    start: int
    stop: int


class _PlacedScanner(Scanner):
    """formulae's scanner, which also remembers where each token starts."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.placed: list[Token] = []

    def add_token(self, kind: str, literal: object = None) -> None:
        """Keep the token as formulae does, and its place."""
        super().add_token(kind, literal)
        self.placed.append(Token(kind, self.code[self.start : self.current], self.start, self.current))


QUOTED_OR_POWER = re.compile(
    r"""(?P<quoted>`[^`]*`|["'].*?["'])|(?<![\w.])(?P<number>(?:\d++\.?\d*+|\.\d++)[eE][+-]?\d++)(?![\w.])"""
)  # "++" takes digits for good: else a long number without an e is read once for each way to cut it in two


def written_out(text: str) -> str:
    """Numbers such as 1e-3 as R writes them in the names of its columns, 0.001; the scanner reads no powers of ten.

    >>> written_out("y ~ I(x * 1e-3) + `1e-3`")
    'y ~ I(x * 0.001) + `1e-3`'
    """

    def plain(found: re.Match[str]) -> str:
        number = found["number"]
        if number is None:
            return found[0]
        if not math.isfinite(float(number)):
            raise FormulaError(f"the number {number} is too large.\n{marked(text, found.start(), found.end())}")
        return format(Decimal(number), "f") if float(number) else "0"

    return QUOTED_OR_POWER.sub(plain, text)


def marked(text: str, start: int, stop: int | None = None) -> str:
    """The formula on one line and a caret line under it.

    >>> print(marked("y ~ x ^ 2", 6))
      y ~ x ^ 2
            ^
    """
    width = max(1, (stop or start + 1) - start)
    return f"  {text}\n  {' ' * start}{'^' * width}"


def scan(text: str) -> list[Token]:
    """The tokens of ``text``; FormulaError at a character that cannot stand in a formula."""
    if not text:
        raise FormulaError("the formula is empty; write for example 'Reaction ~ Days + (Days | Subject)'")
    if text.count("`") % 2:
        raise FormulaError(f"a backtick is not closed.\n{marked(text, text.rindex('`'))}")
    scanner = _PlacedScanner(text)
    try:
        scanner.scan(add_intercept=False)
    except (ScanError, ValueError, IndexError) as error:  # ValueError: int('²'); IndexError: an unclosed backtick
        place, advice = _scan_advice(text, scanner, error)
        raise FormulaError(f"the formula does not parse: {advice}.\n{marked(text, place)}") from None
    for token in scanner.placed:
        if token.kind == "PERIOD" and text[: token.start].rstrip().endswith((")", "`")):
            raise FormulaError(
                "a formula calls functions, not methods: np.round(np.log(x), 2), not np.log(x).round(2).\n"
                f"{marked(text, token.start)}"
            )
        if token.kind == "PERIOD":
            raise FormulaError(
                "'.' for all other columns is not supported: name the columns, joined by '+'.\n"
                f"{marked(text, token.start)}"
            )
    return scanner.placed


def _scan_advice(text: str, scanner: _PlacedScanner, error: Exception) -> tuple[int, str]:
    """Where scanning stopped, and what to do about it."""
    tildes = [token.start for token in scanner.placed if token.kind == "TILDE"]
    if len(tildes) > 1:
        return tildes[1], "only one '~' can separate the response from the predictors"
    if "Unterminated" in str(error):
        return scanner.start, "a quotation mark is not closed"
    if isinstance(error, IndexError):
        return scanner.start, "a backtick is not closed"
    place = scanner.current - 1
    if text[place] == "^":
        return place, (
            "'^' is not used here: the square of x is I(x**2) or poly(x, 2), "
            "and all interactions up to second order are (a + b)**2. (In R, x^2 in a formula is just x.)"
        )
    if text[place] == "&":
        return place, "'&' is not used here: I(np.logical_and(x > 4, z < 0)) is where both hold"
    return place, (
        f"the character {text[place]!r} cannot stand here; a column with such a name goes in backticks: "
        f"`my {text[place]}`"
    )


def check_parentheses(text: str, tokens: list[Token]) -> None:
    """FormulaError at a parenthesis without its partner, or inside too many others."""
    open_places: list[Token] = []
    for token in tokens:
        if token.kind == "LEFT_PAREN":
            open_places.append(token)
        elif token.kind == "RIGHT_PAREN":
            if not open_places:
                raise FormulaError(f"the formula does not parse: this ')' closes nothing.\n{marked(text, token.start)}")
            open_places.pop()
        if len(open_places) > DEEPEST:
            raise FormulaError(
                f"parentheses stand {len(open_places)} deep here, more than the {DEEPEST} that are read: leave out "
                f"those that change nothing.\n{marked(text, token.start)}"
            )
    if open_places:
        raise FormulaError(
            f"the formula does not parse: this '(' is not closed.\n{marked(text, open_places[-1].start)}"
        )


def check_calls(text: str, tokens: list[Token]) -> None:
    """FormulaError at a ``|`` or ``[`` inside a call, where neither can stand."""
    outside = {token.start for _, token in outside_calls(tokens)}
    for before, token in pairwise(tokens):
        advice = ""
        if token.start in outside:
            continue
        if token.kind == "PIPE":
            advice = "'|' is not used inside a call: I(np.logical_or(x > 4, z < 0)) is where one of the two holds"
        elif token.kind == "LEFT_BRACKET" and before.kind in ("COMMA", "EQUAL", "LEFT_PAREN"):
            advice = (
                "a list stands outside the formula, under a name: bs(x, knots=k) with extra_namespace={'k': [3, 5]}"
            )
        if advice:
            raise FormulaError(f"the formula does not parse: {advice}.\n{marked(text, token.start)}")


def closing(tokens: list[Token], opening: int) -> int:
    """The place in ``tokens`` of the parenthesis that closes the one at ``opening``."""
    depth = 0
    for position in range(opening, len(tokens)):
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(tokens[position].kind, 0)
        if depth == 0:
            return position
    return len(tokens) - 1  # unreachable: parentheses were checked


def outside_calls(tokens: list[Token]) -> Iterator[tuple[int, Token]]:
    """The tokens, with their positions, that stand in no call: there ``+`` joins terms, in a call it adds numbers."""
    in_call: list[bool] = []  # one per open bracket
    for i, token in enumerate(tokens):
        if token.kind in CLOSING and in_call:
            in_call.pop()
        if not any(in_call):
            yield i, token
        if token.kind in OPENING:
            in_call.append(token.kind != "LEFT_PAREN" or (i > 0 and tokens[i - 1].kind == "IDENTIFIER"))


def check_parses(text: str, tokens: list[Token]) -> None:
    """Let formulae parse one part; FormulaError at the token where it stopped."""
    if not tokens:
        return
    parser = Parser(Scanner("".join(spaced(tokens))).scan(add_intercept=False))
    try:
        parser.parse()
        if parser.at_end():
            return
    except (ParseError, AttributeError, RecursionError):  # AttributeError: what formulae's own parser raises for '()'
        pass
    if parser.at_end():
        raise FormulaError(f"the formula does not parse: something is missing here.\n{marked(text, tokens[-1].stop)}")
    found = tokens[parser.current]
    raise FormulaError(
        f"the formula does not parse: {found.text!r} cannot stand here.\n{marked(text, found.start, found.stop)}"
    )


def check_terms(text: str, tokens: list[Token]) -> None:
    """FormulaError for what parses on the right side and means nothing, or not what it seems to mean."""
    for i, token in outside_calls(tokens):
        before = tokens[i - 1] if i else None
        advice = ""
        if token.kind == "EQUAL":
            advice = "'=' can only name an argument inside a call, as in scale(x=z)"
        elif token.kind in COMPARISONS:
            advice = f"a comparison goes inside I(): I(x {token.text} 3)"
        elif token.kind == "LEFT_BRACKET":
            advice = "square brackets choose the outcome of a response, left of '~'"
        elif token.kind == "STRING":
            advice = "text in quotes is no column; a column's name goes in backticks or stands bare"
        elif token.kind == "PYTHON_LITERAL":
            advice = f"{token.text} is no column; if it is, put it in backticks"
        elif token.kind == "NUMBER" and token.text not in ("0", "1") and (before is None or before.kind != "STAR_STAR"):
            advice = "of the numbers only 0 and 1 (without and with intercept) can be terms; arithmetic goes inside I()"
        elif token.kind == "STAR_STAR" and before is not None and not _closes_group(tokens, i - 1):
            advice = (
                "outside I() '**' makes interactions of a sum, (a + b)**2, and leaves a single term as it is: "
                "the square of x is I(x**2) or poly(x, 2)"
            )
        if advice:
            raise FormulaError(f"{advice}.\n{marked(text, token.start, token.stop)}")


def _closes_group(tokens: list[Token], last: int) -> bool:
    """Whether the token at ``last`` closes parentheses that are not a call's."""
    if tokens[last].kind != "RIGHT_PAREN":
        return False
    first = next(i for i in range(last, -1, -1) if tokens[i].kind == "LEFT_PAREN" and closing(tokens, i) == last)
    return first == 0 or tokens[first - 1].kind != "IDENTIFIER"


def spaced(tokens: list[Token]) -> list[str]:
    """Token texts with the blanks of the original between neighbours."""
    pieces = []
    for i, token in enumerate(tokens):
        if i and token.start > tokens[i - 1].stop:
            pieces.append(" ")
        pieces.append(token.text)
    return pieces


def variables(tokens: list[Token]) -> tuple[Token, ...]:
    """Tokens that name variables: not function names, keyword arguments or ``[level]``."""
    found = []
    for i, token in enumerate(tokens):
        following = tokens[i + 1].kind if i + 1 < len(tokens) else ""
        preceding = tokens[i - 1].kind if i else ""
        if token.kind == "BQNAME":
            found.append(Token("BQNAME", token.text[1:-1], token.start, token.stop))
        elif token.kind == "IDENTIFIER" and following not in ("LEFT_PAREN", "EQUAL") and preceding != "LEFT_BRACKET":
            found.append(token)
    return tuple(found)


def functions(tokens: list[Token]) -> tuple[Token, ...]:
    """Tokens that name the functions of calls."""
    return tuple(
        token for token, after in pairwise(tokens) if token.kind == "IDENTIFIER" and after.kind == "LEFT_PAREN"
    )
