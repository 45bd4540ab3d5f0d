"""The LKJ prior of a block's correlation matrix, density proportional to det(R)^(eta - 1): its text, one correlation.

Lewandowski, Kurowicka and Joe (2009, J. Multivar. Anal. 100, 1989-2001)."""

from __future__ import annotations

from typing import Any

import scipy

from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.formula.design import Block
from hiermod.priors.parse import parse_call

DEFAULT_ETA = 2.0  # rstanarm's and brms' habit is 1; 2 leans gently towards 0 and keeps away from the edges +-1


def parse_lkj(value: Any, key: str) -> float:
    """eta of ``"LKJ(2)"`` or ``"LKJ(eta=2)"``."""
    if not isinstance(value, str):
        raise ArgumentTypeError(f'the prior of {key!r} must be a text such as "LKJ(2)", got {value!r}')
    name, positional, named = parse_call(value, key)
    values = [*positional, *named.values()]
    if name != "LKJ" or len(values) != 1 or set(named) - {"eta"} or not isinstance(values[0], float):
        raise ArgumentError(
            f'the prior of {key!r} is {value!r}; the correlations of a block have the prior "LKJ(eta)", eta a number: '
            "1 is flat over correlation matrices, larger values lean towards 0"
        )
    if values[0] <= 0:
        raise ArgumentError(f"the prior of {key!r} is {value!r}: eta must be positive, got {values[0]:g}. 1 is flat")
    return values[0]


def correlation_law(block: Block, eta: float, pair: tuple[int, int]) -> Any:
    """The scipy distribution of the correlation of two columns of a block; None where it has no closed form.

    The one correlation of a structure is Beta(eta, eta) over its range: LKJ(eta) where that is all there is."""
    structure = block.structure
    if structure.free:
        return lkj_marginal(eta, block.size)
    if structure.name == "ar1" and pair[1] - pair[0] > 1:
        return None
    low, high = structure.bounds[-1]
    return scipy.stats.beta(eta, eta, loc=low, scale=high - low)


def lkj_marginal(eta: float, k: int) -> Any:
    """The scipy distribution of each correlation of a k x k matrix: Beta(b, b) over (-1, 1), b = eta + (k - 2) / 2."""
    b = eta + (k - 2) / 2
    return scipy.stats.beta(b, b, loc=-1.0, scale=2.0)
