"""The units (rows, levels) that are left out, as rows of the penalised system (kernel/rows.py).

Rows of a unit that share all their levels span few dimensions: a QR of theirs leaves as many pseudo-rows with the same
cross-products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.engines.marginal.density import MarginalDensity, prior_rows
from hiermod.formula.design import Design
from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.rows import Rows, stacked_rows
from hiermod.kernel.structure import merge


@dataclass(frozen=True, eq=False)
class Units:
    """U sets of rows to leave out.  Unit u owns rows starts[u] to starts[u + 1] of ``rows``."""

    rows: Rows
    starts: np.ndarray  # (U + 1,)
    members: tuple[np.ndarray, ...]  # per unit: its rows in the Design
    n_rows: np.ndarray  # (U,) how many rows of data each unit has
    half_log_w: np.ndarray  # (U,) sum of log(w) / 2 over them
    leverage: np.ndarray  # (U,) largest share of one direction of flat beta that a unit alone determines; 1: all of it

    def __len__(self) -> int:
        return len(self.n_rows)

    @property
    def sizes(self) -> np.ndarray:
        """(U,) rows of each unit in ``rows``."""
        return np.diff(self.starts)


def _conditioned(design: Design, density: MarginalDensity) -> Rows:
    """All rows in the coordinates of the density."""
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    found = condition(design.y, design.X, terms, design.precision, design.offset, prior_rows(design, density.priors))
    factors = merge(found.terms)
    return Rows(tuple(f.codes for f in factors), tuple(f.values for f in factors), found.Q, found.residual)


def flat_directions(design: Design, density: MarginalDensity) -> np.ndarray:
    """(p, f) orthonormal directions of the conditioned coefficients R beta on which the priors say nothing."""
    p, priors = density.problem.p, density.priors
    if p == 0 or np.isfinite(priors.sd).all():
        return np.zeros((p, 0))
    rows = np.eye(p)
    if priors.centred:
        rows[design.common.index("Intercept")] = priors.centre
    held = solve_triangular(density.problem.R, rows[np.isfinite(priors.sd)].T, trans=1).T
    if not len(held):
        return np.eye(p)
    held = held / np.linalg.norm(held, axis=1, keepdims=True)
    _, _, right = np.linalg.svd(held)
    return right[len(held) :].T


def row_units(design: Design, density: MarginalDensity) -> Units:
    """One unit for each row."""
    rows = _conditioned(design, density)
    n, flat = design.nobs, flat_directions(design, density)
    return Units(
        rows,
        np.arange(n + 1),
        tuple(np.arange(n)[:, None]),
        np.ones(n, dtype=int),
        design.precision.half_logdet,
        np.square(rows.X @ flat).sum(axis=1),
    )


def level_units(design: Design, density: MarginalDensity, codes: np.ndarray, n_levels: int) -> Units:
    """One unit for each level of a factor; codes (n,)."""
    rows = _conditioned(design, density)
    flat = flat_directions(design, density)
    order = np.argsort(codes, kind="stable")
    members = tuple(np.split(order, np.cumsum(np.bincount(codes, minlength=n_levels))[:-1]))
    leverage = [float(np.linalg.norm(rows.X[one] @ flat, 2)) ** 2 if flat.shape[1] else 0.0 for one in members]
    half_log_w = np.array([float(design.precision.half_logdet[one].sum()) for one in members])
    return stack_units([rows.take(one) for one in members], members, half_log_w, np.array(leverage))


def stack_units(
    pieces: Sequence[Rows], members: Sequence[np.ndarray], half_log_w: np.ndarray, leverage: np.ndarray | None = None
) -> Units:
    """Units from the rows of each, compressed; members: where those stand in the Design; half_log_w, leverage (U,)."""
    pieces = [piece.compressed() for piece in pieces]
    return Units(
        stacked_rows(pieces),
        np.cumsum([0, *(len(piece.y) for piece in pieces)]),
        tuple(members),
        np.array([len(one) for one in members]),
        half_log_w,
        np.zeros(len(pieces)) if leverage is None else leverage,
    )


def pick(units: Units, which: Sequence[int] | np.ndarray) -> Units:
    """Some of the units, in this order."""
    which = np.asarray(which, dtype=np.intp)
    index = np.concatenate([np.arange(units.starts[u], units.starts[u + 1]) for u in which] or [np.arange(0)])
    return Units(
        units.rows.take(index),
        np.concatenate([[0], np.cumsum(units.sizes[which])]),
        tuple(units.members[u] for u in which),
        units.n_rows[which],
        units.half_log_w[which],
        units.leverage[which],
    )


def take_rows(design: Design, index: np.ndarray) -> Design:
    """The same model of some rows (a row may come twice); columns, levels and labels stay, so priors stay valid."""

    def some(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[index]

    return replace(
        design,
        y=design.y[index],
        X=design.X[index],
        blocks=tuple(replace(block, codes=block.codes[index], values=block.values[index]) for block in design.blocks),
        frame=design.frame.iloc[index],
        trials=some(design.trials),
        offset=some(design.offset),
        weights=some(design.weights),
        se=some(design.se),
    )
