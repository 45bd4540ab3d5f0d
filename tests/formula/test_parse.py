"""Text to parts: every form lme4 users write, the place of every error, and token soups."""

from __future__ import annotations

import random

import pytest

from hiermod.errors import ArgumentTypeError, FormulaError, HiermodError
from hiermod.formula.parse import parse_formula


def bars(text: str) -> list[tuple[str, str, bool]]:
    return [(bar.left, bar.name, bar.correlated) for bar in parse_formula(f"y ~ x + {text}").bars]


# lme4's forms and what they mean: Bates et al. (2015), J. Stat. Softw. 67(1), table 2; a/b/c is a + a:b + a:b:c.
BARS = {
    "(1|g)": [("1", "g", True)],
    "(1 | g)": [("1", "g", True)],
    "(x|g)": [("x", "g", True)],
    "(0+x|g)": [("0+x", "g", True)],
    "(-1+x|g)": [("-1+x", "g", True)],
    "(x - 1 | g)": [("x - 1", "g", True)],
    "(x||g)": [("x", "g", False)],
    "(1|a/b)": [("1", "a", True), ("1", "a:b", True)],
    "(1|a/b/c)": [("1", "a", True), ("1", "a:b", True), ("1", "a:b:c", True)],
    "(1|a:b)": [("1", "a:b", True)],
    "(1|a) + (1|b)": [("1", "a", True), ("1", "b", True)],
    "(1|a + b)": [("1", "a", True), ("1", "b", True)],
    "(x||a/b)": [("x", "a", False), ("x", "a:b", False)],
    "(x+z|g)": [("x+z", "g", True)],
    "(x*f|g)": [("x*f", "g", True)],
    "(1|(a:b))": [("1", "a:b", True)],
    "(1|a:a)": [("1", "a", True)],
    "(1|factor(g))": [("1", "g", True)],
    "(1|as.factor(g))": [("1", "g", True)],
    "(poly(x, 2)|g)": [("poly(x, 2)", "g", True)],
    "(1|`my g`)": [("1", "my g", True)],
    "(1|my.g)": [("1", "my.g", True)],
}


@pytest.mark.parametrize("text", BARS)
def test_bar_terms_mean_what_they_mean_in_lme4(text):
    assert bars(text) == BARS[text]
    assert parse_formula(f"y ~ x + {text}").common == "x"


@pytest.mark.parametrize(
    ("text", "common"),
    [
        ("y ~ x + (1|g) + z", "x + z"),
        ("y ~ (1|g) + z", "z"),
        ("y ~ (1|g)", "1"),
        ("y ~ (1|g) - 1", "- 1"),
        ("y ~ 0 + x + (1|g)", "0 + x"),
        ("y ~ (x + z)**2 + (1|g)", "(x + z)**2"),
        ("y ~ x * (f + z) + offset(w)", "x * (f + z) + offset(w)"),
        ("  y ~\n x\t+ (1 |\n g) ", "x"),
    ],
)
def test_the_common_part_is_what_stands_outside_the_bars(text, common):
    assert parse_formula(text).common == common


@pytest.mark.parametrize(
    ("left", "response", "call", "args"),
    [
        ("y", "y", None, ()),
        ("`my y`", "`my y`", None, ()),
        ("log(y)", "log(y)", None, ()),
        ("y['yes']", "y['yes']", None, ()),
        ("cbind(s, f)", "cbind(s, f)", "cbind", ("s", "f")),
        ("cbind(s, n - s)", "cbind(s, n - s)", "cbind", ("s", "n - s")),
        ("p(s, 20)", "p(s, 20)", "p", ("s", "20")),
        ("weighted(y, w)", "weighted(y, w)", "weighted", ("y", "w")),
        # In R the left side is arithmetic: after - before is their difference, not a set of terms.
        ("after - before", "I(after - before)", None, ()),
        ("y**2", "I(y**2)", None, ()),
        ("-y", "I(-y)", None, ()),
        ("log(y) / z", "I(log(y) / z)", None, ()),
        ("log(y / z)", "log(y / z)", None, ()),
        ("offset", "offset", None, ()),
    ],
)
def test_the_response_is_one_column_a_call_or_arithmetic(left, response, call, args):
    parsed = parse_formula(f"{left} ~ x")
    assert (parsed.response, parsed.response_call, parsed.response_args) == (response, call, args)


def test_names_are_variables_with_their_places():
    text = "log(y) ~ np.log(`a b`) + scale(x=z) + my.x + I(x**2) + (f|g/h)"
    parsed = parse_formula(text)
    assert [token.text for token in parsed.names] == ["y", "a b", "z", "my.x", "x", "f", "g", "h"]
    assert [token.text for token in parsed.functions] == ["log", "np.log", "scale", "I"]
    for token in parsed.names:
        assert text[token.start : token.stop].strip("`") == token.text


