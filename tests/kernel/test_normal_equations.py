"""Sums over parts of the rows: any order and grouping of chunks gives the criterion of all rows at once."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from hiermod.engines.likelihood.mixed import problem_of
from hiermod.errors import ArgumentError, DataError, DesignError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.kernel import conditional
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.criterion import build_problem
from hiermod.kernel.normal_equations import NormalEquations, Survey
from hiermod.kernel.sparse_rows import SparseRows
from tests.kernel_cases import CASES, frame, points, rows_to_tail  # noqa: F401


def part(design: Design, rows: np.ndarray) -> tuple:
    """The arguments of ``accumulate`` for some rows of a design; levels keep their numbers."""
    terms = [GroupTerm(b.factor, b.text, b.codes[rows], len(b.levels), b.values[rows]) for b in design.blocks]
    offset = None if design.offset is None else design.offset[rows]
    return design.y[rows], design.X[rows][:, design.estimable], terms, design.precision.take(rows), offset


def chunks(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All rows, each once, in parts of 0 to 60 rows."""
    order = rng.permutation(n)
    ends = np.sort(np.concatenate([[0, 1, 1], rng.integers(1, n, 5)]))  # one part of one row, at least one of none
    return np.split(order, ends)


def grouped(parts: list, rng: np.random.Generator):
    """Merged in a random order and grouping: two of them at a time until one is left."""
    left = list(parts)
    while len(left) > 1:
        i, j = rng.choice(len(left), 2, replace=False)
        both = left[i].merge(left[j])
        left = [one for at, one in enumerate(left) if at not in (i, j)] + [both]
    return left[0]


def in_parts(design: Design, seed: int) -> NormalEquations:
    rng = np.random.default_rng(seed)
    parts = [part(design, rows) for rows in chunks(design.nobs, rng)]
    empty = Survey.empty(int(design.estimable.sum()), parts[0][2])
    equations = grouped([empty.accumulate(*one) for one in parts], rng).equations()
    return grouped([equations.accumulate(*one) for one in parts], rng)


@pytest.mark.parametrize("case", CASES)
def test_chunks_in_any_order_and_grouping_give_the_criterion_of_all_rows(case, rows_to_tail):  # noqa: F811
    """To 1e-10 of the criterion, which is of order 1e2 to 1e3; beta and modes to 1e-8: 150 rows, well conditioned."""
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    whole = problem_of(design)
    for seed in range(3):
        problem = in_parts(design, seed).problem()
        assert (problem.n, problem.p, problem.sigma_known) == (whole.n, whole.p, whole.sigma_known)
        assert (problem.template.sizes, problem.template.order) == (whole.template.sizes, whole.template.order)
        np.testing.assert_allclose(problem.R.T @ problem.R, whole.R.T @ whole.R, rtol=1e-10)
        np.testing.assert_allclose(problem.R.T @ problem.gamma_ols, whole.R.T @ whole.gamma_ols, rtol=1e-10)
        for C, D in zip(problem.whiteners, whole.whiteners, strict=True):
            np.testing.assert_allclose(C, D, rtol=1e-9, atol=1e-12)
        assert [f.blocks for f in problem.factors] == [f.blocks for f in whole.factors]
        assert [type(one.tail) for one in problem.cross.chain] == [type(one.tail) for one in whole.cross.chain]
        for theta in points(whole):
            for reml in (True, False):
                value, slope = problem.criterion_and_gradient(theta, reml)
                expected, expected_slope = whole.criterion_and_gradient(theta, reml)
                assert value == pytest.approx(expected, rel=1e-10)
                np.testing.assert_allclose(slope, expected_slope, rtol=1e-7, atol=1e-7 * np.abs(expected_slope).max())
            mine = conditional.coefficients(problem, problem.factorise(theta))
            theirs = conditional.coefficients(whole, whole.factorise(theta))
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-8, atol=1e-8)
            for b, c in zip(mine[1], theirs[1], strict=True):
                np.testing.assert_allclose(b, c, rtol=1e-8, atol=1e-8)


def test_the_sparse_case_is_sparse(rows_to_tail):  # noqa: F811
    """Else the test above would try dense rows twice."""
    design = build_design("y ~ x + (1 | a) + (1 | b)", frame())
    tail = in_parts(design, 0).problem().cross.chain[0].tail
    assert isinstance(tail, SparseRows) == (rows_to_tail == "sparse rows")


