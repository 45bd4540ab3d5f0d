"""What a Bayesian engine is: a way to draw from the posterior of a model, with what keeps it from doing so.

An engine is a value with the fields and methods of ``Engine``; catalogue.py lists them all, and everything that names
or chooses engines asks that list.  An engine sees a ``Specification``, never a Model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from hiermod.engines.marginal.density import MarginalDensity, density_of
from hiermod.engines.posterior import Posterior
from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of
from hiermod.priors.given import PriorSet


class Graph(NamedTuple):
    """A built Bambi model under the names of hiermod's tables, and how its group effects are centred, in words."""

    model: Any
    centring: str


@dataclass(frozen=True, eq=False)
class Specification:
    """A model as engines see it: the data it is about, its law, its priors, and how to build its PyMC graph.

    ``graph`` builds it when called (seconds, and memory); the model keeps what was built."""

    design: Design
    family: Any
    link: Any
    priors: PriorSet
    center_predictors: bool
    graph: Callable[[], Graph]

    @cached_property
    def density(self) -> MarginalDensity:
        """The posterior density of the variance parameters, effects integrated out; made once.

        UnsupportedError, saying why, where it has no closed form."""
        return density_of(self.design, self.family, self.link, self.priors, self.center_predictors)

    @property
    def n_effects(self) -> int:
        """Common coefficients and group effects, those of further parameters' formulas included."""
        designs = (self.design, *parts_of(self.design).values())
        return sum(len(one.common) + sum(len(b.levels) * b.size for b in one.blocks) for one in designs)

    @property
    def n_variances(self) -> int:
        """Sds and correlations of the group effects, and the residual sd."""
        designs = (self.design, *parts_of(self.design).values())
        return sum(b.size * (b.size + 1) // 2 for one in designs for b in one.blocks) + int(
            not self.design.precision.sigma_known
        )


@dataclass(frozen=True, eq=False)
class Sampling:
    """What every engine is asked for: how many draws of how many chains, from which seed, and how it is shown."""

    draws: int = 1000
    chains: int = 4
    random_seed: int | np.random.Generator | None = None
    progressbar: bool = True
    cores: int | None = None


@dataclass(frozen=True)
class Method:
    """How draws came about, for people to read; what ``fit.inference.method`` names."""

    name: str
    title: str  # in the first line of a summary
    sentence: str  # in a report; "{effects}" stands for the effects of the model
    transitions: bool = False  # whether there are transitions of Hamiltonian dynamics, which can diverge
    software: Mapping[str, str] = field(default_factory=dict)  # packages that a report cites -> their names in print


class Engine(Protocol):
    """A way to draw from the posterior.  What differs between engines stands here and nowhere else."""

    @property
    def name(self) -> str:
        """What ``inference_method=`` calls it."""

    @property
    def reason(self) -> str:
        """Why one takes it, which ``fit.inference.reason`` begins with."""

    @property
    def hindrance(self) -> str:
        """What ``fit.inference.reason`` of another engine says before the obstacle of this one."""

    @property
    def way_out(self) -> str:
        """What an error says behind the obstacle, to somebody who asked for this engine."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every way in which its draws can come about."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Packages it imports when it runs, and ``pip_install`` brings."""

    @property
    def pip_install(self) -> str:
        """The command that brings them."""

    @property
    def software(self) -> tuple[str, ...]:
        """Packages besides hiermod, numpy and scipy on whose versions the draws depend."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings of its own (``tune``) and what None stands for, where the draws depend on them."""

    def obstacle(self, model: Specification) -> str | None:
        """Why it cannot draw from this model's posterior, in words, or None.

        Of model and data alone: what is not installed is told when the engine is to run, since another engine in its
        place would give the same seed other draws."""

    def cost(self, model: Specification) -> float:
        """Number of coordinates that its Markov chains move, times the time of a gradient relative to nutpie's.

        A rule of model and data alone, the same on every machine: "auto" takes the cheapest."""

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        """The posterior.  The same seed gives the same draws whatever ``sampling.cores``.

        settings: those that a person gave besides; ArgumentError, naming it, for one that the engine does not have."""


@runtime_checkable
class RefittingEngine(Engine, Protocol):
    """An engine that draws without some rows as quickly as with them: it has nothing to compile for a model."""

    def run_without(
        self,
        model: Specification,
        left_out: np.ndarray,
        /,
        draws: int,
        chains: int,
        tune: int,
        seed: int,
        cores: int | None,
    ) -> Posterior:
        """The posterior given the other rows; priors, centring, contrasts and levels stay those of all rows.

        FitError where there is none to be had; draws that fall short say so in ``inference.messages``."""
