"""The table of priors with its reasons, priors as people give them, and priors from intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core import versions
from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.model import Model
from hiermod.priors.distributions import Distribution
from hiermod.priors.elicit import FAMILIES
from hiermod.priors.parse import parse_distribution


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return hm.load_dataset("sleepstudy")


def table(model: Model) -> pd.DataFrame:
    return model.priors().set_index("parameter")


def test_the_reasons_have_the_numbers_of_the_data(sleep):
    """sd(Reaction) = 56.17 and sd(Days) = 2.872 with n in the denominator (numpy), as Bambi's scaler has them."""
    found = table(Model("Reaction ~ Days + (Days | Subject)", sleep))
    scale = 2.5 * sleep["Reaction"].std(ddof=0) / sleep["Days"].std(ddof=0)
    assert found.loc["Days", "distribution"] == f"Normal(mu=0, sigma={scale:.6g})"
    assert found.loc["Days", "why"] == "Bambi's: 2.5 sd(y)/sd(x) = 2.5 × 56.2 / 2.87"
    assert found.index.tolist() == [
        *("Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr", "sigma"),
    ]
    assert found.loc["Intercept", "why"] == "Bambi's: mean(y); 2.5 sd(y) = 140.4, widened"
    assert found["why"].str.len().max() < 50  # pandas cuts longer cells
    (note,) = Model("Reaction ~ Days + (Days | Subject)", sleep).priors().attrs["notes"]
    assert "Intercept: Its prior is that of the intercept where every predictor is at its mean" in note
    assert note.endswith("sqrt(140.4² + sum of (slope's sd × mean(x))²) = 261.")
    assert found.loc["Subject_corr", "distribution"] == "LKJ(eta=2)"
    assert found.loc["sigma", "why"] == "Bambi's: sd(y) = 56.17"
    assert found["key"].tolist() == ["Intercept", "Days", "1|Subject", "Days|Subject", "Subject_corr", "sigma"]


def test_given_priors_say_so(sleep):
    priors = {"common": "Cauchy(0, 5)", "1|Subject": "Exponential(0.1)", "Subject_corr": "LKJ(1)", "sigma": 30}
    found = table(Model("Reaction ~ Days + (Days | Subject)", sleep, priors=priors))
    assert found.loc["Days", ["distribution", "why"]].tolist() == [
        "Cauchy(alpha=0, beta=5)",
        "given for all common terms",
    ]
    assert found.loc["1|Subject_sigma", "distribution"] == "Exponential(lam=0.1)"
    assert found.loc["Subject_corr", "why"] == "given: flat over correlation matrices"
    assert found.loc["sigma", ["distribution", "why"]].tolist() == ["fixed at 30", "given as a number"]
    assert found.loc["Days|Subject_sigma", "why"].startswith("Bambi's: 2.5 sd(y)/sd(x) = ")


def test_known_residual_sds_leave_no_sigma():
    model = Model("effect ~ 1 + (1 | school)", hm.load_dataset("eight_schools"), se="se")
    assert table(model).index.tolist() == ["Intercept", "1|school_sigma"]


@pytest.mark.stack
@pytest.mark.parametrize(
    ("formula", "family", "priors"),
    [
        ("Reaction ~ Days + (Days | Subject)", "gaussian", None),
        ("Reaction ~ Days + (Days | Subject)", "gaussian", {"Days": "Cauchy(0, 5)"}),  # widens no intercept in Bambi
        ("Reaction ~ Days + (1 | Subject)", "t", None),
    ],
)
def test_the_table_is_what_bambi_was_built_with(sleep, formula, family, priors):
    """Independent: the arguments of the Prior objects in the built Bambi model, rounded as the table rounds them."""
    model = Model(formula, sleep, family=family, priors=priors)
    component = versions.bambi_parent(model.bambi)
    theirs = {"Intercept": component.intercept_term.prior, "Days": component.common_terms["Days"].prior}
    theirs |= {f"{name}_sigma": term.prior.args["sigma"] for name, term in component.group_specific_terms.items()}
    theirs |= {name: one.prior for name, one in versions.bambi_constants(model.bambi).items()}
    found = table(model)
    for name, prior in theirs.items():
        mine = parse_distribution(found.loc[name, "distribution"], name)
        assert mine.name == prior.name
        for argument, value in prior.args.items():
            assert mine.get(argument) == pytest.approx(float(np.squeeze(value)), rel=1e-5), (name, argument)


