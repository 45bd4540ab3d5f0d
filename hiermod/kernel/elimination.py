"""Blocked Cholesky elimination of the penalised normal equations at given Lambda (Bates et al. 2015, section 3).

T'[Z X y]'W[Z X y]T + E with T = blockdiag(Lambda, I), E = I on the random effects.  A level j of an eliminated factor
leaves U -= R_j'Q_j R_j behind, Q_j = Lambda (Lambda'A_j Lambda + I)^-1 Lambda', in coordinates without Lambda."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpotrf, dtrtrs

from hiermod.kernel.crossproducts import CrossProducts
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.stacks import FAR, multiply, orthogonal_columns, penalised_inverse, transpose


@dataclass(frozen=True, eq=False, slots=True)
class Eliminated:
    """One chain factor after its turn: its blocks as they were then, and the inverse of the penalised ones."""

    Lam: np.ndarray  # (K, K), or Lam V: see ``Factorisation.turns``
    A: np.ndarray  # (J, K, K)
    half: np.ndarray  # (J, K, K) Lam M^-1
    Q: np.ndarray  # (J, K, K) Lam M^-1 Lam'
    parents: tuple[np.ndarray, ...]
    ancestors: tuple[np.ndarray, ...]  # (J, K, K_g) each
    tail: np.ndarray | SparseRows  # (J, K, m)

    @property
    def M(self) -> np.ndarray:
        """(J, K, K) Lam'A Lam + I."""
        M = self.Lam.T @ (self.A @ self.Lam)
        M[:, range(len(self.Lam)), range(len(self.Lam))] += 1.0
        return M


@dataclass(frozen=True, eq=False, slots=True)
class Factorisation:
    """The factor at one Lambda, and what the criterion reads off it."""

    cross: CrossProducts
    levels: tuple[Eliminated, ...]
    turns: tuple[np.ndarray | None, ...]  # V (K, K) of each factor whose Lambda is taken as Lam V: orthogonal columns
    tail_lambdas: tuple[np.ndarray, ...]
    U: np.ndarray  # (m, m) the tail after the chain is gone, without Lambda
    L: np.ndarray  # (m, m) lower Cholesky factor of T'UT + E; the last pivot is that of y
    logdet_random: float  # log|L_Z|^2
    logdet_fixed: float  # log|R_X|^2 in the conditioned coordinates
    pwrss: float  # penalised weighted residual sum of squares
    solution: np.ndarray  # (m,) (-u, -gamma, 1): the minimiser, with the sign that makes r^2 = v'Sv


def factorise(cross: CrossProducts, lambdas: Sequence[np.ndarray]) -> Factorisation | None:
    """Eliminate everything.  lambdas: one (K, K) for each factor.  None when rounding leaves no positive pivot."""
    lambdas, turns = _turned(lambdas)
    # Working copies of the chain: arrays are replaced, never written to.
    diagonals = [level.diagonal for level in cross.chain]
    joined = [list(level.ancestors) for level in cross.chain]
    tails = [level.tail for level in cross.chain]
    U, logdet, done = cross.tail, 0.0, []
    for position, level in enumerate(cross.chain):
        A, ancestors, tail = diagonals[position], joined[position], tails[position]
        Lam = lambdas[cross.chain_factors[position]]
        try:
            half, Q, part = penalised_inverse(A, Lam)
        except np.linalg.LinAlgError:
            return None
        logdet += part
        done.append(Eliminated(Lam, A, half, Q, level.parents, tuple(ancestors), tail))
        U = U - _tail_gram(Q, tail)
        for g, (parent, incidence) in enumerate(zip(level.parents, level.incidence, strict=True)):
            left = multiply(Q, ancestors[g])
            turned, outer = transpose(left), position + 1 + g
            diagonals[outer] = diagonals[outer] - _sum_levels(incidence, multiply(turned, ancestors[g]))
            for h in range(g + 1, len(ancestors)):
                product = _sum_levels(incidence, multiply(turned, ancestors[h]))
                joined[outer][h - g - 1] = joined[outer][h - g - 1] - product
            if isinstance(tail, SparseRows):
                product = tail.scatter(left, parent, incidence.shape[0])
            else:
                product = _sum_levels(incidence, multiply(turned, tail))
            tails[outer] = tails[outer] - product  # only the first of the chain is sparse
    tail_lambdas = tuple(lambdas[g] for g in cross.tail_factors)
    S = scale_rows(cross, tail_lambdas, scale_rows(cross, tail_lambdas, U).T)
    m_z = cross.n_tail_effects
    S.ravel()[: m_z * len(S) : len(S) + 1] += 1.0
    L, info = dpotrf(S.T, lower=1, overwrite_a=1)
    if info != 0:
        return None
    pivots = np.log(np.diagonal(L)[:-1])
    solution = np.zeros(len(L))
    solution[-1] = L[-1, -1]
    solution = dtrtrs(L, solution, lower=1, trans=1)[0]
    logdet += 2.0 * float(pivots[:m_z].sum())
    logdet_fixed, pwrss = 2.0 * float(pivots[m_z:].sum()), float(L[-1, -1]) ** 2
    return Factorisation(cross, tuple(done), turns, tail_lambdas, U, L, logdet, logdet_fixed, pwrss, solution)


def _turned(lambdas: Sequence[np.ndarray]) -> tuple[list[np.ndarray], tuple[np.ndarray | None, ...]]:
    """The Lambdas, large ones with orthogonal columns, and how those were turned."""
    turned: list[np.ndarray] = []
    turns: list[np.ndarray | None] = []
    for Lam in lambdas:
        V = None
        if len(Lam) > 1 and FAR < np.abs(Lam).max() < np.inf:
            Lam, V = orthogonal_columns(Lam)
        turned.append(Lam)
        turns.append(V)
    return turned, tuple(turns)


def scale_rows(cross: CrossProducts, lambdas: Sequence[np.ndarray], matrix: np.ndarray) -> np.ndarray:
    """T'matrix for the tail (a copy): Lambda' applied to the rows of each tail factor's levels."""
    return _apply(cross, [Lam.T for Lam in lambdas], matrix)


def unscale_rows(cross: CrossProducts, lambdas: Sequence[np.ndarray], matrix: np.ndarray) -> np.ndarray:
    """T matrix for the tail (a copy): from u to b."""
    return _apply(cross, lambdas, matrix)


def _apply(cross: CrossProducts, matrices: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
    result = np.array(target, order="C")
    for where, matrix in zip(cross.tail_slices, matrices, strict=True):
        K = len(matrix)
        if K == 1:
            result[where] *= matrix[0, 0]
        else:
            rows = result[where].reshape(-1, K, *result.shape[1:])
            result[where] = np.einsum("ab,jb...->ja...", matrix, rows).reshape(-1, *result.shape[1:])
    return result


def _tail_gram(Q: np.ndarray, tail: np.ndarray | SparseRows) -> np.ndarray:
    """sum_j R_j'Q_j R_j, (m, m)."""
    if isinstance(tail, SparseRows):
        whole = tail.gram(Q)
        whole += whole.T
        whole.ravel()[:: len(whole) + 1] *= 0.5
        return whole
    m = tail.shape[2]
    return tail.reshape(-1, m).T @ multiply(Q, tail).reshape(-1, m)


def _sum_levels(incidence: sparse.csr_matrix, stack: np.ndarray) -> np.ndarray:
    """Sum a stack (J, a, b) over the levels inside each parent: (J_g, a, b)."""
    J, a, b = stack.shape
    return (incidence @ stack.reshape(J, a * b)).reshape(-1, a, b)
