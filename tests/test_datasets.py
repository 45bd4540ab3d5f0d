"""The data sets: the manifest against the files, and load_dataset against the manifest and the reference results."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REFERENCE, data_name, read_reference

from hiermod import datasets
from hiermod.datasets import list_datasets, load_dataset
from hiermod.errors import ArgumentTypeError, FileError, UnknownNameError

FOLDER = Path(__file__).parents[1] / "datasets"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["datasets"]
# The list that the documentation promises.
PROMISED = {
    *("sleepstudy", "sleep2", "sleep_partial", "mtcars", "radon", "dyestuff", "dyestuff2", "penicillin", "pastes"),
    *("cake", "insteval", "cbpp", "verbagg", "grouseticks", "ucb_admissions", "eight_schools", "paired", "outlier"),
    *("no_outlier", "different_slopes", "simulated100", "simpson"),
}
CASES = sorted(path.stem for path in (REFERENCE / "lme4").glob("*.json") if "categorical" in read_reference(path.stem))


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a CSV file as text, read without pandas."""
    stored = path.read_bytes()
    text = gzip.decompress(stored) if path.suffix == ".gz" else stored
    return list(csv.reader(text.decode("utf-8").splitlines()))


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one data set and the manifest, which load_dataset reads instead of the real one."""
    for file in ("manifest.json", "sleepstudy.csv"):
        shutil.copy(FOLDER / file, tmp_path / file)
    monkeypatch.setattr(datasets, "_FOLDERS", (tmp_path,))
    yield tmp_path
    datasets._manifest.cache_clear()


def test_the_promised_data_sets_are_there() -> None:
    assert set(MANIFEST) == PROMISED
    assert set(list_datasets().index) == PROMISED


def test_every_file_has_an_entry() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert files == {entry["file"] for entry in MANIFEST.values()} | {"manifest.json", "README.md"}


@pytest.mark.parametrize("name", MANIFEST)
def test_manifest_describes_the_file(name: str) -> None:
    entry = MANIFEST[name]
    path = FOLDER / entry["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    header, *rows = rows_of(path)
    assert header == list(entry["columns"])
    assert len(rows) == entry["rows"]
    assert all(entry[key] for key in ("description", "source", "licence"))
    for position, (column, about) in enumerate(entry["columns"].items()):
        labels = {row[position] for row in rows}
        assert "" not in labels, f"{column}: load_dataset knows no missing values yet"
        assert about["description"], column
        assert about["kind"] in {"identifier", "factor", "number"}, column
        assert ("unit" in about) == (about["kind"] == "number"), column
        assert ("levels" in about) == (about["kind"] == "factor"), column
        if about["kind"] == "factor":
            assert set(about["levels"]) == labels, column
        if about["kind"] == "number":
            assert np.isfinite([float(label) for label in labels]).all(), column


def test_licence_table_of_the_readme_is_the_manifest() -> None:
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    said = {name: licence for licence, _, names in cells for name in names.split(", ")}
    assert said == {name: entry["licence"] for name, entry in MANIFEST.items()}


@pytest.mark.parametrize("name", MANIFEST)
def test_load_dataset_is_the_file(name: str) -> None:
    entry = MANIFEST[name]
    frame = load_dataset(name)
    header, *rows = rows_of(FOLDER / entry["file"])
    assert list(frame.columns) == header
    assert len(frame) == len(rows)
    for position, column in enumerate(header):
        text = [row[position] for row in rows]
        if entry["columns"][column]["kind"] == "number":
            assert frame[column].dtype.kind in "if"
            # Exact: the nearest double to each printed number, as R reads it.
            assert frame[column].tolist() == [float(cell) for cell in text]
        else:
            assert isinstance(frame[column].dtype, pd.CategoricalDtype)
            assert not frame[column].cat.ordered
            assert all(isinstance(label, str) for label in frame[column].cat.categories)
            assert frame[column].astype(object).tolist() == text
            levels = entry["columns"][column].get("levels")
            assert levels is None or list(frame[column].cat.categories) == levels
    assert frame.attrs["source"] == entry["source"]
    assert frame.attrs["licence"] == entry["licence"]
    assert frame.attrs["description"] == entry["description"]
    assert set(frame.attrs["units"]) == set(frame.select_dtypes("number").columns)


@pytest.mark.parametrize("case", CASES)
def test_factors_are_those_of_the_reference(case: str) -> None:
    results = read_reference(case)
    frame = load_dataset(data_name(results["data"]))
    for column in results["categorical"]:
        assert isinstance(frame[column].dtype, pd.CategoricalDtype), column
    for column, levels in results.get("levels", {}).items():
        assert list(frame[column].cat.categories) == levels  # R's order, from lme4 1.1-31
    for group, effects in results.get("ranef", {}).items():
        if group in frame:
            assert list(frame[group].cat.categories) == effects["levels"]


def test_integers_stay_integers() -> None:
    # Column types of R's data sets: Days is a whole number there, Reaction is not.
    sleep = load_dataset("sleepstudy")
    assert sleep.dtypes.astype(str).to_dict() == {"Reaction": "float64", "Days": "int64", "Subject": "category"}


def test_eight_schools_is_rubins_table() -> None:
    # Rubin (1981), Journal of Educational Statistics 6(4), 377-401: effects and standard errors as printed.
    schools = load_dataset("eight_schools")
    assert schools["school"].tolist() == list("ABCDEFGH")
    assert schools["effect"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert schools["se"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]


def test_identifiers_are_ordered_as_numbers() -> None:
    participants = load_dataset("simulated100")["participant"].cat.categories
    assert participants.tolist() == [str(number) for number in range(1, 101)]


def test_each_call_returns_a_new_frame() -> None:
    first = load_dataset("sleepstudy")
    first.loc[0, "Reaction"] = -1.0
    first["Subject"] = first["Subject"].cat.rename_categories(str.lower)
    first.attrs["units"]["Reaction"] = "s"
    second = load_dataset("sleepstudy")
    assert second.loc[0, "Reaction"] == 249.56  # first line of the CSV file
    assert second.attrs["units"]["Reaction"] == "ms"


def test_listing_a_change_does_not_reach_the_next_call() -> None:
    listed = list_datasets()
    listed.loc["sleepstudy", "rows"] = 0
    assert list_datasets().loc["sleepstudy", "rows"] == 180  # lme4's help page: 180 observations


def test_unknown_name_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownNameError, match=r"'sleepstdy'.*Did you mean 'sleepstudy'\?.*simpson") as caught:
        load_dataset("sleepstdy")
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("wrong", [None, 3, b"sleepstudy", ["sleepstudy"], pd.DataFrame()])
def test_a_name_is_a_string(wrong: object) -> None:
    with pytest.raises(ArgumentTypeError, match=f"got {type(wrong).__name__}"):
        load_dataset(wrong)  # type: ignore[arg-type]


def test_changed_file_is_refused(copied: Path) -> None:
    assert len(load_dataset("sleepstudy")) == 180
    path = copied / "sleepstudy.csv"
    path.write_bytes(path.read_bytes().replace(b"249.56", b"249.57"))
    with pytest.raises(FileError, match="damaged or was changed"):
        load_dataset("sleepstudy")


def test_missing_file_is_named(copied: Path) -> None:
    with pytest.raises(FileError, match=r"mtcars\.csv cannot be read"):
        load_dataset("mtcars")


def test_somebody_elses_datasets_folder_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").mkdir()
    monkeypatch.setattr(datasets, "_FOLDERS", (tmp_path / "_datasets", tmp_path / "datasets"))
    with pytest.raises(FileError, match=r"no manifest\.json"):
        list_datasets()


def test_the_packages_copy_comes_first(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_FOLDERS", (copied, FOLDER))
    assert datasets._folder() == copied
