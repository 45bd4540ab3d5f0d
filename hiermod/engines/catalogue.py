"""Every Bayesian engine, and which one draws: the one asked for by name, or the cheapest without an obstacle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hiermod.core import versions
from hiermod.engines.engine import Engine, Method, Sampling, Specification
from hiermod.engines.marginal.engine import MARGINAL
from hiermod.engines.nuts.engine import NUTPIE, PYMC, SAMPLERS
from hiermod.engines.posterior import Posterior
from hiermod.engines.whitened.engine import WHITENED
from hiermod.errors import ArgumentError, UnsupportedError, nearest

ENGINES: tuple[Engine, ...] = (MARGINAL, WHITENED, *SAMPLERS)
AUTO, AS_ASKED = "auto", "as asked"


@dataclass(frozen=True)
class Choice:
    """The engine that is to run, and what made it so (put behind the engine's own reason)."""

    engine: Engine
    because: str

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        """Its posterior; ``settings`` are those of ``Engine.run``."""
        record = self.engine.run(model, sampling, **settings)
        told = record.inference.reason
        said = self.because == AS_ASKED and told != self.engine.reason  # how it came to what it did, in its own words
        if said or not self.because:
            return record
        return replace(record, inference=replace(record.inference, reason=f"{told}, {self.because}"))


def engine_named(name: str) -> Engine:
    """The engine of that name.  ArgumentError with the nearest name where there is none."""
    found = {engine.name: engine for engine in ENGINES}
    if name not in found:
        names = (AUTO, *found)
        raise ArgumentError(f"inference_method is {name!r}.{nearest(name, names)} There are {', '.join(names)}")
    return found[name]


def choose(name: str, model: Specification) -> Choice:
    """The engine for ``inference_method=name``.

    UnsupportedError where the one asked for has an obstacle, where all have one, or where a package is missing: another
    engine would give other draws for the same seed, so "auto" does not look at what is installed."""
    if name != AUTO:
        engine = engine_named(name)
        check_installed(engine)
        obstacle = engine.obstacle(model)
        if obstacle is not None:
            raise UnsupportedError(obstacle + engine.way_out)
        return Choice(engine, AS_ASKED)
    told: list[str] = []
    for engine in sorted(ENGINES, key=lambda one: one.cost(model)):  # equal costs: as listed
        obstacle = engine.obstacle(model)
        if obstacle is None:
            check_installed(engine)
            return Choice(engine, ", and ".join(told))
        told.append(f"since {engine.hindrance}{obstacle}")
    raise UnsupportedError(f"no engine can draw from this posterior, {', and '.join(told)}")


def check_installed(engine: Engine) -> None:
    """UnsupportedError, with what to install, where a package that the engine runs on is missing."""
    missing = [package for package in engine.needs if not versions.has_package(package)]
    if missing:
        other = next(one.name for one in (NUTPIE, PYMC) if one is not engine)
        raise UnsupportedError(
            f"inference_method={engine.name!r} needs {' and '.join(missing)}, which is not installed. Run "
            f"{engine.pip_install}, or use inference_method={other!r}"
        )


def method_named(name: str) -> Method:
    """How a posterior's draws came about, in words, by the name in ``fit.inference.method``."""
    found = {method.name: method for engine in ENGINES for method in engine.methods}
    return found.get(name, Method(name, name, f"The posterior was sampled by {name}"))
