"""The marginal engine's draws against known answers: quadrature, dense algebra, long runs; its records and manners."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REFERENCE
from kernel_cases import frame, rows_to_tail  # noqa: F401
from marginal_cases import ALL, conditional, fixed_sigma, make, random_phis, read_phi
from scipy import stats

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.marginal import engine as marginal
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.engine import draw_effects, sample_marginal, search
from hiermod.engines.nuts.quiet import collected
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, ArgumentTypeError, ConvergenceWarning, FitError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.kernel.draws import Effects
from hiermod.model import Model
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors


def prepared(
    formula: str, data: pd.DataFrame, priors: Any = None, centred: bool = True, **options: Any
) -> tuple[Design, MarginalDensity]:
    design = build_design(formula, data, **options)
    return design, marginal_density(design, gaussian_priors(design, resolve_priors(priors, design), centred))


def one_by_one(density: MarginalDensity) -> MarginalDensity:
    """The same density as if it were too large for stacks."""
    vars(density)["batch"] = None
    return density


def natural(record: Posterior) -> np.ndarray:
    """Every sd, correlation and sigma of a record, (chain, draw, number)."""
    found = [sd[..., i] for sd in record.sd for i in range(sd.shape[-1])]
    for corr in record.corr:
        if corr is not None:
            rows, columns = np.tril_indices(corr.shape[-1], -1)
            found += [corr[..., i, j] for i, j in zip(rows, columns, strict=True)]
    return np.stack(found + ([] if record.sigma is None else [record.sigma]), axis=-1)


# --- against quadrature ---------------------------------------------------------------------------------------------
def one_row_groups() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame({"y": rng.normal(3, 2, 12), "g": [f"g{i}" for i in range(12)]})


QUADRATURE: dict[str, tuple[Any, ...]] = {  # formula, data, priors, options
    "dyestuff2": ("Yield ~ 1 + (1 | Batch)", "dyestuff2", None, {}),
    "eight schools": ("effect ~ 1 + (1 | school)", "eight_schools", None, {"se": "se"}),
    "intercept only": ("Yield ~ 1", "dyestuff", None, {}),
    "bounded above": ("Yield ~ 1 + (1 | Batch)", "dyestuff", {"1|Batch": "Uniform(0, 30)"}, {}),
    "bounded below": (
        "Yield ~ 1 + (1 | Batch)",
        "dyestuff2",
        {"1|Batch": "TruncatedNormal(mu=0, sigma=3, lower=1, upper=8)", "sigma": "Exponential(0.2)"},
        {},
    ),
    "one row per group": (
        "y ~ 1 + (1 | g)",
        one_row_groups(),
        {"Intercept": "Normal(0, 5)", "1|g": "HalfNormal(2)", "sigma": "LogNormal(0, 0.5)"},
        {},
    ),
    "heavy tail": ("Yield ~ 1 + (1 | Batch)", "dyestuff2", {"1|Batch": "HalfCauchy(5)"}, {}),
    "two levels": ("y ~ 1 + (1 | h)", frame().assign(h=lambda d: d.z > 0), None, {}),
}


def quadrature_case(name: str) -> tuple[Design, MarginalDensity]:
    formula, data, priors, options = QUADRATURE[name]
    return prepared(formula, load_dataset(data) if isinstance(data, str) else data, priors, **options)


def quadrature(density: MarginalDensity, points: int = 600) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per element of phi: exp(phi) on a grid and its probabilities; a coarse grid first finds where the mass is."""
    sample = search(density, np.random.default_rng(0)).sample
    middle = sample.weights @ sample.x
    coarse = _on_grid(density, [np.linspace(one - 15, one + 8, points // 3) for one in middle])
    axes = []
    for t, weights in coarse:  # all but 1e-7 of the mass, and one cell more
        inside = np.flatnonzero((np.cumsum(weights) > 1e-7) & (np.cumsum(weights[::-1])[::-1] > 1e-7))
        axes.append(np.linspace(t[max(inside[0] - 1, 0)], t[min(inside[-1] + 1, len(t) - 1)], points))
    return [(np.exp(t), weights) for t, weights in _on_grid(density, axes)]


def _on_grid(density: MarginalDensity, axes: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each axis and its marginal probabilities."""
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    values = density.values(mesh)
    weights = np.exp(values - values.max()).reshape([len(axis) for axis in axes])
    weights /= weights.sum()
    others = [tuple(j for j in range(len(axes)) if j != i) for i in range(len(axes))]
    return [(axis, weights.sum(axis=other)) for axis, other in zip(axes, others, strict=True)]


def assert_law(draws: np.ndarray, x: np.ndarray, weights: np.ndarray) -> None:
    """Mean, sd, 2.5 and 97.5 % quantiles and the probabilities of both far tails, each within 4.5 Monte Carlo errors
    (a false alarm in 150,000; some 100 such comparisons) and the grid's own error of one cell."""
    cumulative = np.cumsum(weights) - weights / 2
    mean = weights @ x
    sd = np.sqrt(weights @ (x - mean) ** 2)
    assert abs(draws.mean() - mean) < 4.5 * versions.mcse(draws)
    assert abs(draws.std() - sd) < 4.5 * versions.mcse(draws, "sd")
    for p in (0.025, 0.975):
        exact = np.interp(p, cumulative, x)
        cell = exact * np.log(x[1] / x[0])
        assert abs(np.quantile(draws, p) - exact) < 4.5 * versions.mcse(draws, "quantile", p) + cell
    for p in (0.005, 0.05, 0.995):  # the chance to be below the exact quantile, deep in the tails
        below = (draws < np.interp(p, cumulative, x)).astype(float)
        cell = int(np.searchsorted(cumulative, p))
        slack = weights[max(cell - 1, 0) : cell + 1].max()  # where the grid is cut
        # where no draw is below there is no estimate of the error: that of independent draws at half the number
        error = max(float(np.nan_to_num(versions.mcse(below))), np.sqrt(p * (1 - p) / (draws.size / 2)))
        assert abs(below.mean() - p) < 4.5 * error + slack


SLOW_WAY = [("dyestuff2", "one by one"), ("eight schools", "one by one")]  # the hard cases are enough


@pytest.mark.parametrize(("name", "way"), [*((name, "together") for name in QUADRATURE), *SLOW_WAY])
def test_variance_parameters_have_the_law_of_quadrature(name, way):
    design, density = quadrature_case(name)
    exact = quadrature(density)
    if way == "one by one":
        density = one_by_one(density)
    record = sample_marginal(density, design, draws=2500, random_seed=11)
    assert record.inference.method == "marginal"
    drawn = natural(record)
    assert drawn.shape[-1] == len(exact)
    for i, (x, weights) in enumerate(exact):
        assert_law(drawn[..., i], x, weights)
    assert record.inference.ok, record.inference


@pytest.mark.parametrize("name", ["dyestuff2", "eight schools"])
def test_nuts_takes_over_and_has_the_same_law(name, monkeypatch):
    monkeypatch.setattr(marginal, "MAX_K_HAT", -10.0)
    design, density = quadrature_case(name)
    exact = quadrature(density)
    record = sample_marginal(density, design, draws=500, tune=300, random_seed=3, cores=1)
    assert record.inference.method == "marginal-nuts"
    assert "independence proposals did not fit (Pareto k-hat" in record.inference.reason
    assert record.inference.tune == 300
    for i, (x, weights) in enumerate(exact):
        assert_law(natural(record)[..., i], x, weights)


def test_nuts_on_the_marginal_density_repeats_itself_and_counts_divergences(monkeypatch):
    monkeypatch.setattr(marginal, "MAX_K_HAT", -10.0)
    design, density = quadrature_case("dyestuff2")
    settings: dict[str, Any] = {"draws": 100, "tune": 100, "chains": 2, "target_accept": 0.9}
    first = sample_marginal(density, design, random_seed=3, cores=1, **settings)
    again = sample_marginal(density, design, random_seed=3, cores=2, **settings)
    np.testing.assert_array_equal(first.beta, again.beta)
    np.testing.assert_array_equal(first.sd[0], again.sd[0])
    assert first.inference.divergences >= 0
    import nutpie

    usual = nutpie.sample

    def all_divergent(*args: Any, **kwargs: Any) -> Any:
        idata = usual(*args, **kwargs)
        idata["sample_stats"]["diverging"][:] = True
        return idata

    monkeypatch.setattr(nutpie, "sample", all_divergent)
    record = sample_marginal(density, design, random_seed=3, cores=1, **settings)
    assert record.inference.divergences == 200
    assert "200 of 200 transitions diverged" in record.inference.messages[0]


def test_three_correlated_slopes_agree_with_nuts(monkeypatch):
    """Two exact samplers of one density, each with its Monte Carlo error: 7 numbers, 4 statistics each."""
    design, density = prepared("y ~ x + z + (x + z | a)", frame())
    record = sample_marginal(density, design, draws=2000, random_seed=5)
    assert record.inference.method == "marginal"
    assert record.inference.ok, record.inference
    monkeypatch.setattr(marginal, "MAX_K_HAT", -10.0)
    other = sample_marginal(density, design, draws=300, tune=200, random_seed=6, cores=1)
    assert other.inference.method == "marginal-nuts"
    mine, theirs = natural(record), natural(other)
    assert mine.shape[-1] == 7
    for method, p in (("mean", None), ("sd", None), ("quantile", 0.025), ("quantile", 0.975)):
        error = np.hypot(versions.mcse(mine, method, p), versions.mcse(theirs, method, p))
        a, b = (
            x.mean(axis=(0, 1)) if method == "mean" else x.std(axis=(0, 1)) if p is None else np.quantile(x, p, (0, 1))
            for x in (mine, theirs)
        )
        assert (np.abs(a - b) < 4 * error).all(), method


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_ridges_are_followed(formula):
    """One row per group: only the sum of the variances is known, and the posterior is a long bent ridge."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    data = pd.DataFrame({"y": 1 + x * rng.normal(0.5, 1, 300) + rng.normal(0, 1.4, 300), "x": x, "g": range(300)})
    design, density = prepared(formula, data)
    record = sample_marginal(density, design, random_seed=2)
    assert record.inference.method == "marginal"
    assert record.inference.importance_efficiency > 0.5
    assert record.inference.ok, record.inference
    total = np.log(record.sd[0][..., 0] ** 2 + record.sigma**2)
    assert np.log(record.sigma).std() > 2 * total.std()  # the ridge is there


# --- against long runs ----------------------------------------------------------------------------------------------
LONG_RUNS = {  # tests/reference/posterior/README.md
    "sleepstudy": (
        "Reaction ~ Days + (Days | Subject)",
        {
            "Intercept": "Normal(300, 150)",
            "Days": "Normal(0, 50)",
            "group_specific": "HalfNormal(50)",
            "Subject_corr": "LKJ(2)",
            "sigma": "HalfStudentT(nu=4, sigma=60)",
        },
    ),
    "dyestuff2": (
        "Yield ~ 1 + (1 | Batch)",
        {"Intercept": "Normal(5, 10)", "1|Batch": "HalfNormal(5)", "sigma": "HalfStudentT(nu=4, sigma=5)"},
    ),
}


def by_brms_names(record: Posterior, design: Design) -> dict[str, np.ndarray]:
    block = design.blocks[0]
    arrays = {"sigma": record.sigma} | {f"b_{name}": record.beta[..., i] for i, name in enumerate(design.common)}
    for i, label in enumerate(block.labels):
        arrays[f"sd_{block.factor}__{label}"] = record.sd[0][..., i]
        for j, level in enumerate(block.levels):
            arrays[f"r_{block.factor}[{level},{label}]"] = record.b[0][..., j, i]
    if record.corr[0] is not None:
        arrays[f"cor_{block.factor}__Intercept__Days"] = record.corr[0][..., 0, 1]
    return arrays


@pytest.mark.stack
@pytest.mark.parametrize("case", LONG_RUNS)
def test_long_runs_of_stan(case):
    """Means, sds and quantiles within 4 combined Monte Carlo errors.  The file has no error of sds and quantiles: this
    run's own, scaled by the root of the ratio of effective sizes, half of theirs since tails have fewer."""
    formula, priors = LONG_RUNS[case]
    design, density = prepared(formula, load_dataset(case), priors, centred=False)
    record = sample_marginal(density, design, draws=4000, random_seed=1)
    arrays = by_brms_names(record, design)
    table = pd.read_csv(REFERENCE / "posterior" / f"{case}.csv", index_col="par")
    assert set(table.index) == set(arrays)
    for name, row in table.iterrows():
        draws = arrays[name]
        scale = np.sqrt(1 + 2 * float(versions.ess_bulk(draws)) / row["neff"])
        error = np.hypot(versions.mcse(draws), row["Est.Error"] / np.sqrt(row["neff"]))
        assert abs(draws.mean() - row["Estimate"]) < 4 * error, name
        assert abs(draws.std() - row["Est.Error"]) < 4 * scale * versions.mcse(draws, "sd"), name
        for p, column in ((0.025, "Q2.5"), (0.975, "Q97.5")):
            error = scale * versions.mcse(draws, "quantile", p)
            assert abs(np.quantile(draws, p) - row[column]) < 4 * error, (name, column)


# --- effects given phi ----------------------------------------------------------------------------------------------
def drawn_at(density: MarginalDensity, design: Design, phi: np.ndarray, count: int) -> np.ndarray:
    """(count, p + q) draws of (beta, b) given one phi, b block after block."""
    sizes = [(len(block.levels), block.size) for block in design.blocks]
    out: Effects = (np.empty((count, len(design.common))), tuple(np.empty((count, *size)) for size in sizes))
    draw_effects(density, np.tile(phi, (count, 1)), np.random.default_rng(8), out)
    return np.hstack([out[0], *(block.reshape(count, -1) for block in out[1])])


def assert_gaussian(drawn: np.ndarray, center: np.ndarray, precision: np.ndarray) -> None:
    """Draws whitened by the exact law are standard normal: means, and all entries of the covariance."""
    count, q = drawn.shape
    white = (drawn - center) @ np.linalg.cholesky(precision)
    assert np.abs(white.mean(axis=0)).max() < 4.5 / np.sqrt(count)  # q <= 100 normals: 1 false alarm in 1,500
    cov = white.T @ white / count
    spread = np.where(np.eye(q, dtype=bool), np.sqrt(2), 1) / np.sqrt(count)
    assert (np.abs(cov - np.eye(q)) / spread).max() < 5.5  # up to 5,000 entries
    assert abs(np.trace(cov) / q - 1) < 4.5 * np.sqrt(2 / (count * q))  # all variances together: a chi-square


STRUCTURES = [name for name in ALL if not name.startswith("flat")]


@pytest.mark.parametrize("name", STRUCTURES)
def test_effects_given_phi_are_the_exact_gaussian_together(name):
    design, density = make(name, centred=True)
    phi = random_phis(density, 1)[0]
    factors, sigma, _ = read_phi(design, phi, fixed_sigma(name, design))
    assert_gaussian(drawn_at(density, design, phi, 4000), *conditional(design, factors, sigma, True))


SPARSE = [name for name in STRUCTURES if "crossed" in name]  # without crossed factors there are no sparse rows


@pytest.mark.parametrize(
    ("name", "rows_to_tail"),
    [*((name, "dense rows") for name in STRUCTURES), *((name, "sparse rows") for name in SPARSE)],
    indirect=["rows_to_tail"],
)
def test_effects_given_phi_are_the_exact_gaussian_one_by_one(name, rows_to_tail):  # noqa: F811
    design, density = make(name, centred=True)
    phi = random_phis(density, 1)[0]
    factors, sigma, _ = read_phi(design, phi, fixed_sigma(name, design))
    assert_gaussian(drawn_at(one_by_one(density), design, phi, 1000), *conditional(design, factors, sigma, True))


@pytest.mark.parametrize("way", [lambda density: density, one_by_one], ids=["together", "one by one"])
def test_each_draw_of_effects_belongs_to_its_own_phi(way):
    design, density = make("one factor", centred=True)
    record = sample_marginal(way(density), design, draws=400, chains=2, random_seed=3)
    white = []
    for c, d in np.ndindex(2, 400):
        center, precision = conditional(design, [record.sd[0][c, d][:, None]], float(record.sigma[c, d]), True)
        drawn = np.concatenate([record.beta[c, d], record.b[0][c, d].ravel()])
        white.append((drawn - center) @ np.linalg.cholesky(precision))
    # squares of 800 x 17 standard normals, if each was drawn at the phi that is reported with it
    assert abs(np.square(white).mean() - 1) < 4.5 * np.sqrt(2 / np.size(white))


def test_effects_of_a_vanishing_variance_are_zero():
    design, density = make("two correlated", centred=True)
    phi = np.array([-800.0, 0.0, 0.3, 0.0])  # exp(-800) is 0 in floating point
    for one in (density, one_by_one(make("two correlated", centred=True)[1])):
        drawn = drawn_at(one, design, phi, 50)
        b = drawn[:, 2:].reshape(50, -1, 2)
        assert (b[..., 0] == 0).all()
        assert (b[..., 1] != 0).all()


def quiet_fit(model: Model, **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(**({"draws": 30, "chains": 2, "random_seed": 1} | settings))


# --- seeds, settings, records ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sleepstudy() -> Model:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def fit(sleepstudy: Model) -> Any:
    return sleepstudy.fit(random_seed=1)


def same(first: Posterior, second: Posterior) -> bool:
    pairs = [(first.beta, second.beta), (first.sigma, second.sigma), *zip(first.b, second.b, strict=True)]
    return all(np.array_equal(a, b) for a, b in [*pairs, *zip(first.sd, second.sd, strict=True)])


@pytest.mark.parametrize("way", [lambda density: density, one_by_one], ids=["together", "one by one"])
def test_seeds(way):
    design, density = quadrature_case("dyestuff2")
    density, settings = way(density), {"draws": 20, "chains": 2}
    first = sample_marginal(density, design, random_seed=4, **settings)
    assert same(first, sample_marginal(density, design, random_seed=4, **settings))
    assert not same(first, sample_marginal(density, design, random_seed=5, **settings))
    assert first.inference.seed == 4
    generated = [sample_marginal(density, design, random_seed=np.random.default_rng(9), **settings) for _ in range(2)]
    assert same(*generated)
    assert same(generated[0], sample_marginal(density, design, random_seed=generated[0].inference.seed, **settings))
    unseeded = [sample_marginal(density, design, **settings) for _ in range(2)]
    assert not same(*unseeded)
    assert not np.array_equal(first.beta[0], first.beta[1])


def test_chains_share_no_proposals():
    design, density = quadrature_case("dyestuff2")
    record = sample_marginal(density, design, draws=300, random_seed=4)
    values = [set(chain) for chain in record.sd[0][..., 0].tolist()]
    assert all(values[i].isdisjoint(values[j]) for i in range(4) for j in range(i))


def test_one_by_one_factorises_once_per_proposal(monkeypatch):
    design, density = quadrature_case("dyestuff2")
    one_by_one(density)
    found = search(density, np.random.default_rng(1))
    monkeypatch.setattr(marginal, "search", lambda *_: found)
    calls = []
    usual = MarginalDensity.factorise
    monkeypatch.setattr(MarginalDensity, "factorise", lambda self, phi: (calls.append(1), usual(self, phi))[1])
    record = sample_marginal(density, design, draws=50, chains=2, random_seed=1)
    assert 2 * (30 + marginal.START_LARGE) < record.inference.proposals <= 2 * (50 + marginal.START_LARGE)
    assert len(calls) == record.inference.proposals + 2  # where each chain begins


def test_inference_says_what_ran_and_how_well(fit):
    inference = fit.inference
    assert inference.method == "marginal"
    assert "integrate out exactly" in inference.reason
    assert inference.ok
    assert inference.max_r_hat < 1.01
    assert min(inference.min_ess_bulk, inference.min_ess_tail) > 3000
    assert (inference.tune, inference.divergences, inference.chains, inference.draws) == (0, 0, 4, 1000)
    assert inference.k_hat < marginal.MAX_K_HAT
    assert marginal.LEAST_EFFICIENCY < inference.importance_efficiency <= 1
    assert inference.proposals >= 3 * 4 * 1000


def test_few_chains_or_draws_are_spoken_of():
    design, density = quadrature_case("dyestuff2")
    record = sample_marginal(density, design, draws=10, chains=1, random_seed=1)
    assert any("one chain" in words for words in record.inference.messages)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"draws": 0}, ArgumentError, "draws must be a whole number of at least 4, got 0"),
        ({"draws": 2.5}, ArgumentTypeError, "draws must be a whole number"),
        ({"chains": 0}, ArgumentError, "chains must be a whole number of at least 1, got 0"),
        ({"random_seed": -1}, ArgumentError, "random_seed is -1"),
        ({"draws": 10**8}, ArgumentError, "at most 10000000"),
    ],
)
def test_impossible_settings(settings, error, words):
    design, density = quadrature_case("dyestuff2")
    with pytest.raises(error, match=words):
        sample_marginal(density, design, **settings)


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x", {"se": "w"}),  # nothing is left to sample
        ("y ~ x", {}),
        ("y ~ 0 + (1 | a)", {}),
        ("y ~ 0 + x + (x || a)", {"weights": "w"}),
    ],
)
def test_edges_of_the_model_family(formula, options):
    design, density = prepared(formula, frame(), **options)
    record = sample_marginal(density, design, draws=200, random_seed=1)
    assert record.inference.ok, record.inference
    assert record.beta.shape == (4, 200, len(design.common))
    assert (record.sigma is None) == ("se" in options)


