"""One process's share of the bootstrap of a generalised fit (lme4's bootMer).

The predictors' part of a refit, whitened columns and where their products go, does not depend on the response and is
prepared once.  A refit of counts out of trials keeps the trials."""

from __future__ import annotations

import numpy as np

from hiermod.engines.likelihood.generalised import rows_of
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.generalised_refit import GeneralisedRecord, refit_rows, simulated
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.refit import with_response
from hiermod.errors import HiermodError
from hiermod.inference.bootstrap.worker import Chunk, Worker
from hiermod.inference.profile.curves import parameters_of
from hiermod.inference.profile.deviance import Parameter


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
                    again: GeneralisedRecord = refit_rows(fit, design, self.rows)
                else:
                    again = fit_glm(design, fit.likelihood.family, fit.likelihood.link)
            except (HiermodError, np.linalg.LinAlgError) as error:
                messages.append(str(error))
                continue
            values[s], criterion[s], converged[s] = self.estimates(again), again.criterion, again.converged
            if isinstance(again, GeneralisedMixedFit) and not again.converged:
                messages.append(again.convergence.message)
        return Chunk(values, criterion, converged, ~np.isfinite(criterion), tuple(messages))
