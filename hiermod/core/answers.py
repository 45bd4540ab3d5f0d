"""Methods whose functions stand further on than their class: imported where they are asked for, bound like any method.

A class near the ground (a fit, a model) answers to names whose functions need what stands above it.  A table says in
which module each name's function is; the object is that function's first argument:

    @answers({"loo": "hiermod.inference.scores.of_fit"})
    class BayesianFit: ...

``fit.loo`` is that function bound to the fit, ``BayesianFit.loo`` the function itself: its signature, its docstring."""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


class Answer:
    """A method that is the function ``name`` of the module of that name, read when it is asked for."""

    def __init__(self, name: str, module: str) -> None:
        self.name, self.module = name, module

    def __get__(self, instance: Any, owner: type | None = None) -> FunctionType | MethodType:
        function: FunctionType = getattr(importlib.import_module(self.module), self.name)
        return function if instance is None else MethodType(function, instance)

    def __repr__(self) -> str:
        return f"Answer({self.name!r}, {self.module!r})"


def answers(table: Mapping[str, str]) -> Callable[[Class], Class]:
    """A class that also answers to the names of ``table``: name -> the module whose function of that name it is."""

    def with_answers(cls: Class) -> Class:
        for name, module in table.items():
            setattr(cls, name, Answer(name, module))
        return cls

    return with_answers


def remembered(function: Function) -> Function:
    """A function of one immutable object, computed once and kept beside the object for as long as that lives."""
    kept: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def once(one: Any) -> Any:
        if one not in kept:
            kept[one] = function(one)
        return kept[one]

    return once  # type: ignore[return-value]
