"""Where a fit comes from, gathered when it is saved or reported: versions, time, and every prior as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.formula.design import Design
from hiermod.output.storage.fingerprint import BAYESIAN, SOFTWARE, Origin, data_fingerprint, package_versions
from hiermod.priors.distributions import Distribution, is_bambi_prior
from hiermod.priors.gaussian import GaussianPriors
from hiermod.priors.given import PriorSet

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit


def origin_of(fit: Fit) -> Origin:
    """The origin that a fit was loaded with; for one made in this process, the versions that run now."""
    if fit.origin is not None:
        return fit.origin
    bayesian = isinstance(fit, BayesianFit)
    how: dict[str, Any] = {}
    if isinstance(fit, BayesianFit):
        model = fit.model
        if fit.priors is not None:
            how["priors"] = gaussian_texts(fit.design, fit.priors)
        elif model is not None:
            how["priors"] = {one.parameter: one.text for one in model._prior_entries()}
        if model is not None:
            how |= {"center_predictors": model.center_predictors, "noncentered": model.noncentered}
            how["given"] = plain_priors(model._priors)
    return Origin(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=package_versions((*SOFTWARE, *BAYESIAN) if bayesian else SOFTWARE),
        data=data_fingerprint(fit.design),
        **how,
    )


def plain_priors(priors: PriorSet) -> PriorSet | None:
    """The priors without Bambi's objects; None where one is made by a function, which no file holds."""
    try:
        given = {
            key: Distribution.from_bambi(one, key) if is_bambi_prior(one) else one for key, one in priors.given.items()
        }
    except (UnsupportedError, TypeError, ValueError):
        return None
    return PriorSet(given, dict(priors.eta))


def gaussian_texts(design: Design, priors: GaussianPriors) -> dict[str, str]:
    """The priors of a Gaussian model, from its numbers.  The intercept's is at the predictors' means if ``centred``."""
    found = {}
    for name, mean, sd in zip(design.common, priors.mean, priors.sd, strict=True):
        found[name] = f"Normal({mean:.6g}, {sd:.6g})" if np.isfinite(sd) else "Flat()"
    if priors.sigma is not None:
        found["sigma"] = f"fixed at {priors.sigma:g}" if isinstance(priors.sigma, float) else priors.sigma.text(6)
    for block, sds, eta in zip(design.blocks, priors.sds, priors.eta, strict=True):
        found |= {column.sd_name: prior.text(6) for column, prior in zip(block.columns, sds, strict=True)}
        if block.pairs:
            found[block.corr_name] = f"LKJ({eta:g})"
    return found
