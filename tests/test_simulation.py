"""Simulated data have the law asked for; designs have the shape they name; impossible parameters are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, FormulaError, UnknownNameError
from hiermod.study.simulation import simulator

SLEEP = {
    "fixef": {"Intercept": 250.0, "Days": 10.0},
    "varcorr": {"1|Subject": 25.0, "Days|Subject": 6.0, "Subject_corr": 0.3},
    "sigma": 25.0,
}
FORMULA = "Reaction ~ Days + (Days | Subject)"


def rows(**changes: object) -> pd.DataFrame:
    d = hm.load_dataset("sleepstudy")[["Days", "Subject"]].assign(w=np.tile([1.0, 4.0], 90))
    return d.assign(**changes)


def test_the_response_has_the_mean_and_covariance_of_the_model():
    """Of 20,000 responses: means within 4.5 standard errors, a subject's covariance (10, 10) within 4.5 of its own
    (for normal data an entry's is sqrt((c_ii c_jj + c_ij^2) / n))."""
    made = simulator(FORMULA, rows(), **SLEEP)
    rng, n = np.random.default_rng(1), 20_000
    y = np.array([made.response(rng) for _ in range(n)])
    days = np.arange(10.0)
    Z = np.column_stack([np.ones(10), days])
    cov = np.array([[625.0, 0.3 * 25 * 6], [0.3 * 25 * 6, 36.0]])
    V = Z @ cov @ Z.T + 625 * np.eye(10)
    own = y[:, :10]
    assert np.abs((own.mean(axis=0) - 250 - 10 * days) / np.sqrt(np.diag(V) / n)).max() < 4.5
    spread = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / n)
    assert np.abs((np.cov(own.T) - V) / spread).max() < 4.5
    between = np.cov(own[:, 9], y[:, 19])[0, 1]  # two subjects: independent
    assert abs(between) < 4.5 * V[9, 9] / np.sqrt(n)


def test_weights_and_known_sds_scale_the_noise():
    frame = rows(s=np.tile([1.0, 3.0], 90))
    quiet = {"1|Subject": 0.0}
    for options, expected in (({"weights": "w", "sigma": 2.0}, (2.0, 1.0)), ({"se": "s"}, (1.0, 3.0))):
        made = simulator("Reaction ~ 1 + (1 | Subject)", frame, {"Intercept": 0.0}, quiet, **options)
        y = np.array([made.response(np.random.default_rng(seed)) for seed in range(200)]).reshape(200, 90, 2)
        # 18,000 normal numbers each: the sd's own standard error is sd / sqrt(36,000), 0.5 %
        assert y.std(axis=(0, 1)) == pytest.approx(expected, rel=0.025)


