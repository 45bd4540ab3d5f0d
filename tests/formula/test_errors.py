"""Bad input: each case a HiermodError that is also the built-in kind, and says what, got, why and what to do."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from hiermod.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    DesignError,
    FormulaError,
    HiermodError,
    UnknownNameError,
    listing,
    nearest,
)
from hiermod.families.catalogue import ALSO_CALLED, FAMILIES, check_family
from hiermod.formula.build import build_design

N = 24
KIND = {
    ArgumentTypeError: TypeError,
    DataError: ValueError,
    DesignError: ValueError,
    FormulaError: ValueError,
    UnknownNameError: KeyError,
}


def good() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"Reaction": rng.normal(300, 20, N), "Days": np.arange(N) % 6, "x": rng.normal(size=N)})
    frame["Subject"] = np.repeat(["s1", "s2", "s3", "s4"], 6)
    frame["f"] = list("abc") * 8
    return frame


def fails(error, formula, data=None, capfd=None, **options) -> str:
    """The message of the error that build_design raises; its kinds are checked, and that nothing was printed."""
    with pytest.raises(error) as caught:
        build_design(formula, good() if data is None else data, **options)
    assert type(caught.value) is error
    assert isinstance(caught.value, HiermodError)
    assert isinstance(caught.value, KIND[error])
    return str(caught.value)


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd):
    """formulae prints when an evaluation fails halfway: what could fail there is found before."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("formula", "name", "suggestion"),
    [
        ("Raction ~ Days", "Raction", "Did you mean 'Reaction'?"),
        ("Reaction ~ days", "days", "Did you mean 'Days'?"),
        ("Reaction ~ log(Dys) + x", "Dys", "Did you mean 'Days'?"),
        ("Reaction ~ Days + (Days | Subjct)", "Subjct", "Did you mean 'Subject'?"),
        ("Reaction ~ Days + (Day | Subject)", "Day", "Did you mean 'Days'?"),
        ("Reaction ~ `my days`", "`my days`", ""),
        ("Reaction ~ lambda", "lambda", ""),
        ("Reaction ~ lgo(x)", "lgo", "Did you mean 'log'?"),
        ("Reaction ~ as.facto(f)", "as.facto", "Did you mean 'as.factor'?"),
        ("Reaction ~ ns(x, 4)", "ns", "There are no natural splines; bs(x, df=4) makes B-splines"),
        ("Reaction ~ s(x)", "s", "There are no penalised smooths"),
        ("Reaction ~ np.lgo(x)", "np.lgo", "Did you mean 'np.log'?"),
        ("Reaction ~ np.f2py.os.system(x)", "np.f2py.os.system", "Of numpy the elementwise functions are"),
        ("Reaction ~ Days + (scael(x) | Subject)", "scael", "Did you mean 'scale'?"),
        ("cbind(Days, x) ~ qqq(x)", "qqq", "extra_namespace={'qqq': ...}"),
        ("Reaction ~ I(x * np.pi)", "np.pi", "extra_namespace"),
    ],
)
def test_a_misspelt_name_is_marked_and_its_nearest_told(formula, name, suggestion):
    message = fails(UnknownNameError, formula)
    lines = message.splitlines()
    assert repr(name.strip("`")) in lines[0]
    assert suggestion in message
    assert lines[1].strip() == formula
    carets = lines[2]
    assert lines[1][carets.index("^") : carets.rindex("^") + 1] == name
    if "calls" not in lines[0]:
        assert "The columns are: Reaction, Days, x, Subject, f." in message


@pytest.mark.parametrize(
    ("formula", "column"),
    [
        ("Reaction ~ hours studied + (1 | Subject)", "hours studied"),
        ("Reaction ~ Days + (hours  studied | Subject)", "hours studied"),
        ("Reaction ~ Days + (1 | school class)", "school class"),
        ("test score ~ Days", "test score"),
        ("Reaction ~ Q('hours studied')", "hours studied"),
        ('Reaction ~ Days + (1 | Q("school class"))', "school class"),
        ("Reaction ~ hours-slept", "hours-slept"),
        ("Reaction ~ `hours studied` + test score", "test score"),
    ],
)
def test_a_column_whose_name_needs_backticks(formula, column):
    data = good().assign(**{"hours studied": 1.0, "school class": "a", "test score": 2.0, "hours-slept": 3.0})
    message = fails((FormulaError if "Q('" not in formula and "-" not in formula else UnknownNameError), formula, data)
    assert f"write `{column}`" in message
    assert "backticks" in message
    assert "extra_namespace" not in message


