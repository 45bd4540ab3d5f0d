"""The ML deviance with one parameter held: an sd, a correlation, sigma or a fixed effect (Bates et al. 2015, sec. 5).

Each kind has coordinates (phi, x) in which holding phi is no more than not moving it.  Sds and correlations are those
of the effects themselves (Sigma = T T', T = sigma Lambda), so their block is written as the Cholesky factor of Sigma
with the effects in question first: T[0, 0] is then the sd, and the angle of T's second row the arcsine of the
correlation.  Minus two log likelihood = log|L_Z|^2 + r^2 / sigma^2 + n log(2 pi sigma^2) - sum log w."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.linalg import solve_triangular

from hiermod.kernel.criterion import Problem
from hiermod.kernel.elimination import factorise


@dataclass(frozen=True)
class Parameter:
    """What is held.  block, i, j: position of an sd (i) or a correlation (i < j); i: column of X for a fixed effect.

    Of the family's further parameters i is the place among them, name what it is called."""

    kind: Literal["fixed", "sd", "corr", "sigma", "auxiliary"]
    block: int = -1
    i: int = -1
    j: int = -1
    name: str = ""


@dataclass(frozen=True, eq=False)
class Deviance:
    """The deviance somewhere, and its derivatives; (inf, nan) where it could not be computed."""

    value: float
    lambdas: tuple[np.ndarray, ...]  # (k, k) per block, whitened: d / dLambda~, every element
    log_sigma: float  # at fixed Lambda; 0 when sigma is profiled or known
    fixed: float  # with respect to the fixed effect held


def deviance(
    problem: Problem, lambdas: list[np.ndarray], sigma: float | None, fixed: tuple[int, float] | None = None
) -> Deviance | None:
    """The deviance at whitened Lambdas (k, k), one per block, lower triangular or not.

    sigma: None to profile it out (it is 1 where it is known).  fixed: (column of X, value) to hold one coefficient.
    None where the factor cannot be had in floating point."""
    cross, n = problem.cross, problem.n
    by_factor = problem.by_factor(lambdas)
    if not all(np.isfinite(Lam).all() for Lam in by_factor):
        return None
    factor = factorise(cross, by_factor)
    if factor is None:
        return None
    pwrss, slope = factor.pwrss, 0.0
    if fixed is not None:
        column, value = fixed
        m_z, size = cross.n_tail_effects, cross.n_tail_effects + problem.p
        row = solve_triangular(problem.R, np.eye(problem.p)[column], trans=1)  # of R^-1
        half = np.zeros(size)
        half[m_z:] = solve_triangular(factor.L[m_z:size, m_z:size], row, lower=True)
        variance = float(half @ half)  # of the coefficient, over sigma^2
        away = value - float(row @ (problem.gamma_ols - factor.solution[m_z:size]))
        solution = factor.solution.copy()
        solution[:size] -= away / variance * solve_triangular(factor.L[:size, :size], half, lower=True, trans=1)
        pwrss += away**2 / variance
        slope = 2.0 * away / variance
        factor = replace(factor, solution=solution)
    total = factor.logdet_random - problem.sum_log_w
    log_sigma = 0.0
    if problem.sigma_known:
        weight = 1.0
        total += pwrss + n * float(np.log(2.0 * np.pi))
    elif sigma is None:
        weight = n / pwrss
        total += n * (1.0 + float(np.log(2.0 * np.pi * pwrss / n)))
    else:
        weight = 1.0 / sigma**2
        total += pwrss * weight + n * float(np.log(2.0 * np.pi * sigma**2))
        log_sigma = 2.0 * (n - pwrss * weight)
    if not np.isfinite(total):
        return None
    return Deviance(total, tuple(problem.search_slopes(factor, False, weight)), log_sigma, weight * slope)


