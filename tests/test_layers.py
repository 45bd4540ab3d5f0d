"""Imports point one way, wherever in a file they stand, and ``import hiermod`` stays light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hiermod

ROOT = Path(hiermod.__file__).parent

# From the bottom up: a file may import its own room and those above it in this list.  A name is a folder or a file of
# hiermod/.  Files of no line (a new one) fail test_every_file_has_a_layer.
LAYERS = [
    {"core", "errors"},
    {"covariance"},
    {"families"},
    {"kernel"},
    {"formula"},
    {"datasets"},
    {"csv_files"},
    {"designs"},
    {"priors"},
    {"engines"},
    {"fits"},
    {"inference"},
    {"output"},
    {"plots"},
    {"stories"},
    {"model"},
    {"study"},
    {"exercises"},
    {"app"},
]
SIDE_BY_SIDE = {"core", "errors"}  # may import each other
UPWARDS = {
    "fits/vocabulary.py",
    "model.py",
}  # their tables of methods name modules above: the only arrows that point up
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py" and "_datasets" not in path.parts)

# Packages that only these places may import, at the top of a file or inside a function.
ONLY_IN = {
    "formulae": {"formula"},
    "bambi": {"engines", "families", "priors", "core"},
    "pymc": {"engines", "priors", "core"},
    "pytensor": {"engines", "core"},
    "nutpie": {"engines", "core"},
    "matplotlib": {"plots", "app"},
}
NOT_IN_KERNEL = {"pandas", "formulae", "bambi", "pymc", "arviz", "arviz_stats", "xarray", "matplotlib"}
HEAVY = ("pymc", "pytensor", "bambi", "arviz", "arviz_stats", "matplotlib", "nutpie", "numba", "formulae", "xarray")


def layer(path: Path) -> str:
    """``"formula"`` for hiermod/formula/data.py, ``"model"`` for hiermod/model.py."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Every module that running a source text can import, in functions too, or names in a text of its own; ``from a
    import b`` gives a.b.

    What stands under ``if TYPE_CHECKING`` is for type checkers and never runs."""
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert node.level == 0, "relative import"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"hiermod(\.\w+)+", node.value) else set()
    return found


def imported_by(path: Path) -> set[str]:
    """``imported`` of a file; of a file with a table of methods, without the modules named there."""
    source = path.read_text(encoding="utf-8")
    if path.relative_to(ROOT).as_posix() in UPWARDS:
        source = re.sub(r'^    "\w+": "hiermod[.\w]+",$', "", source, flags=re.MULTILINE)
    return imported(source)


def upwards(own: str, names: set[str]) -> set[str]:
    """Those of the hiermod modules ``names`` that a file of layer ``own`` must not import."""
    bad = set()
    for name in names:
        if name.split(".")[0] != "hiermod" or name == "hiermod":
            continue
        other = name.split(".")[1]
        higher = LEVEL.get(other, -1) > LEVEL[own]
        beside = LEVEL.get(other) == LEVEL[own] and other != own and own not in SIDE_BY_SIDE
        if higher or beside:
            bad.add(name)
    return bad


def test_every_file_has_a_layer():
    assert {layer(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_down(path):
    names = imported_by(path)
    own = layer(path)
    assert upwards(own, names) == set()
    packages = {name.split(".")[0] for name in names}
    for package, homes in ONLY_IN.items():
        assert package not in packages or own in homes, f"{own} imports {package}"
    if own in ("kernel", "covariance"):
        assert packages.isdisjoint(NOT_IN_KERNEL)
        assert {name.split(".")[1] for name in names if name.startswith("hiermod.")} <= {
            "kernel",
            "covariance",
            "errors",
        }


def test_no_circles_between_files():
    """Nowhere do files import each other in a circle, be it inside functions."""
    modules = {".".join(("hiermod", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}

    def module(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    left = {name: {module(one) for one in imported_by(path)} - {name, ""} for name, path in modules.items()}
    needed = set(left).union(*left.values())
    while ends := {name for name in left if not left[name] & left.keys() or name not in needed}:
        left = {name: needs & left.keys() for name, needs in left.items() if name not in ends}
        needed = set().union(*left.values())
    assert left == {}  # every file left needs another one of them, and is needed


def test_the_check_sees_imports_wherever_they_stand():
    source = "def f():\n    from hiermod.model import Model\n    import pymc.math\nif TYPE_CHECKING:\n    import x\n"
    source += "TABLE = {'loo': 'hiermod.inference.scores'}"
    assert imported(source) == {"hiermod.model.Model", "pymc.math", "hiermod.inference.scores"}
    assert upwards("formula", imported(source)) == {"hiermod.model.Model", "hiermod.inference.scores"}
    assert upwards("plots", {"hiermod.study.pooling"}) == {"hiermod.study.pooling"}
    assert upwards("model", {"hiermod.formula.build", "hiermod.engines.nuts.engine", "numpy"}) == set()


def loaded_by(code: str) -> set[str]:
    """Top-level packages in sys.modules after ``code`` ran in a fresh interpreter."""
    program = f"{code}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT.parent
    )
    return set(done.stdout.split())


def test_importing_hiermod_is_light():
    assert loaded_by("import hiermod, numpy").isdisjoint(HEAVY)


def test_the_kernel_loads_numpy_and_scipy_only():
    names = [f"hiermod.kernel.{path.stem}" for path in (ROOT / "kernel").glob("[a-z]*.py")]
    assert loaded_by(f"import {', '.join(names)}").isdisjoint({"pandas", *HEAVY})


def test_a_reml_fit_loads_no_bayesian_package():
    code = (
        "import hiermod as hm\n"
        "hm.Model('Reaction ~ Days + (Days | Subject)', hm.load_dataset('sleepstudy')).reml().summary()"
    )
    assert loaded_by(code).isdisjoint({"pymc", "pytensor", "bambi", "arviz", "matplotlib", "nutpie"})


def test_public_names_are_lazy_complete_and_no_modules():
    """A function that shares a module's name would be overwritten when that module is first imported."""
    modules = {path.stem if path.name != "__init__.py" else path.parent.name for path in FILES}
    functions = set(hiermod.__all__) - set(hiermod._MODULES)  # those are modules themselves
    assert functions.isdisjoint(modules)
    for name in hiermod.__all__:
        value = getattr(hiermod, name)
        assert name in dir(hiermod)
        assert name in hiermod._MODULES or value is getattr(importlib.import_module(value.__module__), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hiermod.nothing


def test_names_for_type_checkers_are_the_lazy_ones():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    told = {alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert set(told) == set(hiermod.__all__)
    for name, home in hiermod._HOMES.items():
        assert told[name] == f"{home}.{name}"


def test_tests_ask_for_public_names_only():
    """What is tested by name has a name that others may read: private ones change with what they are part of."""
    asked = [
        f"{path.name}: {node.module}.{alias.name}"
        for path in Path(__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hiermod")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not asked
