"""Every prior of a Gaussian model as numbers: what the person gave, and Bambi's defaults where nothing was given.

The defaults are those of bambi.priors.scaler (after rstanarm): 2.5 sd(y) / sd(x) for slopes, the intercept's spread for
group intercepts, a half-Student-t with 4 degrees of freedom for sigma.  tests/ compare them with Bambi's own.
Where a column does not vary, as an interaction over an empty cell, Bambi divides by 0; here its size stands for its sd
(``column_scale``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.design import Block, Design, FrozenArrays
from hiermod.priors.distributions import Distribution
from hiermod.priors.given import PriorSet

SPREAD = 2.5  # standard deviations of y that a default prior spans
CONSTANT = 1e-12  # relative range up to which a column's variation is rounding


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


def is_constant(x: np.ndarray) -> np.ndarray:
    """Which columns (n, ...) do not vary, up to rounding."""
    return np.asarray(np.ptp(x, axis=0) <= CONSTANT * np.abs(x).max(axis=0))


def column_scale(x: np.ndarray) -> np.ndarray:
    """What a default prior's width is divided by: a column's sd; |c| where it is c in every row, 1 where it is 0.

    So a default prior is finite whatever the columns, and lets each move the response by 2.5 of its sds."""
    size = np.abs(x).max(axis=0)
    return np.where(is_constant(x), np.where(size > 0, size, 1.0), x.std(axis=0))


def gaussian_priors(design: Design, priors: PriorSet, center_predictors: bool = True) -> GaussianPriors:
    """Resolve all priors on the full data.

    Raises UnsupportedError, saying which, when a prior is not of a kind to be integrated out or evaluated here."""
    y_mean, y_sd = float(np.mean(design.y)), float(np.std(design.y))
    p = len(design.common)
    mean, sd, is_default = np.zeros(p), np.empty(p), np.zeros(p, dtype=bool)
    terms = dict.fromkeys(design.common_terms)
    for term in terms:
        columns = np.array([name == term for name in design.common_terms])
        given = priors.given.get(term, priors.given.get("common"))
        if given is not None:
            mean[columns], sd[columns] = _normal(Distribution.from_bambi(given, term), term)
        elif term != "Intercept":
            sd[columns] = SPREAD * y_sd / column_scale(design.X[:, columns])
            is_default |= columns
    spread = SPREAD * y_sd
    if is_default.any():
        spread = float(np.sqrt(spread**2 + (sd[is_default] ** 2) @ (design.X[:, is_default].mean(axis=0) ** 2)))
    if "Intercept" in terms and priors.given.get("Intercept", priors.given.get("common")) is None:
        where = design.common.index("Intercept")
        mean[where], sd[where] = y_mean, spread
    sigma: Distribution | float | None = None
    if not design.precision.sigma_known:
        given = priors.given.get("sigma", Distribution("HalfStudentT", (("nu", 4.0), ("sigma", y_sd))))
        sigma = given if isinstance(given, float) else Distribution.from_bambi(given, "sigma")
    return GaussianPriors(
        mean=mean,
        sd=sd,
        centred=bool(center_predictors and design.has_intercept and p > 1),
        centre=design.X.mean(axis=0),
        sds=tuple(_block_sds(block, priors, y_sd, spread) for block in design.blocks),
        eta=tuple(priors.eta.get(block.corr_name, np.nan) for block in design.blocks),
        sigma=sigma,
    )


def _block_sds(block: Block, priors: PriorSet, y_sd: float, spread: float) -> tuple[Distribution, ...]:
    found = []
    seen: dict[str, int] = {}
    for i, column in enumerate(block.columns):
        position = seen.get(column.variable, 0)
        seen[column.variable] = position + 1
        given = priors.given.get(column.variable, priors.given.get("group_specific"))
        if given is None:
            scale = spread
            if not column.variable.startswith("1|"):
                scale = float(SPREAD * y_sd / column_scale(block.values[:, i]))
            found.append(Distribution("HalfNormal", (("sigma", scale),)))
            continue
        whole = Distribution.from_bambi(given, column.variable)
        sigma = whole.get("sigma")
        if whole.name != "Normal" or not isinstance(sigma, Distribution) or whole.get("mu") not in (None, 0.0):
            raise UnsupportedError(
                f"the prior of {column.variable!r} is {whole}, not a Normal around 0 with a prior for its sd"
            )
        found.append(sigma.column(position))
    return (common_law(block, found),) * block.size if block.structure.hom else tuple(found)


def common_law(block: Block, laws: Sequence[Distribution]) -> Distribution:
    """The prior of the one standard deviation of all columns: theirs; of half-normals of different scales the one with
    their root mean square.  ArgumentError for other laws that differ."""
    if all(law == laws[0] for law in laws):
        return laws[0]
    found = [law.get("sigma") for law in laws]
    scales = [
        scale for law, scale in zip(laws, found, strict=True) if law.name == "HalfNormal" and isinstance(scale, float)
    ]
    if len(scales) < len(laws):
        told = ", ".join(dict.fromkeys(str(law) for law in laws))
        raise ArgumentError(
            f"the columns of {block.term} share one standard deviation, and their priors differ: {told}. Give the same "
            "for all of them"
        )
    return Distribution("HalfNormal", (("sigma", float(np.sqrt(np.mean(np.square(scales))))),))


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
