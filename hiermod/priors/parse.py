"""Priors written as text: ``"HalfStudentT(nu=4, sigma=60)"`` -> a Distribution; PyMC's names and argument order.

Text is read with ``ast``, never evaluated: numbers, lists of numbers and distributions inside distributions."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hiermod.errors import ArgumentError, listing, nearest
from hiermod.priors.distributions import CATALOGUE, Distribution, is_bambi_prior, show


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
    order, takes = CATALOGUE[name].arguments, _takes(name)
    if len(positional) > len(order):
        raise ArgumentError(f"the prior of {key!r} is {text!r}, with {len(positional)} arguments for {name}: {takes}")
    values = dict(zip(order, positional, strict=False))
    _check_names(name, named, text, key)
    for argument, value in named.items():
        if argument in values:
            raise ArgumentError(f"the prior of {key!r} is {text!r}, which gives {argument!r} twice. {takes}")
        values[argument] = value
    done = {
        argument: _build(*_call(value, text, key), text=text, key=key) if isinstance(value, ast.Call) else value
        for argument, value in values.items()
    }
    for argument, value in done.items():
        _check_sign(name, argument, value, text, key)
    prior = Distribution(name, tuple(done.items()))
    lower, upper = prior.support
    if lower >= upper:
        raise ArgumentError(
            f"the prior of {key!r} is {text!r}: lower must be below upper. Swap them or widen the range"
        )
    return prior


def check_bambi_prior(prior: Any, key: str) -> None:
    """ArgumentError for a ``bambi.Prior`` whose distribution has not such an argument, or not with such a value.

    PyMC would say so in its own words, or take the default in silence."""
    if prior.name not in CATALOGUE or getattr(prior, "dist", None) is not None:
        return
    text = str(prior)
    _check_names(prior.name, prior.args, text, key)
    for argument, value in prior.args.items():
        if is_bambi_prior(value):
            check_bambi_prior(value, key)
            continue
        try:
            numbers = np.asarray(value, dtype=float)
        except (TypeError, ValueError):  # a variable of PyMC
            continue
        for number in numbers.ravel().tolist():
            _check_sign(prior.name, argument, number, text, key)


def _takes(name: str) -> str:
    order = CATALOGUE[name].arguments
    return f"{name} takes {', '.join(order)}" if order else f"{name} takes no arguments"


def _check_names(name: str, named: Mapping[str, Any], text: str, key: str) -> None:
    order = CATALOGUE[name].arguments
    for argument in named:
        if argument not in order:
            raise ArgumentError(
                f"the prior of {key!r} is {text!r}, and {name} has no argument {argument!r}.{nearest(argument, order)} "
                f"{_takes(name)}"
            )


def _check_sign(name: str, argument: str, value: Any, text: str, key: str) -> None:
    if argument in CATALOGUE[name].real:
        return
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, float) and one <= 0 for one in numbers):
        raise ArgumentError(
            f"the prior of {key!r} is {text!r}: {argument} of {name} must be positive, got {show(value)}. "
            "Give a positive number, in the unit of that parameter"
        )


def _unreadable(text: str, key: str, why: str) -> ArgumentError:
    return ArgumentError(
        f"the prior of {key!r} is {text!r}, which {why}. Write a distribution with its arguments, such as "
        '"Normal(0, 10)", "HalfNormal(50)" or "HalfStudentT(nu=4, sigma=60)"'
    )
