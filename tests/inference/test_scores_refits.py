"""Leave-one-out and leave-one-group-out against brute force: the model refitted without each unit, its priors frozen.

The refit's predictive density uses its own draws of (beta, b, sigma), or for a group its draws of (beta, sds,
correlations, sigma) and the level's effects integrated over their prior: nothing of the formulas in scores/."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from hiermod.datasets import load_dataset
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.errors import HiermodWarning
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.scores.integrated import frozen_density
from hiermod.inference.scores.rows import take_rows
from hiermod.model import Model

EACH, TOTAL = 4.5, 3.0  # Monte Carlo errors: 1 false alarm in 150,000 units, and in 370 totals


@pytest.fixture(scope="module")
def fit() -> BayesianFit:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).fit(random_seed=11)


def refit(fit: BayesianFit, unit: np.ndarray, seed: int):
    design = fit.design
    density = Model(design.formula, design.frame)._marginal_density()
    rest = np.setdiff1d(np.arange(design.nobs), unit)
    part = frozen_density(design, rest, density)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HiermodWarning)
        return sample_marginal(part, take_rows(design, rest), random_seed=seed)


def log_mean(logs: np.ndarray, ess: float) -> tuple[float, float]:
    """log of the mean of exp(logs) and its Monte Carlo error."""
    values = np.exp(logs - logs.max())
    return float(np.log(values.mean()) + logs.max()), float(values.std() / values.mean() / np.sqrt(ess))


def row_by_refit(fit: BayesianFit, i: int) -> tuple[float, float]:
    record, design = refit(fit, np.array([i]), 100 + i), fit.design
    block = design.blocks[0]
    mean = record.beta @ design.X[i] + record.b[0][:, :, block.codes[i]] @ block.values[i]
    return log_mean(norm.logpdf(design.y[i], mean, record.sigma).ravel(), record.inference.min_ess_bulk)


def level_by_refit(fit: BayesianFit, level: int) -> tuple[float, float]:
    design = fit.design
    block = design.blocks[0]
    unit = np.flatnonzero(block.codes == level)
    record = refit(fit, unit, 500 + level)
    Z, X, y = block.values[unit], design.X[unit], design.y[unit]
    beta, sd = record.beta.reshape(-1, 2), record.sd[0].reshape(-1, 2)
    corr, sigma = record.corr[0].reshape(-1, 2, 2), record.sigma.ravel()
    cov = sd[:, :, None] * corr * sd[:, None, :]
    V = Z @ cov @ Z.T + sigma[:, None, None] ** 2 * np.eye(len(unit))
    L = np.linalg.cholesky(V)
    z = np.linalg.solve(L, (y - beta @ X.T)[:, :, None])[:, :, 0]
    logs = norm.logpdf(z).sum(axis=1) - np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
    assert logs[7] == pytest.approx(multivariate_normal.logpdf(y, X @ beta[7], V[7]), rel=1e-10)
    return log_mean(logs, record.inference.min_ess_bulk)


def assert_agreement(score, units, by_refit) -> None:
    expected, error = np.array(by_refit).T
    both = np.hypot(score.mcse_i[units], error)
    difference = score.elpd_i[units] - expected
    assert np.all(np.abs(difference) < EACH * both), np.max(np.abs(difference) / both)
    assert abs(difference.sum()) < TOTAL * np.sqrt(np.square(both).sum())
    assert both.max() < 0.25  # the comparison can see differences that matter: se of elpd is about 23


def test_all_levels_of_sleepstudy(fit):
    score = fit.logo("Subject")
    assert np.all(score.pareto_k < 0.7)
    units = np.arange(18)
    assert_agreement(score, units, [level_by_refit(fit, level) for level in units])


def test_hard_rows_of_sleepstudy(fit):
    """The six rows with the largest Pareto k, and six spread over the data."""
    score = fit.loo()
    units = np.unique(np.concatenate([np.argsort(score.pareto_k)[-6:], np.arange(10, 180, 30)]))
    assert_agreement(score, units, [row_by_refit(fit, i) for i in units])


@pytest.mark.slow
def test_all_rows_of_sleepstudy(fit):
    units = np.arange(180)
    assert_agreement(fit.loo(), units, [row_by_refit(fit, i) for i in units])


def test_own_proposals_agree_with_weights(fit, monkeypatch):
    """Every level through a proposal of its own: the same elpd where weighting the posterior worked."""
    weighted = fit.logo("Subject")
    monkeypatch.setattr("hiermod.inference.scores.integrated.MAX_K", -np.inf)
    own = fit.logo("Subject")
    assert len(own.own_proposals) == 18
    assert np.all(own.pareto_k < 0.7)
    apart = np.abs(own.elpd_i - weighted.elpd_i) / np.hypot(own.mcse_i, weighted.mcse_i)
    assert np.all(apart < EACH)
    assert own.mcse < weighted.mcse


@pytest.mark.slow
def test_nuts_draws_give_the_same_scores(fit):
    model = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    nuts = model.fit(inference_method="nutpie", random_seed=1, progressbar=False)
    for name in ("loo", "logo"):
        a, b = (one.loo() if name == "loo" else one.logo("Subject") for one in (fit, nuts))
        assert b.estimator == "integrated"
        assert np.all(np.abs(a.elpd_i - b.elpd_i) < EACH * np.hypot(a.mcse_i, b.mcse_i))
        assert abs(a.elpd - b.elpd) < EACH * np.hypot(a.mcse, b.mcse) * 2  # units of one fit share its draws
