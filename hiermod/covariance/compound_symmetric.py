"""Compound symmetry: every two effects have the same correlation rho, at least -1 / (k - 1).

R = (1 - rho) I + rho 11'.  Column m + 1 of its Cholesky factor, m = 1, 2, ..., has the diagonal element
sqrt((1 - rho) (1 + m rho) / (1 + (m - 1) rho)) and below it rho sqrt((1 - rho) / ((1 + m rho) (1 + (m - 1) rho)))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.covariance.one_correlation import OneCorrelation


@dataclass(frozen=True)
class CompoundSymmetric(OneCorrelation):
    """``cs(0 + f | g)``."""

    name = "cs"

    @property
    def low(self) -> float:
        """Below it R is not positive semidefinite."""
        return -1.0 / (self.size - 1)

    def root(self, angle: np.ndarray) -> np.ndarray:
        """(..., k, k)."""
        k, angle = self.size, np.asarray(angle, dtype=float)
        s, c, rho = np.sin(angle), np.cos(angle), self.rho(angle)
        L = np.zeros((*angle.shape, k, k))
        L[..., 0, 0] = 1.0
        L[..., 1:, 0] = rho[..., None]
        q = np.sqrt(k / (k - 1)) * c  # sqrt(1 - rho)
        for m in range(1, k):
            before = 1.0 + (m - 1) * rho
            if m == k - 1:
                L[..., m, m] = q * np.sqrt(k) * s / np.sqrt(before)  # sqrt(1 + m rho) = sqrt(k) s
                break
            here = 1.0 + m * rho
            L[..., m, m] = q * np.sqrt(here / before)
            L[..., m + 1 :, m] = (rho * q / np.sqrt(here * before))[..., None]
        return L

    def root_slope(self, angle: float) -> np.ndarray:
        """(k, k)."""
        k = self.size
        s, c, rho = np.sin(angle), np.cos(angle), float(self.rho(np.asarray(angle)))
        slope = 2.0 * k / (k - 1) * s * c  # of rho
        q, q_slope = np.sqrt(k / (k - 1)) * c, -np.sqrt(k / (k - 1)) * s
        L = np.zeros((k, k))
        L[1:, 0] = slope
        for m in range(1, k):
            before, b = 1.0 + (m - 1) * rho, (m - 1) * slope
            if m == k - 1:
                L[m, m] = np.sqrt(k / before) * (q_slope * s + q * c - 0.5 * q * s * b / before)
                break
            here, h = 1.0 + m * rho, m * slope
            L[m, m] = np.sqrt(here / before) * (q_slope + 0.5 * q * (h / here - b / before))
            inner = slope * q + rho * q_slope - 0.5 * rho * q * (h / here + b / before)
            L[m + 1 :, m] = inner / np.sqrt(here * before)
        return L

    def correlation_slope(self, rho: float) -> np.ndarray:
        """11' - I."""
        return np.ones((self.size, self.size)) - np.eye(self.size)

    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """1 - rho = k / (k - 1) (1 - share) and 1 + (k - 1) rho = k share keep their digits at the bounds."""
        k = self.size
        rho, rest = self.correlation_entry(share, 0, 1), k / (k - 1) * (1.0 - share)
        sums = [1.0 + m * rho for m in range(k - 1)] + [k * share]
        below = [rho] + [rho * sqrt(rest / (sums[m] * sums[m - 1])) for m in range(1, k - 1)]
        return [[*below[:i], sqrt(rest * sums[i] / sums[i - 1]) if i else 1.0] for i in range(k)]
