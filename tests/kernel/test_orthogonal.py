"""Elimination of the rows by orthogonal transformations against that of the cross-products, and where it is better."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kernel_cases import CASES, frame, points

from hiermod.engines.likelihood.mixed import problem_of
from hiermod.formula.build import build_design
from hiermod.kernel import orthogonal
from hiermod.kernel.batch import factorise_batch, prepare
from hiermod.kernel.conditional import coefficients, fixed_covariance, modes_by_block
from hiermod.kernel.conditioning import Conditioned, GroupTerm, condition
from hiermod.kernel.covariance import triangle
from hiermod.kernel.criterion import Problem
from hiermod.kernel.draws import spread_of
from hiermod.kernel.orthogonal import eliminate_rows
from hiermod.kernel.weighted_solve import solve


def rows_and_problem(case: str) -> tuple[Conditioned, Problem]:
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    return condition(design.y, design.X, terms, design.precision, design.offset), problem_of(design)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_same_factor(case: str) -> None:
    rows, problem = rows_and_problem(case)
    for x in points(problem):
        factor, found = problem.factorise_x(x), eliminate_rows(rows, problem.factor_lambdas(x))
        assert factor is not None
        assert found is not None
        for reml in (True, False):
            assert problem.value(found, reml) == pytest.approx(problem.value(factor, reml), rel=1e-10)
        assert found.pwrss == pytest.approx(factor.pwrss, rel=1e-10)
        beta, modes = coefficients(problem, factor)
        scale = np.abs(beta).max(initial=1.0)
        gamma = rows.gamma_ols + found.gamma
        assert np.linalg.solve(rows.R, gamma) == pytest.approx(beta, abs=1e-9 * scale)
        lambdas = problem.factor_lambdas(x)
        mine = modes_by_block(problem, [u @ Lam.T for u, Lam in zip(found.u, lambdas, strict=True)])
        for b, expected in zip(mine, modes, strict=True):
            assert b == pytest.approx(expected, abs=1e-9)
        root = np.linalg.inv(found.R @ rows.R) if problem.p else np.zeros((0, 0))
        assert root @ root.T == pytest.approx(fixed_covariance(problem, factor), abs=1e-10)


def test_a_closed_form_far_out() -> None:
    """One row per group but for two of them, theta 1e7: pwrss is half the squared difference within the pair, plus the
    penalty, which is (2 theta^2)^-1 of the groups' own squares.  1e-9: eps theta."""
    y = np.array([1e3, -2e3, 5e2, 1.0, 1.5])
    codes = np.array([0, 1, 2, 3, 3])
    term = GroupTerm("g", "1 | g", codes, 4, np.ones((5, 1)))
    theta = 1e7
    rows = condition(y, np.zeros((5, 0)), [term])
    found = eliminate_rows(rows, [np.array([[theta]])])
    assert found is not None
    exact = 0.5**2 / 2 + (y[:3] ** 2 / (1 + theta**2)).sum() + 2 * 1.25**2 / (1 + 2 * theta**2)
    assert found.pwrss == pytest.approx(exact, rel=1e-9)
    assert found.logdet_random == pytest.approx(3 * np.log1p(theta**2) + np.log1p(2 * theta**2), rel=1e-14)


def test_rows_that_would_not_fit_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, problem = rows_and_problem("crossed")
    monkeypatch.setattr(orthogonal, "LARGEST", 100)
    assert eliminate_rows(rows, problem.factor_lambdas(points(problem)[0])) is None


def far_points(problem: Problem) -> list[np.ndarray]:
    """Lambdas whose columns are long and nearly parallel: a slope of 2,500 residual sds, an intercept of one half."""
    x = problem.template.diagonal() * 0.5
    for k, part in zip(problem.template.sizes, problem.template.slices, strict=True):
        Lam = np.diag(np.full(k, 0.5))
        Lam[-1] = 2500.0 / np.arange(1, k + 1)
        x[part] = Lam[triangle(k)]
    return [x, x[:] * np.where(problem.template.diagonal(), 1.0, -2.0)]


SLOPES = ["two correlated", "three correlated", "same factor, split", "chain of three", "crossed slopes"]


