"""Prior against REML: conflict and weight against closed forms, brute force and R; verdicts where they are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy import stats

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, SingularFitWarning, UnknownNameError
from hiermod.inference.priors_and_reml.conflict import blurred_conflict_p, conflict_p, drawn_conflict_p
from hiermod.inference.priors_and_reml.prior_weight import prior_pull
from hiermod.inference.priors_and_reml.scale_errors import scale_errors
from hiermod.model import Model
from hiermod.priors.parse import parse_distribution

SLEEP = "Reaction ~ Days + (Days | Subject)"


def against(formula: str, data: str, **model: object) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        m = Model(formula, hm.load_dataset(data), **model)  # type: ignore[arg-type]
        return m.prior_predictive(random_seed=1).against(m.reml())


# --- conflict: P(f(X) <= f(x)) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [0.0, 0.3, 2.0, -5.0, 30.0])
def test_conflict_of_a_normal(z):
    """Closed form: 2 (1 - Phi(|z|)), down to 1e-197."""
    assert conflict_p(stats.norm(3, 2), 3 + 2 * z) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_conflict_closed_forms():
    """Falling densities: the upper tail, 1 at 0.  Flat: 1 inside and 0 outside.  t and triangular by symmetry."""
    for text in ("HalfNormal(2)", "HalfStudentT(nu=4, sigma=10)", "Exponential(0.5)", "HalfCauchy(3)"):
        found = parse_distribution(text, "x").scipy()
        assert conflict_p(found, 0.0) == 1.0
        assert conflict_p(found, 1.7) == pytest.approx(found.sf(1.7), rel=1e-9)
    assert conflict_p(stats.uniform(0, 2), 0.3) == 1.0
    assert conflict_p(stats.uniform(0, 2), 2.3) == 0.0
    assert conflict_p(stats.gamma(0.5), 0.0) == 1.0  # density infinite at 0
    assert conflict_p(stats.gamma(2), 0.0) == 0.0  # density 0 there
    assert conflict_p(stats.t(3), -4.0) == pytest.approx(2 * stats.t.sf(4, 3), rel=1e-9)
    assert conflict_p(stats.triang(0.5), 0.25) == pytest.approx(0.25, rel=1e-9)  # two tails of 1/8
    assert np.isnan(conflict_p(stats.norm(), float("nan")))


@pytest.mark.parametrize("x", [0.1, 2.0, 6.0, 20.0])
def test_conflict_of_a_skewed_prior(x):
    """Brute force: a million draws of Gamma(3, scale 2), 4 standard errors."""
    found = stats.gamma(3, scale=2)
    draws = found.rvs(1_000_000, random_state=1)
    share = (found.logpdf(draws) <= found.logpdf(x)).mean()
    assert conflict_p(found, x) == pytest.approx(share, abs=4 * np.sqrt(share / 1e6) + 1e-6)


@pytest.mark.parametrize(("x", "se"), [(1.0, 0.7), (3.0, 1.0), (2.5, 0.01), (4.0, 5.0)])
def test_blurred_conflict_of_a_normal(x, se):
    """Closed form: the estimate is Normal(0, 1 + se^2) under the prior; the grid's error is below 2 % of p."""
    expected = 2 * stats.norm.sf(x / np.sqrt(1 + se**2)) if se > 0.05 else 2 * stats.norm.sf(x)
    assert blurred_conflict_p(stats.norm(), x, se) == pytest.approx(expected, rel=0.02)


def test_drawn_conflict_is_near_the_exact_one():
    """Normal and half-normal draws (4,000).  Near the mode, where the density is flat, its ripples count for more."""
    draws = np.random.default_rng(1).standard_normal(4000)
    for x, tolerance in ((0.2, 0.1), (1.0, 0.035), (2.2, 0.01)):
        assert drawn_conflict_p(draws, x) == pytest.approx(2 * stats.norm.sf(x), abs=tolerance)
    assert drawn_conflict_p(np.abs(draws), 0.0, positive=True) > 0.9
    assert drawn_conflict_p(draws, 100.0) == pytest.approx(1 / 4001)
    assert drawn_conflict_p(np.full(50, 3.0), 3.0) == 1.0
    assert np.isnan(drawn_conflict_p(draws[:10], 0.0))


