"""What the tests of the marginal engine share: models with written-out priors, and their laws by dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
from bayes_density import correlation_from_partials
from kernel_cases import CASES, dense_parts, frame
from scipy import stats

from hiermod.covariance.vine import pairs
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

ETA = 1.5
MORE_CASES = {
    "factor slopes": ("y ~ x + (site | a) + (1 | cask)", {}),
    "factor without intercept": ("y ~ 0 + site + x + (0 + site | a)", {}),
    "no groups": ("y ~ x", {"weights": "w"}),
    "fixed sigma": ("y ~ x + (x | a)", {}),
    "flat": ("y ~ x + z + (x | a) + (1 | b)", {}),
    "flat, weights": ("y ~ x + (1 | a)", {"weights": "w"}),
    "flat, known se": ("y ~ x + (x | a)", {"se": "w"}),
    "flat slope": ("y ~ x + z + (x | a)", {}),
    "cs": ("y ~ x + cs(0 + site | a) + (1 | b)", {}),
    "cs, one sd": ("y ~ x + cs(0 + site | a, hom=True)", {"weights": "w"}),
    "ar1": ("y ~ x + ar1(0 + site | a)", {"se": "w"}),
    "ar1, own sds, of the same factor": ("y ~ x + ar1(0 + site | a, hom=False) + (0 + x + z | a)", {}),
    "diag, one sd": ("y ~ x + diag(0 + site | a, hom=True)", {}),
}
ALL = CASES | MORE_CASES


class Half:
    """A distribution folded at 0: scipy has no half-Student-t."""

    def __init__(self, full: Any) -> None:
        self.full = full

    def logpdf(self, x: Any) -> Any:
        return self.full.logpdf(x) + np.log(2)


SD, SIGMA = stats.halfnorm(scale=1.7), Half(stats.t(4, scale=2.5))
INTERCEPT, COMMON = (3.0, 4.0), (0.5, 2.0)  # mean and sd of Normal priors


def texts(design: Design, name: str) -> dict[str, str]:
    """The written-out priors as ``priors=``."""
    found = {"Intercept": "Normal(3, 4)"} if design.has_intercept else {}
    found |= {term: "Normal(0.5, 2)" for term in design.common_terms if term != "Intercept"}
    if name.startswith("flat,") or name == "flat":
        found = dict.fromkeys(found, "Flat()")
    if name == "flat slope":
        found["x"] = "Flat()"
    if design.blocks:
        found["group_specific"] = "HalfNormal(1.7)"
    if design.se is None:
        found["sigma"] = "HalfStudentT(nu=4, sigma=2.5)"
    return found | {block.corr_name: f"LKJ({ETA})" for block in design.correlated_blocks}


def make(name: str, centred: bool) -> tuple[Design, MarginalDensity]:
    formula, options = ALL[name]
    design = build_design(formula, frame(), **options)
    priors: dict[str, Any] = texts(design, name)
    if name == "fixed sigma":
        priors["sigma"] = 1.3
    return design, marginal_density(design, gaussian_priors(design, resolve_priors(priors, design), centred))


def one_correlation(structure: str, k: int, share: float) -> np.ndarray:
    """The correlations of cs or ar1 whose rho is ``share`` of the way from its lower bound to 1."""
    if structure == "cs":
        rho = -1 / (k - 1) + k / (k - 1) * share
        return np.full((k, k), rho) + (1 - rho) * np.eye(k)
    return np.power(2 * share - 1, np.abs(np.subtract.outer(np.arange(k), np.arange(k))))


def read_phi(design: Design, phi: np.ndarray, sigma: float | None) -> tuple[list[np.ndarray], float, float]:
    """Covariance factors (k, k) of each block, sigma, and log p(phi), all written out again."""
    at, factors, log_prior = 0, [], 0.0
    for block in design.blocks:
        k, m = block.size, 1 if block.hom else block.size
        last = m + (k * (k - 1) // 2 if block.structure.free else len(block.pairs[:1]))
        log_sds, z = phi[at : at + m], phi[at + m : at + last]
        at += last
        log_prior += np.sum(SD.logpdf(np.exp(log_sds)) + log_sds)
        if not block.structure.free:
            R = np.eye(k)
            if len(z):
                share = (1 + np.tanh(z[0])) / 2
                log_prior += stats.beta(ETA, ETA).logpdf(share) + np.log(2 * share * (1 - share))
                R = one_correlation(block.covariance, k, share)
            factors.append(np.exp(log_sds)[:, None] * np.linalg.cholesky(R))
            continue
        u = np.zeros((k, k))
        for (i, j), value in zip(pairs(k), z, strict=True):
            u[i, j] = (1 + np.tanh(value)) / 2
            shape = ETA + (k - 2 - j) / 2
            log_prior += stats.beta(shape, shape).logpdf(u[i, j]) + np.log(2 * u[i, j] * (1 - u[i, j]))
        R = correlation_from_partials(u[np.tril_indices(k, -1)], k)
        factors.append(np.exp(log_sds)[:, None] * np.linalg.cholesky(R))
    if sigma is None:
        sigma = float(np.exp(phi[-1]))
        log_prior += SIGMA.logpdf(sigma) + phi[-1]
    return factors, sigma, float(log_prior)


def prior_of_beta(design: Design, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and covariance (p, p) of the coefficients as typed."""
    p = len(design.common)
    first = np.array(design.common) == "Intercept"
    mean, sd = np.where(first, INTERCEPT[0], COMMON[0]), np.where(first, INTERCEPT[1], COMMON[1])
    back = np.eye(p)  # from the coefficients of centred predictors
    if centred and first.any():
        back[first.argmax(), ~first] = -design.X[:, ~first].mean(axis=0)
    return back @ mean, back @ np.diag(sd**2) @ back.T


def fixed_sigma(name: str, design: Design) -> float | None:
    return 1.0 if design.se is not None else 1.3 if name == "fixed sigma" else None


def covariance(design: Design, factors: list[np.ndarray], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """y less its offset, and its covariance given beta."""
    if not design.blocks:
        return design.y, np.diag(sigma**2 / design.weights)
    y, _, Z, G, noise = dense_parts(design, factors)
    return y, Z @ G @ Z.T + sigma**2 * np.diag(noise)


def random_phis(density: MarginalDensity, count: int = 4, seed: int = 3) -> np.ndarray:
    return 0.7 * np.random.default_rng(seed).normal(size=(count, density.coordinates.d))


def conditional(
    design: Design, factors: list[np.ndarray], sigma: float, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p + q,) and precision of (beta, b) given phi and y, b block after block, level after level."""
    mean, cov = prior_of_beta(design, centred)
    y, X, Z, G, noise = dense_parts(design, factors) if design.blocks else _without_groups(design)
    T, p = np.hstack([X, Z]), X.shape[1]
    prior = np.zeros((T.shape[1], T.shape[1]))
    prior[:p, :p], prior[p:, p:] = np.linalg.inv(cov), np.linalg.inv(G)
    precision = T.T @ (T / (sigma**2 * noise)[:, None]) + prior
    right = T.T @ (y / (sigma**2 * noise)) + prior @ np.concatenate([mean, np.zeros(Z.shape[1])])
    return np.linalg.solve(precision, right), precision


def _without_groups(design: Design) -> tuple[np.ndarray, ...]:
    n = design.nobs
    return design.y, design.X, np.zeros((n, 0)), np.zeros((0, 0)), 1 / design.weights
