"""Which columns a factor brings to a term: all its levels, all but one, or some of the cells; X spans R's space.

A term adds to the space of its columns what the terms before it have not spanned: main effects first, then
interactions, as in R.  Subsets of a term's factors stand for the parts of that space, as in patsy (Smith 2011)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

Subset = frozenset[str]


@dataclass(frozen=True)
class Coding:
    """How one term is coded.  full: its factors with a column for every level; the others leave one level out.

    covered: where that does not do, the subsets of its factors that other terms span.  The term then has an indicator
    of every cell of its factors except those that differ from the reference levels in just such a subset."""

    full: Subset
    covered: frozenset[Subset] | None = None

    def keeps(self, away: Iterable[str]) -> bool:
        """Whether the cell that is away from the reference in these factors has a column."""
        return self.covered is None or frozenset(away) not in self.covered


def codings(terms: Iterable[tuple[str, tuple[str, ...], frozenset[str]]]) -> dict[str, Coding]:
    """Term -> Coding for terms as (name, factors, numbers), the intercept among them without either.

    Terms with the same numbers share a space: x:f is judged beside x and x:h, not beside f.

    >>> found = codings([("1", (), frozenset()), ("f:h", ("f", "h"), frozenset()), ("h", ("h",), frozenset())])
    >>> found["h"].full, found["f:h"].full, found["f:h"].covered
    (frozenset(), frozenset({'h'}), None)
    """
    spanned: dict[frozenset[str], set[Subset]] = {}
    found: dict[str, Coding] = {}
    for name, factors, numbers in sorted(terms, key=lambda term: len(term[1]) + len(term[2])):
        known = spanned.setdefault(numbers, set())
        parts = set(_subsets(factors))
        new = parts - known
        least = frozenset.intersection(*new) if new else frozenset(factors)
        if not new or (least in new and len(new) == 2 ** (len(factors) - len(least))):
            found[name] = Coding(frozenset(factors) - least)
        else:
            found[name] = Coding(frozenset(factors), frozenset(parts & known))
        known |= parts
    return found


def _subsets(factors: tuple[str, ...]) -> Iterator[Subset]:
    for size in range(len(factors) + 1):
        yield from map(frozenset, combinations(factors, size))


def crossed(coding: Coding, factors: tuple[str, ...]) -> tuple[str, ...] | None:
    """The factors that, made into one with a level per cell, give the term's cells by leaving out the first level.

    None where no single factor does, or they do not stand side by side in the term."""
    if coding.covered is None:
        return None
    widest = max(coding.covered, key=len, default=frozenset())
    if any(not subset <= widest for subset in coding.covered):
        return None
    rest = tuple(factor for factor in factors if factor not in widest)
    start = factors.index(rest[0])
    return rest if factors[start : start + len(rest)] == rest else None
