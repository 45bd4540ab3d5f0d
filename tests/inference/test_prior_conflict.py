"""What is called a prior-data conflict: simulated sets with priors that are right and wrong, and the test behind it.

The full table, 100 sets for each of many designs, is benchmarks/prior_conflict.py."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import hiermod as hm
from hiermod.inference.priors_and_reml.conflict import blurred_conflict_p, conflict_p
from hiermod.inference.priors_and_reml.tail_tests import Estimate, Marginal, estimates_of, holm, tail_tests
from hiermod.inference.priors_and_reml.verdicts import CONFLICT, DATA, DECIDES, MEANING, SAY, by_power, by_weight
from hiermod.model import Model
from hiermod.priors.lkj import lkj_marginal

FORMULA = "y ~ time + (time | subject)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
TRUTH: dict[str, Any] = {
    "fixef": {"Intercept": 250, "time": 10},
    "varcorr": {"1|subject": 25, "time|subject": 6},
    "sigma": 25,
}


def conflicts(priors: dict[str, str], seed: int, subjects: int = 18) -> list[str]:
    frame = hm.designs.longitudinal(subjects=subjects, times=10)
    data = hm.simulate(FORMULA, frame, **TRUTH, random_seed=seed)
    found = Model(FORMULA, data, priors=priors).fit(draws=250, random_seed=seed).prior_sensitivity()["verdict"]
    return list(found.index[found == CONFLICT])


# --- false alarms and detections --------------------------------------------------------------------------------------


STRONG = {"time": "Normal(10, 1)", "1|subject": "LogNormal(3.22, 0.15)", "sigma": "LogNormal(3.22, 0.05)"}


@pytest.mark.parametrize(
    ("priors", "seeds"),
    [({"subject_corr": "LKJ(2)"}, (7, 18, 30)), (STRONG, (1, 2, 3, 4))],
    ids=["default", "strong and right"],
)
def test_priors_that_are_right_are_not_called_a_conflict(priors, seeds):
    """Sets in which prior and likelihood both move a posterior, by more than 0.05: once called a conflict, all of them.

    The chance that the test finds a conflict in one of these sets is at most 0.05."""
    assert [conflicts(priors, seed) for seed in seeds] == [[]] * len(seeds)


@pytest.mark.parametrize(
    ("key", "prior", "row"),
    [
        ("time", "Normal(23, 1)", "time"),  # 7 sds of prior and estimate together
        ("1|subject", "LogNormal(5.2, 0.15)", "1|subject_sigma"),
        ("time|subject", "LogNormal(3.6, 0.15)", "time|subject_sigma"),
        ("sigma", "LogNormal(3.76, 0.05)", "sigma"),
        ("Intercept", "Normal(500, 5)", "Intercept"),
    ],
)
def test_a_prior_seven_sds_off_is_called_a_conflict(key, prior, row):
    assert row in conflicts({key: prior}, 1)


# --- one thing, one word ----------------------------------------------------------------------------------------------


@cache
def three(**priors: str) -> tuple[Any, Any, Any]:
    m = Model(SLEEP, hm.load_dataset("sleepstudy"), priors=priors)
    fit, reml = m.fit(random_seed=1), m.reml()
    return fit.prior_sensitivity(), m.prior_predictive(50, 1).against(reml), hm.agreement(fit, reml)


def test_a_prior_of_the_intercept_is_tested_where_it_was_stated():
    """mean(y) = 298.5 under Normal(350, 5) at the mean of Days: at Days = 0 the slope's wide prior would hide it.

    It has won: no power of it moves the posterior by what counts, which is 3 standard errors from REML."""
    sensitivity, against, agreement = three(Intercept="Normal(350, 5)")
    assert sensitivity.loc["Intercept", "prior"] < 0.05
    for table in (sensitivity, against, agreement):
        assert table.index[table["verdict"] == CONFLICT].tolist() == ["Intercept"]
    row = against.loc["Intercept"]
    z = (298.507892 - 350) / 5  # sleepstudy's mean, where a balanced design has its intercept
    assert row["conflict_p"] == pytest.approx(2 * stats.norm.sf(-z), rel=1e-4)
    assert row["prior_upper"] > 500  # what is shown is the formula's intercept
    assert "REML's 298.5 at the predictors' means is a surprise" in row["words"]
    assert "340.2 to 359.8" in row["words"]


def test_it_is_said_which_prior_moves_what():
    sensitivity, _, agreement = three(Days="Normal(30, 3)")
    assert sensitivity.loc["Days|Subject_sigma", ["verdict", "moved_by"]].tolist() == [SAY, "Days"]
    assert sensitivity.loc["Days", "moved_by"] == "Days"
    assert sensitivity.loc["sigma", "moved_by"] == ""
    assert "prior-data conflict in Days" in sensitivity.loc["Days|Subject_sigma", "words"]
    alone = sensitivity.attrs["by_prior"]["Days|Subject_sigma"]
    assert max(alone, key=alone.get) == "Days"
    assert agreement.loc["Days|Subject_sigma", "verdict"] == SAY
    assert "the prior of Days: prior-data conflict in Days" in agreement.loc["Days|Subject_sigma", "words"]
    assert any("Days|Subject_sigma (the prior of Days)" in one for one in sensitivity.attrs["sentences"])


def test_a_strong_prior_that_is_right_has_one_word():
    for table in three(Days="Normal(10, 0.3)"):
        assert table.loc["Days", "verdict"] == DECIDES


def test_check_and_report_use_the_word_too():
    data = hm.load_dataset("sleepstudy")
    fit = Model(SLEEP, data, priors={"Days": "Normal(30, 3)"}).fit(random_seed=1, draws=250)
    assert "Prior-data conflict in Days (p < 0.0001)" in str(fit.check())
    assert "Prior-data conflict in Days (p < 0.0001)" in str(fit.report())
    fit = Model(SLEEP, data).fit(random_seed=1, draws=250)
    assert "onflict" not in str(fit.check()) + str(fit.report())


def test_the_words_stand_in_the_guide_as_in_the_code():
    page = (Path(__file__).parents[2] / "docs" / "guide" / "prior_sensitivity.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([a-z -]+) \| ([^|]+) \|", page, flags=re.MULTILINE))
    assert {word: table.get(word) for word in MEANING} == MEANING


def test_words_of_weights_and_powers():
    assert [by_weight(0.1, 0.1), by_weight(0.1, -0.4), by_weight(0.6, 0.0)] == [DATA, SAY, DECIDES]
    assert by_weight(0.1, 3.0, conflict=True) == CONFLICT
    assert [by_power(0.04, 0.2, 0.05), by_power(0.06, 0.2, 0.05), by_power(0.09, 0.01, 0.05)] == [DATA, SAY, DECIDES]
    assert by_power(0.04, 0.2, 0.05, conflict=True) == CONFLICT


# --- the test ---------------------------------------------------------------------------------------------------------


def test_holms_procedure():
    """By hand: 0.01 < 0.05 / 4, 0.015 < 0.05 / 3, 0.03 > 0.05 / 2; the fourth has no p."""
    assert holm({"a": 0.015, "b": 0.03, "c": 0.01}, 4, 0.05) == {"a", "c"}
    assert holm({"a": 0.03, "b": 0.04}, 2, 0.05) == set()


@pytest.mark.parametrize("df", [4.0, 17.0, np.inf])
def test_the_error_has_its_degrees_of_freedom(df):
    """2 P(Z + t > 4) by quadrature; a normal error would be too sure of few groups.  3 %: the grid."""
    u = np.linspace(-200, 200, 400_001)
    density = stats.norm.pdf(u) if np.isinf(df) else stats.t.pdf(u, df)
    expected = 2 * np.trapezoid(stats.norm.sf(4 - u) * density, u)
    assert blurred_conflict_p(stats.norm(), 4.0, 1.0, df=df) == pytest.approx(expected, rel=0.03)


def test_quantiles_that_do_not_converge_far_out_are_no_matter():
    """As some of a beta's do in scipy 1.14, which warns."""

    class Beta:
        """Beta(4, 4), whose quantiles below 1e-100 are nan with a warning."""

        def __getattr__(self, name: str) -> Any:
            return getattr(stats.beta(4, 4), name)

        def _quantile(self, q: Any, values: Any) -> Any:
            warnings.warn("Root finding evaluation exceeded 400 iterations", RuntimeWarning, stacklevel=2)
            return np.where(np.asarray(q) < 1e-100, np.nan, values)

        def ppf(self, q: Any) -> Any:
            return self._quantile(q, stats.beta(4, 4).ppf(np.maximum(q, 1e-100)))

        def isf(self, q: Any) -> Any:
            return self._quantile(q, stats.beta(4, 4).isf(np.maximum(q, 1e-100)))

    # symmetric about 0.5: both tails
    assert conflict_p(Beta(), 0.2) == pytest.approx(2 * stats.beta(4, 4).cdf(0.2), rel=1e-9)


