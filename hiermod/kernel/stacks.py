"""Stacks of small matrices (J, K, K): products and the per-level part of the penalised system; batches of them.

numpy's linear algebra on stacks costs about a microsecond per matrix; K = 1 and K = 2, nearly all models, have closed
forms."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

NO_DIGIT = 1e-14  # relative size of a pivot that is rounding alone
FAR = 20.0  # an element of Lambda above this makes the difference of ``orthogonal_columns``
LARGE = 200  # levels from which loops over the K x K entries beat matmul on the stack
TILE = 8  # rows that BLAS sees at once in ``rows_times``


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


def orthogonal_columns(Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Lam V, V) for a Lambda (..., K, K) with V (..., K, K) orthogonal and the columns of Lam V orthogonal.

    The effects' covariance Lam Lam' does not know the difference, rounding does: two columns of 1,000 that are nearly
    parallel cost Lam'A Lam + I six digits, orthogonal ones of whatever lengths none (Higham, Accuracy and Stability of
    Numerical Algorithms, section 10.1: the error of Cholesky's factor is that of the matrix with a unit diagonal)."""
    U, lengths, Vt = np.linalg.svd(Lam)
    return U * lengths[..., None, :], transpose(Vt)


def steady(Lam: np.ndarray) -> np.ndarray:
    """Lambdas (S, K, K), those with large elements with orthogonal columns."""
    far = np.abs(Lam).max(axis=(1, 2), initial=0.0) > FAR
    far &= np.isfinite(Lam).all(axis=(1, 2))
    if Lam.shape[-1] == 1 or not far.any():
        return Lam
    turned = np.array(Lam, dtype=float)
    turned[far] = orthogonal_columns(Lam[far])[0]
    return turned


def penalised_inverse(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """With M_j = Lam'A_j Lam + I: (Lam M_j^-1, Lam M_j^-1 Lam', sum of log|M_j|).  A (J, K, K), Lam (K, K).

    Nothing is divided by Lam, so a singular Lam is as good as any.  A level without rows of a column has an effect as
    wide as Lam: for a large one Q = R'R with R = C^-1 Lam', M = C C', loses eps Lam^2 of what the rows say, and as a
    product with M^-1 it would lose eps Lam^4.  LinAlgError where rounding, of entries beyond 1e7,
    has left no digit of an M_j's last pivot: by a margin that it cannot cross itself."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _penalised_inverse(A, Lam)


def _penalised_inverse(A: np.ndarray, Lam: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    K = len(Lam)
    if K == 1:
        lam = float(Lam[0, 0])
        scaled = (lam * lam) * A
        if not (scaled > NO_DIGIT - 1.0).all():  # weights may be negative, and an overflowed product is nan
            raise np.linalg.LinAlgError("a level's penalised curvature is not positive")
        half = lam / (1.0 + scaled)
        return half, lam * half, float(np.log1p(scaled).sum())
    M = Lam.T @ (A @ Lam)
    far = np.abs(Lam).max() > FAR
    if K == 2 and not far:
        a, b, c = M[:, 0, 0] + 1.0, M[:, 0, 1], M[:, 1, 1] + 1.0
        determinant = a * c - b * b
        if not (determinant > NO_DIGIT * (a * c)).all():
            raise np.linalg.LinAlgError("rounding has taken a penalised block's last pivot")
        inverse = np.empty_like(M)
        inverse[:, 0, 0], inverse[:, 1, 1] = c / determinant, a / determinant
        inverse[:, 0, 1] = inverse[:, 1, 0] = -b / determinant
        logdet = float(np.log(determinant).sum())
    else:
        M[:, range(K), range(K)] += 1.0
        L = np.linalg.cholesky(M)
        pivots = np.square(np.diagonal(L, axis1=1, axis2=2))
        if not (pivots > NO_DIGIT * np.diagonal(M, axis1=1, axis2=2)).all():
            raise np.linalg.LinAlgError("rounding has taken a penalised block's last pivot")
        logdet = 2.0 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
        if far:
            root = np.linalg.solve(L, np.broadcast_to(Lam.T, L.shape))
            return transpose(np.linalg.solve(transpose(L), root)), transpose(root) @ root, logdet
        inverse = np.linalg.inv(M)
    half = Lam @ inverse
    return half, half @ Lam.T, logdet


# --- many rows, matrices or responses at once: each as if it were alone ----------------------------------------------
def rows_times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(S, k) @ (k, m), a row's result the same to the last bit whatever the other rows are and how many.

    BLAS adds up in another order for another number of rows, so the last digits, and every verdict that hangs on them,
    would depend on what else is in a batch.  Here it always sees TILE rows, of which all are treated alike."""
    tiles = _tiles(rows)
    return (tiles @ matrix).reshape(len(tiles) * TILE, matrix.shape[1])[: len(rows)]


def rows_solve(R: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """R^-1 applied to each row of (S, k), R (k, k) upper triangular: as ``rows_times``."""
    if not R.size:
        return rows
    return np.concatenate([solve_triangular(R, tile.T).T for tile in _tiles(rows)])[: len(rows)]


def _tiles(rows: np.ndarray) -> np.ndarray:
    """(S, k) as (S / TILE, TILE, k), zeros after the last row."""
    S, k = rows.shape
    missing = -S % TILE
    padded = np.concatenate([rows, np.zeros((missing, k))]) if missing else np.ascontiguousarray(rows)
    return padded.reshape((S + missing) // TILE, TILE, k)


def cholesky_each(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower factors (S, m, m) and which matrices are positive definite (S,); the others' factor is I."""
    try:
        return np.linalg.cholesky(matrices), np.ones(len(matrices), dtype=bool)
    except np.linalg.LinAlgError:
        pass
    L, good = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape).copy(), np.zeros(len(matrices), dtype=bool)
    for s, matrix in enumerate(matrices):  # rare: find the ones that fail
        try:
            L[s], good[s] = np.linalg.cholesky(matrix), True
        except np.linalg.LinAlgError:
            continue
    return L, good
