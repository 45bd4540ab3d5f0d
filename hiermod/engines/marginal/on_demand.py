"""Effects of the largest grouping factor that are drawn when somebody asks for them.

Given phi, beta and the effects of the other factors, the levels of one factor are independent, each a conjugate
regression on its own rows: b_j ~ N(Q_j r_j, sigma^2 Q_j) with Q_j = Lam (Lam'A_j Lam + I)^-1 Lam' (Bates et al. 2015,
equation 13), r_j the products of its columns with what the rest leaves over.  A level's draws need its cross-products,
the kept draws of the rest and a seed; 125,066 groups x 2,000 draws need not be 2 GB before anybody looks at one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from hiermod.core.memory import check_room
from hiermod.errors import ArgumentError, FitError
from hiermod.formula.design import FrozenArrays
from hiermod.kernel.batch import NUMBERS, penalised
from hiermod.kernel.criterion import Problem
from hiermod.kernel.draws import spread_of, times
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.stacks import steady

AT_ONCE = 50e6  # bytes of one factor's draws up to which they are made with the fit
LARGEST = 8e9  # bytes of draws that are kept at once
STREAM = 3  # of random numbers, beside those of the fit
ALL = slice(None)


@dataclass(frozen=True, eq=False)
class LargestFactor(FrozenArrays):
    """The factor the kernel eliminates first, and S draws of everything else; whitened columns, K of them."""

    A: np.ndarray  # (J, K, K) cross-products of each level's columns
    values: np.ndarray  # (nnz,) their products with the m columns of the tail, (J K, m) in compressed rows
    columns: np.ndarray  # (nnz,)
    starts: np.ndarray  # (J K + 1,)
    parents: tuple[np.ndarray, ...]  # per nesting factor, (J,) the level that holds each level
    ancestors: tuple[np.ndarray, ...]  # (J, K, K_g) products with its columns
    outer: tuple[np.ndarray, ...]  # (S, J_g, K_g) its effects
    tail: np.ndarray  # (S, m): minus the crossed effects, minus the conditioned coefficients, 1
    Lam: np.ndarray  # (S, K, K) relative to sigma
    sigma: np.ndarray  # (S,)
    seed: int

    @cached_property
    def rows(self) -> sparse.csr_matrix:
        """(J K, m) products of each level's columns with the tail."""
        shape = (len(self.starts) - 1, self.tail.shape[1])
        return sparse.csr_matrix((self.values, self.columns, self.starts), shape=shape)

    def law(self, levels: np.ndarray, draws: Any = ALL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of L levels at S' draws: means (S', L, K), covariances over sigma^2 and their roots (S', 1 or L, K, K)."""
        K = self.A.shape[1]
        wanted = (levels[:, None] * K + np.arange(K)).ravel()
        total = (self.rows[wanted] @ self.tail[draws].T).reshape(len(levels), K, -1).transpose(2, 0, 1)
        for parent, ancestor, outer in zip(self.parents, self.ancestors, self.outer, strict=True):
            total = total - np.einsum("jab,sjb->sja", ancestor[levels], outer[draws][:, parent[levels]])
        Lam = steady(self.Lam[draws])
        blocks, alike = np.unique(self.A[levels].reshape(len(levels), -1), axis=0, return_inverse=True)
        M, Q, _, good = penalised(blocks.reshape(1, -1, K, K), Lam)
        if not good.all():
            raise FitError("the penalised system could not be factorised at an accepted draw")
        root = spread_of(Lam, M)
        if len(blocks) > 1:  # one for all, as in balanced data, broadcasts
            Q, root = Q[:, alike.reshape(-1)], root[:, alike.reshape(-1)]
        return times(Q, total), Q, root

    def noise(self, levels: np.ndarray, draws: Any = ALL) -> np.ndarray:
        """Standard normals (S', L, K): a level's own stream, whichever levels are drawn with it."""
        K = self.A.shape[1]
        key = np.random.SeedSequence([self.seed, STREAM]).generate_state(1, np.uint64)[0]
        drawn = np.empty((len(levels), len(self.sigma), K))
        for level, out in zip(levels, drawn, strict=True):
            np.random.Generator(np.random.Philox(key=np.array([key, level], dtype=np.uint64))).standard_normal(out=out)
        return np.swapaxes(drawn[:, draws], 0, 1)

    def parts(self, count: int) -> list[slice]:
        """Slices of ``count`` levels that fit into memory together with what is computed on the way."""
        step = max(1, NUMBERS // (len(self.sigma) * self.A.shape[1] * (4 + 3 * self.A.shape[1])))
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]


@dataclass(frozen=True, eq=False)
class EffectsOnDemand(FrozenArrays):
    """One block's effects of the largest factor, k of its K columns."""

    factor: LargestFactor
    first: int  # where its columns begin among the factor's
    whitener: np.ndarray  # (k, k): from whitened columns to those typed
    shape: tuple[int, int, int, int]  # (chains, draws, J, k), as if they were there

    @property
    def where(self) -> slice:
        """Its columns among the factor's."""
        return slice(self.first, self.first + len(self.whitener))

    def draws(self, levels: Any = ALL, draws: Any = ALL) -> np.ndarray:
        """(draws, levels, k), chain after chain.  A level's draws are the same whichever others are asked for.

        ArgumentError, naming the size, where they take more than 8 GB or than there is."""
        wanted, count = np.arange(self.shape[2])[levels], len(self.factor.sigma[draws])
        size = 8.0 * count * len(wanted) * self.shape[3]
        check_room(
            f"{count:,} draws of {len(wanted) * self.shape[3]:,} group effects",
            size,
            "ranef(), coef() and predict() make them in parts; for all at once fit with fewer draws= or chains=",
            ArgumentError,
            LARGEST,
        )
        out = np.empty((len(wanted), count, self.shape[3])).swapaxes(0, 1)  # a level's draws side by side
        for part in self.factor.parts(len(wanted)):
            mean, _, root = self.factor.law(wanted[part], draws)
            noise = self.factor.noise(wanted[part], draws) * self.factor.sigma[draws][:, None, None]
            out[:, part] = times(self.whitener, (mean + times(root, noise))[..., self.where])
        return out

    def moments(self, levels: Any = ALL) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances (draws, levels, k) of each level given each draw of everything else."""
        mean, Q, _ = self.factor.law(np.arange(self.shape[2])[levels])
        inner = Q[..., self.where, self.where]
        variance = np.einsum("ab,sjbc,ac->sja", self.whitener, inner, self.whitener)
        return times(self.whitener, mean[..., self.where]), variance * np.square(self.factor.sigma)[:, None, None]


def blocks_on_demand(problem: Problem, S: int) -> tuple[int, ...]:
    """The blocks of the largest factor where S draws of its effects are more than is made at once; else none."""
    layout = problem.first_factor
    if layout is None:
        return ()
    return tuple(layout.blocks) if 8.0 * S * layout.n_levels * layout.size > AT_ONCE else ()


def on_demand(
    problem: Problem,
    lambdas: list[np.ndarray],
    sigma: np.ndarray,
    beta: np.ndarray,
    b: tuple[np.ndarray, ...],
    seed: int,
) -> tuple[np.ndarray | EffectsOnDemand, ...]:
    """``b`` with the blocks of the largest factor drawn on demand.

    lambdas: whitened (c, d, K, K) per factor; sigma (c, d); beta (c, d, p); b (c, d, J, k) of the other blocks."""
    cross, (chains, draws) = problem.cross, sigma.shape
    S = chains * draws
    whitened = [
        np.linalg.solve(C, np.swapaxes(one.reshape(S, *one.shape[2:]), 1, 2)).swapaxes(1, 2)
        for C, one in zip(problem.whiteners, b, strict=True)
    ]

    def of_factor(index: int) -> np.ndarray:
        return np.concatenate([whitened[block] for block in problem.factors[index].blocks], axis=-1)

    tail = np.ones((S, cross.n_tail_effects + problem.p + 1))
    for index, where in zip(cross.tail_factors, cross.tail_slices, strict=True):
        tail[:, where] = -of_factor(index).reshape(S, -1)
    tail[:, cross.n_tail_effects : -1] = problem.gamma_ols - beta.reshape(S, -1) @ problem.R.T
    first, level = cross.chain_factors[0], cross.chain[0]
    tails = level.tail
    rows = tails.matrix() if isinstance(tails, SparseRows) else sparse.csr_matrix(tails.reshape(-1, tail.shape[1]))
    factor = LargestFactor(
        A=level.diagonal,
        values=rows.data,
        columns=rows.indices,
        starts=rows.indptr,
        parents=level.parents,
        ancestors=level.ancestors,
        outer=tuple(of_factor(index) for index in cross.chain_factors[1:]),
        tail=tail,
        Lam=lambdas[first].reshape(S, *lambdas[first].shape[2:]),
        sigma=sigma.reshape(S),
        seed=seed,
    )
    layout = problem.factors[first]
    found: list[np.ndarray | EffectsOnDemand] = list(b)
    for block, where in zip(layout.blocks, layout.columns, strict=True):
        C = problem.whiteners[block]
        found[block] = EffectsOnDemand(factor, where.start, C, (chains, draws, layout.n_levels, len(C)))
    return tuple(found)
