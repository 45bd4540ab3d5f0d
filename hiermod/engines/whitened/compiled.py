"""Machine code of the sampler and of row functions: compiled by numba once for this machine, kept in a folder of ours.

The sampler is compiled once for all models; it calls the rows of a family and link through a pointer, compiled for
each by themselves (a second or two).  Numba's own cache knows only the file in which a function stands: code that it
calls from another file may be edited, and the old machine code runs on.  So each entry stands in a little file of its
own, in a folder named by a hash of all that it is made of: the byte code of every function, the versions of numba,
numpy and Python, and the processor.  Files are written beside and moved into place: processes may compile at once."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import inspect
import logging
import os
import platform
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hiermod.core.progress import notice
from hiermod.engines.whitened import elementary, log_density, nuts
from hiermod.engines.whitened.arrays import Arrays
from hiermod.engines.whitened.elementary import FAST, machine_forms

log = logging.getLogger("hiermod.compiled")
FOLDER = "HIERMOD_COMPILED"  # the environment variable that names another folder
SAMPLER_SECONDS, ROWS_SECONDS = 10, 3  # about, on a slow core: told before somebody waits
ROWS_FILE = "<rows>"
STUB = (
    "# A function of hiermod: numba keeps its machine code beside this file, and compiles it anew where that is gone.\n"
)
ROWS = """# The rows of {name}: numba keeps their machine code beside this file.
def entry(y, trials, eta, a, score, by_a):
    total = 0.0
{before}    for i in range(len(y)):
        l, s, by = first(y[i], trials[i], eta[i], ({arguments}))
        total += l
        score[i] = s
{within}{after}    return total
"""


@cache
def sampler() -> Callable[..., float]:
    """``nuts.chain``, compiled; for other types than those of ``Arrays`` it raises TypeError."""
    return _compiled("sampler", nuts.chain, SAMPLER_SECONDS)


@cache
def density() -> Any:
    """``log_density.log_density`` as the sampler takes it."""
    return _compiled("density", log_density.log_density, SAMPLER_SECONDS, pointer=True)


@cache
def inverse() -> Callable[..., None]:
    """``log_density.inverse``, compiled."""
    return _compiled("inverse", log_density.inverse, ROWS_SECONDS)


@cache
def row_loop(name: str, first: Callable[..., Any], auxiliaries: int) -> Any:
    """The sum over rows as the sampler takes it.  first(y, n, eta, a) -> (l, dl/deta, (dl/da, ...)).

    name: of family and link, for people and files; auxiliaries: how many further parameters a there are."""
    numbers = range(auxiliaries)
    text = ROWS.format(
        name=name,
        arguments="".join(f"a{k}, " for k in numbers),
        # sums in single numbers: of numbers in memory a loop is not made vector instructions
        before="".join(f"    a{k}, sum{k} = a[{k}], 0.0\n" for k in numbers),
        within="".join(f"        sum{k} += by[{k}]\n" for k in numbers),
        after="".join(f"    by_a[{k}] = sum{k}\n" for k in numbers),
    )
    namespace: dict[str, Any] = {"first": first}
    exec(compile(text, ROWS_FILE, "exec"), namespace)
    return _compiled(f"rows_{name}", namespace["entry"], ROWS_SECONDS, text, pointer=True)


def prepare(families: Sequence[str] | None = None) -> Iterator[tuple[str, float]]:
    """Compiles the sampler and the rows of families (None: of all) ahead; what, and the seconds it took: 0 where it was
    kept before."""
    from hiermod.families.catalogue import FAMILIES

    for name, make in (("density", density), ("sampler", sampler), ("inverse", inverse)):
        yield name, _timed(make)
    for family in FAMILIES if families is None else families:
        for link, record in FAMILIES[family].rows.items():
            name, first, count = f"{family}_{link}", record.first, len(record.auxiliary)
            yield f"{family} with link {link}", _timed(partial(row_loop, name, first, count))


def _timed(make: Callable[[], Any]) -> float:
    before = _seconds["compiled"]
    make()
    return _seconds["compiled"] - before


_seconds = {"compiled": 0.0}  # by this process, all together


def is_kept() -> bool:
    """Whether the folder for machine code can be written."""
    return _folder("") is not None


def _compiled(name: str, function: Any, seconds: int, text: str = STUB, pointer: bool = False) -> Any:
    """The machine code of a function, from the folder or made now; pointer: as an argument of other machine code."""
    folder = _folder(_digest((function, text)))
    done = None if folder is None else folder / f"{name}.done"
    known, said = done is not None and done.exists(), name.replace("_", " ")
    if not known:
        where = "not kept, since no folder for it can be written" if folder is None else f"kept in {folder}"
        log.info("compiling %s once for this machine, about %d s (%s)", said, seconds, where)
    start = time.perf_counter()
    with notice(f"compiling once for this machine, about {seconds} s ...", not known):
        found = None
        if folder is not None and done is not None:
            try:
                found = _made(name, function, pointer, _written(folder / f"{name}.py", text))
                done.touch()
            except Exception as error:  # of a full disk, a damaged file, another numba's: it is compiled all the same
                log.warning("machine code of %s could not be kept or read: %s", said, error)
        if found is None:
            found = _made(name, function, pointer, None)
    if not known:
        seconds_taken = time.perf_counter() - start
        _seconds["compiled"] += seconds_taken
        log.info("compiled %s in %.1f s", said, seconds_taken)
    return found


def _made(name: str, function: Any, pointer: bool, path: str | None) -> Any:
    """path: of the file beside which it is kept."""
    import numba

    rows = name.startswith("rows")
    made = _for_numba(function, rows, dict(machine_forms()), path)
    how: dict[str, Any] = {"cache": path is not None, "error_model": "numpy", "fastmath": REORDERED}
    signature = _signatures()["rows" if rows else name]
    if pointer:
        return numba.cfunc(numba.types.float64(*signature), nopython=True, **how)(made)
    entry = numba.njit(made, nogil=True, **how)
    entry.compile(signature)
    entry.disable_compile()  # a silent second compilation would take as long as the first
    return entry


def _written(path: Path, text: str) -> str:
    """The file with this text; one that is there stays: numba looks at its time."""
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        try:
            os.link(file.name, path)  # fails where another process was first
        except OSError:
            if not path.exists():
                os.replace(file.name, path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.name)
    return str(path)


# --- folders and their names ---------------------------------------------------------------------------------------


def folder_of_all() -> Path:
    """Where machine code is kept: HIERMOD_COMPILED, or the system's folder for caches."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hiermod" / "compiled"


