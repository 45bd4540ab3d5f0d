"""One line on the terminal, or under the notebook cell, for long work: how many of how many, how long yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET = 1.0  # seconds in which nobody wonders yet
WIDTH = 30

Report = Callable[[int, int], None]
"""Called with (done, total)."""


def someone_watches() -> bool:
    """A terminal, or a notebook: only there is a progress bar readable."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and type(shell).__name__ == "ZMQInteractiveShell":
        return True
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress(what: str, wanted: bool = True) -> Iterator[Report | None]:
    """What to report to where it is wanted and somebody watches, else None; the line is blank again at the end."""
    if not wanted or not someone_watches():
        yield None
        return
    bar = _Bar(what)
    try:
        yield bar
    finally:
        bar.erase()


class _Bar:
    def __init__(self, what: str) -> None:
        self.what, self.began, self.drawn = what, time.monotonic(), 0

    def __call__(self, done: int, total: int) -> None:
        seconds = time.monotonic() - self.began
        if seconds < QUIET:
            return
        filled, left = WIDTH * done // total, seconds * (total - done) / done
        text = f"{self.what} {'█' * filled}{'·' * (WIDTH - filled)} {done}/{total}, {left:.0f} s left"
        sys.stderr.write("\r" + text.ljust(self.drawn))
        sys.stderr.flush()
        self.drawn = len(text)

    def erase(self) -> None:
        if self.drawn:
            sys.stderr.write("\r" + " " * self.drawn + "\r")
            sys.stderr.flush()


@contextmanager
def notice(text: str, wanted: bool = True) -> Iterator[None]:
    """A line for as long as something lasts, where it is wanted and somebody watches; blank again at the end."""
    if not wanted or not someone_watches():
        yield
        return
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r" + " " * len(text) + "\r")
        sys.stderr.flush()
