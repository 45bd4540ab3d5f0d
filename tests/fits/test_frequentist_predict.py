"""Predictions and intervals of REML fits against dense algebra: targets, kinds, new levels, and rows of every shape.

The yardstick is Henderson's mixed-model equations in full matrices (Bates et al. 2015, J. Stat. Softw. 67(1)):
cov(beta - beta^, b - b^) = sigma^2 [X'WX, X'WZ; Z'WX, Z'WZ + sigma^2 Sigma^-1]^-1.  Identities: rtol 1e-8, the
condition number of those matrices times rounding."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError, DataError, RankDeficiencyWarning, UnknownNameError
from hiermod.fits.frequentist import FrequentistFit
from hiermod.model import Model

RTOL = 1e-8
MODELS = {
    "slope": ("Reaction ~ Days + (Days | Subject)", {}),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", {}),
    "weights": ("Reaction ~ Days + (Days | Subject)", {"weights": "w"}),
    "se": ("Reaction ~ Days + (1 | Subject)", {"se": "s"}),
    "two factors": ("shifted ~ Days + (Days | Subject) + (1 | half)", {}),
    "offset": ("Reaction ~ Days + offset(w) + (1 | Subject)", {}),
    "no bar": ("Reaction ~ Days", {"weights": "w"}),
}


@cache
def data() -> pd.DataFrame:
    d = load_dataset("sleepstudy")
    rng = np.random.default_rng(4)
    half = np.where(d["Days"] % 3 == 0, "a", np.where(d["Days"] % 3 == 1, "b", "c"))
    return d.assign(
        half=half,
        shifted=d["Reaction"] + pd.Series({"a": 40.0, "b": -30.0, "c": 0.0})[half].to_numpy(),
        w=rng.uniform(0.5, 2, len(d)).round(2),
        s=rng.uniform(20, 40, len(d)).round(1),
    )


@cache
def fitted(name: str) -> FrequentistFit:
    formula, options = MODELS[name]
    return Model(formula, data(), **options).reml()


def dense_law(fit: FrequentistFit) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Estimates and covariance of (beta, b of every block by level), and Sigma per block."""
    design, record = fit.design, fit.record
    sigma2 = record.sigma**2
    w = np.ones(design.nobs) if design.weights is None else design.weights
    w = 1 / design.se**2 if design.se is not None else w
    columns, precisions, sigmas = [design.X], [np.zeros((design.X.shape[1],) * 2)], []
    for i, block in enumerate(design.blocks):
        Z = np.zeros((design.nobs, len(block.levels), block.size))
        Z[np.arange(design.nobs), block.codes] = block.values
        columns.append(Z.reshape(design.nobs, -1))
        sigmas.append(record.covariance[i])
        precisions.append(np.kron(np.eye(len(block.levels)), sigma2 * np.linalg.inv(sigmas[-1])))
    M = np.hstack(columns)
    cov = np.linalg.inv(M.T @ (w[:, None] * M) + linalg.block_diag(*precisions))
    y = design.y - (0 if design.offset is None else design.offset)
    return cov @ (M.T @ (w * y)), sigma2 * cov, sigmas


def dense_rows(
    fit: FrequentistFit, X: np.ndarray, levels: list[list[str | None]], values: list[np.ndarray]
) -> np.ndarray:
    pieces = [X]
    for block, names, value in zip(fit.design.blocks, levels, values, strict=True):
        Z = np.zeros((len(X), len(block.levels), block.size))
        for row, level in enumerate(names):
            if level in block.levels:
                Z[row, block.levels.index(level)] = value[row]
        pieces.append(Z.reshape(len(X), -1))
    return np.hstack(pieces)


NEW = pd.DataFrame(
    {"Days": [0, 4, 12], "Subject": ["308", "372", "new"], "half": ["a", "b", "zz"], "w": [1.0, 1.5, 2.0]}
)


