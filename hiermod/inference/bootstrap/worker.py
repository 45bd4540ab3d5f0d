"""One process's share of a bootstrap: simulate a chunk of responses and refit them, in stacks where stacks pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.engines.likelihood.least_squares import LinearFit, loglik_of
from hiermod.engines.likelihood.many_refits import search_all
from hiermod.engines.likelihood.many_responses import chunk_size, stack
from hiermod.engines.likelihood.mixed import MixedFit, fit_problem
from hiermod.engines.likelihood.refit import Products, Responses, simulated, with_response
from hiermod.errors import HiermodError
from hiermod.inference.profile.curves import parameters_of
from hiermod.inference.profile.deviance import Parameter
from hiermod.kernel.conditioning import condition
from hiermod.kernel.stacks import rows_solve, rows_times

ALONE = 10  # draws of a chunk whose refits are made one by one
AT_ONCE = 500  # of a linear model's, which have a closed form
ROWS = 4_000_000  # numbers that the simulated responses of one chunk may hold

Fit = MixedFit | LinearFit


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some draws' results, in order."""

    values: np.ndarray
    criterion: np.ndarray
    converged: np.ndarray
    failed: np.ndarray
    messages: tuple[str, ...]


class Worker:
    """All that a process needs to work on any chunk."""

    source: Any  # the fit; a worker is made again from it in another process

    def __init__(self, fit: Fit) -> None:
        self.source = self.fit = fit
        known = fit.design.precision.sigma_known
        if isinstance(fit, MixedFit):
            self.parameters = parameters_of(fit)
            self.responses = Responses(fit.design, fit.problem)
            self.stacked = 0 if fit.design.structured_blocks else chunk_size(fit.problem)
            self.start = fit.problem.x_from_theta(fit.theta)
        else:
            fixed = tuple(Parameter("fixed", i=i) for i in range(int(fit.design.estimable.sum())))
            self.parameters = fixed if known else (*fixed, Parameter("sigma"))
            self.stacked = AT_ONCE

    @property
    def chunk(self) -> int:
        """How many draws one job takes."""
        return min(self.stacked or ALONE, max(1, ROWS // self.source.design.nobs))

    def jobs(self, draws: int, seed: int) -> list[tuple[int, np.random.Generator]]:
        """(how many draws, their random numbers) of every chunk."""
        counts = [min(self.chunk, draws - start) for start in range(0, draws, self.chunk)]
        return list(zip(counts, np.random.default_rng(seed).spawn(len(counts)), strict=True))

    def run(self, job: tuple[int, np.random.Generator]) -> Chunk:
        """Simulate a chunk and refit it."""
        count, rng = job
        return self.refits(self.simulate(count, rng))

    def simulate(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, n) responses from the fit."""
        return simulated(self.fit, count, rng)

    def refits(self, Y: np.ndarray) -> Chunk:
        """Refit each row of Y (S, n)."""
        if not isinstance(self.fit, MixedFit):
            return self._least_squares(self.fit, Y)
        count = len(Y)
        values = np.full((count, len(self.parameters)), np.nan)
        criterion, converged = np.full(count, np.nan), np.zeros(count, dtype=bool)
        left, messages = list(range(count)), []
        products = self.responses.products(Y)
        if self.stacked:
            left = self._stack(self.fit, products, values, criterion, converged)
        for s in left:
            try:
                problem = self.responses.problem_with(products, s)
                again = fit_problem(with_response(self.fit.design, Y[s]), problem, self.fit.reml, self.fit.theta)
            except (HiermodError, np.linalg.LinAlgError) as error:
                messages.append(str(error))
                continue
            values[s], criterion[s], converged[s] = self.estimates(again), again.criterion, again.converged
            if not again.converged:
                messages.append(again.convergence.message)
        return Chunk(values, criterion, converged, ~np.isfinite(criterion), tuple(messages))

    def _least_squares(self, fit: LinearFit, Y: np.ndarray) -> Chunk:
        """All at once: only the products with y differ."""
        design, (n, p) = fit.design, (len(fit.fitted), int(fit.design.estimable.sum()))
        rows = condition(design.y, design.X[:, design.estimable], (), design.precision, design.offset)
        R = design.precision.whiten_responses(Y if design.offset is None else Y - design.offset)
        gamma = rows_times(R, rows.Q)
        rss = np.square(R - rows_times(gamma, rows.Q.T)).sum(axis=1)
        m = n - p if fit.reml else n
        sigma = np.ones(len(Y)) if fit.sigma_known else np.sqrt(rss / m)
        beta = rows_solve(rows.R, gamma)
        logdet = 2.0 * float(np.log(np.abs(np.diag(rows.R))).sum()) if fit.reml else 0.0
        criterion = -2.0 * loglik_of(m, rss, design.precision.logdet, logdet, fit.sigma_known)
        good = np.isfinite(criterion)
        return Chunk(self._columns([], beta, sigma), criterion, good, ~good, ())

    def estimates(self, fit: Any) -> np.ndarray:
        """(q,) in the order of the parameters."""
        blocks = getattr(fit, "covariance", ())
        beta = fit.beta[fit.design.estimable]
        return self._columns([block[None] for block in blocks], beta[None], np.array([fit.sigma]), fit)[0]

    def _columns(
        self, covariances: list[np.ndarray], beta: np.ndarray, sigma: np.ndarray, fit: Any = None
    ) -> np.ndarray:
        """(S, q) from covariances (S, k, k) per block, beta (S, p), sigma (S,); one fit has its further parameters."""
        sds = [np.sqrt(np.einsum("saa->sa", block)) for block in covariances]
        columns = []
        for parameter in self.parameters:
            if parameter.kind == "fixed":
                columns.append(beta[:, parameter.i])
            elif parameter.kind == "sigma":
                columns.append(sigma)
            elif parameter.kind == "auxiliary":
                columns.append(np.array([fit.likelihood.natural(parameter.i, fit.auxiliary[parameter.i])]))
            elif parameter.kind == "sd":
                columns.append(sds[parameter.block][:, parameter.i])
            else:
                i, j, sd = parameter.i, parameter.j, sds[parameter.block]
                scale = sd[:, i] * sd[:, j]
                ratio = covariances[parameter.block][:, i, j] / np.where(scale > 0, scale, 1.0)
                columns.append(np.where(scale > 0, ratio.clip(-1.0, 1.0), np.nan))
        return np.stack(columns, axis=1)

    def _stack(
        self, fit: MixedFit, products: Products, values: np.ndarray, criterion: np.ndarray, converged: np.ndarray
    ) -> list[int]:
        """Fill in all that a stack of searches settles; returns the draws that need a search of their own."""
        problem = fit.problem
        found = search_all(stack(problem, products), fit.reml, self.start)
        n = problem.n - problem.p if fit.reml else problem.n
        sigma = np.ones(len(values)) if problem.sigma_known else np.sqrt(found.pwrss / n)
        covariances = []
        for Lam in problem.lambdas_from_x(found.x):
            half = sigma[:, None, None] * Lam
            covariances.append(half @ np.swapaxes(half, 1, 2))
        gamma = products.gamma + found.gamma
        beta = rows_solve(problem.R, gamma)
        at = np.flatnonzero(found.proven)
        values[at] = self._columns(covariances, beta, sigma)[at]
        criterion[at], converged[at] = found.value[at], True
        return [int(s) for s in np.flatnonzero(~found.proven)]
