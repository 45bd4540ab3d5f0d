"""Row functions: the density is the record's, derivatives are those of the density in 40 digits, weights are expected.

The same functions run on mpmath's numbers, their elementary functions exchanged for mpmath's: rounding is then far
away, and numerical differentiation of the density is exact to all digits of a float."""

from __future__ import annotations

import types
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy import exp
from scipy import special

from hiermod.families import elementary
from hiermod.families.catalogue import FAMILIES
from hiermod.families.links import inverse_link
from hiermod.families.row_function import RowFunction

CASES = [pytest.param(family.name, link, id=f"{family.name}-{link}")
         for family in FAMILIES.values() for link in family.rows]  # fmt: skip
mp = mpmath.mp.clone()
mp.dps = 60

PRECISE: dict[Any, Any] = {
    np.exp: mp.exp,
    np.log: mp.log,
    np.log1p: lambda x: mp.log(1 + x),
    np.expm1: lambda x: mp.exp(x) - 1,
    np.sqrt: mp.sqrt,
    np.abs: abs,
    np.logaddexp: lambda a, b: max(a, b) + mp.log(1 + mp.exp(-abs(a - b))),
    np.where: lambda condition, a, b: a if condition else b,
    special.expit: lambda x: 1 / (1 + mp.exp(-x)),
    special.gammaln: mp.loggamma,
    elementary.stirling: lambda x: mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2,
    elementary.digamma_less_log: lambda x: mp.digamma(x) - mp.log(x),
    elementary.trigamma: lambda x: mp.psi(1, x),
    elementary.tetragamma: lambda x: mp.psi(2, x),
    elementary.mills: lambda x: mp.npdf(x) / mp.ncdf(x),
    elementary.log_ndtr: lambda x: mp.log(mp.ncdf(x)),
    # formulas whose branches are for rounding only
    elementary.log_ratio: lambda top, b, difference: mp.log(top / b),
    elementary.log_ratio_less: lambda top, b, difference: mp.log(top / b) - difference / b,
    elementary.expm1_less: lambda w: mp.exp(w) - 1 - w,
    elementary.log1mexp: lambda t: mp.log(1 - mp.exp(-t)),
}


def precise(function: Any) -> Any:
    """The same function of mpmath's numbers."""
    if function in PRECISE:
        return PRECISE[function]
    if not isinstance(function, types.FunctionType):
        return function
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    namespace = {name: precise(value) if callable(value) else value for name, value in names.items()}
    if "HALF_LOG_2PI" in namespace:
        namespace["HALF_LOG_2PI"] = mp.log(2 * mp.pi) / 2
    return types.FunctionType(function.__code__, {"__builtins__": __builtins__, **namespace}, function.__name__)


def responses(name: str) -> list[tuple[float, float]]:
    """(y, n) that the family can have."""
    family = FAMILIES[name]
    if family.out_of_trials:
        return [(0.0, 5.0), (2.0, 5.0), (5.0, 5.0), (70.0, 1000.0)]
    if name == "bernoulli":
        return [(0.0, 1.0), (1.0, 1.0)]
    if family.kind == "count":
        return [(0.0, 1.0), (1.0, 1.0), (7.0, 1.0), (300.0, 1.0)]
    if name == "beta":
        return [(0.001, 1.0), (0.4, 1.0), (0.97, 1.0)]
    found = [(0.2, 1.0), (1.0, 1.0), (6.5, 1.0)]
    return [(0.0, 1.0), *found] if family.own_zeros else found


def auxiliaries(rows: RowFunction, settings: tuple[float, ...]) -> list[tuple[float, ...]]:
    return [(setting, setting - 0.7)[: len(rows.auxiliary)] for setting in settings]


def places(name: str, link: str) -> list[tuple[float, float, float, tuple[float, ...]]]:
    """Ordinary places: where no derivative is a difference of numbers ten digits larger."""
    rows = FAMILIES[name].rows[link]
    etas = (-2.5, -0.3, 0.4, 1.9) if link != "cloglog" else (-2.5, -0.3, 0.4, 1.1)
    return [(y, n, eta, a) for y, n in responses(name) for eta in etas for a in auxiliaries(rows, (-0.8, 0.6, 3.0))]


