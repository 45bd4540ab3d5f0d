"""The pre-pass that makes any linear mixed model well scaled (Golub and Van Loan, Matrix Computations, section 5.3).

Rows are whitened (residual_precision.py); X becomes the Q of its thin QR and y its least-squares residual; the columns
of each block become orthonormal up to sqrt(n).  A block's covariance is unstructured, so an invertible change of its
columns changes nothing but the coordinates of Lambda: Lambda = whitener @ Lambda~.  The whitener is lower triangular,
so both are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.errors import DesignError

EXPLAINED = 1e-7  # of a column of X: R's tolerance for what earlier columns explain
COLLINEAR = (
    1e-9  # a column whose part not explained by its neighbours is smaller than this (relative) counts as explained
)


@dataclass(frozen=True, eq=False, slots=True)
class GroupTerm:
    """One covariance block as it comes from the formula: codes (n,), values (n, k), levels 0..n_levels-1."""

    factor: str
    text: str  # as typed, for messages
    codes: np.ndarray
    n_levels: int
    values: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class WhitenedTerm:
    """A block with rows scaled and columns orthonormal: values'values = n I, values = W^(1/2) raw @ whitener."""

    factor: str
    codes: np.ndarray  # (n,) intp
    n_levels: int
    values: np.ndarray  # (n, k)
    whitener: np.ndarray  # (k, k) lower triangular, positive diagonal
    rms: np.ndarray  # (k,) root mean square of the row-scaled raw columns


@dataclass(frozen=True, eq=False, slots=True)
class Conditioned:
    """The same least-squares problem in coordinates of order one.  beta = R^-1 (gamma_ols + gamma).

    Where only the prior tells columns of X apart, Q is the part of an orthonormal matrix that belongs to the data."""

    residual: np.ndarray  # (n,) W^(1/2) (y - offset) - Q gamma_ols
    Q: np.ndarray  # (n, p), W^(1/2) X = Q R
    R: np.ndarray  # (p, p) upper triangular
    gamma_ols: np.ndarray  # (p,) Q'y; with the prior's rows where Q has been completed by them
    precision: ResidualPrecision  # of the rows, all of which it has whitened: R with W = R'R
    terms: tuple[WhitenedTerm, ...]


def condition(
    y: np.ndarray,
    X: np.ndarray,
    terms: Sequence[GroupTerm] = (),
    precision: ResidualPrecision | None = None,
    offset: np.ndarray | None = None,
    prior: tuple[np.ndarray, np.ndarray] | None = None,
) -> Conditioned:
    """Scale and orthogonalise.  y, offset (n,); X (n, p) of full column rank; precision: iid unless given.

    prior: H (r, p) and h (r,), a Normal prior of beta whose minus log density is |H beta - h|^2 / 2.  With it columns
    of X may explain each other, as long as [X; H] has full column rank.
    DesignError for columns of X or of a block that explain each other."""
    response = np.asarray(y, dtype=float)
    if offset is not None:
        response = response - offset
    X = np.asarray(X, dtype=float)
    precision = ResidualPrecision(len(response)) if precision is None else precision
    response, X = precision.whiten(response), precision.whiten(X)
    whitened = tuple(_whiten(term, precision) for term in terms)
    if prior is not None and _deficient(X):
        Q, R, gamma = _completed(X, response, *prior)
        return Conditioned(response - Q @ gamma, Q, R, gamma, precision, whitened)
    Q, R = _thin_qr(X)
    gamma = Q.T @ response
    residual = response - Q @ gamma
    correction = Q.T @ residual  # a second pass: y of huge mean leaves rounding of that size behind
    residual = residual - Q @ correction
    return Conditioned(residual, Q, R, gamma + correction, precision, whitened)


