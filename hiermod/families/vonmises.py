"""Von Mises: angles in radians around the direction mu, with concentration kappa.

The mean is the mean direction, and the variance that of the angle between response and direction, cut opposite it."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.families.family import Family, Further, Notation, Parameter, Support, inside

TERMS = 400  # of the Fourier series of the variance, which falls as 1 / j^2 times (I_j / I_0)(kappa)
_SUPPORT = Support(
    lambda y: np.abs(y) > np.pi,
    "for angles in radians, from -pi to pi",
    "Degrees are multiplied by pi / 180; numpy.angle(numpy.exp(1j * y)) brings angles of other turns between",
)


def _logpdf(y: np.ndarray, mu: np.ndarray, p: Further) -> np.ndarray:
    """kappa (cos - 1) with the scaled Bessel function, which large kappa do not overflow."""
    kappa = p["kappa"]
    return kappa * (np.cos(y - mu) - 1) - np.log(2 * np.pi) - np.log(special.ive(0, kappa))


def _variance(mu: np.ndarray, p: Further) -> np.ndarray:
    """pi^2 / 3 + 4 sum_j (-1)^j I_j(kappa) / (j^2 I_0(kappa)), from the Fourier series of the squared angle."""
    kappa = np.asarray(p["kappa"], dtype=float)
    j = np.arange(1, TERMS + 1)
    ratios = special.ive(j, kappa[..., None]) / special.ive(0, kappa[..., None])
    return np.pi**2 / 3 + 4 * (np.where(j % 2, -1.0, 1.0) / j**2 * ratios).sum(axis=-1) + 0 * mu


def nearest_turn(y: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """The same angles at most half a turn away from mu."""
    return y - 2 * np.pi * np.round((y - mu) / (2 * np.pi))


VONMISES = Family(
    name="vonmises",
    kind="continuous",
    links=("identity",),
    notation=Notation("VonMises", arguments=("kappa",)),
    parameters=(Parameter("kappa", prior="HalfStudentT(nu=4, sigma=1)"),),
    also_called=("von_mises", "von mises", "circular"),
    support=_SUPPORT,
    logpdf=inside(_SUPPORT, _logpdf),
    draw=lambda mu, p, rng: rng.vonmises(mu, np.broadcast_to(p["kappa"], mu.shape)),
    variance=_variance,
    around=nearest_turn,
)
