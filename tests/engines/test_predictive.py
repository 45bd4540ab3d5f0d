"""New responses, log likelihoods and sample_stats of a fit: their laws, their seeds, their places in idata."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines import predictive
from hiermod.engines.nuts.centring import choose_centring
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from hiermod.model import Model


def quiet(model: Model, **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(random_seed=1, progressbar=False, **settings)


@pytest.fixture(scope="module")
def fit() -> Any:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).fit(random_seed=1)


@pytest.fixture(scope="module")
def counts() -> Any:
    model = Model("p(incidence, size) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial")
    return quiet(model, draws=500, inference_method="nutpie")


def linear_predictor(fit: Any) -> np.ndarray:
    design, record = fit.design, fit.record
    eta = record.beta @ design.X.T
    for block, b in zip(design.blocks, record.b, strict=True):
        eta = eta + np.einsum("cdnk,nk->cdn", b[:, :, block.codes], block.values)
    return eta


def assert_normal(errors: np.ndarray) -> None:
    assert abs(errors.mean()) < 4.5 / np.sqrt(errors.size)  # 1 false alarm in 150,000
    assert abs(errors.std() - 1) < 4.5 / np.sqrt(2 * errors.size)


@pytest.mark.stack
def test_new_responses_are_normal_around_each_rows_own_group(fit):
    new = fit.posterior_predictive(random_seed=3)
    assert new.dims == ("chain", "draw", "__obs__")
    assert new.name == "Reaction"
    assert list(new["__obs__"].values) == list(fit.design.index)
    assert_normal((new.values - linear_predictor(fit)) / fit.record.sigma[..., None])


@pytest.mark.parametrize("options", [{"weights": "w"}, {"se": "w"}])
def test_new_responses_have_the_residual_sd_of_their_row(options):
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 8), "w": rng.uniform(0.3, 3, 48), "y": rng.normal(size=48)})
    fit = quiet(Model("y ~ 1 + (1 | g)", data, **options))
    sd = data["w"].to_numpy() if "se" in options else fit.record.sigma[..., None] / np.sqrt(data["w"].to_numpy())
    assert_normal((fit.posterior_predictive(random_seed=3).values - linear_predictor(fit)) / sd)


@pytest.mark.stack
def test_idata_has_every_group_arviz_asks_for(fit):
    groups = versions.group_names(fit.idata)
    assert set(groups) == {"posterior", "sample_stats", "observed_data", "log_likelihood", "posterior_predictive"}
    told = versions.group_dataset(fit.idata, "sample_stats")
    assert list(told.data_vars) == ["lp", "acceptance_rate"]
    import arviz as az

    assert len(az.summary(fit.idata, var_names=["sigma", "Days"])) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # conditional LOO of sleepstudy has a few high Pareto k
        found = az.loo(fit.idata)
    assert float(getattr(found, "elpd", None) or found["elpd_loo"]) == pytest.approx(
        fit.loo(integrated=False, refit_bad=False).elpd, abs=0.5
    )  # two estimates from the same draws, smoothed by other code


@pytest.mark.stack
def test_lp_is_the_marginal_density_at_each_draw(fit):
    record = fit.record
    density = fit.model._marginal_density()
    phi = record.unconstrained_draws(density.coordinates)[2, ::50]
    assert np.array_equal(phi, record.unconstrained[2, ::50])  # those that were drawn, to the bit
    np.testing.assert_allclose(record.stats["lp"][2, ::50], density.values(phi), rtol=1e-12)
    rate = record.stats["acceptance_rate"]
    thin = round((record.inference.proposals / 4 - 100) / 1000)
    np.testing.assert_allclose(rate * thin, np.round(rate * thin), atol=1e-9)
    # E min(1, w'/w) = 1 - E|w - w'| / 2 >= 1 - sd(w) / sqrt(2), sd(w)^2 = 1 / efficiency - 1; .03: Monte Carlo error
    least = 1 - np.sqrt((1 / record.inference.importance_efficiency - 1) / 2)
    assert least - 0.03 < rate.mean() < 1


@pytest.mark.stack
def test_seeds_and_numbers_of_draws(fit):
    a, b = fit.posterior_predictive(random_seed=4), fit.posterior_predictive(random_seed=4)
    np.testing.assert_array_equal(a.values, b.values)
    assert not np.array_equal(a.values, fit.posterior_predictive(random_seed=5).values)
    few = fit.posterior_predictive(draws=10, random_seed=4)
    assert few.shape == (4, 3, 180)  # spread over the chains
    assert list(few["draw"].values) == [0, 500, 999]
    stored = versions.group_dataset(fit.idata, "posterior_predictive")["Reaction"]
    np.testing.assert_array_equal(stored.values, few.values)
    again = pickle.loads(pickle.dumps(fit))
    assert np.array_equal(again.record.stats["lp"], fit.record.stats["lp"])
    built = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).fit(random_seed=1).idata
    same = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).fit(random_seed=1).idata
    one, two = (versions.group_dataset(i, "posterior_predictive") for i in (built, same))
    assert one.identical(two)


def test_impossible_numbers_of_draws_are_refused(fit):
    with pytest.raises(ArgumentError, match="draws is 5000, and the posterior has 4000"):
        fit.posterior_predictive(draws=5000)
    with pytest.raises(ArgumentTypeError, match="draws must be a whole number"):
        fit.posterior_predictive(draws=2.5)


def test_what_does_not_fit_into_memory_is_named(fit, monkeypatch):
    monkeypatch.setattr(predictive, "LARGEST", 5e6)
    with pytest.raises(ArgumentError, match=r"4,000 posterior predictive draws of 180 rows.*fewer with draws="):
        fit.posterior_predictive()
    assert fit.posterior_predictive(draws=400).shape == (4, 100, 180)


@pytest.mark.stack
def test_counts_by_bambi_are_binomial_at_each_draw(counts):
    p = 1 / (1 + np.exp(-linear_predictor(counts)))
    trials = counts.design.trials
    new = counts.posterior_predictive(random_seed=2)
    assert new.shape == (4, 500, 56)
    assert_normal((new.values - trials * p) / np.sqrt(trials * p * (1 - p)))
    np.testing.assert_array_equal(new.values, counts.posterior_predictive(random_seed=2).values)
    assert "posterior_predictive" in versions.group_names(counts.idata)
    logs = counts.log_likelihood()
    np.testing.assert_allclose(logs.values, stats.binom(trials, p).logpmf(counts.design.y), rtol=1e-8)
    assert "log_likelihood" in versions.group_names(counts.idata)


@pytest.mark.stack
def test_a_second_fit_of_a_model_compiles_nothing(counts, monkeypatch):
    import nutpie

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("compiled again")

    monkeypatch.setattr(nutpie, "compile_pymc_model", refuse)
    again = quiet(counts.model, draws=500, inference_method="nutpie")
    np.testing.assert_array_equal(again.record.beta, counts.record.beta)
    with pytest.raises(RuntimeError, match="compiled again"):
        # a graph is never pickled, nor what belongs to it
        quiet(pickle.loads(pickle.dumps(counts.model)), draws=500, inference_method="nutpie")


def test_a_fit_without_its_model_says_what_it_needs(counts):
    from hiermod.fits.bayesian import BayesianFit

    draws = versions.make_idata({"posterior": versions.posterior_dataset(counts.record.idata)})
    alone = BayesianFit(counts.design, replace(counts.record, idata=draws), counts.family, counts.link)
    assert alone.posterior_predictive(draws=4).shape == (4, 1, counts.nobs)  # new responses are drawn in numpy
    weighted = BayesianFit(replace(counts.design, special="weighted"), alone.record, counts.family, counts.link)
    with pytest.raises(UnsupportedError, match=r"needs its model.*Model\(\.\.\.\)\.fit\(\)"):
        weighted.log_likelihood()
    # so is their density, which the graph computes to the last digits of its gamma function
    np.testing.assert_allclose(alone.log_likelihood(), counts.log_likelihood(), rtol=1e-8)


def test_what_is_asked_for_is_kept_beside_the_record(counts):
    from hiermod.fits.bayesian import BayesianFit

    one = BayesianFit(counts.design, counts.record, counts.family, counts.link, model=counts.model)
    before, size = versions.group_names(one.record.idata), len(pickle.dumps(one))
    one.log_likelihood()
    one.posterior_predictive(draws=8)
    assert versions.group_names(one.record.idata) == before
    assert set(versions.group_names(one.idata)) == {*before, "log_likelihood", "posterior_predictive"}
    assert one.idata is one.idata
    again = pickle.loads(pickle.dumps(one))
    assert set(versions.group_names(again.idata)) == set(versions.group_names(one.idata))
    logs = one.log_likelihood().nbytes
    assert len(pickle.dumps(one)) - size < 1.5 * logs  # the draws of the posterior are there once
    posterior = versions.posterior_dataset(one.idata)["Intercept"].to_numpy()
    assert np.shares_memory(posterior, versions.posterior_dataset(one.record.idata)["Intercept"].to_numpy())
    other = BayesianFit(counts.design, counts.record, counts.family, counts.link)
    assert set(versions.group_names(other.idata)) == set(before)  # another fit of the same record has its own


# --- which group effects are sampled centred ------------------------------------------------------------------------
def grouped(levels: int, rows: int, sd: float, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    return pd.DataFrame({"g": g.astype(str), "y": sd * rng.normal(size=levels)[g] + rng.normal(size=len(g))})


def test_group_effects_are_centred_where_the_data_know_them():
    """Balanced one-way data: the share is n tau^2 / (n tau^2 + sigma^2) at REML's tau and sigma, in closed form; few
    levels leave tau so uncertain that the same share does not do (dyestuff: 78 % of 6 levels, 267 divergences)."""
    for levels, rows, sd, centred in ((10, 200, 1.0, True), (20, 5, 0.3, False), (5, 12, 0.7, False)):
        model = Model("y ~ 1 + (1 | g)", grouped(levels, rows, sd))
        found = choose_centring(model)
        means = model.data.groupby("g", observed=True)["y"]
        sigma2 = means.var().mean()
        tau2 = max(means.mean().var() - sigma2 / rows, 0)
        share = rows * tau2 / (rows * tau2 + sigma2)
        assert (set(found.centred) == {"g"}) is centred
        assert f"take away {share:.0%} of" in found.words
        assert share > 0.7 or levels == 20
        if centred:
            assert found.centred["g"] == pytest.approx(np.sqrt(tau2 / levels), rel=1e-4)


def test_what_the_person_asks_for_and_what_has_no_quick_fit_is_left():
    data = grouped(10, 50, 1.0)
    asked = choose_centring(Model("y ~ 1 + (1 | g)", data, noncentered=True))
    assert (asked.centred, asked.words) == ({}, "non-centred, as asked")
    other = choose_centring(Model("y ~ 1 + (1 | g)", data, family="laplace"))
    assert other.centred == {}
    assert "no quick fit" in other.words
    assert choose_centring(Model("y ~ 1", data)).words == ""


@pytest.mark.stack
def test_the_fit_says_what_was_centred(counts):
    assert counts.inference.group_effects.startswith("herd non-centred (the data take away 6")
    assert "herd non-centred" in str(counts.check())
