"""Structures of a group term's covariance: their algebra, and REML and ML fits against nlme and a dense likelihood."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

import hiermod as hm
from hiermod.covariance.structure import structure_of
from hiermod.covariance.vine import log_beta
from hiermod.engines.likelihood.structured import SearchSpace
from hiermod.engines.posterior import labelled
from hiermod.errors import ArgumentError, DesignError, FormulaError, SingularFitWarning, UnsupportedError
from hiermod.inference.coefficient_tests.kenward_roger import kenward_roger
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite
from hiermod.inference.comparison.nested import Nesting, nesting
from hiermod.inference.priors_and_reml.prior_density import log_priors
from hiermod.inference.priors_and_reml.scale_errors import scale_errors

CASES = [(name, hom, k) for name in ("us", "diag", "cs", "ar1") for hom in (False, True) for k in (2, 3, 5)]


def correlations(name: str, k: int, rho: float) -> np.ndarray:
    """From the definitions, entry by entry."""
    lag = np.abs(np.subtract.outer(range(k), range(k)))
    return {"diag": np.eye(k), "cs": np.where(lag == 0, 1.0, rho), "ar1": rho ** lag.astype(float)}[name]


def a_theta(structure, rng) -> np.ndarray:
    theta = structure.start(rng.uniform(0.5, 2.0, structure.size))
    if structure.free:
        return theta + rng.uniform(0.0, 0.5, len(theta))
    if structure.n_parameters > structure.n_sds:
        low, high = structure.bounds[-1]
        theta[-1] = rng.uniform(low, high)
    return theta


@pytest.mark.parametrize(("name", "hom", "k"), CASES)
def test_every_structure_keeps_the_contract(name, hom, k):
    rng = np.random.default_rng(1)
    structure = structure_of(name, k, hom)
    theta = a_theta(structure, rng)
    assert len(theta) == structure.n_parameters == len(structure.bounds)
    assert len(structure.parameter_names(tuple("abcde"[:k]))) == structure.n_parameters
    Lam = structure.factor(theta)
    assert np.array_equal(Lam, np.tril(Lam))
    if not structure.free:
        sds = np.broadcast_to(theta[: structure.n_sds], k)
        R = correlations(structure.name, k, theta[-1])
        np.testing.assert_allclose(Lam @ Lam.T, sds[:, None] * R * sds, rtol=1e-10)
    np.testing.assert_allclose(structure.theta_of(Lam), theta, rtol=1e-10)
    np.testing.assert_allclose(structure.from_search(structure.search(theta)), theta, rtol=1e-10)
    G = rng.normal(size=(k, k))
    search = structure.search(theta)
    for factor, pullback, at in (
        (structure.factor, structure.pullback, theta),
        (structure.search_factor, structure.search_pullback, search),
        (structure.search_factor, structure.search_pullback, 0.1 - 1.3 * search),  # beyond the bounds
    ):
        steps = 1e-6 * np.eye(len(at))
        slopes = [(np.tril(G) * (factor(at + h) - factor(at - h))).sum() / 2e-6 for h in steps]
        np.testing.assert_allclose(pullback(at, G), slopes, atol=1e-7)  # central differences: 1e-12 / 1e-6, and 1e-12
    many = rng.normal(size=(4, len(theta)))
    np.testing.assert_array_equal(structure.search_factor(many)[2], structure.search_factor(many[2]))


@pytest.mark.parametrize(("name", "hom", "k"), [case for case in CASES if case[2] > 2])
def test_unbounded_correlations(name, hom, k):
    """There and back, also at the bounds; the pullback is the slope of the root."""
    structure, rng = structure_of(name, k, hom), np.random.default_rng(2)
    z = rng.normal(size=structure.n_parameters - structure.n_sds)
    L, G = structure.correlation_root(z), rng.normal(size=(k, k))
    np.testing.assert_allclose(np.diag(L @ L.T), 1.0, atol=1e-14)
    np.testing.assert_allclose(structure.correlation_coordinates(L @ L.T), z, rtol=1e-10)
    slopes = [
        (np.tril(G) * (structure.correlation_root(z + h) - structure.correlation_root(z - h))).sum() / 2e-6
        for h in 1e-6 * np.eye(len(z))
    ]
    # central differences: 1e-16 / 1e-6 from rounding, (1e-6)^2 from the third derivative
    np.testing.assert_allclose(structure.correlation_root_pullback(z, L, np.tril(G)), slopes, atol=1e-8)
    for end in (-40.0, 40.0):
        Lam = structure.correlation_root(np.full(len(z), end))
        assert np.isfinite(structure.correlation_coordinates(Lam @ Lam.T)).all()
    np.testing.assert_array_equal(structure.correlation_root(np.stack([z, 0 * z]))[0], L)


@pytest.mark.parametrize(("name", "low"), [("cs", -0.25), ("ar1", -1.0)])
def test_the_prior_of_rho_is_beta_over_its_range(name, low):
    structure, w = structure_of(name, 5, True), np.linspace(-3, 3, 7)[:, None]
    rho = structure.correlation_root(w)[:, 1, 0]
    law = stats.beta(1.7, 1.7, loc=low, scale=1 - low)
    slope = (structure.correlation_root(w + 1e-6) - structure.correlation_root(w - 1e-6))[:, 1, 0] / 2e-6
    found, _ = log_beta(w, structure.beta_shapes(1.7))
    np.testing.assert_allclose(found, law.logpdf(rho) + np.log(slope), atol=1e-7)  # differences of rho near its ends


@pytest.mark.parametrize(("name", "low"), [("cs", -0.25), ("ar1", -1.0)])
def test_lambda_is_smooth_at_both_bounds_of_rho(name, low):
    structure = structure_of(name, 5, False)
    assert structure.bounds[-1] == (low, 1.0)
    for rho in (low, 1.0):
        theta = np.array([1.0, 2.0, 0.5, 1.0, 3.0, rho])
        Lam = structure.factor(theta)
        np.testing.assert_allclose(
            Lam @ Lam.T, np.outer(theta[:-1], theta[:-1]) * correlations(name, 5, rho), atol=1e-12
        )
        assert np.isfinite(structure.search_pullback(structure.search(theta), np.ones((5, 5)))).all()


@pytest.mark.parametrize(("name", "hom", "k"), [case for case in CASES if case[2] > 2])
def test_sign_symmetry_is_said_where_it_is(name, hom, k):
    """Whether -sd for one of the sds gives a covariance of the structure again."""
    structure = structure_of(name, k, hom)
    theta = a_theta(structure, np.random.default_rng(3))
    if structure.free:
        assert structure.sign_symmetric
        return
    theta[0] = -theta[0]
    sds = np.broadcast_to(theta[: structure.n_sds], k)
    Sigma = sds[:, None] * correlations(structure.name, k, theta[-1]) * sds
    root = np.linalg.cholesky(Sigma)
    again = structure.factor(structure.theta_of(root))
    assert structure.sign_symmetric == np.allclose(again @ again.T, Sigma)


# --- in formulas ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    d = hm.load_dataset("sleepstudy")
    d["D"] = d.Days.astype(int).astype(str)
    return d


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    """12 groups x 4 occasions x 3 rows, correlated effects of different sizes."""
    rng = np.random.default_rng(5)
    g, t = np.repeat(np.arange(12), 12), np.tile(np.repeat(np.arange(4), 3), 12)
    sds = np.array([1.0, 2.0, 1.5, 0.7])
    b = rng.multivariate_normal(np.zeros(4), np.outer(sds, sds) * correlations("ar1", 4, 0.8), size=12)
    x = rng.normal(size=144)
    y = 1 + 0.3 * x + b[g, t] + rng.normal(size=144)
    return pd.DataFrame({"g": g.astype(str), "t": t.astype(str), "x": x, "y": y, "e": rng.normal(size=144)})


def blocks(formula: str, data: pd.DataFrame):
    return hm.Model(formula, data).spec.blocks


def test_structures_are_read_with_lme4s_defaults(grid):
    (cs,) = blocks("y ~ x + cs(0 + t | g)", grid)
    assert (cs.structure.name, cs.structure.hom, cs.structure.n_parameters) == ("cs", False, 5)
    (ar1,) = blocks("y ~ x + ar1(0 + t | g)", grid)
    assert (ar1.structure.name, ar1.structure.hom, ar1.structure.n_parameters) == ("ar1", True, 2)
    (cs,) = blocks("y ~ x + cs(0 + t | g, hom = TRUE)", grid)  # R's word
    assert cs.structure.hom
    assert cs.term == "cs(0 + t | g, hom=True)"
    (ar1,) = blocks("y ~ ar1(0 + t | g, hom=False) + x", grid)
    assert not ar1.structure.hom
    (us,) = blocks("y ~ us(x | g)", grid)
    assert us.structure.free
    assert us.term == "(x | g)"


def test_diag_is_the_double_bar(grid):
    for mine, theirs in zip(blocks("y ~ diag(x | g)", grid), blocks("y ~ (x || g)", grid), strict=True):
        assert (mine.labels, mine.size, mine.corr_name) == (theirs.labels, theirs.size, theirs.corr_name)
    (hom,) = blocks("y ~ diag(x | g, hom=True)", grid)
    assert (hom.structure.name, hom.size, hom.pairs) == ("diag", 2, ())


def test_two_columns_of_their_own_sds_are_unstructured(sleep):
    """One correlation and two sds are every covariance of two effects."""
    for name in ("cs", "ar1"):
        text = f"Reaction ~ Days + {name}(Days | Subject, hom=False)"
        assert blocks(text, sleep)[0].structure.free
        unstructured = hm.Model("Reaction ~ Days + (Days | Subject)", sleep).reml()
        assert hm.Model(text, sleep).reml().criterion == unstructured.criterion


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y ~ cs(x || g)", "uncorrelated"),
        ("y ~ cs(x | g, homo=True)", "hom=True"),
        ("y ~ cs(x | g, hom=1)", "hom=True"),
        ("y ~ us(x | g, hom=True)", "nothing else"),
        ("y ~ x * cs(x | g)", r"added with '\+'"),
        ("y ~ ar1(0 + x | g)", "one column"),
        ("y ~ cs(1 | g)", "one column"),
        ("y ~ x + cs(ar1(x | g) | g)", "parentheses"),
    ],
)
def test_what_means_nothing_is_refused(grid, text, why):
    with pytest.raises(FormulaError, match=why):
        hm.Model(text, grid)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("ar(0 + t | g)", "ar1(0 + t | g)"),
        ("AR1(0 + t | g)", "ar1(0 + t | g)"),
        ("corAR1(0 + t | g)", "ar1(0 + t | g)"),
        ("hetar1(0 + t | g)", "ar1(0 + t | g, hom=False)"),
        ("compsymm(0 + t | g)", "cs(0 + t | g)"),
        ("Unstructured(0 + t | g)", "(0 + t | g)"),
        ("homdiag(0 + t | g)", "diag(0 + t | g, hom=True)"),
    ],
)
def test_other_names_of_structures_are_answered_by_the_term_to_write(grid, typed, written):
    with pytest.raises(FormulaError) as caught:
        hm.Model(f"y ~ x + {typed}", grid)
    assert f"write {written}." in str(caught.value)
    hm.Model(f"y ~ x + {written}", grid)


def test_a_structure_that_is_not_here_is_said_to_be_none(grid):
    with pytest.raises(FormulaError, match=r"toep\(\) is no structure .* us, diag, cs and ar1"):
        hm.Model("y ~ x + toep(0 + t | g)", grid)
    with pytest.raises(FormulaError, match="not used inside a call"):
        hm.Model("y ~ x + I(x > 1 | e > 1)", grid)


def test_a_column_may_be_called_like_a_structure(grid):
    d = grid.rename(columns={"x": "cs"})
    assert hm.Model("y ~ cs + (cs | g)", d).spec.common == ("Intercept", "cs")


# --- REML and ML ----------------------------------------------------------------------------------------------------
# nlme 3.1 gls(Reaction ~ Days, correlation = corExp(form = ~ Days | Subject, nugget = TRUE)), and lme with
# random = ~ 1 | Subject besides: an exponential law of whole days is an AR(1), rho = exp(-1 / range), its nugget the
# residual.  -2 logLik, and rho.
@pytest.mark.parametrize(
    ("term", "reml", "criterion", "rho"),
    [
        ("ar1(0 + D | Subject)", True, 1734.18646794, 0.883499277),
        ("ar1(0 + D | Subject)", False, 1743.06186557, 0.878912078),
        ("(1 | Subject) + ar1(0 + D | Subject)", True, 1734.01229894, None),
        ("(1 | Subject) + ar1(0 + D | Subject)", False, 1742.81308873, None),
    ],
)
def test_ar1_on_sleepstudy_is_nlmes(sleep, term, reml, criterion, rho):
    m = hm.Model(f"Reaction ~ Days + {term}", sleep)
    fit = m.reml() if reml else m.ml()
    assert fit.criterion == pytest.approx(criterion, abs=1e-6)
    assert fit.converged
    correlation = fit.varcorr().query("term1 == 'D[0]' and term2 == 'D[1]'")["sdcor"].item()
    if rho is not None:
        assert correlation == pytest.approx(rho, abs=1e-4)  # flat at the optimum: nlme stops within 1e-5


def dense_criterion(m: hm.Model, reml: bool) -> float:
    """The lowest -2 log likelihood over log sds and logit correlations, V dense: from several starts."""
    design = m.spec
    (block,) = design.blocks
    y, X, k = design.y, design.X, block.size
    n, p = X.shape
    Z = np.equal.outer(block.codes, block.codes)
    low = -1.0 / (k - 1) if block.covariance == "cs" else -1.0
    sds = 1 if block.hom else k

    def value(par: np.ndarray) -> float:
        sd = np.exp(par[:sds]) * np.ones(k)
        rho = low + (1 - low) / (1 + np.exp(-par[-1]))
        Sigma = sd[:, None] * correlations(block.covariance, k, rho) * sd
        C = np.linalg.cholesky(np.eye(n) + Z * (block.values @ Sigma @ block.values.T))
        Xs, ys = np.linalg.solve(C, X), np.linalg.solve(C, y)
        r = ys - Xs @ np.linalg.lstsq(Xs, ys, rcond=None)[0]
        m = n - p if reml else n
        total = 2 * np.log(np.diag(C)).sum() + m * (1 + np.log(2 * np.pi * (r @ r) / m))
        return float(total + (np.linalg.slogdet(Xs.T @ Xs)[1] if reml else 0.0))

    rng = np.random.default_rng(0)
    size = sds + (block.covariance != "diag")
    ends = [
        minimize(value, rng.normal(size=size), method="L-BFGS-B", bounds=[(-9, 9)] * size, options={"ftol": 1e-13})
        for _ in range(5)
    ]
    return min(float(end.fun) for end in ends)


@pytest.mark.parametrize("reml", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + cs(0 + t | g)",
        "y ~ x + cs(0 + t | g, hom=True)",
        "y ~ x + ar1(0 + t | g)",
        "y ~ x + ar1(0 + t | g, hom=False)",
        "y ~ x + diag(0 + t | g, hom=True)",
        "e ~ x + cs(0 + t | g)",  # no group effects: on the boundary
        "e ~ x + ar1(0 + t | g, hom=False)",
    ],
)
def test_reml_and_ml_are_as_low_as_a_dense_search(grid, formula, reml):
    m = hm.Model(formula, grid)
    with pytest.warns(SingularFitWarning) if formula.startswith("e") else nullcontext():
        fit = m.reml() if reml else m.ml()
    assert fit.converged
    assert fit.criterion < dense_criterion(m, reml) + 1e-6


def test_numbers_of_a_structured_fit_hang_together(grid, tmp_path: Path):
    m = hm.Model("y ~ x + cs(0 + t | g, hom=True)", grid)
    fit = m.ml()
    assert fit.npar == 2 + 2 + 1
    assert fit.aic == pytest.approx(fit.criterion + 2 * 5)
    table = fit.varcorr()
    sds, rhos = table[table.term2.isna()]["sdcor"][:4], table[table.term2.notna()]["sdcor"]
    assert len(rhos) == 6
    assert max(np.ptp(sds), np.ptp(rhos)) < 1e-9
    assert list(fit.theta.index[:2]) == ["g.t[0]", "g.t[1].t[0]"]  # lme4 2.0: theta is Lambda's lower triangle
    Lam = np.zeros((4, 4))
    Lam[np.triu_indices(4)[::-1]] = fit.theta
    np.testing.assert_allclose(fit.sigma**2 * Lam @ Lam.T, fit.record.covariance[0], rtol=1e-10)
    # The same Sigma unstructured: best linear unbiased predictions from dense algebra.
    design, Sigma = m.spec, fit.record.covariance[0]
    block = design.blocks[0]
    same = np.equal.outer(block.codes, block.codes)
    V = same * (block.values @ Sigma @ block.values.T) + fit.sigma**2 * np.eye(design.nobs)
    beta = np.linalg.solve(design.X.T @ np.linalg.solve(V, design.X), design.X.T @ np.linalg.solve(V, design.y))
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, rtol=1e-8)
    first = block.codes == 0
    b = (Sigma @ block.values[first].T) @ np.linalg.solve(V, design.y - design.X @ beta)[first]
    np.testing.assert_allclose(fit.ranef().query("level == '0'")["estimate"], b, rtol=1e-7)
    assert len(fit.predict(grid.head(3), interval=0.9)) == 3
    assert "ρ23 τ2²" in str(m.equation())
    fit.save(tmp_path / "fit.nc")
    again = hm.load(tmp_path / "fit.nc")
    assert again.criterion == fit.criterion
    assert again.design.blocks[0].structure == block.structure


def test_a_refit_from_the_optimum_stays_there(grid):
    fit = hm.Model("y ~ x + ar1(0 + t | g, hom=False)", grid).reml()
    found = fit.confint(method="bootstrap", draws=12, random_seed=1)
    assert found.notna().all().all()
    space = SearchSpace.of(fit.design, fit.record.problem)
    s = space.s(fit.record.Lambda)
    np.testing.assert_allclose(space.x(s), fit.record.problem.x_from_theta(fit.theta.to_numpy()), atol=1e-9)


def test_satterthwaite_does_not_depend_on_how_the_covariance_is_written(grid):
    """Two effects of one sd: cs of hom=True and diag of their sum and difference, which are independent."""
    d = grid.assign(z=np.where(grid.t.isin(["0", "1"]), 1.0, -1.0))
    d["a"], d["b"] = (1 + d.z) / np.sqrt(2), (1 - d.z) / np.sqrt(2)  # orthogonal turn of (1, z)
    turned = hm.Model("y ~ x + cs(0 + a + b | g, hom=True)", d).reml()
    straight = hm.Model("y ~ x + (z || g)", d).reml()
    assert turned.criterion == pytest.approx(straight.criterion, abs=1e-7)
    # differences of the gradient over other coordinates: 1e-4 squared of the curvature's change
    np.testing.assert_allclose(turned.fixef()["df"], straight.fixef()["df"], rtol=1e-4)
    assert satterthwaite(turned.record).covariance.shape == (3, 3)


def test_a_structure_may_ask_for_as_many_effects_as_rows_but_not_for_what_no_data_can_tell(sleep, grid):
    with pytest.raises(DesignError, match="cannot be told from"):  # one row per cell: sigma^2 and sd^2 (1 - rho)
        hm.Model("Reaction ~ Days + cs(0 + D | Subject, hom=True)", sleep).reml()
    with pytest.raises(DesignError, match="cannot be told from"):  # an intercept is the correlation
        hm.Model("y ~ x + (1 | g) + cs(0 + t | g, hom=True)", grid).reml()


def test_singular_fits_say_what_is_at_the_bound(grid):
    rng = np.random.default_rng(1)
    u = rng.normal(size=(12, 4))
    g, t = grid.g.astype(int), grid.t.astype(int)
    d = grid.assign(y=2 * u[g, t] + grid.e)
    d["y"] -= d.groupby("g")["y"].transform("mean")  # levels do not differ on average
    with pytest.warns(SingularFitWarning, match="lower bound"):
        fit = hm.Model("y ~ x + cs(0 + t | g, hom=True)", d).reml()
    assert "add up to 0" in str(fit.check())
    d["e"] -= d.groupby(["g", "t"])["e"].transform("mean")  # cells vary less than chance would make them
    with pytest.warns(SingularFitWarning, match="standard deviation"):
        fit = hm.Model("e ~ x + diag(0 + t | g, hom=True)", d).reml()
    assert fit.varcorr()["sdcor"].iloc[0] == 0


def test_nested_structures_have_a_likelihood_ratio_test(grid):
    texts = [
        "y ~ x + diag(0 + t | g, hom=True)",
        "y ~ x + cs(0 + t | g, hom=True)",
        "y ~ x + cs(0 + t | g)",
    ]
    table = hm.lrt(*(hm.Model(text, grid).ml() for text in texts))
    assert list(table["df"].dropna()) == [1, 3]
    free = hm.Model("y ~ x + (0 + t | g)", grid).spec
    assert nesting(hm.Model(texts[2], grid).spec, free) == Nesting(None, 0)
    assert nesting(free, hm.Model(texts[2], grid).spec).obstacle is not None
    ar1, cs = (hm.Model(f"y ~ x + {text}", grid).ml() for text in ("ar1(0 + t | g)", "cs(0 + t | g)"))
    with pytest.raises(ArgumentError, match="not nested"):
        hm.lrt(ar1, cs)


def test_what_is_not_ready_is_refused_in_words(grid):
    m = hm.Model("y ~ x + ar1(0 + t | g)", grid)
    fit = m.reml()
    with pytest.raises(UnsupportedError, match="bootstrap"):
        fit.confint()
    counts = grid.assign(n=np.arange(144) % 5)
    with pytest.raises(UnsupportedError, match="free covariances"):
        hm.Model("n ~ x + ar1(0 + t | g)", counts, family="poisson").ml()


# --- priors and the graph -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "k"), [("diag", 3), ("cs", 2), ("cs", 3), ("cs", 5), ("ar1", 2), ("ar1", 4)])
def test_the_rows_for_graphs_are_the_factor(name, k):
    structure = structure_of(name, k, True)
    theta = np.array([1.0, 0.4])[: structure.n_parameters]
    low, high = structure.bounds[-1]
    share = (0.4 - low) / (high - low)
    L = structure.factor(theta)
    rows = np.array([[*row, *[0.0] * (k - len(row))] for row in structure.root_rows(share, np.sqrt)])
    np.testing.assert_allclose(rows, L, rtol=1e-12, atol=1e-15)
    for i in range(k):
        for j in range(i + 1, k):
            assert structure.correlation_entry(share, i, j) == pytest.approx((L @ L.T)[i, j], abs=1e-14)


@pytest.mark.parametrize(
    "formula", ["y ~ x + ar1(0 + t | g)", "y ~ x + cs(0 + t | g)", "y ~ x + diag(0 + t | g, hom=True)"]
)
def test_the_graph_has_the_structure(grid, formula):
    """Draws of the graph's prior: every effect is L z times the sds, from one share and one sd, or k."""
    import pymc as pm

    m = hm.Model(formula, grid)
    (block,) = m.spec.blocks
    names = ["t|g", "t|g_sigma", "t|g_offset"] + (["g_corr", "g_corr_partial_offset"] if block.pairs else [])
    draws = dict(zip(names, pm.draw([m.pymc[name] for name in names], draws=3, random_seed=1), strict=True))
    for d in range(3):
        sds = draws["t|g_sigma"][d]
        assert (np.ptp(sds) == 0) == block.hom
        rho = np.eye(4)
        if block.pairs:
            low, high = block.structure.bounds[-1]
            share = draws["g_corr_partial_offset"][d]
            rho = correlations(block.covariance, 4, low + (high - low) * share)
            np.testing.assert_allclose(draws["g_corr"][d], rho, rtol=1e-10)
        effects = draws["t|g_offset"][d].reshape(-1, 4) @ np.linalg.cholesky(rho).T * sds
        np.testing.assert_allclose(draws["t|g"][d].reshape(-1, 4), effects, rtol=1e-9, atol=1e-12)
    free = {variable.name for variable in m.pymc.free_RVs}
    assert ("t|g_sigma" in free) != block.hom


