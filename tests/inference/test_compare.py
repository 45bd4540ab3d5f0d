"""hm.compare: order, signs, weights and words; against R's loo, against ArviZ, by hand; what it refuses."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made
from scipy.special import softmax
from scipy.stats import norm

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, HiermodWarning
from hiermod.inference.comparison.weights import bootstrapped, model_weights, stacking
from hiermod.inference.scores.comparable import paired_units
from hiermod.inference.scores.pointwise import conditional_loo, waic
from hiermod.inference.scores.record import Score, fingerprint, standard_error

DATA = hm.load_dataset("sleepstudy")

# Log likelihoods with heavy inverse tails, made without random numbers, and what R's loo 2.5.1 (R 4.2) says of them:
#   x <- 0.03 + qnorm((1:900 - 0.5) / 900)   # no ties and 3 sqrt(900) whole: R rounds the tail up, ArviZ down
#   A <- sapply(c(0.2, 0.4, 0.5, 0.65, 0.8), function(c) -1 - c - 0.5 * c * x^2)
#   B <- sapply(c(0.3, 0.3, 0.6, 0.5, 0.1), function(c) -1.4 - 0.3 * c - 0.5 * c * x^2)
#   waic(A)$estimates; loo(A, r_eff = rep(1, 5))$estimates, ...; loo_compare(list(a = loo(A), b = loo(B)))
X = 0.03 + norm.ppf((np.arange(1, 901) - 0.5) / 900)
A = np.stack([-1 - c - 0.5 * c * X**2 for c in (0.2, 0.4, 0.5, 0.65, 0.8)], axis=-1)
B = np.stack([-1.4 - 0.3 * c - 0.5 * c * X**2 for c in (0.3, 0.3, 0.6, 0.5, 0.1)], axis=-1)
R_LOO = {
    "a": {
        "waic": (-9.301917211769, 0.943068986946, 0.744870059511),
        "loo": (-9.420877366552, 1.003839463579, 0.863830214293),
        "elpd_i": (-1.31132089273, -1.65176577909, -1.83691323085, -2.13964082860, -2.48123663528),
        "k": (0.233629900286, 0.383694961928, 0.458433161308, 0.570224163284, 0.681679863649),
    },
    "b": {
        "waic": (-8.682169268217, 0.446517662807, 0.393980857923),
        "loo": (-8.718894703751, 0.466283146785, 0.430706293456),
        "elpd_i": (-1.66719283053, -1.66719283053, -2.01494383281, -1.88691323085, -1.48265197903),
        "k": (0.308767280268, 0.308767280268, 0.533000013240, 0.458433161308, 0.158261959332),
    },
}
# elpd of 8 units by 3 models, and R's stacking_weights(X, optim_method = "BFGS", optim_control = list(reltol = 1e-14)),
# pseudobma_weights(X, BB = FALSE), and set.seed(1); pseudobma_weights(X, BB = TRUE, BB_n = 200000)
ELPD = np.column_stack(
    [
        [-1.2, -0.7, -2.1, -1.5, -0.9, -3.0, -1.1, -0.4],
        [-1.0, -1.1, -1.4, -1.9, -0.8, -2.2, -1.6, -0.9],
        [-1.3, -0.6, -2.4, -1.2, -1.4, -3.3, -0.8, -0.7],
    ]
)
R_WEIGHTS = {
    "stacking": (0.519833120657, 0.480166879237, 1.06e-10),
    "pseudo-bma": (0.408275088667, 0.408275088667, 0.183449822666),
    "pseudo-bma+": (0.359101331245, 0.422514539572, 0.218384129184),
}


def score(elpd: Any, k: Any = 0.1, **changes: Any) -> Score:
    elpd = np.asarray(elpd, dtype=float)
    n = len(elpd)
    values: dict[str, Any] = {
        "criterion": "loo", "unit": "row", "labels": tuple(range(n)), "elpd": float(elpd.sum()),
        "se": standard_error(elpd), "p": 3.0, "elpd_i": elpd, "pareto_k": np.broadcast_to(k, n).astype(float),
        "mcse_i": np.zeros(n), "estimator": "conditional", "reason": "made by hand", "own_proposals": (), "nobs": n,
        "data": "d", "p_i": np.full(n, 0.1), "response": "y",
    }  # fmt: skip
    return Score(**(values | changes))


@pytest.fixture(scope="module")
def fits() -> dict[str, Any]:
    """Of one data set, by the marginal engine; "student" without integration, its draws made by hand around REML."""
    formulas = {"slopes": "Reaction ~ Days + (Days | Subject)", "intercepts": "Reaction ~ Days + (1 | Subject)"}
    found: dict[str, Any] = {n: hm.Model(f, DATA).fit(draws=500, random_seed=1) for n, f in formulas.items()}
    model = hm.Model("Reaction ~ Days + (1 | Subject)", DATA, priors={"Days": "StudentT(nu=3, mu=0, sigma=10)"})
    return found | {"student": hand_made(model, sds=30.0, beta=[250.0, 10.0])}


# --- numbers -------------------------------------------------------------------------------------------------------
@pytest.mark.stack
@pytest.mark.parametrize("name", ["a", "b"])
def test_loo_and_waic_are_those_of_r(name):
    logs = {"a": A, "b": B}[name][None]
    expected = R_LOO[name]
    found, information = conditional_loo(logs), waic(logs)
    np.testing.assert_allclose(found.elpd, expected["elpd_i"], atol=1e-9)  # printed to 12 digits
    np.testing.assert_allclose(found.k, expected["k"], atol=1e-9)
    for one, key in ((found, "loo"), (information, "waic")):
        totals = (one.elpd.sum(), standard_error(one.elpd), one.p.sum())
        np.testing.assert_allclose(totals, expected[key], atol=1e-9)


def test_the_difference_and_its_error_are_those_of_r():
    """loo_compare: elpd_diff of a -0.701982662801, se_diff 1.183778034442."""
    scores = {name: score(conditional_loo(logs[None]).elpd) for name, logs in (("a", A), ("b", B))}
    table = hm.compare(scores)
    assert list(table.index) == ["b", "a"]
    assert table.loc["b", ["elpd_diff", "dse"]].tolist() == [0.0, 0.0]
    assert table.loc["a", "elpd_diff"] == pytest.approx(-0.701982662801, abs=1e-9)
    assert table.loc["a", "dse"] == pytest.approx(1.183778034442, abs=1e-9)


@pytest.mark.parametrize(("method", "expected"), R_WEIGHTS.items())
def test_weights_are_those_of_r(method, expected):
    # R's optimiser stops at 1e-8; pseudo-BMA+ is a mean of 10,000 (R: 200,000) replicates of sd below 0.4
    tolerance = {"stacking": 1e-7, "pseudo-bma": 1e-11, "pseudo-bma+": 4.5 * 0.4 / 100}[method]
    found = model_weights(ELPD, method, seed=1)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)


def test_stacking_is_the_best_mixture():
    """Kuhn and Tucker: the mean of density over mixture is 1 where a weight is positive and at most 1 elsewhere."""
    elpd = np.random.default_rng(1).normal(-2, 1, (300, 5))
    elpd[:, 3] = elpd[:, 2] - 0.5  # dominated: no weight
    w = stacking(elpd)
    density = np.exp(elpd)
    ratio = (density / (density @ w)[:, None]).mean(axis=0)
    np.testing.assert_allclose(ratio[w > 0], 1.0, atol=1e-6)
    assert w[3] == 0.0
    assert ratio[3] < 1


def test_pseudo_bma_with_hardly_any_uncertainty_is_pseudo_bma():
    """All units alike: reweighting them changes nothing."""
    elpd = np.tile([-1.0, -1.02, -1.05], (40, 1))
    np.testing.assert_allclose(bootstrapped(elpd, 1), softmax(elpd.sum(axis=0)), atol=1e-12)
    assert np.array_equal(bootstrapped(ELPD, 3), bootstrapped(ELPD, 3))
    assert not np.array_equal(bootstrapped(ELPD, 3), bootstrapped(ELPD, 4))


def arviz_table() -> Any:
    """ArviZ's own comparison of the log likelihoods A and B, with 4 chains of 225."""
    import arviz as az
    import xarray as xr

    from hiermod.core import versions

    def idata(logs: np.ndarray) -> Any:
        data = xr.Dataset({"y": (("chain", "draw", "unit"), logs.reshape(4, 225, 5))})
        posterior = xr.Dataset({"mu": (("chain", "draw"), X.reshape(4, 225))})
        return versions.make_idata({"posterior": posterior, "log_likelihood": data})

    scores = {name: az.loo(idata(logs), pointwise=True, reff=1.0) for name, logs in (("a", A), ("b", B))}
    whole = {"round_to": "none"} if "round_to" in inspect.signature(az.compare).parameters else {}
    return az.compare(scores, method="pseudo-BMA", **whole)


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore")
def test_arviz_agrees_up_to_its_sign():
    """ArviZ 0.x: elpd_diff positive, elpd_loo; 1.x: negative, elpd.  Ours is the same on both."""
    theirs = arviz_table()
    scores = {name: score(conditional_loo(logs[None]).elpd) for name, logs in (("a", A), ("b", B))}
    ours = hm.compare(scores, weights="pseudo-bma")
    name = "elpd" if "elpd" in theirs else "elpd_loo"
    for model in ("a", "b"):
        assert float(theirs.loc[model, name]) == pytest.approx(ours.loc[model, "elpd"], abs=1e-9)
        assert abs(float(theirs.loc[model, "elpd_diff"])) == pytest.approx(-ours.loc[model, "elpd_diff"], abs=1e-9)
        # ArviZ divides the variance by n where R's loo, and we, divide by n - 1
        assert float(theirs.loc[model, "dse"]) == pytest.approx(ours.loc[model, "dse"] * np.sqrt(4 / 5), abs=1e-9)
        assert float(theirs.loc[model, "weight"]) == pytest.approx(ours.loc[model, "weight"], abs=1e-9)


