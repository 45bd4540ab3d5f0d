"""check() of Bayesian fits in words: what it names, and that data from the model are not accused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from test_predictive_checks import SLOPE, longitudinal, words

import hiermod as hm
from hiermod.datasets import load_dataset
from hiermod.inference.predictive.bayesian_checks import level_slopes
from hiermod.model import Model


@pytest.fixture(scope="module")
def fit() -> Any:
    return Model(SLOPE, load_dataset("sleepstudy")).fit(random_seed=1)


def test_check_names_the_outlying_rows_of_sleepstudy_and_nothing_else(fit):
    told = words(fit)
    assert "3 rows lie further" in told
    assert told.index("row 56 (Subject 332)") < told.index("row 59 (Subject 332)") < told.index("row 7 (Subject 308)")
    assert "largest R-hat" in told
    assert "k-hat of the proposals" in told
    for other in ("differ from the data", "not uniform", "of the levels from their mean", "Pareto k above"):
        assert other not in told
    assert str(fit.check()) == str(fit.check())


def test_check_is_content_with_data_from_the_model():
    # false alarms in 150 sets of simulated sleepstudy data: docs/guide/model_checks.md; these three raise none
    for subjects, times, seed in ((20, 6, 1), (8, 4, 2), (60, 3, 3)):
        fit = Model("y ~ time + (1 | subject)", longitudinal(subjects, times, seed)).fit(random_seed=1, draws=500)
        assert "Simulated data look like the data in mean, sd, minimum" in words(fit)


def test_check_names_an_outlying_group():
    spoilt = Model("value ~ condition + (1 | participant)", load_dataset("outlier")).fit(random_seed=1)
    assert "Intercept of participant: 20 lies" in words(spoilt)


def test_check_names_a_group_whose_slope_is_another():
    frame = hm.designs.longitudinal(subjects=20, times=8)
    truth: dict[str, Any] = {"fixef": {"Intercept": 0, "time": 1}, "varcorr": {"1|subject": 1, "time|subject": 0.3}}
    d = hm.simulate("y ~ time + (time | subject)", frame, **truth, sigma=1.0, random_seed=1)
    level = d["subject"].iloc[0]
    d.loc[d["subject"] == level, "y"] += 5.0 * d["time"]
    told = words(Model("y ~ time + (time | subject)", d).fit(random_seed=1, draws=500))
    assert f"time of subject: {level} lies" in told


def test_coefficients_of_levels_are_least_squares():
    rng = np.random.default_rng(1)
    codes, x, y = np.array([2, 0, 2, 0, 2, 5]), rng.normal(3, 1, 6), rng.normal(size=(2, 6))
    levels, slopes = level_slopes(y, codes, x, centred=True)
    assert levels.tolist() == [0, 2]  # one row has no slope
    expected = [[np.polyfit(x[codes == j], one[codes == j], 1)[0] for j in (0, 2)] for one in y]
    np.testing.assert_allclose(slopes, expected, rtol=1e-10)
    levels, means = level_slopes(y, codes, np.ones(6), centred=False)
    np.testing.assert_allclose(means[1], [y[1, codes == j].mean() for j in (0, 2, 5)], rtol=1e-12)


def test_check_sees_skewed_responses():
    d = longitudinal(30, 6, 2)
    d["y"] = np.exp(d["y"] / 60.0)
    told = words(Model("y ~ time + (1 | subject)", d).fit(random_seed=1, draws=500))
    assert "Simulated data differ from the data in" in told
    assert "skewness" in told
    assert "logarithm" in told


def test_check_sees_counts_that_vary_too_much():
    frame = pd.DataFrame({"g": np.repeat(np.arange(20), 10).astype(str)})
    rng = np.random.default_rng(3)
    told = {}
    for name, y in (("poisson", rng.poisson(4.0, 200)), ("mixed", rng.poisson(rng.gamma(2.0, 2.0, 200)))):
        model = Model("y ~ 1 + (1 | g)", frame.assign(y=y), family="poisson")
        told[name] = words(hand_made(model, beta=[np.log(4.0)], spread=0.03, b=0.0))
    assert "dispersion" in told["mixed"]
    assert "negativebinomial" in told["mixed"]
    assert "differ from the data" not in told["poisson"]
    assert "Simulated data look like the data" in told["poisson"]
