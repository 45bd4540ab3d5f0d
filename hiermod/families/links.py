"""Links between the linear predictor and the location, in numpy, under Bambi's names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from hiermod.errors import UnsupportedError

INVERSE_LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
    "inverse": lambda eta: 1 / eta,
    "inverse_squared": lambda eta: 1 / np.sqrt(eta),
}
LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}  # variance of the latent residual
FAR = 700.0  # a linear predictor beyond this overflows exp


def inverse_link(link: str, eta: np.ndarray) -> np.ndarray:
    """The location at linear predictor ``eta``; UnsupportedError for a link that is not listed."""
    if link not in INVERSE_LINKS:
        raise UnsupportedError(
            f"predictions for link {link!r} are not available here: use model.bambi.predict(fit.idata)"
        )
    return INVERSE_LINKS[link](eta)


def bounded_inverse_link(link: str, eta: np.ndarray) -> np.ndarray:
    """The same, finite however far an iteration of maximum likelihood has gone."""
    if link in ("log", "cloglog"):
        eta = np.minimum(eta, FAR)
    return INVERSE_LINKS[link](eta)
