"""How far an approximation of the integrals is off, and the number of quadrature nodes that is enough.

The error of Laplace's approximation, or of few nodes, is measured at a fit's own estimates: there the criterion is
taken again with more nodes.  Errors of quadrature alternate in sign and one small change may be chance, so that two
successive changes have to be small."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hiermod.engines.likelihood.generalised import FLAT, STEP, criterion_of, fit_rows, rows_of
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.laplace import LaplaceCriterion
from hiermod.engines.likelihood.likelihoods import likelihood_of
from hiermod.engines.likelihood.quadrature import check_nodes
from hiermod.formula.design import Design
from hiermod.kernel.weighted import WeightedProblem

LADDER = 15, 31, 63, 127
TOLERANCE = 1e-6  # of a change of the criterion, and of its gradient in standard errors
ROUNDING = 1e-12  # of the criterion: changes below it say nothing
EVALUATIONS = 60_000_000  # rows x nodes x evaluations that measuring an error may take: a second or two


def fit_with_enough_nodes(design: Design, family: str, link: str) -> GeneralisedMixedFit:
    """The fit by as many nodes of the ladder as the integrals at its own estimates need; else by the most.

    Raises what ``fit_generalised`` raises."""
    likelihood_of(design, family, link)
    check_nodes(design, LADDER[0])
    rows = rows_of(design)
    found = fit_rows(design, rows, family, link, LADDER[0])
    while (needed := enough(found, rows)) > found.nodes:
        found = fit_rows(design, rows, family, link, needed, found.theta, found.auxiliary)
    return found


def enough(fit: GeneralisedMixedFit, rows: WeightedProblem) -> int:
    """The least number of the ladder, from the fit's own on, that agrees with the next one and the one after that.

    The last where none does, or where the integrals cannot be had there."""
    counts = [m for m in LADDER if m >= fit.nodes]
    seen = []
    for m in counts:
        at = _Measured.at(fit, rows, m)
        if at is None:
            return LADDER[-1]
        seen.append(at)
        changes = [one.change(other, fit) for one, other in pairwise(seen)]
        if len(changes) >= 2 and max(changes[-2:]) < TOLERANCE:
            return counts[len(seen) - 3]
    return LADDER[-1]


@dataclass(frozen=True, eq=False, slots=True)
class _Measured:
    """The criterion with some number of nodes, and its gradient by (theta in whitened coordinates, gamma, a)."""

    value: float
    gradient: np.ndarray

    @classmethod
    def at(cls, fit: GeneralisedMixedFit, rows: WeightedProblem, nodes: int) -> _Measured | None:
        """At the fit's estimates; None where it is out of reach."""
        return _evaluated(criterion_of(rows, fit.likelihood, fit.design, nodes), _place(fit, rows), fit, rows)

    def change(self, other: _Measured, fit: GeneralisedMixedFit) -> float:
        """The largest of the changes, the gradient's per standard error; of theta per its size."""
        noise = ROUNDING * (1.0 + abs(self.value))
        moved = np.abs(self.gradient - other.gradient) * _scales(fit)
        return max(abs(self.value - other.value) - noise, float((moved - noise).max(initial=0.0)))


def _place(fit: GeneralisedMixedFit, rows: WeightedProblem) -> np.ndarray:
    """(x, gamma, a) of the estimates."""
    problem, beta = rows.problem, fit.beta[fit.design.estimable]
    return np.concatenate([problem.x_from_theta(fit.theta), problem.R @ beta, np.array(fit.auxiliary)])


def _scales(fit: GeneralisedMixedFit) -> np.ndarray:
    """Standard errors of gamma and a; of theta its size."""
    used = np.ix_(fit.design.estimable, fit.design.estimable)
    R = fit.problem.R
    gamma = np.sqrt(np.einsum("ij,jk,ik->i", R, fit.vcov_beta[used], R))
    a = np.sqrt(np.diag(fit.vcov_auxiliary))
    return np.concatenate([np.abs(fit.problem.x_from_theta(fit.theta)), gamma, np.where(np.isfinite(a), a, 0.0)])


