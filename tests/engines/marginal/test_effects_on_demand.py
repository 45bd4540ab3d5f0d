"""Effects of the largest factor, drawn when asked for: their law given the rest, what readers see, what it costs."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermod as hm
from hiermod.engines.marginal import on_demand
from hiermod.engines.marginal.on_demand import EffectsOnDemand
from hiermod.errors import ArgumentError

# short chains on purpose: what is tested holds draw by draw
pytestmark = pytest.mark.filterwarnings("ignore::hiermod.errors.ConvergenceWarning")


def crossed(n: int = 600) -> pd.DataFrame:
    """Pupils in classes in schools, raters crossed with them, a weight and known sds; unbalanced, residual sd 7."""
    rng = np.random.default_rng(3)
    school = rng.integers(0, 8, n)
    inner = rng.integers(0, 5, n)
    rater = rng.integers(0, 11, n)
    frame = pd.DataFrame({"school": school, "class_": school * 10 + inner, "rater": rater})
    frame["x"] = rng.standard_normal(n) + 2.0
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["known"] = 7.0 * rng.uniform(0.5, 1.5, n)
    of_class = rng.standard_normal((100, 2)) * [1.0, 0.5]
    frame["y"] = (
        1.0
        + 0.5 * frame.x
        + of_class[frame.class_, 0]
        + of_class[frame.class_, 1] * frame.x
        + rng.standard_normal(8)[school]
        + 0.7 * rng.standard_normal(11)[rater]
        + rng.standard_normal(n) / np.sqrt(frame.w)
    )
    frame["y"] *= 7.0
    return frame


def many_crossed() -> pd.DataFrame:
    """150 crossed columns: too many for stacks, sparse for the kernel."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": rng.integers(0, 700, 3000), "h": rng.integers(0, 230, 3000)})
    frame["y"] = rng.standard_normal(700)[frame.g] + rng.standard_normal(230)[frame.h] + rng.standard_normal(3000)
    return frame


CASES = {
    "intercepts": ("y ~ x + (1 | class_)", {}),
    "slopes": ("y ~ x + (x | class_)", {"weights": "w"}),
    "independent slopes": ("y ~ x + (x || class_)", {}),
    "nested": ("y ~ x + (1 | school) + (x | class_)", {"weights": "w"}),
    "crossed": ("y ~ offset(x) + (1 | class_) + (1 | rater)", {}),
    "nested and crossed": ("y ~ x + (1 | school) + (x | class_) + (1 | rater)", {}),
    "known sds": ("y ~ x + (x | class_)", {"se": "known"}),
}


def fitted(monkeypatch, name: str, at_once: float = 0.0, draws: int = 50) -> hm.results.bayesian.BayesianFit:
    monkeypatch.setattr(on_demand, "AT_ONCE", at_once)
    formula, settings = CASES[name]
    return hm.Model(formula, crossed(), **settings).fit(draws=draws, chains=2, random_seed=4)


def lazy(fit) -> list[int]:
    return [i for i, one in enumerate(fit.record.effects) if isinstance(one, EffectsOnDemand)]


def rest_of(fit, s: int, blocks: list[int]) -> np.ndarray:
    """y less what draw s says of it without the effects of some blocks."""
    design, record = fit.design, fit.record
    mean = design.X @ record.beta.reshape(-1, design.X.shape[1])[s]
    if design.offset is not None:
        mean = mean + design.offset
    for i, block in enumerate(design.blocks):
        if i not in blocks:
            b = record.b[i].reshape(-1, *record.b[i].shape[2:])
            mean = mean + (b[s][block.codes] * block.values).sum(axis=1)
    return design.y - mean


