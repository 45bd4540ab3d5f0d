"""log p(y_g | all else) of one level's rows in a generalised model, the level's own effects integrated out.

At each posterior draw of everything but the level's effects: adaptive Gauss-Hermite quadrature around their mode (Liu
and Pierce 1994, Biometrika 81).  The inverse of that density weighs the draws towards the posterior without the level
(Merkle, Furr and Rabe-Hesketh 2019, Psychometrika 84, section 4: the marginal likelihood, never the conditional)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from hiermod.engines.likelihood.likelihoods import Likelihood, likelihood_of
from hiermod.engines.posterior import Posterior
from hiermod.errors import FitError, UnsupportedError
from hiermod.families.catalogue import FAMILIES, GENERALISED
from hiermod.formula.design import Block, Design

NODES = {1: 15, 2: 9}  # per dimension
NUMBERS = 4_000_000  # draws x rows x nodes held at once
STEPS, SMALL = 100, 1e-8  # of Newton's method; largest change of u at which it ends
SETTLED = 0.05  # sds of the integrand that its mode may be away: nodes around there are as good


@dataclass(frozen=True, eq=False)
class LevelLogs:
    """At S draws, for J levels: log density of each level's rows with its effects integrated out, and at their draws.

    (J, S) each."""

    integrated: np.ndarray
    at_draws: np.ndarray


def check_quadrature(design: Design, factor: str, family: str, link: str) -> Likelihood:
    """The likelihood, where the effects of a level of ``factor`` can be integrated; UnsupportedError saying why not."""
    able = [name for name in GENERALISED if any(_one_mode(name, link) for link in FAMILIES[name].generalised_links)]
    if family not in able or not FAMILIES[family].generalised(link) or not _one_mode(family, link):
        raise UnsupportedError(f"it is written for {', '.join(able)}, not for family {family!r} with link {link!r}")
    likelihood = likelihood_of(design, family, link)
    K = sum(block.size for block in design.blocks if block.factor == factor)
    if K not in NODES:
        raise UnsupportedError(
            f"each level of {factor!r} has {K} effects, and quadrature integrates one or two out, no more"
        )
    return likelihood


def _one_mode(family: str, link: str) -> bool:
    """Whether the integrand has one mode whatever the further parameters of the response."""
    return not FAMILIES[family].parameters or (link in FAMILIES[family].rows and FAMILIES[family].rows[link].concave)


def level_logs(design: Design, record: Posterior, factor: str, likelihood: Likelihood) -> LevelLogs:
    """For every level of a factor, in the block's order."""
    own = [i for i, block in enumerate(design.blocks) if block.factor == factor]
    blocks = [design.blocks[i] for i in own]
    values = np.hstack([block.values for block in blocks])
    half = half_covariance([flat_draws(record.sd[i]) for i in own], [record.corr[i] for i in own])
    others = [i for i in range(len(design.blocks)) if i not in own]
    J, codes = len(blocks[0].levels), blocks[0].codes
    S = half.shape[0]
    integrated, at_draws = np.empty((J, S)), np.empty((J, S))
    further = _further(likelihood, record)
    effects = [record.effects_of(i) for i in range(len(design.blocks))]
    for level in range(J):
        rows = np.flatnonzero(codes == level)
        eta = flat_draws(record.beta) @ design.X[rows].T
        if design.offset is not None:
            eta = eta + design.offset[rows]
        for i in others:
            eta += effects_at(design.blocks[i], effects[i], rows)
        seen = eta + sum(effects_at(design.blocks[i], effects[i], rows) for i in own)
        part = (likelihood.y[rows], likelihood.trials[rows])
        at_draws[level] = _rows(likelihood, seen, *part, further).sum(axis=1)
        step = max(1, NUMBERS // max(1, len(rows) * NODES[values.shape[1]] ** values.shape[1]))
        for start in range(0, S, step):
            at = slice(start, start + step)
            integrated[level, at] = integrate(likelihood, eta[at], values[rows], half[at], *part, further[:, at])
    return LevelLogs(integrated, at_draws)


def half_covariance(sds: list[np.ndarray], corrs: list[np.ndarray | None]) -> np.ndarray:
    """(S, K, K) a root of the covariance of one level's effects, blocks independent; sds (S, k) per block."""
    K, S = sum(sd.shape[1] for sd in sds), len(sds[0])
    half, at = np.zeros((S, K, K)), 0
    for sd, corr in zip(sds, corrs, strict=True):
        k = sd.shape[1]
        L = np.eye(k) if corr is None else np.linalg.cholesky(flat_draws(corr) + 1e-12 * np.eye(k))
        half[:, at : at + k, at : at + k] = sd[:, :, None] * L
        at += k
    return half


def effects_at(block: Block, b: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(S, rows) contribution of a block's effects b (S, J, k)."""
    return np.asarray(np.einsum("srk,rk->sr", b[:, block.codes[rows]], block.values[rows]))


def integrate(
    likelihood: Likelihood,
    eta: np.ndarray,
    values: np.ndarray,
    half: np.ndarray,
    y: np.ndarray,
    trials: np.ndarray,
    further: np.ndarray | None = None,
) -> np.ndarray:
    """(S,) log of the integral over u ~ N(0, I) of the likelihood at eta + values half u.

    eta (S, m) without the level's effects; values (m, K); half (S, K, K); y, trials (m,).
    further (A, S): the family's further parameters at each draw, on scales without ends; None where there are none."""
    S, m = eta.shape
    K = values.shape[1]
    V = values @ half  # (S, m, K)
    tiled = _tiled(likelihood, y, trials, S, further)
    columns: tuple[Any, ...] = tuple(np.asarray(a)[:, None] for a in tiled.auxiliary)
    wide = replace(tiled, auxiliary=columns)

    def log_integrand(u: np.ndarray) -> np.ndarray:  # u (S, K, nodes) -> (S, nodes)
        at = (eta[:, :, None] + V @ u).reshape(S * m, -1)
        rows = wide.rows(at) + tiled.constant[:, None]
        return rows.reshape(S, m, -1).sum(axis=1) - 0.5 * np.square(u).sum(axis=1) - 0.5 * K * np.log(2 * np.pi)

    mode, root = _mode(tiled, eta, V, log_integrand)
    z, w = np.polynomial.hermite_e.hermegauss(NODES[K])
    nodes = np.stack(np.meshgrid(*[z] * K, indexing="ij")).reshape(K, -1)
    log_w = np.log(np.stack(np.meshgrid(*[w] * K, indexing="ij")).reshape(K, -1)).sum(axis=0)
    log_w += 0.5 * np.square(nodes).sum(axis=0)
    logs = log_integrand(mode[:, :, None] + root @ nodes) + log_w
    return np.asarray(logsumexp(logs, axis=1) + np.linalg.slogdet(root)[1])


def _mode(tiled: Likelihood, eta: np.ndarray, V: np.ndarray, log_integrand: object) -> tuple[np.ndarray, np.ndarray]:
    """u (S, K) where the integrand is largest, and (S, K, K) an inverse root of its curvature there.

    Newton's method with step halving, all draws at once; the integrand is concave.  FitError where a draw's mode is
    not found: what is integrated around another place would be a wrong number."""
    S, K = len(eta), V.shape[2]
    u = _start(tiled, eta, V)
    value = log_integrand(u[:, :, None])[:, 0]  # type: ignore[operator]
    at_zero = log_integrand(np.zeros((S, K, 1)))[:, 0]  # type: ignore[operator]
    nearer = ~(value > at_zero)
    u[nearer], value[nearer] = 0.0, at_zero[nearer]
    for _ in range(STEPS):
        slope, H = _curvature(tiled, eta, V, u)
        step = np.linalg.solve(H, slope[:, :, None])[:, :, 0]
        shrink = np.ones(S)
        for _ in range(30):
            trial = u + shrink[:, None] * step
            new = log_integrand(trial[:, :, None])[:, 0]  # type: ignore[operator]
            worse = ~(new >= value - 1e-10)
            if not worse.any():
                break
            shrink[worse] *= 0.5
        moved = np.where(worse[:, None], u, trial)
        change = np.abs(moved - u).max()
        u, value = moved, np.where(worse, value, new)
        if change < SMALL:
            break
    slope, H = _curvature(tiled, eta, V, u)
    root = np.swapaxes(np.linalg.inv(np.linalg.cholesky(H)), 1, 2)
    away = np.abs(np.einsum("skl,sk->sl", root, slope)).max(initial=0.0)  # in sds of the integrand
    if not away < SETTLED:
        raise FitError(
            f"the effects of a level cannot be integrated out at a draw: their mode was not found (Newton's method is "
            f'{away:.2g} standard deviations away after {STEPS} steps). kfold(k="all", group=...) refits without it'
        )
    return u, root


def _start(tiled: Likelihood, eta: np.ndarray, V: np.ndarray) -> np.ndarray:
    """u (S, K) by least squares of linear predictors near the data: exponential rows are steep far from them."""
    S, m = eta.shape
    near = tiled.start()
    weight = np.maximum(tiled.derivatives(near).expected, 0.0).reshape(S, m)
    H = np.einsum("smk,sm,sml->skl", V, weight, V) + np.eye(V.shape[2])
    found = np.linalg.solve(H, np.einsum("smk,sm->sk", V, weight * (near.reshape(S, m) - eta))[:, :, None])
    return np.asarray(found[:, :, 0])


def _curvature(tiled: Likelihood, eta: np.ndarray, V: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (S, K) of the log integrand, and minus its second derivative (S, K, K).

    Not the expected one: of exponential rows it says nothing of how steep they are away from the mode."""
    S, m = eta.shape
    d = tiled.derivatives((eta + np.einsum("smk,sk->sm", V, u)).reshape(-1))
    slope = np.einsum("smk,sm->sk", V, d.score.reshape(S, m)) - u
    H = np.einsum("smk,sm,sml->skl", V, np.maximum(d.observed, 0.0).reshape(S, m), V) + np.eye(V.shape[2])
    return slope, H


def _further(likelihood: Likelihood, record: Posterior) -> np.ndarray:
    """(A, S) the family's further parameters at each draw, on scales without ends."""
    S = record.shape[0] * record.shape[1]
    if likelihood.record.likelihood is not None:
        return np.empty((0, S))
    functions = likelihood.record.rows[likelihood.link]
    named = record.auxiliary if record.sigma is None else {**record.auxiliary, "sigma": record.sigma}
    drawn = [functions.unconstrained(k, flat_draws(named[name])) for k, name in enumerate(functions.names)]
    return np.array(drawn).reshape(len(drawn), S)


def _tiled(likelihood: Likelihood, y: np.ndarray, trials: np.ndarray, S: int, further: np.ndarray | None) -> Likelihood:
    """The m rows once for every draw, draw after draw, each with that draw's further parameters."""
    held: tuple[Any, ...] = () if further is None else tuple(np.repeat(a, len(y)) for a in further)
    return replace(likelihood, y=np.tile(y, S), trials=np.tile(trials, S), auxiliary=held)


def _rows(
    likelihood: Likelihood, eta: np.ndarray, y: np.ndarray, trials: np.ndarray, further: np.ndarray
) -> np.ndarray:
    """(S, m) log likelihood of each row."""
    S, m = eta.shape
    tiled = _tiled(likelihood, y, trials, S, further)
    flat = eta.reshape(-1)
    return (tiled.rows(flat) + tiled.constant).reshape(S, m)


def flat_draws(draws: np.ndarray) -> np.ndarray:
    """(chain, draw, ...) as (chain * draw, ...)."""
    return draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])
