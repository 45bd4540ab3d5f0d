"""Generalised mixed fits: what must not change them, boundaries, refusals, records, and the tables made of them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from glmm_cases import frame

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.errors import ArgumentError, DesignError, UnknownNameError, UnsupportedError
from hiermod.fits.generalised import GeneralisedFit
from hiermod.formula.build import build_design


def fit(formula: str, data: pd.DataFrame, family: str, link: str | None = None, **more) -> GeneralisedMixedFit:
    link = link or ("log" if family == "poisson" else "logit")
    return fit_generalised(build_design(formula, data, family=family), family, link, **more)


def test_rows_in_any_order():
    data = frame()
    one, other = (
        fit("p(k, n) ~ x + (x | a) + (1 | b)", d, "binomial") for d in (data, data.sample(frac=1, random_state=1))
    )
    assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
    assert other.beta == pytest.approx(one.beta, abs=1e-6)
    assert other.theta == pytest.approx(one.theta, abs=1e-5)


def test_units_of_a_predictor():
    """x in units of 1e-6 and shifted: the same likelihood, slopes and sds scaled.  1e-5: two searches."""
    data = frame()
    data["far"] = 1e6 * data["x"]
    one = fit("count ~ x + (1 | a) + (0 + x | b)", data, "poisson")
    other = fit("count ~ far + (1 | a) + (0 + far | b)", data, "poisson")
    assert other.criterion == pytest.approx(one.criterion, abs=1e-7)
    assert other.beta * [1, 1e6] == pytest.approx(one.beta, rel=1e-5)
    assert other.theta * [1, 1e6] == pytest.approx(one.theta, rel=1e-4, abs=1e-6)
    assert np.diag(other.vcov_beta) * [1, 1e12] == pytest.approx(np.diag(one.vcov_beta), rel=1e-4)


def test_offset_moves_the_intercept():
    data = frame()
    one = fit("count ~ x + (1 | a)", data, "poisson")
    other = fit("count ~ x + offset(0.7 + 0.2 * x) + (1 | a)", data, "poisson")
    assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
    assert other.beta + np.array([0.7, 0.2]) == pytest.approx(one.beta, abs=1e-6)
    assert other.eta == pytest.approx(one.eta, abs=1e-6)


def test_counts_are_their_bernoulli_rows():
    """k of n as n rows of 0 and 1: the same estimates; the likelihoods differ by the binomial coefficients."""
    data = frame()
    counts = fit("p(k, n) ~ x + (1 | a)", data, "binomial")
    rows = data.loc[data.index.repeat(data["n"])].reset_index(drop=True)
    first = np.concatenate([np.arange(n) for n in data["n"]])
    rows["one"] = (first < rows["k"].to_numpy()).astype(float)
    single = fit("one ~ x + (1 | a)", rows, "bernoulli")
    assert single.beta == pytest.approx(counts.beta, abs=1e-6)
    assert single.theta == pytest.approx(counts.theta, abs=1e-6)
    assert np.diag(single.vcov_beta) == pytest.approx(np.diag(counts.vcov_beta), rel=1e-5)
    coefficients = counts.likelihood.constant.sum()
    assert single.loglik + coefficients == pytest.approx(counts.loglik, abs=1e-8)


def test_success_and_failure_exchanged():
    """Logit and probit are symmetric: only signs change."""
    data = frame()
    data["other"] = 1 - data["one"]
    for link in ("logit", "probit"):
        one, other = (
            fit("one ~ x + (1 | a)", data, "bernoulli", link),
            fit("other ~ x + (1 | a)", data, "bernoulli", link),
        )
        assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
        assert other.beta == pytest.approx(-one.beta, abs=1e-6)


def test_groups_of_one_row():
    """A level per row takes up overdispersion in counts; single rows of 0 or 1 cannot."""
    data = frame()
    data["row"] = np.arange(len(data)).astype(str)
    plain, spread = fit("count ~ x + (1 | a)", data, "poisson"), fit("count ~ x + (1 | a) + (1 | row)", data, "poisson")
    assert spread.converged
    assert spread.criterion < plain.criterion
    with pytest.raises(DesignError, match="single response of 0 or 1"):
        fit("one ~ x + (1 | row)", data, "bernoulli")
    some = data.assign(g=np.where(data.index < 8, data["row"], data["a"].astype(str)))
    assert fit("one ~ x + (1 | g)", some, "bernoulli").converged


def test_no_variance_between_groups():
    """Counts without groups: theta is exactly 0, the answer is glm's, and it is called singular."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefghijkl"), 10), "x": rng.normal(size=120), "y": rng.poisson(3, 120)})
    found = fit("y ~ x + (1 | g)", data, "poisson")
    plain = fit_glm(build_design("y ~ x", data, family="poisson"), "poisson", "log")
    assert found.theta[0] == 0.0
    assert found.singular
    assert found.converged
    assert found.criterion == pytest.approx(plain.criterion, abs=1e-8)
    assert found.beta == pytest.approx(plain.beta, abs=1e-6)
    assert found.vcov_beta == pytest.approx(plain.vcov_beta, rel=1e-5)
    assert found.cond_sd[0].max() == 0.0


