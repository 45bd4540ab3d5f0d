"""Modes, covariances and joint variances of (beta, b) against the same with dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import CASES, dense_parts, frame, points, rows_to_tail  # noqa: F401 (a fixture)

from hiermod.engines.likelihood.mixed import problem_of
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.kernel import conditional
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.criterion import build_problem

CHOSEN = [case for case in CASES if case != "no fixed part"]


def dense_law(design: Design, lambdas) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """beta, b, covariance of b given beta, joint covariance of (beta, b), all over sigma^2 (Robinson 1991)."""
    y, X, Z, G, noise = dense_parts(design, lambdas)
    V_inverse = np.linalg.inv(Z @ G @ Z.T + np.diag(noise))
    C = np.linalg.inv(X.T @ V_inverse @ X)
    beta = C @ X.T @ V_inverse @ y
    b = G @ Z.T @ V_inverse @ (y - X @ beta)
    given_beta = G - G @ Z.T @ V_inverse @ Z @ G
    A = -G @ Z.T @ V_inverse @ X
    return beta, b, given_beta, np.block([[C, C @ A.T], [A @ C, A @ C @ A.T + given_beta]])


def level_blocks(design: Design, covariance: np.ndarray) -> list[np.ndarray]:
    """The (J, k, k) diagonal blocks of each block of terms."""
    found, start = [], 0
    for block in design.blocks:
        J, k = len(block.levels), block.size
        here = covariance[start : start + J * k, start : start + J * k].reshape(J, k, J, k)
        found.append(here[np.arange(J), :, np.arange(J)])
        start += J * k
    return found


@pytest.mark.parametrize("case", CHOSEN)
def test_conditional_law(case, rows_to_tail):  # noqa: F811
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    problem = problem_of(design)
    for x in points(problem):
        lambdas = problem.lambdas(problem.theta_from_x(x))
        beta, b, given_beta, joint = dense_law(design, lambdas)
        factor = problem.factorise_x(x)
        my_beta, modes = conditional.coefficients(problem, factor)
        p = len(beta)
        # identities; 1e-9 leaves room for the dense inverse of a covariance with condition number of about 1e6
        assert my_beta == pytest.approx(beta, rel=1e-9)
        assert np.concatenate([m.ravel() for m in modes]) == pytest.approx(b, abs=1e-9 * (1 + np.abs(b).max()))
        assert conditional.fixed_covariance(problem, factor) == pytest.approx(joint[:p, :p], rel=1e-9)
        for with_fixed, expected in ((False, given_beta), (True, joint[p:, p:])):
            mine = conditional.covariance_blocks(problem, factor, with_fixed)
            for block, dense in zip(mine, level_blocks(design, expected), strict=True):
                assert block == pytest.approx(dense, abs=1e-9 * (1 + np.abs(dense).max()))


@pytest.mark.parametrize("case", CHOSEN)
def test_joint_variance(case, rows_to_tail, monkeypatch):  # noqa: F811
    """Any rows: unseen levels, a pupil in another school than his own, another level for each block of one factor."""
    monkeypatch.setattr(conditional, "CHUNK", 200)  # several pieces
    formula, options = CASES[case]
    design = build_design(formula, frame(), **options)
    problem = problem_of(design)
    x = points(problem)[0]
    _, _, _, joint = dense_law(design, problem.lambdas(problem.theta_from_x(x)))
    rng = np.random.default_rng(8)
    m = 40
    X = rng.normal(size=(m, problem.p))
    rows = [(rng.integers(-1, len(b.levels), m), rng.normal(size=(m, b.size))) for b in design.blocks]
    Z = []
    for block, (codes, values) in zip(design.blocks, rows, strict=True):
        z = np.zeros((m, len(block.levels), block.size))
        z[np.arange(m), codes] = np.where(codes[:, None] >= 0, values, 0.0)
        Z.append(z.reshape(m, -1))
    full = np.hstack([X, *Z])
    factor = problem.factorise_x(x)
    expected = np.einsum("im,mn,in->i", full, joint, full)
    assert conditional.joint_variance(problem, factor, X, rows) == pytest.approx(expected, rel=1e-8)
    nowhere = [(np.full(m, -1), values) for _, values in rows]
    only_beta = np.einsum("im,mn,in->i", X, conditional.fixed_covariance(problem, factor), X)
    assert conditional.joint_variance(problem, factor, X, nowhere) == pytest.approx(only_beta, rel=1e-10)


def test_levels_without_rows_keep_their_prior():
    """A level that no row uses has mode 0 and the covariance Lambda Lambda'."""
    rng = np.random.default_rng(1)
    one = np.ones((40, 1))
    outer, inner = np.arange(40) % 4, np.arange(40) % 8
    terms = [GroupTerm("o", "1 | o", outer, 5, one), GroupTerm("i", "1 | i", inner, 10, one)]
    problem = build_problem(rng.normal(size=40), one, terms)
    factor = problem.factorise(np.array([0.5, 0.7]))  # i has more levels, so its theta comes first
    _, modes = conditional.coefficients(problem, factor)
    blocks = conditional.covariance_blocks(problem, factor)
    assert modes[0][4] == 0.0
    assert modes[1][8:] == pytest.approx(0.0)
    assert blocks[0][4, 0, 0] == pytest.approx(0.49)
    assert blocks[1][9, 0, 0] == pytest.approx(0.25)
