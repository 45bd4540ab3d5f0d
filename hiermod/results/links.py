"""Inverse links and random responses of the families whose predictions hiermod draws itself."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.errors import UnsupportedError

INVERSE_LINKS = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
    "inverse": lambda eta: 1 / eta,
    "inverse_squared": lambda eta: 1 / np.sqrt(eta),
}
# In these the linear predictor is that of one part of the response (positive values, a threshold), not of its mean.
NOT_THE_MEAN = ("zero_inflated_", "hurdle_", "cumulative", "sratio")


def check_mean(family: str) -> None:
    """UnsupportedError for a family whose expected response is not the inverse link of the linear predictor."""
    if family.startswith(NOT_THE_MEAN):
        raise UnsupportedError(
            f"the expected response of family {family!r} is not a function of the linear predictor alone, so hiermod "
            "does not predict it: use model.bambi.predict(fit.idata)"
        )


def inverse_link(link: str, eta: np.ndarray) -> np.ndarray:
    """Expected response at linear predictor ``eta``; UnsupportedError for a link that is not listed."""
    if link not in INVERSE_LINKS:
        raise UnsupportedError(
            f"predictions for link {link!r} are not available here: use model.bambi.predict(fit.idata)"
        )
    return INVERSE_LINKS[link](eta)


def response_draws(
    family: str,
    mean: np.ndarray,
    noise: np.ndarray | None,
    trials: np.ndarray | None,
    rng: np.random.Generator,
    counts: bool = False,
) -> np.ndarray:
    """One response per expected value, (draws, rows); for binomial the proportion, or with ``counts`` the successes."""
    if family == "gaussian" and noise is not None:
        return mean + noise * rng.standard_normal(mean.shape)
    if family == "bernoulli":
        return rng.binomial(1, mean).astype(float)
    if family == "poisson":
        return rng.poisson(mean).astype(float)
    if family == "binomial" and trials is not None:
        successes = rng.binomial(trials.astype(int), mean).astype(float)
        return successes if counts else successes / trials
    raise UnsupportedError(
        f"responses of family {family!r} are not drawn here: use model.bambi.predict(fit.idata, kind='response')"
    )
