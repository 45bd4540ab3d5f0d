"""Data at the edge: group effects thousands of times the residual, predictors of size 1e6, exact fits, odd groups.

Closed forms of a balanced one-way layout with a common slope within groups; lme4 1.1-31 by hand where it arrives."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from hiermod.engines.likelihood.mixed import MixedFit, fit_mixed
from hiermod.engines.likelihood.optimise import minimise, minimise_scaled
from hiermod.errors import ConvergenceWarning, DesignError, FitError, SingularFitWarning
from hiermod.formula.build import build_design
from hiermod.model import Model
from hiermod.output.frequentist_text import unconverged

pytestmark = pytest.mark.numeric

GROUPS, ROWS = 8, 6


def balanced(ratio: float) -> pd.DataFrame:
    """Group sd ``ratio`` times the residual's; x sums to 0 in every group."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(GROUPS), ROWS), np.tile(np.arange(ROWS) - (ROWS - 1) / 2, GROUPS)
    e, b = rng.normal(size=GROUPS * ROWS), ratio * rng.normal(size=GROUPS)
    return pd.DataFrame({"y": 5 + b[g] + 0.3 * x + e, "x": x, "g": pd.Categorical(g)})


def closed(d: pd.DataFrame) -> dict[str, float]:
    """Sums of squares by hand: E[SSB / (a - 1)] = s2 + m tau2, the slope from within groups."""
    means = d.groupby("g", observed=True)["y"].transform("mean")
    within = d["y"] - means
    slope = float(within @ d["x"] / (d["x"] @ d["x"]))
    s2 = float(((within - slope * d["x"]) ** 2).sum()) / (GROUPS * (ROWS - 1) - 1)
    msb = float(((means - means.mean()) ** 2).sum()) / (GROUPS - 1)
    tau2 = (msb - s2) / ROWS
    se = (np.sqrt(msb / (GROUPS * ROWS)), np.sqrt(s2 / (d["x"] @ d["x"])))
    return {"s2": s2, "tau2": tau2, "slope": slope, "se0": se[0], "se1": float(se[1])}


# Elimination loses theta^2 of the last digits: 1e-16 theta^2 rows, of the sums of squares, hence the tolerances.
@pytest.mark.parametrize(("ratio", "tolerance"), [(1, 1e-6), (1e2, 5e-6), (1e3, 1e-5), (1e4, 5e-5), (1e5, 1e-3)])
def test_group_effects_that_dwarf_the_residual(ratio: float, tolerance: float) -> None:
    d = balanced(ratio)
    exact, fit = closed(d), Model("y ~ x + (1 | g)", d).reml()
    assert fit.converged
    assert fit.sigma == pytest.approx(np.sqrt(exact["s2"]), rel=tolerance)
    assert fit.varcorr()["sdcor"].iloc[0] == pytest.approx(np.sqrt(exact["tau2"]), rel=tolerance)
    table = fit.fixef()
    assert table.loc["x", "estimate"] == pytest.approx(exact["slope"], rel=10 * tolerance)
    assert table["std_error"].tolist() == pytest.approx([exact["se0"], exact["se1"]], rel=tolerance)
    degrees = [GROUPS - 1, GROUPS * (ROWS - 1) - 1]
    assert table["df"].tolist() == pytest.approx(degrees, rel=max(10 * tolerance, 1e-4))
    F = fit.anova()
    assert F.loc["x", "F"] == pytest.approx((exact["slope"] / exact["se1"]) ** 2, rel=20 * tolerance)
    assert F.loc["x", "den_df"] == pytest.approx(degrees[1], rel=max(10 * tolerance, 1e-4))
    assert fit.record.convergence.evaluations < 60


def test_beyond_what_can_be_told_it_says_so() -> None:
    """What rounding does at one point is a matter of chance; the verdict goes by what is to be expected (the last
    digit of y'y, as a share of pwrss), so that it is the same on every processor: 8e-4 of the criterion at a ratio of
    2e5, 2e-3 at 3e5, where 1e-3 is the limit."""
    assert Model("y ~ x + (1 | g)", balanced(2e5)).reml().converged
    for ratio in (3e5, 1e6):
        with pytest.warns(ConvergenceWarning, match="rounding blurs the criterion"):
            Model("y ~ x + (1 | g)", balanced(ratio)).reml()
    with pytest.raises(DesignError, match="together explain y as good as exactly"):
        Model("y ~ x + (1 | g)", balanced(1e8)).reml()


