"""Sigma = D R D with standard deviations D and correlations R that one number rho determines, or none.

What diagonal, compound symmetric and autoregressive structures share.  rho = low + (1 - low) sin^2 a with an angle a:
the square roots in a Cholesky factor of R, sqrt(1 - rho) and sqrt(rho - low), are then multiples of cos a and sin a,
smooth on both sides of the bounds, where a column only changes its sign.  A standard deviation is the square t^2 of its
search coordinate where each column has its own, and t itself where one is common to all: Sigma is then even in t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.covariance.vine import CLOSEST


@dataclass(frozen=True)
class OneCorrelation(ABC):
    """Base of structures with k standard deviations, or one, and at most one correlation; see CovarianceStructure."""

    size: int
    hom: bool

    name = ""
    free = False
    has_correlation = True

    @property
    def low(self) -> float:
        """rho's lower bound."""
        return -1.0

    @abstractmethod
    def root(self, angle: np.ndarray) -> np.ndarray:
        """Cholesky factor (..., k, k) of R at angles (...)."""

    @abstractmethod
    def root_slope(self, angle: float) -> np.ndarray:
        """d root / d angle (k, k)."""

    @abstractmethod
    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """See CovarianceStructure."""

    def correlation_entry(self, share: Any, i: int, j: int) -> Any:
        """rho itself."""
        return self.low + (1.0 - self.low) * share

    @abstractmethod
    def correlation_slope(self, rho: float) -> np.ndarray:
        """d R / d rho (k, k)."""

    # --- counts and names ---------------------------------------------------------------------------------------
    @property
    def n_sds(self) -> int:
        """1 or k."""
        return 1 if self.hom else self.size

    @property
    def n_parameters(self) -> int:
        """The standard deviations, and rho."""
        return self.n_sds + int(self.has_correlation)

    @property
    def sign_symmetric(self) -> bool:
        """One common standard deviation: of all effects at once.  Separate ones: only where nothing correlates."""
        return self.hom or not self.has_correlation

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Standard deviations from 0, rho from ``low`` to 1."""
        return ((0.0, np.inf),) * self.n_sds + ((self.low, 1.0),) * int(self.has_correlation)

    def parameter_names(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The columns' labels, or "sd" for all, then "rho"."""
        return (("sd",) if self.hom else labels) + ("rho",) * int(self.has_correlation)

    # --- theta --------------------------------------------------------------------------------------------------
    def start(self, sds: np.ndarray) -> np.ndarray:
        """One common standard deviation is the root mean square of those given."""
        own = np.array([np.sqrt(np.square(sds).mean())]) if self.hom else np.asarray(sds, dtype=float)
        return np.append(own, 0.0) if self.has_correlation else own

    def rho(self, angle: np.ndarray) -> np.ndarray:
        """(...) at angles (...)."""
        return self.low + (1.0 - self.low) * np.square(np.sin(angle))

    def angle(self, rho: np.ndarray) -> np.ndarray:
        """From 0 to pi / 2."""
        share = (np.asarray(rho, dtype=float) - self.low) / (1.0 - self.low)
        return np.arctan2(np.sqrt(np.clip(share, 0.0, 1.0)), np.sqrt(np.clip(1.0 - share, 0.0, 1.0)))

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Lambda (..., k, k)."""
        return self._factor(theta[..., : self.n_sds], self.angle(theta[..., -1]))

    def pullback(self, theta: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """d f / d theta (m,); at a bound of rho, where Lambda has a vertical tangent, infinite."""
        angle = self.angle(theta[..., -1])
        gradient = self._pullback(theta[: self.n_sds], angle, by_factor)
        if self.has_correlation:
            with np.errstate(divide="ignore", invalid="ignore"):
                gradient[-1] /= (1.0 - self.low) * np.sin(2.0 * angle)
        return gradient

    def covariance_slopes(self, theta: np.ndarray) -> np.ndarray:
        """(m, k, k) by the common variance, or each standard deviation, then rho."""
        sds = np.broadcast_to(theta[: self.n_sds], self.size)
        root = self.root(self.angle(theta[-1]))
        R, found = root @ root.T, []
        if self.hom:
            found.append(R)
        else:
            for i, row in enumerate(np.eye(self.size)):
                one_sided = np.outer(row, sds * R[i])
                found.append(one_sided + one_sided.T)
        if self.has_correlation:
            found.append(np.outer(sds, sds) * self.correlation_slope(float(theta[-1])))
        return np.array(found)

    def theta_of(self, factor: np.ndarray) -> np.ndarray:
        """Standard deviations, and the mean correlation of neighbours among columns that have a variance."""
        sds = np.sqrt(np.square(factor).sum(axis=1))
        theta = self.start(sds)
        if self.has_correlation:
            cov = factor @ factor.T
            pairs = [(i, i + 1) for i in range(self.size - 1) if sds[i] > 0 and sds[i + 1] > 0]
            if pairs:
                rho = float(np.mean([cov[i, j] / (sds[i] * sds[j]) for i, j in pairs]))
                theta[-1] = min(max(rho, self.low), 1.0)
        return theta

    def _factor(self, sds: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return np.asarray(sds[..., :, None] * self.root(angle))

    def _pullback(self, sds: np.ndarray, angle: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """With respect to (sds, angle)."""
        G = np.tril(by_factor)
        rows = (G * self.root(angle)).sum(axis=1)
        own = np.array([rows.sum()]) if self.hom else rows
        if not self.has_correlation:
            return own
        return np.append(own, (G * (sds[:, None] * self.root_slope(float(angle)))).sum())

    # --- search -------------------------------------------------------------------------------------------------
    def search(self, theta: np.ndarray) -> np.ndarray:
        """t for each standard deviation, then the angle."""
        sds = theta[: self.n_sds]
        t = sds if self.hom else np.sqrt(sds)
        return np.append(t, self.angle(theta[-1])) if self.has_correlation else np.asarray(t, dtype=float)

    def from_search(self, search: np.ndarray) -> np.ndarray:
        """theta (..., m)."""
        sds = self._sds(search[..., : self.n_sds])
        if not self.has_correlation:
            return np.abs(sds)
        return np.concatenate([np.abs(sds), self.rho(search[..., -1:])], axis=-1)

    def search_factor(self, search: np.ndarray) -> np.ndarray:
        """Lambda (..., k, k)."""
        return self._factor(self._sds(search[..., : self.n_sds]), search[..., -1])

    def search_pullback(self, search: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """(m,)."""
        t = search[: self.n_sds]
        gradient = self._pullback(self._sds(t), search[-1], by_factor)
        if not self.hom:
            gradient[: self.n_sds] *= 2.0 * t
        return gradient

    def _sds(self, t: np.ndarray) -> np.ndarray:
        return t if self.hom else np.square(t)

    # --- unbounded ----------------------------------------------------------------------------------------------
    def correlation_root(self, z: np.ndarray) -> np.ndarray:
        """rho = low + (1 - low) / (1 + exp(-2 z)): z is arctanh rho where low is -1."""
        return self.root(self._unbounded_angle(z[..., 0]) if self.has_correlation else np.zeros(z.shape[:-1]))

    def correlation_root_pullback(self, z: np.ndarray, root: np.ndarray, by_root: np.ndarray) -> np.ndarray:
        """(1,) or (0,)."""
        if not self.has_correlation:
            return np.zeros(0)
        angle = float(self._unbounded_angle(z[0]))
        slope = float(np.sin(2.0 * angle)) / 2.0  # of the angle
        return np.array([(np.tril(by_root) * self.root_slope(angle)).sum() * slope])

    def correlation_coordinates(self, corr: np.ndarray) -> np.ndarray:
        """From the first two columns: the neighbours' correlation is rho in every structure."""
        if not self.has_correlation:
            return np.zeros((*corr.shape[:-2], 0))
        share = (corr[..., 0, 1, None] - self.low) / (1.0 - self.low)
        share = np.clip(share, (1.0 - CLOSEST) / 2.0, (1.0 + CLOSEST) / 2.0)
        return np.asarray(0.5 * (np.log(share) - np.log1p(-share)))

    def beta_shapes(self, eta: float) -> np.ndarray:
        """(1,) or (0,)."""
        return np.full(int(self.has_correlation), float(eta))

    def _unbounded_angle(self, z: np.ndarray) -> np.ndarray:
        """The angle at z (...): tan a = exp(z)."""
        return np.arctan2(np.exp(np.minimum(z, 0.0)), np.exp(np.minimum(-z, 0.0)))
