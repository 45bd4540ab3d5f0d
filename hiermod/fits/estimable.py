"""What the data can tell of combinations of the coefficients where the model matrix is rank deficient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import listing

if TYPE_CHECKING:
    from hiermod.formula.design import Design


def estimable_rows(design: Design, L: np.ndarray) -> np.ndarray:
    """(m,) False where a row of L depends on what the data cannot tell: it is no combination of the rows of X."""
    used = design.estimable
    if used.all():
        return np.ones(len(L), dtype=bool)
    explained = np.linalg.lstsq(design.X[:, used], design.X[:, ~used], rcond=None)[0]
    implied = L[:, used] @ explained
    size = np.abs(L[:, used]) @ np.abs(explained) + np.abs(L[:, ~used])
    return np.asarray((np.abs(L[:, ~used] - implied) <= 1e-8 * np.maximum(size, 1e-300)).all(axis=1))


def lost_rows_note(design: Design, X: np.ndarray, index: pd.Index) -> tuple[str, ...]:
    """A sentence about rows to predict that the data cannot tell: what is not estimable counts as 0, as in R."""
    told = estimable_rows(design, X)
    if told.all():
        return ()
    dropped = [name for name, used in zip(design.common, design.estimable, strict=True) if not used]
    return (
        f"The data cannot tell the prediction of {listing(index[~told], 5)}, since the model matrix is rank deficient: "
        f"{listing(dropped, 5)} counted as 0 there.",
    )