def test_weighted_regression_has_students_law():
    """y ~ x with flat coefficients and a nearly flat log sigma: beta is Student's t around least squares (Gelman et al.
    2013, Bayesian Data Analysis, section 14.2)."""
    priors = {"Intercept": "Flat()", "x": "Flat()", "sigma": "LogNormal(0, 1000)"}
    design, density = prepared("y ~ x", frame(), priors, weights="w")
    record = sample_marginal(density, design, draws=4000, random_seed=1)
    root = np.sqrt(design.weights)
    Q, R = np.linalg.qr(design.X * root[:, None])
    beta = np.linalg.solve(R, Q.T @ (design.y * root))
    df = design.nobs - 2
    rss = np.sum((root * (design.y - design.X @ beta)) ** 2)
    scale = np.sqrt(rss / df * np.diag(np.linalg.inv(R.T @ R)))
    for i in range(2):
        law = stats.t(df, beta[i], scale[i])
        draws = record.beta[..., i]
        assert abs(draws.mean() - law.mean()) < 4 * versions.mcse(draws)
        assert abs(draws.std() - law.std()) < 4 * versions.mcse(draws, "sd")


# --- what others see ------------------------------------------------------------------------------------------------
def test_log_likelihood_in_idata(fit):
    design, record = fit.design, fit.record
    values = versions.group_dataset(fit.idata, "log_likelihood")["Reaction"]
    assert values.dims == ("chain", "draw", "__obs__")
    c, d = 2, 17
    b = record.b[0][c, d][design.blocks[0].codes]
    mean = design.X @ record.beta[c, d] + (b * design.blocks[0].values).sum(axis=1)
    expected = stats.norm(mean, record.sigma[c, d]).logpdf(design.y)
    np.testing.assert_allclose(values.values[c, d], expected, rtol=1e-10)