def quiet(function: Any, *arguments: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*arguments)


@pytest.mark.parametrize(("name", "link"), CASES)
def test_the_density_is_the_records(name: str, link: str) -> None:
    family, rows = FAMILIES[name], FAMILIES[name].rows[link]
    assert family.logpdf is not None
    assert set(rows.names) == set(family.parameter_names)
    for y, n, eta, a in places(name, link):
        further = {one: np.asarray(rows.natural(k, a[k])) for k, one in enumerate(rows.names)}
        expected = family.logpdf(
            np.array([y]), inverse_link(link, np.array([eta])), {**further, "trials": np.array([n])}
        )
        found = quiet(rows.density, np.array([y]), np.array([n]), np.array([eta]), a)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)  # y log mu of 300 keeps 13 digits
        for k, value in enumerate(a):
            assert rows.unconstrained(k, rows.natural(k, value)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "link"), CASES)
def test_derivatives_are_those_of_the_density(name: str, link: str) -> None:
    rows = FAMILIES[name].rows[link]
    density = precise(rows.density)
    for y, n, eta, a in places(name, link):

        def at(eta: Any, *a: Any, y: float = y, n: float = n) -> Any:
            return density(mp.mpf(y), mp.mpf(n), eta, a)

        point = (mp.mpf(eta), *(mp.mpf(one) for one in a))

        def derivative(*orders: int, at: Any = at, point: Any = point) -> float:
            return float(mp.diff(at, point, orders) if len(point) > 1 else mp.diff(at, point[0], orders[0]))

        none = (0,) * len(a)
        each = [tuple(int(k == j) for j in range(len(a))) for k in range(len(a))]
        value, score, by_a = quiet(rows.first, y, n, eta, a)
        observed, expected = quiet(rows.weights, y, n, eta, a)
        slope, score_by_a, curvature_by_a = quiet(rows.third, y, n, eta, a)
        close = {"rel": 1e-8, "abs": 1e-9}
        assert value == pytest.approx(float(at(*point)), rel=1e-11, abs=1e-11)
        assert score == pytest.approx(derivative(1, *none), **close)
        assert observed == pytest.approx(-derivative(2, *none), **close)
        assert slope == pytest.approx(derivative(3, *none), **close)
        assert len(by_a) == len(score_by_a) == len(curvature_by_a) == len(a)
        for k, order in enumerate(each):
            assert by_a[k] == pytest.approx(derivative(0, *order), **close)
            assert score_by_a[k] == pytest.approx(derivative(1, *order), **close)
            assert curvature_by_a[k] == pytest.approx(derivative(2, *order), **close)
        assert expected >= 0
        assert not rows.concave or observed >= 0
        assert not rows.expected_is_observed or observed == expected


@pytest.mark.parametrize(("name", "link"), CASES)
def test_far_out_every_number_is_finite_or_the_limit(name: str, link: str) -> None:
    """Linear predictors of 30 and 300, shapes of 1e-4 and 1e8, counts of a million: never nan."""
    rows = FAMILIES[name].rows[link]
    more = [(1e6, 1e6), (999_999.0, 1e6)] if FAMILIES[name].out_of_trials else []
    more += [(1e6, 1.0)] if FAMILIES[name].kind == "count" else []
    for y, n in [*responses(name), *more]:
        for eta in (-300.0, -30.0, 30.0, 300.0):
            for a in [(), *auxiliaries(rows, (-9.0, 18.0))][bool(rows.auxiliary) :]:
                value, score, by_a = quiet(rows.first, *np.array([y, n, eta])[:, None], a)
                observed, expected = quiet(rows.weights, *np.array([y, n, eta])[:, None], a)
                third = quiet(rows.third, *np.array([y, n, eta])[:, None], a)
                numbers = [value, score, *by_a, observed, expected, third[0], *third[1], *third[2]]
                assert not np.isnan(np.array([float(one[0]) for one in np.broadcast_arrays(*numbers)])).any(), (
                    y,
                    eta,
                    a,
                )
                assert expected >= 0
                assert not rows.concave or observed >= 0
                assert value < np.inf


