"""Ctrl-C while a model compiles: not lost where LLVM calls back into Python, whose exceptions ctypes throws away."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  # seconds after which an interrupt that came at a bad moment is tried again


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, an interrupt that finds llvmlite at work comes again a moment later instead of being thrown away.

    Does nothing outside the main thread, and where somebody has a handler of their own; puts back what was there."""
    ordinary = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ordinary or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _raise_or_wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _raise_or_wait(number: int, frame: FrameType | None) -> None:
    at: FrameType | None = frame
    while at is not None:
        if str(at.f_globals.get("__name__", "")).startswith("llvmlite"):
            later = threading.Timer(AGAIN, _thread.interrupt_main)
            later.daemon = True
            later.start()
            return
        at = at.f_back
    raise KeyboardInterrupt
