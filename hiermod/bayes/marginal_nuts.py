"""NUTS on the marginal density, for posteriors that a mixture of t distributions cannot follow.

nutpie samples any log density with a gradient; the few dimensions left make an evaluation cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod import _versions
from hiermod.bayes.marginal_density import MarginalDensity
from hiermod.bayes.quiet import collected

if TYPE_CHECKING:
    from hiermod.bayes.marginal import Search


def sample_phi(
    density: MarginalDensity,
    found: Search,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    target_accept: float | None,
    cores: int | None,
) -> tuple[np.ndarray, int]:
    """phi (chains, draws, d) and the number of divergent transitions.

    The density is sampled in the coordinates of the adapted mixture, where its spread is about one."""
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    d = density.coordinates.d
    weights = found.mixture.weights
    mean = weights @ found.mixture.means
    centred = found.mixture.means - mean
    within = np.einsum("k,kij,klj->il", weights, found.mixture.roots, found.mixture.roots)
    root = np.linalg.cholesky(within + (centred.T * weights) @ centred)

    def make_logp() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        def logp(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = density.value_and_gradient(mean + root @ x)
            return value, root.T @ gradient

        return logp

    def make_expand(*_: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda x: {"phi": mean + root @ np.asarray(x)}

    def make_start(start_seed: int) -> np.ndarray:
        return 0.5 * np.random.default_rng(start_seed).standard_normal(d)

    kind = [np.dtype("float64")]
    model = from_pyfunc(d, make_logp, make_expand, kind, [(d,)], ["phi"], make_initial_point_fn=make_start)
    options: dict[str, Any] = {} if target_accept is None else {"target_accept": target_accept}
    with collected():
        idata = nutpie.sample(
            model, draws=draws, tune=tune, chains=chains, seed=seed, cores=cores or 1, progress_bar=False, **options
        )
    phi = np.asarray(_versions.posterior_dataset(idata)["phi"].transpose("chain", "draw", ...).values)
    return phi, int(_versions.group_dataset(idata, "sample_stats")["diverging"].sum())
