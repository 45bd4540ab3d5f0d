"""BayesianFit on posteriors made by hand: every table and prediction against the same arithmetic on the draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy import special, stats

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.responses import response_draws
from hiermod.fits.bayesian import BayesianFit
from hiermod.model import Model

EXACT = 1e-12


@pytest.fixture(scope="module")
def sleep() -> BayesianFit:
    return hand_made(
        Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")), beta=[250.0, 10.0], sds=20.0
    )


def flat(draws: np.ndarray) -> np.ndarray:
    return draws.reshape(-1, *draws.shape[2:])


def approx(values: object) -> object:
    return pytest.approx(np.asarray(values), rel=EXACT, abs=EXACT)


def test_fixef_is_mean_sd_and_quantiles(sleep: BayesianFit) -> None:
    draws = flat(sleep.record.beta)
    table = sleep.fixef(level=0.8)
    columns = ["estimate", "std_error", "lower", "upper", "mcse", "ess_bulk", "ess_tail", "r_hat"]
    assert (list(table.columns), list(table.index), table.index.name) == (columns, ["Intercept", "Days"], "term")
    assert table["estimate"].to_numpy() == approx(draws.mean(axis=0))
    assert table["std_error"].to_numpy() == approx(draws.std(axis=0, ddof=1))
    assert table[["lower", "upper"]].to_numpy() == approx(np.quantile(draws, [0.1, 0.9], axis=0).T)
    # 1,000 independent draws: an ESS of their number, within its own noise; mcse = sd / sqrt(ess)
    assert table["ess_bulk"].between(700, 1400).all()
    assert table["mcse"].to_numpy() == pytest.approx((table["std_error"] / np.sqrt(1000)).to_numpy(), rel=0.2)
    assert table["r_hat"].between(0.99, 1.02).all()
    assert sleep.vcov().to_numpy() == approx(np.cov(draws, rowvar=False))


def test_group_effects_and_coefficients_draw_by_draw(sleep: BayesianFit) -> None:
    record = sleep.record
    table = sleep.ranef()
    assert list(table.columns) == ["group", "level", "term", "estimate", "std_error", "lower", "upper"]
    assert list(table["level"][:4]) == ["308", "308", "309", "309"]
    b = flat(record.b[0])
    assert table["estimate"].to_numpy() == approx(b.mean(axis=0).ravel())
    assert table["std_error"].to_numpy() == approx(b.std(axis=0, ddof=1).ravel())
    total = flat(record.beta)[:, None, :] + b
    coef = sleep.coef("Subject", level=0.5)
    assert coef["estimate"].to_numpy() == approx(total.mean(axis=0).ravel())
    assert coef["std_error"].to_numpy() == approx(total.std(axis=0, ddof=1).ravel())
    assert coef["lower"].to_numpy() == approx(np.quantile(total, 0.25, axis=0).ravel())


def test_sds_and_variances_each_have_their_own_mean(sleep: BayesianFit) -> None:
    record = sleep.record
    table = sleep.varcorr(level=0.9)
    assert list(table.columns) == ["group", "term1", "term2", "sdcor", "vcov", "lower", "upper"]
    sd, r, sigma = flat(record.sd[0]), flat(record.corr[0])[:, 0, 1], flat(record.sigma)
    assert table["sdcor"].to_numpy() == approx([sd[:, 0].mean(), sd[:, 1].mean(), r.mean(), sigma.mean()])
    products = [np.mean(sd[:, 0] ** 2), np.mean(sd[:, 1] ** 2), np.mean(r * sd[:, 0] * sd[:, 1]), np.mean(sigma**2)]
    assert table["vcov"].to_numpy() == approx(products)
    assert (table["vcov"].iloc[:2] > table["sdcor"].iloc[:2] ** 2).all()  # E s^2 > (E s)^2
    assert table["lower"].to_numpy() == approx([np.quantile(x, 0.05) for x in (sd[:, 0], sd[:, 1], r, sigma)])
    assert list(table["term1"].fillna("-")) == ["Intercept", "Days", "Intercept", "-"]
    assert list(table["term2"].fillna("-")) == ["-", "-", "Days", "-"]
    assert sleep.sigma == approx(sigma.mean())


def test_parameters_go_by_their_names_in_the_graph(sleep: BayesianFit) -> None:
    table = sleep.parameters()
    names = ["Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr[Intercept,Days]", "sigma"]
    assert list(table.index) == names
    assert table["estimate"].to_numpy()[2:] == approx(sleep.varcorr()["sdcor"])
    pd.testing.assert_frame_equal(sleep.confint(0.95), table[["lower", "upper"]])


NEW = pd.DataFrame({"Days": [0.0, 3.0, 3.0, 6.0], "Subject": ["308", "309", "new", "new"]}, index=list("abcd"))


def dense_eta(fit: BayesianFit, rows: pd.DataFrame, with_groups: bool) -> np.ndarray:
    X = np.column_stack([np.ones(len(rows)), rows["Days"]])
    eta = flat(fit.record.beta) @ X.T
    levels = fit.design.blocks[0].levels
    for m, level in enumerate(rows["Subject"]):
        if with_groups and level in levels:
            eta[:, m] += flat(fit.record.b[0])[:, levels.index(level)] @ X[m]
    return eta


def test_predictions_of_known_rows_are_exact(sleep: BayesianFit) -> None:
    for target, with_groups in (("conditional", True), ("population", False)):
        table = sleep.predict(NEW, target=target, interval=0.9, new_levels="zero")
        eta = dense_eta(sleep, NEW, with_groups)
        assert list(table.index) == list("abcd")
        assert table["estimate"].to_numpy() == approx(eta.mean(axis=0))
        assert table[["lower", "upper"]].to_numpy() == approx(np.quantile(eta, [0.05, 0.95], axis=0).T)
    assert sleep.fitted().to_numpy() == approx(sleep.predict()["estimate"])
    assert (sleep.fitted() + sleep.residuals()).to_numpy() == approx(sleep.design.y)
    with pytest.raises(UnknownNameError, match="'new'"):
        sleep.predict(NEW)


def test_new_groups_and_new_observations_widen_the_interval(sleep: BayesianFit) -> None:
    """Half-widths against a simulation of its own: 10,000 draws on either side know theirs to 1.2 %, so 5 % is 3 sd."""
    many = hand_made(
        Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")), [250.0, 10.0], sds=20.0, draws=5000
    )
    sd, r, sigma = flat(many.record.sd[0]), flat(many.record.corr[0])[:, 0, 1], flat(many.record.sigma)
    x = 3.0
    eta = flat(many.record.beta) @ [1.0, x]
    row = NEW.iloc[[2]]

    def half(**options: object) -> float:
        table = many.predict(row, interval=0.68, random_seed=2, **options)
        assert table["estimate"].item() == approx(eta.mean())  # on the identity scale new groups average out exactly
        return (table["upper"] - table["lower"]).item() / 2

    def own(draws: np.ndarray) -> object:
        lower, upper = np.quantile(draws, [0.16, 0.84])
        return pytest.approx((upper - lower) / 2, rel=0.05)

    rng = np.random.default_rng(7)
    z, e = rng.standard_normal((2, len(eta))), sigma * rng.standard_normal(len(eta))
    b = sd[:, 0] * z[0] + x * sd[:, 1] * (r * z[0] + np.sqrt(1 - r**2) * z[1])
    assert half(target="population") == own(eta)
    assert half(target="population", kind="response") == own(eta + e)
    for options in ({"target": "new_group"}, {"new_levels": "sample"}):
        assert half(**options) == own(eta + b)
        assert half(kind="response", **options) == own(eta + b + e)


def test_rows_of_one_new_level_share_its_effect(sleep: BayesianFit) -> None:
    from hiermod.fits.targets import read_request

    rows = pd.DataFrame({"Days": [0.0, 0.0, 0.0], "Subject": ["new", "new", "other"]})
    request = read_request(sleep.design, rows, "conditional", 0.95, "mean", "sample")
    eta = sleep._predictor(request).linear(slice(None), np.random.default_rng(1))
    assert np.array_equal(eta[:, 0], eta[:, 1])
    assert abs(np.corrcoef(eta[:, 0], eta[:, 2])[0, 1]) < 0.15  # 1,000 draws: 4.7 standard errors


def test_seeds_reproduce(sleep: BayesianFit) -> None:
    options = {"target": "new_group", "interval": 0.9, "kind": "response"}
    first = sleep.predict(NEW, random_seed=5, **options)
    pd.testing.assert_frame_equal(first, sleep.predict(NEW, random_seed=np.random.default_rng(5), **options))
    assert not first.equals(sleep.predict(NEW, random_seed=6, **options))
    pd.testing.assert_frame_equal(sleep.simulate(3, random_seed=1), sleep.simulate(3, random_seed=1))
    assert not sleep.simulate(1, random_seed=1).equals(sleep.simulate(1, random_seed=2))
    assert sleep.simulate(2000, random_seed=1).shape == (180, 2000)  # more than there are draws


def test_many_rows_are_predicted_in_parts(sleep: BayesianFit, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sleep.predict(interval=0.9)
    monkeypatch.setattr("hiermod.fits.bayesian_predict.ROWS_AT_A_TIME", 7 * 1000)
    pd.testing.assert_frame_equal(sleep.predict(interval=0.9), whole)


@pytest.mark.parametrize("target", ["conditional", "population", "new_group"])
def test_no_rows_give_a_table_without_rows(sleep: BayesianFit, target: str) -> None:
    table = sleep.predict(NEW.iloc[:0], target=target, interval=0.9)
    assert (list(table.columns), len(table)) == (["estimate", "lower", "upper"], 0)
    assert list(sleep.predict(NEW.iloc[:0], target=target).columns) == ["estimate"]


def test_simulated_responses_have_the_posterior_predictive_variance() -> None:
    fit = hand_made(Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")), [250.0, 10.0], 0.1, 5.0)
    y = fit.simulate(1000, random_seed=1).to_numpy()
    sd, r, sigma = flat(fit.record.sd[0]), flat(fit.record.corr[0])[:, 0, 1], flat(fit.record.sigma)
    x = fit.design.X[:, 1]
    expected = [np.mean(sd[:, 0] ** 2 + v**2 * sd[:, 1] ** 2 + 2 * v * r * sd[:, 0] * sd[:, 1] + sigma**2) for v in x]
    # averaged over 18 subjects per day: the sd of a variance of 18,000 heavy-tailed draws is below 2 %
    assert (y.var(axis=1) / expected).reshape(18, 10).mean(axis=0) == pytest.approx(np.ones(10), abs=0.08)
    assert y.mean(axis=1) == pytest.approx(250 + 10 * x, abs=4.5 * np.sqrt(max(expected) / 1000))


def test_bernoulli() -> None:
    d = load_dataset("sleepstudy").assign(slow=lambda d: (d["Reaction"] > 300).astype(int))
    fit = hand_made(Model("slow ~ Days + (1 | Subject)", d, family="bernoulli"), beta=[-1.0, 0.2], sds=0.5)
    rows = d.iloc[[0, 25]]
    eta = dense_eta_intercepts(fit, rows)
    p = special.expit(eta)
    table = fit.predict(rows, interval=0.9)
    assert table["estimate"].to_numpy() == approx(p.mean(axis=0))
    assert table["upper"].to_numpy() == approx(np.quantile(p, 0.95, axis=0))
    response = fit.predict(rows, interval=0.9, kind="response", random_seed=1)
    assert set(response[["lower", "upper"]].to_numpy().ravel()) <= {0.0, 1.0}
    assert set(np.unique(fit.simulate(3, random_seed=1))) == {0.0, 1.0}
    # a new group: the mean of the inverse link over the spread of groups (Gauss-Hermite), not at 0 (population)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    sd, beta = flat(fit.record.sd[0])[:, :1], flat(fit.record.beta)
    exact = np.mean(special.expit(beta[:, :1] + sd * nodes) @ weights) / np.sqrt(2 * np.pi)
    new = fit.predict(rows.iloc[[0]], target="new_group", random_seed=1)["estimate"].item()
    assert new == pytest.approx(exact, abs=0.015)  # 1,000 draws of a probability with sd 0.1: 4.7 standard errors
    assert fit.predict(rows.iloc[[0]], target="population")["estimate"].item() == approx(
        special.expit(beta[:, 0]).mean()
    )
    assert np.isnan(fit.sigma)
    assert "Residual" not in set(fit.varcorr()["group"])
    with pytest.raises(UnsupportedError, match="Gaussian"):
        fit.residuals("pearson")


def dense_eta_intercepts(fit: BayesianFit, rows: pd.DataFrame) -> np.ndarray:
    block = fit.design.blocks[0]
    index = [block.levels.index(str(level)) for level in rows[block.factor]]
    X = np.column_stack([np.ones(len(rows)), rows[fit.design.common[1]]])
    return flat(fit.record.beta) @ X.T + flat(fit.record.b[0])[:, index, 0]


def test_poisson() -> None:
    d = load_dataset("grouseticks").rename(columns={"TICKS": "ticks"}).assign(h=lambda d: d["HEIGHT"] / 100 - 4.6)
    fit = hand_made(Model("ticks ~ h + (1 | LOCATION)", d, family="poisson"), beta=[1.0, -0.5], sds=0.4)
    rows = d.iloc[[0, 100]]
    mean = np.exp(dense_eta_intercepts(fit, rows))
    assert fit.predict(rows)["estimate"].to_numpy() == approx(mean.mean(axis=0))
    counts = fit.simulate(50, random_seed=1).to_numpy()
    assert np.array_equal(counts, counts.round())
    assert counts.min() >= 0
    wide = fit.predict(rows, interval=0.9, kind="response", random_seed=1)
    assert (wide["upper"] > fit.predict(rows, interval=0.9)["upper"]).all()


def test_binomial_counts() -> None:
    d = load_dataset("cbpp")
    fit = hand_made(Model("p(incidence, size) ~ 1 + (1 | herd)", d, family="binomial"), beta=[-1.0], sds=0.5)
    assert fit.predict()["estimate"].between(0, 1).all()  # the probability of one trial
    assert fit.residuals().to_numpy() == approx(d["incidence"] / d["size"] - fit.fitted())
    simulated = fit.simulate(20, random_seed=1)
    assert simulated.max(axis=1).le(d["size"].to_numpy()).all()
    assert simulated.to_numpy().max() > 1  # successes, not proportions
    proportions = fit.predict(interval=0.9, kind="response", random_seed=1)
    assert proportions["upper"].between(0, 1).all()
    with pytest.raises(ArgumentError, match="trials"):
        fit.predict(d.iloc[:2].drop(columns="size"), interval=0.9, kind="response")


def test_means_of_zero_inflated_counts_have_psi_in_them() -> None:
    d = load_dataset("grouseticks")
    fit = hand_made(Model("TICKS ~ 1 + (1 | LOCATION)", d, family="zero_inflated_poisson"), beta=[1.0])
    with pytest.raises(UnsupportedError, match="without psi"):
        response_draws(fit.family, np.ones((1, 2)), None, None, np.random.default_rng(1))
    fit = BayesianFit(fit.design, replace(fit.record, auxiliary={"psi": np.full((2, 500), 0.7)}), fit.family, fit.link)
    population = fit.predict(target="population")["estimate"]
    assert population.to_numpy() == pytest.approx(0.7 * np.exp(fit.record.beta).mean(), rel=1e-12)
    simulated = fit.simulate(200, random_seed=1).to_numpy()
    assert (simulated == 0).mean() > 0.3  # the 0.3 that are structural, and those of the counts
    assert len(fit.parameters()) == 3


def test_known_residual_sds_have_no_sigma() -> None:
    d = load_dataset("eight_schools")
    fit = hand_made(Model("effect ~ 1 + (1 | school)", d, se="se"), beta=[8.0], sds=5.0, draws=2000)
    assert np.isnan(fit.sigma)
    assert list(fit.parameters().index) == ["Intercept", "1|school_sigma"]
    mean, response = (fit.predict(interval=0.68, kind=kind, random_seed=1) for kind in ("mean", "response"))
    eta = dense_eta_constant(fit)
    z = stats.norm.ppf(0.84)
    expected = z * np.sqrt(eta.var(axis=0) + d["se"] ** 2)
    assert ((response["upper"] - response["lower"]) / 2).to_numpy() == pytest.approx(expected.to_numpy(), rel=0.08)
    assert mean["estimate"].to_numpy() == approx(eta.mean(axis=0))
    again = fit.predict(d, interval=0.68, kind="response", random_seed=1)  # the column se= named is in the new rows too
    assert again.to_numpy() == approx(response.to_numpy())
    with pytest.raises(ArgumentError, match="Add the column 'se'"):
        fit.predict(d.drop(columns="se"), interval=0.9, kind="response")


def dense_eta_constant(fit: BayesianFit) -> np.ndarray:
    return flat(fit.record.beta)[:, :1] + flat(fit.record.b[0])[:, fit.design.blocks[0].codes, 0]


def test_weights_scale_the_noise() -> None:
    d = load_dataset("sleepstudy").assign(w=4.0)
    model = Model("Reaction ~ Days + (1 | Subject)", d, weights="w")
    fit = hand_made(model, [250.0, 10.0], spread=1e-6, sds=20.0, b=0.0, draws=4000)
    table = fit.predict(interval=0.68, kind="response", random_seed=1)
    half = (table["upper"] - table["lower"]).mean() / 2
    assert half == pytest.approx(stats.norm.ppf(0.84) * fit.sigma / 2, rel=0.03)  # sqrt(w) = 2
    for w, frame in ((4.0, d.iloc[:5]), (0.25, d.iloc[:5].assign(w=0.25)), (1.0, d.iloc[:5].drop(columns="w"))):
        new = fit.predict(frame, interval=0.68, kind="response", random_seed=1)  # a row without a weight has 1
        half = (new["upper"] - new["lower"]).mean() / 2
        assert half == pytest.approx(stats.norm.ppf(0.84) * fit.sigma / np.sqrt(w), rel=0.05)
    assert fit.residuals("scaled").to_numpy() == approx(fit.residuals() * 2 / fit.sigma)


def test_divergences_and_r_hat_are_told_in_words() -> None:
    model = Model("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
    well, ill = hand_made(model), hand_made(model, divergences=3, messages=("3 of 1000 transitions diverged: look.",))
    assert "No divergences" in str(well.check())
    assert "3 of 1000 transitions diverged" in str(ill.check())
    assert "3 of 1000 transitions diverged" in str(ill.summary())
    assert ill.glance()["divergences"].item() == 3


@pytest.mark.stack
def test_families_and_links_are_bambis() -> None:
    from bambi.defaults.families import BUILTIN_FAMILIES

    for family, record in FAMILIES.items():
        if family not in BUILTIN_FAMILIES:
            assert record.bambi is not None, family
            continue
        info = BUILTIN_FAMILIES[family]
        parent = info["likelihood"]["parent"]
        assert record.links[0] == info["link"][parent], family
        assert set(record.links) <= set(info["family"].SUPPORTED_LINKS[parent]), family


def test_a_model_without_common_effects_answers_too() -> None:
    """`0 + (1 | g)`, and an ordinal model with thresholds only: (c, d, 0) draws of coefficients."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat([*"abcdef"], 10)})
    fit = hand_made(Model("y ~ 0 + (1 | g)", d))
    assert list(fit.fixef().columns) == list(fit.parameters().columns)
    assert len(fit.fixef()) == 0
    assert fit.vcov().shape == (0, 0)
    between, within = fit.record.sd[0][..., 0] ** 2, fit.record.sigma**2
    share = (between / (between + within)).mean()  # no variance of fixed effects to add
    assert fit.icc()["estimate"].iloc[0] == pytest.approx(share, rel=1e-10)
    assert fit.r2().loc["conditional", "estimate"] == pytest.approx(share, rel=1e-10)
    assert fit.r2().loc["marginal", "estimate"] == 0
    assert "Residual" in str(fit.summary())
    sampled = Model("y ~ 0 + (1 | g)", d).fit(draws=250, random_seed=1)
    assert np.isfinite(sampled.prior_sensitivity()["prior"]).all()
    rated = d.assign(y=pd.Categorical(rng.choice([*"abc"], 60), categories=[*"abc"], ordered=True))
    assert len(hand_made(Model("y ~ 1 + (1 | g)", rated, family="cumulative")).fixef()) == 0
