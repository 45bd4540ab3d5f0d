"""One BLAS thread where more gain little and cost much when other processes are at work.

Factorising a dense tail of some hundred columns is too short for threads: on an idle machine two save a fifth, on a
busy one they spin against their neighbours (InstEval: 0.7 s with one thread, up to 19 s with two near a test run)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SHORT, LONG = 150, 4000  # columns of the tail between which one thread is the better choice


@contextmanager
def suitable_threads(columns: int) -> Iterator[None]:
    """BLAS held to one thread inside the block when the tail has between SHORT and LONG columns."""
    if not SHORT <= columns <= LONG:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
