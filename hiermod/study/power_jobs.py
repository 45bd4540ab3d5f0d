"""The work behind a power curve: chunks of fits, each with random numbers of its own.

A chunk's stream depends on seed, sample size and chunk alone, so neither the number of processes nor an interruption
changes a number, and more fits or more sizes can be added to those there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hiermod.priors.gaussian import GaussianPriors
from hiermod.study.simulated_fits import SimulatedFits, posterior_of
from hiermod.study.simulation import Simulator
from hiermod.study.term_tests import p_of_draws, p_of_ratio, p_of_test, term_columns, without

CHUNK = {"satterthwaite": 25, "kenward-roger": 25, "wald": 25, "lrt": 25, "bayes": 2}
COLUMNS = ("p", "estimate", "singular", "converged")  # of a chunk, one value for each fit


class Job(NamedTuple):
    """Some fits of one sample size."""

    fits: int
    size: int
    chunk: int


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a process needs.  simulators, priors: by sample size."""

    simulators: Mapping[int, Simulator]
    priors: Mapping[int, GaussianPriors]
    term: str | None
    method: str
    draws: int
    seed: int


class PowerWorker:
    """Simulates and fits the chunks of a plan."""

    source: Any

    def __init__(self, plan: Plan) -> None:
        self.source = self.plan = plan
        self._kits: dict[int, tuple[Any, ...]] = {}

    def _kit(self, size: int) -> tuple[Any, ...]:
        """(columns of the term, fits, fits under the null hypothesis), prepared once for each size."""
        if size not in self._kits:
            plan, simulator = self.plan, self.plan.simulators[size]
            columns = term_columns(simulator.design, plan.term)
            fits = null = None
            if plan.method != "bayes":
                fits = SimulatedFits(simulator, reml=plan.method != "lrt")
            if plan.method == "lrt":
                null = SimulatedFits(simulator, reml=False, design=without(simulator.design, columns))
            self._kits[size] = columns, fits, null
        return self._kits[size]

    def run(self, job: Job) -> dict[str, Any]:
        """The chunk as a record for a checkpoint: COLUMNS, None where undefined, and messages."""
        simulator = self.plan.simulators[job.size]
        rng = np.random.default_rng(np.random.SeedSequence(self.plan.seed, spawn_key=(1, job.size, job.chunk)))
        streams = rng.spawn(job.fits)  # does not move rng
        Y = np.array([simulator.response(rng) for _ in range(job.fits)])
        found: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, "messages")}
        rows = self._bayes(job.size, Y, streams) if self.plan.method == "bayes" else self._tests(job.size, Y)
        for p, estimate, singular, converged, message in rows:
            found["p"].append(p if np.isfinite(p) else None)
            found["estimate"].append(estimate if np.isfinite(estimate) else None)
            found["singular"].append(bool(singular))
            found["converged"].append(bool(converged))
            if message:
                found["messages"].append(message)
        return {"size": job.size, "chunk": job.chunk, **found}

    def _tests(self, size: int, Y: np.ndarray) -> Any:
        columns, fits, null = self._kit(size)
        used = columns & fits.design.estimable
        small = null.each(Y) if null is not None else iter([None] * len(Y))
        for large, other in zip(fits.each(Y), small, strict=True):
            wrong = next((one for one in (large, other) if isinstance(one, Exception)), None)
            if wrong is not None:
                yield np.nan, np.nan, False, False, str(wrong)
                continue
            converged = all(getattr(one, "converged", True) for one in (large, other))  # least squares has no search
            message = "" if converged else "the search did not end at a minimum"
            estimate = float(large.beta[used][0]) if used.sum() == 1 else np.nan
            if other is not None:
                p = p_of_ratio(large, other, int(used.sum()))
            else:
                p = p_of_test(large, columns, self.plan.method)
            yield p, estimate, getattr(large, "singular", False), converged, message

    def _bayes(self, size: int, Y: np.ndarray, streams: list[np.random.Generator]) -> Any:
        columns, _, _ = self._kit(size)
        design, priors = self.plan.simulators[size].design, self.plan.priors[size]
        for y, rng in zip(Y, streams, strict=True):
            record = posterior_of(design, y, priors, self.plan.draws, rng)
            if isinstance(record, Exception):
                yield np.nan, np.nan, False, False, str(record)
                continue
            words = record.inference.messages
            estimate = float(record.beta[..., columns].mean())
            yield p_of_draws(record, columns), estimate, False, not words, " ".join(words)


def chunks(size: int, fits: int, method: str) -> list[Job]:
    """The jobs of one sample size."""
    step = CHUNK[method]
    return [Job(min(step, fits - start), size, i) for i, start in enumerate(range(0, fits, step))]


def is_chunk(record: Mapping[str, Any]) -> bool:
    """Whether a record of a checkpoint is what ``PowerWorker.run`` gives: a file can hold anything."""
    kinds = {"p": (float, type(None)), "estimate": (float, type(None)), "singular": (bool,), "converged": (bool,)}
    columns = [record.get(name) for name in COLUMNS]
    return (
        all(type(record.get(name)) is int for name in ("size", "chunk"))
        and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns)  # type: ignore[arg-type]
        and all(type(one) in kinds[name] for name in COLUMNS for one in record[name])
        and all(one is None or 0.0 <= one <= 1.0 for one in record["p"])
        and isinstance(record.get("messages"), list)
        and all(isinstance(one, str) for one in record["messages"])
    )