# --- the prior's weight ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sd", "mean"), [(0.01, 9.5), (1.0, 0.0), (50.0, 300.0), (20.0, 1000.0), (0.1, 1000.0)])
def test_weight_of_a_normal_prior(sd, mean):
    """Closed form: se^2 / (se^2 + sd^2), and the mean moves by that share of the distance."""
    weight, shift = prior_pull(stats.norm(mean, sd), "fixed", 10.0, 1.5)
    share = 1.5**2 / (1.5**2 + sd**2)
    assert weight == pytest.approx(share, abs=1e-6)
    assert shift == pytest.approx(share * (mean - 10) / 1.5, rel=1e-6)


def test_weight_on_the_log_scale():
    """A log-normal prior of an sd is normal on the log scale; times sd (flat reference): shift against log 5 + se^2."""
    se = 0.4
    weight, shift = prior_pull(stats.lognorm(0.3, scale=8.0), "sd", 5.0, 5.0 * se)
    share = se**2 / (se**2 + 0.3**2)
    assert weight == pytest.approx(share, abs=1e-6)
    assert shift == pytest.approx((share * (np.log(8) - np.log(5)) - se**2) / se, abs=1e-5)
    assert prior_pull(stats.uniform(-1, 2), "corr", 0.3, 0.2) == pytest.approx((0.0, 0.0), abs=1e-9)  # LKJ(1): flat
    assert np.isnan(prior_pull(stats.halfnorm(), "sd", 0.0, 1.0)).all()
    assert np.isnan(prior_pull(stats.norm(), "corr", 1.0, 0.1)).all()


def test_standard_errors_of_sds_are_rs():
    """R 4, lme4 1.1, numDeriv::hessian of the REML criterion in (sd, sd, rho, sigma) of sleepstudy at the estimate:
    sqrt(diag(2 * solve(H))) = 5.8363106 1.2480368 0.3250254 1.5080091; REML's optimum agrees to 1e-5."""
    fit = Model(SLEEP, hm.load_dataset("sleepstudy")).reml()
    found = scale_errors(fit.record)  # type: ignore[arg-type]
    assert list(found) == ["1|Subject_sigma", "Days|Subject_sigma", "Subject_corr[Intercept,Days]", "sigma"]
    assert list(found.values()) == pytest.approx([5.8363106, 1.2480368, 0.3250254, 1.5080091], rel=5e-5)


def test_standard_errors_of_a_balanced_one_way_design():
    """Closed form (dyestuff, 6 batches of 5; REML is ANOVA): var(sigma^2) = 2 MSE^2 / 24 with MSE on 24 df,
    var(tau^2) = 2 (MSB^2 / 5 + MSE^2 / 24) / 25.  At 0 (dyestuff2), n - 1 = 29 df for sigma: sigma / sqrt(2 * 29)."""
    fit = Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()
    tau, sigma = fit.varcorr()["sdcor"]
    mse, msb = sigma**2, sigma**2 + 5 * tau**2
    found = scale_errors(fit.record)  # type: ignore[arg-type]
    assert found["sigma"] == pytest.approx(np.sqrt(2 * mse**2 / 24) / (2 * sigma), rel=1e-5)
    assert found["1|Batch_sigma"] == pytest.approx(np.sqrt(2 * (msb**2 / 5 + mse**2 / 24) / 25) / (2 * tau), rel=1e-5)
    with pytest.warns(SingularFitWarning):
        zero = Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff2")).reml()
    found = scale_errors(zero.record)  # type: ignore[arg-type]
    assert np.isnan(found["1|Batch_sigma"])
    assert found["sigma"] == pytest.approx(zero.sigma / np.sqrt(2 * 29), rel=1e-5)


# --- the table ------------------------------------------------------------------------------------------------------


def test_default_priors_are_not_flagged():
    found = against(SLEEP, "sleepstudy")
    assert not found["conflict"].any()
    assert found.loc["Days", "verdict"] == "data decide"
    assert (
        found.attrs["sentences"][0] == "No conflict between prior and data in 6 parameters and 5 summaries of the data."
    )
    two = against("Yield ~ 1 + (1 | Batch)", "dyestuff2")
    assert not two["conflict"].any()
    zero = two.loc["1|Batch_sigma"]
    assert (zero["reml"], zero["prior_quantile"], zero["conflict_p"]) == (
        0.0,
        0.0,
        1.0,
    )  # under a half-normal: no surprise
    assert zero["verdict"] == "boundary"
    assert np.isnan(zero["prior_weight"])


