"""The law of a likelihood-ratio statistic under the smaller model, simulated (Davison and Hinkley 1997, section 4.2).

Where variances are tested their null value 0 is on the boundary, and the mixtures of chi-squares known for simple cases
(Stram and Lee 1994; Crainiceanu and Ruppert 2004 show that with few groups they are rough) do not cover the rest.  Each
response simulated from the smaller model, as fitted by maximum likelihood, is refitted by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiermod.core.arguments import LARGEST_CORES, LARGEST_FITS, check_count, resolve_seed
from hiermod.core.jobs import run_jobs
from hiermod.core.progress import Report
from hiermod.engines.likelihood.generalised_refit import GeneralisedRecord
from hiermod.errors import FitError
from hiermod.formula.design import FrozenArrays
from hiermod.inference.bootstrap.bootstrap import counted, worker_of
from hiermod.inference.bootstrap.worker import Fit

SAME = 1e-6  # two statistics nearer than this are equal: what two searches may differ by
LOST = 1e-4  # a statistic this far below 0: the larger model's refit stopped short of its maximum

Record = Fit | GeneralisedRecord


@dataclass(frozen=True, eq=False)
class NullDistribution(FrozenArrays):
    """Statistics of simulated responses."""

    statistic: np.ndarray  # (draws,) 2 (log likelihood of the larger - of the smaller); nan where a refit failed
    failed: int
    not_converged: int  # refits that were kept though a search did not end at a proven minimum
    seed: int
    messages: tuple[str, ...]

    def p(self, observed: float) -> float:
        """(1 + how many are at least as large) / (1 + how many there are), never 0."""
        known = self.statistic[np.isfinite(self.statistic)]
        return float((1 + (known >= observed - SAME).sum()) / (1 + len(known)))

    def error(self, observed: float) -> float:
        """Monte Carlo standard error of ``p``."""
        p, known = self.p(observed), int(np.isfinite(self.statistic).sum())
        return float(np.sqrt(p * (1 - p) / (1 + known)))


class Pair:
    """Simulates from the smaller fit and refits both."""

    def __init__(self, source: tuple[Record, Record]) -> None:
        self.source = source
        self.small, self.large = worker_of(source[0]), worker_of(source[1])

    def run(self, job: tuple[int, np.random.Generator]) -> tuple[np.ndarray, int, tuple[str, ...]]:
        """(statistics, refits not converged, messages) of one chunk."""
        count, rng = job
        Y = self.small.simulate(count, rng)
        few, many = self.small.refits(Y), self.large.refits(Y)
        statistic = few.criterion - many.criterion
        lost = statistic < -LOST
        statistic = np.where(lost, np.nan, statistic)
        messages = (*few.messages, *many.messages, *("the larger model's maximum was not found",) * int(lost.sum()))
        kept = np.isfinite(statistic)
        return np.maximum(statistic, 0.0), int((kept & ~(few.converged & many.converged)).sum()), messages


def null_distribution(
    small: Record,
    large: Record,
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    report: Report | None = None,
) -> NullDistribution:
    """Both fits by maximum likelihood, of the same rows.  The numbers do not depend on ``cores``.

    ArgumentError for draws or cores below 1; FitError when no refit succeeds."""
    draws, cores = check_count("draws", draws, most=LARGEST_FITS), check_count("cores", cores, most=LARGEST_CORES)
    seed = resolve_seed(random_seed)
    pair = Pair((small, large))
    size = min(pair.small.chunk, pair.large.chunk)
    counts = [min(size, draws - start) for start in range(0, draws, size)]
    jobs = list(zip(counts, np.random.default_rng(seed).spawn(len(counts)), strict=True))
    parts = run_jobs(pair, jobs, cores, report, counts)
    statistic = np.concatenate([part[0] for part in parts])
    messages = counted(message for part in parts for message in part[2])
    failed = int((~np.isfinite(statistic)).sum())
    if failed == len(statistic):
        raise FitError(f"none of the {draws} pairs of refits succeeded: {'; '.join(messages[:3])}")
    return NullDistribution(statistic, failed, sum(part[1] for part in parts), seed, tuple(messages))
