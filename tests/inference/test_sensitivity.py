"""Power-scaling: closed forms, refits with power-scaled priors, verdicts where they are known, the picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from kernel_cases import dense_parts
from marginal_cases import make, random_phis, read_phi
from scipy import stats

import hiermod as hm
from hiermod.core import versions
from hiermod.engines.marginal.integrated_likelihood import integrated_log_likelihood
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.priors_and_reml.power_curves import power_curves
from hiermod.inference.priors_and_reml.prior_density import log_priors, prior_behind, stated_laws
from hiermod.inference.priors_and_reml.sensitivity import Scaled, scaled_likelihood, scaled_prior
from hiermod.model import Model

SLEEP = "Reaction ~ Days + (Days | Subject)"


@cache
def fit_of(priors: tuple[tuple[str, str], ...] = (), draws: int = 1000, data: str = "sleepstudy") -> Any:
    formula = {"sleepstudy": SLEEP, "mtcars": "mpg ~ wt"}[data]
    return Model(formula, hm.load_dataset(data), priors=dict(priors) or None).fit(random_seed=1, draws=draws)


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def cjs(p: Any, q: Any, low: float, high: float) -> float:
    """Cumulative Jensen-Shannon distance of two laws by quadrature, the larger of both directions; Kallioinen et al.
    (2024), equations 8-10, written out again."""

    def one(P: np.ndarray, Q: np.ndarray, dx: float) -> float:
        M = (P + Q) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.nan_to_num(P * np.log2(P / M)) + np.nan_to_num(Q * np.log2(Q / M))
        return float(np.sqrt(max(part.sum() * dx, 0.0) / ((P + Q).sum() * dx)))

    x = np.linspace(low, high, 40001)
    return max(one(p.cdf(x), q.cdf(x), x[1] - x[0]), one(p.sf(x), q.sf(x), x[1] - x[0]))


# --- against closed forms -------------------------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.25, 2.0])
def test_weights_give_the_conjugate_posterior(alpha):
    """Normal mean with known sd: p^alpha is a Normal prior of variance s0^2 / alpha, and the posterior follows.

    Tolerance: 5 Monte Carlo errors of 40,000 draws, whose importance ESS is above half of them."""
    rng = np.random.default_rng(1)
    prior_mean, prior_sd, y_mean, se = 3.0, 2.0, 0.0, 1.0

    def posterior(power: float) -> tuple[float, float]:
        precision = power / prior_sd**2 + 1 / se**2
        return (power * prior_mean / prior_sd**2 + y_mean / se**2) / precision, precision**-0.5

    mean, sd = posterior(1.0)
    draws = rng.normal(mean, sd, (4, 10_000))
    weights = Scaled(stats.norm(prior_mean, prior_sd).logpdf(draws)).weights(alpha)
    expected_mean, expected_sd = posterior(alpha)
    found = float((weights * draws).sum())
    error = 5 * sd / np.sqrt(0.5 * draws.size)
    assert found == pytest.approx(expected_mean, abs=error)
    assert np.sqrt((weights * np.square(draws - found)).sum()) == pytest.approx(expected_sd, abs=error)


@pytest.mark.stack
@pytest.mark.parametrize("alphas", [(0.99, 1.01), (0.7, 1.8)])
def test_sensitivity_is_the_distance_between_the_exact_laws(alphas):
    """The same model; the distance by quadrature of normal distribution functions.  3 %: 40,000 draws."""
    rng = np.random.default_rng(2)
    prior, se = stats.norm(3, 1), 1.0

    def law(power: float) -> Any:
        precision = power + 1 / se**2
        return stats.norm(power * 3 / precision, precision**-0.5)

    draws = law(1.0).rvs((4, 10_000), random_state=rng)
    found = versions.power_scaling(draws, prior.logpdf(draws), alphas)
    ends = float(draws.min()), float(draws.max())  # the distance is relative to the area below, from end to end
    lower, upper = (cjs(law(1.0), law(alpha), *ends) for alpha in alphas)
    expected = (-lower / np.log2(alphas[0]) + upper / np.log2(alphas[1])) / 2
    assert found == pytest.approx(expected, rel=0.03)
    assert found > 0.05


def test_a_component_that_never_changes_moves_nothing():
    flat = Scaled(np.zeros((2, 100)))
    assert flat.sensitivity(np.random.default_rng(1).normal(size=(2, 100))) == 0.0
    assert flat.weights(2.0) == pytest.approx(np.full((2, 100), 1 / 200))
    assert np.isnan(
        versions.power_scaling(np.ones((2, 100)), np.random.default_rng(1).normal(size=(2, 100)), (0.9, 1.1))
    )


@pytest.mark.parametrize(
    "name", ["two correlated", "crossed slopes", "nested and crossed", "weights", "known se", "offset"]
)
def test_integrated_likelihood_is_the_dense_one(name):
    """log N(y; X beta, Z G Z' + sigma^2 W^-1) by scipy, whatever the prior of beta."""
    design, density = make(name, centred=True)
    phi = random_phis(density, 3)
    beta = np.random.default_rng(4).normal(size=(3, len(design.common)))
    found = integrated_log_likelihood(density, phi, beta)
    for one, b, value in zip(phi, beta, found, strict=True):
        factors, sigma, _ = read_phi(design, one, None if density.coordinates.has_sigma else 1.0)
        y, X, Z, G, noise = dense_parts(design, factors)
        expected = stats.multivariate_normal(X @ b, Z @ G @ Z.T + sigma**2 * np.diag(noise)).logpdf(y)
        assert value == pytest.approx(expected, rel=1e-9)


def test_integrated_likelihood_one_factor_at_a_time(monkeypatch):
    """Where stacks are too large: the same numbers."""
    _, density = make("crossed slopes", centred=True)
    phi, beta = random_phis(density, 3), np.random.default_rng(4).normal(size=(3, density.problem.p))
    together = integrated_log_likelihood(density, phi, beta)
    monkeypatch.setattr("hiermod.engines.marginal.density.prepare", lambda cross: None)
    _, slow = make("crossed slopes", centred=True)
    assert slow.batch is None
    assert integrated_log_likelihood(slow, phi, beta) == pytest.approx(together, rel=1e-10)


# --- against refits ---------------------------------------------------------------------------------------------------


def test_shift_agrees_with_refits_under_power_scaled_priors():
    """Days ~ Normal(20, 5) to the power alpha is Normal(20, 5 / sqrt(alpha)): refits, whose Monte Carlo error is that
    of 4 x 4,000 nearly independent draws (0.008 sd each); 0.05 is 4 of those and the weights' own."""
    at, alphas = "Normal(20, {:.12g})", (0.8, 1.25)
    fit = fit_of((("Days", at.format(5)),), draws=4000)
    refits = [fit_of((("Days", at.format(5 / np.sqrt(alpha))),), draws=4000) for alpha in alphas]
    weaker, stronger = (one.parameters()["estimate"] for one in refits)
    expected = (stronger - weaker) / fit.parameters()["std_error"]
    found = fit.prior_sensitivity(parameters="Days")
    assert found["prior_shift"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0.05)
    assert found.loc["Days", "prior_shift"] > 0.2  # something moved
    assert found.attrs["scaled"] == ("Days",)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_default_priors_on_sleepstudy_matter_to_nothing():
    found = fit_of().prior_sensitivity()
    assert (found["verdict"] == "data decide").all()
    assert found.index.tolist() == fit_of().parameters().index.tolist()
    assert (found["likelihood"] > 0.05).all()
    assert found.attrs["integrated"] == "exact"
    assert max(found.attrs["pareto_k"].values()) < 0.7
    assert found.attrs["sentences"][0] == "No parameter depends on how strong the priors are."


def test_a_prior_far_off_is_a_conflict_and_a_narrow_one_decides():
    """Days ~ Normal(30, 3) against REML's 10.5 (1.5): both pull.  Normal(10, 0.3): the data add nothing."""
    far = fit_of((("Days", "Normal(30, 3)"),)).prior_sensitivity()
    assert far.loc["Days", "verdict"] == "prior-data conflict"
    assert far.loc["sigma", "verdict"] == "data decide"
    narrow = fit_of((("Days", "Normal(10, 0.3)"),)).prior_sensitivity()
    assert narrow.loc["Days", "verdict"] == "prior decides"
    assert (narrow.drop("Days")["verdict"] == "data decide").all()


def test_given_the_group_effects_a_conflict_looks_like_weak_data():
    """Why the likelihood is integrated: at the draws of the subjects' slopes the data say nothing about their mean."""
    fit = fit_of((("Days", "Normal(30, 3)"),))
    given = fit.prior_sensitivity(integrated=False)
    assert given.loc["Days", "likelihood"] < 0.05 < fit.prior_sensitivity().loc["Days", "likelihood"]
    assert "may as well be 'prior has a say'" in " ".join(given.attrs["sentences"])
    assert given.loc["Days", "verdict"] == "prior-data conflict"  # which the tail test sees, whatever the likelihood
    assert given["prior"].to_numpy() == pytest.approx(fit.prior_sensitivity()["prior"].to_numpy())


def test_scaled_components_by_hand():
    """The joint prior is the sum of its parts, the likelihood given the effects that of the stored log likelihood."""
    fit = fit_of()
    names = ["Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr", "sigma"]
    parts = [scaled_prior(fit, name)[0].log_density for name in names]
    assert scaled_prior(fit)[0].log_density == pytest.approx(np.sum(parts, axis=0))
    expected = fit.log_likelihood().sum("__obs__").to_numpy()
    assert scaled_likelihood(fit, False)[0].log_density == pytest.approx(expected)
    expected = stats.norm(fit.priors.mean[1], fit.priors.sd[1]).logpdf(fit.record.beta[..., 1])
    assert parts[1] == pytest.approx(expected)


def test_quadrature_over_one_factor_of_a_generalised_model():
    """cbpp, draws by hand: the likelihood with the herds integrated out, and brute force on a grid of 4001 points."""
    m = Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    fit = hand_made(m, beta=m.ml().fixef()["estimate"].to_numpy(), sds=0.6, draws=100)
    found, how = scaled_likelihood(fit)
    assert how == "quadrature"
    design, record = m.spec, fit.record
    u = np.linspace(-8, 8, 4001)
    for draw in (0, 7):
        eta = design.X @ record.beta[0, draw]
        total = 0.0
        for level in range(len(design.blocks[0].levels)):
            rows = np.flatnonzero(design.blocks[0].codes == level)
            p = 1 / (1 + np.exp(-(eta[rows, None] + record.sd[0][0, draw, 0] * u)))
            logs = stats.binom.logpmf(design.y[rows, None], design.trials[rows, None], p).sum(axis=0)
            total += np.log(np.trapezoid(np.exp(logs) * stats.norm.pdf(u), u))
        assert found.log_density[0, draw] == pytest.approx(total, abs=1e-6)


@pytest.mark.stack
def test_a_model_on_the_graph():
    """NUTS, since the prior is a Student t.  The log prior at draws is the PyMC model's own, to rounding; a t far off
    with normal tails is a conflict as a Normal is."""
    m = Model("mpg ~ wt", hm.load_dataset("mtcars"), priors={"wt": "StudentT(30, 5, 1)"})
    fit = m.fit(draws=1000, tune=500, chains=2, random_seed=1, cores=1)
    assert fit.priors is None
    logp = m.pymc.compile_logp(vars=m.pymc.free_RVs, jacobian=False)
    log_prior = scaled_prior(fit)[0].log_density
    for draw in (0, 500, 999):
        beta, sigma = fit.record.beta[1, draw], fit.record.sigma[1, draw]
        centred = beta[0] + beta[1] * m.spec.X[:, 1].mean()  # Bambi's intercept is that at the mean of wt
        point = {"Intercept": centred, "wt": beta[1], "sigma_log__": np.log(sigma)}
        assert log_prior[1, draw] == pytest.approx(float(logp(point)), abs=1e-8)
    found = fit.prior_sensitivity()
    assert found.attrs["integrated"] == ""
    assert found.loc["wt", "verdict"] == "prior-data conflict"


@pytest.mark.stack
def test_group_effects_on_the_graph_are_not_scaled():
    """The log prior of a model with groups is PyMC's without the groups' standard normal offsets, to rounding.

    LKJ's eta - 1 times log det R is PyMC's Beta on u = (r + 1) / 2 up to a constant."""
    m = Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    graph = m.pymc
    top = [one for one in graph.free_RVs if not (one.name.endswith("_offset") and "|" in one.name)]
    logp = graph.compile_logp(vars=top, jacobian=False)
    fit = fit_of()
    log_prior, record = scaled_prior(fit)[0].log_density, fit.record
    values = []
    for draw in (0, 500, 999):
        beta, sd = record.beta[0, draw], record.sd[0][0, draw]
        u = (1 + record.corr[0][0, draw, 0, 1]) / 2
        point = dict.fromkeys([one.name for one in graph.value_vars], np.zeros(18))
        point |= {"Intercept": beta[0] + 4.5 * beta[1], "Days": beta[1], "sigma_log__": np.log(record.sigma[0, draw])}
        point |= {"1|Subject_sigma_log__": np.log(sd[0]), "Days|Subject_sigma_log__": np.log(sd[1])}
        point["Subject_corr_partial_offset_logodds__"] = np.array([np.log(u / (1 - u))])
        values.append(float(logp({name: point[name] for name in (v.name for v in graph.value_vars)})))
    found = log_prior[0, [0, 500, 999]]
    assert found - found[0] == pytest.approx(np.array(values) - values[0], abs=1e-8)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_errors():
    fit = fit_of()
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        fit.prior_sensitivity(parameters=["Day"])
    with pytest.raises(ArgumentError, match="integrated"):
        fit.prior_sensitivity(integrated="yes")
    with pytest.raises(ArgumentError, match="positive"):
        fit.prior_sensitivity(threshold=0)
    with pytest.raises(ArgumentTypeError, match="number"):
        fit.prior_sensitivity(threshold="0.05")
    with pytest.raises(UnsupportedError, match="use integrated='auto'"):
        fit_of(data="mtcars").prior_sensitivity(integrated=True)
    flat = (("Intercept", "Flat()"), ("wt", "Flat()"), ("sigma", "HalfFlat()"))
    m = Model("mpg ~ wt", hm.load_dataset("mtcars"), priors=dict(flat))
    without = hand_made(m)
    without.model = m
    with pytest.raises(UnsupportedError, match="every prior"):
        without.prior_sensitivity()
    lost = hand_made(m)
    with pytest.raises(UnsupportedError, match="does not know its priors"):
        lost.prior_sensitivity()


# --- curves and picture -----------------------------------------------------------------------------------------------


def test_curves_are_weighted_distributions():
    """The ecdf at alpha = 1 is that of the draws, means of densities are weighted means (0.05: 1.5 % of an sd)."""
    fit = fit_of((("Days", "Normal(30, 3)"),))
    draws = np.sort(fit.record.beta[..., 1].ravel())
    steps = power_curves(fit, parameters=["Days"], alphas=[1.0], kind="ecdf")
    assert steps["x"].to_numpy() == pytest.approx(draws)
    assert steps["y"].to_numpy() == pytest.approx(np.arange(1, len(draws) + 1) / len(draws))
    curves = power_curves(fit, parameters=["Days", "sigma"], alphas=[0.8, 1.25])
    weights = scaled_prior(fit)[0].weights(1.25)
    one = curves[(curves["parameter"] == "Days") & (curves["alpha"] == 1.25)]
    mean = (one["x"] * one["y"]).sum() / one["y"].sum()
    assert mean == pytest.approx((weights * fit.record.beta[..., 1]).sum(), abs=0.05)
    for alpha in (0.8, 1.25):
        one = curves[(curves["parameter"] == "sigma") & (curves["alpha"] == alpha)]
        assert np.trapezoid(one["y"], one["x"]) == pytest.approx(1, abs=0.01)
    with pytest.raises(ArgumentError, match="powers between"):
        power_curves(fit, alphas=[0.0])
    with pytest.raises(UnknownNameError, match="Did you mean"):
        power_curves(fit, parameters=["Sigma"])


def test_plot_draws_one_panel_per_parameter():
    fit = fit_of((("Days", "Normal(30, 3)"),))
    figure = hm.plots.power_scaling(fit, parameters=["Days", "sigma"])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["Days", "sigma"]
    curves = power_curves(fit, parameters=["Days"])
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["prior to the power 0.8", "as fitted", "prior to the power 1.25"]
    assert [line.get_color() for line in lines] == ["#E69F00", "#000000", "#0072B2"]
    for line, (_, one) in zip(lines, curves.groupby("alpha"), strict=True):
        assert np.asarray(line.get_ydata()) == pytest.approx(one["y"].to_numpy())
    peaks = [line.get_xdata()[np.argmax(line.get_ydata())] for line in lines]
    assert peaks[0] < peaks[1] < peaks[2]  # a stronger Normal(30, 3) pulls up
    with pytest.raises(ArgumentTypeError, match="Bayesian fit"):
        hm.plots.power_scaling("fit")


# --- every prior of a model counts once -------------------------------------------------------------------------------


def of_the_prior(model: hm.Model, draws: int = 40) -> BayesianFit:
    """A fit whose draws are those of the prior: what is evaluated at them does not depend on where they come from."""
    record = model.prior_predictive(draws, random_seed=1).record
    return BayesianFit(model.spec, record, model.family, model.link, None, model)


def test_priors_of_further_formulas_are_evaluated_at_the_means_of_the_predictors() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(4.0, 1.0, 30), "g": np.repeat(list("abc"), 10), "y": rng.normal(size=30)})
    fit = of_the_prior(hm.Model("y ~ x + (1 | g)", data, parameters={"sigma": "x + (x | g)"}))
    found, unknown = log_priors(fit)
    assert unknown == ()
    beta = fit.record.parts["sigma"]["beta"]
    centred = beta[..., 0] + beta[..., 1] * data["x"].mean()
    np.testing.assert_allclose(found["sigma_Intercept"], stats.norm(0, 1).logpdf(centred), rtol=1e-10)
    np.testing.assert_allclose(found["sigma_x"], stats.norm(0, 1).logpdf(beta[..., 1]), rtol=1e-10)
    corr = fit.record.parts["sigma"]["corr"][0][..., 0, 1]
    np.testing.assert_allclose(found["sigma_g_corr"], np.log1p(-(corr**2)), rtol=1e-8)  # LKJ(2): det(R)


def test_a_common_sd_has_one_prior() -> None:
    data = pd.DataFrame({"f": list("pqr") * 12, "g": np.repeat(list("abcd"), 9), "y": np.arange(36) % 7 / 3.0})
    fit = of_the_prior(hm.Model("y ~ 1 + cs(0 + f | g, hom=True)", data))
    found, unknown = log_priors(fit)
    assert unknown == ()
    sds = [name for name in prior_behind(fit) if name.startswith("f|g_sigma")]
    assert [name for name in found if name in sds] == sds[:1]
    assert {prior_behind(fit)[name] for name in sds} == {sds[0]}
    assert set(sds) <= set(stated_laws(fit))