def conjugate(fit, s: int, blocks: list[int], level: int, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one level's effects given draw s of everything else, from the rows alone."""
    design, record = fit.design, fit.record
    sigma = 1.0 if record.sigma is None else record.sigma.reshape(-1)[s]
    sd = (
        design.se
        if design.se is not None
        else sigma / np.sqrt(np.ones(fit.nobs) if design.weights is None else design.weights)
    )
    rows = np.flatnonzero(design.blocks[blocks[0]].codes == level)
    Z = np.hstack([design.blocks[i].values[rows] for i in blocks])
    prior = np.zeros((Z.shape[1], Z.shape[1]))
    at = 0
    for i in blocks:
        sds = record.sd[i].reshape(-1, design.blocks[i].size)[s]
        corr = np.eye(len(sds)) if record.corr[i] is None else record.corr[i].reshape(-1, len(sds), len(sds))[s]
        prior[at : at + len(sds), at : at + len(sds)] = sds[:, None] * corr * sds
        at += len(sds)
    weights = 1.0 / (np.ones(fit.nobs) * sd)[rows] ** 2
    cov = np.linalg.inv(np.linalg.inv(prior) + (Z.T * weights) @ Z)
    return cov @ (Z.T * weights) @ rest[rows], cov


@pytest.mark.parametrize("name", CASES)
def test_the_law_of_a_level_is_the_conjugate_one_of_its_rows(monkeypatch, name):
    fit = fitted(monkeypatch, name)
    own = lazy(fit)
    assert [fit.design.blocks[i].factor for i in own] == ["class_"] * len(own)
    moments = [fit.record.effect_moments(i) for i in own]
    for s, level in [(0, 0), (17, 5), (99, len(fit.design.blocks[own[0]].levels) - 1)]:
        mean, cov = conjugate(fit, s, own, level, rest_of(fit, s, own))
        found = np.concatenate([m[s, level] for m, _ in moments])
        variance = np.concatenate([np.asarray(v)[s, level] for _, v in moments])
        np.testing.assert_allclose(found, mean, rtol=1e-8, atol=1e-9 * np.sqrt(cov.max()))
        np.testing.assert_allclose(variance, np.diag(cov), rtol=1e-8)


@pytest.mark.parametrize("name", ["slopes", "independent slopes", "nested and crossed"])
def test_draws_have_that_law(monkeypatch, name):
    """Standardised by the law given the rest, all draws of all levels together are standard normal and uncorrelated."""
    fit = fitted(monkeypatch, name, draws=60)
    own = lazy(fit)
    flat = [fit.record.effects_of(i) for i in own]
    levels = len(fit.design.blocks[own[0]].levels)
    z = []
    for s in range(0, 120, 3):
        rest = rest_of(fit, s, own)
        for level in range(levels):
            mean, cov = conjugate(fit, s, own, level, rest)
            draw = np.concatenate([b[s, level] for b in flat])
            z.append(np.linalg.solve(np.linalg.cholesky(cov), draw - mean))
    z = np.array(z)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(len(z))


def test_a_sparse_tail_has_the_same_law(monkeypatch):
    monkeypatch.setattr(on_demand, "AT_ONCE", 0.0)
    fit = hm.Model("y ~ 1 + (1 | g) + (1 | h)", many_crossed()).fit(draws=5, chains=2, random_seed=4)
    (i,) = lazy(fit)
    assert fit.record.effects[i].factor.rows.nnz < 0.1 * np.prod(fit.record.effects[i].factor.rows.shape)
    means, variances = fit.record.effect_moments(i, np.array([3, 611]))
    for position, level in enumerate((3, 611)):
        mean, cov = conjugate(fit, 7, [i], level, rest_of(fit, 7, [i]))
        np.testing.assert_allclose(means[7, position], mean, rtol=1e-8)
        np.testing.assert_allclose(variances[7, position], np.diag(cov), rtol=1e-8)


def test_the_same_posterior_as_draws_made_at_once(monkeypatch):
    """Within 4.5 Monte Carlo errors of the difference; the two share the draws of the variance parameters alone."""
    later = fitted(monkeypatch, "nested and crossed", draws=1000)
    made = fitted(monkeypatch, "nested and crossed", at_once=1e9, draws=1000)
    assert lazy(later)
    assert not lazy(made)
    for one, other in ((later.ranef("class_"), made.ranef("class_")), (later.coef("class_"), made.coef("class_"))):
        error = np.hypot(one["std_error"], other["std_error"]) / np.sqrt(2000)
        assert (np.abs(one["estimate"] - other["estimate"]) < 4.5 * error).all()
        np.testing.assert_allclose(one["std_error"], other["std_error"], rtol=4.5 / np.sqrt(2 * 2000) * np.sqrt(2))
        width = other["upper"] - other["lower"]
        assert (np.abs(one["upper"] - other["upper"]) < 0.1 * width).all()


def test_a_level_has_the_same_draws_whichever_are_asked_for(monkeypatch):
    fit = fitted(monkeypatch, "nested and crossed")
    for i in lazy(fit):
        everything = fit.record.effects_of(i)
        np.testing.assert_array_equal(fit.record.b[i].reshape(everything.shape), everything)
        levels = np.array([7, 0, 31])
        np.testing.assert_allclose(fit.record.effects_of(i, levels), everything[:, levels], rtol=1e-12)
        some = fit.record.effects_of(i, levels, np.array([4, 90]))
        np.testing.assert_allclose(some, everything[[4, 90]][:, levels], rtol=1e-12)


def test_means_have_no_noise_of_their_own(monkeypatch):
    """ranef is the average of E[b | draw of the rest]; draws of the effects scatter around it."""
    fit = fitted(monkeypatch, "intercepts")
    mean, variance = fit.record.effect_moments(0)
    table = fit.ranef()
    np.testing.assert_allclose(table["estimate"], mean.mean(axis=0)[:, 0], rtol=1e-12)
    expected = np.sqrt(np.asarray(variance).mean(axis=0) + mean.var(axis=0, ddof=1))[:, 0]
    np.testing.assert_allclose(table["std_error"], expected, rtol=1e-12)
    drawn = fit.record.effects_of(0)
    np.testing.assert_allclose(table["lower"], np.quantile(drawn, 0.025, axis=0)[:, 0], rtol=1e-10)
    assert np.abs(table["estimate"] - drawn.mean(axis=0)[:, 0]).max() > 1e-3


def test_parts_change_nothing(monkeypatch):
    fit = fitted(monkeypatch, "nested and crossed")
    whole = fit.coef("class_")
    monkeypatch.setattr(on_demand, "NUMBERS", 5 * 100 * 2 * 10)
    assert len(fit.record.level_parts(lazy(fit)[0])) > 5
    pd.testing.assert_frame_equal(fit.coef("class_"), whole, rtol=1e-12)


def test_predictions_draw_the_levels_they_need(monkeypatch):
    fit = fitted(monkeypatch, "slopes")
    new = crossed().iloc[[5, 300, 5]]
    asked: list[int] = []
    original = EffectsOnDemand.draws
    monkeypatch.setattr(
        EffectsOnDemand,
        "draws",
        lambda self, levels, draws: asked.append(np.size(levels)) or original(self, levels, draws),
    )
    table = fit.predict(new, interval=0.9)
    assert asked
    assert max(asked) == 2
    monkeypatch.setattr(EffectsOnDemand, "draws", original)
    block, flat = fit.design.blocks[0], fit.record.b[0].reshape(-1, *fit.record.b[0].shape[2:])
    eta = fit.record.beta.reshape(-1, 2) @ fit.design.X[[5, 300, 5]].T
    eta += np.einsum("smk,mk->sm", flat[:, block.codes[[5, 300, 5]]], block.values[[5, 300, 5]])
    np.testing.assert_allclose(table["lower"], np.quantile(eta, 0.05, axis=0), rtol=1e-10)
    np.testing.assert_allclose(table["estimate"], fit.fitted().iloc[[5, 300, 5]], rtol=1e-10)


def test_pickled_saved_and_shown_as_any_other(monkeypatch, tmp_path):
    fit = fitted(monkeypatch, "nested and crossed")
    back = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(back.record.b[1], fit.record.b[1])
    pd.testing.assert_frame_equal(back.ranef(), fit.ranef())
    fit.save(tmp_path / "fit.nc")
    loaded = hm.load(tmp_path / "fit.nc")
    assert lazy(loaded) == lazy(fit)
    np.testing.assert_array_equal(loaded.record.b[1], fit.record.b[1])
    pd.testing.assert_frame_equal(loaded.coef(), fit.coef())
    assert fit.idata.posterior["1|class_"].shape == (2, 50, len(fit.design.blocks[1].levels))
    fit.save(tmp_path / "with_draws.nc")  # the person has asked for them by now
    again = hm.load(tmp_path / "with_draws.nc")
    np.testing.assert_array_equal(again.idata.posterior["1|class_"], fit.idata.posterior["1|class_"])
    assert (tmp_path / "fit.nc").stat().st_size < (tmp_path / "with_draws.nc").stat().st_size
    assert "drawn when asked for" in str(fit.check())


def test_small_models_have_their_draws_at_once():
    fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).fit(random_seed=1)
    assert not lazy(fit)
    assert fit.inference.group_effects == ""


