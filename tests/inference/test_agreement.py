"""Posterior against REML: the theory behind it, the known cases, the verdicts, the picture."""

from __future__ import annotations

import warnings
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

import hiermod as hm
from hiermod.engines.marginal.mode import start_phi
from hiermod.engines.marginal.natural_mode import coefficients_at, natural_mode, natural_prior
from hiermod.errors import ArgumentError, ArgumentTypeError, SingularFitWarning
from hiermod.inference.priors_and_reml.agreement_table import to_scale
from hiermod.inference.priors_and_reml.prior_density import log_priors, marginal_laws
from hiermod.inference.priors_and_reml.scale_errors import estimates_and_errors
from hiermod.model import Model

SLEEP = "Reaction ~ Days + (Days | Subject)"
CASES = {
    "sleepstudy": SLEEP,
    "mtcars": "mpg ~ wt + (wt | cyl)",
    "dyestuff2": "Yield ~ 1 + (1 | Batch)",
    "different_slopes": "value ~ 1 + condition + (1 | participant)",
    "penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
}


@cache
def fits(data: str, priors: tuple[tuple[str, str], ...] = ()) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        m = Model(CASES[data], hm.load_dataset(data), priors=dict(priors) or None)
        return m.fit(random_seed=1), m.reml()


def table(data: str, **priors: str) -> pd.DataFrame:
    return hm.agreement(*fits(data, tuple(priors.items())))


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


# --- the theory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flat", "flat, weights", "flat, known se"])
def test_flat_priors_leave_the_reml_criterion(name):
    """log p(y | phi) = -(unprofiled REML criterion) / 2, to 1e-8: Harville (1974), by dense algebra,
    (n - p) log 2 pi + log|V| + log|X'V^-1X| + r'V^-1 r.  Slopes and crossed factors; weights; known sds."""
    design, density = make(name, centred=False)
    for phi in random_phis(density):
        factors, sigma, _ = read_phi(design, phi, None if density.coordinates.has_sigma else 1.0)
        y, X, Z, G, noise = dense_parts(design, factors)
        V = Z @ G @ Z.T + sigma**2 * np.diag(noise)
        inner = X.T @ np.linalg.solve(V, X)
        r = y - X @ np.linalg.solve(inner, X.T @ np.linalg.solve(V, y))
        logdets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(inner)[1]
        criterion = (len(y) - X.shape[1]) * np.log(2 * np.pi) + logdets + r @ np.linalg.solve(V, r)
        assert density.value(phi) - density.log_prior(phi)[0] == pytest.approx(-criterion / 2, abs=1e-8)


@pytest.mark.parametrize(
    ("formula", "data"),
    [("Yield ~ 1 + (1 | Batch)", "dyestuff"), (SLEEP, "sleepstudy"), (CASES["penicillin"], "penicillin")],
)
def test_the_mode_on_the_natural_scale_is_reml(formula, data):
    """Without a Jacobian and with flat priors; REML from its own optimiser over theta.  1e-4: both stop at a gradient.
    The height there is -criterion / 2, to 1e-8 of some 300 to 1700."""
    d = hm.load_dataset(data)
    m = Model(formula, d, priors=dict.fromkeys(["Intercept", "Days"][: 1 + (data == "sleepstudy")], "Flat()"))
    reml, density = m.reml(), m._marginal_density()
    found = natural_mode(density, start_phi(density), prior=False)
    sds = np.concatenate([*density.coordinates.sds(found.phi), [np.exp(found.phi[-1])]])
    expected = reml.varcorr()
    assert sds == pytest.approx(expected.loc[expected["term2"].isna(), "sdcor"].to_numpy(), rel=1e-4)
    assert found.beta == pytest.approx(reml.fixef(ddf=None)["estimate"].to_numpy(), rel=1e-6)
    height = density.value(found.phi) - density.log_prior(found.phi)[0]
    assert height == pytest.approx(-reml.criterion / 2, abs=1e-8)
    assert not found.at_edge.any()


