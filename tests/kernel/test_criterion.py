"""The criterion against densities written out with dense matrices, and its gradient against differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kernel_cases import CASES, dense_parts, frame, points, rows_to_tail  # noqa: F401 (a fixture)
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.engines.likelihood.mixed import problem_of
from hiermod.errors import DesignError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.sparse_rows import SparseRows, SparseSums, sparse_rows
from hiermod.kernel.start import curvature_guess, start_x

pytestmark = pytest.mark.numeric


def dense_criterion(design: Design, lambdas, reml: bool) -> float:
    """-2 log density: of y at the best beta and sigma (ML), or of the contrasts K'y with K'X = 0 (REML, then the usual
    Jacobian log|X'X|, see Patterson and Thompson 1971)."""
    y, X, Z, G, noise = dense_parts(design, lambdas)
    V = Z @ G @ Z.T + np.diag(noise)
    if reml:
        K = null_space(X.T) if X.shape[1] else np.eye(len(y))
        y, V, extra = K.T @ y, K.T @ V @ K, np.linalg.slogdet(X.T @ X)[1]
        mean = np.zeros(len(y))
    else:
        mean = X @ np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
        extra = 0.0
    s2 = 1.0 if design.se is not None else (y - mean) @ np.linalg.solve(V, y - mean) / len(y)
    return -2 * multivariate_normal(mean, s2 * V).logpdf(y) + extra


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reml", [True, False])
def test_criterion_is_the_density(case, reml, rows_to_tail):  # noqa: F811
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    problem = problem_of(design)
    for x in points(problem):
        theta = problem.theta_from_x(x)
        expected = dense_criterion(design, problem.lambdas(theta), reml)
        assert problem.criterion(theta, reml) == pytest.approx(expected, rel=1e-10)  # an identity, up to rounding


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reml", [True, False])
def test_gradient_is_the_slope(case, reml, rows_to_tail):  # noqa: F811
    formula, options = CASES[case]
    problem = problem_of(build_design(formula, frame(), **options))
    for x in points(problem):
        value, gradient = problem.criterion_and_gradient_x(x, reml)
        assert value == pytest.approx(problem.criterion_x(x, reml), rel=1e-13)
        steps = 1e-4 * np.eye(len(x))
        slopes = [(problem.criterion_x(x + e, reml) - problem.criterion_x(x - e, reml)) / 2e-4 for e in steps]
        # central differences: truncation 1e-8 of the third derivative, rounding 1e-13 / 1e-4 of a criterion of 1e3
        assert gradient == pytest.approx(np.array(slopes), abs=1e-6 * (1 + np.abs(gradient).max()))


def test_gradient_in_theta():
    """The chain rule through the whitening."""
    problem = problem_of(build_design("y ~ x + (x + z | a) + (1 | b)", frame()))
    theta = problem.theta_from_x(points(problem)[0])
    _, gradient = problem.criterion_and_gradient(theta, True)
    steps = 1e-5 * np.eye(len(theta))
    slopes = [(problem.criterion(theta + e, True) - problem.criterion(theta - e, True)) / 2e-5 for e in steps]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-5, abs=1e-5)


def test_signs_of_columns_do_not_matter():
    problem = problem_of(build_design("y ~ x + (x | a)", frame()))
    a, b, c = 0.7, -0.3, 0.4
    assert problem.criterion(np.array([-a, -b, -c]), True) == pytest.approx(
        problem.criterion(np.array([a, b, c]), True), rel=1e-14
    )


def test_nested_factors_are_never_dense():
    problem = problem_of(build_design("y ~ x + (1 | site) + (1 | batch) + (1 | cask)", frame()))
    assert len(problem.cross.chain) == 3
    assert problem.cross.tail.shape == (3, 3)  # two columns of X and y


