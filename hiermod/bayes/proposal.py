"""Mixtures of multivariate t distributions fitted to a density by adaptive importance sampling.

Laplace's approximation first; then the mixture is moved towards the target by its own importance weights: Cappe, Douc,
Guillin, Marin and Robert (2008, Statistics and Computing 18, 447-459), section 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

DF = 5.0  # tails heavier than those of any density of log sds
DEFENCE, WIDER = 0.1, 3.0  # share of the wide component, and how much wider than the mixture it is
LEAST_WEIGHT = 0.02  # a component below this is dropped
MOST, GROWN = 10, 0.2  # components of a mixture that still grows, and the share that new ones start with


@dataclass(frozen=True, eq=False)
class Mixture:
    """weights (K,), means (K, d), roots (K, d, d): lower Cholesky factors of the scales; DF degrees of freedom."""

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @property
    def d(self) -> int:
        """Dimension."""
        return self.means.shape[1]

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, d)."""
        which = rng.choice(len(self.weights), size=count, p=self.weights)
        normal = rng.standard_normal((count, self.d))
        stretch = np.sqrt(DF / rng.chisquare(DF, size=count))
        return self.means[which] + np.einsum("nij,nj->ni", self.roots[which], normal) * stretch[:, None]

    def component_logs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log(weight) + log density of each component (n, K), and squared Mahalanobis distances (n, K)."""
        logs, squares = np.empty((len(x), len(self.weights))), np.empty((len(x), len(self.weights)))
        constant = special.gammaln((DF + self.d) / 2) - special.gammaln(DF / 2) - self.d / 2 * np.log(DF * np.pi)
        for k, (weight, mean, root) in enumerate(zip(self.weights, self.means, self.roots, strict=True)):
            standard = np.linalg.solve(root, (x - mean).T)
            squares[:, k] = np.square(standard).sum(axis=0)
            height = np.log(weight) + constant - np.log(np.diag(root)).sum()
            logs[:, k] = height - (DF + self.d) / 2 * np.log1p(squares[:, k] / DF)
        return logs, squares

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """(n,) at x (n, d)."""
        return special.logsumexp(self.component_logs(x)[0], axis=1)


def laplace(mode: np.ndarray, precision: np.ndarray) -> Mixture:
    """One t around the mode.  precision (d, d): minus the Hessian; directions without curvature get a wide scale."""
    values, vectors = np.linalg.eigh(precision)
    floor = max(1e-3, 1e-8 * values.max(initial=1.0))  # sd of at most about 30 on a log scale
    cov = (vectors / np.maximum(values, floor)) @ vectors.T
    return Mixture(np.ones(1), mode[None], _root(cov)[None])


def split(x: np.ndarray, weights: np.ndarray, start: Mixture) -> Mixture:
    """Three components to start adapting from: along the direction in which the weighted sample is most skewed, one on
    either side of its mean; and the first component of ``start`` with the rest of the weight."""
    mean, cov = _moments(x, weights)
    root = _root(cov)
    standard = np.linalg.solve(root, (x - mean).T)
    axis = int(np.abs((standard**3) @ weights).argmax())
    step = root[:, axis]
    shrunk = _root(cov - 0.6 * np.outer(step, step) + 1e-12 * np.eye(len(cov)) * np.trace(cov))
    return Mixture(
        np.array([0.3, 0.35, 0.35]),
        np.stack([start.means[0], mean - step, mean + step]),
        np.stack([start.roots[0], shrunk, shrunk]),
    )


def grow(mixture: Mixture, x: np.ndarray, weights: np.ndarray) -> Mixture:
    """Two more components where the mixture has put too little: the mean and covariance of what weights exceed their
    average by, on either side of its widest direction.  The same mixture once it has MOST components."""
    excess = np.maximum(weights - 1 / len(weights), 0.0)
    if len(mixture.weights) >= MOST or not excess.any():
        return mixture
    mean, cov = _moments(x, excess / excess.sum())
    side = (x - mean) @ np.linalg.eigh(cov)[1][:, -1] > 0
    shares, means, roots = [(1 - GROWN) * mixture.weights], [mixture.means], [mixture.roots]
    for part in (np.where(side, excess, 0.0), np.where(side, 0.0, excess)):
        center, spread = _moments(x, part / part.sum())
        shares.append(np.array([GROWN * part.sum() / excess.sum()]))
        means.append(center[None])
        roots.append(_root(spread)[None])
    return Mixture(np.concatenate(shares), np.concatenate(means), np.concatenate(roots))


def adapt(mixture: Mixture, x: np.ndarray, weights: np.ndarray, steps: int = 3) -> Mixture:
    """Move the mixture towards the weighted sample x (n, d), weights (n,) summing to 1, by EM for t components."""
    for _ in range(steps):
        logs, squares = mixture.component_logs(x)
        share = np.exp(logs - special.logsumexp(logs, axis=1, keepdims=True)) * weights[:, None]  # (n, K)
        keep = share.sum(axis=0) > LEAST_WEIGHT
        share, squares = share[:, keep], squares[:, keep]
        scaled = share * (DF + mixture.d) / (DF + squares)
        means, roots = [], []
        for k in range(share.shape[1]):
            mean = scaled[:, k] @ x / scaled[:, k].sum()
            centred = x - mean
            cov = (centred * scaled[:, k, None]).T @ centred / share[:, k].sum()
            means.append(mean)
            roots.append(_root(cov))
        total = share.sum(axis=0)
        mixture = Mixture(total / total.sum(), np.stack(means), np.stack(roots))
    return mixture


def defended(mixture: Mixture) -> Mixture:
    """The mixture with a share of wide proposals, so that no tail of the target is out of reach (Hesterberg 1995)."""
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean
    cov = np.einsum("k,kij,klj->il", mixture.weights, mixture.roots, mixture.roots)
    cov = cov + (centred.T * mixture.weights) @ centred
    return Mixture(
        np.append((1 - DEFENCE) * mixture.weights, DEFENCE),
        np.concatenate([mixture.means, mean[None]]),
        np.concatenate([mixture.roots, WIDER * _root(cov)[None]]),
    )


def _moments(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = weights @ x
    centred = x - mean
    return mean, (centred * weights[:, None]).T @ centred


def _root(cov: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a covariance, its smallest eigenvalues lifted where it has lost rank."""
    cov = (cov + cov.T) / 2
    values, vectors = np.linalg.eigh(cov)
    lifted = np.maximum(values, 1e-6 * max(values.max(), 1e-12))
    return np.linalg.cholesky((vectors * lifted) @ vectors.T)


