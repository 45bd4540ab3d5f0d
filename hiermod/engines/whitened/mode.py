"""Where whitening is done first: the mode of the posterior in whitened coordinates, and how far t spreads around it.

Each round whitens at the last mode and maximises over all of q at once: in whitened coordinates the mode of
(t, epsilon) lies where Laplace's approximation of the marginal density of t has its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from hiermod.engines.whitened.arrays import LOG, SINH
from hiermod.engines.whitened.whitening import Whitening

ROUNDS = 6  # of whitening and maximising
NEWTON = 20  # steps towards the effects' mode at one t, in one round
LONGEST = 2.0  # change of a linear predictor in one of them: on a log scale a whole step can overshoot by decades
SETTLED = 1e-3  # change of linear predictors at which they end
MOVED = 0.02  # change of t at which rounds end
FARTHEST = 12.0  # |t| in one search: an sd 1e5 times its scale, at which exp(eta) would overflow
STEPS = 60  # of L-BFGS in one round
DIFFERENCE = 0.05  # of t for second derivatives: t is of the order of 1
FLATTEST = 0.15  # curvature of t below which a direction counts as boundary: sd about 2.6
LARGEST = 30.0  # |eta| beyond which an approximation is not made


@dataclass(frozen=True, eq=False)
class Mode:
    """The model whitened at its mode, and the Laplace covariance of t there."""

    whitening: Whitening
    t: np.ndarray
    covariance: np.ndarray
    eta: np.ndarray
    evaluations: int


def find_mode(start: Whitening, t: np.ndarray, eta: np.ndarray) -> Mode:
    """From linear predictors (n,) near the data, and a start of t (head,)."""
    w, evaluations = start, 0
    head = w.head
    for _ in range(ROUNDS):
        for _ in range(NEWTON):  # towards the mode of the effects at this t
            w = w.at(t, eta, *w.weights(eta, w.further(t)))
            step = np.clip(w.eta(w.density(_joined(t, w))[2]), -LARGEST, LARGEST) - eta
            moved = np.abs(step).max(initial=0.0)
            eta = eta + step * min(1.0, LONGEST / max(moved, LONGEST))
            if moved < SETTLED:
                break

        def negative(q: np.ndarray, w: Whitening = w) -> tuple[float, np.ndarray]:
            value, gradient, _ = w.density(q)
            if not np.isfinite(value):
                return 1e300, np.zeros_like(gradient)
            return -value, -gradient

        bounds = [(-FARTHEST, FARTHEST)] * head + [(None, None)] * (w.size - head)
        found = optimize.minimize(
            negative, _joined(t, w), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": STEPS, "maxcor": 20},
        )  # fmt: skip
        evaluations += found.nfev
        eta = np.clip(w.eta(w.density(found.x)[2]), -LARGEST, LARGEST)
        moved, t = np.abs(found.x[:head] - t).max(initial=0.0), found.x[:head].copy()
        if moved < MOVED:
            break
    w = w.at(t, eta, *w.weights(eta, w.further(t)))
    scale, t = boundary_scales(w, t)
    w = w.rescaled(scale, t)
    return Mode(w, t, covariance_of(w, t), eta, evaluations)


def _joined(t: np.ndarray, w: Whitening) -> np.ndarray:
    q = np.zeros(w.size)
    q[: w.head] = t
    return q


def boundary_scales(w: Whitening, t: np.ndarray, times: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scales s0 of sd = s0 sinh(t), and t in them: about log(sd) where an sd is clearly not 0, linear where it may be.

    The likelihood of an sd near 0 falls like exp(-sd^4 sum A^2 / 4): that is the width which s0 must not be far below,
    or the trajectory's steps are too long for the ends of the interval.  times: of s0."""
    m = w.arrays
    scale, t = m.scale.copy(), np.array(t)
    for g, group in enumerate(w.groups):
        K, J = group.size, group.levels
        A = m.A[m.A_at[g] : m.A_at[g] + J * K * K].reshape(J, K, K)
        for a in range(K):
            s = int(m.column_at[g]) + a
            if m.kind[s] != SINH:
                continue
            sd = abs(float(w.scalar(t, s)))
            weight = float(np.square(A[:, a, a]).sum())
            least = 0.7 * (2.0 / weight) ** 0.25 if weight > 0.0 else 0.0
            scale[s] = times * max(0.4 * sd, least, 1e-8 * float(m.scale[s]))
            t[s] = np.arcsinh(sd / scale[s])
    return scale, t


def covariance_of(w: Whitening, t: np.ndarray) -> np.ndarray:
    """(head, head) inverse of the curvature of the log density in t at epsilon = 0, by differences of gradients."""
    head = w.head
    H = np.zeros((head, head))
    for i in range(head):
        for sign in (1.0, -1.0):
            q = _joined(t, w)
            q[i] += sign * DIFFERENCE
            gradient = w.density(q)[1][:head]
            H[i] -= sign * np.where(np.isfinite(gradient), gradient, 0.0) / (2.0 * DIFFERENCE)
    values, vectors = np.linalg.eigh((H + H.T) / 2.0)
    return (vectors / np.maximum(values, FLATTEST)) @ vectors.T


__all__ = ["LOG", "Mode", "boundary_scales", "covariance_of", "find_mode"]