def _evaluated(
    criterion: LaplaceCriterion, place: np.ndarray, fit: GeneralisedMixedFit, rows: WeightedProblem
) -> _Measured | None:
    n_x, p = len(fit.theta), rows.problem.p
    with np.errstate(all="ignore"):  # out of reach the value is inf
        found = criterion(place[:n_x], place[n_x : n_x + p], place[n_x + p :])
    both = np.concatenate([found.x, found.gamma, found.a])
    return _Measured(found.value, both) if np.isfinite(found.value) and np.isfinite(both).all() else None


@dataclass(frozen=True, eq=False, slots=True)
class IntegrationError:
    """What nearly exact integrals change in a fit."""

    nodes: int  # that stand for exact
    loglik: float  # at the fit's own estimates: exact less the fit's
    refit: GeneralisedMixedFit | None  # by so many nodes; None where the estimates would move by a trifle


def integration_error(fit: GeneralisedMixedFit, trifle: float) -> IntegrationError | None:
    """Measured with 63 nodes, 127 for a fit by as many; None where levels do not integrate or it costs too much.

    trifle: standard errors, also of theta and a.  A step of Newton's method says whether the estimates move by more;
    how far they move only a refit does, since steps from a poor approximation go too far."""
    nodes = LADDER[2] if fit.nodes < LADDER[2] else LADDER[3]
    blocks, design = fit.design.blocks, fit.design
    n_z = len(fit.theta) + int(design.estimable.sum()) + len(fit.auxiliary)
    if len(blocks) != 1 or blocks[0].size != 1 or fit.nodes >= nodes or fit.theta[0] == 0:
        return None
    if design.nobs * nodes * (2 * n_z + 1) > EVALUATIONS:
        return None
    rows = rows_of(design)
    criterion = criterion_of(rows, fit.likelihood, design, nodes)
    here = _evaluated(criterion, _place(fit, rows), fit, rows)
    if here is None:
        return None
    loglik = 0.5 * (fit.criterion - here.value)
    if _step(criterion, here, fit, rows) < trifle:
        return IntegrationError(nodes, loglik, None)
    family, link = fit.likelihood.family, fit.likelihood.link
    return IntegrationError(
        nodes, loglik, fit_rows(design, rows, family, link, nodes, np.asarray(fit.theta), fit.auxiliary)
    )


def _step(criterion: LaplaceCriterion, here: _Measured, fit: GeneralisedMixedFit, rows: WeightedProblem) -> float:
    """The largest move of one Newton step on the criterion, in standard errors; inf where there is no such step."""
    place, n_z = _place(fit, rows), len(here.gradient)
    known = np.concatenate([np.ones(n_z - len(fit.auxiliary), bool), np.isfinite(np.diag(fit.vcov_auxiliary))])
    scales = np.where(known, np.maximum(_scales(fit), 1e-8), 1.0)
    hessian = np.eye(n_z)
    for i in np.flatnonzero(known):
        step = np.zeros(n_z)
        step[i] = STEP * scales[i]
        up, down = (_evaluated(criterion, place + s * step, fit, rows) for s in (1.0, -1.0))
        if up is None or down is None:
            return np.inf
        hessian[i] = (up.gradient - down.gradient) * scales / (2.0 * STEP)
    hessian = np.where(np.outer(known, known), 0.5 * (hessian + hessian.T), np.eye(n_z))
    values = np.linalg.eigvalsh(hessian)
    if values[0] <= FLAT * values[-1]:
        return np.inf
    inverse = np.linalg.inv(hessian)
    move = inverse @ np.where(known, here.gradient * scales, 0.0)
    return float(np.abs(move / np.sqrt(2.0 * np.diag(inverse))).max())
