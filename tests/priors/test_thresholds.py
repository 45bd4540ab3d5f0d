"""Thresholds under their prior: independent laws given that they ascend, by rejection and in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hiermod.priors.distributions import Distribution
from hiermod.priors.thresholds import ascending_draws, ascending_start, threshold_laws

DRAWS = 20_000


def test_two_normal_thresholds_in_closed_form() -> None:
    """t2 - t1 is N(d, 2) given that it is positive; 5 standard errors are one false alarm in two million."""
    t = ascending_draws([stats.norm(0.5, 1), stats.norm(0, 1)], DRAWS, np.random.default_rng(1))
    gap = stats.truncnorm(0.5 / np.sqrt(2), np.inf, loc=-0.5, scale=np.sqrt(2))
    assert (np.diff(t) > 0).all()
    assert abs(np.diff(t).mean() - gap.mean()) < 5 * gap.std() / np.sqrt(DRAWS)
    assert stats.kstest(np.diff(t)[:, 0], gap.cdf).pvalue > 1e-4
    assert abs(t.sum(axis=1).mean() - 0.5) < 5 * np.sqrt(2 / DRAWS)  # the sum is independent of the gap


def test_the_same_law_for_all_gives_order_statistics() -> None:
    """Ascending draws of one law are its order statistics: F(t_k) is Beta(k, m + 1 - k), also with heavy tails."""
    law = stats.cauchy(1, 2)
    t = ascending_draws([law] * 5, DRAWS, np.random.default_rng(2))
    for k in range(5):
        assert stats.kstest(law.cdf(t[:, k]), stats.beta(k + 1, 5 - k).cdf).pvalue > 1e-4


def test_default_thresholds_against_rejection() -> None:
    means = np.round(np.linspace(-2, 2, 4), 2)
    rng = np.random.default_rng(3)
    whole = means + rng.standard_normal((200_000, 4))
    kept = whole[(np.diff(whole, axis=1) > 0).all(axis=1)]
    t = ascending_draws([stats.norm(m, 1) for m in means], DRAWS, rng)
    for k in range(4):
        assert stats.ks_2samp(t[:, k], kept[:, k]).pvalue > 1e-4
    for i, j in ((0, 1), (1, 2), (0, 3)):
        assert np.corrcoef(t[:, [i, j]].T)[0, 1] == pytest.approx(np.corrcoef(kept[:, [i, j]].T)[0, 1], abs=0.03)


def test_many_thresholds_stay_ascending() -> None:
    t = ascending_draws([stats.norm(m, 1) for m in np.linspace(-2, 2, 19)], 500, np.random.default_rng(4))
    assert (np.diff(t) > 0).all()
    assert np.isfinite(t).all()


def test_starts_are_ascending() -> None:
    alike = Distribution("Normal", (("mu", 0.0), ("sigma", 2.0)))
    listed = Distribution("Normal", (("mu", (0.0, 1.0)), ("sigma", 1.0)))
    falling = Distribution("Normal", (("mu", (1.0, -9.0)), ("sigma", 1.0)))
    assert (np.diff(ascending_start(alike, 5)) > 0).all()
    assert (np.diff(ascending_start(falling, 2)) > 0).all()
    assert ascending_start(listed, 2) is None  # their medians ascend
    assert [str(law) for law in threshold_laws(listed, 2)] == ["Normal(mu=0, sigma=1)", "Normal(mu=1, sigma=1)"]
    assert ascending_start(Distribution("Flat", ()), 3) is None


@pytest.mark.stack
def test_a_graph_with_starts_of_its_own_is_copied_with_them() -> None:
    import pymc as pm

    from hiermod.engines.nuts.masked_graph import masked_graph

    with pm.Model() as graph:
        mu = pm.Normal("mu", 0.0, 1.0, initval=3.0)
        pm.Normal("y", mu, 1.0, observed=np.zeros(4))
    assert masked_graph(graph, 4).initial_point()["mu"] == graph.initial_point()["mu"] == 3.0
