"""Work shared by processes: the same answers, in the same order, whatever their number.

Every process, the caller's own too, holds BLAS to one thread: sums in another order would make the numbers depend on
the machine's number of cores, and threads of several processes only wait for each other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from hiermod.errors import FitError
from hiermod.progress import Report


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


def run_jobs(
    worker: Workshop, jobs: Sequence[Any], cores: int, report: Report | None = None, sizes: Sequence[int] | None = None
) -> list[Any]:
    """The results in the order of the jobs.  report(done, total) counts jobs, or what ``sizes`` says each is worth."""
    sizes = [1] * len(jobs) if sizes is None else sizes
    parts: list[Any] = [None] * len(jobs)
    done, total = 0, sum(sizes)
    for index, part in as_done(worker, jobs, cores):
        parts[index] = part
        done += sizes[index]
        if report is not None:
            report(done, total)
    return parts


def as_done(worker: Workshop, jobs: Sequence[Any], cores: int) -> Iterator[tuple[int, Any]]:
    """(index, result) of every job as it ends."""
    cores = min(cores, len(jobs))
    if cores <= 1:
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