def test_backticks_are_named_for_further_parameters_and_only_where_they_help():
    data = good().assign(**{"hours studied": 1.0, "1": 2.0})
    message = fails(FormulaError, "Reaction ~ x", data, parameters={"sigma": "hours studied"})
    assert "write `hours studied` in backticks" in message
    for formula in ("Reaction ~ x y", "Reaction ~ 1 x", "Reaction ~ `hours studied` x"):
        assert "The data have a column" not in fails(FormulaError, formula, data)
    assert fails(ArgumentTypeError, 3, data).startswith("the formula must be a string")


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("normal", "It is called 'gaussian' here."),
        ("Gauss", "It is called 'gaussian' here."),
        ("nbinom", "It is called 'negativebinomial' here."),
        ("log_normal", "It is called 'lognormal' here."),
        ("poison", "Did you mean 'poisson'?"),
    ],
)
def test_families_by_the_names_others_give_them(family, says):
    with pytest.raises(ArgumentError, match=re.escape(says)):
        check_family(family)
    assert set(ALSO_CALLED.values()) <= set(FAMILIES)
    assert set(ALSO_CALLED).isdisjoint(FAMILIES)


def test_missing_values_are_counted_by_column():
    data = good()
    data.loc[[1, 2, 3], "x"] = np.nan
    data.loc[[3, 4], "Reaction"] = np.nan
    message = fails(DataError, "Reaction ~ Days + x + (1 | Subject)", data)
    assert "Reaction: 2, x: 3; 4 of 24 rows" in message
    assert "dropna=True leaves those rows out" in message
    message = fails(DataError, "Reaction ~ x", data.assign(x=np.nan), dropna=True)
    assert "every row has a missing value" in message


@pytest.mark.parametrize("term", ["(1 | one)", "(Days | one)", "(1 | Subject) + (1 | one)", "(1 | one:alike)"])
def test_a_grouping_factor_with_one_level(term):
    message = fails(DesignError, f"Reaction ~ Days + {term}", good().assign(one="only", alike=1))
    assert "has one level ('only" in message
    assert "Leave out the term" in message


@pytest.mark.parametrize("formula", ["Reaction ~ one", "Reaction ~ x * one", "Reaction ~ (one | Subject)"])
def test_a_factor_with_one_level(formula):
    assert "'one' has one level" in fails(DataError, formula, good().assign(one="only"))


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("Reaction ~ x", "the predictor 'x' is infinite or undefined in 2 of 24 rows"),
        ("Reaction ~ (x | Subject)", "'x' in (x | Subject) is infinite or undefined in 2 of 24 rows"),
        ("Reaction ~ offset(x)", "the predictor 'offset(x)' is infinite"),
        ("Reaction ~ log(Days)", "the predictor 'log(Days)' is infinite or undefined in 4 of 24 rows"),
        ("x ~ Days", "the response 'x' is infinite or undefined in 2 of 24 rows"),
    ],
)
def test_infinite_values(formula, says):
    data = good()
    data.loc[[0, 5], "x"] = [np.inf, -np.inf]
    message = fails(DataError, formula, data)
    assert says in message
    assert "correct or leave out those rows" in message


