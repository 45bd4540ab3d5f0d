"""From no pooling to complete pooling: the estimates against dense algebra, and what the three pictures draw."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag

import hiermod as hm
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.fits.frequentist import FrequentistFit
from hiermod.inference.groups.spread_path import spread_path
from hiermod.model import Model
from hiermod.plots.draw_spread import film_scales


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def reml() -> FrequentistFit:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()


def at(path: object, scale: float) -> pd.DataFrame:
    table = path.estimates[path.estimates["scale"] == scale]  # type: ignore[attr-defined]
    return table.pivot_table(index="level", columns="term", values="estimate", sort=False)


def dense(y: np.ndarray, X: np.ndarray, Z: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """beta, b and the profiled REML criterion for relative covariance S of b, by generalised least squares."""
    V = np.eye(len(y)) + Z @ S @ Z.T
    W = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
    r = y - X @ beta
    m = len(y) - X.shape[1]
    criterion = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W @ X)[1]
    return beta, S @ Z.T @ W @ r, criterion + m * (1 + np.log(2 * np.pi * (r @ W @ r) / m))


def test_the_ends_and_the_middle_are_known_fits(reml: FrequentistFit) -> None:
    """0: least squares of all rows; 1: the fit; 10,000: least squares of each subject (to 1e-6: shrinkage 1e-8)."""
    d = load_dataset("sleepstudy")
    path = spread_path(reml, scales=[0, 1, 1e4])
    slope, intercept = np.polyfit(d["Days"], d["Reaction"], 1)
    assert at(path, 0.0).to_numpy() == pytest.approx(np.tile([intercept, slope], (18, 1)), rel=1e-9)
    own = reml.coef().pivot_table(index="level", columns="term", values="estimate", sort=False)
    pd.testing.assert_frame_equal(at(path, 1.0), own, check_dtype=False, rtol=1e-9)
    for level, rows in d.groupby("Subject", observed=True):
        assert at(path, 1e4).loc[str(level)].to_numpy() == pytest.approx(
            np.polyfit(rows["Days"], rows["Reaction"], 1)[::-1], rel=1e-6
        )
    assert path.criterion[1.0] == pytest.approx(reml.criterion, rel=1e-12)
    assert path.criterion[0.0] == pytest.approx(Model("Reaction ~ Days", d).reml().criterion, rel=1e-10)
    assert path.sds.to_numpy() == pytest.approx(reml.varcorr()["sdcor"].to_numpy()[:2])


def test_between_them_by_dense_algebra(reml: FrequentistFit) -> None:
    """Generalised least squares with Z and V written out, Sigma / sigma^2 times 0.3^2."""
    d = load_dataset("sleepstudy")
    X = np.column_stack([np.ones(180), d["Days"]])
    codes = d["Subject"].cat.codes.to_numpy()
    Z = np.zeros((180, 36))
    for i, j in enumerate(codes):
        Z[i, 2 * j : 2 * j + 2] = X[i]
    v = reml.varcorr()["vcov"].to_numpy()
    S = 0.3**2 * np.array([[v[0], v[2]], [v[2], v[1]]]) / v[3]
    beta, b, criterion = dense(d["Reaction"].to_numpy(), X, Z, block_diag(*[S] * 18))
    path = spread_path(reml, scales=[0.3])
    assert at(path, 0.3).to_numpy() == pytest.approx(beta + b.reshape(18, 2), rel=1e-9)
    assert path.criterion[0.3] == pytest.approx(criterion, rel=1e-10)


def test_other_factors_keep_their_spread() -> None:
    """penicillin, crossed: plate's spread times 2, sample's as fitted; by dense algebra."""
    d = load_dataset("penicillin")
    reml = Model("diameter ~ 1 + (1 | plate) + (1 | sample)", d).reml()
    v = reml.varcorr()["vcov"].to_numpy()
    Z = [pd.get_dummies(d[name]).to_numpy(float) for name in ("plate", "sample")]
    S = np.diag(np.repeat([4 * v[0] / v[2], v[1] / v[2]], [24, 6]))
    beta, b, criterion = dense(d["diameter"].to_numpy(float), np.ones((144, 1)), np.hstack(Z), S)
    path = spread_path(reml, "plate", [2.0])
    assert at(path, 2.0)["Intercept"].to_numpy() == pytest.approx(beta + b[:24], rel=1e-9)
    assert path.criterion[2.0] == pytest.approx(criterion, rel=1e-9)


def test_a_singular_fit_has_curves_of_its_own() -> None:
    """Eight schools: the fitted sd is 0.  At the largest scale each school is its own estimate (se at most 18)."""
    d = load_dataset("eight_schools")
    model = Model("effect ~ 1 + (1 | school)", d, se="se")
    with pytest.warns(hm.SingularFitWarning):
        reml = model.reml()
    path = spread_path(reml, scales=[0, 1e4])
    assert (path.at_fit, path.pooled) == (False, True)
    w = 1 / d["se"] ** 2
    assert at(path, 0.0)["Intercept"].to_numpy() == pytest.approx(np.full(8, (w * d["effect"]).sum() / w.sum()))
    assert at(path, 1e4)["Intercept"].to_numpy() == pytest.approx(d["effect"].to_numpy(float), abs=1e-3)
    ax = hm.plots.pooling_path(reml)
    assert ax.get_legend().get_texts()[-1].get_text() == "REML's own fit: an sd of 0, complete pooling"


def test_curves_run_from_one_point_to_each_levels_own(reml: FrequentistFit) -> None:
    ax = hm.plots.pooling_path(reml, "Days")
    curves = {line.get_gid().removeprefix("path "): line for line in ax.lines if str(line.get_gid()).startswith("path")}
    assert list(curves) == list(reml.design.blocks[0].levels)
    path = spread_path(reml)
    for level, line in curves.items():
        table = path.estimates
        part = table[(table["term"] == "Days") & (table["scale"] > 0) & (table["level"] == level)]
        assert line.get_xdata() == pytest.approx(part["sd"].to_numpy())
        assert line.get_ydata() == pytest.approx(part["estimate"].to_numpy())
    upright = next(line for line in ax.lines if line.get_label() == "REML")
    assert upright.get_xdata()[0] == pytest.approx(reml.varcorr()["sdcor"].iloc[1])
    names = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert sorted(names, key=names.__getitem__) == sorted(curves, key=lambda level: curves[level].get_ydata()[-1])
    gaps = np.diff(sorted(names.values()))
    assert gaps.min() >= 0.0359 * np.ptp(ax.get_ylim())  # names do not overlap


def test_steps_show_the_lines_and_the_criterion(reml: FrequentistFit) -> None:
    figure = hm.plots.pooling_steps(reml, scales=[100, 0.5, 1, 0])
    axes = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in axes] == [
        "no pooling",
        "groups' sd × 0.5",
        "partial pooling, REML",
        "complete pooling",
    ]
    path = spread_path(reml, scales=[0.5])
    first = axes[1].lines[0]
    coef = at(path, 0.5).iloc[0]
    assert first.get_ydata() == pytest.approx(coef["Intercept"] + coef["Days"] * first.get_xdata())
    assert [len(ax.lines) for ax in axes] == [18] * 4
    worse = path.criterion[0.5] - reml.criterion
    assert axes[1].texts[0].get_text() == f"sd: Intercept 12.4, Days 2.96\nREML criterion +{worse:.3g}"
    assert axes[2].texts[0].get_text().endswith("REML criterion lowest")


def test_a_film_shows_every_spread(reml: FrequentistFit) -> None:
    film = hm.plots.pooling_animation(reml, frames=6)
    scales = film_scales(6)
    assert (scales[0], scales[-1], 1.0 in scales, len(scales)) == (100.0, 0.0, True, 6)
    lines = spread_path(reml, scales=scales).lines()
    ax = film._fig.axes[0]
    for i, scale in enumerate(film.new_frame_seq()):
        assert scale == scales[i]
        film._draw_frame(scale)
        wanted = lines.loc[lines["scale"] == scale, "estimate"].to_numpy().reshape(18, -1)
        assert np.array([line.get_ydata() for line in ax.lines]) == pytest.approx(wanted)
    assert ax.get_title(loc="left") == "complete pooling"
    low, high = ax.get_ylim()
    assert low < lines["estimate"].min() < lines["estimate"].max() < high
    film._draw_was_started = True  # else matplotlib warns that nobody saw it


def test_spreads_refuse_other_fits_and_numbers(reml: FrequentistFit) -> None:
    with pytest.raises(ArgumentTypeError, match=r"REML or ML fit|must be a fit"):
        hm.plots.pooling_path(3)
    with pytest.raises(UnsupportedError, match="no group effects"):
        hm.plots.pooling_path(Model("Reaction ~ Days", load_dataset("sleepstudy")).reml())
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        hm.plots.pooling_path(reml, "Day")
    for scales in ([-1.0], [1.0, 1.0], [], [1e5], [np.nan]):
        with pytest.raises(ArgumentError, match="different numbers from 0"):
            hm.plots.pooling_steps(reml, scales=scales)
    with pytest.raises(ArgumentError, match="at least 5"):
        hm.plots.pooling_animation(reml, frames=2)
    one = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).reml()
    with pytest.raises(ArgumentError, match="numeric predictor"):
        hm.plots.pooling_steps(one)
