"""Work in processes: order, counts, one BLAS thread, and what a child's end looks like from outside."""

from __future__ import annotations

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from hiermod.errors import FitError
from hiermod.jobs import as_done, run_jobs


class Squares:
    def __init__(self, source: int) -> None:
        self.source = source

    def run(self, job: int) -> tuple[int, set[int], int]:
        np.linalg.inv(np.eye(2))
        threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        return self.source * job**2, threads, os.getpid()


class Dies:
    def __init__(self, source: None) -> None:
        self.source = source

    def run(self, job: int) -> None:
        os._exit(3)


@pytest.mark.parametrize("cores", [1, 2, 9])
def test_results_come_in_order_from_processes_with_one_blas_thread(cores):
    reported: list[tuple[int, int]] = []
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


def test_a_process_that_ends_is_told_with_a_way_out():
    with pytest.raises(FitError, match="__main__"):
        list(as_done(Dies(None), [1, 2], 2))
