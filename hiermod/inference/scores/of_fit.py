"""The scores of a BayesianFit: which estimator applies, and the records that ``scores/`` computes from arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core.checked import checked
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import is_linear
from hiermod.fits.tables import check_group
from hiermod.formula.design import Design
from hiermod.inference.scores.cross_validation import refit_units
from hiermod.inference.scores.estimable import check_estimable
from hiermod.inference.scores.integrated import integrated as integrated_scores
from hiermod.inference.scores.level_gaussian import gaussian_level_logs
from hiermod.inference.scores.level_quadrature import LevelLogs, check_quadrature, level_logs
from hiermod.inference.scores.pointwise import Pointwise, conditional_loo
from hiermod.inference.scores.pointwise import waic as pointwise_waic
from hiermod.inference.scores.record import MAX_K, Score
from hiermod.inference.scores.row_likelihood import AT_ONCE, row_log_likelihood
from hiermod.inference.scores.rows import Units, level_units, row_units
from hiermod.inference.scores.score_of_fit import make_score
from hiermod.inference.scores.smoothing import efficiency, leave_out, log_average

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

MOST_REFITS = 10  # units with a bad Pareto k that are refitted without being asked
INTEGRATED = (
    "Gaussian model with Normal or flat priors on its common effects: common and group effects integrate out exactly"
)


@checked
def loo(
    fit: BayesianFit, integrated: bool | str = "auto", refit_bad: bool | str = "auto", progressbar: bool = True
) -> Score:
    """Leave-one-out by row: elpd, se, p, and elpd and Pareto k per row.

    integrated: "auto" integrates common and group effects out exactly where the model allows it (Gaussian, Normal
    or flat priors on common effects), and the record says so; True insists (UnsupportedError); False never does.
    refit_bad: rows with Pareto k above 0.7 are scored by a refit without them: "auto" where effects are not
    integrated out and at most ten rows need it, True however many, False never."""
    _check_switch("integrated", integrated)
    _check_switch("refit_bad", refit_bad)
    reason = "as asked"
    if integrated is not False:
        try:
            density = _density(fit)
        except UnsupportedError as error:
            if integrated is True:
                raise
            reason = f"group effects at their draws, since they cannot be integrated out: {error}"
        else:
            units = row_units(fit.design, density)
            return _integrated(fit, density, units, "loo", "row", tuple(fit.design.index))
    score = _conditional(fit, "loo", reason)
    members = [np.array([i]) for i in range(fit.design.nobs)]
    if integrated is False and refit_bad == "auto":
        refit_bad = False
    return _with_refits(fit, score, members, refit_bad, progressbar)


@checked
def logo(fit: BayesianFit, group: str, refit_bad: bool | str = "auto", progressbar: bool = True) -> Score:
    """Leave-one-group-out: the joint density of all rows of each level of ``group``, given all other rows.

    The level's effects are integrated out: in closed form (Gaussian models), or by quadrature (bernoulli, binomial,
    poisson; one or two effects per level).  refit_bad: as in ``loo``.  UnsupportedError where neither is possible,
    DesignError where a level's removal leaves a coefficient with a flat prior without information."""
    block = check_group(fit.design, group)[0]
    _check_switch("refit_bad", refit_bad)
    try:
        density = _density(fit)
    except UnsupportedError as error:
        score = _one_level_at_a_time(fit, group, str(error))
        members = [np.flatnonzero(block.codes == level) for level in range(len(block.levels))]
        return _with_refits(fit, score, members, refit_bad, progressbar)
    units = level_units(fit.design, density, block.codes, len(block.levels))
    return _integrated(fit, density, units, "logo", group, block.levels)


@checked
def waic(fit: BayesianFit) -> Score:
    """WAIC by row, on the elpd scale, always at the draws of the effects.  ``loo`` is the safer of the two."""
    return _conditional(fit, "waic", "WAIC is defined by the variance of log p(y_i | all parameters, effects included)")


def _check_switch(name: str, value: bool | str) -> None:
    if not (isinstance(value, bool | np.bool_) or value == "auto"):
        raise ArgumentError(f"{name} must be 'auto', True or False, got {value!r}")


def _density(fit: BayesianFit) -> MarginalDensity:
    """UnsupportedError, saying why, where effects do not integrate out."""
    if not is_linear(fit.family, fit.link):
        raise UnsupportedError(f"family {fit.family!r} with link {fit.link!r} is not Gaussian with identity link")
    if fit.design.special is not None:
        raise UnsupportedError(f"the response {fit.design.response!r} has a likelihood of its own")
    if fit.priors is None:
        raise UnsupportedError("a prior of this model has no closed form (fit.inference.reason may say which)")
    return marginal_density(fit.design, fit.priors)


