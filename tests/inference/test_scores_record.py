"""loo(), logo() and waic() of fits: records, words, refusals; against arviz_stats' array functions and by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from arviz_stats.base import array_stats
from hand_made import hand_made
from scipy import stats
from scipy.stats import norm

from hiermod.datasets import load_dataset
from hiermod.engines.gaussian_rows import log_likelihood
from hiermod.errors import ArgumentError, DesignError, UnknownNameError, UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.targets import read_request
from hiermod.inference.scores import of_fit as results_scores
from hiermod.inference.scores.comparable import difference
from hiermod.inference.scores.pointwise import conditional_loo, waic
from hiermod.inference.scores.record import fingerprint
from hiermod.inference.scores.smoothing import leave_out
from hiermod.model import Model

DATA = load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def fit() -> BayesianFit:
    return Model("Reaction ~ Days + (Days | Subject)", DATA).fit(random_seed=1)


@pytest.fixture(scope="module")
def simpler() -> BayesianFit:
    return Model("Reaction ~ Days + (1 | Subject)", DATA).fit(draws=500, random_seed=2)


def test_integrated_is_the_default_and_says_so(fit):
    score = fit.loo()
    assert (score.criterion, score.unit, score.estimator) == ("loo", "row", "integrated")
    assert "integrate out exactly" in score.reason
    assert score.labels == tuple(DATA.index)
    assert score.n_units == 180
    assert score.elpd == pytest.approx(score.elpd_i.sum(), rel=1e-12)
    assert score.se == pytest.approx(np.sqrt(180) * score.elpd_i.std(ddof=1), rel=1e-12)
    assert score.p == pytest.approx(score.p_i.sum(), rel=1e-12)
    assert np.array_equal(fit.loo().elpd_i, score.elpd_i)  # no randomness between calls


def test_effective_parameters_keep_the_effects_in(fit):
    """docs/architecture.md: about 35 on sleepstudy; the difference of integrated terms alone would be 7.9."""
    score, conditional = fit.loo(), fit.loo(integrated=False)
    assert 34 < score.p < 36.5
    assert score.p == pytest.approx(conditional.p, abs=4.5 * np.hypot(score.mcse, conditional.mcse))


def test_conditional_and_integrated_rows_agree_where_both_are_good(fit):
    """They estimate the same number.  4.5 standard errors in 177 comparisons: 1 false alarm in 800 runs."""
    a, b = fit.loo(), fit.loo(integrated=False)
    assert (a.estimator, b.estimator, b.reason) == ("integrated", "conditional", "as asked")
    good = (a.pareto_k < 0.7) & (b.pareto_k < 0.7)
    assert good.sum() > 170
    assert np.all(np.abs(a.elpd_i - b.elpd_i)[good] < 4.5 * np.hypot(a.mcse_i, b.mcse_i)[good])
    total, _ = difference(a, b)  # by row they may be compared
    assert total == pytest.approx(float((a.elpd_i - b.elpd_i).sum()))


def test_conditional_loo_is_that_of_arviz(fit):
    array = log_likelihood(fit.record, fit.design)
    expected, k, p = array_stats.loo(np.moveaxis(array, 2, 0))
    flat = array.reshape(-1, array.shape[-1]).T
    found = leave_out(flat)
    np.testing.assert_allclose(found.elpd, expected, rtol=1e-10)
    np.testing.assert_allclose(found.k, k, rtol=1e-10)
    pointwise = conditional_loo(array)
    np.testing.assert_allclose(pointwise.p, p, atol=1e-9)
    np.testing.assert_allclose(fit.loo(False).elpd_i, pointwise.elpd, rtol=1e-12)


def test_waic_by_hand(fit):
    """lppd - sum of posterior variances of log p(y_i | beta, b, sigma), one row at a time."""
    design, record = fit.design, fit.record
    block = design.blocks[0]
    score = fit.waic()
    for i in (0, 57, 179):
        b = record.b[0][:, :, block.codes[i]]
        mean = record.beta @ design.X[i] + b @ block.values[i]
        logs = norm.logpdf(design.y[i], mean, record.sigma).ravel()
        assert score.elpd_i[i] == pytest.approx(np.log(np.mean(np.exp(logs))) - logs.var(ddof=1), rel=1e-9)
    assert score.estimator == "conditional"
    assert np.isnan(score.pareto_k).all()
    assert np.isnan(score.mcse)
    assert any("p_waic is above 0.4" in message and "loo()" in message for message in score.messages)
    assert np.sum(score.p_i > 0.4) == int(score.messages[0].split(" for ")[1].split(" of ")[0])


def test_waic_and_loo_of_a_normal_mean_with_known_sd():
    """y_i ~ N(mu, 1), flat prior, n = 10: log p(y_i | y_-i) = log N(y_i; mean of the others, 1 + 1/9), exactly."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal(10)
    mu = y.mean() + rng.standard_normal((4, 5000)) / np.sqrt(10)
    array = norm.logpdf(y, mu[..., None], 1)
    exact = norm.logpdf(y, (y.sum() - y) / 9, np.sqrt(1 + 1 / 9))
    found = conditional_loo(array)
    assert np.all(np.abs(found.elpd - exact) < 4.5 * found.mcse)
    expected_p = 0.5 / 100 + np.square(y - y.mean()) / 10  # variance of -(y - mu)^2 / 2 with mu ~ N(y-bar, 1/10)
    np.testing.assert_allclose(waic(array).p, expected_p, rtol=0.15)  # the error of a variance of 20,000 draws