def test_the_same_seed_gives_the_same_data_and_the_frame_given_is_untouched():
    frame = rows()
    a, b = (hm.simulate(FORMULA, frame, random_seed=3, **SLEEP) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert "Reaction" not in frame.columns
    assert not a["Reaction"].equals(hm.simulate(FORMULA, frame, random_seed=4, **SLEEP)["Reaction"])


def test_truth_has_the_names_of_a_fit():
    d = hm.simulate(FORMULA, rows(), random_seed=1, **SLEEP)
    assert d.attrs["truth"] == pytest.approx(
        {
            "Intercept": 250.0,
            "Days": 10.0,
            "1|Subject_sigma": 25.0,
            "Days|Subject_sigma": 6.0,
            "Subject_corr[Intercept,Days]": 0.3,
            "sigma": 25.0,
        },
        rel=1e-12,
    )
    assert list(d.attrs["truth"]) == list(hm.Model(FORMULA, d).reml().parameters().index)


def test_the_tables_of_a_fit_are_accepted():
    """Simulating from a fit's own tables is the model of fit.simulate: the truth is its estimates."""
    fit = hm.Model(FORMULA, hm.load_dataset("sleepstudy")).reml()
    d = hm.simulate(FORMULA, rows(), fit.fixef(), fit.varcorr(), fit.sigma, random_seed=1)
    assert list(d.attrs["truth"].values()) == pytest.approx(fit.parameters()["estimate"].tolist(), rel=1e-10)
    with pytest.raises(ArgumentError, match="another formula"):
        hm.simulate("Reaction ~ Days + (1 | Subject)", rows(), fit.fixef(), fit.varcorr(), fit.sigma)


def test_generalised_responses():
    """3,000 rows a cell without group effects: proportions and rates within 4.5 standard errors of the inverse link."""
    frame = pd.DataFrame({"x": np.repeat([0.0, 1.0], 3000), "n": 5, "g": np.tile(["a", "b"], 3000)})
    beta, none = {"Intercept": -1.0, "x": 1.5}, {"1|g": 0.0}
    p = 1 / (1 + np.exp(-np.array([-1.0, 0.5])))
    d = hm.simulate("y ~ x + (1 | g)", frame, beta, none, family="bernoulli", random_seed=1)
    assert d.groupby("x")["y"].mean().to_numpy() == pytest.approx(p, abs=4.5 * 0.5 / np.sqrt(3000))
    d = hm.simulate("p(k, n) ~ x + (1 | g)", frame, beta, none, family="binomial", random_seed=1)
    assert d.groupby("x")["k"].mean().to_numpy() == pytest.approx(5 * p, abs=4.5 * np.sqrt(1.25 / 3000))
    assert set(d["k"]) <= set(range(6))
    d = hm.simulate("y ~ x + (1 | g)", frame, beta, none, family="poisson", random_seed=1)
    rate = np.exp([-1.0, 0.5])
    assert d.groupby("x")["y"].mean().to_numpy() == pytest.approx(rate, abs=4.5 * np.sqrt(rate[1] / 3000))


def test_further_parameters_of_a_family():
    """6,000 rows: means within 4.5 standard errors of the law's (Bambi's parametrisation: var = mu + mu^2 / alpha)."""
    frame = pd.DataFrame({"g": np.tile(["a", "b"], 3000)})
    beta, none = {"Intercept": 1.0}, {"1|g": 0.0}
    d = hm.simulate(
        "y ~ 1 + (1 | g)", frame, beta, none, family="negativebinomial", auxiliary={"alpha": 2.0}, random_seed=1
    )
    mu = np.exp(1.0)
    variance = mu + mu**2 / 2
    assert d["y"].mean() == pytest.approx(mu, abs=4.5 * np.sqrt(variance / 6000))
    assert d["y"].var() == pytest.approx(variance, rel=0.2)
    assert d.attrs["truth"]["alpha"] == 2.0
    cuts = {"threshold": [-1.0, 1.0]}
    d = hm.simulate("y ~ 0 + x + (1 | g)", frame.assign(x=0.0), {"x": 1.0}, none, family="bernoulli", random_seed=1)
    assert d["y"].mean() == pytest.approx(0.5, abs=4.5 * 0.5 / np.sqrt(6000))
    x = frame.assign(x=np.repeat([0.0, 1.0], 3000))
    d = hm.simulate("y ~ x + (1 | g)", x, {"x": 1.0}, none, family="cumulative", auxiliary=cuts, random_seed=1)
    below = 1 / (1 + np.exp(-(np.array([-1.0, 1.0])[None, :] - np.array([0.0, 1.0])[:, None])))
    expected = np.diff(np.column_stack([np.zeros(2), below, np.ones(2)]), axis=1)
    found = pd.crosstab(d["x"], d["y"], normalize="index")
    assert list(found.columns) == [1, 2, 3]
    assert found.to_numpy() == pytest.approx(expected, abs=4.5 * 0.5 / np.sqrt(3000))


@pytest.mark.parametrize(
    ("auxiliary", "error", "words"),
    [
        (None, ArgumentError, "needs alpha"),
        ({"alpha": -1.0}, ArgumentError, "above 0"),
        ({"alpha": 1.0, "psi": 0.5}, UnknownNameError, "no parameter 'psi'"),
    ],
)
def test_further_parameters_are_checked(auxiliary, error, words):
    frame = pd.DataFrame({"g": np.tile(["a", "b"], 30)})
    with pytest.raises(error, match=words):
        hm.simulate(
            "y ~ 1 + (1 | g)", frame, {"Intercept": 1.0}, {"1|g": 0.0}, family="negativebinomial", auxiliary=auxiliary
        )


def test_matrices_and_single_correlations():
    frame = hm.designs.within(subjects=6, levels=["a", "b", "c"], repeats=2)
    fixef = {"Intercept": 0.0, "condition[b]": 1.0, "condition[c]": 2.0}
    sds = {"1|subject": 1.0, "condition|subject[b]": 2.0, "condition|subject_sigma[c]": 3.0}
    matrix = [[1, 0.5, 0.2], [0.5, 1, 0.1], [0.2, 0.1, 1]]
    whole = simulator("y ~ condition + (condition | subject)", frame, fixef, sds | {"subject_corr": matrix}, 1.0)
    single = {
        "subject_corr[condition[b],Intercept]": 0.5,
        "subject_corr[Intercept,condition[c]]": 0.2,
        "subject_corr[condition[b],condition[c]]": 0.1,
    }
    parts = simulator("y ~ condition + (condition | subject)", frame, fixef, sds | single, 1.0)
    expected = np.outer([1, 2, 3], [1, 2, 3]) * np.array(matrix)
    for made in (whole, parts):
        assert made.roots[0] @ made.roots[0].T == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fixef": {"Intercept": 1.0}}, ArgumentError, "missing: Days"),
        ({"fixef": {"Intercept": 1.0, "Dys": 2.0}}, UnknownNameError, "Did you mean 'Days'"),
        ({"fixef": [1.0, 2.0]}, ArgumentTypeError, "dict of coefficients"),
        ({"varcorr": {"1|Subject": 1.0}}, ArgumentError, r"'Days\|Subject'"),
        ({"varcorr": SLEEP["varcorr"] | {"Days|Subject": -1.0}}, ArgumentError, "at least 0"),
        ({"varcorr": SLEEP["varcorr"] | {"Subject_cor": 0.1}}, UnknownNameError, "Did you mean 'Subject_corr'"),
        ({"varcorr": SLEEP["varcorr"] | {"Subject_corr": 1.5}}, ArgumentError, "eigenvalue|outside"),
        ({"varcorr": SLEEP["varcorr"] | {"Subject_corr": np.eye(3)}}, ArgumentError, "2, 2"),
        ({"sigma": None}, ArgumentError, "residual sd"),
        ({"sigma": -1.0}, ArgumentError, "at least 0"),
    ],
)
def test_impossible_parameters_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        hm.simulate(FORMULA, rows(), **(SLEEP | change))


