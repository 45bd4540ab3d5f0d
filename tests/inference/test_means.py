"""Marginal means and slopes against R's emmeans 1.8.4 (lme4 1.1, lmerTest, pbkrtest), and draw by draw."""

from __future__ import annotations

from typing import Any

import means_cases
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from means_cases import TIGHT, close
from scipy import special

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.model import Model


@pytest.fixture(scope="module")
def cake() -> Any:
    return means_cases.cake()


@pytest.fixture(scope="module")
def unbalanced() -> pd.DataFrame:
    return means_cases.unbalanced()


@pytest.fixture(scope="module")
def phases() -> Any:
    return means_cases.phases()


@pytest.fixture(scope="module")
def herds() -> Model:
    return means_cases.herds()


@pytest.fixture(scope="module")
def ticks() -> Any:
    return means_cases.ticks()


# --- means ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_means_of_a_balanced_factor(cake: Any, ddf: str) -> None:
    """emmeans(m, "recipe", lmer.df = ddf); the two methods agree because cake is balanced."""
    table = cake.means("recipe", ddf=ddf)
    assert list(table.index) == ["A", "B", "C"]
    assert list(table.columns) == ["estimate", "std_error", "lower", "upper", "df", "t", "p"]
    close(
        table,
        [
            [33.12222222, 1.736833394, 42, 29.61715053, 36.62729392],
            [31.64444444, 1.736833394, 42, 28.13937275, 35.14951614],
            [31.60000000, 1.736833394, 42, 28.09492831, 35.10507169],
        ],
    )
    assert table.attrs["notes"] == ["averaged over temperature (equal weights)"]


WEIGHTED = {  # emmeans(m, "Phase", lmer.df = ddf, weights = weights): estimate, SE, lower, upper
    ("satterthwaite", "equal"): [
        [279.4112994, 13.90890714, 250.0755162, 308.7470825],
        [318.4892115, 13.64853337, 289.5322697, 347.4461534],
        [352.0831903, 13.92831432, 322.7186641, 381.4477165],
    ],
    ("satterthwaite", "proportional"): [
        [282.1690005, 13.61481979, 253.4141565, 310.9238446],
        [320.1206886, 13.38506570, 291.6980510, 348.5433262],
        [356.7756928, 13.66434936, 327.9479921, 385.6033935],
    ],
    ("kenward-roger", "equal"): [
        [279.4112994, 13.90921846, 250.0793651, 308.7432337],
        [318.4892115, 13.64870928, 289.5367588, 347.4416643],
        [352.0831903, 13.92864572, 322.7224457, 381.4439348],
    ],
    ("kenward-roger", "cells"): [
        [282.2050489, 13.61652861, 253.4509022, 310.9591956],
        [320.1936652, 13.39121117, 291.7625515, 348.6247789],
        [356.3948148, 13.65574371, 327.5891772, 385.2004524],
    ],
}


@pytest.mark.parametrize(("ddf", "weights"), WEIGHTED)
def test_means_of_an_unbalanced_factor(phases: Any, ddf: str, weights: str) -> None:
    table = phases.means("Phase", ddf=ddf, weights=weights)
    close(table, WEIGHTED[ddf, weights], ["estimate", "std_error", "lower", "upper"])


def test_means_at_values_of_a_number_inside_poly(phases: Any) -> None:
    """emmeans(m, ~ Phase * Age, at = list(Age = c(22, 30)), lmer.df = "satterthwaite"); df are printed to 0.01."""
    table = phases.means(["Phase", "Age"], at={"Age": [22, 30]})
    assert table.index.names == ["Phase", "Age"]
    row = table.loc[("a", 22.0)]
    assert row[["estimate", "std_error", "lower", "upper"]].to_list() == pytest.approx(
        [254.0543146, 13.73707225, 225.0843964, 283.0242328], rel=TIGHT
    )
    assert row["df"] == pytest.approx(17.10, abs=0.006)
    assert table.loc[("c", 30.0), "estimate"] == pytest.approx(325.4396636, rel=TIGHT)