@pytest.mark.parametrize("name", ["two correlated", "three correlated"])
def test_the_natural_prior_is_the_unbounded_one_without_its_jacobian(name):
    """log p(sd) = log p(log sd) - log sd; for two columns Beta(eta, eta) of (r + 1) / 2 less log(1 - r^2), up to a
    constant; for three det(R)^(eta - 1) with numpy's determinant.  The gradient by differences (1e-6: their error)."""
    _, density = make(name, centred=True)
    coordinates, eta = density.coordinates, density.priors.eta[0]

    def by_hand(phi: np.ndarray) -> float:
        (where, where_z), L = coordinates.parts()[0], coordinates.correlation_factors(phi)[0]
        value = (eta - 1) * np.linalg.slogdet(L @ L.T)[1]
        value += sum(float(one(phi[[i]])[0][0]) - phi[i] for i, one in enumerate(density.sd_densities[0]))
        value += float(density.sigma_density(phi[-1:])[0][0]) - phi[-1]
        if name == "two correlated":
            jacobian = phi[where].sum() + phi[-1] + float(np.log1p(-(np.tanh(phi[where_z]) ** 2)).sum())
            unbounded = float(density.log_prior(phi)[0]) - jacobian
            assert unbounded - value == pytest.approx(constant, abs=1e-10)
        return value

    zero = np.zeros(coordinates.d)
    constant = float(density.log_prior(zero)[0]) - natural_prior(density, zero)[0]
    one = random_phis(density, 1)[0]
    assert natural_prior(density, one)[0] == pytest.approx(by_hand(one), abs=1e-10)
    for i, step in enumerate(np.eye(coordinates.d) * 1e-5):
        slope = (natural_prior(density, one + step)[0] - natural_prior(density, one - step)[0]) / 2e-5
        assert natural_prior(density, one)[1][i] == pytest.approx(slope, abs=1e-6)


def test_coefficients_at_phi_are_generalised_least_squares():
    """(X'V^-1X)^-1 X'V^-1 y, dense; flat priors."""
    design, density = make("flat", centred=False)
    phi = random_phis(density, 1)[0]
    factors, sigma, _ = read_phi(design, phi, None)
    y, X, Z, G, noise = dense_parts(design, factors)
    V = Z @ G @ Z.T + sigma**2 * np.diag(noise)
    expected = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    assert coefficients_at(density, phi) == pytest.approx(expected, rel=1e-9)


def test_posterior_means_of_sds_approach_reml_as_groups_grow():
    """Flat priors.  The gap of the group sd, in REML standard errors, falls from 5 to 20 to 320 groups about as
    1 / sqrt(J) (the bias of a mean is O(1 / J), the standard error O(1 / sqrt(J))); so does the ratio of sds to 1."""
    flat = {"Intercept": "Flat()", "time": "Flat()", "1|subject": "Uniform(0, 100)", "sigma": "Uniform(0, 100)"}
    found = []
    for count in (5, 20, 320):
        frame = hm.designs.longitudinal(subjects=count, times=6)
        truth: dict[str, Any] = {"fixef": {"Intercept": 10, "time": 2}, "varcorr": {"1|subject": 3}, "sigma": 1.5}
        d = hm.simulate("y ~ time + (1 | subject)", frame, **truth, random_seed=2)
        m = Model("y ~ time + (1 | subject)", d, priors=flat)
        row = hm.agreement(m.fit(random_seed=1), m.reml()).loc["1|subject_sigma"]
        assert abs(row["by_prior"]) < 1e-3  # a flat prior has no part in it: what is left is the optimisers' tolerance
        found.append((row["difference"], row["sd_ratio"]))
    gaps, ratios = np.array(found).T
    assert gaps[0] > 2 * gaps[1] > 4 * abs(gaps[2])
    assert abs(gaps[2]) < 0.15
    assert ratios[0] > 1.3
    assert ratios[2] == pytest.approx(1, abs=0.06)  # 1 / sqrt(2 x 4000 draws) = 0.011, and O(1 / J)


# --- the known cases ------------------------------------------------------------------------------------------------


def test_sleepstudy_agrees_everywhere():
    found = table("sleepstudy")
    assert (found["verdict"] == "agree").all()
    assert found.attrs["sentences"] == ("Posterior and REML agree in all 6 parameters.",)
    assert found["reml"].to_dict() == pytest.approx(fits("sleepstudy")[1].parameters()["estimate"].to_dict())


def test_the_columns_are_what_they_say():
    """Means, sds and differences once more from the draws; sds on the log scale, correlations on Fisher's.

    Standard errors of REML from nlme's and lme4's information are tested in test_prior_against.py."""
    fit, _ = fits("sleepstudy")
    found, record = table("sleepstudy"), fit.record
    sd, r = record.sd[0][..., 1], record.corr[0][..., 0, 1]
    row = found.loc["Days|Subject_sigma"]
    se = row["reml_std_error"] / row["reml"]
    assert row["estimate"] == pytest.approx(sd.mean())
    assert row["difference"] == pytest.approx((np.log(sd).mean() - np.log(row["reml"])) / se)
    assert row["sd_ratio"] == pytest.approx(np.log(sd).std(ddof=1) / se)
    assert row["upper_difference"] == pytest.approx((np.log(row["upper"]) - np.log(row["reml"])) / se, abs=1e-3)
    row = found.loc["Subject_corr[Intercept,Days]"]
    se = row["reml_std_error"] / (1 - row["reml"] ** 2)
    assert row["difference"] == pytest.approx((np.arctanh(r).mean() - np.arctanh(row["reml"])) / se)
    assert (found["by_prior"] + found["by_averaging"]).to_numpy() == pytest.approx(found["difference"].to_numpy())
    assert found["levels"].tolist() == [18, 18, 18, 18, 18, 180]


