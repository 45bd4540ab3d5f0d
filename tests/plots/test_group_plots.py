"""Caterpillar, spaghetti, Simpson, correlation, variance and forest plots by what they draw, and the numbers behind."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy import stats

import hiermod as hm
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.inference.groups.effect_pairs import effect_pair
from hiermod.inference.groups.group_lines import average_slopes, group_lines, population_line, within_slope
from hiermod.inference.groups.parameter_intervals import parameter_intervals
from hiermod.inference.marginal_effects.variance_shares import variance_shares
from hiermod.model import Model


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def reml(model: Model) -> FrequentistFit:
    return model.reml()


@pytest.fixture(scope="module")
def bayes(model: Model) -> BayesianFit:
    return hand_made(model, beta=[250.0, 10.0], sds=10.0)


def entries(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def named(ax: Any, start: str) -> dict[str, Any]:
    """Artists whose gid begins with ``start``, by the rest of it."""
    found = [*ax.lines, *ax.patches]
    return {a.get_gid().removeprefix(start): a for a in found if str(a.get_gid()).startswith(start)}


# --- caterpillar ------------------------------------------------------------------------------------------------------
def test_a_caterpillar_is_sorted_by_the_first_fit(reml: FrequentistFit, bayes: BayesianFit) -> None:
    ax = hm.plots.caterpillar({"Bayes": bayes, "REML": reml}, term="Days")
    tables = [fit.ranef("Subject").query("term == 'Days'").set_index("level") for fit in (bayes, reml)]
    order = list(tables[0]["estimate"].sort_values().index)
    assert [text.get_text() for text in ax.get_yticklabels()] == order
    for i, table in enumerate(tables):
        shift = [0.18, -0.18][i]  # the first fit a little above its line, the second below
        assert ax.lines[i].get_xdata() == pytest.approx(table.loc[order, "estimate"].to_numpy())
        assert ax.lines[i].get_ydata() == pytest.approx(np.arange(18) + shift)
        bars = np.array([segment[:, 0] for segment in ax.collections[i].get_segments()])
        assert bars == pytest.approx(table.loc[order, ["lower", "upper"]].to_numpy())
    assert ax.lines[2].get_xdata()[0] == 0.0
    assert entries(ax) == ["Bayes", "REML"]
    assert (ax.get_title(loc="left"), ax.get_ylabel()) == ("Days", "Subject")


def test_coefficients_stand_around_the_population(reml: FrequentistFit) -> None:
    ax = hm.plots.caterpillar(reml, kind="coef", level=0.5)
    table = reml.coef("Subject", level=0.5).query("term == 'Intercept'").sort_values("estimate")
    assert ax.lines[0].get_xdata() == pytest.approx(table["estimate"].to_numpy())
    assert np.array([s[:, 0] for s in ax.collections[0].get_segments()]) == pytest.approx(table[["lower", "upper"]])
    assert ax.lines[1].get_xdata()[0] == reml.fixef().loc["Intercept", "estimate"]
    assert ax.get_legend() is None


def test_panels_share_the_order_of_the_first_term(reml: FrequentistFit) -> None:
    figure = hm.plots.caterpillars(reml)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Intercept", "Days"]
    wide = reml.ranef().pivot_table(index="level", columns="term", values="estimate").sort_values("Intercept")
    for ax, term in zip(figure.axes, ["Intercept", "Days"], strict=True):
        assert ax.lines[0].get_xdata() == pytest.approx(wide[term].to_numpy())


def test_of_many_levels_the_ends_are_told() -> None:
    d = pd.DataFrame({"g": np.repeat(np.arange(80), 2).astype(str), "y": np.repeat(np.arange(80.0), 2)})
    d["y"] += np.tile([-1.0, 1.0], 80)
    ax = hm.plots.caterpillar(Model("y ~ 1 + (1 | g)", d).reml())
    assert ax.texts[0].get_text() == "highest: 79, 78, 77, 76, 75\nlowest: 0, 1, 2, 3, 4"
    assert len(ax.get_yticks()) == 0


def test_caterpillars_refuse_what_is_not_there(reml: FrequentistFit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        hm.plots.caterpillar(reml, term="Day")
    with pytest.raises(UnknownNameError, match="Subject"):
        hm.plots.caterpillar(reml, group="subject")
    with pytest.raises(ArgumentTypeError, match="takes a fit"):
        hm.plots.caterpillar({"a": 3})
    with pytest.raises(UnsupportedError, match=r"\(1 \| g\)"):
        hm.plots.caterpillar(Model("Reaction ~ Days", load_dataset("sleepstudy")).reml())
    few = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy").iloc[:100]).reml()
    with pytest.raises(ArgumentError, match="different levels of Subject"):
        hm.plots.caterpillar({"all": reml, "few": few})


# --- lines ------------------------------------------------------------------------------------------------------------
def test_spaghetti_has_every_line_and_the_population(reml: FrequentistFit) -> None:
    """A line is coef's intercept and slope; the population's ends are fixef's with t limits from fit.means."""
    ax = hm.plots.spaghetti(reml, "Days")
    strands = named(ax, "line ")
    coef = reml.coef().pivot_table(index="level", columns="term", values="estimate")
    assert set(strands) == set(coef.index)
    for level, line in strands.items():
        x = line.get_xdata()
        assert (x[0], x[-1]) == (0.0, 9.0)
        assert line.get_ydata() == pytest.approx(coef.loc[level, "Intercept"] + coef.loc[level, "Days"] * x)
    population = next(line for line in ax.lines if line.get_label() == "population")
    beta = reml.fixef()["estimate"]
    assert population.get_ydata()[-1] == pytest.approx(beta["Intercept"] + 9 * beta["Days"])
    band = next(c for c in ax.collections if c.get_label() == "95 % interval").get_paths()[0].vertices
    limits = reml.means(["Days"], at={"Days": [9.0]})[["lower", "upper"]].to_numpy()[0]
    assert [band[band[:, 0] == 9.0][:, 1].min(), band[band[:, 0] == 9.0][:, 1].max()] == pytest.approx(limits)
    points = next(c for c in ax.collections if c.get_label() == "data").get_offsets()
    assert np.asarray(points) == pytest.approx(load_dataset("sleepstudy")[["Days", "Reaction"]].to_numpy())


