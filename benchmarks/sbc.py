"""Simulation-based calibration of the marginal engine (Talts et al. 2018, arXiv 1804.06788).

Parameters from fixed, written-out priors, data from the parameters, a fit with the same priors: the rank of every true
value among its posterior draws must be uniform.  ECDF bands: Sailynoja, Buerkner and Vehtari (2022, Statistics and
Computing 32, 32), section 2.  Run by hand:  python benchmarks/sbc.py --fits 1000 --out DIR"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.engines.gaussian_rows import linear_predictor
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.engines.posterior import Posterior
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

CHAINS, DRAWS, THIN = 4, 250, 10  # 100 of 1,000 draws are ranked: those of one chain are ten draws apart
L = CHAINS * DRAWS // THIN
LEVEL = 0.95


@dataclass(frozen=True)
class Case:
    """A model whose priors are all written out: coefficients Normal(0, 2), sds HalfNormal, correlation LKJ(2)."""

    formula: str
    sd_scale: float
    groups: dict[str, int]  # levels of each factor
    rows: int

    def frame(self) -> pd.DataFrame:
        """The predictors and groups, always the same; the first rows show every level."""
        rng = np.random.default_rng(1)
        data = pd.DataFrame({"y": rng.normal(size=self.rows), "x": rng.normal(0.5, 1, self.rows)})
        for name, levels in self.groups.items():
            data[name] = np.concatenate([np.arange(levels), rng.integers(0, levels, self.rows - levels)]).astype(str)
        return data

    def priors(self, design: Design) -> dict[str, str]:
        """As ``priors=`` takes them."""
        common = dict.fromkeys(design.common_terms, "Normal(0, 2)")
        groups = {c.variable: f"HalfNormal({self.sd_scale})" for block in design.blocks for c in block.columns}
        correlations = {block.corr_name: "LKJ(2)" for block in design.correlated_blocks}
        return common | groups | correlations | {"sigma": "LogNormal(0, 0.3)"}


CASES = {
    "random intercept": Case("y ~ x + (1 | g)", 1.0, {"g": 12}, 60),
    "correlated slopes": Case("y ~ x + (x | g)", 1.0, {"g": 15}, 90),
    "crossed": Case("y ~ x + (1 | g) + (1 | h)", 1.0, {"g": 10, "h": 6}, 80),
    "boundary": Case("y ~ x + (1 | g)", 0.2, {"g": 5}, 25),
}


def simulate(case: Case, design: Design, rng: np.random.Generator) -> tuple[np.ndarray, Posterior]:
    """y (n,) and the true parameters as a posterior of one draw."""
    beta = rng.normal(0, 2, len(design.common))
    sds, corrs, effects = [], [], []
    for block in design.blocks:
        sd = np.abs(rng.normal(0, case.sd_scale, block.size))
        R = np.eye(block.size)
        if block.size == 2:
            R[0, 1] = R[1, 0] = 2 * rng.beta(2, 2) - 1  # LKJ(2) of a 2 x 2 matrix
        root = sd[:, None] * np.linalg.cholesky(R)
        effects.append((rng.normal(size=(len(block.levels), block.size)) @ root.T)[None, None])
        sds.append(sd[None, None])
        corrs.append(R[None, None] if block.size > 1 else None)
    sigma = np.exp(rng.normal(0, 0.3, (1, 1)))
    truth = Posterior(beta[None, None], tuple(effects), tuple(sds), tuple(corrs), sigma, {}, None, None)  # type: ignore[arg-type]
    return rng.normal(linear_predictor(truth, design)[0, 0], sigma[0, 0]), truth


def quantities(record: Posterior, design: Design) -> dict[str, np.ndarray]:
    """Every phi and beta, one b per block and column, and the joint log likelihood: (draws,) each."""
    found = {name: record.beta[..., i] for i, name in enumerate(design.common)}
    for block, sd, corr, b in zip(design.blocks, record.sd, record.corr, record.b, strict=True):
        for i, column in enumerate(block.columns):
            found[column.sd_name] = sd[..., i]
            found[f"{column.variable}[{block.levels[0]}]"] = b[..., 0, i]
        if corr is not None:
            found[block.corr_name] = corr[..., 0, 1]
    found["sigma"] = record.sigma
    mean = linear_predictor(record, design)
    found["log likelihood"] = stats.norm(mean, record.sigma[..., None]).logpdf(design.y).sum(axis=-1)
    return found


def run_one(name: str, seed: np.random.SeedSequence) -> tuple[dict[str, tuple[int, bool]], str]:
    """For each quantity its rank among L draws and whether its 95 % interval holds it; and the sampler that ran."""
    case, rng = CASES[name], np.random.default_rng(seed)
    empty = build_design(case.formula, case.frame())
    y, truth = simulate(case, empty, rng)
    design = replace(empty, y=y)
    priors = gaussian_priors(design, resolve_priors(case.priors(design), design), center_predictors=False)
    record = sample_marginal(marginal_density(design, priors), design, draws=DRAWS, chains=CHAINS, random_seed=rng)
    true, drawn = quantities(truth, design), quantities(record, design)
    result = {}
    for key, values in drawn.items():
        value = float(true[key][0, 0])
        lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        result[key] = (int((values[:, THIN // 2 :: THIN] < value).sum()), bool(lower <= value <= upper))
    return result, record.inference.method


def _job(job: tuple[str, np.random.SeedSequence]) -> tuple[dict[str, tuple[int, bool]], str]:
    return run_one(*job)


def run(name: str, fits: int, seed: int = 1, processes: int = 1) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """ranks and coverage (fits, quantities), and how often each sampler ran; the same whatever ``processes``."""
    jobs = [(name, one) for one in np.random.SeedSequence(seed).spawn(fits)]
    if processes == 1:
        results = [_job(job) for job in jobs]
    else:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by the children: one process is one thread
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            results = pool.map(_job, jobs, chunksize=10)
    ranks = pd.DataFrame([{key: rank for key, (rank, _) in one.items()} for one, _ in results])
    covered = pd.DataFrame([{key: inside for key, (_, inside) in one.items()} for one, _ in results])
    methods = pd.Series([method for _, method in results]).value_counts().to_dict()
    return ranks, covered, methods


# --- uniform ranks --------------------------------------------------------------------------------------------------
GRID = np.arange(1, L + 1) / (L + 1)  # P(rank < i) for i = 1..L


def ecdf(ranks: np.ndarray) -> np.ndarray:
    """Share of ranks below i, at GRID.  ranks (..., N): integers in 0..L."""
    counts = np.apply_along_axis(lambda one: np.bincount(one, minlength=L + 1), -1, np.asarray(ranks))
    return np.cumsum(counts, axis=-1)[..., :-1] / np.shape(ranks)[-1]


def least_tail(share: np.ndarray, n: int) -> np.ndarray:
    """Smallest two-sided binomial tail probability along the ECDF (..., L): gamma of the paper's section 2.2."""
    counts = np.round(share * n)
    law = stats.binom(n, GRID)
    return 2 * np.minimum(law.cdf(counts), law.sf(counts - 1)).min(axis=-1)


