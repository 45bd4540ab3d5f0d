"""Responses simulated from a generalised fit, and refits to other responses (lme4's simulate, refit and bootMer).

The predictors' part of a refit, whitened columns and where their products go, does not depend on the response and is
prepared once.  A refit of counts out of trials keeps the trials."""

from __future__ import annotations

import numpy as np

from hiermod.errors import DataError, HiermodError
from hiermod.formula.design import Design
from hiermod.frequentist.bootstrap_worker import Chunk, Worker
from hiermod.frequentist.generalised import fit_rows, rows_of
from hiermod.frequentist.generalised_record import GeneralisedMixedFit
from hiermod.frequentist.glm import GeneralisedLinearFit, fit_glm
from hiermod.frequentist.held import Parameter
from hiermod.frequentist.profile_curves import parameters_of
from hiermod.frequentist.refit import check_response, with_response
from hiermod.kernel.weighted import WeightedProblem

GeneralisedRecord = GeneralisedMixedFit | GeneralisedLinearFit


def simulated(fit: GeneralisedRecord, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n) new responses, group effects drawn anew; of counts the successes.

    A draw's numbers do not depend on how many follow it."""
    fixed = np.array(fit.population_eta if isinstance(fit, GeneralisedMixedFit) else fit.eta)
    Lambda = fit.Lambda if isinstance(fit, GeneralisedMixedFit) else ()
    Y = np.empty((draws, fit.design.nobs))
    for y in Y:
        eta = fixed.copy()
        for block, Lam in zip(fit.design.blocks, Lambda, strict=True):
            b = rng.standard_normal((len(block.levels), block.size)) @ Lam.T
            eta += (block.values * b[block.codes]).sum(axis=1)
        mean = fit.likelihood.mean(eta)
        poisson = fit.likelihood.family == "poisson"
        y[:] = rng.poisson(mean) if poisson else rng.binomial(fit.likelihood.trials.astype(np.int64), mean)
    return Y


def refit(fit: GeneralisedRecord, y: object) -> GeneralisedRecord:
    """The same model for another response (n,), successes for counts out of trials.

    DataError for a response that the family cannot have; otherwise as ``fit_generalised`` and ``check_response``."""
    values = check_response(fit.design, y)
    trials, label = fit.likelihood.trials, fit.design.response
    if fit.likelihood.family == "binomial" and ((values < 0) | (values > trials) | (values != np.round(values))).any():
        raise DataError(f"the new {label} must hold whole numbers of successes between 0 and the trials of each row")
    design = with_response(fit.design, values)
    if isinstance(fit, GeneralisedLinearFit):
        return fit_glm(design, fit.likelihood.family, fit.likelihood.link)
    return _again(fit, design, rows_of(design))


def _again(fit: GeneralisedMixedFit, design: Design, rows: WeightedProblem) -> GeneralisedMixedFit:
    """From the fit's own theta, but away from the boundary, where every start would be stationary."""
    found = fit_rows(design, rows, fit.likelihood.family, fit.likelihood.link, fit.nodes, _inside(fit))
    return found if found.converged else fit_rows(design, rows, fit.likelihood.family, fit.likelihood.link, fit.nodes)


def _inside(fit: GeneralisedMixedFit) -> np.ndarray:
    """theta with whitened diagonal elements of at least 0.1."""
    problem = fit.problem
    x = problem.x_from_theta(fit.theta)
    return problem.theta_from_x(np.where(problem.template.diagonal(), np.maximum(np.abs(x), 0.1), x))


class GeneralisedWorker(Worker):
    """``Worker`` for generalised fits: every response is refitted by a search of its own."""

    def __init__(self, fit: GeneralisedRecord) -> None:
        self.source = fit
        self.parameters: tuple[Parameter, ...] = parameters_of(fit)
        self.stacked = 0
        self.rows = rows_of(fit.design) if isinstance(fit, GeneralisedMixedFit) else None

    def simulate(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, n)."""
        return simulated(self.source, count, rng)

    def refits(self, Y: np.ndarray) -> Chunk:
        """Refit each row of Y.  A response that separates the predictors has no estimate: it failed."""
        count = len(Y)
        values, criterion = np.full((count, len(self.parameters)), np.nan), np.full(count, np.nan)
        converged, messages = np.zeros(count, dtype=bool), []
        fit = self.source
        for s, y in enumerate(Y):
            design = with_response(fit.design, y)
            try:
                if isinstance(fit, GeneralisedMixedFit) and self.rows is not None:
                    again: GeneralisedRecord = _again(fit, design, self.rows)
                else:
                    again = fit_glm(design, fit.likelihood.family, fit.likelihood.link)
            except (HiermodError, np.linalg.LinAlgError) as error:
                messages.append(str(error))
                continue
            values[s], criterion[s], converged[s] = self.estimates(again), again.criterion, again.converged
            if isinstance(again, GeneralisedMixedFit) and not again.converged:
                messages.append(again.convergence.message)
        return Chunk(values, criterion, converged, ~np.isfinite(criterion), tuple(messages))