@pytest.mark.parametrize("options", [{"weights": "w"}, {"se": "w"}])
def test_log_likelihood_with_known_precisions(options):
    fit = quiet_fit(Model("y ~ x + offset(z) + (1 | a)", frame(), **options))
    design, record = fit.design, fit.record
    sd = design.se if "se" in options else record.sigma[1, 5] / np.sqrt(design.weights)
    mean = design.X @ record.beta[1, 5] + frame().z.to_numpy() + record.b[0][1, 5, design.blocks[0].codes, 0]
    values = versions.group_dataset(fit.idata, "log_likelihood")["y"].values[1, 5]
    np.testing.assert_allclose(values, stats.norm(mean, sd).logpdf(design.y), rtol=1e-10)


def test_large_log_likelihoods_are_left_for_later(fit, monkeypatch):
    from hiermod.engines import idata

    monkeypatch.setattr(idata, "AT_ONCE", 1e6)
    built = idata.build_idata(fit.record, fit.design)
    assert "log_likelihood" not in versions.group_names(built)
    assert "posterior" in versions.group_names(built)


def test_pickles(sleepstudy, fit):
    again = pickle.loads(pickle.dumps(fit))
    assert same(again.record, fit.record)
    assert again.inference == fit.inference
    assert same(pickle.loads(pickle.dumps(sleepstudy)).fit(random_seed=1).record, fit.record)
    assert not again.record.beta.flags.writeable


