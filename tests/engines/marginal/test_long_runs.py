"""The marginal engine against long runs of NUTS on the PyMC graph: two programs, one posterior.

tests/reference/posterior/graph/README.md says where the answers come from; they carry their own Monte Carlo errors.
For the models at a boundary a third answer, from dense matrices in plain numpy, shows that no tail was left out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REFERENCE
from scipy import stats

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.engine import sample_marginal, search
from hiermod.engines.posterior import Posterior, labelled
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

GRAPH = REFERENCE / "posterior" / "graph"
CASES = (
    "sleepstudy_intercept",
    "sleepstudy_slope",
    "sleepstudy_uncorrelated",
    "sleepstudy_slope_only",
    "sleepstudy_no_fixed_slope",
    "penicillin",
    "pastes",
    "cake",
    "cake_slopes",
    "dyestuff2",
    "mtcars",
    "eight_schools",
)


def read(case: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    about = json.loads((GRAPH / f"{case}.json").read_text(encoding="utf-8"))
    return pd.read_csv(GRAPH / f"{case}.csv", index_col="parameter"), about


def prepared(about: dict[str, Any]) -> tuple[Design, MarginalDensity]:
    design = build_design(about["formula"], load_dataset(about["data"]), **about["options"])
    priors = gaussian_priors(design, resolve_priors(about["priors"], design), about["center_predictors"])
    return design, marginal_density(design, priors)


def arrays(record: Posterior, design: Design) -> dict[str, np.ndarray]:
    """Every parameter and group effect by its name in tables."""
    return dict(labelled(record, design))


@pytest.mark.parametrize("case", CASES)
def test_means_sds_and_quantiles_agree_with_the_graph(case):
    """Within 4 combined Monte Carlo errors: some 500 comparisons, each with a chance of 6e-5 to fail by itself."""
    table, about = read(case)
    design, density = prepared(about)
    # six correlated effects, one row each, are near the gate of 25 %: with about half of all seeds NUTS takes over, and
    # takes a minute
    record = sample_marginal(density, design, draws=4000, random_seed=2 if case == "cake_slopes" else 1)
    assert record.inference.method == "marginal"
    assert record.inference.ok, record.inference
    mine = arrays(record, design)
    # all that the model has, and three levels of every factor
    assert {name for name, _ in labelled(record, design, effects=False)} < set(table.index)
    assert len(table) - len(labelled(record, design, effects=False)) == 3 * sum(b.size for b in design.blocks)
    x = np.stack([mine[name] for name in table.index], axis=-1)
    found = {"mean": (x.mean(axis=(0, 1)), versions.mcse(x)), "sd": (x.std(axis=(0, 1)), versions.mcse(x, "sd"))}
    for name, p in (("q2.5", 0.025), ("q97.5", 0.975)):
        found[name] = np.quantile(x, p, axis=(0, 1)), versions.mcse(x, "quantile", p)
    for name, (value, error) in found.items():
        z = (value - table[name]) / np.hypot(error, table[f"mcse_{name}"])
        assert z.abs().max() < 4, (name, z[z.abs() >= 4])


@pytest.mark.parametrize("case", CASES)
def test_the_long_runs_are_long_enough(case):
    table, about = read(case)
    assert table.r_hat.max() < 1.005
    least = 2500 if case == "cake_slopes" else 8000  # 270 group effects, one row for each: NUTS is slow
    assert table[["ess_bulk", "ess_tail"]].min(axis=None) > least
    assert (table.mcse_mean < 1.2 * table.sd / np.sqrt(least)).all()
    assert about["divergences"] <= 1e-3 * about["chains"] * about["draws"]


# --- a third answer: dense matrices, plain numpy ----------------------------------------------------------------------
BOUNDARY = ("dyestuff2", "eight_schools", "pastes", "mtcars")  # where NUTS diverges or takes its smallest steps


def numbers(text: str) -> list[float]:
    """``"HalfStudentT(nu=4, sigma=3.7)"`` -> [4, 3.7]."""
    return [float(part.split("=")[-1]) for part in text[text.index("(") + 1 : -1].split(",")]


def dense_log_density(design: Design, priors: dict[str, str], phi: np.ndarray) -> np.ndarray:
    """log p(phi, y) up to a constant at phi (S, d): y is Normal with covariance X S0 X' + Z G Z' + noise, and the
    intercept's prior is about the middle of the predictors."""
    first = np.array(design.common) == "Intercept"
    X = np.where(first, design.X, design.X - design.X.mean(axis=0))
    mean, sd = np.transpose([numbers(priors[name]) for name in design.common])
    V = np.broadcast_to((X * sd**2) @ X.T, (len(phi), design.nobs, design.nobs)).copy()
    log_p, at = np.zeros(len(phi)), 0
    for block in design.blocks:
        k = block.size
        sds = np.exp(phi[:, at : at + k])
        for i, column in enumerate(block.columns):
            log_p += stats.halfnorm(scale=numbers(priors[column.variable])[0]).logpdf(sds[:, i]) + phi[:, at + i]
        G = sds[:, :, None] * sds[:, None] * np.eye(k)
        if k == 2:
            r = np.tanh(phi[:, at + 2])
            G[:, 0, 1] = G[:, 1, 0] = r * sds[:, 0] * sds[:, 1]
            log_p += numbers(priors[block.corr_name])[0] * np.log1p(-(r**2))  # LKJ(eta), and d r / d z
        same = block.codes[:, None] == block.codes
        V += np.einsum("ia,sab,jb->sij", block.values, G, block.values) * same
        at += k * (k + 1) // 2
    if design.se is None:
        nu, scale = numbers(priors["sigma"])
        log_p += stats.t(nu, scale=scale).logpdf(np.exp(phi[:, at])) + phi[:, at]
        V += np.exp(2 * phi[:, at])[:, None, None] * np.eye(design.nobs)
    else:
        V += np.diag(design.se**2)
    L = np.linalg.cholesky(V)
    white = np.linalg.solve(L, (design.y - X @ mean)[:, None])[..., 0]
    return log_p - np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1) - 0.5 * np.square(white).sum(axis=1)


