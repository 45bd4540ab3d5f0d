"""The unconstrained parameters phi: log sds, unbounded coordinates of correlations, log sigma.

Those of correlations belong to the structure (covariance/): Fisher-transformed partial correlations of free ones, the
log odds of the place of rho in its range of one that rho alone determines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiermod.covariance.structure import CovarianceStructure


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where each parameter stands in phi (d,): per block its log sds and correlations, then log sigma if free.

    A block has one log sd for each column, or one for all where its structure says so (hom)."""

    structures: tuple[CovarianceStructure, ...]
    has_sigma: bool

    @property
    def d(self) -> int:
        """How many numbers phi has."""
        return sum(one.n_parameters for one in self.structures) + int(self.has_sigma)

    def parts(self) -> list[tuple[slice, slice]]:
        """Per block: where its log sds and its correlations stand."""
        found, start = [], 0
        for one in self.structures:
            middle, stop = start + one.n_sds, start + one.n_parameters
            found.append((slice(start, middle), slice(middle, stop)))
            start = stop
        return found

    def sds(self, phi: np.ndarray) -> list[np.ndarray]:
        """(..., k) per block, k equal ones where one is common to all.

        Of copies: numpy 2.0 leaves its vector code, and with it a last digit, for columns of a matrix that happen to
        lie near the result in memory."""
        own = [np.exp(phi[..., where].copy()) for where, _ in self.parts()]
        return [
            np.repeat(sd, one.size, axis=-1) if one.hom else sd for one, sd in zip(self.structures, own, strict=True)
        ]

    def correlation_factors(self, phi: np.ndarray) -> list[np.ndarray]:
        """Cholesky factors (..., k, k) of the correlation matrices, per block."""
        return [
            one.correlation_root(phi[..., where].copy())
            for (_, where), one in zip(self.parts(), self.structures, strict=True)
        ]

    def unconstrained(
        self, sd: Sequence[np.ndarray], corr: Sequence[np.ndarray | None], sigma: np.ndarray | None
    ) -> np.ndarray:
        """phi (..., d), the way back.  Per block sd (..., k) and corr (..., k, k), None without; sigma (...) if free.

        Of correlations near +-1 few digits come back: where the draws' own phi is known, as the marginal engine's is,
        ``Posterior.unconstrained_draws`` gives that."""
        lead = sd[0].shape[:-1] if sd else np.asarray(sigma).shape
        phi = np.zeros((*lead, self.d))
        for (where_sd, where_z), one, sds, matrix in zip(self.parts(), self.structures, sd, corr, strict=True):
            phi[..., where_sd] = np.log(sds[..., : one.n_sds])
            if matrix is not None:
                phi[..., where_z] = one.correlation_coordinates(matrix)
        if self.has_sigma:
            phi[..., -1] = np.log(np.asarray(sigma))
        return phi


def correlation_matrix(L: np.ndarray) -> np.ndarray:
    """L L' (..., k, k), exact where it is known to be."""
    return exact_correlations(L @ np.swapaxes(L, -1, -2))


def exact_correlations(R: np.ndarray) -> np.ndarray:
    """Correlation matrices (..., k, k), exactly symmetric and 1 on the diagonal, where rounding leaves 1 - 1e-16.

    Constants are then seen to be constant: ArviZ cannot bin draws that differ in their last digit only."""
    R = (R + np.swapaxes(R, -1, -2)) / 2
    k = R.shape[-1]
    R[..., range(k), range(k)] = 1.0
    return R
