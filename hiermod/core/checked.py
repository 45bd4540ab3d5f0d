"""Arguments of public functions and methods are what their annotations say: checked once, at the border.

``checked`` reads the annotations of a function, or of every public method of a class, and refuses what does not fit in
words: what was given, what is wanted.  Ranges and names are the business of the function itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from hiermod.core.arguments import LARGEST_CORES, check_count, resolve_seed
from hiermod.core.synonyms import refuse_argument
from hiermod.errors import ArgumentError, ArgumentTypeError

Thing = TypeVar("Thing", bound=Callable[..., Any])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not _is_bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not _is_bool(value)


def _are_texts(value: Any) -> bool:
    if not np.iterable(value) or isinstance(value, Mapping):
        return False
    return all(isinstance(one, str) for one in value)


def _are_numbers(value: Any) -> bool:
    return np.ndim(value) == 1 and not isinstance(value, str) and all(_is_number(one) for one in value)


def _is_axes(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("figure", "plot", "set_xlabel"))


def _is_a(name: str) -> Callable[[Any], bool]:
    return lambda value: any(cls.__name__ == name for cls in type(value).__mro__)


def _is_fit(value: Any) -> bool:
    return _is_a("Fit")(value) or (hasattr(value, "design") and hasattr(value, "record"))


A_FIT = (_is_fit, "a fit: m.reml(), m.ml() or m.fit()")
WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {  # one part of an annotation -> how to know it, and its words
    "str": (_is_text, "text"),
    "bool": (_is_bool, "True or False"),
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "Sequence[str]": (_are_texts, "a list of texts"),
    "Sequence[float]": (_are_numbers, "a list of numbers"),
    "Mapping[str, int]": (lambda value: isinstance(value, Mapping), "a dict"),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a dict"),
    "None": (lambda value: value is None, "None"),
    "Axes": (_is_axes, "Axes of matplotlib"),
    "BayesianFit": (_is_a("BayesianFit"), "a Bayesian fit: m.fit()"),
    "FrequentistFit": (_is_a("FrequentistFit"), "a REML or ML fit: m.reml(), m.ml()"),
    "Fit": A_FIT,
    "Pooling": (_is_a("Pooling"), "what m.pooling() gives"),
    "PriorPredictive": (_is_a("PriorPredictive"), "what m.prior_predictive() gives"),
    "DesignMatrices": (_is_a("DesignMatrices"), "what m.design() gives"),
    "Design": (_is_a("Design"), "m.spec"),
}


def _check_seed(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, np.random.Generator):
        resolve_seed(value)


def _check_cores(name: str, value: Any) -> None:
    if value is not None:
        check_count(name, value, most=LARGEST_CORES)


def _check_draws(name: str, value: Any) -> None:
    if value is not None:
        check_count(name, value)


def _check_one_fit(name: str, value: Any) -> None:
    """What is hiermod's own, or several fits, is left to the function, which knows what it takes besides.

    A Model is not yet a fit."""
    own = type(value).__module__.startswith("hiermod.") and not _is_a("Model")(value)
    if not (isinstance(value, Mapping) or own):
        _refuse_unless(name, value, (A_FIT,))


def _check_parameters(name: str, value: Any) -> None:
    if isinstance(value, Sequence) and not len(value):
        raise ArgumentError(f"{name} is empty: give names of parameters, or leave it out for all")
    if value is not None and not _are_texts(value):
        raise ArgumentTypeError(
            f"{name} must be names of parameters (text, or a list of texts), got {_shown(value)}. Leave it out for all"
        )


def _check_statistic(name: str, value: Any) -> None:
    if not (value is None or isinstance(value, str | Mapping | Sequence) or callable(value)):
        raise ArgumentTypeError(
            f"{name} must be a name, a function, a list of these or a dict of functions, got {_shown(value)}"
        )


def _check_switch(name: str, value: Any) -> None:
    if not (_is_bool(value) or (isinstance(value, str) and value == "auto")):
        raise ArgumentError(f"{name} must be 'auto', True or False, got {_shown(value)}")


def _check_level(name: str, value: Any) -> None:
    """Text in the place of a level is another setting given by position: the function says how that is written."""
    if not (value is None or _is_text(value)):
        _refuse_unless(name, value, (WANTED["float"],))


BY_NAME: dict[str, Callable[[str, Any], None]] = {
    "level": _check_level,
    "random_seed": _check_seed,
    "cores": _check_cores,
    "draws": _check_draws,
    "parameters": _check_parameters,
    "fit": _check_one_fit,
    "integrated": _check_switch,
    "refit_bad": _check_switch,
    "statistic": _check_statistic,
}


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"


def _refuse_unless(name: str, value: Any, wanted: Sequence[tuple[Callable[[Any], bool], str]]) -> None:
    if not any(fits(value) for fits, _ in wanted):
        raise ArgumentTypeError(f"{name} must be {' or '.join(words for _, words in wanted)}, got {_shown(value)}")


def _rule(name: str, annotation: Any) -> Callable[[str, Any], None] | None:
    parts = [part.strip() for part in str(annotation).strip("'\"").split("|")]
    known = all(part in WANTED for part in parts)
    told = (name == "fit" and known) or (name == "parameters" and "Mapping" in str(annotation))  # more than the name
    if name in BY_NAME and not told:
        return BY_NAME[name]
    if not known:
        return None
    wanted = [WANTED[part] for part in parts]
    return lambda name, value: _refuse_unless(name, value, wanted)


def _own_arguments(signature: inspect.Signature, name: str, given: Mapping[str, Any]) -> None:
    """ArgumentTypeError for an argument that there is not, with the one that was meant."""
    kinds = [one.kind for one in signature.parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    own = [one for i, one in enumerate(signature.parameters) if not (i == 0 and one in ("self", "fit", "model"))]
    for one in given:
        if one not in signature.parameters:
            refuse_argument(name, one, own)


def checked(thing: Thing) -> Thing:
    """A function whose arguments are checked, or a class with every public method of its own so.

    An argument that a function has not is refused with the one that it is here; of a class's ``__init__`` only that is
    checked."""
    if inspect.isclass(thing):
        for name, method in vars(thing).copy().items():
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(thing, name, checked(method))
        if inspect.isfunction(vars(thing).get("__init__")):
            setattr(thing, "__init__", _bordered(vars(thing)["__init__"], {}, thing.__name__))  # noqa: B010
        return thing
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = {
        name: _rule(name, one.annotation)
        for name, one in inspect.signature(thing).parameters.items()
        if name != "self" and one.kind not in kinds
    }
    return _bordered(thing, {name: rule for name, rule in found.items() if rule is not None}, thing.__name__)


def _bordered(thing: Thing, rules: Mapping[str, Callable[[str, Any], None]], name: str) -> Thing:
    signature = inspect.signature(thing)

    @functools.wraps(thing)
    def border(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= signature.parameters.keys():
            _own_arguments(signature, name, kwargs)
        if rules:
            try:
                given = signature.bind_partial(*args, **kwargs).arguments
            except TypeError:
                given = {}  # Python says which argument there is not, when it is called
            for one, value in given.items():
                if one in rules and value is not signature.parameters[one].default:
                    rules[one](one, value)
        return thing(*args, **kwargs)

    return border  # type: ignore[return-value]