def test_a_mean_is_the_prediction_at_the_mean_of_a_number() -> None:
    """Identity: without factors the mean is predict() at the numbers' means."""
    d = load_dataset("sleepstudy")
    fit = Model("Reaction ~ Days + (Days | Subject)", d).reml()
    table, at_mean = fit.means("Days"), fit.predict(pd.DataFrame({"Days": [4.5]}), target="population")
    assert list(table.index) == [4.5]
    assert table["estimate"].to_numpy() == pytest.approx(at_mean["estimate"].to_numpy(), rel=1e-12)
    assert "Days = 4.5" in table.attrs["notes"][0]


def test_two_valued_numbers_and_called_factors_are_balanced() -> None:
    """emmeans 1.8.4: emmeans(lm(y ~ f + w + poly(x, 2), d), "f"): w, which is 0 or 1, at both; rounded as printed."""
    y = [3.1, 4.2, 5.0, 6.3, 2.2, 4.4, 7.1, 8.0, 3.3, 5.6, 6.1, 7.7]
    d = pd.DataFrame({"y": y, "x": np.arange(1.0, 13), "w": [0, 0, 0, 1] * 3, "f": ["a", "b", "c"] * 4})
    table = Model("y ~ f + w + poly(x, 2)", d).reml().means("f")
    close(
        table,
        [
            [6.398554623, 0.9849446503, 6, 3.988481886, 8.808627361],
            [5.773466753, 0.9632874426, 6, 3.416387293, 8.130546212],
            [5.534396743, 1.0065550639, 6, 3.071445229, 7.997348258],
        ],
        rel=1e-8,
    )
    called = Model("y ~ C(k) + w + poly(x, 2)", d.assign(k=[4, 6, 8] * 4)).reml().means("k")
    assert list(called.index) == [4, 6, 8]
    assert called["estimate"].to_numpy() == pytest.approx(table["estimate"].to_numpy(), rel=1e-10)


def test_generalised_means_on_both_scales(herds: Model) -> None:
    """summary(emmeans(g, "period", type = "link" | "response")); 1e-5: lme4's Hessian is by finite differences."""
    fit = herds.ml()
    link, response = fit.means("period"), fit.means("period", scale="response")
    assert list(link.columns) == ["estimate", "std_error", "lower", "upper", "z", "p"]
    four = ["estimate", "std_error", "lower", "upper"]
    assert link.loc["4", four].to_list() == pytest.approx(
        [-2.978845998, 0.4300711972, -3.821770056, -2.1359219408], rel=1e-5
    )
    expected = [
        [0.19804915481, 0.03692248750, 0.13538422830, 0.2803157806],
        [0.08387195485, 0.02383602334, 0.04747684168, 0.1439506695],
        [0.07397292724, 0.02262413089, 0.04013549717, 0.1324029319],
        [0.04839074175, 0.01980438205, 0.02142015555, 0.1056541115],
    ]
    close(response, expected, four, rel=1e-5)
    assert "typical group" in response.attrs["notes"][0]


def test_the_offset_stands_at_its_mean_unless_named() -> None:
    """emmeans(glm(TICKS ~ YEAR + h + offset(log(INDEX)), poisson), "YEAR", type = "response")."""
    d = load_dataset("grouseticks")
    d = d.assign(h=(d["HEIGHT"] - 460) / 100, INDEX=d["INDEX"].astype(int))
    fit = Model("TICKS ~ YEAR + h + offset(log(INDEX))", d, family="poisson").ml()
    table = fit.means("YEAR", scale="response")
    expected = [[13.8518118192, 0.55160868, 12.81179327], [5.6817355147, 0.17604967, 5.34695291]]
    close(table.iloc[:2], expected, ["estimate", "std_error", "lower"], rel=TIGHT)
    rate = fit.means("YEAR", scale="response", at={"INDEX": 1})["estimate"]
    assert rate["95"] == pytest.approx(13.8518118192 / np.exp(np.log(d["INDEX"]).mean()), rel=TIGHT)


