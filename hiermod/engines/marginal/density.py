"""log p(phi | y) of a Gaussian hierarchical model: common and group effects integrated out exactly.

With Normal priors on beta the penalised system of Bates et al. (2015) gains sigma^2 S0^-1 on X's block, so one blocked
Cholesky factor gives the marginal likelihood; flat priors leave the REML criterion.  Values include every constant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.covariance.vine import log_beta
from hiermod.engines.marginal.coordinates import Coordinates
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import is_linear
from hiermod.formula.design import Design
from hiermod.kernel.adjoint import tail_inverse
from hiermod.kernel.batch import Batch, BatchFactor, factorise_batch, prepare
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.criterion import Problem, build_problem
from hiermod.kernel.elimination import Factorisation, factorise
from hiermod.priors.distributions import Density, Distribution
from hiermod.priors.gaussian import GaussianPriors, gaussian_priors
from hiermod.priors.given import PriorSet


@dataclass(frozen=True, eq=False)
class MarginalDensity:
    """The marginal posterior of phi.  Immutable; every method is a function of phi (d,), or of many, (S, d)."""

    problem: Problem
    priors: GaussianPriors
    coordinates: Coordinates
    sd_densities: tuple[tuple[Density, ...], ...]
    sigma_density: Density | None
    fixed_sigma: float  # sigma where it is not free: 1 with known residual sds
    penalty: np.ndarray  # (p + 1, p + 1): the prior of beta on X and y's part, in conditioned coordinates
    constant: float

    # --- one phi ------------------------------------------------------------------------------------------------
    def lambdas(self, phi: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Lambda (..., k, k) per block in the columns as typed, relative to sigma, and sigma (...)."""
        sigma = self.sigma(phi)
        factors = self.coordinates.correlation_factors(phi)
        sds = self.coordinates.sds(phi)
        return [(sd / sigma[..., None])[..., None] * L for sd, L in zip(sds, factors, strict=True)], sigma

    def sigma(self, phi: np.ndarray) -> np.ndarray:
        """Residual sd (...); the multiple of the known ones where those are known."""
        if self.coordinates.has_sigma:
            return np.exp(phi[..., -1].copy())  # as in Coordinates.sds
        return np.full(phi.shape[:-1], self.fixed_sigma)

    def factorise(self, phi: np.ndarray) -> Factorisation | None:
        """The penalised factor at phi, the prior of beta included; None where floating point cannot hold it."""
        cross = self.problem.cross
        tail = cross.tail.copy()
        m_z = cross.n_tail_effects
        with np.errstate(all="ignore"):
            lambdas, sigma = self.lambdas(phi)
            tail[m_z:, m_z:] += np.square(sigma) * self.penalty
            try:
                return factorise(replace(cross, tail=tail), self.by_factor(lambdas))
            except np.linalg.LinAlgError:
                return None

    def by_factor(self, lambdas: list[np.ndarray]) -> list[np.ndarray]:
        """Lambda~ (..., K, K) of the kernel's factors."""
        return self.problem.by_factor(self.problem.search_lambdas(lambdas))

    def value(self, phi: np.ndarray, factor: Factorisation | None = None) -> float:
        """log p(phi, y), at its factor where that is known; -inf outside the priors' support or where there is none."""
        prior, _ = self.log_prior(phi)
        if factor is None and np.isfinite(prior):
            factor = self.factorise(phi)
        if factor is None:
            return -np.inf
        logdet = factor.logdet_random + factor.logdet_fixed
        value = float(prior + self._log_likelihood(logdet, factor.pwrss, self.sigma(phi)))
        return value if np.isfinite(value) else -np.inf

    def _log_likelihood(self, logdet: Any, pwrss: Any, sigma: Any) -> Any:
        """log p(y | phi) from the factor's numbers."""
        with np.errstate(all="ignore"):
            power = 2 * (self.problem.n - self.problem.p) * np.log(sigma)
            return -0.5 * (self.constant + power + logdet + pwrss / np.square(sigma))

    def value_and_gradient(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        """log p(phi, y) and its gradient (d,)."""
        with np.errstate(all="ignore"):  # a search can go where floating point cannot follow
            value, gradient = self._value_and_gradient(phi)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return value, gradient
        return -np.inf, np.zeros(len(phi))

    def _value_and_gradient(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        prior, gradient = self.log_prior(phi)
        factor = self.factorise(phi) if np.isfinite(prior) else None
        if factor is None:
            return -np.inf, gradient
        lambdas, sigma_array = self.lambdas(phi)
        sigma = float(sigma_array)
        if not 0 < sigma**2 < np.inf:
            return -np.inf, gradient
        value = self._log_likelihood(factor.logdet_random + factor.logdet_fixed, factor.pwrss, sigma)
        by_block = self.problem.typed_slopes(factor, True, 1 / sigma**2)
        gradient = gradient.copy()
        along_sigma = 0.0
        factors = self.coordinates.correlation_factors(phi)
        by_structure = zip(self.coordinates.structures, self.coordinates.parts(), strict=True)
        values = zip(by_structure, lambdas, factors, self.coordinates.sds(phi), by_block, strict=True)
        for (structure, (where_sd, where_z)), Lam, L, sd, G in values:
            G = np.tril(G)
            rows = (G * Lam).sum(axis=1)
            gradient[where_sd] -= 0.5 * (rows.sum() if structure.hom else rows)
            along_sigma -= rows.sum()
            if where_z.start < where_z.stop:
                by_root = G * (sd / sigma)[:, None]
                gradient[where_z] -= 0.5 * structure.correlation_root_pullback(phi[where_z], L, by_root)
        if self.coordinates.has_sigma:
            gradient[-1] -= 0.5 * (along_sigma + self._sigma_gradient(factor, sigma))
        return float(prior) + value, gradient

    def _sigma_gradient(self, factor: Factorisation, sigma: float) -> float:
        """d / d log sigma of the explicit terms: the power of sigma, pwrss / sigma^2, and sigma^2 in the penalty."""
        m_z = factor.cross.n_tail_effects
        inverse = tail_inverse(factor, True)[m_z:, m_z:]
        solution = factor.solution[m_z:]
        penalty = float((inverse * self.penalty).sum() + solution @ self.penalty @ solution / sigma**2)
        return 2 * (self.problem.n - self.problem.p) - 2 * factor.pwrss / sigma**2 + 2 * sigma**2 * penalty

    # --- many phi -----------------------------------------------------------------------------------------------
    @cached_property
    def batch(self) -> Batch | None:
        """Prepared for stacks, where the problem is small enough for them."""
        return prepare(self.problem.cross)

    def factorise_many(self, phi: np.ndarray) -> BatchFactor:
        """Factors at each row of phi (S, d); only where ``batch`` is not None, and at most ``batch.chunk()`` rows."""
        with np.errstate(all="ignore"):
            lambdas, sigma = self.lambdas(phi)
            added = np.square(sigma)[:, None, None] * self.penalty
            return factorise_batch(self.batch, self.by_factor(lambdas), added)  # type: ignore[arg-type]

    def values(self, phi: np.ndarray) -> np.ndarray:
        """log p(phi, y) at each row of phi, (S,)."""
        prior, _ = self.log_prior(phi)
        values = np.full(len(phi), -np.inf)
        inside = np.flatnonzero(np.isfinite(prior))
        if self.batch is None:
            for s in inside:
                values[s] = self.value(phi[s])
            return values
        step = self.batch.chunk()
        for start in range(0, len(inside), step):
            rows = inside[start : start + step]
            factor = self.factorise_many(phi[rows])
            logs = self._log_likelihood(factor.logdet_random + factor.logdet_fixed, factor.pwrss, self.sigma(phi[rows]))
            logs = prior[rows] + logs
            values[rows] = np.where(factor.ok & np.isfinite(logs), logs, -np.inf)
        return values

    def penalised_squares(self, phi: np.ndarray) -> np.ndarray:
        """Penalised residual sum of squares at each row of phi, (S,); nan where there is no factor."""
        found = np.full(len(phi), np.nan)
        if self.batch is None:
            for s, one in enumerate(phi):
                factor = self.factorise(one)
                found[s] = np.nan if factor is None else factor.pwrss
            return found
        for start in range(0, len(phi), self.batch.chunk()):
            part = slice(start, start + self.batch.chunk())
            many = self.factorise_many(phi[part])
            found[part] = np.where(many.ok, many.pwrss, np.nan)
        return found

    # --- priors -------------------------------------------------------------------------------------------------
    def log_prior(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p(phi) (...) with the Jacobians of the unbounded scales, and its gradient (..., d)."""
        value, gradient = np.zeros(phi.shape[:-1]), np.zeros(phi.shape)
        with np.errstate(all="ignore"):  # proposals can be far out
            for i, (where_sd, where_z) in enumerate(self.coordinates.parts()):
                for j, density in enumerate(self.sd_densities[i]):
                    at = where_sd.start + j
                    one, slope = density(phi[..., at].copy())
                    value, gradient[..., at] = value + one, slope
                if where_z.start < where_z.stop:
                    shapes = self.coordinates.structures[i].beta_shapes(self.priors.eta[i])
                    one, gradient[..., where_z] = log_beta(phi[..., where_z].copy(), shapes)
                    value = value + one
            if self.sigma_density is not None:
                one, gradient[..., -1] = self.sigma_density(phi[..., -1].copy())
                value = value + one
        return value, gradient


def marginal_density(design: Design, priors: GaussianPriors) -> MarginalDensity:
    """Prepare the density.  UnsupportedError, saying why, where beta or a prior keeps it from a closed form."""
    if not (np.isfinite(priors.mean).all() and (priors.sd > 0).all()):
        raise UnsupportedError("a prior of a common coefficient has no finite mean or positive sd")
    terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
    prior = prior_rows(design, priors)
    problem = build_problem(design.y, design.X, terms, design.precision, design.offset, prior)
    fixed = 1.0 if priors.sigma is None else priors.sigma if isinstance(priors.sigma, float) else None
    sigma_density = _density_of(priors.sigma, "sigma") if isinstance(priors.sigma, Distribution) else None
    penalty, log_sd = _penalty(problem, priors, design)
    p_flat = int(np.isinf(priors.sd).sum())
    constant = (problem.n - p_flat) * np.log(2 * np.pi) - problem.sum_log_w + problem.logdet_R + 2 * log_sd
    return MarginalDensity(
        problem=problem,
        priors=priors,
        coordinates=Coordinates(tuple(block.structure for block in design.blocks), fixed is None),
        sd_densities=tuple(
            tuple(
                _density_of(prior, column.sd_name)
                for prior, column in zip(sds[: block.structure.n_sds], block.columns, strict=False)
            )
            for sds, block in zip(priors.sds, design.blocks, strict=True)
        ),
        sigma_density=sigma_density,
        fixed_sigma=1.0 if fixed is None else fixed,
        penalty=penalty,
        constant=float(constant),
    )


def density_of(design: Design, family: Any, link: Any, priors: PriorSet, center_predictors: bool) -> MarginalDensity:
    """The density of a model as it is written.  UnsupportedError, saying why, where it has no closed form."""
    if not is_linear(family, link):
        raise UnsupportedError(f"family {family!r} with link {link!r} is not Gaussian with identity link")
    if design.special is not None:
        raise UnsupportedError(f"the response {design.response!r} has a likelihood of its own")
    return marginal_density(design, gaussian_priors(design, priors, center_predictors))


def _density_of(prior: Distribution, name: str) -> Density:
    density = prior.log_scale_density()
    if density is None:
        raise UnsupportedError(f"the prior of {name!r} is {prior}, which only the graph can evaluate")
    return density


def prior_rows(design: Design, priors: GaussianPriors) -> tuple[np.ndarray, np.ndarray]:
    """H (p, p) and h (p,) with (beta - m0)'S0^-1 (beta - m0) = |H beta - h|^2; rows of 0 where the prior is flat.

    Centred: the intercept's prior is that of Intercept + x-bar'beta."""
    p = len(design.common)
    precision = np.where(np.isinf(priors.sd), 0.0, 1.0 / priors.sd)
    rows = np.eye(p)  # row i: the combination of beta that prior i is about
    if priors.centred:
        where = design.common.index("Intercept")
        rows[where] = priors.centre
        rows[where, where] = 1.0
    return precision[:, None] * rows, precision * priors.mean


def _penalty(problem: Problem, priors: GaussianPriors, design: Design) -> tuple[np.ndarray, float]:
    """(p + 1, p + 1): with gamma = R beta - gamma_ols, (-gamma, 1)' P (-gamma, 1) = (beta - m0)'S0^-1 (beta - m0);
    and the sum of the priors' log sds."""
    if problem.p == 0:
        return np.zeros((1, 1)), 0.0
    H, h = prior_rows(design, priors)
    root = solve_triangular(problem.R, H.T, trans=1).T  # (p, p): S0^-1/2 R^-1
    shift = root @ problem.gamma_ols - h
    joint = np.column_stack([-root, shift])
    return joint.T @ joint, float(np.log(priors.sd[np.isfinite(priors.sd)]).sum())
