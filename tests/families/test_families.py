"""Every family: its law in the graph, predictions and new responses against Bambi and scipy, its truth by NUTS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from family_cases import CASES, CUTS, EACH, GROUPS, INVERSE, UNIT, data, fitted, law, log_density, made_up, model, truth
from hand_made import hand_made
from scipy import stats

import hiermod as hm
from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import ArgumentError, ArgumentTypeError, DataError, FormulaError, UnknownNameError, UnsupportedError
from hiermod.families.responses import expected, response_draws
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.targets import read_request
from hiermod.formula.parts import parts_of
from hiermod.inference.scores.row_likelihood import row_log_likelihood

ORDINAL = ("cumulative", "cumulative, probit", "sratio")
OTHERS = [name for name in CASES if name not in ORDINAL]
PLAIN = [name for name in OTHERS if CASES[name].parameters is None]


def bambis(fit: BayesianFit, newdata: Any = None) -> dict[str, np.ndarray]:
    """Bambi's own parameters of each row at each draw, (draws, rows or 1, ...)."""
    copy = versions.make_idata({"posterior": versions.posterior_dataset(fit.record.idata)})
    with collected():
        fit.model.bambi.predict(copy, kind="response_params", data=newdata, inplace=True)
    found = versions.posterior_dataset(copy)
    arrays = {name: found[name].transpose("chain", "draw", ...).values for name in _parameters(fit) if name in found}
    return {name: a.reshape(14, *(a.shape[2:] or (1,))) for name, a in arrays.items()}


def _parameters(fit: BayesianFit) -> list[str]:
    return list(fit.model.bambi.family.likelihood.params)


def predictor(fit: BayesianFit, newdata: Any = None) -> Any:
    return fit._predictor(read_request(fit.design, newdata, "conditional", 0.9, "response", "raise"))


# --- the law that the graph has -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_the_graph_has_the_law_of_the_documentation(name):
    """log p(y) of every row at coefficients given by hand, all group effects 0, against scipy's law."""
    frame, case = data(name), CASES[name]
    options = {"family": case.family, "link": case.link, "parameters": case.parameters}
    made = hm.Model(case.formula, frame, noncentered=True, **options)
    graph = made.pymc
    chosen = {"Intercept": 0.3, "x": 0.2, "sigma_Intercept": 0.2, "sigma_z": 0.3, "psi_Intercept": 0.2, "psi_z": 0.3}
    own = {f"{key}_{ending}__" for key in case.further for ending in ("log", "logodds")}
    point = {
        key: np.full_like(value, chosen.get(key, 0.4 if key in own else 0.0))
        for key, value in graph.initial_point().items()
    }
    assert not own or own & set(point)
    further = {key: 1 / (1 + np.exp(-0.4)) if key == "psi" else np.exp(0.4) for key in case.further}
    x, z = frame["x"] - frame["x"].mean(), frame["z"] - frame["z"].mean()  # Bambi centres predictors
    for key in case.parameters or {}:
        further[key] = INVERSE["logit" if key == "psi" else "log"](0.2 + 0.3 * z.to_numpy())
    location = INVERSE[made.link]((0.3 + 0.2 * x).to_numpy())
    with collected():
        logs = graph.compile_logp(vars=list(graph.observed_RVs), sum=False, mode="FAST_COMPILE")(point)
    y = frame["y"].to_numpy(dtype=float)
    theirs = np.concatenate([np.ravel(part) for part in logs])
    # one formula twice in double precision; PyTensor's beta and gamma functions differ from scipy's in the last digits
    expected_logs = log_density(case.family, y, location, further, frame["n"].to_numpy())
    np.testing.assert_allclose(theirs, expected_logs, rtol=1e-7, atol=1e-9)