def test_many_crossed_levels_are_kept_sparse():
    rng = np.random.default_rng(0)
    n = 4000
    data = pd.DataFrame({"y": rng.normal(size=n), "a": rng.integers(0, 900, n), "b": rng.integers(0, 400, n)})
    problem = problem_of(build_design("y ~ 1 + (1 | a) + (1 | b)", data.astype({"a": "category", "b": "category"})))
    tail = problem.cross.chain[0].tail
    assert isinstance(tail, SparseRows)
    _, gradient = problem.criterion_and_gradient_x(np.array([0.5, 0.8]), True)
    steps = 1e-4 * np.eye(2)
    x = np.array([0.5, 0.8])
    slopes = [(problem.criterion_x(x + e, True) - problem.criterion_x(x - e, True)) / 2e-4 for e in steps]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-6)


def test_start_and_curvature_are_of_the_right_size():
    """A start within a factor of three of the truth; curvature within a factor of ten of the differences."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(200), 5)
    data = pd.DataFrame({"g": pd.Categorical(g), "y": rng.normal(size=200)[g] + rng.normal(size=1000)})
    problem = problem_of(build_design("y ~ 1 + (1 | g)", data))
    x = start_x(problem)
    assert 1 / 3 < x[0] < 3
    change = problem.criterion_and_gradient_x(x + 1e-4, True)[1] - problem.criterion_and_gradient_x(x - 1e-4, True)[1]
    assert 0.1 < curvature_guess(problem, x)[0] / (change[0] / 2e-4) < 10


def test_whitening_makes_columns_orthonormal():
    rng = np.random.default_rng(4)
    raw = np.column_stack([np.ones(60), rng.normal(1e6, 1.0, 60), rng.normal(size=60) * 1e-5])
    precision = ResidualPrecision(60, weights=rng.uniform(0.5, 2, 60))
    term = GroupTerm("g", "x + z | g", np.arange(60) % 6, 6, raw)
    whitened = condition(rng.normal(size=60), np.ones((60, 1)), [term], precision).terms[0]
    # the second column is 1e6 times closer to the first than to its own spread: 1e-16 * 1e6, with room
    assert whitened.values.T @ whitened.values / 60 == pytest.approx(np.eye(3), abs=1e-8)
    assert np.triu(whitened.whitener, 1) == pytest.approx(np.zeros((3, 3)))


def test_columns_that_explain_each_other_are_refused():
    x = np.linspace(0, 1, 20)
    codes = np.arange(20) % 4
    with pytest.raises(DesignError, match=r"\(x \+ 2x \| g\).*explain each other"):
        condition(x, np.ones((20, 1)), [GroupTerm("g", "x + 2x | g", codes, 4, np.column_stack([x, 2 * x]))])
    with pytest.raises(DesignError, match=r"\(zero \| g\).*zero in every row"):
        condition(x, np.ones((20, 1)), [GroupTerm("g", "zero | g", codes, 4, np.zeros((20, 1)))])


@pytest.mark.parametrize("K", [1, 2, 3])
def test_sparse_rows_multiply_as_dense_ones(K):
    """Both products over the list of pairs against plain matrices: products are kept for K of 1 and 2, not for 3."""
    rng = np.random.default_rng(K)
    J, m = 5, 6
    R = rng.normal(size=(J, K, m)) * (rng.random((J, 1, m)) < 0.5)
    R[2] = 0.0  # a level without entries
    level, column = np.nonzero(R.any(axis=1))
    rows = sparse_rows(SparseSums((J, K, m), level, column, R[level, :, column]))
    Q, P = rng.normal(size=(J, K, K)), rng.normal(size=(m, m))
    Q, P = Q + np.swapaxes(Q, 1, 2), P + P.T
    np.testing.assert_allclose(rows.gram(Q), np.tril(np.einsum("jam,jab,jbn->mn", R, Q, R)), atol=1e-12)
    np.testing.assert_allclose(rows.sandwich(P), np.einsum("jam,mn,jbn->jab", R, P, R), atol=1e-12)
    assert (rows.products is None) == (K == 3)
