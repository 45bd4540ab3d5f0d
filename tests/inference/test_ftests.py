"""Type III F tests: lmerTest under two codings, classical analyses of variance, and independence of the coding.

lmerTest 3.1-3 with pbkrtest 0.5.2: anova(lmer(...), type = 3) on the rows of ``holes()`` with bobyqa at rhoend 1e-9,
which gave the same to seven digits under contr.treatment and contr.sum.  sum_sq, num_df, den_df, F, p; 2e-6 is the
agreement between those two runs, a little widened for the numerical derivatives."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_ddf import holes

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.inference.coefficient_tests.tables import anova, degrees_of_freedom
from hiermod.inference.coefficient_tests.type_three import type_three
from hiermod.model import Model

ROOM = 2e-6
LMERTEST = {
    ("factorial", "satterthwaite"): {
        "recipe": (42.00477551, 2, 179.0886726, 1.01594621, 0.3641366364),
        "temperature": (1131.122185, 5, 179.2350566, 10.94312999, 3.325868095e-09),
        "recipe:temperature": (274.6253044, 10, 179.2700551, 1.328441986, 0.2182477453),
    },
    ("factorial", "kenward-roger"): {
        "recipe": (41.99989553, 2, 179.0929687, 1.015828177, 0.3641790871),
        "temperature": (1130.929664, 5, 179.2395428, 10.94126675, 3.336919767e-09),
        "recipe:temperature": (274.5806279, 10, 179.2752053, 1.328225735, 0.2183603647),
    },
    ("slopes", "satterthwaite"): {
        "recipe": (3.333178986, 2, 184.9220007, 0.08131232009, 0.9219386599),
        "temp": (1116.913191, 1, 164.7488311, 54.49380504, 7.32359105e-12),
        "recipe:temp": (4.056132537, 2, 164.683361, 0.09894864587, 0.9058430328),
    },
    ("slopes", "kenward-roger"): {
        "recipe": (3.331950725, 2, 184.8335944, 0.08128225579, 0.9219663691),
        "temp": (1116.295819, 1, 164.5532264, 54.46368365, 7.436513699e-12),
        "recipe:temp": (4.054108382, 2, 164.4884442, 0.09889926024, 0.9058877795),
    },
    ("empty", "satterthwaite"): {
        "recipe": (42.92244894, 2, 167.1491138, 1.013232439, 0.3652622922),
        "temperature": (1139.029581, 5, 167.2741003, 10.75522715, 5.587107728e-09),
        "recipe:temperature": (273.4648261, 9, 167.2859465, 1.434542942, 0.1769433531),
    },
    ("empty", "kenward-roger"): {
        "recipe": (42.91141875, 2, 167.1624239, 1.01297205, 0.3653560999),
        "temperature": (1138.794069, 5, 167.2878476, 10.75300225, 5.608210798e-09),
        "recipe:temperature": (273.4082274, 9, 167.2990829, 1.434245849, 0.1770654951),
    },
}
FORMULA = {
    "factorial": "angle ~ {recipe} * {temperature} + (1 | replicate)",
    "slopes": "angle ~ {recipe} * temp + (1 | recipe:replicate)",
    "empty": "angle ~ {recipe} * {temperature} + (1 | replicate)",
}
CODINGS = ["{}", "C({}, Sum)", "C({}, Treatment('{last}'))"]
LAST = {"recipe": "C", "temperature": "225"}


def data(case: str) -> pd.DataFrame:
    d = holes()
    return d[~((d["recipe"] == "B") & (d["temperature"] == "205"))] if case == "empty" else d


def fit_of(case: str, coding: str):
    names = {name: coding.format(name, last=last) for name, last in LAST.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the model matrix is rank deficient")  # empty cells
        return Model(FORMULA[case].format(**names), data(case)).reml(), names


@pytest.mark.parametrize("coding", CODINGS, ids=["treatment", "sum", "other reference"])
@pytest.mark.parametrize(("case", "ddf"), LMERTEST)
def test_f_tests_are_lmertests_whatever_the_coding(case: str, ddf: str, coding: str) -> None:
    fit, names = fit_of(case, coding)
    table = anova(fit, ddf)
    expected = LMERTEST[case, ddf]
    order = [":".join(names.get(part, part) for part in term.split(":")) for term in expected]
    assert list(table.index) == order  # formula order
    found = table[["sum_sq", "num_df", "den_df", "F", "p"]].to_numpy()
    # p is a tail: t^2 times F's error
    assert found[:, :4] == pytest.approx(np.array(list(expected.values()))[:, :4], rel=ROOM)
    assert found[:, 4] == pytest.approx([row[4] for row in expected.values()], rel=1e-4)
    assert table["mean_sq"].to_numpy() == pytest.approx(table["sum_sq"] / table["num_df"])
    assert table.attrs["ddf"] == ddf
    assert len(table.attrs["notes"]) == (case == "empty")
    if case == "empty":
        assert "(1 of 18)" in table.attrs["notes"][0]


def test_joint_contrast() -> None:
    """lmerTest 3.1-3: contest(m, L), both methods, bobyqa 1e-9."""
    fit = Model("angle ~ recipe + temp + (1 | replicate)", holes()).reml()
    L = np.array([[0.0, 1, -1, 0], [0, 1, 0, 10]])
    beta = fit.fixef()["estimate"].to_numpy()
    one = degrees_of_freedom(fit, "satterthwaite").f_test(L, beta)
    assert (one.statistic, one.num_df, one.den_df) == pytest.approx((0.2314929249, 2, 193.0354652), rel=ROOM)
    two = degrees_of_freedom(fit, "kenward-roger").f_test(L, beta)
    assert (two.statistic, two.num_df, two.den_df) == pytest.approx((0.2314870236, 2, 193.0526432), rel=ROOM)
    twice = degrees_of_freedom(fit, "satterthwaite").f_test(np.vstack([L, L.sum(axis=0)]), beta)
    assert (twice.statistic, twice.num_df) == pytest.approx((one.statistic, 2))  # a row the others imply adds nothing


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_a_split_plot_is_the_textbook_analysis_of_variance(ddf: str) -> None:
    """Balanced: mean squares over those of their own stratum, whole plots for recipe and subplots for the rest."""
    d = load_dataset("cake")
    mean = d["angle"].mean()
    plots = d.groupby(["recipe", "replicate"], observed=True)["angle"].mean()
    recipes = plots.groupby("recipe", observed=True).mean()
    temperatures = d.groupby("temperature", observed=True)["angle"].mean()
    cells = d.groupby(["recipe", "temperature"], observed=True)["angle"].mean()
    between = 90 * ((recipes - mean) ** 2).sum()
    whole = 6 * ((plots - mean) ** 2).sum() - between
    down = 45 * ((temperatures - mean) ** 2).sum()
    both = 15 * ((cells - mean) ** 2).sum() - between - down
    rest = ((d["angle"] - mean) ** 2).sum() - between - whole - down - both
    table = anova(Model("angle ~ recipe * temperature + (1 | recipe:replicate)", d).reml(), ddf)
    expected = [(between / 2) / (whole / 42), (down / 5) / (rest / 210), (both / 10) / (rest / 210)]
    assert table["F"].to_numpy() == pytest.approx(expected, rel=1e-6)
    assert table["den_df"].to_numpy() == pytest.approx([42, 210, 210], rel=1e-6)
    assert table["num_df"].tolist() == [2, 5, 10]
    p = stats.f.sf(expected, [2, 5, 10], [42, 210, 210])
    assert table["p"].to_numpy() == pytest.approx(p, rel=1e-4)


def test_kenward_roger_is_exact_where_hotelling_is() -> None:
    """Balanced random intercepts and slopes: both coefficients at once is Hotelling's T^2 of 18 subjects' own lines.

    F = (18 - 2) / (2 (18 - 1)) T^2 on 2 and 16 degrees of freedom (Kenward and Roger 1997, section 4).  The scale
    factor is 16 / 17 there.  1e-5: the optimum is known to about 1e-6 of theta."""
    d = load_dataset("sleepstudy")
    fit = Model("Reaction ~ Days + (Days | Subject)", d).reml()
    beta = fit.fixef()["estimate"].to_numpy()
    lines = np.array([np.polyfit(g["Days"], g["Reaction"], 1)[::-1] for _, g in d.groupby("Subject", observed=True)])
    centre = lines.mean(axis=0)
    T2 = 18 * centre @ np.linalg.solve(np.cov(lines.T), centre)
    test = degrees_of_freedom(fit, "kenward-roger").f_test(np.eye(2), beta)
    assert test.statistic == pytest.approx(16 / 34 * T2, rel=1e-5)
    assert (test.num_df, test.den_df) == pytest.approx((2, 16), rel=1e-5)
    assert test.statistic / test.unscaled == pytest.approx(16 / 17, rel=1e-5)


def test_few_groups() -> None:
    """Twelve whole plots, four replicates of three recipes: lmerTest 3.1-3 and pbkrtest 0.5.2, bobyqa 1e-9."""
    d = holes()
    few = d[d["replicate"].astype(int) <= 4]
    fit = Model("angle ~ recipe + temp + (1 | recipe:replicate)", few).reml()
    columns = ["sum_sq", "num_df", "den_df", "F", "p"]
    expected = (11.871955262, 2, 9.0045264435, 0.17225509343, 0.84447378011606)
    assert anova(fit).loc["recipe", columns].tolist() == pytest.approx(expected, rel=ROOM)
    expected = (11.870325161, 2, 8.9921188206, 0.17222745452, 0.8444999114854)
    assert anova(fit, "kenward-roger").loc["recipe", columns].tolist() == pytest.approx(expected, rel=ROOM)


def test_hypotheses_are_about_unweighted_means() -> None:
    """A recipe's effect averages over the six temperatures, however many rows each has."""
    fit = fit_of("factorial", "{}")[0]
    L, notes = type_three(fit.design)
    by_label = pd.DataFrame(L["recipe"], columns=fit.design.common)
    assert by_label.loc[0, "recipe[B]"] == pytest.approx(1.0)
    inside = [name for name in fit.design.common if name.startswith("recipe[B]:")]
    assert len(inside) == 5
    assert by_label.loc[0, inside].to_numpy() == pytest.approx(1 / 6)
    assert np.abs(by_label.loc[0].drop(["recipe[B]", *inside])).max() == 0.0
    assert notes == ()