def dense_at(fit: MixedFit, reml: bool) -> tuple[float, float, np.ndarray]:
    """Criterion, sigma and beta at the fit's own theta by QR of all rows at once, without cross-products."""
    design, y = fit.design, fit.design.y
    pieces = []
    for block, Lam in zip(design.blocks, fit.Lambda, strict=True):
        z = np.zeros((len(y), len(block.levels), block.size))
        z[np.arange(len(y)), block.codes] = block.values @ Lam
        pieces.append(z.reshape(len(y), -1))
    ZL, X = np.hstack(pieces), design.X
    q, p, m = ZL.shape[1], X.shape[1], len(y) - (X.shape[1] if reml else 0)
    first = np.linalg.lstsq(X, y, rcond=None)[0]
    Q, R = np.linalg.qr(np.block([[ZL, X], [np.eye(q), np.zeros((q, p))]]))
    right = np.concatenate([y - X @ first, np.zeros(q)])
    rest = right - Q @ (Q.T @ right)
    logs = 2 * np.log(np.abs(np.diag(R)))
    value = logs[: q + p if reml else q].sum() + m * (1 + np.log(2 * np.pi * (rest @ rest) / m))
    return float(value), float(np.sqrt(rest @ rest / m)), first + np.linalg.solve(R, Q.T @ right)[q:]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("ratio", [1e3, 1e5])
def test_numbers_belong_to_theta_where_cross_products_lose_theirs(ratio: float, reml: bool) -> None:
    """1e-6: QR leaves eps * theta of the residual. Elimination was 4e-5 away at 5e4, and more beyond."""
    d = balanced(ratio)
    rng = np.random.default_rng(5)
    d["s"], d["z"] = pd.Categorical(rng.integers(0, 5, len(d))), rng.normal(size=len(d))
    d["y"] += 0.3 * rng.normal(size=5)[d["s"].cat.codes] * d["z"]
    fit = fit_mixed(build_design("y ~ x + (1 | g) + (0 + z | s)", d), reml=reml)
    criterion, sigma, beta = dense_at(fit, reml)
    assert fit.theta.max() > 300
    assert fit.criterion == pytest.approx(criterion, abs=1e-6)
    assert fit.sigma == pytest.approx(sigma, rel=1e-8)
    assert fit.beta == pytest.approx(beta, abs=1e-6 * sigma + 1e-9 * ratio)
    fitted = d["y"].to_numpy() - fit.residuals
    assert np.abs(fitted - fit.fitted).max() < 1e-9 * ratio


def test_where_nothing_is_left_nothing_is_reported() -> None:
    """Group effects 1e6 residual sds: the search follows rounding; every number is nan, and every table still comes."""
    with pytest.warns(ConvergenceWarning, match="no estimate can be given"):
        fit = Model("y ~ x + (1 | g)", balanced(1e6)).reml()
    assert not fit.converged
    assert np.isnan([fit.criterion, fit.loglik, fit.aic, fit.sigma]).all()
    tables = [fit.predict(target=target, interval=0.9) for target in ("conditional", "population")]
    for table in (fit.fixef(), fit.ranef(), fit.coef(), fit.vcov(), *tables):
        numbers = table.select_dtypes("number")
        assert numbers.shape[1]
        assert numbers.isna().all().all()
    assert fit.varcorr()["sdcor"].isna().all()
    assert fit.fitted().isna().all()
    assert fit.anova()["F"].isna().all()
    assert "no estimate can be given" in " ".join(str(fit.check()).split())
    assert "nan" in str(fit.summary())
    with pytest.raises(FitError, match="no estimates for units to influence"):
        fit.influence("g")


