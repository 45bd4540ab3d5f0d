"""Lognormal, beta-binomial and von Mises models in all that a family is asked for, and what is their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from family_cases import data, made_up, model
from scipy import stats

import hiermod as hm
from hiermod.core import versions
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import DataError, FormulaError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.fits.targets import read_request

NAMES = ("lognormal", "beta_binomial", "vonmises")
DRAWS = 60


@pytest.fixture(scope="module", params=NAMES)
def fit(request):
    return made_up(request.param, DRAWS)


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")  # the draws are made up: no posterior
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_everything_is_answered(fit):
    name, rows = fit.family, data(fit.family).iloc[[3, 50, 200]]
    for target in ("conditional", "population", "new_group"):
        table = fit.predict(rows, target=target, interval=0.9, kind="response")
        assert (table["lower"] <= table["upper"]).all()
        assert np.isfinite(table).all(axis=None)
    simulated = fit.simulate(20, 3)
    support = FAMILIES[name].support
    assert simulated.shape == (fit.nobs, 20)
    assert support is None or not support.outside(simulated.to_numpy()).any()
    assert fit.predictive_check(random_seed=1)["p"].between(0, 1).all()
    assert fit.simulated_residuals(draws=60, random_seed=1).tests()["p"].between(0, 1).all()
    loo = fit.loo(refit_bad=False, progressbar=False)
    assert np.isfinite(loo.elpd_i).all()
    assert name in str(fit.report())
    assert len(fit.parameters()) == 2 + len(FAMILIES[name].parameters) + 3
    assert fit.summary()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lognormal", "y_ij ~ LogNormal(μij, σ)"),
        ("beta_binomial", "y_ij ~ BetaBinomial(n_ij, μij, κ)"),
        ("vonmises", "y_ij ~ VonMises(μij, κ)"),
    ],
)
def test_equations(name, line):
    assert model(name).equation().text[0].lines[0] == line


@pytest.mark.parametrize("name", NAMES)
def test_simulated_data_have_the_law_of_scipy(name):
    """hm.simulate, one number for the linear predictor: Kolmogorov and Smirnov, or chi-square."""
    frame = pd.DataFrame({"x": np.zeros(4000), "n": np.full(4000, 6)})
    given = {"lognormal": {"sigma": 0.7}, "beta_binomial": {"kappa": 3.0}, "vonmises": {"kappa": 2.0}}[name]
    own = {"sigma": given["sigma"]} if "sigma" in given else {"auxiliary": given}
    left = "p(y, n)" if name == "beta_binomial" else "y"
    d = hm.simulate(f"{left} ~ 1", frame, {"Intercept": 0.4}, family=name, random_seed=2, **own)
    assert d.attrs["truth"] == {"Intercept": 0.4, **given}
    y = d["y"].to_numpy()
    if name == "beta_binomial":
        mu = 1 / (1 + np.exp(-0.4))
        chances = stats.betabinom(6, mu * 3, (1 - mu) * 3).pmf(np.arange(7))
        assert stats.chisquare(np.bincount(y.astype(int), minlength=7), chances * 4000).pvalue > 1e-4
        return
    law = stats.lognorm(0.7, scale=np.exp(0.4)) if name == "lognormal" else stats.vonmises(2.0, 0.4)
    y = y if name == "lognormal" else y - 2 * np.pi * np.round((y - 0.4) / (2 * np.pi))
    assert stats.kstest(y, law.cdf).pvalue > 1e-4  # 1 false alarm in 10,000


@pytest.mark.parametrize(
    ("name", "y", "says"),
    [("lognormal", 0.0, "for positive numbers"), ("vonmises", 4.0, "angles in radians, from -pi to pi")],
)
def test_what_they_cannot_have_is_refused(name, y, says):
    d = data(name).copy()
    d.loc[7, "y"] = y
    with pytest.raises(DataError, match=says):
        hm.Model("y ~ x", d, family=name)


def test_counts_out_of_trials_are_needed_and_kept_to_their_families():
    d = data("beta_binomial")
    with pytest.raises(DataError, match="family 'beta_binomial' needs counts"):
        hm.Model("y ~ x", d, family="beta_binomial")
    with pytest.raises((DataError, FormulaError), match="counts out of trials"):
        hm.Model("p(y, n) ~ x", d, family="lognormal")
    with pytest.raises(UnsupportedError, match="vonmises"):
        model("vonmises").ml()


@pytest.mark.stack
def test_the_lognormal_is_the_gaussian_of_the_logarithm():
    """Densities at one point of both graphs differ by the sum of log y, the Jacobian; shares of variance do not."""
    d = data("lognormal")
    with collected():
        mine = hm.Model("y ~ x", d, family="lognormal", priors={"sigma": 0.7}).pymc
        gaussian = hm.Model("log(y) ~ x", d, priors={"sigma": 0.7}).pymc
        point = {"Intercept": np.array(0.3), "x": np.array(0.2)}
        logs = [
            float(graph.compile_logp(vars=list(graph.observed_RVs), mode="FAST_COMPILE")(point))
            for graph in (mine, gaussian)
        ]
    assert logs[0] == pytest.approx(logs[1] - np.log(d["y"]).sum(), rel=1e-12)
    fit = made_up("lognormal", DRAWS)
    sigma = fit.record.sigma.reshape(-1)
    request = read_request(fit.design, None, "conditional", None, "mean", "raise")
    eta = fit._predictor(request).linear(slice(None), np.random.default_rng(0))
    np.testing.assert_allclose(fit.fitted(), np.exp(eta + sigma[:, None] ** 2 / 2).mean(axis=0), rtol=1e-12)
    gaussian_fit = type(fit)(fit.design, fit.record, "gaussian", "identity", None, None)
    pd.testing.assert_frame_equal(pd.DataFrame(fit.icc()), pd.DataFrame(gaussian_fit.icc()))


def test_no_interval_breaks_where_the_circle_is_cut():
    """A direction near pi: half of the responses are near -pi, and the interval goes on beyond pi."""
    fit = made_up("vonmises", DRAWS)
    design, record = fit.design, fit.record
    beta = np.zeros_like(record.beta)
    beta[..., design.common.index("Intercept")] = 3.1
    auxiliary = {"kappa": np.full_like(record.auxiliary["kappa"], 25.0)}
    there = type(fit)(design, replace(record, beta=beta, auxiliary=auxiliary), "vonmises", "identity", None, None)
    table = there.predict(data("vonmises").iloc[:5], target="population", interval=0.8, kind="response", random_seed=4)
    half = stats.norm.ppf(0.9) / np.sqrt(25.0)  # a concentrated von Mises is nearly Normal(mu, 1 / kappa)
    np.testing.assert_allclose(table["estimate"], 3.1, rtol=1e-12)
    np.testing.assert_allclose(table["lower"], 3.1 - half, atol=0.12)  # quantiles of 120 draws: sd 0.03
    np.testing.assert_allclose(table["upper"], 3.1 + half, atol=0.12)
    assert (np.abs(there.simulate(40, 5)) <= np.pi).all(axis=None)


@pytest.mark.stack
def test_bambi_has_them():
    for name in NAMES:
        family = model(name).bambi.family
        assert family.name == name
        assert set(family.likelihood.params) == {family.likelihood.parent, *FAMILIES[name].parameter_names}
    assert versions.bambi_parent(model("lognormal").bambi) is not None
