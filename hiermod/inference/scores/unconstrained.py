"""phi, the variance parameters on unbounded scales, from any engine's draws of sds, correlations and sigma."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiermod.engines.marginal.coordinates import Coordinates, pairs

CLOSEST = 1 - 1e-15  # largest partial correlation that tanh can give back
NUDGE = 1e-12  # on the diagonal of correlation matrices that rounding has made singular


def phi_from_draws(
    coordinates: Coordinates, sd: Sequence[np.ndarray], corr: Sequence[np.ndarray | None], sigma: np.ndarray | None
) -> np.ndarray:
    """phi (..., d).  Per block sd (..., k) and corr (..., k, k), None for k = 1; sigma (...) where it is free."""
    lead = sd[0].shape[:-1] if sd else np.asarray(sigma).shape
    phi = np.zeros((*lead, coordinates.d))
    for (where_sd, where_z), sds, matrix in zip(coordinates.parts(), sd, corr, strict=True):
        phi[..., where_sd] = np.log(sds)
        if matrix is not None:
            phi[..., where_z] = _partial_correlations(matrix)
    if coordinates.has_sigma:
        phi[..., -1] = np.log(np.asarray(sigma))
    return phi


def _partial_correlations(corr: np.ndarray) -> np.ndarray:
    """z (..., k (k - 1) / 2) with tanh(z) the partial correlations of ``coordinates.correlation_factor``."""
    k = corr.shape[-1]
    try:
        L = np.linalg.cholesky(corr)
    except np.linalg.LinAlgError:
        L = np.linalg.cholesky(corr + NUDGE * np.eye(k))
    left = np.sqrt(np.cumsum(np.square(L)[..., ::-1], axis=-1)[..., ::-1])  # (..., i, j): norm of L[i, j:]
    found = [L[..., i, j] / left[..., i, j] for i, j in pairs(k)]
    return np.arctanh(np.clip(np.stack(found, axis=-1), -CLOSEST, CLOSEST))
