"""Parametric bootstrap: refits of responses simulated from the fit (Efron and Tibshirani 1993, ch. 6; lme4's bootMer).

Draws come in chunks, each with a stream of random numbers of its own, so the numbers do not depend on how many
processes share the work.  A REML fit is refitted by REML."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from hiermod.errors import ArgumentError, ArgumentTypeError, FitError
from hiermod.formula.design import FrozenArrays
from hiermod.frequentist.bootstrap_worker import Fit, Worker
from hiermod.frequentist.generalised_record import GeneralisedMixedFit
from hiermod.frequentist.generalised_refit import GeneralisedRecord, GeneralisedWorker
from hiermod.frequentist.glm import GeneralisedLinearFit
from hiermod.frequentist.held import Parameter


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
    report: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Simulate and refit ``draws`` times.  report(done, draws) is called after every chunk.

    cores > 1 starts that many processes; as always in Python, a script must then keep its own work under
    ``if __name__ == "__main__":``.  Few models need them: everyday ones are refitted in stacks, thousands a second."""
    check_count("draws", draws)
    check_count("cores", cores)
    seed = resolved_seed(random_seed)
    worker = worker_of(fit)
    jobs = worker.jobs(int(draws), seed)
    ready = run_jobs(worker, jobs, int(cores), report)
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


def check_count(name: str, value: object) -> None:
    """ArgumentError for what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}")


def counted(messages: Iterable[str]) -> list[str]:
    """Each message once, with how often it came, most frequent first."""
    return [f"{message} ({n} times)" for message, n in Counter(messages).most_common()]


def resolved_seed(random_seed: int | np.random.Generator | None) -> int:
    """The integer that stands for ``random_seed``: drawn from a Generator, or fresh for None."""
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**31 - 1))
    if random_seed is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer):
        raise ArgumentTypeError(
            f"random_seed must be None, an int or a numpy Generator, got {type(random_seed).__name__}"
        )
    if random_seed < 0:
        raise ArgumentError(f"random_seed must not be negative, got {random_seed}")
    return int(random_seed)


Job = tuple[int, np.random.Generator]


class Workshop(Protocol):
    """Works on jobs; ``type(worker)(worker.source)`` makes the same one in another process."""

    source: Any

    def run(self, job: Any) -> Any:
        """The result of one job."""


_worker: Workshop | None = None  # of a child process


def _begin(make: Callable[[Any], Workshop], source: Any) -> None:
    """In a child: prepare once; Ctrl-C is the parent's affair."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(limits=1, user_api="blas")
    _worker = make(source)


def _child(job: Any) -> Any:
    if _worker is None:
        raise FitError("a worker process was not prepared")
    return _worker.run(job)


def run_jobs(worker: Workshop, jobs: Sequence[Any], cores: int, report: Callable[[int, int], None] | None) -> list[Any]:
    """The results in the order of the jobs, whatever the number of processes.  report(draws done, draws).

    jobs: tuples whose first element is the number of draws."""
    parts: list[Any] = [None] * len(jobs)
    done, total = 0, sum(job[0] for job in jobs)
    for index, part in as_done(worker, jobs, min(cores, len(jobs))):
        parts[index] = part
        done += jobs[index][0]
        if report is not None:
            report(done, total)
    return parts


def as_done(worker: Workshop, jobs: Sequence[Any], cores: int) -> Iterator[tuple[int, Any]]:
    """(index, result) of every job as it ends.

    One BLAS thread: sums in another order would make the numbers depend on the machine's number of cores."""
    if cores == 1:
        with threadpool_limits(limits=1, user_api="blas"):
            yield from ((index, worker.run(job)) for index, job in enumerate(jobs))
        return
    pool = ProcessPoolExecutor(cores, get_context("spawn"), initializer=_begin, initargs=(type(worker), worker.source))
    try:
        futures: dict[Future[Any], int] = {pool.submit(_child, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise FitError(
            "the worker processes ended early. In a script, put what it does under "
            "if __name__ == '__main__': (new processes import the script); or use cores=1."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