def _integrated(
    fit: BayesianFit, density: MarginalDensity, units: Units, criterion: Any, unit: str, labels: tuple[Any, ...]
) -> Score:
    check_estimable(units, labels, unit)
    record = fit.record
    phi = record.unconstrained_draws(density.coordinates)
    found = integrated_scores(density, fit.design, units, phi, fit.inference.seed)
    return make_score(
        fit, criterion, unit, labels, units.members, found.elpd, found.log_seen - found.elpd, found.k, found.mcse,
        estimator="integrated", reason=INTEGRATED, own_proposals=found.own,
        draws=(found.draws, record.shape[0] * record.shape[1]),
    )  # fmt: skip


def _conditional(fit: BayesianFit, criterion: Any, reason: str) -> Score:
    compute = conditional_loo if criterion == "loo" else pointwise_waic
    count = fit.record.shape[0] * fit.record.shape[1]
    n = fit.design.nobs
    logs = row_log_likelihood(fit)
    step = max(1, AT_ONCE // count)
    parts = [compute(logs(slice(start, start + step))) for start in range(0, n, step)]
    found = Pointwise(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("elpd", "p", "k", "mcse")))
    return make_score(
        fit, criterion, "row", tuple(fit.design.index), None, found.elpd, found.p, found.k, found.mcse,
        estimator="conditional", reason=reason,
    )  # fmt: skip


def _one_level_at_a_time(fit: BayesianFit, group: str, obstacle: str) -> Score:
    """Each level's own effects integrated out at draws of everything else: in closed form, or by quadrature."""
    design: Design = fit.design
    if is_linear(fit.family, fit.link) and design.special is None:
        logs, how = gaussian_level_logs(design, fit.record, group), "in closed form at draws of everything else"
        return _by_level(fit, group, logs, "integrated", f"since {obstacle}, only a level's own effects: {how}")
    try:
        likelihood = check_quadrature(design, group, fit.family, fit.link)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"leave-one-group-out needs the effects of the level that is left out to be integrated out. In closed form "
            f"they cannot be: {obstacle}. Nor by quadrature: {error}. The likelihood at fitted effects would not be "
            f'its predictive density; fit.kfold(k="all", group={group!r}) refits without each level instead'
        ) from error
    logs = level_logs(design, fit.record, group, likelihood)
    how = f"no closed form, since {obstacle}; a level's own effects by quadrature"
    return _by_level(fit, group, logs, "quadrature", how)


def _by_level(fit: BayesianFit, group: str, logs: LevelLogs, estimator: str, reason: str) -> Score:
    """PSIS over the draws, which the inverse of a level's integrated density weighs towards its absence."""
    block = next(block for block in fit.design.blocks if block.factor == group)
    share = efficiency(logs.integrated.T.reshape(*fit.record.shape, -1))
    found = leave_out(logs.integrated, share)
    return make_score(
        fit, "logo", group, block.levels, [np.flatnonzero(block.codes == j) for j in range(len(block.levels))],
        found.elpd, log_average(logs.at_draws) - found.elpd, found.k, found.mcse,
        estimator=estimator, reason=reason,
    )  # fmt: skip


def _with_refits(
    fit: BayesianFit, score: Score, members: list[np.ndarray], refit_bad: bool | str, progressbar: bool
) -> Score:
    """The score with its units of bad Pareto k from refits without them; "auto": where they are few."""
    bad = score.bad
    if refit_bad is False or not len(bad) or (refit_bad == "auto" and (fit.model is None or len(bad) > MOST_REFITS)):
        return score
    found = refit_units(fit, members, bad, progressbar=progressbar)
    seen = score.p_i + score.elpd_i
    elpd, k, mcse = (np.array(one) for one in (score.elpd_i, score.pareto_k, score.mcse_i))
    elpd[bad], k[bad], mcse[bad] = found.elpd, found.k, found.mcse
    again = make_score(
        fit, score.criterion, score.unit, score.labels, members, elpd, seen - elpd, k, mcse,
        estimator=score.estimator, reason=score.reason,
    )  # fmt: skip
    worst = np.nanmax(score.pareto_k)
    note = f"Pareto k was above {MAX_K} (up to {worst:.2f}) for the units that were refitted"
    return replace(again, refitted=tuple(int(u) for u in bad), notes=found.messages, reason=f"{score.reason}; {note}")
