"""Simultaneous inference about a family of contrasts: adjusted p values and critical values (Hsu 1996, Multiple
Comparisons).  The choices, and Dunnett's approximation, are those of R's emmeans.

Holm's and Benjamini and Hochberg's step-wise p values have no intervals of their own: theirs are Bonferroni's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

ADJUSTMENTS = ("tukey", "dunnett", "bonferroni", "holm", "sidak", "fdr", "none")
TIGHT = 1e-10  # relative, of critical values


def adjusted_p(p: np.ndarray, t: np.ndarray, df: np.ndarray, adjust: str, means: int) -> np.ndarray:
    """(k,) p values of one family of k contrasts.

    p, t, df (k,): unadjusted p, the statistics and their degrees of freedom (inf: normal); nan stays nan and does not
    count as a test for the step-wise methods.  means: the number of means compared (for "tukey")."""
    k, out = len(p), np.array(p, dtype=float)
    told = np.isfinite(out)
    if adjust == "none" or k == 1 or not told.any():
        return out
    if adjust == "bonferroni":
        return np.minimum(1.0, k * out)
    if adjust == "sidak":
        return -np.expm1(k * np.log1p(-out))
    if adjust == "holm":
        order = np.argsort(out[told], kind="stable")
        steps = np.maximum.accumulate(np.arange(len(order), 0, -1) * out[told][order])
        back = np.empty(len(order))
        back[order] = np.minimum(1.0, steps)
        out[told] = back
    elif adjust == "fdr":
        out[told] = stats.false_discovery_control(out[told], method="bh")
    elif adjust == "tukey":
        out[told] = _tukey_tail(np.abs(t[told]), float(means), df[told])
    else:
        out[told] = _dunnett_tail(np.abs(t[told]), k, df[told])
    return out


def critical_values(level: float, df: np.ndarray, adjust: str, means: int, tests: int) -> np.ndarray:
    """(k,) half-widths in standard errors so that all intervals of a family hold together with probability level.

    df (k,): inf for the normal, nan stays nan.  "holm" and "fdr" are given Bonferroni's."""
    out = np.full(len(df), np.nan)
    for one in np.unique(df[~np.isnan(df)]):
        out[df == one] = _critical(float(level), float(one), adjust if tests > 1 else "none", means, tests)
    return out


@lru_cache(maxsize=512)
def _critical(level: float, df: float, adjust: str, means: int, tests: int) -> float:
    alpha = 1 - level
    if adjust == "none":
        return _two_sided(alpha, df)
    if adjust == "sidak":
        return _two_sided(-np.expm1(np.log(level) / tests), df)
    bonferroni = _two_sided(alpha / tests, df)
    if adjust not in ("tukey", "dunnett"):
        return bonferroni
    points = np.array([df])

    def gap(x: float) -> float:  # on a scale where the tail is nearly a straight line
        if adjust == "tukey":
            tail = _tukey_tail(np.array([x]), float(means), points)
        else:
            tail = _dunnett_tail(np.array([x]), tests, points)
        return float(special.ndtri(np.clip(tail[0], 1e-15, 1 - 1e-15)) - special.ndtri(alpha))

    start = _two_sided(alpha / max(1.0, tests / 2), df)
    return float(optimize.newton(gap, start, x1=0.98 * start, rtol=TIGHT, tol=1e-9))


def _two_sided(alpha: float, df: float) -> float:
    return float(stats.norm.isf(alpha / 2) if np.isinf(df) else stats.t.isf(alpha / 2, df))


def _tukey_tail(t: np.ndarray, means: float, df: np.ndarray) -> np.ndarray:
    """P(range of ``means`` studentised means > sqrt(2) t)."""
    return np.asarray(stats.studentized_range.sf(np.sqrt(2) * t, means, df))


def _dunnett_tail(t: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """k comparisons with one control: emmeans' "dunnettx", between Tukey's and Sidak's; exact only nearly."""
    share = (k - 1) / k
    single = 2 * np.where(np.isinf(df), stats.norm.sf(t), stats.t.sf(t, np.where(np.isinf(df), 1.0, df)))
    sidak = -np.expm1(k * np.log1p(-single))
    return share * _tukey_tail(t, (1 + np.sqrt(1 + 8 * k)) / 2, df) + (1 - share) * sidak