def test_units_whose_density_does_not_vary_need_no_weights():
    """With every parameter known, each draw gives the same density: k is undefined, and no error is made."""
    log_p = np.vstack([np.full(400, -2.0), np.random.default_rng(1).normal(-2, 0.1, 400)])
    found = leave_out(log_p)
    assert found.elpd[0] == pytest.approx(-2.0, abs=1e-12)
    assert found.mcse[0] == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(found.k[0])
    np.testing.assert_allclose(found.elpd[1:], leave_out(log_p[1:]).elpd, rtol=1e-12)


def test_logo_is_labelled_by_level(fit):
    score = fit.logo("Subject")
    assert (score.criterion, score.unit, score.estimator) == ("logo", "Subject", "integrated")
    assert score.labels == fit.design.blocks[0].levels
    assert score.n_units == 18
    assert score.nobs == 180
    assert "18 levels of Subject" in str(score)
    with pytest.raises(UnknownNameError, match="Subject"):
        fit.logo("Subjct")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    ],
)
def test_every_unit_of_the_classics_can_be_trusted(name, formula):
    fitted = Model(formula, load_dataset(name)).fit(random_seed=3)
    for score in (fitted.loo(), *(fitted.logo(group) for group in fitted.ngroups)):
        assert np.all(score.pareto_k < 0.7)
        assert len(score.own_proposals) <= 2
        assert not score.messages
        assert np.all(np.isfinite(score.elpd_i))
        assert score.mcse < 0.05 * score.se


def test_words(fit):
    score = fit.loo()
    assert str(score) == repr(score)
    assert "180 rows, effects integrated out" in str(score)
    assert "largest Pareto k" in str(score)
    k = np.array(score.pareto_k)
    k[[3, 8]] = 0.9
    bad = replace(score, pareto_k=k, own_proposals=(4,))
    assert "above 0.7 for 2 of 180 rows (3, 8)" in bad.messages[0]
    assert "unreliable" in str(bad)
    assert "1 unit got a proposal of its own" in str(bad)
    assert "2 units got a proposal of their own" in str(replace(score, own_proposals=(4, 5)))


def test_scores_are_values(fit):
    score = fit.loo()
    with pytest.raises(ValueError, match="read-only"):
        score.elpd_i[0] = 0.0
    assert np.array_equal(pickle.loads(pickle.dumps(score)).elpd_i, score.elpd_i)
    again = pickle.loads(pickle.dumps(fit))
    assert np.array_equal(again.loo().elpd_i, score.elpd_i)


def test_differences_are_paired(fit, simpler):
    a, b = fit.loo(), simpler.loo()
    total, se = difference(a, b)
    assert total == pytest.approx(a.elpd - b.elpd)
    assert total > 0
    assert se == pytest.approx(np.sqrt(180) * np.std(a.elpd_i - b.elpd_i, ddof=1))
    assert se < np.hypot(a.se, b.se)


