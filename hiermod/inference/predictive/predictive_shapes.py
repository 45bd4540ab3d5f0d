"""Shapes of observed and simulated responses: densities, empirical distribution functions, frequencies of counts.

Frequencies with their predictive intervals are what bars and rootograms draw (Kleiber and Zeileis 2016, Am. Stat. 70;
Säilynoja et al. 2025, arXiv:2503.01509, on discrete data)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiermod.errors import UnsupportedError
from hiermod.fits.tables import LEVEL, check_level
from hiermod.formula.design import FrozenArrays
from hiermod.inference.predictive.replicates import Replicates

GRID = 512  # points of a density
MARGIN = 0.15  # of the data's range, beyond which densities are not drawn
CLASSES = 100  # most classes of counts before neighbours are put together


@dataclass(frozen=True, eq=False)
class Curves(FrozenArrays):
    """One curve of the data and m of simulated data, over the same points."""

    x: np.ndarray  # (g,)
    observed: np.ndarray  # (g,)
    simulated: np.ndarray  # (m, g)


def densities(drawn: Replicates, curves: int = 50) -> Curves:
    """Kernel densities, one bandwidth for all (Silverman's for the data), so that only the data differ.

    Mass is reflected at 0 (and 1) where every response lies on one side of it; values beyond the data's range and 15 %
    of it count in the whole but are not drawn."""
    y = drawn.y
    few = drawn.simulated[_spread(len(drawn.simulated), curves)]
    low, high = float(y.min()), float(y.max())
    wide = (high - low) or 1.0
    bandwidth = _silverman(y) or wide / 10
    start, stop = low - max(MARGIN * wide, 3 * bandwidth), high + max(MARGIN * wide, 3 * bandwidth)
    least, most = min(low, float(few.min())), max(high, float(few.max()))
    floor = 0.0 if least >= 0 and start < 0 else None
    ceiling = 1.0 if floor is not None and most <= 1 and stop > 1 else None
    start, stop = (start if floor is None else floor), (stop if ceiling is None else ceiling)
    edges = np.linspace(start, stop, GRID + 1)
    together = np.concatenate([y[None], few])
    smooth = _smoothed(together, edges, bandwidth, floor is not None, ceiling is not None)
    return Curves((edges[:-1] + edges[1:]) / 2, smooth[0], smooth[1:])


def distribution_functions(drawn: Replicates, curves: int = 50) -> Curves:
    """Shares of responses at or below each point."""
    y = np.sort(drawn.y)
    few = np.sort(drawn.simulated[_spread(len(drawn.simulated), curves)], axis=1)
    wide = float(np.ptp(y)) or 1.0
    x = np.unique(np.concatenate([np.linspace(y[0] - MARGIN * wide, y[-1] + MARGIN * wide, GRID), y]))
    shares = [np.searchsorted(one, x, side="right") / len(y) for one in (y, *few)]
    return Curves(x, shares[0], np.stack(shares[1:]))


def frequencies(drawn: Replicates, level: float = LEVEL, width: int | None = None) -> pd.DataFrame:
    """Rows per value of a count, 0/1 or category: low, high, observed, predicted, lower, upper; index value.

    width: whole numbers put in one class (None: so few that there are at most 100 classes); value is its middle."""
    check_level(level)
    if not drawn.discrete:
        raise UnsupportedError("frequencies of values are for counts, 0/1 and categories: use densities for others")
    least = int(drawn.y.min() if drawn.kind == "category" else 0)
    most = int(np.ceil(max(drawn.y.max(), np.quantile(drawn.simulated.max(axis=1), 0.9))))
    width = max(1, -(-(most - least + 1) // CLASSES)) if width is None else int(width)
    classes = -(-(most - least + 1) // width)
    observed = _counted(drawn.y[None], least, width, classes)[0]
    simulated = _counted(drawn.simulated, least, width, classes)
    lower, upper = np.quantile(simulated, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low = least + width * np.arange(classes)
    columns = {
        "low": low,
        "high": low + width - 1,
        "observed": observed,
        "predicted": simulated.mean(axis=0),
        "lower": lower,
        "upper": upper,
    }
    return pd.DataFrame(columns, index=pd.Index(low + (width - 1) / 2, name="value"))


def _counted(y: np.ndarray, least: int, width: int, classes: int) -> np.ndarray:
    """(m, classes) of (m, n); values above the last class are in none."""
    place = ((y - least) // width).astype(np.int64)
    inside = (place >= 0) & (place < classes)
    place = np.where(inside, place, classes) + (classes + 1) * np.arange(len(y))[:, None]
    return np.bincount(place.ravel(), minlength=len(y) * (classes + 1)).reshape(len(y), -1)[:, :classes].astype(float)


def _spread(there: int, wanted: int) -> np.ndarray:
    """Positions of ``wanted`` of ``there`` simulated data sets."""
    return np.unique(np.linspace(0, there - 1, max(1, min(wanted, there))).round().astype(int))


def _silverman(y: np.ndarray) -> float:
    """0.9 min(sd, IQR / 1.34) n^(-1/5): Silverman (1986), equation 3.31."""
    sd = float(y.std(ddof=1)) if len(y) > 1 else 0.0
    iqr = float(np.subtract(*np.quantile(y, [0.75, 0.25]))) / 1.34
    return 0.9 * (min(sd, iqr) if iqr > 0 else sd) * len(y) ** -0.2


def _smoothed(y: np.ndarray, edges: np.ndarray, bandwidth: float, floor: bool, ceiling: bool) -> np.ndarray:
    """(m, g) Gaussian kernel densities of (m, n), by a filter over narrow classes; reflected at closed ends."""
    from scipy.ndimage import gaussian_filter1d

    step = edges[1] - edges[0]
    place = np.floor((y - edges[0]) / step)
    if ceiling:
        place = np.where(y == edges[-1], GRID - 1, place)
    inside = (place >= 0) & (place < GRID)
    flat = np.where(inside, place, GRID).astype(np.int64) + (GRID + 1) * np.arange(len(y))[:, None]
    shares = np.bincount(flat.ravel(), minlength=len(y) * (GRID + 1)).reshape(len(y), -1)[:, :GRID] / y.shape[1] / step
    pad = GRID
    left = shares[:, ::-1] if floor else np.zeros_like(shares)
    right = shares[:, ::-1] if ceiling else np.zeros_like(shares)
    wide = np.concatenate([left, shares, right], axis=1)
    return gaussian_filter1d(wide, bandwidth / step, axis=1, mode="constant")[:, pad : pad + GRID]