# --- predictions ----------------------------------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("name", CASES)
def test_predictions_are_bambis_draw_by_draw(name):
    fit = made_up(name)
    for newdata in (None, data(name).iloc[[3, 50, 200]]):
        theirs, mine = bambis(fit, newdata), predictor(fit, newdata)
        rng, every = np.random.default_rng(1), slice(None)
        if name in ORDINAL:
            np.testing.assert_allclose(mine._probabilities(every, rng), theirs["p"], rtol=1e-8, atol=1e-12)
            means = theirs["p"].mean(axis=0).ravel()
        else:
            location = theirs.pop("p" if "p" in theirs else "mu")
            further = mine.further(every, rng)
            assert set(further) == set(theirs)
            for key, values in theirs.items():
                np.testing.assert_allclose(*np.broadcast_arrays(further[key], values), rtol=1e-8)
            means = expected(CASES[name].family, location, theirs).mean(axis=0)
        np.testing.assert_allclose(fit.predict(newdata)["estimate"], means, rtol=1e-8)


@pytest.mark.stack
@pytest.mark.parametrize("name", CASES)
def test_log_likelihoods_are_the_graphs_draw_by_draw(name):
    """By the record's own density, without the model, and by Bambi and PyMC: what LOO is made of."""
    fit = made_up(name)
    copy = versions.make_idata({"posterior": versions.posterior_dataset(fit.record.idata)})
    with collected():
        fit.model.bambi.compute_log_likelihood(copy)
    theirs = next(iter(versions.group_dataset(copy, "log_likelihood").data_vars.values()))
    bare = BayesianFit(fit.design, fit.record, fit.family, fit.link, None, None)
    mine = row_log_likelihood(bare)(slice(None))
    # one formula twice; PyTensor's beta, gamma and Bessel functions differ from scipy's in the last digits
    np.testing.assert_allclose(mine, theirs.transpose("chain", "draw", ...).values, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(bare.log_likelihood(), mine)


@pytest.mark.parametrize("name", PLAIN)
def test_expected_responses_are_the_means_of_the_law(name):
    """Sums and integrals over scipy's law; zero-inflated and hurdle means have psi in them."""
    family, p = CASES[name].family, {key: np.array([value]) for key, value in CASES[name].further.items()}
    unit = family in UNIT
    for mu in (0.03, 0.4) if unit else (0.03, 0.4, 6.0):
        base = law(family, np.array([mu]), p)
        if family == "vonmises":  # scipy's mean is not the direction
            base = stats.norm(mu)
        mean = base.mean()
        if family.startswith("hurdle_") and family != "hurdle_gamma":
            mean = mean / (1 - base.pmf(0))
        mean = mean * p.get("psi", 1.0)
        np.testing.assert_allclose(expected(family, np.array([mu]), p), mean, rtol=1e-10)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("low", [False, True])
def test_new_responses_follow_the_law(name, low):
    """Counts by chi-square over their values, continuous responses by their uniform transform (Kolmogorov, Smirnov)."""
    family, p = CASES[name].family, dict(CASES[name].further)
    mu = (0.05 if low else 0.6) if family in UNIT else (0.2 if low else 4.0)
    trials = np.array([7]) if family in ("binomial", "beta_binomial") else None
    noise = np.array([[p.pop("sigma")]]) if "sigma" in p else None
    y = response_draws(
        family,
        np.full((40_000, 1), mu),
        noise,
        trials,
        np.random.default_rng(8),
        counts=True,
        auxiliary={key: np.array([[value]]) for key, value in p.items()},
    ).ravel()
    base = law(family, mu, dict(CASES[name].further), 7)
    if hasattr(base.dist, "pmf"):
        values = np.arange(int(y.max()) + 1)
        chances = np.exp(log_density(family, values, mu, dict(CASES[name].further), 7))
        often = chances * len(y) > 5
        seen = np.array([(y == value).sum() for value in values[often]])
        seen, chances = np.append(seen, len(y) - seen.sum()), np.append(chances[often], 1 - chances[often].sum())
        kept = chances > 1e-12
        assert stats.chisquare(seen[kept], chances[kept] * len(y)).pvalue > 1e-4  # 1 false alarm in 10,000
        return
    if family == "hurdle_gamma":
        assert abs((y > 0).mean() - p["psi"]) < 4.5 * np.sqrt(p["psi"] * (1 - p["psi"]) / len(y))
        y = y[y > 0]
    if family == "vonmises":  # scipy's distribution function is of the turn around the direction
        y = y - 2 * np.pi * np.round((y - mu) / (2 * np.pi))
    assert stats.kstest(y, base.cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", ORDINAL)
def test_category_probabilities_by_hand(name):
    fit = made_up(name)
    p = predictor(fit)._probabilities(slice(0, 2), np.random.default_rng(1))
    eta = predictor(fit).linear(slice(0, 2), np.random.default_rng(1))
    F = INVERSE["probit" if "probit" in name else "logit"]
    cuts = fit.record.auxiliary["threshold"].reshape(14, 3)
    for s, i in ((0, 0), (5, 1)):
        below = [F(cut - eta[s, i]) for cut in cuts[s]]
        if name == "sratio":
            hand = [below[0], (1 - below[0]) * below[1], (1 - below[0]) * (1 - below[1]) * below[2]]
        else:
            hand = [below[0], below[1] - below[0], below[2] - below[1]]
        np.testing.assert_allclose(p[s, i], [*hand, 1 - sum(hand)], rtol=1e-10)


def test_ordinal_predictions_are_tidy():
    fit, frame = made_up("cumulative"), data("cumulative").iloc[[5, 7]]
    table = fit.predict(frame, interval=0.8)
    assert list(table.columns) == ["category", "estimate", "lower", "upper"]
    assert list(table.index) == [5] * 4 + [7] * 4
    assert list(table["category"].cat.categories) == ["none", "some", "much", "all"]
    np.testing.assert_allclose(table.groupby(level=0)["estimate"].sum(), 1, rtol=1e-12)
    assert (table["lower"] <= table["estimate"]).all()
    drawn = fit.predict(frame, kind="response", interval=0.8, random_seed=1)
    assert list(drawn.columns) == ["estimate", "lower", "upper"]
    assert (drawn["lower"] <= drawn["estimate"]).all()
    assert (drawn["estimate"] <= drawn["upper"]).all()
    assert list(fit.simulate(3, random_seed=1)["sim_2"].cat.categories) == ["none", "some", "much", "all"]
    for target in ("population", "new_group"):
        assert len(fit.predict(frame.drop(columns="g"), target=target, interval=0.5, random_seed=1)) == 8
    with pytest.raises(UnsupportedError, match="no mean"):
        fit.residuals()


@pytest.mark.parametrize("name", ["sigma", "psi", "t", "hurdle_negativebinomial", "beta"])
def test_one_call_gives_the_columns_of_reml_for_every_target(name):
    fit, frame = made_up(name, draws=200), data(name).iloc[:5]
    unseen = frame.assign(g="new")
    for kind in ("mean", "response"):
        for target in ("conditional", "population", "new_group"):
            table = fit.predict(frame, target=target, interval=0.9, kind=kind, random_seed=2)
            assert list(table.columns) == ["estimate", "lower", "upper"]
            assert table.index.equals(frame.index)
            assert np.isfinite(table.to_numpy()).all()
        with pytest.raises(UnknownNameError, match=r"not seen.*new_levels"):
            fit.predict(unseen, interval=0.9, kind=kind)
        wide = fit.predict(unseen, interval=0.9, kind=kind, new_levels="sample", random_seed=2)
        zero = fit.predict(unseen, interval=0.9, kind=kind, new_levels="zero", random_seed=2)
        # the spread between groups is there for every row, on 400 draws
        assert (wide["upper"] - wide["lower"]).sum() > (zero["upper"] - zero["lower"]).sum()


def test_new_responses_of_a_population_have_the_closed_form_moments():
    """y ~ N(mu, exp(eta)^2) with eta of its own: the variance over draws and noise, against the draws' moments."""
    fit, frame = made_up("sigma", draws=400), data("sigma").iloc[[0, 9]]
    request = read_request(fit.design, frame, "population", 0.9, "response", "raise")
    made = fit._predictor(request)
    rng = np.random.default_rng(4)
    y = np.concatenate([made.responses_at(slice(None), rng) for _ in range(60)])
    mu = made.linear(slice(None), rng)
    sigma = made.further(slice(None), rng)["sigma"]
    assert sigma.shape == mu.shape
    variance = mu.var(axis=0) + (sigma**2).mean(axis=0)
    np.testing.assert_allclose(y.mean(axis=0), mu.mean(axis=0), atol=4.5 * np.sqrt(variance.max() / len(y)))
    np.testing.assert_allclose(y.var(axis=0), variance, rtol=0.06)  # 48,000 draws of a tail heavier than normal


@pytest.mark.stack
@pytest.mark.parametrize("name", ["hurdle_poisson", "cumulative", "sigma", "binomial"])
def test_posterior_predictive_needs_no_graph(name):
    fit = made_up(name)
    bare = BayesianFit(fit.design, fit.record, fit.family, fit.link)  # as a fit that was loaded
    new = bare.posterior_predictive(random_seed=1)
    assert new.shape == (2, 7, 360)
    assert list(new["__obs__"].values) == list(fit.design.index)
    np.testing.assert_array_equal(new, bare.posterior_predictive(random_seed=1))
    if name == "binomial":
        assert (new.values <= data(name)["n"].to_numpy()).all()
        assert new.values.max() > 1  # successes


# --- truth recovered by NUTS ----------------------------------------------------------------------------------------

QUICK = ("zero_inflated_poisson", "cumulative", "sigma")
SLOW = [name for name in CASES if name not in QUICK]


@pytest.mark.stack
@pytest.mark.parametrize("name", QUICK)
def test_truth_is_recovered(name):
    check_recovery(name)


@pytest.mark.stack
def test_a_sampled_ordinal_model_has_one_scale_in_its_idata():
    """What ArviZ sets beside each other, under one name: bars of whole numbers."""
    fit = fitted("cumulative")
    fit.posterior_predictive(100, random_seed=1)
    found = {
        group: versions.group_dataset(fit.idata, group)["y"] for group in ("observed_data", "posterior_predictive")
    }
    np.testing.assert_array_equal(found["observed_data"].values, data("cumulative")["y"].cat.codes + 1)
    for one in found.values():
        assert set(np.unique(one)) == {1, 2, 3, 4}
        assert one.dtype.kind == "i"


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_truth_is_recovered_by_every_family(name):
    check_recovery(name)


def check_recovery(name: str) -> None:
    fit = fitted(name)
    table = fit.parameters()
    known = pd.Series(truth(name))
    if "threshold[0]" not in known:
        assert set(known.index) == set(table.index)
    else:
        assert "Intercept" not in table.index
    z = (table["estimate"] - known).loc[known.index] / table["std_error"]
    assert np.abs(z).max() < 4
    # squares of standard normals, nearly independent: 1 false alarm in 10,000
    assert (z**2).sum() < stats.chi2.ppf(1 - 1e-4, len(z))
    assert fit.inference.divergences <= 5
    assert np.isfinite(fit.ranef()["estimate"]).all()


def test_reading_a_fit_with_a_formula_for_sigma():
    fit = fitted("sigma")
    assert list(fit.fixef().index) == ["Intercept", "x", "sigma_Intercept", "sigma_z"]
    assert fit.vcov().shape == (4, 4)
    terms = fit.varcorr()["term1"].tolist()
    assert terms == ["Intercept", "x", "Intercept", "sigma_Intercept"]  # no Residual row
    assert set(fit.ranef()["term"]) == {"Intercept", "x", "sigma_Intercept"}
    assert {"sigma_Intercept", "sigma_z"} <= set(fit.coef()["term"])
    assert np.isnan(fit.sigma)
    assert {"sigma_Intercept", "sigma_1|g_sigma"} <= set(map(str, versions.posterior_dataset(fit.idata).data_vars))
    text = str(fit.summary())
    assert "sigma_Intercept" in text
    assert "Formula for sigma: z + (1 | g)" in text
    scaled = fit.residuals("scaled")
    assert abs(scaled.std() - 1) < 0.15  # 360 rows, 50 effects taken away
    # noisier rows have wider intervals: the closed form sigma(z) at population level
    ends = fit.predict(
        pd.DataFrame({"x": [0.0, 0.0], "z": [-1.0, 1.0]}), target="population", kind="response", interval=0.9,
        random_seed=1,
    )  # fmt: skip
    width = (ends["upper"] - ends["lower"]).to_numpy()
    slope = fit.fixef().loc["sigma_z", "estimate"]
    assert width[1] / width[0] == pytest.approx(np.exp(2 * slope), rel=0.2)  # 800 draws at the 5 % tails


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "y", "words"),
    [
        ("poisson", [-1, 2, 3, 0], r"whole numbers from 0 up.*1 of 4 rows.*-1"),
        ("negativebinomial", [0.5, 2, 3, 0], r"whole numbers.*0\.5.*gamma"),
        ("zero_inflated_poisson", [1.5, 2, 3, 0], "whole numbers"),
        ("hurdle_negativebinomial", [-2, 2, 3, 0], "whole numbers"),
        ("bernoulli", [0, 1, 2, 1], r"0 and 1.*binomial"),
        ("beta", [0.2, 0.5, 1.0, 0.3], r"strictly between 0 and 1.*1 of 4 rows"),
        ("beta", [20, 50, 10, 30], r"between 0 and 1.*percentages"),
        ("gamma", [1.2, 0.0, 3, 2], r"positive.*hurdle_gamma"),
        ("wald", [1.2, -1, 3, 2], "positive"),
        ("exponential", [1.2, -1, 3, 2], "positive"),
        ("weibull", [1.2, -1, 3, 2], "positive"),
        ("hurdle_gamma", [1.2, -1, 3, 0], "from 0 up"),
        ("cumulative", [1.2, 1.7, 3, 2], r"ordered categories.*Categorical"),
        ("cumulative", ["low", "high", "mid", "low"], r"no order of yours.*ordered=True"),
        ("poisson", ["low", "high", "mid", "low"], "not numeric"),
        ("gamma", pd.Categorical(["a", "b", "a", "b"], ordered=True), "not numeric"),
    ],
)
def test_a_response_that_the_family_cannot_have_is_refused_at_once(family, y, words):
    frame = pd.DataFrame({"y": y, "x": [1.0, 2, 3, 4]})
    with pytest.raises(DataError, match=words):
        hm.Model("y ~ x", frame, family=family)


