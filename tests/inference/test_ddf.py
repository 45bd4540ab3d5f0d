"""Satterthwaite and Kenward-Roger: against lmerTest and pbkrtest, against dense algebra, against exact designs.

Reference values: tests/reference/lme4 (lmerTest 3.1-3, pbkrtest 0.5.2).  lmerTest differentiates numerically at a fit
that lme4's default optimiser left up to 2e-4 of a standard error from the optimum: hence 2e-4 for its df, and 1e-3 at a
singular fit.  Kenward-Roger moves with theta in the same way: 1e-3 in df and se."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import read_reference
from kernel_cases import dense_parts, frame
from reference_fits import INDEX, fitted, our_name
from scipy import stats

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.mixed import MixedFit, fit_mixed
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from hiermod.formula.build import build_design
from hiermod.inference.coefficient_tests import kenward_roger_sums
from hiermod.inference.coefficient_tests.kenward_roger import kenward_roger
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite
from hiermod.inference.coefficient_tests.tables import fixef, linear_tests
from hiermod.model import Model

BIG = {"insteval"}
SATTERTHWAITE = [c for c in INDEX if c not in BIG and "satterthwaite" in read_reference(c)]
KENWARD_ROGER = [c for c in INDEX if c not in BIG and "kenward_roger" in read_reference(c)]


def holes() -> pd.DataFrame:
    """The cake data with rows left out, so that nothing is balanced, and weights."""
    d = load_dataset("cake")
    i = np.arange(len(d))
    d["w"] = 1.0 + i % 3
    return d[(i % 7 != 0) & ~((d["recipe"] == "A") & (i % 4 == 1))].reset_index(drop=True)


@pytest.mark.parametrize("case", SATTERTHWAITE)
def test_satterthwaite_is_lmertests(case: str) -> None:
    r, fit = fitted(case)
    expected = {our_name(r, name): df for name, df in r["satterthwaite"]["df"].items()}
    table = fixef(fit, ddf="satterthwaite").loc[list(expected)]
    room = 1e-3 if r["singular"] else 2e-4
    assert table["df"].to_numpy() == pytest.approx(list(expected.values()), rel=room)
    assert table["std_error"].to_numpy() == pytest.approx(list(r["se"].values()), rel=2e-4)
    # a tail probability: what t and df are off by, times about t^2
    t = np.abs(table["t"].to_numpy())
    p = np.array(list(r["satterthwaite"]["p"].values()))
    assert (np.abs(np.log(table["p"].to_numpy() / p)) < 2e-4 * (5.0 + t**2)).all()
    half = stats.t.ppf(0.975, table["df"]) * table["std_error"]
    assert (table["upper"] - table["estimate"]).to_numpy() == pytest.approx(half.to_numpy())


@pytest.mark.parametrize("case", KENWARD_ROGER)
def test_kenward_roger_is_pbkrtests(case: str) -> None:
    r, fit = fitted(case)
    expected = {our_name(r, name): df for name, df in r["kenward_roger"]["df"].items()}
    table = fixef(fit, ddf="kenward-roger").loc[list(expected)]
    assert table["df"].to_numpy() == pytest.approx(list(expected.values()), rel=1e-3)
    assert table["std_error"].to_numpy() == pytest.approx(list(r["kenward_roger"]["se"].values()), rel=1e-3)
    assert table["t"].to_numpy() == pytest.approx((table["estimate"] / table["std_error"]).to_numpy())


@pytest.mark.slow  # 3 s
def test_satterthwaite_of_three_crossed_factors_in_73421_rows() -> None:
    r, fit = fitted("insteval")
    expected = {our_name(r, name): df for name, df in r["satterthwaite"]["df"].items()}
    assert fixef(fit)["df"][list(expected)].to_numpy() == pytest.approx(list(expected.values()), rel=2e-4)


def test_prior_weights() -> None:
    """lmerTest 3.1-3: coef(summary(lmer(angle ~ recipe * temp + (1 | recipe:replicate), weights = w))), bobyqa 1e-9."""
    fit = Model("angle ~ recipe * temp + (1 | recipe:replicate)", holes(), weights="w").reml()
    df = [180.2386293, 182.6963848, 182.7634951, 165.2614304, 164.8698486, 164.8523437]
    assert fixef(fit)["df"].to_numpy() == pytest.approx(df, rel=1e-5)  # six digits of numerical derivatives


def test_contrasts_row_by_row() -> None:
    """lmerTest 3.1-3: contest(m, L, joint = FALSE), both methods, bobyqa 1e-9; printed to ten digits."""
    fit = Model("angle ~ recipe + temp + (1 | replicate)", holes()).reml()
    L = np.array([[0.0, 1, -1, 0], [0, 1, 0, 10]])
    table = linear_tests(fit, L, ["B - C", "mixed"])
    assert table["estimate"].to_numpy() == pytest.approx([-0.47493996972, -0.05770899721], rel=1e-6)
    assert table["df"].to_numpy() == pytest.approx([193.0060964, 193.0512787], rel=1e-6)
    assert table["p"].to_numpy() == pytest.approx([0.5258248923, 0.9444378037], rel=1e-6)
    assert table["lower"].to_numpy() == pytest.approx([-1.948851037, -1.688757231], rel=1e-6)
    adjusted = linear_tests(fit, L, ddf="kenward-roger")
    assert adjusted["df"].to_numpy() == pytest.approx([193.0233144, 193.0684452], rel=1e-6)
    assert adjusted["std_error"].to_numpy() == pytest.approx([0.7473007785, 0.8269883385], rel=1e-6)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_balanced_designs_have_the_classical_degrees_of_freedom(ddf: str) -> None:
    """Closed form, where REML is the analysis of variance: groups - 1, and the strata of a split plot."""
    one_way = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).reml()
    assert fixef(one_way, ddf=ddf)["df"].iloc[0] == pytest.approx(6 - 1, rel=1e-6)  # theta is known to about 1e-8
    cake = load_dataset("cake")
    split = Model("angle ~ recipe + temperature + (1 | recipe:replicate)", cake).reml()
    rows = np.array([[0, 1, -1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, -1.0]])
    df = linear_tests(split, rows, ddf=ddf)["df"].to_numpy()
    assert df == pytest.approx([45 - 3, 270 - 45 - 5], rel=1e-6)
    nested = Model("strength ~ 1 + (1 | batch) + (1 | cask:batch)", load_dataset("pastes")).reml()
    assert fixef(nested, ddf=ddf)["df"].iloc[0] == pytest.approx(10 - 1, rel=1e-5)


FORMULAS = {
    "slopes": ("y ~ x + (x | a)", {}),
    "crossed": ("y ~ x + z + (x | a) + (1 | b)", {"weights": "w"}),
    "nested": ("y ~ x + (z | site) + (x | batch) + (1 | cask)", {}),
    "known se": ("y ~ x + (x || a) + (1 | b)", {"se": "w"}),
}


@pytest.mark.parametrize("factorised", [kenward_roger_sums.FACTORISED, 0], ids=["stacks", "one piece"])
@pytest.mark.parametrize("name", FORMULAS)
def test_kenward_roger_against_the_formulas_written_densely(name: str, factorised: int, monkeypatch) -> None:
    """Kenward and Roger (1997), equations of section 2, with n x n matrices and without this package's shortcuts."""
    formula, options = FORMULAS[name]
    fit = fit_mixed(build_design(formula, frame(), **options))
    monkeypatch.setattr(kenward_roger_sums, "FACTORISED", factorised)
    found = kenward_roger(fit)
    vcov, df = dense_kenward_roger(fit)
    # two routes through matrices of condition 1e4 or so
    assert found.vcov == pytest.approx(vcov, rel=1e-8, abs=1e-10 * np.abs(vcov).max())
    assert found.df(np.eye(len(vcov))) == pytest.approx(df, rel=1e-7)


