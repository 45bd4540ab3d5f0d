"""Type III hypotheses of the common terms, the same whatever their contrasts (SAS/STAT User's Guide, "The Four Types of
Estimable Functions"; Kuznetsova et al. 2017, J. Stat. Softw. 82(13), section 2.3).

In the parametrisation with a column for every level (formula/overparametrised.py) the functions of the parameters that
the data can tell are the row space of that matrix.  A term's hypothesis holds those that involve only the term and the
terms containing it, and are orthogonal to those that involve only the containing ones.  Without empty cells these are
comparisons of unweighted (population marginal) means.

For F the space is enough; Satterthwaite's df with several rows also depend on the basis.  As in lmerTest it is that of
treatment contrasts: differences from the first level."""

from __future__ import annotations

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.formula.design import Design
from hiermod.formula.overparametrised import FullTerm, full_terms

ZERO = 1e-9  # relative size below which a number is rounding


def type_three(design: Design) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """L (q, p) of each common term but the intercept, p estimable columns; and notes in words.

    q is 0 for a term the data cannot tell from others.  UnsupportedError when the columns of the model are not those of
    its terms, so that no hypothesis about the terms follows."""
    X = design.X[:, design.estimable]
    terms = full_terms(design)
    if not X.shape[1]:
        return {}, ()
    norms = np.linalg.norm(X, axis=0)
    Q, R = np.linalg.qr(X / norms)
    columns = [Q.T @ term.values for term in terms]  # the full columns in X's orthonormal coordinates
    for term, inside in zip(terms, columns, strict=True):
        gap = np.abs(term.values - Q @ inside).max(initial=0.0)
        if gap > 1e-6 * np.abs(term.values).max(initial=1e-300):
            raise UnsupportedError(
                f"the columns of {term.name!r} in the model do not span the term's own levels (its contrasts, or an "
                "unusual combination of terms, leave some out): type III tests have no meaning for this formula"
            )
    tests = {}
    for i, term in enumerate(terms):
        if term.factors or term.numbers:
            rows = _hypothesis(terms, columns, i)
            tests[term.name] = _clean((rows @ R) * norms)
    return tests, _notes(terms)


def _hypothesis(terms: tuple[FullTerm, ...], columns: list[np.ndarray], i: int) -> np.ndarray:
    """(q, p) in orthonormal coordinates."""
    above = [term is not terms[i] and terms[i].contained_in(term) for term in terms]
    outside = [c for j, c in enumerate(columns) if j != i and not above[j]]
    p = len(columns[i])
    with_term = _null_space(np.hstack([np.zeros((p, 1)), *outside]))  # functions of the term and what contains it
    without = _null_space(np.hstack([columns[i], *outside]))  # of what contains it alone
    over = np.hstack(columns)
    rows = _null_space((without.T @ over @ over.T @ with_term).T) if without.shape[1] else np.eye(with_term.shape[1])
    basis = (with_term @ rows).T
    return _treatment_basis(basis, basis @ columns[i])


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """(p, d) orthonormal basis of the vectors orthogonal to every column of the matrix (p, m)."""
    left, values, _ = np.linalg.svd(matrix)
    rank = int((values > ZERO * max(float(values.max(initial=0.0)), 1e-300)).sum())
    return left[:, rank:]


def _treatment_basis(basis: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The same space with the identity in the term's last independent columns, which are those of treatment contrasts.

    basis (q, p); own (q, r): the rows' coefficients in the term's full columns."""
    chosen: list[int] = []
    rest = own.copy()
    size = float(np.linalg.norm(own, axis=0).max(initial=0.0))
    for j in reversed(range(own.shape[1])):
        length = float(np.linalg.norm(rest[:, j]))
        if len(chosen) < len(basis) and length > 1e-7 * size:
            chosen.insert(0, j)
            direction = rest[:, j] / length
            rest = rest - np.outer(direction, direction @ rest)
    return np.linalg.solve(own[:, chosen], basis) if chosen else basis[:0]


def _clean(rows: np.ndarray) -> np.ndarray:
    """Rounding put to zero, judged within each row as its coefficients were scaled."""
    size = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    return np.where(np.abs(rows) < 1e-12 * size, 0.0, rows)


def _notes(terms: tuple[FullTerm, ...]) -> tuple[str, ...]:
    """A word about cells without rows."""
    empty = [
        f"{term.name} ({int((~term.values.any(axis=0)).sum())} of {term.values.shape[1]})"
        for term in terms
        if len(term.factors) > 1 and not term.values.any(axis=0).all()
    ]
    if not empty:
        return ()
    return (
        f"Cells without rows: {', '.join(empty)}. Type III hypotheses then depend on which cells are missing; they are "
        "SAS's, the same whatever the contrasts, but no longer comparisons of plain marginal means.",
    )
