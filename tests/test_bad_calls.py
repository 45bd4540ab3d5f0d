"""Wrong arguments, one at a time, to every public function and method: each is refused by an error of hiermod's own.

``BAD`` says by the argument's name what cannot be meant; arguments it does not name get things of no use to anybody.
A call that is none of a person's business to get right (a path that is not there, say) has its own test elsewhere."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.errors import HiermodError
from hiermod.fits.generalised import GeneralisedFit

pytestmark = pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")

THING = object()
SEEDS = ["x", -1, 1.5, True, 2**70, [1], THING]
COUNTS = [0, -1, 1.5, "x", True, 10**12, float("nan"), [], THING]
LEVELS = [0, 1, 2, -0.5, "x", float("nan"), [], True, THING]
WORDS = ["nope", [], THING, 3]
NUMBERS = ["nope", [], THING]
SWITCHES = ["nope", 3, [], THING]
BAD: dict[str, list[Any]] = {
    "random_seed": SEEDS,
    "draws": COUNTS,
    "chains": COUNTS,
    "tune": COUNTS,
    "cores": COUNTS,
    "fits": COUNTS,
    "k": [*COUNTS[:-3], THING],
    "nodes": COUNTS,
    "resamples": COUNTS,
    "frames": COUNTS,
    "participants": COUNTS,
    "subjects": COUNTS,
    "repeats": COUNTS,
    "items": COUNTS,
    "rows": NUMBERS,
    "columns": NUMBERS,
    "label": NUMBERS,
    "n": NUMBERS,
    "curves": NUMBERS,
    "width": NUMBERS,
    "bootstrap": [0, -1, 1.5, "x", 10**12, THING],
    "level": LEVELS,
    "inner": LEVELS,
    "alpha": LEVELS,
    "interval": [0, 2, -0.5, "x", float("nan"), [], THING],
    "shift": NUMBERS,
    "difference": NUMBERS,
    "selected": NUMBERS,
    "mean": NUMBERS,
    "threshold": NUMBERS,
    "power": NUMBERS,
    "group": [[], "nope", 3, THING, {}],
    "parameters": ["nope", 3, [3], [], THING],
    "newdata": [3, "x", [1], THING],
    "at": [3, "x", {"nope": 1}, THING],
    "by": ["nope", 3, THING],
    "y": [3, "x", [1, 2], THING],
    "posterior": ["x", 3, THING],
    "data": SWITCHES,
    "common": SWITCHES,
    "absolute": SWITCHES,
    "refit": SWITCHES,
    "conditional": SWITCHES,
    "priors": SWITCHES,
    "subject": [3, [], THING],
    "item": [3, [], THING],
    "condition": [3, [], THING],
    "time": [3, [], THING],
    "scales": ["nope", 3, THING],
    "times": ["nope", THING],
}
SKIPPED = {"progressbar", "path", "cache", "sampler", "options", "extra_namespace", "self"}  # test_storage, test_cache
ANYWHERE = {"pooling_animation": {"interval"}}  # milliseconds between pictures: any number is one


@pytest.fixture(scope="module")
def things() -> dict[str, Any]:
    data, counts = hm.load_dataset("sleepstudy"), hm.load_dataset("cbpp")
    model = hm.Model("Reaction ~ Days + (Days | Subject)", data)
    fit = model.fit(random_seed=1, draws=250)
    return {
        "Model": model,
        "FrequentistFit": model.reml(),
        "BayesianFit": fit,
        "GeneralisedFit": hm.Model("p(incidence, size) ~ period + (1 | herd)", counts, family="binomial").ml(),
        "PriorPredictive": model.prior_predictive(draws=100, random_seed=1),
        "Pooling": model.pooling(bayes=fit),
        "DesignMatrices": model.design(),
    }


VALID = {"variables": "Days", "variable": "Days", "group": "Subject", "term": "Days", "formula": "y ~ x"}
OBJECTS = ["Model", "FrequentistFit", "BayesianFit", "GeneralisedFit", "PriorPredictive", "Pooling", "DesignMatrices"]


def bad_calls(function: Callable[..., Any], valid: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The argument, what is wrong for it, and the whole call, everything else as in ``valid``."""
    for name, parameter in inspect.signature(function).parameters.items():
        variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if variable or name in SKIPPED or name in ANYWHERE.get(function.__name__, ()):
            continue
        for value in BAD.get(name, WORDS):
            if value is not parameter.default:
                yield name, value, {**valid, name: value}


def survivors(name: str, function: Callable[..., Any], valid: dict[str, Any]) -> list[str]:
    """Bad calls that were answered, or ended in an error of somebody else's."""
    found = []
    for argument, value, call in bad_calls(function, valid):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(**call)
                found.append(f"{name}({argument}={value!r:.40}) was answered")
            except HiermodError as error:
                if len(str(error)) < 20:
                    found.append(f"{name}({argument}={value!r:.40}) is refused with {str(error)!r}: not in words")
            except Exception as error:
                found.append(f"{name}({argument}={value!r:.40}) ended in {type(error).__name__}: {error}")
            finally:
                plt.close("all")
    return found


def methods(thing: Any) -> list[str]:
    return [
        name
        for name in dir(type(thing))
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(type(thing), name))
    ]


