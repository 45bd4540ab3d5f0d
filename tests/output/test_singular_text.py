"""What check() says of singular fits: which combination is at its boundary, what to try, the posterior beside it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, SingularFitWarning
from hiermod.model import Model
from hiermod.output.frequentist_text import boundary, unconverged
from hiermod.output.singular_text import boundaries

pytestmark = pytest.mark.numeric


def fitted(model: Model, reml: bool = True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return model.reml() if reml else model.ml()


def words(summary) -> str:
    return " ".join(str(summary).split())


def lines(seed: int = 2) -> pd.DataFrame:
    """12 groups of 15 rows with two predictors."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(12), 15)
    return pd.DataFrame({"g": pd.Categorical(g), "x": rng.normal(size=180), "z": rng.normal(size=180)})


@pytest.fixture(scope="module")
def slopes() -> Model:
    return Model("value ~ condition + (1 | participant)", load_dataset("different_slopes"))


@pytest.fixture(scope="module")
def cars() -> Model:
    return Model("mpg ~ wt + (wt | cyl)", load_dataset("mtcars"))


def test_a_variance_of_zero(slopes):
    fit = fitted(slopes)
    (found,) = boundaries(fit)
    assert (found.kind, found.parameters) == ("variance", ("1|participant_sigma",))
    assert boundary(fit) == ["the variance of Intercept between levels of participant is estimated as 0"]
    told = words(fit.check())
    assert "not evidence that there is no difference" in told
    assert "Leave out (1 | participant): likelihood, coefficients and their standard errors stay" in told
    assert "confint(parameters=['1|participant_sigma'])" in told
    assert "check(posterior=fit)" in told
    html = fit.check()._repr_html_()
    assert "What to try" in html
    assert "check() says what that means" in words(fit.summary())


def test_leaving_the_term_out_changes_nothing_as_told(slopes):
    """The promise of the sentence: coefficients, standard errors and ML likelihood of least squares (1e-9)."""
    mixed = fitted(slopes)
    plain = Model("value ~ condition", load_dataset("different_slopes"))
    assert mixed.fixef()["estimate"].to_numpy() == pytest.approx(plain.reml().fixef()["estimate"].to_numpy(), rel=1e-9)
    assert mixed.fixef()["std_error"].to_numpy() == pytest.approx(
        plain.reml().fixef()["std_error"].to_numpy(), rel=1e-9
    )
    assert fitted(slopes, reml=False).loglik == pytest.approx(plain.ml().loglik, abs=1e-9)


def test_a_correlation_of_minus_one(cars):
    fit = fitted(cars)
    (found,) = boundaries(fit)
    assert (found.kind, found.parameters) == ("correlation", ("cyl_corr[Intercept,wt]",))
    told = words(fit.check())
    assert "correlation of Intercept and wt within cyl is estimated as -1.00" in told
    assert "3 levels, which is very few" in told
    assert "(wt || cyl)" in told
    # where all lines cross: at wt = w the levels' fitted lines agree
    sds = fit.varcorr()["sdcor"].to_numpy()
    crossing = sds[0] / sds[1]
    assert f"cross at wt = {crossing:.3g}," in told
    coef = fit.coef().pivot(index="level", columns="term", values="estimate")
    at = coef["Intercept"] + crossing * coef["wt"]
    assert np.ptp(at) < 1e-3 * np.ptp(coef["Intercept"])


def test_a_combination_that_no_single_number_shows():
    """Three effects made of two normal numbers: every correlation is inside, their combination has no variance."""
    rng, d = np.random.default_rng(1), lines()
    b = rng.normal(size=(12, 2)) @ np.array([[1.0, 0.6, 0.4], [0.0, 0.8, -0.9]])
    g = d["g"].cat.codes.to_numpy()
    d["y"] = b[g, 0] + b[g, 1] * d["x"] + b[g, 2] * d["z"] + 0.3 * rng.normal(size=180)
    fit = fitted(Model("y ~ x + z + (x + z | g)", d))
    if not fit.singular:  # the residual leaves a little: put it to the boundary
        d["y"] = b[g, 0] + b[g, 1] * d["x"] + b[g, 2] * d["z"] + 1.0 * rng.normal(size=180)
        fit = fitted(Model("y ~ x + z + (x + z | g)", d))
    assert fit.singular
    (found,) = boundaries(fit)
    assert found.kind == "combination"
    assert "no variance between levels of g" in found.what
    named = found.what.removeprefix("the combination ").split(" has no")[0]
    weights = np.zeros(3)
    sign = 1.0
    for piece in named.replace("- ", "-").replace("+ ", "+").split(" "):
        if piece.lstrip("+-").replace(".", "").isdigit():
            sign = float(piece)
            continue
        label = piece.lstrip("+-")
        value = sign if piece[0] not in "+-" else (-1.0 if piece[0] == "-" else 1.0)
        weights[["Intercept", "x", "z"].index(label)] = value
        sign = 1.0
    cov = fit.record.covariance[0]
    assert weights @ cov @ weights < 1e-3 * np.diag(cov).min()  # three printed digits


def test_a_slope_without_variance_and_several_blocks():
    d = lines()
    rng = np.random.default_rng(4)
    noise = rng.normal(size=180)
    X = np.column_stack([np.ones(180), d["x"]])
    for level in range(12):  # the same line in every group
        rows = (d["g"] == level).to_numpy()
        noise[rows] -= X[rows] @ np.linalg.lstsq(X[rows], noise[rows], rcond=None)[0]
    d["y"] = 1 + d["x"] + noise
    both = boundaries(fitted(Model("y ~ x + (x | g)", d)))
    assert [entry.parameters for entry in both] == [("1|g_sigma",), ("x|g_sigma",)]
    assert "its correlations go with it" in both[1].remedy
    apart = boundaries(fitted(Model("y ~ x + (x || g)", d)))
    assert [entry.kind for entry in apart] == ["variance", "variance"]


def test_the_posterior_beside(slopes, cars):
    fit, bayes = fitted(cars), cars.fit(random_seed=1)
    told = str(fit.check(posterior=bayes))
    row = next(line for line in told.splitlines() if line.startswith("cyl_corr[Intercept,wt]")).split()
    expected = bayes.parameters().loc["cyl_corr[Intercept,wt]", ["estimate", "lower", "upper"]]
    assert [float(cell) for cell in row[1:]] == pytest.approx([-1.0, *expected], abs=1e-2)
    assert "REML" in told
    whole = fitted(Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")))
    beside = whole.check(posterior=Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).fit(random_seed=1))
    assert "1|Batch_sigma" in str(beside)  # a fit that is not singular shows its sds
    with pytest.raises(ArgumentTypeError, match=r"m\.fit\(\)"):
        fit.check(posterior=fit)
    with pytest.raises(ArgumentError, match="other data"):
        fitted(slopes).check(posterior=bayes)
    other = Model("mpg ~ wt + (1 | cyl)", load_dataset("mtcars")).fit(random_seed=1)
    with pytest.raises(ArgumentError, match="another model"):
        fit.check(posterior=other)


def test_generalised_fits_too():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefghijkl"), 10), "x": rng.normal(size=120), "y": rng.poisson(3, 120)})
    fit = fitted(Model("y ~ x + (1 | g)", data, family="poisson"), reml=False)
    assert "What to try: Leave out (1 | g)" in words(fit.check())
    assert boundaries(fit)[0].parameters == ("1|g_sigma",)


def test_a_fit_that_is_not_singular_has_none():
    fit = fitted(Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")))
    assert boundaries(fit) == []
    assert "no variance or correlation is at its boundary" in words(fit.check())
    assert unconverged(fit) == []