def test_default_priors_are_not_flagged_on_crossed_factors():
    """A tenth of InstEval (every tenth student); the whole was tried by hand: 6 s, nothing flagged."""
    data = hm.load_dataset("insteval")
    codes = data["s"].cat.codes
    part = data[codes % 10 == 0]
    model = Model("y ~ service + (1 | s) + (1 | d)", part)
    found = model.prior_predictive(draws=300, random_seed=1).against(model.reml())
    assert not found["conflict"].any()
    assert "data: sd between d" in found.index


@pytest.mark.parametrize(
    ("priors", "row"),
    [
        ({"Days": "Normal(1000, 20)"}, "Days"),  # 100 times too large
        ({"Days": "Normal(0, 0.015)"}, "Days"),  # a standard error of 1.5, a hundredth of it
        ({"1|Subject": "HalfNormal(0.25)"}, "1|Subject_sigma"),
        ({"Days|Subject": "HalfNormal(0.06)"}, "Days|Subject_sigma"),
        ({"sigma": "HalfNormal(0.25)"}, "sigma"),
        ({"sigma": "LogNormal(7.8, 0.3)"}, "sigma"),  # median 2441
        ({"Intercept": "Normal(30000, 500)"}, "data: mean"),
        ({"1|Subject": "HalfNormal(2500)"}, "data: sd"),  # contains REML's 25, and expects absurd data
        ({"Days|Subject": "HalfNormal(600)"}, "data: range"),
        ({"sigma": "HalfNormal(2500)"}, "data: sd"),
        ({"Days": "Normal(0, 4900)"}, "data: sd"),  # a hundred times Bambi's default
    ],
)
def test_a_prior_off_by_a_hundred_is_caught(priors, row):
    found = against(SLEEP, "sleepstudy", priors=priors)
    assert found.loc[row, "conflict"]
    assert row in found.attrs["sentences"][0]
    assert any(sentence.startswith(f"{row}: ") for sentence in found.attrs["sentences"][1:])


def test_numbers_of_the_table():
    """Closed forms, REML's Days = 10.467286 with standard error 1.545789 (lme4)."""
    found = against(SLEEP, "sleepstudy", priors={"Days": "Normal(3, 1.5)", "Subject_corr": "LKJ(2)"})
    days = found.loc["Days"]
    assert days["prior_quantile"] == pytest.approx(stats.norm.cdf((10.467286 - 3) / 1.5), rel=1e-5)
    assert days["conflict_p"] == pytest.approx(2 * stats.norm.sf((10.467286 - 3) / 1.5), rel=1e-5)
    u = np.linspace(-60, 60, 24001)  # the estimate's error is t with 17 df (lmerTest), added to the prior's normal
    tails = stats.norm.sf((10.467286 - 3 - 1.545789 * u) / 1.5) * stats.t.pdf(u, 17)
    blurred = 2 * np.trapezoid(tails, u)
    assert days["conflict_p_data"] == pytest.approx(blurred, rel=0.02)
    assert days["conflict"]  # 6e-7 as a value and 0.002 as an estimate: both below 0.05 / 6
    assert days[["lower", "upper"]].tolist() == pytest.approx([10.467286 - 1.959964 * 1.545789, 13.496977], rel=1e-5)
    corr = found.loc["Subject_corr[Intercept,Days]"]
    assert corr["prior_quantile"] == pytest.approx(stats.beta(2, 2).cdf((0.0655512 + 1) / 2), abs=1e-5)
    subject = found.loc["1|Subject_sigma"]
    assert subject["lower"] == pytest.approx(24.740451 * np.exp(-1.959964 * 5.83631 / 24.740451), rel=1e-4)
    # the intercept is set against its prior at Days = 0: mean(y) - 4.5 * 3, with the slope's variance
    sd = np.hypot(2.5 * hm.load_dataset("sleepstudy")["Reaction"].std(ddof=0), 4.5 * 1.5)
    intercept = stats.norm(298.507892 - 4.5 * 3, sd)
    assert found.loc["Intercept", "prior_quantile"] == pytest.approx(intercept.cdf(251.405105), rel=1e-5)
    observed = hm.load_dataset("sleepstudy")["Reaction"]
    assert found.loc["data: sd", "reml"] == pytest.approx(observed.std())
    assert found.columns.tolist()[:2] == ["kind", "reml"]


