"""What the groups' coefficients would be at other spreads of the groups: from complete to no pooling.

Sigma of one grouping factor is held at s^2 times its estimate and everything else follows: s = 0 is complete pooling,
s = 1 the fit, and as s grows each group is left to its own rows.  The curves are those of Rubin (1981), J. Educ. Stat.
6(4), and of Gelman et al. (2013), Bayesian Data Analysis, figure 5.6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.errors import ArgumentError, ArgumentTypeError, FitError, UnsupportedError
from hiermod.fits.tables import check_group, coef_terms
from hiermod.formula.design import Design
from hiermod.inference.groups.pooled_lines import line_variable, pooled_lines
from hiermod.kernel import conditional

LARGEST = 1e4  # beyond it a group's own estimate and its fit agree to eight digits, and rounding sets in
NO_POOLING = 100.0  # the largest scale drawn: a group with some information is its own to 1 part in 10,000


@dataclass(frozen=True, eq=False)
class SpreadPath:
    """Estimates at each held spread, for a REML or ML fit.

    estimates: scale, level, term, sd (of the term's effects, held), estimate (fixef + ranef).  criterion: index scale,
    what the fit minimises, at that spread.  rest: (other common coefficients, scale).  sds: the spread at scale 1."""

    design: Design
    group: str
    terms: tuple[str, ...]
    sds: pd.Series
    estimates: pd.DataFrame
    criterion: pd.Series
    rest: pd.DataFrame
    at_fit: bool  # scale 1 is the fit itself; False where the fit's own spread is singular
    pooled: bool  # the fit's own sds are all 0: it is scale 0

    def lines(self, x: str | None = None) -> pd.DataFrame:
        """scale, level, x, estimate: each level's line at each spread, over the range of all data.

        Raises ArgumentError where the model has no numeric predictor, UnknownNameError."""
        x = line_variable(self.design, x)
        own = self.estimates.rename(columns={"scale": "method"})
        table = pooled_lines(self.design, check_group(self.design, self.group), own, self.rest, x)
        return table.rename(columns={"method": "scale"})


def spread_path(fit: Any, group: str | None = None, scales: Sequence[float] | None = None) -> SpreadPath:
    """The groups' coefficients with the sds of ``group`` (default: the first) held at ``scales`` times the fit's.

    scales: numbers from 0 to 10,000; by default 0 and 60 values from 0.01 to 100.  Held are sds over sigma, with the
    correlations and the other factors' sds over sigma as fitted; beta is estimated again.  Where the fit's own spread
    is singular (an sd of 0, a correlation of 1) no multiple of it is no pooling: scale 1 is then, for each term by
    itself, the fitted sd or, where that is 0, the one whose effects vary as much as the residuals.

    Raises ArgumentTypeError for other fits, UnsupportedError without groups, ArgumentError for a scale."""
    record = getattr(fit, "record", None)
    if not isinstance(record, MixedFit):
        if hasattr(fit, "design") and not fit.design.blocks:
            raise UnsupportedError(f"{fit.formula!r} has no group effects to pool: add a term such as (1 | g)")
        raise ArgumentTypeError(
            f"pooling at other spreads takes a linear REML or ML fit, what m.reml() returns, got {type(fit).__name__}"
        )
    if scales is None:
        scales = [0.0, *np.geomspace(0.01, NO_POOLING, 60)]
    held = [float(scale) for scale in scales]
    if not held or len(set(held)) != len(held) or not all(0 <= scale <= LARGEST for scale in held):
        raise ArgumentError(f"scales must be different numbers from 0 to {LARGEST:g}, got {scales!r}")
    design = record.design
    factor = check_group(design, group)[0].factor
    blocks = check_group(design, factor)
    at_fit, Lambda = _base(record, factor)
    labels = [label for block in blocks for label in block.labels]
    terms = [term for term in coef_terms(design, blocks) if term in labels]
    square = {term: 0.0 for term in terms}
    for block in blocks:
        Sigma = record.sigma**2 * Lambda[design.blocks.index(block)] @ Lambda[design.blocks.index(block)].T
        for label, value in zip(block.labels, Sigma.diagonal(), strict=True):
            square[label] += float(value)
    sds = pd.Series({term: np.sqrt(value) for term, value in square.items()}, name="sd")
    others = [label for label in design.common if label not in terms]
    pieces, criterion, rest = [], {}, {}
    for scale in held:
        beta, coef, criterion[scale] = _held(record, Lambda, factor, terms, scale)
        rest[scale] = beta.reindex(others).fillna(0.0)
        levels, J = np.asarray(blocks[0].levels, dtype=object), len(blocks[0].levels)
        columns: dict[str, Any] = {"scale": scale, "level": np.repeat(levels, len(terms)), "term": np.tile(terms, J)}
        columns |= {"sd": np.tile(scale * sds.to_numpy(), J), "estimate": coef.ravel()}
        pieces.append(pd.DataFrame(columns))
    return SpreadPath(
        design=design,
        group=factor,
        terms=tuple(terms),
        sds=sds,
        estimates=pd.concat(pieces, ignore_index=True),
        criterion=pd.Series(criterion, name="criterion").rename_axis("scale"),
        rest=pd.DataFrame(rest, index=others),
        at_fit=at_fit,
        pooled=not any(record.Lambda[design.blocks.index(block)].any() for block in blocks),
    )


def _base(record: MixedFit, factor: str) -> tuple[bool, list[np.ndarray]]:
    """Lambda of every block at scale 1; for a singular one of ``factor`` a diagonal of full rank."""
    at_fit, Lambda = True, []
    for block, Lam, rms, null in zip(
        record.design.blocks, record.Lambda, record.problem.rms, record.null_directions, strict=True
    ):
        own = np.array(Lam)
        if block.factor == factor and null.shape[1]:
            at_fit = False
            sd = np.sqrt((own @ own.T).diagonal())
            own = np.diag(np.where(sd > 0, sd, 1.0 / np.asarray(rms)))
        Lambda.append(own)
    return at_fit, Lambda


def _held(
    record: MixedFit, Lambda: list[np.ndarray], factor: str, terms: list[str], scale: float
) -> tuple[pd.Series, np.ndarray, float]:
    """beta by label, the levels' coefficients (J, terms), the criterion: all with ``factor``'s Lambda times scale."""
    design, problem = record.design, record.problem
    at = [scale * Lam if b.factor == factor else Lam for b, Lam in zip(design.blocks, Lambda, strict=True)]
    found = problem.factorise(problem.template.pack(at))
    if found is None:
        raise FitError(f"the equations at {scale:g} times the spread of {factor} could not be factorised")
    estimated, modes = conditional.coefficients(problem, found)
    names = [label for label, used in zip(design.common, design.estimable, strict=True) if used]
    beta = pd.Series(estimated, index=names, dtype=float)
    mine = [(block, b) for block, b in zip(design.blocks, modes, strict=True) if block.factor == factor]
    coef = np.tile([float(beta.get(term, 0.0)) for term in terms], (len(mine[0][1]), 1))
    for block, b in mine:
        for column, label in enumerate(block.labels):
            coef[:, terms.index(label)] += b[:, column]
    return beta, coef, problem.value(found, record.reml)
