"""One line on the terminal (or under the notebook cell) for long work: how many of how many, how long yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

QUIET = 3.0  # seconds in which nobody wonders yet


class Progress:
    """Called with (done, total); rewrites its line on stderr, and leaves it blank at the end."""

    def __init__(self, what: str) -> None:
        self.what, self.begin, self.width = what, time.monotonic(), 0

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        elapsed = time.monotonic() - self.begin
        if not self.width and elapsed < QUIET:
            return
        left = elapsed / done * (total - done)
        text = "" if done == total else f"{self.what}: {done} of {total}, about {left:.0f} s to go"
        sys.stderr.write(f"\r{text.ljust(self.width)}" + ("\r" if done == total else ""))
        sys.stderr.flush()
        self.width = len(text)


def progress(what: str, wanted: bool = True) -> Callable[[int, int], None] | None:
    """A Progress where it is wanted and somebody watches (a terminal, a notebook); else None."""
    from hiermod.bayes.nuts import _someone_watches

    return Progress(what) if wanted and _someone_watches() else None
