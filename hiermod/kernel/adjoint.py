"""Backwards through the elimination: selected blocks of the inverse, and the gradient with respect to every Lambda.

Given P = d criterion / dU on the tail, one step back over an eliminated factor is the recursion of the selected
inverse (Takahashi et al. 1973): P_jt = -Q_j R_j P_tt and P_jj = Q_j + Q_j R_j P_tt R_j'Q_j.  With P the inverse of the
tail these are the blocks of (Z'WZ + (Lambda Lambda')^-1)^-1, for a singular Lambda too; with the term c v v' of the
residual sum of squares added they give the gradient.  Checked against differences and dense algebra in
tests/kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotri

from hiermod.kernel.elimination import Eliminated, Factorisation, scale_rows, unscale_rows
from hiermod.kernel.sparse_rows import SparseRows
from hiermod.kernel.stacks import multiply, transpose


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """The blocks of P that one chain factor needs: diagonal, with later members (gathered), with the tail."""

    diagonal: np.ndarray  # (J, K, K)
    ancestors: tuple[np.ndarray, ...]  # (J, K, K_g)
    tail: np.ndarray  # (J, K, m)


def tail_inverse(factor: Factorisation, with_fixed: bool) -> np.ndarray:
    """(m, m): the inverse of T'UT + E over the tail's random effects, with X or without; zero elsewhere."""
    size = factor.cross.n_tail_effects + (factor.cross.n_fixed if with_fixed else 0)
    inverse = np.zeros_like(factor.U)
    if size:
        lower = dpotri(factor.L[:size, :size], lower=1)[0]  # its upper triangle is L's: zero
        inverse[:size, :size] = lower + lower.T
        inverse.ravel()[: size * len(inverse) : len(inverse) + 1] *= 0.5
    return inverse


def unscaled(factor: Factorisation, matrix: np.ndarray) -> np.ndarray:
    """T matrix T' on the tail, for a symmetric matrix."""
    if not factor.tail_lambdas:
        return matrix
    half = unscale_rows(factor.cross, factor.tail_lambdas, matrix)
    return unscale_rows(factor.cross, factor.tail_lambdas, half.T)


def backward(factor: Factorisation, P_tail: np.ndarray) -> Iterator[tuple[int, Eliminated, np.ndarray, np.ndarray]]:
    """Walk the chain from its last member to its first: (position, level, -R P R' (J, K, K), P diagonal (J, K, K)).

    P_tail (m, m): P on the tail, without Lambda."""
    later: list[Blocks] = []  # blocks of the later members, nearest first
    for position in reversed(range(len(factor.levels))):
        level = factor.levels[position]
        Q_bar, products = _through(level, later, P_tail, needs_products=position > 0)
        diagonal = level.Q - multiply(level.Q, multiply(Q_bar, level.Q))
        if products is not None:
            ancestors = tuple(-multiply(level.Q, product) for product in products[:-1])
            later.insert(0, Blocks(diagonal, ancestors, -multiply(level.Q, products[-1])))
        yield position, level, Q_bar, diagonal


def _through(
    level: Eliminated, later: list[Blocks], P: np.ndarray, needs_products: bool
) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """-R P R' for every level, and R P itself by later member and tail (only when an earlier factor will need it)."""
    if isinstance(level.tail, SparseRows):  # always the first of the chain
        Q_bar = -level.tail.sandwich(P)
        for g, ancestor in enumerate(level.ancestors):
            product = level.tail.gather(later[g].tail, level.parents[g])
            cross = multiply(product, transpose(ancestor))
            Q_bar -= cross + transpose(cross)
            Q_bar -= multiply(_ancestor_product(level, later, g), transpose(ancestor))
        return Q_bar, None
    J, K, m = level.tail.shape
    tail_product = (level.tail.reshape(-1, m) @ P).reshape(J, K, m)
    products = []
    for g, ancestor in enumerate(level.ancestors):
        gathered = later[g].tail[level.parents[g]]
        tail_product += multiply(ancestor, gathered)
        products.append(_ancestor_product(level, later, g) + multiply(level.tail, transpose(gathered)))
    Q_bar = -multiply(tail_product, transpose(level.tail))
    for product, ancestor in zip(products, level.ancestors, strict=True):
        Q_bar -= multiply(product, transpose(ancestor))
    return Q_bar, [*products, tail_product] if needs_products else None


def _ancestor_product(level: Eliminated, later: list[Blocks], g: int) -> np.ndarray:
    """sum over the later members h of R_h P_hg, (J, K, K_g)."""
    total = multiply(level.ancestors[g], later[g].diagonal[level.parents[g]])
    for h in range(len(level.ancestors)):
        near, far = min(g, h), max(g, h)
        if near == far:
            continue
        block = later[near].ancestors[far - near - 1][level.parents[near]]  # (J, K_near, K_far)
        total = total + multiply(level.ancestors[h], block if h == near else transpose(block))
    return total


def lambda_gradients(factor: Factorisation, with_fixed: bool, weight: float) -> list[np.ndarray]:
    """d (logdet + weight r^2) / d Lambda, one full (K, K) for each factor; logdet with X's part or without.

    Only the elements that the template leaves free have a meaning."""
    cross = factor.cross
    S_bar = tail_inverse(factor, with_fixed)
    S_bar += weight * np.outer(factor.solution, factor.solution)
    gradients: list[np.ndarray] = [np.zeros((0, 0))] * (len(cross.chain_factors) + len(cross.tail_factors))
    if cross.tail_factors:
        UT = np.ascontiguousarray(scale_rows(cross, factor.tail_lambdas, factor.U).T)
        for index, where, Lam in zip(cross.tail_factors, cross.tail_slices, factor.tail_lambdas, strict=True):
            left, right = (matrix[where].reshape(-1, len(Lam), len(UT)) for matrix in (UT, S_bar))
            gradients[index] = 2.0 * np.einsum("jam,jbm->ab", left, right)
    for position, level, Q_bar, _ in backward(factor, unscaled(factor, S_bar)):
        inner = level.A + Q_bar - multiply(level.A, multiply(level.Q, Q_bar))
        gradients[cross.chain_factors[position]] = 2.0 * np.einsum("jab,jbc->ac", inner, level.half)
    return [g if V is None else g @ V.T for g, V in zip(gradients, factor.turns, strict=True)]
