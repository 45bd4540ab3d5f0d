"""The gallery page shows every function of hm.plots, and no plot is overwritten by a module of its name."""

from __future__ import annotations

import re
from pathlib import Path

import hiermod as hm

ROOT = Path(hm.__file__).parent
PAGE = ROOT.parent / "docs" / "gallery.md"


def test_every_plot_is_in_the_gallery_once_with_its_call() -> None:
    text = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    assert sorted(titles) == sorted(hm.plots.__all__)
    for name, section in zip(titles, re.split(r"^### ", text, flags=re.MULTILINE)[1:], strict=True):
        assert f"hm.plots.{name}(" in section, f"{name} is not called under its title"


def test_no_plot_shares_its_name_with_a_module() -> None:
    """bayes/effects.py has the name of hm.plots.effects; nothing else may."""
    modules = {path.stem for path in ROOT.rglob("*.py")}
    assert set(hm.plots.__all__) & modules <= {"effects"}
    assert all(callable(getattr(hm.plots, name)) for name in hm.plots.__all__)
