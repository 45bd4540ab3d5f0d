"""Influence of groups and rows: held variance parameters against brute force, refits against R."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, SingularFitWarning, UnknownNameError
from hiermod.fits.frequentist import FrequentistFit
from hiermod.inference.assumptions import deletion, leverage
from hiermod.inference.assumptions.deletion import held_deletion
from hiermod.model import Model

MEASURES = ["cooks_distance", "mdffits", "covratio"]


def brute_force(fit: FrequentistFit, codes: np.ndarray, U: int) -> pd.DataFrame:
    """Generalised least squares with dense V, once for each unit left out; theta and sigma as estimated."""
    d, record = fit.design, fit.record
    n, q = d.nobs, int(d.estimable.sum())
    w = np.ones(n) if d.weights is None else d.weights
    w = w if d.se is None else 1 / d.se**2
    V = np.diag(1 / w) * record.sigma**2
    for block, cov in zip(d.blocks, getattr(record, "covariance", ()), strict=True):
        Z = np.zeros((n, len(block.levels), block.size))
        Z[np.arange(n), block.codes] = block.values
        Z = Z.reshape(n, -1)
        V = V + Z @ np.kron(np.eye(len(block.levels)), cov) @ Z.T
    X, y = d.X[:, d.estimable], d.y if d.offset is None else d.y - d.offset

    def gls(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        P = np.linalg.inv(X[rows].T @ np.linalg.solve(V[np.ix_(rows, rows)], X[rows]))
        return P @ X[rows].T @ np.linalg.solve(V[np.ix_(rows, rows)], y[rows]), P

    all_beta, all_P = gls(np.arange(n))
    hat = X @ all_P @ X.T @ np.linalg.inv(V)
    joint = np.eye(n) - np.linalg.inv(V) @ (np.eye(n) - hat) * record.sigma**2 / w[:, None]
    lines = []
    for u in range(U):
        beta, P = gls(np.flatnonzero(codes != u))
        moved = all_beta - beta
        mine = codes == u
        lines.append(
            [
                moved @ np.linalg.solve(all_P, moved) / q,
                moved @ np.linalg.solve(P, moved) / q,
                np.linalg.det(P) / np.linalg.det(all_P),
                np.diag(joint)[mine].sum(),
                np.diag(hat)[mine].sum(),
                *(moved / np.sqrt(np.diag(P))),
                *moved,
            ]
        )
    names = [name for name, kept in zip(d.common, d.estimable, strict=True) if kept]
    columns = [*MEASURES, "leverage", "leverage_common"]
    return pd.DataFrame(lines, columns=[*columns, *(f"dfbetas[{k}]" for k in names), *(f"change[{k}]" for k in names)])


WEIGHTED = {"weights": np.linspace(0.5, 2.0, 270)}
HELD: list[Any] = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "Subject", {}),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", None, {}),
    ("sleepstudy", "Reaction ~ Days + offset(Days) + (1 | Subject)", "Days", {}),  # any column can be left out by
    ("pastes", "strength ~ 1 + (1 | batch/cask)", "batch:cask", {}),  # nested: both eliminated
    ("pastes", "strength ~ 1 + (1 | batch/cask)", "batch", {}),
    ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "sample", {}),  # crossed: one in the dense tail
    ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "plate", {}),
    ("cake", "angle ~ recipe * temp + (temp | replicate) + (1 | replicate:recipe)", "replicate", WEIGHTED),
    ("eight_schools", "effect ~ 1 + (1 | school)", "school", {"se": "se"}),  # singular, and sigma known
    ("mtcars", "mpg ~ wt + hp", None, {}),
]


@pytest.mark.filterwarnings("ignore::hiermod.errors.SingularFitWarning")
@pytest.mark.parametrize(("data", "formula", "group", "options"), HELD)
def test_held_measures_are_those_of_dense_algebra(data: str, formula: str, group: str | None, options: Any) -> None:
    fit = Model(formula, load_dataset(data), **options).reml()
    table = fit.influence(group)
    if group is None:
        codes = np.arange(fit.nobs)
    else:
        codes = pd.factorize(fit.design.frame[group].astype(str))[0] if group in fit.design.frame else None
        block = [block for block in fit.design.blocks if block.factor == group]
        codes = block[0].codes if block else codes
    with threadpool_limits(1):  # small products: threads would only spin
        expected = brute_force(fit, codes, len(table))
    for name in expected:  # identities; 1e-8: dense V of 270 rows has condition numbers up to 1e6
        scale = np.abs(expected[name]).max()
        assert table[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-8, abs=1e-8 * scale), name
    assert table["leverage_common"].sum() == pytest.approx(fit.design.estimable.sum(), rel=1e-9)
    assert table["rows"].sum() == fit.nobs
    assert not any(name.startswith("change[") and "sigma" in name for name in table)
    if fit.is_mixed:
        assert "held" in table.attrs["notes"][0]


def test_rank_deficient_columns_are_nan_and_the_rest_stands() -> None:
    d = load_dataset("sleepstudy").assign(Twice=lambda d: 2 * d["Days"])
    with pytest.warns(UserWarning, match="rank deficient"):
        model = Model("Reaction ~ Days + Twice + (Days | Subject)", d)
    table = model.reml().influence("Subject")
    assert table["change[Twice]"].isna().all()
    plain = Model("Reaction ~ Days + (Days | Subject)", d).reml().influence("Subject")
    for name in [*MEASURES, "dfbetas[Days]"]:
        assert table[name].to_numpy() == pytest.approx(plain[name].to_numpy(), rel=1e-6)  # two optimisations of theta


def test_large_groups_take_another_way_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compression of rows that share their levels, and a factorisation without the group, against the plain way."""
    rng = np.random.default_rng(3)
    n = 400
    d = pd.DataFrame({"g": rng.integers(0, 4, n), "h": rng.integers(0, 9, n), "x": rng.normal(size=n)})
    d["y"] = rng.normal(size=n) + d["x"] + rng.normal(size=4)[d["g"]]
    d["y"] += rng.normal(size=9)[d["h"]] + d["x"] * (rng.normal(size=9)[d["h"]] + rng.normal(size=4)[d["g"]])
    d = d.astype({"g": str, "h": str}).assign(w=rng.uniform(0.5, 2.0, n))
    fit = Model("y ~ x + (1 | g) + (x | h)", d, weights="w").ml()
    arguments = (fit.record, fit.design, fit.design.blocks[0].codes, fit.design.blocks[0].levels)
    taken = []
    shorten = leverage.SeenRows.compressed

    def watched(rows: leverage.SeenRows) -> leverage.SeenRows:
        found = shorten(rows)
        taken.append((len(rows), len(found)))
        return found

    monkeypatch.setattr(leverage.SeenRows, "compressed", lambda rows: rows)
    plain = held_deletion(*arguments)
    monkeypatch.setattr(deletion, "MANY", 20)
    without = held_deletion(*arguments)
    monkeypatch.setattr(leverage.SeenRows, "compressed", watched)
    monkeypatch.setattr(deletion, "MANY", 1000)
    one_factor = Model("y ~ x + (x | g)", d).ml()
    mine = (one_factor.record, one_factor.design, one_factor.design.blocks[0].codes, one_factor.design.blocks[0].levels)
    short = held_deletion(*mine)
    monkeypatch.setattr(leverage, "FEW", 10_000)
    long = held_deletion(*mine)
    assert [less for _, less in taken[:4]] == [5, 5, 5, 5]  # two columns of Z, two of X, one of residuals
    for a, b in ((plain, without), (short, long)):
        for name in ("cooks_distance", "mdffits", "covratio", "leverage", "leverage_common", "change", "dfbetas"):
            # 1e-7: the factorisation without the group starts from rounded theta and cancels in the change
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-7, abs=1e-9), name


