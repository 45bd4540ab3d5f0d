"""Held-out densities given phi against dense Gaussian conditioning, and densities of models without the unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from hiermod.covariance.unstructured import Unstructured
from hiermod.datasets import load_dataset
from hiermod.engines.marginal.coordinates import Coordinates
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.mode import start_phi
from hiermod.errors import DesignError
from hiermod.fits.bayesian import BayesianFit
from hiermod.formula.design import Design
from hiermod.inference.scores import integrated as integrated_module
from hiermod.inference.scores.estimable import check_estimable
from hiermod.inference.scores.held_out import held_out
from hiermod.inference.scores.integrated import frozen_density, integrated
from hiermod.inference.scores.rows import Units, flat_directions, level_units, row_units
from hiermod.model import Model

RNG = np.random.default_rng(20240)
SLEEP = load_dataset("sleepstudy").assign(
    w=RNG.uniform(0.3, 3, 180),
    off=RNG.normal(0, 5, 180),
    s=RNG.uniform(10, 40, 180),
    day=lambda d: d["Days"].astype(str),
    half=lambda d: np.array(["a", "b", "c"])[(d["Days"] // 4).astype(int)],
)
CASES = {
    "correlated": lambda: Model("Reaction ~ Days + (Days | Subject)", SLEEP),
    "not centred": lambda: Model("Reaction ~ Days + (Days | Subject)", SLEEP, center_predictors=False),
    "weights, offset, crossed": lambda: Model(
        "Reaction ~ Days + offset(off) + (Days | Subject) + (1 | day)", SLEEP, weights="w"
    ),
    "independent, known sds": lambda: Model("Reaction ~ 0 + Days + (Days || Subject)", SLEEP, se="s"),
    "all flat": lambda: Model("Reaction ~ Days + (Days | Subject)", SLEEP, priors={"common": "Flat()"}),
    "one flat, centred": lambda: Model(
        "Reaction ~ Days + (1 | Subject)", SLEEP, priors={"Days": "Flat()"}, weights="w"
    ),
    "crossed": lambda: Model("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("penicillin")),
    "nested": lambda: Model("strength ~ 1 + (1 | batch/cask)", load_dataset("pastes")),
    "autoregressive": lambda: Model("Reaction ~ Days + ar1(0 + day | Subject)", SLEEP),
    "compound symmetric, known sds": lambda: Model("Reaction ~ Days + cs(0 + half | Subject)", SLEEP, se="s"),
}


def prepare(name: str) -> tuple[Design, MarginalDensity, np.ndarray]:
    model = CASES[name]()
    density = model._marginal_density()
    phi = start_phi(density) + np.random.default_rng(1).normal(0, 0.5, (3, density.coordinates.d))
    return model.spec, density, phi


def all_units(design: Design, density: MarginalDensity) -> list[Units]:
    by_level = {b.factor: level_units(design, density, b.codes, len(b.levels)) for b in design.blocks}
    return [row_units(design, density), *by_level.values()]


def dense_log_p(design: Design, density: MarginalDensity, phi: np.ndarray, unit: np.ndarray) -> float:
    """log p(y_u | the rest, phi): V in full, flat coefficients by generalised least squares, deleted rows."""
    priors, n = density.priors, design.nobs
    lambdas, sigma = density.lambdas(phi)
    w = np.ones(n) if design.weights is None else design.weights
    V = np.diag(sigma**2 / w if design.se is None else design.se**2)
    for block, Lam in zip(design.blocks, lambdas, strict=True):
        same = block.codes[:, None] == block.codes
        V += same * (block.values @ (sigma**2 * Lam @ Lam.T) @ block.values.T)
    rows = np.eye(len(design.common))
    if priors.centred:
        where = design.common.index("Intercept")
        rows[where], rows[where, where] = design.X.mean(axis=0), 1.0
    X, flat = design.X @ np.linalg.inv(rows), np.isinf(priors.sd)
    V += X[:, ~flat] @ np.diag(priors.sd[~flat] ** 2) @ X[:, ~flat].T
    y = design.y - (0 if design.offset is None else design.offset) - X[:, ~flat] @ priors.mean[~flat]
    F, rest = X[:, flat], np.setdiff1d(np.arange(n), unit)
    inverse = np.linalg.inv(V[np.ix_(rest, rest)])
    across = V[np.ix_(unit, rest)] @ inverse
    gls = np.linalg.inv(F[rest].T @ inverse @ F[rest]) if flat.any() else np.zeros((0, 0))
    coefficient = gls @ F[rest].T @ inverse @ y[rest]
    mean = F[unit] @ coefficient + across @ (y[rest] - F[rest] @ coefficient)
    leverage = F[unit] - across @ F[rest]
    cov = V[np.ix_(unit, unit)] - across @ V[np.ix_(rest, unit)] + leverage @ gls @ leverage.T
    return float(multivariate_normal.logpdf(y[unit], mean, (cov + cov.T) / 2))


@pytest.mark.parametrize("name", CASES)
def test_units_given_the_rest_are_the_dense_conditionals(name):
    design, density, phi = prepare(name)
    for units in all_units(design, density):
        found = held_out(density, units, phi)
        some = range(0, len(units), max(1, len(units) // 6))
        for s in range(len(phi)):
            expected = [dense_log_p(design, density, phi[s], units.members[u]) for u in some]
            # rtol: the same numbers by other routes; values are of order 10 to 100
            np.testing.assert_allclose(found.log_p[s, list(some)], expected, rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(found.log_joint, density.values(phi), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_units_are_differences_of_whole_models(name):
    """log p(y_u | rest) = log p(y) - log p(y without u); the replicate's density = log p(y, y_u again) - log p(y)."""
    design, density, phi = prepare(name)
    every = np.arange(design.nobs)
    np.testing.assert_allclose(frozen_density(design, every, density).values(phi), density.values(phi), rtol=1e-12)
    for units in all_units(design, density):
        found = held_out(density, units, phi)
        for u in (0, len(units) - 1):
            without = frozen_density(design, np.setdiff1d(every, units.members[u]), density).values(phi)
            twice = frozen_density(design, np.concatenate([every, units.members[u]]), density).values(phi)
            # atol: differences of log likelihoods of order 1,000
            np.testing.assert_allclose(found.log_p[:, u], found.log_joint - without, atol=1e-8)
            np.testing.assert_allclose(found.log_replicate[:, u], twice - found.log_joint, atol=1e-8)