def expected(fit: FrequentistFit, target: str, kind: str, sample: bool) -> tuple[np.ndarray, np.ndarray]:
    """Estimate and standard error of the three rows of NEW by dense algebra."""
    estimate, cov, sigmas = dense_law(fit)
    X = np.column_stack([np.ones(3), NEW["Days"]])
    names = [list(NEW[block.factor]) for block in fit.design.blocks]
    values = [np.column_stack([X[:, 0] if c == "Intercept" else X[:, 1] for c in b.labels]) for b in fit.design.blocks]
    used = names if target == "conditional" else [[None] * 3 for _ in names]
    R = dense_rows(fit, X, used, values)
    variance = np.einsum("mi,ij,mj->m", R, cov, R)
    for block, level, value, Sigma in zip(fit.design.blocks, used, values, sigmas, strict=True):
        fresh = np.array([name not in block.levels for name in level])
        if target == "new_group" or (target == "conditional" and sample):
            variance = variance + fresh * np.einsum("mi,ij,mj->m", value, Sigma, value)
    if kind == "response":
        variance = variance + fit.record.sigma**2 / (1.0 if fit.design.weights is None else NEW["w"].to_numpy())
    offset = NEW["w"].to_numpy() if fit.design.offset is not None else 0.0
    return R @ estimate + offset, np.sqrt(variance)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "se"])
@pytest.mark.parametrize("kind", ["mean", "response"])
@pytest.mark.parametrize(
    ("target", "new_levels"),
    [("conditional", "zero"), ("conditional", "sample"), ("population", "raise"), ("new_group", "raise")],
)
def test_predictions_and_intervals(name: str, kind: str, target: str, new_levels: str) -> None:
    fit = fitted(name)
    table = fit.predict(NEW, target=target, interval=0.9, kind=kind, new_levels=new_levels)
    estimate, se = expected(fit, target, kind, new_levels == "sample")
    df = fit.record.df_residual if name == "no bar" else np.inf
    half = stats.t.ppf(0.95, df) * se
    assert list(table.columns) == ["estimate", "lower", "upper"]
    assert table["estimate"].to_numpy() == pytest.approx(estimate, rel=RTOL)
    assert (table["upper"] - table["estimate"]).to_numpy() == pytest.approx(half, rel=RTOL)
    assert (table["estimate"] - table["lower"]).to_numpy() == pytest.approx(half, rel=RTOL)


def test_known_residual_sds() -> None:
    fit = fitted("se")
    estimate, se = expected(fit, "conditional", "mean", False)
    table = fit.predict(NEW, interval=0.95, new_levels="zero")
    assert table["estimate"].to_numpy() == pytest.approx(estimate, rel=RTOL)
    assert ((table["upper"] - table["lower"]) / 2).to_numpy() == pytest.approx(stats.norm.ppf(0.975) * se, rel=RTOL)
    # the fit's own rows have their residual sd, new rows that of their column s
    mean, response = (fit.predict(interval=0.95, kind=kind) for kind in ("mean", "response"))
    z = stats.norm.ppf(0.975)
    added = ((response["upper"] - response["estimate"]) / z) ** 2 - ((mean["upper"] - mean["estimate"]) / z) ** 2
    assert np.sqrt(added).to_numpy() == pytest.approx(data()["s"].to_numpy(), rel=1e-6)  # a difference of squares
    with pytest.raises(ArgumentError, match="gives it for the rows of the fit only"):
        fit.predict(NEW, interval=0.95, kind="response", new_levels="zero")
    assert np.isnan(fit.sigma)
    assert "Residual" not in set(fit.varcorr()["group"])
    assert fit.residuals("scaled").to_numpy() == pytest.approx((fit.residuals() / data()["s"]).to_numpy(), rel=1e-12)


