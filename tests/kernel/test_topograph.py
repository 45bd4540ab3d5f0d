"""Points that are spread evenly, and those among them that are lower than their neighbours."""

import numpy as np
import pytest

from hiermod.kernel.topograph import even_points, lowest_points, nearest_points


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_points_are_spread_evenly(d):
    """Each eighth of every axis holds its share, and no hole is large."""
    points = even_points(128, d)
    assert points.shape == (128, d)
    assert points.min() > 0
    assert points.max() < 1
    for axis in points.T:
        assert (np.histogram(axis, 8, (0, 1))[0] == len(points) / 8).all()
    anywhere = np.random.default_rng(0).random((2000, d))
    nearest = np.sqrt(np.square(anywhere[:, None] - points).sum(axis=2)).min(axis=1)
    assert nearest.max() < 0.5 * np.sqrt(d)


def test_any_number_of_points_is_the_beginning_of_more():
    np.testing.assert_allclose(even_points(100, 3), even_points(128, 3)[:100])


def test_neighbours_are_those_of_brute_force():
    places = np.random.default_rng(2).normal(size=(60, 3))
    distance = np.square(places[:, None] - places).sum(axis=2)
    nearest, reach = nearest_points(places, 4)
    for s, row in enumerate(distance):
        others = np.argsort(row)[1:5]
        assert set(nearest[s]) == set(others)
        assert reach[s] == pytest.approx(row[others[-1]])
    assert nearest_points(places[:3], 4)[0].shape == (3, 2)


def test_every_basin_has_a_lowest_point_and_what_cannot_be_computed_has_none():
    places = even_points(256, 2)
    centres, depths = np.array([[0.2, 0.2], [0.8, 0.3], [0.5, 0.9]]), np.array([0.03, 0.0, 0.01])
    level = (np.square(places[:, None] - centres).sum(axis=2) + depths).min(axis=1)
    found = lowest_points(level, nearest_points(places, 8)[0])
    assert len(found) == 3
    for s, centre in zip(found, centres[[1, 2, 0]], strict=True):  # lowest first
        assert np.abs(places[s] - centre).max() < 0.07  # 256 points lie about 0.06 apart
    level[found[0]] = np.inf
    assert found[0] not in lowest_points(level, nearest_points(places, 8)[0])
