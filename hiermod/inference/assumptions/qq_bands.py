"""Bands for quantile-quantile plots: where n ordered values from the assumed distribution fall.

U_(i) of n uniforms is Beta(i, n + 1 - i), which gives the pointwise band.  The simultaneous one takes the same local
level at every i, chosen so that all points lie inside with the probability asked for (equal local levels: Aldor-Noiman
et al. 2013, Am. Stat. 67(4); Weine, McPeek and Abney 2023, J. Stat. Softw. 106(10)).  That probability is computed
exactly, by the Poisson form of Steck's problem (Moscovich and Nadler 2017, Stat. Probab. Lett. 123)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

POWER = 1.11
EXACT = 500  # values up to which the local level is computed; beyond, it follows its known rate


def uniform_band(n: int, local: float) -> tuple[np.ndarray, np.ndarray]:
    """(n,) limits of the ordered uniforms, each missed with probability ``local``."""
    i = np.arange(1, n + 1)
    return stats.beta.ppf(local / 2, i, n + 1 - i), stats.beta.ppf(1 - local / 2, i, n + 1 - i)


@lru_cache(maxsize=256)
def local_level(n: int, level: float) -> float:
    """The probability with which each of n ordered values may miss its limits so that all keep them with ``level``.

    Beyond 500 values: that of 500 times the ratio of (log n log log n)^-1.11.  The rate is that of Gontscharuk and
    Finner (2017, Bernoulli 23(3)), the power what exact values for 2,000 and 8,000 at level 0.95 ask for."""
    if n == 1:
        return 1.0 - level
    if n > EXACT:
        rate = np.log(EXACT) * np.log(np.log(EXACT)) / (np.log(n) * np.log(np.log(n)))
        return local_level(EXACT, level) * float(rate) ** POWER
    low, high = (1.0 - level) / n, 1.0 - level  # Bonferroni, and no correction
    for _ in range(15):
        middle = float(np.sqrt(low * high))
        lower, upper = uniform_band(n, middle)
        if inside_probability(lower, upper) < level:
            high = middle
        else:
            low = middle
    return low


def inside_probability(lower: np.ndarray, upper: np.ndarray) -> float:
    """P(lower_i <= U_(i) <= upper_i for every i) for the ordered values of n uniforms; both ascending.

    A Poisson process of rate n is walked from limit to limit: before upper_i there must be i events, before lower_i at
    most i - 1.  Given n events in all it is the sample of uniforms."""
    n = len(lower)
    times = np.concatenate([lower, upper, [1.0]])
    order = np.argsort(times, kind="stable")
    low, most = 0, 0  # the counts allowed just now
    law = np.ones(1)  # of the count, from ``low`` on
    now = 0.0
    below = above = 0
    for event in order:
        step = times[event] - now
        now = float(times[event])
        if step > 0:
            width = below - low + 1  # at most ``below`` events may have happened before the next lower limit
            pmf = np.exp(-n * step) * np.cumprod(np.concatenate([[1.0], n * step / np.arange(1, width)]))
            law = np.convolve(law, pmf)[:width]
        if event < n:
            below += 1
        elif event < 2 * n:
            above += 1
            law, low = law[above - low :], above
        most = max(most, below)
    return float(law[n - low] / stats.poisson.pmf(n, n)) if len(law) > n - low else 0.0
