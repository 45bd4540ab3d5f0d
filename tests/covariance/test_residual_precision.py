"""The one rule of weights and known sds, against dense matrices and scipy's Normal."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hiermod
from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.errors import ArgumentError, DataError

N = 7
GIVEN = np.linspace(0.3, 4.0, N)
KINDS = {
    "iid": (ResidualPrecision(N), np.ones(N), 1.7),
    "weights": (ResidualPrecision(N, weights=GIVEN), GIVEN, 1.7),
    "se": (ResidualPrecision(N, se=GIVEN), GIVEN**-2, 1.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whitening_and_its_determinant_are_those_of_the_dense_matrix(kind):
    """V = sigma^2 W^-1: r'V^-1 r and log|V| from whitened rows; numbers of order one, so 1e-12."""
    precision, w, sigma = KINDS[kind]
    assert (precision.kind, precision.sigma_known, precision.is_iid) == (kind, kind == "se", kind == "iid")
    V = sigma**2 * np.linalg.inv(np.diag(w))
    rng = np.random.default_rng(4)
    X, r = rng.normal(size=(N, 3)), rng.normal(size=N)
    white, r_white = precision.whiten(X) / sigma, precision.whiten(r) / sigma
    np.testing.assert_allclose(white.T @ white, X.T @ np.linalg.solve(V, X), rtol=1e-12)
    np.testing.assert_allclose(white.T @ r_white, X.T @ np.linalg.solve(V, r), rtol=1e-11)
    assert N * np.log(sigma**2) - precision.logdet == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-12, abs=1e-12)
    assert 2 * precision.half_logdet.sum() == pytest.approx(precision.logdet, abs=1e-12)
    np.testing.assert_allclose(precision.unwhiten(precision.whiten(X)), X, rtol=1e-14)
    np.testing.assert_array_equal(precision.whiten_responses(X.T), precision.whiten(X).T)
    logs = -0.5 * (r_white**2 + np.log(2 * np.pi * sigma**2)) + precision.half_logdet
    np.testing.assert_allclose(logs, stats.norm(0, precision.sd(sigma)).logpdf(r), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sd_and_variance_of_numbers_and_of_draws(kind):
    precision, w, _ = KINDS[kind]
    draws = np.array([[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]])
    expected = np.sqrt(1 / w) * (1.0 if kind == "se" else draws[..., None])
    np.testing.assert_allclose(np.broadcast_to(precision.sd(draws), (2, 3, N)), np.broadcast_to(expected, (2, 3, N)))
    np.testing.assert_allclose(precision.variance(draws**2) + np.zeros((2, 3, N)), expected**2 + np.zeros((2, 3, N)))
    assert precision.sd(2.0).shape == precision.variance(4.0).shape == (N,)
    np.testing.assert_allclose(precision.sd(2.0) ** 2, precision.variance(4.0))


@pytest.mark.parametrize("kind", KINDS)
def test_some_rows_and_new_rows(kind):
    precision, w, sigma = KINDS[kind]
    some = precision.take(np.array([5, 0, 5]))
    assert (some.n, some.kind) == (3, kind)
    np.testing.assert_allclose(some.of_each_row, w[[5, 0, 5]])
    np.testing.assert_array_equal(precision.take(np.arange(N) < 2).sd(sigma), precision.sd(sigma)[:2])
    new = precision.of_new_rows(2, np.array([2.0, 8.0]))
    np.testing.assert_allclose(new.sd(sigma), {"iid": [sigma] * 2, "se": [2, 8]}.get(kind, sigma / np.sqrt([2, 8])))
    if kind == "se":
        with pytest.raises(ArgumentError, match="not known"):
            precision.of_new_rows(2)
    else:
        np.testing.assert_allclose(precision.of_new_rows(2).sd(sigma), sigma)


def test_what_is_no_precision_is_refused():
    with pytest.raises(ArgumentError, match="not both"):
        ResidualPrecision(2, weights=np.ones(2), se=np.ones(2))
    for bad in ([1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]):
        with pytest.raises(DataError, match="weights must be positive"):
            ResidualPrecision(2, weights=np.array(bad))
    with pytest.raises(DataError, match="shape"):
        ResidualPrecision(3, se=np.ones(2))


def test_it_is_frozen_and_leaves_the_callers_array_alone():
    given = np.array([1.0, 2.0])
    precision = ResidualPrecision(2, weights=given)
    given[0] = 9.0
    np.testing.assert_array_equal(precision.of_each_row, [1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        precision.weights[0] = 3.0


def test_nobody_else_reads_weights_or_se():
    """Only taking rows of a Design names its columns; their meaning is asked of ``design.precision``."""
    allowed = {"inference/scores/rows.py", "inference/assumptions/deletion_refits.py"}
    root = Path(hiermod.__file__).parent
    readers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"\bdesign\.(se|weights)\b", path.read_text(encoding="utf-8"))
    }
    assert readers == allowed
