"""ICC and R2 against R's performance 0.10.2 (insight 0.19.0), and by hand from the definitions.

The R fits: lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11)), for glmer tolPwrss = 1e-12; TIGHT is what
two optimisers of one criterion agree to in a ratio of variances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hand_made import hand_made

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError
from hiermod.inference import intervals
from hiermod.inference.marginal_effects.variance_explained import null_count, shares_of_refits
from hiermod.model import Model

TIGHT = 1e-5


@pytest.fixture(scope="module")
def sleepstudy() -> Model:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


def herds(link: str) -> Model:
    return Model("p(incidence, size) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial", link=link)


@pytest.fixture(scope="module")
def ticks() -> Model:
    d = load_dataset("grouseticks")
    return Model(
        "TICKS ~ YEAR + h + (1 | BROOD) + (1 | LOCATION)", d.assign(h=(d["HEIGHT"] - 460) / 100), family="poisson"
    )


def test_random_slopes(sleepstudy: Model) -> None:
    """icc(m), r2(m): the slope's variance counts by Johnson's mean over rows."""
    icc, r2 = sleepstudy.reml().icc(), sleepstudy.reml().r2()
    assert list(icc.columns) == ["group", "icc", "estimate", "lower", "upper"]
    assert icc["group"].to_list() == ["Subject"] * 2
    assert icc["icc"].to_list() == ["adjusted", "unadjusted"]
    assert icc["estimate"].to_numpy() == pytest.approx([0.721658457680, 0.520566854415], rel=TIGHT)
    assert r2.loc["marginal", "estimate"] == pytest.approx(0.278652042562, rel=TIGHT)
    assert r2.loc["conditional", "estimate"] == pytest.approx(0.799218896977, rel=TIGHT)
    assert icc[["lower", "upper"]].isna().all(axis=None)
    assert r2[["lower", "upper"]].isna().all(axis=None)


def test_several_groups_have_a_share_each() -> None:
    """icc(m, by_group = TRUE) of lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin)."""
    fit = Model("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("penicillin")).reml()
    table = fit.icc()
    adjusted = table[table["icc"] == "adjusted"].set_index("group")["estimate"]
    assert list(adjusted.index) == ["(all)", "plate", "sample"]
    assert adjusted.to_numpy() == pytest.approx([0.936336844699, 0.150920357209, 0.785416487490], rel=TIGHT)
    assert fit.icc("plate")["estimate"].to_list() == pytest.approx([adjusted["plate"]] * 2)
    assert fit.r2().loc["marginal", "estimate"] == 0.0  # no predictor
    with pytest.raises(UnknownNameError, match="Did you mean 'plate'"):
        fit.icc("plat")


@pytest.mark.parametrize(
    ("link", "adjusted", "unadjusted"),
    [
        ("logit", 0.111415101830, 0.101898461504),
        ("probit", 0.1025260222260, 0.0946856876391),
        ("cloglog", 0.173040967487, 0.150266765828),
    ],
)
def test_counts_out_of_trials(link: str, adjusted: float, unadjusted: float) -> None:
    """icc(g) of glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), binomial(link))."""
    fit = herds(link).ml()
    assert fit.icc()["estimate"].to_numpy() == pytest.approx([adjusted, unadjusted], rel=TIGHT)
    assert link in fit.icc().attrs["notes"][0]
    if link == "logit":
        assert fit.r2()["estimate"].to_list() == pytest.approx([0.0854160716965, 0.1873145332003], rel=TIGHT)


def test_poisson_takes_the_count_of_the_null_model(ticks: Model) -> None:
    """icc(p), r2(p), icc(p, by_group = TRUE)."""
    fit = ticks.ml()
    table = fit.icc()
    assert table["estimate"].iloc[:2].to_list() == pytest.approx([0.664580722586, 0.295764382614], rel=TIGHT)
    assert table["estimate"].iloc[[2, 4]].to_list() == pytest.approx([0.426976268818, 0.237604453769], rel=TIGHT)
    assert fit.r2()["estimate"].to_list() == pytest.approx([0.554960936179, 0.850725318792], rel=TIGHT)
    null = Model("TICKS ~ 1 + (1 | BROOD) + (1 | LOCATION)", load_dataset("grouseticks"), family="poisson").ml()
    count = np.exp(null.fixef().loc["Intercept", "estimate"])  # the same model written out
    assert null_count(fit.design, "log") == pytest.approx(count, rel=1e-6)


def test_models_without_groups() -> None:
    """summary(lm(angle ~ recipe + temp, cake)); glm: var(eta) / (var(eta) + pi^2 / 3), McKelvey and Zavoina's R2."""
    fit = Model("angle ~ recipe + temp", load_dataset("cake")).reml()
    assert fit.r2()["estimate"].to_dict() == pytest.approx({"r2": 0.115846212302, "adjusted": 0.105874553042}, rel=1e-9)
    with pytest.raises(UnsupportedError, match="no group effects"):
        fit.icc()
    glm = Model("p(incidence, size) ~ period", load_dataset("cbpp"), family="binomial").ml()
    spread = np.var(glm.design.X @ glm.fixef()["estimate"].to_numpy(), ddof=1)
    assert glm.r2().loc["r2", "estimate"] == pytest.approx(spread / (spread + np.pi**2 / 3), rel=1e-10)
    assert list(glm.r2().index) == ["r2"]