def test_mtcars_is_at_a_boundary_and_everything_moves_with_it():
    """REML's correlation of -1 over three cylinders (lme4: singular), sds and coefficients given it."""
    found = table("mtcars")
    assert (found["verdict"] == "boundary").all()
    row = found.loc["cyl_corr[Intercept,wt]"]
    assert np.isnan(row[["difference", "sd_ratio", "reml_std_error"]].to_numpy(dtype=float)).all()
    assert "REML is at -1" in row["words"]
    assert "cyl_corr[Intercept,wt] at a boundary" in found.loc["wt", "words"]
    assert found.loc["wt", "sd_ratio"] > 2


@pytest.mark.parametrize(("data", "sd"), [("dyestuff2", "1|Batch_sigma"), ("different_slopes", "1|participant_sigma")])
def test_an_sd_of_zero_is_a_boundary_and_the_rest_agrees(data, sd):
    found = table(data)
    assert found.loc[sd, "verdict"] == "boundary"
    assert found.loc[sd, "reml"] == 0
    assert np.isnan(found.loc[sd, "reml_std_error"])
    assert "REML is at 0" in found.loc[sd, "words"]
    assert (found.drop(sd)["verdict"] == "agree").all()


def test_an_optimiser_that_stops_just_short_of_zero_is_at_the_boundary_too(monkeypatch):
    """An sd of a millionth of sigma has no log to compare: generalised fits end there instead of at 0."""
    fit, reml = fits("dyestuff2")
    estimates, errors = estimates_and_errors(reml)
    near = {**estimates, "1|Batch_sigma": 1e-6}, {**errors, "1|Batch_sigma": 1e-6}
    monkeypatch.setattr("hiermod.inference.priors_and_reml.agreement_table.estimates_and_errors", lambda fit: near)
    assert hm.agreement(fit, reml).loc["1|Batch_sigma", "verdict"] == "boundary"


def test_six_samples_are_few_groups():
    """penicillin: 24 plates agree, 6 samples leave their sd open: mean above mode, and not by the prior."""
    found = table("penicillin")
    assert found["verdict"].to_dict() == {
        "Intercept": "agree",
        "1|plate_sigma": "agree",
        "1|sample_sigma": "few groups",
        "sigma": "agree",
    }
    row = found.loc["1|sample_sigma"]
    assert row["by_averaging"] > 0.5 > 5 * abs(row["by_prior"])
    assert "6 groups" in row["words"]


def test_a_strong_prior_is_told_and_named():
    found = table("sleepstudy", **{"1|Subject": "HalfNormal(3)"})
    assert found.loc["1|Subject_sigma", "verdict"] == "prior-data conflict"
    assert found.loc["1|Subject_sigma", "prior_weight"] > 0.5
    assert found.loc["sigma", "verdict"] == "prior has a say"  # not its own, which is no conflict
    assert (
        "it follows from the prior of 1|Subject_sigma: prior-data conflict in 1|Subject_sigma"
        in found.loc["sigma", "words"]
    )
    assert found.loc["Days", "verdict"] == "agree"
    far = table("sleepstudy", Days="Normal(30, 3)")
    assert far.loc["Days", "by_prior"] > 3 > far.loc["Days", "by_averaging"]
    assert far.loc["Days", "verdict"] == "prior-data conflict"
    near = table("sleepstudy", Days="Normal(10, 0.3)")
    assert near.loc["Days", "verdict"] == "prior decides"


def test_without_a_closed_form_the_own_prior_explains():
    """A prior of t shape: no decomposition, so that the verdict rests on prior_pull.  Draws by hand."""
    d = hm.load_dataset("mtcars")
    m = Model("mpg ~ wt", d, priors={"wt": "StudentT(2, 0, 0.3)"})
    reml = m.reml()
    estimate = reml.fixef()["estimate"].to_numpy()
    away = np.array([0.0, 0.31])
    along, against = (hand_made(m, beta=estimate + by, spread=0.5, draws=4000) for by in (away, -away))
    along.model = against.model = m
    row = hm.agreement(along, reml).loc["wt"]
    assert np.isnan(row["by_prior"])
    assert row["verdict"] == "prior has a say"
    row = hm.agreement(against, reml).loc["wt"]
    assert row["verdict"] == "little information"  # the prior pulls the other way: not its doing


