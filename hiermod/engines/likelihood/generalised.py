"""Generalised linear mixed models by maximum likelihood: from a Design to a GeneralisedMixedFit (lme4's glmer).

First theta alone, beta at the joint mode (nAGQ = 0); then (theta, beta) together, in coordinates in which the first
fit makes the criterion nearly round.  Standard errors come from the Hessian over (theta, beta), glmer's default.  The
family's further parameters a, on scales without ends, are searched for in both stages (glmmTMB's)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import UNKNOWN, names_of, scoring
from hiermod.engines.likelihood.laplace import LaplaceCriterion, laplace_value
from hiermod.engines.likelihood.likelihoods import Likelihood, first_auxiliary, likelihood_of
from hiermod.engines.likelihood.mixed import theta_names
from hiermod.engines.likelihood.optimise import Convergence, Minimum, better, minimise
from hiermod.engines.likelihood.other_minima import CLOSE, NEARLY, in_z, topograph
from hiermod.engines.likelihood.pirls import Mode
from hiermod.engines.likelihood.quadrature import QuadratureCriterion, check_nodes
from hiermod.errors import DesignError, FitError, UnsupportedError
from hiermod.formula.design import Design
from hiermod.kernel import conditional
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.covariance import Template, null_directions, positive_columns
from hiermod.kernel.criterion import Problem
from hiermod.kernel.start import curvature_guess
from hiermod.kernel.threads import SHORT, suitable_threads
from hiermod.kernel.weighted import WeightedProblem, prepare

# Standard deviations and elements of Lambda here count in ``Likelihood.unit``.
START = 0.7  # first relative standard deviation of every whitened column, on the scale of the linear predictor
AWAY = 0.1  # a zero column is stationary: the second stage starts at least this far from it
ZERO = 1e-4  # a diagonal element of the whitened Lambda below this is tried at exactly 0
ROUNDING = 1e-12  # an element of Lambda that is zero but for the way to z and back
STEP = 1e-3  # of the differences that give the Hessian, in standard errors
RUNAWAY = 50.0  # a standard deviation of group effects no data on these scales can tell from infinity
SPAN = 0.1, 10.0  # standard deviations on the scale of the linear predictor between which other minima are looked for
TINY = 0.01  # of a standard deviation that is as good as 0, where exactly 0 would be stationary
POINTS, LEAST_POINTS, DESCENTS = 16, 8, 3  # points for each dimension up to three
MANY, POINTS_MANY, DESCENTS_MANY = 4, 48, 8  # dimensions from which there are more basins
LARGE, FEW = 6.0, 150  # so few zeros and ones may fit best where effects determine them: a start from there as well
POINTS_TIMES_SIZE = 10_000  # rows and effects: none where a value costs more, and more rows leave fewer minima
FLAT = 1e-8  # an eigenvalue of the Hessian, relative to the largest, that is not positive


def fit_generalised(
    design: Design, family: str, link: str, nodes: int = 1, start: np.ndarray | None = None
) -> GeneralisedMixedFit:
    """Fit by the Laplace approximation, or by adaptive quadrature with ``nodes`` > 1 for one scalar term.

    start: theta in lme4's order, for tests and refits.  FitError for separation (no estimate exists), DesignError for a
    variance that the data cannot tell; whether the search succeeded is data, in ``convergence`` and ``singular``."""
    return fit_rows(design, rows_of(design), family, link, nodes, start)


def rows_of(design: Design) -> WeightedProblem:
    """The design's predictors, ready for any weights and any response."""
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    with suitable_threads(SHORT):  # many short steps: threads would only spin
        return prepare(design.X[:, design.estimable], terms)


def criterion_of(rows: WeightedProblem, likelihood: Likelihood, design: Design, nodes: int) -> LaplaceCriterion:
    """The function of (theta, beta) that a fit minimises."""
    offset = np.zeros(design.nobs) if design.offset is None else np.asarray(design.offset, dtype=float)
    if nodes == 1:
        return LaplaceCriterion(rows, likelihood, offset)
    return QuadratureCriterion(rows, likelihood, offset, nodes)