def test_prior_weights_scale_residuals_and_noise() -> None:
    fit = fitted("weights")
    w = data()["w"]
    assert fit.residuals("pearson").to_numpy() == pytest.approx((fit.residuals() * np.sqrt(w)).to_numpy(), rel=1e-12)
    assert fit.residuals("scaled").to_numpy() == pytest.approx((fit.residuals("pearson") / fit.sigma).to_numpy())
    z = stats.norm.ppf(0.975)
    mean, response = (fit.predict(interval=0.95, kind=kind) for kind in ("mean", "response"))
    added = ((response["upper"] - response["estimate"]) / z) ** 2 - ((mean["upper"] - mean["estimate"]) / z) ** 2
    assert added.to_numpy() == pytest.approx((fit.sigma**2 / w).to_numpy(), rel=1e-6)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "no bar"])
def test_coef_has_the_joint_standard_error(name: str) -> None:
    fit = fitted(name)
    estimate, cov, _ = dense_law(fit)
    for _, row in fit.coef("Subject").iterrows():
        X = np.array([[row["term"] == "Intercept", row["term"] == "Days"]], dtype=float)
        levels = [[row["level"] if b.factor == "Subject" else None] for b in fit.design.blocks]
        values = [np.array([[float(label == row["term"]) for label in b.labels]]) for b in fit.design.blocks]
        R = dense_rows(fit, X, levels, values)
        assert row["estimate"] == pytest.approx((R @ estimate).item(), rel=RTOL)
        assert row["std_error"] == pytest.approx(np.sqrt((R @ cov @ R.T).item()), rel=RTOL)
        assert row["upper"] - row["estimate"] == pytest.approx(stats.norm.ppf(0.975) * row["std_error"], rel=RTOL)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_fits_own_rows(name: str) -> None:
    fit = fitted(name)
    assert fit.predict()["estimate"].to_numpy() == pytest.approx(fit.fitted().to_numpy(), rel=1e-12)
    assert fit.predict(data())["estimate"].to_numpy() == pytest.approx(fit.fitted().to_numpy(), rel=1e-12)
    assert (fit.fitted() + fit.residuals()).to_numpy() == pytest.approx(data()[fit.design.response], rel=1e-12)
    assert fit.predict(data(), interval=0.8).to_numpy() == pytest.approx(fit.predict(interval=0.8).to_numpy(), rel=RTOL)


@pytest.mark.parametrize("target", ["conditional", "population", "new_group"])
def test_shapes_of_new_data(target: str) -> None:
    fit = fitted("two factors")
    rows = data().iloc[[5, 100, 17]]
    base = fit.predict(rows, target=target, interval=0.95)
    assert list(base.index) == [5, 100, 17]
    turned = rows[rows.columns[::-1]].assign(unused=[None, "x", None])
    pd.testing.assert_frame_equal(fit.predict(turned, target=target, interval=0.95), base)
    doubled = rows.set_axis([7, 7, 7])
    pd.testing.assert_frame_equal(fit.predict(doubled, target=target, interval=0.95).set_axis(base.index), base)
    one = fit.predict(rows.iloc[[1]], target=target, interval=0.95)
    pd.testing.assert_frame_equal(one, base.iloc[[1]], rtol=1e-12)
    for chosen in (rows.iloc[:0], rows.iloc[:0].astype(object)):
        empty = fit.predict(chosen, target=target, interval=0.95)
        assert (list(empty.columns), len(empty)) == (["estimate", "lower", "upper"], 0)
        assert list(fit.predict(chosen, target=target).columns) == ["estimate"]
    before = rows.copy()
    fit.predict(rows, target=target)
    pd.testing.assert_frame_equal(rows, before)  # the caller's frame is never changed


def test_group_columns_are_asked_for_only_where_they_matter() -> None:
    fit = fitted("slope")
    bare = pd.DataFrame({"Days": [0, 9]})
    named = bare.assign(Subject=[None, "nobody yet"])
    for target in ("population", "new_group"):
        pd.testing.assert_frame_equal(
            fit.predict(bare, target=target, interval=0.95), fit.predict(named, target=target, interval=0.95)
        )
    with pytest.raises(UnknownNameError, match="lacks the column 'Subject'"):
        fit.predict(bare)
    with pytest.raises(DataError, match="missing values"):
        fit.predict(named)