@pytest.mark.parametrize("case", [*SLOPES, "nested and crossed", "weights", "known se"])
def test_nearly_parallel_columns_of_a_large_lambda_cost_no_digits(case: str) -> None:
    """Room: what ``Problem.rounding`` foresees of y'y, 1e-5 for the rest; as it stands it costs 0.0005 to 0.05."""
    rows, problem = rows_and_problem(case)
    for x in far_points(problem):
        found = eliminate_rows(rows, problem.factor_lambdas(x))
        factor = problem.factorise_x(x)
        assert found is not None
        assert factor is not None
        for reml in (True, False):
            room = 10.0 * problem.rounding(found.pwrss, reml) + 1e-5
            assert problem.value(factor, reml) == pytest.approx(problem.value(found, reml), abs=room)


@pytest.mark.parametrize("case", SLOPES)
def test_the_gradient_at_a_large_lambda(case: str) -> None:
    """In units of each element, against differences of the elimination of the rows: 1e-4 for their rounding."""
    rows, problem = rows_and_problem(case)
    for x in far_points(problem):
        gradient = problem.criterion_and_gradient_x(x, True)[1]
        for element in range(len(x)):
            step = np.zeros(len(x))
            step[element] = 1e-3 * max(abs(x[element]), 0.5)
            ends = [eliminate_rows(rows, problem.factor_lambdas(x + sign * step)) for sign in (1, -1)]
            values = [problem.value(end, True) for end in ends if end is not None]
            size = step[element] * 1e3
            slope = (values[0] - values[1]) / 2e-3
            assert gradient[element] * size == pytest.approx(slope, abs=1e-4 * (1.0 + abs(slope)))


@pytest.mark.parametrize("case", SLOPES)
def test_a_batch_of_large_lambdas_and_a_solve_know_the_same(case: str) -> None:
    _, problem = rows_and_problem(case)
    batch, x = prepare(problem.cross), np.array(far_points(problem))
    assert batch is not None
    many = factorise_batch(batch, problem.stacked_lambdas(x), np.zeros((len(x), problem.p + 1, problem.p + 1)))
    assert many.ok.all()
    for level in many.levels:
        spread = spread_of(level.Lam, level.M)
        assert spread @ np.swapaxes(spread, 2, 3) == pytest.approx(level.Q, abs=1e-12 * np.abs(level.Q).max())
    for s, one in enumerate(x):
        factor = problem.factorise_x(one)
        assert factor is not None
        assert many.logdet_random[s] == pytest.approx(factor.logdet_random, rel=1e-12)
        assert many.pwrss[s] == pytest.approx(factor.pwrss, rel=1e-7)
        rng = np.random.default_rng(s)
        right = [rng.normal(size=(layout.n_levels, layout.size)) for layout in problem.factors]
        solved = solve(factor, right)
        for u, b, Lam in zip(solved.u, solved.b, problem.factor_lambdas(one), strict=True):
            assert u @ Lam.T == pytest.approx(b, abs=1e-9 * np.abs(b).max())


@pytest.mark.parametrize("columns", [2, 4])
def test_levels_without_rows_of_a_column_keep_their_digits(columns: int) -> None:
    """Where a level has no row of a column that effect is as wide as Lambda.  Q by way of M^-1 cost 23 units here."""
    rng = np.random.default_rng(5)
    g, f = np.repeat(np.arange(40), columns), np.tile(np.arange(columns), 40)
    kept = rng.random(len(g)) > 0.3
    data = pd.DataFrame({"g": g, "f": f.astype(str), "x": rng.normal(size=len(g)), "y": rng.normal(size=len(g))})[kept]
    design = build_design("y ~ x + (0 + f | g)", data)
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    rows, problem = condition(design.y, design.X, terms, design.precision, design.offset), problem_of(design)
    for size in (1e3, 1e4):
        Lam = size * np.linalg.cholesky(0.7 ** np.abs(np.subtract.outer(range(columns), range(columns))))
        x = problem.template.pack([Lam])
        found, factor = eliminate_rows(rows, [Lam]), problem.factorise_x(x)
        assert found is not None
        assert factor is not None
        assert problem.value(factor, True) == pytest.approx(problem.value(found, True), abs=1e-4)
