"""The compiled density in whitened coordinates: against numpy and scipy, its Jacobian and gradient by differences."""

from __future__ import annotations

import numpy as np
import pytest
from whitened_cases import model_of, natural, natural_log_density, whitened

from hiermod.engines.whitened.arrays import SINH

CASES = [
    ("one factor", "binomial", "logit"),
    ("slopes, crossed, offset", "poisson", "log"),
    ("chain of three", "bernoulli", "logit"),
    ("nested and crossed", "negativebinomial", "log"),
    ("uncorrelated", "bernoulli", "logit"),
    ("three effects", "poisson", "log"),
    ("no groups", "binomial", "logit"),
]


def points(w, t, count, rng):
    """Points of q around t, where no sd is as good as 0."""
    q = 0.6 * rng.normal(size=(count, w.size))
    q[:, : w.head] += t
    return q


def differences(function, q, step=1e-3):
    """Derivatives (size of the function, size of q), to fourth order."""
    columns = []
    for i in range(len(q)):
        e = np.zeros(len(q))
        e[i] = step
        columns.append(
            (8 * (function(q + e) - function(q - e)) - function(q + 2 * e) + function(q - 2 * e)) / 12 / step
        )
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize(("structure", "family", "link"), CASES)
def test_density_jacobian_and_gradient(structure, family, link):
    model = model_of(structure, family, link)
    start, w = whitened(model)
    rng = np.random.default_rng(7)
    q = points(w, start.t, 4, rng)
    # the map's Jacobian by differences is an independent one: the density is that of natural parameters times it
    found, expected = [], []
    for one in q:
        value, gradient, x = w.density(one)
        sign, slope = np.linalg.slogdet(differences(lambda v: natural(w, v), one))
        assert sign != 0
        found.append(value)
        expected.append(natural_log_density(model, start, w, one, x) + slope)
        slopes = differences(lambda v: np.array([w.density(v)[0]]), one)[0]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-6)  # 1e-12 of errors of fourth order
    found, expected = np.array(found), np.array(expected)
    # up to one constant; the Jacobian is known to some 1e-9 for each of 80 coordinates
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-7)


@pytest.mark.parametrize("structure", ["three effects", "nested and crossed", "uncorrelated"])
def test_the_way_back_and_its_slope(structure):
    start, w = whitened(model_of(structure))
    q = points(w, start.t, 3, np.random.default_rng(8))
    x = np.stack([w.density(one)[2] for one in q])
    epsilon, log_slope = w.epsilon(q[:, : w.head], x)
    np.testing.assert_allclose(epsilon, q[:, w.head :], atol=1e-10)
    for one, told in zip(q, log_slope, strict=True):
        by_epsilon = differences(lambda v, one=one: w.density(np.concatenate([one[: w.head], v]))[2], one[w.head :])
        assert told == pytest.approx(np.linalg.slogdet(by_epsilon)[1], abs=1e-7)


def test_other_frozen_numbers_are_the_same_posterior():
    """Whitened elsewhere, a point has another q and the same density of (t, x)."""
    start, w = whitened(model_of("nested and crossed"))
    q = points(w, start.t, 5, np.random.default_rng(9))
    values = np.array([w.density(one)[0] for one in q])
    x = np.stack([w.density(one)[2] for one in q])
    t = q[:, : w.head]
    rng = np.random.default_rng(10)
    n = len(start.eta)
    other = w.at(t[0] + 0.3, start.eta + rng.normal(size=n), 2 * rng.random(n), rng.normal(size=n))
    epsilon, slope = other.epsilon(t, x)
    there = np.array([other.density(np.concatenate([a, b]))[0] for a, b in zip(t, epsilon, strict=True)])
    gained = w.epsilon(t, x)[1] - slope  # log |dx / depsilon| of the one less that of the other
    np.testing.assert_allclose((values - there) - (values - there)[0], gained - gained[0], atol=1e-9)


def test_signs_of_sds_are_mirrors():
    """The density is the same at the mirror of a point; folding gives one of them, with the same covariances."""
    from hiermod.engines.whitened.engine import folded

    start, w = whitened(model_of("three effects"))
    assert (w.arrays.kind == SINH).all()
    q = points(w, start.t, 1, np.random.default_rng(11))[0]
    value, _, x = w.density(q)
    t = q[: w.head].copy()
    columns = {int(w.arrays.column_at[g]) + 1 for g, group in enumerate(w.groups) if group.size == 3}
    for s in columns:  # the second sd of three, and the correlations with it
        t[s] *= -1
    place = int(w.arrays.correlation_at[next(g for g, group in enumerate(w.groups) if group.size == 3)])
    t[[place, place + 2]] *= -1
    epsilon = w.epsilon(t[None], x[None])[0][0]
    mirrored, _, same = w.density(np.concatenate([t, epsilon]))
    np.testing.assert_allclose(same, x, atol=1e-12)
    assert mirrored == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(folded(w, t), folded(w, q[: w.head]), atol=1e-14)
    assert (folded(w, t)[list(columns)] > 0).all()
