"""The exponential distribution with mean mu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp, expm1, log
from scipy import stats

from hiermod.families.family import POSITIVE, Family, Notation, inside
from hiermod.families.row_function import RowFunction


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """-log mu - y / mu."""
    return -eta - exp(log(y) - eta)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y / mu - 1."""
    return density(y, n, eta, a), expm1(log(y) - eta), ()


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y / mu, and 1."""
    return exp(log(y) - eta), 1.0 + 0.0 * eta


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y / mu."""
    return exp(log(y) - eta), (), ()


ROWS = RowFunction(density, first, weights, third, concave=True)


EXPONENTIAL = Family(
    name="exponential",
    kind="continuous",
    links=("log", "identity", "inverse"),
    notation=Notation("Exponential"),
    support=POSITIVE,
    example=(1.0, 2.0),
    logpdf=inside(POSITIVE, lambda y, mu, _: -np.log(mu) - y / mu),
    draw=lambda mu, _, rng: mu * rng.standard_exponential(mu.shape),
    variance=lambda mu, _: np.square(mu),
    rows={"log": ROWS},
    law=lambda mu, _: stats.expon(scale=mu),
)