def fit_rows(
    design: Design,
    rows: WeightedProblem,
    family: str,
    link: str,
    nodes: int = 1,
    start: np.ndarray | None = None,
    auxiliary: tuple[float, ...] | None = None,
) -> GeneralisedMixedFit:
    """As ``fit_generalised``, with the predictors prepared before: refits share them.

    auxiliary: the family's further parameters, on scales without ends, where the search starts."""
    likelihood = likelihood_of(design, family, link)
    nodes = check_nodes(design, nodes)
    _check_identifiable(design, likelihood)
    criterion = criterion_of(rows, likelihood, design, nodes)
    offset = criterion.offset
    with suitable_threads(max(rows.problem.n_dense, SHORT)):
        criterion.set_auxiliary(np.array(first_auxiliary(likelihood, offset) if auxiliary is None else auxiliary))
        criterion.start_at(scoring(criterion.likelihood, rows.Q, offset, names_of(design, rows.problem.R))[0])
        starts = _first_stage(criterion, start)
        if start is None and likelihood.record.kind == "binary" and _size(rows) <= FEW:
            starts += [(x, np.zeros(0)) for x in _where_effects_determine(rows.problem.template)]
        found = [_second_stage(criterion, *one) for one in starts]
        search, best = found[0]
        for other_search, other in found[1:]:
            if better(other, best):
                search, best = other_search, other
        z = _at_the_boundary(search, best)
        return _record(design, criterion, nodes, search, best, z)


def _check_identifiable(design: Design, likelihood: Likelihood) -> None:
    """Counts may have a level for every row (overdispersion); one measurement, or one 0 or 1, tells no variance."""
    for block in design.structured_blocks:
        raise UnsupportedError(
            f"{block.term}: by maximum likelihood generalised models take free covariances only. Write ({block.text}), "
            f"or diag({block.text})"
        )
    for block in design.blocks:
        if np.all(likelihood.trials == 1) and likelihood.record.kind != "count" and len(block.levels) == design.nobs:
            binary = likelihood.record.kind == "binary"
            raise DesignError(
                f"every level of {block.factor!r} in ({block.text}) has a single response{' of 0 or 1' * binary}: the "
                "variance between levels cannot be told from that of the response. Use a coarser factor"
                f"{', or counts with p(k, n)' * binary}"
            )
        if len(block.levels) < 2:
            raise DesignError(f"grouping factor {block.factor!r} has one level: a variance needs at least two")


def _first_stage(criterion: LaplaceCriterion, start: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, a) with beta at the joint mode: the lowest minimum and, without a start, the next one nearly as good.

    Which of them is the lower one when beta is free, only the second stage can tell."""
    rows = criterion.rows
    problem = rows.problem
    diagonal = problem.template.diagonal()
    a = np.array(criterion.likelihood.auxiliary)

    def objective(both: np.ndarray) -> tuple[float, np.ndarray]:
        found = criterion(both[: len(diagonal)], None, both[len(diagonal) :])
        return found.value, np.concatenate([found.x, found.a])

    def search(x: np.ndarray, weighted: Problem) -> Minimum:
        curvature = np.concatenate([curvature_guess(weighted, x), np.full(len(a), max(1.0, 0.1 * problem.n))])
        return minimise(objective, np.concatenate([x, a]), curvature, max_evaluations=200)

    unit = criterion.likelihood.unit
    x = diagonal * START * unit if start is None else problem.x_from_theta(np.asarray(start, dtype=float))
    mode = criterion.mode(x, None)
    if mode is None:
        raise FitError("the conditional modes could not be found at the start: rescale predictors or drop terms")
    weighted = rows.reweighted(mode.derivatives.expected)
    found = [search(x, weighted)]
    if start is None:
        a = found[0].x[len(diagonal) :]
        criterion.set_auxiliary(a)
        for further in _further_starts(criterion, replace(found[0], x=found[0].x[: len(diagonal)])):
            found.append(search(further, weighted))
    found.sort(key=lambda one: one.value)
    places = [in_z(problem.template, one.x[: len(diagonal)] / unit) for one in found]
    apart = [
        i
        for i, one in enumerate(found)
        if one.value < found[0].value + NEARLY and all(np.abs(places[i] - place).max() > CLOSE for place in places[:i])
    ]
    return [(found[i].x[: len(diagonal)], found[i].x[len(diagonal) :]) for i in apart[:2]]


def _second_stage(criterion: LaplaceCriterion, x: np.ndarray, a: np.ndarray) -> tuple[_Search, Minimum]:
    """The search over theta, beta and a together from a minimum of the first stage, and where it ends."""
    diagonal = criterion.rows.problem.template.diagonal()
    away = AWAY * criterion.likelihood.unit
    x = np.where(diagonal & (np.abs(x) < away), away, x)
    criterion.set_auxiliary(a)
    mode = criterion.mode(x, None)
    if mode is None:
        raise FitError("the conditional modes could not be found: rescale predictors or drop terms")
    search = _Search(criterion, x, mode)
    return search, search.best()


def _where_effects_determine(template: Template) -> list[np.ndarray]:
    """x with large standard deviations of all group effects, and of one term's after the other."""
    diagonal = template.diagonal()
    starts = [diagonal * LARGE]
    for part in template.slices if len(template.slices) > 1 else ():
        one = np.zeros(len(diagonal), dtype=bool)
        one[part] = True
        starts.append(diagonal * np.where(one, LARGE / 2.0, AWAY))
    return starts


