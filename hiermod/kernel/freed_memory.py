"""Memory that a process keeps between evaluations, where each allocates some megabytes.

glibc gives memory at the end of the heap back to the kernel when more than a threshold is free, and gets it anew, page
by page: most of an evaluation's time where pages are dear (a virtual machine; 4.0 ms against 1.7 with a tail of 300
columns).  The threshold follows the largest block that a process has freed (mallopt(3), M_MMAP_THRESHOLD), so one is
freed."""

from __future__ import annotations

import numpy as np

LARGE = 31 * 2**20  # bytes; blocks from 32 MiB on do not count


def keep_freed_memory() -> None:
    """From now on up to about 60 MB that were freed stay with the process.  Nothing is touched, so it costs nothing;
    other allocators than glibc's do as they always do."""
    np.empty(LARGE, dtype=np.uint8)
