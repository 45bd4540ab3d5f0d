"""Mixtures of multivariate t distributions fitted to a density by adaptive importance sampling.

Laplace's approximation first; then the mixture is moved towards the target by its own importance weights: Cappe, Douc,
Guillin, Marin and Robert (2008, Statistics and Computing 18, 447-459), section 4.  Components are t distributions in
coordinates that are bent where the target is skewed (warp.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.linalg import solve_triangular

from hiermod.engines.marginal.boundary_transform import Warp, choose_warp, identity

DF = 5.0  # tails heavier than those of any density of log sds
DEFENCE, WIDER = 0.1, 3.0  # share of the wide component, and how much wider than the mixture it is
ANCHOR = 0.03  # share of proposals around each of several modes
LEAST_WEIGHT = 0.02  # a component below this is dropped
FEED = 2  # effective points of a weighted sample that a component needs for each entry of its scale
MOST, GROWN = 10, 0.2  # components of a mixture that still grows, and the share that new ones start with


@dataclass(frozen=True, eq=False)
class Mixture:
    """weights (K,), means (K, d), roots (K, d, d): lower Cholesky factors of the scales; ``df`` degrees of freedom.

    Means and roots are in the coordinates of ``warp``; points that come and go are phi."""

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray
    warp: Warp

    @property
    def d(self) -> int:
        """Dimension."""
        return self.means.shape[1]

    @property
    def df(self) -> float:
        """More where there are many dimensions, in which the radius of a t with few would vary more than a target's."""
        return max(DF, self.d / 2)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """phi (count, d)."""
        which = rng.choice(len(self.weights), size=count, p=self.weights)
        normal = rng.standard_normal((count, self.d))
        stretch = np.sqrt(self.df / rng.chisquare(self.df, size=count))
        x = self.means[which] + np.einsum("nij,nj->ni", self.roots[which], normal) * stretch[:, None]
        return self.warp.to_phi(x)

    def component_logs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At x (n, d) = ``warp.to_x(phi)``: log(weight) + log density of each component (n, K), and squared Mahalanobis
        distances (n, K)."""
        df, d = self.df, self.d
        logs, squares = np.empty((len(x), len(self.weights))), np.empty((len(x), len(self.weights)))
        constant = special.gammaln((df + d) / 2) - special.gammaln(df / 2) - d / 2 * np.log(df * np.pi)
        for k, (weight, mean, root) in enumerate(zip(self.weights, self.means, self.roots, strict=True)):
            standard = solve_triangular(root, (x - mean).T, lower=True, check_finite=False)
            squares[:, k] = np.square(standard).sum(axis=0)
            height = np.log(weight) + constant - np.log(np.diag(root)).sum()
            logs[:, k] = height - (df + d) / 2 * np.log1p(squares[:, k] / df)
        return logs, squares

    def x_log_density(self, x: np.ndarray) -> np.ndarray:
        """(n,) of x (n, d) = ``warp.to_x(phi)``."""
        return special.logsumexp(self.component_logs(x)[0], axis=1)

    def log_density(self, phi: np.ndarray) -> np.ndarray:
        """(n,) of phi (n, d)."""
        x = self.warp.to_x(phi)
        return self.x_log_density(x) - self.warp.log_slope(x)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and scale (d, d) of the whole, in the coordinates of ``warp``."""
        mean = self.weights @ self.means
        centred = self.means - mean
        within = np.einsum("k,kij,klj->il", self.weights, self.roots, self.roots)
        return mean, within + (centred.T * self.weights) @ centred


def laplace(mode: np.ndarray, precision: np.ndarray, warp: Warp | None = None) -> Mixture:
    """One t around the mode.  precision (d, d): minus the Hessian; directions without curvature get a wide scale.

    Both in the coordinates of ``warp``."""
    values, vectors = np.linalg.eigh(precision)
    floor = max(1e-3, 1e-8 * values.max(initial=1.0))  # sd of at most about 30 on a log scale
    cov = (vectors / np.maximum(values, floor)) @ vectors.T
    return Mixture(np.ones(1), mode[None], _root(cov)[None], identity(len(mode)) if warp is None else warp)


def split(phi: np.ndarray, weights: np.ndarray, start: Mixture) -> Mixture:
    """A mixture to start adapting from, in coordinates bent as the weighted sample asks for.  Three components where
    the sample can feed them: along the direction in which it is most skewed, one on either side of its mean, and the
    first of ``start`` with the rest of the weight.  Else, or where it has several already, ``start`` alone."""
    start = rewarped(start, choose_warp(phi, weights))
    if len(start.weights) > 1 or not _feeds(weights, 3, start.d):
        return start
    x = start.warp.to_x(phi)
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
        start.warp,
    )


