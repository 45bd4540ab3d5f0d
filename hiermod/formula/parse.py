"""A formula's text split into response, common part and bar terms, every error with its place marked.

formulae scans and parses (its Scanner gives the tokens); what it cannot read of lme4's language is settled here: ``||``,
``a/b`` as grouping factor, ``cbind(s, f)``.  Bates et al. (2015), J. Stat. Softw. 67(1), section 2.1 lists the forms."""

from __future__ import annotations

from dataclasses import dataclass

from formulae.parser import ParseError, Parser
from formulae.scanner import ScanError, Scanner

from hiermod.errors import ArgumentTypeError, FormulaError

COUNT_CALLS = ("p", "prop", "proportion", "cbind")
SPECIAL_RESPONSES = ("weighted", "censored", "truncated", "constrained")
FACTOR_CALLS = ("factor", "C", "as.factor")


@dataclass(frozen=True)
class Token:
    """A token of the formula with the place where it stands."""

    kind: str
    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Bar:
    """``(left | factor)``: its columns' formula, the columns the factor is made of, and whether they correlate."""

    left: str
    factor: tuple[str, ...]
    correlated: bool
    text: str

    @property
    def name(self) -> str:
        """The factor's name: ``Subject``, ``batch:cask``."""
        return ":".join(self.factor)


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of a formula as text.  ``names`` are the variables it mentions, with the place of each."""

    text: str
    response: str
    response_call: str | None  # "cbind", "p", "weighted", ... when the whole response is that call
    response_args: tuple[str, ...]
    common: str
    bars: tuple[Bar, ...]
    names: tuple[Token, ...]


class _PlacedScanner(Scanner):  # type: ignore[misc]  # formulae is not typed
    """formulae's scanner, which also remembers where each token starts."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.placed: list[Token] = []

    def add_token(self, kind: str, literal: object = None) -> None:
        super().add_token(kind, literal)
        self.placed.append(Token(kind, self.code[self.start : self.current], self.start, self.current))


def marked(text: str, start: int, stop: int | None = None) -> str:
    """The formula on one line and a caret line under it.

    >>> print(marked("y ~ x ^ 2", 6))
      y ~ x ^ 2
            ^
    """
    width = max(1, (stop or start + 1) - start)
    return f"  {text}\n  {' ' * start}{'^' * width}"


def parse_formula(text: str) -> ParsedFormula:
    """Read a formula such as ``"Reaction ~ Days + (Days | Subject)"``.

    Raises ArgumentTypeError when ``text`` is not a string and FormulaError, with the place marked, when it does not parse."""
    if not isinstance(text, str):
        raise ArgumentTypeError(
            f"the formula must be a string such as 'y ~ x + (x | g)', got {type(text).__name__}: put quotes around it"
        )
    text = " ".join(text.split())
    tokens = _scan(text)
    tildes = [i for i, token in enumerate(tokens) if token.kind == "TILDE"]
    if not tildes or tildes[0] == 0:
        raise FormulaError(f"the formula has no response: write it left of '~', as in 'y ~ x + (x | g)'; got {text!r}")
    left, right = tokens[: tildes[0]], tokens[tildes[0] + 1 :]
    if not right:
        raise FormulaError(f"nothing stands right of '~'; write 'y ~ 1' for a model with only an intercept.\n  {text}")
    _check_parentheses(text, tokens)
    for token in left:
        if token.kind == "PIPE":
            raise FormulaError(
                f"a bar term stands left of '~'; group effects belong to the right side.\n{marked(text, token.start)}"
            )
    kept, bars = _split_bars(text, right)
    common = "".join(_spaced(kept)).strip() or "1"
    response = text[left[0].start : left[-1].stop]
    call, args = _whole_call(text, left)
    _check_parses(text, left)
    _check_parses(text, kept)
    return ParsedFormula(text, response, call, args, common, tuple(bars), _variables(tokens))