def test_levels_that_nest_in_every_chunk_but_not_in_all_rows_are_crossed():
    data = frame()
    data["c"] = np.arange(len(data)) % 5
    data["d"] = (np.arange(len(data)) % 5 + np.arange(len(data)) // 75) % 5  # c within d in each half, not in both
    design = build_design("y ~ x + (1 | c) + (1 | d)", data.astype({"c": "category", "d": "category"}))
    halves = [part(design, np.arange(75)), part(design, np.arange(75, 150))]
    empty = Survey.empty(2, halves[0][2])
    surveys = [empty.accumulate(*half) for half in halves]
    assert [len(one.equations().nesting.chain) for one in surveys] == [2, 2]
    together = surveys[0].merge(surveys[1]).equations()
    assert len(together.nesting.chain) == 1
    problem = reduce(lambda sums, half: sums.accumulate(*half), halves, together).problem()
    theta = np.array([0.7, 1.3])
    assert problem.criterion(theta, True) == pytest.approx(problem_of(design).criterion(theta, True), rel=1e-10)
    assert together.accumulate(*halves[0]).accumulate(*halves[1]).factor(theta).pwrss == pytest.approx(
        problem_of(design).factorise(theta).pwrss, rel=1e-10
    )


def test_badly_scaled_columns_keep_their_digits():
    """A year beside its square and a response around 1e7: raw products would lose 12 of 16 digits."""
    data = frame()
    data["year"] = 2000.0 + np.arange(len(data)) % 20
    data["y"] += 1e7
    design = build_design("y ~ year + I(year**2) + (year | a)", data)
    theta = np.array([0.8, -0.3, 0.5])
    value = in_parts(design, 1).problem().criterion(theta, True)
    # 1e-8: Q = X R^-1 is as far from orthonormal as R is ill conditioned; 4e-10 was seen
    assert value == pytest.approx(problem_of(design).criterion(theta, True), rel=1e-8)


def test_what_cannot_be_summed_is_refused():
    design = build_design("y ~ x + (x | a)", frame())
    rows = np.arange(design.nobs)
    first, second = part(design, rows[:70]), part(design, rows[70:])
    empty = Survey.empty(2, first[2])
    survey = empty.accumulate(*first).accumulate(*second)
    equations = survey.equations()
    with pytest.raises(DataError, match=r"first pass saw 150 rows and the second 70"):
        equations.accumulate(*first).problem()
    with pytest.raises(DataError, match="the second 0"):
        equations.problem()
    with pytest.raises(ArgumentError, match="one survey of all rows"):
        equations.accumulate(*first).merge(empty.accumulate(*second).equations().accumulate(*second))
    known = (*second[:3], build_design("y ~ x + (x | a)", frame(), se="w").precision.take(rows[70:]))
    with pytest.raises(ArgumentError, match="known residual sds"):
        empty.accumulate(*first).accumulate(*known)
    zero = (first[0], first[1] * [1.0, 0.0], *first[2:])
    with pytest.raises(DesignError, match="zero in every row"):
        empty.accumulate(*zero).equations()
    twice = (first[0], first[1][:, [1, 1]], *first[2:])
    with pytest.raises(DesignError, match="explain exactly"):
        empty.accumulate(*twice).equations()
    flat = [replace(term, values=term.values[:, [0, 0]]) for term in first[2]]
    with pytest.raises(DesignError, match="columns left of the bar explain each other"):
        empty.accumulate(first[0], first[1], flat).equations()


def test_two_hundred_common_columns_and_one_grouping_factor():
    """The tail is long because of X alone: there is no factor whose rows could be sparse."""
    rng = np.random.default_rng(8)
    n, p = 700, 205
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = rng.normal(size=n)
    codes = rng.integers(0, 9, n)
    problem = build_problem(y, X, [GroupTerm("g", "1 | g", codes, 9, np.ones((n, 1)))])
    V = np.eye(n) + 0.49 * (codes[:, None] == codes)
    A = X.T @ np.linalg.solve(V, X)
    r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    m = n - p
    rss = r @ np.linalg.solve(V, r)
    expected = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + m * (1 + np.log(2 * np.pi * rss / m))
    assert problem.criterion(np.array([0.7]), True) == pytest.approx(expected, rel=1e-10)