def test_new_levels_are_refused_unless_told() -> None:
    fit = fitted("slope")
    with pytest.raises(UnknownNameError, match=r"Subject: 'new'.*new_levels='zero'"):
        fit.predict(NEW)
    zero = fit.predict(NEW, new_levels="zero", interval=0.95)
    sample = fit.predict(NEW, new_levels="sample", interval=0.95)
    pd.testing.assert_frame_equal(zero.iloc[:2], sample.iloc[:2])
    assert sample["upper"].iloc[2] > zero["upper"].iloc[2]


def test_misspelt_levels_are_told_the_nearest() -> None:
    names = {"308": "École", "309": "Lycée", "310": "Lycée 2"}
    d = data().assign(Subject=data()["Subject"].astype(str).replace(names))
    d["sex"] = np.where(np.arange(len(d)) % 2, "girl", "boy")
    fit = Model("Reaction ~ sex + C(half):Days + (1 | Subject)", d).reml()
    row = {"sex": ["boy"], "half": ["a"], "Days": [1.0]}

    def told(error: type[Exception], **changes: list[str]) -> str:
        with pytest.raises(error) as caught:
            fit.predict(pd.DataFrame(row | {"Subject": ["École"]} | changes))
        return str(caught.value)

    message = told(DataError, sex=["gril"])
    assert "'sex' has the level 'gril'" in message
    assert "Did you mean 'girl'? Its levels are: boy, girl." in message
    assert "'half' has the level 'zz'" in told(DataError, half=["zz"])
    message = told(UnknownNameError, Subject=["Ecole"])
    assert "Did you mean 'École'? new_levels='zero'" in message
    row = {name: values * 2 for name, values in row.items()}
    assert "For 'Lycee 2': Did you mean 'Lycée 2'?" in told(UnknownNameError, Subject=["new", "Lycee 2"])
    assert "Did you mean" not in told(UnknownNameError, Subject=["311", "Lycée 3"])  # other numbers, other groups


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"target": "populaton"}, ArgumentError, "Did you mean 'population'"),
        ({"kind": "respons"}, ArgumentError, "Did you mean 'response'"),
        ({"new_levels": "skip"}, ArgumentError, "'raise', 'zero', 'sample'"),
        ({"interval": 95}, ArgumentError, "write 0.95"),
        ({"interval": 1.0}, ArgumentError, "between 0 and 1"),
        ({"newdata": [1, 2]}, ArgumentTypeError, "must be a pandas DataFrame, got list"),
        ({"newdata": pd.DataFrame({"days": [1], "Subject": ["308"]})}, UnknownNameError, "Did you mean 'days'"),
        ({"newdata": pd.DataFrame({"Days": [np.nan], "Subject": ["308"]})}, DataError, "Days: 1"),
        ({"newdata": pd.DataFrame({"Days": ["two"], "Subject": ["308"]})}, DataError, "Days"),
    ],
)
def test_bad_requests(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fitted("slope").predict(**options)


def test_missing_rows_keep_their_index() -> None:
    d = data().copy()
    d.loc[[3, 50], "Reaction"] = np.nan
    d = d.set_axis(pd.Index([f"row {i}" for i in range(len(d))]))
    fit = Model("Reaction ~ Days + (1 | Subject)", d, dropna=True).reml()
    kept = [label for label in d.index if label not in ("row 3", "row 50")]
    for series in (
        fit.fitted(),
        fit.residuals(),
        fit.predict()["estimate"],
        fit.augment()[".resid"],
        fit.simulate()["sim_1"],
    ):
        assert list(series.index) == kept


def test_a_duplicated_index_is_carried_along() -> None:
    d = data().set_axis(np.repeat(np.arange(18), 10))
    fit = Model("Reaction ~ Days + (1 | Subject)", d).reml()
    table = fit.augment()
    assert list(table.index) == list(d.index)
    assert table[".fitted"].to_numpy() == pytest.approx(fit.fitted().to_numpy())


def test_simulated_responses_have_the_models_moments() -> None:
    fit = fitted("weights")
    draws = fit.simulate(4000, random_seed=3)
    assert list(draws.columns[:2]) == ["sim_1", "sim_2"]
    pd.testing.assert_frame_equal(
        draws.iloc[:, :1], fit.simulate(1, random_seed=3)
    )  # the first does not depend on the count
    pd.testing.assert_frame_equal(draws, fit.simulate(4000, random_seed=np.random.default_rng(3)))
    X, Sigma = fit.design.X, fit.record.covariance[0]
    cov = (X[:10] @ Sigma @ X[:10].T) + np.diag(fit.sigma**2 / data()["w"].to_numpy()[:10])
    values = draws.to_numpy()[:10]
    mean = X[:10] @ fit.record.beta
    assert np.abs(values.mean(axis=1) - mean).max() < 4.5 * np.sqrt(cov.max() / 4000)  # ten rows: about 1 in 15,000
    # sd of a sample covariance of normals: sqrt((c_ii c_jj + c_ij^2) / draws)
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 4000)
    assert (np.abs(np.cov(values) - cov) / spread).max() < 4.7  # 55 entries: about 1 in 7,000
    with pytest.raises(ArgumentError, match="at least 1"):
        fit.simulate(0)


