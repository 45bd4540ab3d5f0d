"""The traces and products of V^-1 that Kenward-Roger needs, without any n x n matrix.

V = I + sum over r of gamma_r G_r over sigma^2, rows scaled by sqrt(w), X orthonormal (Q of its QR), every G_r of the
group effects Z_u Z_v' + Z_v Z_u' for two columns of one block.  All follows from B = Z'V^-1 Z and C = Z'V^-1 X, which
fall apart into pieces that share no row (levels of one factor; levels of the outermost of nested factors).  Where the
residual's own G = I takes part, I = V - sum gamma_r G_r gives its terms from the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse.csgraph import connected_components

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.errors import UnsupportedError
from hiermod.kernel.threads import suitable_threads

LARGEST = 6000  # group effects in one connected piece: 290 MB for each of four dense matrices, about 15 s
FACTORISED = 300  # from this size on a piece is worth a Cholesky factor of its own
CHUNK = 10_000_000  # numbers in one stack of pieces

Pairs = list[tuple[int, int, int]]  # (block, row a, column c), a >= c: one gamma each


@dataclass(frozen=True, eq=False, slots=True)
class Sums:
    """For v gammas, the residual variance last (absent when it is known); V over sigma^2, X orthonormal."""

    K: np.ndarray  # (v, v) tr(V^-1 G_r V^-1 G_s)
    S: np.ndarray  # (v, p, p) X'V^-1 G_r V^-1 X, Kenward and Roger's -P_r
    Q: np.ndarray  # (v, v, p, p) X'V^-1 G_r V^-1 G_s V^-1 X

    def by(self, slopes: np.ndarray) -> Sums:
        """The same by parameters of which the gammas are functions, slopes (m, v): sum of G_r slope_r for G_r."""
        return Sums(
            slopes @ self.K @ slopes.T,
            np.einsum("mv,vab->mab", slopes, self.S),
            np.einsum("mv,nw,vwab->mnab", slopes, slopes, self.Q, optimize=True),
        )


def covariance_sums(fit: MixedFit, half: np.ndarray, XVX: np.ndarray) -> Sums:
    """half (p, p) makes the scaled X orthonormal, XVX (p, p) is X'V^-1 X then.

    UnsupportedError when crossed factors join more than LARGEST group effects into one piece."""
    problem, design = fit.problem, fit.design
    sizes = problem.template.sizes
    gammas = [(b, a, c) for b, k in enumerate(sizes) for c in range(k) for a in range(c, k)]
    lambdas = problem.template.unpack(problem.x_from_theta(fit.theta))
    relative = [Lam @ Lam.T for Lam in lambdas]
    gamma = np.array([relative[b][a, c] for b, a, c in gammas])
    Z = _group_matrix(fit)
    AX = Z.T @ (design.precision.whiten(design.X[:, design.estimable]) @ half)
    A = (Z.T @ Z).tocsr()
    levels = np.array([len(block.levels) for block in design.blocks])
    pieces = np.repeat(_connected_levels(fit, levels), np.repeat(sizes, levels))
    largest = int(np.bincount(pieces).max())
    if largest > LARGEST:
        raise UnsupportedError(
            f"the grouping factors join {largest} group effects into one piece, and Kenward-Roger needs a dense matrix "
            f"of that size; the limit is {LARGEST}. Use ddf='satterthwaite': with so many groups they hardly differ"
        )
    v, p = len(gammas), problem.p
    t, K, S, Q = np.zeros(v), np.zeros((v, v)), np.zeros((v, p, p)), np.zeros((v, v, p, p))
    with suitable_threads(largest):
        half_S = sparse.block_diag(
            [sparse.kron(sparse.eye(len(b.levels)), Lam) for b, Lam in zip(design.blocks, lambdas, strict=True)],
            format="csr",
        )
        for starts, columns in _stacks(pieces, levels, np.array(sizes)):
            through = _one_piece if len(columns) == 1 and columns.size > FACTORISED else _through_v
            B, C = through(A, half_S, AX, columns)
            _add(gammas, sizes, starts, B, C, t, K, S, Q)
    if problem.sigma_known:
        return Sums(K, S, Q)
    return _with_residual(design.nobs, gamma, t, XVX, K, S, Q)


def _group_matrix(fit: MixedFit) -> sparse.csr_matrix:
    """(n, q) Z of whitened columns and rows; block by block, level by level, column by column."""
    parts, n = [], fit.design.nobs
    for i, block in enumerate(fit.design.blocks):
        k = block.size
        values = fit.design.precision.whiten(fit.problem.search_columns(i, block.values))
        columns = block.codes[:, None] * k + np.arange(k)
        pointers = np.arange(n + 1) * k
        shape = (n, len(block.levels) * k)
        parts.append(sparse.csr_matrix((values.ravel(), columns.ravel(), pointers), shape=shape))
    return sparse.hstack(parts, format="csr")


def _connected_levels(fit: MixedFit, levels: np.ndarray) -> np.ndarray:
    """(levels of all blocks,) the piece that each belongs to: levels that meet in a row belong together."""
    first = np.concatenate([[0], np.cumsum(levels)])
    meet = np.column_stack([block.codes + start for block, start in zip(fit.design.blocks, first[:-1], strict=True)])
    edges = np.unique(np.column_stack([np.repeat(meet[:, :1], meet.shape[1], axis=1).ravel(), meet.ravel()]), axis=0)
    graph = sparse.csr_matrix((np.ones(len(edges)), edges.T), shape=(int(first[-1]),) * 2)
    return connected_components(graph, directed=False)[1]


def _stacks(pieces: np.ndarray, levels: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces with the same number of levels of every block: where each block starts (blocks + 1,), columns (m, q)."""
    block_of = np.repeat(np.arange(len(sizes)), levels * sizes)
    counts = np.zeros((int(pieces.max()) + 1, len(sizes)), dtype=np.intp)
    np.add.at(counts, (pieces, block_of), 1)
    kinds, kind_of = np.unique(counts, axis=0, return_inverse=True)
    order = np.lexsort((np.arange(len(pieces)), pieces))  # piece by piece; within one as Z has them
    begin = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    for kind, members in enumerate(kinds):
        q = int(members.sum())
        which = np.flatnonzero(kind_of.ravel() == kind)
        starts = np.concatenate([[0], np.cumsum(members)])
        step = max(1, CHUNK // q**2)
        for first in range(0, len(which), step):
            chosen = which[first : first + step]
            yield starts, order[begin[chosen][:, None] + np.arange(q)]


def _through_v(
    A: sparse.csr_matrix, half_S: sparse.csr_matrix, AX: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """B = Z'V^-1 Z = (I + A S)^-1 A and C = (I + A S)^-1 Z'X, A = Z'Z, S the covariance of b; a stack of pieces."""
    q = columns.shape[1]
    dense_A, root = _dense(A, columns), _dense(half_S, columns)
    left = dense_A @ (root @ np.swapaxes(root, 1, 2)) + np.eye(q)
    solved = np.linalg.solve(left, np.concatenate([dense_A, AX[columns]], axis=2))
    B = solved[:, :, :q]
    return 0.5 * (B + np.swapaxes(B, 1, 2)), solved[:, :, q:]


def _one_piece(
    A: sparse.csr_matrix, half_S: sparse.csr_matrix, AX: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same for one large piece, where Cholesky pays: B = A - F N^-1 F', S = T T', F = A T, N = I + T'A T."""
    own = columns[0]
    A, root, AX = A[own][:, own], half_S[own][:, own], AX[own]
    F = (A @ root).tocsr()
    N = np.asfortranarray((root.T @ F).toarray())
    N.ravel(order="K")[:: len(N) + 1] += 1.0
    inverse = dpotri(dpotrf(N, lower=1, overwrite_a=1)[0], lower=1, overwrite_c=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    B = A.toarray() - F @ (F @ inverse).T
    return B[None], (AX - F @ (inverse @ (root.T @ AX)))[None]


def _dense(matrix: sparse.csr_matrix, columns: np.ndarray) -> np.ndarray:
    """The pieces' own diagonal blocks, (m, q, q)."""
    m, q = columns.shape
    rows = matrix[columns.ravel()].tocoo()
    local = np.full(matrix.shape[1], -1)
    local[columns.ravel()] = np.tile(np.arange(q), m)
    result = np.zeros((m * q, q))
    result[rows.row, local[rows.col]] = rows.data
    return result.reshape(m, q, q)


def _add(
    gammas: Pairs, sizes: tuple[int, ...], starts: np.ndarray, B: np.ndarray, C: np.ndarray,
    t: np.ndarray, K: np.ndarray, S: np.ndarray, Q: np.ndarray,
) -> None:  # fmt: skip
    """Add a stack's part of tr(V^-1 G_r), K, S and Q, in place."""

    def columns(block: int, a: int) -> slice:
        return slice(int(starts[block]) + a, int(starts[block + 1]), sizes[block])

    def halves(block: int, a: int, c: int) -> list[tuple[slice, slice]]:
        """G = sum of Z_u Z_v' over these."""
        u, v = columns(block, a), columns(block, c)
        return [(u, v)] if a == c else [(u, v), (v, u)]

    for r, one in enumerate(gammas):
        for u, v in halves(*one):
            t[r] += np.einsum("mjj->", B[:, u, v])
            S[r] += np.einsum("mja,mjb->ab", C[:, u], C[:, v])
            for s in range(r + 1):
                for x, y in halves(*gammas[s]):
                    K[r, s] += np.einsum("mij,mij->", B[:, v, x], B[:, u, y])
                    Q[r, s] += np.einsum("mia,mib->ab", C[:, u], B[:, v, x] @ C[:, y])
        for s in range(r):
            K[s, r] = K[r, s]
            Q[s, r] = Q[r, s].T


def _with_residual(
    n: int, gamma: np.ndarray, t: np.ndarray, XVX: np.ndarray, K: np.ndarray, S: np.ndarray, Q: np.ndarray
) -> Sums:
    """One more gamma, whose G is I = V - sum over r of gamma_r G_r."""
    last = len(gamma)
    K, Q = np.pad(K, (0, 1)), np.pad(Q, ((0, 1), (0, 1), (0, 0), (0, 0)))
    K[last, :last] = K[:last, last] = t - gamma @ K[:last, :last]
    K[last, last] = n - gamma @ t - gamma @ K[:last, last]
    own = XVX - np.einsum("v,vab->ab", gamma, S)
    Q[:last, last] = S - np.einsum("w,vwab->vab", gamma, Q[:last, :last])
    Q[last, :last] = np.swapaxes(Q[:last, last], 1, 2)
    Q[last, last] = own - np.einsum("v,vab->ab", gamma, Q[:last, last])
    return Sums(K, np.concatenate([S, own[None]]), Q)
