"""log p(phi | y): against dense algebra with written-out priors, the REML criterion, and the PyMC graph."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from bayes_density import random_point
from conftest import REFERENCE, data_name
from kernel_cases import frame
from marginal_cases import (
    ALL,
    conditional,
    covariance,
    fixed_sigma,
    make,
    prior_of_beta,
    random_phis,
    read_phi,
    texts,
)
from scipy import stats
from scipy.linalg import cho_factor, cho_solve

from hiermod.covariance.vine import pairs
from hiermod.datasets import load_dataset
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.nuts.graph import build_bambi, unbuilt_bambi
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import UnsupportedError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.model import Model
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors


@pytest.mark.parametrize("centred", [True, False], ids=["centred", "not centred"])
@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("flat")])
def test_density_is_the_dense_one(name, centred):
    design, density = make(name, centred)
    mean, cov = prior_of_beta(design, centred)
    for phi in random_phis(density):
        factors, sigma, log_prior = read_phi(design, phi, fixed_sigma(name, design))
        y, V = covariance(design, factors, sigma)
        expected = log_prior + stats.multivariate_normal(design.X @ mean, V + design.X @ cov @ design.X.T).logpdf(y)
        # two exact ways through 150 x 150 matrices of condition up to about 1e5
        assert density.value(phi) == pytest.approx(expected, rel=1e-10, abs=1e-8)


@pytest.mark.parametrize("name", ["flat", "flat, weights", "flat, known se", "flat slope"])
def test_flat_priors_integrate_to_the_restricted_likelihood(name):
    """p(y | phi) with a flat beta, Harville (1974); for one flat slope among Normal priors, by dense algebra."""
    design, density = make(name, centred=False)
    flat = np.ones(len(design.common), dtype=bool)
    if name == "flat slope":
        flat = np.array(design.common) == "x"
    mean, cov = prior_of_beta(design, centred=False)
    mean, cov = np.where(flat, 0, mean), np.where(flat[:, None] | flat, 0, cov)
    X = design.X[:, flat]
    for phi in random_phis(density):
        factors, sigma, log_prior = read_phi(design, phi, fixed_sigma(name, design))
        y, V = covariance(design, factors, sigma)
        V = V + design.X @ cov @ design.X.T
        solve = cho_factor(V, lower=True)
        information = X.T @ cho_solve(solve, X)
        residual = y - design.X @ mean
        residual = residual - X @ np.linalg.solve(information, X.T @ cho_solve(solve, residual))
        logdets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        expected = -0.5 * (logdets + residual @ cho_solve(solve, residual) + (len(y) - flat.sum()) * np.log(2 * np.pi))
        assert density.value(phi) == pytest.approx(log_prior + expected, rel=1e-10, abs=1e-8)
        if name in ("flat", "flat, weights"):  # at the best sigma this is minus half the REML criterion
            problem = density.problem
            whitened = zip(problem.whiteners, density.lambdas(phi)[0], strict=True)
            x = problem.template.pack([np.linalg.solve(C, Lam) for C, Lam in whitened])
            factor = problem.factorise_x(x)
            best = phi.copy()
            best[-1] = 0.5 * np.log(factor.pwrss / (problem.n - problem.p))
            for where, _ in density.coordinates.parts():
                best[where] += best[-1] - phi[-1]
            value = density.value(best) - float(density.log_prior(best)[0])
            assert value == pytest.approx(-0.5 * problem.criterion_x(x, reml=True), abs=1e-8)


@pytest.mark.parametrize("name", list(ALL))
def test_gradient_is_that_of_differences(name):
    _, density = make(name, centred=True)
    for phi in random_phis(density, 2):
        value, gradient = density.value_and_gradient(phi)
        assert value == pytest.approx(density.value(phi), rel=1e-12)
        step = 1e-4
        for i, direction in enumerate(np.eye(len(phi)) * step):
            slope = (density.value(phi + direction) - density.value(phi - direction)) / (2 * step)
            # truncation 1e-8 f''' / 6; rounding of values of 1e3 to 1e-13 to 1e-12, divided by the step
            assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-6 * (1 + np.abs(gradient).max()))


@pytest.mark.parametrize("name", list(ALL))
def test_many_at_once_are_one_by_one(name):
    _, density = make(name, centred=True)
    assert density.batch is not None
    phis = random_phis(density, 7)
    phis[0] -= 8  # sds of 3e-4 and an sd far below the residuals
    one_by_one = np.array([density.value(phi) for phi in phis])
    np.testing.assert_allclose(density.values(phis), one_by_one, rtol=1e-9, atol=1e-8)


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["two correlated", "three correlated", "nested and crossed", "known se", "no groups"])
def test_wild_points_are_impossible_or_finite_and_silent(name):
    """Proposals come from heavy tails: log sds of +-1000 give a number or -inf, without a warning, either way."""
    _, density = make(name, centred=True)
    rng = np.random.default_rng(2)
    d = density.coordinates.d
    far = rng.choice([-1000.0, -400.0, -30.0, 0.0, 30.0, 400.0, 1000.0], size=(200, d))
    phis = np.concatenate([far, rng.uniform(-4.0, 4.0, size=(200, d))])
    together = density.values(phis)
    assert not np.isnan(together).any()
    assert (together < np.inf).all()
    alone = np.array([density.value(phi) for phi in phis])
    assert not np.isnan(alone).any()
    assert (alone < np.inf).all()
    for phi in phis:  # where a search can end up
        value, gradient = density.value_and_gradient(phi)
        assert value < np.inf
        assert np.isfinite(gradient).all()
    both = np.isfinite(together) & np.isfinite(alone)
    np.testing.assert_allclose(together[both], alone[both], rtol=1e-3)  # few digits are left there
    # Elimination loses the square of (group sds over sigma) of the digits.  Below 1e3 enough are left for both to see a
    # number; above, which of them still sees one, 1e5 and more below the mode, is rounding's choice.
    lambdas, _ = density.lambdas(phis.clip(-100.0, 100.0))
    squares = [np.square(Lam).sum(axis=(1, 2)) for Lam in density.by_factor(lambdas)]
    told = np.max([np.zeros(len(phis)), *squares], axis=0) < 1e6
    assert told[200:].mean() > 0.5
    assert np.isfinite(together[told]).tolist() == np.isfinite(alone[told]).tolist()
    assert together[np.isfinite(together) != np.isfinite(alone)].max(initial=-np.inf) < together.max() - 1e4
    assert np.isfinite(density.values(np.full((1, density.coordinates.d), -8.0))).all()


GRAPHS = [
    pytest.param("y ~ x + (x | a)", {}, True, marks=pytest.mark.stack),
    ("y ~ x + z + (x + z | a) + (1 | b)", {}, True),
    ("y ~ site + (0 + site | a)", {"weights": "w"}, False),
    pytest.param("y ~ x + (x || a) + (1 | site/batch)", {"se": "w"}, True, marks=pytest.mark.stack),
    ("y ~ x + cs(0 + site | a) + (x | b)", {}, True),
    pytest.param("y ~ x + ar1(0 + site | a)", {"weights": "w"}, True, marks=pytest.mark.stack),
    ("y ~ x + ar1(0 + site | a, hom=False) + cs(0 + site | b, hom=True)", {}, True),
    ("y ~ x + diag(0 + site | a, hom=True)", {"se": "w"}, False),
]


@pytest.mark.parametrize(("formula", "options", "centred"), GRAPHS)
def test_density_and_conditional_make_up_the_graphs_joint_density(formula, options, centred):
    """log p(phi, y) + log p(beta, b | phi, y) = the graph's, up to one constant, in the graph's coordinates: offsets z
    with b = diag(sd) L z, log sds, log odds of (1 + partial correlation) / 2 (which are 2 phi: a constant Jacobian)."""
    design = build_design(formula, frame(), **options)
    priors = texts(design, "")
    density = marginal_density(design, gaussian_priors(design, resolve_priors(priors, design), centred))
    model = build_bambi(design, priors=priors, center_predictors=centred)
    graph = model.backend.model
    with collected():
        logp = graph.compile_logp(mode="FAST_COMPILE")
    rng, gaps = np.random.default_rng(7), []
    for _ in range(5):
        point = random_point(graph, rng)
        phi, z = _phi_of(point, design)
        factors, sigma, _ = read_phi(design, phi, fixed_sigma("", design))
        b, log_jacobian = [], 0.0
        for factor, offsets in zip(factors, z, strict=True):
            b.append((offsets @ factor.T).ravel())
            log_jacobian += len(offsets) * np.log(np.diag(factor)).sum()
        beta = np.concatenate([np.atleast_1d(point[term]) for term in dict.fromkeys(design.common_terms)])
        if centred:
            slopes = np.array(design.common) != "Intercept"
            beta[~slopes] -= design.X[:, slopes].mean(axis=0) @ beta[slopes]
        center, precision = conditional(design, factors, sigma, centred)
        gap = np.concatenate([beta, *b]) - center
        log_conditional = 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * gap @ precision @ gap
        with collected():
            theirs = float(logp(point))
        gaps.append(density.value(phi) + log_conditional + log_jacobian - theirs)
    assert np.ptp(gaps) < 1e-6  # values of 1e3 to 1e5, condition numbers up to 1e5


def _phi_of(point: dict[str, np.ndarray], design: Design) -> tuple[np.ndarray, list[np.ndarray]]:
    """phi, and each block's offsets (J, k), from the graph's unconstrained values."""
    phi, offsets = [], []
    for block in design.blocks:
        log_sds, z, k = [], [], block.size
        for column in block.columns:
            siblings = [one.level for one in block.columns if one.variable == column.variable]
            at = siblings.index(column.level)
            if not block.hom:
                log_sds.append(np.atleast_1d(point[f"{column.variable}_sigma_log__"])[at])
            value = point[f"{column.variable}_offset"]
            z.append(value if column.level is None else value[:, at])
        phi += log_sds
        if block.hom:
            phi.append(float(point[f"{block.factor}_{block.bar}_common_offset_log__"]))
        if not block.structure.free:
            phi += [float(point[f"{block.corr_name}_partial_offset_logodds__"]) / 2 for _ in block.pairs[:1]]
        elif k > 1:
            rows = np.zeros((k, k))
            rows[np.tril_indices(k, -1)] = point[f"{block.corr_name}_partial_offset_logodds__"]
            phi += [rows[i, j] / 2 for i, j in pairs(k)]
        offsets.append(np.array(z).T)
    if design.se is None:
        phi.append(float(point["sigma_log__"]))
    return np.array(phi), offsets


def _reference_cases() -> list[Any]:
    index = json.loads((REFERENCE / "index.json").read_text(encoding="utf-8"))
    kinds = ("lmer REML", "lmer ML", "lm")
    names = [name for name, case in index.items() if case["kind"] in kinds and name != "insteval"]
    few = ("sleepstudy_slope", "cake", "pastes_nested")
    return [pytest.param(index[name], id=name, marks=pytest.mark.stack if name in few else ()) for name in names]


def _bambis(design: Design, priors: Any, centred: bool) -> Any:
    with collected():
        return unbuilt_bambi(
            design,
            finish=lambda model: None,
            family="gaussian",
            link=None,
            priors=priors.to_bambi() or None,
            noncentered=True,
            center_predictors=centred,
            extra_namespace=None,
        )


def assert_same_priors(design: Design, given: dict[str, Any] | None = None) -> None:
    """What gaussian_priors says is what Bambi holds."""
    from hiermod.core import versions

    priors = resolve_priors(given, design)
    mine = gaussian_priors(design, priors)
    model = _bambis(design, priors, True)
    component = versions.bambi_parent(model)
    terms = dict(component.common_terms)
    if component.intercept_term is not None:
        terms["Intercept"] = component.intercept_term
    for term in dict.fromkeys(design.common_terms):
        columns = np.array(design.common_terms) == term
        prior = terms[term].prior
        if prior.name == "Flat":
            assert np.isinf(mine.sd[columns]).all()
            continue
        assert prior.name == "Normal"
        shape = (int(columns.sum()),)
        np.testing.assert_allclose(mine.mean[columns], np.broadcast_to(prior.args["mu"], shape), rtol=1e-12)
        np.testing.assert_allclose(mine.sd[columns], np.broadcast_to(prior.args["sigma"], shape), rtol=1e-12)
    for block, sds in zip(design.blocks, mine.sds, strict=True):
        seen: dict[str, int] = {}
        for column, sd in zip(block.columns, sds, strict=True):
            at = seen.setdefault(column.variable, 0)
            seen[column.variable] += 1
            prior = component.group_specific_terms[column.variable].prior.args["sigma"]
            assert sd.name == prior.name
            for name, value in sd.args:
                theirs = np.atleast_1d(prior.args[name])
                assert value == pytest.approx(theirs[at if len(theirs) > 1 else 0], rel=1e-12)
    sigma = versions.bambi_constants(model)["sigma"].prior
    if isinstance(mine.sigma, float):
        assert mine.sigma == float(sigma)
    else:
        assert mine.sigma.name == sigma.name
        assert dict(mine.sigma.args) == pytest.approx({name: float(value) for name, value in sigma.args.items()})


@pytest.mark.parametrize("case", _reference_cases())
def test_default_priors_are_bambis(case):
    assert_same_priors(build_design(case["formula"], load_dataset(data_name(case["data"]))))


@pytest.mark.stack
@pytest.mark.parametrize(
    ("formula", "given"),
    [
        ("y ~ poly(x, 2) * site + (1 | a)", None),
        ("y ~ 0 + site + x:z + (0 + site | a) + (x || b)", None),
        ("y ~ x * site + (site | a) + (x + z | b)", None),
        ("y ~ x + z + (x | a)", {"x": "Normal(1, 2)", "x|a": "Exponential(2)", "sigma": "Gamma(2, 0.5)"}),
        ("y ~ x + z + (x | a)", {"Intercept": "Normal(1, 2)", "z": "Flat()", "sigma": 2.0}),
        ("y ~ x + site + (x | a) + (1 | b)", {"common": "Normal(0, 3)", "group_specific": "HalfNormal(2)"}),
        ("y ~ x + site + (x | a)", {"common": "Normal(0, 3)", "Intercept": "Normal(9, 9)", "site": "Normal(0, [4])"}),
        ("y ~ x + (x | a)", {"group_specific": "HalfNormal(2)", "1|a": "HalfCauchy(3)"}),
        ("y ~ x + batch + (0 + site | a)", {"site|a": "HalfNormal([1, 2])"}),
    ],
)
def test_given_priors_are_bambis(formula, given):
    assert_same_priors(build_design(formula, frame()), given)


def test_bambis_own_prior_objects_are_read():
    import bambi

    design = build_design("y ~ x + (x | a)", frame())
    given = {
        "x": bambi.Prior("Normal", mu=1, sigma=2),
        "x|a": bambi.Prior("Normal", mu=0, sigma=bambi.Prior("HalfNormal", sigma=3)),
        "sigma": bambi.Prior("Exponential", lam=0.5),
    }
    assert_same_priors(design, given)


REFUSED = {
    "laplace": ({"x": "Laplace(0, 1)"}, "only Normal and Flat"),
    "sd": ({"1|a": "Weibull(2, 3)"}, "only the graph can evaluate"),
    "sigma": ({"sigma": "Weibull(2, 3)"}, "only the graph can evaluate"),
    "mean of a group": ({"x|b": "Normal(2, HalfNormal(1))"}, "around 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_priors_without_a_closed_form_are_refused_in_words(name):
    given, words = REFUSED[name]
    model = Model("y ~ x + (1 | a) + (0 + x | b)", frame(), priors=given)
    with pytest.raises(UnsupportedError, match=words):
        model.fit(inference_method="marginal")


def test_other_models_are_refused_in_words():
    data = frame().assign(n=lambda d: np.arange(len(d)) % 4)
    with pytest.raises(UnsupportedError, match="poisson"):
        Model("n ~ x + (1 | a)", data, family="poisson").fit(inference_method="marginal")
    with pytest.raises(UnsupportedError, match="likelihood of its own"):
        Model("weighted(y, w) ~ x + (1 | a)", data).fit(inference_method="marginal")


@pytest.mark.stack
def test_auto_falls_to_the_graph_and_says_why():
    model = Model("y ~ x + (1 | a)", frame(), priors={"x": "Laplace(0, 1)"})
    with pytest.warns(UserWarning, match="effective sample size|R-hat|chain"):
        fit = model.fit(draws=20, tune=60, chains=1, random_seed=1, progressbar=False)
    assert fit.inference.method == "nutpie"
    assert "only Normal and Flat" in fit.inference.reason
