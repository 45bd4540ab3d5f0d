"""The left side: numbers, transformations, counts, two levels, and what only Bambi's likelihood understands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.errors import DataError, HiermodError
from hiermod.formula.build import build_design

N = 20


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"y": rng.uniform(1, 9, N), "x": rng.normal(size=N), "s": rng.integers(0, 6, N)})
    frame["n"] = frame["s"] + rng.integers(1, 6, N)
    frame["f"] = frame["n"] - frame["s"]
    frame["yes"] = rng.choice(["no", "yes"], N)
    frame["my y"] = frame["y"]
    frame["my.y"] = frame["y"]
    frame["my yes"] = frame["yes"]
    return frame


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("y", lambda d: d.y),
        ("`my y`", lambda d: d.y),
        ("my.y", lambda d: d.y),
        ("s", lambda d: d.s),
        ("log(y)", lambda d: np.log(d.y)),
        ("np.sqrt(y)", lambda d: np.sqrt(d.y)),
        ("I(y**2)", lambda d: d.y**2),
        ("scale(y)", lambda d: (d.y - d.y.mean()) / d.y.std(ddof=0)),
        ("y - x", lambda d: d.y - d.x),
        ("y**2", lambda d: d.y**2),
        ("-y", lambda d: -d.y),
        ("(y + x) / 2", lambda d: (d.y + d.x) / 2),
        ("y > 5", lambda d: d.y > 5),
        ("yes['no']", lambda d: d.yes == "no"),
        ("weighted(y, n)", lambda d: d.y),
    ],
)
def test_numbers_and_transformations(data, left, expected):
    design = build_design(f"{left} ~ x", data)
    np.testing.assert_allclose(design.y, np.asarray(expected(data), dtype=float), rtol=1e-14)
    assert design.trials is None
    assert design.special == ("weighted" if "weighted" in left else None)


@pytest.mark.parametrize(
    ("left", "trials", "bambi"),
    [
        ("p(s, n)", lambda d: d.n, "p(s, n)"),
        ("proportion(s, n)", lambda d: d.n, "p(s, n)"),
        ("cbind(s, f)", lambda d: d.n, "p(s, `trials of cbind(s, f)`)"),
        ("cbind(s, n - s)", lambda d: d.n, "p(s, `trials of cbind(s, n - s)`)"),
        ("p(s, 20)", lambda d: np.full(N, 20), "p(s, `trials of p(s, 20)`)"),
        ("p(s, s + f)", lambda d: d.n, "p(s, `trials of p(s, s + f)`)"),
    ],
)
def test_counts_out_of_trials(data, left, trials, bambi):
    design = build_design(f"{left} ~ x + (1 | yes)", data, family="binomial")
    np.testing.assert_array_equal(design.y, data["s"])
    np.testing.assert_array_equal(design.trials, trials(data))
    assert design.bambi_formula == f"{bambi} ~ x + (1|yes)"
    if "`" in bambi:
        np.testing.assert_array_equal(design.frame[bambi.split("`")[1]], design.trials)


def test_the_second_level_is_the_success_as_in_r(data):
    design = build_design("yes ~ x", data, family="bernoulli")
    np.testing.assert_array_equal(design.y, data["yes"] == "yes")
    assert design.bambi_formula == "yes['yes'] ~ x"
    data["yes"] = pd.Categorical(data["yes"], categories=["yes", "maybe", "no"])  # its own order, one level unused
    np.testing.assert_array_equal(build_design("yes ~ x", data, family="bernoulli").y, data["yes"] == "no")


@pytest.mark.parametrize("level", ["it's", 'the "one"'])
def test_bambi_is_given_numbers_where_its_language_has_no_words(data, level):
    data["yes"] = data["yes"].replace("yes", f"so {level}")
    for left in ("yes", "`my yes`"):
        design = build_design(f"{left} ~ x", data, family="bernoulli")
        column = design.bambi_formula.split("`")[1]
        np.testing.assert_array_equal(design.frame[column], design.y)


def test_truth_values_are_0_and_1(data):
    data["t"] = data["x"] > 0
    np.testing.assert_array_equal(build_design("t ~ y", data, family="bernoulli").y, data["x"] > 0)


def test_ordered_categories_are_numbered_from_one(data):
    data["k"] = pd.Categorical(["low", "mid", "high", "mid"] * 5, categories=["low", "mid", "high"], ordered=True)
    design = build_design("k ~ x", data, family="cumulative")
    np.testing.assert_array_equal(design.y, [1, 2, 3, 2] * 5)
    assert design.categories == ("low", "mid", "high")


BAD = {
    "yes ~ x": ("gaussian", "not numeric.*'no', 'yes'.*to_numeric"),
    "s2 ~ x": ("gaussian", "not numeric.*'0'.*to_numeric"),
    "k ~ x": ("bernoulli", "has 3 levels"),
    "one ~ x": ("gaussian", r"constant \(always 3\)"),
    "lone ~ x": ("bernoulli", r"constant \(always 'a'\)"),
    "log(x) ~ y": ("gaussian", "infinite or undefined in .* of 20 rows"),
    "inf ~ x": ("gaussian", "infinite or undefined in 1 of 20 rows"),
    "poly(y, 2) ~ x": ("gaussian", "has 2 columns"),
    "yes['maybe'] ~ x": ("bernoulli", "'maybe'.*'no', 'yes'"),
    "s['1'] ~ x": ("bernoulli", "it is numeric"),
    "p(n, s) ~ x": ("binomial", "more successes than trials in 20 rows"),
    "p(y, n) ~ x": ("binomial", "whole numbers"),
    "cbind(s, x) ~ y": ("binomial", "whole numbers"),
    "p(zero, zero) ~ x": ("binomial", "20 rows have no trials"),
    "y / 0 ~ x": ("gaussian", "infinite or undefined in 20 of 20"),
    "yes - y ~ x": ("gaussian", "could not be evaluated"),
}


@pytest.mark.parametrize("formula", BAD)
def test_what_cannot_be_a_response(data, formula, capfd):
    data = data.assign(one=3, lone="a", s2=data["s"].astype(str), zero=0, k=list("abcb") * 5)
    data["inf"] = np.where(data.index == 4, np.inf, data["y"])
    family, says = BAD[formula]
    with pytest.raises(DataError, match=f"(?s){says}") as caught:
        build_design(formula, data, family=family)
    assert isinstance(caught.value, HiermodError)
    assert isinstance(caught.value, ValueError)
    assert capfd.readouterr().out == ""