@pytest.mark.parametrize(("name", "link"), CASES)
def test_the_expected_weight_is_near_the_mean_of_the_observed(name: str, link: str) -> None:
    """Whitening rests on it: within a factor of 2, where the record does not say more."""
    family, rows = FAMILIES[name], FAMILIES[name].rows[link]
    assert family.draw is not None
    rng = np.random.default_rng(3)
    for eta in (-0.7, 0.8):
        a = (0.5, 0.9)[: len(rows.auxiliary)]
        further = {one: np.asarray(rows.natural(k, a[k])) for k, one in enumerate(rows.names)}
        n = np.full(20_000, 8.0 if family.out_of_trials else 1.0)
        y = family.draw(inverse_link(link, np.full(20_000, eta)), {**further, "trials": n}, rng)
        observed, expected = quiet(rows.weights, y, n, np.full(20_000, eta), a)
        assert 0.5 < np.mean(expected) / np.mean(observed) < 2.0
        if family.name in (
            "gaussian",
            "gamma",
            "poisson",
            "binomial",
            "negativebinomial",
            "t",
            "weibull",
            "beta",
            "wald",
        ):
            error = np.std(observed) / np.sqrt(20_000)
            assert abs(np.mean(observed) - np.mean(expected)) < 4.5 * error + 1e-12


X = np.array([1e-6, 0.01, 0.3, 1.0, 2.7, 14.9, 15.1, 80.0, 1e4, 1e9])
FUNCTIONS_OF_POSITIVE = [elementary.stirling, elementary.digamma_less_log, elementary.trigamma, elementary.tetragamma]


@pytest.mark.parametrize("function", FUNCTIONS_OF_POSITIVE, ids=lambda one: one.__name__)
def test_gamma_functions(function: Any) -> None:
    expected = np.array([float(PRECISE[function](mp.mpf(float(x)))) for x in X])
    np.testing.assert_allclose(function(X), expected, rtol=2e-12)
    np.testing.assert_allclose([elementary.SCALAR[function](float(x)) for x in X], expected, rtol=2e-12)


def test_normal_tails() -> None:
    x = np.array([-200.0, -40.0, -25.1, -24.9, -5.0, -1.1, -0.9, 0.0, 0.5, 3.0, 8.0])
    for function in (elementary.mills, elementary.log_ndtr):
        expected = np.array([float(PRECISE[function](mp.mpf(float(one)))) for one in x])
        np.testing.assert_allclose(function(x), expected, rtol=1e-11)  # of scipy: exp of a difference of 20,000
        np.testing.assert_allclose([elementary.SCALAR[function](float(one)) for one in x], expected, rtol=1e-11)


def test_differences_that_cancel() -> None:
    w = np.array([-30.0, -0.3, -0.19, -1e-3, 1e-9, 0.05, 0.21, 4.0])
    expected = [float(PRECISE[elementary.expm1_less](mp.mpf(float(one)))) for one in w]
    np.testing.assert_allclose(elementary.expm1_less(w), expected, rtol=1e-13)
    for b in (1e-3, 1.0, 1e8):
        for t in (-0.999999, -0.4, -0.09, -1e-7, 1e-7, 0.02, 0.6, 1e5):
            for function in (elementary.log_ratio, elementary.log_ratio_less):
                top = mp.mpf(b) + mp.mpf(t * b)
                expected = float(PRECISE[function](top, mp.mpf(b), mp.mpf(t * b)))
                assert float(function(float(top), b, t * b)) == pytest.approx(expected, rel=1e-12)


def test_shapes_beyond_all_data_keep_their_digits() -> None:
    """alpha -> infinity: the negative binomial is Poisson, and says so, where differences of gammaln have no digit."""
    rows, poisson = FAMILIES["negativebinomial"].rows["log"], FAMILIES["poisson"].rows["log"]
    y, eta, alpha = np.array([0.0, 3.0, 40.0]), np.array([0.2, 1.4, 3.1]), 1e12
    value, _, by_a = rows.first(y, 1.0, eta, (np.log(alpha),))
    np.testing.assert_allclose(value, poisson.density(y, 1.0, eta, ()), rtol=1e-10)
    mu = exp(eta)
    np.testing.assert_allclose(by_a[0], -((y - mu) ** 2 - y) / (2 * alpha), atol=1e-15)  # the first term of its series