def test_prior_draws_have_the_structure(grid):
    m = hm.Model("y ~ x + ar1(0 + t | g)", grid)
    record = m.prior_predictive(draws=2000, random_seed=1).record
    sd, corr = record.sd[0][0], record.corr[0][0]
    assert np.ptp(sd, axis=1).max() == 0
    np.testing.assert_allclose(corr[:, 0, 3], corr[:, 0, 1] ** 3, atol=1e-12)
    assert np.mean(np.abs(corr[:, 0, 1]) < 0.5) == pytest.approx(
        0.6875, abs=4 * np.sqrt(0.6875 * 0.3125 / 2000)
    )  # Beta(2, 2)


def test_standard_errors_of_structured_parameters(grid):
    """One sd has one error; those of two columns with sds of their own are the unstructured ones' in the same place."""
    fit = hm.Model("y ~ x + ar1(0 + t | g)", grid).reml()
    errors = scale_errors(fit.record)
    sds = [errors[f"t|g_sigma[{i}]"] for i in range(4)]
    np.testing.assert_allclose(sds, sds[0], rtol=1e-8)
    rho = fit.varcorr()["sdcor"][4]
    # d rho^2 = 2 rho d rho: differences over 1e-4 of a coordinate
    assert errors["g_corr[t[0],t[2]]"] == pytest.approx(2 * abs(rho) * errors["g_corr[t[0],t[1]]"], rel=1e-5)
    d = grid.assign(z=np.where(grid.t.isin(["0", "1"]), 1.0, -1.0))
    d["a"], d["b"] = (1 + d.z) / np.sqrt(2), (1 - d.z) / np.sqrt(2)
    turned = scale_errors(hm.Model("y ~ x + cs(0 + a + b | g, hom=True)", d).reml().record)
    straight = scale_errors(hm.Model("y ~ x + (z || g)", d).reml().record)
    assert turned["sigma"] == pytest.approx(straight["sigma"], rel=1e-4)


