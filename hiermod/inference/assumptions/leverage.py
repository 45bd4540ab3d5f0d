"""Rows of a fit's data seen from its factor: their hat matrix (kernel/rows.py) and what each contributes to beta.

beta = R^-1 L_X^-T z_X y, z_X the part of a projected row that X decides (Bates et al. 2015, J. Stat. Softw. 67(1),
section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.engines.likelihood.generalised import rows_of as weighted_rows
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.formula.design import Design
from hiermod.kernel import conditional
from hiermod.kernel.batch import BatchFactor, stack_of_one
from hiermod.kernel.criterion import Problem
from hiermod.kernel.rows import Projected, Rows, project, rows_of

FEW = 60  # rows not worth compressing

Record = MixedFit | LinearFit | GeneralisedMixedFit | GeneralisedLinearFit


@dataclass(frozen=True, eq=False)
class SeenRows:
    """m rows in the coordinates of the factor, their y the residuals e.  Rows may stand for more rows of data."""

    rows: Rows
    R: np.ndarray  # (p, p) X as typed = X R
    L_X: np.ndarray  # (p, p) lower; its L L' is the inverse of beta's variance over sigma^2, in X's coordinates
    problem: Problem | None  # None without group effects
    factor: BatchFactor | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def X(self) -> np.ndarray:
        """(m, p) orthonormal over all rows (up to weights that came later)."""
        return self.rows.X

    @property
    def e(self) -> np.ndarray:
        """(m,) residuals, whitened."""
        return self.rows.y

    def take(self, index: np.ndarray) -> SeenRows:
        """Some of the rows."""
        return replace(self, rows=self.rows.take(index))

    def compressed(self) -> SeenRows:
        """Fewer rows with the same products within each combination of levels, where there are few combinations."""
        wide = sum(v.shape[1] for v in self.rows.values) + self.X.shape[1] + 1
        if len(self) <= max(FEW, 2 * wide):
            return self
        return replace(self, rows=self.rows.compressed(least_gain=2))

    def project(self) -> Projected:
        """As seen from the factor; from X alone without group effects."""
        if self.problem is None or self.factor is None:
            z = solve_triangular(self.L_X, self.X.T, lower=True) if self.X.shape[1] else self.X.T
            return Projected(z[None], (), self.e[None])
        return project(self.problem, self.factor, self.rows)


def working(record: Record, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """(n,) weights and residuals of the least-squares problem that the fit solved last."""
    if isinstance(record, MixedFit | LinearFit):
        return design.precision.of_each_row, design.y - record.fitted
    derivatives = record.likelihood.derivatives(np.array(record.eta))
    weights = np.maximum(derivatives.expected, 1e-300)
    return weights, derivatives.score / weights


def _by_fisher(record: GeneralisedMixedFit, weights: np.ndarray) -> GeneralisedMixedFit:
    """The fit with its factor at Fisher's weights, where its own are observed ones, of any sign: no leverage then."""
    if record.likelihood.derivatives(np.array(record.eta)).determinant is None:
        return record
    return replace(record, problem=replace(weighted_rows(record.design).reweighted(weights), sigma_known=True))


def seen_rows(record: Record, design: Design) -> SeenRows:
    """Every row of a fit's data."""
    weights, residuals = working(record, design)
    root = np.sqrt(weights)
    e = root * residuals
    raw = design.X[:, design.estimable]
    if isinstance(record, LinearFit | GeneralisedLinearFit):
        Q, R = np.linalg.qr(raw * root[:, None]) if raw.shape[1] else (raw, np.zeros((0, 0)))
        return SeenRows(Rows((), (), Q, e), R, np.eye(raw.shape[1]), None, None)
    if isinstance(record, GeneralisedMixedFit):
        record = _by_fisher(record, weights)
    problem, factor = record.problem, record.factor
    blocks = [(block.codes, block.values) for block in design.blocks]
    rows = rows_of(problem, raw, blocks, ResidualPrecision(len(root), weights=weights), residuals)
    return SeenRows(rows, problem.R, conditional.fixed_factor(problem, factor), problem, stack_of_one(factor))