def test_unordered_categories_and_a_missing_intercept_are_refused():
    frame = pd.DataFrame({"y": pd.Categorical(["low", "high", "mid", "low"]), "x": [1.0, 2, 3, 4]})
    with pytest.raises(DataError, match="no order of yours"):
        hm.Model("y ~ x", frame, family="cumulative")
    ordered = frame.assign(y=pd.Categorical(frame["y"], ["low", "mid", "high"], ordered=True))
    with pytest.raises(FormulaError, match="thresholds"):
        hm.Model("y ~ 0 + x", ordered, family="cumulative")


def test_ratings_are_ordered_categories():
    frame = data("cumulative").assign(y=lambda d: d["y"].cat.codes + 1)
    made = hm.Model("y ~ x + (1 | g)", frame, family="cumulative")
    assert made.spec.categories == ("1", "2", "3", "4")
    assert "Intercept" not in made.spec.common
    assert len(made.pymc.coords["threshold_dim"]) == len(CUTS)
    np.testing.assert_array_equal(made.spec.y, frame["y"])


def rated(labels, text: bool = False) -> BayesianFit:
    """The made-up fit of four categories, which are called otherwise: numbers in a column, or text in order."""
    fit, codes = made_up("cumulative", draws=60), data("cumulative")["y"].cat.codes.to_numpy()
    y = pd.Categorical.from_codes(codes, list(labels), ordered=True) if text else np.asarray(labels)[codes]
    model = hm.Model(CASES["cumulative"].formula, data("cumulative").assign(y=y), family="cumulative")
    return BayesianFit(model.spec, fit.record, fit.family, fit.link, None, model)


