"""Shapes and calibration from arrays: densities, frequencies, isotonic curves, against scipy, counting and hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy import special, stats

from hiermod.datasets import load_dataset
from hiermod.errors import UnsupportedError
from hiermod.inference.predictive.predictive_shapes import densities, distribution_functions, frequencies
from hiermod.inference.predictive.reliability import calibrate
from hiermod.inference.predictive.replicates import Replicates
from hiermod.model import Model


def made(y: np.ndarray, simulated: np.ndarray, kind: Any, trials: np.ndarray | None = None) -> Replicates:
    return Replicates(y, simulated, trials, pd.RangeIndex(len(y)), kind, "y", "conditional")


def test_densities_are_kernel_densities():
    rng = np.random.default_rng(1)
    y, simulated = rng.normal(5, 2, 150) - 20, rng.normal(5, 2, (3, 150)) - 20
    found = densities(made(y, simulated, "continuous"))
    bandwidth = 0.9 * min(y.std(ddof=1), np.subtract(*np.quantile(y, [0.75, 0.25])) / 1.34) * 150**-0.2
    kernel = stats.gaussian_kde(simulated[1], bw_method=bandwidth / simulated[1].std(ddof=1))
    # values are put in 512 classes first: half a class is 0.02 of a bandwidth
    np.testing.assert_allclose(found.simulated[1], kernel(found.x), atol=0.01 * kernel(found.x).max())


def test_densities_keep_their_mass_above_zero():
    y = np.random.default_rng(1).exponential(1.0, 400)
    found = densities(made(y, np.random.default_rng(2).exponential(1.0, (2, 400)), "continuous"))
    assert found.x[0] > 0
    assert found.observed.sum() * (found.x[1] - found.x[0]) == pytest.approx(1.0, abs=1e-3)
    assert found.observed[0] > 0.6  # 1 at 0 in truth; without reflection half of it


def test_distribution_functions_are_shares():
    y, simulated = np.array([1.0, 2.0, 2.0, 4.0]), np.array([[0.0, 1.0, 3.0, 9.0]])
    found = distribution_functions(made(y, simulated, "continuous"))
    at = [float(found.observed[np.searchsorted(found.x, x)]) for x in (1.0, 2.0, 4.0)]
    assert at == [0.25, 0.75, 1.0]
    assert found.simulated[0, np.searchsorted(found.x, 4.0)] == 0.75


def test_frequencies_are_counted():
    y = np.array([0.0, 0, 1, 3])
    simulated = np.array([[0.0, 1, 1, 3], [0, 0, 0, 2], [1, 1, 2, 3]])
    table = frequencies(made(y, simulated, "count"), level=0.5)
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table["observed"].tolist() == [2, 1, 0, 1]
    np.testing.assert_allclose(table["predicted"], [4 / 3, 4 / 3, 2 / 3, 2 / 3])
    assert table.loc[0, ["lower", "upper"]].tolist() == [0.5, 2.0]  # quartiles of 1, 3, 0
    wide = frequencies(made(y, simulated, "count"), width=2)
    assert wide["observed"].tolist() == [3, 1]
    assert wide[["low", "high"]].to_numpy().tolist() == [[0, 1], [2, 3]]
    with pytest.raises(UnsupportedError, match="densities"):
        frequencies(made(y, simulated, "continuous"))


# --- calibration --------------------------------------------------------------------------------------------------
def calibrated(x: np.ndarray, y: np.ndarray, seed: int = 0, resamples: int = 99) -> Any:
    return calibrate(x, y, np.ones(len(y)), "loo", 0.95, resamples, np.random.default_rng(seed))


def test_the_curve_pools_adjacent_violators_and_the_score_is_its_parts():
    x, y = np.array([0.1, 0.2, 0.4, 0.6, 0.9]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    found = calibrated(x, y)
    np.testing.assert_allclose(found.calibrated, [0, 0.5, 0.5, 1, 1])  # 1, 0 at 0.2, 0.4 are pooled
    assert found.brier == pytest.approx(np.square(x - y).mean(), rel=1e-12)
    # Brier scores by hand: of the curve 2 * 0.25 / 5, of the share 0.6 0.24
    assert found.miscalibration == pytest.approx(np.square(x - y).mean() - 0.1, rel=1e-12)
    assert found.discrimination == pytest.approx(0.24 - 0.1, rel=1e-12)
    assert found.brier == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty, rel=1e-12)


def test_calibrated_probabilities_pass_and_others_do_not():
    rng = np.random.default_rng(4)
    p, inside = [], []
    for _ in range(120):
        x = rng.random(80)
        found = calibrated(x, (rng.random(80) < x).astype(float), seed=1)
        p.append(found.p)
        inside.append(((found.calibrated >= found.lower) & (found.calibrated <= found.upper)).mean())
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 120)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)  # each point; a step curve of 99 resamples
    x = rng.random(300)
    assert calibrated(x, (rng.random(300) < x**2).astype(float)).p == 0.01  # the least that 99 resamples can say


def test_calibration_of_a_fit_leaves_rows_out():
    d = pd.DataFrame({"g": np.repeat(list("abcdef"), 20), "x": np.tile(np.linspace(-2, 2, 20), 6)})
    d["y"] = (np.random.default_rng(1).random(120) < special.expit(d["x"])).astype(int)
    model = Model("y ~ x + (1 | g)", d, family="bernoulli")
    fit = hand_made(model, beta=[0.0, 1.0], spread=0.05, b=0.0)
    eta = (fit.record.beta @ fit.design.X.T).reshape(-1, 120)
    chance = special.expit(eta)
    mine = np.where(d["y"].to_numpy() == 1, chance, 1 - chance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hiermod.inference.predictive.reliability.row_log_likelihood",
            lambda fit: lambda rows: np.log(mine).reshape(*fit.record.shape, -1)[..., rows],
        )
        found, fitted = fit.calibration(), fit.calibration("fitted")
    weights = 1 / mine
    expected = np.sort((weights * chance).sum(axis=0) / weights.sum(axis=0))
    np.testing.assert_allclose(found.predicted, np.unique(np.round(expected, 12)), atol=2e-3)  # smoothed weights
    np.testing.assert_allclose(fitted.predicted, np.unique(np.round(chance.mean(axis=0), 12)), rtol=1e-9)
    assert "leave-one-out predictions" in str(found)
    assert found.p > 0.01  # the responses were drawn with these probabilities


def test_calibration_needs_events():
    fit = hand_made(Model("Reaction ~ Days", load_dataset("sleepstudy")))
    with pytest.raises(UnsupportedError, match="yes/no"):
        fit.calibration()