def by_hand(fit: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fixed, group and residual variance per draw of (1, Days | Subject), row by row with Z spelled out."""
    X = fit.design.X
    beta, sd = fit.record.beta.reshape(-1, 2), fit.record.sd[0].reshape(-1, 2)
    corr, sigma = fit.record.corr[0].reshape(-1, 2, 2), fit.record.sigma.reshape(-1)
    fixed = np.array([np.var(X @ row, ddof=1) for row in beta])
    between = []
    for s, R in zip(sd, corr, strict=True):
        Sigma = np.diag(s) @ R @ np.diag(s)
        between.append(np.mean(np.diag(X @ Sigma @ X.T)))  # Z has X's columns here
    return fixed, np.array(between), sigma**2


def test_a_posterior_draw_by_draw(sleepstudy: Model) -> None:
    fit = hand_made(sleepstudy, beta=[250.0, 10.0], spread=2.0, sds=10.0, draws=100)
    fixed, between, residual = by_hand(fit)
    icc = fit.icc(level=0.8)
    assert list(icc.columns) == ["group", "icc", "estimate", "lower", "upper"]
    for row, values in zip(
        icc.itertuples(),
        (between / (between + residual), between / (fixed + between + residual)),
        strict=True,
    ):
        assert row.estimate == pytest.approx(values.mean(), rel=1e-9)
        assert [row.lower, row.upper] == pytest.approx(np.quantile(values, [0.1, 0.9]), rel=1e-9)
    marginal = fixed / (fixed + between + residual)
    assert fit.r2().loc["marginal", "estimate"] == pytest.approx(marginal.mean(), rel=1e-9)
    assert fit.r2().loc["marginal", "upper"] == pytest.approx(np.quantile(marginal, 0.975), rel=1e-9)
    with pytest.raises(UnsupportedError, match="leave bootstrap out"):
        fit.icc(bootstrap=10)


def test_other_families_of_a_posterior(ticks: Model) -> None:
    fit = hand_made(ticks, beta=[0.5, 1.1, -1.0, -2.3], spread=0.01, sds=0.7, draws=50)
    sd = np.stack([block.reshape(-1) for block in fit.record.sd])
    between = (sd**2).sum(axis=0)
    rest = np.log1p(1 / null_count(fit.design, "log"))
    assert fit.icc()["estimate"].iloc[0] == pytest.approx((between / (between + rest)).mean(), rel=1e-9)
    beta = Model("y ~ 1 + (1 | g)", _shares(), family="beta")
    with pytest.raises(UnsupportedError, match="family 'beta'"):
        hand_made(beta, draws=10).icc()


def _shares() -> Any:
    d = load_dataset("sleepstudy")
    return d.assign(y=d["Reaction"] / 1000, g=d["Subject"])[["y", "g"]]


def test_bootstrap_gives_intervals(sleepstudy: Model) -> None:
    fit = sleepstudy.reml()
    table = fit.icc(bootstrap=40, random_seed=1)
    assert table.equals(fit.icc(bootstrap=40, random_seed=1))
    assert (table["lower"] < table["estimate"]).all()
    assert (table["upper"] > table["estimate"]).all()
    assert table["estimate"].to_list() == fit.icc()["estimate"].to_list()
    with pytest.raises(ArgumentError, match="bootstrap"):
        herds("logit").ml().icc(bootstrap=10)


def test_a_refit_is_read_as_the_fit_itself(sleepstudy: Model) -> None:
    """Identity: a bootstrap whose one refit found the fit's own estimates has the same shares."""
    fit = sleepstudy.reml()
    found = intervals.bootstrap_record(fit.record, 2, random_seed=1, progressbar=False)
    own = fit.parameters()["estimate"]
    values = np.array([[own[intervals.parameter_name(fit.design, one)] for one in found.parameters]])
    shares = shares_of_refits(fit.design, replace(found, values=values, failed=np.zeros(1, dtype=bool)))
    total = float(shares.total[0])
    assert float(shares.fixed[0]) / total == pytest.approx(fit.r2().loc["marginal", "estimate"], rel=1e-10)
    assert float(shares.between[0]) / total == pytest.approx(fit.icc().loc[1, "estimate"], rel=1e-10)


def test_known_sds_and_weights_say_what_stands_for_the_residual() -> None:
    d = load_dataset("eight_schools")
    fit = hand_made(Model("effect ~ 1 + (1 | school)", d, se="se"), sds=5.0, draws=20)
    between = fit.record.sd[0].reshape(-1) ** 2
    expected = between / (between + np.mean(d["se"].to_numpy(dtype=float) ** 2))
    assert fit.icc()["estimate"].iloc[0] == pytest.approx(expected.mean(), rel=1e-9)
    assert "mean of se squared" in fit.icc().attrs["notes"][0]
