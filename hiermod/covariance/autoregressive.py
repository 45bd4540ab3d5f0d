"""Autoregressive of order 1: effects i and j, columns in order, have the correlation rho^|i - j|.

The Cholesky factor of R has rho^(i - 1) in its first column and rho^(i - j) sqrt(1 - rho^2) in column j after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.covariance.one_correlation import OneCorrelation


@dataclass(frozen=True)
class Autoregressive(OneCorrelation):
    """``ar1(0 + time | g)``."""

    name = "ar1"

    def root(self, angle: np.ndarray) -> np.ndarray:
        """(..., k, k); rho = -cos 2a and sqrt(1 - rho^2) = sin 2a."""
        angle = np.asarray(angle, dtype=float)
        powers = self._powers(-np.cos(2.0 * angle))
        first = np.arange(self.size) == 0
        return powers * np.where(first, 1.0, np.sin(2.0 * angle)[..., None])[..., None, :]

    def root_slope(self, angle: float) -> np.ndarray:
        """(k, k)."""
        rho, rest = -np.cos(2.0 * angle), np.sin(2.0 * angle)
        lags = self._lags()
        by_rho = np.where(lags > 0, lags * self._powers(np.asarray(rho), 1), 0.0) * 2.0 * rest
        first = np.arange(self.size) == 0
        slope = np.where(first, by_rho, by_rho * rest - 2.0 * rho * self._powers(np.asarray(rho)))
        return np.asarray(np.tril(slope))

    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """sqrt(1 - rho^2) = 2 sqrt(share (1 - share)) keeps its digits at the bounds."""
        rest = 2.0 * sqrt(share * (1.0 - share))
        powers = [1.0, *(self.correlation_entry(share, 0, lag) for lag in range(1, self.size))]
        return [[powers[i], *(powers[i - j] * rest for j in range(1, i + 1))] for i in range(self.size)]

    def correlation_entry(self, share: Any, i: int, j: int) -> Any:
        """rho to the power of the distance."""
        rho = 2.0 * share - 1.0
        return rho if j - i == 1 else rho ** (j - i)

    def correlation_slope(self, rho: float) -> np.ndarray:
        """|i - j| rho^(|i - j| - 1)."""
        lags = np.abs(self._lags())
        return np.asarray(lags * rho ** np.maximum(lags - 1, 0))

    def _lags(self) -> np.ndarray:
        at = np.arange(self.size)
        return at[:, None] - at

    def _powers(self, rho: np.ndarray, less: int = 0) -> np.ndarray:
        """rho^(i - j - less) (..., k, k) where that is no negative power, else 0."""
        lags = self._lags() - less
        return np.where(lags >= 0, np.asarray(rho)[..., None, None] ** np.maximum(lags, 0), 0.0)
