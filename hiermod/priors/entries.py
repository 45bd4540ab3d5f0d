"""Every prior of a model, one Entry each: from the numbers of a Gaussian model, else from the built Bambi model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hiermod.families.catalogue import is_linear
from hiermod.formula.design import Design
from hiermod.priors.from_bambi import read_entries
from hiermod.priors.given import PriorSet
from hiermod.priors.table import Entry, gaussian_entries, numbers_of


def prior_entries(
    design: Design,
    priors: PriorSet,
    family: Any,
    link: Any,
    center_predictors: bool,
    build: Callable[[], Any],
) -> tuple[Entry, ...]:
    """One entry per coefficient, group sd, correlation matrix and further parameter of the response.

    build: gives the built Bambi model, called for other than Gaussian models with identity link only."""
    if is_linear(family, link or "identity") and design.special is None:
        numbers = numbers_of(design, priors, center_predictors)
        if numbers is not None:
            return gaussian_entries(design, priors, numbers)
    return read_entries(build(), design, priors, family, center_predictors)