def test_leverage_is_hatvalues_and_linear_models_are_rs() -> None:
    sleep = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml().influence()
    # R 4.2, lme4 1.1-31: hatvalues(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)); 1e-6: theta at tolerance
    expected = [0.229302994840, 0.169729249033, 0.126823217079, 0.100584898979]
    assert sleep["leverage"].to_numpy()[:4] == pytest.approx(expected, rel=1e-6)
    assert sleep["leverage"].sum() == pytest.approx(29.0220668904, rel=1e-6)
    d = load_dataset("mtcars").set_index("model")
    cars = Model("mpg ~ wt + hp", d).reml().influence()
    # R: cooks.distance, hatvalues and dfbeta of lm(mpg ~ wt + hp, mtcars); printed to 12 digits
    assert cars["cooks_distance"][["Chrysler Imperial", "Maserati Bora"]].to_numpy() == pytest.approx(
        [0.423610901624, 0.272039748707], rel=1e-10
    )
    assert cars["leverage"]["Maserati Bora"] == pytest.approx(0.394208157647, rel=1e-10)
    changes = cars.loc["Chrysler Imperial", ["change[Intercept]", "change[wt]", "change[hp]"]].to_numpy(float)
    assert changes == pytest.approx([-1.35219605468536, 0.54182763667579, -0.00122324808023], rel=1e-10)
    assert Model("mpg ~ wt + hp", d).ml().influence()["cooks_distance"].to_numpy() == pytest.approx(
        cars["cooks_distance"].to_numpy(), rel=1e-12
    )


