"""NUTS on the marginal density, for posteriors that a mixture of t distributions cannot follow.

nutpie samples any log density with a gradient; the few dimensions left make an evaluation cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core import versions
from hiermod.engines.marginal.boundary_transform import Warp
from hiermod.engines.marginal.bounds import Bounds, bounds_of
from hiermod.engines.marginal.density import MarginalDensity
from hiermod.engines.marginal.mode import value_and_gradient
from hiermod.engines.nuts.engine import TARGET_ACCEPT
from hiermod.engines.nuts.quiet import collected

if TYPE_CHECKING:
    from hiermod.engines.marginal.engine import Search

STATS = {  # nutpie's name -> ArviZ's
    "logp": "lp",
    "mean_tree_accept": "acceptance_rate",
    "diverging": "diverging",
    "n_steps": "n_steps",
    "step_size": "step_size",
}


def sample_phi(
    density: MarginalDensity,
    found: Search,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    target_accept: float | None,
    cores: int | None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """phi (chains, draws, d) and, for each draw (chains, draws), lp, acceptance_rate, diverging, n_steps, step_size.

    The density is sampled without bounds, in the coordinates of the adapted mixture, where its spread is about one."""
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    d = density.coordinates.d
    bounds = bounds_of(density.coordinates, density.priors)
    warp = Warp(np.where(bounds.bounded, np.nan, found.mixture.warp.centre))
    mean, cov = found.mixture.moments() if not bounds.bounded.any() else _inner_moments(found, bounds, warp)
    root = np.linalg.cholesky(cov)

    def make_logp() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        def logp(z: np.ndarray) -> tuple[float, np.ndarray]:
            s = mean + root @ z
            log_slope, along, slopes = bounds.log_slope(s)
            value, gradient = value_and_gradient(density, warp, bounds.to_phi(s))
            return value + float(log_slope), root.T @ (gradient * slopes + along)

        return logp

    def make_expand(*_: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda z: {"phi": mean + root @ np.asarray(z)}

    def make_start(start_seed: int) -> np.ndarray:
        return 0.5 * np.random.default_rng(start_seed).standard_normal(d)

    kind = [np.dtype("float64")]
    model = from_pyfunc(d, make_logp, make_expand, kind, [(d,)], ["phi"], make_initial_point_fn=make_start)
    target_accept = TARGET_ACCEPT if target_accept is None else target_accept
    with collected():
        idata = nutpie.sample(
            model, draws=draws, tune=tune, chains=chains, seed=seed, cores=cores or 1, progress_bar=False,
            target_accept=target_accept,
        )  # fmt: skip
    s = np.asarray(versions.posterior_dataset(idata)["phi"].transpose("chain", "draw", ...).values)
    x = bounds.to_phi(s)  # bounded coordinates are not warped, so the order does not matter
    told = versions.group_dataset(idata, "sample_stats")
    stats = {ours: np.asarray(told[theirs].values) for theirs, ours in STATS.items() if theirs in told}
    if "lp" in stats:
        stats["lp"] = stats["lp"] - bounds.log_slope(s)[0] - warp.log_slope(x)
    return warp.to_phi(x), stats


def _inner_moments(found: Search, bounds: Bounds, warp: Warp) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the search's weighted sample in the coordinates without bounds; widened, since a sample
    that independence proposals could not follow knows them only roughly."""
    with np.errstate(all="ignore"):
        s = bounds.to_free(warp.to_x(found.sample.x))
    weights = np.where(np.isfinite(s).all(axis=1), found.sample.weights, 0.0)
    weights = np.minimum(weights / weights.sum(), len(weights) ** -0.5)
    s, weights = s[weights > 0], weights[weights > 0] / weights.sum()
    mean = weights @ s
    cov = (s - mean).T @ ((s - mean) * weights[:, None])
    return mean, cov + np.diag(0.1 * np.diag(cov) + 1e-6)
