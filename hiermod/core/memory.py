"""How much memory is free, in one place, and the refusal of what would take more: before it is begun, with its size.

Free is what the operating system would give without swapping, within the limits of a container (cgroup) and of the
process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hiermod.errors import HiermodError

SHARE = 0.8  # of what is free: an estimate of a size can be short of it, and other programs run too
CGROUPS = (  # limit and use of a container, versions 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> float:
    """Bytes that this process can still take; inf where the system does not say."""
    found = [_of_the_system(), _of_the_process()]
    found += [_number(limit) - _number(used) for limit, used in CGROUPS]
    return max(0.0, min(one for one in found if one == one))  # nan: not known


def room(most: float = float("inf")) -> float:
    """Bytes that one computation may take: a share of what is free, and at most ``most``."""
    return min(most, SHARE * free_memory())


def check_room(what: str, size: float, advice: str, error: type[HiermodError], most: float = float("inf")) -> None:
    """Raise ``error`` where ``size`` bytes are more than there is room for: what needs them, how many, what to do."""
    limit = room(most)
    if size > limit:
        raise error(f"{what} would take about {size / 1e9:,.1f} GB, and there is room for {limit / 1e9:,.1f}. {advice}")


def _of_the_system() -> float:
    if sys.platform == "win32":
        return _of_windows()
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))  # all there is: better than inf
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _of_windows() -> float:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        )

    status = Status()
    status.length = ctypes.sizeof(Status)
    answered = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return float(status.free) if answered else float("inf")


def _of_the_process() -> float:
    """Under ``ulimit -v``, what is left of it."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return float("inf")
        pages = float(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return float("inf")


def _number(path: str) -> float:
    try:
        return float(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return float("nan")
