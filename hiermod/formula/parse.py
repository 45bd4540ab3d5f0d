"""A formula's text split into response, common part and bar terms, every error with its place marked.

What formulae cannot read of lme4's language is settled here: ``||``, ``a/b`` as grouping factor, structures of the
covariance such as ``cs(x | g, hom=True)``, ``cbind(s, f)``, arithmetic left of ``~``.  Bates et al. (2015),
J. Stat. Softw. 67(1), section 2.1 lists the forms; lme4 2.0's vignette on covariance structures those."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hiermod.covariance.structure import HOM_BY_DEFAULT
from hiermod.errors import ArgumentTypeError, FormulaError
from hiermod.formula.functions import COUNT_CALLS, SPECIAL_RESPONSES
from hiermod.formula.scan import (
    COMPARISONS,
    Token,
    check_calls,
    check_parentheses,
    check_parses,
    check_terms,
    closing,
    functions,
    marked,
    outside_calls,
    scan,
    spaced,
    variables,
    written_out,
)

GROUP_CALLS = ("factor", "C", "as.factor")  # right of a bar, where a factor is one without them
MOST_FACTORS = 1000  # of one bar term
HOM = {"True": True, "TRUE": True, "False": False, "FALSE": False}  # Python's words and R's
ARITHMETIC = ("PLUS", "MINUS", "STAR", "SLASH", "STAR_STAR", *COMPARISONS)

# What nlme, glmmTMB, brms, mmrm and SAS call covariance structures, without "cor" and "pd" before it: the term here.
FROM_ELSEWHERE = {
    **dict.fromkeys(("ar", "car1", "autoregressive"), "ar1({})"),
    **dict.fromkeys(("ar1h", "arh", "arh1", "hetar1"), "ar1({}, hom=False)"),
    **dict.fromkeys(("compsymm", "csh", "hcs", "cosy", "exch", "exchangeable"), "cs({})"),
    "homcs": "cs({}, hom=True)",
    **dict.fromkeys(("un", "unstr", "unstructured", "symm", "gen"), "({})"),
    **dict.fromkeys(("diagonal", "dg", "idh", "vc"), "diag({})"),
    **dict.fromkeys(("homdiag", "ident"), "diag({}, hom=True)"),
    **dict.fromkeys(("ar2", "arma", "toep", "toeph", "homtoep", "ou", "ad", "adh", "propto", "equalto", "rr"), ""),
}


@dataclass(frozen=True)
class Bar:
    """``(left | factor)``: its columns' formula, the columns the factor is made of, and whether they correlate.

    covariance, hom: the structure of their covariance matrix; see ``covariance.structure``."""

    left: str
    factor: tuple[str, ...]
    correlated: bool
    text: str
    covariance: str = "us"
    hom: bool = False

    @property
    def name(self) -> str:
        """The factor's name: ``Subject``, ``batch:cask``."""
        return ":".join(self.factor)


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of a formula as text.

    ``names`` are the variables it mentions, ``functions`` what it calls outside grouping factors, with their places."""

    text: str
    response: str
    response_call: str | None  # "cbind", "p", "weighted", ... when the whole response is that call
    response_args: tuple[str, ...]
    common: str
    bars: tuple[Bar, ...]
    names: tuple[Token, ...]
    functions: tuple[Token, ...]


def parse_formula(text: str) -> ParsedFormula:
    """Read a formula such as ``"Reaction ~ Days + (Days | Subject)"``.

    Raises ArgumentTypeError when ``text`` is not a string and FormulaError, with the place marked, when it does not
    parse."""
    if not isinstance(text, str):
        raise ArgumentTypeError(
            f"the formula must be a string such as 'y ~ x + (x | g)', got {type(text).__name__}: put quotes around it"
        )
    text = written_out(" ".join(text.split()))
    tokens = scan(text)
    tildes = [i for i, token in enumerate(tokens) if token.kind == "TILDE"]
    if not tildes or tildes[0] == 0:
        raise FormulaError(f"the formula has no response: write it left of '~', as in 'y ~ x + (x | g)'; got {text!r}")
    left, right = tokens[: tildes[0]], tokens[tildes[0] + 1 :]
    if not right:
        raise FormulaError(f"nothing stands right of '~'; write 'y ~ 1' for a model with only an intercept.\n  {text}")
    check_parentheses(text, tokens)
    structures = _structure_names(text, right)
    check_calls(text, [token for token in tokens if token not in structures])
    for token in left:
        if token.kind == "PIPE":
            raise FormulaError(
                f"a bar term stands left of '~'; group effects belong to the right side.\n{marked(text, token.start)}"
            )
    kept, bars, lefts, options = _split_bars(text, right, structures)
    common = "".join(spaced(kept)).strip() or "1"
    check_parses(text, left)
    check_parses(text, kept)
    check_terms(text, kept)
    response = _response(text, left)
    call, args = _whole_call(text, left)
    called = functions(left) + functions(kept) + tuple(token for part in lefts for token in functions(part))
    named = variables([token for token in tokens if token not in options])
    return ParsedFormula(text, response, call, args, common, tuple(bars), named, called)


def _response(text: str, left: list[Token]) -> str:
    """The response's text; arithmetic such as ``after - before``, a number to R, is put in ``I()``."""
    kinds = [token.kind for _, token in outside_calls(left)]
    if "COLON" in kinds or "EQUAL" in kinds or left[0].kind in ("NUMBER", "STRING", "PYTHON_LITERAL"):
        raise FormulaError(
            "left of '~' stands one column, a function of columns or arithmetic with columns; this is none.\n"
            f"{marked(text, left[0].start, left[-1].stop)}"
        )
    if left[0].text == "offset" and functions(left[:2]):
        raise FormulaError(f"an offset belongs to the right side of '~'.\n{marked(text, left[0].start, left[-1].stop)}")
    response = text[left[0].start : left[-1].stop]
    return f"I({response})" if any(kind in ARITHMETIC for kind in kinds) else response