class Held:
    """The deviance as a function of (phi, x), phi standing for one parameter.

    phi: the sd; the angle whose sine is the correlation; log sigma; the coefficient.  x: all the other free numbers."""

    def __init__(
        self, problem: Problem, parameter: Parameter, lambdas: tuple[np.ndarray, ...], sigma: float, beta: np.ndarray
    ) -> None:
        """lambdas (k, k) as typed, sigma and the estimable beta (p,): the ML estimates, where the search starts."""
        self.problem, self.parameter = problem, parameter
        self.evaluations = 0
        whitened = problem.search_lambdas(lambdas)
        self.low, self.high, self.unit = -np.inf, np.inf, 1.0
        kind = parameter.kind
        if kind in ("fixed", "sigma", "auxiliary"):
            self.start = problem.template.pack(whitened)
            self.phi = float(beta[parameter.i]) if kind == "fixed" else float(np.log(sigma))
            self.bound = np.full(len(self.start), -np.inf)
            return
        block = parameter.block
        k = len(lambdas[block])
        first = [parameter.i] if kind == "sd" else [parameter.i, parameter.j]
        self.order = np.array([*first, *(a for a in range(k) if a not in first)])
        self.scale = (sigma / problem.rms[block])[self.order]  # makes T's rows numbers of order one
        T = np.transpose(np.linalg.qr((sigma * lambdas[block])[self.order].T)[1])
        T = T * np.where(np.diag(T) < 0, -1.0, 1.0)
        own = T / self.scale[:, None]
        rest = np.concatenate([[0.0], *(m[np.tril_indices(len(m))] for i, m in enumerate(whitened) if i != block)])[1:]
        last = [] if problem.sigma_known else [float(np.log(sigma))]
        if kind == "sd":
            self.phi, self.low, self.unit = float(T[0, 0]), 0.0, float(self.scale[0])
            mine = own[self._free]
        else:
            self.phi = float(np.arctan2(T[1, 0], T[1, 1]))
            self.low, self.high = -0.5 * np.pi, 0.5 * np.pi
            mine = np.array([own[0, 0], np.hypot(own[1, 0], own[1, 1]), *own[self._free]])
        self.start = np.concatenate([mine, rest, last])
        self.bound = np.full(len(self.start), -np.inf)
        if kind == "corr":
            self.bound[:2] = 0.0  # the sign of an sd would be that of the correlation

    @cached_property
    def _free(self) -> tuple[np.ndarray, np.ndarray]:
        """Elements of T that are coordinates as they stand."""
        rows, columns = np.tril_indices(len(self.order))
        keep = rows >= (1 if self.parameter.kind == "sd" else 2)
        return rows[keep], columns[keep]

    def natural(self, phi: float) -> float:
        """The parameter itself at phi."""
        if self.parameter.kind == "corr":
            return float(np.sin(phi))
        return float(np.exp(phi)) if self.parameter.kind == "sigma" else phi

    def natural_slope(self, phi: float) -> float:
        """d parameter / d phi."""
        if self.parameter.kind == "corr":
            return float(np.cos(phi))
        return float(np.exp(phi)) if self.parameter.kind == "sigma" else 1.0

    def theta(self, phi: float, x: np.ndarray) -> np.ndarray:
        """lme4's theta at (phi, x), a start for a new search."""
        typed = [self.problem.typed_lambda(block, Lam) for block, Lam in enumerate(self.lambdas(phi, x))]
        return self.problem.template.pack([np.transpose(np.linalg.qr(Lam.T)[1]) for Lam in typed])

    def __call__(self, phi: float, x: np.ndarray) -> tuple[float, float, np.ndarray]:
        """(deviance, d / dphi, d / dx); (inf, nan, nan) where it could not be computed."""
        self.evaluations += 1
        template, kind = self.problem.template, self.parameter.kind
        if kind in ("fixed", "sigma"):
            at = list(template.unpack(x))
            fixed = (self.parameter.i, phi) if kind == "fixed" else None
            found = deviance(self.problem, at, np.exp(phi) if kind == "sigma" else None, fixed)
            if found is None:
                return np.inf, np.nan, np.full(len(x), np.nan)
            return found.value, found.fixed if fixed else found.log_sigma, template.pack(found.lambdas)
        with np.errstate(over="ignore"):
            sigma = 1.0 if self.problem.sigma_known else float(np.exp(x[-1]))
        at = self.lambdas(phi, x)
        found = deviance(self.problem, at, sigma)
        if found is None:
            return np.inf, np.nan, np.full(len(x), np.nan)
        block = self.parameter.block
        slope, parts = self.pulled_back(phi, x, found.lambdas, sigma)
        last = [] if self.problem.sigma_known else [found.log_sigma - float((found.lambdas[block] * at[block]).sum())]
        return found.value, slope, np.concatenate([*parts, last])

    def pulled_back(
        self, phi: float, x: np.ndarray, gradients: Sequence[np.ndarray], sigma: float
    ) -> tuple[float, list[np.ndarray]]:
        """d / dphi of an sd or a correlation, and d / dx but for sigma's place, from the gradients (k, k) per block."""
        block = self.parameter.block
        G = (self.problem.typed_slope(block, gradients[block]) / sigma)[self.order] * self.scale[:, None]
        mine = G[self._free]
        if self.parameter.kind == "sd":
            slope = float(G[0, 0] / self.scale[0])
        else:
            sine, cosine, sd2 = np.sin(phi), np.cos(phi), x[1]
            slope = float(sd2 * (cosine * G[1, 0] - sine * G[1, 1]))
            mine = np.array([G[0, 0], sine * G[1, 0] + cosine * G[1, 1], *mine])
        return slope, [mine, *(g[np.tril_indices(len(g))] for i, g in enumerate(gradients) if i != block)]

    def lambdas(self, phi: float, x: np.ndarray) -> list[np.ndarray]:
        """Whitened Lambdas at (phi, x)."""
        template, kind, block = self.problem.template, self.parameter.kind, self.parameter.block
        if kind in ("fixed", "sigma", "auxiliary"):
            return list(template.unpack(x))
        with np.errstate(over="ignore"):
            sigma = 1.0 if self.problem.sigma_known else float(np.exp(x[-1]))
        k = len(self.order)
        T, used = np.zeros((k, k)), 0 if kind == "sd" else 2
        T[self._free] = x[used : used + len(self._free[0])]
        used += len(self._free[0])
        if kind == "corr":
            T[0, 0], T[1, 0], T[1, 1] = x[0], x[1] * np.sin(phi), x[1] * np.cos(phi)
        T *= self.scale[:, None]
        if kind == "sd":
            T[0, 0] = phi
        as_typed = np.empty((k, k))
        as_typed[self.order] = T
        found: list[np.ndarray] = []
        for i, size in enumerate(template.sizes):
            if i == block:
                found.append(self.problem.search_lambda(block, as_typed / sigma))
                continue
            Lam, count = np.zeros((size, size)), size * (size + 1) // 2
            Lam[np.tril_indices(size)] = x[used : used + count]
            used += count
            found.append(Lam)
        return found