def test_more_than_memory_holds_is_refused_only_where_all_are_asked_for(monkeypatch):
    fit = fitted(monkeypatch, "intercepts")
    monkeypatch.setattr(on_demand, "LARGEST", 8.0 * 100 * 20)
    with pytest.raises(ArgumentError, match=r"100 draws of 40 group effects .*ranef\(\), coef\(\) and predict\(\)"):
        _ = fit.record.b
    monkeypatch.setattr(on_demand, "NUMBERS", 7 * 100 * 10)
    assert len(fit.ranef()) == 40


def counted(monkeypatch) -> list[int]:
    """How many levels every call of draws() asked for."""
    asked: list[int] = []
    original = EffectsOnDemand.draws

    def draws(self, levels=slice(None), draws=slice(None)):
        asked.append(len(np.arange(self.shape[2])[levels]))
        return original(self, levels, draws)

    monkeypatch.setattr(EffectsOnDemand, "draws", draws)
    return asked


@pytest.mark.parametrize(
    ("what", "times"),
    [
        (lambda fit: fit.waic(), 1),
        (lambda fit: fit.loo(integrated=False), 1),
        (lambda fit: fit.idata, 1),
        (lambda fit: fit.log_likelihood(), 1),
        (lambda fit: fit.posterior_predictive(), 1),
        (lambda fit: fit.predict(interval=0.9), 1),
        (lambda fit: fit.ranef(), 1),
        (lambda fit: fit.fitted(), 0),
        (lambda fit: fit.summary(), 0),
        (lambda fit: fit.loo(), 0),
    ],
)
def test_effects_are_drawn_once_for_whatever_needs_them(monkeypatch, what, times):
    import hiermod.fits.bayesian_predict as predict
    import hiermod.inference.scores.of_fit as scores

    fit = fitted(monkeypatch, "intercepts")
    monkeypatch.setattr(predict, "ROWS_AT_A_TIME", 100 * 37)  # rows come in many parts, levels in any order
    monkeypatch.setattr(scores, "AT_ONCE", 100 * 37)
    asked = counted(monkeypatch)
    what(fit)
    levels = len(fit.design.blocks[0].levels)
    assert sum(asked) <= times * levels + 20 * times  # a level can lie at the border of two parts


