"""FrequentistFit through hm.Model against R: what a person who types the same formula reads off.

The numbers are tests/reference/lme4 (lme4 1.1-31 and R 4.2.2's lm); its README gives the tolerances and their reasons.
The engine is held to the `tight` optimum elsewhere; lme4's default optimiser, which made the tables here, stops within
2e-4 of sigma (or of a standard error) of it: that is the tolerance STOP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import read_reference
from reference_fits import INDEX, fitted, our_name
from scipy import stats

from hiermod.datasets import load_dataset
from hiermod.errors import DesignError, UnsupportedError
from hiermod.fits.frequentist import FrequentistFit
from hiermod.model import Model

MIXED = [case for case, row in INDEX.items() if row["kind"].startswith("lmer") and case != "insteval"]  # too big here
LINEAR = [case for case, row in INDEX.items() if row["kind"] == "lm"]
STOP = 2e-4
EXACT = 1e-8  # lm: closed form on both sides


def ours(r: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {our_name(r, name): value for name, value in values.items()}


@pytest.mark.parametrize("case", MIXED)
def test_fixed_effects_and_the_fit_as_a_whole(case: str) -> None:
    r, fit = fitted(case)
    expected, se = ours(r, r["fixef"]), pd.Series(ours(r, r["se"]))
    assert set(fit.fixef().index) == set(expected)
    table = fit.fixef(ddf=None).loc[list(expected)]  # in an interaction formulae varies the last factor fastest
    off = (table["estimate"] - pd.Series(expected)).abs() / se
    assert off.max() < STOP
    assert table["std_error"].to_numpy() == pytest.approx(se.to_numpy(), rel=STOP)
    assert table["t"].to_numpy() == pytest.approx(list(r["t"].values()), rel=2 * STOP, abs=STOP)
    assert table[["df", "p"]].isna().all(axis=None)  # none asked for
    vcov = fit.vcov().loc[list(expected), list(expected)].to_numpy()
    assert vcov == pytest.approx(np.array(r["vcov"]), abs=2 * STOP * float(se.max()) ** 2)
    for level, limits in ours(r, r["confint_wald"]).items():
        assert fit.confint(method="wald").loc[level].to_numpy() == pytest.approx(limits, abs=2 * STOP * se[level])
    # 1e-6, absolute and relative: the criterion of lme4's `tight` fit, which another program confirms to 1e-8
    tight = r["tight"]["criterion"]
    assert fit.criterion == pytest.approx(tight, rel=1e-6, abs=1e-6)
    assert (fit.npar, fit.nobs, fit.ngroups) == (r["npar"], r["n"], dict_in_order(fit, r["ngroups"]))
    assert fit.loglik == pytest.approx(r["logLik"], abs=1e-5)  # the default stop is at most 1e-5 above the optimum
    assert fit.aic == pytest.approx(r["AIC"], abs=2e-5)
    assert fit.bic == pytest.approx(r["BIC"], abs=2e-5)
    assert fit.sigma == pytest.approx(r["sigma"], rel=STOP)
    assert (fit.singular, fit.converged, fit.reml) == (r["singular"], True, r["reml"])


def dict_in_order(fit: FrequentistFit, counts: dict[str, int]) -> dict[str, int]:
    """R lists factors by their number of levels, hiermod as the formula does."""
    return {factor: counts[factor] for factor in fit.ngroups}


@pytest.mark.parametrize("case", MIXED)
def test_variances_and_theta(case: str) -> None:
    r, fit = fitted(case)
    table = fit.varcorr()
    variances = table[table["term2"].isna()]
    found = {
        (row["group"], row["term1"]): row["sdcor"] for _, row in variances.iterrows() if row["group"] != "Residual"
    }
    expected = {}
    for name, block in r["varcorr"].items():
        group = name if name in fit.ngroups else name.rsplit(".", 1)[0]  # lme4: Subject, Subject.1
        for label, sd in zip(block["names"], block["sd"], strict=True):
            expected[group, our_name(r, label)] = sd
    assert set(found) == set(expected)
    for key, sd in expected.items():
        assert found[key] == pytest.approx(sd, abs=STOP * r["sigma"]), key
    assert np.square(variances["sdcor"].to_numpy()) == pytest.approx(variances["vcov"].to_numpy(), rel=1e-12)
    correlations = table[table["term2"].notna()]
    pairs = [block for block in r["varcorr"].values() if len(block["sd"]) == 2]
    assert len(correlations) == len(pairs)
    for (_, row), block in zip(correlations.iterrows(), pairs, strict=True):
        assert [row["term1"], row["term2"]] == [our_name(r, name) for name in block["names"]]
        # a correlation is a ratio of covariances: the error of each, STOP of sigma, over the smaller sd
        room = 10 * STOP * r["sigma"] / max(min(block["sd"]), 1e-3 * r["sigma"])
        assert row["sdcor"] == pytest.approx(block["corr"][0][1], abs=room)
        assert row["vcov"] == pytest.approx(row["sdcor"] * np.prod(block["sd"]), rel=0.01)
    last = table.iloc[-1]
    assert last["group"] == "Residual"
    assert pd.isna(last["term1"])
    assert last["sdcor"] == fit.sigma
    assert list(fit.theta.index) == r["theta_names"]
    assert fit.theta.to_numpy() == pytest.approx(r["theta"], abs=STOP, rel=STOP)


@pytest.mark.parametrize("case", MIXED)
def test_group_effects(case: str) -> None:
    r, fit = fitted(case)
    assert list(fit.ranef().columns) == ["group", "level", "term", "estimate", "std_error", "lower", "upper"]
    for group, block in r["ranef"].items():
        table = fit.ranef(group)
        wide = table.pivot(index="level", columns="term", values="estimate")
        se = table.pivot(index="level", columns="term", values="std_error")
        terms = [our_name(r, name) for name in block["names"]]
        assert set(wide.index) == set(block["levels"])
        assert wide.loc[block["levels"], terms].to_numpy() == pytest.approx(
            np.array(block["values"]), abs=STOP * r["sigma"]
        )
        condsd = np.array(block["condsd"])
        # at a boundary variance the conditional sd goes to 0 like its square root, hence the wider room there
        room = STOP if not r["singular"] else 5e-3
        assert se.loc[block["levels"], terms].to_numpy() == pytest.approx(condsd, abs=room * r["sigma"])
        # coef is fixef + ranef
        coef = fit.coef(group).pivot(index="level", columns="term", values="estimate").loc[block["levels"]]
        for term in terms:
            fixed = fit.fixef()["estimate"].get(term, 0.0)
            assert coef[term].to_numpy() == pytest.approx(fixed + wide.loc[block["levels"], term], rel=1e-10)


@pytest.mark.parametrize("case", MIXED)
def test_fitted_values_residuals_and_predictions(case: str) -> None:
    r, fit = fitted(case)
    room = STOP * r["sigma"]
    assert fit.fitted().head(10).to_numpy() == pytest.approx(r["fitted_head"], abs=room)
    assert fit.residuals().head(10).to_numpy() == pytest.approx(r["resid_head"], abs=room)
    quantiles = np.quantile(fit.residuals("scaled"), [0, 0.25, 0.5, 0.75, 1])
    assert quantiles == pytest.approx(r["scaled_resid_quantiles"], abs=5 * STOP)
    new = r["predict_new"]
    frame = pd.DataFrame(new["newdata"])
    with_re = fit.predict(frame, new_levels="zero")
    assert with_re["estimate"].to_numpy() == pytest.approx(new["with_re"], abs=room)
    population = fit.predict(frame, target="population")
    assert population["estimate"].to_numpy() == pytest.approx(new["re_form_NA"], abs=room)


@pytest.mark.parametrize("case", LINEAR)
def test_a_formula_without_a_bar_is_lm(case: str) -> None:
    r, fit = fitted(case)
    table = fit.fixef()
    for column, key in (("estimate", "fixef"), ("std_error", "se"), ("t", "t")):
        expected = ours(r, r[key])
        assert set(table.index) == set(expected)
        assert table[column][list(expected)].to_numpy() == pytest.approx(
            list(expected.values()), rel=EXACT, abs=EXACT * np.abs(list(expected.values())).max()
        )
    p = ours(r, r["p"])
    assert table["p"][list(p)].to_numpy() == pytest.approx(list(p.values()), rel=1e-6)  # a tail: t's error, multiplied
    assert (table["df"] == r["df_residual"]).all()
    row = fit.glance().iloc[0]
    for column, key in (("sigma", "sigma"), ("r_squared", "r_squared"), ("adj_r_squared", "adj_r_squared")):
        assert row[column] == pytest.approx(r[key], rel=EXACT)
    assert [row["F"], row["df"], row["df_residual"]] == pytest.approx(r["F"], rel=EXACT)
    assert [fit.loglik, fit.aic, fit.bic] == pytest.approx([r["logLik"], r["AIC"], r["BIC"]], rel=EXACT)
    quantiles = np.quantile(fit.residuals(), [0, 0.25, 0.5, 0.75, 1])
    assert quantiles == pytest.approx(r["resid_quantiles"], abs=EXACT * max(map(abs, r["resid_quantiles"])))
    assert np.square(fit.residuals()).sum() == pytest.approx(r["rss"], rel=EXACT)
    # R: confint(lm) has the t distribution with n - p degrees of freedom
    half = stats.t.ppf(0.975, r["df_residual"]) * table["std_error"]
    assert fit.confint(method="wald")["upper"].to_numpy() == pytest.approx(
        (table["estimate"] + half).to_numpy(), rel=EXACT
    )
    for accessor in (fit.ranef, fit.coef):
        assert accessor().empty or not fit.is_mixed
    assert fit.theta.empty
    assert not fit.singular


def test_deviance_is_for_maximum_likelihood() -> None:
    r, fit = fitted("sleepstudy_slope_ml")
    assert fit.deviance == pytest.approx(-2 * r["logLik"], abs=1e-5)
    with pytest.raises(UnsupportedError, match=r"criterion.*ml\(\)"):
        _ = fitted("sleepstudy_slope")[1].deviance


def test_as_many_effects_as_rows_is_refused_in_words() -> None:
    assert "number of observations (=40) <= number of random effects (=40)" in str(
        read_reference("random_slope_per_cell_error")
    )
    model = Model("value ~ 1 + condition + (1 + condition | participant)", load_dataset("different_slopes"))
    with pytest.raises(DesignError, match=r"40 rows.*lme4 refuses this model too"):
        model.reml()
