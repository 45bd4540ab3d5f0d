"""Columns of X that others explain, or that do not vary: told apart by their priors, to one posterior in every engine.

The reference is the conjugate regression with dense n x n covariances: y ~ N(X m0, X S0 X' + V), written here with
numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermod as hm
from hiermod.core import versions
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.mode import start_phi
from hiermod.engines.marginal.natural_mode import coefficients_at
from hiermod.errors import DesignError
from hiermod.formula.design import Design
from hiermod.inference.scores.held_out import held_out
from hiermod.inference.scores.rows import row_units, take_rows
from hiermod.kernel.batch import factorise_batch, stack_of_one
from hiermod.kernel.draws import draw

pytestmark = pytest.mark.filterwarnings("ignore::hiermod.errors.RankDeficiencyWarning")


def make_data(n: int = 40, seed: int = 0) -> pd.DataFrame:
    """Eight groups crossed with five; a cell of f1 x f2 without rows; a constant, a zero and a collinear column; q0 ..
    q49, more columns than rows."""
    rng = np.random.default_rng(seed)
    d = pd.DataFrame({"x": rng.normal(size=n), "g": np.repeat(np.arange(8), 5), "h": np.tile(np.arange(5), 8)})
    d["f1"], d["f2"] = np.resize(list("abc"), n), np.repeat(list("uv"), n // 2)
    d.loc[d["f1"] == "b", "f2"] = "u"
    wide = pd.DataFrame(rng.normal(size=(n, 50)), columns=[f"q{k}" for k in range(50)])
    d = d.assign(three=3.1, zero=0.0, twice=2 * d["x"] + 1, w=rng.uniform(0.5, 2, n), s=rng.uniform(0.5, 2, n))
    return pd.concat([d.assign(y=5 + d["x"] + rng.normal(size=8)[d["g"]] + rng.normal(size=n)), wide], axis=1)


DATA = make_data()
WIDE = " + ".join(f"q{k}" for k in range(50))
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "collinear and constant": ("y ~ x + twice + three + (x | g)", {}),
    "no intercept": ("y ~ 0 + x + twice + three + zero + (1 | g) + (1 | h)", {"weights": "w"}),
    "an empty cell": ("y ~ f1 * f2 + (1 | g)", {}),
    "more columns than rows": (f"y ~ x + {WIDE} + (1 | g)", {"priors": {"common": "Normal(0, 1)"}}),
    "more, crossed, not centred": (f"y ~ x + {WIDE} + (1 | g) + (1 | h)", {"center_predictors": False}),
    "known sds, one flat prior": ("y ~ x + twice + (1 | g)", {"se": "s", "priors": {"twice": "Flat()"}}),
}


def prepare(name: str, data: pd.DataFrame = DATA) -> tuple[Design, MarginalDensity, np.ndarray]:
    formula, options = CASES[name]
    model = hm.Model(formula, data, **options)
    assert not model.spec.estimable.all()  # else the case is none
    density = model._marginal_density()
    phi = start_phi(density) + np.random.default_rng(1).normal(0, 0.5, (3, density.coordinates.d))
    return model.spec, density, phi


def dense(design: Design, density: MarginalDensity, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V (n, n), m0 (p,) and S0 (p, p); a flat prior as one 1e6 times wider than anything else."""
    lambdas, sigma = density.lambdas(phi)
    V = np.diag(np.full(design.nobs, sigma**2))
    V = np.diag(design.se**2) if design.se is not None else V
    V = V / design.weights if design.weights is not None else V  # diagonal: inf nowhere
    for block, Lam in zip(design.blocks, lambdas, strict=True):
        Z = np.zeros((design.nobs, len(block.levels), block.size))
        Z[np.arange(design.nobs), block.codes] = block.values
        V = V + np.einsum("iac,cd,jad->ij", Z, sigma**2 * Lam @ Lam.T, Z)
    p, priors = len(design.common), density.priors
    rows = np.eye(p)
    if priors.centred:
        at = design.common.index("Intercept")
        rows[at] = priors.centre
        rows[at, at] = 1.0
    back = np.linalg.inv(rows)
    return V, back @ priors.mean, back @ np.diag(np.minimum(priors.sd, 1e5) ** 2) @ back.T


def log_normal(residual: np.ndarray, C: np.ndarray) -> float:
    return float(
        -0.5 * (residual @ np.linalg.solve(C, residual) + np.linalg.slogdet(C)[1] + len(residual) * np.log(2 * np.pi))
    )


