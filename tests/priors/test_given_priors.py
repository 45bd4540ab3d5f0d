"""Priors as people write them: what is understood, and what is said about the rest."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hiermod.engines.nuts.quiet import collected
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.distributions import Distribution
from hiermod.priors.given import prior_keys, resolve_priors
from hiermod.priors.lkj import DEFAULT_ETA
from hiermod.priors.parse import parse_distribution


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 40
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "v": rng.normal(size=n),
            "f": np.tile(list("ABCD"), 10),
            "g": np.repeat(list("pqrst"), 8),
            "s": rng.uniform(1, 2, n),
        }
    )


@pytest.fixture(scope="module")
def design(frame) -> Design:
    return build_design("y ~ x + f + (x | g) + (0 + v | g)", frame)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Normal(0, 10)", "Normal(mu=0, sigma=10)"),
        (" Normal( sigma = 2.5 , mu=-1e3) ", "Normal(sigma=2.5, mu=-1000)"),
        ("HalfStudentT(nu=4, sigma=60)", "HalfStudentT(nu=4, sigma=60)"),
        ("StudentT(3, 0, 2)", "StudentT(nu=3, mu=0, sigma=2)"),
        ("Normal([0, 1], [2, 3])", "Normal(mu=[0, 1], sigma=[2, 3])"),
        ("Normal(0, HalfNormal(50))", "Normal(mu=0, sigma=HalfNormal(sigma=50))"),
        ("Flat()", "Flat()"),
    ],
)
def test_texts_that_are_understood(text, shown):
    assert str(parse_distribution(text, "x")) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Normal(0, 10", "is not a distribution"),
        ("Normal", r"no arguments in parentheses; write Normal\(\.\.\.\)"),
        ("3", "is not a distribution with its arguments"),
        ("Norml(0, 1)", "Did you mean 'Normal'"),
        ("Normal(0, 1, 2, 3)", "4 arguments for Normal: Normal takes mu, sigma, tau"),
        ("Normal(mean=0)", "no argument 'mean'"),
        ("Normal(0, mu=1)", "'mu' twice"),
        ("Normal(0, -1)", "sigma of Normal must be positive, got -1"),
        ("HalfNormal(0)", "must be positive, got 0"),
        ("Gamma(mu=-2, sigma=1)", "mu of Gamma must be positive"),
        ("Normal(0, [1, -2])", "must be positive"),
        ("Uniform(3, 1)", "lower must be below upper"),
        ("Uniform(3)", "lower must be below upper"),  # PyMC's upper end is 1 where none is given
        ("Normal(0, sd)", "contains 'sd'"),
        ("Normal(0, __import__('os').system('true'))", "is not a distribution with its arguments"),
        ("Normal(0, 'a')", "not a number"),
        ("Normal(0, True)", "not a number"),
        ("Normal(0, 1e999)", "not finite"),
        ("Normal(*[0, 1])", r"uses \* or"),
        ("Flat(1)", "Flat takes no arguments"),
        ("", "is not a distribution"),
    ],
)
def test_texts_that_are_refused_in_words(text, words):
    with pytest.raises(ArgumentError, match=words):
        parse_distribution(text, "x")


def test_keys_are_bambis_names(design):
    assert prior_keys(design) == (
        *("Intercept", "x", "f", "sigma", "1|g", "x|g", "v|g", "g_corr", "common", "group_specific"),
    )
    assert "sigma" not in prior_keys(design, family="poisson")
    assert "alpha" in prior_keys(design, family="negativebinomial")


def test_values_are_resolved(design):
    found = resolve_priors({"1|g": "HalfNormal(50)", "g_corr": "LKJ(3)", "sigma": 2, "x": "Cauchy(-1, 2)"}, design)
    half = Distribution("HalfNormal", (("sigma", 50.0),))
    assert found.given["1|g"] == Distribution("Normal", (("mu", 0.0), ("sigma", half)))
    assert found.given["sigma"] == 2.0
    assert found.eta == {"g_corr": 3.0}
    assert resolve_priors(None, design).eta == {"g_corr": DEFAULT_ETA}
    assert resolve_priors({"sigma": "Uniform(upper=9)"}, design).given["sigma"].support == (0.0, 9.0)  # PyMC's lower


@pytest.mark.parametrize(
    ("priors", "error", "words"),
    [
        ({"intercept": "Normal(0, 1)"}, UnknownNameError, r"Did you mean 'Intercept'\? It has: Intercept, x, f, sigma"),
        ({"1|g_sigma": "HalfNormal(1)"}, UnknownNameError, r'under the term: \{"1\|g": "HalfNormal'),
        ({"h_corr": "LKJ(2)"}, UnknownNameError, "Did you mean 'g_corr'"),
        ({3: "Normal(0, 1)"}, UnknownNameError, "no parameter 3"),
        ({"x": 3}, ArgumentTypeError, "A number alone is no distribution"),
        ({"x": None}, ArgumentTypeError, "must be a text"),
        ({"x": "Normal(0, HalfNormal(1))"}, ArgumentError, "cannot have a prior inside"),
        ({"x": "Normal([0, 0], 1)"}, ArgumentError, "mu has 2 values and 'x' has 1 coefficients"),
        ({"sigma": "Normal(0, 1)"}, ArgumentError, "allows negative values, and sigma is positive"),
        ({"sigma": "HalfNormal([1, 2])"}, ArgumentError, "sigma has 2 values and 'sigma' has 1 coefficients"),
        ({"1|g": "HalfNormal([1, 2])"}, ArgumentError, r"sigma has 2 values and '1\|g' has 1 coefficients"),
        ({"group_specific": "HalfNormal([1, 2])"}, ArgumentError, "has 2 values"),
        ({"sigma": -1}, ArgumentError, "fixed at -1"),
        ({"1|g": "Normal(0, 5)"}, ArgumentError, "need a prior for their standard deviation"),
        ({"1|g": "Normal(0, Normal(0, 1))"}, ArgumentError, "allows negative"),
        ({"1|g": "Laplace(0, HalfNormal(1))"}, (UnsupportedError, ArgumentError), "standard deviation|multivariate"),
        ({"g_corr": "LKJ(0)"}, ArgumentError, "eta must be positive"),
        ({"g_corr": "LKJ()"}, ArgumentError, "1 is flat"),
        ({"g_corr": "Beta(1, 1)"}, ArgumentError, "1 is flat"),
        ({"g_corr": 2}, ArgumentTypeError, r'must be a text such as "LKJ\(2\)"'),
        ([("x", "Normal(0, 1)")], ArgumentTypeError, "priors must be a dict"),
    ],
)
def test_what_is_no_prior_here_is_refused_in_words(design, priors, error, words):
    with pytest.raises(error, match=words):
        resolve_priors(priors, design)


def test_known_sds_have_no_sigma(frame):
    with pytest.raises(UnknownNameError, match="so there is no sigma"):
        resolve_priors({"sigma": "HalfNormal(1)"}, build_design("y ~ x", frame, se="s"))


def test_one_number_per_coefficient_is_allowed(design):
    prior = resolve_priors({"f": "Normal([0, 1, 2], 1)"}, design).given["f"]
    assert prior.get("mu") == (0.0, 1.0, 2.0)


def test_checking_imports_neither_pymc_nor_bambi():
    script = (
        "import sys, hiermod.priors.given\n"
        "from hiermod.priors.parse import parse_distribution\n"
        "parse_distribution('Normal(0, 1)', 'x')\n"
        "print([name for name in ('pymc', 'bambi', 'pytensor', 'arviz') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.stack
def test_auxiliary_parameters_are_bambis():
    with collected():
        from bambi.defaults.families import BUILTIN_FAMILIES

    for name, family in FAMILIES.items():
        if family.bambi is None:
            likelihood = BUILTIN_FAMILIES[name]["likelihood"]
            assert set(family.parameter_names) == set(likelihood["params"]) - {likelihood["parent"]}, name


@pytest.mark.stack
def test_bambi_gets_the_priors_and_a_persons_own_objects_stay_as_they_were(design):
    with collected():
        import bambi

    mine = bambi.Prior("Normal", mu=1, sigma=2)
    priors = {"x": mine, "1|g": "HalfNormal(50)", "f": "Normal([0, 1, 2], 1)", "sigma": "Exponential(0.1)"}
    found = resolve_priors(priors, design).to_bambi()
    assert found["x"] == mine
    assert found["x"] is not mine
    assert str(found["1|g"]) == "Normal(mu: 0.0, sigma: HalfNormal(sigma: 50.0))"
    np.testing.assert_array_equal(found["f"].args["mu"], [0, 1, 2])
    with pytest.raises(ArgumentError, match="standard deviation"):
        resolve_priors({"1|g": bambi.Prior("Normal", mu=0, sigma=1)}, design)