def test_lines_reach_as_far_as_asked() -> None:
    """Subject 374 has days 0 and 1 only, 373 day 0: a ring."""
    reml = Model("reaction ~ days + (days | subject)", load_dataset("sleep_partial")).reml()
    own, over = group_lines(reml), group_lines(reml, over="all")
    assert own.groupby("level")["days"].max()[["308", "373", "374"]].tolist() == [9.0, 0.0, 1.0]
    assert set(over.groupby("level")["days"].max()) == {9.0}
    assert np.isnan(average_slopes(own, "days")["373"])
    slope = reml.coef().set_index(["level", "term"]).loc[("374", "days"), "estimate"]
    assert average_slopes(own, "days")["374"] == pytest.approx(slope)
    ring = named(hm.plots.spaghetti(reml), "line ")["373"]
    assert (len(ring.get_xdata()), ring.get_marker()) == (1, "o")


def test_other_factors_are_left_out_of_a_line() -> None:
    """Crossed factors, one line a subject: fixef + ranef of the subject alone, for REML and draws alike."""
    rng = np.random.default_rng(3)
    d = hm.designs.crossed(subjects=8, items=6)
    d = d.assign(x=rng.standard_normal(len(d)), y=rng.standard_normal(len(d)))
    d["y"] += rng.standard_normal(8)[d["subject"].cat.codes] + rng.standard_normal(6)[d["item"].cat.codes]
    model = Model("y ~ x + (1 | subject) + (1 | item)", d)
    for fit in (model.reml(), hand_made(model)):
        lines = group_lines(fit, "x", "subject", over="all")
        coef = fit.coef("subject").set_index(["level", "term"])["estimate"]
        part = lines[lines["level"] == "S3"]
        expected = coef["S3", "Intercept"] + coef["S3", "x"] * part["x"].to_numpy()
        assert part["estimate"].to_numpy() == pytest.approx(expected)


def test_a_slope_of_groups_alone_has_a_level_population() -> None:
    reml = Model("Reaction ~ 1 + (Days | Subject)", load_dataset("sleepstudy")).reml()
    line = population_line(reml, "Days")
    assert line["estimate"].to_numpy() == pytest.approx(reml.fixef().loc["Intercept", "estimate"])
    assert line["Days"].iloc[-1] == 9.0


