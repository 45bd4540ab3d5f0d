"""Priors that end: the marginal engine's draws, by proposals and by NUTS, against quadrature; the variables changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from hiermod.core import versions
from hiermod.covariance.unstructured import Unstructured
from hiermod.datasets import load_dataset
from hiermod.engines.marginal import engine as marginal
from hiermod.engines.marginal.bounds import Bounds, bounds_of
from hiermod.engines.marginal.coordinates import Coordinates
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.formula.build import build_design
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

BOUNDS = Bounds(np.array([0, 0, 0.5, 0.5]), np.array([np.inf, 3, np.inf, 4.0]))
PRIORS: dict[str, Any] = {  # text -> the same prior in scipy's words
    "Uniform(0, 8)": stats.uniform(0, 8),
    "Uniform(2, 9)": stats.uniform(2, 7),
    "TruncatedNormal(mu=3, sigma=4, lower=1)": stats.truncnorm(-0.5, np.inf, 3, 4),
}


def test_the_change_of_variable_comes_back_and_has_its_derivatives():
    s, step = 3 * np.random.default_rng(0).normal(size=(6, 4)), 1e-6
    phi = BOUNDS.to_phi(s)
    np.testing.assert_allclose(BOUNDS.to_free(phi), s, rtol=1e-8)
    assert (np.exp(phi) > BOUNDS.lower).all()
    assert (np.exp(phi) < BOUNDS.upper).all()
    np.testing.assert_array_equal(phi[:, 0], s[:, 0])
    log_slope, gradient, slopes = BOUNDS.log_slope(s)
    np.testing.assert_allclose(log_slope, np.log(slopes).sum(axis=1), rtol=1e-10)
    for i in range(4):  # central differences are good to about 1e-8
        move = step * np.eye(4)[i]
        numeric = (BOUNDS.to_phi(s + move) - BOUNDS.to_phi(s - move))[:, i] / (2 * step)
        np.testing.assert_allclose(slopes[:, i], numeric, rtol=1e-6, atol=1e-9)
        numeric = (BOUNDS.log_slope(s + move)[0] - BOUNDS.log_slope(s - move)[0]) / (2 * step)
        np.testing.assert_allclose(gradient[:, i], numeric, rtol=1e-6, atol=1e-8)


def test_far_out_it_stays_inside():
    far = np.array([[-900.0] * 4, [900.0, 900.0, 300.0, 900.0]])
    phi = BOUNDS.to_phi(far)
    assert (phi[:, 1:] <= np.log(BOUNDS.upper[1:])).all()
    assert (phi[:, 2:] >= np.log(BOUNDS.lower[2:])).all()
    assert np.isfinite(phi).all()


def test_bounds_are_read_from_the_priors():
    design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    given = {"1|Subject": "Uniform(1, 90)", "sigma": "TruncatedNormal(mu=20, sigma=9, lower=4)"}
    priors = gaussian_priors(design, resolve_priors(given, design))
    found = bounds_of(Coordinates((Unstructured(2),), True), priors)
    np.testing.assert_array_equal(found.lower, [1, 0, 0, 4])
    np.testing.assert_array_equal(found.upper, [90, np.inf, np.inf, np.inf])


def exact(prior: Any) -> tuple[np.ndarray, np.ndarray]:
    """tau on a grid and its posterior probabilities in eight schools, the mean integrated out by hand (Gelman et al.
    2013, equation 5.21, with the prior Normal(0, 20) of the mean)."""
    data = load_dataset("eight_schools")
    y, se = data["effect"].to_numpy(float), data["se"].to_numpy(float)
    lower, upper = prior.support()
    tau = np.linspace(lower, min(upper, 40), 40001)
    tau = (tau[1:] + tau[:-1]) / 2
    V = se[:, None] ** 2 + tau**2
    precision = (1 / V).sum(axis=0) + 1 / 400
    mean = (y[:, None] / V).sum(axis=0) / precision
    log = -0.5 * (np.log(V) + y[:, None] ** 2 / V).sum(axis=0) + 0.5 * mean**2 * precision - 0.5 * np.log(precision)
    log = log + prior.logpdf(tau)
    weights = np.exp(log - log.max())
    return tau, weights / weights.sum()


@pytest.mark.parametrize("text", PRIORS)
@pytest.mark.parametrize("engine", ["marginal", "marginal-nuts"])
def test_bounded_priors_have_the_law_of_quadrature(text, engine, monkeypatch):
    """Mean, sd and five probabilities within 4.5 Monte Carlo errors: 42 comparisons, 1 false alarm in 3,500."""
    if engine == "marginal-nuts":
        monkeypatch.setattr(marginal, "MAX_K_HAT", -10.0)
    design = build_design("effect ~ 1 + (1 | school)", load_dataset("eight_schools"), se="se")
    priors = resolve_priors({"Intercept": "Normal(0, 20)", "1|school": text}, design)
    density = marginal_density(design, gaussian_priors(design, priors))
    record = sample_marginal(density, design, draws=600, tune=400, random_seed=4, cores=1)
    assert record.inference.method == engine
    assert record.inference.divergences == 0
    tau, weights = exact(PRIORS[text])
    drawn = record.sd[0][..., 0]
    mean = weights @ tau
    assert abs(drawn.mean() - mean) < 4.5 * versions.mcse(drawn)
    assert abs(drawn.std() - np.sqrt(weights @ (tau - mean) ** 2)) < 4.5 * versions.mcse(drawn, "sd")
    for p in (0.01, 0.1, 0.5, 0.9, 0.99):
        below = (drawn < np.interp(p, np.cumsum(weights), tau)).astype(float)
        error = max(float(np.nan_to_num(versions.mcse(below))), np.sqrt(p * (1 - p) / (drawn.size / 2)))
        assert abs(below.mean() - p) < 4.5 * error, p
    phi = np.log(drawn)[..., None].reshape(-1, 1)[::40]
    np.testing.assert_allclose(record.stats["lp"].reshape(-1)[::40], density.values(phi), rtol=1e-7, atol=1e-7)