SCALES = {  # the categories -> the numbers that stand for them, and whether they are text
    "1 to 4": ([1, 2, 3, 4], [1, 2, 3, 4], False),
    "other ratings": ([-2, 0, 3, 7], [-2, 0, 3, 7], False),
    "numbers as text": (["1", "2", "3", "10"], [1, 2, 3, 10], True),
    "words": (["none", "some", "much", "all"], [1, 2, 3, 4], True),
    "falling": (["4", "3", "2", "1"], [1, 2, 3, 4], True),
}


@pytest.mark.parametrize("name", list(SCALES))
def test_ordinal_responses_have_one_scale_everywhere(name):
    labels, values, text = SCALES[name]
    fit = rated(labels, text)
    np.testing.assert_array_equal(np.unique(fit.design.y), sorted(values))
    codes = data("cumulative")["y"].cat.codes.to_numpy()
    np.testing.assert_array_equal(fit.design.y, np.asarray(values)[codes])
    simulated = fit.simulate(40, random_seed=1)
    told = fit.predict(kind="response", interval=0.9, random_seed=1)
    assert list(told["estimate"].cat.categories) == [str(label) for label in labels]
    for column in (simulated["sim_1"], simulated["sim_40"]):
        if text:
            assert list(column.cat.categories) == labels
            assert column.cat.ordered
        else:
            assert set(column) <= set(labels)
            assert column.dtype.kind == "i"
    again = hm.Model("y ~ x + (x | g)", data("cumulative").assign(y=simulated["sim_1"]), family="cumulative")
    assert set(again.spec.categories) <= set(fit.design.categories)  # a simulated response is a response
    drawn = fit.posterior_predictive(20, random_seed=1)
    assert set(np.unique(drawn)) == set(values)
    assert drawn.attrs["categories"].startswith(f"{values[0]:g} = {labels[0]}, ")
    assert np.abs(drawn.mean(("chain", "draw")).mean() - fit.design.y.mean()) < np.ptp(values) / 3
    for target in ("conditional", "new_group"):
        check = fit.predictive_check(["min", "max", "mean"], draws=50, target=target, random_seed=1)
        assert check["observed"].tolist() == [min(values), max(values), fit.design.y.mean()]
        assert check["predicted"].between(min(values), max(values)).all()
    assert fit.predictive_intervals(draws=50, random_seed=1)["lower"].min() >= min(values)
    found = fit.simulated_residuals(draws=40, random_seed=1)
    np.testing.assert_array_equal(found.observed, fit.design.y)
    assert found.expected.min() >= min(values)
    assert found.expected.max() <= max(values)
    codes_again = rated(["none", "some", "much", "all"], True).simulated_residuals(draws=40, random_seed=1)
    np.testing.assert_array_equal(found.residuals, codes_again.residuals)  # ranks do not depend on the names