def _thin_qr(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """QR with columns first scaled to unit norm, so that the rank test does not depend on units."""
    n, p = X.shape
    if p == 0:
        return X, np.zeros((0, 0))
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    if not norms.all():
        raise DesignError("a column of the model matrix is zero in every row: leave that term out")
    Q, R = np.linalg.qr(X / norms)
    check_rank(R, n)
    return Q, R * norms


def check_rank(R: np.ndarray, n: int) -> None:
    """DesignError where the R (p, p) of n rows, columns scaled to unit norm, has columns that others explain."""
    p = R.shape[1]
    if n < p or np.abs(np.diag(R)).min() < 1e-12:
        raise DesignError(
            f"the model matrix ({n} rows, {p} columns) has columns that others explain exactly: leave one of them out"
        )


def _deficient(X: np.ndarray) -> bool:
    """Whether columns of X explain each other, up to rounding."""
    n, p = X.shape
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    if n < p or not norms.all():
        return True
    return p > 0 and bool(np.abs(np.diag(np.linalg.qr(X / norms, mode="r"))).min() < EXPLAINED)


def _completed(
    X: np.ndarray, response: np.ndarray, H: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q (n, p), R (p, p) and gamma (p,) of the least-squares problem with the prior's rows below: [X; s H] = [Q; P] R.

    gamma = Q'y + s P'h is the posterior mean at residual sd s, which is taken near what X leaves over: any s > 0 gives
    the same densities, and one of the data's size the most digits."""
    left = response - X @ np.linalg.lstsq(X, response, rcond=EXPLAINED)[0]
    size = float(np.sqrt(np.mean(left**2)))
    spread = float(np.std(response))
    s = size if size > EXPLAINED * spread else spread
    s = s if s > 0 else 1.0
    stacked = np.concatenate([X, s * H])
    norms = np.sqrt(np.einsum("ij,ij->j", stacked, stacked))
    if norms.all() and len(stacked) >= X.shape[1]:
        whole, R = np.linalg.qr(stacked / norms)
        if np.abs(np.diag(R)).min() > 1e-12:
            Q, P = whole[: len(X)], whole[len(X) :]
            return Q, R * norms, Q.T @ response + s * (P.T @ h)
    raise DesignError(
        "columns of the model matrix explain each other, and the prior of a coefficient among them is flat: nothing "
        "tells them apart, so there is no posterior. Give them Normal priors, or leave one of them out"
    )


def _whiten(term: GroupTerm, precision: ResidualPrecision) -> WhitenedTerm:
    """Reversed QR: V J = Q R gives V (J R^-1 J) orthonormal, and J R^-1 J is lower triangular."""
    values = precision.whiten(np.asarray(term.values, dtype=float))
    n, k = values.shape
    rms = root_mean_squares(term, np.einsum("ij,ij->j", values, values), n)
    R = np.zeros((k, k)) if k == 1 else np.asarray(np.linalg.qr(values[:, ::-1] / rms[::-1], mode="r"))
    whitener = whitener_of(term, R, rms, n)
    codes = np.asarray(term.codes, dtype=np.intp)
    whitened = values if k == 1 and rms[0] == 1.0 else values @ whitener
    return WhitenedTerm(term.factor, codes, int(term.n_levels), whitened, whitener, rms)


def root_mean_squares(term: GroupTerm, squares: np.ndarray, n: int) -> np.ndarray:
    """(k,) of a block's columns, from their sums of squares.  DesignError for a column that is zero in every row."""
    rms = np.sqrt(squares / n)
    if not rms.all():
        raise DesignError(
            f"({term.text}): a column left of the bar is zero in every row, so its variance has no meaning"
        )
    return rms


def whitener_of(term: GroupTerm, R: np.ndarray, rms: np.ndarray, n: int) -> np.ndarray:
    """(k, k) C, lower triangular: V C has orthonormal columns, times sqrt(n).  R of V's columns over rms, reversed."""
    k = len(rms)
    if k == 1:
        return np.array([[1.0 / rms[0]]])
    R = R / np.sqrt(n)
    if n < k or np.abs(np.diag(R)).min() < COLLINEAR:
        raise DesignError(
            f"({term.text}): the columns left of the bar explain each other exactly, so their variances cannot be "
            "told apart. Leave one of them out."
        )
    R = R * np.sign(np.diag(R))[:, None]
    return solve_triangular(R, np.eye(k))[::-1, ::-1] / rms[:, None]