def test_means_over_groups_average_the_response(herds: Model) -> None:
    """Brute force: the mean probability of a million new herds, within 5 Monte Carlo standard errors."""
    fit = herds.ml()
    table = fit.means("period", scale="response", target="new_group")
    sd = fit.varcorr()["sdcor"][0]
    b = sd * np.random.default_rng(1).standard_normal(1_000_000)
    p = special.expit(fit.means("period").loc["1", "estimate"] + b)
    assert table.loc["1", "estimate"] == pytest.approx(p.mean(), abs=5 * p.std() / 1000)
    assert (table["estimate"] > fit.means("period", scale="response")["estimate"]).all()
    link = fit.means("period").loc["1"]  # delta method: the slope of that average in eta, by finite differences of it
    slope = (special.expit(link["estimate"] + b + 1e-3) - special.expit(link["estimate"] + b - 1e-3)) / 2e-3
    assert table.loc["1", "std_error"] == pytest.approx(slope.mean() * link["std_error"], rel=1e-3)  # a million herds
    with pytest.raises(ArgumentError, match="scale='response'"):
        fit.means("period", target="new_group")


def test_what_the_data_cannot_tell_is_nan_with_a_note() -> None:
    """emmeans says nonEst for B, and 33.12222222 (29.59862564, 36.64581880) for A."""
    d = load_dataset("cake")
    d = d[~((d["recipe"] == "B") & (d["temperature"] == "225"))]
    with pytest.warns(UserWarning, match="rank deficient"):
        model = Model("angle ~ recipe * temperature + (1 | recipe:replicate)", d)
    table = model.reml().means("recipe")
    assert table.loc["B"].isna().all()
    assert table.loc["A", ["estimate", "lower", "upper"]].to_list() == pytest.approx(
        [33.12222222, 29.59862564, 36.64581880], rel=TIGHT
    )
    assert any("cannot tell B" in note for note in table.attrs["notes"])
    pairs = model.reml().contrasts("recipe")
    assert list(pairs["estimate"].isna()) == [True, False, True]
    cells = model.reml().contrasts("recipe", by="temperature", adjust="none", weights="cells")
    assert cells["estimate"].isna().sum() == 2  # those with the empty cell


def test_generalised_means_that_the_data_cannot_tell() -> None:
    """Period 4 has no rows in half of the herds: that half's mean over all periods is nan, its other cells are not."""
    d = load_dataset("cbpp")
    d = d.assign(half=np.where(d["herd"].cat.codes % 2 == 0, "a", "b"))
    d = d[~((d["half"] == "b") & (d["period"] == "4"))]
    with pytest.warns(UserWarning, match="rank deficient"):
        model = Model("p(incidence, size) ~ half * period + (1 | herd)", d, family="binomial")
    fit = model.ml()
    assert fit.means("half")["estimate"].isna().to_list() == [False, True]
    assert fit.contrasts("half", scale="difference")["estimate"].isna().all()
    by = fit.contrasts("half", by="period", scale="difference")["estimate"]
    assert by.isna().to_list() == [False, False, False, True]
    p = fit.means(["half", "period"], scale="response")["estimate"]
    assert by.iloc[0] == pytest.approx(p["a", "1"] - p["b", "1"], rel=1e-10)