def test_frames_that_are_none():
    data = good()
    for thing, kind in (([[1, 2]], "list"), ({"y": [1]}, "dict"), (None, "NoneType"), (data["x"], "Series")):
        with pytest.raises(ArgumentTypeError, match=f"got {kind}: pandas.DataFrame"):
            build_design("Reaction ~ x", thing)
    assert "has no rows (columns: Reaction, Days" in fails(DataError, "Reaction ~ x", data.head(0))
    assert "The columns are: none." in fails(UnknownNameError, "Reaction ~ x", pd.DataFrame(index=range(3)))
    twice = pd.concat([data, data["x"]], axis=1)
    assert "more than one column named 'x'" in fails(DataError, "Reaction ~ x", twice)
    assert build_design("Reaction ~ Days", twice).nobs == N  # an unused duplicate does no harm
    assert "more than one column" in fails(DataError, "Reaction ~ Days", twice, weights="x")
    two_levels = data.set_axis(pd.MultiIndex.from_product([["Reaction"], data.columns]), axis=1)
    assert "columns have 2 levels" in fails(DataError, "Reaction ~ Days", two_levels)
    numbered = data.set_axis(range(5), axis=1)
    assert "data.columns.astype(str)" in fails(UnknownNameError, "`0` ~ `2`", numbered)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (lambda n: pd.date_range("2024", periods=n), "dates or times"),
        (lambda n: pd.date_range("2024", periods=n, tz="UTC"), "dates or times"),
        (lambda n: pd.timedelta_range("1h", periods=n), "dates or times"),
        (lambda n: pd.period_range("2024", periods=n), "astype(str)"),
        (lambda n: [1, "a"] * (n // 2), "astype(str)"),
        (lambda n: [[1]] * n, "astype(str)"),
        (lambda n: 1j * np.arange(n), "complex"),
        (lambda n: pd.Categorical([1, "1"] * (n // 2)), "read the same as text"),
    ],
)
def test_columns_that_are_neither_numbers_nor_text(values, says):
    data = good()
    data["k"] = values(N)
    for formula in ("Reaction ~ k", "Reaction ~ (1 | k)"):
        message = fails(DataError, formula, data)
        assert "column 'k'" in message
        assert says in message


@pytest.mark.parametrize("what", ["weights", "se"])
def test_weights_and_known_sds_that_are_none(what):
    def told(given, error=DataError, **options):
        return fails(error, "Reaction ~ Days", **{what: given}, **options)

    ones = np.ones(N)
    for bad in (0, -1, np.inf):
        message = told(np.r_[bad, ones[1:]])
        assert f"{what} must be positive and finite in every row; 1 of 24 rows are not (the first: {bad:g})" in message
    assert f"{what}: 1; 1 of 24 rows" in told(np.r_[np.nan, ones[1:]])
    assert "one number per row of the data, 24, got an array of shape (3,)" in told([1, 2, 3])
    assert "shape ()" in told(2.0)
    assert "must be numbers" in told("f")
    assert "must be numbers" in told(["a"] * N)
    assert "must be numbers" in told(1j * ones)
    assert f"{what}='Dys': the data have no such column. Did you mean 'Days'?" in told("Dys", UnknownNameError)


@pytest.mark.parametrize(
    ("formula", "error", "says"),
    [
        ("Reaction ~ (1 | log)", UnknownNameError, "'log', and the data have no such column"),
        ("Reaction ~ (1 | two)", FormulaError, "'two' is not"),
        ("Reaction ~ (0 | Subject)", FormulaError, "no column left of the bar"),
        ("Reaction ~ (x | Subject) + (1 | Subject)", FormulaError, "write (0 + x | g)"),
        ("Reaction ~ (1 | Subject) + (1 | Subject)", FormulaError, "stands in the formula twice"),
        ("Reaction ~ (1 | Subject/f) + (1 | Subject)", FormulaError, "stands in the formula twice"),
        ("Reaction ~ (offset(x) | Subject)", FormulaError, "outside the bar"),
        ("Reaction ~ offset(x):Days", FormulaError, "an offset has no coefficient"),
        ("Reaction ~ offset(f)", DataError, "offset(f)"),
        ("Reaction ~ (0 + zero | Subject)", DesignError, "is 0 in every row"),
        ("Reaction ~ p(Days, Days)", FormulaError, "left of '~'"),
        ("Reaction ~ cbind(Days, x)", UnknownNameError, "cbind"),
        ("Reaction ~ -x", FormulaError, "arithmetic goes inside I()"),
        ("Reaction ~ (x + f)**x", FormulaError, "means no set of terms"),
        (
            "Reaction ~ 1/x",
            FormulaError,
            "means no set of terms. Terms are joined by + - : * / and **; arithmetic goes",
        ),
        ("Reaction ~ (x - 1)", FormulaError, "0 + or - 1, stands outside parentheses"),
        ("Reaction ~ poly(x, 2, raw=TRUE)", UnknownNameError, "A truth value is written True."),
        ("Reaction ~ pmax(x, 3)", UnknownNameError, "It is called np.maximum(x, z) here."),
        ("Reaction ~ I((x + 1)**2) + I(x + 1**2)", FormulaError, "both called 'I(x + 1 ** 2)'"),
        ("Reaction ~ Intercept", FormulaError, "both called 'Intercept'"),
        ("Reaction ~ T(f, ref='z')", DataError, "'z' is not one of the levels, which are a, b, c"),
        ("Reaction ~ S(f, omit='z')", DataError, "'z' is not one of the levels, which are a, b, c"),
        ("Reaction ~ C(f, levels=two)", DataError, "levels"),
        ("Reaction ~ f:T(f, 'z')", DataError, "'z' is not one of the levels"),
        ("Reaction ~ np.mean(x)", DataError, "np.mean(x) does not give one value per row"),
        ("Reaction ~ breaks(x)", DataError, "'breaks(x)' could not be evaluated: out of cheese"),
        ("breaks(x) ~ x", DataError, "the response 'breaks(x)' could not be evaluated: out of cheese"),
        ("Reaction ~ (breaks(x) | Subject)", DataError, "out of cheese"),
        ("Reaction ~ short(x)", DataError, "short(x) does not give one value per row of the data (24 rows)"),
        ("Reaction ~ x:short(x)", DataError, "short(x) does not give one value per row"),
        ("short(x) ~ x", DataError, "short(x) does not give one value per row"),
        ("Reaction ~ nothing(x)", DataError, "nothing(x)"),
        ("Reaction ~ I()", FormulaError, "I() takes 1 argument, got 0"),
        ("Reaction ~ np.log(x, w)", FormulaError, "np.log() takes 1 argument, got 2"),
        ("Reaction ~ poly(x, degre=2)", FormulaError, "poly() takes no degre= besides what it was given; by name it "),
        ("Reaction ~ np.where(f, x, y=w)", FormulaError, "takes no y=; its arguments have no names here"),
        ("Reaction ~ I('a' * 3)", FormulaError, "no arithmetic with text"),
        ("Reaction ~ I(x / 9**(9**9))", FormulaError, "9 ** 9 ** 9 is no number"),
        ("Reaction ~ poly(x, 1000000000)", FormulaError, "asks for 1000000000 columns of 24 rows"),
        ("Reaction ~ bs(x, df=10**9)", FormulaError, "asks for 1000000000 columns of 24 rows"),
        ("Reaction ~ I(f[a])", FormulaError, "left of '~'"),
        ("Reaction ~ weighted(x, w)", UnknownNameError, "it stands left of '~', around the response"),
        ("Reaction ~ bs(x)", DataError, "bs(x)"),
    ],
)
def test_formulas_that_mean_nothing_on_these_data(formula, error, says):
    def breaks(values):
        raise RuntimeError("out of cheese")

    names = {"breaks": breaks, "short": lambda v: v.to_numpy()[:3], "nothing": lambda v: None, "two": ["a", "b"]}
    data = good().assign(zero=0.0, Intercept=1.5, w=np.arange(1.0, N + 1))
    assert says in fails(error, formula, data, extra_namespace=names)


def test_extra_names_must_be_a_dict():
    assert "got list" in fails(ArgumentTypeError, "Reaction ~ x", extra_namespace=["x"])


def test_a_column_explained_by_others_is_no_error():
    design = build_design("Reaction ~ x + I(2 * x)", good())
    assert design.estimable.tolist() == [True, True, False]


def test_nearest_and_listing():
    assert nearest("raction", ["Reaction", "Days"]) == " Did you mean 'Reaction'?"
    assert nearest("zzz", ["Reaction", "Days"]) == ""
    assert nearest("Ecole", ["Lycée", "École"]) == " Did you mean 'École'?"
    assert nearest("ecole", ["École", "ecole 2"]) == " Did you mean 'École'?"
    assert nearest("hours", ["score", "hours studied"]) == " Did you mean 'hours studied'?"
    assert nearest("a", ["I(a + b)", "bcd efg"]) == ""
    assert nearest("Days", ["DAYS", "days"]) == " Did you mean 'days'?"
    assert nearest("1", [1, 2]) == " Did you mean '1'?"
    assert listing("abc") == "a, b, c"
    assert listing("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"
    assert str(UnknownNameError("no 'x' here")) == "no 'x' here"
