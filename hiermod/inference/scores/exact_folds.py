"""Refits of a Gaussian model without some rows, and the density of those rows: effects integrated out in both.

log p(y_u | y_train) = log E[p(y_u | y_train, phi)] over draws of phi given y_train; the density given phi is exact
(held_out.py: that of a new y_u, in the coordinates of the rows that stay).  Priors are those of all rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hiermod.core import versions
from hiermod.core.jobs import run_jobs
from hiermod.core.progress import Report
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.errors import DesignError
from hiermod.formula.design import Design
from hiermod.inference.scores.folds import Fold
from hiermod.inference.scores.held_out import held_out
from hiermod.inference.scores.rows import Units, stack_units, take_rows
from hiermod.kernel.rows import rows_of
from hiermod.priors.gaussian import GaussianPriors

MAX_R_HAT, MIN_ESS = 1.05, 100.0  # of a refit, before its words are passed on: an elpd needs less than a table does


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Units of one fold, (U,) each: log predictive density, its Monte Carlo error and, where a mean over draws could
    hide rare large values, Pareto k; and what the refit had to say."""

    elpd: np.ndarray
    mcse: np.ndarray
    k: np.ndarray
    messages: tuple[str, ...] = ()


def log_mean_exp(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log of the mean over draws of exp(logs), (c, d, U) -> (U,), and its Monte Carlo standard error."""
    top = logs.max(axis=(0, 1))
    values = np.exp(logs - top)
    mean = values.mean(axis=(0, 1))
    error = np.nan_to_num(versions.mcse(values)) / mean  # nan: no variation between draws
    return top + np.log(mean), error


@dataclass(frozen=True, eq=False)
class ExactRefits:
    """What a process needs for any fold."""

    design: Design
    priors: GaussianPriors
    draws: int
    chains: int

    def __call__(self, fold: Fold) -> LeftOut:
        """Refit without the fold's rows and score its units.

        DesignError where the rows that stay do not determine a coefficient or a variance."""
        part = take_rows(self.design, fold.train)
        try:
            density = marginal_density(part, self.priors)
        except DesignError as error:
            raise DesignError(
                f"without the {len(fold.held)} rows of one fold the model cannot be fitted: {error} Use more folds, or "
                "stratify= by the factor whose levels are rare, so that every fold leaves some rows of each"
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters comes back in words
            record = sample_marginal(density, part, draws=self.draws, chains=self.chains, random_seed=fold.seed)
        phi = record.unconstrained_draws(density.coordinates)
        logs = new_rows(self.design, density, fold, phi.reshape(-1, phi.shape[-1]))
        elpd, mcse = log_mean_exp(logs.reshape(*phi.shape[:2], -1))
        how = record.inference
        doubtful = how.divergences > 0 or how.max_r_hat > MAX_R_HAT or how.min_ess_bulk < MIN_ESS
        return LeftOut(elpd, mcse, np.full(len(elpd), np.nan), how.messages if doubtful else ())


def new_rows(design: Design, density: MarginalDensity, fold: Fold, phi: np.ndarray) -> np.ndarray:
    """(S, U) log p(y_u | y_train, phi) at each phi (S, d); density: of the fold's training rows."""
    units = _units_elsewhere(design, density, fold.units)
    logs = held_out(density, units, phi).log_replicate
    crossed = [u for u, rows in enumerate(fold.units) if not keeps_nesting(design, density, fold.train, rows)]
    for u in crossed:  # rare: levels nested among the rows that stay, yet crossed by this unit
        rows = np.sort(np.concatenate([fold.train, fold.units[u]]))
        together = marginal_density(take_rows(design, rows), density.priors)
        logs[:, u] = together.values(phi) - density.values(phi)
    return logs


def _units_elsewhere(design: Design, density: MarginalDensity, members: Sequence[np.ndarray]) -> Units:
    """Units of rows that the density has not seen, in the coordinates of those it has (kernel/conditioning.py)."""
    problem = density.problem
    index = np.concatenate(members)
    rows = take_rows(design, index)
    blocks = [(block.codes, block.values) for block in rows.blocks]
    y = rows.y if rows.offset is None else rows.y - rows.offset
    there = rows_of(problem, rows.X, blocks, rows.precision, y)
    there = replace(there, y=there.y - there.X @ problem.gamma_ols)
    ends = np.cumsum([len(one) for one in members])
    pieces = [there.take(slice(end - len(one), end)) for end, one in zip(ends, members, strict=True)]
    half_log_w = np.add.reduceat(rows.precision.half_logdet, ends - [len(one) for one in members])
    return stack_units(pieces, members, half_log_w)


def keeps_nesting(design: Design, density: MarginalDensity, train: np.ndarray, rows: np.ndarray) -> bool:
    """Whether these rows keep to the nesting of factors that the density was built on."""
    for inner, outer in density.problem.nested_blocks:
        within, codes = design.blocks[inner], design.blocks[outer].codes
        parent = np.full(len(within.levels), -1)
        parent[within.codes[train]] = codes[train]
        expected = parent[within.codes[rows]]
        if ((expected >= 0) & (expected != codes[rows])).any():
            return False
    return True


# --- over processes ------------------------------------------------------------------------------------------------
class FoldWorker:
    """The refits as work for processes."""

    def __init__(self, refits: ExactRefits) -> None:
        self.source = refits

    def run(self, fold: Fold) -> LeftOut:
        """One fold's answer; each fold has a seed of its own."""
        return self.source(fold)


def run_exact(refits: ExactRefits, folds: Sequence[Fold], cores: int, report: Report | None = None) -> list[LeftOut]:
    """Every fold's answer, in order; the numbers do not depend on ``cores``."""
    return run_jobs(FoldWorker(refits), folds, cores, report)