@pytest.mark.parametrize("name", ["1 to 4", "other ratings", "words"])
def test_ordinal_responses_are_drawn_on_their_own_scale(name):
    import matplotlib.pyplot as plt

    labels, values, text = SCALES[name]
    fit = rated(labels, text)
    for ax in (hm.plots.predictive_density(fit), hm.plots.predictive_groups(fit, "g").axes[-1]):
        heights = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in ax.patches}
        ticks = dict(zip(ax.get_xticks(), [tick.get_text() for tick in ax.get_xticklabels()], strict=True))
        for value, label in zip(values, labels, strict=True):
            assert ticks[value] == str(label)
            assert value in {round(at, 9) for at in heights}
    plt.close("all")


def test_the_prior_of_an_ordinal_model_speaks_of_its_own_categories():
    prior = rated([1, 2, 3, 4]).model.prior_predictive(draws=30, random_seed=1)
    assert set(np.unique(prior.simulate(5, random_seed=1))) <= {1, 2, 3, 4}
    for group, name in (("prior_predictive", "y"), ("observed_data", "y")):
        assert set(np.unique(versions.group_dataset(prior.idata, group)[name])) <= {1, 2, 3, 4}
    assert prior.data_summaries()["mean"].between(1, 4).all()


def test_means_of_an_ordinal_model_are_refused_and_contrasts_are_not():
    frame = data("cumulative").assign(f=np.resize(["a", "b", "c"], GROUPS * EACH))
    model = hm.Model("y ~ f + x + (1 | g)", frame, family="cumulative")
    fit = hand_made(model, [0.5, 1.5, 0.3])
    with pytest.raises(UnsupportedError, match="thresholds in the place of an intercept"):
        fit.means("f")
    with pytest.raises(UnsupportedError, match="thresholds"):
        fit.contrasts("f", {"a alone": [1, 0, 0]})
    pairs = fit.contrasts("f")
    np.testing.assert_allclose(pairs["estimate"], [-0.5, -1.5, -1.0], atol=0.05)  # sd 0.1 over 1,000 draws
    assert fit.slopes("x")["estimate"].to_numpy() == pytest.approx(0.3, abs=0.05)


