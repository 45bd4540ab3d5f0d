"""Every kind of prior distribution through one contract: its densities, slopes, support, text, scipy and PyMC agree."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from marginal_cases import Half
from scipy import stats

from hiermod.engines.nuts.quiet import collected
from hiermod.engines.whitened.log_density import law_at
from hiermod.errors import UnsupportedError
from hiermod.priors.distributions import CATALOGUE, Distribution, scipy_or_none
from hiermod.priors.parse import parse_distribution
from hiermod.priors.terms import TERMS

# Text -> the same written with scipy alone; None for what has no scipy distribution, in hiermod or at all.
EXAMPLES: dict[str, Any] = {
    "AsymmetricLaplace(2, 1, 0.5)": stats.laplace_asymmetric(2, 1, 2),
    "AsymmetricLaplace(mu=1, b=0.5, q=0.8)": stats.laplace_asymmetric(2, 1, 2),
    "Beta(2, 3)": stats.beta(2, 3),
    "Beta(mu=0.3, sigma=0.1)": stats.beta(6, 14),
    "Beta(mu=0.3, nu=20)": stats.beta(6, 14),
    "Cauchy(1, 2)": stats.cauchy(1, 2),
    "ChiSquared(3)": stats.chi2(3),
    "ExGaussian(1, 2, 3)": stats.exponnorm(1.5, 1, 2),
    "Exponential(0.5)": stats.expon(scale=2),
    "Exponential(scale=2)": stats.expon(scale=2),
    "Flat()": None,
    "Gamma(2, 0.5)": stats.gamma(2, scale=2),
    "Gamma(mu=4, sigma=2)": stats.gamma(4, scale=1),
    "Gumbel(1, 2)": stats.gumbel_r(1, 2),
    "HalfCauchy(1.5)": stats.halfcauchy(scale=1.5),
    "HalfFlat()": None,
    "HalfNormal(2)": stats.halfnorm(scale=2),
    "HalfNormal(tau=0.25)": stats.halfnorm(scale=2),
    "HalfStudentT(nu=3, sigma=2)": Half(stats.t(3, scale=2)),
    "HalfStudentT(nu=3, lam=0.25)": Half(stats.t(3, scale=2)),
    "InverseGamma(3, 4)": stats.invgamma(3, scale=4),
    "InverseGamma(mu=2, sigma=1)": stats.invgamma(6, scale=10),
    "Kumaraswamy(2, 3)": None,
    "Laplace(1, 2)": stats.laplace(1, 2),
    "Logistic(1, 2)": stats.logistic(1, 2),
    "LogitNormal(0.3, 0.7)": None,
    "LogNormal(0.3, 0.7)": stats.lognorm(0.7, scale=np.exp(0.3)),
    "LogNormal(0.3, tau=4)": stats.lognorm(0.5, scale=np.exp(0.3)),
    "Normal(1, 2)": stats.norm(1, 2),
    "Normal(1, tau=0.25)": stats.norm(1, 2),
    "Pareto(3, 2)": stats.pareto(3, scale=2),
    "Rice(3, 2)": stats.rice(1.5, scale=2),
    "Rice(sigma=2, b=1.5)": stats.rice(1.5, scale=2),
    "SkewNormal(3, 1, 2)": stats.skewnorm(3, 1, 2),
    "StudentT(4, 1, 2)": stats.t(4, 1, 2),
    "StudentT(4, lam=0.25)": stats.t(4, 0, 2),
    "Triangular(0, 5, 2)": stats.triang(0.4, 0, 5),
    "TruncatedNormal(mu=1, sigma=2, lower=0)": stats.truncnorm(-0.5, np.inf, 1, 2),
    "TruncatedNormal(mu=1, sigma=2, lower=0.5, upper=3)": stats.truncnorm(-0.25, 1, 1, 2),
    "TruncatedNormal(mu=1, sigma=2, upper=4)": stats.truncnorm(-np.inf, 1.5, 1, 2),
    "TruncatedNormal(mu=-9, sigma=1, lower=0, upper=4)": stats.truncnorm(9, 13, -9, 1),
    "Uniform(0.2, 5)": stats.uniform(0.2, 4.8),
    "Uniform(upper=5)": stats.uniform(0, 5),
    "Uniform(0.2)": stats.uniform(0.2, 0.8),
    "VonMises(1, 2)": stats.vonmises(2, 1),
    "Wald(2, 3)": stats.invgauss(2 / 3, scale=3),
    "Wald(lam=3, phi=1.5, alpha=0.5)": stats.invgauss(2 / 3, loc=0.5, scale=3),
    "Wald(mu=2, phi=1.5)": stats.invgauss(2 / 3, scale=3),
    "Weibull(2, 3)": stats.weibull_min(2, scale=3),
}
ON_THE_GRAPH_ONLY = {"AsymmetricLaplace", "Flat", "HalfFlat", "Kumaraswamy", "LogitNormal", "Rice", "VonMises", "Wald"}
OF_SDS = {
    *("Exponential", "Gamma", "HalfCauchy", "HalfNormal", "HalfStudentT", "InverseGamma", "LogNormal"),
    *("TruncatedNormal", "Uniform"),
}
GRID = np.array([-40.0, -2.9, -0.7, -0.1, 0.001, 0.1, 0.25, 0.7, 0.9, 1.3, 2.4, 2.9, 4.5, 6.0, 40.0])


def read(text: str) -> Distribution:
    return parse_distribution(text, "x")


def test_every_kind_has_an_example_and_one_that_is_no_kind_fails_here():
    assert {read(text).name for text in EXAMPLES} == set(CATALOGUE)
    assert {name for name, kind in CATALOGUE.items() if (kind.__doc__ or "").strip()} == set(CATALOGUE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_text_and_record_are_one(text):
    """Read, written and read again; six digits or ten are the same where the numbers are short."""
    prior = read(text)
    assert read(str(prior)) == prior
    assert prior.text(6) == str(prior)
    arguments = CATALOGUE[prior.name].arguments
    assert set(dict(prior.args)) <= set(arguments)
    assert set(CATALOGUE[prior.name].real) <= set(arguments)


@pytest.mark.parametrize("text", EXAMPLES)
def test_log_density_is_scipys_and_its_slope_its_derivative(text):
    """Formulas of hiermod's against scipy's (an identity: 1e-9), slopes against central differences of step 1e-6."""
    prior, expected = read(text), EXAMPLES[text]
    density = prior.log_density()
    value, slope = density(GRID)
    lower, upper = prior.support
    inside = (lower <= GRID) & (upper >= GRID)
    np.testing.assert_array_equal(np.isfinite(value), inside)
    assert np.isneginf(value[~inside]).all()
    assert np.isnan(slope[~inside]).all()
    if expected is not None:
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(value[inside], expected.logpdf(GRID[inside]), rtol=1e-9, atol=1e-9)
    step = 1e-6 * np.abs(GRID[inside])
    difference = (density(GRID[inside] + step)[0] - density(GRID[inside] - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope[inside], difference, rtol=1e-6, atol=1e-6)
    assert density(np.array([1.0]))[0].shape == (1,)


@pytest.mark.parametrize("text", EXAMPLES)
def test_as_terms_it_has_the_same_density_up_to_a_constant(text):
    """The sum of terms that compiled code evaluates, and its slope, against the kind's own formula (an identity)."""
    prior = read(text)
    form = prior.kind.as_terms(prior.values)
    if form is None:
        assert prior.name not in {"Normal", "StudentT", "HalfNormal", "HalfStudentT", "HalfCauchy", "Gamma", "Beta"}
        return
    numbers = np.zeros(TERMS)
    numbers[list(form)] = list(form.values())
    lower, upper = prior.support
    inside = GRID[(lower < GRID) & (upper > GRID)]
    value, slope = prior.log_density()(inside)
    found, by_x = np.transpose([law_at(numbers, float(x)) for x in inside])
    np.testing.assert_allclose(found - found[0], value - value[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_x, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", EXAMPLES)
def test_of_sds_the_log_scale_has_the_same_density(text):
    """log p(t) = log p(x) + t at x = e^t, slope 1 + x times that of log p(x): two formulas, one density (1e-9)."""
    prior = read(text)
    density = prior.log_scale_density()
    assert (density is not None) == (prior.name in OF_SDS)
    if density is None:
        return
    t = np.log(GRID[GRID > 0])
    with np.errstate(all="ignore"):  # as in MarginalDensity.log_prior
        value, slope = density(t)
        difference = (density(t + 1e-6)[0] - density(t - 1e-6)[0]) / 2e-6
    plain, plain_slope = prior.log_density()(np.exp(t))
    np.testing.assert_allclose(value, plain + t, rtol=1e-9, atol=1e-9)
    inside = np.isfinite(value)
    np.testing.assert_allclose(slope[inside], 1 + np.exp(t[inside]) * plain_slope[inside], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope[inside], difference[inside], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_scipy_distribution_has_the_same_density_and_support(text):
    prior = read(text)
    if prior.name in ON_THE_GRAPH_ONLY:
        assert scipy_or_none(prior) is None
        with pytest.raises(UnsupportedError, match="improper" if prior.kind.improper else "only on the graph"):
            prior.scipy()
        return
    found = prior.scipy()
    assert found.support() == pytest.approx(prior.support)
    at = found.ppf(np.array([0.01, 0.3, 0.5, 0.99]))
    np.testing.assert_allclose(found.logpdf(at), prior.log_density()(at)[0], rtol=1e-9, atol=1e-9)
    assert found.cdf(at) == pytest.approx([0.01, 0.3, 0.5, 0.99], rel=1e-6)
    assert prior.positive == (found.support()[0] >= 0)


@pytest.mark.stack
@pytest.mark.parametrize("text", EXAMPLES)
def test_pymcs_density_is_the_same(text):
    """Independent: PyMC's own log density of the arguments that Bambi is handed."""
    import pymc as pm

    prior = read(text)
    with collected():
        handed = prior.to_bambi()
        assert (handed.name, handed.args) == (prior.name, dict(prior.args))
        arguments = {name: np.float64(value) for name, value in handed.args.items()}
        x = GRID[(prior.support[0] < GRID) & (prior.support[1] > GRID) & (np.abs(GRID) < 10)]  # -inf there in PyMC
        theirs = pm.logp(getattr(pm, prior.name).dist(**arguments), x).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(
        prior.log_density()(x)[0], theirs, rtol=3e-6, atol=3e-6
    )  # PyMC keeps small constants in single precision


@pytest.mark.stack
def test_kinds_have_pymcs_names_and_order():
    with collected():
        import pymc as pm

    for name, kind in CATALOGUE.items():
        known = [one for one in inspect.signature(getattr(pm, name).dist).parameters if one not in ("args", "kwargs")]
        assert tuple(known[: len(kind.arguments)]) == kind.arguments, name


def test_the_folded_t_is_a_t_folded():
    """Closed form: F(x) = 2 T(x) - 1; its draws agree with it (Kolmogorov-Smirnov, p > 1e-3 at a fixed seed)."""
    found = read("HalfStudentT(nu=4, sigma=10)").scipy()
    assert found.cdf(12.0) == pytest.approx(2 * stats.t.cdf(1.2, 4) - 1, rel=1e-12)
    assert found.ppf(0.3) == pytest.approx(10 * stats.t.ppf(0.65, 4), rel=1e-12)
    assert stats.kstest(found.rvs(size=4000, random_state=1), found.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "text", ["Normal([0, 1], 2)", "Normal(0, HalfNormal(1))", "StudentT(mu=1)", "HalfNormal([1, 2])"]
)
def test_priors_of_more_or_less_than_numbers_have_no_density_here(text):
    prior = read(text)
    with pytest.raises(UnsupportedError, match=r"only on the graph|lacks an argument"):
        prior.scipy()
    assert scipy_or_none(prior) is None
    assert prior.log_density() is None
    assert prior.log_scale_density() is None


def test_a_name_that_is_no_kind_has_nothing():
    """A bambi.Prior may have any PyMC name."""
    prior = Distribution("Moyal", (("mu", 1.0), ("sigma", 2.0)))
    assert str(prior) == "Moyal(mu=1, sigma=2)"
    assert prior.log_density() is prior.log_scale_density() is scipy_or_none(prior) is None
    assert not prior.positive


def test_one_column_of_a_term():
    assert read("Normal([0, 1], 2)").column(1) == read("Normal(1, 2)")
