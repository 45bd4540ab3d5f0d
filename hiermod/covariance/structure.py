"""CovarianceStructure: what a k x k covariance of group effects may look like, Sigma = sigma^2 Lambda Lambda'.

The structures and their defaults are lme4 2.0's (its vignette "Covariance structures"): us, diag, cs and ar1, each with
separate standard deviations or, hom, with one for all columns.  A structure is arithmetic on small arrays: it knows
neither data nor names of columns.  Three coordinates describe one Lambda:

theta       standard deviations relative to sigma, then what the structure's correlations are made of (lme4's ``par``);
            for us the lower triangle of Lambda by column
search      unrestricted numbers in which Lambda is smooth up to and beyond every bound, for minimisation: where a
            minimum lies on a bound its gradient is zero there
unbounded   logarithms of standard deviations, then z: numbers without bounds that the correlations are made of, for
            densities: 1 / (1 + exp(-2 z)) ~ Beta(b, b), independent, under the prior LKJ(eta)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class CovarianceStructure(Protocol):
    """Arrays may have leading axes wherever ``...`` stands.  k: size; m: n_parameters."""

    @property
    def name(self) -> str:
        """As written in a formula: "us", "diag", "cs", "ar1"."""

    @property
    def size(self) -> int:
        """k, the number of effects per level."""

    @property
    def hom(self) -> bool:
        """Whether all columns share one standard deviation."""

    @property
    def free(self) -> bool:
        """Whether every positive semidefinite Sigma has it: then a change of the columns' basis keeps the structure."""

    @property
    def n_parameters(self) -> int:
        """m, how many numbers determine Lambda."""

    @property
    def n_sds(self) -> int:
        """How many of them are standard deviations; they come first, except for us."""

    @property
    def sign_symmetric(self) -> bool:
        """Whether changing the sign of a standard deviation gives a covariance of the structure again."""

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The range of each element of theta."""

    def parameter_names(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """What each element of theta is called, from the k labels of the columns."""

    def start(self, sds: np.ndarray) -> np.ndarray:
        """theta (m,) with these standard deviations (k,), as far as the structure allows, and no correlation."""

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Lambda (..., k, k), lower triangular, from theta (..., m)."""

    def pullback(self, theta: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """d f / d theta (m,) from d f / d Lambda (k, k), of which only the lower triangle counts."""

    def theta_of(self, factor: np.ndarray) -> np.ndarray:
        """theta (m,) of a Lambda (k, k) of this structure, of any other the nearest by standard deviations and mean
        correlation."""

    def covariance_slopes(self, theta: np.ndarray) -> np.ndarray:
        """(m, k, k): derivatives of Lambda Lambda' by parameters that determine it, finite at every bound: one variance
        common to all columns, or standard deviations, then rho; of a free covariance by its own elements."""

    # --- for minimisation ---------------------------------------------------------------------------------------
    def search(self, theta: np.ndarray) -> np.ndarray:
        """Search coordinates (m,) of theta."""

    def from_search(self, search: np.ndarray) -> np.ndarray:
        """theta (..., m) at search coordinates (..., m)."""

    def search_factor(self, search: np.ndarray) -> np.ndarray:
        """Lambda (..., k, k) at search coordinates; columns may have either sign."""

    def search_pullback(self, search: np.ndarray, by_factor: np.ndarray) -> np.ndarray:
        """d f / d search (m,) from d f / d Lambda (k, k)."""

    # --- for graphs ---------------------------------------------------------------------------------------------
    def root_rows(self, share: Any, sqrt: Callable[[Any], Any]) -> list[list[Any]]:
        """Row after row the lower triangle of the Cholesky factor of the correlations, as scalars of any kind.

        share: rho's place in its range, (rho - low) / (high - low), a number or a symbol; sqrt: of such.  Not of us."""

    def correlation_entry(self, share: Any, i: int, j: int) -> Any:
        """The correlation of columns i < j, in the same way."""

    # --- for densities: z (..., m - n_sds), without bounds, of which the correlations are made ----------------------
    def correlation_root(self, z: np.ndarray) -> np.ndarray:
        """Cholesky factor (..., k, k) of the correlations."""

    def correlation_root_pullback(self, z: np.ndarray, root: np.ndarray, by_root: np.ndarray) -> np.ndarray:
        """d f / d z (m - n_sds,) from d f / d root (k, k), at z and its root (k, k)."""

    def correlation_coordinates(self, corr: np.ndarray) -> np.ndarray:
        """z of correlation matrices (..., k, k) of this structure; finite at bounds too."""

    def beta_shapes(self, eta: float) -> np.ndarray:
        """(m - n_sds,) the b of each z under the prior LKJ(eta): for one rho it is Beta(eta, eta) over its range."""


def structure_of(name: str, size: int, hom: bool) -> CovarianceStructure:
    """The structure called ``name`` ("us", "diag", "cs", "ar1") of ``size`` columns.

    One column has nothing to structure, and a correlation of two with separate standard deviations is free: both are
    "us", the same model."""
    from hiermod.covariance.autoregressive import Autoregressive
    from hiermod.covariance.compound_symmetric import CompoundSymmetric
    from hiermod.covariance.diagonal import Diagonal
    from hiermod.covariance.unstructured import Unstructured

    if size == 1 or name == "us" or (size == 2 and name in ("cs", "ar1") and not hom):
        return Unstructured(size)
    kinds: dict[str, Callable[[int, bool], CovarianceStructure]]
    kinds = {"diag": Diagonal, "cs": CompoundSymmetric, "ar1": Autoregressive}
    return kinds[name](size, hom)


HOM_BY_DEFAULT = {"us": False, "diag": False, "cs": False, "ar1": True}  # lme4 2.0's
