"""Which rows or levels are left out together: K folds, at random, or balanced within the levels of a factor.

Stone (1974, J. R. Stat. Soc. B 36); by groups: Roberts et al. (2017, Ecography 40)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Fold:
    """One refit: the rows that stay, and the units (rows of the Design, each scored as one) that it scores."""

    train: np.ndarray  # (m,)
    units: tuple[np.ndarray, ...]
    positions: np.ndarray  # which units of the whole these are
    seed: int  # of the refit

    @property
    def held(self) -> np.ndarray:
        """Rows of all its units, unit after unit."""
        return np.concatenate(self.units)


def divide(count: int, k: int, rng: np.random.Generator, strata: np.ndarray | None = None) -> np.ndarray:
    """(count,) the fold 0..k-1 of each of ``count`` things; folds differ by at most one in size.

    strata (count,): codes; the folds then also share out every stratum as evenly as whole numbers allow."""
    order = rng.permutation(count)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(count, dtype=np.intp)
    fold[order] = np.arange(count) % k
    return fold


def make_folds(fold: np.ndarray, members: Sequence[np.ndarray], nobs: int, seed: int) -> list[Fold]:
    """Jobs from the fold of each unit (U,) and its rows; every job has a seed of its own, drawn from ``seed``."""
    every = np.arange(nobs)
    k = int(fold.max()) + 1
    seeds = np.random.SeedSequence(seed).generate_state(k) >> 1
    found = []
    for index in range(k):
        positions = np.flatnonzero(fold == index)
        units = tuple(members[int(u)] for u in positions)
        found.append(Fold(np.setdiff1d(every, np.concatenate(units)), units, positions, int(seeds[index])))
    return found
