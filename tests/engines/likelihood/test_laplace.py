"""The Laplace criterion and the quadrature: brute force, gradients by differences, R's values."""

from __future__ import annotations

import numpy as np
import pytest
from glmm_cases import RESPONSES, STRUCTURES, criterion_of, dense, differences
from kernel_cases import rows_to_tail  # noqa: F401
from scipy import integrate, optimize

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.build import build_design

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def point(criterion, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    problem = criterion.rows.problem
    return rng.normal(0, 0.6, problem.template.n_theta), rng.normal(0, 2.0, problem.p)


@pytest.mark.parametrize("structure", ["one factor", "slopes, crossed, offset", "chain of three"])
@pytest.mark.parametrize("response", RESPONSES)
def test_criterion_against_dense_minimisation(response, structure):
    """h minimised by scipy over all of u, then a dense determinant.  1e-7: what BFGS leaves of the mode, squared."""
    _, criterion = criterion_of(response, STRUCTURES[structure])
    x, gamma = point(criterion, 5)
    Z, Lam = dense(criterion.rows, x)
    base = criterion.offset + criterion.rows.Q @ gamma
    likelihood = criterion.likelihood

    def h(u):
        eta = base + Z @ Lam @ u
        gradient = -2 * Lam.T @ Z.T @ likelihood.score(eta) + 2 * u
        return -2 * likelihood.loglik(eta) + u @ u, gradient

    found = optimize.minimize(h, np.zeros(Z.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-7})
    w = likelihood.derivatives(base + Z @ Lam @ found.x).expected
    M = Lam.T @ (Z.T * w) @ Z @ Lam + np.eye(len(found.x))
    assert criterion(x, gamma).value == pytest.approx(found.fun + np.linalg.slogdet(M)[1], abs=1e-7)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("response", ["binomial probit", "poisson log"])  # with and without a canonical link
def test_gradient_against_differences(response, structure):
    """Over (theta, beta), and over theta alone with beta at the joint mode.  1e-7: see ``differences``."""
    check_gradient(response, structure)


@pytest.mark.parametrize("response", ["binomial logit", "bernoulli cloglog"])
def test_gradient_with_sparse_rows(response, rows_to_tail):  # noqa: F811
    check_gradient(response, "slopes, crossed, offset")


def check_gradient(response: str, structure: str) -> None:
    _, criterion = criterion_of(response, STRUCTURES[structure])
    x, gamma = point(criterion, 6)
    m = len(x)
    found = criterion(x, gamma)
    exact = differences(lambda z: criterion(z[:m], z[m:]).value, np.concatenate([x, gamma]))
    assert np.concatenate([found.x, found.gamma]) == pytest.approx(exact, abs=1e-7 * np.abs(exact).max())
    joint = differences(lambda z: criterion(z, None).value, x)
    assert criterion(x, None).x == pytest.approx(joint, abs=1e-7 * np.abs(joint).max())


@pytest.mark.parametrize("nodes", [2, 7, 20])
@pytest.mark.parametrize("response", RESPONSES)
def test_quadrature_gradient(response, nodes):
    _, criterion = criterion_of(response, STRUCTURES["one factor"], nodes)
    x, gamma = point(criterion, 7)
    found = criterion(x, gamma)
    exact = differences(lambda z: criterion(z[:1], z[1:]).value, np.concatenate([x, gamma]))
    assert np.concatenate([found.x, found.gamma]) == pytest.approx(exact, abs=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("response", RESPONSES)
def test_quadrature_against_numerical_integration(response):
    """Each level's integral by scipy.integrate.quad (1e-12) against 40 nodes; fewer nodes come less near."""
    design, criterion = criterion_of(response, STRUCTURES["one factor"], 40)
    x, gamma = np.array([0.8]), np.array([1.0, 4.0])
    Z, Lam = dense(criterion.rows, x)
    base, likelihood = criterion.offset + criterion.rows.Q @ gamma, criterion.likelihood
    codes, total = design.blocks[0].codes, likelihood.constant.sum()
    for j in range(Z.shape[1]):
        column, mine = (Z @ Lam)[:, j], codes == j

        def log_integrand(u, column=column, mine=mine):
            return likelihood.rows(base + column * u)[mine].sum() - 0.5 * u * u

        peak = optimize.minimize_scalar(lambda u: -log_integrand(u)).x
        top = log_integrand(peak)
        settings = {"epsabs": 0.0, "epsrel": 1e-12, "points": [peak], "limit": 200}
        area = integrate.quad(lambda u, f=log_integrand, t=top: np.exp(f(u) - t), peak - 9, peak + 9, **settings)[0]
        total += top + np.log(area) - 0.5 * np.log(2 * np.pi)
    assert criterion(x, gamma).value == pytest.approx(-2 * total, abs=1e-8)
    few, more = (criterion_of(response, STRUCTURES["one factor"], nodes)[1] for nodes in (3, 9))
    assert abs(few(x, gamma).value + 2 * total) > 10 * abs(more(x, gamma).value + 2 * total)


def test_one_node_is_laplace():
    from hiermod.engines.likelihood.quadrature import QuadratureCriterion

    _, laplace = criterion_of("binomial probit", STRUCTURES["one factor"])
    quadrature = QuadratureCriterion(laplace.rows, laplace.likelihood, laplace.offset, 1)
    x, gamma = point(laplace, 8)
    mode = laplace.mode(x, gamma)
    assert quadrature.value_of(mode) == pytest.approx(laplace.value_of(mode), rel=1e-13)
    assert quadrature(x, gamma).x == pytest.approx(laplace(x, gamma).x, rel=1e-10)


# R 4.2.2, lme4 1.1-31: glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial(link), nAGQ = n,
# bobyqa rhobeg 0.02, rhoend 1e-8, tolPwrss 1e-12): -2 logLik, theta, fixef, se.  For n > 1 lme4's logLik leaves out the
# saturated model's: 2 sum log dbinom(incidence, size, incidence / size) = -83.9567075...
CBPP_R = {
    ("probit", 1): (185.242446745556, 0.337991735533137, (-0.835477487211392, -0.52803378744717, -0.616886718896607,
        -0.799563183106098), (0.126236610050221, 0.160604238096754, 0.169476922206751, 0.204698545222998)),
    ("cloglog", 1): (183.604075834526, 0.586687311855767, (-1.52598072929211, -0.916320164491051, -1.03516200152378,
        -1.48363284566811), (0.210916243788502, 0.284890141180794, 0.306315747098476, 0.409047712285275)),
    ("logit", 9): (100.010036054798, 0.647517706486515, (-1.39923020184402, -0.991403895353055, -1.12781967364327,
        -1.5794710198648), (0.233511399940424, 0.30676793606744, 0.326768351919078, 0.427594432725394)),
    ("logit", 25): (100.01003053675, 0.647518483509802, (-1.39923046110408, -0.991403636681624, -1.12781946195647,
        -1.57947075204529), (0.23351156921386, 0.306767936120889, 0.326768318406105, 0.427594437313273)),
    ("probit", 25): (101.177881710259, 0.339648142309274, (-0.832014455295796, -0.526279013812326, -0.614781204965047,
        -0.797531758072189), (0.126174385814773, 0.160257012253293, 0.169148390975185, 0.204438423410373)),
}  # fmt: skip


@pytest.mark.parametrize(("link", "nodes"), CBPP_R)
def test_cbpp_against_glmer(link, nodes):
    """criterion 1e-6, estimates 1e-5 standard errors, se 1e-5: how near lme4's optimiser and its differences come."""
    criterion, theta, fixef, se = CBPP_R[link, nodes]
    fit = fit_generalised(build_design(CBPP, load_dataset("cbpp"), family="binomial"), "binomial", link, nodes)
    y, n = fit.likelihood.y, fit.likelihood.trials
    y, trials = fit.likelihood.y, fit.likelihood.trials
    best = fit.likelihood.record.likelihood.saturated(y, trials) + fit.likelihood.constant
    saturated = 0.0 if nodes == 1 else -2 * best.sum()
    assert (y <= n).all()
    assert fit.criterion == pytest.approx(criterion + saturated, abs=1e-6)
    assert fit.theta[0] == pytest.approx(theta, abs=1e-6)
    assert (np.abs(fit.beta - fixef) < 1e-5 * np.array(se)).all()
    assert np.sqrt(np.diag(fit.vcov_beta)) == pytest.approx(se, rel=1e-5)


def test_more_nodes_converge():
    design = build_design(CBPP, load_dataset("cbpp"), family="binomial")
    values = [fit_generalised(design, "binomial", "logit", nodes).criterion for nodes in (3, 9, 25, 49)]
    steps = np.abs(np.diff(values))
    assert (steps[1:] < 0.1 * steps[:-1]).all()
    assert steps[-1] < 1e-9


def test_nodes_that_cannot_be():
    design = build_design("one ~ x + (x | a)", _frame(), family="bernoulli")
    with pytest.raises(UnsupportedError, match="one group term with one effect"):
        fit_generalised(design, "bernoulli", "logit", 5)
    for nodes in (0, 128, 2.5, True):
        with pytest.raises(ArgumentError, match="nodes must be"):
            fit_generalised(design, "bernoulli", "logit", nodes)


def _frame():
    from glmm_cases import frame

    return frame()