def test_a_two_level_factors_slope_may_go_by_the_factor_alone():
    frame = hm.designs.within(subjects=6, repeats=2)
    fixef = {"Intercept": 0.0, "condition[treatment]": 1.0}
    for name in ("condition|subject", "condition|subject_sigma", "condition|subject[treatment]"):
        made = simulator("y ~ condition + (condition | subject)", frame, fixef, {"1|subject": 1.0, name: 2.0}, 1.0)
        assert made.truth()["condition|subject_sigma[treatment]"] == pytest.approx(2.0)


def test_correlations_impossible_together():
    frame = hm.designs.within(subjects=6, levels=["a", "b", "c"], repeats=2)
    corr = [[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]]
    sds = {"1|subject": 1.0, "condition|subject[b]": 2.0, "condition|subject[c]": 3.0, "subject_corr": corr}
    fixef = {"Intercept": 0.0, "condition[b]": 1.0, "condition[c]": 2.0}
    with pytest.raises(ArgumentError, match="impossible together"):
        hm.simulate("y ~ condition + (condition | subject)", frame, fixef, sds, 1.0)


def test_responses_that_are_more_than_a_name():
    with pytest.raises(FormulaError, match="name of a column"):
        hm.simulate("log(Reaction) ~ Days + (Days | Subject)", rows(), **SLEEP)
    with pytest.raises(FormulaError, match="binomial"):
        hm.simulate("p(Reaction, w) ~ Days + (Days | Subject)", rows(), **SLEEP)
    with pytest.raises(ArgumentError, match="family 'poisson' has none"):
        hm.simulate(FORMULA, rows(), family="poisson", **SLEEP)


# --- designs ----------------------------------------------------------------------------------------------------------
def test_designs_have_the_rows_and_crossings_they_name():
    d = hm.designs.between(subjects=10, levels=["a", "b", "c"], repeats=2)
    assert len(d) == 20
    assert (d.groupby("subject", observed=True)["condition"].nunique() == 1).all()
    d = hm.designs.within(subjects=4, levels=["a", "b", "c"], repeats=2)
    assert (d.groupby(["subject", "condition"], observed=True).size() == 2).all()
    assert len(d) == 24
    d = hm.designs.crossed(subjects=6, items=4, assign="latin-square")
    assert (d.groupby(["subject", "item"], observed=True).size() == 1).all()
    assert (d.groupby(["subject", "condition"], observed=True).size() == 2).all()
    assert (d.groupby(["item", "condition"], observed=True).size() == 3).all()
    by_item = hm.designs.crossed(subjects=6, items=4, assign="item")
    assert (by_item.groupby("item", observed=True)["condition"].nunique() == 1).all()
    d = hm.designs.nested({"school": 3, "room": 2, "pupil": 5})
    assert d.groupby(["school", "room"], observed=True).size().tolist() == [5] * 6
    assert hm.Model("y ~ 1 + (1 | school/room)", d.assign(y=np.arange(30.0))).spec.ngroups == {
        "school": 3,
        "school:room": 6,
    }
    assert all(isinstance(d[name].dtype, pd.CategoricalDtype) for name in d)


@pytest.mark.parametrize(
    "call",
    [
        lambda: hm.designs.between(subjects=0),
        lambda: hm.designs.within(subjects=2.5),
        lambda: hm.designs.within(levels="ab"),
        lambda: hm.designs.within(levels=["a", "a"]),
        lambda: hm.designs.crossed(assign="both"),
        lambda: hm.designs.longitudinal(times=[0.0, np.inf]),
        lambda: hm.designs.longitudinal(times=True),
        lambda: hm.designs.nested({"school": 3}),
    ],
)
def test_designs_refuse_what_makes_no_design(call):
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        call()
