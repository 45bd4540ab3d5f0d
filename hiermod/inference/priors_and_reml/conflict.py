"""Prior-data conflict: how improbable a prior finds a value (Evans and Moshonov 2006, Bayesian Analysis 1, 893-914).

P(f(X) <= f(x)), X from the prior with density f: the prior probability of a value no denser than x.  Unlike a
two-sided quantile it is 1 at the mode, wherever that lies, so that an sd of 0 under a half-normal is no surprise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, special, stats

TAILS = 700.0  # log odds of the outermost quantiles: probabilities down to 1e-304
STEPS = 1401
NEGLIGIBLE = 0.05  # a standard error below this share of the prior's sd blurs nothing
FARTHEST = 60.0  # standard errors to which the tails of a t of few degrees of freedom are followed
NOISY = 401  # points of the prior that are blurred by an estimate's standard error ...
OUTERMOST = 13.0  # ... between these log odds: probabilities of 2e-6


def conflict_p(law: Any, x: float) -> float:
    """P(f(X) <= f(x)) under a frozen scipy distribution, to the accuracy of its cdf; nan for a nan."""
    if not np.isfinite(x):
        return float("nan")
    with np.errstate(all="ignore"):
        level = float(law.logpdf(x))
        if np.isnan(level) or level == -np.inf:
            return 0.0 if level == -np.inf else float("nan")
        if level == np.inf:
            return 1.0
        points = _points(law, x)
        excess = np.asarray(law.logpdf(points)) - level
    total, start = 0.0, -np.inf  # intervals in which the density is no higher than at x
    low = excess <= 0
    for i in range(len(points)):
        if i and low[i] != low[i - 1]:
            edge = _edge(law, level, points[i - 1], points[i])
            if low[i]:
                start = edge
            else:
                total += _mass(law, start, edge)
    if low[-1]:
        total += _mass(law, start, np.inf)
    return float(min(max(total, 0.0), 1.0))


def _points(law: Any, x: float) -> np.ndarray:
    """Quantiles from tail to tail, and x itself, in ascending order without repetition.

    So far out a quantile may not converge, which scipy warns of: between two others it is not missed."""
    t = np.linspace(-TAILS, TAILS, STEPS)
    left, right = t[t <= 0], t[t > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        quantiles = law.ppf(special.expit(left)), law.isf(special.expit(-right))
    points = np.concatenate([*quantiles, [x]])
    points = np.unique(points[np.isfinite(points)])
    return points[np.concatenate([[True], np.diff(points) > 1e-13 * np.abs(points[1:])])]


def _edge(law: Any, level: float, a: float, b: float) -> float:
    """Where the density crosses ``level`` between a and b."""

    def excess(x: float) -> float:
        return float(np.clip(law.logpdf(x) - level, -1e300, 1e300))

    fa, fb = excess(a), excess(b)
    if fa == 0 or fb == 0 or (fa > 0) == (fb > 0):
        return a if abs(fa) <= abs(fb) else b
    return float(optimize.brentq(excess, a, b, xtol=1e-300, rtol=1e-14))


def _mass(law: Any, a: float, b: float) -> float:
    """P(a < X < b), from the tail in which it has digits."""
    if law.cdf(a) > 0.5:
        return float(law.sf(a) - law.sf(b))
    return float(law.cdf(b) - law.cdf(a))


def _as_it_is(x: np.ndarray) -> np.ndarray:
    return x


def blurred_conflict_p(
    law: Any,
    x: float,
    se: float,
    scale: Callable[[np.ndarray], np.ndarray] = _as_it_is,
    df: float = np.inf,
) -> float:
    """The same for an estimate x: under the law of g(X) + se * t(df), the estimate's own on the scale g.

    se: standard error of g(x), ascending g, itself estimated with df degrees of freedom (inf: known, the noise normal).
    An estimate that is far out in the prior, yet no further than its own error, contradicts nothing.  nan for a nan."""
    if not (np.isfinite(x) and np.isfinite(se)):
        return float("nan")
    low, high = scale(np.asarray(law.ppf([0.158655, 0.841345]), dtype=float))
    if se <= NEGLIGIBLE * (high - low) / 2:
        return conflict_p(law, x)
    x = float(scale(np.array([x]))[0])
    u = special.expit(np.linspace(-OUTERMOST, OUTERMOST, NOISY))  # dense in the tails, which decide
    centres = scale(np.asarray(law.ppf(u), dtype=float))
    proper = np.isfinite(centres)  # a quantile that is 0 in double precision has no logarithm
    centres, share = centres[proper], (u * (1 - u))[proper]
    reach = (6.0 if np.isinf(df) else min(float(stats.t.isf(1e-6, df)), FARTHEST)) * se
    low, high = float(centres[0]) - reach, float(centres[-1]) + reach
    grid = np.unique(np.concatenate([np.linspace(low, high, 801), *(centres + z * se for z in (-3, 0, 3))]))
    density = _mixture(grid, centres, share, se, df)
    widths = np.gradient(grid)
    at = _mixture(np.array([x]), centres, share, se, df)[0]
    mass = density * widths
    return float(mass[density <= at * (1 + 1e-9)].sum() / mass.sum())


def _mixture(x: np.ndarray, centres: np.ndarray, share: np.ndarray, se: float, df: float) -> np.ndarray:
    """The density at x (m,) up to a constant."""
    out = np.empty(len(x))
    for start in range(0, len(x), 500):
        squared = ((x[start : start + 500, None] - centres) / se) ** 2
        kernel = np.exp(-0.5 * squared) if np.isinf(df) else (1 + squared / df) ** (-0.5 * (df + 1))
        out[start : start + 500] = kernel @ share
    return out


def drawn_conflict_p(draws: np.ndarray, x: float, positive: bool = False) -> float:
    """P(f(X) <= f(x)) from draws (n,) of X, f being a kernel estimate; at least 1 / (n + 1).

    positive: X is at least 0, and the kernel is reflected there.  nan where there is nothing to compare."""
    draws = draws[np.isfinite(draws)]
    if len(draws) < 20 or not np.isfinite(x):
        return float("nan")
    width = bandwidth(draws)
    if width == 0:
        return 1.0 if np.isclose(x, draws[0]) else 1 / (len(draws) + 1)
    own = kernel_density(draws, draws, width, positive)
    at = kernel_density(np.array([x]), draws, width, positive)[0]
    return float((1 + (own <= at).sum()) / (len(draws) + 1))


def bandwidth(draws: np.ndarray) -> float:
    """Silverman's rule (1986, Density Estimation, equation 3.31), whose quartiles keep heavy tails from blurring."""
    quartiles = np.quantile(draws, [0.25, 0.75])
    spread = min(float(draws.std()), float(quartiles[1] - quartiles[0]) / 1.34) or float(draws.std())
    return 0.9 * spread * len(draws) ** -0.2


def kernel_density(x: np.ndarray, draws: np.ndarray, width: float, positive: bool = False) -> np.ndarray:
    """Gaussian kernel estimate at x (m,) from draws (n,); reflected at 0 when ``positive``."""
    out = np.empty(len(x))
    for start in range(0, len(x), 500):
        part = x[start : start + 500, None]
        value = np.exp(-0.5 * ((part - draws) / width) ** 2).sum(axis=1)
        if positive:
            value = value + np.exp(-0.5 * ((part + draws) / width) ** 2).sum(axis=1)
            value = np.where(part[:, 0] < 0, 0.0, value)
        out[start : start + 500] = value
    return out / (len(draws) * width * np.sqrt(2 * np.pi))