@dataclass(frozen=True, eq=False)
class Weighted:
    """A sample from a mixture with its importance weights for a target."""

    x: np.ndarray  # (n, d)
    log_target: np.ndarray  # (n,)
    log_ratio: np.ndarray  # (n,) log target - log proposal, -inf where the target is 0

    @property
    def weights(self) -> np.ndarray:
        """(n,) summing to 1."""
        ratio = np.exp(self.log_ratio - self.log_ratio.max())
        return ratio / ratio.sum()

    @property
    def efficiency(self) -> float:
        """Importance effective sample size as a share of the sample."""
        return effective_share(self.log_ratio)


def effective_share(log_ratio: np.ndarray) -> float:
    """Importance effective sample size as a share of the sample, from log target - log proposal (n,)."""
    ratio = np.exp(log_ratio - log_ratio.max())
    return float(ratio.sum() ** 2 / np.square(ratio).sum() / len(ratio))


def weigh(
    mixture: Mixture, target: Callable[[np.ndarray], np.ndarray], count: int, rng: np.random.Generator
) -> Weighted:
    """Draw from the mixture and evaluate both densities.  target: (n, d) -> (n,) log density."""
    x = mixture.draw(count, rng)
    log_target = target(x)
    return Weighted(x, log_target, log_target - mixture.log_density(x))
