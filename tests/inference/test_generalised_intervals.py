"""Profile and bootstrap intervals and refits of generalised fits: against R, closed forms, brute force.

R values: lme4 1.1-31 and stats of R 4.2.2, confint(fit, method = "profile"), which reads limits off a spline: they are
compared at 1e-3 of the interval's width, as for Gaussian models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from glmm_cases import RESPONSES, STRUCTURES, differences, frame
from scipy.optimize import minimize
from scipy.stats import norm

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood import generalised_refit
from hiermod.engines.likelihood.generalised import criterion_of, fit_generalised, rows_of
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.generalised_refit import refit, simulated
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.refit import with_response
from hiermod.errors import ArgumentTypeError, ConvergenceWarning, DataError, FitError, UnknownNameError
from hiermod.formula.build import build_design
from hiermod.inference.bootstrap.bootstrap import bootstrap
from hiermod.inference.bootstrap.generalised_worker import GeneralisedWorker
from hiermod.inference.profile.curves import parameters_of, profile
from hiermod.inference.profile.deviance import Parameter
from hiermod.inference.profile.generalised_deviance import held_functions
from hiermod.model import Model

Q = float(norm.ppf(0.975))
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def fit(response: str, structure: str, nodes: int = 1) -> GeneralisedMixedFit:
    left, family, link = RESPONSES[response]
    return fit_generalised(build_design(f"{left} ~ {structure}", frame(), family=family), family, link, nodes)


@pytest.fixture(scope="module")
def cbpp():
    return Model(CBPP, load_dataset("cbpp"), family="binomial")


CBPP_LIMITS = {  # by number of nodes
    1: [
        (-1.9012119549, -0.9477540060),
        (-1.6167832557, -0.4077630678),
        (-1.8010243656, -0.5115360713),
        (-2.5007505630, -0.8007553153),
        (0.3460732033, 1.0999746482),
    ],
    9: [
        (-1.9046829849, -0.9462134481),
        (-1.6160838427, -0.4066110579),
        (-1.8004083071, -0.5104501469),
        (-2.5001920348, -0.7995923882),
        (0.3488015514, 1.1112920577),
    ],
}


@pytest.mark.parametrize("nodes", [1, 9])
def test_limits_of_cbpp_are_lme4s(cbpp, nodes: int) -> None:
    """confint(glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial, nAGQ = 1 or 9))."""
    table = cbpp.ml(nodes=nodes).confint()
    expected = np.array(CBPP_LIMITS[nodes])
    assert list(table.index) == ["Intercept", "period[2]", "period[3]", "period[4]", "1|herd_sigma"]
    assert (np.abs(table.to_numpy() - expected) / np.diff(expected)).max() < 1e-3
    assert table.attrs["method"] == "profile"


def test_limits_of_two_factors_are_lme4s() -> None:
    """confint(glmer(r2 ~ Anger + Gender + btype + (1 | id) + (1 | item), VerbAgg of the first 40 ids, binomial)).

    lme4 takes a minute for it.  2e-3 of the width: its searches along btype stop short, so its limits are narrower."""
    d = load_dataset("verbagg")
    first = d["id"].cat.categories[:40] if hasattr(d["id"], "cat") else sorted(d["id"].unique())[:40]
    d = d[d["id"].isin(list(first))]
    d = d.assign(id=pd.Categorical(d["id"].astype(str)))
    table = Model("r2 ~ Anger + Gender + btype + (1 | id) + (1 | item)", d, family="bernoulli").ml().confint()
    expected = np.array(
        [
            (-1.39565794586, 2.2642917115),
            (-0.05540021953, 0.1082303257),
            (-1.77286604191, 0.6376660596),
            (-2.41795814898, -0.4631219165),
            (-2.54547649490, -0.5839976661),
            (1.08694429539, 1.9043916690),
            (0.60370541660, 1.2539732882),
        ]
    )
    assert (np.abs(table.to_numpy() - expected) / np.diff(expected)).max() < 2e-3


def test_limits_without_group_effects_are_rs() -> None:
    """confint(glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp))."""
    table = Model(CBPP.replace("+ (1 | herd)", ""), load_dataset("cbpp"), family="binomial").ml().confint()
    expected = [
        (-1.561158762, -0.9920265530),
        (-1.769536630, -0.6204795413),
        (-1.950883107, -0.7157270970),
        (-2.680659360, -1.0375518105),
    ]
    assert table.to_numpy() == pytest.approx(np.array(expected), abs=5e-4)


def test_a_poisson_mean_has_the_closed_form() -> None:
    """Intercept alone: zeta^2 = 2 (total (log mean - eta) - n (mean - e^eta)); solved by bisection."""
    from scipy.optimize import brentq

    y = np.array([3, 0, 2, 5, 1, 1, 4])
    table = Model("y ~ 1", pd.DataFrame({"y": y}), family="poisson").ml().confint()
    n, mean = len(y), y.mean()

    def rise(eta: float) -> float:
        return 2 * (y.sum() * (np.log(mean) - eta) - n * (mean - np.exp(eta))) - Q**2

    expected = [brentq(rise, np.log(mean) - 3, np.log(mean)), brentq(rise, np.log(mean), np.log(mean) + 3)]
    assert table.loc["Intercept"].to_numpy() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("response", "structure"),
    [
        ("binomial logit", "one factor"),
        ("bernoulli cloglog", "uncorrelated"),
        ("poisson log", "slopes, crossed, offset"),
        ("binomial logit", "chain of three"),
    ],
)
def test_gradient_of_the_held_criterion(response: str, structure: str) -> None:
    """Against central differences of step 1e-5, at a point beside the estimate: 1e-5 of the largest element."""
    left, family, link = RESPONSES[response]
    design = build_design(f"{left} ~ {STRUCTURES[structure]}", frame(), family=family)
    found = fit_generalised(design, family, link)
    function_of, rng = held_functions(found), np.random.default_rng(3)
    kinds = {}
    for parameter in parameters_of(found):
        kinds.setdefault(parameter.kind, parameter)
    for parameter in kinds.values():
        held = function_of(parameter)
        assert held(held.phi, held.start)[0] == pytest.approx(found.criterion, abs=1e-8)
        z = np.array([held.phi, *held.start]) + 0.1 * rng.normal(size=1 + len(held.start))
        _, slope, gradient = held(z[0], z[1:])
        slow = differences(lambda at, f=held: f(at[0], at[1:])[0], z)
        assert np.array([slope, *gradient]) == pytest.approx(slow, abs=1e-5 * np.abs(slow).max()), parameter


def test_limits_against_another_optimiser() -> None:
    """Correlated slopes of counts: with one parameter held at its limit L-BFGS-B over the rest finds zeta = 1.96."""
    found = fit("poisson log", "x + (x | a)")
    design = found.design
    criterion = criterion_of(rows_of(design), found.likelihood, design, 1)
    problem = criterion.rows.problem

    def value(beta: np.ndarray, sds: np.ndarray, rho: float) -> float:
        lam = np.array([[sds[0], 0.0], [sds[1] * rho, sds[1] * np.sqrt(1 - rho**2)]])
        return criterion(problem.x_from_theta(problem.template.pack([lam])), problem.R @ beta).value

    curves = {c.parameter: c for c in profile(found).curves}
    sd = curves[Parameter("sd", 0, 0)]
    slope = curves[Parameter("fixed", i=1)]
    assert np.isfinite([sd.lower, sd.upper, slope.lower, slope.upper]).all()
    start = np.array([*found.beta, *np.sqrt(np.diag(found.covariance[0])), 0.3])
    for at, limit in ((2, sd.upper), (1, slope.lower), (1, slope.upper)):

        def others(free: np.ndarray, at: int = at, limit: float = limit) -> float:
            z = np.insert(free, at, limit)
            return value(z[:2], np.abs(z[2:4]), np.clip(z[4], -1, 1))

        bounds = [b for i, b in enumerate([(None, None)] * 2 + [(0.0, None)] * 2 + [(-1.0, 1.0)]) if i != at]
        best = min(
            minimize(
                others, np.delete(start, at) + shift, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}
            ).fun
            for shift in (0.0, 0.1)
        )
        assert np.sqrt(best - found.criterion) == pytest.approx(Q, abs=1e-3)  # numerical gradients


def test_boundaries_and_names_of_a_profile() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefghijkl"), 10), "x": rng.normal(size=120), "y": rng.poisson(3, 120)})
    with pytest.warns(UserWarning, match="rank deficient"):
        nothing = Model("y ~ x + I(2 * x) + (1 | g)", data, family="poisson")
    with pytest.warns(UserWarning, match="singular"):
        table = nothing.ml().confint()
    assert table.loc["1|g_sigma", "lower"] == 0.0
    assert table.loc["1|g_sigma", "upper"] > 0.05
    assert "boundary" in table.attrs["notes"]["1|g_sigma"]
    assert table.loc["I(2 * x)"].isna().all()
    with pytest.warns(UserWarning, match="singular"):
        fitted = nothing.ml()
    curves = fitted.profile(parameters=["x"])
    assert set(curves["parameter"]) == {"x"}
    assert (np.diff(curves["zeta"]) > 0).all()
    with pytest.raises(UnknownNameError, match=r"1\|g_sigma"):
        fitted.confint(parameters=["1|g_sigmo"])
    with pytest.raises(ArgumentTypeError, match="list of names"):
        fitted.confint(parameters="x")
    wald = fitted.confint(method="wald").loc["x"]
    assert wald.to_numpy() == pytest.approx(fitted.fixef().loc["x", ["lower", "upper"]].to_numpy())


@pytest.mark.parametrize(("response", "nodes"), [("binomial logit", 1), ("poisson log", 1), ("bernoulli cloglog", 7)])
def test_a_refit_is_a_fresh_fit(response: str, nodes: int) -> None:
    """The same responses through a new model: two searches of one function, 1e-7 in the criterion."""
    structure = "x + (1 | a)" if nodes > 1 else "x + (x | a) + (1 | b)"
    one = fit(response, structure, nodes)
    y = simulated(one, 2, np.random.default_rng(1))[1]
    again = refit(one, y)
    _, family, link = RESPONSES[response]
    fresh = fit_generalised(with_response(one.design, y), family, link, nodes)
    assert again.criterion == pytest.approx(fresh.criterion, abs=1e-7)
    assert again.beta == pytest.approx(fresh.beta, abs=1e-4)
    assert again.nodes == nodes
    same = refit(one, one.design.y)
    assert same.criterion == pytest.approx(one.criterion, abs=1e-8)


def test_refits_in_the_vocabulary(cbpp) -> None:
    fitted = cbpp.ml()
    y = fitted.simulate(1, random_seed=3)["sim_1"]
    again = fitted.refit(y.sample(frac=1.0, random_state=1))  # labels, not positions
    data = load_dataset("cbpp").assign(incidence=y.to_numpy())
    assert again.criterion == pytest.approx(Model(CBPP, data, family="binomial").ml().criterion, abs=1e-7)
    assert again.family == "binomial"
    for bad, why in (
        (y + 0.5, "whole numbers of successes"),
        (y + 100, "between 0 and the trials"),
        (y[:-1], "56 rows"),
    ):
        with pytest.raises(DataError, match=why):
            fitted.refit(bad.to_numpy())
    counts = Model("y ~ 1", pd.DataFrame({"y": [1, 2, 4]}), family="poisson").ml()
    assert counts.refit(np.array([3, 3, 6])).fixef()["estimate"].iloc[0] == pytest.approx(np.log(4))
    with pytest.raises(DataError, match="counts 0, 1, 2"):
        counts.refit(np.array([3.5, 3, 6]))


def test_bootstrap_is_a_loop_of_fits(cbpp) -> None:
    """The same simulated responses, each given to a new fit: criterion 1e-6, coefficients 1e-4, sds 1e-3."""
    record = cbpp.ml().record
    found, worker = bootstrap(record, 12, random_seed=3), GeneralisedWorker(record)
    Y = np.concatenate([worker.simulate(count, rng) for count, rng in worker.jobs(12, 3)])
    loop = [fit_generalised(with_response(record.design, y), "binomial", "logit") for y in Y]
    assert found.converged.all()
    assert found.criterion == pytest.approx([each.criterion for each in loop], abs=1e-6)
    assert found.values[:, :4] == pytest.approx(np.array([each.beta for each in loop]), abs=1e-4)
    assert found.values[:, 4] == pytest.approx(np.array([each.theta[0] for each in loop]), abs=1e-3)
    assert found.estimate[:4] == pytest.approx(record.beta)


def test_bootstrap_tables_seeds_and_processes(cbpp) -> None:
    fitted = cbpp.ml()
    one, two = (fitted.confint(method="bootstrap", draws=12, random_seed=5, cores=cores) for cores in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert list(one.index) == list(fitted.parameters().index)
    assert (one["lower"] < one["upper"]).all()
    assert (one.attrs["draws"], one.attrs["random_seed"], one.attrs["failed"]) == (12, 5, 0)


def test_bootstrap_of_a_mean_has_its_law() -> None:
    """Poisson, intercept alone: e^beta* is the mean of n Poisson numbers; its quantiles, to 4 Monte Carlo errors."""
    from scipy.stats import poisson

    y, draws = np.full(40, 3), 400
    record = fit_glm(
        build_design("y ~ 1", pd.DataFrame({"y": np.r_[y[:-2], 2, 4]}), family="poisson"), "poisson", "log"
    )
    found = bootstrap(record, draws, random_seed=2)
    means = np.exp(found.values[:, 0])
    assert abs(means.mean() - 3) < 4 * np.sqrt(3 / 40 / draws)
    share = (means * 40 <= 120.5).mean()
    exact = poisson.cdf(120, 120)
    assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / draws)


def test_responses_that_separate_are_counted_and_left_out(monkeypatch, cbpp) -> None:
    record, usual, calls = cbpp.ml().record, generalised_refit.fit_rows, []

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) % 4 == 0:
            raise FitError("separation")
        return usual(*arguments)

    monkeypatch.setattr(generalised_refit, "fit_rows", sometimes)
    with pytest.warns(ConvergenceWarning, match=r"of 12 bootstrap refits 3 failed .*separation \(3 times\)"):
        table = (
            Model(CBPP, load_dataset("cbpp"), family="binomial")
            .ml()
            .confint(method="bootstrap", draws=12, random_seed=1)
        )
    assert table.attrs["failed"] == 3
    assert len(simulated(record, 2, np.random.default_rng(1))) == 2
