"""One design, many simulated responses, each fitted as if it were the data.

What the predictors and groups contribute is prepared once; a fit costs little more than its search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hiermod.engines.likelihood.generalised import fit_rows, rows_of
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.least_squares import fit_linear
from hiermod.engines.likelihood.mixed import check_identifiable, fit_problem, problem_of
from hiermod.engines.likelihood.refit import Responses
from hiermod.engines.marginal.density import marginal_density
from hiermod.engines.marginal.engine import sample_marginal
from hiermod.engines.posterior import Posterior
from hiermod.errors import HiermodError, UnsupportedError
from hiermod.families.catalogue import FAMILIES, GENERALISED, is_linear
from hiermod.formula.design import Design
from hiermod.kernel.covariance import positive_columns
from hiermod.kernel.criterion import Problem
from hiermod.priors.gaussian import GaussianPriors, gaussian_priors
from hiermod.priors.given import PriorSet
from hiermod.study.simulation import Simulator

TYPICAL = 100  # responses whose mean and sd stand for those of the data where default priors need them
CHAINS = 4

Outcome = Any  # a record of a fit, or the HiermodError (or LinAlgError) that came instead


class SimulatedFits:
    """Fits on one design.  reml: REML where the family has it, else maximum likelihood."""

    def __init__(self, simulator: Simulator, reml: bool = True, design: Design | None = None) -> None:
        """design: another one for the same rows, such as that of the null hypothesis.

        Raises DesignError for a design whose variances cannot be estimated, UnsupportedError for a family without
        maximum likelihood."""
        self.design = simulator.design if design is None else design
        self.family, self.link, self.reml = simulator.family, simulator.link, reml
        self.gaussian = is_linear(self.family, self.link)
        self.rows: Any = None
        if self.gaussian and self.design.blocks:
            check_identifiable(self.design)
            pilot = replace(self.design, y=simulator.response(np.random.default_rng(0)))
            self.problem = problem_of(pilot)
            self.responses = Responses(pilot, self.problem)
            self.start = _true_theta(simulator, self.design, self.problem)
        elif not self.gaussian and not FAMILIES[self.family].generalised(self.link):
            raise UnsupportedError(
                f"many fits by REML or ML are for Gaussian models with identity link and for families "
                f"{', '.join(GENERALISED)}; got family {self.family!r} with link {self.link!r}"
            )
        elif not self.gaussian and self.design.blocks:
            self.rows = rows_of(self.design)

    def each(self, Y: np.ndarray) -> Iterator[Outcome]:
        """The record of every row of Y (S, n), in order."""
        products = self.responses.products(Y) if self.gaussian and self.design.blocks else None
        for s, y in enumerate(Y):
            design = replace(self.design, y=y)
            try:
                if products is not None:
                    yield fit_problem(design, self.responses.problem_with(products, s), self.reml, self.start)
                elif self.gaussian:
                    yield fit_linear(design, self.reml)
                elif self.rows is not None:
                    yield fit_rows(design, self.rows, self.family, self.link)
                else:
                    yield fit_glm(design, self.family, self.link)
            except (HiermodError, np.linalg.LinAlgError) as error:
                yield error


def _true_theta(simulator: Simulator, design: Design, problem: Problem) -> np.ndarray | None:
    """lme4's theta of the simulated truth, from which every search starts; None where the design has other blocks."""
    if [block.size for block in design.blocks] != [len(root) for root in simulator.roots]:
        return None
    sigma = simulator.sigma if simulator.sigma > 0 else 1.0
    lower = [np.transpose(np.linalg.qr(root.T / sigma)[1]) for root in simulator.roots]
    return problem.template.pack([positive_columns(Lam) for Lam in lower])


def posterior_of(
    design: Design, y: np.ndarray, priors: GaussianPriors, draws: int, rng: np.random.Generator
) -> Posterior | Exception:
    """The marginal posterior of one response, ``draws`` in each of four chains."""
    data = replace(design, y=y)
    try:
        return sample_marginal(marginal_density(data, priors), data, draws=draws, chains=CHAINS, random_seed=rng)
    except (HiermodError, np.linalg.LinAlgError) as error:
        return error


def frozen_priors(simulator: Simulator, priors: PriorSet, seed: int) -> GaussianPriors:
    """The priors as numbers, the same for every response: defaults are scaled to the mean and sd of a typical one.

    Typical: the mean, and the root mean square of the sd, over 100 simulated responses."""
    design = simulator.design
    if not (is_linear(simulator.family, simulator.link)):
        raise UnsupportedError(
            f"many Bayesian fits are for Gaussian models, whose effects integrate out; family {simulator.family!r} "
            "needs minutes of sampling for each data set. Use methods=('ML',), or method='wald' or 'lrt'"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    Y = np.array([simulator.response(rng) for _ in range(TYPICAL)])
    spread = np.sqrt(Y.var(axis=1).mean())
    first = Y[0] - Y[0].mean()
    y = Y.mean() + first * (spread / first.std()) if first.std() > 0 else Y[0]
    return gaussian_priors(replace(design, y=y), priors)
