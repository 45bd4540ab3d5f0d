"""The common terms with every level's own column, whatever contrasts the formula asked for (SAS's GLM parametrisation).

``recipe:temperature`` becomes one 0/1 column for each pair of levels; ``recipe:x`` the value of x in its recipe's
column, 0 in the others.  Type III hypotheses are stated about these columns, so that contrasts cannot matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.formula.design import Design, FrozenArrays


@dataclass(frozen=True, eq=False)
class FullTerm(FrozenArrays):
    """One common term.  values (n, r), the last factor's level varying fastest; numbers scaled to unit mean square."""

    name: str
    factors: frozenset[str]
    numbers: frozenset[str]
    values: np.ndarray

    def contained_in(self, other: FullTerm) -> bool:
        """The same numeric part, and all its factors among the other's, which has more (SAS's containment)."""
        return self.numbers == other.numbers and self.factors < other.factors


def full_terms(design: Design) -> tuple[FullTerm, ...]:
    """The terms of the common part, the intercept among them, offsets not."""
    found = []
    for term in design.evaluator.models[0].common_terms:
        if getattr(term, "kind", None) == "offset":
            continue
        values = np.ones((design.nobs, 1))
        factors: set[str] = set()
        numbers: set[str] = set()
        for component in getattr(term, "components", ()):
            (factors if component.kind == "categoric" else numbers).add(component.name)
            columns = _columns(component, design.nobs)
            values = (values[:, :, None] * columns[:, None, :]).reshape(design.nobs, -1)
        name = term.name if factors or numbers else "Intercept"
        found.append(FullTerm(name, frozenset(factors), frozenset(numbers), values))
    return tuple(found)


def _columns(component: Any, n: int) -> np.ndarray:
    """(n, c): indicators of all levels, or the numbers over their common root mean square."""
    data = component._intermediate_data
    if component.kind == "categoric":
        values = np.asarray(getattr(data, "data", data) if type(data).__name__ == "CategoricalBox" else data)
        labels, codes = np.unique(values.astype(str), return_inverse=True)
        levels = [str(level) for level in component.levels]
        order = np.array([levels.index(label) for label in labels])
        return np.asarray(order[codes.ravel()][:, None] == np.arange(len(levels)), dtype=float)
    numbers = np.asarray(component.value, dtype=float).reshape(n, -1)
    size = float(np.sqrt(np.mean(numbers**2) * numbers.shape[1]))
    return numbers / size if size > 0 else numbers