def test_scores_of_different_things_refuse_to_be_compared(fit, simpler):
    shorter = Model("Reaction ~ Days + (1 | Subject)", DATA.iloc[:150]).fit(draws=500, random_seed=1)
    logged = Model("np.log(Reaction) ~ Days + (1 | Subject)", DATA).fit(draws=500, random_seed=1)
    crossed = Model("Reaction ~ 1 + (1 | Subject) + (1 | day)", DATA.assign(day=DATA["Days"].astype(str)))
    crossed_fit = crossed.fit(draws=500, random_seed=1)
    score = fit.loo()
    for other, words in [
        (simpler.waic(), "different quantities"),
        (fit.logo("Subject"), "different quantities"),
        (shorter.loo(), "150 rows"),
        (logged.loo(), "transformed"),
        (replace(simpler.loo(), labels=tuple(range(1, 181))), "labels"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            difference(score, other)
        with pytest.raises(ArgumentError, match=words):
            difference(other, score)
    with pytest.raises(ArgumentError, match="each day"):
        difference(fit.logo("Subject"), crossed_fit.logo("day"))
    with pytest.raises(TypeError, match=r"fit\.loo"):
        difference(score, 3.0)


def test_fingerprints_tell_order_and_kind_apart():
    y = np.array([1.0, 2.0, 3.0])
    assert fingerprint(y) == fingerprint(np.array([1, 2, 3]))
    others = [(y[::-1],), (np.log(y),), (y, None), (y, y)]
    assert len({fingerprint(y), *(fingerprint(*other) for other in others)}) == 5


def test_without_closed_form_loo_is_conditional_and_says_why():
    model = Model("Reaction ~ Days + (1 | Subject)", DATA, priors={"Days": "StudentT(nu=3, mu=0, sigma=10)"})
    assert model._gaussian_priors(None) is None
    made = hand_made(model, sds=30.0, beta=[250.0, 10.0])
    score = made.loo()
    assert score.estimator == "conditional"
    assert "cannot be integrated out" in score.reason
    with pytest.raises(UnsupportedError, match="closed form"):
        made.loo(integrated=True)
    with pytest.raises(UnknownNameError, match="Subject"):
        made.logo("Nobody")
    assert made.waic().n_units == 180
    with pytest.raises(ArgumentError, match="integrated must be"):
        made.loo("yes")


def test_other_families_have_their_own_density_or_a_stored_log_likelihood():
    import xarray as xr

    from hiermod.core import versions

    data = DATA.assign(count=np.arange(180) % 7)
    made = hand_made(Model("count ~ Days + (1 | Subject)", data, family="poisson"), beta=[0.5, 0.01], draws=50)
    eta = made._predictor(read_request(made.design, None, "conditional", None, "mean", "raise")).linear(
        slice(None), np.random.default_rng(0)
    )
    logs = stats.poisson(np.exp(eta)).logpmf(made.design.y).reshape(*made.record.shape, -1)
    np.testing.assert_allclose(made.loo(refit_bad=False).elpd_i, conditional_loo(logs).elpd, rtol=1e-9)
    weighted = BayesianFit(replace(made.design, special="weighted"), made.record, "poisson", "log")
    with pytest.raises(UnsupportedError, match="compute_log_likelihood"):
        weighted.waic()
    assert made.logo("Subject", refit_bad=False).estimator == "quadrature"  # needs the draws of the parameters only
    logs = np.random.default_rng(1).normal(-2, 0.1, (2, 50, 180))
    stored = {"log_likelihood": xr.Dataset({"count": (("chain", "draw", "__obs__"), logs)})}
    record = replace(made.record, idata=versions.make_idata(stored))
    with_logs = BayesianFit(made.design, record, "poisson", "log")
    np.testing.assert_allclose(with_logs.loo().elpd_i, conditional_loo(logs).elpd, rtol=1e-12)


def test_rows_are_scored_in_pieces(fit, monkeypatch):
    whole = fit.loo(False), fit.waic()
    monkeypatch.setattr(results_scores, "AT_ONCE", 4000 * 50)
    np.testing.assert_allclose(fit.waic().elpd_i, whole[1].elpd_i, rtol=1e-12)
    np.testing.assert_allclose(fit.loo(False).elpd_i, whole[0].elpd_i, rtol=1e-12)


def test_inestimable_units_raise_from_the_fit():
    data = DATA.assign(dummy=(np.arange(180) == 7).astype(float))
    model = Model("Reaction ~ Days + dummy + (1 | Subject)", data, priors={"dummy": "Flat()"}, center_predictors=False)
    with pytest.raises(DesignError, match=r"rows \(7\)"):
        model.fit(draws=500, random_seed=1).loo()


def test_known_sds_and_weights_are_scored():
    schools = load_dataset("eight_schools")
    fitted = Model("effect ~ 1 + (1 | school)", schools, se="se").fit(random_seed=1)
    rows, groups = fitted.loo(), fitted.logo("school")
    assert np.all(rows.pareto_k < 0.7)
    # one row per school: leaving out the row or the school is the same
    np.testing.assert_allclose(rows.elpd_i, groups.elpd_i, rtol=1e-8)
    with pytest.raises(ArgumentError):
        difference(rows, groups)
