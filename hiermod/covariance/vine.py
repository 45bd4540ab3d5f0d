"""Free correlations from partial correlations r = tanh(z), column by column: the vine of Lewandowski, Kurowicka and Joe
(2009, J. Multivar. Anal. 100), the same one the PyMC graph uses; (r + 1) / 2 ~ Beta(b, b) makes the matrix LKJ(eta)."""

from __future__ import annotations

import numpy as np
from scipy import special

CLOSEST = 1 - 1e-15  # largest partial correlation that tanh can give back
NUDGE = 1e-12  # on the diagonal of correlation matrices that rounding has made singular


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


def log_beta(z: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density of z (..., m), 1 / (1 + exp(-2 z)) ~ Beta(b, b) with shapes b (m,), and its gradient (..., m)."""
    log_sech2 = -2 * (np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))) - np.log(2))
    constant = np.log(2) - special.betaln(shapes, shapes) - shapes * np.log(4)
    return (constant + shapes * log_sech2).sum(axis=-1), -2 * shapes * np.tanh(z)
