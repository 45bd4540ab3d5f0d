"""Assumptions: standardised residuals and effects, bands, simulated residuals, the words of check() and the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from family_cases import made_up
from hand_made import hand_made
from scipy import stats

from hiermod import plots
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.fits.frequentist import FrequentistFit
from hiermod.inference.assumptions import assumption_text
from hiermod.inference.assumptions.assumption_tables import (
    qq_points,
    residual_points,
    residuals_within_groups,
    spread_test,
    standardised_effects,
    standardised_residuals,
)
from hiermod.inference.assumptions.lowess import lowess
from hiermod.inference.assumptions.qq_bands import inside_probability, local_level, uniform_band
from hiermod.inference.assumptions.quantile_residuals import ranks, uniform_distance
from hiermod.model import Model


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep() -> FrequentistFit:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()


def counts(seed: int, groups: int = 30, rows: int = 10, noise: float = 0.0) -> pd.DataFrame:
    """Poisson counts in groups; noise: sd of a row's own effect, which is overdispersion."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=groups * rows)
    eta = 1.0 + 0.3 * x + 0.5 * rng.normal(size=groups)[g] + noise * rng.normal(size=len(g))
    return pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g.astype(str)})


# --- numbers ----------------------------------------------------------------------------------------------------------
def test_standard_deviations_are_those_of_dense_algebra() -> None:
    d = load_dataset("sleepstudy")
    fit = Model("Reaction ~ Days + (Days | Subject)", d, weights=np.linspace(0.5, 2, 180)).reml()
    record, design = fit.record, fit.design
    Z, G = [], []
    for block, cov in zip(design.blocks, record.covariance, strict=True):
        z = np.zeros((fit.nobs, len(block.levels), block.size))
        z[np.arange(fit.nobs), block.codes] = block.values
        Z.append(z.reshape(fit.nobs, -1))
        G.append(np.kron(np.eye(len(block.levels)), cov))
    V = np.diag(record.sigma**2 / design.weights) + sum(z @ g @ z.T for z, g in zip(Z, G, strict=True))
    P = np.linalg.inv(V)
    P = P - P @ design.X @ np.linalg.solve(design.X.T @ P @ design.X, design.X.T @ P)
    R = np.diag(record.sigma**2 / design.weights)
    # e = R P y, b = G Z'P y with P V P = P, so Var(e) = R P R and Var(b) = G Z'P Z G; 1e-7: dense V is ill-conditioned
    expected = fit.residuals().to_numpy() / np.sqrt(np.diag(R @ P @ R))
    found = standardised_residuals(fit)
    assert found.to_numpy() == pytest.approx(expected, rel=1e-7)
    assert found.attrs["df"] == pytest.approx(np.trace(P @ R), rel=1e-8)
    for z, g, block in zip(Z, G, design.blocks, strict=True):
        table = standardised_effects(fit, block.factor)
        assert table["sd"].to_numpy() == pytest.approx(np.sqrt(np.diag(g @ z.T @ P @ z @ g)), rel=1e-6)
        assert table["reliability"].to_numpy() == pytest.approx(np.diag(g @ z.T @ P @ z @ g) / np.diag(g), rel=1e-6)
        assert table["standardised"].to_numpy() == pytest.approx((table["estimate"] / table["sd"]).to_numpy())


def test_linear_models_have_rs_standardised_residuals() -> None:
    d = load_dataset("mtcars").set_index("model")
    # R: rstandard(lm(mpg ~ wt + hp, mtcars))["Chrysler Imperial"]; from rstandard = e / (s sqrt(1 - h)) with the same
    # fit's Cook's distance 0.423610901624 and hat value 0.186487208886: sqrt(3 D (1 - h) / h)
    expected = np.sqrt(3 * 0.423610901624 * (1 - 0.186487208886) / 0.186487208886)
    for fit in (Model("mpg ~ wt + hp", d).reml(), Model("mpg ~ wt + hp", d).ml()):
        assert standardised_residuals(fit)["Chrysler Imperial"] == pytest.approx(expected, rel=1e-9)


def test_a_posterior_gives_nearly_the_same(sleep: FrequentistFit) -> None:
    bayes = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).fit(random_seed=1)
    one, other = standardised_residuals(bayes), standardised_residuals(sleep)
    assert np.abs(one - other).max() < 0.5  # of standard deviations; priors and averaging over sigma move them a little
    assert np.corrcoef(one, other)[0, 1] > 0.99
    assert list(qq_points(bayes)["label"][[0, 1, 179]]) == [59, 7, 56]
    effects, reml = standardised_effects(bayes), standardised_effects(sleep)
    assert np.corrcoef(effects["standardised"], reml["standardised"])[0, 1] > 0.98
    assert np.abs(effects["reliability"] - reml["reliability"]).max() < 0.2


