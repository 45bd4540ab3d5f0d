"""What each column of the data is to the common part of a formula: a factor, a number, or both.

A number inside C() or factor() is a factor: only values that were seen have a coefficient."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hiermod.formula.design import Design
from hiermod.formula.language import is_truth
from hiermod.formula.parse import parse_formula

FACTOR, NUMBER = "factor", "number"


def variable_roles(design: Design, lefts: bool = False) -> dict[str, str]:
    """Column -> "factor" or "number", for the columns that the common part (offsets too) uses, in order of mention.

    lefts: the columns left of the bars as well.  Grouping factors are not among them unless they are predictors too."""
    parsed = parse_formula(design.formula)
    texts = [parsed.common, *(bar.left for bar in parsed.bars if lefts)]
    mentioned: dict[str, None] = {}
    for text in texts:
        mentioned |= {token.text: None for token in parse_formula(f"y ~ {text}").names[1:]}
    factors = _called_factors(design)
    roles = {}
    for name in mentioned:
        if name in design.frame.columns:
            is_factor = isinstance(design.frame[name].dtype, pd.CategoricalDtype) or name in factors
            roles[name] = FACTOR if is_factor else NUMBER
    return roles


def offset_columns(design: Design) -> set[str]:
    """The columns inside ``offset(...)``."""
    terms = [term for term in design.evaluator.models[0].common_terms if getattr(term, "kind", None) == "offset"]
    return {name for term in terms for component in term.components for name in _names_in(component)}


def _called_factors(design: Design) -> set[str]:
    """Columns inside a call that makes a factor, as in C(cyl); x of I(x > 0) stays a number."""
    found: set[str] = set()
    for model in design.evaluator.models:
        for term in model.common_terms:
            for component in getattr(term, "components", ()):
                if component.kind == "categoric" and not is_truth(component._intermediate_data):
                    found |= _names_in(component)
    return found


def _names_in(component: Any) -> set[str]:
    return {name for name in getattr(component, "var_names", {component.name}) if name}
