"""Draws from the prior against closed forms and against PyMC's own draws from the same graph."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hiermod as hm
from hiermod.core import versions
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError
from hiermod.inference.priors_and_reml.data_summaries import data_summaries, summarise
from hiermod.model import Model
from hiermod.priors.model_priors import model_priors

ROOT = Path(hm.__file__).parent.parent


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return hm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def model(sleep) -> Model:
    priors = {
        "Intercept": "Normal(300, 50)",
        "Days": "Normal(10, 5)",
        "1|Subject": "HalfNormal(40)",
        "Days|Subject": "Exponential(0.1)",
        "Subject_corr": "LKJ(3)",
        "sigma": "HalfNormal(30)",
    }
    return Model("Reaction ~ Days + (Days | Subject)", sleep, priors=priors)


def within(values: np.ndarray, expected: float, sigmas: float = 4.5) -> bool:
    """The mean of independent draws within ``sigmas`` standard errors (4.5: 7e-6 two-sided)."""
    return bool(abs(values.mean() - expected) < sigmas * values.std(ddof=1) / np.sqrt(len(values)))


def test_parameters_have_the_moments_of_their_priors(model):
    """Closed forms: E and E x^2 of each prior; LKJ(3), k = 2: var of the correlation 1 / (2 * 3 + 1)."""
    prior = model.prior_predictive(draws=8000, random_seed=3)
    record = prior.record
    days, sd, corr, sigma = record.beta[0, :, 1], record.sd[0][0], record.corr[0][0, :, 0, 1], record.sigma[0]
    assert within(days, 10)
    assert within((days - 10) ** 2, 25)
    # the intercept is given at mean(Days) = 4.5: at 0 it is 300 - 4.5 * 10, with variance 50^2 + 4.5^2 * 5^2
    assert within(record.beta[0, :, 0], 255)
    assert within((record.beta[0, :, 0] - 255) ** 2, 2500 + 506.25)
    assert within(sd[:, 0], 40 * np.sqrt(2 / np.pi))
    assert within(sd[:, 1], 10)
    assert within(corr, 0)
    assert within(corr**2, 1 / 7)
    assert within(sigma**2, 900)
    b = record.b[0][0]
    assert within((b[:, 0, 0] * b[:, 0, 1]) / (sd[:, 0] * sd[:, 1]), 0)
    assert within((b[:, 3, 0] / sd[:, 0]) ** 2, 1)
    assert within(b[:, 3, 0] * b[:, 3, 1] / (sd[:, 0] * sd[:, 1]) * corr, 1 / 7)  # E r * r


def test_data_have_the_variance_of_the_model(model, sleep):
    """Closed form: var y = var(beta0_c + beta1 (x - 4.5)) + E tau0^2 + x^2 E tau1^2 + E sigma^2 (E corr = 0)."""
    y = next(model.prior_predictive(draws=8000, random_seed=5).draws.responses(model.spec))
    for row in (0, 9):
        x = sleep["Days"].iloc[row]
        mean = 300 + 10 * (x - 4.5)
        variance = 2500 + 25 * (x - 4.5) ** 2 + 1600 + x**2 * 200 + 900  # Exponential(0.1): E tau^2 = 2 / 0.1^2
        assert within(y[:, row], mean)
        assert within((y[:, row] - mean) ** 2, variance)


@pytest.mark.parametrize("eta", [0.7, 4.0])
def test_correlation_matrices_are_lkj(eta):
    """Marginals of LKJ(eta) in 3 dimensions: Beta(eta + 1/2) on (-1, 1) for each pair; Kolmogorov-Smirnov, p > 1e-3."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=60), "x": rng.normal(size=60), "z": rng.normal(size=60)})
    data["g"] = np.repeat(list("abcdef"), 10)
    drawn = Model("y ~ x + z + (x + z | g)", data, priors={"g_corr": f"LKJ({eta})"}).prior_predictive(4000, 7)
    corr = drawn.record.corr[0][0]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert stats.kstest(corr[:, i, j], stats.beta(eta + 0.5, eta + 0.5, loc=-1, scale=2).cdf).pvalue > 1e-3
    assert np.allclose(np.diagonal(corr, axis1=1, axis2=2), 1)


