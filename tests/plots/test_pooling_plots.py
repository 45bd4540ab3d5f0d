"""The pooling figures by what they draw: lines are predictions of each kind of pooling, contours hold what they say."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError
from hiermod.model import Model
from hiermod.study.pooling import Pooling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def partial() -> Pooling:
    return Model("reaction ~ days + (days | subject)", load_dataset("sleep_partial")).pooling(bayes=False)


def line(pooling: Pooling, method: str, level: str, variable: str | None = None) -> pd.DataFrame:
    table = pooling.lines(variable)
    return table[(table["method"] == method) & (table["level"] == level)]


def test_partial_lines_are_the_fits_own_predictions(partial: Pooling) -> None:
    """coef along days = predict(target="conditional"); complete = lm's predictions (identities, rel 1e-10)."""
    grid = line(partial, "REML", "374")["days"].to_numpy()
    assert (grid[0], grid[-1], len(grid)) == (0.0, 9.0, 25)
    new = pd.DataFrame({"days": grid, "subject": "374"})
    assert line(partial, "REML", "374")["estimate"].to_numpy() == pytest.approx(
        partial.reml.predict(new)["estimate"].to_numpy(), rel=1e-10
    )
    lm = Model("reaction ~ days", load_dataset("sleep_partial")).reml()
    assert line(partial, "complete", "374")["estimate"].to_numpy() == pytest.approx(
        lm.predict(new)["estimate"].to_numpy(), rel=1e-10
    )


def test_no_pooling_lines_pass_through_two_points_and_miss_one(partial: Pooling) -> None:
    """Subject 374 has days 0 and 1 only: its own line goes through both; 373 has one row and no line."""
    d = load_dataset("sleep_partial")
    own = line(partial, "none", "374")
    rows = d[d["subject"].astype(str) == "374"]
    assert np.interp(rows["days"], own["days"], own["estimate"]) == pytest.approx(rows["reaction"].to_numpy())
    assert line(partial, "none", "373")["estimate"].isna().all()


def test_shared_terms_and_curves_follow_the_formula() -> None:
    """A curve in Days, a common covariate at each level's mean, against each fit's own predictions."""
    d = load_dataset("sleepstudy")
    d = d.assign(z=np.random.default_rng(1).standard_normal(len(d)))
    model = Model("Reaction ~ Days + I(Days**2) + z + (Days | Subject)", d)
    pooling = model.pooling(bayes=False)
    table = line(pooling, "REML", "330", "Days")
    z = d[d["Subject"].astype(str) == "330"]["z"].mean()
    new = pd.DataFrame({"Days": table["Days"], "z": z, "Subject": "330"})
    assert table["estimate"].to_numpy() == pytest.approx(pooling.reml.predict(new)["estimate"].to_numpy(), rel=1e-10)
    # no pooling: least squares with a dummy and a slope for each subject, by numpy
    X = np.column_stack(
        [
            pd.get_dummies(d["Subject"]).to_numpy(float),
            pd.get_dummies(d["Subject"]).to_numpy(float) * d[["Days"]].values,
        ]
    )
    beta = np.linalg.lstsq(np.column_stack([X, d["Days"] ** 2, d["z"]]), d["Reaction"])[0]
    j = list(d["Subject"].cat.categories.astype(str)).index("330")
    x = table["Days"].to_numpy()
    expected = beta[j] + beta[18 + j] * x + beta[36] * x**2 + beta[37] * z
    assert line(pooling, "none", "330", "Days")["estimate"].to_numpy() == pytest.approx(expected, rel=1e-6)


def test_every_level_has_a_facet_with_its_rows_and_lines(partial: Pooling) -> None:
    figure = partial.plot_lines()
    shown = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    d = load_dataset("sleep_partial")
    assert list(shown) == list(partial.design.blocks[0].levels)
    for level, ax in shown.items():
        rows = d[d["subject"].astype(str) == level]
        assert np.asarray(ax.collections[0].get_offsets()) == pytest.approx(rows[["days", "reaction"]].to_numpy(float))
        assert len(ax.lines) == (2 if level == "373" else 3)
    drawn = shown["374"].lines[2]
    assert drawn.get_ydata() == pytest.approx(line(partial, "REML", "374")["estimate"].to_numpy())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "complete pooling",
        "no pooling",
        "partial pooling, REML",
    ]


def test_levels_and_methods_are_chosen(partial: Pooling) -> None:
    figure = partial.plot_lines(levels=["373", "308"], methods=["complete"])
    assert [ax.get_title() for ax in figure.axes] == ["373", "308"]
    assert [len(ax.lines) for ax in figure.axes] == [1, 1]
    with pytest.raises(UnknownNameError, match="no level '999'"):
        partial.plot_lines(levels=["999"])
    with pytest.raises(UnknownNameError, match="Bayes"):
        partial.plot_lines(methods=["Bayes"])
    with pytest.raises(UnknownNameError, match="Did you mean 'days'"):
        partial.plot_lines("day")


def test_a_model_without_a_numeric_predictor_has_no_lines() -> None:
    pooling = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).pooling(bayes=False)
    with pytest.raises(ArgumentError, match="plot_shrinkage"):
        pooling.plot_lines()
    with pytest.raises(UnsupportedError, match="two coefficients"):
        pooling.plot_map()


def test_contours_hold_the_share_they_name(partial: Pooling) -> None:
    """A contour's Mahalanobis distance squared is the chi-square quantile (2 df) of its share, all the way round."""
    ax = partial.plot_map()
    contours = {one.get_gid(): one for one in ax.lines if str(one.get_gid()).startswith("contour")}
    assert list(contours) == [f"contour {p}" for p in (0.1, 0.3, 0.5, 0.7, 0.9)]
    table = partial.reml.varcorr()
    sd = table["sdcor"].to_numpy()
    cov = np.array([[sd[0] ** 2, sd[2] * sd[0] * sd[1]], [sd[2] * sd[0] * sd[1], sd[1] ** 2]])
    centre = partial.reml.fixef()["estimate"].to_numpy()
    for name, contour in contours.items():
        away = np.column_stack(contour.get_data()) - centre
        distance = np.einsum("ni,ij,nj->n", away, np.linalg.inv(cov), away)
        assert distance == pytest.approx(np.full(200, stats.chi2.ppf(float(name.split()[1]), 2)), rel=1e-9)
