"""Predictive checks against numpy, refits and dense algebra; false alarms and power on simulated data; check()."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from test_scores_exact import CASES, dense_log_p, prepare

import hiermod as hm
from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError
from hiermod.inference.assumptions.qq_bands import inside_probability, uniform_band
from hiermod.inference.predictive.loo_pit import LooPit, loo_pit
from hiermod.inference.predictive.predictive_checks import StatisticDraws, statistic_draws
from hiermod.inference.scores.held_out import held_out
from hiermod.inference.scores.row_laws import standardised
from hiermod.inference.scores.rows import row_units, take_rows
from hiermod.model import Model

SLOPE = "Reaction ~ Days + (Days | Subject)"
TRUTH: dict[str, Any] = {
    "fixef": {"Intercept": 250.0, "time": 10.0},
    "varcorr": {"1|subject": 25.0},
    "sigma": 25.0,
}


@pytest.fixture(scope="module")
def fit() -> Any:
    return Model(SLOPE, load_dataset("sleepstudy")).fit(random_seed=1)


def longitudinal(subjects: int, times: int, seed: int, df: float = np.inf) -> pd.DataFrame:
    """Random intercepts; residuals normal, or t with df degrees of freedom and the same sd."""
    frame = hm.designs.longitudinal(subjects=subjects, times=times)
    d = hm.simulate("y ~ time + (1 | subject)", frame, **TRUTH, random_seed=seed)
    if np.isfinite(df):
        quiet = hm.simulate("y ~ time + (1 | subject)", frame, **(TRUTH | {"sigma": 1e-9}), random_seed=seed)
        noise = np.random.default_rng(seed).standard_t(df, len(d)) * 25.0 / np.sqrt(df / (df - 2))
        d["y"] = quiet["y"] + noise
    return d


def words(fit: Any) -> str:
    return " ".join(str(section.body) for section in fit.check().sections)


# --- statistics ---------------------------------------------------------------------------------------------------
def test_the_table_is_numpys_on_the_fits_own_posterior_predictive(fit):
    table = fit.predictive_check(["sd", "max", "skew", "sd between Subject"], random_seed=4, level=0.9)
    new = fit.posterior_predictive(1000, random_seed=4).values.reshape(1000, -1)
    y, subject = fit.design.y, load_dataset("sleepstudy")["Subject"].astype(str).to_numpy()
    between = lambda values: pd.Series(values).groupby(subject).mean().std()  # noqa: E731
    expected = {
        "sd": lambda values: values.std(ddof=1),
        "max": np.max,
        "skew": stats.skew,
        "sd between Subject": between,
    }
    assert list(table.index) == list(expected)
    for name, function in expected.items():
        simulated = np.array([function(one) for one in new])
        row = table.loc[name]
        assert row["observed"] == pytest.approx(function(y), rel=1e-10)
        assert row["predicted"] == pytest.approx(simulated.mean(), rel=1e-10)
        assert row["p"] == (simulated > function(y)).mean()
        np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(simulated, [0.05, 0.95]), rtol=1e-10)
    assert table.attrs["draws"] == 1000
    assert "1000 simulated data sets, groups keep their effects" in repr(table)


def test_within_groups_and_with_functions_of_ones_own(fit):
    def spread(y: np.ndarray) -> float:
        return float(np.ptp(y))

    table = fit.predictive_check({"largest": np.max, "span": spread}, group="Subject", random_seed=1)
    named = fit.predictive_check(["max", spread], group="Subject", random_seed=1)
    assert table.index.names == ["statistic", "Subject"]
    assert len(table) == 36
    np.testing.assert_array_equal(table.to_numpy(), named.to_numpy())
    assert named.index.get_level_values(0).unique().tolist() == ["max", "spread"]
    assert table.loc[("largest", "332"), "observed"] == pytest.approx(454.1619)  # max(Reaction) of 332 in the data
    assert table.loc[("largest", "332"), "p"] < 0.01  # row 56, the outlier that lme4's users know
    by_day = fit.predictive_check("mean", group="Days", random_seed=1)
    assert by_day.index.get_level_values("Days").tolist() == [str(day) for day in range(10)]


def test_new_groups_vary_more(fit):
    kept = fit.predictive_check("mean", random_seed=1)
    anew = fit.predictive_check("mean", random_seed=1, target="new_group")
    width = lambda table: float((table["upper"] - table["lower"]).iloc[0])  # noqa: E731
    assert width(anew) > 3 * width(kept)  # sd 38 between 18 subjects: 2.2 * 38 / sqrt(18) against 26 / sqrt(180) ...


def test_ties_count_half_and_undefined_numbers_have_no_p():
    found = StatisticDraws(
        (("a",), ("b",)), np.array([1.0, np.nan]), np.array([[0.0, 1], [1, 1], [1, 1], [2, 1]]), None, "x"
    )
    np.testing.assert_array_equal(found.p, [0.5, np.nan])  # one above, two ties of four


def test_the_seed_decides(fit):
    tables = [fit.predictive_check("max", random_seed=seed)["p"].iloc[0] for seed in (1, 1, 2)]
    assert tables[0] == tables[1] != tables[2]


def test_bad_requests_say_what_to_do(fit):
    with pytest.raises(UnknownNameError, match="Did you mean 'median'"):
        fit.predictive_check("medain")
    with pytest.raises(ArgumentError, match="compares groups"):
        fit.predictive_check("sd between Subject", group="Subject")
    with pytest.raises(ArgumentError, match="must return one number"):
        fit.predictive_check(np.sort)
    with pytest.raises(ArgumentError, match="must be a function"):
        fit.predictive_check({"a": 3})
    with pytest.raises(ArgumentError, match="statistic is empty"):
        fit.predictive_check([])
    with pytest.raises(UnknownNameError, match="Did you mean 'Subject'"):
        fit.predictive_check(group="subject")
    with pytest.raises(ArgumentError, match="too many"):
        fit.predictive_check(group="Reaction")
    with pytest.raises(ArgumentError, match="'new_group'"):
        fit.predictive_check(target="new")
    with pytest.raises(ArgumentError, match="narrower"):
        fit.predictive_intervals(level=0.5, inner=0.8)
    with pytest.raises(UnsupportedError, match="need a Bayesian fit"):
        statistic_draws(Model(SLOPE, load_dataset("sleepstudy")).reml())  # type: ignore[arg-type]


def test_intervals_hold_their_share_of_new_data():
    d = longitudinal(40, 5, 3)
    fit = Model("y ~ time + (1 | subject)", d).fit(random_seed=1, draws=500)
    table = fit.predictive_intervals(random_seed=1)
    # fitted rows lie inside a little more often than 95 of 100: 200 rows, 41 parameters; 4 binomial sds below 0.95
    assert table["inside"].mean() > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 200)
    assert (table["lower"] < table["inner_lower"]).all()
    assert list(table.index) == list(d.index)
    means = fit.predictive_intervals("subject", random_seed=1)
    np.testing.assert_allclose(
        means["observed"], d.groupby(d["subject"].astype(str))["y"].mean()[means.index], rtol=1e-12
    )


# --- LOO-PIT ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_rows_are_standardised_as_the_dense_conditionals_are(name):
    """log p(y_i | rest) is a parabola in y_i: its slope and bend, from three exact values, give mean and sd."""
    design, density, phi = prepare(name)
    units = row_units(design, density)
    z, log_p, log_joint = standardised(density, units, phi)
    np.testing.assert_allclose(log_p, held_out(density, units, phi).log_p, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_joint, density.values(phi), rtol=1e-12)
    for i in (0, design.nobs - 1):
        step = float(design.y.std())
        for s in (1,):
            values = []
            for shift in (-step, 0.0, step):
                y = np.array(design.y)
                y[i] += shift
                values.append(dense_log_p(replace(design, y=y), density, phi[s], np.array([i])))
            slope, bend = (values[2] - values[0]) / (2 * step), (values[0] - 2 * values[1] + values[2]) / step**2
            # rtol: differences of numbers of order 10 that carry rounding of 1e-10
            assert z[s, i] == pytest.approx(-slope / np.sqrt(-bend), rel=1e-6, abs=1e-7)


def refitted_transform(fit: Any, i: int) -> tuple[float, float]:
    """Pr(new y_i <= y_i) and Pr(new y_i > y_i) by a refit without row i, priors kept; normal at each draw."""
    design = fit.design
    others = take_rows(design, np.setdiff1d(np.arange(design.nobs), [i]))
    record = sample_marginal(marginal_density(others, fit.priors), others, draws=1000, chains=4, random_seed=5)
    eta = record.beta @ design.X[i]
    for block, b in zip(design.blocks, record.b, strict=True):
        eta = eta + b[:, :, block.codes[i]] @ block.values[i]
    z = (design.y[i] - eta) / record.sigma
    return float(special.ndtr(z).mean()), float(special.ndtr(-z).mean())


def standardised_tail(fit: Any, i: int) -> float:
    """Pr(new y_i > y_i | the rest, phi) averaged over draws of phi that have seen row i."""
    density = marginal_density(fit.design, fit.priors)
    record = fit.record
    phi = record.unconstrained_draws(density.coordinates).reshape(-1, density.coordinates.d)
    z, _, _ = standardised(density, row_units(fit.design, density), phi)
    return float(special.ndtr(-z[:, i]).mean())


def test_loo_pit_is_what_refits_without_each_row_give():
    d = longitudinal(6, 5, 8)
    d.loc[d.index[3], "y"] += 250.0  # ten residual sds: Pareto k above 0.7, so a proposal of its own
    fit = Model("y ~ time + (1 | subject)", d).fit(random_seed=1)
    found, effects = fit.loo_pit(), fit.loo_pit(integrated=False)
    assert (found.estimator, effects.estimator) == ("integrated", "conditional")
    for i in (0, 3, 7, 12, 29):
        expected, upper = refitted_transform(fit, i)
        # 4,000 draws on either side, sd of the averaged probability below 0.2: 4 * 0.2 * sqrt(2 / 2000), ESS halved
        assert found.pit[i] == pytest.approx(expected, abs=0.025)
        assert i == 3 or abs(np.log10(found.upper[i] / upper)) < 0.15
        if effects.pareto_k[i] < 0.7:
            assert effects.pit[i] == pytest.approx(expected, abs=0.05)  # weights over effects too: fewer draws count
    # the outlier's tail, where the weights decide: without its row sigma is a third of what it is with it. Averages
    # over few draws of large sigma: half a decimal digit
    assert abs(np.log10(found.upper[3] / refitted_transform(fit, 3)[1])) < 0.5
    unweighted = standardised_tail(fit, 3)
    assert unweighted > 30 * found.upper[3]  # so that the comparison above can fail
    np.testing.assert_allclose(found.pit + found.upper, 1.0, rtol=1e-12)


def test_loo_pit_sees_heavy_tails_and_lets_normal_residuals_pass():
    normal = Model("y ~ time + (1 | subject)", longitudinal(60, 6, 1)).fit(random_seed=1, draws=500)
    heavy = Model("y ~ time + (1 | subject)", longitudinal(60, 6, 1, df=3)).fit(random_seed=1, draws=500)
    # in 150 sets of simulated sleepstudy data p fell below 0.05 once; with t(3) residuals below 0.01 in 37 of 60
    assert normal.loo_pit().p > 0.05
    assert heavy.loo_pit().p < 0.001
    assert "heavier tails" in str(heavy.loo_pit())
    assert "show no fault" in str(normal.loo_pit())


def pit_of(values: np.ndarray) -> LooPit:
    n = len(values)
    return LooPit(values, 1 - values, np.full(n, np.nan), pd.RangeIndex(n), "integrated", False)


def test_the_band_and_the_p_value_are_one_and_hold_five_in_a_hundred():
    rng = np.random.default_rng(2)
    sets = [pit_of(rng.random(30)) for _ in range(400)]
    p = np.array([one.p for one in sets])
    leaves = []
    for one in sets:
        band = one.ecdf(0.95)
        leaves.append(((band["difference"] < band["lower"]) | (band["difference"] > band["upper"])).any())
    np.testing.assert_array_equal(leaves, p < 0.05)
    assert abs(np.mean(p < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)  # exact: four binomial sds
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_p_beyond_500_rows_is_that_of_500():
    rng = np.random.default_rng(3)
    p = np.array([pit_of(rng.random(800)).p for _ in range(60)])
    assert abs(np.mean(p < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 60)
    for _ in range(3):
        one = pit_of(rng.random(800))
        i = np.arange(1, 801)
        law = stats.beta(i, 801 - i)
        needed = 2 * np.minimum(law.cdf(np.sort(one.pit)), law.sf(np.sort(one.pit))).min()
        # the local level of 800 follows that of 500 by its known rate, not exactly
        assert one.p == pytest.approx(1 - inside_probability(*uniform_band(800, needed)), abs=0.02)
    assert pit_of(np.sort(rng.random(800)) ** 2).p < 1e-6


def test_the_words_name_the_fault():
    u = (np.arange(200) + 0.5) / 200
    assert "above their predictions" in str(pit_of(np.sqrt(u)))
    assert "below their predictions" in str(pit_of(u**2))
    assert "wider than the data" in str(pit_of(stats.beta.ppf(u, 4, 4)))
    assert "too narrow" in str(pit_of(stats.beta.ppf(u, 0.4, 0.4)))


# --- counts through the graph -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def counts() -> Any:
    frame = pd.DataFrame({"g": np.repeat(np.arange(15), 8).astype(str), "x": np.tile(np.arange(8) - 3.5, 15)})
    d = hm.simulate(
        "y ~ x + (1 | g)", frame, {"Intercept": 1.0, "x": 0.1}, {"1|g": 0.5}, family="poisson", random_seed=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Model("y ~ x + (1 | g)", d, family="poisson").fit(draws=300, chains=2, random_seed=1, progressbar=False)


@pytest.mark.stack
def test_counts_have_checks_too(counts):
    kept = counts.posterior_predictive(random_seed=9).values
    table = counts.predictive_check(random_seed=1, draws=200)
    np.testing.assert_array_equal(versions.group_dataset(counts.idata, "posterior_predictive")["y"].values, kept)
    assert list(table.index) == ["mean", "sd", "max", "zeros", "dispersion", "sd between g"]
    assert table["p"].between(0.005, 0.995).all()  # simulated from this model
    found = loo_pit(counts)
    assert (found.estimator, found.discrete) == ("simulated", True)
    assert found.p > 0.01
    np.testing.assert_array_equal(found.pit, loo_pit(counts).pit)
    # Pr(new < y) <= pit <= Pr(new <= y), but for the smoothing of weights and a draw's share
    new = counts.posterior_predictive().values.reshape(-1, 120)
    y = counts.design.y
    assert (found.pit > (new < y).mean(axis=0) - 0.15).all()
    assert (found.pit < (new <= y).mean(axis=0) + 0.15).all()
    assert "dispersion" in words(counts)


@pytest.mark.stack
def test_checks_leave_idata_as_it_is():
    d = longitudinal(6, 5, 8)
    fit = Model("y ~ time + (1 | subject)", d).fit(random_seed=1, draws=200)
    kept = fit.posterior_predictive(random_seed=9).values
    fit.predictive_check(random_seed=1)
    fit.check()
    group = fit.idata["posterior_predictive"]
    np.testing.assert_array_equal(group["y"].values, kept)