def test_refits_are_lme4s() -> None:
    fit = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()
    table = fit.influence("Subject", refit=True)
    # lme4 1.1-31: influence(lmer(..., optimizer = "bobyqa"), "Subject", maxfun = 1e5)
    #   [["var.cov.comps[-Subject]"]] (sigma^2, var, cov, var) and dfbetas() with the sign turned.
    # lme4 subtracts the other way round; 2e-4: its stopping rule
    without = fit.parameters()["estimate"] - table.filter(like="change[").rename(columns=lambda name: name[7:-1])
    for subject, variances in {
        "308": (559.177301769, 694.130961968, 8.14604073484, 30.4747301449),
        "335": (685.841754318, 644.848583175, 19.95635634524, 25.5917984637),
    }.items():
        sd0, sd1, corr, sigma = (
            without.loc[subject, name]
            for name in ("1|Subject_sigma", "Days|Subject_sigma", "Subject_corr[Intercept,Days]", "sigma")
        )
        assert (sigma**2, sd0**2, sd1**2) == pytest.approx((variances[0], variances[1], variances[3]), rel=2e-4)
        assert corr * sd0 * sd1 == pytest.approx(variances[2], abs=0.03)
    assert without.loc["308", ["Intercept", "Days"]].to_numpy(float) == pytest.approx(
        [251.829365775, 9.80273204991], rel=1e-9
    )
    found = table.loc[["308", "335", "337"], ["dfbetas[Intercept]", "dfbetas[Days]"]].to_numpy()
    expected = -np.array([[0.0587248529, -0.4489274575], [-0.0949862609, 0.5559939517], [-0.3335869719, -0.3247732662]])
    assert found == pytest.approx(expected, rel=1e-4)
    # lme4's dfbeta'vcov^-1 dfbeta / 2 of the same object
    assert table.loc[["308", "309"], "cooks_distance"].to_numpy() == pytest.approx([0.09241704, 0.14852480], rel=1e-5)