def test_all_or_nothing_groups_have_no_variance_estimate():
    """Every level always 0 or always 1: the sd grows without limit, and that is no convergence."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": rng.integers(0, 20, 200), "x": rng.normal(size=200)})
    data["y"] = (rng.random(20) < 0.5)[data["g"]].astype(float)
    for nodes in (1, 15):
        found = fit("y ~ x + (1 | g)", data, "bernoulli", nodes=nodes)
        assert not found.converged
        assert "without limit" in found.convergence.message
        told = " ".join(str(GeneralisedFit(found.design, found, "bernoulli").check()).split())
        assert "do not report these estimates" in told


def test_standard_errors_from_the_hessian():
    """Differences of the criterion alone, over (theta, beta) in their own units, give the same covariance: 1e-3."""
    from glmm_cases import terms_of

    from hiermod.engines.likelihood.laplace import LaplaceCriterion
    from hiermod.engines.likelihood.likelihoods import likelihood_of
    from hiermod.kernel.weighted import prepare

    found = fit("p(k, n) ~ x + (1 | a)", frame(), "binomial")
    rows = prepare(found.design.X, terms_of(found.design))
    criterion = LaplaceCriterion(rows, likelihood_of(found.design, "binomial", "logit"), np.zeros(found.design.nobs))

    def value(z):
        return criterion(rows.problem.x_from_theta(z[:1]), rows.problem.R @ z[1:]).value

    z0, h = np.concatenate([found.theta, found.beta]), 1e-3
    E = h * np.eye(len(z0))
    H = np.array(
        [[value(z0 + a + b) - value(z0 + a - b) - value(z0 - a + b) + value(z0 - a - b) for a in E] for b in E]
    )
    covariance = 2 * np.linalg.inv(H / (4 * h * h))[1:, 1:]
    assert found.vcov_method == "hessian"
    assert found.vcov_beta == pytest.approx(covariance, rel=1e-3)
    assert (np.diag(found.vcov_beta) >= np.diag(found.vcov_conditional) * 0.99).all()


def test_start_does_not_matter():
    data = frame()
    design = build_design("count ~ x + (x | a)", data, family="poisson")
    one = fit_generalised(design, "poisson", "log")
    other = fit_generalised(design, "poisson", "log", start=np.array([3.0, -1.0, 2.0]))
    assert other.criterion == pytest.approx(one.criterion, abs=1e-7)


@pytest.fixture(scope="module")
def cbpp() -> GeneralisedFit:
    design = build_design(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial"
    )
    return GeneralisedFit(design, fit_generalised(design, "binomial", "logit"), "binomial")


def test_tables(cbpp):
    assert list(cbpp.fixef().columns) == ["estimate", "std_error", "lower", "upper", "z", "p"]
    assert list(cbpp.varcorr()["group"]) == ["herd"]  # no Residual row
    assert np.isnan(cbpp.sigma)
    assert cbpp.deviance == cbpp.criterion == -2 * cbpp.loglik
    assert cbpp.residual_deviance == pytest.approx(np.square(cbpp.residuals("deviance")).sum(), rel=1e-12)
    coef, ranef, fixef = cbpp.coef(), cbpp.ranef(), cbpp.fixef()
    intercepts = coef[coef["term"] == "Intercept"]
    assert intercepts["estimate"].to_numpy() == pytest.approx(
        ranef["estimate"].to_numpy() + fixef.loc["Intercept", "estimate"], rel=1e-12
    )
    period = coef[coef["term"] == "period[2]"]
    assert period["std_error"].to_numpy() == pytest.approx(fixef.loc["period[2]", "std_error"], rel=1e-10)
    assert list(cbpp.parameters().index) == [*fixef.index, "1|herd_sigma"]
    assert "z" in cbpp.tidy().columns
    assert cbpp.augment().shape[0] == cbpp.nobs
    assert bool(cbpp.glance()["converged"][0])
    text = str(cbpp.summary())
    for piece in ("Laplace approximation", "binomial (logit)", "z value", "herd", "-2 logLik"):
        assert piece in text
    with pytest.raises(UnsupportedError, match="Gaussian"):
        cbpp.fixef(ddf="satterthwaite")


def test_records_pickle(cbpp):
    again = pickle.loads(pickle.dumps(cbpp))
    pd.testing.assert_frame_equal(again.ranef(), cbpp.ranef())
    assert not again.record.theta.flags.writeable


def test_prediction_intervals(cbpp):
    """Inside (0, 1); wider for a new herd, wider still for a new response; the average over herds lies nearer 1/2."""
    new = pd.DataFrame({"period": ["1", "4"], "herd": ["1", "15"]})
    known = cbpp.predict(new, interval=0.9)
    fresh = cbpp.predict(new, target="new_group", interval=0.9)
    typical = cbpp.predict(new, target="population", interval=0.9)
    for table in (known, fresh, typical):
        assert ((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"])).all()
        assert table.to_numpy().min() > 0
        assert table.to_numpy().max() < 1
    assert (fresh["upper"] - fresh["lower"] > typical["upper"] - typical["lower"]).all()
    assert (fresh["estimate"] > typical["estimate"]).all()  # both below 1/2
    eta = cbpp.fixef()["estimate"].iloc[0] + cbpp.theta.iloc[0] * np.random.default_rng(1).standard_normal(200_000)
    draws = 1 / (1 + np.exp(-eta))
    assert fresh["estimate"].iloc[0] == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(len(draws)))
    response = cbpp.predict(interval=0.9, kind="response")
    mean = cbpp.predict(interval=0.9)
    assert (response["upper"] - response["lower"] >= 0).all()
    assert ((response["lower"] <= mean["lower"] + 1e-12) & (response["upper"] >= mean["upper"] - 1e-12)).mean() > 0.8
    covered = (cbpp.design.y / cbpp.design.trials).clip(0, 1)
    assert ((response["lower"] <= covered) & (covered <= response["upper"])).mean() > 0.8
    with pytest.raises(ArgumentError, match="number of trials"):
        cbpp.predict(new, interval=0.9, kind="response")
    with pytest.raises(UnknownNameError):
        cbpp.predict(new.assign(herd="99"))


def test_simulated_responses(cbpp):
    """Counts within their trials; their mean over draws is that of new herds, to 4 Monte Carlo errors."""
    draws = cbpp.simulate(400, random_seed=2)
    assert ((draws.to_numpy() >= 0) & (draws.to_numpy() <= cbpp.design.trials[:, None])).all()
    total = draws.sum().to_numpy()
    expected = (cbpp.predict(target="new_group")["estimate"] * cbpp.design.trials).sum()
    assert abs(total.mean() - expected) < 4 * total.std() / np.sqrt(400)
    pd.testing.assert_frame_equal(draws, cbpp.simulate(400, random_seed=2))


def test_poisson_intervals_are_quantiles():
    """Rows of the fit: the predictive quantiles by brute force over 200,000 draws, to one count."""
    data = frame()
    found = fit("count ~ x + (1 | a)", data, "poisson")
    whole = GeneralisedFit(found.design, found, "poisson")
    bounds = whole.predict(data.iloc[:3], interval=0.8, kind="response")
    mean = whole.predict(data.iloc[:3], interval=0.8)
    se = (np.log(mean["upper"]) - np.log(mean["lower"])).to_numpy() / (2 * 1.2815515655446004)
    rng = np.random.default_rng(3)
    drawn = rng.poisson(np.exp(np.log(mean["estimate"].to_numpy()) + se * rng.standard_normal((200_000, 3))))
    assert np.abs(bounds["lower"] - np.quantile(drawn, 0.1, axis=0)).max() <= 1
    assert np.abs(bounds["upper"] - np.quantile(drawn, 0.9, axis=0)).max() <= 1


def test_formula_without_bars():
    design = build_design("r2 ~ Anger + Gender", load_dataset("verbagg"), family="bernoulli")
    found = GeneralisedFit(design, fit_glm(design, "bernoulli", "logit"), "bernoulli")
    assert not found.is_mixed
    assert "Null deviance: 10496.37 on 7583" in str(found.summary())  # R 4.2.2
    assert found.varcorr().empty
    assert found.ranef().empty
    link = np.log(found.fitted() / (1 - found.fitted()))
    assert link.to_numpy() == pytest.approx(found.record.eta, rel=1e-9)
    assert "tells the outcomes apart" in " ".join(str(found.check()).split())
