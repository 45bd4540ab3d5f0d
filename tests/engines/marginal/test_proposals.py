"""How proposals find a density: bent coordinates, mixtures in them, walkers where the mode misleads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hiermod.engines.marginal.boundary_transform import Warp, choose_warp, identity
from hiermod.engines.marginal.elliptical import find_bulk
from hiermod.engines.marginal.proposal import Mixture, adapt, defended, grow, laplace, split, weigh

X = np.concatenate([-np.logspace(-5, 2.5, 400), [0.0], np.logspace(-5, 4, 400)])


def test_warp_and_back_and_its_slopes():
    warp = Warp(np.array([0.7, np.nan]))
    x = np.column_stack([X, X])
    phi = warp.to_phi(x)
    np.testing.assert_array_equal(phi[:, 1], X)
    assert (np.diff(phi[np.argsort(X), 0]) > 0).all()
    back = warp.to_x(phi)
    np.testing.assert_allclose(back[:, 0], X, rtol=1e-12, atol=1e-14)  # rounding
    inner = x[np.abs(X) < 100]
    h = 1e-6 * np.maximum(1, np.abs(inner[:, :1])) * [1, 0]
    step = 2 * h[:, 0]
    slope = (warp.to_phi(inner + h) - warp.to_phi(inner - h))[:, 0] / step
    np.testing.assert_allclose(warp.slopes(inner)[:, 0], slope, rtol=1e-6)  # of central differences
    np.testing.assert_array_equal(warp.slopes(inner)[:, 1], 1.0)
    np.testing.assert_allclose(warp.log_slope(inner), np.log(slope), atol=1e-6)
    bend = (warp.log_slope(inner + h) - warp.log_slope(inner - h)) / step
    np.testing.assert_allclose(warp.log_slope_gradient(inner)[:, 0], bend, atol=1e-5)


def test_the_tails_it_is_meant_for():
    """exp(t) to the left is a Gaussian tail in x; to the right the scale alone changes, so no tail gets lighter."""
    warp = Warp(np.zeros(1))
    far = np.array([[-30.0], [-40.0]])
    assert np.diff(warp.to_phi(far)[:, 0])[0] == pytest.approx(-(40**2 - 30**2) / 2 - 0.2 * 10, abs=1.0)
    assert warp.slopes(np.array([[1e3]]))[0, 0] == pytest.approx(0.2, abs=1e-3)


def log_half_normal(t: np.ndarray) -> np.ndarray:
    """log density of log|N(0, 1)|, the law of a group sd of which the data say nothing."""
    return stats.halfnorm.logpdf(np.exp(t[:, 0])) + t[:, 0]


def test_a_bent_t_follows_an_sd_that_may_be_zero():
    rng = np.random.default_rng(1)
    t = np.log(np.abs(rng.normal(size=(4000, 1))))
    even = np.full(4000, 1 / 4000)
    warp = choose_warp(t, even)
    assert len(warp.bent) == 1
    found = {}
    for name, one in (("straight", identity(1)), ("bent", warp)):
        start = Mixture(np.ones(1), one.to_x(t).mean(axis=0)[None], np.full((1, 1, 1), one.to_x(t).std()), one)
        found[name] = weigh(adapt(start, t, even), log_half_normal, 20_000, rng).efficiency
    # a Normal under a t with 5 degrees of freedom has efficiency 0.97: what is left of that
    assert found["bent"] > 0.93
    assert found["straight"] < 0.9


def test_what_is_not_skewed_to_the_left_stays_as_it_is():
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.normal(size=5000), -np.log(np.abs(rng.normal(size=5000))), np.full(5000, 3.0)])
    weights = np.full(5000, 1 / 5000)
    assert len(choose_warp(x, weights).bent) == 0
    x[0, 0] = -1e6  # a point far out with a weight like any other: one draw of a wide proposal
    weights[0] = 1e-12
    assert len(choose_warp(x, weights / weights.sum()).bent) == 0


def test_a_far_point_does_not_hide_where_to_bend():
    t = np.log(np.abs(np.random.default_rng(3).normal(size=(4000, 1))))
    usual = choose_warp(t, np.full(4000, 1 / 4000)).centre
    with_far = choose_warp(np.concatenate([t, [[-1e6]]]), np.append(np.full(4000, 1 / 4000), 1e-12)).centre
    np.testing.assert_allclose(with_far, usual, atol=0.01)  # centres lie on a grid from the mean, which moves a little


def two_components(warp: Warp) -> Mixture:
    roots = np.array([[[0.5, 0.0], [0.3, 0.4]], [[0.7, 0.0], [-0.2, 0.6]]])
    return Mixture(np.array([0.3, 0.7]), np.array([[0.0, 0.0], [-1.0, 1.0]]), roots, warp)


@pytest.mark.parametrize("warp", [identity(2), Warp(np.array([0.5, np.nan]))], ids=["straight", "bent"])
def test_a_mixture_draws_from_the_density_it_states(warp):
    """Importance weights of one mixture for another have mean 1 (its error: sd / root n), and moments by weights are
    moments by draws, whatever the coordinates."""
    rng = np.random.default_rng(4)
    mixture, other = two_components(warp), defended(two_components(identity(2)))
    phi = other.draw(40_000, rng)
    w = np.exp(mixture.log_density(phi) - other.log_density(phi))
    assert abs(w.mean() - 1) < 4 * w.std() / 200
    drawn = mixture.draw(40_000, rng)
    for g in (lambda p: p[:, 0], lambda p: p[:, 1] ** 2, lambda p: p[:, 0] * p[:, 1]):
        error = np.hypot((w * g(phi)).std(), g(drawn).std()) / 200
        assert abs((w * g(phi)).mean() - g(drawn).mean()) < 4.5 * error


def test_mixtures_grow_only_where_the_sample_can_feed_them():
    rng = np.random.default_rng(5)
    d = 10
    start = laplace(np.zeros(d), np.eye(d))
    few, many = rng.normal(size=(300, d)), rng.normal(size=(3000, d))
    assert len(split(few, np.full(300, 1 / 300), start).weights) == 1
    assert len(split(many, np.full(3000, 1 / 3000), start).weights) == 3
    uneven = rng.exponential(size=300)
    assert len(grow(split(few, np.full(300, 1 / 300), start), few, uneven / uneven.sum()).weights) == 1


def test_few_points_do_not_make_a_flat_component():
    """8 points in 10 dimensions: the scale is drawn towards the one before, so that no direction is lost."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(8, 10))
    assert np.linalg.matrix_rank(np.cov(x.T)) == 7
    moved = adapt(laplace(np.zeros(10), np.eye(10)), x, np.full(8, 1 / 8))
    assert np.linalg.eigvalsh(moved.roots[0] @ moved.roots[0].T).min() > 0.1


def test_walkers_leave_a_narrow_mode_for_the_bulk():
    """Neal's funnel (2003, Annals of Statistics 31, section 8): v is standard normal, yet the mode is at v = -3.5,
    where the other seven coordinates have little room."""

    def target(phi: np.ndarray) -> np.ndarray:
        v, rest = phi[:, 0], phi[:, 1:]
        return stats.norm.logpdf(v) + stats.norm.logpdf(rest, scale=np.exp(v / 2)[:, None]).sum(axis=1)

    mode = np.array([-3.5, *np.zeros(7)])
    start = laplace(mode, np.diag([1.0, *np.full(7, np.exp(3.5))]))
    rng = np.random.default_rng(7)
    first = weigh(start, target, 2000, rng)
    assert first.efficiency < 0.02
    found = find_bulk(target, start, rng)
    assert abs(found.means[0, 0]) < 1.2
    assert weigh(found, target, 2000, rng).efficiency > 5 * first.efficiency
