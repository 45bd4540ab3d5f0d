"""Simulation-based calibration of the marginal engine, 100 fits a model; benchmarks/sbc.py draws and does 1,000."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "sbc.py"
NAMES = ("random intercept", "correlated slopes", "crossed", "boundary")


@pytest.fixture(scope="module")
def sbc() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbc_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sbc_benchmark"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ranks_are_uniform(sbc, name):
    ranks, covered, methods = sbc.run(name, fits=100, seed=7)
    table = sbc.table(ranks, covered)
    assert set(methods) <= {"marginal", "marginal-nuts"}
    assert methods["marginal"] >= 95
    # 29 quantities in four models, each with a chance of 1 in 2,000 to fall below where all is right
    assert table.p_uniform.min() > 5e-4, table
    # 95 of 100 with a standard deviation of 2.2: a chance of 1 in 3,000 to be below 86
    assert table.coverage.min() > 0.86, table


def test_the_test_of_uniformity_sees_what_it_should(sbc):
    """Uniform ranks pass; a shift, an overconfident and an underconfident posterior do not."""
    rng = np.random.default_rng(3)
    null = sbc.null_tails(400, simulations=1000)

    def p(ranks: np.ndarray) -> float:
        return float(np.mean(null <= sbc.least_tail(sbc.ecdf(ranks), 400)))

    assert p(rng.integers(0, sbc.L + 1, 400)) > 0.001
    assert p(rng.integers(0, sbc.L - 9, 400)) < 0.01
    assert p(rng.choice([0, 1, sbc.L - 1, sbc.L, *range(sbc.L)], 400, p=[0.02] * 4 + [0.92 / sbc.L] * sbc.L)) < 0.01
    assert p(np.round(sbc.L * rng.beta(2, 2, 400)).astype(int)) < 0.01


def test_one_calibration_fit_ranks_every_quantity(sbc):
    result, method = sbc.run_one("correlated slopes", np.random.SeedSequence(1))
    names = ["Intercept", "x", "1|g_sigma", "1|g[0]", "x|g_sigma", "x|g[0]", "g_corr", "sigma", "log likelihood"]
    assert list(result) == names
    assert all(0 <= rank <= sbc.L for rank, _ in result.values())
    assert method == "marginal"
    assert sbc.run_one("correlated slopes", np.random.SeedSequence(1))[0] == result
