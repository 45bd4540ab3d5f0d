"""Which columns of X can be estimated: R's rule, main effects before interactions, later columns give way.

R's lm and lme4 pivot columns whose residual after the earlier ones falls below 1e-7 of their norm (LINPACK dqrdc2)."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-7  # R's default in lm.fit and lme4


def estimable_columns(X: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """(p,) bool: False for columns that the columns before them explain.

    X (n, p).  degree (p,): number of factors in the term, so that a:b is judged after a and b."""
    p = X.shape[1]
    keep = np.ones(p, dtype=bool)
    if p == 0:
        return keep
    order = np.argsort(degree, kind="stable")
    norms = np.linalg.norm(X, axis=0)
    if X.shape[0] >= p and (norms > 0).all():
        diagonal = np.abs(np.diag(np.linalg.qr(X[:, order], mode="r")))
        if (diagonal > 10 * TOLERANCE * norms[order]).all():
            return keep
    basis: list[np.ndarray] = []
    for j in order:
        residual = X[:, j].astype(float)
        for _ in range(2):  # twice is enough to stay orthogonal (Giraud et al. 2005, Numer. Math. 101)
            for direction in basis:
                residual = residual - direction * (direction @ residual)
        size = np.linalg.norm(residual)
        keep[j] = bool(size > TOLERANCE * norms[j])
        if keep[j]:
            basis.append(residual / size)
    return keep