# --- the table of fits ---------------------------------------------------------------------------------------------
@pytest.mark.stack
def test_fits_are_ranked(fits):
    two = {name: fits[name] for name in ("intercepts", "slopes")}
    table = hm.compare(two)
    assert list(table.index) == ["slopes", "intercepts"]
    assert table.index.name == "model"
    a, b = fits["slopes"].loo(), fits["intercepts"].loo()
    row = table.loc["intercepts"]
    assert row["elpd"] == b.elpd
    assert row["elpd_diff"] == pytest.approx(b.elpd - a.elpd, rel=1e-12)
    assert row["elpd_diff"] < 0
    assert row["dse"] == pytest.approx(np.sqrt(180) * np.std(b.elpd_i - a.elpd_i, ddof=1), rel=1e-12)
    assert (row["se"], row["p"], row["estimator"], row["worst_k"]) == (b.se, b.p, "integrated", b.worst_k)
    assert row["note"] == "difference within 2 dse"
    assert table["weight"].sum() == pytest.approx(1.0)
    assert table.attrs["criterion"] == "loo"
    again = hm.compare({"slopes": a, "intercepts": b})  # scores made before give the same
    pd.testing.assert_frame_equal(again, table)
    assert hm.compare(two, weights=None)["weight"].isna().all()