def within_by_dummies(d: pd.DataFrame, columns: list[str], w: np.ndarray | float = 1.0) -> float:
    """The slope of the first column by least squares on the columns and an indicator for each participant."""
    X = np.column_stack([d[columns], pd.get_dummies(d["participant"]).to_numpy(dtype=float)])
    root = np.sqrt(w * np.ones(len(d)))
    return float(np.linalg.lstsq(root[:, None] * X, root * d["y"].to_numpy(), rcond=None)[0][0])


def test_within_slopes_are_those_of_least_squares_with_an_intercept_for_each_group() -> None:
    rng = np.random.default_rng(8)
    centre = rng.normal(0, 2, 12)
    code = np.repeat(np.arange(12), 6)
    d = pd.DataFrame({"participant": [f"p{i}" for i in code], "x": centre[code] + rng.normal(size=72)})
    d = d.assign(z=rng.normal(size=72) + d["x"], w=rng.uniform(0.3, 3, 72), level=centre[code], known=1.0)
    d["y"] = 8 * d["level"] - 2 * d["x"] + d["z"] + rng.normal(size=72)
    models = [
        (Model("y ~ x + (1 | participant)", d), within_by_dummies(d, ["x"])),
        (Model("y ~ x + z + level + (x | participant)", d), within_by_dummies(d, ["x", "z"])),
        (Model("y ~ x + z + (1 | participant)", d, weights="w"), within_by_dummies(d, ["x", "z"], d["w"].to_numpy())),
        (Model("y ~ x + z + (1 | participant)", d, se="w"), within_by_dummies(d, ["x", "z"], d["w"].to_numpy() ** -2)),
    ]
    for model, expected in models:
        assert within_slope(hand_made(model), "x", "participant") == pytest.approx(expected, rel=1e-7)
    # of a curve: the mean over the participants of its change over each one's own rows
    curved = Model("y ~ x + I(x**2) + (1 | participant)", d)
    X = np.column_stack([d["x"], d["x"] ** 2, pd.get_dummies(d["participant"]).to_numpy(dtype=float)])
    b = np.linalg.lstsq(X, d["y"].to_numpy(), rcond=None)[0]
    ends = d.groupby("participant", sort=False)["x"].agg(["min", "max"])
    mean = (b[0] + b[1] * (ends["min"] + ends["max"])).mean()  # (f(max) - f(min)) / (max - min)
    assert within_slope(hand_made(curved), "x", "participant") == pytest.approx(mean, rel=1e-7)
    between = Model("y ~ level + (1 | participant)", d)  # never varies within: nothing to tell
    assert np.isnan(within_slope(hand_made(between), "level", "participant"))


def test_simpson_sets_the_groups_against_all_rows() -> None:
    """Complete pooling by numpy's polyfit; within lines by coef; the slopes go different ways."""
    d = load_dataset("simpson")
    d = d[d["participant"].isin(d["participant"].unique()[:6])]
    reml = Model("y ~ x + (1 | participant)", d).reml()
    ax = hm.plots.simpson(reml)
    slope, intercept = np.polyfit(d["x"], d["y"], 1)
    across = next(line for line in ax.lines if str(line.get_label()).startswith("ignoring"))
    assert across.get_ydata() == pytest.approx(intercept + slope * across.get_xdata(), rel=1e-8)
    model = reml.fixef().loc["x", "estimate"]
    within = within_by_dummies(d, ["x"])
    assert within < model < 0 < slope  # the model's own slope has a little of the slope between in it
    assert entries(ax) == [
        f"lines of participant by the model: slope {model:.3g}".replace("-", "−"),
        f"within participant: slope {within:.3g}".replace("-", "−"),
        f"ignoring participant: slope {slope:.3g}",
    ]
    strands = named(ax, "line ")
    assert len(strands) == len({line.get_color() for line in strands.values()}) == 6
    assert [text.get_text() for text in ax.texts] == list(strands)
    some = d[d["participant"] == d["participant"].iloc[0]]["x"]
    first = strands[str(d["participant"].iloc[0])].get_xdata()
    assert (first[0], first[-1]) == (some.min(), some.max())


def test_lines_of_counts_are_on_the_response_scale() -> None:
    d = load_dataset("grouseticks")
    fit = Model("TICKS ~ cHEIGHT + (1 | LOCATION)", d, family="poisson").ml()
    ax = hm.plots.simpson(fit, "cHEIGHT")
    across = next(line for line in ax.lines if str(line.get_label()).startswith("ignoring"))
    glm = Model("TICKS ~ cHEIGHT", d, family="poisson").ml().fixef()["estimate"]
    assert np.log(across.get_ydata()) == pytest.approx(glm["Intercept"] + glm["cHEIGHT"] * across.get_xdata())
    labels = [line.get_label() for line in hm.plots.spaghetti(fit, "cHEIGHT").lines]
    assert "population, a typical one" in labels


