"""hm.plots.effects by what it draws: lines and ribbons where ``means`` puts them, rows behind, names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from matplotlib.figure import Figure

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from hiermod.model import Model
from hiermod.plots import effects


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleepstudy() -> Model:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cake() -> Any:
    return Model("angle ~ recipe * temperature + (1 | recipe:replicate)", load_dataset("cake")).reml()


def named(ax: Any, label: str) -> Any:
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def test_a_number_is_a_line_with_a_ribbon(sleepstudy: Model) -> None:
    fit = sleepstudy.reml()
    ax = effects(fit, "Days", interval=0.8)
    line = max(ax.lines, key=lambda one: one.get_linewidth())
    x = np.array(line.get_xdata())
    table = fit.means("Days", at={"Days": x}, level=0.8)
    assert (x[0], x[-1]) == (0.0, 9.0)
    assert np.array(line.get_ydata()) == pytest.approx(table["estimate"].to_numpy())
    (ribbon,) = [c for c in ax.collections if type(c).__name__.endswith("PolyCollection")]
    box = ribbon.get_paths()[0].get_extents()
    assert (box.y0, box.y1) == pytest.approx((table["lower"].min(), table["upper"].max()))
    (rows,) = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    data = load_dataset("sleepstudy")[["Days", "Reaction"]]
    assert np.asarray(rows.get_offsets()) == pytest.approx(data.to_numpy())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("Days", "Reaction", None)
    bare = effects(fit, "Days", data=False)
    assert not [c for c in bare.collections if type(c).__name__ == "PathCollection"]


def test_a_factor_by_another_is_points_with_bars(cake: Any) -> None:
    ax = effects(cake, "temperature", by="recipe")
    table = cake.means(["recipe", "temperature"])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["175", "185", "195", "205", "215", "225"]
    places = []
    for recipe in ("A", "B", "C"):
        line = named(ax, recipe)
        assert np.array(line.get_ydata()) == pytest.approx(table.loc[recipe, "estimate"].to_numpy())
        places.append(np.array(line.get_xdata()))
    assert np.array(places[1]) == pytest.approx(np.arange(6.0))  # the middle one stands on the tick
    assert (places[0] < places[1]).all()
    assert (places[1] < places[2]).all()
    bars = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    drawn = np.array([segment[:, 1] for segment in bars[0].get_segments()])
    assert drawn == pytest.approx(table.loc["A", ["lower", "upper"]].to_numpy())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B", "C"]
    (rows,) = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    assert len(rows.get_offsets()) == 270
    assert np.abs(np.asarray(rows.get_offsets())[:, 0] - np.round(np.asarray(rows.get_offsets())[:, 0])).max() < 0.4


def test_fits_beside_each_other(sleepstudy: Model) -> None:
    fits = {"REML": sleepstudy.reml(), "Bayes": hand_made(sleepstudy, beta=[250.0, 11.0], sds=10.0)}
    ax = effects(fits, "Days")
    for name, fit in fits.items():
        line = named(ax, name)
        expected = fit.means("Days", at={"Days": np.array(line.get_xdata())})["estimate"].to_numpy()
        assert np.array(line.get_ydata()) == pytest.approx(expected)
    assert named(ax, "REML").get_color() != named(ax, "Bayes").get_color()
    assert named(ax, "REML").get_linestyle() != named(ax, "Bayes").get_linestyle()


def test_a_number_by_a_number_and_the_response_scale() -> None:
    d = load_dataset("grouseticks")
    model = Model("TICKS ~ YEAR * h + (1 | BROOD)", d.assign(h=(d["HEIGHT"] - 460) / 100), family="poisson")
    fit = model.ml()
    ax = effects(fit, "h", by="YEAR")
    line = named(ax, "96")
    at = {"h": np.array(line.get_xdata()), "YEAR": "96"}
    expected = fit.means("h", at=at, scale="response")["estimate"].to_numpy()
    assert np.array(line.get_ydata()) == pytest.approx(expected)
    assert "typical group" in ax.get_title(loc="left")
    assert "averaged over groups" in effects(fit, "h", target="new_group").get_title(loc="left")
    cars = load_dataset("mtcars")
    ax = effects(Model("mpg ~ wt * hp", cars).reml(), "wt", by="hp")
    low, middle, high = (float(text.get_text()) for text in ax.get_legend().get_texts())
    assert middle == pytest.approx(cars["hp"].mean(), rel=1e-3)  # labels have four digits
    assert high - middle == pytest.approx(cars["hp"].std(), rel=1e-2)
    assert middle - low == pytest.approx(cars["hp"].std(), rel=1e-2)


def test_given_axes_and_nothing_global(sleepstudy: Model) -> None:
    ax = Figure(figsize=(8, 6)).subplots()
    with mpl.rc_context({"font.size": 7.5}):
        before = dict(mpl.rcParams)
        assert effects(sleepstudy.reml(), "Days", ax=ax) is ax
        assert dict(mpl.rcParams) == before


def test_bad_requests(cake: Any) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'recipe'"):
        effects(cake, "recip")
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        effects(cake, "recipe", by="temperatur")
    with pytest.raises(ArgumentError, match="another predictor"):
        effects(cake, "recipe", by="recipe")
    with pytest.raises(ArgumentTypeError, match="fit must be a fit"):
        effects("cake", "recipe")


NAMES = {
    "six": [f"Bedingung {i} mit einem ziemlich langen Namen" for i in range(1, 7)],
    "twelve": [f"Level with a name of 30 signs {i:02d}" for i in range(12)],
    "five": ["sehr zufrieden", "eher zufrieden", "teils, teils", "eher unzufrieden", "sehr unzufrieden"],
    "long words": ["Donaudampfschifffahrtsgesellschaft", "Rindfleischetikettierung", "Kraftfahrzeughaftpflicht", "a"],
    "ends": [f"{'the same beginning of a very long name ' * 2}{i}" for i in range(3)],
    "short": [*"abc"],
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("size", [(7.2, 4.8), (4.0, 4.0)])
def test_names_of_levels_never_lie_on_each_other(names: str, size: tuple[float, float]) -> None:
    levels, rng = NAMES[names], np.random.default_rng(1)
    d = pd.DataFrame({"f": np.tile(levels, 20), "the time (ms)": rng.normal(size=20 * len(levels))})
    with plt.rc_context({"figure.figsize": size, "figure.constrained_layout.use": True}):
        figure, ax = plt.subplots()
    fit = Model("`the time (ms)` ~ f", d).reml()
    effects(fit, "f", ax=ax)
    figure.canvas.draw()
    assert ax.get_ylabel() == "the time (ms)"  # the formula's backticks are no part of the name
    labels = ax.get_xticklabels()
    assert len({label.get_text() for label in labels}) == len(levels)
    angle = np.radians(labels[0].get_rotation())
    room = figure.bbox
    flat = []
    for label in labels:
        box = label.get_window_extent()
        assert box.y0 >= room.y0 - 1
        label.set_rotation(0)
        flat.append(label.get_window_extent())
        label.set_rotation(np.degrees(angle))
    ticks = ax.transData.transform([(place, 0) for place in ax.get_xticks()])[:, 0]
    if angle:  # parallel strips: apart where the distance across them is more than they are high
        assert np.diff(ticks).min() * np.sin(angle) > max(box.height for box in flat)
    else:
        assert all(one.x1 <= other.x0 + 1 for one, other in pairwise(flat))
    plt.close(figure)