def test_a_large_intercept_beside_a_small_slope() -> None:
    """y in any unit and moved per group: the slopes' sd stays, whatever the intercepts' (5e-4: two optima)."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(15), 12)
    x = rng.normal(size=180)
    own, level = 0.8 * rng.normal(size=15), rng.normal(size=15)
    e = rng.normal(size=180)
    fits = []
    for size in (300.0, 30_000.0):
        d = pd.DataFrame({"y": size * level[g] + (1 + own[g]) * x + e, "x": x, "g": pd.Categorical(g)})
        fits.append(fit_mixed(build_design("y ~ x + (x || g)", d)))
    assert all(fit.converged for fit in fits)
    assert fits[1].theta[0] / fits[0].theta[0] == pytest.approx(100, rel=1e-2)
    assert fits[1].sigma == pytest.approx(fits[0].sigma, rel=5e-4)
    assert fits[1].theta[1] == pytest.approx(fits[0].theta[1], rel=5e-4)


def test_the_scaled_search_is_the_plain_one_near_one() -> None:
    """A quartic bowl, minimum at (1, 2): the same point; and at (1e5, 2), out of the plain search's reach."""

    def bowl(at: np.ndarray):
        def function(x):
            away = (x - at) / np.maximum(np.abs(at), 1)
            return float((away**2).sum() + (away**4).sum()), (2 * away + 4 * away**3) / np.maximum(np.abs(at), 1)

        return function

    near = np.array([1.0, 2.0])
    plain, scaled = (
        minimise(bowl(near), np.zeros(2), np.ones(2)),
        minimise_scaled(bowl(near), np.zeros(2), lambda x: np.ones(2)),
    )
    assert (plain.x == scaled.x).all()
    far = np.array([1e5, 2.0])
    found = minimise_scaled(bowl(far), np.array([1e4, 0.0]), lambda x: np.ones(2) / np.maximum(np.abs(x), 1) ** 2)
    assert found.x == pytest.approx(far, rel=1e-4)
    assert found.convergence.converged


def test_a_search_without_a_minimum_ends_quietly() -> None:
    """A straight line falls for ever: steps are trusted more and more, and no number overflows on the way."""
    found = minimise(lambda x: (-float(x.sum()), -np.ones(2)), np.zeros(2), np.ones(2))
    assert found.convergence.status == "evaluations"
    assert np.isfinite(found.value)


