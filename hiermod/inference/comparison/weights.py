"""Weights that combine the predictive distributions of several models (Yao, Vehtari, Simpson and Gelman 2018,
Bayesian Analysis 13(3), 917-1007): stacking (section 3.1), pseudo-BMA (3.3) and pseudo-BMA+ (3.4)."""

from __future__ import annotations

import numpy as np
from scipy import optimize
from scipy.special import logsumexp, softmax

from hiermod.errors import ArgumentError, nearest

METHODS = ("stacking", "pseudo-bma+", "pseudo-bma")
BOOTSTRAPS, AT_ONCE = 10_000, 2_000_000  # replicates of the Bayesian bootstrap; numbers held at once
NEGLIGIBLE = 1e-6  # a stacking weight below this is 0: the optimiser's tolerance


def model_weights(elpd_i: np.ndarray, method: str = "stacking", seed: int = 0) -> np.ndarray:
    """(K,) weights that add to one, from elpd of U units by K models, (U, K).

    "stacking": the mixture of predictive densities that scores best.  "pseudo-bma": proportional to exp(elpd).
    "pseudo-bma+": the same averaged over a Bayesian bootstrap of the units, which knows how uncertain elpd is; seed.
    ArgumentError for another name.

    >>> import numpy as np
    >>> model_weights(np.array([[-1.0, -2.0], [-2.0, -1.0]])).round(3)
    array([0.5, 0.5])
    """
    if method not in METHODS:
        raise ArgumentError(
            f"weights is {method!r}.{nearest(str(method), METHODS)} Possible: {', '.join(METHODS)}, or None"
        )
    elpd_i = np.asarray(elpd_i, dtype=float)
    if elpd_i.shape[1] == 1:
        return np.ones(1)
    if method == "stacking":
        return stacking(elpd_i)
    if method == "pseudo-bma":
        return np.asarray(softmax(elpd_i.sum(axis=0)))
    return bootstrapped(elpd_i, seed)


def stacking(elpd_i: np.ndarray) -> np.ndarray:
    """(K,) w that maximise the mean over units of log sum_k w_k exp(elpd_ik): a concave problem on the simplex."""
    density = np.exp(elpd_i - elpd_i.max(axis=1, keepdims=True))  # (U, K), the best model of a unit at 1
    K = density.shape[1]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = np.maximum(density @ w, 1e-300)
        return -float(np.log(mixture).mean()), -(density / mixture[:, None]).mean(axis=0)

    found = optimize.minimize(
        loss,
        np.full(K, 1 / K),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * K,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones(K)},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    w = np.clip(found.x, 0.0, None)
    w = w / w.sum()
    for _ in range(200):  # steps of EM, which only ever improve, polish what the optimiser left
        w = w * (density / (density @ w)[:, None]).mean(axis=0)
    w = np.where(w < NEGLIGIBLE, 0.0, w)
    return np.asarray(w / w.sum())


def bootstrapped(elpd_i: np.ndarray, seed: int) -> np.ndarray:
    """(K,) mean over Dirichlet(1, ..., 1) reweightings of the units of softmax(U * weighted mean elpd)."""
    U, K = elpd_i.shape
    rng = np.random.default_rng(seed)
    total, step = np.zeros(K), max(1, AT_ONCE // U)
    for start in range(0, BOOTSTRAPS, step):
        count = min(step, BOOTSTRAPS - start)
        z = U * rng.dirichlet(np.ones(U), count) @ elpd_i
        total += np.exp(z - logsumexp(z, axis=1, keepdims=True)).sum(axis=0)
    return total / BOOTSTRAPS
