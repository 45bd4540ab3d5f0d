"""plot_shrinkage by what it draws: arrows and where they start and end, points, names, and nothing global."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from matplotlib.figure import Figure

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnknownNameError
from hiermod.model import Model
from hiermod.plots import shrinkage
from hiermod.study.pooling import Pooling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def two() -> Pooling:
    model = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    return model.pooling(bayes=hand_made(model, beta=[250.0, 10.0], sds=10.0))


@pytest.fixture(scope="module")
def one() -> Pooling:
    return Model("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy")).pooling(bayes=False)


def arrows(ax: Any) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """(from, to) of every arrow, in data coordinates."""
    return [(text.get_position(), text.xy) for text in ax.texts if text.arrow_patch is not None]


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def points(ax: Any, label: str) -> np.ndarray:
    found = [c for c in ax.collections if str(c.get_label()).startswith(label)]
    assert len(found) == 1, label
    return np.asarray(found[0].get_offsets())


def estimates(pooling: Pooling, method: str) -> np.ndarray:
    return pooling.wide()[method].unstack("term", sort=False)[list(pooling.terms)].to_numpy()


def test_two_terms_are_a_plane_of_arrows(two: Pooling) -> None:
    ax = two.plot_shrinkage()
    own, pooled = estimates(two, "none"), estimates(two, "Bayes")
    drawn = arrows(ax)
    assert len(drawn) == 18
    assert np.array([start for start, _ in drawn]) == pytest.approx(own)
    assert np.array([end for _, end in drawn]) == pytest.approx(pooled)
    assert points(ax, "no pooling") == pytest.approx(own)
    assert points(ax, "partial pooling, Bayes") == pytest.approx(pooled)
    assert points(ax, "partial pooling, REML") == pytest.approx(estimates(two, "REML"))
    population = two.bayes.fixef()["estimate"].to_numpy()
    assert points(ax, "population") == pytest.approx(population[None, :])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept (Reaction)", "Days (change in Reaction)")
    assert ax.get_title(loc="left") == "Shrinkage of Intercept and Days by Subject"
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == [
        "no pooling (each Subject alone)",
        "partial pooling, REML",
        "partial pooling, Bayes",
        "population",
    ]


def test_the_groups_that_moved_most_are_named(two: Pooling) -> None:
    own, pooled = estimates(two, "none"), estimates(two, "Bayes")
    moved = np.sqrt((((pooled - own) / own.std(axis=0)) ** 2).sum(axis=1))
    levels = np.array(two.design.blocks[0].levels)
    for count in (0, 3, 18):
        assert words(two.plot_shrinkage(label=count)) == list(levels[np.argsort(-moved)][:count])


def test_one_term_is_a_row_per_group(one: Pooling) -> None:
    ax = one.plot_shrinkage()
    drawn = arrows(ax)
    own, pooled = estimates(one, "none")[:, 0], estimates(one, "REML")[:, 0]
    order = np.argsort(own)
    assert np.array([start for start, _ in drawn]) == pytest.approx(np.column_stack([own[order], np.arange(18)]))
    assert np.array([end for _, end in drawn]) == pytest.approx(np.column_stack([pooled[order], np.arange(18)]))
    levels = one.design.blocks[0].levels
    assert [text.get_text() for text in ax.get_yticklabels()] == [levels[i] for i in order]
    (line,) = ax.lines
    assert line.get_xdata()[0] == pytest.approx(one.reml.fixef().loc["Intercept", "estimate"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept (Reaction)", "Subject")


def test_terms_and_the_arrows_end_are_chosen() -> None:
    rng = np.random.default_rng(0)
    d = load_dataset("sleepstudy").assign(z=lambda d: rng.standard_normal(len(d)))
    d["Reaction"] += d["z"] * pd.Series(rng.normal(20, 15, 18), index=d["Subject"].unique())[d["Subject"]].to_numpy()
    model = Model("Reaction ~ Days + z + (Days + z | Subject)", d)
    pooling = model.pooling(bayes=hand_made(model))
    ax = pooling.plot_shrinkage(x="z", y="Days", partial="REML")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z (change in Reaction)", "Days (change in Reaction)")
    assert np.array([end for _, end in arrows(ax)]) == pytest.approx(estimates(pooling, "REML")[:, [2, 1]])
    assert not [c for c in ax.collections if "Bayes" in str(c.get_label())]
    assert pooling.plot_shrinkage(x="z").get_ylabel() == "Intercept (Reaction)"
    assert pooling.plot_shrinkage(y="z").get_xlabel() == "Intercept (Reaction)"
    assert pooling.plot_shrinkage(y="Intercept").get_xlabel() == "Days (change in Reaction)"
    assert pooling.plot_shrinkage(x="z", y="z").get_ylabel() == "Subject"  # one term: a row per group
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        pooling.plot_shrinkage(x="days")
    with pytest.raises(ArgumentError, match="partial must be"):
        shrinkage(model.pooling(bayes=False), partial="Bayes")


def test_groups_without_an_estimate_of_their_own_have_no_arrow() -> None:
    pooling = Model("reaction ~ days + (days | subject)", load_dataset("sleep_partial")).pooling(bayes=False)
    ax = pooling.plot_shrinkage()
    assert len(arrows(ax)) == 19
    assert len(points(ax, "partial pooling, REML")) == 20
    assert "No arrow, too few rows of their own: subject 373" in words(ax)
    slopes = pooling.plot_shrinkage(x="days", y="days")
    assert len(arrows(slopes)) == 19
    assert len(slopes.get_yticks()) == 20


def test_nothing_global_changes_and_given_axes_are_used(two: Pooling, one: Pooling, tmp_path: Path) -> None:
    ax = Figure(figsize=(8, 6)).subplots()
    assert two.plot_shrinkage(ax=ax) is ax
    with mpl.rc_context({"font.size": 7.5, "axes.grid": False}):  # someone's own settings
        before = dict(mpl.rcParams)
        two.plot_shrinkage()
        one.plot_shrinkage()
        assert dict(mpl.rcParams) == before
    for pooling, name in ((two, "two.png"), (one, "one.png")):
        drawn = pooling.plot_shrinkage().figure
        drawn.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 20_000
        assert drawn.get_figwidth() / drawn.get_figheight() > 1  # as wide as a slide asks
