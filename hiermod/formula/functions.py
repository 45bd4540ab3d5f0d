"""The functions that formulas may call, and where those that a person hands over are found.

A formula may come from a file or from another person, so its text reaches this list and nothing else: numpy's
elementwise functions, the others written below, the transformations, and what stands in ``extra_namespace=``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from formulae.categorical import ENCODINGS
from formulae.transforms import TRANSFORMS

from hiermod.errors import ArgumentError, UnknownNameError, nearest

FACTOR_CALLS = ("C", "T", "S", "factor", "as.factor", "B", "binary")  # the column inside is a factor's, as it stands
COUNT_CALLS = ("p", "prop", "proportion", "cbind")
SPECIAL_RESPONSES = ("weighted", "censored", "truncated", "constrained")  # Bambi's, left of "~"


@dataclass(frozen=True)
class Function:
    """Something a formula may call: with at least ``least`` arguments, at most ``most`` of them by position.

    most: None for a function of the person's own, which takes what it takes.  names: of the arguments in their order,
    those after ``most`` by name only; "" where a name is not accepted."""

    call: Callable[..., Any]
    least: int = 1
    most: int | None = None
    names: tuple[str, ...] = ()


def _own(name: str, *names: str) -> Function:
    """One of formulae's transformations with the names of its arguments."""
    return Function(TRANSFORMS[name], 1, len(names), names)


def _numpy() -> dict[str, Function]:
    """numpy's functions of one value per row, and a few that summarise a column.

    Only inputs are passed: a further argument of an elementwise function would be where it writes its result."""
    found = {
        name: Function(function, function.nin, function.nin)
        for name, function in vars(np).items()
        if isinstance(function, np.ufunc) and function.nout == 1 and not name.startswith("_")
    }
    summaries = ("mean", "median", "min", "max", "amin", "amax", "ptp", "sum", "prod")
    names: dict[str, tuple[str, ...]] = {
        name: ("a",) for name in (*summaries, *(f"nan{one}" for one in ("mean", "median", "min", "max", "sum")))
    }
    names |= {name: ("a", "ddof") for name in ("std", "var", "nanstd", "nanvar")}
    names |= {name: ("a", "q") for name in ("quantile", "percentile", "nanquantile", "nanpercentile")}
    names |= {name: ("x",) for name in ("nan_to_num", "sinc", "fix", "i0", "asarray", "cumsum", "cumprod")}
    names |= {"where": ("condition", "x", "y"), "clip": ("a", "a_min", "a_max"), "interp": ("x", "xp", "fp")}
    names |= {"round": ("a", "decimals"), "around": ("a", "decimals"), "digitize": ("x", "bins"), "isin": ("x", "in")}
    for name, arguments in names.items():
        by_name = ("ddof", "decimals", "q", "a_min", "a_max")
        most = len(arguments) - ("ddof" in arguments)  # numpy's second argument there is an axis
        least = len(arguments) - sum(one in ("ddof", "decimals") for one in arguments)
        found[name] = Function(
            getattr(np, name), least, most, tuple(one if one in by_name else "" for one in arguments)
        )
    return found


def _all_functions() -> dict[str, Function]:
    factor = Function(TRANSFORMS["C"], 1, 3, ("data", "contrast", "levels"))
    found = {f"np.{name}": function for name, function in _numpy().items()}
    found |= {
        "I": _own("I", "x"),
        "center": _own("center", "x"),
        "scale": _own("scale", "x"),
        "standardize": _own("standardize", "x"),
        "poly": _own("poly", "x", "degree", "raw"),
        "bs": _own("bs", "x", "df", "knots", "degree", "intercept", "lower_bound", "upper_bound"),
        "offset": _own("offset", "x"),
        "C": factor,
        "factor": factor,
        "as.factor": factor,
        "T": _own("T", "data", "ref", "levels"),
        "S": _own("S", "data", "omit", "levels"),
        "B": _own("B", "x", "success"),
        "binary": _own("binary", "x", "success"),
        "Treatment": Function(ENCODINGS["Treatment"], 0, 1, ("reference",)),
        "Sum": Function(ENCODINGS["Sum"], 0, 1, ("omit",)),
        **{name: Function(TRANSFORMS[name], 2, 2, ("successes", "trials")) for name in ("p", "prop", "proportion")},
    }
    for name in ("log", "log2", "log10", "log1p", "exp", "exp2", "sqrt", "abs"):
        found[name] = found[f"np.{name}"]
    return found


FUNCTIONS = _all_functions()
VALUES = frozenset(ENCODINGS)  # names that stand for something without being called: C(f, Sum)
OWN_WORDS = frozenset(TRANSFORMS) | frozenset(ENCODINGS)  # formulae takes these before what it is given
# The likelihoods that Bambi reads left of "~"; hiermod evaluates their first argument only.
LEFT_ONLY = {
    "weighted": Function(NotImplemented, 2, 2, ("x", "weights")),
    "censored": Function(NotImplemented, 2, 3),
    "truncated": Function(NotImplemented, 1, 3, ("x", "lb", "ub")),
    "constrained": Function(NotImplemented, 1, 3, ("x", "lb", "ub")),
}

