"""The unconstrained parameters phi: log sds, Fisher-transformed partial correlations, log sigma.

Correlations come from partial correlations r = tanh(z), column by column, by the vine of Lewandowski, Kurowicka and Joe
(2009, J. Multivar. Anal. 100), the same one the PyMC graph uses; (r + 1) / 2 ~ Beta(b, b) makes the matrix LKJ(eta)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

CLOSEST = 1 - 1e-15  # largest partial correlation that tanh can give back
NUDGE = 1e-12  # on the diagonal of correlation matrices that rounding has made singular


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where each parameter stands in phi (d,): per block its k log sds and k (k - 1) / 2 z, then log sigma if free."""

    sizes: tuple[int, ...]
    has_sigma: bool

    @property
    def d(self) -> int:
        """How many numbers phi has."""
        return sum(k * (k + 1) // 2 for k in self.sizes) + int(self.has_sigma)

    def parts(self) -> list[tuple[slice, slice]]:
        """Per block: where its log sds and its z's stand."""
        found, start = [], 0
        for k in self.sizes:
            middle, stop = start + k, start + k * (k + 1) // 2
            found.append((slice(start, middle), slice(middle, stop)))
            start = stop
        return found

    def sds(self, phi: np.ndarray) -> list[np.ndarray]:
        """(..., k) per block.

        Of copies: numpy 2.0 leaves its vector code, and with it a last digit, for columns of a matrix that happen to
        lie near the result in memory."""
        return [np.exp(phi[..., where].copy()) for where, _ in self.parts()]

    def correlation_factors(self, phi: np.ndarray) -> list[np.ndarray]:
        """Cholesky factors (..., k, k) of the correlation matrices, per block."""
        return [
            correlation_factor(phi[..., where].copy(), k)
            for (_, where), k in zip(self.parts(), self.sizes, strict=True)
        ]

    def log_sigma(self, phi: np.ndarray) -> np.ndarray:
        """(...); 0 where sigma is not free."""
        return phi[..., -1] if self.has_sigma else np.zeros(phi.shape[:-1])

    def unconstrained(
        self, sd: Sequence[np.ndarray], corr: Sequence[np.ndarray | None], sigma: np.ndarray | None
    ) -> np.ndarray:
        """phi (..., d), the way back.  Per block sd (..., k) and corr (..., k, k), None for k = 1; sigma (...) if free.

        Of correlations near +-1 few digits come back: where the draws' own phi is known, as the marginal engine's is,
        ``Posterior.unconstrained_draws`` gives that."""
        lead = sd[0].shape[:-1] if sd else np.asarray(sigma).shape
        phi = np.zeros((*lead, self.d))
        for (where_sd, where_z), sds, matrix in zip(self.parts(), sd, corr, strict=True):
            phi[..., where_sd] = np.log(sds)
            if matrix is not None:
                phi[..., where_z] = partial_correlations(matrix)
        if self.has_sigma:
            phi[..., -1] = np.log(np.asarray(sigma))
        return phi


def pairs(k: int) -> list[tuple[int, int]]:
    """(row, column) of each partial correlation, column by column."""
    return [(i, j) for j in range(k - 1) for i in range(j + 1, k)]


def correlation_factor(z: np.ndarray, k: int) -> np.ndarray:
    """L (..., k, k) lower triangular with unit rows, from z (..., k (k - 1) / 2)."""
    L = np.zeros((*z.shape[:-1], k, k))
    left = np.ones((*z.shape[:-1], k))  # what earlier columns leave of each row's unit length
    r, rest = np.tanh(z), sech(z)
    position = 0
    for j in range(k):
        L[..., j, j] = left[..., j]
        for i in range(j + 1, k):
            L[..., i, j] = r[..., position] * left[..., i]
            left[..., i] = left[..., i] * rest[..., position]
            position += 1
    return L


def partial_correlations(corr: np.ndarray) -> np.ndarray:
    """z (..., k (k - 1) / 2) of correlation matrices (..., k, k): the inverse of ``correlation_factor``."""
    k = corr.shape[-1]
    try:
        L = np.linalg.cholesky(corr)
    except np.linalg.LinAlgError:
        L = np.linalg.cholesky(corr + NUDGE * np.eye(k))
    left = np.sqrt(np.cumsum(np.square(L)[..., ::-1], axis=-1)[..., ::-1])  # (..., i, j): norm of L[i, j:]
    found = [L[..., i, j] / left[..., i, j] for i, j in pairs(k)]
    return np.arctanh(np.clip(np.stack(found, axis=-1), -CLOSEST, CLOSEST))


def sech(z: np.ndarray) -> np.ndarray:
    """1 / cosh(z) = sqrt(1 - tanh(z)^2), with all its digits where tanh is near 1, and 0 where cosh would overflow."""
    small = np.exp(-np.abs(z))
    return 2.0 * small / (1.0 + small * small)


def correlation_matrix(L: np.ndarray) -> np.ndarray:
    """L L' (..., k, k), exact where it is known to be."""
    return exact_correlations(L @ np.swapaxes(L, -1, -2))


def exact_correlations(R: np.ndarray) -> np.ndarray:
    """Correlation matrices (..., k, k), exactly symmetric and 1 on the diagonal, where rounding leaves 1 - 1e-16.

    Constants are then seen to be constant: ArviZ cannot bin draws that differ in their last digit only."""
    R = (R + np.swapaxes(R, -1, -2)) / 2
    k = R.shape[-1]
    R[..., range(k), range(k)] = 1.0
    return R


def correlation_gradient(z: np.ndarray, L: np.ndarray, G: np.ndarray) -> np.ndarray:
    """d f / d z (k (k - 1) / 2,) from G = d f / d L (k, k): dL_ij / dz_ij = L_ij (1 - r^2) / r; later columns fall."""
    k = len(L)
    gradient = np.empty(len(z))
    r = np.tanh(z)
    left = np.ones(k)
    for position, (i, j) in enumerate(pairs(k)):
        if i == j + 1 and j > 0:
            left = np.sqrt(np.maximum(1 - np.square(L[:, :j]).sum(axis=1), 0.0))
        own = left[i] * sech(z[position]) ** 2
        gradient[position] = G[i, j] * own - r[position] * (G[i, j + 1 : i + 1] @ L[i, j + 1 : i + 1])
    return gradient


def lkj_shapes(k: int, eta: float) -> np.ndarray:
    """The Beta parameter b of each partial correlation, column by column."""
    return np.array([eta + (k - 2 - j) / 2 for _, j in pairs(k)])


def log_lkj(z: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density of z (..., m) under LKJ, and its gradient (..., m)."""
    log_sech2 = -2 * (np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))) - np.log(2))
    constant = np.log(2) - special.betaln(shapes, shapes) - shapes * np.log(4)
    return (constant + shapes * log_sech2).sum(axis=-1), -2 * shapes * np.tanh(z)


def parameter_labels(names: Sequence[Sequence[str]], has_sigma: bool) -> list[str]:
    """What phi's elements are called in messages: ``log 1|Subject_sigma``, ..., ``log sigma``."""
    found = []
    for block in names:
        found += [f"log {name}" for name in block]
        found += [f"partial correlation {i + 1},{j + 1} of {block[0]}" for i, j in pairs(len(block))]
    return [*found, "log sigma"] if has_sigma else found
