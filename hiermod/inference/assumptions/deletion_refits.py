"""Leave-one-group-out by refitting: every estimate, variance parameters too, from the other rows (lme4's influence()).

A refit starts at the fit's own theta.  One that fails (a coefficient or a variance that the other rows cannot tell) is
nan with a sentence, never a stop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hiermod.core.jobs import run_jobs
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.least_squares import LinearFit, fit_linear
from hiermod.engines.likelihood.mixed import MixedFit, fit_mixed
from hiermod.errors import HiermodError, listing
from hiermod.formula.design import Block, Design
from hiermod.formula.rank import estimable_columns
from hiermod.inference.assumptions.deletion import Deletion, held_deletion, measured
from hiermod.inference.assumptions.leverage import Record


@dataclass(frozen=True, eq=False)
class Refitted:
    """One refit: coefficients (p,), their covariance (p, p), variance parameters (q,); a message or none."""

    beta: np.ndarray
    vcov: np.ndarray
    parameters: np.ndarray
    message: str


def refitted_deletion(
    record: Record, design: Design, codes: np.ndarray, labels: tuple[str, ...], cores: int = 1
) -> Deletion:
    """Leave out each unit and fit again.  Leverages are those of the fit.  The numbers do not depend on ``cores``."""
    held = held_deletion(record, design, codes, labels)
    U = len(labels)
    found = run_jobs(DeletionWorker((record, design, codes)), range(U), cores)
    change = np.asarray(record.beta) - np.array([one.beta for one in found])
    parameters = variance_parameters(record) - np.array([one.parameters for one in found]).reshape(U, -1)
    kept = design.estimable
    V = np.array([one.vcov for one in found])[:, kept][:, :, kept]
    measures, dfbetas = np.full((3, U), np.nan), np.full(change.shape, np.nan)
    good = np.isfinite(V).all(axis=(1, 2)) & np.isfinite(change[:, kept]).all(axis=1)
    if good.any() and kept.any():
        moved = change[:, kept][good]
        V_all = np.asarray(record.vcov_beta)[np.ix_(kept, kept)]
        measures[:, good], standardised = measured(moved, V[good], V_all)
        dfbetas[np.ix_(good, kept)] = standardised
    told = [f"without {name}: {one.message}" for name, one in zip(labels, found, strict=True) if one.message]
    return replace(
        held,
        cooks_distance=measures[0],
        mdffits=measures[1],
        covratio=measures[2],
        change=change,
        dfbetas=dfbetas,
        parameters=parameters,
        messages=tuple(told),
    )


def variance_parameters(record: Record) -> np.ndarray:
    """(q,) sds and correlations by block, then sigma where it is estimated: the order of ``parameters()``."""
    values: list[float] = []
    if isinstance(record, MixedFit | GeneralisedMixedFit):
        for block, cov in zip(record.design.blocks, record.covariance, strict=True):
            sd = np.sqrt(np.diag(cov))
            with np.errstate(invalid="ignore", divide="ignore"):
                values += [*sd, *(cov[i, j] / (sd[i] * sd[j]) for i, j in block.pairs)]
    if isinstance(record, MixedFit | LinearFit) and not record.sigma_known:
        values.append(record.sigma)
    return np.array(values)


def without(design: Design, out: np.ndarray) -> Design:
    """The design without the rows ``out`` (n,) and without levels that have no other row."""
    left = np.flatnonzero(~out)
    X = design.X[left]
    # A column that the other rows explain is known by those before it; the fit's own columns keep their rank here.
    degree = np.array([term.count(":") for term in design.common_terms], dtype=int)
    estimable = design.estimable.copy()
    estimable[estimable] = estimable_columns(X[:, estimable], degree[estimable])

    def some(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[left]

    return replace(
        design,
        y=design.y[left],
        X=X,
        estimable=estimable,
        blocks=tuple(_fewer(block, left) for block in design.blocks),
        frame=design.frame.iloc[left],
        trials=some(design.trials),
        offset=some(design.offset),
        weights=some(design.weights),
        se=some(design.se),
    )


def _fewer(block: Block, left: np.ndarray) -> Block:
    present, codes = np.unique(block.codes[left], return_inverse=True)
    levels = tuple(block.levels[level] for level in present)
    return replace(block, codes=codes.reshape(-1), levels=levels, values=block.values[left])


def _one(record: Record, design: Design, out: np.ndarray) -> Refitted:
    """Fit without some rows."""
    p, q = len(design.common), len(variance_parameters(record))
    try:
        found = _fit(record, without(design, out))
    except HiermodError as error:
        return Refitted(np.full(p, np.nan), np.full((p, p), np.nan), np.full(q, np.nan), str(error))
    message = ""
    if isinstance(found, MixedFit | GeneralisedMixedFit) and not found.converged:
        message = f"did not converge ({found.convergence.message})"
    lost = [name for name, value in zip(design.common, np.isnan(found.beta) & design.estimable, strict=True) if value]
    if lost:
        message = f"the data say nothing about {listing(lost)}"
    return Refitted(np.array(found.beta), np.array(found.vcov_beta), variance_parameters(found), message)


def _fit(record: Record, design: Design) -> Record:
    if isinstance(record, MixedFit):
        return fit_mixed(design, record.reml, start=record.theta)
    if isinstance(record, LinearFit):
        return fit_linear(design, record.reml)
    family, link = record.likelihood.family, record.likelihood.link
    if isinstance(record, GeneralisedMixedFit):
        return fit_generalised(design, family, link, record.nodes, start=record.theta)
    return fit_glm(design, family, link)


class DeletionWorker:
    """Refits without one unit as work for processes."""

    def __init__(self, source: tuple[Record, Design, np.ndarray]) -> None:
        self.source = source

    def run(self, unit: int) -> Refitted:
        """The refit without the rows whose code is ``unit``."""
        record, design, codes = self.source
        return _one(record, design, codes == unit)
