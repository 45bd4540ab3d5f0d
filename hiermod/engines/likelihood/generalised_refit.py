"""Responses simulated from a generalised fit, and refits to other responses (lme4's simulate and refit).

A refit of counts out of trials keeps the trials."""

from __future__ import annotations

import numpy as np

from hiermod.engines.likelihood.generalised import fit_rows, rows_of
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit, fit_glm
from hiermod.engines.likelihood.refit import check_response, with_response
from hiermod.errors import DataError
from hiermod.families.binomial import outside_trials
from hiermod.formula.design import Design
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
        y[:] = fit.likelihood.draw(eta, rng)
    return Y


def refit(fit: GeneralisedRecord, y: object) -> GeneralisedRecord:
    """The same model for another response (n,), successes for counts out of trials.

    DataError for a response that the family cannot have; otherwise as ``fit_generalised`` and ``check_response``."""
    values = check_response(fit.design, y)
    trials, label = fit.likelihood.trials, fit.design.response
    if fit.likelihood.record.out_of_trials and outside_trials(values, trials).any():
        raise DataError(f"the new {label} must hold whole numbers of successes between 0 and the trials of each row")
    design = with_response(fit.design, values)
    if isinstance(fit, GeneralisedLinearFit):
        return fit_glm(design, fit.likelihood.family, fit.likelihood.link)
    return refit_rows(fit, design, rows_of(design))


def refit_rows(fit: GeneralisedMixedFit, design: Design, rows: WeightedProblem) -> GeneralisedMixedFit:
    """From the fit's own theta, but away from the boundary, where every start would be stationary."""
    family, link, auxiliary = fit.likelihood.family, fit.likelihood.link, fit.likelihood.auxiliary
    found = fit_rows(design, rows, family, link, fit.nodes, _inside(fit), auxiliary)
    return found if found.converged else fit_rows(design, rows, family, link, fit.nodes)


def _inside(fit: GeneralisedMixedFit) -> np.ndarray:
    """theta with whitened diagonal elements of at least 0.1."""
    problem = fit.problem
    x = problem.x_from_theta(fit.theta)
    return problem.theta_from_x(np.where(problem.template.diagonal(), np.maximum(np.abs(x), 0.1), x))
