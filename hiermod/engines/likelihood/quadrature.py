"""Adaptive Gauss-Hermite quadrature of the marginal likelihood, for one scalar group effect (Pinheiro and Bates 1995).

Each level's integral over u is taken with nodes u~ + z_k / sqrt(M): the Laplace approximation with one node, and exact
to more digits with every node.  The constants stay in (lme4's logLik for nAGQ > 1 leaves them out, so that it cannot be
compared with nAGQ = 1; here all numbers of nodes are on one scale).  The gradient is that of the sum itself."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from hiermod.engines.likelihood.laplace import LaplaceCriterion, Slopes
from hiermod.engines.likelihood.likelihoods import Likelihood
from hiermod.engines.likelihood.pirls import Mode
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.design import Design
from hiermod.kernel.weighted import WeightedProblem

MOST_NODES = 127  # the rule has all digits up to here (lme4 ends at 100)


def check_nodes(design: Design, nodes: int | str) -> int:
    """A number of nodes that the model allows.  UnsupportedError for more than one scalar term."""
    if isinstance(nodes, bool) or not isinstance(nodes, (int, np.integer)) or not 1 <= nodes <= MOST_NODES:
        raise ArgumentError(
            f"nodes must be a whole number from 1 (Laplace) to {MOST_NODES}, or 'auto' for as many as are needed, got "
            f"{nodes!r}"
        )
    if nodes > 1 and (len(design.blocks) != 1 or design.blocks[0].size != 1):
        raise UnsupportedError(
            f"adaptive quadrature is for one group term with one effect, such as (1 | g); {design.formula!r} has more. "
            "Use nodes=1, the Laplace approximation, or fit()"
        )
    return int(nodes)


class QuadratureCriterion(LaplaceCriterion):
    """-2 log likelihood by quadrature, a function of (x, gamma) like the Laplace criterion."""

    def __init__(self, rows: WeightedProblem, likelihood: Likelihood, offset: np.ndarray, nodes: int) -> None:
        super().__init__(rows, likelihood, offset)
        self.z, weights = np.polynomial.hermite_e.hermegauss(nodes)
        with np.errstate(divide="ignore"):
            self.log_weights = np.log(weights) + 0.5 * self.z**2 - 0.5 * np.log(2 * np.pi)

    def value_of(self, mode: Mode) -> float:
        """-2 log likelihood at a mode (one with beta held: jointly with beta it is a start, not an answer)."""
        return -2.0 * float(self._levels(mode)[0].sum() + self.likelihood.constant.sum())

    def _levels(self, mode: Mode) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Log integral of each level (J,), and at its nodes: weights adding to one (J, m), u (J, m), eta (n, m)."""
        factor = self.rows.factors[0]
        v, codes, J = factor.values[:, 0], factor.codes, factor.n_levels
        lam = float(mode.expected.levels[0].Lam[0, 0])
        sd = 1.0 / np.sqrt(1.0 + lam * lam * mode.expected.levels[0].A[:, 0, 0])
        u = mode.u[0] + sd[:, None] * self.z
        eta = (mode.eta - lam * v * mode.u[0][codes, 0])[:, None] + lam * v[:, None] * u[codes]
        rows = self.likelihood.rows(eta)
        sums = np.stack([np.bincount(codes, column, J) for column in rows.T], axis=1)
        logs = sums - 0.5 * u * u + self.log_weights
        total = logsumexp(logs, axis=1)
        return np.log(sd) + total, np.exp(logs - total[:, None]), u, eta

    def at(self, lambdas: list[np.ndarray], gamma: np.ndarray | None) -> Slopes | None:
        """The criterion and its gradients; with gamma None the Laplace criterion with beta at the joint mode."""
        if gamma is None or len(self.z) == 1:
            return super().at(lambdas, gamma)
        mode = self.mode_at(lambdas, gamma)
        if mode is None:
            return None
        integrals, share, u, eta = self._levels(mode)
        factor, d = self.rows.factors[0], mode.derivatives
        v, codes, J = factor.values[:, 0], factor.codes, factor.n_levels
        lam, A = float(mode.expected.levels[0].Lam[0, 0]), mode.expected.levels[0].A[:, 0, 0]
        M, M_observed = 1.0 + lam * lam * A, 1.0 + lam * lam * mode.observed.levels[0].A[:, 0, 0]
        score = self.likelihood.score(eta)  # (n, m)
        pull = np.stack([np.bincount(codes, column, J) for column in (v[:, None] * score).T], axis=1)
        slope = lam * pull - u  # d log integrand / d u at each node
        shift = -2.0 * (share * slope).sum(axis=1)  # what moving the mode does ...
        widen = 1.0 + (share * slope * self.z).sum(axis=1) / np.sqrt(M)  # ... and the width, through log M
        s = d.slope * lam * lam * v * v * (widen / M)[codes]
        t = (lam * np.bincount(codes, s * v, J) + shift) / M_observed
        moving = s - d.observed * lam * v * t[codes]
        mode_u = mode.u[0][:, 0]
        by_lambda = (
            float((moving * v) @ mode_u[codes] + (d.score * v) @ t[codes])
            - 2.0 * float((share * u * pull).sum())
            + 2.0 * lam * float((widen * A / M).sum())
        )
        by_gamma = self.rows.Q.T @ (moving - 2.0 * (share[codes] * score).sum(axis=1))
        value = -2.0 * float(integrals.sum() + self.likelihood.constant.sum())
        by_a = self._by_auxiliary(mode, share, eta, t[codes] * lam * v, lam * lam * v * v * (widen / M)[codes])
        return Slopes(value, [np.array([[by_lambda]])], by_gamma, by_a)

    def _by_auxiliary(
        self, mode: Mode, share: np.ndarray, eta: np.ndarray, through: np.ndarray, variances: np.ndarray
    ) -> np.ndarray:
        """(K,) by the family's further parameters: at the nodes, by way of the modes, and of the widths."""
        if not self.likelihood.auxiliary:
            return np.zeros(0)
        _, score_by_a, curvature_by_a = self.likelihood.by_auxiliary(mode.eta)
        weight = share[self.rows.factors[0].codes]
        at_nodes = sum(
            (self.likelihood.by_auxiliary(column)[0] * w).sum(axis=1) for column, w in zip(eta.T, weight.T, strict=True)
        )
        return np.asarray(-2.0 * at_nodes + score_by_a @ through - curvature_by_a @ variances)
