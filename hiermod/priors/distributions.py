"""Prior distributions written as text: ``"HalfStudentT(nu=4, sigma=60)"`` -> a record; PyMC's names and argument order.

Text is read with ``ast``, never evaluated: numbers, lists of numbers and distributions inside distributions."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

from hiermod.errors import ArgumentError, UnsupportedError, listing, nearest

# name: (arguments in PyMC's order, support).  tests/test_bayes_priors.py compares the order with the installed PyMC.
CATALOGUE: dict[str, tuple[tuple[str, ...], str]] = {
    "AsymmetricLaplace": (("kappa", "mu", "b", "q"), "real"),
    "Beta": (("alpha", "beta", "mu", "sigma", "nu"), "unit"),
    "Cauchy": (("alpha", "beta"), "real"),
    "ChiSquared": (("nu",), "positive"),
    "ExGaussian": (("mu", "sigma", "nu"), "real"),
    "Exponential": (("lam", "scale"), "positive"),
    "Flat": ((), "real"),
    "Gamma": (("alpha", "beta", "mu", "sigma"), "positive"),
    "Gumbel": (("mu", "beta"), "real"),
    "HalfCauchy": (("beta",), "positive"),
    "HalfFlat": ((), "positive"),
    "HalfNormal": (("sigma", "tau"), "positive"),
    "HalfStudentT": (("nu", "sigma", "lam"), "positive"),
    "InverseGamma": (("alpha", "beta", "mu", "sigma"), "positive"),
    "Kumaraswamy": (("a", "b"), "unit"),
    "Laplace": (("mu", "b"), "real"),
    "Logistic": (("mu", "s"), "real"),
    "LogitNormal": (("mu", "sigma", "tau"), "unit"),
    "LogNormal": (("mu", "sigma", "tau"), "positive"),
    "Normal": (("mu", "sigma", "tau"), "real"),
    "Pareto": (("alpha", "m"), "positive"),
    "Rice": (("nu", "sigma", "b"), "positive"),
    "SkewNormal": (("alpha", "mu", "sigma", "tau"), "real"),
    "StudentT": (("nu", "mu", "sigma", "lam"), "real"),
    "Triangular": (("lower", "upper", "c"), "bounded"),
    "TruncatedNormal": (("mu", "sigma", "tau", "lower", "upper"), "bounded"),
    "Uniform": (("lower", "upper"), "bounded"),
    "VonMises": (("mu", "kappa"), "real"),
    "Wald": (("mu", "lam", "phi", "alpha"), "positive"),
    "Weibull": (("alpha", "beta"), "positive"),
}

_LOCATIONS = {"mu", "lower", "upper", "c"}  # every other argument is a scale, rate, shape or degrees of freedom
_FREE = {("Cauchy", "alpha"), ("SkewNormal", "alpha"), ("Rice", "nu")}  # ... except these, which may be 0 or negative
_POSITIVE_MU = {"Gamma", "InverseGamma", "Wald", "Beta"}  # a mean of something positive


@dataclass(frozen=True)
class Distribution:
    """A prior: a PyMC distribution's name and its arguments, by name."""

    name: str
    args: tuple[tuple[str, float | tuple[float, ...] | Distribution], ...] = ()

    def get(self, name: str) -> float | tuple[float, ...] | Distribution | None:
        """One argument's value, None when it was not given."""
        return dict(self.args).get(name)

    @property
    def nested(self) -> bool:
        """Whether an argument has a prior of its own."""
        return any(isinstance(value, Distribution) for _, value in self.args)

    @property
    def positive(self) -> bool:
        """Whether every draw is positive, as a standard deviation must be."""
        support = CATALOGUE[self.name][1]
        if support in ("positive", "unit"):
            return True
        lower = self.get("lower")
        return support == "bounded" and isinstance(lower, float) and lower >= 0

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={_show(value)}' for name, value in self.args)})"

    def to_bambi(self) -> Any:
        """The same as a ``bambi.Prior``."""
        import bambi
        import numpy as np
        import pymc

        found = getattr(pymc, self.name, None)
        if not (
            isinstance(found, type) and found.__module__.startswith("pymc.distributions.")
        ):  # a name from a file, perhaps
            raise UnsupportedError(f"the prior {self} is no distribution of PyMC's")
        args: dict[str, Any] = {}
        for name, value in self.args:
            if isinstance(value, Distribution):
                args[name] = value.to_bambi()
            else:
                args[name] = np.array(value) if isinstance(value, tuple) else value
        return bambi.Prior(self.name, **args)