def test_lines_refuse_what_is_not_there(reml: FrequentistFit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        hm.plots.spaghetti(reml, "Day")
    with pytest.raises(ArgumentError, match="over"):
        hm.plots.spaghetti(reml, over="everything")
    with pytest.raises(UnsupportedError, match="no group effects"):
        hm.plots.simpson(Model("Reaction ~ Days", load_dataset("sleepstudy")).reml())


# --- correlation ------------------------------------------------------------------------------------------------------
def test_ellipses_hold_the_share_they_name(reml: FrequentistFit) -> None:
    """Mahalanobis distance squared all round = the chi-square quantile (2 df); points are ranef's."""
    ax = hm.plots.effect_correlation(reml)
    outlines = named(ax, "ellipse ")
    assert list(outlines) == ["0.5", "0.9"]
    v = reml.varcorr()["vcov"].to_numpy()
    inverse = np.linalg.inv([[v[0], v[2]], [v[2], v[1]]])
    for share, line in outlines.items():
        away = np.column_stack(line.get_data())
        distance = np.einsum("ni,ij,nj->n", away, inverse, away)
        assert distance == pytest.approx(np.full(200, stats.chi2.ppf(float(share), 2)), rel=1e-9)
    wide = reml.ranef().pivot_table(index="level", columns="term", values="estimate", sort=False)
    points = next(line for line in ax.lines if "estimates" in str(line.get_label()))
    assert np.column_stack(points.get_data()) == pytest.approx(wide[["Intercept", "Days"]].to_numpy())
    assert [len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments")] == [18, 18]


def test_the_correlation_is_told_with_its_interval(bayes: BayesianFit) -> None:
    row = bayes.varcorr().iloc[2]
    words = f"correlation {row['sdcor']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]".replace("-", "−")
    assert hm.plots.effect_correlation(bayes).get_title(loc="left").replace("\n", " ") == f"Effects by Subject: {words}"
    turned = effect_pair(bayes, x="Days")
    assert (turned.x, turned.y, turned.correlation) == ("Days", "Intercept", row["sdcor"])
    assert turned.covariance[0, 0] == bayes.varcorr().iloc[1]["vcov"]


def test_effects_without_a_correlation_say_so() -> None:
    fit = Model("Reaction ~ Days + (Days || Subject)", load_dataset("sleepstudy")).reml()
    ax = hm.plots.effect_correlation(fit)
    assert ax.get_title(loc="left").replace("\n", " ") == "Effects by Subject: no correlation in the model"
    with pytest.raises(UnsupportedError, match="caterpillar"):
        hm.plots.effect_correlation(Model("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy")).reml())
    with pytest.raises(UnknownNameError, match="'Days'"):
        hm.plots.effect_correlation(fit, y="Day")


# --- variance ---------------------------------------------------------------------------------------------------------
def test_shares_of_the_variance_by_brute_force(reml: FrequentistFit) -> None:
    """var(X beta), the mean of diag(Z Sigma Z') with Z written out, sigma^2."""
    d = load_dataset("sleepstudy")
    beta = reml.fixef()["estimate"]
    v = reml.varcorr()["vcov"].to_numpy()
    Z = np.column_stack([np.ones(180), d["Days"]])
    parts = [
        np.var(beta["Days"] * d["Days"], ddof=1),
        np.diag(Z @ np.array([[v[0], v[2]], [v[2], v[1]]]) @ Z.T).mean(),
        v[3],
    ]
    table = variance_shares(reml)
    assert list(table.index) == ["predictors", "Subject", "residual"]
    assert table["variance"].to_numpy() == pytest.approx(parts)
    assert table["share"].to_numpy() == pytest.approx(np.array(parts) / sum(parts))
    adjusted = reml.icc().set_index("icc").loc["adjusted", "estimate"]
    assert variance_shares(reml, common=False).loc["Subject", "share"] == pytest.approx(adjusted)


def test_bars_are_stacked_and_say_what_they_hold(reml: FrequentistFit, bayes: BayesianFit) -> None:
    ax = hm.plots.variance_partition({"Bayes": bayes, "REML": reml})
    bars = [patch for patch in ax.patches if str(patch.get_gid()).startswith("bar")]
    shares = [variance_shares(fit)["share"].to_numpy() for fit in (bayes, reml)]
    assert [bar.get_width() for bar in bars] == pytest.approx(np.concatenate(shares))
    assert [bar.get_x() for bar in bars] == pytest.approx(np.concatenate([np.cumsum(s) - s for s in shares]))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Bayes", "REML"]
    row = variance_shares(bayes).loc["predictors"] * 100  # the draws of the shares, not the shares of the means
    assert f"{row['share']:.0f} %\n[{row['lower']:.0f}, {row['upper']:.0f}]" in [t.get_text() for t in ax.texts]
    assert entries(ax) == ["predictors", "Subject", "residual"]
    assert shares[0].sum() == pytest.approx(1.0)


def test_a_model_without_predictors_has_no_bar_for_them() -> None:
    fit = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).reml()
    bars = named(hm.plots.variance_partition(fit), "bar ")
    assert list(bars) == ["Batch", "residual"]
    with pytest.raises(UnsupportedError, match="no group effects"):
        variance_shares(Model("Reaction ~ Days", load_dataset("sleepstudy")).reml())


