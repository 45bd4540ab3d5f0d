"""theta <-> Lambda, lme4's order, one factor for one covariance, null directions."""

from __future__ import annotations

import numpy as np
import pytest

from hiermod.kernel.covariance import Template, block_order, null_directions, positive_columns

pytestmark = pytest.mark.numeric


def test_order_of_blocks():
    """lme4 1.1 mkReTrms: kept when the numbers of levels do not increase, else rev(order(nlevels))."""
    assert block_order([10, 5, 5]) == (0, 1, 2)
    assert block_order([5, 10]) == (1, 0)
    assert block_order([5, 10, 5]) == (1, 2, 0)  # R: rev(order(c(5, 10, 5))) is 2 3 1
    assert block_order([]) == ()


def test_theta_goes_by_column():
    template = Template((2, 1), (1, 0))
    theta = np.array([9.0, 1.0, 2.0, 3.0])
    first, second = template.unpack(theta)
    assert first.tolist() == [[1, 0], [2, 3]]
    assert second.tolist() == [[9]]
    assert template.pack([first, second]).tolist() == theta.tolist()
    assert template.diagonal().tolist() == [True, True, False, True]


def test_positive_columns_keep_the_covariance():
    rng = np.random.default_rng(0)
    for zero in (None, 0, 1):
        Lam = np.tril(rng.normal(size=(4, 4)))
        if zero is not None:
            Lam[zero, zero] = 0.0
        factor = positive_columns(Lam)
        assert factor @ factor.T == pytest.approx(Lam @ Lam.T, abs=1e-14)
        assert (np.diag(factor) >= 0).all()
        assert np.triu(factor, 1) == pytest.approx(np.zeros((4, 4)))
        if zero is not None:
            assert not factor[:, zero].any()  # what stood below the zero went into later columns


def test_null_directions_do_not_depend_on_units():
    Lam = np.array([[2.0, 0.0], [-1.0, 0.0]])  # correlation -1
    direction = null_directions(Lam, np.array([1.0, 1.0]))
    assert direction.shape == (2, 1)
    assert np.abs(direction[:, 0]) == pytest.approx(np.array([1, 2]) / np.sqrt(5))
    units = np.array([1.0, 1e6])  # the second column in other units: its effect is a million times smaller
    assert np.abs(null_directions(Lam / units[:, None], units)) == pytest.approx(np.abs(direction))
    assert null_directions(np.diag([1.0, 2e-6]), np.array([1.0, 1e6])).shape == (2, 0)
    assert null_directions(np.diag([1.0, 2e-6]), np.array([1.0, 1.0])).shape == (2, 1)