@pytest.mark.stack
@pytest.mark.parametrize("center", [True, False])
def test_numpy_and_the_graph_draw_from_one_prior(sleep, center):
    """Independent: pm.sample_prior_predictive on the graph; two-sample Kolmogorov-Smirnov, p > 1e-3 at fixed seeds."""
    from hiermod.engines.prior_draws import draw_prior, drawn_by_graph

    model = Model("Reaction ~ Days + (Days | Subject)", sleep, center_predictors=center)
    build = lambda: model.bambi  # noqa: E731
    priors = model_priors(model.spec, model._priors, "gaussian", "identity", center)
    mine = draw_prior(model.spec, model._prior_entries(), priors, "gaussian", "identity", center, build, 3000, 11)
    assert mine.record.inference.method == "prior, by numpy"
    theirs, _, their_y = drawn_by_graph(model.bambi, model.spec, 3000, 12)
    y = np.concatenate(list(mine.responses(model.spec)))
    pairs = {
        "Intercept": (mine.record.beta[0, :, 0], theirs["beta"][0, :, 0]),
        "Days": (mine.record.beta[0, :, 1], theirs["beta"][0, :, 1]),
        "sd": (mine.record.sd[0][0, :, 1], theirs["sd"][0][0, :, 1]),
        "corr": (mine.record.corr[0][0, :, 0, 1], theirs["corr"][0][0, :, 0, 1]),
        "b": (mine.record.b[0][0, :, 4, 1], theirs["effects"][0][0, :, 4, 1]),
        "sigma": (mine.record.sigma[0], theirs["sigma"][0]),
        "y": (y[:, 17], their_y[:, 17]),
        "difference": (y[:, 9] - y[:, 0], their_y[:, 9] - their_y[:, 0]),
        "spread": (y.std(axis=1), their_y.std(axis=1)),
    }
    for name, (a, b) in pairs.items():
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name


def test_successes_out_of_trials_and_names():
    """cbpp: on the logit scale Normal(0, 1.5) plus N(0, HalfNormal): successes between 0 and the trials, symmetric."""
    data = hm.load_dataset("cbpp")
    model = Model("p(incidence, size) ~ period + (1 | herd)", data, family="binomial")
    prior = model.prior_predictive(draws=600, random_seed=2)
    assert prior.record.inference.method == "prior, by numpy"
    y = np.concatenate(list(prior.draws.responses(model.spec)))
    assert y.shape == (600, 56)
    assert (y >= 0).all()
    assert (y <= data["size"].to_numpy()).all()
    assert within((y / data["size"].to_numpy()).mean(axis=1), 0.5)
    assert {"prior", "prior_predictive"} <= set(versions.group_names(prior.idata))
    assert "period[2]" in prior.parameters().index
    counts = pd.DataFrame({"y": [0, 3, 1, 5, 2, 8] * 3, "x": np.arange(18.0), "g": list("abc") * 6})
    found = Model("y ~ x + (1 | g)", counts, family="negativebinomial").prior_predictive(50, 1)
    assert "alpha" in found.parameters().index


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Predictors far from 0, so that centring tells."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(3, 1, 40), "g": list("abcd") * 10, "n": 6})
    return data.assign(y=np.resize([1, 2, 3, 4], 40))


def test_ascending_thresholds_are_order_statistics(rows):
    """Closed form: three standard normals in their order; the largest has the mean 3 / (2 sqrt(pi)) and its law is
    Phi^3.  Without predictors' effects the chance of the lowest category is E F(smallest)."""
    tight = {"x": "Normal(0, 0.0001)", "1|g": "HalfNormal(0.0001)", "threshold": "Normal(0, 1)"}
    prior = Model("y ~ x + (1 | g)", rows, family="cumulative", priors=tight).prior_predictive(4000, 3)
    assert prior.record.inference.method == "prior, by numpy"
    t = prior.record.auxiliary["threshold"][0]
    assert (np.diff(t, axis=1) > 0).all()
    assert within(t[:, 2], 3 / (2 * np.sqrt(np.pi)))
    assert stats.kstest(t[:, 2], lambda z: stats.norm.cdf(z) ** 3).pvalue > 1e-3
    y = np.concatenate(list(prior.draws.responses(prior.design)))
    assert set(np.unique(y)) == {1, 2, 3, 4}
    lowest = stats.norm.expect(lambda z: 3 * (1 - stats.norm.cdf(z)) ** 2 * special.expit(z))
    assert within(y[:, 5] == 1, lowest)


