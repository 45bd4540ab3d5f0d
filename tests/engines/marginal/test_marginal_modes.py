"""Marginal posteriors with several modes: each is found, and gets its share; one mode costs nothing more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.marginal import modes
from hiermod.engines.marginal.boundary_transform import identity
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.engine import sample_marginal, search
from hiermod.engines.marginal.mode import find_mode
from hiermod.engines.marginal.modes import all_modes
from hiermod.engines.marginal.proposal import Mixture, defended
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

Case = tuple[str, pd.DataFrame, dict[str, str], list[np.ndarray]]


def far_from_zero(rows: int, slope_sd: float) -> Case:
    """Uncorrelated intercepts and slopes at x near 100: lines that cross near the data need both sds large, or both are
    small and the slopes go into the residual.  Little lies between."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(8), rows)
    x = rng.normal(size=8 * rows)
    y = rng.normal(size=8)[g] + slope_sd * rng.normal(size=8)[g] * x + rng.normal(size=8 * rows)
    priors = {"Intercept": "Normal(0, 500)", "x": "Normal(0, 10)", "sigma": "HalfNormal(5)"}
    priors |= {"1|g": "HalfNormal(300)", "x|g": "HalfNormal(3)"}
    axes = [np.linspace(-7, 7, 90), np.linspace(-9, 3, 90), np.linspace(-0.6, 1.2, 45)]
    return "y ~ x + (x || g)", pd.DataFrame({"y": y, "x": x + 100, "g": g}), priors, axes


