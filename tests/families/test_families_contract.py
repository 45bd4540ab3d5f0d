"""Every family's record: its law against scipy's, its moments by summing or integrating it, its draws against both.

scipy's laws are written here once more from PyMC's documentation, so that the two can differ."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special, stats

from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import ALSO_CALLED, FAMILIES, GENERALISED, check_family, check_link, is_linear
from hiermod.families.family import Family
from hiermod.families.links import INVERSE_LINKS, inverse_link
from hiermod.families.responses import category_draws, expected, response_draws

TRIALS = 12
# location and further parameters: two settings for each
SETTINGS: dict[str, list[tuple[float, dict[str, float]]]] = {
    "gaussian": [(1.3, {"sigma": 0.7}), (-4.0, {"sigma": 2.5})],
    "t": [(1.3, {"sigma": 0.7, "nu": 7.0}), (0.0, {"sigma": 2.0, "nu": 31.0})],
    "laplace": [(1.3, {"b": 0.7}), (-2.0, {"b": 2.0})],
    "bernoulli": [(0.3, {}), (0.95, {})],
    "binomial": [(0.3, {"trials": TRIALS}), (0.9, {"trials": 3})],
    "beta": [(0.3, {"kappa": 7.0}), (0.8, {"kappa": 2.6})],
    "gamma": [(2.0, {"alpha": 3.0}), (0.4, {"alpha": 1.5})],
    "wald": [(2.0, {"lam": 3.0}), (0.7, {"lam": 9.0})],
    "exponential": [(2.0, {}), (0.3, {})],
    "weibull": [(2.0, {"alpha": 1.7}), (0.5, {"alpha": 3.0})],
    "poisson": [(3.2, {}), (0.4, {})],
    "negativebinomial": [(3.2, {"alpha": 2.5}), (0.4, {"alpha": 0.8})],
    "zero_inflated_poisson": [(3.2, {"psi": 0.7}), (0.6, {"psi": 0.9})],
    "zero_inflated_negativebinomial": [(3.2, {"alpha": 2.5, "psi": 0.7}), (0.6, {"alpha": 0.8, "psi": 0.9})],
    "hurdle_poisson": [(3.2, {"psi": 0.7}), (0.6, {"psi": 0.4})],
    "hurdle_negativebinomial": [(3.2, {"alpha": 2.5, "psi": 0.7}), (0.6, {"alpha": 0.8, "psi": 0.4})],
    "lognormal": [(0.4, {"sigma": 0.6}), (-2.0, {"sigma": 0.2})],
    "beta_binomial": [(0.3, {"kappa": 7.0, "trials": TRIALS}), (0.8, {"kappa": 1.2, "trials": 3})],
    "vonmises": [(0.4, {"kappa": 2.5}), (-0.1, {"kappa": 40.0})],
    "hurdle_gamma": [(2.0, {"alpha": 3.0, "psi": 0.7}), (0.4, {"alpha": 1.5, "psi": 0.4})],
}
NUMBERS = [family for family in FAMILIES.values() if not family.ordinal]
ORDINAL = [family for family in FAMILIES.values() if family.ordinal]
CASES = [pytest.param(family, *one, id=f"{family.name}-{i}") for family in NUMBERS
         for i, one in enumerate(SETTINGS[family.name])]  # fmt: skip


def scipys(name: str, mu: float, p: dict[str, float]) -> Any:
    """The law, for families that scipy has."""
    if name in ("gamma", "hurdle_gamma"):
        return stats.gamma(p["alpha"], scale=mu / p["alpha"])
    if name.endswith("negativebinomial"):
        return stats.nbinom(p["alpha"], p["alpha"] / (p["alpha"] + mu))
    if name.endswith("poisson"):
        return stats.poisson(mu)
    return {
        "gaussian": lambda: stats.norm(mu, p["sigma"]),
        "t": lambda: stats.t(p["nu"], mu, p["sigma"]),
        "laplace": lambda: stats.laplace(mu, p["b"]),
        "bernoulli": lambda: stats.bernoulli(mu),
        "binomial": lambda: stats.binom(p["trials"], mu),
        "beta": lambda: stats.beta(mu * p["kappa"], (1 - mu) * p["kappa"]),
        "lognormal": lambda: stats.lognorm(p["sigma"], scale=np.exp(mu)),
        "beta_binomial": lambda: stats.betabinom(p["trials"], mu * p["kappa"], (1 - mu) * p["kappa"]),
        "vonmises": lambda: stats.vonmises(p["kappa"], mu),
        "wald": lambda: stats.invgauss(mu / p["lam"], scale=p["lam"]),
        "exponential": lambda: stats.expon(scale=mu),
        "weibull": lambda: stats.weibull_min(p["alpha"], scale=mu / special.gamma(1 + 1 / p["alpha"])),
    }[name]()


def scipys_log(name: str, y: np.ndarray, mu: float, p: dict[str, float]) -> np.ndarray:
    """Its log density, zeros apart where the family has them apart."""
    law = scipys(name, mu, p)
    with np.errstate(divide="ignore"):
        if name == "vonmises":  # scipy's goes round and round
            return np.where(np.abs(y) > np.pi, -np.inf, law.logpdf(y))
        base = law.logpmf(y) if hasattr(law.dist, "pmf") else law.logpdf(y)
        if name.startswith("zero_inflated"):
            return np.where(y == 0, np.log(1 - p["psi"] + p["psi"] * law.pmf(0)), np.log(p["psi"]) + base)
        if name.startswith("hurdle"):
            kept = np.log1p(-law.pmf(0)) if hasattr(law.dist, "pmf") else 0.0
            return np.where(y == 0, np.log1p(-p["psi"]), np.log(p["psi"]) + base - kept)
    return base


def grid(family: Family, mu: float, p: dict[str, float]) -> np.ndarray:
    """Responses to look at: inside the support and, where it has an end, outside."""
    if family.discrete:
        return np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 7.0, 40.0])
    ends = [0.0] if family.own_zeros else []  # elsewhere an end of the support has no probability
    return np.array([*ends, -3.0, -0.5, 0.01, 0.2, 0.5, 0.99, 1.7, 6.0])


def given(p: dict[str, float]) -> dict[str, np.ndarray]:
    return {name: np.asarray(float(value)) for name, value in p.items()}


def moment(family: Family, mu: float, p: dict[str, float], power: int, centre: float = 0.0) -> float:
    """E (y - centre)^power by summing or integrating the record's own density; of proportions for counts of trials."""
    assert family.logpdf is not None
    further, location = given(p), np.asarray(mu)

    def density(y: Any) -> Any:
        return np.exp(family.logpdf(np.asarray(y, dtype=float), location, further))

    scale = p.get("trials", 1) if family.out_of_trials else 1
    if family.discrete:
        y = np.arange(0.0, 2000.0)
        return float((((y / scale) - centre) ** power * density(y)).sum())
    if family.around is not None:  # cut opposite the location
        ends = [(mu - np.pi, mu), (mu, mu + np.pi)]
        return float(
            sum(
                integrate.quad(
                    lambda y: (y - centre) ** power * density(np.angle(np.exp(1j * y))),
                    a,
                    b,
                    epsabs=1e-13,
                    epsrel=1e-12,
                )[0]
                for a, b in ends
            )
        )
    low = -np.inf if family.support is None else 0.0
    high = 1.0 if family.name == "beta" else np.inf
    found = sum(
        integrate.quad(lambda y: (y - centre) ** power * density(y), a, b, epsabs=1e-12, epsrel=1e-11, limit=400)[0]
        for a, b in ((low, mu), (mu, high))
    )
    zero = float(density(0.0)) if family.own_zeros else 0.0  # a point with a probability
    return found + zero * (-centre) ** power