def test_bands_hold_all_points_as_often_as_they_say() -> None:
    # n = 2 in closed form: P(l1 <= U(1) <= u1, l2 <= U(2) <= u2) = 2 area{(a, b): a < b} = 2 (0.5 * 0.6 - 0.3^2 / 2)
    assert inside_probability(np.array([0.1, 0.3]), np.array([0.6, 0.9])) == pytest.approx(0.51, abs=1e-9)
    assert inside_probability(np.zeros(3), np.ones(3)) == pytest.approx(1.0)
    lower, upper = uniform_band(1, 0.05)
    assert (float(lower[0]), float(upper[0]), local_level(1, 0.95)) == pytest.approx((0.025, 0.975, 0.05))
    samples = np.sort(np.random.default_rng(1).random((20_000, 40)), axis=1)
    for level in (0.5, 0.95):
        lower, upper = uniform_band(40, local_level(40, level))
        kept = ((samples >= lower) & (samples <= upper)).all(axis=1).mean()
        assert kept == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 20_000))  # 4 Monte Carlo errors
    # Beyond 500 values the level follows a known rate; computed exactly (with EXACT raised): 9.12870e-4 and 6.96934e-4
    assert local_level(2000, 0.95) == pytest.approx(9.12870e-4, rel=0.01)
    assert local_level(8000, 0.95) == pytest.approx(6.96934e-4, rel=0.01)


def test_lowess_is_rs() -> None:
    d = load_dataset("mtcars")
    x, curve = lowess(d["wt"].to_numpy(), d["mpg"].to_numpy())
    # R: lowess(mtcars$wt, mtcars$mpg, f = 2/3, iter = 3, delta = 0)
    places, expected = [1.513, 2.770, 3.440, 5.424], [31.5070929161, 21.2912989325, 17.8560245209, 11.4782862971]
    assert np.interp(places, x, curve) == pytest.approx(expected, rel=1e-9)
    many = np.random.default_rng(1).normal(size=5000)
    x, curve = lowess(many, 2 * many)
    assert len(x) <= 200
    assert curve == pytest.approx(2 * x, abs=1e-9)  # a line is its own smooth
    assert lowess(np.array([1.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))[1].tolist() == [2.0, 5.0]


def test_the_spread_test_knows_how_many_residuals_are_free() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.normal(size=8) for _ in range(5)]
    assert spread_test(parts) == pytest.approx(stats.levene(*parts, center="median").pvalue, rel=1e-12)
    # Every value twice tells nothing new: with share 1/2 F and its degrees of freedom are those of the half
    doubled = [np.concatenate([part, part]) for part in parts]
    assert spread_test(doubled, share=0.5) == pytest.approx(spread_test(parts), rel=1e-9)
    assert np.isnan(spread_test(parts[:1]))


def test_residuals_within_groups(sleep: FrequentistFit) -> None:
    table = residuals_within_groups(sleep, "Subject")
    mine = standardised_residuals(sleep)[sleep.design.frame["Subject"].to_numpy() == "332"]
    row = table.loc["332"]
    assert row[["min", "q1", "median", "q3", "max"]].to_numpy() == pytest.approx(
        np.quantile(mine, [0, 0.25, 0.5, 0.75, 1])
    )
    assert (row["rows"], row["mean"], row["sd"]) == pytest.approx((10, mine.mean(), mine.std(ddof=1)))
    assert 0 < table.attrs["spread_p"] < 1


# --- simulated residuals ----------------------------------------------------------------------------------------------
def test_ranks_are_uniform_and_break_ties_at_random() -> None:
    rng = np.random.default_rng(4)
    together = rng.poisson(0.5, size=(4000, 21)).astype(float)  # mostly ties
    found = ranks(together, rng)
    assert (np.sort(np.floor(found * 21), axis=1) == np.arange(21)).all()  # a permutation in every row
    assert stats.kstest(found[:, 0], "uniform").pvalue > 1e-4
    assert ((together[:, :1] < together) <= (found[:, :1] < found)).all()
    assert uniform_distance(found[:, :1])[0] == pytest.approx(stats.kstest(found[:, 0], "uniform").statistic)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_true_model_passes(conditional: bool) -> None:
    model = Model("y ~ x + (1 | g)", counts(1), family="poisson")
    found = model.ml().simulated_residuals(random_seed=1, conditional=conditional)
    assert (found.tests()["p"] > 0.05).all()
    assert found.residuals.between(0, 1).all()
    assert "None of the tests" in str(found)
    again = model.ml().simulated_residuals(random_seed=1, conditional=conditional)
    assert (again.scaled == found.scaled).all()


