"""Diagonal: no correlations.  With separate standard deviations it is ``(x || g)``: blocks of one column each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.covariance.one_correlation import OneCorrelation


@dataclass(frozen=True)
class Diagonal(OneCorrelation):
    """``diag(x | g)``; with ``hom=True`` Sigma = sd^2 I."""

    name = "diag"
    has_correlation = False

    def root(self, angle: np.ndarray) -> np.ndarray:
        """The identity, whatever the angle."""
        return np.broadcast_to(np.eye(self.size), (*np.shape(angle), self.size, self.size))

    def root_slope(self, angle: float) -> np.ndarray:
        """Zero."""
        return np.zeros((self.size, self.size))

    def correlation_slope(self, rho: float) -> np.ndarray:
        """Zero."""
        return np.zeros((self.size, self.size))

    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """The identity's."""
        return [[0.0] * i + [1.0] for i in range(self.size)]

    def correlation_entry(self, share: Any, i: int, j: int) -> Any:
        """0."""
        return 0.0
