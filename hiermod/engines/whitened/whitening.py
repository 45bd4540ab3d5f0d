"""The Gaussian approximation that whitens group effects: a model as arrays, sequential elimination, mode, draws.

log likelihood ~ sum s_i (eta_i - eta0_i) - w_i (eta_i - eta0_i)^2 / 2 gives Z'WZ and its right side; the groups are
eliminated one after the other at the t of the moment, the one with most levels first.  What stands in the place of a
level when its turn comes is kept (A, B, d); the t of its own group stays free (log_density.py).

Nothing of it changes the posterior: any numbers would be a valid change of coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from hiermod.engines.whitened.arrays import INTERVAL, LOG, SINH, Arrays, proper
from hiermod.engines.whitened.log_density import covariance_root
from hiermod.formula.design import Block

DENSE = 2000  # effects of a crossed factor up to which its whole precision is inverted
TINY = 1e-10  # weight of a row that tells nothing
ROUNDS = 6  # of whitening and maximising
Weights = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # eta, a -> weight >= 0, score


@dataclass(frozen=True, eq=False)
class Group:
    """The blocks of one factor: K columns together, J levels."""

    blocks: tuple[int, ...]
    codes: np.ndarray  # (n,)
    levels: int
    values: np.ndarray  # (n, K)
    first: np.ndarray  # (K,) the first column that each correlates with

    @property
    def size(self) -> int:
        """K."""
        return self.values.shape[1]


def groups_of(blocks: Sequence[Block]) -> tuple[Group, ...]:
    """Blocks of the same levels together, that with most levels first."""
    found: list[list[int]] = []
    for i, block in enumerate(blocks):
        for group in found:
            other = blocks[group[0]]
            if other.factor == block.factor and np.array_equal(other.codes, block.codes):
                group.append(i)
                break
        else:
            found.append([i])
    made = []
    for group in found:
        first: list[int] = []
        for i in group:
            begin = len(first)
            first += [begin if blocks[i].pairs else begin + k for k in range(blocks[i].size)]
        values = np.hstack([blocks[i].values for i in group]).astype(float)
        one = blocks[group[0]]
        made.append(Group(tuple(group), np.asarray(one.codes), len(one.levels), values, np.array(first)))
    return tuple(sorted(made, key=lambda group: -group.levels))


@dataclass(frozen=True, eq=False)
class Whitening:
    """A model in coordinates whitened at one approximation.

    Z (n, effects) has the effects in the order of x.  t: where the approximation was made."""

    arrays: Arrays
    groups: tuple[Group, ...]
    X: np.ndarray  # (n, p) centred
    Z: Any
    precision: np.ndarray  # (p,) of the priors of beta, and where they are centred
    middle: np.ndarray
    rows: Any  # the compiled sum over rows
    pointer: Any  # the compiled density, for the sampler
    sampler: Callable[..., float]
    inverse: Callable[..., None]
    weights: Weights
    t: np.ndarray

    @property
    def p(self) -> int:
        """Common columns."""
        return self.X.shape[1]

    @property
    def head(self) -> int:
        """Numbers in t."""
        return len(self.arrays.kind) + len(self.arrays.shapes)

    @property
    def size(self) -> int:
        """Numbers in q."""
        return self.head + len(self.arrays.d)

    def density(self, q: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """log p(q) up to a constant, its gradient, and (beta, effects)."""
        n, g, x, stats = self.size, np.empty(self.size), np.empty(len(self.arrays.d)), np.empty((1, 6))
        none = (np.zeros(0), np.zeros((0, 0)), np.ones(n))
        empty = np.empty((0, 0))
        stop, rng = np.zeros(1, np.int64), np.random.default_rng(0)
        self.sampler(
            self.pointer,
            self.rows,
            self.arrays,
            np.array(q, dtype=float),
            *none,
            1.0,
            0,
            0.8,
            1,
            rng,
            1,
            stop,
            empty,
            empty,
            stats,
            g,
            x,
        )
        return float(stats[0, 0]), g, x

    def eta(self, x: np.ndarray) -> np.ndarray:
        """Linear predictors (..., n) of (beta, effects) (..., p + effects)."""
        return self.arrays.offset + x[..., : self.p] @ self.X.T + (self.Z @ x[..., self.p :].T).T

    def further(self, t: np.ndarray) -> np.ndarray:
        """What the row function takes of further parameters (..., a), from t (..., head)."""
        m = self.arrays
        found = np.empty((*t.shape[:-1], len(m.fixed)))
        for k, s in enumerate(m.scalar_of):
            found[..., k] = m.fixed[k] if s < 0 else np.log(self.scalar(t, s)) if m.by_log[k] else t[..., s]
        return found

    def scalar(self, t: np.ndarray, s: int) -> np.ndarray:
        """The value of one scalar parameter, (...), from t (..., head); sds have a sign."""
        m, own = self.arrays, t[..., s]
        if m.kind[s] == SINH:
            return m.scale[s] * np.sinh(own)
        if m.kind[s] == LOG:
            return m.scale[s] * np.exp(own)
        if m.kind[s] == INTERVAL:
            return m.low[s] + (m.high[s] - m.low[s]) / (1.0 + np.exp(-own))
        return m.scale[s] * own

    def root(self, t: np.ndarray, group: int) -> np.ndarray:
        """Lambda (K, K) of a group."""
        m, one = self.arrays, self.groups[group]
        s, Lam = int(m.column_at[group]), np.zeros((one.size, one.size))
        sd = np.array([self.scalar(t, s + a) for a in range(one.size)])
        covariance_root(sd, t[m.correlation_at[group] :], one.first, Lam)
        return Lam

    def at(self, t: np.ndarray, eta: np.ndarray, weight: np.ndarray, score: np.ndarray) -> Whitening:
        """Whitened anew at t by the approximation around eta (n,) with these weights and scores."""
        m, p = self.arrays, self.p
        weight = np.maximum(weight, TINY)
        target = weight * (eta - m.offset) + score
        weighted = sparse.diags_array(weight) @ self.Z
        H = sparse.csr_array(self.Z.T @ weighted)
        Hx, S = weighted.T @ self.X, (self.X * weight[:, None]).T @ self.X
        rz, rx = self.Z.T @ target, self.X.T @ target
        A, d, kept = np.empty_like(m.A), np.zeros(len(m.d)), []
        for g, group in enumerate(self.groups):
            K, J, lo = group.size, group.levels, int(m.x_at[g]) - p
            own, B, Bx, r = H[lo : lo + J * K, lo : lo + J * K], H[lo : lo + J * K, :lo], Hx[lo : lo + J * K], rz[lo:]
            r = r[: J * K]
            blocks, crossing = _split(own, J, K)
            A[m.A_at[g] : m.A_at[g] + J * K * K] = blocks.ravel()
            V = self._conditional(blocks, own if crossing.nnz and J * K <= DENSE else None, self.root(t, g))
            VB, VBx, Vr = V @ B, V @ Bx, V @ r
            kept.append((lo, J * K, B, Bx, r, V, crossing))
            H = sparse.csr_array(H[:lo, :lo] - B.T @ VB)
            Hx, rz = Hx[:lo] - B.T @ VBx, rz[:lo] - B.T @ Vr
            S, rx = S - Bx.T @ VBx, rx - Bx.T @ Vr
        rx = rx + self.precision * self.middle
        root = np.linalg.inv(_cholesky(S + np.diag(self.precision))) if p else np.empty((0, 0))
        centre = root.T @ (root @ rx)
        x = np.zeros(len(d))
        x[:p] = centre
        rows = [sparse.csr_array((p, len(d)))]
        for lo, size, B, Bx, r, V, crossing in reversed(kept):
            x[p + lo : p + lo + size] = V @ (r - B @ x[p : p + lo] - Bx @ centre)
            # other levels of the same factor stay where they are at the mode
            d[p + lo : p + lo + size] = r - crossing @ x[p + lo : p + lo + size]
            rows.append(sparse.csr_array(sparse.hstack([Bx, B, sparse.csr_array((size, len(d) - p - lo))])))
        whole = sparse.csr_array(sparse.vstack(rows))
        new = m._replace(
            A=proper(A, float), d=proper(d, float), root=proper(root, float), centre=proper(centre, float),
            pointers=proper(whole.indptr, int), columns=proper(whole.indices, int), entries=proper(whole.data, float),
        )  # fmt: skip
        return replace(self, arrays=new, t=np.array(t))

    @staticmethod
    def _conditional(blocks: np.ndarray, own: Any, Lam: np.ndarray) -> Any:
        """Lambda (I + Lambda'A Lambda)^-1 Lambda' of all levels, as one matrix."""
        J, K, _ = blocks.shape
        if own is not None:
            wide = np.kron(np.eye(J), Lam)
            return wide @ np.linalg.solve(np.eye(J * K) + wide.T @ own.toarray() @ wide, wide.T)
        V = Lam @ np.linalg.solve(np.eye(K) + Lam.T @ blocks @ Lam, np.broadcast_to(Lam.T, blocks.shape))
        return sparse.csr_array(
            sparse.bsr_array((V, np.arange(J), np.arange(J + 1)), shape=(J * K, J * K))
        )  # fmt: skip

    def epsilon(self, t: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whitened coordinates (D, p + effects) of draws t (D, head), x (D, p + effects), and log |dx / depsilon|."""
        found, log_slope = np.zeros_like(x), np.empty(len(x))
        self.inverse(self.arrays, proper(t, float), proper(x, float), found, log_slope)
        return found, log_slope + np.log(np.diagonal(self.arrays.root)).sum()

    def rescaled(self, scale: np.ndarray, t: np.ndarray) -> Whitening:
        """With other scales of the scalars' coordinates; t is where the frozen approximation stays."""
        return replace(self, arrays=self.arrays._replace(scale=proper(scale, float)), t=t)


def _cholesky(S: np.ndarray) -> np.ndarray:
    """Of a precision whose digits eliminations may have taken: with as little more on its diagonal as it needs."""
    more = TINY
    while True:
        try:
            return np.linalg.cholesky(S + np.diag(more * np.maximum(np.diagonal(S), 1.0)))
        except np.linalg.LinAlgError:
            if not more < 1.0 or not np.isfinite(S).all():
                raise
            more *= 100.0


def _split(own: Any, J: int, K: int) -> tuple[np.ndarray, Any]:
    """The diagonal blocks (J, K, K) of a symmetric sparse matrix, and the rest of it."""
    entries = sparse.coo_array(own)
    row, column = entries.coords
    inside = row // K == column // K
    blocks = np.zeros((J, K, K))
    blocks[row[inside] // K, row[inside] % K, column[inside] % K] = entries.data[inside]
    rest = (entries.data[~inside], (row[~inside], column[~inside]))
    return blocks, sparse.csr_array(rest, shape=own.shape)