@pytest.mark.stack
@pytest.mark.parametrize("family", ["cumulative", "sratio", "negativebinomial", "binomial", "gamma"])
def test_generalised_models_draw_as_the_graph(rows, family):
    """Independent: pm.sample_prior_predictive; of thresholds in their order those of its draws that ascend.  Two-sample
    Kolmogorov-Smirnov, p > 1e-3 at fixed seeds; the names, dims and kinds of numbers of idata are the same."""
    from hiermod.engines.prior_draws import drawn_by_graph

    left = "p(y, n)" if family == "binomial" else "y"
    priors = {}
    if family in ("negativebinomial", "gamma"):  # wide ones have means that PyMC cannot draw at
        priors = {"Intercept": "Normal(0, 0.5)", "x": "Normal(0.3, 0.2)", "alpha": "Gamma(4, 2)"}
        priors |= {"1|g": "HalfNormal(0.3)", "x|g": "HalfNormal(0.2)"}
    link = "log" if family == "gamma" else None
    model = Model(f"{left} ~ x + (x | g)", rows, family=family, link=link, priors=priors)
    mine = model.prior_predictive(3000, 11)
    assert mine.record.inference.method == "prior, by numpy"
    theirs, idata, their_y = drawn_by_graph(model._graph, model.spec, 3000, 12)
    for group in ("prior", "prior_predictive", "observed_data"):
        one, two = (versions.group_dataset(which, group) for which in (mine.idata, idata))
        assert set(one.data_vars) == set(two.data_vars), group
        for name in one.data_vars:
            assert dict(one[name].sizes) == dict(two[name].sizes), name
            assert one[name].dtype.kind == two[name].dtype.kind, name
    kept = np.ones(3000, dtype=bool)
    if family == "cumulative":
        kept = (np.diff(theirs["auxiliary"]["threshold"][0], axis=1) > 0).all(axis=1)
    y = np.concatenate(list(mine.draws.responses(model.spec)))
    pairs = {
        f"beta {i}": (mine.record.beta[0, :, i], theirs["beta"][0][kept, i]) for i in range(len(model.spec.common))
    }
    for name, values in mine.record.auxiliary.items():
        own, other = values[0].reshape(3000, -1), theirs["auxiliary"][name][0].reshape(3000, -1)[kept]
        pairs |= {f"{name} {i}": (own[:, i], other[:, i]) for i in range(own.shape[1])}
    pairs["sd"] = (mine.record.sd[0][0, :, 1], theirs["sd"][0][0, kept, 1])
    pairs["corr"] = (mine.record.corr[0][0, :, 0, 1], theirs["corr"][0][0, kept, 0, 1])
    pairs["b"] = (mine.record.b[0][0, :, 2, 1], theirs["effects"][0][0, kept, 2, 1])
    pairs["y"] = (y[:, 17], their_y[kept, 17])
    pairs["mean"] = (y.mean(axis=1), their_y[kept].mean(axis=1))
    for name, (a, b) in pairs.items():
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name


@pytest.mark.parametrize("link", ["inverse", "identity"])
def test_links_that_can_leave_the_range_are_left_to_the_graph(rows, link):
    """A negative mean of a gamma law has no draw; 1e30 as a mean of counts has, and no warning."""
    from hiermod.engines.prior_draws import drawn_in_numpy

    model = Model("y ~ x + (1 | g)", rows, family="gamma", link=link)
    priors = model_priors(model.spec, model._priors, "gamma", link)
    assert not drawn_in_numpy(model.spec, model._prior_entries(), priors, "gamma", link)
    wide = {"Intercept": "Normal(0, 900)", "x": "Normal(0, 900)"}
    counts = Model("y ~ x + (1 | g)", rows, family="poisson", priors=wide).prior_predictive(300, 1)
    assert np.isfinite(np.concatenate(list(counts.draws.responses(counts.design)))).all()
    assert (versions.group_dataset(counts.idata, "prior_predictive")["y"].values >= 0).all()


