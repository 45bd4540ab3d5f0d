"""A polynomial that stands for the log density between evaluations, where each takes milliseconds.

In the coordinates of the proposals log p(phi | y) is smooth, and some hundred evaluations give its quadratic, cubic and
quartic terms.  Chains take many steps on s = q exp(polynomial - log q), q the mixture, for one evaluation: the
surrogate transition method (Liu 2001, Monte Carlo Strategies in Scientific Computing, section 9.4.3), whose second
acceptance makes the draws those of the density itself, however rough the polynomial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp

from hiermod.engines.marginal.proposal import Mixture

DEGREES = (4, 3, 2)
POINTS_PER_TERM = 2  # evaluations that a coefficient of the polynomial needs, at least
CLIP = 3.0  # of log s - log q around its typical value: where the polynomial runs away, s keeps the tails of q
FLAT = 3.0  # nats below the mode over which points count fully in the fit; below, weights fall as the density's root
RIDGE = 1e-3
FARTHEST = 8.0  # sds from the mean beyond which the polynomial stays what it was
ROWS = 20_000  # points whose terms are held at once


@dataclass(frozen=True, eq=False)
class Surrogate:
    """log s - log q at any phi, and how good s was at the points it was not fitted to."""

    mixture: Mixture
    terms: tuple[tuple[int, ...], ...]  # of the polynomial: which coordinates are multiplied
    mean: np.ndarray  # (d,) of the target, in the mixture's coordinates
    root: np.ndarray  # (d, d) of its covariance
    coefficients: np.ndarray  # (terms,)
    level: float  # typical log target - log q
    efficiency: float  # expected of proposals from s: importance effective size as a share

    def log_ratio(self, phi: np.ndarray) -> np.ndarray:
        """log s - log q (n,) at phi (n, d), up to a constant."""
        found = np.empty(len(phi))
        for start in range(0, len(phi), ROWS):
            x = self.mixture.warp.to_x(phi[start : start + ROWS])
            log_p = _products(_standard(x, self.mean, self.root), self.terms) @ self.coefficients
            found[start : start + ROWS] = log_p - self.mixture.x_log_density(x)
        return _clipped(found, self.level)


def fit_surrogate(mixture: Mixture, phi: np.ndarray, log_target: np.ndarray, weights: np.ndarray) -> Surrogate | None:
    """The polynomial, of the degree that predicts best what it was not fitted to; None where none does better than no
    polynomial.  phi (n, d) with log_target (n,); weights (n,) summing to 1 make them a sample of the target."""
    inside = np.isfinite(log_target)
    phi, log_target, weights = phi[inside], log_target[inside], weights[inside]
    x = mixture.warp.to_x(phi)
    log_p, log_q = log_target + mixture.warp.log_slope(x), mixture.x_log_density(x)
    ratio = log_p - log_q
    level = float(weights @ np.where(weights > 0, ratio, 0.0))
    mean = weights @ x
    cov = (x - mean).T @ ((x - mean) * weights[:, None])
    values, vectors = np.linalg.eigh(cov)
    root = vectors / np.sqrt(np.maximum(values, 1e-8 * values.max(initial=1e-300)))
    importance = np.exp(0.5 * np.minimum(0.0, log_p - log_p.max() + FLAT))
    best: Surrogate | None = None
    least = expected_efficiency(ratio, weights)
    for degree in DEGREES:
        terms = tuple(term for k in range(degree + 1) for term in combinations_with_replacement(range(mixture.d), k))
        if POINTS_PER_TERM * len(terms) > len(x):
            continue
        F = _products(_standard(x, mean, root), terms)
        coefficients, unseen = _fit(F, log_p, importance)
        efficiency = expected_efficiency(log_p - log_q - _clipped(unseen - log_q, level), weights)
        if efficiency > least:
            least = efficiency
            best = Surrogate(mixture, terms, mean, root, coefficients, level, efficiency)
    return best


def _standard(x: np.ndarray, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    return np.clip((x - mean) @ root, -FARTHEST, FARTHEST)


def _clipped(ratio: np.ndarray, level: float) -> np.ndarray:
    return np.clip(ratio - level, -CLIP, CLIP)


def expected_efficiency(log_ratio: np.ndarray, weights: np.ndarray) -> float:
    """Importance effective size as a share of proposals with log target - log proposal ``log_ratio`` (n,) at a weighted
    sample of the target: (E_p[w^-1] E_p[w])^-1, w the ratio."""
    used = weights > 0
    log_weights, log_w = np.log(weights[used]), log_ratio[used]
    return float(np.exp(-logsumexp(log_weights + log_w) - logsumexp(log_weights - log_w)))


def _products(z: np.ndarray, terms: Sequence[tuple[int, ...]]) -> np.ndarray:
    """(n, terms): products of the columns of z (n, d), each from one that is there already."""
    place = {term: i for i, term in enumerate(terms)}
    out = np.ones((len(terms), len(z)))
    columns = np.ascontiguousarray(z.T)
    for term, i in place.items():
        if term:
            np.multiply(out[place[term[:-1]]], columns[term[-1]], out=out[i])
    return out.T


def _fit(F: np.ndarray, values: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression: coefficients, and at each point what the others say of it (n,), by the leverages."""
    weighted = F * importance[:, None]
    gram = weighted.T @ F
    gram[range(1, len(gram)), range(1, len(gram))] += RIDGE * importance.sum()
    factor = cho_factor(gram, lower=True, check_finite=False)
    coefficients = cho_solve(factor, weighted.T @ values, check_finite=False)
    leverage = np.einsum("nf,fn->n", weighted, cho_solve(factor, F.T, check_finite=False))
    residual = (values - F @ coefficients) / np.maximum(1 - leverage, 1e-3)
    return coefficients, values - residual
