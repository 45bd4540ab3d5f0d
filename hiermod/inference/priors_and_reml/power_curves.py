"""Posteriors under powers of the prior or the likelihood, as curves: weighted densities and distribution functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import gaussian_kde

from hiermod.errors import ArgumentError, UnknownNameError, listing, nearest
from hiermod.fits.targets import choice
from hiermod.inference.priors_and_reml.sensitivity import (
    STRONGER,
    WEAKER,
    labelled_draws,
    scaled_likelihood,
    scaled_prior,
)

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

COMPONENTS, KINDS = ("prior", "likelihood"), ("density", "ecdf")
POINTS = 256
OUTER = (0.001, 0.999)  # quantiles between which a density is drawn


def power_curves(
    fit: BayesianFit,
    component: str = "prior",
    parameters: Sequence[str] | None = None,
    alphas: Sequence[float] = (WEAKER, 1.0, STRONGER),
    kind: str = "density",
) -> pd.DataFrame:
    """One curve per parameter and power: parameter, alpha, x, y; attrs: pareto_k by alpha.

    component: "prior" or "likelihood".  kind: "density" (kernel, reflected at 0 for sds) or "ecdf" (every draw)."""
    component, kind = choice("component", component, COMPONENTS), choice("kind", kind, KINDS)
    powers = [float(alpha) for alpha in alphas]
    if not powers or not all(0.1 <= alpha <= 10 for alpha in powers):
        raise ArgumentError(f"alphas must be powers between 0.1 and 10, such as (0.8, 1, 1.25), got {alphas!r}")
    draws = dict(labelled_draws(fit))
    names = list(draws) if parameters is None else list(parameters)
    for name in names:
        if name not in draws:
            raise UnknownNameError(f"no parameter {name!r}.{nearest(str(name), draws)} It has: {listing(draws, 20)}")
    scaled = scaled_prior(fit)[0] if component == "prior" else scaled_likelihood(fit)[0]
    weights = {alpha: scaled.weights(alpha).ravel() for alpha in powers}
    pieces = []
    for name in names:
        values = draws[name][:, :: scaled.step].ravel()
        if np.ptp(values) == 0 or not np.isfinite(values).all():
            continue
        ends = _ends(values, [weights[alpha] for alpha in powers])
        for alpha in powers:
            x, y = _ecdf(values, weights[alpha]) if kind == "ecdf" else _density(values, weights[alpha], ends)
            pieces.append(pd.DataFrame({"parameter": name, "alpha": alpha, "x": x, "y": y}))
    if not pieces:
        raise ArgumentError("no parameter to draw: give at least one that varies")
    table = pd.concat(pieces, ignore_index=True)
    table.attrs["pareto_k"] = {alpha: scaled.k(alpha) for alpha in powers if alpha != 1}
    return table


def _ecdf(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values)
    return values[order], np.cumsum(weights[order])


def _ends(values: np.ndarray, weights: list[np.ndarray]) -> tuple[float, float]:
    """Between which every density is drawn: what holds nearly all of each; 0 where a positive one begins near it."""
    found = []
    for one in weights:
        x, y = _ecdf(values, one)
        found += [x[np.searchsorted(y, u)] for u in OUTER]
    low, high = float(min(found)), float(max(found))
    return (0.0 if values.min() >= 0 and low < 0.1 * high else low), high


def _density(values: np.ndarray, weights: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(*ends, POINTS)
    kernel = gaussian_kde(values, weights=weights)
    return x, kernel(x) + (kernel(-x) if values.min() >= 0 else 0.0)