def test_files_of_earlier_versions_get_the_scale_of_their_categories(tmp_path):
    """Until the scale was the person's, y held codes from 0."""
    import dataclasses

    for labels, text in (([1, 2, 3, 4], False), ([0, 2, 4, 6], False), (["none", "some", "much", "all"], True)):
        fit = rated(labels, text)
        codes = data("cumulative")["y"].cat.codes.to_numpy(dtype=float)
        old = BayesianFit(dataclasses.replace(fit.design, y=codes), fit.record, fit.family, fit.link, None, None)
        back = hm.load(old.save(tmp_path / "old.nc"))
        np.testing.assert_array_equal(back.design.y, fit.design.y)
        same = hm.load(fit.save(tmp_path / "new.nc"))
        np.testing.assert_array_equal(same.design.y, fit.design.y)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"parameters": {"sigma": "q"}}, UnknownNameError, "'q'"),
        ({"parameters": {"sigm": "x"}}, UnknownNameError, r"no parameter 'sigm'.*sigma"),
        ({"parameters": "sigma ~ x"}, ArgumentTypeError, "dict of formulas"),
        ({"parameters": {"sigma": 3}}, ArgumentTypeError, "string"),
        ({"parameters": {"sigma": "nu ~ x"}}, FormulaError, "left of '~'"),
        ({"parameters": {"alpha": "x"}, "family": "poisson"}, UnknownNameError, "It has none"),
        ({"parameters": {"sigma": "x"}, "priors": {"sigma": "HalfNormal(1)"}}, UnknownNameError, "sigma_Intercept"),
        ({"parameters": {"sigma": "x"}, "weights": "w"}, UnsupportedError, "formula for sigma"),
    ],
)
def test_formulas_of_parameters_that_are_refused(options, error, words):
    frame = data("psi").assign(w=1.5)
    with pytest.raises(error, match=words):
        hm.Model("y ~ x + (x | g)", frame, **options).bambi  # noqa: B018