# formula, what the message says, the text above which the first caret stands (None: no caret)
ERRORS = [
    ("", "formula is empty", None),
    ("y", "no response", None),
    ("~ x", "no response", None),
    ("y ~", "nothing stands right", None),
    ("y ~ x ^ 2", "I(x**2)", "^ 2"),
    ("y ~ x**2", "I(x**2)", "**2"),
    ("y ~ log(x)**2", "I(x**2)", "**2"),
    ("y ~ x + ", "something is missing", None),
    ("y ~ x +* z", "'*' cannot stand here", "* z"),
    ("y ~ x ~ z", "only one '~'", "~ z"),
    ("y ~ (1|g", "'(' is not closed", "(1|g"),
    ("y ~ log(x))", "')' closes nothing", ")"),
    ("y ~ x | g", "needs parentheses", "| g"),
    ("y ~ (|g)", "nothing stands left of the bar", "|g)"),
    ("y ~ (x|)", "no grouping factor", "|)"),
    ("y ~ (x|g|h)", "holds one '|'", "|h"),
    ("y ~ (x|||h)", "holds one '|'", "|h"),
    ("y ~ (x + (1|g))", "inside other parentheses", "|g"),
    ("y ~ (1|log(g))", "make a column of anything else first", "log"),
    ("y ~ (1|g*h)", "this is not", "*h"),
    ("y ~ (1|g:)", "grouping factor is missing", ":)"),
    ("y ~ x*(1|g)", "only be added with '+'", "(1|g)"),
    ("y ~ (1|g)*x", "only be added with '+'", "(1|g)"),
    ("y ~ x - (1|g)", "only be added with '+'", "(1|g)"),
    ("(1|g) ~ x", "left of '~'", "|g"),
    ("y ~ .", "not supported", "."),
    ("y ~ log(x).round(2)", "functions, not methods", ".round"),
    ("y ~ I((x>4) & (z<0))", "np.logical_and(x > 4, z < 0)", "& (z"),
    ("y ~ x + I((x>4) | (z<0)) + (1|g)", "np.logical_or(x > 4, z < 0)", "| (z"),
    ("y ~ (bs(x, knots=[3, 5])|g)", "extra_namespace={'k': [3, 5]}", "[3"),
    ("y ~ x; z", "character ';'", "; z"),
    ("y ~ _x", "backticks", "_x"),
    ("y ~ ²", "character '²'", "²"),
    ("y ~ `x", "backtick is not closed", "`x"),
    ("y ~ 'x", "quotation mark is not closed", "'x"),
    ("y ~ 'x'", "backticks", "'x'"),
    ("y ~ True", "backticks", "True"),
    ("y ~ 2*x", "arithmetic goes inside I()", "2*x"),
    ("y ~ x + 2", "arithmetic goes inside I()", "2"),
    ("y ~ x > 3", "I(x > 3)", "> 3"),
    ("y ~ x = 3", "argument inside a call", "= 3"),
    ("y ~ f[a]", "left of '~'", "[a]"),
    ("y ~ (f[a]|g)", "left of '~'", "[a]"),
    ("y ~ (x > 1|g)", "I(x > 3)", "> 1"),
    ("y ~ ()", "')' cannot stand here", ")"),
    ("y:z ~ x", "arithmetic with columns", "y:z"),
    ("1 ~ x", "arithmetic with columns", "1 ~"),
    ("offset(y) ~ x", "right side", "offset"),
    ("p(s) ~ x", "successes and trials; got 1", "p(s)"),
    ("cbind(s, f, n) ~ x", "successes and failures; got 3", "cbind"),
    ("f(y ~ x)", "something is missing", None),
]


@pytest.mark.parametrize(("text", "says", "at"), ERRORS, ids=[text for text, _, _ in ERRORS])
def test_errors_say_what_and_mark_the_place(text, says, at):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    message = str(caught.value)
    assert isinstance(caught.value, HiermodError)
    assert isinstance(caught.value, ValueError)
    assert says in message
    if at is not None:
        formula, carets = message.splitlines()[-2:]
        assert formula.strip() == text.strip()
        assert formula[carets.index("^") :].startswith(at)


@pytest.mark.parametrize("text", [None, 3, ["y ~ x"], b"y ~ x"])
def test_a_formula_that_is_no_text(text):
    with pytest.raises(ArgumentTypeError, match="put quotes around it") as caught:
        parse_formula(text)
    assert isinstance(caught.value, TypeError)


SOUP = [
    *("y", "x", "g", "f", "my.x", "`a b`", "`", "1", "0", "2", "1.5", "'a'", '"', "True", "None", "²", "é", "_", "."),
    *("~", "~", "+", "-", "*", "/", "//", "**", ":", "^", "=", "==", "!", "!=", "<", ">=", "%", ";", "\\", "#"),
    *("(", "(", ")", ")", "[", "]", "{", "}", "|", "||", ",", " ", "  ", "\n", "\x00"),
    *("log(", "I(", "poly(x, 2)", "cbind(", "p(", "weighted(", "offset(", "factor(", "(1|g)", "y ~ x"),
]


def test_token_soups_give_an_answer_or_a_formula_error():
    """2,000 random strings of tokens: parsed or refused in words, and nothing else."""
    source = random.Random(20240229)
    parsed, refused = 0, []
    for i in range(2000):
        soup = "".join(source.choice(SOUP) for _ in range(source.randint(1, 5)))
        text = soup if i % 4 == 0 else f"y ~ {soup}"
        try:
            parse_formula(text)
            parsed += 1
        except FormulaError as error:
            refused.append(str(error))
    assert parsed > 50  # the soups are not all nonsense
    assert min(map(len, refused)) > 20


def test_deep_nesting_is_refused_or_read():
    with pytest.raises(FormulaError):
        parse_formula("y ~ " + "(" * 5000 + "x" + ")" * 5000)
