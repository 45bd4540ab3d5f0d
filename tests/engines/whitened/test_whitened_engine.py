"""The whitened engine's posteriors: against NUTS on the graph, against quadrature, at edges; its gate and its words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from whitened_cases import model_of

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.whitened import engine
from hiermod.engines.whitened.mode import find_mode
from hiermod.engines.whitened.model_arrays import start_of
from hiermod.errors import ArgumentError, FitError, UnsupportedError
from hiermod.model import Model

pytestmark = pytest.mark.filterwarnings("ignore::hiermod.errors.ConvergenceWarning")  # of few draws; .ok is looked at
CBPP = "p(incidence, size) ~ period + (1 | herd)"


def binary(levels: int = 30, rows: int = 8, seed: int = 5, **columns) -> pd.DataFrame:
    """Rows of 0 and 1 in groups with a sd of 0.9 and a slope of 0.7."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    x = rng.normal(size=len(g))
    eta = -0.3 + 0.7 * x + 0.9 * rng.normal(size=levels)[g]
    return pd.DataFrame({"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "g": g} | columns)


def draws_of(fit, name):
    return np.asarray(versions.posterior_dataset(fit.idata)[name].values)


@pytest.fixture(scope="module")
def herds():
    return Model(CBPP, load_dataset("cbpp"), family="binomial").fit(random_seed=1, progressbar=False)


def test_auto_takes_it_and_says_why(herds):
    how = herds.inference
    assert how.method == "whitened"
    assert how.reason.startswith(engine.REASON)
    assert (how.draws, how.chains, how.tune) == (1000, 4, 200)
    assert how.ok
    assert how.min_ess_bulk > 3000  # of 4000; NUTS on the graph has 800


def test_the_same_posterior_as_nuts_on_the_graph(herds):
    model = Model(CBPP, load_dataset("cbpp"), family="binomial")
    graph = model.fit(inference_method="nutpie", random_seed=2, progressbar=False)
    ours, theirs = versions.posterior_dataset(herds.idata), versions.posterior_dataset(graph.idata)
    assert set(ours.data_vars) == set(theirs.data_vars)
    for name in theirs.data_vars:
        assert ours[name].dims == theirs[name].dims
        a = np.asarray(ours[name].values).reshape(4, 1000, -1)
        b = np.asarray(theirs[name].values).reshape(4, 1000, -1)
        for method, probability in (("mean", None), ("quantile", 0.025), ("quantile", 0.975)):
            at = [
                np.quantile(one, probability, axis=(0, 1)) if probability else one.mean(axis=(0, 1)) for one in (a, b)
            ]
            error = np.hypot(versions.mcse(a, method, probability), versions.mcse(b, method, probability))
            # 60 numbers: one false alarm in 3,000 runs
            assert np.all(np.abs(at[0] - at[1]) < 4.5 * error), (name, method)


def test_the_same_seed_the_same_draws_whatever_cores():
    model = Model("y ~ x + (x | g)", binary(), family="bernoulli")
    one = model.fit(draws=50, random_seed=3, cores=1, chains=3)
    two = model.fit(draws=50, random_seed=3, cores=3, chains=3)
    np.testing.assert_array_equal(one.record.beta, two.record.beta)
    np.testing.assert_array_equal(one.record.effects[0], two.record.effects[0])


def test_quadrature_agrees(herds):
    """Means under the density of (beta, sd) with each herd's effect integrated out by 31 nodes, by importance sampling
    from a t distribution fitted to the draws."""
    from scipy import special, stats

    design, priors = herds.design, {one.parameter: one.law for one in herds.model._prior_entries()}
    X = design.X - np.where(np.array(design.common) == "Intercept", 0.0, design.X.mean(axis=0))
    block = design.blocks[0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)

    def log_density(beta, log_sd):  # beta of centred predictors
        eta = X @ beta
        value = sum(priors[name].scipy().logpdf(b) for name, b in zip(design.common, beta, strict=True))
        value += priors["1|herd_sigma"].scipy().logpdf(np.exp(log_sd)) + log_sd
        whole = eta[:, None] + np.exp(log_sd) * nodes
        rows = design.y[:, None] * whole - design.trials[:, None] * np.logaddexp(0.0, whole)
        per_level = np.stack([np.bincount(block.codes, one) for one in rows.T], axis=1)
        return value + special.logsumexp(per_level, b=weights / weights.sum(), axis=1).sum()

    beta = herds.record.beta.reshape(-1, 4).copy()
    beta[:, 0] += beta[:, 1:] @ design.X[:, 1:].mean(axis=0)
    points = np.column_stack([beta, np.log(herds.record.sd[0].ravel())])
    proposal = stats.multivariate_t(points.mean(axis=0), 1.2 * np.cov(points.T), df=5, seed=4)
    sample = proposal.rvs(1500)
    logs = np.array([log_density(one[:4], one[4]) for one in sample]) - proposal.logpdf(sample)
    w = np.exp(logs - logs.max())
    w /= w.sum()
    for name, values, exact in (
        ("slope", points[:, 1], sample[:, 1]),
        ("intercept", points[:, 0], sample[:, 0]),
        ("log sd", points[:, 4], sample[:, 4]),
        ("small sd", points[:, 4] < np.log(0.4), sample[:, 4] < np.log(0.4)),
    ):
        mean = w @ exact
        error = np.sqrt(np.square(w * (exact - mean)).sum())
        own = float(versions.mcse(np.asarray(values, dtype=float).reshape(4, 1000)))
        assert abs(np.mean(values) - mean) < 4.5 * np.hypot(error, own), name


# --- what a posterior answers ------------------------------------------------------------------------------------


def test_everything_that_a_posterior_answers(herds, tmp_path):
    from hiermod import load

    assert herds.fixef().shape[0] == 4
    assert len(herds.ranef("herd")) == 15
    assert herds.predict()["estimate"].between(0, 1).all()
    assert len(herds.predict(target="new_group", interval=0.9, random_seed=1)) == 56
    assert herds.loo().estimator
    assert herds.waic().elpd < 0
    assert herds.posterior_predictive(draws=40, random_seed=1).shape == (4, 10, 56)
    assert herds.log_likelihood().shape == (4, 1000, 56)
    assert "NUTS, group effects whitened" in str(herds.summary())
    assert str(herds.check())
    assert {"posterior", "sample_stats", "observed_data"} <= set(versions.group_names(herds.idata))
    herds.save(tmp_path / "fit.nc")
    again = load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.record.beta, herds.record.beta)
    assert repr(again.inference) == repr(herds.inference)  # nan is not nan
    np.testing.assert_array_equal(again.predict().to_numpy(), herds.predict().to_numpy())


def test_further_parameters_have_their_names():
    fit = model_of("one factor", "negativebinomial", "log", priors={}).fit(draws=100, random_seed=1, progressbar=False)
    assert fit.inference.method == "whitened"
    assert set(fit.record.auxiliary) == {"alpha"}
    assert draws_of(fit, "alpha").shape == (4, 100)
    assert "alpha" in fit.parameters().index
    assert fit.posterior_predictive(draws=8, random_seed=1).shape[2] == 150


@pytest.mark.stack
def test_zero_inflated_counts_have_bambis_prior_of_psi():
    """Beta(2, 2) on psi: means against sums over a grid of all three parameters, each group integrated by 21 nodes."""
    data = pd.DataFrame({"y": [3, 0, 5, 0, 2, 4, 0, 6, 1, 3, 0, 5], "g": list("aaaabbbbcccc")})
    model = Model("y ~ 1 + (1 | g)", data, family="zero_inflated_poisson")
    fit = model.fit(random_seed=1, progressbar=False)
    assert fit.inference.method == "whitened"

    beta, sd = np.linspace(-2.5, 4.0, 45), np.linspace(0.01, 6.0, 45)
    psi = np.linspace(0.0125, 0.9875, 40)
    z, w = np.polynomial.hermite_e.hermegauss(21)
    log_w = np.log(w / w.sum())
    eta = beta[:, None, None] + sd[:, None] * z
    y = data["y"].to_numpy()
    rows = stats.poisson.logpmf(y[:, None, None, None], np.exp(eta))[..., None]
    inflated = np.where(
        y[:, None, None, None, None] == 0, np.log(1 - psi + psi * np.exp(rows)), np.log(psi) + rows
    )  # (rows, beta, sd, nodes, psi)
    levels = [special.logsumexp(inflated[4 * k : 4 * k + 4].sum(axis=0) + log_w[:, None], axis=2) for k in range(3)]
    priors = {entry.parameter: entry.law.scipy() for entry in model._prior_entries() if entry.law is not None}
    total = sum(levels) + priors["Intercept"].logpdf(beta)[:, None, None]
    total = total + priors["1|g_sigma"].logpdf(sd)[:, None] + priors["psi"].logpdf(psi)
    weight = np.exp(total - total.max())
    weight /= weight.sum()
    table = fit.parameters()
    for name, values, axes in (("psi", psi, (0, 1)), ("Intercept", beta, (1, 2)), ("1|g_sigma", sd, (0, 2))):
        expected = float(weight.sum(axis=axes) @ values)
        # of three groups: the tails are so heavy that the Monte Carlo errors are uncertain themselves (6.4 were seen)
        assert abs(table.loc[name, "estimate"] - expected) < 8 * table.loc[name, "mcse"] + 0.01 * abs(expected)


def test_a_fixed_parameter_stays_fixed():
    fit = model_of("one factor", "negativebinomial", "log", priors={"alpha": 2.0}).fit(draws=20, random_seed=1)
    assert fit.inference.method == "whitened"
    assert (fit.record.auxiliary["alpha"] == 2.0).all()


# --- edges -------------------------------------------------------------------------------------------------------


def test_an_sd_of_zero():
    rng = np.random.default_rng(2)
    data = binary().assign(y=lambda d: (rng.random(len(d)) < 0.4).astype(int))
    fit = Model("y ~ x + (1 | g)", data, family="bernoulli").fit(random_seed=1)
    assert fit.inference.ok
    sd = fit.record.sd[0]
    assert (sd > 0).all()
    assert (sd < 0.1).mean() > 0.1  # the density is positive at 0


def test_separation_all_zeros_and_large_counts():
    data = binary()
    separated = Model("y ~ x + (1 | g)", data.assign(y=(data["x"] > 0).astype(int)), family="bernoulli")
    fit = separated.fit(random_seed=1)
    assert fit.inference.ok
    assert fit.fixef().loc["x", "estimate"] > 2
    one = np.zeros(len(data), dtype=int)
    one[7] = 1  # no variation at all is refused by name before
    zeros = Model("y ~ x + (1 | g)", data.assign(y=one), family="poisson").fit(random_seed=1)
    assert zeros.inference.ok
    assert zeros.fixef().loc["Intercept", "estimate"] < -3
    rng = np.random.default_rng(3)
    counts = rng.poisson(1e6 * np.exp(0.1 * data["x"] + 0.2 * rng.normal(size=30)[data["g"]]))
    large = Model("y ~ x + (1 | g)", data.assign(y=counts), family="poisson").fit(random_seed=1)
    assert large.inference.ok
    assert large.fixef().loc["x", "estimate"] == pytest.approx(0.1, abs=0.001)  # sd about 1 / sqrt(240e6)


def test_the_mode_of_counts_in_many_groups_is_found():
    """Whole Newton steps overshoot by decades on a log scale, and numbers of effects grow with the groups."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(1500), 4)
    x = rng.normal(size=len(g))
    b = rng.normal(size=(1500, 2)) * (1.0, 0.5)
    y = rng.poisson(np.exp(0.5 + 0.3 * x + b[g, 0] + b[g, 1] * x))
    model = Model("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g}), family="poisson")
    start = start_of(model._specification())
    mode = find_mode(start.whitening, start.t, start.eta)
    sds = [float(mode.whitening.scalar(mode.t, s)) for s in range(2)]
    np.testing.assert_allclose(sds, (1.0, 0.5), rtol=0.1)  # of 1,500 groups; sds of the sds are about 0.02
    gradient = mode.whitening.density(np.concatenate([mode.t, np.zeros(3002)]))[1]
    assert np.abs(gradient[: mode.whitening.head]).max() < 5  # each of some 1,500 levels adds to it


def test_one_coefficient_and_nothing_else():
    """No sd, no further parameter: t has no numbers."""
    y = np.random.default_rng(3).exponential(2.0, 80)
    fit = Model("y ~ 1", pd.DataFrame({"y": y}), family="exponential").fit(random_seed=1)
    assert fit.inference.method == "whitened"
    # the posterior of log(mean): Gamma(80, sum of y) of the rate, under so wide a prior
    rate = stats.gamma(80, scale=1 / y.sum())
    values = np.exp(-draws_of(fit, "Intercept"))
    assert values.mean() == pytest.approx(rate.mean(), abs=4.5 * float(versions.mcse(values[..., None])[0]) + 0.002)


def test_correlated_effects_agree_with_the_exact_posterior():
    """Of a Gaussian model, which the marginal engine draws without a chain of effects: sds, correlations, effects."""
    rng = np.random.default_rng(6)
    data = binary(levels=20, rows=6)
    b = rng.normal(size=(20, 2)) @ np.array([[0.8, 0.0], [0.4, 0.5]]).T
    data["y"] = 1 + data["x"] + b[data["g"], 0] + b[data["g"], 1] * data["x"] + 0.5 * rng.normal(size=len(data))
    model = Model("y ~ x + (x | g)", data)
    exact = model.fit(random_seed=1)
    ours = model.fit(inference_method="whitened", random_seed=2)
    assert exact.inference.method == "marginal"
    for name in ("Intercept", "x", "sigma", "1|g_sigma", "x|g_sigma", "1|g", "x|g", "g_corr"):
        a, b = draws_of(ours, name).reshape(4, 1000, -1), draws_of(exact, name).reshape(4, 1000, -1)
        varies = a.std(axis=(0, 1)) > 1e-12  # not the diagonal of correlations
        a, b = a[..., varies], b[..., varies]
        error = np.hypot(versions.mcse(a), versions.mcse(b))
        assert np.all(np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) < 4.5 * error), name
        assert np.mean(a.std(axis=(0, 1)) / b.std(axis=(0, 1))) == pytest.approx(1.0, abs=0.06)  # of some 1,500 draws


# --- the gate ----------------------------------------------------------------------------------------------------


def test_draws_that_fall_short_are_made_again_and_said(monkeypatch):
    model = Model("y ~ x + (1 | g)", binary(), family="bernoulli")
    usual, seen = engine.draw, []

    def diverging(start, attempt, *rest):
        w, run, tuned = usual(start, attempt, *rest)
        seen.append(attempt)
        run.stats[0, 0, engine.DIVERGED] = float(len(seen) == 1)
        return w, run, tuned

    monkeypatch.setattr(engine, "draw", diverging)
    fit = model.fit(draws=100, random_seed=1)
    assert [one.target for one in seen] == [0.8, 0.95]
    assert [one.times for one in seen] == [1.0, 3.0]
    assert "1 transitions diverged, so the draws were made again" in fit.inference.reason
    assert fit.inference.divergences == 0


def test_slow_chains_are_seen():
    rng = np.random.default_rng(1)
    energy = np.cumsum(rng.normal(size=(4, 1000)), axis=1)
    assert engine.e_bfmi(energy) < 0.1 < 1.5 < engine.e_bfmi(rng.normal(size=(4, 1000)))
    good = (1.002, 900.0, 800.0, ())
    assert engine._shortfall(good, 0, 1.0, 1000, 4) is None
    assert "diverged" in engine._shortfall(good, 3, 1.0, 1000, 4)
    assert "R-hat was 1.050" in engine._shortfall((1.05, 900.0, 800.0, ()), 0, 1.0, 1000, 4)
    assert "sample size was 300" in engine._shortfall((1.0, 900.0, 300.0, ()), 0, 1.0, 1000, 4)
    assert "E-BFMI was 0.20" in engine._shortfall(good, 0, 0.2, 1000, 4)


def test_the_last_of_three_attempts_is_the_most_careful(monkeypatch):
    """Slopes of a predictor far from 0 in six groups: the first two attempts may leave a divergence, the graph more."""
    seen = []

    def diverging(start, attempt, *rest):
        w, run, tuned = usual(start, attempt, *rest)
        seen.append(attempt)
        run.stats[0, 0, engine.DIVERGED] = float(len(seen) < 3)
        return w, run, tuned

    usual = engine.draw
    monkeypatch.setattr(engine, "draw", diverging)
    fit = Model("y ~ x + (1 | g)", binary(), family="bernoulli").fit(draws=100, random_seed=1)
    assert [(one.target, one.every) for one in seen] == [(0.8, 1), (0.95, 1), (0.99, 2)]
    assert fit.inference.method == "whitened"


class Graph:
    """In the place of nutpie: a record of this R-hat, or an error where there is none."""

    def __init__(self, r_hat):
        self.r_hat = r_hat

    def run(self, model, sampling, **settings):
        if self.r_hat is None:
            raise FitError("nutpie stopped: all initialization points failed")
        fit = engine.sample_whitened(model, draws=50, random_seed=2)
        return replace(fit, inference=replace(fit.inference, method="nutpie", max_r_hat=self.r_hat))


@pytest.mark.parametrize(
    ("r_hat", "method", "words"),
    [
        (1.004, "nutpie", "NUTS on the graph, since draws"),
        (3.7, "whitened", "chains on the graph agreed less (R-hat 3.700)"),
        (None, "whitened", "the graph could not be sampled: nutpie stopped: all initialization points failed"),
    ],
)
def test_of_two_that_fell_short_the_one_whose_chains_agree(monkeypatch, r_hat, method, words):
    model = Model("y ~ x + (1 | g)", binary(), family="bernoulli")._specification()
    usual = engine.draw

    def diverging(start, attempt, draws, *rest):
        w, run, tuned = usual(start, attempt, draws, *rest)
        run.stats[0, 0, engine.DIVERGED] = float(draws == 200)
        return w, run, tuned

    monkeypatch.setattr(engine, "draw", diverging)
    monkeypatch.setattr(engine, "NUTPIE", Graph(r_hat))
    how = engine.sample_whitened(model, draws=200, random_seed=1).inference
    assert how.method == method
    assert words in how.reason
    assert how.divergences == (method == "whitened")


def test_an_approximation_without_an_inverse_is_tried_more_carefully(monkeypatch):
    model = Model("y ~ x + (1 | g)", binary(), family="bernoulli")._specification()
    usual = engine.draw

    def failing(start, attempt, *rest):
        if attempt.target == 0.8:
            raise np.linalg.LinAlgError
        return usual(start, attempt, *rest)

    monkeypatch.setattr(engine, "draw", failing)
    how = engine.sample_whitened(model, draws=100, random_seed=1).inference
    assert how.method == "whitened"
    assert "has no inverse, so the draws were made again" in how.reason
    monkeypatch.setattr(engine, "draw", lambda *asked: failing(asked[0], engine.Attempt(1, 0.8)))
    monkeypatch.setattr(engine, "NUTPIE", Graph(None))
    with pytest.raises(FitError, match="all initialization points failed"):
        engine.sample_whitened(model, draws=100, random_seed=1)


# --- obstacles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"link": "identity", "family": "poisson"}, "family 'poisson' with link 'identity' has no row function"),
        ({"priors": {"x": "Laplace(mu=0, b=1)"}}, "the prior of 'x' is Laplace"),
        ({"priors": {"1|g": "Pareto(alpha=3, m=1)"}}, "the prior of '1|g_sigma' is Pareto"),
        ({"priors": {"1|g": "HalfFlat()"}}, "may be improper"),
        ({"formula": "y ~ x + cs(0 + f | g)"}, "has a structure"),
        ({"family": "gaussian", "parameters": {"sigma": "x"}}, "sigma has a formula of its own"),
        ({"family": "gaussian", "weights": "w"}, "weights or known standard deviations"),
    ],
)
def test_what_it_cannot_take_it_says(change, words):
    data = binary(f=np.tile(list("abcd"), 60), w=1.0)
    asked = {"formula": "y ~ x + (1 | g)", "family": "bernoulli"} | change
    model = Model(asked.pop("formula"), data, **asked)
    with pytest.raises(UnsupportedError, match=r"nutpie") as raised:
        model.fit(inference_method="whitened")
    assert words in str(raised.value)


def test_settings_are_checked():
    model = Model("y ~ x + (1 | g)", binary(), family="bernoulli")
    with pytest.raises(ArgumentError, match="draws"):
        model.fit(draws=2)
    with pytest.raises(ArgumentError, match="target_accept"):
        model.fit(target_accept=2.0)
    with pytest.raises(ArgumentError, match="warmest"):
        model.fit(warmest=1)
    assert model.fit(draws=10, tune=40, random_seed=1, chains=1, cores=1).inference.tune == 40