def test_one_factor_at_a_time_gives_the_same(monkeypatch):
    """Problems too large for stacks go through the other factorisation."""
    for name in ("correlated", "crossed", "nested"):
        design, density, phi = prepare(name)
        for units in all_units(design, density):
            together = held_out(density, units, phi)
            with monkeypatch.context() as patch:
                patch.setattr("hiermod.engines.marginal.density.prepare", lambda cross: None)
                single = held_out(frozen_density(design, np.arange(design.nobs), density), units, phi)
            np.testing.assert_allclose(single.log_p, together.log_p, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(single.log_replicate, together.log_replicate, rtol=1e-10, atol=1e-10)


def test_large_units_go_through_models_without_them(monkeypatch):
    design, density, _ = prepare("crossed")
    units = all_units(design, density)[2]
    draws = start_phi(density) + np.random.default_rng(2).normal(0, 0.1, (2, 50, 3))
    expected = integrated(density, design, units, draws, seed=1)
    monkeypatch.setattr(integrated_module, "LARGEST_UNIT", 3)
    found = integrated(density, design, units, draws, seed=1)
    assert found.own == expected.own
    np.testing.assert_allclose(found.elpd, expected.elpd, atol=1e-7)
    np.testing.assert_allclose(found.log_seen, expected.log_seen, atol=1e-7)


def test_outside_the_support_of_a_prior_nothing_is_claimed():
    model = Model("Reaction ~ Days + (1 | Subject)", SLEEP, priors={"sigma": "Uniform(1, 100)"})
    density = model._marginal_density()
    phi = np.array([[3.0, 3.0], [3.0, 6.0]])  # exp(6) > 100
    units = row_units(model.spec, density)
    found = held_out(density, units, phi)
    assert np.isfinite(found.log_joint[0])
    assert found.log_joint[1] == -np.inf
    assert np.isfinite(found.log_p).all()
    assert not found.log_p[1].any()


def test_a_unit_that_alone_determines_a_flat_coefficient_is_named():
    """Predictors not centred: else the prior of the centred intercept says a little about every coefficient."""
    data = SLEEP.assign(dummy=(np.arange(180) == 7).astype(float), only=(SLEEP["Subject"] == "309").astype(float))
    cases = [("dummy", "row", r"\(7\)"), ("only", "Subject", r"\(309\)")]
    for column, unit, named in cases:
        for flat in (True, False):
            priors = {column: "Flat()"} if flat else {}
            model = Model(f"Reaction ~ Days + {column} + (1 | Subject)", data, priors=priors, center_predictors=False)
            design, density = model.spec, model._marginal_density()
            assert flat_directions(design, density).shape[1] == int(flat)
            block = design.blocks[0]
            units = (
                row_units(design, density)
                if unit == "row"
                else level_units(design, density, block.codes, len(block.levels))
            )
            labels = list(design.index) if unit == "row" else block.levels
            if flat:
                with pytest.raises(DesignError, match=named):
                    check_estimable(units, labels, unit)
            else:
                check_estimable(units, labels, unit)


def test_phi_comes_back_from_sds_and_correlations():
    coordinates = Coordinates((Unstructured(1), Unstructured(3), Unstructured(2)), True)
    phi = np.random.default_rng(3).normal(0, 1, (2, 5, coordinates.d))
    factors = coordinates.correlation_factors(phi)
    corr = [L @ np.swapaxes(L, -1, -2) if L.shape[-1] > 1 else None for L in factors]
    back = coordinates.unconstrained(coordinates.sds(phi), corr, np.exp(phi[..., -1]))
    np.testing.assert_allclose(back, phi, atol=1e-9)  # arctanh of correlations up to 0.99 magnifies rounding


def test_scores_from_the_parameters_drawn_and_from_those_found_again_are_the_same():
    """Rebuilt by Cholesky factors and arctanh of the draws of sds and correlations: what files of old and NUTS need."""
    fit = CASES["correlated"]().fit(draws=500, chains=2, random_seed=1)
    old = BayesianFit(fit.design, replace(fit.record, unconstrained=None), fit.family, fit.link, fit.priors)
    coordinates = fit.model._marginal_density().coordinates
    drawn, again = (one.record.unconstrained_draws(coordinates) for one in (fit, old))
    assert drawn is fit.record.unconstrained
    np.testing.assert_allclose(again, drawn, rtol=1e-10, atol=1e-10)
    assert not np.array_equal(again, drawn)  # it is another way to them
    for score in (lambda one: one.loo(), lambda one: one.logo("Subject")):
        np.testing.assert_allclose(score(old).elpd_i, score(fit).elpd_i, rtol=1e-10)
    power, other = (one.prior_sensitivity()["prior"].to_numpy() for one in (fit, old))
    np.testing.assert_allclose(other, power, rtol=1e-8, atol=1e-12)  # differences between powers of 0.99 and 1.01


def test_correlations_of_one_stay_finite():
    coordinates = Coordinates((Unstructured(2),), False)
    corr = np.ones((4, 2, 2))
    phi = coordinates.unconstrained([np.ones((4, 2))], [corr], None)
    assert np.isfinite(phi).all()
    assert (phi[:, 2] > 10).all()


def test_rows_of_a_unit_that_share_levels_are_compressed():
    big = pd.concat([SLEEP] * 4, ignore_index=True)
    model = Model("Reaction ~ Days + (Days | Subject)", big)
    density = model._marginal_density()
    units = level_units(model.spec, density, model.spec.blocks[0].codes, 18)
    assert (units.n_rows == 40).all()
    assert (units.sizes == 5).all()
    phi = start_phi(density)[None]
    expected = dense_log_p(model.spec, density, phi[0], units.members[4])
    assert held_out(density, units, phi).log_p[0, 4] == pytest.approx(expected, abs=1e-8)