def _scan(text: str) -> list[Token]:
    if not text:
        raise FormulaError("the formula is empty; write for example 'Reaction ~ Days + (Days | Subject)'")
    if text.count("`") % 2:
        raise FormulaError(f"a backquote is not closed.\n{marked(text, text.rindex('`'))}")
    scanner = _PlacedScanner(text)
    try:
        scanner.scan(add_intercept=False)
    except ScanError as error:
        place, character = scanner.current - 1, text[scanner.current - 1]
        tildes = [token.start for token in scanner.placed if token.kind == "TILDE"]
        if len(tildes) > 1:
            place, advice = tildes[1], "only one '~' can separate the response from the predictors"
        elif character == "^":
            advice = (
                "'^' is not used here: the square of x is I(x**2) or poly(x, 2), "
                "and all interactions up to second order are (a + b)**2. (In R, x^2 in a formula is just x.)"
            )
        elif "Unterminated" in str(error):
            place, advice = scanner.start, "a quotation mark is not closed"
        else:
            advice = f"the character {character!r} cannot stand here; a column with such a name goes in backquotes: `my {character}`"
        raise FormulaError(f"the formula does not parse: {advice}.\n{marked(text, place)}") from None
    for token in scanner.placed:
        if token.kind == "PERIOD":
            raise FormulaError(
                f"'.' for all other columns is not supported: name the columns, joined by '+'.\n{marked(text, token.start)}"
            )
    return scanner.placed


def _check_parentheses(text: str, tokens: list[Token]) -> None:
    open_places: list[Token] = []
    for token in tokens:
        if token.kind == "LEFT_PAREN":
            open_places.append(token)
        elif token.kind == "RIGHT_PAREN":
            if not open_places:
                raise FormulaError(f"the formula does not parse: this ')' closes nothing.\n{marked(text, token.start)}")
            open_places.pop()
    if open_places:
        raise FormulaError(
            f"the formula does not parse: this '(' is not closed.\n{marked(text, open_places[-1].start)}"
        )


def _split_bars(text: str, right: list[Token]) -> tuple[list[Token], list[Bar]]:
    """The common part's tokens and the bar terms of the right side."""
    kept: list[Token] = []
    bars: list[Bar] = []
    position = 0
    while position < len(right):
        token = right[position]
        if token.kind == "PIPE":
            raise FormulaError(
                f"a bar term needs parentheses: write '(x | g)', not 'x | g'.\n{marked(text, token.start)}"
            )
        is_call = position > 0 and right[position - 1].kind == "IDENTIFIER"
        if token.kind != "LEFT_PAREN" or is_call:
            kept.append(token)
            position += 1
            continue
        end = _closing(right, position)
        inside = right[position + 1 : end]
        if not any(inner.kind == "PIPE" for inner in inside):
            kept.extend(right[position : end + 1])
            position = end + 1
            continue
        before = right[position - 1].kind if position else "PLUS"
        after = right[end + 1].kind if end + 1 < len(right) else "PLUS"
        if before != "PLUS" or after not in ("PLUS", "MINUS"):
            raise FormulaError(f"a bar term can only be added with '+'.\n{marked(text, token.start, right[end].stop)}")
        if kept and kept[-1].kind == "PLUS":
            kept.pop()
        bars.extend(_read_bar(text, inside))
        position = end + 1
    while kept and kept[0].kind == "PLUS":
        kept.pop(0)
    return kept, bars


def _spaced(tokens: list[Token]) -> list[str]:
    """Token texts with the blanks of the original between neighbours."""
    pieces = []
    for i, token in enumerate(tokens):
        if i and token.start > tokens[i - 1].stop:
            pieces.append(" ")
        pieces.append(token.text)
    return pieces


def _closing(tokens: list[Token], opening: int) -> int:
    depth = 0
    for position in range(opening, len(tokens)):
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(tokens[position].kind, 0)
        if depth == 0:
            return position
    return len(tokens) - 1  # unreachable: parentheses were checked


def _read_bar(text: str, inside: list[Token]) -> list[Bar]:
    """``left | factor`` or ``left || factor``; a factor ``a/b`` gives two bars, as in lme4."""
    pipes = [i for i, token in enumerate(inside) if token.kind == "PIPE"]
    double = len(pipes) == 2 and pipes[1] == pipes[0] + 1
    whole = text[inside[0].start : inside[-1].stop]
    depth = 0
    for token in inside[: pipes[0]]:
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(token.kind, 0)
    if depth or (len(pipes) > 1 and not double):
        raise FormulaError(
            f"one bar term holds one '|' (or '||'), and bar terms cannot stand inside each other.\n"
            f"{marked(text, inside[pipes[-1] if not depth else pipes[0]].start)}"
        )
    left, right = inside[: pipes[0]], inside[pipes[-1] + 1 :]
    if not left:
        raise FormulaError(
            f"nothing stands left of the bar; write (1 | g) for a group intercept.\n{marked(text, inside[pipes[0]].start)}"
        )
    if not right:
        raise FormulaError(f"no grouping factor stands right of the bar.\n{marked(text, inside[pipes[-1]].start)}")
    left_text = text[left[0].start : left[-1].stop]
    _check_parses(text, left)
    factors, rest = _read_nesting(text, right)
    if rest:
        raise FormulaError(f"a grouping factor is a column, a:b, or a/b; this is not.\n{marked(text, rest[0].start)}")
    return [Bar(left_text, factor, not double, whole) for factor in factors]


