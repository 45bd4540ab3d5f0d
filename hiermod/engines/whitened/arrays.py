"""What the compiled functions read: plain arrays, one record for any model.

Group effects stand in ``groups``: the blocks of one factor together, K effects for each of J levels, the first
eliminated first.  q, the vector that is sampled, is (t, epsilon of beta, epsilon of the effects); x is (beta, effects);
both keep the effects of the group eliminated last first, so that what an effect is conditioned on stands before it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SINH, LOG, INTERVAL, IDENTITY = 0, 1, 2, 3  # how a scalar parameter is made of its unbounded coordinate


class Arrays(NamedTuple):
    """Every array C-contiguous, floats of 64 bits and integers of 64 bits, and writeable: numba compiles anew for
    any other, without a word.  n rows, p common columns, S scalars (sds and further parameters), C correlations."""

    # --- rows ---
    y: np.ndarray  # (n,)
    trials: np.ndarray  # (n,)
    offset: np.ndarray  # (n,)
    pattern: np.ndarray  # (n,) which column of X
    X: np.ndarray  # (p, m) the different rows of predictors as columns, centred; m = n: each row has its own
    codes: np.ndarray  # (G, n) the level of each row
    V: np.ndarray  # (columns of all groups, n)
    # --- groups ---
    size: np.ndarray  # (G,) K
    levels: np.ndarray  # (G,) J
    column_at: np.ndarray  # (G,) first column among those of all groups: of V, and of the sds in t
    x_at: np.ndarray  # (G,) first effect in x
    A_at: np.ndarray  # (G,) first number in A
    correlation_at: np.ndarray  # (G,) first correlation in t
    first: np.ndarray  # (columns of all groups,) the first column, counted within its group, that it correlates with
    # --- scalars: the sds of all groups, then further parameters of the response ---
    kind: np.ndarray  # (S,)
    scale: np.ndarray  # (S,)
    low: np.ndarray  # (S,) of an INTERVAL
    high: np.ndarray  # (S,)
    laws: np.ndarray  # (S, TERMS) priors: see priors/terms.py
    by_log: np.ndarray  # (further parameters,) whether the row function takes its logarithm, else its coordinate
    fixed: np.ndarray  # (further parameters,) nan where it is sampled, else what the row function takes
    scalar_of: np.ndarray  # (further parameters,) which scalar it is, -1 where fixed
    shapes: np.ndarray  # (C,) of each partial correlation: (r + 1) / 2 ~ Beta(shape, shape)
    beta_laws: np.ndarray  # (p, TERMS)
    # --- the Gaussian approximation, frozen ---
    A: np.ndarray  # J K K of each group: precision of a level's effects without their prior
    d: np.ndarray  # (p + effects,) what the effects would have to explain
    pointers: np.ndarray  # B as sparse rows: what of d the later effects and beta explain
    columns: np.ndarray
    entries: np.ndarray
    root: np.ndarray  # (p, p) lower triangular: beta = centre + root' epsilon
    centre: np.ndarray  # (p,)
    # --- room to work in, for one chain at a time ---
    scalar: np.ndarray  # (4, S)
    eta: np.ndarray  # (n,)
    score: np.ndarray  # (n,)
    xb: np.ndarray  # (m,)
    C: np.ndarray  # as A: Cholesky factors
    u: np.ndarray  # (p + effects,)
    z: np.ndarray
    r: np.ndarray
    gx: np.ndarray


WORK = ("scalar", "eta", "score", "xb", "C", "u", "z", "r", "gx")


def with_own_room(arrays: Arrays) -> Arrays:
    """The same for another chain: what is read is shared, the room to work in is new."""
    return arrays._replace(**{name: np.empty_like(getattr(arrays, name)) for name in WORK})


def proper(value: Any, kind: type) -> np.ndarray:
    """A writeable C-contiguous array of 64-bit numbers."""
    return np.array(value, dtype=np.float64 if kind is float else np.int64, order="C")
