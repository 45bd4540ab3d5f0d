"""Draws in Bambi's names become arrays in the Design's order, and their quality is said in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermod.engines.posterior import Draws, assess, extract, labelled
from hiermod.errors import FitError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design

CHAINS, DRAWS = 4, 250


@pytest.fixture(scope="module")
def design() -> Design:
    rng = np.random.default_rng(3)
    n = 48
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "f": np.tile(list("ABC"), n // 3),
            "g": np.repeat(["b", "a", "c", "d"], n // 4),
        }
    )
    return build_design("y ~ x + f + (x + f | g)", frame)


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    """As Bambi gives them, with levels in another order than the Design's; each value tells where it comes from."""
    rng = np.random.default_rng(4)

    def noise(*shape: int) -> np.ndarray:
        return rng.normal(size=(CHAINS, DRAWS, *shape))

    groups = ["d", "c", "b", "a"]
    expression = ["C", "B"]
    return xr.Dataset(
        {
            "Intercept": (("chain", "draw"), 100 + noise()),
            "x": (("chain", "draw"), 200 + noise()),
            "f": (("chain", "draw", "f_dim"), np.array([400, 300]) + noise(2)),
            "sigma": (("chain", "draw"), 5 + noise()),
            "1|g": (("chain", "draw", "g__factor_dim"), np.array([4, 3, 2, 1]) * 1000 + noise(4)),
            "x|g": (("chain", "draw", "g__factor_dim"), np.array([4, 3, 2, 1]) * 2000 + noise(4)),
            "f|g": (
                ("chain", "draw", "f__expr_dim", "g__factor_dim"),
                np.array([[70], [30]]) * np.array([4, 3, 2, 1]) * 100 + noise(2, 4),
            ),
            "1|g_sigma": (("chain", "draw"), 11 + 0.1 * noise()),
            "x|g_sigma": (("chain", "draw"), 12 + 0.1 * noise()),
            "f|g_sigma": (("chain", "draw", "f__expr_dim"), np.array([14, 13]) + 0.1 * noise(2)),
            "g_corr": (("chain", "draw", "g_corr_dim_0", "g_corr_dim_1"), noise(4, 4)),
        },
        coords={
            "chain": np.arange(CHAINS),
            "draw": np.arange(DRAWS),
            "f_dim": expression,
            "f__expr_dim": expression,
            "g__factor_dim": groups,
        },
    )


@pytest.fixture(scope="module")
def draws(dataset, design) -> Draws:
    return extract(dataset, design, {"sigma": None})


def test_order_is_the_designs(draws, design):
    assert design.common == ("Intercept", "x", "f[B]", "f[C]")
    np.testing.assert_allclose(draws.beta.mean(axis=(0, 1)), [100, 200, 300, 400], atol=0.3)  # 9 standard errors
    assert design.blocks[0].labels == ("Intercept", "x", "f[B]", "f[C]")
    np.testing.assert_allclose(draws.sd[0].mean(axis=(0, 1)), [11, 12, 13, 14], atol=0.03)
    place = {"a": 1, "b": 2, "c": 3, "d": 4}
    expected = [[1000 * place[g], 2000 * place[g], 3000 * place[g], 7000 * place[g]] for g in design.blocks[0].levels]
    np.testing.assert_allclose(draws.b[0].mean(axis=(0, 1)), expected, atol=0.3)


def test_missing_levels_are_an_error(dataset, design):
    with pytest.raises(FitError, match="disagree on the levels of 'g'"):
        extract(dataset.isel(g__factor_dim=[0, 1, 2]), design, {"sigma": None})


def test_fixed_parameters_are_constant_and_known_sds_leave_none(dataset, design):
    assert (extract(dataset, design, {"sigma": 2.0}).sigma == 2.0).all()
    assert extract(dataset, design, {}).sigma is None
    more = extract(dataset, design, {"sigma": None, "nu": 4.0})
    assert list(more.auxiliary) == ["nu"]
    assert more.auxiliary["nu"].shape == (CHAINS, DRAWS)


def test_labels_are_those_of_the_tables(draws, design):
    names = [name for name, _ in labelled(draws, design)]
    assert names[:5] == ["Intercept", "x", "f[B]", "f[C]", "sigma"]
    for name in ("1|g_sigma", "f|g_sigma[B]", "g_corr[Intercept,x]", "g_corr[f[B],f[C]]", "x|g[a]", "f|g[C,d]"):
        assert name in names
    assert len(names) == len(set(names)) == 5 + 4 + 6 + 16


def test_good_draws_need_no_words(draws, design):
    r_hat, bulk, tail, words = assess(draws, design, divergences=0)
    assert r_hat < 1.02
    assert min(bulk, tail) > 400
    assert words == () or "R-hat" in words[0]  # 31 R-hats of 1,000 independent draws can reach 1.01


def test_bad_draws_are_described(draws, design):
    from dataclasses import replace

    beta = draws.beta.copy()
    beta[0, :, 1] += 10  # one chain elsewhere
    r_hat, bulk, _, words = assess(replace(draws, beta=beta), design, divergences=3)
    text = " ".join(words)
    assert r_hat > 1.3
    assert bulk < 20
    assert "3 of 1000 transitions diverged" in text
    assert "target_accept" in text
    assert "worst: x," in text
    assert "(x), below 400" in text


def test_one_chain_is_said(draws, design):
    one = Draws(
        beta=draws.beta[:1],
        effects=tuple(b[:1] for b in draws.b),
        sd=tuple(sd[:1] for sd in draws.sd),
        corr=tuple(None if corr is None else corr[:1] for corr in draws.corr),
        sigma=draws.sigma[:1],
        auxiliary={},
    )
    assert any("With one chain" in word for word in assess(one, design, 0)[3])
