"""Methods that are functions further on: bound like any method, shown like any method, known to type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pickle
import sys
import weakref
from pathlib import Path

import pytest

from hiermod import model as front_door
from hiermod.core.answers import Answer, answers, remembered
from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentTypeError
from hiermod.fits import bayesian, frequentist, generalised, vocabulary

TABLES = {  # class -> its table, and what its functions call it
    vocabulary.Fit: (vocabulary.EVERY_FIT, "fit"),
    frequentist.FrequentistFit: (vocabulary.LIKELIHOOD_FIT, "fit"),
    generalised.GeneralisedFit: (vocabulary.GENERALISED_FIT, "fit"),
    bayesian.BayesianFit: (vocabulary.BAYESIAN_FIT, "fit"),
    front_door.Model: (front_door.MODEL, "model"),
}
CASES = [(cls, name) for cls, (table, _) in TABLES.items() for name in table]


@pytest.fixture(scope="module")
def fit() -> frequentist.FrequentistFit:
    return front_door.Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).reml()


@pytest.mark.parametrize(("cls", "name"), CASES, ids=[f"{cls.__name__}.{name}" for cls, name in CASES])
def test_an_answer_is_the_function_of_its_name(cls: type, name: str) -> None:
    table, first = TABLES[cls]
    function = getattr(cls, name)
    assert inspect.isfunction(function)
    assert function is getattr(importlib.import_module(table[name]), name)
    assert (function.__module__, function.__name__) == (table[name], name)  # so that bound ones pickle, help() finds it
    assert next(iter(inspect.signature(function).parameters)) == first
    assert inspect.getdoc(function)


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_type_checkers_are_told_the_same_functions(cls: type) -> None:
    """What stands under TYPE_CHECKING, ``from module import loo as _loo`` and ``loo = _loo``, is the table."""
    tree = ast.parse(Path(inspect.getfile(cls)).read_text(encoding="utf-8"))

    def told(body: list[ast.stmt]) -> list[ast.stmt]:
        checked = [one for one in body if isinstance(one, ast.If) and getattr(one.test, "id", "") == "TYPE_CHECKING"]
        return [statement for one in checked for statement in one.body]

    imports = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in told(tree.body)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    found = {}
    for node in told(body):
        if isinstance(node, ast.Assign):
            assert isinstance(node.value, ast.Name | ast.Tuple)
            (target,) = node.targets
            names = [one.id for one in getattr(target, "elts", [target])]
            values = [one.id for one in getattr(node.value, "elts", [node.value])]
            found |= {name: imports[value] for name, value in zip(names, values, strict=True)}
    assert found == {name: f"{module}.{name}" for name, module in TABLES[cls][0].items()}


def test_an_answer_is_a_method(fit: frequentist.FrequentistFit) -> None:
    assert fit.icc().equals(type(fit).icc(fit))
    assert list(inspect.signature(fit.icc).parameters) == ["group", "level", "bootstrap", "random_seed", "cores"]
    assert {*TABLES[vocabulary.Fit][0], *TABLES[frequentist.FrequentistFit][0]} <= set(dir(fit))
    assert fit.icc.__doc__ == type(fit).icc.__doc__
    bound = pickle.loads(pickle.dumps(fit.icc))
    assert bound().equals(fit.icc())
    with pytest.raises(ArgumentTypeError, match="ddf must be text"):
        fit.fixef(ddf=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="variables"):
        fit.means()  # type: ignore[call-arg]


def test_a_table_names_modules_that_are_loaded_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @answers({"floor": "far_away"})
    class Number(float):
        pass

    assert isinstance(vars(Number)["floor"], Answer)
    with pytest.raises(ModuleNotFoundError, match="far_away"):
        Number(2.5).floor()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "far_away", math)
    assert Number(2.5).floor() == 2  # type: ignore[attr-defined]


def test_what_is_remembered_goes_with_its_object() -> None:
    class Thing:
        pass

    asked: list[Thing] = []

    @remembered
    def told(thing: Thing) -> list[str]:
        asked.append(thing)
        return ["told"]

    one, other = Thing(), Thing()
    assert told(one) is told(one)
    assert told(one) is not told(other)
    assert len(asked) == 2
    asked.clear()
    gone = weakref.ref(one)
    del one
    assert gone() is None


def test_a_summary_is_made_once(fit: frequentist.FrequentistFit) -> None:
    assert fit.summary() is fit.summary()
    assert "summary" not in str(sorted(vars(fit)))  # kept beside the fit, not in it: it is not pickled with it