def test_questions_a_linear_model_cannot_answer() -> None:
    fit = fitted("no bar")
    assert fit.ranef().empty
    assert fit.coef().empty
    with pytest.raises(UnknownNameError, match="no group effects"):
        fit.ranef("Subject")
    with pytest.raises(UnknownNameError, match="Did you mean 'Subject'"):
        fitted("slope").coef("subject")
    with pytest.raises(ArgumentError, match="Did you mean 'satterthwaite'"):
        fitted("slope").fixef(ddf="satterthwait")


# --- new rows have weights and known sds of their own ----------------------------------------------------------------
WEIGHTS = np.array([0.01, 1.0, 4.0])
SPREAD = stats.norm.ppf(0.975)
BY_METHOD = {"reml": lambda m: m.reml(), "ml": lambda m: m.ml(), "bayes": lambda m: m.fit(draws=2000, random_seed=1)}


def new_rows(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"Days": [3.0, 3.0, 3.0], "Subject": "308"}).assign(**columns)


def noise(fit, frame: pd.DataFrame) -> np.ndarray:
    """Residual sd of each new row: what a new response varies beyond its expected value."""
    mean, response = (fit.predict(frame, interval=0.95, kind=kind, random_seed=2) for kind in ("mean", "response"))
    half = [((table["upper"] - table["lower"]) / 2 / SPREAD).to_numpy() for table in (mean, response)]
    return np.sqrt(half[1] ** 2 - half[0] ** 2)


@pytest.mark.parametrize("formula", ["Reaction ~ Days + (Days | Subject)", "Reaction ~ Days"])
@pytest.mark.parametrize("method", list(BY_METHOD))
def test_new_responses_vary_with_the_weights_of_their_own_rows(method: str, formula: str) -> None:
    fit = BY_METHOD[method](Model(formula, data(), weights="w"))
    # lm's own intervals are Student's t, and a posterior's quantiles are draws (4,000: 3 % of an sd); else exact
    rtol = {"reml": 1e-8, "ml": 1e-8, "bayes": 0.08}[method] if "|" in formula else 0.08
    assert noise(fit, new_rows(w=WEIGHTS)) == pytest.approx(fit.sigma / np.sqrt(WEIGHTS), rel=rtol)
    table = fit.predict(new_rows(w=WEIGHTS), interval=0.95, kind="response")
    assert "notes" not in table.attrs
    without = fit.predict(new_rows(), interval=0.95, kind="response")
    assert noise(fit, new_rows()) == pytest.approx(np.repeat(fit.sigma, 3), rel=rtol)
    (note,) = without.attrs["notes"]
    assert "weight 1" in note
    assert "'w'" in note
    assert note in repr(without)
    assert "notes" not in fit.predict(new_rows(), interval=0.95).attrs  # the mean has no residual