def test_columns_that_no_level_has_both_of() -> None:
    """(0 + f | g) where each g has one level of f: the correlation is in no row.  The same likelihood as (1 | g) with a
    variance for each f, fitted one by one: groups of different f share nothing but what is common, here nothing."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(12), 6)
    f = np.array(["a", "b"])[g % 2]
    d = pd.DataFrame(
        {"g": pd.Categorical(g), "f": f, "y": rng.normal(size=72) + (1 + (f == "b")) * rng.normal(size=12)[g]}
    )
    d["s"] = 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)  # a correlation that nothing tells may end at 1
        whole = Model("y ~ 0 + f + (0 + f | g)", d, se="s").ml()
        parts = [Model("y ~ 1 + (1 | g)", d[d["f"] == level], se="s").ml() for level in "ab"]
    assert whole.converged
    assert whole.criterion == pytest.approx(sum(part.criterion for part in parts), abs=1e-6)
    sds = [part.varcorr()["sdcor"].iloc[0] for part in parts]
    assert whole.varcorr()["sdcor"].iloc[:2].tolist() == pytest.approx(sds, rel=1e-4)


def test_uncorrelated_terms_far_from_zero_are_told() -> None:
    """(x || g) at 300 sds from 0, levels spread as widely as their slopes times 300: digits are lost, and it says so.

    (x | g) promises the same likelihood wherever x is 0; 2e-3: here too elimination loses six digits of them."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 6)
    z, b0, b1, e = rng.normal(size=36), rng.normal(size=6), 0.7 * rng.normal(size=6), 0.5 * rng.normal(size=36)
    x = z + 300
    d = pd.DataFrame({"x": x, "y": 1 + z + 300 * b0[g] + b1[g] * x + e, "g": pd.Categorical(g)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = Model("y ~ x + (x || g)", d).reml()
    assert fit.converged or "Centre x" in " ".join(unconverged(fit))
    centred = Model("y ~ x + (x || g)", d.assign(x=z)).reml()
    assert centred.converged
    correlated = [Model("y ~ x + (x | g)", frame).reml().criterion for frame in (d, d.assign(x=z))]
    assert correlated[0] == pytest.approx(correlated[1], abs=2e-3)


def test_predictors_of_size_1e6() -> None:
    """x of mean 3e6 and sd 1e6: lme4 stops at a singular fit 14.5 above; in millions it finds this criterion too."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(20), 10)
    x = 3 + rng.normal(size=200)
    y = x * (1 + 0.3 * rng.normal(size=20)[g]) + rng.normal(size=20)[g] + 0.5 * rng.normal(size=200)
    large, small = (
        Model("y ~ x + (x | g)", pd.DataFrame({"g": pd.Categorical(g), "x": unit * x, "y": y})).reml()
        for unit in (1e6, 1.0)
    )
    jacobian = 2 * np.log(1e6)  # REML: |X'X| has x's unit in it, squared
    assert large.criterion - jacobian == pytest.approx(small.criterion, abs=1e-7)
    assert large.converged
    assert large.fixef()["df"].to_numpy() == pytest.approx(small.fixef()["df"].to_numpy(), rel=1e-4)


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g)", "y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_exact_fits_are_refused_in_words(formula: str) -> None:
    g, x = np.repeat(np.arange(6), 5), np.tile(np.arange(5.0), 6)
    y = g * 1.0 if "x" not in formula else g + x * (np.sqrt(g) if "(x" in formula else 1.0)
    with pytest.raises(DesignError, match="no residual variance is left"):
        fit_mixed(build_design(formula, pd.DataFrame({"g": pd.Categorical(g), "x": x, "y": y})))


def lme4_case(name: str) -> tuple[pd.DataFrame, str]:
    rng = np.random.default_rng(21)
    if name == "three levels, unbalanced":
        rows = []
        for school in range(6):
            level = 2 * rng.normal()
            for group in range(1 + 2 * school % 5):
                own = rng.normal()
                rows += [
                    (f"s{school}", f"s{school}c{group}", level + own + 3 * rng.normal()) for _ in range(1 + group * 4)
                ]
        return pd.DataFrame(rows, columns=["school", "klass", "y"]), "y ~ 1 + (1 | school) + (1 | klass)"
    g = np.r_[np.arange(30), np.repeat(np.arange(30, 36), 4)]
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=36)[g] + 0.6 * rng.normal(size=len(g))
    return pd.DataFrame({"g": [f"g{i}" for i in g], "x": x, "y": y}), "y ~ x + (1 | g)"


@pytest.mark.parametrize("name", ["three levels, unbalanced", "mostly one row per group"])
def test_odd_groups_against_a_dense_search(name: str) -> None:
    """Criterion and theta by a dense multivariate normal and Nelder-Mead (its tolerance 1e-6 in theta)."""
    from kernel_cases import dense_parts
    from scipy.optimize import minimize

    d, formula = lme4_case(name)
    d = d.astype({c: "category" for c in d.columns if c not in ("x", "y")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit: MixedFit = fit_mixed(build_design(formula, d))

    def criterion(theta: np.ndarray) -> float:
        y, X, Z, G, noise = dense_parts(fit.design, [np.array([[t]]) for t in np.abs(theta)])
        V = Z @ G @ Z.T + np.diag(noise)
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
        rest = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
        m = len(y) - X.shape[1]
        logdet = 2 * np.log(np.diag(L)).sum() + np.linalg.slogdet(A.T @ A)[1]
        return float(logdet + m * (1 + np.log(2 * np.pi * (rest @ rest) / m)))

    blocks = np.array([float(Lam[0, 0]) for Lam in fit.Lambda])
    start = np.ones(len(blocks))
    best = minimize(criterion, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    assert fit.criterion == pytest.approx(best.fun, abs=1e-7)
    assert blocks == pytest.approx(np.abs(best.x), abs=1e-4)
    assert fit.converged


@pytest.mark.parametrize(("seed", "lme4"), [(0, 225.1631), (2, 218.8621), (8, 222.0007), (18, 214.0672)])
def test_correlated_slopes_of_3000_residual_sds(seed: int, lme4: float) -> None:
    """Once rounding moved this criterion by a half: its two columns of Lambda were long and nearly parallel.

    lme4 1.1-31 stops above: at 218.86 where 60 digits confirm 214.42 (seed 2)."""
    rng = np.random.default_rng([seed, 3000])
    g, x = np.repeat(np.arange(6), 7), rng.normal(size=42)
    intercepts = rng.normal(size=6) * rng.choice([0.3, 3.0])
    y = intercepts[g] + 3000.0 * rng.normal(size=6)[g] * x + rng.normal(size=42)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)  # some are: correlations of 1
        fit = Model("y ~ 1 + (x | g)", pd.DataFrame({"x": x, "y": y, "g": pd.Categorical(g)})).reml()
    assert fit.converged
    assert fit.criterion < lme4
