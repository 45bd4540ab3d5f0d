"""The work behind a recovery study: data from known parameters, fitted by each method, one row of numbers per fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.posterior import Posterior
from hiermod.errors import HiermodError
from hiermod.formula.design import Design
from hiermod.inference.bootstrap.bootstrap import worker_of
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite
from hiermod.inference.intervals import parameter_name
from hiermod.inference.profile.curves import profile
from hiermod.priors.gaussian import GaussianPriors
from hiermod.study.simulated_fits import SimulatedFits, posterior_of
from hiermod.study.simulation import Simulator

CHUNK = {"REML": 10, "ML": 10, "Bayes": 2}
THIN = 10  # of a chain's draws one is ranked: those are as good as independent
RANKED = 99  # draws that a true value is ranked among: ranks 0 to 99, bins of equal size


class Job(NamedTuple):
    """Some fits by one method, of the simulated data sets start, start + 1, ..."""

    fits: int
    method: str
    start: int


@dataclass(frozen=True, eq=False)
class Study:
    """All that a process needs.  drawn: None, or data (fits, n) and parameters (fits, q) drawn from the priors."""

    simulator: Simulator
    names: tuple[str, ...]  # q parameters
    priors: GaussianPriors | None
    profile: bool
    level: float
    draws: int
    seed: int
    drawn: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True, eq=False)
class Fits:
    """Numbers of c fits by one method; nan where a fit failed or has no such number."""

    method: str
    start: int
    estimate: np.ndarray  # (c, q)
    std_error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    rank: np.ndarray  # (c, q) of the true value among RANKED posterior draws
    failed: np.ndarray  # (c,) bool
    converged: np.ndarray
    singular: np.ndarray
    messages: tuple[str, ...]


class RecoveryWorker:
    """Simulates and fits the chunks of a study."""

    source: Any

    def __init__(self, study: Study) -> None:
        self.source = self.study = study
        self._fits: dict[str, SimulatedFits] = {}
        simulator = study.simulator
        self.truth = np.array([simulator.truth().get(name, np.nan) for name in study.names])

    def run(self, job: Job) -> Fits:
        """The fits of one chunk."""
        study = self.study
        q, c = len(study.names), job.fits
        values = {name: np.full((c, q), np.nan) for name in ("estimate", "std_error", "lower", "upper", "rank")}
        failed, converged, singular = (np.zeros(c, dtype=bool) for _ in range(3))
        messages = []
        streams = [
            np.random.default_rng(np.random.SeedSequence(study.seed, spawn_key=(1, job.start + i))) for i in range(c)
        ]
        if study.drawn is None:
            Y = np.array([study.simulator.response(rng) for rng in streams])
            truth = np.tile(self.truth, (c, 1))
        else:
            Y, truth = (part[job.start : job.start + c] for part in study.drawn)
        for i, record in enumerate(self._records(job.method, Y, streams)):
            if isinstance(record, Exception):
                failed[i] = True
                messages.append(str(record))
                continue
            rows = {name: part[i] for name, part in values.items()}
            if isinstance(record, Posterior):
                converged[i] = not record.inference.messages
                _read_posterior(record, study, truth[i], rows)
            else:
                converged[i], singular[i] = getattr(record, "converged", True), getattr(record, "singular", False)
                words = _read_fit(record, study, rows)
                messages += [words] if words else []
        return Fits(job.method, job.start, **values, failed=failed, converged=converged, singular=singular,
                    messages=tuple(messages))  # fmt: skip

    def _records(self, method: str, Y: np.ndarray, streams: Sequence[np.random.Generator]) -> Any:
        study = self.study
        if method == "Bayes":
            for y, rng in zip(Y, streams, strict=True):
                yield posterior_of(study.simulator.design, y, study.priors, study.draws, rng.spawn(1)[0])  # type: ignore[arg-type]
            return
        if method not in self._fits:
            self._fits[method] = SimulatedFits(study.simulator, reml=method == "REML")
        yield from self._fits[method].each(Y)


def _read_fit(record: Any, study: Study, rows: dict[str, np.ndarray]) -> str:
    """Estimates; t intervals of common effects (normal for generalised models), profile intervals where asked for.

    Returns what went wrong with the profiles."""
    worker = worker_of(record)
    at = [study.names.index(parameter_name(record.design, parameter)) for parameter in worker.parameters]
    rows["estimate"][at] = worker.estimates(record)
    used = record.design.estimable
    fixed = [study.names.index(name) for name, kept in zip(record.design.common, used, strict=True) if kept]
    se = np.sqrt(np.diag(record.vcov_beta)[used])
    if isinstance(record, MixedFit):
        df = satterthwaite(record).df(np.eye(len(fixed)))
    elif record.sigma_known:
        df = np.full(len(fixed), np.inf)
    else:
        df = np.full(len(fixed), float(record.df_residual))
    half = stats.t.ppf(0.5 + study.level / 2, np.where(np.isfinite(df), df, 1e12)) * se
    rows["std_error"][fixed] = se
    rows["lower"][fixed], rows["upper"][fixed] = rows["estimate"][fixed] - half, rows["estimate"][fixed] + half
    others = tuple(parameter for parameter in worker.parameters if parameter.kind != "fixed")
    if not (study.profile and others and hasattr(record, "theta")):
        return ""
    try:
        curves = profile(record, study.level, others).curves
    except (HiermodError, np.linalg.LinAlgError) as error:
        return f"profile: {error}"
    for curve in curves:
        i = study.names.index(parameter_name(record.design, curve.parameter))
        rows["lower"][i], rows["upper"][i] = curve.lower, curve.upper
    return ""


def _read_posterior(record: Posterior, study: Study, truth: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """Posterior means, sds, equal-tailed intervals, and the rank of the truth."""
    draws = parameter_draws(record, study.simulator.design)  # (chains, draws, q)
    flat = draws.reshape(-1, draws.shape[-1])
    rows["estimate"][:], rows["std_error"][:] = flat.mean(axis=0), flat.std(axis=0, ddof=1)
    rows["lower"][:], rows["upper"][:] = np.quantile(flat, [0.5 - study.level / 2, 0.5 + study.level / 2], axis=0)
    ranked = draws[:, THIN // 2 :: THIN].reshape(-1, draws.shape[-1])[:RANKED]
    if len(ranked) == RANKED:
        rows["rank"][:] = np.where(np.isfinite(truth), (ranked < truth).sum(axis=0), np.nan)


def parameter_draws(record: Posterior, design: Design) -> np.ndarray:
    """(chains, draws, q): common effects, each block's sds and correlations, sigma: as ``fit.parameters()``."""
    pieces = [record.beta]
    for block, sd, corr in zip(design.blocks, record.sd, record.corr, strict=True):
        pieces.append(sd)
        if corr is not None:
            pieces.append(corr[(..., *np.triu_indices(block.size, 1))])
    if record.sigma is not None:
        pieces.append(np.asarray(record.sigma)[..., None])
    return np.concatenate(pieces, axis=-1)


def chunks(methods: Sequence[str], fits: int) -> list[Job]:
    """The jobs of all methods; every method sees the same data."""
    return [Job(min(CHUNK[m], fits - start), m, start) for m in methods for start in range(0, fits, CHUNK[m])]
