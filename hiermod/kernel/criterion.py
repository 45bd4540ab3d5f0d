"""The profiled criterion and its gradient (Bates et al. 2015, equations 34 and 41), as functions of theta.

ML:   log|L_Z|^2 + n (1 + log(2 pi r^2 / n)) - sum log w
REML: log|L_Z|^2 + log|R_X|^2 + (n - p)(1 + log(2 pi r^2 / (n - p))) - sum log w
With known residual standard deviations sigma = 1, w = 1/se^2: the middle term is r^2 + (n or n - p) log(2 pi)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, TypeVar

import numpy as np

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.kernel.adjoint import lambda_gradients
from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.covariance import Template, block_order, triangle
from hiermod.kernel.crossproducts import CrossProducts, cross_products
from hiermod.kernel.elimination import Factorisation, factorise
from hiermod.kernel.structure import merge

Numbers = TypeVar("Numbers", float, np.ndarray)


class Solved(Protocol):
    """What the criterion reads off a factor, whichever way it was made."""

    @property
    def logdet_random(self) -> float:
        """log|L_Z|^2."""

    @property
    def logdet_fixed(self) -> float:
        """log|R_X|^2, in the conditioned coordinates."""

    @property
    def pwrss(self) -> float:
        """Penalised weighted residual sum of squares."""


@dataclass(frozen=True, eq=False, slots=True)
class FactorLayout:
    """A grouping factor without its rows: which blocks it holds, and where."""

    blocks: tuple[int, ...]
    columns: tuple[slice, ...]
    n_levels: int
    size: int


@dataclass(frozen=True, eq=False)
class Problem:
    """A model and its data, reduced to cross-products.

    Others speak of Lambda, theta (lme4's) and effects in the columns as typed.  A search works on x, the same elements
    of Lambda~ = C^-1 Lambda, where every column has unit size; C and the order in which factors are eliminated are the
    kernel's own.  Methods that take x, or a Lambda~ of a block, say so in their names."""

    cross: CrossProducts
    factors: tuple[FactorLayout, ...]
    template: Template
    whiteners: tuple[np.ndarray, ...]  # (k, k) per block, formula order
    rms: tuple[np.ndarray, ...]  # (k,) per block, of the row-scaled raw columns
    R: np.ndarray  # (p, p) of X = QR
    gamma_ols: np.ndarray  # (p,)
    n: int
    sum_log_w: float
    sigma_known: bool

    @property
    def p(self) -> int:
        """Fixed effects, all estimable, or told apart by their prior."""
        return len(self.R)

    @property
    def n_dense(self) -> int:
        """Columns of the dense matrix that is left after the nested factors: crossed effects, X and y."""
        return len(self.cross.tail)

    @property
    def residual_square(self) -> float:
        """r'r, r what least squares on X alone leaves of y, whitened."""
        return float(self.cross.tail[-1, -1])

    @property
    def first_factor(self) -> FactorLayout | None:
        """The grouping factor that is eliminated first, that with most levels."""
        return self.factors[self.cross.chain_factors[0]] if self.cross.chain_factors else None

    @property
    def logdet_R(self) -> float:
        """log|R'R|, what the conditioned X leaves out of log|R_X|^2."""
        return 2.0 * float(np.log(np.abs(np.diag(self.R))).sum())

    @property
    def nested_blocks(self) -> tuple[tuple[int, int], ...]:
        """(inner, outer) for blocks whose factors the elimination takes as nested: each inner level in one outer."""
        blocks = [self.factors[index].blocks[0] for index in self.cross.chain_factors]
        return tuple(combinations(blocks, 2))

    # --- columns as typed, and the search's -----------------------------------------------------------------------
    def lambdas(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """Lambda (..., k, k) of each block, formula order, in the columns as typed; theta (..., n_theta)."""
        return self.template.unpack(theta)

    def lambdas_from_x(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same at x (..., n_theta), signs left as they are."""
        return tuple(C @ L for C, L in zip(self.whiteners, self.template.unpack(x), strict=True))

    def theta_from_x(self, x: np.ndarray) -> np.ndarray:
        """lme4's theta, its signs left as they are."""
        return self.template.pack(self.lambdas_from_x(x))

    def x_from_theta(self, theta: np.ndarray) -> np.ndarray:
        """The inverse of ``theta_from_x``."""
        return self.template.pack(self.search_lambdas(self.template.unpack(theta)))

    def search_lambda(self, block: int, Lam: np.ndarray) -> np.ndarray:
        """Lambda~ = C^-1 Lambda (..., k, m) of a block."""
        return np.linalg.solve(self.whiteners[block], Lam)

    def search_lambdas(self, lambdas: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``search_lambda`` of every block."""
        return [self.search_lambda(block, Lam) for block, Lam in enumerate(lambdas)]

    def typed_lambda(self, block: int, search: np.ndarray) -> np.ndarray:
        """Lambda = C Lambda~ (..., k, m) of a block."""
        return self.whiteners[block] @ search

    def typed_slope(self, block: int, slope: np.ndarray) -> np.ndarray:
        """d f / d Lambda of a block from d f / d Lambda~."""
        return np.linalg.solve(self.whiteners[block].T, slope)

    def search_columns(self, block: int, values: np.ndarray) -> np.ndarray:
        """(n, k) V C from a block's columns V as typed: orthogonal over the rows, and of unit size."""
        return values @ self.whiteners[block]

    def factor_lambdas(self, x: np.ndarray) -> list[np.ndarray]:
        """One whitened (K, K) Lambda for each grouping factor, block diagonal over its blocks."""
        return self.by_factor(self.template.unpack(x))

    def by_factor(self, blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same from Lambda~ (..., k, k) of the blocks, lower triangular or not."""
        matrices = []
        for factor in self.factors:
            if len(factor.blocks) == 1:
                matrices.append(blocks[factor.blocks[0]])
                continue
            Lam = np.zeros((*blocks[factor.blocks[0]].shape[:-2], factor.size, factor.size))
            for block, where in zip(factor.blocks, factor.columns, strict=True):
                Lam[..., where, where] = blocks[block]
            matrices.append(Lam)
        return matrices

    def by_block(self, by_factor: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(..., k, k) of each block, formula order, cut out of (..., K, K) of each factor."""
        blocks: list[np.ndarray] = [np.zeros((0, 0))] * len(self.template.sizes)
        for layout, matrix in zip(self.factors, by_factor, strict=True):
            for block, where in zip(layout.blocks, layout.columns, strict=True):
                blocks[block] = matrix[..., where, where]
        return blocks

    def stacked_lambdas(self, x: np.ndarray) -> list[np.ndarray]:
        """``factor_lambdas`` at S points x (S, n_theta): (S, K, K) for each grouping factor."""
        matrices = []
        for factor in self.factors:
            Lam = np.zeros((len(x), factor.size, factor.size))
            for block, where in zip(factor.blocks, factor.columns, strict=True):
                rows, columns = triangle(where.stop - where.start)
                Lam[:, where.start + rows, where.start + columns] = x[:, self.template.slices[block]]
            matrices.append(Lam)
        return matrices

    def factorise_x(self, x: np.ndarray) -> Factorisation | None:
        """The factor at x; None when rounding leaves no positive pivot."""
        return factorise(self.cross, self.factor_lambdas(x))

    def factorise(self, theta: np.ndarray) -> Factorisation | None:
        """The factor at lme4's theta; None when it cannot be had in floating point."""
        return self.factorise_x(self.x_from_theta(theta))

    def search_slopes(self, factor: Factorisation, reml: bool, weight: float) -> list[np.ndarray]:
        """d (log-determinants + weight r^2) / d Lambda~ (k, k) of each block; reml: with that of X."""
        return self.by_block(lambda_gradients(factor, reml, weight))

    def typed_slopes(self, factor: Factorisation, reml: bool, weight: float) -> list[np.ndarray]:
        """The same with respect to Lambda, in the columns as typed."""
        return [self.typed_slope(block, one) for block, one in enumerate(self.search_slopes(factor, reml, weight))]

    def value(self, factor: Solved, reml: bool) -> float:
        """The criterion at a factor."""
        return float(self.value_of(factor.logdet_random, factor.logdet_fixed, factor.pwrss, reml))

    def value_of(self, logdet_random: Numbers, logdet_fixed: Numbers, pwrss: Numbers, reml: bool) -> Numbers:
        """The criterion from what a factor, or a stack of factors (S,), says."""
        m = self.n - self.p if reml else self.n
        total = logdet_random - self.sum_log_w
        if reml:
            total = total + logdet_fixed + self.logdet_R
        if self.sigma_known:
            return total + pwrss + m * float(np.log(2 * np.pi))
        return total + m * (1.0 + np.log(2 * np.pi * pwrss / m))

    def rounding(self, pwrss: float, reml: bool) -> float:
        """How far rounding may move the criterion where elimination takes from y'y what leaves pwrss.

        Where group effects dwarf the residual that is a small difference of large numbers; twice the last digit of
        y'y, as a share of pwrss, was seen on four kernels of BLAS for ratios of sds from 1e4 to 1e6."""
        m = self.n - self.p if reml else self.n
        weight = 1.0 if self.sigma_known else m / max(pwrss, np.finfo(float).tiny)
        return 2.0 * float(np.finfo(float).eps * weight * self.cross.tail[-1, -1])

    def criterion_x(self, x: np.ndarray, reml: bool) -> float:
        """inf where the factor does not exist."""
        factor = self.factorise_x(x)
        return np.inf if factor is None else self.value(factor, reml)

    def criterion_and_gradient_x(self, x: np.ndarray, reml: bool) -> tuple[float, np.ndarray]:
        """Criterion and its gradient (n_theta,) with respect to x.  (inf, nan) where the factor does not exist."""
        factor = self.factorise_x(x)
        if factor is None:
            return np.inf, np.full(len(x), np.nan)
        m = self.n - self.p if reml else self.n
        weight = 1.0 if self.sigma_known else m / factor.pwrss
        return self.value(factor, reml), self.template.pack(self.search_slopes(factor, reml, weight))

    def criterion(self, theta: np.ndarray, reml: bool) -> float:
        """The criterion at lme4's theta."""
        return self.criterion_x(self.x_from_theta(theta), reml)

    def criterion_and_gradient(self, theta: np.ndarray, reml: bool) -> tuple[float, np.ndarray]:
        """The criterion and its gradient with respect to lme4's theta."""
        value, gradient = self.criterion_and_gradient_x(self.x_from_theta(theta), reml)
        slopes = [self.typed_slope(block, g) for block, g in enumerate(self.template.unpack(gradient))]
        return value, self.template.pack(slopes)


def build_problem(
    y: np.ndarray,
    X: np.ndarray,
    terms: Sequence[GroupTerm],
    precision: ResidualPrecision | None = None,
    offset: np.ndarray | None = None,
    prior: tuple[np.ndarray, np.ndarray] | None = None,
) -> Problem:
    """Condition the data and sum the cross-products.

    y (n,), X (n, p) of full column rank, or with the prior of ``condition`` that makes it so."""
    conditioned = condition(y, X, terms, precision, offset, prior)
    factors = merge(conditioned.terms)
    return assembled(
        cross_products(conditioned, factors),
        [(factor.blocks, factor.columns) for factor in factors],
        [term.n_levels for term in conditioned.terms],
        tuple(term.whitener for term in conditioned.terms),
        tuple(term.rms for term in conditioned.terms),
        conditioned.R,
        conditioned.gamma_ols,
        len(conditioned.residual),
        conditioned.precision.logdet,
        conditioned.precision.sigma_known,
    )


def assembled(
    cross: CrossProducts,
    factors: Sequence[tuple[tuple[int, ...], tuple[slice, ...]]],  # blocks of each, and where their columns stand
    n_levels: Sequence[int],  # of each block
    whiteners: tuple[np.ndarray, ...],
    rms: tuple[np.ndarray, ...],
    R: np.ndarray,
    gamma: np.ndarray,
    n: int,
    logdet: float,
    sigma_known: bool,
) -> Problem:
    """The problem of sums that are there."""
    return Problem(
        cross=cross,
        factors=tuple(
            FactorLayout(blocks, columns, n_levels[blocks[0]], columns[-1].stop) for blocks, columns in factors
        ),
        template=Template(tuple(len(C) for C in whiteners), block_order(n_levels)),
        whiteners=whiteners,
        rms=rms,
        R=R,
        gamma_ols=gamma,
        n=n,
        sum_log_w=logdet,
        sigma_known=sigma_known,
    )
