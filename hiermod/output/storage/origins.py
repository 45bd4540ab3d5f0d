"""Where a fit comes from, gathered when it is saved or reported: versions, time, and every prior as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core import versions
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
            how["priors"] = graph_texts(fit.design, model._graph, model._priors)
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


def shown(prior: Any) -> str:
    """``HalfStudentT(nu=4, sigma=56.1762)``: six digits are for reading."""
    args = prior.args.items() if isinstance(prior.args, dict) else prior.args
    texts = [f"{name}={shown(value) if hasattr(value, 'args') else _digits(value)}" for name, value in args]
    return f"{prior.name}({', '.join(texts)})"


def _digits(value: Any) -> str:
    """A number, or a list of numbers: one where all are the same."""
    if not np.issubdtype(np.asarray(value).dtype, np.number):  # the transform of an ordinal response's thresholds
        return type(value).__name__.lower()
    numbers = list(dict.fromkeys(np.asarray(value, dtype=float).ravel().tolist()))
    if len(numbers) == 1:
        return f"{numbers[0]:.6g}"
    return "[" + ", ".join(f"{one:.6g}" for one in np.asarray(value, dtype=float).ravel()) + "]"


def graph_texts(design: Design, model: Any, priors: PriorSet) -> dict[str, str]:
    """The priors that Bambi put on the graph of ``model``, a built Bambi model, under Bambi's names."""
    parent = versions.bambi_parent(model)
    terms = {**parent.common_terms, **parent.group_specific_terms}
    if parent.intercept_term is not None:
        terms = {"Intercept": parent.intercept_term, **terms}
    parts = {**terms, **versions.bambi_constants(model)}
    for name in design.formulas:
        further = versions.bambi_parameters(model)[name]
        own = {**further.common_terms, **further.group_specific_terms}
        own |= {} if further.intercept_term is None else {"Intercept": further.intercept_term}
        parts |= {f"{name}_{term}": one for term, one in own.items()}
    found = {}
    for name, part in parts.items():
        if name == "sigma" and design.precision.sigma_known:
            continue
        prior = part.prior
        if isinstance(prior, int | float):
            found[str(name)] = f"fixed at {prior:g}"
        elif prior is not None:
            found[str(name)] = shown(prior)
    return found | {name: f"LKJ({eta:g})" for name, eta in priors.eta.items()}