# --- slopes -----------------------------------------------------------------------------------------------------------
def test_slopes_by_a_factor(unbalanced: pd.DataFrame, phases: Any) -> None:
    """emtrends(lmer(Reaction ~ Days * Light + (Days | Subject), u), ~ Light, var = "Days", lmer.df = ddf)."""
    fit = Model("Reaction ~ Days * Light + (Days | Subject)", unbalanced).reml()
    satterthwaite = [
        [11.230761211, 1.952394356, 15.70444232, 7.085530385, 15.37599204],
        [9.490282878, 2.750452194, 15.47428396, 3.643443928, 15.33712183],
    ]
    close(fit.slopes("Days", by="Light"), satterthwaite, rel=1e-5)
    kenward = [
        [11.230761211, 1.953109710, 16.05155539, 7.091434122, 15.37008830],
        [9.490282878, 2.751330385, 15.81661501, 3.652222092, 15.32834366],
    ]
    close(fit.slopes("Days", by="Light", ddf="kenward-roger"), kenward, rel=1e-5)
    # inside poly(): the derivative of the fitted parabola, by numpy from three of its values
    at = phases.means("Age", at={"Age": [24.0, 25.0, 26.0]})["estimate"].to_numpy()
    slope = phases.slopes("Age", at={"Age": 25.0})
    assert slope["estimate"].to_numpy() == pytest.approx([(at[2] - at[0]) / 2], rel=1e-8)
    assert list(slope.index) == [25.0]


def test_slopes_of_the_response(ticks: Any) -> None:
    """emtrends(p, ~ YEAR, "h", regrid = "response", delta.var = 1e-6): one-sided, so right to about 1e-6."""
    table = ticks.slopes("h", by="YEAR", scale="response")
    expected = [[-3.755559518, 0.9043166105], [-12.046994643, 2.5296476850], [-1.412429953, 0.3479826771]]
    close(table, expected, ["estimate", "std_error"], rel=5e-5)


def test_average_slopes_over_the_rows(ticks: Any) -> None:
    """Closed form for a log link: the mean over rows of exp(eta) times the coefficient, and by the delta method."""
    X = ticks.design.X
    beta, vcov = ticks.fixef()["estimate"].to_numpy(), ticks.vcov().to_numpy()
    mu, j = np.exp(X @ beta), list(ticks.design.common).index("h")
    gradient = beta[j] * (mu[:, None] * X).mean(axis=0) + mu.mean() * np.eye(len(beta))[j]
    row = ticks.slopes("h", over="rows", scale="response").loc["h"]
    assert row["estimate"] == pytest.approx((mu * beta[j]).mean(), rel=1e-6)
    assert row["std_error"] == pytest.approx(np.sqrt(gradient @ vcov @ gradient), rel=1e-6)
    year = ticks.design.frame["YEAR"].to_numpy() == "96"
    by = ticks.slopes("h", by="YEAR", over="rows", scale="response")
    assert by.loc["96", "estimate"] == pytest.approx((mu[year] * beta[j]).mean(), rel=1e-6)


# --- Bayes ------------------------------------------------------------------------------------------------------------
def test_a_posterior_is_taken_draw_by_draw(herds: Model) -> None:
    """By hand from the draws: treatment coding, so the mean of period k is Intercept + period[k]."""
    fit = hand_made(herds, beta=[-1.4, -1.0, -1.1, -1.6], spread=0.3, sds=0.6)
    beta = fit.record.beta.reshape(-1, 4)
    eta = beta[:, :1] + np.column_stack([np.zeros(len(beta)), beta[:, 1:]])
    link = fit.means("period")
    assert list(link.columns) == ["estimate", "std_error", "lower", "upper", "prob_direction"]
    assert link["estimate"].to_numpy() == pytest.approx(eta.mean(axis=0), rel=1e-10)
    assert link["std_error"].to_numpy() == pytest.approx(eta.std(axis=0, ddof=1), rel=1e-10)
    p = special.expit(eta)
    response = fit.means("period", scale="response", level=0.9)
    assert response["estimate"].to_numpy() == pytest.approx(p.mean(axis=0), rel=1e-10)
    assert response["upper"].to_numpy() == pytest.approx(np.quantile(p, 0.95, axis=0), rel=1e-10)
    odds = fit.contrasts("period", scale="response").loc["2 / 3"]
    ratio = np.exp(eta[:, 1] - eta[:, 2])
    assert odds["estimate"] == pytest.approx(ratio.mean(), rel=1e-10)
    assert 0.5 < odds["prob_direction"] < 0.9  # so that a direction counted from 0 would be seen
    assert odds["prob_direction"] == pytest.approx(max((ratio > 1).mean(), (ratio < 1).mean()), rel=1e-10)
    difference = fit.contrasts("period", "revpairwise", scale="difference").loc["2 - 1"]
    assert difference["estimate"] == pytest.approx((p[:, 1] - p[:, 0]).mean(), rel=1e-10)
    # averaged over new herds: b drawn for 2000 herds of each draw, within 5 standard errors of its mean over draws
    sd = fit.record.sd[0].reshape(-1)
    b = sd[:, None] * np.random.default_rng(3).standard_normal((len(sd), 2000))
    simulated = special.expit(eta[:, :1] + b).mean(axis=1)
    new = fit.means("period", scale="response", target="new_group").loc["1", "estimate"]
    assert new == pytest.approx(simulated.mean(), abs=5 * 0.09 / np.sqrt(b.size))
    with pytest.raises(UnsupportedError, match="adjust"):
        fit.contrasts("period", adjust="tukey")
    with pytest.raises(UnsupportedError, match="ddf"):
        fit.means("period", ddf="satterthwaite")


