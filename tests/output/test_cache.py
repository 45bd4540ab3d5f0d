"""Model.fit(cache=folder): reused when nothing that matters changed, made again when anything did."""

from __future__ import annotations

import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.engines.marginal import engine as marginal
from hiermod.errors import ArgumentTypeError, FileError, UnsupportedError
from hiermod.output.storage import cached
from hiermod.output.storage.cached import cache_key

SETTINGS = {"draws": 500, "tune": 1000, "chains": 4, "target_accept": None, "inference_method": "auto"}
FORMULA = "Yield ~ 1 + (1 | Batch)"


@pytest.fixture
def data() -> pd.DataFrame:
    return hm.load_dataset("dyestuff").assign(extra=np.arange(30) % 7)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The seeds of the runs that the engine really made."""
    made: list[Any] = []
    engine = marginal.sample_marginal

    def counting(*args: Any, **how: Any) -> Any:
        made.append(how["random_seed"])
        return engine(*args, **how)

    monkeypatch.setattr(marginal, "sample_marginal", counting)
    return made


def test_the_second_time_nothing_runs(data: pd.DataFrame, runs: list[Any], tmp_path: Path, caplog: Any) -> None:
    folder = tmp_path / "new" / "cache"  # made when it is not there
    first = hm.Model(FORMULA, data).fit(draws=500, random_seed=3, cache=folder)
    with caplog.at_level(logging.INFO, logger="hiermod"):
        second = hm.Model(FORMULA, data).fit(draws=500, random_seed=3, cache=str(folder))
    assert runs == [3]
    assert "read from" in caplog.text
    pd.testing.assert_frame_equal(first.parameters(), second.parameters(), check_exact=True)
    assert first.inference.reason in second.inference.reason
    assert "read from the cache" in second.inference.reason
    assert "read from the cache" in str(second.check())
    assert second.inference.seconds == first.inference.seconds  # what it took when it ran
    plain = hm.Model(FORMULA, data).fit(draws=500, random_seed=3)  # the cache changes no draw
    assert np.array_equal(plain.record.beta, second.record.beta)
    assert hm.load(next(folder.iterdir())).fixef().equals(first.fixef())  # a file of the cache is a file like any


def test_the_key_changes_with_what_matters(data: pd.DataFrame) -> None:
    def key(model: hm.Model, seed: int | None = 1, **changes: Any) -> str:
        return cache_key(model, seed, SETTINGS | changes)

    base = hm.Model(FORMULA, data)
    other = data.astype({"Yield": float})
    other.loc[3, "Yield"] += 1e-9
    swapped = data.iloc[[1, 0, *range(2, 30)]]
    relabelled = data.assign(Batch=data["Batch"].cat.rename_categories({"A": "Z"}))
    different = {
        "a value": key(hm.Model(FORMULA, other)),
        "order of rows": key(hm.Model(FORMULA, swapped)),
        "a level's name": key(hm.Model(FORMULA, relabelled)),
        "rows": key(hm.Model(FORMULA, data.head(25))),
        "formula": key(hm.Model("Yield ~ 1 + extra + (1 | Batch)", data)),
        "bars": key(hm.Model("Yield ~ extra + (extra || Batch)", data)),
        "correlated": key(hm.Model("Yield ~ extra + (extra | Batch)", data)),
        "prior": key(hm.Model(FORMULA, data, priors={"sigma": "HalfNormal(50)"})),
        "prior's number": key(hm.Model(FORMULA, data, priors={"sigma": "HalfNormal(50.00000000001)"})),
        "eta": key(hm.Model("Yield ~ extra + (extra | Batch)", data, priors={"Batch_corr": "LKJ(3)"})),
        "family": key(hm.Model(FORMULA, data, family="t")),
        "link": key(hm.Model(FORMULA, data, link="log")),
        "weights": key(hm.Model(FORMULA, data, weights=np.full(30, 2.0))),
        "se": key(hm.Model(FORMULA, data, se=np.full(30, 2.0))),
        "centring": key(hm.Model(FORMULA, data, center_predictors=False)),
        "noncentered": key(hm.Model(FORMULA, data, noncentered=False)),
        "draws": key(base, draws=501),
        "tune": key(base, tune=999),
        "chains": key(base, chains=3),
        "target": key(base, target_accept=0.95),
        "method": key(base, inference_method="nutpie"),
        "sampler": key(base, low_rank_modified_mass_matrix=True),
        "seed": key(base, seed=2),
        "no seed": key(base, seed=None),
        "base": key(base),
    }
    assert len(set(different.values())) == len(different)
    same = {
        "again": key(hm.Model(FORMULA, data.copy())),
        "spaces": key(hm.Model("Yield~1+(1|Batch)", data)),
        "row labels": key(hm.Model(FORMULA, data.set_index(pd.Index(range(30, 60))))),
        "columns not used": key(hm.Model(FORMULA, data.drop(columns="extra"))),
        "whole numbers as decimals": key(hm.Model(FORMULA, data.astype({"Yield": float}))),
        "a numpy seed": key(base, seed=np.int64(1)),
    }
    assert set(same.values()) == {different["base"]}


def test_functions_count_by_what_they_give(data: pd.DataFrame) -> None:
    def key(function: Any) -> str:
        model = hm.Model("Yield ~ own(extra) + (1 | Batch)", data, extra_namespace={"own": function})
        return cache_key(model, 1, SETTINGS)

    assert key(lambda x: x * 2.0) == key(lambda x: x + x) != key(lambda x: x * 3.0)


def test_what_is_left_to_the_engine_is_what_it_takes(data: pd.DataFrame) -> None:
    """So that a file of a fit with tune=1000, once the default, is found by one that leaves it out."""
    model = hm.Model(FORMULA, data)
    for method in ("auto", "pymc"):
        asked = SETTINGS | {"inference_method": method}
        assert cache_key(model, 1, asked | {"tune": None}) == cache_key(model, 1, asked)
        assert cache_key(model, 1, asked | {"tune": 500}) != cache_key(model, 1, asked)


def test_versions_that_matter(data: pd.DataFrame, monkeypatch: Any) -> None:
    installed = cached.package_versions
    changed: dict[str, str] = {}
    monkeypatch.setattr(cached, "package_versions", lambda names: installed(names) | changed)
    model = hm.Model(FORMULA, data)
    nuts = SETTINGS | {"inference_method": "pymc"}
    before, graph = cache_key(model, 1, SETTINGS), cache_key(model, 1, nuts)
    changed["python"] = "4.0"
    assert (cache_key(model, 1, SETTINGS), cache_key(model, 1, nuts)) == (before, graph)
    changed["numpy"] = "99"
    assert cache_key(model, 1, SETTINGS) != before
    assert cache_key(model, 1, nuts) != graph
    names: list[set[str]] = []
    monkeypatch.setattr(cached, "package_versions", lambda wanted: names.append(set(wanted)) or {})
    cache_key(model, 1, SETTINGS)
    cache_key(model, 1, nuts)
    assert "pymc" not in names[0]  # the marginal engine uses neither PyMC nor Bambi
    assert {"pymc", "bambi", "nutpie", "pytensor", "hiermod"} <= names[1]


def test_seeds(data: pd.DataFrame, runs: list[Any], tmp_path: Path) -> None:
    model = hm.Model(FORMULA, data)
    anything = model.fit(draws=500, cache=tmp_path)
    assert model.fit(draws=500, cache=tmp_path).inference.seed == anything.inference.seed  # None: any seed will do
    assert runs == [None]
    with_cache, without = np.random.default_rng(5), np.random.default_rng(5)
    seed = model.fit(draws=500, random_seed=with_cache, cache=tmp_path).inference.seed
    assert model.fit(draws=500, random_seed=without).inference.seed == seed
    assert with_cache.integers(1000) == without.integers(1000)  # the Generator moved on by the same step
    again = model.fit(draws=500, random_seed=np.random.default_rng(5), cache=tmp_path)
    assert again.inference.seed == seed
    assert len(runs) == 3  # None, the first Generator's, and the run without a cache


def test_what_is_returned_has_the_rows_of_today(data: pd.DataFrame, runs: list[Any], tmp_path: Path) -> None:
    hm.Model(FORMULA, data).fit(draws=500, random_seed=1, cache=tmp_path)
    today = data.set_index(pd.Index([f"row {i}" for i in range(30)]))
    model = hm.Model(FORMULA, today)
    fit = model.fit(draws=500, random_seed=1, cache=tmp_path)
    assert len(runs) == 1
    assert list(fit.fitted().index) == list(today.index)
    assert fit.model is model


@pytest.mark.parametrize("wrong", ["cut", "empty", "text", "another fit"])
def test_a_bad_file_is_replaced(wrong: str, data: pd.DataFrame, runs: list[Any], tmp_path: Path, caplog: Any) -> None:
    model = hm.Model(FORMULA, data)
    first = model.fit(draws=500, random_seed=1, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    if wrong == "another fit":
        model.fit(draws=500, random_seed=2).save(path)
    else:
        path.write_bytes({"cut": good[:3000], "empty": b"", "text": b"hello"}[wrong])
    runs.clear()
    with caplog.at_level(logging.WARNING, logger="hiermod"):
        again = model.fit(draws=500, random_seed=1, cache=tmp_path)
    assert runs == [1]
    assert "the model is fitted again" in caplog.text
    assert again.fixef().equals(first.fixef())
    assert model.fit(draws=500, random_seed=1, cache=tmp_path).fixef().equals(first.fixef())
    assert runs == [1]  # the file is good again
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_costs_no_fit(
    data: pd.DataFrame, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with caplog.at_level(logging.WARNING, logger="hiermod"):
        fit = hm.Model(FORMULA, data).fit(draws=500, random_seed=1, cache=tmp_path)
    assert fit.nobs == 30
    assert "made but not kept" in caplog.text
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_file(data: pd.DataFrame, tmp_path: Path, monkeypatch: Any) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        hm.Model(FORMULA, data).fit(draws=500, random_seed=1, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_writers_of_one_file(data: pd.DataFrame, tmp_path: Path) -> None:
    fit = hm.Model(FORMULA, data).fit(draws=500, random_seed=1)
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(fit.save, tmp_path / "fit.nc") for _ in range(8)]:
            one.result()
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]
    assert hm.load(tmp_path / "fit.nc").fixef().equals(fit.fixef())


def test_what_cannot_be_a_cache(data: pd.DataFrame, tmp_path: Path) -> None:
    model = hm.Model(FORMULA, data)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="is no folder"):
        model.fit(cache=tmp_path / "file")
    with pytest.raises(ArgumentTypeError, match="path of a folder"):
        model.fit(cache=True)


def test_what_cannot_be_told_apart_is_not_cached(
    data: pd.DataFrame, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    model = hm.Model(FORMULA, data)
    with pytest.raises(UnsupportedError, match="cannot be told from another"):
        cache_key(model, 1, SETTINGS | {"callback": print})
    monkeypatch.setattr(cached, "plain_priors", lambda priors: None)  # as for a prior that is a function
    with caplog.at_level(logging.WARNING, logger="hiermod"):
        assert model.fit(draws=500, random_seed=1, cache=tmp_path).nobs == 30
    assert "not cached: a prior is made by a function" in caplog.text
    assert list(tmp_path.iterdir()) == []
