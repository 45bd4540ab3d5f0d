"""Stacks of small matrices (J, K, K): products and the per-level part of the penalised system.

numpy's linear algebra on stacks costs about a microsecond per matrix; K = 1 and K = 2, nearly all models, have closed
forms."""

from __future__ import annotations

import numpy as np

LARGE = 200  # levels from which loops over the K x K entries beat matmul on the stack


def multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(J, a, b) @ (J, b, c) for small a, b.  Either may have J = 1 or be a plain matrix."""
    if left.shape[-1] == 1:
        return left * right
    if right.ndim == 2 or left.ndim == 2 or len(right) < LARGE or left.shape[-1] > 4:
        return left @ right
    product = left[:, :, 0, None] * right[:, None, 0, :]
    for b in range(1, left.shape[-1]):
        product += left[:, :, b, None] * right[:, None, b, :]
    return product


def transpose(stack: np.ndarray) -> np.ndarray:
    """Each matrix of the stack, transposed."""
    return np.swapaxes(stack, -1, -2)


def penalised_inverse(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """With M_j = Lam'A_j Lam + I: (Lam M_j^-1, Lam M_j^-1 Lam', sum of log|M_j|).  A (J, K, K), Lam (K, K).

    Nothing is divided by Lam, so a singular Lam is as good as any."""
    K = len(Lam)
    if K == 1:
        lam = float(Lam[0, 0])
        scaled = (lam * lam) * A
        half = lam / (1.0 + scaled)
        return half, lam * half, float(np.log1p(scaled).sum())
    M = Lam.T @ (A @ Lam)
    if K == 2:
        a, b, c = M[:, 0, 0] + 1.0, M[:, 0, 1], M[:, 1, 1] + 1.0
        determinant = a * c - b * b
        inverse = np.empty_like(M)
        inverse[:, 0, 0], inverse[:, 1, 1] = c / determinant, a / determinant
        inverse[:, 0, 1] = inverse[:, 1, 0] = -b / determinant
        logdet = float(np.log(determinant).sum())
    else:
        M[:, range(K), range(K)] += 1.0
        L = np.linalg.cholesky(M)
        logdet = 2.0 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
        inverse = np.linalg.inv(M)
    half = Lam @ inverse
    return half, half @ Lam.T, logdet
