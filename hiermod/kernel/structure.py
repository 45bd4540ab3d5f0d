"""Which grouping factors are nested in which: the order in which their effects are eliminated.

The factor with most levels goes first: its part of Z'Z is block diagonal.  A factor that contains the last one
eliminated (each level of the one within one level of the other) stays block diagonal afterwards and joins the chain;
every other factor belongs to the dense tail, together with X and y."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hiermod.kernel.conditioning import WhitenedTerm


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """One grouping factor with the columns of all blocks that use it."""

    blocks: tuple[int, ...]  # in formula order
    columns: tuple[slice, ...]  # where each block's columns stand among the K
    codes: np.ndarray  # (n,)
    n_levels: int
    values: np.ndarray  # (n, K)

    @property
    def size(self) -> int:
        """K, the number of columns."""
        return self.values.shape[1]


def merge(terms: Sequence[WhitenedTerm]) -> list[Factor]:
    """Blocks of the same factor share one set of levels, hence one K x K diagonal block per level."""
    groups: list[list[int]] = []
    for index, term in enumerate(terms):
        for group in groups:
            first = terms[group[0]]
            if first.factor == term.factor and np.array_equal(first.codes, term.codes):
                group.append(index)
                break
        else:
            groups.append([index])
    return [joined(terms, group) for group in groups]


def joined(terms: Sequence[WhitenedTerm], group: Sequence[int]) -> Factor:
    """The one factor of a group of blocks that share their levels."""
    ends = np.cumsum([terms[i].values.shape[1] for i in group])
    columns = tuple(slice(int(e - terms[i].values.shape[1]), int(e)) for i, e in zip(group, ends, strict=True))
    values = terms[group[0]].values if len(group) == 1 else np.hstack([terms[i].values for i in group])
    return Factor(tuple(group), columns, terms[group[0]].codes, terms[group[0]].n_levels, values)


def parent_levels(inner: Factor, outer: Factor) -> np.ndarray | None:
    """(J,) the outer level that holds each inner level, or None when some inner level spans several.

    A level without rows is put into outer level 0: it has no data, so nothing depends on the choice."""
    parent = np.zeros(inner.n_levels, dtype=np.intp)
    parent[inner.codes] = outer.codes
    return parent if np.array_equal(parent[inner.codes], outer.codes) else None


@dataclass(frozen=True, eq=False, slots=True)
class Nesting:
    """Who is eliminated when.  parents: (inner, outer) -> (J,) the outer level that holds each inner level."""

    chain: tuple[int, ...]
    tail: tuple[int, ...]
    parents: dict[tuple[int, int], np.ndarray]


def chain_and_tail(factors: Sequence[Factor]) -> Nesting:
    """Indices of the factors eliminated one after the other, of the rest, and the parents."""
    return nesting([f.n_levels for f in factors], lambda inner, outer: parent_levels(factors[inner], factors[outer]))


def nesting(n_levels: Sequence[int], parent_of: Callable[[int, int], np.ndarray | None]) -> Nesting:
    """The same from what holds each level: parent_of(inner, outer) as ``parent_levels``."""
    ranked = sorted(range(len(n_levels)), key=lambda i: -n_levels[i])  # stable: ties in formula order
    chain, tail = ranked[:1], []
    parents: dict[tuple[int, int], np.ndarray] = {}
    for index in ranked[1:]:
        parent = parent_of(chain[-1], index)
        if parent is None:
            tail.append(index)
            continue
        for earlier in chain[:-1]:
            parents[earlier, index] = parent[parents[earlier, chain[-1]]]
        parents[chain[-1], index] = parent
        chain.append(index)
    return Nesting(tuple(chain), tuple(tail), parents)
