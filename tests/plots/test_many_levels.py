"""Figures of factors with many levels: a sample of them, the same every time, and the figure says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.inference.assumptions import assumption_tables
from hiermod.plots.style import sampled
from hiermod.study.pooling import Pooling

LEVELS = 700


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(LEVELS), 4)
    x = rng.normal(size=len(g))
    y = rng.normal(size=LEVELS)[g] + (0.5 + rng.normal(size=LEVELS)[g]) * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{j}" for j in g]})


@pytest.fixture(scope="module")
def model(data: pd.DataFrame) -> hm.Model:
    return hm.Model("y ~ x + (x | g)", data)


@pytest.fixture(scope="module")
def pooling(model: hm.Model) -> Pooling:
    return model.pooling(bayes=False)


def test_a_sample_is_even_and_has_the_extremes() -> None:
    values = pd.Series(np.random.default_rng(1).normal(size=1000), index=[f"g{j}" for j in range(1000)])
    chosen = sampled(values)
    assert len(chosen) == 150
    assert chosen.equals(sampled(values))
    assert {values.idxmin(), values.idxmax()} <= set(chosen)
    ranks = np.sort(values.rank()[chosen])
    assert set(np.diff(ranks)) <= {6.0, 7.0}  # 999 / 149 = 6.7 ranks apart
    other = values.sample(frac=1, random_state=2).set_axis(values.index)
    both = sampled(values, other)
    assert 130 <= len(both) <= 150
    assert {values.idxmin(), values.idxmax(), other.idxmin(), other.idxmax()} <= set(both)
    assert sampled(values[:300]).equals(values.index[:300])


@pytest.mark.parametrize("draw", ["plot_shrinkage", "plot_map"])
def test_shrinkage_draws_a_sample(pooling: Pooling, draw: str) -> None:
    ax = getattr(pooling, draw)()
    shown = next(one for one in ax.collections if one.get_label() == "partial pooling, REML").get_offsets()
    assert len(shown) <= 150
    assert ax.get_title(loc="left") == f"Shrinkage of Intercept and x, {len(shown)} of 700 levels of g"
    estimates = pooling.wide()["REML"]
    for at, term in enumerate(("Intercept", "x")):
        own = estimates.xs(term, level="term")
        assert shown[:, at].min() == own.min()
        assert shown[:, at].max() == own.max()


def test_names_of_rows_do_not_stand_over_each_other(pooling: Pooling) -> None:
    ax = pooling.plot_shrinkage(x="x", y="x", label=20)
    assert ax.get_title(loc="left") == "Shrinkage of x, 150 of 700 levels of g"
    ticks = np.sort(ax.get_yticks())
    assert 2 <= len(ticks) <= 20
    assert np.diff(ticks).min() >= 150 / 40


def test_caterpillars_draw_a_sample_and_tell_the_true_ends(model: hm.Model) -> None:
    reml = model.reml()
    ax = hm.plots.caterpillar(reml, term="x")
    assert ax.get_title(loc="left") == "x, 150 of 700 levels of g"
    assert len(ax.lines[0].get_xdata()) == 150
    effects = reml.ranef().query("term == 'x'").set_index("level")["estimate"].sort_values()
    ends = f"highest: {', '.join(effects.index[:-6:-1])}\nlowest: {', '.join(effects.index[:5])}"
    assert ax.texts[0].get_text() == ends
    figure = hm.plots.caterpillars(reml)
    assert figure.axes[0].get_ylabel() == "150 of 700 levels of g"
    assert [len(one.lines[0].get_xdata()) for one in figure.axes] == [150, 150]
    assert figure.axes[1].texts[0].get_text() == ends  # of x, though the intercept orders the levels
    first = reml.ranef().query("term == 'Intercept'").set_index("level")["estimate"].sort_values()
    assert figure.axes[0].texts[0].get_text().endswith(f"lowest: {', '.join(first.index[:5])}")
    assert list(first.index[:5]) != list(effects.index[:5])


def test_paths_and_steps_draw_a_sample(model: hm.Model) -> None:
    reml = model.reml()
    ax = hm.plots.pooling_path(reml)
    assert ax.get_ylabel() == "Intercept, 150 of 700 levels of g"
    assert sum(str(line.get_gid()).startswith("path") for line in ax.lines) == 150
    figure = hm.plots.pooling_steps(reml, "x", scales=[1, 0])
    assert [len(one.lines) for one in figure.axes] == [150, 150]
    assert figure.get_supxlabel() == "x, 150 of 700 levels of g"


def test_residuals_of_one_fit_are_computed_once(model: hm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = model.fit(draws=300, random_seed=1, progressbar=False)
    moments, calls = assumption_tables._posterior_moments, []
    monkeypatch.setattr(assumption_tables, "_posterior_moments", lambda one: calls.append(1) or moments(one))
    figure = hm.plots.assumptions(fit)
    assert len(calls) == 1
    boxes = figure.axes[3]
    assert [text.get_text() for text in boxes.texts] == ["the 60 of 700 levels that spread most, ordered by median"]
    table = assumption_tables.residuals_within_groups(fit)
    widest = table.nlargest(60, "sd").sort_values("median")
    assert [box.get_x() for box in boxes.patches] == pytest.approx(list(widest["q1"]))
    points = assumption_tables.residual_points(fit)
    assert points["fitted"].to_numpy() == pytest.approx(fit.fitted().to_numpy(), rel=1e-9, abs=1e-12)
    points["residual"] = 0.0  # a copy: what is kept stays
    assert (assumption_tables.residual_points(fit)["residual"] != 0).all()


def test_lines_that_coincide_can_both_be_seen(data: pd.DataFrame) -> None:
    d = data.assign(half=np.where(np.arange(len(data)) % 2, "odd", "even"))
    reml = hm.Model("y ~ x * half + (1 | g)", d).reml()
    ax = hm.plots.effects({"Bayes": reml, "REML": reml}, "x", by="half")
    by_name = {line.get_label(): line for line in ax.lines}
    for half in ("even", "odd"):
        under, over = by_name[f"{half}, Bayes"], by_name[f"{half}, REML"]
        assert over.get_linestyle() == "--"
        assert over.get_zorder() > under.get_zorder()
        assert sum(over.get_color()) == pytest.approx(0.5 * sum(under.get_color()))
        assert over.get_linewidth() < under.get_linewidth()


def test_facets_are_those_with_the_fewest_rows(pooling: Pooling) -> None:
    figure = pooling.plot_lines()
    assert figure.get_supxlabel() == "x (36 of 700 levels of g, those with the fewest rows)"
    assert pooling.plot_lines(levels=["g3"]).get_supxlabel() == "x"
