"""Gaussian families for Bambi whose residual sd differs by row: prior weights (var = sigma^2 / w) and known sds.

Imports Bambi, so it is itself imported only when a graph is built."""

from __future__ import annotations

from typing import Any

import numpy as np
from bambi import Likelihood, Prior
from bambi.families.univariate import Gaussian

from hiermod.errors import UnsupportedError


class RowScaledGaussian(Gaussian):
    """Normal(mu, sigma * factor) with a known factor (n,) per row of the data the model was built with.

    ``sigma`` stays the parameter of unit weight.  Bambi's log likelihood and predictive draws go through
    ``transform_kwargs``; for new rows the factor is unknown, so those two refuse new data."""

    def __init__(self, factor: np.ndarray) -> None:
        super().__init__("gaussian", Likelihood("Normal", ["mu", "sigma"], "mu"), {"mu": "identity", "sigma": "log"})
        self.factor = np.asarray(factor, dtype=float)
        self.set_default_priors({"sigma": Prior("HalfNormal", sigma=1)})  # Bambi's own, rescaled to sd(y) by Bambi

    def transform_backend_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What the graph's Normal gets."""
        kwargs["sigma"] = kwargs["sigma"] * self.factor
        return kwargs

    def transform_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What Bambi's log likelihood and predictive draws get."""
        kwargs["sigma"] = kwargs["sigma"] * self.factor  # (chain, draw, 1) * (n,)
        return kwargs

    def log_likelihood(self, model: Any, posterior: Any, data: Any, **kwargs: Any) -> Any:
        """Bambi's, for the rows of the fit only."""
        self._refuse(data)
        return super().log_likelihood(model, posterior, data, **kwargs)

    def posterior_predictive(self, model: Any, posterior: Any, random_seed: Any = None, **kwargs: Any) -> Any:
        """Bambi's, for the rows of the fit only."""
        self._refuse(kwargs.get("data"))
        return super().posterior_predictive(model, posterior, random_seed, **kwargs)

    def _refuse(self, data: Any) -> None:
        if data is not None:
            raise UnsupportedError(
                "Bambi's prediction for new rows does not know their weights or known sds. Use fit.predict(newdata), "
                "which takes them, or leave out the new data"
            )


def prior_weighted(weights: np.ndarray) -> RowScaledGaussian:
    """lme4's prior weights w (n,): residual sd sigma / sqrt(w)."""
    return RowScaledGaussian(1 / np.sqrt(np.asarray(weights, dtype=float)))


def known_sd(se: np.ndarray) -> RowScaledGaussian:
    """Residual sds known per row, se (n,); goes with the prior ``{"sigma": 1}``, so the graph has no sigma."""
    return RowScaledGaussian(se)