def test_new_groups_with_correlated_slopes_average_their_own_spread() -> None:
    """Closed form of a lognormal: exp(eta + v / 2), v = z' Sigma z with z = (1, x)."""
    d = load_dataset("sleepstudy").assign(y=lambda d: (d["Reaction"] / 10).round().astype(int))
    fit = hand_made(Model("y ~ Days + (Days | Subject)", d, family="poisson"), beta=[3.0, 0.05], spread=0.01, sds=0.2)
    beta, sd = fit.record.beta.reshape(-1, 2), fit.record.sd[0].reshape(-1, 2)
    r = fit.record.corr[0].reshape(-1, 2, 2)[:, 0, 1]
    x = 3.0
    v = sd[:, 0] ** 2 + 2 * x * r * sd[:, 0] * sd[:, 1] + x**2 * sd[:, 1] ** 2
    expected = np.exp(beta[:, 0] + x * beta[:, 1] + v / 2)
    table = fit.means("Days", at={"Days": x}, scale="response", target="new_group")
    assert table["estimate"].to_numpy() == pytest.approx([expected.mean()], rel=1e-10)
    slope = fit.slopes("Days", at={"Days": x}, scale="response", target="new_group")["estimate"]
    rise = expected * (beta[:, 1] + r * sd[:, 0] * sd[:, 1] + x * sd[:, 1] ** 2)
    assert slope.to_numpy() == pytest.approx([rise.mean()], rel=1e-6)  # step of 1e-4 of the range


def test_cells_without_rows_have_no_weighted_mean_in_a_posterior() -> None:
    d = load_dataset("cbpp")
    d = d.assign(half=np.where(d["herd"].cat.codes % 2 == 0, "a", "b"))
    d = d[~((d["half"] == "b") & (d["period"] == "4"))]
    fit = hand_made(Model("p(incidence, size) ~ half + period + (1 | herd)", d, family="binomial"), draws=20)
    table = fit.means(["half", "period"], weights="cells", scale="response")
    assert table["estimate"].isna().to_list() == [False] * 7 + [True]
    assert any("b 4" in note for note in table.attrs["notes"])
    difference = fit.contrasts("half", by="period", weights="cells", scale="difference")
    assert difference["estimate"].isna().to_list() == [False, False, False, True]
    assert np.isnan(difference["prob_direction"].iloc[-1])


