"""Recovery: bias and coverage where theory knows them, ranks uniform, the same numbers from any number of processes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, DesignError, FitError, UnsupportedError
from hiermod.study import recovery_jobs
from hiermod.study.recovery_jobs import RANKED, parameter_draws
from hiermod.study.recovery_result import Recovery, rank_counts
from hiermod.study.simulated_fits import SimulatedFits

FORMULA = "y ~ time + (1 | subject)"
SMALL = hm.designs.longitudinal(subjects=8, times=4)
TRUTH = {"fixef": {"Intercept": 1.0, "time": 0.5}, "varcorr": {"1|subject": 1.0}, "sigma": 1.0}
PRIORS = {"Intercept": "Normal(0, 5)", "time": "Normal(0, 1)", "1|subject": "HalfNormal(2)", "sigma": "HalfNormal(2)"}


def test_a_linear_model_has_the_bias_and_coverage_of_the_textbook():
    """Least squares: no bias of coefficients, exact t intervals; E[s] = sigma sqrt(2/m) Gamma((m+1)/2) / Gamma(m/2)
    with m = n - p = 4; by maximum likelihood times sqrt(m / n)."""
    frame = pd.DataFrame({"x": np.arange(6.0)})
    found = hm.recovery(
        "y ~ x", frame, {"Intercept": 1.0, "x": 2.0}, sigma=3.0, fits=1000, methods=["REML", "ML"], random_seed=1
    )
    table, m = found.table, 4
    mean = 3 * np.sqrt(2 / m) * np.exp(special.gammaln((m + 1) / 2) - special.gammaln(m / 2))
    for method, scale in (("REML", 1.0), ("ML", np.sqrt(4 / 6))):
        row = table.loc[("sigma", method)]
        assert abs(row["mean"] - scale * mean) < 4 * row["bias_mcse"]
        assert row["bias"] == pytest.approx(row["mean"] - 3.0)
        assert np.isnan(row["coverage"])
    for name in ("Intercept", "x"):
        row = table.loc[(name, "REML")]
        assert abs(row["bias"]) < 4 * row["bias_mcse"]
        assert abs(row["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)
        assert row["coverage_lower"] < row["coverage"] < row["coverage_upper"]
    x = found.estimates.query("parameter == 'x' and method == 'REML'")
    assert table.loc[("x", "REML"), "rmse"] == pytest.approx(np.sqrt(((x["estimate"] - 2) ** 2).mean()))
    assert x["std_error"].pow(2).mean() == pytest.approx(9 / 17.5, rel=0.1)  # sigma^2 / sum (x - mean)^2


@pytest.mark.stack
def test_both_methods_see_the_same_data_and_every_number_is_a_fits_own():
    """The first data set again by hand: the stream of the study gives the response, and fits of it give the rows."""
    found = hm.recovery(FORMULA, SMALL, fits=3, profile=True, random_seed=5, **TRUTH)
    from hiermod.study.simulation import simulator

    made = simulator(FORMULA, SMALL, **TRUTH)
    y = made.response(np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1, 2))))
    reml = hm.Model(FORMULA, SMALL.assign(y=y)).reml()
    rows = found.estimates.query("fit == 2 and method == 'REML'").set_index("parameter")
    assert rows["estimate"].to_dict() == pytest.approx(reml.parameters()["estimate"].to_dict(), rel=1e-6)
    fixef = reml.fixef()
    for column in ("std_error", "lower", "upper"):
        assert rows.loc[fixef.index, column].tolist() == pytest.approx(fixef[column].tolist(), rel=1e-5)
    limits = reml.confint(method="profile", progressbar=False).loc[["1|subject_sigma", "sigma"]]
    assert rows.loc[limits.index, ["lower", "upper"]].to_numpy() == pytest.approx(limits.to_numpy(), rel=1e-4)
    bayes = found.estimates.query("fit == 2 and method == 'Bayes'").set_index("parameter")
    assert list(bayes.index) == list(rows.index)
    gap = (bayes["estimate"] - rows["estimate"]).loc[["Intercept", "time"]]
    assert (gap.abs() < 0.5 * rows["std_error"].loc[gap.index]).all()  # other data would be a standard error away


def test_processes_do_not_change_a_number():
    one, two = (hm.recovery(FORMULA, SMALL, fits=11, cores=c, random_seed=2, **TRUTH) for c in (1, 2))
    pd.testing.assert_frame_equal(one.estimates, two.estimates, check_exact=True)


def test_ranks_of_parameters_drawn_from_the_priors_are_uniform():
    """80 data sets: chi-square with 9 df and Holm's correction, 1 false alarm in 1,000."""
    found = hm.recovery(FORMULA, SMALL, truth="prior", priors=PRIORS, fits=80, methods=["Bayes"], random_seed=1)
    assert (found.uniformity()["p_adjusted"] > 0.001).all()
    ranks = found.ranks()
    assert list(ranks.columns) == ["Intercept", "time", "1|subject_sigma", "sigma"]
    assert ranks.min().min() >= 0
    assert ranks.max().max() <= RANKED
    assert found.estimates.groupby("parameter")["truth"].nunique().min() == 80
    assert (found.rank_counts().sum() == 80).all()
    # drawn from Normal(0, 5) on the intercept of centred predictors: sd of the mean 5 / sqrt(80)
    truth = found.estimates.pivot(index="fit", columns="parameter", values="truth")
    at_mean = truth["Intercept"] + truth["time"] * SMALL["time"].mean()
    assert abs(at_mean.std() - 5.0) < 4 * 5.0 / np.sqrt(160)


