"""Poisson(mu): counts, and the log likelihood of a linear predictor for maximum likelihood.

McCullagh and Nelder (1989), chapter 6.  Log factorials are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp
from scipy import special, stats
from scipy.special import gammaln

from hiermod.families.family import INTEGERS, Derivatives, Family, Further, LinkVariance, Notation, inside, the_location
from hiermod.families.row_function import RowFunction

LARGEST_MEAN = 9e18  # numpy draws no larger counts


class PoissonLikelihood:
    """Counts y as a function of eta, with log link."""

    links: tuple[str, ...] = ("log",)
    canonical = "log"

    def refusal(self, response: str, y: np.ndarray) -> str:
        """Of numbers that are no counts."""
        return f"needs counts 0, 1, 2, ...; {response!r} has other values" if INTEGERS.outside(y).any() else ""

    def constant(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """-log y!"""
        return -special.gammaln(y + 1.0)

    def rows(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """y log mu - mu."""
        with np.errstate(over="ignore", invalid="ignore"):
            return y * eta - np.exp(eta)

    def score(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """y - mu."""
        with np.errstate(over="ignore", invalid="ignore"):
            return y - np.exp(eta)

    def derivatives(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> Derivatives:
        """Both informations and their slope are mu."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.exp(eta)
            return Derivatives(y - mean, mean, mean, mean)

    def start(self, link: str, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """log(y + 0.1)."""
        return np.log(y + 0.1)

    def saturated(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """At mu = y."""
        return special.xlogy(y, y) - y

    def directions(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Down where nothing was counted."""
        return np.where(y == 0, -1, 0)

    def law(self, mean: np.ndarray, n: np.ndarray) -> Any:
        """Of the counts."""
        return stats.poisson(mean)


def draw(mean: np.ndarray, _: Further, rng: np.random.Generator) -> np.ndarray:
    """Counts, of means as large as can be drawn."""
    return rng.poisson(np.minimum(mean, LARGEST_MEAN)).astype(float)


def logpmf(y: np.ndarray, mu: np.ndarray, _: Further) -> np.ndarray:
    """Of counts."""
    return special.xlogy(y, mu) - mu - special.gammaln(y + 1.0)


def log_zero(mu: np.ndarray, _: Further) -> np.ndarray:
    """log P(0)."""
    return -mu


def density(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """y log mu - mu - log y!"""
    return y * eta - exp(eta) - gammaln(y + 1.0)


def first(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """Score y - mu."""
    mu = exp(eta)
    return y * eta - mu - gammaln(y + 1.0), y - mu, ()


def weights(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """mu, twice."""
    mu = exp(eta)
    return mu, mu


def third(y: Any, n: Any, eta: Any, a: Any) -> Any:
    """-mu."""
    return -exp(eta), (), ()


ROWS = RowFunction(density, first, weights, third, concave=True, expected_is_observed=True)


POISSON = Family(
    name="poisson",
    kind="count",
    links=("log", "identity"),
    notation=Notation("Poisson", "lambda"),
    also_called=("count", "counts"),
    support=INTEGERS,
    logpdf=inside(INTEGERS, logpmf),
    draw=draw,
    variance=the_location,
    likelihood=PoissonLikelihood(),
    link_variance={
        "log": LinkVariance(
            lambda count, _: np.log1p(1 / count),
            "residual variance on the log scale: log(1 + 1 / {count:.4g}), the count of a typical group in a model "
            "without predictors",
            count="null",
        )
    },
    rows={"log": ROWS},
)
