"""Work in processes: order, counts, one BLAS thread, and what a child's end looks like from outside."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import hiermod
from hiermod.core.jobs import as_done, run_jobs
from hiermod.errors import FitError


class Squares:
    def __init__(self, source: int) -> None:
        self.source = source

    def run(self, job: int) -> tuple[int, set[int], int]:
        np.linalg.inv(np.eye(2))
        threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        return self.source * job**2, threads, os.getpid()


class Dies:
    """Ends its process: with a status, or by a signal."""

    def __init__(self, source: str) -> None:
        self.source = source

    def run(self, job: int) -> None:
        if self.source == "status":
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, self.source))
        time.sleep(60)


class Unprepared:
    """In another process it cannot be made."""

    def __init__(self, source: int) -> None:
        self.source = source
        if multiprocessing.parent_process() is not None:
            raise FitError("no such thing here")

    def run(self, job: int) -> None: ...


class Sleeps:
    def __init__(self, source: str) -> None:
        self.source = source

    def run(self, job: int) -> None:
        Path(self.source, f"{os.getpid()}.pid").touch()
        time.sleep(600)


@pytest.mark.parametrize("cores", [1, 2, 9])
def test_results_come_in_order_from_processes_with_one_blas_thread(cores, monkeypatch):
    reported: list[tuple[int, int]] = []
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")  # of children, until they are held to one
    with threadpool_limits(limits=2, user_api="blas"):
        found = run_jobs(Squares(10), range(5), cores, lambda *at: reported.append(at), [1, 2, 3, 4, 5])
    assert [value for value, _, _ in found] == [0, 10, 40, 90, 160]
    assert all(threads <= {1} for _, threads, _ in found)
    assert any(threads for _, threads, _ in found)
    assert (os.getpid() in {pid for _, _, pid in found}) == (cores == 1)
    assert len(reported) == 5
    assert reported[-1] == (15, 15)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_jobs_count_one_each_where_no_sizes_are_given():
    reported: list[tuple[int, int]] = []
    run_jobs(Squares(1), [7, 8], 1, lambda *at: reported.append(at))
    assert reported == [(1, 2), (2, 2)]


def test_no_jobs_no_results():
    assert run_jobs(Squares(1), [], 4) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_killed_worker_is_told_as_such(name):
    with pytest.raises(FitError, match=rf"was killed \({name}\).*fewer cores") as found:
        list(as_done(Dies(name), [1, 2], 2))
    assert "__main__" not in str(found.value)


def test_a_worker_that_ends_is_told_with_its_status():
    with pytest.raises(FitError, match=r"ended before its work was done, with status 3\."):
        list(as_done(Dies("status"), [1, 2], 2))


def test_what_a_worker_cannot_prepare_is_its_own_error():
    with pytest.raises(FitError, match="no such thing here"):
        list(as_done(Unprepared(1), [1, 2], 2))


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from test_jobs import Squares\nfrom hiermod.core.jobs import run_jobs\nrun_jobs(Squares(2), [1, 2], 2)\n",
        encoding="utf-8",
    )
    done = run_script(script)
    assert "FitError: the worker processes ended before their work began. In a script, put" in done.stderr
    assert "__main__" in done.stderr


def run_script(script: Path, **how: int) -> subprocess.CompletedProcess[str]:
    roots = [str(Path(hiermod.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    how = how or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run([sys.executable, script], env=environment, text=True, timeout=300, **how)


ORPHANS = """
import os, signal, sys, threading, time
from pathlib import Path
from test_jobs import Sleeps
from hiermod.core.jobs import run_jobs

def end():
    while len(list(Path(sys.argv[0]).parent.glob("*.pid"))) < 2:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.HOW)

if __name__ == "__main__":
    threading.Thread(target=end, daemon=True).start()
    run_jobs(Sleeps(os.path.dirname(sys.argv[0])), [1, 2], 2)
"""


def runs(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent's word is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_workers_end_with_their_parent(how, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS.replace("HOW", how), encoding="utf-8")
    done = run_script(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # orphans would hold pipes open
    assert done.returncode == -getattr(signal, how)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(workers) == 2
    end = time.monotonic() + 20  # they hear of it within milliseconds; the machine may be busy
    while any(runs(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.02)
    left = [pid for pid in workers if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
