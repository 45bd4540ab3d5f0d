"""Standard errors of sds, correlations and sigma from the observed information of a REML or ML fit.

The criterion's Hessian in theta (of structured covariances in their search coordinates) has sigma profiled out; with
log sigma beside it, r^2(theta) / sigma^2 + 2 m log sigma has the second derivative 4 m in log sigma at the optimum.
The delta method does the rest.  nan at a boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.likelihood.structured import SearchSpace
from hiermod.fits.tables import corr_names, sd_names
from hiermod.kernel.threads import suitable_threads

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

STEP = 1e-4


def scale_errors(fit: MixedFit) -> dict[str, float]:
    """Standard errors on each parameter's own scale, by its name in ``fit.parameters()``.

    At a singular fit the columns of Lambda that are zero stay zero (the criterion is even in them), and what is at its
    boundary, an sd of 0 or a correlation of 1, has none."""
    names = [name for block in fit.design.blocks for name in (*sd_names(block), *corr_names(block))]
    names += [] if fit.sigma_known else ["sigma"]
    if not fit.converged:
        return dict.fromkeys(names, float("nan"))
    at = _Coordinates.of(fit)
    free = at.free
    values = np.array(list(_values(fit, fit.theta, fit.sigma).values()))
    with suitable_threads(fit.problem.n_dense), np.errstate(invalid="ignore", divide="ignore"):
        cov_theta = 2.0 * np.linalg.pinv(at.hessian[np.ix_(free, free)], hermitian=True)
        log_sigma = [0.0 if fit.sigma_known else 0.5 * _log_pwrss_slope(fit, at, i) for i in free]
        rows = [_slope(fit, at, i, slope) for i, slope in zip(free, log_sigma, strict=True)]
        gradient = np.array(rows).reshape(len(free), len(names))  # (theta, parameters)
        variance = np.einsum("ap,ab,bp->p", gradient, cov_theta, gradient)
        correlation = np.array(["_corr" in name for name in names])
        if not fit.sigma_known:
            m = fit.problem.n - (fit.problem.p if fit.reml else 0)
            variance = variance + np.where(correlation, 0.0, values**2 / (2.0 * m))
        edge = np.where(correlation, np.abs(values) > 1 - 1e-6, values == 0) | ~(variance > 0)
        return dict(zip(names, np.where(edge, np.nan, np.sqrt(variance)).tolist(), strict=True))


def estimates_and_errors(fit: FrequentistFit) -> tuple[dict[str, float], dict[str, float]]:
    """Estimates and standard errors by parameter name; nan where there is none."""
    fixed = fit.fixef(ddf=None)
    estimates = {str(name): float(value) for name, value in fixed["estimate"].items()}
    errors = {str(name): float(value) for name, value in fixed["std_error"].items()}
    names = [name for block in fit.design.blocks for name in (*sd_names(block), *corr_names(block))]
    varcorr = fit.varcorr()["sdcor"].to_numpy(dtype=float)
    estimates |= dict(zip([*names, "sigma"], varcorr.tolist(), strict=False))
    if isinstance(fit.record, MixedFit):
        errors |= scale_errors(fit.record)
    elif "sigma" in estimates and hasattr(fit.record, "df_residual"):
        errors["sigma"] = estimates["sigma"] / np.sqrt(2.0 * float(fit.record.df_residual))
    return estimates, errors


def _values(fit: MixedFit, theta: np.ndarray, sigma: float) -> dict[str, float]:
    """Every sd, correlation and sigma at theta and sigma."""
    out: dict[str, float] = {}
    for block, Lam in zip(fit.design.blocks, fit.problem.template.unpack(theta), strict=True):
        cov = sigma**2 * Lam @ Lam.T
        sd = np.sqrt(np.diag(cov))
        out |= dict(zip(sd_names(block), sd, strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):  # a correlation with an sd of 0 is undefined
            correlations = [cov[i, j] / (sd[i] * sd[j]) for i, j in block.pairs]
        out |= dict(zip(corr_names(block), correlations, strict=True))
    return out if fit.sigma_known else out | {"sigma": sigma}


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """The numbers that the covariances are differentiated by: theta, or the search coordinates of structures."""

    values: np.ndarray
    free: list[int]
    hessian: np.ndarray
    space: SearchSpace | None = None

    @classmethod
    def of(cls, fit: MixedFit) -> _Coordinates:
        problem = fit.problem
        if not fit.design.structured_blocks:
            columns = [np.broadcast_to((Lam != 0).any(axis=0), Lam.shape) for Lam in problem.template.unpack(fit.theta)]
            return cls(fit.theta, np.flatnonzero(problem.template.pack(columns).astype(bool)).tolist(), fit.hessian)
        space = SearchSpace.of(fit.design, problem)
        s, rows = space.s(fit.Lambda), []
        for i, size in enumerate(np.abs(s)):
            step = np.zeros(len(s))
            step[i] = STEP * max(float(size), 0.01)
            up, down = (
                space.gradient(at, problem.criterion_and_gradient_x(space.x(at), fit.reml)[1])
                for at in (s + step, s - step)
            )
            rows.append((up - down) / (2.0 * step[i]))
        hessian = 0.5 * (np.array(rows) + np.array(rows).T)
        return cls(s, np.flatnonzero(space.inside(s)).tolist(), hessian, space)

    def moved(self, fit: MixedFit, i: int, sign: float) -> tuple[np.ndarray, float]:
        """theta with element i moved, and by how much."""
        step = STEP * max(abs(float(self.values[i])), 0.01)
        values = np.array(self.values)
        values[i] += sign * step
        return values if self.space is None else fit.problem.theta_from_x(self.space.x(values)), step


def _log_pwrss_slope(fit: MixedFit, at: _Coordinates, i: int) -> float:
    """d log r^2 / d element i."""
    logs = []
    for sign in (1.0, -1.0):
        theta, step = at.moved(fit, i, sign)
        factor = fit.problem.factorise(theta)
        logs.append(np.nan if factor is None else np.log(factor.pwrss))
    return float((logs[0] - logs[1]) / (2 * step))


def _slope(fit: MixedFit, at: _Coordinates, i: int, log_sigma: float) -> np.ndarray:
    """d parameters / d element i, sigma following as the profile does."""
    ends = []
    for sign in (1.0, -1.0):
        theta, step = at.moved(fit, i, sign)
        sigma = fit.sigma * float(np.exp(sign * step * log_sigma))
        ends.append(np.array(list(_values(fit, theta, sigma).values())))
    return (ends[0] - ends[1]) / (2 * step)