def _feeds(weights: np.ndarray, components: int, d: int) -> bool:
    """Whether a weighted sample has points enough for the moments of so many components."""
    return 1 / np.square(weights).sum() > FEED * d**2 * components


def rewarped(mixture: Mixture, warp: Warp) -> Mixture:
    """The mixture in other coordinates: exact at its means, scales by the slopes there."""
    phi = mixture.warp.to_phi(mixture.means)
    means = warp.to_x(phi)
    scales = mixture.warp.slopes(mixture.means) / warp.slopes(means)
    return Mixture(mixture.weights, means, scales[:, :, None] * mixture.roots, warp)


def grow(mixture: Mixture, phi: np.ndarray, weights: np.ndarray) -> Mixture:
    """Two more components where the mixture has put too little: the mean and covariance of what weights exceed their
    average by, on either side of its widest direction.  The same mixture once it has MOST components."""
    excess = np.maximum(weights - 1 / len(weights), 0.0)
    if len(mixture.weights) == 1:
        return split(phi, weights, mixture)
    if len(mixture.weights) >= MOST or not excess.any() or not _feeds(weights, len(mixture.weights) + 2, mixture.d):
        return mixture
    x = mixture.warp.to_x(phi)
    mean, cov = _moments(x, excess / excess.sum())
    side = (x - mean) @ np.linalg.eigh(cov)[1][:, -1] > 0
    shares, means, roots = [(1 - GROWN) * mixture.weights], [mixture.means], [mixture.roots]
    for part in (np.where(side, excess, 0.0), np.where(side, 0.0, excess)):
        center, spread = _moments(x, part / part.sum())
        shares.append(np.array([GROWN * part.sum() / excess.sum()]))
        means.append(center[None])
        roots.append(_root(spread)[None])
    return Mixture(np.concatenate(shares), np.concatenate(means), np.concatenate(roots), mixture.warp)


def adapt(mixture: Mixture, phi: np.ndarray, weights: np.ndarray, steps: int = 3) -> Mixture:
    """Move the mixture towards the weighted sample phi (n, d), weights (n,) summing to 1, by EM for t components.

    Scales count as d points of their own: a component with few points keeps its shape."""
    x, df = mixture.warp.to_x(phi), mixture.df
    for _ in range(steps):
        logs, squares = mixture.component_logs(x)
        share = np.exp(logs - special.logsumexp(logs, axis=1, keepdims=True)) * weights[:, None]  # (n, K)
        keep = share.sum(axis=0) > LEAST_WEIGHT
        if not keep.any():  # nothing of the sample counts: the mixture can learn nothing from it
            return mixture
        share, squares = share[:, keep], squares[:, keep]
        before = mixture.roots[keep]
        scaled = share * (df + mixture.d) / (df + squares)
        means, roots = [], []
        for k in range(share.shape[1]):
            mean = scaled[:, k] @ x / scaled[:, k].sum()
            centred = x - mean
            cov = (centred * scaled[:, k, None]).T @ centred / share[:, k].sum()
            points, old = share[:, k].sum() ** 2 / np.square(share[:, k]).sum(), before[k]
            cov = (points * cov + mixture.d * old @ old.T) / (points + mixture.d)
            means.append(mean)
            roots.append(_root(cov))
        total = share.sum(axis=0)
        mixture = Mixture(total / total.sum(), np.stack(means), np.stack(roots), mixture.warp)
    return mixture


def defended(mixture: Mixture, modes: Mixture | None = None) -> Mixture:
    """The mixture with a share of wide proposals, so that no tail of the target is out of reach (Hesterberg 1995), and
    where it has several modes with a share around each, so that none is lost when little of a sample was there.

    In many dimensions hardly any of these would come near the target: there a second component is as wide as leaves
    its volume WIDER^6."""
    mean, cov = mixture.moments()
    root = _root(cov)
    wide = [WIDER] if mixture.d <= 6 else [WIDER, WIDER ** (6 / mixture.d)]
    shares, means, roots = [DEFENCE] * len(wide), [mean] * len(wide), [factor * root for factor in wide]
    if modes is not None and len(modes.weights) > 1:
        kept = rewarped(modes, mixture.warp)
        shares += [ANCHOR] * len(kept.weights)
        means, roots = [*means, *kept.means], [*roots, *kept.roots]
    return Mixture(
        np.append((1 - sum(shares)) * mixture.weights, shares),
        np.concatenate([mixture.means, means]),
        np.concatenate([mixture.roots, roots]),
        mixture.warp,
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