def test_groups_and_folds_through_compare(fits):
    two = {name: fits[name] for name in ("intercepts", "slopes")}
    table = hm.compare(two, "logo", group="Subject")
    assert (table.attrs["criterion"], table.attrs["unit"], table.attrs["n_units"]) == ("logo", "Subject", 18)
    assert table.loc["slopes", "elpd"] == fits["slopes"].logo("Subject").elpd
    assert any("18 units" in note for note in table.attrs["notes"])
    folds = hm.compare(two, "kfold", k=3, group="Subject", random_seed=4)
    assert list(folds["estimator"]) == ["refits", "refits"]
    assert folds.loc["slopes", "elpd"] == fits["slopes"].kfold(3, group="Subject", random_seed=4).elpd


def test_words_about_small_differences():
    rng = np.random.default_rng(2)
    base = rng.normal(-2, 1, 120)
    table = hm.compare({"best": score(base), "near": score(base - 0.01), "far": score(base - 0.5)})
    assert table["note"].tolist() == ["", "difference below 4: small", ""]
    assert table.attrs["notes"] == (
        "near: elpd within 4 of the best, a small difference whatever its standard error; prefer the model that makes "
        "more sense.",
    )


def test_bad_k_and_p_waic_warn():
    base = np.full(100, -1.0)
    k = np.full(100, 0.2)
    k[[4, 9]] = 0.9, 1.1
    doubtful = {"a": score(base, k=k), "b": score(base - 1, estimator="integrated")}
    with pytest.warns(HiermodWarning, match=r"a: 2 \(up to 1\.10\).*can pass for a difference"):
        table = hm.compare(doubtful)
    assert table.loc["a", "worst_k"] == 1.1
    assert table.loc["a", "note"] == "k > 0.7 for 2 rows"
    p = np.full(100, 0.1)
    p[3] = 0.5
    with pytest.warns(HiermodWarning, match=r"p_waic is above 0\.4 for some rows of b"):
        table = hm.compare({"a": score(base, criterion="waic"), "b": score(base - 1, criterion="waic", p_i=p)})
    assert table.loc["b", "note"] == "p_waic > 0.4 for 1 row"
    with pytest.warns(HiermodWarning, match="densities"):
        hm.compare({"a": score(base), "b": score(base, discrete=True)})


@pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")
def test_integrated_and_conditional_rows_compare(fits):
    """Both estimate the same; the table says which is which."""
    table = hm.compare({"slopes": fits["slopes"], "student": fits["student"].loo(refit_bad=False)})
    assert table.loc["slopes", "estimator"] == "integrated"
    assert table.loc["student", "estimator"] == "conditional"


# --- refusals ------------------------------------------------------------------------------------------------------
def test_what_may_not_be_compared(fits):
    base = np.full(50, -1.0)
    plain = score(base)
    for other, words in [
        (score(base, criterion="waic"), "different quantities"),
        (score(base, unit="Subject"), "different questions"),
        (score(base[:40]), "40 rows"),
        (score(base, data="e", response="z"), "'y' and 'z'"),
        (score(base, labels=tuple(range(1, 51))), "labels"),
    ]:
        with pytest.raises(ArgumentError, match=f"'one' and 'two' cannot be compared: .*{words}"):
            hm.compare({"one": plain, "two": other})
    folds = np.arange(50) % 5
    with pytest.raises(ArgumentError, match="same k, group, stratify and random_seed"):
        hm.compare(
            {
                "one": score(base, criterion="kfold", folds=folds),
                "two": score(base, criterion="kfold", folds=folds[::-1]),
            }
        )


def test_bad_arguments(fits):
    two = {name: fits[name] for name in ("intercepts", "slopes")}
    with pytest.raises(ArgumentTypeError, match="dict"):
        hm.compare(list(two.values()))
    with pytest.raises(ArgumentError, match="two models"):
        hm.compare({"slopes": fits["slopes"]})
    with pytest.raises(ArgumentTypeError, match="information_criteria"):
        hm.compare({"slopes": fits["slopes"], "reml": hm.Model("Reaction ~ Days + (1 | Subject)", DATA).reml()})
    with pytest.raises(ArgumentError, match="Did you mean 'loo'"):
        hm.compare(two, "looo")
    with pytest.raises(ArgumentError, match="Did you mean 'stacking'"):
        hm.compare(two, weights="staking")
    with pytest.raises(ArgumentError, match="name it with group="):
        hm.compare(two, "logo")
    with pytest.raises(ArgumentError, match="has no place"):
        hm.compare(two, group="Subject")
    plain = hm.Model("Reaction ~ Days", DATA).fit(draws=200, random_seed=1)
    with pytest.raises(ArgumentError, match="'plain' has no effects of 'Subject'"):
        hm.compare({"plain": plain, "slopes": fits["slopes"]}, "logo", group="Subject")


