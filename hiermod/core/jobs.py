"""Work shared by processes: the same answers, in the same order, whatever their number.

Every process, the caller's own too, holds BLAS to one thread: sums in another order would make the numbers depend on
the machine's number of cores, and threads of several processes only wait for each other.  Workers end with the process
that started them, however that ends; a worker that ends before its work is told with the likely reason."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from hiermod.core.progress import Report
from hiermod.errors import FitError


class Workshop(Protocol):
    """Works on jobs; ``type(worker)(worker.source)`` makes the same one in another process."""

    source: Any

    def run(self, job: Any) -> Any:
        """The result of one job."""


_worker: Workshop | Exception | None = None  # of a child process


def _begin(make: Callable[[Any], Workshop], source: Any, begun: Any) -> None:
    """In a child: prepare once; Ctrl-C is the parent's affair.  begun: an Event, set once a child has come this far."""
    global _worker
    begun.set()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(limits=1, user_api="blas")
    try:
        _worker = make(source)
    except Exception as error:  # raised by the jobs: a pool would only say that it is broken
        _worker = error


def _end_with_parent() -> None:
    """In a child: end at once when the parent has.  A parent that was killed tells nobody, and the child's queue stays
    open as long as one child holds it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _child(job: Any) -> Any:
    if isinstance(_worker, Exception):
        raise _worker
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
    context = get_context("spawn")
    begun, others = context.Event(), set(active_children())
    start = (type(worker), worker.source, begun)
    pool = ProcessPoolExecutor(cores, context, initializer=_begin, initargs=start)
    children: list[BaseProcess] = []
    try:
        futures: dict[Future[Any], int] = {pool.submit(_child, job): index for index, job in enumerate(jobs)}
        children = [child for child in active_children() if child not in others]
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        pool.shutdown(wait=True, cancel_futures=True)  # then every child has its exit code
        raise FitError(_why_ended(begun.is_set(), [child.exitcode for child in children])) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _why_ended(begun: bool, codes: Sequence[int | None]) -> str:
    """Why workers ended early.  begun: they came as far as their work; codes: with which they ended, some of them
    because the others did, which the pool then terminates."""
    if not begun:
        return (
            "the worker processes ended before their work began. In a script, put what it does under "
            "if __name__ == '__main__': (new processes import the script); or use cores=1."
        )
    known = [code for code in codes if code]
    code = next((code for code in known if code != -signal.SIGTERM), known[0] if known else None)
    if code is None or code >= 0:
        how = "a worker process ended before its work was done" + ("" if code is None else f", with status {code}")
    else:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        how = f"a worker process was killed ({name})"
    return (
        f"{how}. When memory runs out the system kills processes like that, or somebody did. Try fewer cores=, each of "
        "which holds the data once, or cores=1, where an error can be seen; a checkpoint keeps what was done."
    )