@pytest.mark.parametrize("name", CASES)
def test_density_and_coefficients_are_the_dense_ones(name: str) -> None:
    design, density, phi = prepare(name)
    flat = np.isinf(density.priors.sd)
    # against a prior of sd 1e5 instead of a flat one: relative 1e-8, and its own normalising constant
    rtol, constant = (1e-5, np.log(1e5) + 0.5 * np.log(2 * np.pi)) if flat.any() else (1e-9, 0.0)
    for one in phi:
        V, m0, S0 = dense(design, density, one)
        C = design.X @ S0 @ design.X.T + V
        expected = log_normal(design.y - design.X @ m0, C) + density.log_prior(one)[0] + constant
        assert density.value(one) == pytest.approx(expected, abs=1e-4 if flat.any() else 1e-9)
        assert density.values(one[None])[0] == pytest.approx(density.value(one), abs=1e-9)
        inverse = np.linalg.inv(S0)  # of 1e5 sds: relative 1e-8 beside the data's
        covariance = np.linalg.inv(design.X.T @ np.linalg.solve(V, design.X) + inverse)
        mean = covariance @ (design.X.T @ np.linalg.solve(V, design.y) + inverse @ m0)
        deviation = (coefficients_at(density, one) - mean) / np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(deviation, 0, atol=rtol)
        _, gradient = density.value_and_gradient(one)
        steps = np.eye(len(one)) * 1e-5
        slopes = [(density.value(one + step) - density.value(one - step)) / 2e-5 for step in steps]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["collinear and constant", "an empty cell", "more columns than rows"])
def test_draws_have_the_dense_mean_and_covariance(name: str) -> None:
    design, density, phi = prepare(name)
    factor, rng = density.factorise(phi[0]), np.random.default_rng(3)
    assert factor is not None
    beta = np.stack(
        [draw(density.problem, factor, density.sigma(phi[:1]), rng)[0][0] for _ in range(4000)]
    )  # fmt: skip
    V, m0, S0 = dense(design, density, phi[0])
    K = S0 @ design.X.T @ np.linalg.inv(design.X @ S0 @ design.X.T + V)
    mean, cov = m0 + K @ (design.y - design.X @ m0), S0 - K @ design.X @ S0
    sd = np.sqrt(np.diag(cov))
    # 4,000 independent draws, means and sds in standard errors: a chance of 1 in 1,000 over 54 of them
    assert np.abs((beta.mean(axis=0) - mean) / sd).max() * np.sqrt(4000) < 4.5
    assert np.abs(beta.std(axis=0) / sd - 1).max() * np.sqrt(8000) < 4.5
    correlations = np.corrcoef(beta.T) - cov / np.outer(sd, sd)
    assert np.abs(correlations).max() * np.sqrt(4000) < 5.5


@pytest.mark.parametrize("name", CASES)
def test_rows_left_out_are_scored_as_by_dense_conditionals(name: str) -> None:
    design, density, phi = prepare(name)
    found = held_out(density, row_units(design, density), phi)
    V, m0, S0 = dense(design, density, phi[1])
    residual, C = design.y - design.X @ m0, design.X @ S0 @ design.X.T + V
    inverse = np.linalg.inv(C)
    variance = 1 / np.diag(inverse)
    expected = stats.norm(0, np.sqrt(variance)).logpdf((inverse @ residual) * variance)
    np.testing.assert_allclose(found.log_p[1], expected, atol=1e-4 if np.isinf(density.priors.sd).any() else 1e-7)
    np.testing.assert_allclose(found.log_joint, density.values(phi), atol=1e-9)


def test_kfold_refits_without_the_rows_that_tell_columns_apart() -> None:
    """Fold by fold a level of f loses all its rows; its coefficient is then the prior's, not an error."""
    data = DATA.assign(f=np.where(np.arange(40) < 2, "rare", "common"))
    fit = hm.Model("y ~ x + f + (1 | h)", data).fit(random_seed=1, draws=200)
    scores = fit.kfold(k=4, random_seed=2, progressbar=False)
    assert np.isfinite(scores.elpd_i).all()
    part = take_rows(fit.design, np.arange(2, 40))
    from hiermod.engines.marginal.density import marginal_density

    density = marginal_density(part, fit.priors)
    one = start_phi(density)
    V, m0, S0 = dense(part, density, one)
    C = part.X @ S0 @ part.X.T + V
    expected = log_normal(part.y - part.X @ m0, C) + density.log_prior(one)[0]
    assert density.value(one) == pytest.approx(expected, abs=1e-9)


def test_a_flat_prior_among_columns_that_explain_each_other_is_no_posterior() -> None:
    for priors in ({"x": "Flat()", "twice": "Flat()"}, {"three": "Flat()"}):
        model = hm.Model("y ~ x + twice + three + (1 | g)", DATA, priors=priors)
        with pytest.raises(DesignError, match="explain each other, and the prior of a coefficient among them is flat"):
            model.fit(random_seed=1)


def test_one_factor_as_a_stack_is_that_of_stacks() -> None:
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    density = model._marginal_density()
    phi = start_phi(density)
    one, many = density.factorise(phi), density.factorise_many(phi[None])
    assert one is not None
    assert factorise_batch is not None
    level, other = stack_of_one(one).levels[0], many.levels[0]
    at = np.zeros(18, dtype=int) if other.distinct is None else other.distinct
    np.testing.assert_allclose(level.M[0], other.M[0][at], rtol=1e-10)
    np.testing.assert_allclose(level.Q[0], other.Q[0][at], rtol=1e-10)
    assert not np.allclose(level.M, level.Q)


