"""Every file has a licence, the texts are there, and packages bring both: REUSE.toml against files and metadata."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRIES = tomllib.loads((ROOT / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]
MANIFEST = json.loads((ROOT / "datasets" / "manifest.json").read_text(encoding="utf-8"))["datasets"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXTS = {"MIT": "LICENSE"} | {path.stem: f"datasets/licences/{path.name}" for path in ROOT.glob("datasets/licences/*")}
# Notices of others in a file of ours: words such files have in common, in a comment or a docstring of their own.
NOTICE = re.compile(r"^\W*(Copyright|\(c\)|©|SPDX-License-Identifier|Licensed under)", re.IGNORECASE | re.MULTILINE)


def paths(entry: dict[str, object]) -> list[str]:
    return [entry["path"]] if isinstance(entry["path"], str) else list(entry["path"])  # type: ignore[call-overload]


def licence(path: str) -> str:
    """Of the last entry that matches; "**" is every file."""
    return next(e["SPDX-License-Identifier"] for e in reversed(ENTRIES) if any(fnmatch(path, p) for p in paths(e)))


@pytest.mark.parametrize("name", MANIFEST)
def test_data_have_the_licence_that_their_manifest_says(name: str) -> None:
    path = f"datasets/{MANIFEST[name]['file']}"
    assert licence(path) == MANIFEST[name]["licence"]
    assert any(path in paths(entry) for entry in ENTRIES), "by name, not by a pattern"


def test_what_is_named_is_there() -> None:
    named = [path for entry in ENTRIES for path in paths(entry) if "*" not in path]
    assert len(named) == len(set(named)) == len(MANIFEST)
    assert all((ROOT / path).is_file() for path in named)


def test_every_licence_has_its_text_and_every_text_its_licence() -> None:
    """GPL-2.0-only and GPL-2.0-or-later are one text."""
    words = {word for entry in ENTRIES for word in re.split(r" (?:OR|AND) ", entry["SPDX-License-Identifier"])}
    assert {re.sub(r"-(only|or-later)$", "", word) for word in words} == set(TEXTS)
    for name, path in TEXTS.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert {"MIT": "MIT License", "CC0-1.0": "CC0", "GPL-2.0": "Version 2", "GPL-3.0": "Version 3"}[name] in text


def test_packages_bring_texts_and_manifest() -> None:
    globs = PYPROJECT["project"]["license-files"]
    for path in (*TEXTS.values(), "REUSE.toml", "datasets/README.md"):
        assert any(fnmatch(path, one) for one in globs), path
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/LICENSE", "/REUSE.toml", "/datasets"} <= set(included)


def test_the_page_about_the_data_says_the_same() -> None:
    page = (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \| ([a-z0-9_, ]+) \|$", page, flags=re.MULTILINE)[1:]  # after its head
    said = {name: words for words, names in rows for name in names.split(", ")}
    assert said == {name: entry["licence"] for name, entry in MANIFEST.items()}


def test_files_by_others_have_an_entry_of_their_own() -> None:
    """What is copied in, a stylesheet or a module, brings a notice; ours have none."""
    foreign = [
        path.relative_to(ROOT).as_posix()
        for folder in ("hiermod", "docs", "benchmarks", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".js", ".css", ".html", ".toml", ".md", ".ipynb"} and "_build" not in path.parts
        and NOTICE.search(path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert [path for path in foreign if not any(path in paths(entry) for entry in ENTRIES)] == []