def test_other_families_have_bambis_rules():
    """Bambi's rules for a logit link: 1.5 for the intercept, 1 for a factor (bambi.priors.scaler)."""
    found = table(Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial"))
    assert found.loc["Intercept", "distribution"] == "Normal(mu=0, sigma=1.5)"
    assert found.loc["period[3]", "why"] == "Bambi's: 1 for a factor, scale of the link"
    assert "sigma" not in found.index
    data = pd.DataFrame({"y": [0, 3, 1, 5, 2, 8], "x": [1.0, 2, 3, 4, 5, 7], "g": list("aabbcc")})
    counts = table(Model("y ~ x + (1 | g)", data, family="negativebinomial", priors={"alpha": "Exponential(2)"}))
    assert counts.loc["x", "why"] == "Bambi's: 2.5 / sd(x) = 2.5 / 1.97"  # numpy: std of 1, 2, 3, 4, 5, 7 is 1.9720
    assert counts.loc["alpha", ["distribution", "why"]].tolist() == ["Exponential(lam=2)", "given"]
    default = table(Model("y ~ x + (1 | g)", data, family="negativebinomial"))
    assert default.loc["alpha", "why"] == "Bambi's default for 'negativebinomial'"


@pytest.mark.stack
def test_bambi_prior_objects_are_understood(sleep):
    bambi = pytest.importorskip("bambi")
    priors = {"Days": bambi.Prior("Normal", mu=0, sigma=10), "sigma": bambi.Prior("HalfNormal", sigma=50)}
    found = table(Model("Reaction ~ Days + (1 | Subject)", sleep, priors=priors))
    assert found.loc["Days", ["distribution", "why"]].tolist() == ["Normal(mu=0, sigma=10)", "given"]
    assert found.loc["sigma", "distribution"] == "HalfNormal(sigma=50)"


# --- elicitation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mass", [0.5, 0.95])
def test_prior_from_puts_the_mass_where_it_was_asked(family, mass):
    """The definition: cdf at both ends, by scipy, to the six digits to which arguments are rounded."""
    from_zero = family in ("HalfNormal", "HalfCauchy", "HalfStudentT", "Exponential")
    lower, upper = (0.0, 80.0) if from_zero else (0.2, 0.7) if family == "Beta" else (5.0, 50.0)
    prior = hm.prior_from(lower, upper, mass=mass, family=family)
    found = prior.scipy()
    below, above = (0.0, 1 - mass) if from_zero else ((1 - mass) / 2, (1 - mass) / 2)
    assert found.cdf(lower) == pytest.approx(below, abs=2e-5)
    assert found.sf(upper) == pytest.approx(above, abs=2e-5)
    assert parse_distribution(str(prior), "x") == Distribution(prior.name, prior.args)  # its text is a prior too


def test_prior_from_closed_forms():
    """Normal: half the width over 1.959964; HalfNormal: upper over 1.959964; narrow intervals keep their digits."""
    assert hm.prior_from(0, 20).get("sigma") == pytest.approx(10 / 1.959964, rel=1e-5)
    assert hm.prior_from(0, 80, family="HalfNormal").get("sigma") == pytest.approx(80 / 1.959964, rel=1e-5)
    far = hm.prior_from(1e6, 1e6 + 1e-3)
    assert far.scipy().cdf(1e6 + 1e-3) == pytest.approx(0.975, abs=1e-4)
    assert repr(hm.prior_from(0, 20)).endswith("95 % between 0 and 20: 2.5 % below, 2.5 % above, median 10")


def test_prior_from_goes_into_priors(sleep):
    priors = {"Days": hm.prior_from(0, 20), "1|Subject": hm.prior_from(0, 80, family="HalfNormal")}
    found = table(Model("Reaction ~ Days + (1 | Subject)", sleep, priors=priors))
    assert found.loc["Days", "distribution"] == "Normal(mu=10, sigma=5.10213)"
    assert found.loc["1|Subject_sigma", "distribution"] == "HalfNormal(sigma=40.8171)"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"lower": 3, "upper": 1}, ArgumentError, "below upper"),
        ({"lower": 0, "upper": 1, "mass": 95}, ArgumentError, "write 0.95"),
        ({"lower": 0, "upper": float("nan")}, ArgumentError, "finite"),
        ({"lower": "0", "upper": 1}, ArgumentTypeError, "must be a number"),
        ({"lower": 0, "upper": 1, "family": "normal"}, ArgumentError, "Did you mean 'Normal'"),
        ({"lower": 1, "upper": 2, "family": "HalfNormal"}, ArgumentError, "begins at 0"),
        ({"lower": 0, "upper": 2, "family": "Gamma"}, ArgumentError, "lower must be positive"),
        ({"lower": 0.1, "upper": 2, "family": "Beta"}, ArgumentError, "below 1"),
        ({"lower": 0, "upper": 2, "nu": 3}, ArgumentError, "nu= is for StudentT"),
        ({"lower": 0, "upper": 2, "family": "StudentT", "nu": -3}, ArgumentError, "nu must be positive"),
    ],
)
def test_intervals_that_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        hm.prior_from(**arguments)