def _structure_names(text: str, right: list[Token]) -> list[Token]:
    """The cs of each ``cs(x | g)``: names of structures whose parentheses hold a bar, which makes them no call.

    FormulaError for what other packages call a structure, and for a name that is nearly one."""
    found = []
    for position, (token, after) in enumerate(pairwise(right)):
        if token.kind == "IDENTIFIER" and after.kind == "LEFT_PAREN":
            inside = right[position + 2 : closing(right, position + 1)]
            if not any(one.kind == "PIPE" for one in inside):
                continue
            if token.text in HOM_BY_DEFAULT:
                found.append(token)
                continue
            meant = _meant_structure(token.text)
            if meant is not None:
                bar = text[inside[0].start : inside[-1].stop]
                advice = f"write {meant.format(bar)}" if meant else "none of them is like it"
                raise FormulaError(
                    f"{token.text}() is no structure of a covariance; there are us, diag, cs and ar1: {advice}.\n"
                    f"{marked(text, token.start, token.stop)}"
                )
    return found


def _meant_structure(name: str) -> str | None:
    """The term to write for a structure's name from elsewhere, ``{}`` for what stands in parentheses; "" where there is
    none; None for any other name."""
    small = name.lower().removeprefix("cor").removeprefix("pd")
    if small in FROM_ELSEWHERE:
        return FROM_ELSEWHERE[small]
    if small in HOM_BY_DEFAULT:
        return small + "({})"
    return None


def _split_bars(
    text: str, right: list[Token], structures: list[Token]
) -> tuple[list[Token], list[Bar], list[list[Token]], list[Token]]:
    """The common part's tokens, the bar terms of the right side, the tokens left of each bar as typed, and those of
    the structures with their options."""
    kept: list[Token] = []
    bars: list[Bar] = []
    lefts: list[list[Token]] = []
    options: list[Token] = list(structures)
    position = 0
    while position < len(right):
        token = right[position]
        if token.kind == "PIPE":
            raise FormulaError(
                f"a bar term needs parentheses: write '(x | g)', not 'x | g'.\n{marked(text, token.start)}"
            )
        structure = right[position - 1] if position and right[position - 1] in structures else None
        is_call = position > 0 and right[position - 1].kind == "IDENTIFIER" and structure is None
        if token.kind != "LEFT_PAREN" or is_call:
            kept.append(token)
            position += 1
            continue
        end = closing(right, position)
        inside = right[position + 1 : end]
        if not any(inner.kind == "PIPE" for inner in inside):
            kept.extend(right[position : end + 1])
            position = end + 1
            continue
        if structure is not None:
            kept.pop()
        start = position - (structure is not None)
        before = right[start - 1].kind if start else "PLUS"
        after = right[end + 1].kind if end + 1 < len(right) else "PLUS"
        if before != "PLUS" or after not in ("PLUS", "MINUS"):
            raise FormulaError(
                f"a bar term can only be added with '+'.\n{marked(text, right[start].start, right[end].stop)}"
            )
        if kept and kept[-1].kind == "PLUS":
            kept.pop()
        covariance, hom, option = _read_structure(text, structure, inside)
        options.extend(option)
        terms, left = _read_bar(text, inside[: len(inside) - len(option)], covariance, hom)
        bars.extend(terms)
        lefts.append(left)
        position = end + 1
    while kept and kept[0].kind == "PLUS":
        kept.pop(0)
    return kept, bars, lefts, options