def test_chains_that_disagree_are_not_compared():
    m = Model("mpg ~ wt", hm.load_dataset("mtcars"))
    fit = hand_made(m)
    fit.record.beta.flags.writeable or fit.record.beta.setflags(write=True)
    fit.record.beta[0] += 5.0
    found = hm.agreement(fit, m.reml())
    assert (found.loc[["Intercept", "wt"], "verdict"] == "not converged").all()


def test_a_generalised_model_compares_what_has_standard_errors():
    m = Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    ml = m.ml()
    found = hm.agreement(hand_made(m, beta=ml.fixef()["estimate"].to_numpy(), spread=0.3), ml)
    assert found.attrs["method"] == "ML"
    assert found["verdict"].iloc[0] == "agree"
    assert found.index.tolist() == [*m.spec.common, "1|herd_sigma"]


def test_agreement_refuses_other_things():
    fit, reml = fits("sleepstudy")
    other = Model("Reaction ~ Days + (1 | Subject)", hm.load_dataset("sleepstudy")).reml()
    with pytest.raises(ArgumentTypeError, match="one fit must be Bayesian"):
        hm.agreement(reml, reml)
    with pytest.raises(ArgumentTypeError, match="by REML or ML"):
        hm.agreement(fit, fit)
    with pytest.raises(ArgumentError, match="parameters are not the same"):
        hm.agreement(fit, other)
    d = hm.load_dataset("sleepstudy")
    d["Reaction"] += 1.0
    with pytest.raises(ArgumentError, match="different data"):
        hm.agreement(fit, Model(SLEEP, d).reml())


# --- priors at draws --------------------------------------------------------------------------------------------------


def test_log_priors_are_the_densities_of_the_model():
    """Their sum is the natural prior of phi plus the Normal priors of beta, by scipy; constants aside (two draws)."""
    fit, _ = fits("sleepstudy")
    found, unknown = log_priors(fit)
    assert unknown == ()
    assert list(found) == ["Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr", "sigma"]
    density, record = fit.model._marginal_density(), fit.record
    phi = record.unconstrained_draws(density.coordinates)[0]
    beta = record.beta[0].copy()
    beta[:, 0] += beta[:, 1] * fit.design.X[:, 1].mean()  # the prior is at the mean of Days
    of_beta = -0.5 * np.square((beta - fit.priors.mean) / fit.priors.sd).sum(axis=1)
    expected = np.array([natural_prior(density, one)[0] for one in phi[:3]]) + of_beta[:3]
    total = sum(found.values())[0, :3]
    assert total - total[0] == pytest.approx(expected - expected[0], abs=1e-9)


def test_marginal_laws_move_the_intercept_to_zero():
    """Var = s0^2 + (mean of Days)^2 s1^2, of independent Normal priors."""
    fit, _ = fits("sleepstudy")
    law, priors = marginal_laws(fit)["Intercept"], fit.priors
    assert law.std() == pytest.approx(np.hypot(priors.sd[0], 4.5 * priors.sd[1]))
    assert law.mean() == pytest.approx(priors.mean[0])
    assert marginal_laws(fit)["Subject_corr[Intercept,Days]"].support() == (-1.0, 1.0)


# --- the picture ------------------------------------------------------------------------------------------------------


def test_plot_puts_every_parameter_at_its_difference():
    fit, reml = fits("sleepstudy", (("Days", "Normal(30, 3)"),))
    found = hm.agreement(fit, reml)
    ax = hm.plots.agreement(fit, reml)
    assert [text.get_text() for text in ax.get_yticklabels()] == list(found.index[::-1])
    marks = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx(found["difference"].to_list())
    assert [line.get_ydata()[0] for line in marks] == [5, 4, 3, 2, 1, 0]
    assert len({line.get_color() for line in marks}) == 2
    legend = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert legend == ["REML's 95 % interval", "prior has a say", "prior-data conflict", "agree"]


def test_plot_says_in_words_what_is_at_a_boundary():
    fit, reml = fits("mtcars")
    ax = hm.plots.agreement(fit, reml, ax=plt.figure().subplots())
    assert ax.texts[0].get_text().startswith("REML at -1; posterior -0.1")
    assert ax.texts[0].get_position()[1] == 1  # the fifth of six rows, counted from below
    assert ax.get_legend() is not None


def test_scales():
    assert to_scale("sd", np.array([np.e])) == pytest.approx([1.0])
    assert to_scale("corr", np.array([np.tanh(0.3)])) == pytest.approx([0.3])
    assert to_scale("fixed", np.array([4.0])) == [4.0]