def test_the_settings_are_of_every_family():
    assert set(SETTINGS) == {family.name for family in NUMBERS}


@pytest.mark.parametrize(("family", "mu", "p"), CASES)
def test_log_density_is_scipys(family, mu, p):
    y = grid(family, mu, p)
    found = family.logpdf(y, np.full(len(y), mu), given(p))
    # the same formula twice in double precision
    np.testing.assert_allclose(found, scipys_log(family.name, y, mu, p), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("family", "mu", "p"), CASES)
def test_density_sums_to_one_and_has_the_moments_of_the_record(family, mu, p):
    mean = float(family.mean(np.asarray(mu), given(p)))
    variance = float(family.variance(np.asarray(mu), given(p)))
    # quadrature to 1e-11; sums leave out tails beyond 2000
    assert moment(family, mu, p, 0) == pytest.approx(1.0, rel=1e-8)
    assert moment(family, mu, p, 1) == pytest.approx(mean, rel=1e-7, abs=1e-9)
    assert moment(family, mu, p, 2, mean) == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(("family", "mu", "p"), CASES)
def test_draws_have_the_law(family, mu, p):
    size = 40_000
    location = np.full((4, size // 4), mu)
    further = {name: value[None, None] for name, value in given(p).items()}
    y = family.draw(location, further, np.random.default_rng(7))
    assert y.shape == location.shape
    assert family.support is None or not family.support.outside(y).any()
    y = y.ravel() / (p["trials"] if family.out_of_trials else 1)
    y = y if family.around is None else family.around(y, np.asarray(mu))
    mean, sd = float(family.mean(np.asarray(mu), given(p))), float(np.sqrt(family.variance(np.asarray(mu), given(p))))
    assert abs(y.mean() - mean) < 4.5 * sd / np.sqrt(size)  # about 1 false alarm in 150,000
    assert y.std() == pytest.approx(sd, rel=0.1)
    logs = family.logpdf(family.draw(location, further, np.random.default_rng(8)).ravel(), np.asarray(mu), given(p))
    assert np.isfinite(logs).all()


@pytest.mark.parametrize(("family", "mu", "p"), CASES)
def test_what_broadcasts_is_broadcast(family, mu, p):
    """One location for each draw and row, one parameter for each draw."""
    location = np.full((3, 5), mu)
    further = {name: np.full((3, 1), float(value)) for name, value in p.items()}
    y = np.full(5, family.example[1] if not family.discrete else 1.0)
    assert family.logpdf(y, location, further).shape == (3, 5)
    assert np.shape(family.mean(location, further)) == (3, 5)
    assert np.shape(family.variance(location, further)) == (3, 5)
    assert family.draw(location, further, np.random.default_rng(0)).shape == (3, 5)


@pytest.mark.parametrize("family", ORDINAL, ids=lambda family: family.name)
def test_categories_have_probabilities(family):
    eta, cuts = np.array([[-0.4, 1.1, 0.0]]), np.array([-1.0, 0.2, 1.5])
    F = stats.logistic.cdf(cuts[None, None] - eta[..., None])
    p = family.categories(F)
    assert p.shape == (1, 3, 4)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-14)
    for row, f in zip(p[0], F[0], strict=True):
        if family.name == "cumulative":  # McCullagh: P(y <= k)
            np.testing.assert_allclose(np.cumsum(row)[:-1], f, rtol=1e-13)
        else:  # Tutz: P(y = k | y >= k)
            np.testing.assert_allclose(row[:-1] / np.cumsum(row[::-1])[::-1][:-1], f, rtol=1e-13)
    drawn = category_draws(np.repeat(p, 20_000, axis=0), np.random.default_rng(3))
    shares = np.stack([(drawn == k).mean(axis=0) for k in range(4)], axis=-1)
    assert np.abs(shares - p[0]).max() < 5 * np.sqrt(0.25 / 20_000)
    assert family.mean is None
    assert family.draw is None
    with pytest.raises(UnsupportedError, match="no mean"):
        expected(family.name, eta, {})


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_links_and_names(family):
    forward = {
        "identity": lambda mu: mu,
        "log": np.log,
        "logit": special.logit,
        "probit": stats.norm.ppf,
        "cloglog": lambda mu: np.log(-np.log1p(-mu)),
        "inverse": lambda mu: 1 / mu,
        "inverse_squared": lambda mu: 1 / mu**2,
    }
    mu = np.array([0.05, 0.4, 0.93])
    for link in family.links:
        np.testing.assert_allclose(inverse_link(link, forward[link](mu)), mu, rtol=1e-12)
        assert check_link(family.name, link) == link
    assert check_link(family.name, None) == family.links[0]
    assert check_family(family.name.upper()) == family.name
    assert all(parameter.link in INVERSE_LINKS for parameter in family.parameters)
    assert set(family.notation.arguments) <= set(family.parameter_names)
    assert set(family.link_variance) <= set(family.links)
    assert family.support is None or not family.support.outside(np.array(family.example)).any()
    assert is_linear(family.name, "identity") == (family.name == "gaussian")
    assert family.likelihood is None or set(family.likelihood.links) <= set(family.links)


@pytest.mark.parametrize("name", [name for name in GENERALISED if FAMILIES[name].likelihood is not None])
def test_the_likelihood_of_the_predictor_is_the_law(name):
    """rows + constant is the record's own log density; score and information are its slopes (central differences)."""
    family, eta = FAMILIES[name], np.linspace(-1.6, 1.2, 7)
    n = np.full(7, 1.0 if name != "binomial" else TRIALS)
    y = np.array([0.0, 1, 0, 1, 1, 0, 1]) if name == "bernoulli" else np.array([0.0, 1, 2, 5, 3, 0, 12])
    law = family.likelihood
    for link in law.links:
        mean = inverse_link(link, eta)
        logs = family.logpdf(y, mean, {"trials": n})
        np.testing.assert_allclose(law.rows(link, y, n, eta) + law.constant(y, n), logs, rtol=1e-12, atol=1e-12)
        found, h = law.derivatives(link, y, n, eta), 1e-5
        up, down = law.rows(link, y, n, eta + h), law.rows(link, y, n, eta - h)
        np.testing.assert_allclose(found.score, (up - down) / (2 * h), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(law.score(link, y, n, eta), found.score, rtol=1e-13)
        slopes = (law.score(link, y, n, eta + h) - law.score(link, y, n, eta - h)) / (2 * h)
        np.testing.assert_allclose(found.observed, -slopes, rtol=1e-6, atol=1e-7)
        if link == law.canonical:
            np.testing.assert_allclose(found.observed, found.expected, rtol=1e-13)
        # Fisher's information: squared slope of the mean over the variance
        slope = (inverse_link(link, eta + h) - inverse_link(link, eta - h)) / (2 * h)
        np.testing.assert_allclose(found.expected, slope**2 / family.variance(mean, {"trials": n}), rtol=1e-7)
        assert law.law(mean, n).mean() == pytest.approx(mean * (n if family.out_of_trials else 1), rel=1e-12)


def test_names_of_other_programs_lead_to_one_family():
    called = [other for family in FAMILIES.values() for other in family.also_called]
    assert len(called) == len(set(called)) == len(ALSO_CALLED)
    with pytest.raises(ArgumentError, match="'negativebinomial' here"):
        check_family("NegBin")


def test_a_draw_says_which_parameter_it_lacks():
    with pytest.raises(UnsupportedError, match="without nu"):
        response_draws("t", np.zeros((1, 2)), np.ones((1, 1)), None, np.random.default_rng(0))
    with pytest.raises(UnsupportedError, match="without trials"):
        response_draws("binomial", np.full((1, 2), 0.5), None, None, np.random.default_rng(0))


def test_records_need_numpy_and_scipy_only():
    code = (
        "import hiermod.families.catalogue, sys\n"
        "print([n for n in ('pandas', 'bambi', 'pymc', 'formulae', 'arviz', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