def test_a_correlation_is_blurred_on_fishers_scale():
    """P of estimates as far out as 0.9 when LKJ(2) is right and Fisher's z has an error of 0.5, from a million draws.

    On the correlation's own scale the error at 0.9 is 0.095, and three in a hundred would seem to be so far out."""
    law = lkj_marginal(2.0, 2)
    rng = np.random.default_rng(1)
    z = np.arctanh(law.rvs(1_000_000, random_state=rng)) + 0.5 * rng.standard_normal(1_000_000)
    expected = (np.abs(z) >= np.arctanh(0.9)).mean()
    marginal = Marginal("r", "corr", law, np.empty(0))
    assert marginal.blurred(0.9, 0.5 * (1 - 0.9**2)) == pytest.approx(expected, rel=0.03)
    assert expected > 0.05


def test_the_sd_of_a_generalised_model_has_no_error_and_a_profile_instead():
    """cbpp: ML's sd is 0.64, its profile interval 0.35 to 1.1 (lme4: confint of glmer).  A sharp prior inside is none,
    one outside is a conflict; without any error a prior of sd 0.02 at 0.8 would seem to be one too."""
    ml = Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial").ml()
    at = estimates_of(ml)["1|herd_sigma"]
    assert np.isnan(at.error)

    def found(median: float) -> bool:
        prior = Marginal("1|herd_sigma", "sd", stats.lognorm(0.02, scale=median), np.empty(0))
        return tail_tests({"1|herd_sigma": (prior, at)}, ml)["1|herd_sigma"].conflict

    assert not found(0.8)
    assert found(3.0)


def test_without_an_error_there_is_no_conflict():
    reml = Model("Reaction ~ Days", hm.load_dataset("sleepstudy")).reml()
    prior = Marginal("Days", "fixed", stats.norm(), np.empty(0))
    assert not tail_tests({"Days": (prior, Estimate(10.0))}, reml)["Days"].conflict
    assert tail_tests({"Days": (prior, Estimate(10.0, 1.0))}, reml)["Days"].conflict