def test_overdispersion_is_seen() -> None:
    model = Model("y ~ x + (1 | g)", counts(2, noise=0.7), family="poisson")
    tests = model.ml().simulated_residuals(random_seed=1, conditional=True).tests()
    assert (tests["p"] <= 2 / 251).all()  # as small as 250 simulations allow
    # log-normal noise with sd s multiplies the variance: about 1 + mean (exp(s^2) - 1), mean about 4: well above 2
    assert tests.loc["dispersion", "ratio"] > 2
    flat = Model("y ~ x", counts(2, noise=0.7), family="poisson").ml().simulated_residuals(random_seed=1)
    assert (flat.tests()["p"] <= 2 / 251).all()
    assert "vary more" in str(flat)
    assert "more zeros" in str(flat)


def test_zeros_that_were_added_are_counted() -> None:
    d = counts(3)
    d.loc[np.random.default_rng(1).random(len(d)) < 0.3, "y"] = 0
    found = Model("y ~ x", d, family="poisson").ml().simulated_residuals(random_seed=1)
    assert found.tests().loc["zeros", "statistic"] == (d["y"] == 0).sum()
    assert found.tests().loc["zeros", "p"] <= 2 / 251


@pytest.mark.parametrize("family", ["zero_inflated_poisson", "hurdle_poisson", "hurdle_gamma", "negativebinomial"])
def test_zeros_are_tested_wherever_there_are_zeros(family: str) -> None:
    fit = made_up(family, draws=40)
    found = fit.simulated_residuals(draws=40, random_seed=3, conditional=True)
    tests = found.tests()
    assert tests.loc["zeros", "statistic"] == (fit.design.y == 0).sum() > 0
    more = replace(found, statistics=np.where(np.arange(41)[:, None] == 0, 1e6, found.statistics))
    assert ("though it has a parameter for them" in str(more)) == (family != "negativebinomial")
    assert "more zeros" in str(more)


def test_the_numbers_of_the_tests_by_hand() -> None:
    fit = Model("p(incidence, size) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial").ml()
    found = fit.simulated_residuals(draws=50, random_seed=7)
    simulated = fit.simulate(50, np.random.default_rng(7)).to_numpy()
    y = fit.design.y
    assert found.expected == pytest.approx(simulated.mean(axis=1))
    tests = found.tests()
    assert tests.loc["dispersion", "statistic"] == pytest.approx(np.square(y - simulated.mean(axis=1)).mean())
    below = (simulated < y[:, None]).sum(axis=1)
    equal = (simulated == y[:, None]).sum(axis=1)
    assert ((found.scaled * 51 >= below - 1e-9) & (found.scaled * 51 <= below + equal + 1 + 1e-9)).all()
    beyond = (below == 50) | ((below == 0) & (equal == 0))
    assert tests.loc["outliers", "statistic"] == beyond.sum() == (found.outside != 0).sum()
    assert tests.loc["zeros", "expected"] == pytest.approx((simulated == 0).sum(axis=0).mean())


def test_gaussian_and_bayesian_fits_have_them_too(sleep: FrequentistFit) -> None:
    found = sleep.simulated_residuals(random_seed=1, conditional=True)
    assert "zeros" not in found.tests().index
    assert {7, 56, 59} <= set(found.index[found.outside != 0])
    model = Model("y ~ x + (1 | g)", counts(1), family="poisson")
    for conditional in (False, True):
        bayes = hand_made(model, beta=[1.0, 0.3], spread=0.05, sds=0.5).simulated_residuals(
            draws=100, random_seed=1, conditional=conditional
        )
        assert bayes.draws == 100
        # group effects drawn without the data: only those drawn anew fit them, both stay inside 0 and 1
        assert bayes.residuals.between(0, 1).all()
    assert bayes.summary().title == "Simulated residuals"
    with pytest.raises(ArgumentError, match="draws must be"):
        sleep.simulated_residuals(draws=5)


# --- words ------------------------------------------------------------------------------------------------------------
def words(fit: Any) -> str:
    return " ".join(str(section.body) for section in fit.check().sections)


def test_sleepstudy_is_told_of_three_rows_and_nothing_else(sleep: FrequentistFit) -> None:
    told = words(sleep)
    assert "3 residuals are further out" in told
    assert "row 56 (Subject 332) at +5.5, row 59 (Subject 332) at -4.6, row 7 (Subject 308) at -4.3" in told
    for other in ("spread", "Cook", "effects get"):
        assert other not in told


