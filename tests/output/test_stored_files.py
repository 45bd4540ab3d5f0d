"""Files that earlier versions saved are read, with the numbers they were saved with, whatever is renamed later.

tests/stored/make_kinds.py wrote them with the first version of the format; they are kept, never made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.output.storage import cached, storage, stored_values
from hiermod.output.storage.container import Packed
from hiermod.output.storage.storage import save
from hiermod.study import power_study

FOLDER = Path(__file__).parents[1] / "stored" / "format-1"
EXPECTED = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
KINDS = [name for name in EXPECTED if name != "power"]
CACHED = next(name for name in KINDS if name.startswith("cache/"))
OWN = {"reml_own_function": {"halved": lambda x: x * 2.0}}
# Read as they are, or sums of few of them: 1e-12.  Solved again from cross-products that are made again: 1e-9, of
# numbers whose condition is some 1e4.
MADE_AGAIN = {"ranef_se", "predict"}
ON_DEMAND = {"ranef", "ranef_se", "predict"}  # drawn anew from the stored law


def load(name: str) -> Any:
    return hm.load(FOLDER / f"{name}.nc", extra_namespace=OWN.get(name))


def own_group(path: Path) -> Any:
    with path.open("rb") as handle:
        return Packed.read(handle).group("hiermod", plain=True)


def said(fit: Any, key: str) -> Any:
    """One entry of numbers.json, from a fit."""
    if key in ("formula", "nobs", "loglik", "criterion"):
        return getattr(fit, key)
    if key in ("fixef", "std_error"):
        return list(fit.fixef()["estimate" if key == "fixef" else key])
    if key in ("ranef", "levels", "ranef_se"):
        return list(fit.ranef()[{"ranef": "estimate", "levels": "level", "ranef_se": "std_error"}[key]])
    return {
        "terms": lambda: list(fit.fixef().index),
        "vcov": lambda: np.asarray(fit.vcov()).ravel().tolist(),
        "index": lambda: [str(one) for one in fit.design.index[:3]],
        # ordinal responses were counted from 0 when the files were written, and are from 1 since
        "y": lambda: (np.asarray(fit.design.y) - bool(fit.design.categories)).tolist(),
        "sdcor": lambda: list(fit.varcorr()["sdcor"]),
        "predict": lambda: list(fit.predict(fit.design.frame.head(2))["estimate"]),
        "draws": lambda: np.asarray(fit.record.beta).ravel()[:40].tolist(),
        "inference": lambda: [fit.inference.method, fit.inference.seed, fit.inference.draws],
        "priors": lambda: fit.origin.priors,
        "theta": lambda: list(fit.theta),
    }[key]()


def agree(name: str, fit: Any) -> None:
    for key, before in EXPECTED[name].items():
        now = said(fit, key)
        if isinstance(before, float) or (isinstance(before, list) and before and isinstance(before[0], float)):
            again = key in MADE_AGAIN or (name == "effects_on_demand" and key in ON_DEMAND)
            scale = np.nanmax(np.abs(np.atleast_1d(before)))
            rel = 1e-9 if again else 1e-12
            assert now == pytest.approx(before, rel=rel, abs=rel * scale, nan_ok=True), key
        else:
            assert now == before, key


@pytest.mark.stack
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file_gives_back_its_numbers(name: str) -> None:
    agree(name, load(name))


def test_every_record_stands_in_some_file() -> None:
    """So that none of them can be changed without a file to read it from."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.update({value["record"]} if "record" in value else ())
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    for name in KINDS:
        own = own_group(FOLDER / f"{name}.nc")
        look(json.loads(own["fit"].values.tobytes()))
    assert found == set(stored_values.RECORDS)


@contextmanager
def renamed() -> Iterator[None]:
    """Every class that a file names goes by another name."""
    before = {record: record.__name__ for record in (*stored_values.RECORDS.values(), *storage.KINDS.values())}
    for record, name in before.items():
        record.__name__ = f"Later{name}"
    try:
        yield
    finally:
        for record, name in before.items():
            record.__name__ = name


def test_records_may_be_renamed(tmp_path: Path) -> None:
    """Neither reading nor writing asks how a class is called today."""
    for name in ("reml", "glmm_laplace", "marginal", "effects_on_demand", "lm", "glm"):
        with renamed():
            again = hm.load(save(load(name), tmp_path / "again.nc"))
        agree(name, again)
        assert b"Later" not in own_group(tmp_path / "again.nc")["fit"].values.tobytes()


def test_a_file_of_a_cache_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    frame = load(CACHED).design.frame
    model = hm.Model("y ~ dose + (1 | school)", frame)
    found = cached._found(model, FOLDER / f"{CACHED}.nc", load(CACHED).origin.key)
    assert found is not None, caplog.text
    agree(CACHED, found)


def test_a_checkpoint_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FOLDER / "power.jsonl", tmp_path / "power.jsonl")
    monkeypatch.setattr(power_study, "as_done", lambda *_: pytest.fail("nothing is left to be done"))
    found = hm.power(
        "y ~ condition + (1 | subject)", lambda n: hm.designs.within(subjects=n), sizes=[8, 12],
        fixef={"Intercept": 0, "condition[treatment]": 0.8}, varcorr={"1|subject": 1}, sigma=0.8, fits=30,
        progressbar=False, checkpoint=tmp_path / "power.jsonl",
    )  # fmt: skip
    assert list(found.table["power"]) == EXPECTED["power"]["power"]
    pd.testing.assert_index_equal(found.table.index, pd.Index(EXPECTED["power"]["size"]), check_names=False)
