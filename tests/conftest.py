"""What the tests share: the reference results of R, and the data they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hiermod.datasets import load_dataset

# Before anything imports matplotlib: no test opens a window. An explicit choice from outside stands.
os.environ.setdefault("MPLBACKEND", "Agg")

# Half a minute each and more, the longest first.  xdist would begin the files with the fewest tests last, these among
# them, while its other workers have nothing left to do.
LONG = (
    "test_random_models.py",
    "test_marginal_engine.py",
    "test_storage.py",
    "test_families.py",
    "test_bootstrap.py",
    "test_graph.py",
    "test_kfold.py",
    "test_nuts.py",
    "test_surrogate.py",
    "test_attacks_files.py",
    "test_recovery.py",
    "test_generalised_intervals.py",
    "test_cli.py",
    "test_long_runs.py",
    "test_marginal_bounds.py",
)

REFERENCE = Path(__file__).parent / "reference"
_DATASET = {"ucbadmissions_wide": "ucb_admissions"}


def pytest_configure(config: pytest.Config) -> None:
    """Where xdist is there: the files in our order, and one thread of BLAS for each worker.

    Workers are the parallel unit: threads beside them only wait for each other, at twice the processor time.  What
    holds BLAS to one thread is tested with two asked for."""
    if getattr(config.option, "numprocesses", None):
        config.option.loadscopereorder = False
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # workers begin with it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LONG first; otherwise as they were."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def read_reference(case: str) -> dict[str, Any]:
    """The reference results of one case (tests/reference/README.md says how to read them)."""
    return json.loads((REFERENCE / "lme4" / f"{case}.json").read_text(encoding="utf-8"))


def data_name(file: str) -> str:
    """``"sleepstudy"`` for the ``sleepstudy.csv`` that a reference case names."""
    stem = file.split(".")[0]
    return _DATASET.get(stem, stem)


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict[str, Any]]:
    """``reference("sleepstudy_slope")``: a new dict on each call."""
    return read_reference


@pytest.fixture(scope="session")
def reference_data() -> Callable[[str], pd.DataFrame]:
    """``reference_data("sleepstudy_slope")``: the data of a reference case, with its factors as categoricals."""

    def load(case: str) -> pd.DataFrame:
        return load_dataset(data_name(read_reference(case)["data"]))

    return load
