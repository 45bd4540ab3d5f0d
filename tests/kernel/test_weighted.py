"""Reweighted cross-products, solutions and row variances against dense algebra; likelihoods against differences."""

from __future__ import annotations

import numpy as np
import pytest
from glmm_cases import RESPONSES, STRUCTURES, dense, differences, frame, terms_of
from kernel_cases import rows_to_tail  # noqa: F401
from scipy import stats

from hiermod.engines.likelihood.likelihoods import Likelihood, likelihood_of
from hiermod.errors import DataError, UnsupportedError
from hiermod.formula.build import build_design
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.weighted import prepare
from hiermod.kernel.weighted_solve import row_variances, solve


@pytest.mark.parametrize("structure", STRUCTURES)
def test_reweighted_against_dense(structure, rows_to_tail):  # noqa: F811
    """Determinant, both solutions and every row's variance, in the dense and the sparse layout.  Identities: 1e-10."""
    rng = np.random.default_rng(1)
    design = build_design(f"y ~ {STRUCTURES[structure]}", frame())
    rows = prepare(design.X, terms_of(design))
    w = rng.uniform(0.1, 2.0, design.nobs)
    problem = rows.reweighted(w)
    if rows_to_tail == "sparse rows" and "crossed" in structure:
        assert isinstance(problem.cross.chain[0].tail, SparseRows)
    x = rng.normal(size=problem.template.n_theta)
    factor = problem.factorise_x(x)
    Z, Lam = dense(rows, x)
    M = Lam.T @ (Z.T * w) @ Z @ Lam + np.eye(Z.shape[1])
    assert factor.logdet_random == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-10)
    r = rng.normal(size=design.nobs)
    held = solve(factor, rows.project(r))
    u = np.linalg.solve(M, Lam.T @ Z.T @ r)
    assert np.concatenate([part.ravel() for part in held.u]) == pytest.approx(u, abs=1e-10)
    assert rows.combine(held.b) == pytest.approx(Z @ Lam @ u, abs=1e-10)
    V = np.hstack([Z @ Lam, rows.Q])
    system = (V.T * w) @ V
    system[: len(M), : len(M)] += np.eye(len(M))
    free = solve(factor, rows.project(r), rows.Q.T @ r)
    both = np.concatenate([*(part.ravel() for part in free.u), free.gamma])
    assert both == pytest.approx(np.linalg.solve(system, V.T @ r), abs=1e-10)
    ZL = Z @ Lam
    variances = np.einsum("ij,ji->i", ZL, np.linalg.solve(M, ZL.T))
    assert row_variances(factor, rows.factors) == pytest.approx(variances, abs=1e-10)


def test_row_variances_in_pieces(monkeypatch):
    """Levels taken a few at a time give the same numbers."""
    import hiermod.kernel.weighted_solve as module

    design = build_design(f"y ~ {STRUCTURES['nested and crossed']}", frame())
    rows = prepare(design.X, terms_of(design))
    factor = rows.reweighted(np.ones(design.nobs)).factorise_x(np.full(rows.problem.template.n_theta, 0.5))
    whole = row_variances(factor, rows.factors)
    monkeypatch.setattr(module, "CHUNK", 300)
    assert row_variances(factor, rows.factors) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("name", RESPONSES)
def test_derivatives_of_the_likelihood(name):
    """First and second derivative and the slope of the expected information, by differences: 1e-6 of their size."""
    left, family, link = RESPONSES[name]
    design = build_design(f"{left} ~ 1", frame(), family=family)
    likelihood = likelihood_of(design, family, link)
    eta, h = np.random.default_rng(2).normal(0, 1.5, design.nobs), 1e-5
    d = likelihood.derivatives(eta)
    score = (likelihood.rows(eta + h) - likelihood.rows(eta - h)) / (2 * h)
    assert d.score == pytest.approx(score, rel=1e-6, abs=1e-8)
    assert likelihood.score(np.stack([eta, eta], axis=1))[:, 1] == pytest.approx(d.score, rel=1e-12)
    up, down = likelihood.derivatives(eta + h), likelihood.derivatives(eta - h)
    assert d.observed == pytest.approx(-(up.score - down.score) / (2 * h), rel=1e-6, abs=1e-8)
    assert d.slope == pytest.approx((up.expected - down.expected) / (2 * h), rel=1e-6, abs=1e-8)
    assert likelihood.canonical == (link in ("logit", "log"))


@pytest.mark.parametrize("name", RESPONSES)
def test_likelihood_has_its_constants(name):
    """scipy.stats' mass functions; the expected information is the mean of the observed one."""
    left, family, link = RESPONSES[name]
    design = build_design(f"{left} ~ 1", frame(), family=family)
    likelihood = likelihood_of(design, family, link)
    eta = np.random.default_rng(3).normal(0, 1.0, design.nobs)
    mean, y, n = likelihood.mean(eta), likelihood.y, likelihood.trials
    exact = stats.poisson.logpmf(y, mean) if family == "poisson" else stats.binom.logpmf(y, n, mean)
    assert likelihood.loglik(eta) == pytest.approx(exact.sum(), rel=1e-12)
    if family == "bernoulli":
        one, zero = (
            Likelihood(family, link, np.full_like(y, value), n).derivatives(eta).observed for value in (1.0, 0.0)
        )
        assert mean * one + (1 - mean) * zero == pytest.approx(likelihood.derivatives(eta).expected, rel=1e-10)


@pytest.mark.parametrize("name", RESPONSES)
def test_likelihood_far_out(name):
    """Where a probability is 0 or 1 to machine precision nothing is nan, and the log likelihood goes on falling."""
    _, family, link = RESPONSES[name]
    y, n = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    likelihood = Likelihood(family, link, y, n)
    far = np.array([-30.0, -30.0]) if link != "cloglog" else np.array([-100.0, -100.0])
    d = likelihood.derivatives(far)
    assert all(np.isfinite(part).all() for part in (d.score, d.observed, d.expected, d.slope))
    assert np.isfinite(likelihood.loglik(far))
    assert likelihood.rows(far - 1)[1] < likelihood.rows(far)[1]
    assert differences(lambda e: likelihood.loglik(np.array([-3.0, e[0]])), far[1:], 1e-3) == pytest.approx(
        d.score[1:], rel=1e-5
    )


def test_responses_that_a_family_cannot_have():
    data = frame()
    with pytest.raises(DataError, match="needs counts"):
        likelihood_of(build_design("one ~ x", data, family="bernoulli"), "binomial", "logit")
    with pytest.raises(DataError, match="0 and 1"):
        likelihood_of(build_design("count ~ x", data, family="poisson"), "bernoulli", "logit")
    with pytest.raises(DataError, match="counts 0, 1, 2"):
        likelihood_of(build_design("y ~ x", data), "poisson", "log")
    with pytest.raises(UnsupportedError, match="no family 'gamma' with link 'inverse'"):
        likelihood_of(build_design("y ~ x", data), "gamma", "inverse")
    with pytest.raises(UnsupportedError, match="link 'identity'"):
        likelihood_of(build_design("count ~ x", data, family="poisson"), "poisson", "identity")
