"""K-fold and single refits: folds, the density of held-out units, and the answers of the marginal engine against
integrals over a grid of the variance parameters, of NUTS against quadrature."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy.integrate import dblquad, quad
from scipy.special import expit, logsumexp
from scipy.special import gamma as gamma_function
from scipy.stats import binom, gamma, lognorm, multivariate_normal, nbinom, norm, poisson, weibull_min

import hiermod as hm
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.marginal.mode import start_phi
from hiermod.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvergenceWarning,
    DesignError,
    UnknownNameError,
    UnsupportedError,
)
from hiermod.inference.scores.cross_validation import refit_units
from hiermod.inference.scores.exact_folds import keeps_nesting, new_rows
from hiermod.inference.scores.folds import Fold, divide, make_folds
from hiermod.inference.scores.level_gaussian import gaussian_level_logs
from hiermod.inference.scores.level_quadrature import check_quadrature, integrate, level_logs
from hiermod.inference.scores.rows import take_rows
from hiermod.inference.scores.smoothing import leave_out

EACH = 4.5  # Monte Carlo errors: 1 false alarm in 150,000 units
RNG = np.random.default_rng(7)
SLEEP = hm.load_dataset("sleepstudy").assign(
    w=RNG.uniform(0.3, 3, 180),
    off=RNG.normal(0, 5, 180),
    s=RNG.uniform(10, 40, 180),
    day=lambda d: d["Days"].astype(str),
)


# --- folds ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("count", "k"), [(180, 10), (17, 4), (6, 6)])
def test_folds_are_as_equal_as_whole_numbers_allow(count, k):
    fold = divide(count, k, np.random.default_rng(1))
    sizes = np.bincount(fold, minlength=k)
    assert sizes.sum() == count
    assert np.ptp(sizes) <= 1
    assert np.array_equal(fold, divide(count, k, np.random.default_rng(1)))
    assert count == k or not np.array_equal(fold, divide(count, k, np.random.default_rng(2)))


def test_stratified_folds_share_out_every_level():
    strata = np.repeat(np.arange(9), [3, 4, 5, 6, 7, 8, 9, 10, 2])
    strata = strata[np.random.default_rng(1).permutation(len(strata))]
    fold = divide(len(strata), 4, np.random.default_rng(2), strata)
    table = pd.crosstab(strata, fold).to_numpy()
    assert (np.ptp(table, axis=1) <= 1).all()
    assert np.ptp(table.sum(axis=0)) <= 1


def test_every_unit_is_held_out_once():
    members = [np.array([0, 3]), np.array([1]), np.array([2, 4, 5])]
    jobs = make_folds(np.array([1, 0, 1]), members, 6, seed=5)
    assert [job.held.tolist() for job in jobs] == [[1], [0, 3, 2, 4, 5]]
    assert [job.train.tolist() for job in jobs] == [[0, 2, 3, 4, 5], [1]]
    assert [job.positions.tolist() for job in jobs] == [[1], [0, 2]]
    assert jobs[0].seed != jobs[1].seed


# --- the density of new rows ---------------------------------------------------------------------------------------
CASES = {
    "weights, offset, crossed": lambda: hm.Model(
        "Reaction ~ Days + offset(off) + (Days | Subject) + (1 | day)", SLEEP, weights="w"
    ),
    "known sds": lambda: hm.Model("Reaction ~ Days + (Days || Subject)", SLEEP, se="s"),
    "flat": lambda: hm.Model("Reaction ~ Days + (1 | Subject)", SLEEP, priors={"common": "Flat()"}),
    "nested": lambda: hm.Model("strength ~ 1 + (1 | batch/cask)", hm.load_dataset("pastes")),
    "no groups": lambda: hm.Model("Reaction ~ Days", SLEEP),
}


def by_models(model: hm.Model, train: np.ndarray, units: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """log p(y_u | y_train, phi) as ``new_rows`` has it, and as log p(y_train, y_u | phi) - log p(y_train | phi)."""
    design, full = model.spec, model._marginal_density()
    part = marginal_density(take_rows(design, train), full.priors)
    phi = start_phi(full) + np.random.default_rng(1).normal(0, 0.5, (3, full.coordinates.d))
    found = new_rows(design, part, Fold(train, tuple(units), np.arange(len(units)), 1), phi)
    together = [marginal_density(take_rows(design, np.concatenate([train, u])), full.priors) for u in units]
    return found, np.stack([one.values(phi) - part.values(phi) for one in together], axis=1)


@pytest.mark.parametrize("name", CASES)
def test_new_rows_and_levels_given_the_training_rows(name):
    model = CASES[name]()
    every = np.arange(model.spec.nobs)
    held = every[::7]
    found, expected = by_models(model, np.setdiff1d(every, held), [np.array([i]) for i in held])
    np.testing.assert_allclose(found, expected, atol=1e-9)  # differences of log likelihoods of order 1,000
    for block in model.spec.blocks:
        gone = np.isin(block.codes, [1, 4])
        units = [np.flatnonzero(block.codes == level) for level in (1, 4)]
        found, expected = by_models(model, np.flatnonzero(~gone), units)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_factors_that_nest_only_in_the_training_rows():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"a": rng.integers(0, 12, 40).astype(str), "y": rng.normal(size=40)})
    data["b"] = data["a"].map(lambda a: str(int(a) % 4))
    data.loc[[3, 9], ["a", "b"]] = ["1", "2"]  # elsewhere level 1 of a lies in level 1 of b
    model = hm.Model("y ~ 1 + (1 | a) + (1 | b)", data)
    train = np.setdiff1d(np.arange(40), [3, 9, 12])
    part = marginal_density(take_rows(model.spec, train), model._marginal_density().priors)
    assert not keeps_nesting(model.spec, part, train, np.array([3]))
    assert keeps_nesting(model.spec, part, train, np.array([12]))
    found, expected = by_models(model, train, [np.array([i]) for i in (3, 9, 12)])
    np.testing.assert_allclose(found, expected, atol=1e-9)


# --- refits of the marginal engine ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def dyestuff():
    return hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).fit(draws=500, random_seed=1)


def by_grid(fit, train: np.ndarray, units: list[np.ndarray]) -> np.ndarray:
    """log p(y_u | y_train) = log Z(train and u) - log Z(train), Z = integral of p(phi, y) over a grid of two sds."""
    log_sd, log_sigma = np.meshgrid(np.linspace(-8, 7, 240), np.linspace(2.5, 6, 120))
    phi = np.column_stack([log_sd.ravel(), log_sigma.ravel()])

    def log_z(rows: np.ndarray) -> float:
        return float(logsumexp(marginal_density(take_rows(fit.design, rows), fit.priors).values(phi)))

    base = log_z(train)
    return np.array([log_z(np.concatenate([train, unit])) - base for unit in units])


def test_all_rows_one_by_one_are_leave_one_out(dyestuff):
    score = dyestuff.kfold("all", random_seed=1)
    assert (score.criterion, score.unit, score.estimator, score.folds) == ("loo", "row", "refits", None)
    every = np.arange(30)
    expected = np.array([by_grid(dyestuff, np.setdiff1d(every, [i]), [np.array([i])])[0] for i in every])
    assert np.all(np.abs(score.elpd_i - expected) < EACH * score.mcse_i)
    assert score.mcse < 0.05 * score.se
    assert score.p == pytest.approx(dyestuff.loo().p, abs=4 * np.hypot(score.mcse, dyestuff.loo().mcse))


def test_folds_of_rows(dyestuff):
    score = dyestuff.kfold(5, stratify="Batch", random_seed=2)
    assert (score.criterion, score.n_units, score.seed) == ("kfold", 30, 2)
    batch = dyestuff.design.blocks[0].codes
    assert (pd.crosstab(batch, score.folds) == 1).all(axis=None)
    for fold in range(5):
        held = np.flatnonzero(score.folds == fold)
        expected = by_grid(dyestuff, np.setdiff1d(np.arange(30), held), [np.array([i]) for i in held])
        assert np.all(np.abs(score.elpd_i[held] - expected) < EACH * score.mcse_i[held])


def test_folds_of_groups(dyestuff):
    score = dyestuff.kfold(3, group="Batch", random_seed=3)
    batch = dyestuff.design.blocks[0]
    assert score.labels == batch.levels
    for fold in range(3):
        held = np.flatnonzero(score.folds == fold)
        units = [np.flatnonzero(batch.codes == level) for level in held]
        expected = by_grid(dyestuff, np.setdiff1d(np.arange(30), np.concatenate(units)), units)
        assert np.all(np.abs(score.elpd_i[held] - expected) < EACH * score.mcse_i[held])


@pytest.mark.stack
def test_all_groups_one_by_one_are_leave_one_group_out(dyestuff):
    score, closed = dyestuff.kfold("all", group="Batch", random_seed=4), dyestuff.logo("Batch")
    assert (score.criterion, score.unit) == ("logo", "Batch")
    assert np.all(np.abs(score.elpd_i - closed.elpd_i) < EACH * np.hypot(score.mcse_i, closed.mcse_i))
    table = hm.compare({"refits": score, "closed form": closed})  # one estimand, so they may be compared
    assert abs(table["elpd_diff"].iloc[1]) < 0.3


def test_the_number_of_processes_changes_nothing(dyestuff):
    one, two = (dyestuff.kfold(3, random_seed=5, cores=cores) for cores in (1, 2))
    assert np.array_equal(one.elpd_i, two.elpd_i)
    assert np.array_equal(one.folds, two.folds)
    assert one.seed == 5
    other = dyestuff.kfold(3, random_seed=6)
    assert not np.array_equal(one.folds, other.folds)


def test_bad_folds(dyestuff):
    for arguments, error, words in [
        ({"k": 1}, ArgumentError, "between 2 and 30"),
        ({"k": 31}, ArgumentError, "30 rows"),
        ({"k": 7, "group": "Batch"}, ArgumentError, "6 levels of Batch"),
        ({"k": 2.5}, ArgumentTypeError, "whole number"),
        ({"group": "Batsh"}, UnknownNameError, "Batch"),
        ({"k": 2, "group": "Batch", "stratify": "Batch"}, ArgumentError, "not both"),
        ({"cores": 0}, ArgumentError, "cores"),
    ]:
        with pytest.raises(error, match=words):
            dyestuff.kfold(**arguments)


def test_a_fold_without_which_a_coefficient_has_no_data_is_refused():
    data = SLEEP.assign(only=(SLEEP["Subject"] == "309").astype(float))
    priors, centre = {"only": "Flat()"}, False  # centred, the intercept's prior would say a little about it
    model = hm.Model("Reaction ~ Days + only + (1 | Subject)", data, priors=priors, center_predictors=centre)
    fit = model.fit(draws=500, random_seed=1)
    with pytest.raises(DesignError, match=r"one fold.*stratify="):
        fit.kfold("all", group="Subject", random_seed=1)


# --- one level's effects integrated out at draws of the rest -------------------------------------------------------
COUNTS = pd.DataFrame(
    {
        "g": np.repeat(list("abcd"), [1, 3, 4, 2]),
        "h": list("uvuvuvuvuv"),
        "x": np.linspace(-1, 1, 10),
        "y": [0, 3, 1, 5, 2, 0, 9, 1, 4, 2],
        "n": [5, 9, 4, 9, 6, 5, 12, 3, 7, 8],
    }
)
COUNTS["b"] = (COUNTS["y"] > 1).astype(int)


def eta_without(fit, s: tuple[int, int], factor: str, rows: np.ndarray) -> np.ndarray:
    design, record = fit.design, fit.record
    eta = design.X[rows] @ record.beta[s]
    for block, b in zip(design.blocks, record.b, strict=True):
        if block.factor != factor:
            eta = eta + np.einsum("rk,rk->r", block.values[rows], b[s][block.codes[rows]])
    return eta


@pytest.mark.parametrize(
    ("formula", "family", "link", "density"),
    [
        ("y ~ x + (1 | g) + (1 | h)", "poisson", None, lambda eta, r: poisson.pmf(COUNTS["y"][r], np.exp(eta))),
        ("p(y, n) ~ x + (1 | g)", "binomial", None, lambda eta, r: binom.pmf(COUNTS["y"][r], COUNTS["n"][r],
                                                                            expit(eta))),
        ("b ~ x + (1 | g)", "bernoulli", "probit", lambda eta, r: binom.pmf(COUNTS["b"][r], 1, norm.cdf(eta))),
        (
            "b ~ x + (1 | g)",
            "bernoulli",
            "cloglog",
            lambda eta, r: binom.pmf(COUNTS["b"][r], 1, -np.expm1(-np.exp(eta))),
        ),
    ],
)  # fmt: skip
def test_scalar_effects_by_quadrature(formula, family, link, density):
    fit = hand_made(hm.Model(formula, COUNTS, family=family, link=link), beta=[0.3, 0.5], sds=1.2, draws=3, chains=2)
    logs = level_logs(fit.design, fit.record, "g", check_quadrature(fit.design, "g", family, fit.link))
    block = fit.design.blocks[0]
    for level in range(4):
        rows = np.flatnonzero(block.codes == level)
        for c, d in ((0, 0), (1, 2)):
            eta, sd = eta_without(fit, (c, d), "g", rows), fit.record.sd[0][c, d, 0]
            value = quad(lambda b, e=eta, s=sd, r=rows: float(np.prod(density(e + b, r)) * norm.pdf(b, 0, s)),
                         -12, 12, limit=200, epsabs=0, epsrel=1e-10, points=[0])[0]  # fmt: skip
            # 15 adaptive nodes; the integrands here have one to four counts
            assert logs.integrated[level, 3 * c + d] == pytest.approx(np.log(value), abs=1e-5)
            own = fit.record.b[0][c, d, level, 0]
            assert logs.at_draws[level, 3 * c + d] == pytest.approx(np.log(density(eta + own, rows)).sum(), abs=1e-10)


@pytest.mark.parametrize(
    ("family", "link", "density"),
    [
        ("negativebinomial", None, lambda y, mu, alpha: nbinom.logpmf(y, alpha, alpha / (alpha + mu))),
        ("gamma", "log", lambda y, mu, alpha: gamma.logpdf(y + 1, alpha, scale=mu / alpha)),
        ("lognormal", None, lambda y, mu, sigma: lognorm.logpdf(y + 1, sigma, scale=mu)),
        (
            "weibull",
            "log",
            lambda y, mu, alpha: weibull_min.logpdf(y + 1, alpha, scale=mu / gamma_function(1 + 1 / alpha)),
        ),
    ],
)
def test_further_parameters_differ_between_draws(family, link, density):
    formula = "y ~ x + (1 | g)" if family == "negativebinomial" else "I(y + 1) ~ x + (1 | g)"
    fit = hand_made(hm.Model(formula, COUNTS, family=family, link=link), beta=[0.3, 0.5], draws=3, chains=2)
    alpha = np.array([[0.4, 2.0, 30.0], [1.0, 5.0, 0.8]])
    record = replace(fit.record, auxiliary={"alpha": alpha}, sigma=alpha)
    logs = level_logs(fit.design, record, "g", check_quadrature(fit.design, "g", family, fit.link))
    for level in range(4):
        rows = np.flatnonzero(fit.design.blocks[0].codes == level)
        y = COUNTS["y"].to_numpy()[rows]
        for c, d in ((0, 0), (0, 2), (1, 1)):
            eta, sd, a = eta_without(fit, (c, d), "g", rows), record.sd[0][c, d, 0], alpha[c, d]
            value = quad(lambda b, e=eta, s=sd, a=a, y=y: np.exp(density(y, np.exp(e + b), a).sum())
                         * norm.pdf(b, 0, s), -12, 12, limit=200, epsabs=0, epsrel=1e-10, points=[0])[0]  # fmt: skip
            # 15 adaptive nodes: rows of an exponential, on whose one side they rise like exp(30 u), are the worst
            assert logs.integrated[level, 3 * c + d] == pytest.approx(np.log(value), abs=1e-3 if link else 1e-4)
            own = density(y, np.exp(eta + record.b[0][c, d, level, 0]), a).sum()
            assert logs.at_draws[level, 3 * c + d] == pytest.approx(own, abs=1e-9, rel=1e-12)


def test_two_effects_by_quadrature():
    fit = hand_made(hm.Model("y ~ x + (x | g)", COUNTS, family="poisson"), beta=[0.3, 0.5], sds=0.8, draws=2, chains=1)
    logs = level_logs(fit.design, fit.record, "g", check_quadrature(fit.design, "g", "poisson", "log"))
    rows = np.flatnonzero(fit.design.blocks[0].codes == 2)
    sd, corr = fit.record.sd[0][0, 1], fit.record.corr[0][0, 1]
    law = multivariate_normal([0, 0], sd[:, None] * corr * sd)
    eta, x, y = eta_without(fit, (0, 1), "g", rows), COUNTS["x"].to_numpy()[rows], COUNTS["y"].to_numpy()[rows]
    value = dblquad(lambda u, v: float(np.prod(poisson.pmf(y, np.exp(eta + v + x * u))) * law.pdf([v, u])),
                    -6, 6, -6, 6, epsabs=1e-9, epsrel=1e-7)[0]  # fmt: skip
    assert logs.integrated[2, 1] == pytest.approx(np.log(value), abs=1e-4)


def test_three_effects_are_refused():
    model = hm.Model("y ~ x + (x + np.square(x) | g)", COUNTS, family="poisson")
    with pytest.raises(UnsupportedError, match=r'3 effects.*kfold\(k="all"'):
        hand_made(model).logo("g")


def test_rows_that_may_have_two_modes_are_refused():
    with pytest.raises(UnsupportedError, match="not for family 't'"):
        hand_made(hm.Model("y ~ x + (1 | g)", COUNTS, family="t")).logo("g")


def test_gaussian_levels_in_closed_form():
    priors = {"Days": "StudentT(nu=3, mu=0, sigma=10)"}
    model = hm.Model("Reaction ~ Days + offset(off) + (Days | Subject) + (1 | day)", SLEEP, weights="w", priors=priors)
    fit = hand_made(model, beta=[250, 10], sds=5.0, draws=2, chains=1)
    logs = gaussian_level_logs(fit.design, fit.record, "Subject")
    block, record = fit.design.blocks[0], fit.record
    for level in (0, 7):
        rows = np.flatnonzero(block.codes == level)
        sd, corr = record.sd[0][0, 1], record.corr[0][0, 1]
        Z = block.values[rows]
        noise = record.sigma[0, 1] ** 2 / fit.design.weights[rows]
        V = Z @ (sd[:, None] * corr * sd) @ Z.T + np.diag(noise)
        mean = eta_without(fit, (0, 1), "Subject", rows) + fit.design.offset[rows]
        expected = multivariate_normal.logpdf(fit.design.y[rows], mean, V)
        assert logs.integrated[level, 1] == pytest.approx(expected, rel=1e-9)
        seen = mean + Z @ record.b[0][0, 1, level]
        conditional = norm.logpdf(fit.design.y[rows], seen, np.sqrt(noise)).sum()
        assert logs.at_draws[level, 1] == pytest.approx(conditional, rel=1e-10)
    score = hand_made(model, beta=[250, 10], sds=20.0, draws=50).logo("Subject", refit_bad=False)
    assert (score.estimator, score.n_units) == ("integrated", 18)
    assert "only a level's own effects" in score.reason


# --- refits by NUTS ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["nutpie", "whitened"])
def cbpp(request):
    model = hm.Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 2 chains are few, and enough here
        how = {"chains": 2, "random_seed": 1, "progressbar": False, "cores": 1, "inference_method": request.param}
        return model.fit(draws=600, tune=500, **how)


@pytest.mark.stack
def test_groups_left_out_of_refits(cbpp):
    """Refits by NUTS, a level without rows drawn from its prior: the elpd that quadrature and weights give."""
    quick = cbpp.logo("herd")
    assert quick.estimator == "quadrature"
    assert np.all(quick.pareto_k < 0.7)
    slow = cbpp.kfold("all", group="herd", random_seed=2)
    how = {"nutpie": "refits by NUTS on the graph", "whitened": "refits by the engine that made the fit"}
    assert slow.reason == how[cbpp.inference.method]
    both = np.hypot(quick.mcse_i, slow.mcse_i)
    assert np.all(np.abs(quick.elpd_i - slow.elpd_i) < EACH * both)
    assert both.max() < 0.15
    again = cbpp.kfold(3, group="herd", random_seed=2)
    assert np.array_equal(again.elpd_i, cbpp.kfold(3, group="herd", random_seed=2, cores=2).elpd_i)
    assert np.ptp(np.bincount(again.folds)) == 0


@pytest.mark.stack
def test_rows_with_a_bad_k_are_refitted(cbpp):
    plain, refitted = cbpp.loo(refit_bad=False), cbpp.loo()
    assert 1 <= len(plain.bad) <= 10
    assert refitted.refitted == tuple(plain.bad)
    assert not len(refitted.bad)
    assert not refitted.messages
    # Without refits: p(y_i | y_-i, beta, sd) is the ratio of the herd's integrals with and without the row.
    design, record, bad = cbpp.design, cbpp.record, plain.bad
    likelihood, codes = check_quadrature(design, "herd", "binomial", "logit"), design.blocks[0].codes
    half = record.sd[0].reshape(-1, 1, 1)

    def herd(rows: np.ndarray) -> np.ndarray:
        if not len(rows):  # the only row of its herd
            return np.zeros(len(half))
        eta = record.beta.reshape(-1, 4) @ design.X[rows].T
        return integrate(likelihood, eta, np.ones((len(rows), 1)), half, design.y[rows], design.trials[rows])

    herds = [np.flatnonzero(codes == codes[i]) for i in bad]
    ratio = np.array([herd(rows) - herd(rows[rows != i]) for i, rows in zip(bad, herds, strict=True)])
    exact = leave_out(ratio)
    assert np.all(exact.k < 0.7)
    assert np.all(np.abs(refitted.elpd_i[bad] - exact.elpd) < EACH * np.hypot(refitted.mcse_i[bad], exact.mcse))
    kept = np.setdiff1d(np.arange(56), plain.bad)
    assert np.array_equal(refitted.elpd_i[kept], plain.elpd_i[kept])
    assert refitted.p == pytest.approx((refitted.p_i).sum())
    np.testing.assert_allclose(refitted.p_i + refitted.elpd_i, plain.p_i + plain.elpd_i, atol=1e-10)
    assert np.array_equal(cbpp.loo().elpd_i, refitted.elpd_i)  # seeds follow from the fit's
    good = np.argsort(plain.pareto_k)[:6]
    found = refit_units(cbpp, [np.array([i]) for i in range(56)], good, progressbar=False)
    assert np.all(np.abs(found.elpd - plain.elpd_i[good]) < EACH * np.hypot(found.mcse, plain.mcse_i[good]))
    assert cbpp.loo(integrated=False).refitted == ()
    with pytest.raises(ArgumentError, match="refit_bad"):
        cbpp.loo(refit_bad=3)


def test_refits_are_those_of_the_other_rows_alone():
    """Further parameters, slopes and a level that loses all its rows: a model of the other rows, priors given."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(12), 8), rng.normal(2.0, 1.0, 96)
    mean = np.exp(0.3 + 0.4 * x + 0.5 * rng.normal(size=12)[g])
    data = pd.DataFrame({"y": rng.negative_binomial(2.0, 2.0 / (2.0 + mean)), "x": x, "g": [f"g{i:02}" for i in g]})
    priors = {
        "Intercept": "Normal(0, 2)", "x": "Normal(0, 1)", "1|g": "HalfNormal(1)", "x|g": "HalfNormal(1)",
        "alpha": "Exponential(0.5)",
    }  # fmt: skip
    how = {"family": "negativebinomial", "priors": priors, "center_predictors": False}
    fit = hm.Model("y ~ x + (x | g)", data, **how).fit(random_seed=1, progressbar=False)
    assert fit.inference.method == "whitened"
    score = fit.kfold(3, random_seed=4, progressbar=False)
    held = np.flatnonzero(score.folds == 1)
    other = hm.Model("y ~ x + (x | g)", data.drop(index=held), **how).fit(random_seed=2, progressbar=False)
    record, rows = other.record, data.iloc[held]
    level = pd.Categorical(rows["g"], other.design.blocks[0].levels).codes
    assert (level >= 0).all()
    b = record.b[0].reshape(-1, *record.b[0].shape[2:])[:, level]
    beta = record.beta.reshape(-1, 2)
    mu = np.exp(beta[:, :1] + beta[:, 1:] * rows["x"].to_numpy() + b[..., 0] + b[..., 1] * rows["x"].to_numpy())
    alpha = record.auxiliary["alpha"].reshape(-1, 1)
    densities = nbinom.pmf(rows["y"].to_numpy(), alpha, alpha / (alpha + mu))
    error = densities.std(axis=0) / densities.mean(axis=0) / np.sqrt(1000)  # of 4,000 draws, 1,000 independent or more
    away = score.elpd_i[held] - np.log(densities.mean(axis=0))
    assert np.all(np.abs(away) < EACH * np.hypot(error, score.mcse_i[held]))
    left = fit.kfold("all", group="g", random_seed=5, progressbar=False)
    inside = fit.loo(refit_bad=False)
    assert left.elpd < inside.elpd  # a level's other rows tell of it