def test_data_are_simulated_from_a_structure(grid):
    common = {"fixef": {"Intercept": 0.0, "x": 0.0}, "sigma": 0.5}
    sd = {f"t|g_sigma[{i}]": 2.0 for i in range(4)}
    told = hm.simulate("y ~ x + ar1(0 + t | g)", grid, varcorr={**sd, "g_corr": 0.6}, random_seed=1, **common)
    full = correlations("ar1", 4, 0.6)
    again = hm.simulate("y ~ x + ar1(0 + t | g)", grid, varcorr={**sd, "g_corr": full}, random_seed=1, **common)
    pd.testing.assert_frame_equal(told, again)
    with pytest.raises(ArgumentError, match="follow from one number"):
        hm.simulate("y ~ x + cs(0 + t | g)", grid, varcorr={**sd, "g_corr": full}, random_seed=1, **common)
    with pytest.raises(ArgumentError, match="lies between"):
        hm.simulate("y ~ x + cs(0 + t | g)", grid, varcorr={**sd, "g_corr": -0.5}, random_seed=1, **common)


def occasions_in_disorder(seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """60 people, four occasions of which some are missing, one row each in any order, and a level that never occurs."""
    rng, occasions = np.random.default_rng(seed), ["pre", "week 2", "week 10", "post"]
    data = pd.DataFrame([(f"ID {j}", o) for j in range(60) for o in occasions if rng.random() > 0.25])
    data = data.set_axis(["person", "when"], axis=1).sample(frac=1.0, random_state=1).reset_index(drop=True)
    data["when"] = pd.Categorical(data["when"], [*occasions, "never"])
    person, column = pd.factorize(data["person"])[0], data["when"].cat.codes.to_numpy()
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(range(4), range(4))))
    data["x"] = rng.normal(size=len(data))
    effects = 1.5 * rng.normal(size=(60, 4)) @ root.T
    data["y"] = 1 + 0.5 * data["x"] + effects[person, column] + rng.normal(size=len(data))
    return data, person, column