def test_the_outlying_participant_is_named_and_its_absence_is_quiet() -> None:
    def told(name: str) -> str:
        return words(Model("value ~ condition + (1 | participant)", load_dataset(name)).reml())

    assert "Intercept of participant: 20 at +4.3" in told("outlier")
    assert assumption_text.SOUND in told("no_outlier")
    assert assumption_text.SOUND in told("simulated100")


def test_faults_that_were_built_in_are_told() -> None:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 20)
    x = rng.normal(size=240)
    d = pd.DataFrame({"g": g.astype(str), "x": x, "b": rng.normal(size=12)[g]})
    d["unequal"] = d["b"] + x + rng.normal(size=240) * np.where(g == 3, 4.0, 1.0)
    d["growing"] = np.exp(1 + 0.5 * d["b"] + 0.8 * x + 0.4 * rng.normal(size=240))
    told = words(Model("unequal ~ x + (1 | g)", d).reml())
    assert "spread unequally between levels of g" in told
    assert "(3) times the common" in told
    assert "grows with the fitted value" in words(Model("growing ~ x + (1 | g)", d).reml())
    assert "fitted value" not in words(Model("np.log(growing) ~ x + (1 | g)", d).reml())
    d["far"] = rng.normal(size=12)[g] + np.where(g == 3, 10.0, 0.0)  # one level says nearly all about its slope
    d["y"] = d["b"] + rng.normal(size=240) + np.where(g == 3, 15.0, 0.0)
    told = words(Model("y ~ far + (1 | g)", d).reml())
    assert "Without g 3 the coefficients would be elsewhere" in told
    assert "influence(group='g', refit=True)" in told
    line = pd.DataFrame({"x": [*np.arange(20.0), 60.0], "y": [*rng.normal(size=20), 30.0]})
    assert "Without row 20" in words(Model("y ~ x", line).reml())


def test_generalised_fits_are_told_of_overdispersion() -> None:
    assert "vary more than the poisson family" in words(Model("y ~ x", counts(2, noise=0.7), family="poisson").ml())
    quiet = words(Model("y ~ x + (1 | g)", counts(1), family="poisson").ml())
    assert "vary more" not in quiet
    assert "No group carries the result alone" in quiet


def test_large_fits_are_left_to_the_person(sleep: FrequentistFit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assumption_text, "WORK", 10.0)
    assert "not looked at here" in words(sleep)


def test_what_has_no_meaning_is_refused(sleep: FrequentistFit) -> None:
    binary = Model("y ~ x + (1 | g)", counts(1).assign(y=lambda d: (d["y"] > 3) * 1), family="bernoulli").ml()
    for refused in (residual_points, qq_points):
        with pytest.raises(UnsupportedError, match="simulated_residuals"):
            refused(binary)
    assert len(qq_points(binary, "g")) == 30
    with pytest.raises(ArgumentError, match="give group="):
        qq_points(sleep, term="Days")
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        qq_points(sleep, "Subject", "days")
    flat = Model("mpg ~ wt", load_dataset("mtcars")).reml()
    with pytest.raises(UnsupportedError, match="no grouping factor"):
        residuals_within_groups(flat)
    with pytest.raises(UnsupportedError, match="no group effects"):
        standardised_effects(flat)


@pytest.mark.filterwarnings("ignore::hiermod.errors.SingularFitWarning")
def test_a_variance_of_zero_has_no_qq_plot() -> None:
    fit = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff2")).reml()
    with pytest.raises(UnsupportedError, match="estimated as 0"):
        qq_points(fit, "Batch")
    assert len(plots.assumptions(fit).axes) == 6  # the panel says so instead of stopping


# --- figures ----------------------------------------------------------------------------------------------------------
def drawn(ax: Any, label: str) -> np.ndarray:
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.column_stack(line.get_data())


def test_qq_plots_show_points_bands_and_names(sleep: FrequentistFit) -> None:
    ax, points = plots.qq(sleep), qq_points(sleep)
    out = points["outside"].to_numpy()
    assert drawn(ax, "outside") == pytest.approx(points.loc[out, ["theoretical", "sample"]].to_numpy())
    assert drawn(ax, "inside") == pytest.approx(points.loc[~out, ["theoretical", "sample"]].to_numpy())
    assert [text.get_text() for text in ax.texts] == ["56", "59", "7"]
    assert len(ax.collections) == 2
    by_group = plots.qq(sleep, "Subject", "Days")
    assert by_group.get_title(loc="left") == "Days by Subject"
    assert len(drawn(by_group, "inside")) == 18


