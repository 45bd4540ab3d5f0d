"""Pooling: complete is one lm, none is one lm with every level's own coefficients, partial is coef."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import read_reference
from hand_made import hand_made

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentTypeError, SingularFitWarning, UnknownNameError, UnsupportedError
from hiermod.model import Model
from hiermod.study.pooling import Pooling

EXACT = 1e-8  # least squares on both sides, the full dummy design being the worse conditioned


def dense(design: object, own: list[str], codes: np.ndarray, J: int, X: dict[str, np.ndarray], w: np.ndarray) -> tuple:
    """Least squares on the full design: a column per level and own term, then the others; estimates and se."""
    n = len(codes)
    columns = [np.where(codes == j, X[term], 0.0) for j in range(J) for term in own]
    M = np.column_stack([*columns, *(column for term, column in X.items() if term not in own)])
    root = np.sqrt(w)
    y = design.y - (0.0 if design.offset is None else design.offset)
    estimate, _, rank, _ = np.linalg.lstsq(M * root[:, None], y * root)
    spare = (y - M @ estimate) * root
    sigma2 = spare @ spare / (n - rank)
    se = np.sqrt(sigma2 * np.diag(np.linalg.pinv((M * root[:, None]).T @ (M * root[:, None]))))
    k = J * len(own)
    return estimate[:k], se[:k]


def part(pooling: Pooling, method: str) -> pd.DataFrame:
    table = pooling.table()
    return table[table["method"] == method].reset_index(drop=True)


@pytest.mark.parametrize(
    ("formula", "own", "weights"),
    [
        ("Reaction ~ Days + (Days | Subject)", ["Intercept", "Days"], None),
        ("Reaction ~ Days + (Days | Subject)", ["Intercept", "Days"], "w"),
        ("Reaction ~ Days + (Days || Subject)", ["Intercept", "Days"], None),
        ("Reaction ~ Days + (1 | Subject)", ["Intercept"], None),
        ("Reaction ~ Days + z + (Days | Subject)", ["Intercept", "Days"], "w"),
        ("Reaction ~ Days + (0 + Days | Subject)", ["Days"], None),
        ("Reaction ~ Days + offset(z) + (1 | Subject)", ["Intercept"], None),
    ],
)
def test_no_and_complete_pooling_are_least_squares(formula: str, own: list[str], weights: str | None) -> None:
    rng = np.random.default_rng(2)
    d = load_dataset("sleepstudy")
    d = d.assign(w=rng.uniform(0.5, 2, len(d)), z=rng.standard_normal(len(d)))
    model = Model(formula, d, weights=weights)
    pooling, design = model.pooling(bayes=False), model.spec
    X = dict(zip(design.common, design.X.T, strict=True))
    w = np.ones(len(d)) if weights is None else d["w"].to_numpy()
    none = part(pooling, "none")
    estimate, se = dense(design, own, design.blocks[0].codes, 18, X, w)
    assert list(none["term"][: len(own)]) == own
    assert none["estimate"].to_numpy() == pytest.approx(estimate, rel=EXACT)
    assert none["std_error"].to_numpy() == pytest.approx(se, rel=EXACT)
    complete = part(pooling, "complete")
    lm = Model(formula[: formula.index(" + (")], d, weights=weights).reml().fixef()
    for term in own:
        rows = complete[complete["term"] == term]
        assert len(rows) == 18
        assert rows[["estimate", "std_error", "lower", "upper"]].to_numpy() == pytest.approx(
            np.tile(lm.loc[term, ["estimate", "std_error", "lower", "upper"]].to_numpy(float), (18, 1)), rel=1e-10
        )
    coef = pooling.reml.coef("Subject")
    kept = coef[coef["term"].isin(own)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part(pooling, "REML")[kept.columns], kept)


def test_no_pooling_is_rs_lm() -> None:
    """R 4.2.2: lm(Reaction ~ days_deprived + Subject + days_deprived:Subject), 36 coefficients: a line per subject."""
    r = read_reference("sleep2_lm_no_pooling")
    pooling = Model("Reaction ~ days_deprived + (days_deprived | Subject)", load_dataset("sleep2")).pooling(bayes=False)
    table = part(pooling, "none").set_index(["level", "term"])
    base, slope = r["fixef"]["(Intercept)"], r["fixef"]["days_deprived"]
    for level in load_dataset("sleep2")["Subject"].unique():
        intercept = base + r["fixef"].get(f"Subject{level}", 0.0)
        own_slope = slope + r["fixef"].get(f"days_deprived:Subject{level}", 0.0)
        assert table.loc[(level, "Intercept"), "estimate"] == pytest.approx(intercept, rel=EXACT)
        assert table.loc[(level, "days_deprived"), "estimate"] == pytest.approx(own_slope, rel=EXACT)
    # the reference level's own coefficients have R's standard errors; the design is balanced, so all levels share them
    assert table.xs("Intercept", level="term")["std_error"].to_numpy() == pytest.approx(
        r["se"]["(Intercept)"], rel=EXACT
    )
    assert table.xs("days_deprived", level="term")["std_error"].to_numpy() == pytest.approx(
        r["se"]["days_deprived"], rel=EXACT
    )


def test_what_a_level_cannot_estimate_alone_is_nan() -> None:
    """Subject 373 has one row: an intercept, no slope; 374 has two, enough for a line."""
    model = Model("reaction ~ days + (days | subject)", load_dataset("sleep_partial"))
    pooling = model.pooling(bayes=False)
    wide = pooling.wide()
    assert np.isnan(wide.loc[("373", "days"), "none"])
    assert wide.loc[("373", "Intercept"), "none"] == pytest.approx(245.0)  # its one row, on day 0
    none = part(pooling, "none")
    for column in ("estimate", "std_error", "lower", "upper"):
        assert list(none.loc[none[column].isna(), ["level", "term"]].itertuples(index=False, name=None)) == [
            ("373", "days")
        ]
    assert wide.loc["374", "none"].notna().all()
    assert wide[["complete", "REML"]].notna().all(axis=None)


def test_a_level_keeps_its_meaning_beside_a_group_level_predictor() -> None:
    """recipe is constant within replicate: its coefficient is REML's, so that own and pooled intercepts compare."""
    model = Model("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
    pooling = model.pooling(bayes=False)
    wide = pooling.wide().droplevel("term")
    fixed = pooling.reml.fixef()["estimate"]
    within = model.spec.frame.assign(y=model.spec.y)
    slopes = {"A": 0.0, "B": fixed["recipe[B]:temp"], "C": fixed["recipe[C]:temp"]}
    for level in ("A:1", "B:7", "C:15"):
        recipe, replicate = level.split(":")
        rows = within[(within["recipe"].astype(str) == recipe) & (within["replicate"].astype(str) == replicate)]
        shift = 0.0 if recipe == "A" else fixed[f"recipe[{recipe}]"]
        # balanced: the common slopes are the same within and by REML
        own = rows["y"].mean() - shift - (fixed["temp"] + slopes[recipe]) * rows["temp"].mean()
        assert wide.loc[level, "none"] == pytest.approx(own, rel=1e-6)
    toward = (wide["REML"] - fixed["Intercept"]) / (wide["none"] - fixed["Intercept"])
    assert toward.to_numpy() == pytest.approx(np.full(45, toward.iloc[0]), rel=1e-5)  # one shrinkage factor: balanced
    assert 0 < toward.iloc[0] < 1


def test_bayes_is_the_fit_given_or_one_made_now(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    fit = hand_made(model)
    pooling = model.pooling(bayes=fit)
    assert list(pooling.wide().columns) == ["complete", "none", "REML", "Bayes"]
    assert part(pooling, "Bayes")["estimate"].to_numpy() == pytest.approx(fit.coef()["estimate"].to_numpy())
    asked = {}
    monkeypatch.setattr(Model, "fit", lambda self, **options: asked.update(options) or fit)
    assert model.pooling(draws=7).bayes is fit
    assert asked == {"draws": 7}
    assert list(pooling.table("Days")["term"].unique()) == ["Days"]
    assert "Pooling of Intercept, Days by Subject" in repr(pooling)
    assert "<table" in pooling._repr_html_()


def test_the_t_test_of_the_glasgow_text() -> None:
    """Printed there (R's t.test of the 18 no-pooling slopes of sleep2): t = 6.1971, df = 17, p-value = 9.749e-06."""
    pooling = Model("Reaction ~ days_deprived + (days_deprived | Subject)", load_dataset("sleep2")).pooling(bayes=False)
    row = pooling.t_test("days_deprived").loc["days_deprived"]
    assert row["t"] == pytest.approx(6.1971, abs=5e-5)  # as printed
    assert row["df"] == 17
    assert row["p"] == pytest.approx(9.749e-06, abs=5e-10)
    own = part(pooling, "none").query("term == 'days_deprived'")["estimate"]
    assert row["estimate"] == pytest.approx(own.mean(), rel=1e-12)
    half = 2.109815578 * own.std() / np.sqrt(18)  # t quantile .975 with 17 df
    assert row["upper"] - row["estimate"] == pytest.approx(half, rel=1e-8)
    with pytest.raises(UnknownNameError, match="Did you mean 'days_deprived'"):
        pooling.t_test("days_deprivd")


def test_shrinkage_of_one_effect_is_the_share_of_its_own_information() -> None:
    """Dyestuff, 5 rows a batch: tau^2 / (tau^2 + sigma^2 / 5), the same for every batch (Efron and Morris 1977)."""
    pooling = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).pooling(bayes=False)
    tau2 = pooling.reml.varcorr()["vcov"].iloc[0]
    expected = tau2 / (tau2 + pooling.reml.sigma**2 / 5)
    table = pooling.shrinkage()
    assert table["factor"].to_numpy() == pytest.approx(np.full(6, expected), rel=1e-8)
    assert pooling.shrinkage_matrix("A").loc["Intercept", "Intercept"] == pytest.approx(expected, rel=1e-8)
    own = part(pooling, "none")["estimate"]
    moved = (expected - 1) * (own - pooling.reml.fixef().loc["Intercept", "estimate"])
    assert table["moved"].to_numpy() == pytest.approx(moved.to_numpy(), rel=1e-6)


@pytest.mark.parametrize("formula", ["Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (Days || Subject)"])
def test_the_shrinkage_matrix_carries_own_effects_to_the_modes(formula: str) -> None:
    """Modes = matrix x (own coefficients - population), with weights; the algebra of least squares and of BLUPs."""
    d = load_dataset("sleepstudy")
    d = d.assign(w=np.random.default_rng(2).uniform(0.5, 2, len(d)))
    pooling = Model(formula, d, weights="w").pooling(bayes=False)
    fixed = pooling.reml.fixef()["estimate"]
    for level in ("308", "335"):
        own = pooling.wide().loc[level, "none"] - fixed
        modes = pooling.wide().loc[level, "REML"] - fixed
        matrix = pooling.shrinkage_matrix(level)
        assert (matrix.to_numpy() @ own[matrix.columns].to_numpy()) == pytest.approx(
            modes[matrix.index].to_numpy(), rel=1e-6
        )


@pytest.mark.filterwarnings("ignore::hiermod.errors.SingularFitWarning")
def test_shrinkage_at_the_edges() -> None:
    """tau = 0 is fully pooled; a level of one row has a factor though no slope of its own; all lie in [0, 1]."""
    flat = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff2")).pooling(bayes=False)
    assert (flat.shrinkage()["factor"] == 0).all()
    assert (flat.shrinkage_matrix("A") == 0).all(axis=None)
    part_ = Model("reaction ~ days + (days | subject)", load_dataset("sleep_partial")).pooling(bayes=False)
    table = part_.shrinkage()
    assert table["factor"].between(0, 1).all()
    lone = table[table["level"] == "373"].set_index("term")
    assert 0 < lone.loc["days", "factor"] < table.query("term == 'days'")["factor"].max()
    assert np.isnan(lone.loc["days", "moved"])
    with pytest.raises(UnknownNameError, match="no level 'Q'"):
        flat.shrinkage_matrix("Q")


def test_a_singular_fit_is_told_at_the_persons_own_line() -> None:
    with pytest.warns(SingularFitWarning) as caught:
        Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff2")).pooling(bayes=False)
    assert [one.filename for one in caught] == [__file__]


def test_the_grouping_factor_is_chosen_by_name() -> None:
    model = Model("strength ~ 1 + (1 | batch) + (1 | cask:batch)", load_dataset("pastes"))
    assert model.pooling(bayes=False).group == "batch"
    assert len(part(model.pooling(bayes=False, group="cask:batch"), "none")) == 30
    with pytest.raises(UnknownNameError, match="Did you mean 'batch'"):
        model.pooling(bayes=False, group="batc")


def test_what_cannot_be_pooled() -> None:
    d = load_dataset("sleepstudy")
    model = Model("Reaction ~ Days + (Days | Subject)", d)
    with pytest.raises(UnsupportedError, match="no group effects"):
        Model("Reaction ~ Days", d).pooling()
    with pytest.raises(UnsupportedError, match="poisson"):
        Model("Days ~ 1 + (1 | Subject)", d, family="poisson").pooling()
    with pytest.raises(ArgumentTypeError, match="another model"):
        model.pooling(bayes=hand_made(Model("Reaction ~ (1 | Subject)", d)))
    with pytest.raises(ArgumentTypeError, match="got str"):
        model.pooling(bayes="yes")
