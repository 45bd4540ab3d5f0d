"""Figures of model checks by what they draw: lines, bands, bars, names, labels; nothing global is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hand_made import hand_made
from scipy import stats

import hiermod as hm
from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError
from hiermod.inference.predictive.chain_draws import chain_draws, chain_energy
from hiermod.inference.predictive.reliability import calibrate
from hiermod.inference.predictive.replicates import Replicates
from hiermod.model import Model

SLOPE = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture(scope="module")
def fit() -> Any:
    return Model(SLOPE, load_dataset("sleepstudy")).fit(random_seed=1)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A count model whose simulated responses are given: 0, 1, 2 for its three rows, then 1, 1, 3."""
    d = pd.DataFrame({"y": [0, 0, 2], "x": [0.0, 1.0, 2.0]})
    fit = hand_made(Model("y ~ x", d, family="poisson"))
    simulated = np.array([[0.0, 1, 2], [1, 1, 3]])
    drawn = Replicates(np.array([0.0, 0, 2]), simulated, None, d.index, "count", "y", "conditional")
    for module in ("draw_predictive", "draw_calibration"):
        monkeypatch.setattr(f"hiermod.plots.{module}.replicates", lambda *args: drawn)
    return fit


def labelled(ax: Any, label: str) -> Any:
    return next(line for line in ax.lines if line.get_label() == label)


# --- predictive ---------------------------------------------------------------------------------------------------
def test_density_has_the_data_over_fifty_simulated_sets(fit):
    ax = hm.plots.predictive_density(fit)
    assert len(ax.lines) == 51
    assert ax.lines[-1].get_label() == "data"
    x, y = ax.lines[-1].get_data()
    assert y.sum() * (x[1] - x[0]) == pytest.approx(1.0, abs=0.01)  # a density, but for its ends
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Reaction", "density")
    given = plt.subplots()[1]
    assert hm.plots.predictive_density(fit, "ecdf", curves=5, ax=given) is given
    assert len(given.lines) == 6
    assert given.lines[-1].get_ydata()[-1] == 1.0
    with pytest.raises(UnsupportedError, match="'density' or 'ecdf'"):
        hm.plots.predictive_density(fit, "bars")


def test_bars_are_frequencies_with_intervals(counts):
    ax = hm.plots.predictive_density(counts)
    assert [bar.get_height() for bar in ax.patches] == [2, 0, 1, 0]
    points = ax.containers[1].lines[0]
    np.testing.assert_array_equal(points.get_ydata(), [0.5, 1.5, 0.5, 0.5])
    assert ax.get_ylabel() == "rows"


def test_one_facet_for_each_group(fit):
    figure = hm.plots.predictive_groups(fit, curves=4)
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in shown] == list(fit.design.blocks[0].levels)
    assert all(len(ax.lines) == 5 for ax in shown)
    rows = fit.design.y[fit.design.blocks[0].codes == 0]
    line = shown[0].lines[-1]
    assert line.get_ydata()[np.searchsorted(line.get_xdata(), np.sort(rows)[4])] == 0.5  # 5 of 10 rows
    by_day = hm.plots.predictive_groups(fit, "Days", curves=2)
    assert len([ax for ax in by_day.axes if ax.axison]) == 10
    with pytest.raises(ArgumentError, match="no grouping factor"):
        hm.plots.predictive_groups(hand_made(Model("Reaction ~ Days", load_dataset("sleepstudy"))))


def test_statistics_stand_at_the_datas_value(fit):
    figure = hm.plots.predictive_statistics(fit, ["sd", "max"])
    assert [ax.lines[0].get_xdata()[0] for ax in figure.axes] == [fit.design.y.std(ddof=1), fit.design.y.max()]
    p = fit.predictive_check(["sd", "max"], random_seed=0)["p"]
    assert figure.axes[1].get_title(loc="left") == f"max  (p = {p['max']:.3g})"
    ax = plt.subplots()[1]
    assert hm.plots.predictive_statistics(fit, "min", ax=ax) is ax
    with pytest.raises(ArgumentError, match="ax="):
        hm.plots.predictive_statistics(fit, ax=ax)


def test_intervals_mark_what_lies_outside(fit):
    ax = hm.plots.predictive_intervals(fit)
    table = fit.predictive_intervals(random_seed=0)
    outside = table.index[~table["inside"]]
    assert {text.get_text() for text in ax.texts} == {str(one) for one in outside}
    assert "56" in {text.get_text() for text in ax.texts}
    np.testing.assert_array_equal(
        np.sort(labelled(ax, "data outside").get_ydata()), np.sort(table["observed"][outside])
    )
    groups = hm.plots.predictive_intervals(fit, "Subject")
    assert len(groups.get_xticklabels()) == 18
    over = hm.plots.predictive_intervals(fit, x="Days")
    assert np.abs(labelled(over, "data").get_xdata() - np.round(labelled(over, "data").get_xdata())).max() < 0.36
    with pytest.raises(ArgumentError, match="not a column"):
        hm.plots.predictive_intervals(fit, x="days")
    with pytest.raises(ArgumentError, match="one of the two"):
        hm.plots.predictive_intervals(fit, "Subject", x="Days")


# --- calibration --------------------------------------------------------------------------------------------------
def test_loo_pit_draws_the_difference_and_its_band(fit):
    found = fit.loo_pit()
    ax = hm.plots.loo_pit_ecdf(found)
    table = found.ecdf()
    np.testing.assert_array_equal(labelled(ax, "rows").get_ydata(), table["difference"])
    outside = (table["difference"] < table["lower"]) | (table["difference"] > table["upper"])
    assert len(labelled(ax, "outside the band").get_xdata()) == outside.sum() > 0
    assert ax.get_title(loc="left") == f"LOO-PIT: uniformity p = {found.p:.2g}"
    with pytest.raises(UnsupportedError, match="Bayesian fit"):
        hm.plots.loo_pit_ecdf(Model(SLOPE, load_dataset("sleepstudy")).reml())


