"""Generalised linear models without bars: R's glm, closed forms, separation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.errors import FitError
from hiermod.formula.build import build_design

COUNTS = "cbind(incidence, size - incidence) ~ period"
# R 4.2.2, glm(..., control = glm.control(epsilon = 1e-14)): coefficients, standard errors, deviance, null deviance,
# AIC, BIC.  cbpp; grouseticks with offset(0.1 * HEIGHT_s); VerbAgg's r2 == "Y".
R = {
    "logit": (COUNTS, "cbpp", "binomial", (-1.26902348936715, -1.17076272514038, -1.30140533385901, -1.78227863534165),
        (0.144919762468155, 0.291467789118791, 0.312881430987113, 0.413056457603226), 114.101691440856,
        154.817464300649, 206.058398978727, 214.159805741667),
    "probit": (COUNTS, "cbpp", "binomial", (-0.774138451539158, -0.629665092019926, -0.693759371236547,
        -0.919560095869558), (0.0839560058349351, 0.150779083401676, 0.158776046295065, 0.194513912444514),
        114.101691440856, 154.817464300649, 206.058398978727, 214.159805741667),
    "cloglog": (COUNTS, "cbpp", "binomial", (-1.39544102399398, -1.08642964574965, -1.21207300530222,
        -1.67905650516181), (0.128364516452443, 0.274472649264339, 0.296544049401443, 0.399199220791561),
        114.101691440856, 154.817464300649, 206.058398978727, 214.159805741667),
    "log": ("TICKS ~ YEAR + HEIGHT_s + offset(0.1 * HEIGHT_s)", "grouseticks", "poisson", (1.61599798052312,
        0.409645768793785, -1.68514104774917, -0.87133312818361), (0.0401455912608479, 0.0453478017451129,
        0.0898007212653249, 0.0255433892618329), 3443.81236172216, 6224.94205946864, 4382.8110416691, 4398.80678791688),
    "bernoulli": ("r2 ~ Anger + Gender", "verbagg", "bernoulli", (-0.85128505162468, 0.0353915459770912,
        0.204938731503385), (0.100144409844809, 0.00480992782388789, 0.0547684993088487), 10428.6770379928,
        10496.3708590353, 10434.6770379928, 10455.4784261246),
}  # fmt: skip


@pytest.mark.parametrize("name", R)
def test_against_glm(name):
    """1e-8: R's own last iteration leaves its standard errors 2e-9 short."""
    formula, data, family, coefficients, se, deviance, null, aic, bic = R[name]
    link = "logit" if name == "bernoulli" else name
    fit = fit_glm(build_design(formula, load_dataset(data), family=family), family, link)
    assert fit.beta == pytest.approx(coefficients, rel=1e-8)
    assert np.sqrt(np.diag(fit.vcov_beta)) == pytest.approx(se, rel=1e-8)
    assert (fit.residual_deviance, fit.null_deviance) == pytest.approx((deviance, null), rel=1e-10)
    assert fit.criterion + 2 * fit.npar == pytest.approx(aic, rel=1e-10)
    assert fit.criterion + np.log(fit.design.nobs) * fit.npar == pytest.approx(bic, rel=1e-10)


def test_intercept_only_closed_forms():
    """The mean through the link; variance 1 / (n p (1 - p)) and 1 / (n mean).  Identities."""
    data = pd.DataFrame({"y": [0, 1, 1, 0, 1, 1, 1, 0], "count": [3, 0, 2, 5, 1, 1, 4, 0], "hours": np.arange(1.0, 9)})
    one = fit_glm(build_design("y ~ 1", data, family="bernoulli"), "bernoulli", "logit")
    assert one.beta[0] == pytest.approx(np.log(5 / 3), rel=1e-12)
    assert one.vcov_beta[0, 0] == pytest.approx(1 / (8 * 5 / 8 * 3 / 8), rel=1e-12)
    assert one.residual_deviance == pytest.approx(one.null_deviance, rel=1e-12)
    rate = fit_glm(build_design("count ~ 1 + offset(np.log(hours))", data, family="poisson"), "poisson", "log")
    assert rate.beta[0] == pytest.approx(np.log(16 / 36), rel=1e-12)
    assert rate.vcov_beta[0, 0] == pytest.approx(1 / 16, rel=1e-12)
    assert one.hat.sum() == pytest.approx(1.0, rel=1e-12)


def test_two_by_two_table():
    """The slope is the log odds ratio, its variance the sum of reciprocal counts (Woolf 1955)."""
    data = pd.DataFrame({"k": [12, 7], "n": [20, 25], "x": ["a", "b"]})
    fit = fit_glm(build_design("p(k, n) ~ x", data, family="binomial"), "binomial", "logit")
    assert fit.beta[1] == pytest.approx(np.log(7 * 8 / (18 * 12)), rel=1e-10)
    assert fit.vcov_beta[1, 1] == pytest.approx(1 / 12 + 1 / 8 + 1 / 7 + 1 / 18, rel=1e-10)
    assert fit.residual_deviance == pytest.approx(0.0, abs=1e-10)


def separated() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=90), "f": rng.choice(list("abc"), 90), "g": rng.integers(0, 9, 90)})
    data["all"] = (data["x"] > 0).astype(float)
    data["part"] = np.where(data["f"] == "c", 1.0, rng.random(90) < 0.5)
    data["count"] = np.where(data["f"] == "b", 0, rng.poisson(2, 90))
    data["n"] = 4
    data["k"] = np.where(data["f"] == "c", 4, rng.binomial(4, 0.4, 90))
    data["fair"] = (rng.random(90) < 1 / (1 + np.exp(-6 * data["x"]))).astype(float)
    return data


@pytest.mark.parametrize(
    ("formula", "family", "link", "named"),
    [
        ("all ~ x", "bernoulli", "logit", "x"),
        ("all ~ x", "bernoulli", "probit", "x"),
        ("part ~ f", "bernoulli", "cloglog", "f[c]"),
        ("part ~ f", "bernoulli", "logit", "f[c]"),
        ("p(k, n) ~ f", "binomial", "logit", "f[c]"),
        ("count ~ f + x", "poisson", "log", "f[b]"),
    ],
)
def test_separation_is_told(formula, family, link, named):
    """Complete, quasi-complete, and an empty Poisson cell; with group effects as without."""
    data = separated()
    with pytest.raises(FitError, match="separation") as error:
        fit_glm(build_design(formula, data, family=family), family, link)
    assert named in str(error.value)
    with pytest.raises(FitError, match="separation"):
        fit_generalised(build_design(f"{formula} + (1 | g)", data, family=family), family, link)


def test_steep_is_not_separated():
    """A slope of 6 predicts many rows to 1e-6, and still has an estimate."""
    fit = fit_glm(build_design("fair ~ x", separated(), family="bernoulli"), "bernoulli", "logit")
    assert np.abs(fit.design.y - fit.fitted).min() < 1e-5
    assert 3 < fit.beta[1] < 20
    score = fit.design.X.T @ (fit.design.y - fit.fitted)  # the likelihood equations
    assert score == pytest.approx(0.0, abs=1e-8)


def test_without_columns_and_without_rank():
    data = separated()
    data["twice"] = 2 * data["x"]
    assert fit_glm(build_design("fair ~ 0", data, family="bernoulli"), "bernoulli", "logit").criterion == pytest.approx(
        180 * np.log(2), rel=1e-12
    )
    fit = fit_glm(build_design("count ~ x + twice", data, family="poisson"), "poisson", "log")
    assert np.isnan(fit.beta[2])
    assert np.isfinite(fit.beta[:2]).all()
    assert fit.npar == 2