def test_clouds_boxes_and_influence_show_their_tables(sleep: FrequentistFit) -> None:
    points = residual_points(sleep)
    ax = plots.residuals_fitted(sleep)
    assert drawn(ax, "rows") == pytest.approx(points[["fitted", "residual"]].to_numpy())
    assert ax.get_xlabel() == "fitted Reaction"
    spread = plots.scale_location(sleep, label=0)
    assert drawn(spread, "rows")[:, 1] == pytest.approx(np.sqrt(np.abs(points["residual"].to_numpy())))
    assert not spread.texts
    boxes = plots.residuals_by_group(sleep)
    table = residuals_within_groups(sleep).sort_values("median", kind="stable")
    assert [text.get_text() for text in boxes.get_yticklabels()] == list(table.index)
    assert [box.get_x() for box in boxes.patches] == pytest.approx(list(table["q1"]))
    assert [box.get_x() + box.get_width() for box in boxes.patches] == pytest.approx(list(table["q3"]))
    influence = sleep.influence("Subject")
    ax = plots.influence(influence, term="Days")
    order = np.argsort(influence["dfbetas[Days]"].abs().to_numpy(), kind="stable")
    assert ax.lines[0].get_xdata() == pytest.approx(influence["dfbetas[Days]"].to_numpy()[order])
    assert plots.influence(sleep).get_ylabel() == "Subject left out"
    assert "refitted" in plots.influence(sleep.influence("Subject", refit=True)).get_xlabel()
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        plots.influence(sleep, term="days")
    with pytest.raises(ArgumentTypeError, match="influence needs"):
        plots.influence(points)


def test_simulated_residuals_are_drawn_with_their_tests(sleep: FrequentistFit) -> None:
    found = sleep.simulated_residuals(random_seed=1)
    ax = plots.simulated_residuals(found)
    assert drawn(ax, "rows")[:, 1] == pytest.approx(np.sort(found.scaled))
    assert [line.split(":")[0] for line in ax.texts[0].get_text().split("\n")] == [
        "uniformity",
        "dispersion",
        "outliers",
    ]
    assert "drawn anew" in ax.get_xlabel()


def test_one_page_for_each_kind_of_fit(sleep: FrequentistFit) -> None:
    titles = [ax.get_title(loc="left") for ax in plots.assumptions(sleep).axes if ax.get_visible()]
    assert titles == [
        "Residuals", "Residuals against fitted", "Spread against fitted", "Residuals by Subject",
        "Intercept by Subject", "Days by Subject", "Influence of each Subject",
    ]  # fmt: skip
    fit = Model("y ~ x + (1 | g)", counts(1), family="poisson").ml()
    titles = [ax.get_title(loc="left") for ax in plots.assumptions(fit).axes if ax.get_visible()]
    assert titles == ["Simulated residuals", "Residuals against fitted", "Intercept by g", "Influence of each g"]
    # a variance that the mean alone does not decide: no panel that says so in the place of a figure
    fit = Model("y ~ x + (1 | g)", counts(1), family="negativebinomial").ml()
    titles = [ax.get_title(loc="left") for ax in plots.assumptions(fit).axes if ax.get_visible()]
    assert titles == ["Simulated residuals", "Intercept by g", "Influence of each g"]
    bayes = hand_made(Model("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy")), beta=[250, 10], sds=30.0)
    assert len([ax for ax in plots.assumptions(bayes).axes if ax.get_visible()]) == 5
    flat = Model("mpg ~ wt", load_dataset("mtcars")).reml()
    assert len([ax for ax in plots.assumptions(flat).axes if ax.get_visible()]) == 4


def test_the_slope_that_shrinkage_makes_is_the_one_of_simulated_data() -> None:
    """Least squares of residuals on fitted values in data from the model: on average the slope that is announced."""
    rng = np.random.default_rng(4)
    d = pd.DataFrame({"g": np.repeat(np.arange(150), 3), "x": rng.standard_normal(450)})
    seen, announced = [], []
    for _ in range(40):
        d["y"] = 2 + 0.5 * d["x"] + rng.standard_normal(150)[d["g"]] + 1.2 * rng.standard_normal(450)
        points = residual_points(Model("y ~ x + (1 | g)", d).reml())
        seen.append(np.polyfit(points["fitted"], points["residual"], 1)[0])
        announced.append(points.attrs["slope"])
    error = np.std(seen, ddof=1) / np.sqrt(40)
    assert abs(np.mean(seen) - np.mean(announced)) < 4 * error
    assert np.mean(announced) > 10 * error
    assert residual_points(Model("y ~ x", d).reml()).attrs["slope"] == 0.0