def test_rootograms_hang_stand_and_show_differences(counts):
    root = np.sqrt([0.5, 1.5, 0.5, 0.5])
    ax = hm.plots.rootogram(counts)
    np.testing.assert_allclose(labelled(ax, "expected").get_ydata(), root)
    np.testing.assert_allclose([bar.get_y() for bar in ax.patches], root - np.sqrt([2, 0, 1, 0]))
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], np.sqrt([2, 0, 1, 0]))
    standing = hm.plots.rootogram(counts, "standing")
    np.testing.assert_allclose([bar.get_y() for bar in standing.patches], 0)
    suspended = hm.plots.rootogram(counts, "suspended")
    np.testing.assert_allclose([bar.get_height() for bar in suspended.patches], root - np.sqrt([2, 0, 1, 0]))
    with pytest.raises(ArgumentError, match="'hanging'"):
        hm.plots.rootogram(counts, "lying")


def test_a_rootogram_is_for_counts(fit):
    with pytest.raises(UnsupportedError, match="for counts"):
        hm.plots.rootogram(fit)


def test_calibration_draws_the_isotonic_curve():
    x, y = np.array([0.1, 0.2, 0.4, 0.6, 0.9]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    found = calibrate(x, y, np.ones(5), "fitted", 0.9, 30, np.random.default_rng(0))
    ax = hm.plots.calibration(found)
    np.testing.assert_allclose(labelled(ax, "observed (isotonic)").get_ydata(), [0, 0.5, 0.5, 1, 1])
    assert ax.get_xlabel() == "predicted probability"
    assert any("Brier score" in text.get_text() for text in ax.texts)
    assert ax.collections[0].get_label().startswith("90 %")


# --- chains -------------------------------------------------------------------------------------------------------
@pytest.mark.stack
def test_traces_are_the_draws_of_every_chain(fit):
    figure = hm.plots.trace(fit, ["Days", "1|Subject[308]", "Subject_corr"])
    assert [ax.get_title(loc="left").replace("\n", "") for ax in figure.axes[::2]] == [
        "Days",
        "1|Subject[308]",
        "Subject_corr[Intercept,Days]",
    ]
    days = versions.posterior_dataset(fit.idata)["Days"].values
    for line, chain in zip(figure.axes[1].lines, days, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), chain)
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), fit.record.b[0][0, :, 0, 0])
    everything = hm.plots.trace(fit)
    assert [ax.get_title(loc="left").replace("\n", "") for ax in everything.axes[::2]] == [
        "Intercept", "Days", "sigma", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr[Intercept,Days]",
    ]  # fmt: skip


def test_unknown_parameters_name_the_nearest(fit):
    with pytest.raises(UnknownNameError, match="Did you mean 'sigma'"):
        hm.plots.trace(fit, "sigm")
    with pytest.raises(UnknownNameError, match=r"1\|Subject\[30"):
        hm.plots.trace(fit, "1|Subject[300]")
    with pytest.raises(ArgumentError, match="is empty"):
        hm.plots.trace(fit, [])
    assert len(chain_draws(fit, "1|Subject").names) == 18


def test_ranks_count_every_draw_once(fit):
    figure = hm.plots.ranks(fit, ["Days", "sigma"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Days", "sigma"]
    steps = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_data")]
    heights = np.array([step.get_data().values for step in steps])
    assert heights.shape == (4, 20)
    np.testing.assert_array_equal(heights.sum(axis=0), 200)  # 4,000 ranks in 20 classes
    places = chain_draws(fit, "Days").ranks
    assert places.ravel().tolist() == stats.rankdata(fit.record.beta[..., 1].ravel()).tolist()


@pytest.mark.stack
def test_energy_is_drawn_where_there_is_one(fit):
    with pytest.raises(UnsupportedError, match="belongs to Hamiltonian"):
        hm.plots.energy(fit)
    rng = np.random.default_rng(1)
    sampled = hand_made(Model(SLOPE, load_dataset("sleepstudy")))
    white, slow = rng.normal(size=500), np.cumsum(rng.normal(size=500))
    values = xr.DataArray(np.stack([white, slow]), dims=("chain", "draw"))
    diverging = xr.DataArray(np.zeros((2, 500), dtype=bool), dims=("chain", "draw"))
    diverging[1, 7] = True
    versions.set_group(sampled.idata, "sample_stats", xr.Dataset({"energy": values, "diverging": diverging}))
    found = chain_energy(sampled)
    assert found.bfmi[0] == pytest.approx(2.0, abs=0.3)  # white noise: Var(difference) / Var = 2
    assert found.bfmi[1] < 0.3
    ax = hm.plots.energy(sampled)
    assert ax.get_title(loc="left").endswith("(low)")
    assert [line.get_label() for line in ax.lines] == ["energy about its mean", "change from draw to draw"]
    figure = hm.plots.trace(sampled, "Days")
    assert labelled(figure.axes[1], "divergences").get_xdata().tolist() == [7]


def test_names_of_plots_are_no_modules():
    """A module's name would replace the function when the module is imported."""
    from pathlib import Path

    modules = {path.stem for path in Path(hm.__file__).parent.rglob("*.py")}
    mine = {"predictive_density", "predictive_groups", "predictive_intervals", "predictive_statistics", "loo_pit_ecdf"}
    mine |= {"rootogram", "calibration", "trace", "ranks", "energy"}
    assert mine <= set(hm.plots.__all__)
    assert mine.isdisjoint(modules)