@pytest.mark.parametrize("method", list(BY_METHOD))
def test_new_responses_vary_with_the_known_sds_of_their_own_rows(method: str) -> None:
    fit = BY_METHOD[method](Model("Reaction ~ Days + (1 | Subject)", data(), se="s"))
    known = np.array([5.0, 40.0, 200.0])
    rtol = 0.08 if method == "bayes" else 1e-8
    assert noise(fit, new_rows(s=known))[1:] == pytest.approx(known[1:], rel=rtol)
    with pytest.raises(ArgumentError, match="Add the column 's'"):
        fit.predict(new_rows(), interval=0.95, kind="response")


def test_weights_given_as_an_array_say_so_and_bad_ones_are_refused() -> None:
    by_array = Model("Reaction ~ Days + (1 | Subject)", data(), weights=data()["w"].to_numpy()).reml()
    (note,) = by_array.predict(new_rows(w=WEIGHTS), interval=0.95, kind="response").attrs["notes"]
    assert "an array, not a column's name" in note
    assert noise(by_array, new_rows(w=WEIGHTS)) == pytest.approx(np.repeat(by_array.sigma, 3), rel=1e-8)
    with pytest.raises(ArgumentError, match="se='column'"):
        Model("Reaction ~ Days + (1 | Subject)", data(), se=data()["s"].to_numpy()).reml().predict(
            new_rows(s=1.0), interval=0.95, kind="response"
        )
    fit = fitted("weights")
    for bad, words in (([1, 0, 1], "positive"), ([1, np.nan, 1], "positive"), (["a", "b", "c"], "numbers")):
        with pytest.raises(DataError, match=f"newdata: weights.*{words}"):
            fit.predict(new_rows(w=bad), interval=0.95, kind="response")


def test_the_column_of_weights_is_kept_in_files(tmp_path) -> None:
    from hiermod.app.stored import load

    fit = fitted("weights")
    back = load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(
        back.predict(new_rows(w=WEIGHTS), interval=0.9, kind="response"),
        fit.predict(new_rows(w=WEIGHTS), interval=0.9, kind="response"),
    )


def test_a_response_for_a_refit_is_matched_by_its_labels() -> None:
    fit = fitted("slope")
    y = pd.Series(fit.design.y + 3.0, index=fit.design.index)
    assert fit.refit(y.sample(frac=1.0, random_state=1)).criterion == pytest.approx(fit.criterion, rel=1e-9)
    with pytest.raises(DataError, match="matched to the rows by its index"):
        fit.refit(y.set_axis(y.index + 1000))


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_rows_of_an_empty_cell_are_told(family: str) -> None:
    d = pd.DataFrame({"f": list("aabb") * 6, "h": list("cdcd") * 6, "g": list("uvwxyz") * 4})
    d["y"] = [8 * "uvwxyz".index(level) + i % 5 for i, level in enumerate(d["g"])]
    with pytest.warns(RankDeficiencyWarning):
        fit = Model("y ~ f * h + (1 | g)", d[(d["f"] == "a") | (d["h"] == "c")], family=family).ml()
    table = fit.predict(d.head(4), target="population")
    assert table.attrs["notes"] == (
        "The data cannot tell the prediction of 3, since the model matrix is rank deficient: f[b]:h[d] counted as 0 "
        "there.",
    )
    assert "notes" not in fit.predict(d.head(3), target="population").attrs
