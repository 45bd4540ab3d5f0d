"""[Z X y]'W[Z X y] from rows that come in parts: chunks, files, processes, machines (docs/architecture.md, "Streams").

Two passes.  ``Survey`` finds the coordinates in which the sums keep their digits: the R of a QR of [X y], the R of each
block's columns, and which levels lie within which; R's of parts merge to the R of all (Demmel, Grigori, Hoemmen and
Langou 2012, SIAM J. Sci. Comput. 34(1): qr([R1; R2]) has the same R'R).  ``NormalEquations`` then adds up the products
of the rows in those coordinates.  Both only ever ``accumulate`` and ``merge``, which is associative and commutative up
to rounding, so the parts may come in any order and grouping; every part numbers the levels alike.

In memory ``build_problem`` makes both at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.errors import ArgumentError, DataError, DesignError
from hiermod.kernel.conditioning import GroupTerm, WhitenedTerm, check_rank, root_mean_squares, whitener_of
from hiermod.kernel.criterion import Problem, assembled
from hiermod.kernel.crossproducts import CrossProducts, sparse_pays, summed
from hiermod.kernel.elimination import Factorisation
from hiermod.kernel.sparse_rows import SparseSums, sparse_rows
from hiermod.kernel.structure import Nesting, joined, nesting

NOWHERE, SEVERAL = -1, -2  # instead of the level that holds another: no row of it yet, or rows in several


@dataclass(frozen=True, eq=False)
class Survey:
    """What the first pass has seen.  Blocks and their levels are those of ``terms``, whose rows it forgets."""

    terms: tuple[GroupTerm, ...]  # without rows
    n: int
    logdet: float  # log|W|
    sigma_known: bool | None  # None before the first row
    common: np.ndarray  # (p + 1, p + 1) R of the whitened [X y]
    blocks: tuple[np.ndarray, ...]  # (k, k) R of each block's whitened columns, last column first
    within: dict[tuple[int, int], np.ndarray]  # (J,) of block i: the level of block j that its rows lie in

    @classmethod
    def empty(cls, p: int, terms: Sequence[GroupTerm]) -> Survey:
        """Of no rows: p columns of X, and terms that say how many levels and columns each block has."""
        bare = tuple(replace(term, codes=term.codes[:0], values=term.values[:0]) for term in terms)
        J = [term.n_levels for term in terms]
        return cls(
            bare,
            0,
            0.0,
            None,
            np.zeros((p + 1, p + 1)),
            tuple(np.zeros((term.values.shape[1],) * 2) for term in terms),
            {(i, j): np.full(J[i], NOWHERE) for i in range(len(J)) for j in range(len(J)) if i != j and J[i] >= J[j]},
        )

    def accumulate(
        self,
        y: np.ndarray,
        X: np.ndarray,
        terms: Sequence[GroupTerm],
        precision: ResidualPrecision | None = None,
        offset: np.ndarray | None = None,
    ) -> Survey:
        """With further rows: y (n,), X (n, p), and each term's codes (n,) and values (n, k)."""
        response, X, precision = _whitened(y, X, precision, offset)
        part = Survey(
            self.terms,
            len(response),
            precision.logdet,
            precision.sigma_known,
            _root(np.column_stack([X, response])),
            tuple(_root(precision.whiten(np.asarray(term.values, dtype=float))[:, ::-1]) for term in terms),
            {(i, j): _levels_within(terms[i], terms[j]) for i, j in self.within},
        )
        return self.merge(part)

    def merge(self, other: Survey) -> Survey:
        """Of both.  ArgumentError where one knows the residual sds and the other does not."""
        known = {one.sigma_known for one in (self, other)} - {None}
        if len(known) > 1:
            raise ArgumentError("some rows come with known residual sds (se) and others without: give them to all rows")
        within = {}
        for pair, mine in self.within.items():
            theirs = other.within[pair]
            agreed = np.where((mine == theirs) | (theirs == NOWHERE), mine, SEVERAL)
            within[pair] = np.where(mine == NOWHERE, theirs, agreed)
        return Survey(
            self.terms,
            self.n + other.n,
            self.logdet + other.logdet,
            known.pop() if known else None,
            _root(np.concatenate([self.common, other.common])),
            tuple(_root(np.concatenate(pair)) for pair in zip(self.blocks, other.blocks, strict=True)),
            within,
        )

    def equations(self) -> NormalEquations:
        """The second pass, before its first row.  DesignError as ``condition``, of all rows together."""
        p = len(self.common) - 1
        R, gamma = self.common[:p, :p], self.common[:p, p]
        norms = np.sqrt(np.einsum("ij,ij->j", R, R))
        if not norms.all():
            raise DesignError("a column of the model matrix is zero in every row: leave that term out")
        if p:
            check_rank(R / norms, self.n)
        whiteners, rms = [], []
        for term, root in zip(self.terms, self.blocks, strict=True):
            sizes = root_mean_squares(term, np.einsum("ij,ij->j", root, root)[::-1], self.n)
            whiteners.append(whitener_of(term, root / sizes[::-1], sizes, self.n))
            rms.append(sizes)
        groups = self._groups()

        def parent_of(inner: int, outer: int) -> np.ndarray | None:
            found = self.within[groups[inner][0], groups[outer][0]]
            return None if (found == SEVERAL).any() else np.maximum(found, 0)  # a level without rows may lie anywhere

        order = nesting([self.terms[group[0]].n_levels for group in groups], parent_of)
        return NormalEquations(self, R, gamma, tuple(whiteners), tuple(rms), groups, order)

    def _groups(self) -> tuple[tuple[int, ...], ...]:
        """The blocks that share a factor: of one name, each level of the one within the same level of the other."""
        groups: list[list[int]] = []
        for index, term in enumerate(self.terms):
            for group in groups:
                first = self.terms[group[0]]
                alike = first.factor == term.factor and first.n_levels == term.n_levels
                if alike:
                    found = self.within[group[0], index]
                    if ((found == NOWHERE) | (found == np.arange(len(found)))).all():
                        group.append(index)
                        break
            else:
                groups.append([index])
        return tuple(tuple(group) for group in groups)


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Sums over rows, in the coordinates of a survey of all of them; what the criterion needs to know about data."""

    survey: Survey
    R: np.ndarray  # (p, p): X = Q R
    gamma: np.ndarray  # (p,) what is taken off y: y - Q gamma
    whiteners: tuple[np.ndarray, ...]  # (k, k) per block
    rms: tuple[np.ndarray, ...]  # (k,) per block
    groups: tuple[tuple[int, ...], ...]  # blocks of each factor
    nesting: Nesting
    n: int = 0
    sums: CrossProducts | None = None  # None before the first row

    def accumulate(
        self,
        y: np.ndarray,
        X: np.ndarray,
        terms: Sequence[GroupTerm],
        precision: ResidualPrecision | None = None,
        offset: np.ndarray | None = None,
    ) -> NormalEquations:
        """With further rows, arguments as those of the survey."""
        response, X, precision = _whitened(y, X, precision, offset)
        Q = solve_triangular(self.R, X.T, trans=1).T if len(self.R) else X
        whitened = [
            WhitenedTerm(
                term.factor,
                np.asarray(term.codes, dtype=np.intp),
                term.n_levels,
                precision.whiten(np.asarray(term.values, dtype=float)) @ whitener,
                whitener,
                rms,
            )
            for term, whitener, rms in zip(terms, self.whiteners, self.rms, strict=True)
        ]
        factors = [joined(whitened, group) for group in self.groups]
        sums = summed(Q, response - Q @ self.gamma, factors, self.nesting, cheapest=False)
        return self.merge(replace(self, n=len(response), sums=sums))

    def merge(self, other: NormalEquations) -> NormalEquations:
        """Of both.  ArgumentError where their coordinates come from different surveys."""
        mine, theirs = (self.R, self.gamma, *self.whiteners), (other.R, other.gamma, *other.whiteners)
        if len(mine) != len(theirs) or not all(map(np.array_equal, mine, theirs)):
            raise ArgumentError(
                "these sums are in other coordinates: every part must come from the equations() of one survey of all "
                "rows"
            )
        parts = [one.sums for one in (self, other) if one.sums is not None]
        sums = _added(*parts) if len(parts) == 2 else parts[0] if parts else None
        return replace(self, n=self.n + other.n, sums=sums)

    def problem(self) -> Problem:
        """The model with these data, ready to be factorised.  DataError where the passes saw other rows."""
        if self.sums is None or self.n != self.survey.n:
            raise DataError(
                f"the first pass saw {self.survey.n} rows and the second {self.n}: both must read all rows, once each"
            )
        columns = [
            np.cumsum([0, *(self.survey.terms[block].values.shape[1] for block in group)]) for group in self.groups
        ]
        return assembled(
            _settled(self.sums),
            [
                (group, tuple(slice(int(a), int(b)) for a, b in pairwise(ends)))
                for group, ends in zip(self.groups, columns, strict=True)
            ],
            [term.n_levels for term in self.survey.terms],
            self.whiteners,
            self.rms,
            self.R,
            self.gamma,
            self.n,
            self.survey.logdet,
            bool(self.survey.sigma_known),
        )

    def factor(self, theta: np.ndarray) -> Factorisation | None:
        """The Cholesky factor at lme4's theta; None when rounding leaves no positive pivot."""
        return self.problem().factorise(theta)


