"""The smallest sample size that reaches a power, from shares simulated at a few sizes, with its uncertainty.

For one coefficient, power is close to Phi(delta sqrt(n) - z): a probit regression on sqrt(n), its interval by Fieller
(1954, J. R. Stat. Soc. B 16, 175-185).  Where that line does not fit (power that levels off), isotonic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from hiermod.engines.likelihood.glm import fit_glm
from hiermod.errors import FitError
from hiermod.formula.build import build_design

MISFIT = 0.01  # p of the deviance below which the probit line is not believed
BOOTSTRAP = 2000


@dataclass(frozen=True)
class RequiredSize:
    """estimate, lower, upper: sizes, not rounded; nan where these sizes cannot say, inf or 0 for an open side."""

    power: float
    level: float
    estimate: float
    lower: float
    upper: float
    method: str  # "probit", "isotonic", "none"
    words: str

    @property
    def size(self) -> float:
        """The estimate rounded up to a whole number; nan where there is none."""
        return float(np.ceil(round(self.estimate, 9))) if np.isfinite(self.estimate) else float("nan")

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, eq=False)
class Line:
    """Probit of power = a + b sqrt(size).  cov (2, 2) of (a, b); misfit: p of the residual deviance, nan without df."""

    beta: np.ndarray
    cov: np.ndarray
    misfit: float


def probit_line(sizes: np.ndarray, hits: np.ndarray, fits: np.ndarray) -> Line | None:
    """None where the shares determine no line: one size, or only shares of 0 and 1."""
    if len(sizes) < 2 or not ((hits > 0) & (hits < fits)).any():
        return None
    frame = pd.DataFrame({"hits": hits, "fits": fits, "root": np.sqrt(sizes)})
    try:
        fit = fit_glm(build_design("p(hits, fits) ~ root", frame, family="binomial"), "binomial", "probit")
    except FitError:
        return None
    df = len(sizes) - 2
    misfit = float(stats.chi2.sf(fit.residual_deviance, df)) if df else float("nan")
    return Line(fit.beta, fit.vcov_beta, misfit)


def power_at(line: Line, sizes: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(power, lower, upper) of the line, the limits pointwise."""
    rows = np.column_stack([np.ones(len(sizes)), np.sqrt(sizes)])
    eta = rows @ line.beta
    half = stats.norm.ppf(0.5 + level / 2) * np.sqrt(np.einsum("ni,ij,nj->n", rows, line.cov, rows))
    return special.ndtr(eta), special.ndtr(eta - half), special.ndtr(eta + half)


def required_size(
    sizes: np.ndarray, hits: np.ndarray, fits: np.ndarray, power: float, level: float, seed: int
) -> RequiredSize:
    """Read off the smallest size; never further out than the sizes simulated.  seed: of the isotonic interval."""
    share = hits / fits
    line = probit_line(sizes, hits, fits)
    if line is not None and line.beta[1] > 0 and not line.misfit < MISFIT:
        method, (estimate, lower, upper) = "probit", _fieller(line, power, level)
    elif len(sizes) > 1:
        method, (estimate, lower, upper) = "isotonic", _isotonic(sizes, hits, fits, power, level, seed)
    else:
        method, estimate, lower, upper = "none", np.nan, np.nan, np.nan
    least, most, aim = sizes.min(), sizes.max(), f"{power:.0%}"
    if method == "none":
        words = f"one size cannot say where power reaches {aim}: simulate several"
    elif not np.isfinite(estimate) or estimate > most or estimate < least:
        below = share.max() < power if not np.isfinite(estimate) else estimate > most
        estimate = np.nan
        where = f"beyond {most:g}: simulate larger ones" if below else f"at or below {least:g}: simulate smaller ones"
        words = f"{aim} power lies outside the sizes simulated, {where}"
    else:
        open_side = " (the interval leaves the sizes simulated)" if lower < least or upper > most else ""
        words = (
            f"{aim} power at {np.ceil(round(estimate, 9)):g}; the curve crosses at {estimate:.1f}, "
            f"{level:.0%} interval {lower:.1f} to {upper:.1f}{open_side}, by {method} regression. "
            "The interval is the simulation's: it says nothing about whether the assumed parameters are true"
        )
    return RequiredSize(power, level, float(estimate), float(lower), float(upper), method, words)


def _fieller(line: Line, power: float, level: float) -> tuple[float, float, float]:
    """Where a + b sqrt(n) = Phi^-1(power): every n at which the difference is within its standard errors."""
    (a, b), V = line.beta - np.array([special.ndtri(power), 0.0]), line.cov
    c = stats.norm.ppf(0.5 + level / 2) ** 2
    estimate = max(-a / b, 0.0) ** 2
    two, one, zero = b * b - c * V[1, 1], a * b - c * V[0, 1], a * a - c * V[0, 0]
    inside = one * one - two * zero
    if two <= 0 or inside < 0:
        return estimate, 0.0, np.inf
    low, high = (-one + np.array([-1.0, 1.0]) * np.sqrt(inside)) / two
    return estimate, max(low, 0.0) ** 2, max(high, 0.0) ** 2


def _isotonic(
    sizes: np.ndarray, hits: np.ndarray, fits: np.ndarray, power: float, level: float, seed: int
) -> tuple[float, float, float]:
    """Linear interpolation of the isotonic fit; percentiles of a parametric bootstrap.  -inf, inf: not crossed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    estimate = _crossing(sizes, isotonic(hits, fits), power)
    again = rng.binomial(fits.astype(int), hits / fits, size=(BOOTSTRAP, len(sizes)))
    found = np.array([_crossing(sizes, isotonic(one, fits), power) for one in again])
    tails = [0.5 - level / 2, 0.5 + level / 2]
    lower, upper = np.quantile(found, tails, method="inverted_cdf")
    return estimate, max(float(lower), 0.0), float(upper)


def isotonic(hits: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """Shares that do not fall with size, nearest to those seen."""
    return np.asarray(optimize.isotonic_regression(hits / fits, weights=fits.astype(float)).x)


def _crossing(sizes: np.ndarray, share: np.ndarray, power: float) -> float:
    if share[0] >= power:
        return float(sizes[0]) if share[0] == power else -np.inf
    if share[-1] < power:
        return np.inf
    k = int(np.argmax(share >= power))
    step = (power - share[k - 1]) / (share[k] - share[k - 1])
    return float(sizes[k - 1] + step * (sizes[k] - sizes[k - 1]))