@pytest.mark.parametrize("kind", OBJECTS)
def test_methods_refuse_what_cannot_be_meant(kind: str, things: dict[str, Any]) -> None:
    thing, found = things[kind], []
    own = {"variables": "period", "variable": "period", "group": "herd"} if isinstance(thing, GeneralisedFit) else {}
    reml = things["FrequentistFit"]
    known = VALID | own | {"y": reml.design.y, "reml": reml}
    for name in methods(thing):
        function = getattr(thing, name)
        needed = [one for one, p in inspect.signature(function).parameters.items() if p.default is inspect._empty]
        valid = {one: known[one] for one in needed if one in known}
        if name == "shrinkage_matrix":
            found += [] if _refused(function, "nope") and _refused(function, THING) else ["shrinkage_matrix"]
            continue
        found += survivors(f"{kind}.{name}", function, valid)
    assert not found, "\n".join(found)


def _refused(function: Callable[..., Any], *values: Any) -> bool:
    try:
        function(*values)
    except HiermodError:
        return True
    return False


PLOT_OF = {  # what the first argument of a plot is made of; a fit where it is not named
    "pooling": "Pooling",
    "prior": "PriorPredictive",
    "design": "DesignMatrices",
    "source": "Model",
    "reml": "FrequentistFit",
}


@pytest.mark.parametrize("name", hm.plots.__all__)
def test_plots_refuse_what_cannot_be_drawn(name: str, things: dict[str, Any]) -> None:
    function = getattr(hm.plots, name)
    parameters = inspect.signature(function).parameters
    needed = [one for one, p in parameters.items() if p.default is inspect._empty]
    if needed[0] in ("table", "found", "pit", "curves", "models", "fits"):  # what another function returned
        found = [f"{name}({bad!r:.30})" for bad in (None, 3, "x", [], THING) if not _refused(function, bad)]
    else:
        valid = {one: things[PLOT_OF.get(one, "BayesianFit")] for one in needed if one != "x"}
        valid |= {"x": "Days"} if "x" in needed else {}
        found = survivors(name, function, valid)
    assert not found, "\n".join(found)


def test_a_model_is_not_yet_a_fit(things: dict[str, Any]) -> None:
    for name in hm.plots.__all__:
        function = getattr(hm.plots, name)
        if next(iter(inspect.signature(function).parameters)) == "fit":
            with pytest.raises(HiermodError, match="fit"):
                function(things["Model"])


FUNCTIONS: dict[str, list[tuple[Any, ...]]] = {  # the wrong objects, by position
    "agreement": [(None, None), (3, 4), ("BayesianFit", 3)],
    "compare": [(None,), (3,), ("x",), ([],), ({},), ({"a": 3},), ({"a": THING, "b": THING},), (THING,)],
    "compare_estimates": [(None,), (3,), ("x",), ([],), ({},), ({"a": 3},), (THING,)],
    "information_criteria": [(None,), (3,), ("x",), ([],), ({},), ({"a": 3},), (THING,)],
    "lrt": [(), (None,), (3, 4), ("x", "y"), (THING, THING)],
    "load": [(3,), (None,), (THING,), ([],)],
    "load_dataset": [(3,), (None,), ("nope",), ([],), (THING,)],
    "prior_from": [(None, None), ("a", "b"), (2, 1), (float("nan"), 1), ([], []), (THING, 1)],
    "power": [(None,), (3, 3), ("nope", 3), (THING, THING)],
    "read_csv": [(3,), (None,), (THING,), ([],), ("nope.csv",)],
    "recovery": [(None,), (3, 3), ("nope", 3), (THING,)],
    "simulate": [(None, None), (3, 3), ("y ~ x", 3), ("y ~", []), (THING, THING)],
    "Model": [(None, None), (3, 3), ("y ~ x", 3), ("y ~ x", "x"), ("y ~ x", []), (THING, THING), ("", None)],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_refuse_wrong_objects(name: str, things: dict[str, Any]) -> None:
    function, found = getattr(hm, name), []
    for values in FUNCTIONS[name]:
        given = [things.get(one, one) if isinstance(one, str) else one for one in values]
        try:
            function(*given)
            found.append(f"{name}{values!r} was answered")
        except HiermodError:
            continue
        except TypeError as error:
            if "missing" not in str(error):  # Python's own, for arguments that were not given
                found.append(f"{name}{values!r} ended in TypeError: {error}")
        except Exception as error:
            found.append(f"{name}{values!r} ended in {type(error).__name__}: {error}")
    assert not found, "\n".join(found)


def module_functions(module: types.ModuleType) -> dict[str, Callable[..., Any]]:
    own = {name: one for name, one in vars(module).items() if inspect.isfunction(one) and not name.startswith("_")}
    return {name: one for name, one in own.items() if one.__module__ == module.__name__}


@pytest.mark.parametrize("module", ["designs", "stories"])
def test_data_are_not_made_of_nonsense(module: str) -> None:
    found = []
    for name, function in module_functions(getattr(hm, module)).items():
        found += survivors(name, function, {})
    assert not found, "\n".join(found)


def test_the_table_knows_every_public_function() -> None:
    classes = {"BayesianFit", "FrequentistFit", "Pooling"}  # not made by people
    modules = {"designs", "stories", "plots", "exercises"}  # exercises: test_exercises.py
    other = {"list_datasets", *(name for name in hm.__all__ if name.endswith(("Error", "Warning")))}
    assert set(FUNCTIONS) | classes | modules | other == set(hm.__all__)


def test_seeds_are_read_alike_everywhere() -> None:
    story = hm.stories.simpson(random_seed=3)
    pd.testing.assert_frame_equal(story, hm.stories.simpson(random_seed=np.int64(3)))
    rng = np.random.default_rng(3)
    pd.testing.assert_frame_equal(story, hm.stories.simpson(random_seed=rng))
    assert not hm.stories.simpson(random_seed=rng).equals(story)  # a Generator goes on where it stands
