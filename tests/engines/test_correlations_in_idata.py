"""Correlation matrices in idata: exactly 1 on the diagonal, symmetric, and drawn by ArviZ's own plots."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core import versions
from hiermod.engines.marginal.coordinates import correlation_matrix, exact_correlations

pytestmark = pytest.mark.stack

PLOTS = ("plot_trace", "plot_rank", "plot_posterior", "plot_trace_dist", "plot_rank_dist")  # ArviZ 0.x and 1.x


@pytest.fixture(scope="module")
def model() -> hm.Model:
    rng = np.random.default_rng(3)
    n = 120
    data = pd.DataFrame({"x": rng.normal(size=n), "g": np.repeat(np.arange(12), 10)})
    data["y"] = 2 + data["x"] + rng.normal(size=12)[data["g"]] * (1 + data["x"]) + rng.normal(size=n)
    return hm.Model("y ~ x + (x | g)", data)


@pytest.fixture(scope="module")
def fit(model: hm.Model) -> Any:
    return model.fit(random_seed=1, draws=200)


def matrices(idata: Any, group: str = "posterior") -> np.ndarray:
    return versions.group_dataset(idata, group)["g_corr"].transpose("chain", "draw", ...).values


def assert_exact(R: np.ndarray) -> None:
    assert (np.diagonal(R, axis1=-2, axis2=-1) == 1.0).all()
    assert np.array_equal(R, np.swapaxes(R, -1, -2))
    assert np.abs(R).max() == 1.0  # no correlation beyond it


def assert_drawn(idata: Any) -> None:
    import arviz as az

    drawn = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ and matplotlib have their own to say
        for name in PLOTS:
            if name in dir(az):
                getattr(az, name)(idata, var_names=["g_corr"])
                plt.close("all")
                drawn += 1
    assert drawn >= 3


def test_of_the_marginal_engine(fit: Any) -> None:
    assert_exact(matrices(fit.idata))
    assert_drawn(fit.idata)


def test_of_a_file_also_of_one_that_an_earlier_version_wrote(fit: Any, tmp_path: Any) -> None:
    assert_exact(matrices(hm.load(fit.save(tmp_path / "now.nc")).idata))
    below = np.array(matrices(fit.idata))
    below[..., range(2), range(2)] -= np.where(np.arange(200)[:, None] % 3, 2.0**-53, 0.0)  # as rounding left them
    posterior = versions.posterior_dataset(fit.idata).copy()
    posterior["g_corr"] = posterior["g_corr"].copy(data=below)
    earlier = hm.Model("y ~ x + (x | g)", fit.design.frame).fit(random_seed=1, draws=200)
    earlier.record = replace(earlier.record, idata=versions.replace_groups(fit.idata, posterior=posterior))
    back = hm.load(earlier.save(tmp_path / "earlier.nc"))
    assert_exact(matrices(back.idata))
    assert_exact(back.record.corr[0])


def test_of_the_prior(model: hm.Model) -> None:
    assert_exact(matrices(model.prior_predictive(draws=200, random_seed=1).idata, "prior"))


def test_what_rounding_leaves_is_mended_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    L = np.tril(rng.normal(size=(500, 4, 4)))
    L /= np.linalg.norm(L, axis=-1, keepdims=True)
    rough = L @ np.swapaxes(L, 1, 2)
    assert (np.diagonal(rough, axis1=1, axis2=2) != 1.0).any()  # what the exact ones mend
    assert_exact(correlation_matrix(L))
    assert np.abs(exact_correlations(rough) - rough).max() < 1e-15
