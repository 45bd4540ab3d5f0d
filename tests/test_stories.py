"""Every story has the columns of the course's data, parameters that fits find again, and the lesson it is told for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, SingularFitWarning

STORIES = ["outlier", "different_slopes", "simpson", "paired", "regression_to_mean", "admissions"]


def reml(d: pd.DataFrame, which: int):
    return hm.Model(d.attrs["formulas"][which], d).reml()


@pytest.mark.parametrize("name", ["outlier", "different_slopes", "simpson", "paired"])
def test_columns_are_those_of_the_course(name):
    ours, theirs = getattr(hm.stories, name)(), hm.load_dataset(name)
    pd.testing.assert_series_equal(ours.dtypes, theirs.dtypes)
    assert len(ours) == len(theirs)
    for column in ("participant", "condition"):
        if column in ours:
            assert ours[column].tolist() == theirs[column].tolist()


@pytest.mark.parametrize("name", STORIES)
def test_seeds_and_truth(name):
    story = getattr(hm.stories, name)
    assert story().equals(story(random_seed=1))
    assert not story().equals(story(random_seed=2))
    d = story()
    assert set(d.attrs) == {"truth", "formulas", "lesson"}
    m = hm.Model(d.attrs["formulas"][-1], d, family="binomial" if name == "admissions" else "gaussian")
    with pytest.warns(SingularFitWarning) if name == "different_slopes" else _silent():
        fit = m.ml() if name == "admissions" else m.reml()
    assert set(d.attrs["truth"]) <= set(fit.parameters().index)


class _silent:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", ["outlier", "simpson", "paired", "regression_to_mean"])
def test_fits_find_the_truth_again(name):
    """Means of 40 fits within 4.5 standard errors; the outlier's story without its outlier."""
    story = getattr(hm.stories, name)
    options = {"shift": 0.0} if name == "outlier" else {}
    found = []
    for seed in range(40):
        d = story(random_seed=seed, **options)
        found.append(reml(d, 1).parameters()["estimate"])
    table, truth = pd.DataFrame(found), pd.Series(d.attrs["truth"])
    assert list(table.columns) == list(truth.index)
    error = (table.mean() - truth) / (table.std() / np.sqrt(len(table)))
    sds = [name for name in truth.index if name.endswith("sigma")]  # REML's sds are biased by about sd / (4 df)
    assert error.drop(sds).abs().max() < 4.5
    assert (table.mean()[sds] / truth[sds]).to_numpy() == pytest.approx(1.0, abs=0.1)


def test_an_outlier_hurts_the_linear_model_only():
    d = hm.stories.outlier()
    without = d[d["participant"] != "20"]
    errors = [[reml(one, which).fixef().loc["condition[1]", "std_error"] for one in (without, d)] for which in (0, 1)]
    linear, mixed = np.array(errors)
    assert linear[1] > 5 * linear[0]
    assert mixed[1] < 1.2 * mixed[0]


def test_the_paired_t_test_is_a_mixed_model():
    d = hm.stories.paired()
    a, b = (d.loc[d["condition"] == level, "value"].to_numpy() for level in ("1", "2"))
    t = stats.ttest_rel(b, a)
    row = reml(d, 1).fixef().loc["condition[2]"]
    assert row["t"] == pytest.approx(t.statistic, rel=1e-6)
    assert row["df"] == pytest.approx(19, rel=1e-4)
    assert row["p"] == pytest.approx(t.pvalue, rel=1e-3)  # the tail, at df that differ in the 5th digit
    assert reml(d, 0).fixef().loc["condition[2]", "p"] > 0.2
    many = hm.stories.paired(participants=2000)
    a, b = (many.loc[many["condition"] == level, "value"].to_numpy() for level in ("1", "2"))
    assert (b - a).std() == pytest.approx(0.1, rel=4 / np.sqrt(4000))


def test_participants_who_change_places_leave_no_variance():
    d = hm.stories.different_slopes()
    with pytest.warns(SingularFitWarning):
        fit = reml(d, 1)
    assert fit.parameters().loc["1|participant_sigma", "estimate"] == pytest.approx(0.0, abs=1e-4)
    many = hm.stories.different_slopes(participants=2000)
    a, b = (many.loc[many["condition"] == level, "value"].to_numpy() for level in ("1", "2"))
    assert [a.std(), b.std()] == pytest.approx([1.0, 0.3], rel=4 / np.sqrt(4000))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(2000)


def test_simpson_reverses_the_slope():
    d = hm.stories.simpson()
    assert reml(d, 0).fixef().loc["x", "lower"] > 0
    within = reml(d, 1).fixef().loc["x"]
    assert within["upper"] < 0
    assert abs(within["estimate"] + 10) < 4 * within["std_error"]


def test_the_lowest_rise_without_any_cause():
    """E[second | first] - 100 is half of first - 100, since half of the variance is noise."""
    d = hm.stories.regression_to_mean(participants=5000)
    means = d[d["selected"]].groupby("test", observed=True)["value"].mean() - 100
    assert means["second"] / means["first"] == pytest.approx(0.5, abs=4 * 12.2 / np.sqrt(500) / 24.8)
    assert d["selected"].mean() == pytest.approx(0.1, abs=0.001)
    assert abs(reml(d, 1).fixef().loc["test[second]", "t"]) < 4


def test_departments_explain_the_admissions():
    d = hm.stories.admissions()
    marginal, within = (
        hm.Model(formula, d, family="binomial").ml().fixef().loc["gender[Male]"] for formula in d.attrs["formulas"]
    )
    assert marginal["lower"] > 0.3
    assert abs(within["estimate"]) < 4 * within["std_error"]
    assert (d["admitted"] <= d["applied"]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: hm.stories.outlier(participants=2),
        lambda: hm.stories.simpson(rows=1),
        lambda: hm.stories.paired(participants=2.5),
        lambda: hm.stories.regression_to_mean(selected=1.5),
        lambda: hm.stories.admissions(applicants=10),
    ],
)
def test_stories_refuse_what_tells_nothing(call):
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        call()