def test_other_priors_than_those_of_the_truth_show(monkeypatch):
    """The same check must fail when the fits believe in a residual sd of at most 0.5."""
    wrong = hm.Model(FORMULA, SMALL.assign(y=np.arange(32.0)), priors=PRIORS | {"sigma": "HalfNormal(0.15)"})
    from hiermod.priors.gaussian import gaussian_priors
    from hiermod.study import recovery_study

    monkeypatch.setattr(recovery_study, "gaussian_priors", lambda *_: gaussian_priors(wrong.spec, wrong._priors))
    found = hm.recovery(FORMULA, SMALL, truth="prior", priors=PRIORS, fits=80, methods=["Bayes"], random_seed=1)
    assert found.uniformity().loc["sigma", "p_adjusted"] < 0.001


@pytest.mark.slow
def test_calibration_with_correlated_slopes():
    frame = hm.designs.longitudinal(subjects=12, times=5)
    priors = PRIORS | {"time|subject": "HalfNormal(1)"}
    found = hm.recovery(
        "y ~ time + (time | subject)", frame, truth="prior", priors=priors, fits=600, cores=2, random_seed=1
    )
    assert (found.uniformity()["p_adjusted"] > 0.001).all()
    bayes = found.table.xs("Bayes", level="method")
    assert ((bayes["coverage"] - 0.95).abs() < 4 * np.sqrt(0.95 * 0.05 / 600)).all()


def test_default_priors_are_those_of_the_response_given():
    with pytest.raises(ArgumentError, match=r"time, 1\|subject_sigma, sigma"):
        hm.recovery(FORMULA, SMALL, truth="prior", priors={"Intercept": "Normal(0, 5)"}, fits=2)
    frame = SMALL.assign(y=np.random.default_rng(1).normal(100.0, 10.0, len(SMALL)))
    found = hm.recovery(FORMULA, frame, truth="prior", fits=30, methods="Bayes", random_seed=1)
    assert found.table.loc[("Intercept", "Bayes"), "truth"] == pytest.approx(100.0, abs=4 * 30 / np.sqrt(30))


def test_draws_stand_in_the_order_of_the_names():
    d = hm.load_dataset("sleepstudy")
    m = hm.Model("Reaction ~ Days + (Days | Subject)", d)
    fit = m.fit(draws=200, random_seed=1)
    means = parameter_draws(fit.record, m.spec).mean(axis=(0, 1))
    assert means == pytest.approx(fit.parameters()["estimate"].to_numpy(), rel=1e-10)


def test_ranks_are_those_among_thinned_draws():
    """A truth below all draws has rank 0, one above all 99, the median of the ranked draws 49."""
    draws = np.random.default_rng(1).normal(size=(4, 250, 3))
    record = type("Record", (), {"beta": draws, "sd": (), "corr": (), "sigma": None})()
    ranked = np.sort(draws[:, 5::10].reshape(-1, 3)[:99], axis=0)
    frame = pd.DataFrame({"a": [1.0, 0, 0], "b": [0, 1.0, 0]})
    design = hm.Model("y ~ a + b", frame.assign(y=[1.0, 2.0, 4.0])).spec
    simulator = type("Simulator", (), {"design": design})()
    study = type("Study", (), {"simulator": simulator, "level": 0.9})()
    rows = {name: np.full(3, np.nan) for name in ("estimate", "std_error", "lower", "upper", "rank")}
    recovery_jobs._read_posterior(record, study, np.array([-9.0, 9.0, ranked[49, 2]]), rows)
    assert rows["rank"].tolist() == [0, 99, 49]
    assert rows["upper"] == pytest.approx(np.quantile(draws.reshape(-1, 3), 0.95, axis=0))
    assert rank_counts(np.array([0, 9, 10, 99])).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_generalised_models_by_maximum_likelihood():
    frame = hm.designs.longitudinal(subjects=30, times=4)
    found = hm.recovery(
        FORMULA, frame, {"Intercept": 1.0, "time": 0.2}, {"1|subject": 0.5}, family="poisson", fits=20, random_seed=1
    )
    row = found.table.loc[("time", "ML")]
    assert abs(row["bias"]) < 4 * row["bias_mcse"]
    assert row["coverage"] > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 20)
    with pytest.raises(UnsupportedError, match="Gaussian"):
        hm.recovery(FORMULA, frame, {"Intercept": 1.0, "time": 0.2}, {"1|subject": 0.5}, family="poisson",
                    methods=["Bayes"], fits=2)  # fmt: skip
    with pytest.raises(UnsupportedError, match="no REML"):
        hm.recovery(FORMULA, frame, {"Intercept": 1.0, "time": 0.2}, {"1|subject": 0.5}, family="poisson",
                    methods=["REML"], fits=2)  # fmt: skip