def test_maximum_likelihood_says_what_it_cannot_do():
    made = model("sigma")
    for fit in (made.reml, made.ml):
        with pytest.raises(UnsupportedError, match=r"no formulas for other parameters \(sigma\)"):
            fit()
    with pytest.raises(UnsupportedError):
        made.fit(inference_method="marginal")


def test_priors_of_a_parameters_formula():
    priors = {"sigma_z": "Normal(0, 0.1)", "sigma_1|g": "HalfNormal(0.2)", "sigma_Intercept": "Normal(1, 2)"}
    made = hm.Model("y ~ x + (x | g)", data("sigma"), parameters={"sigma": "sigma ~ z + (1 | g)"}, priors=priors)
    component = versions.bambi_parameters(made.bambi)["sigma"]
    assert component.common_terms["z"].prior.args["sigma"] == pytest.approx(0.1)
    assert component.group_specific_terms["1|g"].prior.args["sigma"].args["sigma"] == pytest.approx(0.2)
    assert component.intercept_term.prior.args["mu"] == pytest.approx(1)


def test_correlated_effects_in_a_parameters_formula():
    made = hm.Model(
        "y ~ x + (1 | g)", data("sigma"), parameters={"sigma": "z + (z | g)"}, priors={"sigma_g_corr": "LKJ(4)"}
    )
    assert "sigma_g_corr" in made.pymc.named_vars
    assert tuple(made.pymc.named_vars_to_dims["sigma_g_corr"]) == ("sigma_g_corr_dim_0", "sigma_g_corr_dim_1")