# --- forest -----------------------------------------------------------------------------------------------------------
def test_a_forest_stands_on_the_fits_own_intervals(reml: FrequentistFit, bayes: BayesianFit) -> None:
    names = ["Days", "1|Subject_sigma", "sigma"]
    ax = hm.plots.forest({"Bayes": bayes, "REML": reml}, names, level=0.9)
    profile = reml.confint(0.9, parameters=names[1:], progressbar=False)
    wanted = {
        "Bayes": bayes.parameters(0.9).loc[names, ["lower", "upper"]].to_numpy(),
        "REML": np.vstack([reml.fixef(level=0.9).loc["Days", ["lower", "upper"]].to_numpy(float), profile]),
    }
    for i, (name, fit) in enumerate((("Bayes", bayes), ("REML", reml))):
        bars = np.array([segment[:, 0] for segment in ax.collections[i].get_segments()])
        assert bars == pytest.approx(wanted[name])
        assert ax.lines[i].get_label() == name
        assert ax.lines[i].get_xdata() == pytest.approx(fit.parameters().loc[names, "estimate"].to_numpy())
        assert ax.lines[i].get_ydata() == pytest.approx(np.arange(3) + [-0.15, 0.15][i])
    assert [text.get_text() for text in ax.get_yticklabels()] == names


def test_fits_may_lack_a_parameter() -> None:
    d = load_dataset("sleepstudy")
    fits = {
        "slopes": Model("Reaction ~ Days + (Days | Subject)", d).reml(),
        "square": Model("Reaction ~ Days + I(Days**2) + (1 | Subject)", d.iloc[:90]).reml(),
    }
    table = parameter_intervals(fits)
    assert list(zip(table["parameter"], table["fit"], strict=True)) == [
        ("Days", "slopes"),
        ("Days", "square"),
        ("I(Days ** 2)", "square"),
    ]
    ax = hm.plots.forest(fits)
    assert [len(line.get_xdata()) for line in ax.lines[:2]] == [1, 2]
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        hm.plots.forest(fits, ["Day"])


def test_effect_correlation_draws_one_fit() -> None:
    with pytest.raises(ArgumentTypeError, match=r"one fit.*got dict: pass a single fit.*fits\['REML'\]"):
        hm.plots.effect_correlation({"REML": object()})
    with pytest.raises(ArgumentTypeError, match="got str"):
        hm.plots.effect_correlation("Days")


def test_a_forest_of_long_names_is_no_strip_and_its_legend_is_whole() -> None:
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"f": [f"Bedingung {i:02d} mit einem ziemlich langen Namen" for i in range(16)] * 4})
    d["y"] = rng.normal(size=len(d))
    fit = hm.Model("y ~ f", d).reml()
    ax = hm.plots.forest({f"Modell {name} von fünf": fit for name in "ABCDE"})
    ax.figure.canvas.draw()
    room, legend = ax.figure.bbox, ax.get_legend().get_window_extent()
    assert room.x0 <= legend.x0
    assert legend.x1 <= room.x1 + 1
    assert ax.get_window_extent().width > 0.6 * room.width
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(one.y0 >= other.y1 for one, other in pairwise(boxes))
    plt.close(ax.figure)