def _read_structure(text: str, structure: Token | None, inside: list[Token]) -> tuple[str, bool, list[Token]]:
    """Name of the structure, whether it has one standard deviation, and the tokens that say so: ``, hom=True``."""
    if structure is None:
        return "us", False, []
    name, depth = structure.text, 0
    for place, token in enumerate(inside):
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(token.kind, 0)
        if token.kind == "COMMA" and depth == 0:
            option = inside[place:]
            break
    else:
        return name, HOM_BY_DEFAULT[name], []
    words = [token.text for token in option]
    if words[1:3] != ["hom", "="] or len(words) != 4 or words[3] not in HOM or name == "us":
        takes = "hom=True (one standard deviation for all its columns) or hom=False (one for each)"
        raise FormulaError(
            f"{name}() takes a bar term{'' if name == 'us' else f', then {takes}'}, and nothing else.\n"
            f"{marked(text, option[0].start, option[-1].stop)}"
        )
    return name, HOM[words[3]], option


def _read_bar(
    text: str, inside: list[Token], covariance: str = "us", hom: bool = False
) -> tuple[list[Bar], list[Token]]:
    """``left | factor`` or ``left || factor`` and the tokens of left; a factor ``a/b`` gives two bars, as in lme4."""
    pipes = [i for i, token in enumerate(inside) if token.kind == "PIPE"]
    double = len(pipes) == 2 and pipes[1] == pipes[0] + 1
    whole = text[inside[0].start : inside[-1].stop]
    depth = 0
    for token in inside[: pipes[0]]:
        depth += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(token.kind, 0)
    if depth:
        raise FormulaError(
            "a bar term cannot stand inside other parentheses: write x + (1 | g), not (x + (1 | g)).\n"
            f"{marked(text, inside[pipes[0]].start)}"
        )
    if len(pipes) > 1 and not double:
        raise FormulaError(f"one bar term holds one '|' (or '||').\n{marked(text, inside[pipes[-1]].start)}")
    if double and covariance != "us":
        raise FormulaError(
            f"'||' keeps effects uncorrelated, and {covariance}() says how they correlate: write one of the two.\n"
            f"{marked(text, inside[pipes[0]].start, inside[pipes[1]].stop)}"
        )
    left, right = inside[: pipes[0]], inside[pipes[-1] + 1 :]
    if not left:
        raise FormulaError(
            "nothing stands left of the bar; write (1 | g) for a group intercept.\n"
            f"{marked(text, inside[pipes[0]].start)}"
        )
    if not right:
        raise FormulaError(f"no grouping factor stands right of the bar.\n{marked(text, inside[pipes[-1]].start)}")
    left_text = text[left[0].start : left[-1].stop]
    check_parses(text, left)
    check_terms(text, left)
    factors, rest = _read_nesting(text, right)
    if rest:
        raise FormulaError(f"a grouping factor is a column, a:b, or a/b; this is not.\n{marked(text, rest[0].start)}")
    separate = double or (covariance == "diag" and not hom)  # diag(x | g) is (x || g)
    return [Bar(left_text, factor, not separate, whole, covariance, hom) for factor in factors], left


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
        if len(factors) * len(more) > MOST_FACTORS:
            raise FormulaError(
                f"right of the bar, ':' would make more than {MOST_FACTORS:,} grouping factors: write those you mean.\n"
                f"{marked(text, tokens[0].start, tokens[-1].stop)}"
            )
        factors = [tuple(dict.fromkeys(one + other)) for one in factors for other in more]
    return factors, rest


def _read_atom(text: str, tokens: list[Token], after: Token | None) -> tuple[list[tuple[str, ...]], list[Token]]:
    if not tokens:
        raise FormulaError(f"a grouping factor is missing here.\n{marked(text, after.start if after else len(text))}")
    first = tokens[0]
    if first.kind == "LEFT_PAREN":
        end = closing(tokens, 0)
        factors, rest = _read_nesting(text, tokens[1:end])
        if rest:
            raise FormulaError(
                f"a grouping factor is a column, a:b, or a/b; this is not.\n{marked(text, rest[0].start)}"
            )
        return factors, tokens[end + 1 :]
    if first.kind == "IDENTIFIER" and first.text in GROUP_CALLS and len(tokens) > 1 and tokens[1].kind == "LEFT_PAREN":
        end = closing(tokens, 1)
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
    if closing(tokens, 1) != len(tokens) - 1:
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
            f"{call}() takes two arguments, {meaning}; got {len(args)}.\n"
            f"{marked(text, tokens[0].start, tokens[-1].stop)}"
        )
    return call, tuple(args)
