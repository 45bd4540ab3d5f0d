"""Sphinx settings: pages in docs/guide run their own code while they are built, the API comes from the docstrings."""

from __future__ import annotations

import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

project = "hiermod"
author = "The hiermod authors"
project_copyright = "The hiermod authors"
try:
    release = metadata.version("hiermod")
except metadata.PackageNotFoundError:  # built from a tree that is not installed
    release = ""

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "README.md"]

html_theme = "furo"
html_title = "hiermod"
html_show_sphinx = False

# Pages are executed, and one that raises fails the build (with -W). Warnings a page shows are part of what it teaches.
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say what the arguments are
autodoc_member_order = "bysource"
autosummary_generate = True

# The notebooks live beside the package; Sphinx reads only what is below docs/.
HERE = Path(__file__).parent
if (HERE.parent / "notebooks").is_dir():
    shutil.rmtree(HERE / "notebooks", ignore_errors=True)
    shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))


def setup(app: Any) -> None:
    """Docstrings are plain text that shows code in backticks: outside those a bar or a star is only itself."""

    def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        for i, line in enumerate(lines):
            if not line.startswith(">>>"):
                pieces = line.split("`")
                lines[i] = "`".join(
                    piece if j % 2 else re.sub(r"([|*])", r"\\\1", piece) for j, piece in enumerate(pieces)
                )

    app.connect("autodoc-process-docstring", plain)