@pytest.mark.parametrize("family", ["cumulative", "poisson"])
def test_generalised_models_import_no_pymc(family):
    code = (
        "import sys, pandas as pd, numpy as np, hiermod as hm\n"
        "d = pd.DataFrame({'y': np.resize([1, 2, 3], 30), 'x': np.arange(30.0), 'g': np.resize(list('abc'), 30)})\n"
        f"p = hm.Model('y ~ x + (1 | g)', d, family={family!r}).prior_predictive(20, 1)\n"
        "p.simulate(2, random_seed=1), p.parameters(), str(p)\n"
        "print(sorted({'pymc', 'bambi', 'pytensor'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.stack
def test_group_effects_that_are_not_normal_go_through_the_graph(sleep):
    """Their sd has a scipy law, and that does not make them Normal."""
    import bambi

    priors = {"1|Subject": bambi.Prior("StudentT", nu=4, mu=0, sigma=bambi.Prior("HalfNormal", sigma=30))}
    found = Model("Reaction ~ Days + (1 | Subject)", sleep, priors=priors, noncentered=False).prior_predictive(100, 1)
    assert found.record.inference.method == "prior, by graph"


@pytest.mark.stack
def test_a_gaussian_prior_that_only_the_graph_knows(sleep):
    found = Model("Reaction ~ Days + (1 | Subject)", sleep, priors={"Days": "VonMises(0, 2)"}).prior_predictive(200, 1)
    assert found.record.inference.method == "prior, by graph"
    assert np.abs(found.record.beta[0, :, 1]).max() <= np.pi


@pytest.mark.stack
def test_idata_has_bambis_names(model):
    prior = model.prior_predictive(draws=50, random_seed=1)
    assert set(versions.group_names(prior.idata)) == {"prior", "prior_predictive", "observed_data"}
    dataset = versions.group_dataset(prior.idata, "prior")
    assert {"Intercept", "Days", "1|Subject", "Days|Subject_sigma", "Subject_corr", "sigma"} <= set(dataset)
    y = versions.group_dataset(prior.idata, "prior_predictive")["Reaction"]
    assert dict(y.sizes) == {"chain": 1, "draw": 50, "__obs__": 180}
    expected = np.concatenate(list(prior.draws.responses(model.spec)))
    assert np.array_equal(y.values[0], expected)


def test_the_same_seed_gives_the_same_draws(model):
    one, two = (model.prior_predictive(40, 9) for _ in range(2))
    assert np.array_equal(one.record.beta, two.record.beta)
    first, again = (next(one.draws.responses(model.spec)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, next(pickle.loads(pickle.dumps(two)).draws.responses(model.spec)))
    other = model.prior_predictive(40, 10)
    assert not np.array_equal(one.record.beta, other.record.beta)


def test_pieces_are_the_whole(model, monkeypatch):
    """Data made in pieces of 7 draws are those made at once."""
    prior = model.prior_predictive(30, 4)
    whole = np.concatenate(list(prior.draws.responses(model.spec)))
    monkeypatch.setattr("hiermod.engines.prior_draws.NUMBERS_AT_ONCE", 7 * 180)
    pieces = list(prior.draws.responses(model.spec))
    assert [len(piece) for piece in pieces] == [7, 7, 7, 7, 2]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_weights_known_sds_and_offsets_reach_the_data():
    """Closed form: y given mu has sd sigma / sqrt(w), or se, around mu + offset."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=8), "w": [1.0] * 4 + [100.0] * 4, "o": np.arange(8.0)})
    data["s"], data["g"] = np.arange(1.0, 9.0), list("aabbccdd")
    tight = {"Intercept": "Normal(0, 0.001)", "1|g": "HalfNormal(0.001)"}
    weighted = Model("y ~ 1 + offset(o) + (1 | g)", data, weights="w", priors=tight | {"sigma": 2})
    y = next(weighted.prior_predictive(4000, 1).draws.responses(weighted.spec))
    assert within(y[:, 3], 3.0)
    assert within((y[:, 3] - 3) ** 2, 4.0)
    assert within((y[:, 7] - 7) ** 2, 4.0 / 100)
    known = Model("y ~ 1 + (1 | g)", data, se="s", priors=tight)
    y = next(known.prior_predictive(4000, 1).draws.responses(known.spec))
    assert within(y[:, 4] ** 2, 25.0)


def test_tables_and_text(model):
    prior = model.prior_predictive(200, 1)
    parameters = prior.parameters(level=0.5)
    assert parameters.index.tolist() == [
        *("Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr[Intercept,Days]", "sigma"),
    ]
    days = prior.record.beta[0, :, 1]
    expected = [days.mean(), days.std(ddof=1), *np.quantile(days, [0.5, 0.25, 0.75])]
    assert parameters.loc["Days"].tolist() == pytest.approx(expected)
    assert prior.fixef().loc["Days", "estimate"] == pytest.approx(days.mean())
    assert prior.varcorr()["group"].tolist() == ["Subject"] * 3 + ["Residual"]
    assert prior.priors()["parameter"].tolist() == model.priors()["parameter"].tolist()
    text = str(prior)
    assert "HalfNormal(sigma=40)" in text
    assert "steepest Days within Subject" in text
    assert "200 draws, seed 1" in text


def test_simulate_gives_data_sets(model):
    prior = model.prior_predictive(100, 1)
    found = prior.simulate(3, random_seed=2)
    assert found.shape == (180, 3)
    assert found.index.equals(model.spec.index)
    assert found.equals(prior.simulate(3, random_seed=2))
    flat = Model("Reaction ~ 1", model.spec.frame, priors={"Intercept": "Normal(0, 9)", "sigma": 1e-6})
    every = flat.prior_predictive(50, 1)
    means = every.simulate(50, random_seed=2).mean().to_numpy()
    assert np.sort(means) == pytest.approx(np.sort(every.record.beta[0, :, 0]), abs=1e-5)  # each draw once
    with pytest.raises(ArgumentError, match="100 draws from the prior"):
        prior.simulate(101)
    with pytest.raises(ArgumentTypeError, match="whole number"):
        prior.simulate(2.5)  # type: ignore[arg-type]


def test_refusals(sleep, model):
    flat = Model("Reaction ~ Days + (1 | Subject)", sleep, priors={"Days": "Flat()"})
    with pytest.raises(UnsupportedError, match=r"'Days' is Flat\(\), which is improper"):
        flat.prior_predictive()
    with pytest.raises(ArgumentError, match="at least 1"):
        model.prior_predictive(0)


def test_gaussian_priors_need_no_pymc():
    code = (
        "import hiermod as hm, sys\n"
        "d = hm.load_dataset('sleepstudy')\n"
        "m = hm.Model('Reaction ~ Days + (Days | Subject)', d, priors={'Days': 'Cauchy(0, 9)'})\n"
        "m.priors(); m.prior_predictive(20, 1).against(m.reml())\n"
        "print([n for n in ('pymc', 'bambi', 'pytensor', 'arviz', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# --- summaries of data ----------------------------------------------------------------------------------------------


def brute(y: np.ndarray, sleep: pd.DataFrame) -> dict[str, float]:
    frame = sleep.assign(y=y)
    slopes = [np.polyfit(one["Days"], one["y"], 1)[0] for _, one in frame.groupby("Subject", observed=True)]
    return {
        "mean": y.mean(),
        "sd": frame["y"].std(),
        "range": y.max() - y.min(),
        "sd between Subject": frame.groupby("Subject", observed=True)["y"].mean().std(),
        "steepest Days within Subject": np.abs(slopes).max(),
    }


def test_summaries_are_those_of_pandas(sleep):
    """Independent: pandas by group, and numpy's polyfit for each subject; rows in another order give the same."""
    shuffled = sleep.sample(frac=1, random_state=1)
    design = Model("Reaction ~ Days + (Days | Subject)", shuffled).spec
    y = np.random.default_rng(2).normal(size=(3, 180)) * 50 + shuffled["Days"].to_numpy() * 7
    found = summarise(y, design, data_summaries(design))
    for i in range(3):
        assert {name: values[i] for name, values in found.items()} == pytest.approx(brute(y[i], shuffled))


def test_summaries_without_slopes_or_groups(sleep):
    assert list(data_summaries(Model("Reaction ~ Days", sleep).spec)) == ["mean", "sd", "range"]
    constant = sleep.assign(older=(sleep["Subject"].astype(int) > 340).astype(float))  # does not vary within a subject
    names = list(data_summaries(Model("Reaction ~ older + (1 | Subject) + (0 + older | Subject)", constant).spec))
    assert names == ["mean", "sd", "range", "sd between Subject"]


def test_lines(model, sleep):
    prior = model.prior_predictive(100, 1)
    lines = prior.lines(draws=10, random_seed=3)
    assert lines.attrs["x"] == "Days"
    assert lines.groupby("draw").size().tolist() == [10] * 10
    assert lines["level"].nunique() > 4  # of 18, one for each of 10 draws
    one = lines[lines["draw"] == lines["draw"].iloc[0]]
    draw, level = int(one["draw"].iloc[0]), model.spec.blocks[0].levels.index(one["level"].iloc[0])
    intercept, slope = prior.record.beta[0, draw] + prior.record.b[0][0, draw, level]
    assert one["y"].to_numpy() == pytest.approx(intercept + slope * np.arange(10))  # its own line, without noise
    with pytest.raises(UnknownNameError, match="Did you mean 'Days'"):
        prior.lines(x="days")
    batches = Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).prior_predictive(20, 1)
    across = batches.lines(draws=4)
    assert across["x"].tolist() == list("ABCDEF") * 4
    with pytest.raises(UnsupportedError, match="neither a numeric predictor nor groups"):
        Model("Yield ~ 1", hm.load_dataset("dyestuff")).prior_predictive(20, 1).lines()


def test_tables_of_priors_need_no_pymc():
    code = (
        "import hiermod as hm, pandas as pd, sys\n"
        "d = pd.DataFrame({'y': [0, 3, 1, 5, 2, 8], 'x': [1.0, 2, 3, 4, 5, 7], 'g': list('aabbcc')})\n"
        "for family in ('negativebinomial', 'poisson', 'cumulative'):\n"
        "    hm.Model('y ~ x + (x | g)', d, family=family).priors()\n"
        "print([n for n in ('pymc', 'bambi', 'pytensor', 'arviz', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