def test_missing_values_in_a_parameters_formula_leave_out_rows_of_both():
    frame = data("sigma").copy()
    frame.loc[4, "z"] = np.nan
    with pytest.raises(DataError, match="z"):
        hm.Model("y ~ x", frame, parameters={"sigma": "z"})
    made = hm.Model("y ~ x", frame, parameters={"sigma": "z"}, dropna=True)
    assert made.spec.nobs == parts_of(made.spec)["sigma"].nobs == len(frame) - 1


def test_proportions_of_new_trials():
    """Binomial predictions for new rows are proportions; the trials come from newdata's column."""
    frame = load_dataset("cbpp")
    fit = made_up("binomial")
    new = data("binomial").iloc[:2].assign(n=[2, 10_000])
    table = fit.predict(new, interval=0.9, kind="response", random_seed=1)
    assert table["upper"].between(0, 1).all()
    assert table.loc[0, "upper"] - table.loc[0, "lower"] > 0.5  # of two trials
    ends = fit.predict(new, interval=0.9)  # with 10,000 trials nothing is left but the draws' own spread
    np.testing.assert_allclose(table.loc[1, ["lower", "upper"]], ends.loc[1, ["lower", "upper"]], atol=0.02)
    ml = hm.Model("cbind(incidence, size - incidence) ~ period + (1 | herd)", frame, family="binomial").ml()
    bounds = ml.predict(frame.head(3), interval=0.9, kind="response")
    pd.testing.assert_frame_equal(bounds, ml.predict(interval=0.9, kind="response").head(3))
    with pytest.raises(ArgumentError, match="newdata does not give"):
        ml.predict(frame[["period", "herd"]].head(3), interval=0.9, kind="response")
    with pytest.raises(DataError, match="whole numbers of at least 1"):
        fit.predict(new.assign(n=0), interval=0.9, kind="response")


# --- beside the tables: what other parts of hiermod say of these fits -------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("name", ["sigma", "cumulative"])
def test_saved_and_loaded_with_formulas_and_categories(name, tmp_path):
    fit = made_up(name)
    fit.save(tmp_path / "fit.nc")
    loaded = hm.load(tmp_path / "fit.nc")
    assert loaded.design.formulas == fit.design.formulas
    assert loaded.design.categories == fit.design.categories
    new = data(name).head(4)
    options = {"interval": 0.9, "random_seed": 1}
    for kind in ("mean", "response"):
        pd.testing.assert_frame_equal(loaded.predict(new, kind=kind, **options), fit.predict(new, kind=kind, **options))
    pd.testing.assert_frame_equal(loaded.parameters(), fit.parameters())


def test_another_formula_for_sigma_is_another_fit():
    from hiermod.output.storage.fingerprint import design_fingerprint

    prints = {
        design_fingerprint(hm.Model("y ~ x", data("sigma"), parameters=parameters).spec)
        for parameters in (None, {"sigma": "x"}, {"sigma": "z"}, {"sigma": "x + (1 | g)"})
    }
    assert len(prints) == 4


def test_no_share_of_the_variance_where_it_differs_by_row():
    with pytest.raises(UnsupportedError, match="sigma has a formula"):
        made_up("sigma").icc()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("sigma", ["εij ~ Normal(0, σij²)", "log(σij) = δσ0 + δσ1 z_ij + sσ0j", "sσ0j ~ Normal(0, τσ0²)"]),
        ("psi", ["y_ij ~ ZeroInflatedPoisson(μij, ψij)", "logit(ψij) = δψ0 + δψ1 z_ij"]),
        ("cumulative", ["logit(P(y_ij ≤ k)) = θk - (β0j + β1j x_ij)", "β0j = u0j", "β1j = γ10 + u1j"]),
    ],
)
def test_equations(name, lines):
    equation = model(name).equation()
    shown = str(equation)
    for line in lines:
        assert f"  {line}\n" in shown + "\n"
    names = set(made_up(name).parameters().index) | {"threshold"}
    assert set(equation.symbols["parameter"]) <= names  # every symbol is a parameter of the fit
    if name != "cumulative":
        assert set(equation.symbols["parameter"]) == names - {"threshold"}