def natural(design: Design, phi: np.ndarray) -> dict[str, np.ndarray]:
    """sds, correlations and sigma (S,) by their names in tables."""
    found, at = {}, 0
    for block in design.blocks:
        k = block.size
        found |= {column.sd_name: np.exp(phi[:, at + i]) for i, column in enumerate(block.columns)}
        if k == 2:
            found[f"{block.corr_name}[{block.labels[0]},{block.labels[1]}]"] = np.tanh(phi[:, at + 2])
        at += k * (k + 1) // 2
    return found | ({"sigma": np.exp(phi[:, at])} if design.se is None else {})


@pytest.mark.parametrize("case", BOUNDARY)
def test_the_long_runs_leave_out_no_tail(case):
    """Importance sampling of the dense density: means, and how much lies below the run's 2.5 and 97.5 % quantiles,
    within 4 combined errors.  The engine only proposes the points; weights come from the matrices."""
    table, about = read(case)
    design, density = prepared(about)
    rng = np.random.default_rng(6)
    mixture = search(density, rng).mixture
    phi = mixture.draw(20_000, rng)
    log_p = np.concatenate([dense_log_density(design, about["priors"], part) for part in np.array_split(phi, 40)])
    log_w = log_p - mixture.log_density(phi)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    assert 1 / np.square(w).sum() > 8000
    for name, x in natural(design, phi).items():
        row = table.loc[name]
        mean = w @ x
        error = np.hypot(np.sqrt(np.square(w) @ np.square(x - mean)), row.mcse_mean)
        assert abs(mean - row["mean"]) < 4 * error, name
        for q, p in (("q2.5", 0.025), ("q97.5", 0.975)):
            below = w @ (x < row[q])
            near = 0.5 * (w @ (x < row[q] + row[f"mcse_{q}"]) - w @ (x < row[q] - row[f"mcse_{q}"]))  # its error, as p
            error = np.hypot(np.sqrt(np.square(w) @ np.square((x < row[q]) - below)), near)
            assert abs(below - p) < 4 * error, (name, q)