def dense_kenward_roger(fit: MixedFit) -> tuple[np.ndarray, list[float]]:
    _, X, Z, _, noise = dense_parts(fit.design, fit.Lambda)
    directions, start, V = [], 0, fit.sigma**2 * np.diag(noise)
    for block, cov in zip(fit.design.blocks, fit.covariance, strict=True):
        J, k = len(block.levels), block.size
        own = Z[:, start : start + J * k]
        start += J * k
        for a in range(k):
            for c in range(a + 1):
                unit = np.zeros((k, k))
                unit[a, c] = unit[c, a] = 1.0
                directions.append(own @ np.kron(np.eye(J), unit) @ own.T)
                V = V + cov[a, c] * directions[-1]
    if not fit.sigma_known:
        directions.append(np.diag(noise))
    M = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ M @ X)
    P = [-X.T @ M @ G @ M @ X for G in directions]
    v = len(directions)
    Q = [[X.T @ M @ G @ M @ H @ M @ X for H in directions] for G in directions]
    info = np.array(
        [
            [
                np.trace(M @ directions[r] @ M @ directions[s])
                - 2 * np.trace(Phi @ Q[r][s])
                + np.trace(Phi @ P[r] @ Phi @ P[s])
                for s in range(v)
            ]
            for r in range(v)
        ]
    )
    W = 2 * np.linalg.inv(info)
    U = sum(W[r, s] * (Q[r][s] - P[r] @ Phi @ P[s]) for r in range(v) for s in range(v))
    # one row: A1 = A2 = A, so the df of the paper is 2 / A (Halekoh and Hojsgaard 2014, section 4)
    g = np.array([-np.diag(Phi @ p @ Phi) for p in P])
    A = np.einsum("vi,vw,wi->i", g, W, g) / np.diag(Phi) ** 2
    return Phi + 2 * Phi @ U @ Phi, list(2 / A)


