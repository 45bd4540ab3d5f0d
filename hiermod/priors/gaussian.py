"""The priors of a Gaussian model as the numbers with which its effects integrate out: Normal or flat coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.formula.design import Design, FrozenArrays
from hiermod.priors.distributions import Distribution
from hiermod.priors.given import PriorSet
from hiermod.priors.model_priors import evaluable, model_priors


@dataclass(frozen=True, eq=False)
class GaussianPriors(FrozenArrays):
    """Priors of a Gaussian model, one entry per parameter.

    mean, sd (p,): Normal priors of the common coefficients, sd = inf where flat.  The intercept's is on the intercept
    of centred predictors when ``centred``.  sds: per block and column; sigma: None when residual sds are known."""

    mean: np.ndarray
    sd: np.ndarray
    centred: bool
    centre: np.ndarray  # (p,) means of X's columns on the full data: where predictors are centred in every refit too
    sds: tuple[tuple[Distribution, ...], ...]
    eta: tuple[float, ...]  # per block; nan for one column
    sigma: Distribution | float | None  # a number: fixed


def gaussian_priors(design: Design, priors: PriorSet, center_predictors: bool = True) -> GaussianPriors:
    """Resolve all priors on the full data.

    Raises UnsupportedError, saying which, when a prior is not of a kind to be integrated out or evaluated here."""
    found = model_priors(design, priors, "gaussian", "identity", center_predictors).evaluable()
    normal = [_normal(evaluable(law), term) for law, term in zip(found.common, design.common_terms, strict=True)]
    sigma = found.auxiliary.get("sigma")
    return GaussianPriors(
        mean=np.array([mean for mean, _ in normal], dtype=float),
        sd=np.array([sd for _, sd in normal], dtype=float),
        centred=found.centred,
        centre=found.centre,
        sds=tuple(tuple(evaluable(law) for law in sds) for sds in found.sds),
        eta=found.eta,
        sigma=sigma if sigma is None or isinstance(sigma, float) else evaluable(sigma),
    )


def _normal(prior: Distribution, term: str) -> tuple[Any, Any]:
    if prior.name == "Flat":
        return 0.0, np.inf
    if prior.name != "Normal":
        raise UnsupportedError(f"the prior of {term!r} is {prior}, and only Normal and Flat ones can be integrated out")
    if prior.get("tau") is not None:
        sd: Any = 1.0 / np.sqrt(np.asarray(prior.get("tau"), dtype=float))
    else:
        sd = prior.get("sigma") if prior.get("sigma") is not None else 1.0
    return prior.get("mu") if prior.get("mu") is not None else 0.0, sd
