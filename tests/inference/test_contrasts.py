"""Contrasts and their adjustment for number against R's emmeans 1.8.4 (lme4 1.1, lmerTest, pbkrtest)."""

from __future__ import annotations

from typing import Any

import means_cases
import numpy as np
import pandas as pd
import pytest
from means_cases import TIGHT, close

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.inference.marginal_effects.contrast_methods import polynomials
from hiermod.inference.marginal_effects.multiplicity import adjusted_p, critical_values
from hiermod.model import Model


@pytest.fixture(scope="module")
def cake() -> Any:
    return means_cases.cake()


@pytest.fixture(scope="module")
def phases() -> Any:
    return means_cases.phases()


@pytest.fixture(scope="module")
def herds() -> Model:
    return means_cases.herds()


@pytest.fixture(scope="module")
def ticks() -> Any:
    return means_cases.ticks()


# summary(pairs(emmeans(m, "recipe", lmer.df = "kenward-roger"), adjust = adjust), infer = TRUE), the row A - B
ADJUSTED = {
    "tukey": [-4.489674380, 7.445229936, 0.8199878216],
    "bonferroni": [-4.647301050, 7.602856606, 1.0],
    "holm": [-4.647301050, 7.602856606, 1.0],
    "sidak": [-4.630209970, 7.585765526, 0.9092683571],
    "fdr": [-4.647301050, 7.602856606, 0.8259726530],
    "none": [-3.479142148, 6.434697703, 0.5506484354],
}


@pytest.mark.parametrize("adjust", ADJUSTED)
def test_pairs_with_each_adjustment(cake: Any, adjust: str) -> None:
    table = cake.contrasts("recipe", ddf="kenward-roger", adjust=adjust)
    assert list(table.index) == ["A - B", "A - C", "B - C"]
    close(table.iloc[:1], [ADJUSTED[adjust]], ["lower", "upper", "p"])
    assert table.attrs["adjust"] == adjust
    if adjust == "tukey":
        pd.testing.assert_frame_equal(table, cake.contrasts("recipe", ddf="kenward-roger"))


def test_pairs_of_an_unbalanced_factor_have_their_own_df(phases: Any) -> None:
    """pairs(emmeans(m, ~ Phase, lmer.df = "satterthwaite")), and pairs(emmeans(m, ~ Light | Phase))."""
    table = phases.contrasts("Phase")
    expected = [
        [-39.07791215, 6.765291290, 133.3610612, -55.11280400, -23.04302031],
        [-72.67189088, 7.372195817, 133.2101309, -90.14547293, -55.19830883],
        [-33.59397872, 6.932082931, 133.2622396, -50.02433249, -17.16362496],
    ]
    close(table, expected)
    assert table["p"].iloc[[0, 2]].to_list() == pytest.approx([1.533444285e-07, 1.025140736e-05], rel=1e-5)
    by = phases.contrasts("Light", by="Phase")
    assert by.index.to_list() == [("a", "off - on"), ("b", "off - on"), ("c", "off - on")]
    close(by.iloc[:1], [[16.762497190, 20.07512611, 20.50646434, -25.04727829, 58.57227267]])
    assert by["p"].to_list() == pytest.approx([0.4133469256, 0.6163582195, 0.1749136324], rel=1e-5)


def test_named_methods(cake: Any) -> None:
    """contrast(emmeans(m, "temperature" | "recipe", lmer.df = "kenward-roger"), method); Dunnett's critical value comes
    from a root that emmeans finds to 5e-4."""
    control = cake.contrasts("temperature", "trt.vs.ctrl", ddf="kenward-roger")
    assert control.index[0] == "185 - 175"
    assert control["p"].iloc[:3].to_list() == pytest.approx([0.1520395677, 0.001824181283, 8.355674922e-05], rel=1e-5)
    assert control["lower"].iloc[0] == pytest.approx(-0.4491701257, abs=5e-4)
    versus = cake.contrasts("temperature", "treatment", reference="225")
    assert versus.index[0] == "175 - 225"
    effect = cake.contrasts("recipe", "eff", ddf="kenward-roger")
    close(effect.iloc[:1], [[1.0, 1.418118528, 42, -2.536315910, 4.536315910]])
    assert effect["p"].to_list() == pytest.approx([0.7378628258] * 3, rel=1e-6)
    steps = cake.contrasts("temperature", "consec", adjust="none", ddf="kenward-roger")
    close(steps.iloc[3:4], [[3.6666666667, 0.953843674, 210, 1.78633098323, 5.547002350]])
    curve = cake.contrasts("temperature", "poly", by="recipe", ddf="kenward-roger").loc["A"]
    assert list(curve.index) == ["linear", "quadratic", "cubic", "quartic", "degree 5"]
    expected = [
        [53.8, 9.773989166, 210, 34.53229283, 73.067707172],
        [-6.533333333, 10.706868686, 210, -27.64004903, 14.573382365],
        [-31.2, 15.673250898, 210, -62.09706809, -0.302931915],
        [-17.733333333, 6.181613518, 210, -29.91930132, -5.547365343],
        [-2.4, 18.544840554, 210, -38.95790397, 34.157903971],
    ]
    close(curve, expected)
    pairs = cake.contrasts("temperature", by="recipe", ddf="kenward-roger")
    assert pairs.iloc[2][["lower", "upper", "p"]].to_list() == pytest.approx(
        [-9.151820753, 0.3518207532, 0.08716937518], rel=TIGHT
    )
    reverse = cake.contrasts("recipe", "revpairwise")
    assert list(reverse.index) == ["B - A", "C - A", "C - B"]
    assert reverse["estimate"].iloc[0] == pytest.approx(-1.47777778, rel=TIGHT)