def test_a_tight_prior_near_the_estimate_decides_and_does_not_conflict():
    """Normal(9.5, 0.01): REML's 10.47 is 97 prior sds away, and 0.6 of its own standard errors."""
    found = against(SLEEP, "sleepstudy", priors={"Days": "Normal(9.5, 0.01)"}).loc["Days"]
    assert found["conflict_p"] < 1e-10
    assert found["conflict_p_data"] == pytest.approx(2 * stats.t.sf(0.967286 / 1.545789, 17), rel=0.02)
    assert not found["conflict"]
    assert found["verdict"] == "prior decides"
    assert "within its own standard error" in found["words"]


def test_priors_that_avoid_zero_do_not_conflict_with_a_boundary():
    """Chung et al. (2013, Psychometrika 78): Gamma(2, ...) has density 0 at 0 on purpose; a prior far above conflicts.

    dyestuff2's profile interval of the sd is [0, 2.1]."""
    kind = against("Yield ~ 1 + (1 | Batch)", "dyestuff2", priors={"1|Batch": "Gamma(2, 0.5)"}).loc["1|Batch_sigma"]
    assert (kind["conflict_p"], kind["conflict"]) == (0.0, False)
    far = against("Yield ~ 1 + (1 | Batch)", "dyestuff2", priors={"1|Batch": "LogNormal(5, 0.1)"}).loc["1|Batch_sigma"]
    assert far["conflict"]


def test_a_correlation_of_one_is_no_conflict_by_itself():
    """mtcars by cylinders: REML's correlation is -1, where LKJ(2) has density 0, and the data exclude little."""
    found = against("mpg ~ wt + (wt | cyl)", "mtcars")
    row = found.loc["cyl_corr[Intercept,wt]"]
    assert row["reml"] == pytest.approx(-1)
    assert not row["conflict"]
    assert row["verdict"] == "boundary"


def test_fixed_unestimable_and_drawn_parameters():
    data = hm.load_dataset("sleepstudy").assign(twice=lambda d: 2 * d["Days"])
    with pytest.warns(hm.RankDeficiencyWarning):
        model = Model(
            "Reaction ~ Days + twice + (1 | Subject)", data, priors={"sigma": 30, "Days": "StudentT(4, 0, 20)"}
        )
    found = model.prior_predictive(500, 1).against(model.reml())
    assert found.loc["twice", "verdict"] == "undefined"
    assert not found.loc["twice", "conflict"]
    assert found.loc["sigma", "verdict"] == "fixed"
    assert found.loc["Intercept", "prior_quantile"] == pytest.approx(0.4, abs=0.2)  # from draws: no closed form
    assert found.loc["Days", "conflict_p"] > 0.05


def test_known_sds_and_linear_models():
    schools = Model("effect ~ 1 + (1 | school)", hm.load_dataset("eight_schools"), se="se")
    with pytest.warns(SingularFitWarning):
        reml = schools.reml()
    found = schools.prior_predictive(500, 1).against(reml)
    assert "sigma" not in found.index
    assert not found["conflict"].any()
    line = Model("Reaction ~ Days", hm.load_dataset("sleepstudy"))
    found = line.prior_predictive(500, 1).against(line.reml())
    assert found.index[:3].tolist() == ["Intercept", "Days", "sigma"]
    assert found.loc["sigma", "std_error"] == pytest.approx(line.reml().sigma / np.sqrt(2 * 178))


@pytest.mark.stack
def test_generalised_models():
    model = Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    found = model.prior_predictive(500, 1).against(model.ml())
    assert not found["conflict"].any()
    assert found.loc["1|herd_sigma", "verdict"] == "no standard error"
    off = Model(
        "p(incidence, size) ~ 1 + (1 | herd)",
        hm.load_dataset("cbpp"),
        family="binomial",
        priors={"Intercept": "Normal(9, 1)"},
    )
    assert off.prior_predictive(500, 1).against(off.ml()).loc[["Intercept", "data: mean"], "conflict"].all()