def test_refits_of_a_generalised_fit_are_lme4s_and_one_step_is_near() -> None:
    d = load_dataset("cbpp")
    fit = Model("p(incidence, size) ~ period + (1 | herd)", d, family="binomial").ml()
    refitted, held = fit.influence("herd", refit=True), fit.influence("herd")
    assert "One step" in held.attrs["notes"][0]
    # lme4 1.1-31: influence(glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial), "herd");
    # 6e-4: glmer's default stopping rule
    without = fit.fixef()["estimate"].to_numpy() - refitted.loc[["1", "14"]].filter(like="change[").to_numpy()[:, :4]
    expected = [
        [-1.3747974557, -1.162073435961, -1.473720806856, -1.58275241804],
        [-1.5495544144, -0.874363989290, -0.994686298367, -1.45344113606],
    ]
    assert without == pytest.approx(np.array(expected), rel=6e-4)
    sd = fit.varcorr()["sdcor"][0] - refitted["change[1|herd_sigma]"]
    assert (sd[["1", "14"]] ** 2).to_numpy() == pytest.approx([0.389841607119, 0.326290011522], rel=1e-3)
    # One step against the refits: the same herds, and nearly the same distances.
    assert held["cooks_distance"].corr(refitted["cooks_distance"], method="spearman") > 0.95
    assert held["cooks_distance"].to_numpy() == pytest.approx(refitted["cooks_distance"].to_numpy(), abs=0.05)
    # R's cooks.distance(glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp)); 1e-8: where IRLS stops
    rows = Model("p(incidence, size) ~ period", d, family="binomial").ml().influence()
    assert rows["cooks_distance"].to_numpy()[:5] == pytest.approx(
        [0.00668990437661, 0.07459330316742, 0.23835671410509, 0.00203641141141, 0.02067486724888], rel=1e-8
    )
    again = Model("p(incidence, size) ~ period", d, family="binomial").ml().influence("period", refit=True)
    assert again["change[period[2]]"].isna().tolist() == [False, True, False, False]


def test_cores_do_not_change_the_numbers() -> None:
    fit = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).reml()
    one, two = (fit.influence(None, refit=True, cores=cores) for cores in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_what_cannot_be_had_is_nan_and_said() -> None:
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(list("abcde"), 4), "late": np.repeat([0, 0, 0, 0, 1], 4)})
    d["y"] = rng.normal(size=20) + rng.normal(size=5).repeat(4)
    fit = Model("y ~ late + (1 | g)", d).reml()
    for refit in (False, True):
        table = fit.influence("g", refit=refit)
        assert table.loc["e", [*MEASURES, "dfbetas[Intercept]"]].isna().sum() == 4
        assert table.loc["e", "leverage_common"] == pytest.approx(1.0)
        assert table.loc["a":"d"].notna().all().all()
        assert any("without e" in note and "late" in note for note in table.attrs["notes"])


def test_a_refit_that_cannot_be_made_is_told() -> None:
    d = load_dataset("penicillin")
    fit = Model("diameter ~ 1 + (1 | plate) + (1 | sample)", d[d["sample"].isin(["A", "B"])]).reml()
    with pytest.warns(SingularFitWarning):  # of this small model itself, not of the refits
        small = Model("diameter ~ 1 + (1 | plate)", d.iloc[[0, 6, 7, 12]]).reml()
    table = small.influence("plate", refit=True)
    assert table["cooks_distance"].isna().any()
    assert any("levels for" in note or "asks for as many" in note for note in table.attrs["notes"])
    assert fit.influence("sample", refit=True)["rows"].tolist() == [24, 24]


def test_bad_arguments_are_refused() -> None:
    fit = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).reml()
    with pytest.raises(UnknownNameError, match="Did you mean 'Subject'"):
        fit.influence("subject")
    with pytest.raises(ArgumentError, match="cores must be"):
        fit.influence("Subject", refit=True, cores=0)
    one = replace(fit.design, frame=fit.design.frame.assign(Reaction=1.0))
    with pytest.raises(ArgumentError, match="has one level"):
        FrequentistFit(one, fit.record).influence("Reaction")
