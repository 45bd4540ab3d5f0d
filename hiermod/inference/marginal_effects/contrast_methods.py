"""The usual sets of contrasts among k means, by the names R's emmeans gives them: who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm
from typing import Any

import numpy as np

from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, listing, nearest
from hiermod.fits.targets import choice

METHODS = ("pairwise", "revpairwise", "treatment", "sum", "poly", "consec")
ALIASES = {"trt.vs.ctrl": "treatment", "trt_vs_ctrl": "treatment", "dunnett": "treatment", "eff": "sum"}
OWN_ADJUSTMENT = {"pairwise": "tukey", "revpairwise": "tukey", "treatment": "dunnett", "sum": "fdr", "consec": "sidak"}
DEGREES = ("linear", "quadratic", "cubic", "quartic")
HIGHEST = 6  # degree of polynomial contrasts, as in emmeans


def contrast_rows(
    method: Any, levels: Sequence[str], reference: str | None = None, ratio: bool = False
) -> tuple[list[str], np.ndarray, str]:
    """Labels, coefficients (c, k) of each contrast among the means of ``levels`` (k), and the method's name.

    method: a name; a dict of label -> k numbers, or -> {level: number}; or a matrix (c, k).  ratio: labels read
    "A / B".  Raises ArgumentError, ArgumentTypeError, UnknownNameError."""
    k = len(levels)
    if isinstance(method, Mapping):
        return list(map(str, method)), np.array([_own(one, levels) for one in method.values()]).reshape(-1, k), "custom"
    if not isinstance(method, str):
        if np.ndim(method) == 0:
            raise ArgumentTypeError(
                f"method must be a name, a dict of contrasts or a matrix with a row for each, got {method!r:.60} "
                f"({type(method).__name__})"
            )
        rows = _matrix(method, k)
        return [f"c{i + 1}" for i in range(len(rows))], rows, "custom"
    name = choice("method", ALIASES.get(method, method), METHODS)
    if reference is not None and name != "treatment":
        raise ArgumentError(f"reference= goes with method='treatment', got method={method!r}")
    if k < 2:
        raise ArgumentError(
            f"a contrast needs two means, and there is one ({listing(levels)}): for a number name its values with "
            "at={'x': [...]}"
        )
    unit, between = np.eye(k), " / " if ratio else " - "
    if name == "sum":
        return [f"{level} effect" for level in levels], unit - 1.0 / k, name
    if name == "poly":
        rows = polynomials(k)
        return [DEGREES[i] if i < len(DEGREES) else f"degree {i + 1}" for i in range(len(rows))], rows, name
    if name == "consec":
        pairs = [(i + 1, i) for i in range(k - 1)]
    elif name == "treatment":
        control = 0 if reference is None else _position(str(reference), levels)
        pairs = [(i, control) for i in range(k) if i != control]
    else:
        pairs = list(combinations(range(k), 2))
        pairs = [(j, i) for i, j in pairs] if name == "revpairwise" else pairs
    labels = [f"{levels[i]}{between}{levels[j]}" for i, j in pairs]
    return labels, np.array([unit[i] - unit[j] for i, j in pairs]), name


def polynomials(k: int) -> np.ndarray:
    """Orthogonal polynomials on k equally spaced points in smallest whole numbers, degrees 1 to at most 6.

    >>> polynomials(4).tolist()
    [[-3.0, -1.0, 1.0, 3.0], [1.0, -1.0, -1.0, 1.0], [-1.0, 3.0, -3.0, 1.0]]
    """
    x = [Fraction(2 * i - (k - 1), 2) for i in range(k)]
    basis = [[Fraction(1)] * k]
    for degree in range(1, min(HIGHEST, k - 1) + 1):
        new = [value**degree for value in x]
        for old in basis:
            share = _dot(new, old) / _dot(old, old)
            new = [a - share * b for a, b in zip(new, old, strict=True)]
        basis.append(new)
    rows = []
    for row in basis[1:]:
        whole = lcm(*(value.denominator for value in row))
        numbers = [int(value * whole) for value in row]
        rows.append([number / gcd(*numbers) for number in numbers])
    return np.array(rows)


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _position(level: str, levels: Sequence[str]) -> int:
    if level not in levels:
        raise UnknownNameError(
            f"no mean is called {level!r}.{nearest(level, levels)} The means are: {listing(levels, 20)}."
        )
    return list(levels).index(level)


def _own(given: Any, levels: Sequence[str]) -> np.ndarray:
    if isinstance(given, Mapping):
        row = np.zeros(len(levels))
        for level, number in given.items():
            row[_position(str(level), levels)] = number
        return row
    return _matrix([given], len(levels))[0]


def _matrix(given: Any, k: int) -> np.ndarray:
    try:
        rows = np.atleast_2d(np.asarray(given, dtype=float))
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"method must be one of {listing(METHODS)}, a dict of contrasts or a matrix, got {type(given).__name__}"
        ) from error
    if rows.ndim != 2 or rows.shape[1] != k or not np.isfinite(rows).all():
        raise ArgumentError(f"a contrast has one finite number for each of the {k} means, got shape {rows.shape}")
    return rows
