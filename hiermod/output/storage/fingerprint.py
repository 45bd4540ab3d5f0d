"""Where a fit comes from: the data's SHA-256 fingerprint, the priors as text, the versions, the time.

A fingerprint covers what a fit is computed from and nothing else: response, predictors, groups, weights, in order."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of
from hiermod.priors.given import PriorSet

SOFTWARE = ("hiermod", "numpy", "scipy", "pandas", "formulae")  # behind every fit
BAYESIAN = ("arviz", "arviz-stats", "bambi", "pymc", "pytensor", "nutpie")  # behind draws besides


@dataclass(frozen=True, eq=False)
class Origin:
    """How a fit came about, besides what its engine recorded."""

    created: str  # UTC, ISO 8601
    versions: dict[str, str]  # package -> version, and python
    data: str  # fingerprint of the data used
    priors: dict[str, str] = field(default_factory=dict)  # parameter -> distribution, as text
    given: PriorSet | None = None  # the priors given, to make the Model again; None where one is a function
    key: str = ""  # of a fit in a cache: what its draws depend on
    center_predictors: bool = True
    noncentered: bool | str = "auto"


def package_versions(names: Iterable[str] = SOFTWARE) -> dict[str, str]:
    """Installed versions, python's first; packages that are not installed are left out.  Imports nothing."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name == "hiermod":  # the source tree on the path
                found[name] = "0+unknown"
    return found


def data_fingerprint(design: Design) -> str:
    """SHA-256 (hexadecimal) over the columns the model uses, in the rows it uses, with weights and known sds.

    The labels of the rows, and columns that the model does not use, do not count; the order of rows does."""
    digest = hashlib.sha256()
    for name in sorted(design.frame.columns):
        _add(digest, name, design.frame[name])
    for name in ("weights", "se"):
        _add(digest, name, getattr(design, name))
    return digest.hexdigest()


def design_fingerprint(design: Design) -> str:
    """SHA-256 over what the engines see: y, X, groups with their levels, offset, trials, and every label.

    Functions of the person's own count by the columns they give; the way the formula is spaced does not count."""
    digest = hashlib.sha256()
    labels: list[Any] = [design.bambi_formula, design.response, design.common, design.common_terms, design.special]
    for block in design.blocks:
        columns = [(column.label, column.variable, column.level) for column in block.columns]
        labels += [block.factor, block.levels, columns, block.corr_name]
    for block in design.structured_blocks:  # other designs keep the fingerprints they have
        labels.append([block.factor, block.text, block.covariance, block.hom])
    _add(digest, "labels", json.dumps(labels))
    for name in ("y", "X", "estimable", "trials", "offset", "weights", "se"):
        _add(digest, name, getattr(design, name))
    for block in design.blocks:
        _add(digest, "codes", block.codes)
        _add(digest, "values", block.values)
    if design.categories:
        _add(digest, "categories", json.dumps(design.categories))
    for name, part in parts_of(design).items():
        _add(digest, name, design_fingerprint(part))
    return digest.hexdigest()


def content_fingerprint(pieces: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 over named arrays and texts."""
    digest = hashlib.sha256()
    for name, value in pieces:
        _add(digest, name, value)
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    """One named value; lengths are put in, so that no two lists of values give the same bytes."""
    if isinstance(value, pd.Series):
        if isinstance(value.dtype, pd.CategoricalDtype):
            _add(digest, name, json.dumps([str(level) for level in value.cat.categories]))
            value = value.cat.codes.to_numpy(dtype="i8")
        else:
            value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufmM":
        value = json.dumps([str(item) for item in value.ravel()])
    if isinstance(value, np.ndarray):
        kind = "f8" if value.dtype.kind == "f" else "i8" if value.dtype.kind in "biu" else value.dtype.str
        plain = np.ascontiguousarray(value.astype(kind))
        text, data = f"{kind}{value.shape}", plain.tobytes()
    else:
        text, data = type(value).__name__, b"" if value is None else str(value).encode("utf-8", "surrogatepass")
    for part in (name.encode("utf-8", "surrogatepass"), text.encode(), data):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