def null_tails(n: int, simulations: int = 4000) -> np.ndarray:
    """(simulations,) least tails of truly uniform ranks, sorted."""
    ranks = np.random.default_rng(0).integers(0, L + 1, size=(simulations, n))
    return np.sort(least_tail(ecdf(ranks), n))


def table(ranks: pd.DataFrame, covered: pd.DataFrame) -> pd.DataFrame:
    """Per quantity: coverage of 95 % intervals, and the p-value of the ECDF's largest excursion."""
    n = len(ranks)
    null = null_tails(n)
    found = least_tail(ecdf(ranks.to_numpy().T), n)
    p = (1 + np.searchsorted(null, found, side="right")) / (1 + len(null))
    return pd.DataFrame({"coverage": covered.mean(), "p_uniform": p}, index=ranks.columns)


def draw(ranks: pd.DataFrame, title: str, path: Path) -> None:
    """ECDF differences with 95 % simultaneous bands, one panel per quantity."""
    from matplotlib.figure import Figure

    n = len(ranks)
    gamma = np.quantile(null_tails(n), 1 - LEVEL)
    law = stats.binom(n, GRID)
    lower, upper = law.ppf(gamma / 2) / n - GRID, law.ppf(1 - gamma / 2) / n - GRID
    columns = 4
    rows = -(-len(ranks.columns) // columns)
    figure = Figure(figsize=(3 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name in zip(axes, ranks.columns, strict=False):
        ax.fill_between(GRID, lower, upper, step="mid", color="0.85")
        ax.step(GRID, ecdf(ranks[name].to_numpy()) - GRID, where="mid", color="C0")
        ax.set_title(name, fontsize=9)
    for ax in axes[len(ranks.columns) :]:
        ax.set_axis_off()
    figure.suptitle(f"{title}: ECDF of {n} ranks minus uniform, 95 % simultaneous bands", fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--models", nargs="*", default=list(CASES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    for name in options.models:
        start = time.perf_counter()
        ranks, covered, methods = run(name, options.fits, options.seed, options.processes)
        print(f"\n{name}: {CASES[name].formula}, {options.fits} fits, {time.perf_counter() - start:.0f} s, {methods}")
        print(table(ranks, covered).to_string(float_format="%.3f"))
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            ranks.to_csv(options.out / f"{name.replace(' ', '_')}_ranks.csv", index=False)
            draw(ranks, name, options.out / f"{name.replace(' ', '_')}.png")


if __name__ == "__main__":
    main()