def test_refusals():
    data = hm.load_dataset("sleepstudy")
    model, other = Model(SLEEP, data), Model("Reaction ~ Days + (1 | Subject)", data)
    prior = model.prior_predictive(50, 1)
    with pytest.raises(ArgumentTypeError, match=r"m\.reml\(\)"):
        prior.against(hand_made(model))
    with pytest.raises(ArgumentError, match="their parameters are not the same"):
        prior.against(other.reml())
    with pytest.raises(ArgumentError, match="different data"):
        prior.against(Model(SLEEP, data.assign(Reaction=data["Reaction"] + 1)).reml())
    with pytest.raises(ArgumentError, match=r"write 0\.05"):
        prior.against(model.reml(), alpha=5)


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_picture_of_prior_posterior_and_reml():
    model = Model(SLEEP, hm.load_dataset("sleepstudy"), priors={"Days": "Normal(40, 5)"})
    prior, reml = model.prior_predictive(300, 1), model.reml()
    table = prior.against(reml)
    fit = hand_made(model, beta=[250.0, 10.0], sds=10.0)
    figure = hm.plots.prior_against_reml(prior, reml, fit)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles[:3] == ["Intercept", "Days: conflict", "1|Subject_sigma"]
    days = axes[1]
    curve = days.lines[0].get_xdata(), days.lines[0].get_ydata()
    assert curve[0][np.argmax(curve[1])] == pytest.approx(40, abs=0.2)  # the prior's mode, at height 1
    assert curve[1].max() == pytest.approx(1)
    posterior = days.lines[1]
    assert posterior.get_xdata()[np.argmax(posterior.get_ydata())] == pytest.approx(10, abs=0.2)
    interval, point = days.lines[2], days.lines[3]
    assert interval.get_xdata() == pytest.approx(table.loc["Days", ["lower", "upper"]].to_numpy(dtype=float))
    assert point.get_xdata() == pytest.approx([table.loc["Days", "reml"]])
    low, high = days.get_xlim()
    assert low < 7.4 and high > 49  # noqa: PT018
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["prior", "posterior", "REML, 95 % interval"]
    few = hm.plots.prior_against_reml(prior, reml, parameters=["sigma"])
    assert [ax.get_title(loc="left") for ax in few.axes] == ["sigma"]
    assert len(few.axes[0].lines) == 3  # prior, interval, estimate
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        hm.plots.prior_against_reml(prior, reml, parameters=["days"])
    with pytest.raises(ArgumentTypeError, match="prior_predictive"):
        hm.plots.prior_against_reml(reml, reml)
    with pytest.raises(ArgumentTypeError, match="Bayesian fit"):
        hm.plots.prior_against_reml(prior, reml, reml)


def test_the_picture_of_priors():
    model = Model(SLEEP, hm.load_dataset("sleepstudy"), priors={"sigma": 30, "Days": "Normal(10, 2)"})
    figure = model.plot_priors()
    axes = {ax.get_title(loc="left").split("\n")[0]: ax for ax in figure.axes if ax.get_visible()}
    assert list(axes) == model.priors()["parameter"].tolist()
    x, y = axes["Days"].lines[0].get_data()
    assert y == pytest.approx(stats.norm.pdf(x, 10, 2) / stats.norm.pdf(10, 10, 2), rel=1e-3)
    assert axes["Subject_corr"].get_xlim()[0] <= -1
    assert [text.get_text() for text in axes["sigma"].texts] == ["a known number"]
    assert len(hm.plots.prior_densities(model.prior_predictive(20, 1)).axes) == 6
    assert len(hm.plots.prior_densities(model).axes) == 6


def test_the_picture_of_simulated_groups():
    data = hm.load_dataset("sleepstudy")
    prior = Model(SLEEP, data).prior_predictive(100, 1)
    ax = hm.plots.prior_predictive(prior, n=12, random_seed=4)
    lines = prior.lines(draws=12, random_seed=4)
    assert len(ax.lines) == 12
    first = lines[lines["draw"] == lines["draw"].iloc[0]]
    assert ax.lines[0].get_ydata() == pytest.approx(first["y"].to_numpy())
    assert np.asarray(ax.collections[0].get_offsets()) == pytest.approx(data[["Days", "Reaction"]].to_numpy())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Days", "Reaction")
    low, high = ax.get_ylim()
    assert low < data["Reaction"].min()
    assert high > data["Reaction"].max()
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["simulated from the prior, one Subject each", "data"]
    _, own = plt.subplots()
    assert hm.plots.prior_predictive(prior, n=3, ax=own) is own
    batches = Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).prior_predictive(30, 1)
    across = hm.plots.prior_predictive(batches, n=5)
    assert across.get_xlabel() == "Batch"
    assert len(across.lines) == 5