def test_failed_fits_are_counted_and_left_out(monkeypatch):
    each = SimulatedFits.each

    def some(self, Y):
        for s, record in enumerate(each(self, Y)):
            yield DesignError("no minimum") if s == 0 else record

    monkeypatch.setattr(SimulatedFits, "each", some)
    found = hm.recovery(FORMULA, SMALL, methods=["REML"], fits=5, random_seed=1, **TRUTH)
    assert found.table["failed"].tolist() == [1, 1, 1, 1]
    assert found.messages == ("no minimum (1 times)",)
    assert "no minimum" in str(found)
    left = found.estimates.query("parameter == 'time'")["estimate"]
    assert found.table.loc[("time", "REML"), "mean"] == pytest.approx(left.iloc[1:].mean())
    with pytest.raises(FitError, match="none of the fits"):
        hm.recovery(FORMULA, SMALL, methods=["REML"], fits=1, random_seed=1, **TRUTH)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": ["NUTS"]}, ArgumentError, "REML, ML, Bayes"),
        ({"methods": []}, ArgumentError, "REML, ML, Bayes"),
        ({"truth": "posterior"}, ArgumentError, "'given' or 'prior'"),
        ({"truth": "prior"}, ArgumentError, "leave fixef"),
        ({"methods": "REML", "priors": PRIORS}, ArgumentError, "leaves out"),
        ({"draws": 20}, ArgumentError, "ranks need"),
        ({"fits": 0}, ArgumentError, "fits"),
        ({"level": 95}, ArgumentError, "level"),
    ],
)
def test_what_makes_no_study_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        hm.recovery(FORMULA, SMALL, **({"fits": 2} | TRUTH | change))


def test_ranks_need_draws_and_uniformity_needs_priors():
    found = hm.recovery(FORMULA, SMALL, methods="REML", fits=2, random_seed=1, **TRUTH)
    with pytest.raises(UnsupportedError, match="'Bayes'"):
        found.ranks()
    with pytest.raises(UnsupportedError, match="truth='prior'"):
        found.uniformity()


# --- what is drawn ----------------------------------------------------------------------------------------------------
def made_up() -> Recovery:
    """Two parameters, two methods, four fits: numbers to be found again in the figures."""
    rows = []
    for method, shift in (("REML", 0.0), ("Bayes", 0.5)):
        for parameter, truth in (("a", 1.0), ("b", 2.0)):
            for fit, error in enumerate((-1.0, 1.0, -1.0, 1.0)):
                value = truth + error + shift
                rows.append((fit, method, parameter, truth, value, 1.0, value - 1.2, value + 1.2, 10.0 * fit))
    names = ["fit", "method", "parameter", "truth", "estimate", "std_error", "lower", "upper", "rank"]
    frame = pd.DataFrame(rows, columns=names).assign(failed=False, converged=True, singular=False)
    return Recovery("y ~ x", frame, 0.95, 1, True, ())


def test_bias_and_coverage_are_drawn_by_method():
    import matplotlib.pyplot as plt

    found = made_up()
    ax = found.plot_bias()
    reml, bayes = ax.containers
    assert (reml.get_label(), bayes.get_label()) == ("REML", "Bayes")
    assert reml.lines[0].get_xdata() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert bayes.lines[0].get_xdata() == pytest.approx([0.5, 0.5])  # bias 0.5, sd of the estimates 1
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert (bayes.lines[0].get_ydata() > reml.lines[0].get_ydata()).all()
    bars = bayes.lines[2][0].get_segments()
    half = 1.96 * np.std([-1, 1, -1, 1], ddof=1) / 2
    assert bars[0][:, 0] == pytest.approx([0.5 - half, 0.5 + half])
    plt.close(ax.figure)
    own = plt.figure().subplots()
    ax = found.plot_coverage(ax=own)
    assert ax is own
    assert ax.containers[0].lines[0].get_xdata().tolist() == [1.0, 1.0]
    assert ax.containers[1].lines[0].get_xdata().tolist() == [0.5, 0.5]
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata()[0] == 0.95
    plt.close(ax.figure)
    with pytest.raises(ArgumentTypeError, match=r"hm\.recovery"):
        hm.plots.recovery_bias(found.estimates)


def test_rank_histograms_have_a_panel_for_each_parameter():
    import matplotlib.pyplot as plt

    figure = made_up().plot_ranks()
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == ["a", "b"]
    heights = [bar.get_height() for bar in panels[0].containers[0]]
    assert heights == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]  # ranks 0, 10, 20, 30
    assert panels[0].containers[0][1].get_x() == pytest.approx(10.0)
    plt.close(figure)