@pytest.mark.slow
def test_a_group_left_out_by_hand():
    """The model fitted to the data without one herd, its likelihood integrated over a new herd's effect by quad."""
    data = hm.load_dataset("cbpp")
    formula = "p(incidence, size) ~ period + (1 | herd)"
    priors = {"Intercept": "Normal(-1, 1.5)", "period": "Normal(0, 1.5)", "1|herd": "HalfNormal(1)"}

    def fitted(rows: pd.DataFrame) -> object:
        model = hm.Model(formula, rows, family="binomial", priors=priors, center_predictors=False)
        return model.fit(random_seed=3, progressbar=False)

    whole, herd = fitted(data), data["herd"].iloc[0]
    without = fitted(data[data["herd"] != herd].assign(herd=lambda d: d["herd"].astype(str)))
    rows = np.flatnonzero((data["herd"] == herd).to_numpy())
    X = whole.design.X[rows]
    y, n = data["incidence"].to_numpy()[rows], data["size"].to_numpy()[rows]
    beta, sd = without.record.beta.reshape(-1, X.shape[1]), without.record.sd[0].ravel()
    nodes = np.linspace(-8, 8, 161)
    logs = binom.logpmf(y, n, expit((beta @ X.T)[:, None] + (sd[:, None] * nodes)[:, :, None])).sum(axis=2)
    values = (np.exp(logs) * norm.pdf(nodes)).sum(axis=1) * 0.1
    expected, error = np.log(values.mean()), values.std() / values.mean() / np.sqrt(1000)
    score = whole.logo("herd")
    at = score.labels.index(str(herd))
    assert abs(score.elpd_i[at] - expected) < EACH * np.hypot(error, score.mcse_i[at])


def test_a_fit_without_its_model_says_so():
    made = hand_made(hm.Model("y ~ x + (1 | g)", COUNTS, family="poisson"), beta=[0.3, 0.5], sds=0.5)
    with pytest.raises(UnsupportedError, match="does not know its model"):
        made.kfold(3, random_seed=1)