def _show(value: float | tuple[float, ...] | Distribution) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{one:.10g}" for one in value) + "]"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def parse_call(text: str, key: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Name, positional and named arguments of ``"Name(1, b=[2, 3], c=Other(4))"``; inner calls stay ``ast.Call``.

    Raises ArgumentError for anything else; ``key`` is the prior's key, for the message."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise _unreadable(text, key, "is not a distribution") from None
    if isinstance(tree, ast.Name):
        raise _unreadable(text, key, f"has no arguments in parentheses; write {tree.id}(...)")
    return _call(tree, text, key)


def parse_distribution(text: str, key: str) -> Distribution:
    """``"Normal(0, HalfNormal(50))"`` -> Distribution.  Raises ArgumentError saying what is wrong with it."""
    return _build(*parse_call(text, key), text=text, key=key)


def _call(node: ast.expr, text: str, key: str) -> tuple[str, list[Any], dict[str, Any]]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise _unreadable(text, key, "is not a distribution with its arguments")
    if any(isinstance(arg, ast.Starred) for arg in node.args) or any(word.arg is None for word in node.keywords):
        raise _unreadable(text, key, "uses * or **")
    named: dict[str, Any] = {}
    for word in node.keywords:
        named[str(word.arg)] = _value(word.value, text, key)
    return node.func.id, [_value(arg, text, key) for arg in node.args], named


def _value(node: ast.expr, text: str, key: str) -> Any:
    if isinstance(node, ast.Call):
        return node
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise _unreadable(text, key, f"contains {ast.unparse(node)!r}, which is not a number, a list of numbers or a "
                          "distribution") from None  # fmt: skip
    many = isinstance(value, list | tuple)
    numbers = list(value) if many else [value]
    if not numbers or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise _unreadable(text, key, f"contains {ast.unparse(node)!r}, which is not a number or a list of numbers")
    if any(not math.isfinite(one) for one in numbers):
        raise _unreadable(text, key, f"contains {ast.unparse(node)!r}, which is not finite")
    return tuple(float(one) for one in numbers) if many else float(value)


def _build(name: str, positional: list[Any], named: dict[str, Any], *, text: str, key: str) -> Distribution:
    if name not in CATALOGUE:
        raise ArgumentError(
            f"the prior of {key!r} is {text!r}, and {name!r} is not a distribution that hiermod knows."
            f"{nearest(name, CATALOGUE)} Known: {listing(CATALOGUE, limit=40)}; any other PyMC distribution can be "
            "given as a bambi.Prior"
        )
    order = CATALOGUE[name][0]
    takes = f"{name} takes {', '.join(order)}" if order else f"{name} takes no arguments"
    if len(positional) > len(order):
        raise ArgumentError(f"the prior of {key!r} is {text!r}, with {len(positional)} arguments for {name}: {takes}")
    values = dict(zip(order, positional, strict=False))
    for argument, value in named.items():
        if argument not in order:
            raise ArgumentError(
                f"the prior of {key!r} is {text!r}, and {name} has no argument {argument!r}.{nearest(argument, order)} "
                f"{takes}"
            )
        if argument in values:
            raise ArgumentError(f"the prior of {key!r} is {text!r}, which gives {argument!r} twice. {takes}")
        values[argument] = value
    done = {
        argument: _build(*_call(value, text, key), text=text, key=key) if isinstance(value, ast.Call) else value
        for argument, value in values.items()
    }
    for argument, value in done.items():
        _check_sign(name, argument, value, text, key)
    lower, upper = done.get("lower"), done.get("upper")
    if isinstance(lower, float) and isinstance(upper, float) and lower >= upper:
        raise ArgumentError(
            f"the prior of {key!r} is {text!r}: lower must be below upper. Swap them or widen the range"
        )
    return Distribution(name, tuple(done.items()))


def _check_sign(name: str, argument: str, value: Any, text: str, key: str) -> None:
    if (name, argument) in _FREE or (argument in _LOCATIONS and not (argument == "mu" and name in _POSITIVE_MU)):
        return
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, float) and one <= 0 for one in numbers):
        raise ArgumentError(
            f"the prior of {key!r} is {text!r}: {argument} of {name} must be positive, got {_show(value)}. "
            "Give a positive number, in the unit of that parameter"
        )


def _unreadable(text: str, key: str, why: str) -> ArgumentError:
    return ArgumentError(
        f"the prior of {key!r} is {text!r}, which {why}. Write a distribution with its arguments, such as "
        '"Normal(0, 10)", "HalfNormal(50)" or "HalfStudentT(nu=4, sigma=60)"'
    )
