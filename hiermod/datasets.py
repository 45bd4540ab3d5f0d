"""The data sets that ship with hiermod, described by ``datasets/manifest.json``.

An installed package keeps its copy in ``hiermod/_datasets``; in a checkout the files lie in ``datasets/`` beside the
package."""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.checked import checked
from hiermod.errors import ArgumentTypeError, FileError, UnknownNameError, nearest

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "_datasets", _PACKAGE.parent / "datasets")


def list_datasets() -> pd.DataFrame:
    """The data sets that :func:`load_dataset` knows.

    Returns
    -------
    DataFrame
        Index ``name``; columns ``rows`` (int), ``columns`` (their names, joined by commas), ``description``,
        ``licence`` (an SPDX expression; each file has its own) and ``source`` (the reference).

    Examples
    --------
    >>> list_datasets().loc["sleepstudy", "columns"]
    'Reaction, Days, Subject'
    """
    entries = _manifest(_folder())
    table = {
        name: {
            "rows": entry["rows"],
            "columns": ", ".join(entry["columns"]),
            "description": entry["description"],
            "licence": entry["licence"],
            "source": entry["source"],
        }
        for name, entry in entries.items()
    }
    found = pd.DataFrame.from_dict(table, orient="index").rename_axis("name")
    found.attrs["aside"] = ("licence", "source")
    return noted(found, ["Columns not printed: licence, source."])


@checked
def load_dataset(name: str) -> pd.DataFrame:
    """One of the data sets that ship with hiermod, as a new DataFrame.

    Identifiers and factors (``Subject``, ``condition``) are unordered categoricals with text labels, so that a
    subject's number is never taken for a quantity; labels that are all integers are ordered as numbers, others by
    code point. Counts and codes that stay numbers are int, measurements float.

    Parameters
    ----------
    name
        A name in the index of :func:`list_datasets`, for example ``"sleepstudy"``.

    Returns
    -------
    DataFrame
        One row per observation. ``.attrs`` holds ``source`` and ``licence`` (SPDX), ``description`` and ``units``
        (a dict from numeric column to its unit).

    Raises
    ------
    ArgumentTypeError
        ``name`` is not a string.
    UnknownNameError
        No data set has this name.
    FileError
        The file is missing or damaged: its SHA-256 is not the manifest's.

    Examples
    --------
    >>> sleep = load_dataset("sleepstudy")
    >>> sleep.head(2)
       Reaction  Days Subject
    0  249.5600     0     308
    1  258.7047     1     308
    >>> sleep.attrs["units"]
    {'Reaction': 'ms', 'Days': 'days'}
    >>> list(sleep["Subject"].cat.categories[:3])
    ['308', '309', '310']
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"load_dataset needs the name of a data set as a string, got {type(name).__name__}: for example "
            "load_dataset('sleepstudy'). A DataFrame of your own goes into Model(formula, data) directly."
        )
    folder = _folder()
    entries = _manifest(folder)
    if name not in entries:
        raise UnknownNameError(
            f"no data set is called {name!r}.{nearest(name, entries)} Available: {', '.join(entries)}. "
            "For a file of your own use hiermod.read_csv."
        )
    entry = entries[name]
    return _frame(_content(folder / entry["file"], entry["sha256"]), entry)


def _folder() -> Path:
    for folder in _FOLDERS:
        # Another package may own a folder called datasets beside an installed hiermod: the manifest tells ours.
        if (folder / "manifest.json").is_file():
            return folder
    raise FileError(
        f"the data sets are not where they belong: no manifest.json in {' or '.join(map(str, _FOLDERS))}. "
        "Install hiermod again."
    )


@functools.cache
def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's entries by name. Shared between calls: nothing in it may be handed to a caller or changed."""
    entries: dict[str, dict[str, Any]] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["datasets"]
    return entries


def _content(path: Path, sha256: str) -> bytes:
    """The bytes of the CSV file, unpacked, after checking what is on the disk against the manifest."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise FileError(f"the data file {path} cannot be read ({error.strerror}). Install hiermod again.") from error
    found = hashlib.sha256(stored).hexdigest()
    if found != sha256:
        raise FileError(
            f"the data file {path} is damaged or was changed: its SHA-256 is {found}, the manifest says {sha256}. "
            "Restore it or install hiermod again, so that results can be compared with published ones."
        )
    return gzip.decompress(stored) if path.suffix == ".gz" else stored


def _frame(content: bytes, entry: dict[str, Any]) -> pd.DataFrame:
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8")))
    frame = pd.DataFrame(
        {
            column: _numbers(cells) if entry["columns"][column]["kind"] == "number" else _labels(cells)
            for column, cells in zip(header, zip(*rows, strict=True), strict=True)
        }
    )
    frame.attrs = {
        "source": entry["source"],
        "licence": entry["licence"],
        "description": entry["description"],
        "units": {name: about["unit"] for name, about in entry["columns"].items() if about["kind"] == "number"},
    }
    return frame


def _numbers(cells: tuple[str, ...]) -> np.ndarray:
    """Integers when all cells are, else floats: the nearest double of each cell, which no default parser promises."""
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except ValueError:
        return np.array([float(cell) for cell in cells])


def _labels(cells: tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical(cells, categories=_ordered(list(set(cells))))


def _ordered(labels: list[str]) -> list[str]:
    """Labels as numbers when every one is an integer, else by code point (R's ``sort(method = "radix")``).

    >>> _ordered(["10", "9", "-1"])
    ['-1', '9', '10']
    >>> _ordered(["b", "10", "B", "9"])
    ['10', '9', 'B', 'b']
    """
    if all(label.removeprefix("-").isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)