def _folder(digest: str) -> Path | None:
    """The folder of this hash, made where it is not there; None where nothing can be written in it."""
    try:
        folder = folder_of_all() / digest
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None


def _digest(made_of: tuple[Any, ...]) -> str:
    import numba
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    machine = (
        numba.__version__,
        np.__version__,
        sys.version,
        platform.machine(),
        binding.get_host_cpu_name(),
        features,
    )
    found = hashlib.sha256(repr(machine).encode())
    how = (inspect.getsource(sys.modules[__name__]), inspect.getsource(elementary))  # how it is compiled
    for one in (*made_of, *how, *Arrays._fields):
        found.update(one.encode() if isinstance(one, str) else repr(list(_contents(one, set()))).encode())
    return found.hexdigest()[:24]


def _contents(function: Any, seen: set[int]) -> Iterator[Any]:
    """All that a function's machine code depends on: its byte code and constants, and what it calls."""
    if id(function) in seen:
        return
    seen.add(id(function))
    function = FAST.get(function, function)
    if not isinstance(function, types.FunctionType):
        yield repr(function)
        return
    yield from _code(function.__code__)
    for name, value in _used(function).items():
        yield name
        if callable(value):
            yield from _contents(value, seen)
        elif not isinstance(value, types.ModuleType):
            yield repr(value)


def _code(code: types.CodeType) -> Iterator[Any]:
    yield code.co_code, code.co_names, code.co_varnames
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)


def _used(function: types.FunctionType) -> dict[str, Any]:
    """The globals that a function names."""
    return {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}


# --- from Python to numba ------------------------------------------------------------------------------------------


def bind(function: Callable[..., Any], inline: bool = False, made: dict[Any, Any] | None = None) -> Any:
    """A function for numba: what it calls is compiled too, elementary functions of arrays become those of numbers.

    inline: into the loop that calls it, which then works on several rows at once."""
    from numba import njit

    made = dict(machine_forms()) if made is None else made
    function = FAST.get(function, function)
    if function not in made:
        if not isinstance(function, types.FunctionType):  # numba knows it, or says that it does not
            return function
        flags = EXACT if function.__module__.endswith(".elementary") else REORDERED
        how: dict[str, Any] = {"inline": "always"} if function.__name__ in UNROLLED else {"forceinline": inline}
        made[function] = njit(
            _for_numba(function, inline, made, None), nogil=True, error_model="numpy", fastmath=flags, **how
        )
    return made[function]


def _for_numba(function: Any, inline: bool, made: dict[Any, Any], path: str | None) -> types.FunctionType:
    """A copy whose globals are bound.  path: the file in which numba is to believe it, which its cache goes by."""
    namespace: dict[str, Any] = {"__builtins__": builtins, "__name__": __name__}  # numba imports the module it names
    for name, value in _used(function).items():
        calls = callable(value) and not isinstance(value, type)
        namespace[name] = bind(value, inline, made) if calls else value
    code = function.__code__ if path is None else function.__code__.replace(co_filename=path)
    return types.FunctionType(code, namespace, function.__name__, function.__defaults__)


REORDERED = {"reassoc", "nsz", "contract"}  # sums in any order, but infinities and nan as they are
UNROLLED = ("whiten_levels", "levels_gradient")  # where they are called with K = 2
EXACT = {"nsz", "contract"}  # elementary functions live on the order of their operations


@cache
def _signatures() -> dict[str, tuple[Any, ...]]:
    """The types of the arguments of each entry."""
    from numba import typeof
    from numba import types as nb

    six = [nb.Array(nb.float64, 1, "C")] * 6
    rows = nb.FunctionType(nb.float64(*six))
    one, two = np.zeros(1), np.zeros((1, 1))
    integers = {"pattern", "size", "levels", "column_at", "x_at", "A_at", "correlation_at", "first", "kind", "by_log"}
    integers |= {"scalar_of", "pointers", "columns"}
    example: dict[str, np.ndarray] = {
        name: np.zeros(1, np.int64) if name in integers else one for name in Arrays._fields
    }
    example |= {"X": two, "codes": np.zeros((1, 1), np.int64), "V": two, "laws": two, "beta_laws": two, "root": two}
    example["scalar"] = two
    arrays, vector, matrix = typeof(Arrays(**example)), typeof(one), typeof(two)
    rng = typeof(np.random.default_rng(0))
    whole, real = nb.int64, nb.float64
    places = (vector, vector, matrix, vector)
    settings = (real, whole, real, whole, rng, whole, typeof(np.zeros(1, np.int64)))
    density = (rows, arrays, vector, vector, vector)
    pointer = nb.FunctionType(nb.float64(*density))
    return {
        "rows": tuple(six),
        "density": density,
        "sampler": (pointer, rows, arrays, *places, *settings, matrix, matrix, matrix, vector, vector),
        "inverse": (arrays, matrix, matrix, matrix, vector),
    }