@pytest.mark.stack
def test_reml_and_the_posterior_agree_on_balanced_data() -> None:
    """Recipe means of cake under weak priors: posterior means within 0.1 standard error of REML's."""
    model = Model("angle ~ recipe + temperature + (1 | recipe:replicate)", load_dataset("cake"))
    reml, fit = model.reml().means("recipe"), model.fit(draws=1000, chains=4, random_seed=1).means("recipe")
    assert ((fit["estimate"] - reml["estimate"]).abs() < 0.1 * reml["std_error"]).all()
    assert list(fit.columns[:4]) == list(reml.columns[:4])


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f: f.means("recipee"), UnknownNameError, "Did you mean 'recipe'"),
        (lambda f: f.means("replicate"), UnknownNameError, "only groups rows"),
        (lambda f: f.means([]), ArgumentTypeError, "predictor's name"),
        (lambda f: f.means(["recipe", "recipe"]), ArgumentError, "twice"),
        (lambda f: f.means("recipe", at={"temprature": 1}), UnknownNameError, "Did you mean 'temperature'"),
        (lambda f: f.means("recipe", at={"temperature": "18"}), UnknownNameError, "no level '18'"),
        (lambda f: f.means("recipe", at=[1]), ArgumentTypeError, "dict"),
        (lambda f: f.means("recipe", weights="equals"), ArgumentError, "Did you mean 'equal'"),
        (lambda f: f.means("recipe", scale="log"), ArgumentError, "scale"),
        (lambda f: f.means("recipe", level=95), ArgumentError, "0.95"),
        (lambda f: f.means("recipe", ddf="kenward"), ArgumentError, "ddf"),
        (lambda f: f.contrasts("recipe", by="recipe"), ArgumentError, "variables and in by"),
        (lambda f: f.contrasts("recipe", "pairwse"), ArgumentError, "Did you mean 'pairwise'"),
        (lambda f: f.contrasts("recipe", "poly", adjust="tukey"), ArgumentError, "all pairs"),
        (lambda f: f.contrasts("recipe", "treatment", reference="D"), UnknownNameError, "'D'"),
        (lambda f: f.contrasts("recipe", reference="A"), ArgumentError, "treatment"),
        (lambda f: f.contrasts("recipe", [[1, -1]]), ArgumentError, "each of the 3 means"),
        (lambda f: f.contrasts("recipe", object()), ArgumentTypeError, "method must be"),
        (lambda f: f.slopes("recipe"), UnsupportedError, "contrasts"),
        (lambda f: f.slopes("tempreature"), UnknownNameError, "Did you mean 'temperature'"),
    ],
)
def test_bad_requests_say_what_to_do(cake: Any, call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(cake)


def test_bad_numbers_and_wide_grids(ticks: Any) -> None:
    with pytest.raises(ArgumentError, match="finite"):
        ticks.means("YEAR", at={"h": [0, np.inf]})
    with pytest.raises(ArgumentTypeError, match="is a number"):
        ticks.means("YEAR", at={"h": "low"})
    with pytest.raises(ArgumentError, match="more than"):
        ticks.means("YEAR", at={"h": np.linspace(0, 1, 100_000)})
    with pytest.raises(ArgumentError, match="two means"):
        ticks.contrasts("h")
    with pytest.raises(ArgumentError, match="at="):
        ticks.slopes("h", by="h")
    with pytest.raises(ArgumentError, match="leave at out"):
        ticks.slopes("h", over="rows", at={"YEAR": "95"})
    with pytest.raises(UnsupportedError, match="ddf"):
        ticks.means("YEAR", ddf="kenward-roger")


def test_ddf_none_has_normal_intervals_and_no_p(cake: Any) -> None:
    row = cake.means("recipe", ddf=None).loc["A"]
    assert np.isnan(row[["df", "p"]].to_numpy()).all()
    assert row["upper"] - row["estimate"] == pytest.approx(1.959963985 * row["std_error"], rel=1e-8)  # qnorm(0.975)


def test_part_of_a_predictors_name_is_enough_for_a_suggestion() -> None:
    d = load_dataset("sleepstudy").rename(columns={"Days": "days awake"})
    fit = Model("Reaction ~ `days awake` + (1 | Subject)", d).reml()
    with pytest.raises(UnknownNameError, match="Did you mean 'days awake'"):
        fit.slopes("awake")
    with pytest.raises(UnknownNameError, match="Did you mean 'days awake'"):
        fit.means("days")
