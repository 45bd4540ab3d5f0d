"""Parametric bootstrap: refits of responses simulated from the fit (Efron and Tibshirani 1993, ch. 6; lme4's bootMer).

Draws come in chunks, each with a stream of random numbers of its own, so the numbers do not depend on how many
processes share the work.  A REML fit is refitted by REML."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from hiermod.errors import ArgumentError, ArgumentTypeError, FitError
from hiermod.formula.design import FrozenArrays
from hiermod.frequentist.bootstrap_worker import Chunk, Fit, Worker
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
    fit: Fit,
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Simulate and refit ``draws`` times.  report(done, draws) is called after every chunk.

    cores > 1 starts that many processes; as always in Python, a script must then keep its own work under
    ``if __name__ == "__main__":``.  Few models need them: everyday ones are refitted in stacks, thousands a second."""
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise ArgumentError(f"draws must be a whole number of at least 1, got {draws!r}")
    if isinstance(cores, bool) or not isinstance(cores, int | np.integer) or cores < 1:
        raise ArgumentError(f"cores must be a whole number of at least 1, got {cores!r}")
    seed = resolved_seed(random_seed)
    worker = Worker(fit)
    jobs = worker.jobs(int(draws), seed)
    parts: list[Chunk | None] = [None] * len(jobs)
    done = 0
    for index, part in _run(worker, jobs, min(int(cores), len(jobs))):
        parts[index] = part
        done += len(part.values)
        if report is not None:
            report(done, int(draws))
    ready = [part for part in parts if part is not None]
    values, criterion = np.concatenate([p.values for p in ready]), np.concatenate([p.criterion for p in ready])
    converged, failed = np.concatenate([p.converged for p in ready]), np.concatenate([p.failed for p in ready])
    counts: dict[str, int] = {}
    for message in (message for part in ready for message in part.messages):
        counts[message] = counts.get(message, 0) + 1
    messages = [f"{message} ({n} times)" for message, n in sorted(counts.items(), key=lambda item: -item[1])]
    if failed.all():
        raise FitError(f"none of the {draws} bootstrap refits succeeded: {'; '.join(messages[:3])}")
    estimate = worker.estimates(fit)
    return Bootstrap(worker.parameters, estimate, values, criterion, converged, failed, seed, tuple(messages))


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


_worker: Worker | None = None  # of a child process


def _begin(fit: Fit) -> None:
    """In a child: prepare once; Ctrl-C is the parent's affair."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = Worker(fit)


def _child(job: tuple[int, np.random.Generator]) -> Chunk:
    if _worker is None:
        raise FitError("a bootstrap process was not prepared")
    return _worker.run(job)


def _run(worker: Worker, jobs: list[tuple[int, np.random.Generator]], cores: int) -> Iterator[tuple[int, Chunk]]:
    """(index, result) of every job as it ends."""
    if cores == 1:
        yield from ((index, worker.run(job)) for index, job in enumerate(jobs))
        return
    pool = ProcessPoolExecutor(cores, get_context("spawn"), initializer=_begin, initargs=(worker.fit,))
    try:
        futures: dict[Future[Chunk], int] = {pool.submit(_child, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise FitError(
            "the bootstrap's processes ended early. In a script, put what it does under "
            "if __name__ == '__main__': (new processes import the script); or use cores=1."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