def test_transformed_responses(fits):
    """log p(y) = log p(log y) - log y: the Jacobian, row by row and summed over a level's rows."""
    logged = hm.Model("np.log(Reaction) ~ Days + (1 | Subject)", DATA).fit(draws=500, random_seed=1)
    two = {"y": fits["slopes"], "log": logged}
    with pytest.raises(ArgumentError, match="Jacobian"):
        hm.compare(two)
    table = hm.compare(two, jacobian=True)
    y = DATA["Reaction"].to_numpy()
    assert table.loc["log", "elpd"] == pytest.approx(logged.loo().elpd - np.log(y).sum(), rel=1e-12)
    assert table.loc["y", "elpd"] == fits["slopes"].loo().elpd
    groups = logged.logo("Subject")
    by_level = DATA.assign(log=np.log(y)).groupby("Subject", observed=True)["log"].sum()
    np.testing.assert_allclose(
        groups.untransformed().elpd_i, groups.elpd_i - by_level[list(groups.labels)].to_numpy(), rtol=1e-12
    )
    assert fits["slopes"].loo().untransformed() is not None
    other = hm.Model("Reaction_cubed ~ Days + (1 | Subject)", DATA.assign(Reaction_cubed=y**3 / 1e5))
    with pytest.raises(ArgumentError, match="other data"):
        hm.compare({"y": fits["slopes"], "cubed": other.fit(draws=200, random_seed=1)}, jacobian=True)


@pytest.mark.parametrize(
    ("text", "derivative"),
    [
        ("log(y)", lambda y: 1 / y),
        ("np.log2(y)", lambda y: 1 / (y * np.log(2))),
        ("np.log10(y)", lambda y: 1 / (y * np.log(10))),
        ("np.log1p(y)", lambda y: 1 / (1 + y)),
        ("np.sqrt(y)", lambda y: 0.5 / np.sqrt(y)),
    ],
)
def test_slopes_of_transformations(text, derivative):
    from hiermod.inference.scores.score_of_fit import transformation

    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.uniform(1, 9, 24), "g": np.repeat(list("abcd"), 6)})
    design = hm.Model(f"{text} ~ 1 + (1 | g)", data).spec
    found = transformation(design)
    np.testing.assert_allclose(found["log_slope"], np.log(derivative(data["y"].to_numpy())), rtol=1e-12)
    assert found["column_data"] == fingerprint(data["y"].to_numpy(), None)
    assert transformation(hm.Model("y ~ 1 + (1 | g)", data).spec) == {}


# --- beside likelihoods --------------------------------------------------------------------------------------------
def test_information_criteria(fits):
    models = {
        n: hm.Model(f"Reaction ~ Days + ({x} | Subject)", DATA) for n, x in (("intercepts", "1"), ("slopes", "Days"))
    }
    table = hm.information_criteria(
        {name: (model.reml(), fits[name]) for name, model in models.items()}, group="Subject"
    )
    # lme4 1.1-31, sleepstudy: anova(m0, m1) with REML = FALSE: AIC 1802.1 and 1763.9, BIC 1814.8 and 1783.1,
    # Chisq 42.139 on 2 df
    np.testing.assert_allclose(table["aic"], [1802.1, 1763.9], atol=0.06)
    np.testing.assert_allclose(table["bic"], [1814.8, 1783.1], atol=0.06)
    assert table["npar"].tolist() == [4, 6]
    assert table.loc["slopes", "chisq"] == pytest.approx(42.139, abs=6e-4)
    assert np.isnan(table.loc["intercepts", "chisq"])
    for name, model in models.items():
        row = table.loc[name]
        assert row["loglik"] == pytest.approx(model.ml().loglik, rel=1e-12)
        assert row["looic"] == -2 * fits[name].loo().elpd
        assert row["waic"] == -2 * fits[name].waic().elpd
        assert row["logoic"] == -2 * fits[name].logo("Subject").elpd
        assert row["p_loo"] == fits[name].loo().p
    assert any("refitted by maximum likelihood: intercepts, slopes" in note for note in table.attrs["notes"])