@pytest.mark.parametrize(("name", "reml"), [("slopes", False), ("crossed", True), ("known se", True)])
def test_satterthwaite_against_differences_of_dense_algebra(name: str, reml: bool) -> None:
    """The definition: variance of l'V l by the delta method, in (theta, sigma) and by differences of n x n formulas."""
    formula, options = FORMULAS[name]
    fit = fit_mixed(build_design(formula, frame(), **options), reml=reml)
    y, X, Z, _, noise = dense_parts(fit.design, fit.Lambda)
    p = X.shape[1]

    def parts(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        sigma = 1.0 if fit.sigma_known else parameters[-1]
        theta = parameters if fit.sigma_known else parameters[:-1]
        lambdas = fit.problem.template.unpack(theta)
        G = dense_parts(fit.design, lambdas)[3]
        V = sigma**2 * (Z @ G @ Z.T + np.diag(noise))
        M = np.linalg.inv(V)
        information = X.T @ M @ X
        rest = y - X @ np.linalg.solve(information, X.T @ M @ y)
        deviance = np.linalg.slogdet(V)[1] + rest @ M @ rest
        return deviance + (np.linalg.slogdet(information)[1] if reml else 0.0), np.linalg.inv(information)

    at = np.array(fit.theta) if fit.sigma_known else np.append(fit.theta, fit.sigma)
    steps = np.diag(2e-3 * np.maximum(np.abs(at), 0.05))
    m = len(at)
    hessian = np.zeros((m, m))
    for i in range(m):
        for j in range(i + 1):
            a, b = steps[i], steps[j]
            second = parts(at + a + b)[0] - parts(at + a - b)[0] - parts(at - a + b)[0] + parts(at - a - b)[0]
            hessian[i, j] = hessian[j, i] = second / (4 * steps[i, i] * steps[j, j])
    gradient = np.array(
        [np.diag(parts(at + steps[i])[1] - parts(at - steps[i])[1]) / (2 * steps[i, i]) for i in range(m)]
    )
    V = np.diag(parts(at)[1])
    df = 2 * V**2 / np.einsum("vi,vw,wi->i", gradient, 2 * np.linalg.inv(hessian), gradient)
    # second differences: the square of the step, and 1e-12 / step^2
    assert satterthwaite(fit).df(np.eye(p)) == pytest.approx(df, rel=2e-3)


def test_a_variance_at_zero_stays_there() -> None:
    """With the group variance at 0 the fit is ordinary least squares: n - p for every coefficient."""
    fit = fitted("different_slopes")[1]
    assert fit.singular
    assert fixef(fit)["df"].to_numpy() == pytest.approx([38.0, 38.0], rel=1e-9)
    assert satterthwaite(fit.record).covariance.shape == (1, 1)  # sigma alone is free
    known = pd.DataFrame(
        {"y": [28.0, 8, -3, 7, -1, 1, 18, 12], "s": [15.0, 10, 16, 11, 9, 11, 10, 18], "g": list("ABCDEFGH")}
    )
    with pytest.warns(UserWarning, match="singular"):
        schools = Model("y ~ 1 + (1 | g)", known, se="s").reml()
    table = fixef(schools)  # no variance left to estimate: the normal distribution, exactly
    assert np.isinf(table["df"].iloc[0])
    assert table["p"].iloc[0] == pytest.approx(2 * stats.norm.sf(table["t"].iloc[0]))
    assert table["upper"].iloc[0] == pytest.approx(table["estimate"].iloc[0] + 1.959964 * table["std_error"].iloc[0])


def test_units_do_not_matter() -> None:
    d = load_dataset("sleep_partial").assign(big=lambda d: 1e6 + 1e3 * d["days"])
    tables = [
        fixef(Model(f"reaction ~ {x} + ({x} | subject)", d).reml(), ddf=ddf)
        for ddf in ("satterthwaite", "kenward-roger")
        for x in ("days", "big")
    ]
    for small, large in (tables[:2], tables[2:]):
        assert large["df"].iloc[1] == pytest.approx(small["df"].iloc[1], rel=1e-5)
        assert large["t"].iloc[1] == pytest.approx(small["t"].iloc[1], rel=1e-6)


def test_coefficients_that_cannot_be_estimated() -> None:
    d = holes()
    with pytest.warns(UserWarning, match="rank deficient"):
        model = Model("angle ~ temp + I(2 * temp) + (1 | replicate)", d)
    fit = model.reml()
    plain = Model("angle ~ temp + (1 | replicate)", d).reml()
    for ddf in ("satterthwaite", "kenward-roger", None):
        table = fixef(fit, ddf=ddf)
        assert table.iloc[2].isna().all()
        assert table.iloc[:2].to_numpy() == pytest.approx(fixef(plain, ddf=ddf).to_numpy(), nan_ok=True)
    combined = linear_tests(fit, np.array([[0, 1.0, 2.0], [0, 1.0, 0.0]]))  # only b1 + 2 b2 is told by the data
    assert combined["estimate"].iloc[0] == pytest.approx(fit.fixef()["estimate"]["temp"])
    assert combined.iloc[1].isna().all()


def test_a_linear_model_has_its_own_degrees_of_freedom() -> None:
    fit = fitted("mtcars_lm")[1]
    for ddf in ("satterthwaite", "kenward-roger", None):
        assert (fixef(fit, ddf=ddf)["df"] == 30.0).all()  # 32 rows, 2 coefficients


def test_what_is_refused_is_refused_in_words(monkeypatch) -> None:
    ml = fitted("sleepstudy_slope_ml")[1]
    with pytest.raises(UnsupportedError, match=r"this one is by ML.*m\.reml\(\)"):
        fixef(ml, ddf="kenward-roger")
    fit = fitted("penicillin")[1]
    with pytest.raises(ArgumentError, match=r"'satterthwait'\. Did you mean 'satterthwaite'"):
        fixef(fit, ddf="satterthwait")
    with pytest.raises(ArgumentTypeError, match="got int"):
        fixef(fit, ddf=5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="1 columns, one for each coefficient"):
        linear_tests(fit, np.ones((2, 3)))
    monkeypatch.setattr(kenward_roger_sums, "LARGEST", 20)
    with pytest.raises(UnsupportedError, match=r"30 group effects into one piece.*limit is 20.*satterthwaite"):
        kenward_roger(fit.record)