def _read_nesting(text: str, tokens: list[Token]) -> tuple[list[tuple[str, ...]], list[Token]]:
    """Grouping factors of ``a/b`` and ``a + b``; returns them and the tokens left over."""
    factors, rest = _read_interaction(text, tokens)
    while rest and rest[0].kind in ("SLASH", "PLUS"):
        operator = rest[0]
        more, rest = _read_interaction(text, rest[1:], after=operator)
        if operator.kind == "PLUS":
            factors = factors + more
        else:
            factors = factors + [tuple(dict.fromkeys(factors[-1] + inner)) for inner in more]
    return factors, rest


def _read_interaction(
    text: str, tokens: list[Token], after: Token | None = None
) -> tuple[list[tuple[str, ...]], list[Token]]:
    factors, rest = _read_atom(text, tokens, after)
    while rest and rest[0].kind == "COLON":
        more, rest = _read_atom(text, rest[1:], rest[0])
        factors = [tuple(dict.fromkeys(one + other)) for one in factors for other in more]
    return factors, rest


def _read_atom(text: str, tokens: list[Token], after: Token | None) -> tuple[list[tuple[str, ...]], list[Token]]:
    if not tokens:
        raise FormulaError(f"a grouping factor is missing here.\n{marked(text, after.start if after else len(text))}")
    first = tokens[0]
    if first.kind == "LEFT_PAREN":
        end = _closing(tokens, 0)
        factors, rest = _read_nesting(text, tokens[1:end])
        if rest:
            raise FormulaError(
                f"a grouping factor is a column, a:b, or a/b; this is not.\n{marked(text, rest[0].start)}"
            )
        return factors, tokens[end + 1 :]
    if first.kind == "IDENTIFIER" and first.text in FACTOR_CALLS and len(tokens) > 1 and tokens[1].kind == "LEFT_PAREN":
        end = _closing(tokens, 1)
        factors, rest = _read_nesting(text, tokens[2:end])
        if not rest:
            return factors, tokens[end + 1 :]
    if first.kind == "BQNAME":
        return [(first.text[1:-1],)], tokens[1:]
    if first.kind == "IDENTIFIER" and not (len(tokens) > 1 and tokens[1].kind == "LEFT_PAREN"):
        return [(first.text,)], tokens[1:]
    raise FormulaError(
        "a grouping factor is a column, a:b, or a/b; make a column of anything else first.\n"
        f"{marked(text, first.start, first.stop)}"
    )


def _whole_call(text: str, tokens: list[Token]) -> tuple[str | None, tuple[str, ...]]:
    """The name and arguments when the response is one call to a known function, else (None, ())."""
    known = COUNT_CALLS + SPECIAL_RESPONSES
    if len(tokens) < 4 or tokens[0].text not in known or tokens[1].kind != "LEFT_PAREN":
        return None, ()
    if _closing(tokens, 1) != len(tokens) - 1:
        return None, ()
    args, depth, start = [], 0, tokens[1].stop
    for token in tokens[2:-1]:
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(token.kind, 0)
        if token.kind == "COMMA" and depth == 0:
            args.append(text[start : token.start].strip())
            start = token.stop
    args.append(text[start : tokens[-1].start].strip())
    call = tokens[0].text
    if call in COUNT_CALLS and len(args) != 2:
        meaning = "successes and failures" if call == "cbind" else "successes and trials"
        raise FormulaError(
            f"{call}() takes two arguments, {meaning}; got {len(args)}.\n{marked(text, tokens[0].start, tokens[-1].stop)}"
        )
    return call, tuple(args)


def _check_parses(text: str, tokens: list[Token]) -> None:
    """Let formulae parse one part, and mark the token at which it stopped."""
    if not tokens:
        return
    parser = Parser(Scanner("".join(_spaced(tokens))).scan(add_intercept=False))
    try:
        parser.parse()
        if parser.at_end():
            return
    except (ParseError, AttributeError):  # AttributeError: what formulae's own parser raises for '()'
        pass
    if parser.at_end():
        raise FormulaError(f"the formula does not parse: something is missing here.\n{marked(text, tokens[-1].stop)}")
    found = tokens[parser.current]
    raise FormulaError(
        f"the formula does not parse: {found.text!r} cannot stand here.\n{marked(text, found.start, found.stop)}"
    )


def _variables(tokens: list[Token]) -> tuple[Token, ...]:
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
