"""The scores of a BayesianFit: which estimator applies, and the records that ``scores/`` computes from arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod import _versions
from hiermod.bayes.marginal_density import MarginalDensity, marginal_density
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.design import Design
from hiermod.results.tables import check_group
from hiermod.scores.estimable import check_estimable, flat_directions
from hiermod.scores.integrated import integrated
from hiermod.scores.phi import phi_from_draws
from hiermod.scores.pointwise import Pointwise, conditional_loo, waic
from hiermod.scores.record import Score, fingerprint, standard_error
from hiermod.scores.rows import Units, level_units, row_units, take_rows

if TYPE_CHECKING:
    from hiermod.results.bayesian import BayesianFit

AT_ONCE = 6_000_000  # draws x rows of log likelihood held at once
INTEGRATED = (
    "Gaussian model with Normal or flat priors on its common effects: common and group effects integrate out exactly"
)


def loo(fit: BayesianFit, how: bool | str = "auto") -> Score:
    """Leave-one-out by row.  how: "auto" integrates effects out where that is possible, True insists, False never."""
    if not (isinstance(how, bool | np.bool_) or how == "auto"):
        raise ArgumentError(f"integrated must be 'auto', True or False, got {how!r}")
    reason = "as asked"
    if how is not False:
        try:
            density = _density(fit)
        except UnsupportedError as error:
            if how is True:
                raise
            reason = f"group effects at their draws, since they cannot be integrated out: {error}"
        else:
            units = row_units(fit.design, flat_directions(density, fit.design))
            return _integrated(fit, density, units, "loo", "row", tuple(fit.design.index))
    return _conditional(fit, "loo", reason)


def logo(fit: BayesianFit, group: str) -> Score:
    """Leave-one-group-out: the joint density of all rows of each level, given all others."""
    block = check_group(fit.design, group)[0]
    try:
        density = _density(fit)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"leave-one-group-out needs the group effects integrated out: {error}. The likelihood at fitted effects "
            "of a level that is left out would not be its predictive density; refit without each level instead"
        ) from error
    units = level_units(fit.design, block.codes, len(block.levels), flat_directions(density, fit.design))
    return _integrated(fit, density, units, "logo", group, block.levels)


def waic_score(fit: BayesianFit) -> Score:
    """WAIC of rows, at the draws of all effects."""
    return _conditional(fit, "waic", "WAIC is defined by the variance of log p(y_i | all parameters, effects included)")


def _density(fit: BayesianFit) -> MarginalDensity:
    """UnsupportedError, saying why, where effects do not integrate out."""
    if fit.family != "gaussian" or fit.link != "identity":
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
    phi = phi_from_draws(density.coordinates, record.sd, record.corr, record.sigma) if density.coordinates.d else None
    if phi is None:
        phi = np.zeros((*record.shape, 0))
    found = integrated(density, fit.design, units, phi, fit.inference.seed)
    return _score(
        fit, criterion, unit, labels, found.elpd, found.log_seen - found.elpd, found.k, found.mcse,
        estimator="integrated", reason=INTEGRATED, own_proposals=found.own,
        draws=(found.draws, record.shape[0] * record.shape[1]),
    )  # fmt: skip


def _conditional(fit: BayesianFit, criterion: Any, reason: str) -> Score:
    compute = conditional_loo if criterion == "loo" else waic
    count = fit.record.shape[0] * fit.record.shape[1]
    step = max(1, AT_ONCE // count)
    n = fit.design.nobs
    parts = [compute(_log_likelihood(fit, slice(start, start + step))) for start in range(0, n, step)]
    found = Pointwise(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("elpd", "p", "k", "mcse")))
    return _score(
        fit, criterion, "row", tuple(fit.design.index), found.elpd, found.p, found.k, found.mcse,
        estimator="conditional", reason=reason, own_proposals=(),
    )  # fmt: skip


def _score(
    fit: BayesianFit, criterion: Any, unit: str, labels: tuple[Any, ...],
    elpd: np.ndarray, p: np.ndarray, k: np.ndarray, mcse: np.ndarray, **rest: Any,
) -> Score:  # fmt: skip
    design: Design = fit.design
    return Score(
        criterion=criterion, unit=unit, labels=labels,
        elpd=float(elpd.sum()), se=standard_error(elpd), p=float(p.sum()),
        elpd_i=elpd, pareto_k=k, mcse_i=mcse, p_i=p,
        nobs=design.nobs, data=fingerprint(design.y, design.trials), response=design.response, **rest,
    )  # fmt: skip


def _log_likelihood(fit: BayesianFit, rows: slice) -> np.ndarray:
    """log p(y_i | all parameters) of some rows, (c, d, rows)."""
    design = fit.design
    if fit.family == "gaussian" and fit.link == "identity" and design.special is None:
        from hiermod.bayes.idata import log_likelihood

        return log_likelihood(fit.record, take_rows(design, np.arange(design.nobs)[rows]))
    if fit.record.idata is None or "log_likelihood" not in _versions.group_names(fit.record.idata):
        raise UnsupportedError(
            f"the log likelihood of each row is not stored with this fit of family {fit.family!r}. Add it with "
            "model.bambi.compute_log_likelihood(fit.idata), model being the Model that was fitted, and ask again"
        )
    dataset = _versions.group_dataset(fit.record.idata, "log_likelihood")
    array = next(iter(dataset.data_vars.values())).transpose("chain", "draw", ...)
    values = np.asarray(array.values, dtype=float).reshape(*fit.record.shape, -1)
    if values.shape[-1] != design.nobs:
        raise UnsupportedError(
            f"the stored log likelihood has {values.shape[-1]} values per draw and the fit {design.nobs} rows, so rows "
            "cannot be scored one by one"
        )
    return values[..., rows]
