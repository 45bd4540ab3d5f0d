"""Formulas for further parameters of the response (sigma, psi, ...), as they are given; ``parts.py`` has their designs.

Distributional regression (Umlauf and Kneib 2018, Stat. Modelling 18(3-4)); names are Bambi's: ``sigma_Intercept``,
``sigma_x``, ``sigma_1|g``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hiermod.errors import ArgumentTypeError, FormulaError, UnknownNameError, UnsupportedError, nearest
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.parse import ParsedFormula, parse_formula

DISTRIBUTIONAL = "distributional"  # Design.special of a model that has such formulas


def parse_further(parameters: Any, parsed: ParsedFormula, family: str) -> dict[str, ParsedFormula]:
    """``{"sigma": "z + (1 | g)"}`` as parsed formulas, each with the response left of ``~``.

    Raises ArgumentTypeError, UnknownNameError for a parameter the family has not, FormulaError."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise ArgumentTypeError(
            f"parameters must be a dict of formulas such as {{'sigma': 'x + (1 | g)'}}, got {type(parameters).__name__}"
        )
    valid = tuple(parameter.name for parameter in FAMILIES[family].parameters if parameter.formula)
    found = {}
    for name, text in parameters.items():
        if name not in valid:
            has = f"It has: {', '.join(valid)}" if valid else "It has none besides the one that the formula is about"
            raise UnknownNameError(
                f"parameters=: family {family!r} has no parameter {name!r} to give a formula."
                f"{nearest(str(name), valid)} {has}"
            )
        if not isinstance(text, str):
            raise ArgumentTypeError(
                f"the formula of {name!r} must be a string such as 'x + (1 | g)', got {type(text).__name__}"
            )
        left, tilde, right = text.partition("~")
        if tilde and left.strip() not in ("", name):
            raise FormulaError(f"the formula of {name!r} has {left.strip()!r} left of '~': write {right.strip()!r}")
        found[str(name)] = parse_formula(f"{parsed.response} ~ {(right if tilde else text).strip()}")
    if found and parsed.response_call is not None and parsed.response_call in ("weighted", "censored", "truncated"):
        raise UnsupportedError(
            f"parameters= and {parsed.response_call}(...) left of '~' cannot be used together: use one of them"
        )
    return found