def _size(rows: WeightedProblem) -> int:
    """Rows and group effects."""
    return rows.problem.n + sum(factor.n_levels * factor.size for factor in rows.problem.factors)


def _further_starts(criterion: LaplaceCriterion, best: Minimum) -> np.ndarray:
    """(S, n_theta) basins other than that of ``best``; few, for they cost.

    Those that points spread over all Lambdas show, and edges: without each block in turn, and without all of them."""
    template = criterion.rows.problem.template
    points, descents = (POINTS_MANY, DESCENTS_MANY) if len(best.x) >= MANY else (POINTS * len(best.x), DESCENTS)
    count = min(points, POINTS_TIMES_SIZE // _size(criterion.rows))
    if count < LEAST_POINTS:
        return np.empty((0, len(best.x)))
    graph = topograph(template.sizes, template.order, count, SPAN)
    unit = criterion.likelihood.unit
    places, here, tiny = graph.points * unit, in_z(template, best.x / unit), template.diagonal() * TINY * unit
    edges = [tiny]
    for part in template.slices if len(template.slices) > 1 else ():
        edge = best.x.copy()
        edge[part] = tiny[part]
        edges.append(edge)
    level = np.full(count + len(edges), np.inf)
    with np.errstate(all="ignore"):  # where the linear predictor leaves floating point there is no mode
        for s, x in enumerate([*places, *edges]):
            mode = criterion.mode(x, None)
            if mode is not None:
                level[s] = laplace_value(mode)
    low = [
        edge
        for edge, value in zip(edges, level[count:], strict=True)
        if value < best.value + NEARLY and np.abs(in_z(template, edge / unit) - here).max() > CLOSE
    ]
    return np.array([*low, *places[graph.minima(level[:count], here, best.value)[:descents]]])


class _Search:
    """The second stage, over z: (x, gamma, a) = centre + T z, T from the curvature at the first stage's answer."""

    def __init__(self, criterion: LaplaceCriterion, x: np.ndarray, mode: Mode) -> None:
        self.criterion, self.n_x, self.unit = criterion, len(x), criterion.likelihood.unit
        problem = criterion.rows.problem
        m_z, p = problem.cross.n_tail_effects, problem.p
        a = np.array(criterion.likelihood.auxiliary)
        self.n_gamma = self.n_x + p
        self.centre = np.concatenate([x, mode.gamma, a])
        weighted = criterion.rows.reweighted(mode.derivatives.expected)
        self.T = np.zeros((len(self.centre), len(self.centre)))
        self.T[: self.n_x, : self.n_x] = np.diag(np.sqrt(2.0 / curvature_guess(weighted, x)).clip(max=self.unit))
        if p:
            L = mode.expected.L[m_z : m_z + p, m_z : m_z + p]
            self.T[self.n_x : self.n_gamma, self.n_x : self.n_gamma] = solve_triangular(L, np.eye(p), lower=True).T
        self.T[self.n_gamma :, self.n_gamma :] = np.diag(self._scales_of_auxiliary(x, mode.gamma, a))

    def _scales_of_auxiliary(self, x: np.ndarray, gamma: np.ndarray, a: np.ndarray) -> np.ndarray:
        """(K,) standard errors, the rest held."""
        scales = np.ones(len(a))
        for k in range(len(a)):
            step = np.eye(len(a))[k] * STEP
            rise = self.criterion(x, gamma, a + step).a - self.criterion(x, gamma, a - step).a
            if np.isfinite(rise).all() and rise[k] > 0:
                scales[k] = min(1.0, float(np.sqrt(2.0 / (rise[k] / (2.0 * STEP)))))
        self.criterion.set_auxiliary(a)
        return scales

    def point(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, gamma and a."""
        both = self.centre + self.T @ z
        return both[: self.n_x], both[self.n_x : self.n_gamma], both[self.n_gamma :]

    def at(self, x: np.ndarray, gamma: np.ndarray, a: np.ndarray) -> np.ndarray:
        """z of a point."""
        return np.linalg.solve(self.T, np.concatenate([x, gamma, a]) - self.centre)

    def objective(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """The criterion and its gradient with respect to z."""
        found = self.criterion(*self.point(z))
        return found.value, self.T.T @ np.concatenate([found.x, found.gamma, found.a])

    def best(self) -> Minimum:
        """A search from the first stage's answer; another from larger variances when it ends singular or unproved."""
        curvature = np.full(len(self.centre), 2.0)
        best = minimise(self.objective, np.zeros(len(self.centre)), curvature)
        diagonal = self.criterion.rows.problem.template.diagonal()
        x, gamma, a = self.point(best.x)
        if best.convergence.converged and np.abs(x[diagonal]).min() >= 1e-3 * self.unit:
            return best
        other = minimise(self.objective, self.at(diagonal * self.unit, gamma, a), curvature)
        evaluations = best.convergence.evaluations + other.convergence.evaluations
        if better(other, best):
            best = replace(other, convergence=replace(other.convergence, second_start=True))
        return replace(best, convergence=replace(best.convergence, evaluations=evaluations))

    def inverse_hessian(self, z: np.ndarray) -> np.ndarray | None:
        """Of the criterion with respect to (x, gamma, a), by central differences of the gradient; None if not positive.

        A further parameter that the data say nothing about, as where it has run to its boundary, is left out: inf on
        the diagonal."""
        rows = []
        for i in range(len(z)):
            step = np.zeros(len(z))
            step[i] = STEP
            rows.append((self.objective(z + step)[1] - self.objective(z - step)[1]) / (2.0 * STEP))
        hessian = 0.5 * (np.array(rows) + np.array(rows).T).reshape(len(z), len(z))
        known = np.ones(len(z), dtype=bool)
        known[self.n_gamma :] = np.diag(hessian)[self.n_gamma :] > UNKNOWN * np.diag(self.T)[self.n_gamma :] ** 2
        kept = hessian[np.ix_(known, known)]
        if not np.isfinite(kept).all():
            return None
        values = np.linalg.eigvalsh(kept)
        if values[0] <= FLAT * values[-1]:
            return None
        inverse = np.zeros_like(hessian)
        inverse[np.ix_(known, known)] = np.linalg.inv(kept)
        found = self.T @ inverse @ self.T.T
        found[~known, ~known] = np.inf
        return found


def _at_the_boundary(search: _Search, best: Minimum) -> np.ndarray:
    """z with columns of Lambda whose diagonal is as good as zero put to zero exactly, if the criterion agrees."""
    template = search.criterion.rows.problem.template
    x, gamma, a = search.point(best.x)
    blocks, changed, zero = template.unpack(x), False, ZERO * search.unit
    for Lam in blocks:
        for j in range(len(Lam)):
            if 0 < abs(Lam[j, j]) < zero:
                Lam[j:, j] = np.where(np.abs(Lam[j:, j]) < zero, 0.0, Lam[j:, j])
                changed = True
    if not changed:
        return best.x
    z = search.at(template.pack(blocks), gamma, a)
    return z if search.objective(z)[0] <= best.value + 1e-7 else best.x


def _record(
    design: Design,
    criterion: LaplaceCriterion,
    nodes: int,
    search: _Search,
    best: Minimum,
    z: np.ndarray,
) -> GeneralisedMixedFit:
    """Everything read off the factor at the optimum."""
    rows = criterion.rows
    inverse = search.inverse_hessian(z)
    x, gamma, a = search.point(z)
    x = np.where(np.abs(x) < ROUNDING * search.unit, 0.0, x)
    criterion.set_auxiliary(a)
    likelihood = criterion.likelihood
    problem = rows.problem
    Lambda = tuple(positive_columns(Lam) for Lam in problem.lambdas_from_x(x))
    theta = problem.template.pack(Lambda)
    mode = criterion.mode(problem.x_from_theta(theta), gamma)
    if mode is None:
        raise FitError("the conditional modes could not be found again at the optimum")
    weighted = replace(rows.reweighted(mode.derivatives.weight), sigma_known=True)
    vcov_auxiliary = np.full((len(a), len(a)), np.nan)
    if inverse is not None:
        vcov_auxiliary = 2.0 * inverse[search.n_gamma :, search.n_gamma :]
    conditional_vcov = conditional.fixed_covariance(weighted, mode.expected)
    vcov, method = conditional_vcov, "conditional" if problem.p else "hessian"
    if inverse is not None and problem.p:
        back = solve_triangular(problem.R, np.eye(problem.p))
        vcov, method = back @ (2.0 * inverse[len(x) : search.n_gamma, len(x) : search.n_gamma]) @ back.T, "hessian"
    estimable = np.ix_(design.estimable, design.estimable)
    beta = np.full(len(design.common), np.nan)
    vcov_beta, vcov_conditional = np.full((2, len(beta), len(beta)), np.nan)
    beta[design.estimable] = solve_triangular(problem.R, gamma) if problem.p else gamma
    vcov_beta[estimable], vcov_conditional[estimable] = vcov, conditional_vcov
    nulls = tuple(null_directions(Lam, rms) for Lam, rms in zip(Lambda, problem.rms, strict=True))
    modes = conditional.modes_by_block(problem, mode.b)
    random = rows.combine(mode.b)
    return GeneralisedMixedFit(
        design=design,
        likelihood=likelihood,
        problem=weighted,
        nodes=nodes,
        theta=theta,
        theta_names=theta_names(design, problem),
        Lambda=Lambda,
        beta=beta,
        vcov_beta=vcov_beta,
        vcov_conditional=vcov_conditional,
        vcov_method=method,
        auxiliary=likelihood.auxiliary,
        vcov_auxiliary=vcov_auxiliary,
        criterion=criterion.value_of(mode),
        npar=problem.p + len(theta) + len(a),
        convergence=_judged(design, Lambda, [scale / search.unit for scale in problem.rms], best.convergence),
        singular=any(null.shape[1] > 0 for null in nulls),
        null_directions=nulls,
        modes=modes,
        population_eta=mode.eta - random,
        eta=mode.eta,
        fitted=likelihood.mean(mode.eta),
        iterations=mode.iterations,
    )


def _judged(design: Design, Lambda: tuple[np.ndarray, ...], rms: list[np.ndarray], found: Convergence) -> Convergence:
    """The search's verdict, unless a variance ran away: there the criterion is flat, and flat is not a minimum.

    rms: of each column of each block, in units."""
    for block, Lam, scale in zip(design.blocks, Lambda, rms, strict=True):
        if found.converged and (scale * np.sqrt(np.square(Lam).sum(axis=1))).max() > RUNAWAY:
            message = (
                f"a standard deviation between levels of {block.factor} grows without limit: within its levels the "
                "outcomes hardly vary"
            )
            return replace(found, status="gradient", message=message)
    return found
