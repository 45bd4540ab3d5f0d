"""The seam between ArviZ, PyMC and Bambi of two generations answers alike on both."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

from hiermod.core import versions

pytestmark = pytest.mark.stack


@pytest.fixture
def idata():
    values = np.random.default_rng(1).normal(size=(4, 200))
    posterior = xr.Dataset({"a": (("chain", "draw"), values)}, coords={"chain": range(4), "draw": range(200)})
    return versions.make_idata({"posterior": posterior, "observed_data": xr.Dataset({"y": ("row", [1.0, 2.0])})})


def test_groups(idata):
    assert set(versions.group_names(idata)) == {"posterior", "observed_data"}
    dataset = versions.posterior_dataset(idata)
    assert isinstance(dataset, xr.Dataset)
    assert dataset["a"].dims == ("chain", "draw")
    with pytest.raises(KeyError):
        versions.group_dataset(idata, "prior")


def test_replacing_groups_makes_a_new_result(idata):
    other = versions.replace_groups(idata, prior=versions.posterior_dataset(idata), observed_data=None)
    assert set(versions.group_names(other)) == {"posterior", "prior"}
    assert set(versions.group_names(idata)) == {"posterior", "observed_data"}


def test_pickles(idata):
    copy = pickle.loads(pickle.dumps(idata))
    assert versions.posterior_dataset(copy).identical(versions.posterior_dataset(idata))


def test_diagnostics_of_independent_draws():
    draws = np.random.default_rng(2).normal(size=(4, 1000, 2, 3))
    assert versions.r_hat(draws).shape == (2, 3)
    assert (versions.r_hat(draws) < 1.01).all()
    for ess in (versions.ess_bulk(draws), versions.ess_tail(draws)):
        assert ((ess > 3000) & (ess < 5000)).all()  # 4,000 independent draws; ESS is itself uncertain by about 5 %
    np.testing.assert_allclose(versions.mcse(draws), 1 / np.sqrt(4000), rtol=0.15)
    # Normal quantile: sqrt(p (1 - p) / n) / density, .95 -> 0.0334
    np.testing.assert_allclose(versions.mcse(draws, "quantile", prob=0.95), 0.0334, rtol=0.4)
    assert (versions.mcse(draws, "sd") < 0.02).all()


def test_diagnostics_agree_with_hand_made_r_hat():
    """Split R-hat of normal scores of ranks, bulk and folded (Vehtari et al. 2021, equations 1-4 and 14)."""
    from scipy import stats

    rng = np.random.default_rng(3)
    draws = rng.normal(size=(3, 200)) + np.array([0.0, 0.2, 0.5])[:, None]

    def r_hat(values: np.ndarray) -> float:
        ranks = stats.rankdata(values).reshape(values.shape)
        scores = stats.norm.ppf((ranks - 0.375) / (values.size + 0.25))
        n = scores.shape[1]
        within, between = scores.var(axis=1, ddof=1).mean(), n * scores.mean(axis=1).var(ddof=1)
        return float(np.sqrt(((n - 1) / n * within + between / n) / within))

    halves = np.concatenate([draws[:, :100], draws[:, 100:]])
    expected = max(r_hat(halves), r_hat(np.abs(halves - np.median(halves))))
    assert versions.r_hat(draws) == pytest.approx(expected, rel=1e-10)


def test_undefined_diagnostics_are_nan():
    still = np.ones((4, 100, 2))
    still[..., 1] = np.random.default_rng(1).normal(size=(4, 100))
    for values in (versions.r_hat(still), versions.ess_bulk(still), versions.ess_tail(still), versions.mcse(still)):
        assert np.isnan(values[0])
        assert np.isfinite(values[1])
    assert np.isnan(versions.r_hat(np.random.default_rng(1).normal(size=(2, 2, 1)))).all()


def test_code_that_one_process_caches_is_not_taken_for_that_of_another_graph(tmp_path):
    """Two graphs that differ in a constant only, each compiled by a process of its own, then both in a third.

    With PyTensor before 2.38.3 they have one name in the cache's machine code, and the third process has the first's
    numbers twice; a fit then is of another model's data."""
    code = """
        import sys
        import numpy as np
        import pytensor
        import pytensor.tensor as pt

        x = pt.dvector("x")
        for factor in sys.argv[1:]:
            function = pytensor.function([x], pt.dot(x, np.full(5, float(factor))), mode="NUMBA")
            print(function(np.ones(5)) / 5)
    """
    flags = f"base_compiledir={tmp_path},cxx="
    environment = {**os.environ, "PYTENSOR_FLAGS": flags, "PYTHONHASHSEED": "0"}  # which is part of the names too
    for factors in (["1"], ["2"], ["1", "2"]):
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *factors]
        found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
        np.testing.assert_allclose([float(one) for one in found], [float(one) for one in factors], rtol=1e-12)