def prior_against_data() -> Case:
    """Data that say 1 and a prior that says 30 +- 3.8: both keep about half."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(12), 6)
    data = pd.DataFrame({"y": rng.normal(size=12)[g] + rng.normal(size=72), "g": g})
    priors = {"Intercept": "Normal(0, 10)", "sigma": "HalfNormal(5)"}
    priors["1|g"] = "TruncatedNormal(mu=30, sigma=3.8, lower=0)"
    return "y ~ 1 + (1 | g)", data, priors, [np.linspace(-3, 4.2, 900), np.linspace(-0.6, 0.6, 200)]


def two_optima_of_reml() -> Case:
    """REML has two optima here, whose better one many searches miss (lme4's too); the posterior holds both."""
    y = [
        -2.12,
        2.52,
        0.35,
        0.6,
        2.3,
        -5.32,
        3.66,
        -1.26,
        1.19,
        2.69,
        -1.83,
        4.28,
        -0.37,
        0.55,
        -2.73,
        -1.03,
        4.03,
        -1.38,
    ]
    x1 = [
        -0.9,
        0.95,
        -0.33,
        -1.41,
        -0.12,
        0.66,
        1.43,
        -0.46,
        -0.49,
        -0.54,
        0.65,
        -0.49,
        -0.45,
        -0.48,
        -0.21,
        -0.38,
        0.08,
    ]
    data = pd.DataFrame({"y": [*y, 1.69, -3.29], "x1": [*x1, -0.26, 1.66, -1.63]})
    data = data.assign(g1=list("33010230203033332022"), g2=list("10110001201000102122"))
    priors = {"Intercept": "Normal(0, 100)", "x1": "Normal(0, 100)", "sigma": "HalfNormal(30)"}
    priors["group_specific"] = "HalfNormal(100)"
    axes = [np.linspace(-8, 7, 80), np.linspace(-8, 7, 80), np.linspace(-1.5, 2.5, 60)]
    return "y ~ x1 + (1 | g1) + (1 | g2)", data, priors, axes


def confounded() -> Case:
    """Two factors that differ in two rows, and priors that let one sd be large and the other small."""
    rng = np.random.default_rng(3)
    g1 = np.repeat(np.arange(4), 6)
    g2 = g1.copy()
    g2[[0, 9]] = [1, 3]
    data = pd.DataFrame({"y": 4 * np.array([0, 1, 1, 0])[g1] + rng.normal(size=24), "g1": g1, "g2": g2})
    priors = {"Intercept": "Normal(0, 100)", "group_specific": "InverseGamma(1, 0.05)", "sigma": "HalfNormal(10)"}
    axes = [np.linspace(-5, 6, 100), np.linspace(-5, 6, 100), np.linspace(-0.8, 1.2, 40)]
    return "y ~ 1 + (1 | g1) + (1 | g2)", data, priors, axes


CASES: dict[str, tuple[Callable[[], Case], int]] = {  # and how many modes count
    "far from zero, two modes": (lambda: far_from_zero(20, 1.5), 2),
    "far from zero, the first mode counts for nothing": (lambda: far_from_zero(12, 2.0), 1),
    "prior against data": (prior_against_data, 2),
    "two optima of REML": (two_optima_of_reml, 1),
    "confounded factors": (confounded, 3),
}


def prepared(case: Case) -> tuple[Design, MarginalDensity]:
    formula, data, priors, _ = case
    design = build_design(formula, data)
    return design, marginal_density(design, gaussian_priors(design, resolve_priors(priors, design), False))


def on_grid(density: MarginalDensity, axes: list[np.ndarray]) -> list[np.ndarray]:
    """Cumulative probabilities along each axis, by brute force over the whole grid."""
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    values = density.values(mesh)
    weights = np.exp(values - values.max()).reshape([len(axis) for axis in axes])
    weights /= weights.sum()
    others = [tuple(j for j in range(len(axes)) if j != i) for i in range(len(axes))]
    return [np.cumsum(weights.sum(axis=other)) for other in others]


@pytest.mark.parametrize(
    ("name", "dear"), [*((name, False) for name in CASES), ("far from zero, two modes", True)], ids=str
)
def test_every_mode_is_found_and_gets_its_share(name, dear):
    """Seven probabilities of each variance parameter within 4.5 Monte Carlo errors and a hundredth of a grid cell's
    mass: about 110 comparisons, one false alarm in 1,300."""
    make, count = CASES[name]
    case = make()
    design, density = prepared(case)
    exact = on_grid(density, case[3])
    assert len(all_modes(density, *find_mode(density)).weights) == count
    if dear:  # as where a factor takes milliseconds
        vars(density)["batch"] = None
    record = sample_marginal(density, design, draws=1000, random_seed=1)
    assert record.inference.method == "marginal"
    assert record.inference.ok, record.inference
    sds = [sd[..., i] for sd in record.sd for i in range(sd.shape[-1])]
    for axis, below, drawn in zip(case[3], exact, [*sds, record.sigma], strict=True):
        for p in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95):
            cell = int(np.searchsorted(below, p))
            share = (np.log(drawn) < (axis[cell] + axis[cell + 1]) / 2).astype(float)
            least = np.sqrt(p * (1 - p) / (drawn.size / 2))
            error = max(float(np.nan_to_num(versions.mcse(share))), least)
            assert abs(share.mean() - below[cell]) < 4.5 * error + 0.01 * (below[cell] - below[cell - 1]), (name, p)


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("strength ~ 1 + (1 | batch / cask)", "pastes"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin"),
        ("Yield ~ 1 + (1 | Batch)", "dyestuff2"),
    ],
)
def test_one_mode_costs_no_climb(formula, data, monkeypatch):
    design = build_design(formula, load_dataset(data))
    density = marginal_density(design, gaussian_priors(design, resolve_priors(None, design)))
    first = find_mode(density)

    def fails(*_: object) -> None:
        raise AssertionError("a climb from a place that leads to the known mode")

    monkeypatch.setattr(modes, "climb", fails)
    assert len(all_modes(density, *first).weights) == 1


def test_a_mode_that_no_sample_saw_keeps_its_proposals():
    around = Mixture(np.array([0.9, 0.1]), np.array([[0.0, 0.0], [9.0, 9.0]]), np.stack([np.eye(2)] * 2), identity(2))
    alone = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None], identity(2))
    at_the_other = np.array([[9.0, 9.0]])
    assert defended(alone, around).log_density(at_the_other)[0] > np.log(0.02 / (2 * np.pi))
    assert defended(alone).log_density(at_the_other)[0] < np.log(0.001)
    assert defended(alone, around).weights.sum() == pytest.approx(1)


def test_the_same_seed_searches_alike():
    _, density = prepared(far_from_zero(12, 2.0))
    first, again = (search(density, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.mixture.means, again.mixture.means)