def test_saving_draws_nothing_and_blocks_of_one_factor_share_it(monkeypatch, tmp_path):
    fit = fitted(monkeypatch, "independent slopes")
    asked = counted(monkeypatch)
    fit.save(tmp_path / "fit.nc")
    assert asked == []
    loaded = hm.load(tmp_path / "fit.nc")
    first, second = loaded.record.effects
    assert first.factor is second.factor
    pd.testing.assert_frame_equal(loaded.ranef(), fit.ranef())


def test_few_responses_need_few_draws_and_are_kept(monkeypatch, tmp_path):
    fit = fitted(monkeypatch, "slopes")
    monkeypatch.setattr(on_demand, "LARGEST", 8.0 * 12 * 40 * 2)
    new = fit.posterior_predictive(draws=10, random_seed=1)
    assert "_idata" not in vars(fit)
    assert new.shape == (2, 5, fit.nobs)
    monkeypatch.setattr(on_demand, "LARGEST", 8e9)
    fit.save(tmp_path / "fit.nc")
    for one in (hm.load(tmp_path / "fit.nc"), fit):
        np.testing.assert_array_equal(one.idata.posterior_predictive["y"], new)


def test_fitted_values_are_coefficients_times_predictors(monkeypatch):
    """The same law behind ranef, coef and fitted: no Monte Carlo error between them."""
    fit = fitted(monkeypatch, "slopes")
    b = fit.ranef().pivot(index="level", columns="term", values="estimate").loc[list(fit.design.blocks[0].levels)]
    block, beta = fit.design.blocks[0], fit.fixef()["estimate"].to_numpy()
    expected = fit.design.X @ beta + (b[list(block.labels)].to_numpy()[block.codes] * block.values).sum(axis=1)
    np.testing.assert_allclose(fit.fitted(), expected, rtol=1e-10)


def test_a_chain_of_its_own_and_nuts_on_the_density(monkeypatch):
    from hiermod.engines.marginal import engine as marginal

    fit = hm.Model("y ~ x + (x | class_)", crossed())
    monkeypatch.setattr(on_demand, "AT_ONCE", 0.0)
    one = fit.fit(draws=40, chains=1, random_seed=2)
    monkeypatch.setattr(marginal, "LEAST_EFFICIENCY", 2.0)
    other = fit.fit(draws=40, tune=100, chains=2, random_seed=2)
    assert other.inference.method == "marginal-nuts"
    for found in (one, other):
        mean, cov = conjugate(found, 5, [0], 3, rest_of(found, 5, [0]))
        means, variances = found.record.effect_moments(0)
        np.testing.assert_allclose(means[5, 3], mean, rtol=1e-8)
        np.testing.assert_allclose(np.asarray(variances)[5, 3], np.diag(cov), rtol=1e-8)
