"""Which units alone determine a combination of coefficients that has a flat prior: without them it has no posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.errors import DesignError, listing
from hiermod.formula.design import Design
from hiermod.scores.rows import Units

ALL = 1 - 1e-9  # of the information about one direction


def flat_directions(density: MarginalDensity, design: Design) -> np.ndarray:
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


def check_estimable(units: Units, labels: Sequence[object], unit: str) -> None:
    """Raises DesignError for units whose removal leaves a coefficient with a flat prior without any information."""
    alone = np.flatnonzero(units.leverage > ALL)
    if len(alone):
        what = "rows" if unit == "row" else f"levels of {unit}"
        raise DesignError(
            f"without some {what} ({listing([labels[int(u)] for u in alone])}) the remaining data say nothing about a "
            "coefficient whose prior is flat, so these have no predictive density. Give them Normal priors"
        )
