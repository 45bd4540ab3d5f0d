"""Parametric bootstrap: refits of responses simulated from the fit (Efron and Tibshirani 1993, ch. 6; lme4's bootMer).

Draws come in chunks, each with a stream of random numbers of its own, so the numbers do not depend on how many
processes share the work.  A REML fit is refitted by REML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hiermod.core.arguments import LARGEST_CORES, LARGEST_FITS, check_count, resolve_seed
from hiermod.core.jobs import run_jobs
from hiermod.core.progress import Report
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.generalised_refit import GeneralisedRecord
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.errors import FitError
from hiermod.formula.design import FrozenArrays
from hiermod.inference.bootstrap.generalised_worker import GeneralisedWorker
from hiermod.inference.bootstrap.worker import Fit, Worker
from hiermod.inference.profile.deviance import Parameter


@dataclass(frozen=True, eq=False)
class Bootstrap(FrozenArrays):
    """Estimates from every simulated response, in the order of ``parameters``."""

    parameters: tuple[Parameter, ...]
    estimate: np.ndarray  # (q,) of the fit itself
    values: np.ndarray  # (draws, q); a failed refit's row is nan, and so is a correlation with an sd of 0
    criterion: np.ndarray  # (draws,)
    converged: np.ndarray  # (draws,) bool
    failed: np.ndarray  # (draws,) bool
    seed: int
    messages: tuple[str, ...]  # what went wrong, in words, most frequent first

    def limits(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(q,) percentile limits of the refits that succeeded, linear between order statistics (R's type 7)."""
        tails = [0.5 - level / 2, 0.5 + level / 2]
        found = np.full((2, len(self.parameters)), np.nan)
        for index, column in enumerate(self.values.T):
            known = column[np.isfinite(column)]
            if len(known):
                found[:, index] = np.quantile(known, tails)
        return found[0], found[1]


def bootstrap(
    fit: Fit | GeneralisedRecord,
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    report: Report | None = None,
) -> Bootstrap:
    """Simulate and refit ``draws`` times.  report(done, draws) is called after every chunk.

    cores > 1 starts that many processes; as always in Python, a script must then keep its own work under
    ``if __name__ == "__main__":``.  Few models need them: everyday ones are refitted in stacks, thousands a second."""
    draws, cores = check_count("draws", draws, most=LARGEST_FITS), check_count("cores", cores, most=LARGEST_CORES)
    seed = resolve_seed(random_seed)
    worker = worker_of(fit)
    jobs = worker.jobs(draws, seed)
    ready = run_jobs(worker, jobs, cores, report, [count for count, _ in jobs])
    values, criterion = np.concatenate([p.values for p in ready]), np.concatenate([p.criterion for p in ready])
    converged, failed = np.concatenate([p.converged for p in ready]), np.concatenate([p.failed for p in ready])
    messages = counted(message for part in ready for message in part.messages)
    if failed.all():
        raise FitError(f"none of the {draws} bootstrap refits succeeded: {'; '.join(messages[:3])}")
    estimate = worker.estimates(fit)
    return Bootstrap(worker.parameters, estimate, values, criterion, converged, failed, seed, tuple(messages))


def worker_of(fit: Fit | GeneralisedRecord) -> Worker:
    """What simulates from a fit and refits it."""
    if isinstance(fit, GeneralisedMixedFit | GeneralisedLinearFit):
        return GeneralisedWorker(fit)
    return Worker(fit)


def counted(messages: Iterable[str]) -> list[str]:
    """Each message once, with how often it came, most frequent first."""
    return [f"{message} ({n} times)" for message, n in Counter(messages).most_common()]