def test_own_contrasts_three_ways(cake: Any) -> None:
    row = [1.0, -0.5, -0.5]
    named = cake.contrasts("recipe", {"A against the rest": row})
    levels = cake.contrasts("recipe", {"A against the rest": {"A": 1, "B": -0.5, "C": -0.5}})
    matrix = cake.contrasts("recipe", [row])
    assert named["estimate"].iloc[0] == pytest.approx(1.5, rel=1e-8)  # (1.47777778 + 1.52222222) / 2
    pd.testing.assert_frame_equal(named, levels)
    assert list(matrix.index) == ["c1"]
    assert matrix.to_numpy() == pytest.approx(named.to_numpy())


def test_polynomials_are_smallest_whole_numbers() -> None:
    """emmeans:::poly.emmc(1:5) and (1:9)."""
    assert polynomials(5).tolist() == [[-2, -1, 0, 1, 2], [2, -1, -2, -1, 2], [-1, 2, 0, -2, 1], [1, -4, 6, -4, 1]]
    assert polynomials(9)[4].tolist() == [-4, 11, -4, -9, 0, 9, 4, -11, 4]
    assert polynomials(9)[5].tolist() == [4, -17, 22, 1, -20, 1, 22, -17, 4]


def test_ratios_and_differences(herds: Model, ticks: Any) -> None:
    """pairs(emmeans(g, "period"), type = "response"); pairs(regrid(emmeans(g, "period")), adjust = "none")."""
    fit, four = herds.ml(), ["estimate", "std_error", "lower", "upper"]
    odds = fit.contrasts("period", scale="response")
    assert list(odds.index[:2]) == ["1 / 2", "1 / 3"]
    close(odds.iloc[:1], [[2.697519897, 0.8271731814, 1.2269844351, 5.930485657]], four, rel=1e-5)
    assert odds["p"].iloc[0] == pytest.approx(0.006649349873, rel=1e-4)  # z to 2e-6, far out in the tail
    difference = fit.contrasts("period", scale="difference", adjust="none")
    expected = [[0.114177199962, 0.03528470742, 0.04502044421, 0.18333395572]]
    close(difference.iloc[:1], expected, four, rel=1e-5)
    # contrast(emmeans(p, "YEAR"), "trt.vs.ctrl", adjust = "none", type = "response"), Poisson, two crossed factors
    ratio = ticks.contrasts("YEAR", "treatment", scale="response", adjust="none")
    expected = [
        [3.2077762541, 0.73709870554, 2.0446113357, 5.0326574625],
        [0.3760904189, 0.09583432108, 0.2282398352, 0.6197165498],
    ]
    close(ratio, expected, four, rel=5e-5)
    probit = Model(herds.formula, load_dataset("cbpp"), family="binomial", link="probit").ml()
    with pytest.raises(UnsupportedError, match="scale='difference'"):
        probit.contrasts("period", scale="response")
    with pytest.raises(ArgumentError, match="sum to 0"):
        fit.contrasts("period", [[1, 0, 0, 0]], scale="response")


def test_adjusted_p_and_critical_values() -> None:
    """p.adjust, ptukey, qtukey, emmeans:::.pdunnx and .qdunnx (whose root is to 5e-4)."""
    p, many = np.array([0.01, 0.02, 0.03, 0.5]), np.full(4, np.inf)
    assert adjusted_p(p, p, many, "holm", 3) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert adjusted_p(p, p, many, "fdr", 3) == pytest.approx([0.04, 0.04, 0.04, 0.5])
    sidak = adjusted_p(p, p, many, "sidak", 3)
    assert sidak == pytest.approx([0.03940399, 0.07763184, 0.11470719, 0.93750000], abs=1e-8)
    t = np.array([1, 2, 3.3])
    tukey = adjusted_p(np.full(3, 0.5), t, np.full(3, 17.3), "tukey", 4)
    assert tukey == pytest.approx([0.7514003562820, 0.2259875280573, 0.0196572288173], rel=1e-7)
    normal = adjusted_p(np.full(2, 0.5), t[[1, 1]], np.full(2, np.inf), "tukey", 4)
    assert normal == pytest.approx([0.187912110391] * 2, rel=1e-7)
    assert critical_values(0.95, np.array([17.3, np.nan]), "tukey", 4, 6)[0] == pytest.approx(2.83746620978, rel=1e-7)
    dunnett = adjusted_p(np.full(3, 0.5), np.array([1.0, 2, 3]), np.full(3, 10.0), "dunnett", 4)
    assert dunnett == pytest.approx([0.6334923484729, 0.1765164491562, 0.0349703988319], rel=1e-7)
    assert critical_values(0.95, np.full(1, 10.0), "dunnett", 4, 3)[0] == pytest.approx(2.784447944, abs=5e-4)
    with_nan = adjusted_p(np.array([0.01, np.nan, 0.02]), np.array([2, np.nan, 1]), many[:3], "holm", 3)
    assert with_nan == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)  # two tests, not three