def test_a_linear_model_gives_the_anova_of_nested_fits() -> None:
    """lm: F of the interaction is that of R's anova(m0, m1), from residual sums of squares."""
    d = holes()
    big, small = (Model(f"angle ~ recipe {op} temp", d).reml() for op in "*+")
    table = anova(big)
    F = (small.record.rss - big.record.rss) / 2 / (big.record.rss / (len(d) - 6))
    assert table.loc["recipe:temp", ["F", "num_df", "den_df"]].tolist() == pytest.approx([F, 2, len(d) - 6], rel=1e-8)


def test_without_an_intercept_and_nested_terms() -> None:
    """b + a:b has the cells of a * b: the marginal means of b, hence its test, are the same."""
    d = holes()
    crossed = anova(Model("angle ~ recipe * temperature + (1 | replicate)", d).reml())
    nested = anova(Model("angle ~ recipe + recipe:temperature + (1 | replicate)", d).reml())
    assert nested.loc["recipe"].tolist() == pytest.approx(crossed.loc["recipe"].tolist(), rel=1e-6)
    assert nested["num_df"].tolist() == [2, 15]
    alone = anova(Model("angle ~ 0 + recipe + temp + (1 | replicate)", d).reml())
    assert alone["num_df"].tolist() == [3, 1]  # no intercept: recipe's three means, not their differences


def test_what_cannot_be_tested() -> None:
    d = holes()
    with pytest.raises(ArgumentError, match="ddf=None has no degrees of freedom"):
        anova(Model("angle ~ temp + (1 | replicate)", d).reml(), None)
    assert anova(Model("angle ~ 1 + (1 | replicate)", d).reml()).empty
    with pytest.raises(UnsupportedError, match="no common terms"):
        anova(Model("angle ~ 0 + (1 | replicate)", d).reml())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the model matrix is rank deficient")
        aliased = Model("angle ~ temp + I(2 * temp) + (1 | replicate)", d).reml()
    table = anova(aliased)  # neither can be told from the other: no hypothesis is about one alone
    assert table["num_df"].tolist() == [0, 0]
    assert table[["F", "p", "den_df"]].isna().all(axis=None)