def test_information_criteria_from_models_and_parts(fits):
    a, b = (hm.Model(f"Reaction ~ {x} + (1 | Subject)", DATA) for x in ("Days", "np.exp(Days / 4)"))
    table = hm.information_criteria({"a": a, "b": b.ml()}, random_seed=1, draws=200)
    assert table.loc["a", "elpd_loo"] == a.fit(draws=200, random_seed=1).loo().elpd
    assert np.isnan(table.loc["b", "elpd_loo"])
    assert np.isnan(table.loc["b", "p"])
    assert any("No likelihood-ratio test of b" in note for note in table.attrs["notes"])
    alone = hm.information_criteria({"bayes": fits["slopes"]})  # the ML fit comes from its model
    assert alone.loc["bayes", "aic"] == pytest.approx(1763.9, abs=0.06)
    only = hm.information_criteria({"a": a.ml()})
    assert list(only.columns) == ["npar", "loglik", "aic", "bic", "chisq", "df", "p"]
    with pytest.raises(ArgumentTypeError, match="'x' is float"):
        hm.information_criteria({"x": 3.0})
    with pytest.raises(ArgumentError, match="different data"):
        hm.information_criteria({"a": a.ml(), "short": hm.Model("Reaction ~ Days", DATA.iloc[:90]).ml()})


# --- pictures ------------------------------------------------------------------------------------------------------
def test_the_picture_of_a_comparison():
    import matplotlib.pyplot as plt

    base = np.random.default_rng(2).normal(-2, 1, 120)
    table = hm.compare({"far": score(base - 0.5), "best": score(base)})
    ax = hm.plots.compare_scores(table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["best", "far"]
    points = ax.containers[0][0].get_xdata(), ax.containers[1][0].get_xdata()
    np.testing.assert_allclose(points[0], table["elpd"])
    np.testing.assert_allclose(points[1], table["elpd"].iloc[1:])
    bars = ax.containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[1, 0] - bar[0, 0] for bar in bars], 2 * table["se"])
    assert ax.get_title(loc="left") == "Leave-one-out"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best on top
    plt.close(ax.figure)
    with pytest.raises(ArgumentTypeError, match=r"hm\.compare"):
        hm.plots.compare_scores({"a": 1})


def test_the_picture_of_differences():
    import matplotlib.pyplot as plt

    a, b = score([-1.0, -2.0, -3.0, -4.0]), score([-1.5, -1.5, -2.0, -5.0], k=[0.1, 0.9, 0.1, 0.1])
    units = paired_units(a, b)
    assert units["difference"].tolist() == [0.5, -0.5, -1.0, 1.0]
    ax = hm.plots.score_differences({"a": a, "b": b})
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 1], [0.5, -0.5, -1.0, 1.0])
    faces = ax.collections[1].get_facecolors()
    assert np.allclose(faces[1], 1.0)  # white: k above 0.7
    assert not np.allclose(faces[0], 1.0)
    plt.close(ax.figure)
    ax = hm.plots.score_differences({"a": a, "b": b}, by=pd.Series(["u", "v", "v", "u"], name="subject"))
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], [-1.5, 1.5])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["v", "u"]
    assert ax.get_ylabel() == "subject"
    plt.close(ax.figure)
    with pytest.raises(ArgumentError, match="3 labels"):
        hm.plots.score_differences({"a": a, "b": b}, by=[1, 2, 3])
    with pytest.raises(ArgumentTypeError, match="two scores"):
        hm.plots.score_differences({"a": a})


def test_scores_keep_their_folds_read_only():
    folded = score([-1.0, -2.0], folds=np.array([0, 1]), criterion="kfold", estimator="refits")
    assert "in 2 folds, by refits" in str(folded)
    with pytest.raises(ValueError, match="read-only"):
        folded.folds[0] = 1
    assert "1 unit scored by a refit" in str(replace(score([-1.0, -2.0]), refitted=(1,)))
