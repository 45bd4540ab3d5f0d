"""Figures in a person's own style: what is drawn is seen on the ground it is drawn on, titles are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermod import plots
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError
from hiermod.model import Model

LEAST = 2.1  # contrast (WCAG 2.2) of lines and marks with their ground: Okabe and Ito's orange on white has 2.2
READABLE = 4.5  # of text


@pytest.fixture(scope="module")
def figures() -> dict[str, Callable[[], Any]]:
    data = load_dataset("sleepstudy")
    model = Model("Reaction ~ Days + (Days | Subject)", data)
    reml, fit = model.reml(), model.fit(random_seed=1, progressbar=False)
    both, pooling, prior = {"Bayes": fit, "REML": reml}, model.pooling(bayes=False), model.prior_predictive(100, 1)
    return {
        "agreement": lambda: plots.agreement(fit, reml),
        "assumptions": lambda: plots.assumptions(reml),
        "caterpillar": lambda: plots.caterpillar(both, "Subject"),
        "effects": lambda: plots.effects(both, "Days"),
        "forest": lambda: plots.forest(both),
        "correlation": lambda: plots.effect_correlation(reml, "Subject"),
        "influence": lambda: plots.influence(reml.influence("Subject")),
        "lines": lambda: pooling.plot_lines(),
        "shrinkage": lambda: pooling.plot_shrinkage(),
        "map": lambda: pooling.plot_map(),
        "predictive": lambda: plots.predictive_density(fit),
        "prior": lambda: plots.prior_against_reml(prior, reml),
        "prior predictive": lambda: plots.prior_predictive(prior),
        "ranks": lambda: plots.ranks(fit),
        "spaghetti": lambda: plots.spaghetti(reml),
        "trace": lambda: plots.trace(fit),
        "variance": lambda: plots.variance_partition(fit),
    }


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def luminance(colour: Any) -> float:
    parts = np.array(to_rgb(colour))
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(a: Any, b: Any) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def figure_of(drawn: Any) -> Figure:
    one = np.ravel(drawn)[0] if isinstance(drawn, np.ndarray) else drawn
    return one if isinstance(one, Figure) else one.figure


def texts_of(figure: Figure) -> list[Any]:
    """With their words, outside bars of a colour of their own."""
    found = list(figure.texts)
    for ax in figure.axes:
        if not ax.get_visible() or not ax.axison:
            continue
        found += [
            ax.title,
            ax._left_title,
            ax.xaxis.label,
            ax.yaxis.label,
            *ax.get_xticklabels(),
            *ax.get_yticklabels(),
        ]
        found += ax.get_legend().get_texts() if ax.get_legend() else []
    return [text for text in found if text.get_text() and text.get_visible()]


def faint(ax: Axes) -> list[str]:
    """Lines and marks that are meant to be seen whole, and are not."""
    ground, found = ax.get_facecolor(), []
    for line in ax.get_lines():
        if (line.get_alpha() or 1.0) == 1.0 and contrast(line.get_color(), ground) < LEAST:
            found.append(f"line {line.get_label()}")
    for dots in ax.collections:
        if isinstance(dots, PathCollection) and (dots.get_alpha() or 1.0) == 1.0:
            colours = dots.get_edgecolors() if len(dots.get_edgecolors()) else dots.get_facecolors()
            found += [f"dots {dots.get_label()}" for one in colours[:1] if contrast(one[:3], ground) < LEAST]
    return found


def style(name: str) -> AbstractContextManager[None]:
    return plt.style.context(name) if name == "dark_background" else plots.theme(name)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dark_background", "paper", "print")]


@pytest.mark.parametrize("name", ["dark", "slides", *SLOW])
def test_what_is_drawn_is_seen(figures: dict[str, Callable[[], Any]], name: str) -> None:
    before = dict(mpl.rcParams)
    for what, draw in figures.items():
        with style(name):
            figure, ground = figure_of(draw()), mpl.rcParams["figure.facecolor"]
        assert same_color(figure.get_facecolor(), ground), what
        pale = [text.get_text() for text in texts_of(figure) if contrast(text.get_color(), ground) < READABLE]
        assert not pale, (what, pale)
        assert not [one for ax in figure.axes for one in faint(ax)], what
        plt.close(figure)
    assert dict(mpl.rcParams) == before


def test_axes_of_another_style_keep_their_ground() -> None:
    reml = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()
    with plt.style.context("dark_background"):
        dark = plt.subplots()[1]
    plots.caterpillar(reml, "Subject", "Days", ax=dark)
    assert same_color(dark.get_facecolor(), "black")
    zero = next(line for line in dark.get_lines() if isinstance(line, Line2D) and line.get_xdata()[0] == 0.0)
    assert same_color(zero.get_color(), "white")
    light = Figure(facecolor="#fff8e7").subplots()
    light.set_facecolor("none")
    plots.caterpillar(reml, "Subject", "Days", ax=light)
    assert light.get_facecolor()[3] == 0


def test_a_persons_settings_win() -> None:
    reml = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()
    with mpl.rc_context({"font.size": 7.5, "axes.grid": True, "grid.color": "#ff0000", "axes.spines.top": True}):
        ax = plots.forest(reml)
        assert not ax.spines["top"].get_visible()  # True is also what nobody has set
        assert ax.get_xticklabels()[0].get_fontsize() == pytest.approx(7.5)
        assert same_color(ax.get_xgridlines()[0].get_color(), "#ff0000")
    with pytest.raises(ArgumentError, match=r"theme is .drak.\. Did you mean .dark."), plots.theme("drak"):
        pass


@pytest.mark.parametrize("name", ["slides", pytest.param("paper", marks=pytest.mark.slow)])
def test_titles_are_whole(name: str) -> None:
    rng = np.random.default_rng(1)
    response, factor = "reading_comprehension_score_in_spring", "school_of_the_first_assessment"
    data = pd.DataFrame({response: rng.normal(size=120), "hours_of_instruction_per_week": rng.normal(size=120)})
    data[factor] = np.repeat([f"school number {i}" for i in range(12)], 10)
    data[response] += 0.5 * rng.normal(size=12).repeat(10) + 0.4 * rng.normal(size=12).repeat(10) * data.iloc[:, 1]
    x = "hours_of_instruction_per_week"
    model = Model(f"{response} ~ {x} + ({x} | {factor})", data)
    reml, fit = model.reml(), model.fit(random_seed=1, progressbar=False)
    prior = model.prior_predictive(100, 1)
    with plots.theme(name):
        drawn = [
            plots.agreement(fit, reml), plots.prior_predictive(prior), plots.effect_correlation(reml, factor),
            plots.influence(reml.influence(factor)), plots.spaghetti(reml), plots.prior_against_reml(prior, reml),
            plots.effects(reml, x),
        ]  # fmt: skip
    for one in drawn:
        figure = figure_of(one)
        figure.canvas.draw()
        for text in [*figure.texts, *(title for ax in figure.axes for title in (ax.title, ax._left_title))]:
            if text.get_text():
                box = text.get_window_extent()
                assert box.x0 >= -1, text
                assert box.x1 <= figure.bbox.width + 1, text