def _whitened(
    y: np.ndarray, X: np.ndarray, precision: ResidualPrecision | None, offset: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, ResidualPrecision]:
    response = np.asarray(y, dtype=float)
    precision = ResidualPrecision(len(response)) if precision is None else precision
    response = response if offset is None else response - offset
    return precision.whiten(response), precision.whiten(np.asarray(X, dtype=float)), precision


def _root(rows: np.ndarray) -> np.ndarray:
    """(k, k) upper triangular R with R'R = rows'rows, for any number of rows."""
    n, k = rows.shape
    R = np.zeros((k, k))
    R[: min(n, k)] = np.linalg.qr(rows, mode="r")
    return R


def _levels_within(inner: GroupTerm, outer: GroupTerm) -> np.ndarray:
    """(J,) the outer level of each inner level's rows, NOWHERE or SEVERAL."""
    found = np.full(inner.n_levels, NOWHERE)
    found[inner.codes] = outer.codes
    found[inner.codes[found[inner.codes] != outer.codes]] = SEVERAL
    return found


def _added(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """The sums of two parts with one layout."""
    levels = []
    for mine, theirs in zip(a.chain, b.chain, strict=True):
        here: Any = mine.tail  # of a part: dense or SparseSums, by the layout alone
        there: Any = theirs.tail
        tail: Any = here.plus(there) if isinstance(here, SparseSums) else here + there
        levels.append(
            replace(
                mine,
                diagonal=mine.diagonal + theirs.diagonal,
                ancestors=tuple(x + y for x, y in zip(mine.ancestors, theirs.ancestors, strict=True)),
                tail=tail,
            )
        )
    return replace(a, chain=tuple(levels), tail=a.tail + b.tail)


def _settled(sums: CrossProducts) -> CrossProducts:
    """Rows to the tail as they are eliminated fastest: dense, or as a list of pairs."""
    tail: Any = sums.chain[0].tail if sums.chain else None
    if not isinstance(tail, SparseSums):
        return sums
    J, K, m = tail.shape
    pays = sparse_pays(np.bincount(tail.level, minlength=J), K, m)
    first = replace(sums.chain[0], tail=sparse_rows(tail) if pays else tail.dense())
    return replace(sums, chain=(first, *sums.chain[1:]))