# Functions of other packages, and what is here for what they do.
ELSEWHERE = {
    "ns": "There are no natural splines; bs(x, df=4) makes B-splines, poly(x, 3) orthogonal polynomials.",
    "s": "There are no penalised smooths; bs(x, df=4) makes B-splines, poly(x, 3) orthogonal polynomials.",
    "te": "There are no tensor product smooths: write interactions of bs(x, df=4).",
    "cr": "There are no natural splines; bs(x, df=4) makes B-splines, poly(x, 3) orthogonal polynomials.",
    "cc": "There are no cyclic splines: np.sin(x) + np.cos(x), x in radians, has a period.",
    "hsgp": "Gaussian processes are Bambi's: use bambi.Model directly.",
    "ifelse": "It is called np.where(condition, yes, no) here.",
    "pmax": "It is called np.maximum(x, z) here.",
    "pmin": "It is called np.minimum(x, z) here.",
    "as.numeric": "Make the column a number in the data: data['x'] = pandas.to_numeric(data['x']).",
    "cut": "Make the column first: data['band'] = pandas.cut(data['x'], ...).",
    "relevel": "T(f, ref='b') chooses the reference level.",
    "interaction": "The interaction of f and h is f:h.",
    "ordered": "Make the column first: pandas.Categorical(values, categories=[...], ordered=True).",
}


def find_function(name: str, extra: Mapping[str, Any] | None) -> Function | None:
    """What ``name``, as a formula calls it, stands for; None where it stands for nothing that may be called.

    extra: the person's own names.  A module among them may be walked, ``sp.expit``, to what its package defines.
    ArgumentError where one of them is called as a transformation is."""
    extra = extra or {}
    if name in OWN_WORDS:
        if name in extra:
            raise ArgumentError(
                f"extra_namespace has a function {name!r}, and {name}() is one of the formula's own: give yours "
                "another name"
            )
        return FUNCTIONS.get(name)
    if name in extra:
        return Function(extra[name], 0) if callable(extra[name]) and not isinstance(extra[name], ModuleType) else None
    root, *path = name.split(".")
    if root in extra and path:
        if extra[root] is np:
            return FUNCTIONS.get(".".join(["np", *path]))
        found = _walked(extra[root], path)
        return None if found is None else Function(found, 0)
    return FUNCTIONS.get(name)


def _walked(module: Any, path: list[str]) -> Callable[..., Any] | None:
    """The function at the end of ``path``, through modules of the same package only; never a name with "_" in front."""
    if not isinstance(module, ModuleType) or any(not one or one.startswith("_") for one in path):
        return None
    package = module.__name__.split(".")[0]
    inside = module.__name__ + "."
    for name in path[:-1]:
        module = _attribute(module, name)
        if not isinstance(module, ModuleType) or not module.__name__.startswith(inside):
            return None
    found = _attribute(module, path[-1])
    if not callable(found) or isinstance(found, ModuleType | type):
        return None
    home = getattr(found, "__module__", None)
    if isinstance(found, np.ufunc):
        return found
    return found if isinstance(home, str) and home.split(".")[0] == package else None


def _attribute(module: ModuleType, name: str) -> Any:
    """None where there is none; a package may load the part that is asked for."""
    try:
        return getattr(module, name, None)
    except ImportError:
        return None


def no_such_function(name: str, extra: Mapping[str, Any] | None) -> str:
    """Why a formula cannot call ``name`` and what to do, in words."""
    told = f"the formula calls {name!r}, and no such function is known."
    root = name.split(".")[0]
    if name in ELSEWHERE:
        return f"{told} {ELSEWHERE[name]}"
    if name in LEFT_ONLY:
        return f"the formula calls {name!r} where it means nothing: it stands left of '~', around the response"
    if isinstance((extra or {}).get(root), ModuleType) and (extra or {})[root] is not np:
        return (
            f"{told} Of a module in extra_namespace a formula can call the functions that its own package defines.\n"
            "Any other goes there by itself, extra_namespace={'f': ...}, to be called as f(x)."
        )
    hint = nearest(name, [*FUNCTIONS, *(extra or {})])
    if root == "np" and "." in name:
        return (
            f"{told}{hint} Of numpy the elementwise functions are, and a few more such as np.where, np.clip and "
            "np.mean.\nAny other goes in extra_namespace={'f': ...}, to be called as f(x)."
        )
    own = root if root.isidentifier() and "." not in name else "f"
    return f"{told}{hint}\nFunctions of your own go in extra_namespace={{{own!r}: ...}}."


def namespace_of(calls: Iterable[str], names: Iterable[str], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """A namespace with these functions, each under its (dotted) name, these other names, and nothing else.

    UnknownNameError for a function that may not be called."""
    found: dict[str, Any] = {name: value for name, value in (extra or {}).items() if name in set(names)}
    found |= {name: ENCODINGS[name] for name in names if name in ENCODINGS}
    for name in dict.fromkeys(calls):
        function = find_function(name, extra)
        if function is None:
            raise UnknownNameError(no_such_function(name, extra))
        *path, last = name.split(".")
        place = found
        for step in path:
            if not isinstance(place.get(step), SimpleNamespace):
                place[step] = SimpleNamespace()
            place = vars(place[step])
        place[last] = function.call
    return found
