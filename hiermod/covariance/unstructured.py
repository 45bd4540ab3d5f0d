"""Unstructured: every positive semidefinite Sigma; theta is the lower triangle of Lambda by column (Bates et al. 2015,
J. Stat. Softw. 67(1), section 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.covariance.vine import correlation_factor, correlation_gradient, lkj_shapes, partial_correlations
from hiermod.errors import UnsupportedError


@dataclass(frozen=True)
class Unstructured:
    """``us(x | g)``, which is ``(x | g)``."""

    size: int

    name = "us"
    hom = False
    free = True
    sign_symmetric = True

    @property
    def n_parameters(self) -> int:
        """k (k + 1) / 2."""
        return self.size * (self.size + 1) // 2

    @property
    def n_sds(self) -> int:
        """k."""
        return self.size

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The diagonal is at least 0."""
        rows, columns = self._triangle
        return tuple((0.0 if i == j else -np.inf, np.inf) for i, j in zip(rows, columns, strict=True))

    @property
    def _triangle(self) -> tuple[np.ndarray, np.ndarray]:
        columns, rows = np.triu_indices(self.size)
        return rows, columns

    def parameter_names(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """lme4's: the column's label, and for elements below the diagonal the row's and the column's."""
        pairs = zip(*self._triangle, strict=True)
        return tuple(labels[i] if i == j else f"{labels[i]}.{labels[j]}" for i, j in pairs)

    def start(self, sds: np.ndarray) -> np.ndarray:
        """The diagonal Lambda with these standard deviations (k,)."""
        return np.diag(sds)[self._triangle]

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Lambda (..., k, k)."""
        rows, columns = self._triangle
        Lam = np.zeros((*np.shape(theta)[:-1], self.size, self.size))
        Lam[..., rows, columns] = theta
        return Lam

    def pullback(self, theta: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """The lower triangle of d f / d Lambda."""
        return np.asarray(by_factor[self._triangle])

    def theta_of(self, factor: np.ndarray) -> np.ndarray:
        """The lower triangle of Lambda."""
        return np.asarray(factor[self._triangle])

    def search(self, theta: np.ndarray) -> np.ndarray:
        """theta itself: a column may change its sign."""
        return np.asarray(theta)

    def from_search(self, search: np.ndarray) -> np.ndarray:
        """The same numbers."""
        return np.asarray(search)

    def search_factor(self, search: np.ndarray) -> np.ndarray:
        """``factor``."""
        return self.factor(search)

    def search_pullback(self, search: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """``pullback``."""
        return self.pullback(search, by_factor)

    def covariance_slopes(self, theta: np.ndarray) -> np.ndarray:
        """Ones at an element of the lower triangle, by column, and at its mirror image."""
        slopes = np.zeros((self.n_parameters, self.size, self.size))
        rows, columns = self._triangle
        at = np.arange(self.n_parameters)
        slopes[at, rows, columns] = slopes[at, columns, rows] = 1.0
        return slopes

    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """Raises UnsupportedError."""
        raise UnsupportedError(NO_SHARE)

    def correlation_entry(self, share: Any, i: int, j: int) -> Any:
        """Raises UnsupportedError."""
        raise UnsupportedError(NO_SHARE)

    def correlation_root(self, z: np.ndarray) -> np.ndarray:
        """(..., k, k), from Fisher-transformed partial correlations."""
        return correlation_factor(z, self.size)

    def correlation_root_pullback(self, z: np.ndarray, root: np.ndarray, by_root: np.ndarray) -> np.ndarray:
        """(k (k - 1) / 2,)."""
        return correlation_gradient(z, root, by_root)

    def correlation_coordinates(self, corr: np.ndarray) -> np.ndarray:
        """Fisher-transformed partial correlations (..., k (k - 1) / 2)."""
        return partial_correlations(corr)

    def beta_shapes(self, eta: float) -> np.ndarray:
        """(k (k - 1) / 2,)."""
        return lkj_shapes(self.size, eta)


NO_SHARE = "free correlations are not made of one number: they have the vine of partial correlations"