def test_nothing_global_changes(sleepstudy):
    from threadpoolctl import threadpool_info, threadpool_limits

    np.random.seed(3)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    data = sleepstudy.data
    with threadpool_limits(limits=2, user_api="blas"):  # the fit takes one
        before = ([one["num_threads"] for one in threadpool_info()], np.geterr(), list(warnings.filters))
        quiet_fit(sleepstudy)
        after = ([one["num_threads"] for one in threadpool_info()], np.geterr(), list(warnings.filters))
    assert before == after
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    pd.testing.assert_frame_equal(sleepstudy.data, data)


def test_a_marginal_fit_imports_neither_pymc_nor_bambi():
    code = """
        import sys
        import hiermod as hm
        model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
        fit = model.fit(draws=200, random_seed=1)
        fit.fixef(), fit.varcorr(), fit.ranef()
        heavy = {"pymc", "bambi", "pytensor", "arviz", "nutpie"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy or fit.inference.method != "marginal" else 0)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def shapes(idata: Any) -> dict[str, Any]:
    """Variables of the posterior with their dims beyond (chain, draw) and coordinates."""
    data = versions.posterior_dataset(idata)
    return {
        str(name): {
            str(dim): [str(one) for one in array[dim].values] for dim in array.dims if dim not in ("chain", "draw")
        }
        for name, array in data.data_vars.items()
    }


BOTH = [  # what compiles in seconds; more by hand
    pytest.param("y ~ site * h + (h || a)", marks=pytest.mark.stack),
    "y ~ x * site + (site | a) + (x || b) + (1 | cask/h)",
    pytest.param("y ~ x + ar1(0 + site | a) + diag(0 + site | b, hom=True)", marks=pytest.mark.slow),
    pytest.param("y ~ x + (x | a)", marks=pytest.mark.slow),
    pytest.param("y ~ 0 + site:x + I(z**2) + (0 + site | a) + (0 + x | a)", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("formula", BOTH)
def test_idata_is_shaped_as_nuts_on_the_graph_makes_it(formula):
    """Names, dims and coordinates; then Bambi predicts from it, and ArviZ reads it."""
    data = frame().assign(h=lambda d: np.where(d.z > 0, "u", "v"))
    model = Model(formula, data)
    fit = quiet_fit(model, inference_method="marginal")
    graph = quiet_fit(model, draws=4, tune=2, chains=1, inference_method="nutpie", progressbar=False)
    assert shapes(fit.idata) == shapes(graph.idata)
    import arviz as az

    assert len(az.summary(fit.idata, var_names=["sigma"])) == 1


@pytest.mark.stack
def test_bambi_predicts_from_marginal_idata(sleepstudy, fit):
    assert_predicts(sleepstudy, fit, "Reaction")


@pytest.mark.stack
def test_bambi_predicts_from_factors_and_interactions():
    data = frame().assign(f=lambda d: np.array(["A", "B", "C"])[np.arange(len(d)) % 3])
    model = Model("y ~ x * f + (f | a) + (x || b)", data)
    assert_predicts(model, quiet_fit(model), "y")


def assert_predicts(model: Model, fit: Any, response: str) -> None:
    """Bambi's mean and replicates from the draws, against the Design's own arithmetic."""
    design, record = fit.design, fit.record
    mean = record.beta @ design.X.T
    for block, b in zip(design.blocks, record.b, strict=True):
        mean = mean + np.einsum("cdnk,nk->cdn", b[:, :, block.codes], block.values)
    with collected():  # PyTensor and numba speak of caches and compilers
        predicted = model.bambi.predict(fit.idata, kind="response_params", inplace=False)
        drawn = model.bambi.predict(fit.idata, kind="response", inplace=False, random_seed=1)
        model.bambi.predict(fit.idata, data=design.frame.head(3), kind="response_params", inplace=False)
    np.testing.assert_allclose(versions.posterior_dataset(predicted)["mu"].values, mean, rtol=1e-8, atol=1e-8)
    replicated = versions.group_dataset(drawn, "posterior_predictive")[response].values
    error = (replicated - mean) / record.sigma[..., None]
    assert abs(error.mean()) < 4.5 / np.sqrt(error.size)
    assert abs(error.std() - 1) < 4.5 / np.sqrt(2 * error.size)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"seed": 3}, "here it is m.fit.random_seed=1"),
        ({"warmup": 5}, "here it is m.fit.tune=1000"),
        ({"max_depth": 3}, "no argument 'max_"),
    ],
)
def test_settings_of_other_programs_are_refused(setting, words):
    """A misnamed seed that is swallowed makes a run that nobody can repeat."""
    with pytest.raises(ArgumentError, match=words):
        Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).fit(**setting)


@pytest.mark.numeric
def test_groups_that_explain_everything_are_told_instead_of_crashing():
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": rng.integers(0, 300, 1000), "x": rng.standard_normal(1000)})
    b = rng.standard_normal((300, 2))
    d["y"] = b[d.g, 0] + b[d.g, 1] * d.x + 1e-4 * rng.standard_normal(1000)
    with pytest.raises(FitError, match=r"residual sd .* is so small beside those of the groups .*nutpie"):
        Model("y ~ x + (x | g)", d).fit(random_seed=1)
    d["y"] = b[d.g, 0] + 1e-4 * rng.standard_normal(1000)  # one effect per group keeps its digits
    fit = Model("y ~ x + (1 | g)", d).fit(random_seed=1)
    assert fit.sigma == pytest.approx(1e-4, rel=0.1)


def test_a_model_without_common_effects_has_fitted_values():
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(10), 8)})
    d["y"] = rng.standard_normal(10)[d.g] + rng.standard_normal(80)
    fit = Model("y ~ 0 + (1 | g)", d).fit(random_seed=1)
    effects = fit.ranef()["estimate"].to_numpy()
    np.testing.assert_allclose(fit.fitted(), effects[d.g])
    assert fit.simulate(3, random_seed=1).shape == (80, 3)
    assert "R-hat" in str(fit.check())
