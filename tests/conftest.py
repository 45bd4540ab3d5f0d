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

REFERENCE = Path(__file__).parent / "reference"
_DATASET = {"ucbadmissions_wide": "ucb_admissions"}


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
