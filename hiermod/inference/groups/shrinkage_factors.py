"""How far partial pooling moves each group: shrinkage factors and matrices of a REML or ML fit, given its variances.

The modes of one group with rows Z, weights W and effects' covariance Sigma are (Z'WZ + sigma^2 Sigma^-1)^-1 Z'WZ times
its own least-squares effects (Raudenbush and Bryk 2002, Hierarchical Linear Models, chapter 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from hiermod.errors import UnknownNameError, nearest
from hiermod.fits.tables import check_group

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit


def shrinkage_factors(fit: FrequentistFit, group: str) -> pd.DataFrame:
    """group, level, term, factor = 1 - condsd^2 / tau^2, in [0, 1]: 0 fully pooled (also where tau is 0), 1 not at all.

    condsd is that of ``ranef``: with other factors in the model it also counts what cannot be told from theirs."""
    pieces = []
    for block in check_group(fit.design, group):
        i = fit.design.blocks.index(block)
        Lambda = fit._mixed.Lambda[i]
        variance = fit._mixed.sigma**2 * (Lambda @ Lambda.T).diagonal()
        with np.errstate(invalid="ignore", divide="ignore"):
            kept = 1.0 - np.square(np.array(fit._mixed.cond_sd[i])) / variance
        kept = np.where(variance > 0, np.clip(kept, 0.0, 1.0), 0.0)
        J, k = kept.shape
        columns = {
            "group": group,
            "level": np.repeat(np.asarray(block.levels, dtype=object), k),
            "term": np.tile(np.asarray(block.labels, dtype=object), J),
            "factor": kept.ravel(),
        }
        pieces.append(pd.DataFrame(columns))
    return pd.concat(pieces, ignore_index=True)


def shrinkage_matrix(fit: FrequentistFit, group: str, level: str) -> pd.DataFrame:
    """(k, k): what a level's own least-squares effects are multiplied by, from its own rows; terms on both sides.

    The identity is no pooling, zero complete pooling; off the diagonal, one coefficient's data inform the other.
    Raises UnknownNameError for a level."""
    blocks = check_group(fit.design, group)
    if str(level) not in blocks[0].levels:
        raise UnknownNameError(f"{group!r} has no level {level!r}.{nearest(str(level), blocks[0].levels)}")
    design, record = fit.design, fit._mixed
    rows = blocks[0].codes == blocks[0].levels.index(str(level))
    Z = np.column_stack([block.values[rows] for block in blocks])
    w = design.precision.of_each_row[rows]
    Lambda = block_diag(*(record.Lambda[design.blocks.index(block)] for block in blocks))
    relative = Lambda @ Lambda.T @ (Z.T @ (w[:, None] * Z))  # Sigma Z'WZ / sigma^2: a singular Sigma needs no inverse
    labels = [label for block in blocks for label in block.labels]
    return pd.DataFrame(np.linalg.solve(relative + np.eye(len(labels)), relative), index=labels, columns=labels)