# --- the graph --------------------------------------------------------------------------------------------------------
EMPTY = "y ~ f1 * f2 + x + three + zero + (1 | g)"


@pytest.mark.stack
def test_nuts_on_the_graph_draws_from_the_same_posterior() -> None:
    """Two by two levels with an empty cell, a constant and a zero column: Bambi alone refuses each of them."""
    data = DATA[DATA["f1"] != "c"].reset_index(drop=True)
    model = hm.Model(EMPTY, data)
    exact = model.fit(random_seed=1)
    assert exact.inference.method == "marginal"
    how = {"random_seed": 2, "draws": 1500, "chains": 4, "progressbar": False}
    nuts = model.fit(inference_method="nutpie", target_accept=0.99, **how)  # at 0.9 one of 6,000 may diverge
    mine, theirs = exact.fixef(), nuts.fixef()
    assert list(mine.index) == list(theirs.index)
    error = np.hypot(mine["mcse"], theirs["mcse"])
    # seven means in combined Monte Carlo standard errors: a chance of 1 in 2,000 that one passes 4
    assert ((mine["estimate"] - theirs["estimate"]) / error).abs().max() < 4
    np.testing.assert_allclose(theirs["std_error"] / mine["std_error"], 1, atol=0.15)
    prior = model.priors().set_index("parameter").loc["zero", "distribution"]
    assert prior == f"Normal(mu=0, sigma={2.5 * np.std(data['y']):.6g})"
    # nothing in the data is about it: its posterior is its prior, whose sd 4,000 draws estimate within 1.1 % (sd)
    assert mine.loc["zero", "std_error"] == pytest.approx(2.5 * np.std(data["y"]), rel=0.05)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ f1 * f2 + three + zero + x:f1:f2 + (x | g)", "gaussian"),
        ("y ~ f1 * f2 + three + (1 | g)", "t"),
        ("k ~ f1 * f2 + three + zero + x:f1:f2 + (three || g)", "poisson"),
        ("b ~ f1 * f2 + three + zero + x:f1:f2 + (three || g)", "bernoulli"),
        ("y ~ 0 + three + x + (0 + x | g)", "t"),
    ],
)
def test_default_priors_are_finite_in_the_table_and_in_the_graph(formula: str, family: str) -> None:
    data = DATA.assign(k=np.arange(40) % 4, b=np.arange(40) % 2)
    model = hm.Model(formula, data, family=family)
    component = versions.bambi_parent(model.bambi)
    terms = dict(component.common_terms) | dict(component.group_specific_terms)
    if component.intercept_term is not None:
        terms["Intercept"] = component.intercept_term
    widths = {}
    for name, term in terms.items():
        sigma = term.prior.args["sigma"]
        widths[name] = np.asarray(sigma if not hasattr(sigma, "args") else sigma.args["sigma"], dtype=float)
        assert np.isfinite(widths[name]).all(), name
        assert (widths[name] < 1e4).all(), name  # as wide as rounding errors of a constant column would make them
    unit = 2.5 * np.std(data["y"]) if family in ("gaussian", "t") else 2.5 if family == "poisson" else 1.0
    assert widths["three"] == pytest.approx(unit / 3.1, rel=1e-12)
    if "zero" in widths:
        assert widths["zero"] == pytest.approx(unit, rel=1e-12)
    table = model.priors().set_index("parameter")
    assert not table["distribution"].str.contains("inf|nan").any()
    assert "/|x|" in table.loc["three", "why"].replace(" ", "")
    assert any("does not vary" in note for note in table.attrs["notes"])


def test_gaussian_priors_are_those_of_the_graph() -> None:
    model = hm.Model("y ~ f1 * f2 + three + zero + x:f1:f2 + (x | g)", DATA)
    component = versions.bambi_parent(model.bambi)
    numbers = model._marginal_density().priors
    theirs = [component.intercept_term.prior.args["sigma"]]
    theirs += [component.common_terms[term].prior.args["sigma"] for term in dict.fromkeys(model.spec.common_terms[1:])]
    np.testing.assert_allclose(numbers.sd, np.concatenate([np.ravel(one) for one in theirs]), rtol=1e-12)
    for column, law in zip(model.spec.blocks[0].columns, numbers.sds[0], strict=True):
        graph = component.group_specific_terms[column.variable].prior.args["sigma"].args["sigma"]
        assert law.get("sigma") == pytest.approx(float(graph), rel=1e-12)


def test_reml_leaves_out_what_r_does() -> None:
    """R 4.2: lmer(y ~ f1 * f2 + three + zero + (1 | g)) drops the empty cell, the constant and the zero column."""
    fit = hm.Model("y ~ f1 * f2 + three + zero + (1 | g)", DATA).reml()
    left_out = fit.fixef()["estimate"].isna()
    assert list(left_out.index[left_out]) == ["f1[b]:f2[v]", "three", "zero"]