def test_a_residual_sd_of_zero_is_said() -> None:
    """A dense search ends at sigma = 0 and rho = 0.459."""
    data = occasions_in_disorder(3)[0]
    with pytest.raises(DesignError, match=r"estimated as 0.*ar1\(0 \+ when \| person\).*se="):
        hm.Model("y ~ x + ar1(0 + when | person)", data).reml()
    fit = hm.Model("y ~ x + ar1(0 + when | person)", data.assign(error=0.05), se="error").reml()
    assert fit.converged
    assert fit.criterion == pytest.approx(705.79, abs=0.02)


@pytest.mark.parametrize(
    ("seed", "formula"),
    [
        (4, "y ~ x + ar1(0 + when | person)"),
        (5, "y ~ x + ar1(0 + when | person)"),
        (6, "y ~ x + ar1(0 + when | person, hom=False)"),
        (6, "y ~ x + cs(0 + when | person, hom=True)"),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_one_row_for_each_occasion_and_some_missing(seed, formula, reml):
    """V by hand.  Rounding far out once let the criterion fall towards sigma = 0, and such fits were not believed."""
    data, person, column = occasions_in_disorder(seed)
    model = hm.Model(formula, data)
    fit = model.reml() if reml else model.ml()
    assert fit.converged
    sds = fit.varcorr().query("term2.isna() and group == 'person'")["sdcor"].to_numpy()
    rho = fit.varcorr().query("term1 == 'when[pre]' and term2 == 'when[week 2]'")["sdcor"].iloc[0]
    distance = np.abs(np.subtract.outer(range(4), range(4)))
    R = rho**distance if "ar1" in formula else np.where(distance == 0, 1.0, rho)
    Sigma = sds[:, None] * R * sds
    same = np.equal.outer(person, person)
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()

    def criterion(Sigma: np.ndarray, sigma: float) -> float:
        L = np.linalg.cholesky(same * Sigma[np.ix_(column, column)] + sigma**2 * np.eye(len(y)))
        Xi, yi = np.linalg.solve(L, X), np.linalg.solve(L, y)
        A = Xi.T @ Xi
        r = yi - Xi @ np.linalg.solve(A, Xi.T @ yi)
        free = len(y) - (2 if reml else 0)
        total = 2 * np.log(np.diag(L)).sum() + r @ r + free * np.log(2 * np.pi)
        return float(total + (np.linalg.slogdet(A)[1] if reml else 0.0))

    here = criterion(Sigma, fit.sigma)
    assert (fit.criterion if reml else fit.deviance) == pytest.approx(here, abs=1e-6)
    total = Sigma + fit.sigma**2 * np.eye(4)
    for small in (1e-2, 1e-4):  # what sigma = 0 would cost
        assert criterion(total - small**2 * np.eye(4), small) > here - 1e-6
    P = np.linalg.inv(same * Sigma[np.ix_(column, column)] + fit.sigma**2 * np.eye(len(y)))
    beta = np.linalg.solve(X.T @ P @ X, X.T @ P @ y)
    blup = np.array([(Sigma[:, column] * (person == j)) @ P @ (y - X @ beta) for j in range(3)])
    effects = fit.ranef("person").pivot(index="level", columns="term", values="estimate")
    names = pd.unique(data["person"])[:3]
    assert effects.loc[names, [f"when[{o}]" for o in data["when"].cat.categories[:4]]].to_numpy() == pytest.approx(
        blup, abs=1e-5
    )


def test_the_equation_of_many_occasions_has_dots(sleep):
    """Ten effects are the first, dots and the last, in text and in LaTeX; four or fewer are written out."""
    told = hm.Model("Reaction ~ Days + ar1(0 + D | Subject)", sleep).equation()
    lines = str(told).splitlines()
    assert "  Reaction_ij = β0j + β1j Days_ij + β2j D[0]_ij + … + β11j D[9]_ij + εij" in lines
    at = lines.index("  β2j = u2j")
    assert lines[at + 1 : at + 3] == ["  …", "  β11j = u11j"]
    assert "  (u2j, …, u11j) ~ Normal(0, Σ) (one standard deviation" in str(told)
    tex = told.latex
    assert r"+ \dots + \beta_{11j}" in tex
    assert r"\begin{bmatrix} u_{2j} \\ \vdots \\ u_{11j} \end{bmatrix}" in tex
    assert r"& \vdots \\" in tex
    assert "u_{5j}" not in tex
    short = str(
        hm.Model("Reaction ~ Days + (0 + h | Subject)", sleep.assign(h=sleep.D.isin(["1", "2"]).map(str))).equation()
    )
    assert "…" not in short
    also_common = str(hm.Model("Reaction ~ 0 + D + cs(0 + D | Subject)", sleep).equation())
    assert "…" not in also_common  # each has a mean of its own to tell


# --- Kenward-Roger --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("data", ["complete", "untidy, weights"])
def test_kenward_roger_of_compound_symmetry_is_that_of_nested_intercepts(grid, data):
    """cs with one sd is (1 | g) + (1 | g:t) where its correlation is positive: Sigma = a 11' + b I."""
    weights = None
    if data != "complete":
        grid = grid.drop(index=[0, 1, 2, 7, 30, 31, 32, 33, 34, 35, 100]).assign(
            w=lambda d: 1 + (np.arange(len(d)) % 3)
        )
        weights = "w"
    tables = []
    for terms in ("cs(0 + t | g, hom=True)", "(1 | g) + (1 | g:t)"):
        fit = hm.Model(f"y ~ x + e + {terms}", grid, weights=weights).reml()
        kr = kenward_roger(fit.record)
        L = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        f = kr.f_test(L, np.array(fit.record.beta))
        tables.append(np.concatenate([kr.vcov.ravel(), kr.df(np.eye(3)), [f.statistic, f.den_df]]))
    # both searches end within 1e-6 of the optimum, and degrees of freedom move with it
    np.testing.assert_allclose(tables[0], tables[1], rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("term", ["ar1(0 + t | g)", "ar1(0 + t | g, hom=False)", "cs(0 + t | g)"])
def test_kenward_roger_by_dense_algebra_with_differences_of_v(grid, term):
    """Kenward and Roger (1997), section 2, V differentiated numerically by other coordinates: logs and arctanh-like."""
    e2 = np.arange(144) % 7
    m = hm.Model(f"y ~ x + {term} + (1 | e2)", grid.assign(e2=e2.astype(str), y=grid.y + np.sin(2.0 * e2)))
    fit, design = m.reml(), m.spec
    block, other = design.blocks
    structure, sigma = block.structure, fit.record.sigma
    same, same_other = (one.codes[:, None] == one.codes for one in (block, other))

    def V(q: np.ndarray) -> np.ndarray:
        Lam = structure.search_factor(q[:-2])
        group = same * (block.values @ Lam @ Lam.T @ block.values.T)
        return np.exp(q[-1]) * np.eye(144) + group + q[-2] * same_other

    theta = structure.theta_of(fit.record.Lambda[0])
    theta[: structure.n_sds] *= sigma
    start = np.array([*structure.search(theta), (sigma * fit.record.Lambda[1][0, 0]) ** 2, 2 * np.log(sigma)])
    slopes = [(V(start + h) - V(start - h)) / 2e-5 for h in 1e-5 * np.eye(len(start))]
    inverse, X = np.linalg.inv(V(start)), design.X
    Phi = np.linalg.inv(X.T @ inverse @ X)
    P = [-X.T @ inverse @ G @ inverse @ X for G in slopes]
    Q = [[X.T @ inverse @ G @ inverse @ H @ inverse @ X for H in slopes] for G in slopes]
    projection = inverse - inverse @ X @ Phi @ X.T @ inverse
    information = [[np.trace(projection @ G @ projection @ H) / 2 for H in slopes] for G in slopes]
    W = np.linalg.inv(information)
    d = len(start)
    U = sum(W[i, j] * (Q[i][j] - P[i] @ Phi @ P[j]) for i in range(d) for j in range(d))
    found = kenward_roger(fit.record)
    # differences with steps of 1e-5: 1e-10 from the third derivative, 1e-11 from rounding; conditions up to 1e4
    np.testing.assert_allclose(found.vcov, Phi + 2 * Phi @ U @ Phi, rtol=1e-5)
    for row in np.eye(len(X.T)):
        theta_row = np.outer(row, row) / (row @ Phi @ row)
        parts = [np.trace(theta_row @ Phi @ one @ Phi) for one in P]
        expected = 2 / (np.array(parts) @ W @ np.array(parts))  # for one row Satterthwaite's formula at the expected W
        assert found.df(row[None])[0] == pytest.approx(expected, rel=1e-5)


# --- the marginal engine --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("term", ["ar1(0 + t | g, hom=False)", pytest.param("cs(0 + t | g)", marks=pytest.mark.slow)])
def test_the_marginal_posterior_is_that_of_nuts_on_the_graph(grid, term, tmp_path: Path):
    """Means and sds of every parameter and effect within Monte Carlo error; under the same names; and as stored."""
    m = hm.Model(f"y ~ x + {term}", grid)
    fit = m.fit(random_seed=1)
    assert fit.record.inference.method == "marginal"
    graph = m.fit(random_seed=2, inference_method="nutpie", draws=2500, chains=2, progressbar=False)
    ours, theirs = dict(labelled(fit.record, fit.design)), dict(labelled(graph.record, graph.design))
    assert list(ours) == list(theirs)
    for name, mine in ours.items():
        other = theirs[name]
        sizes = [effective_size(one) for one in (mine, other)]
        spread = np.sqrt(mine.var() * (1 / sizes[0] + 1 / sizes[1]))
        assert abs(mine.mean() - other.mean()) < 4.5 * spread, name
        # the variance of a log sd is (kurtosis - 1) / 4n; posteriors of sds have kurtosis up to 6
        assert abs(np.log(mine.std() / other.std())) < 4.5 * np.sqrt(1.25 * (1 / sizes[0] + 1 / sizes[1])), name
    again = hm.load(fit.save(tmp_path / "fit.nc"))
    np.testing.assert_array_equal(dict(labelled(again.record, again.design))["sigma"], ours["sigma"])
    assert again.loo().elpd == pytest.approx(fit.loo().elpd, rel=1e-10)
    new = pd.DataFrame({"g": ["0", "1"], "t": ["2", "1"], "x": [0.0, 0.5]})
    for target in ("conditional", "new_group"):
        found, expected = (one.predict(new, target, interval=0.68) for one in (fit, graph))
        half = (expected["upper"] - expected["lower"]).to_numpy() / 2  # the posterior's sd
        error = half * np.sqrt(1 / 400 + 1 / 400)  # effective draws at least
        assert (np.abs(found["estimate"] - expected["estimate"]) < 4.5 * error).all()
    pd.testing.assert_index_equal(fit.ranef().index, graph.ranef().index)


def effective_size(draws: np.ndarray) -> float:
    import arviz as az

    return float(min(az.ess(np.asarray(draws), method=method) for method in ("mean", "sd")))


@pytest.mark.parametrize("hom", [True, False])
def test_a_common_sd_has_one_prior_and_rho_its_own(grid, hom):
    """What power scaling scales: the prior of a common sd once; of rho Beta(2, 2) over (-1/3, 1), no determinant."""
    fit = hm.Model(f"y ~ x + cs(0 + t | g, hom={hom})", grid).fit(draws=200, random_seed=1)
    found, unknown = log_priors(fit)
    assert not unknown
    assert sum("_sigma" in name for name in found) == (1 if hom else 4)
    share = (fit.record.corr[0][..., 0, 1] + 1 / 3) / (4 / 3)
    gap = found["g_corr"] - stats.beta(2, 2).logpdf(share)
    assert np.ptp(gap) < 1e-9  # a constant, but for rounding
