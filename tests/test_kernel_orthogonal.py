"""Elimination of the rows by orthogonal transformations against that of the cross-products, and where it is better."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import CASES, frame, points

from hiermod.formula.build import build_design
from hiermod.frequentist.mixed import problem_of
from hiermod.kernel import orthogonal
from hiermod.kernel.conditional import coefficients, fixed_covariance, modes_by_block
from hiermod.kernel.conditioning import Conditioned, GroupTerm, condition
from hiermod.kernel.criterion import Problem
from hiermod.kernel.orthogonal import eliminate_rows


def rows_and_problem(case: str) -> tuple[Conditioned, Problem]:
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    precision = design.weights if design.se is None else 1.0 / design.se**2
    return condition(design.y, design.X, terms, precision, design.offset), problem_of(design)


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
