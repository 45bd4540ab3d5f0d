"""Draws from the prior: parameters, group effects and, one row of numbers per draw, data.

Models whose priors are scipy distributions, and whose responses families/responses.py draws, are drawn in numpy:
correlation matrices by the vine of Lewandowski, Kurowicka and Joe (2009), ascending thresholds given their order (the
graph's own draws ignore it).  Every other model goes through its PyMC graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.core.arguments import check_count, resolve_seed
from hiermod.engines.gaussian_rows import linear_predictor
from hiermod.engines.idata import build_idata
from hiermod.engines.marginal.coordinates import correlation_matrix
from hiermod.engines.posterior import Inference, Posterior, extract
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES, is_linear
from hiermod.families.links import bounded_inverse_link
from hiermod.families.responses import category_draws, category_probabilities, response_draws
from hiermod.formula.design import Block, Design, FrozenArrays
from hiermod.priors.distributions import scipy_or_none
from hiermod.priors.model_priors import ModelPriors, OnGraph
from hiermod.priors.table import Entry
from hiermod.priors.thresholds import ascending_draws, threshold_laws

NUMBERS_AT_ONCE = 4_000_000  # draws x rows held at once: 32 MB
ANY_NUMBER = ("log", "logit", "probit", "cloglog")  # links that make a location of every linear predictor
BY_INVERSION = ("hurdle_poisson", "hurdle_negativebinomial")  # whose quantiles at large means are not finite
KEPT = 200e6  # bytes of simulated data up to which they are put into idata


@dataclass(frozen=True, eq=False)
class PriorDraws(FrozenArrays):
    """record: parameters and group effects, one chain; y (d, n): data, None where numpy makes them when asked."""

    record: Posterior
    entries: tuple[Entry, ...]
    y: np.ndarray | None
    family: str = "gaussian"  # with its link what numpy makes the data by
    link: str = "identity"

    @property
    def count(self) -> int:
        """d, the number of draws."""
        return self.record.shape[1]

    def responses(self, design: Design, chosen: np.ndarray | None = None, seed: Any = None) -> Iterator[np.ndarray]:
        """Data of all draws, or of those chosen, in pieces (m, n).  The same seed gives the same data."""
        index = np.arange(self.count) if chosen is None else chosen
        step = max(1, NUMBERS_AT_ONCE // max(design.nobs, 1))
        rng = np.random.default_rng([self.record.inference.seed, 1]) if seed is None else seed
        for start in range(0, len(index), step):
            part = index[start : start + step]
            yield self.y[part] if self.y is not None else self._data(design, part, rng)

    def _data(self, design: Design, part: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if is_linear(self.family, self.link):
            return _gaussian_data(self.record, design, part, rng)
        return _family_data(self.record, design, self.family, self.link, part, rng)


def draw_prior(
    design: Design,
    entries: tuple[Entry, ...],
    priors: ModelPriors,
    family: Any,
    link: Any,
    center_predictors: bool,
    build: Callable[[], Any],
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
) -> PriorDraws:
    """Independent draws.  build: gives the built Bambi model, called only where numpy cannot draw.

    Raises UnsupportedError for an improper prior, ArgumentError for an impossible number of draws."""
    check_count("draws", draws, 1)
    seed = resolve_seed(random_seed)
    for one in entries:
        if one.law is not None and one.law.kind.improper:
            raise UnsupportedError(
                f"the prior of {one.key!r} is {one.law}, which is improper: there is nothing to draw. Give a proper "
                "one, such as hm.prior_from(lower, upper), to see what the prior says about data"
            )
    start = time.perf_counter()
    if drawn_in_numpy(design, entries, priors, family, link):
        arrays = _by_numpy(design, entries, family, center_predictors, int(draws), np.random.default_rng(seed))
        record = _record(arrays, None, "numpy", start, int(draws), seed)
        return PriorDraws(record, entries, None, family, link or FAMILIES[family].links[0])
    arrays, idata, y = drawn_by_graph(build(), design, int(draws), seed)
    return PriorDraws(_record(arrays, idata, "graph", start, int(draws), seed), entries, y)


def _record(arrays: dict[str, Any], idata: Any, method: str, start: float, draws: int, seed: int) -> Posterior:
    nan = float("nan")
    inference = Inference(
        method=f"prior, by {method}",
        reason="independent draws from the prior",
        seconds=time.perf_counter() - start,
        draws=draws,
        tune=0,
        chains=1,
        seed=seed,
        divergences=0,
        max_r_hat=nan,
        min_ess_bulk=nan,
        min_ess_tail=nan,
    )
    return Posterior(**arrays, inference=inference, idata=idata)


def drawn_in_numpy(design: Design, entries: tuple[Entry, ...], priors: ModelPriors, family: Any, link: Any) -> bool:
    """Whether every prior is a scipy distribution, group effects are Normal, and the family draws its responses
    whatever the linear predictor is."""
    if not isinstance(family, str) or family not in FAMILIES or not FAMILIES[family].drawn or design.special:
        return False
    usual = FAMILIES[family].links[0]
    link = link or usual
    if family in BY_INVERSION or not (link in ANY_NUMBER or link == usual == "identity"):
        return False
    if any(isinstance(law, OnGraph) for block in priors.sds for law in block):
        return False
    return all(one.fixed is not None or one.eta is not None or _laws(one, design, family) for one in entries)


def _thresholds(name: str, family: str) -> str:
    """ "cuts" or "ascending" for the thresholds of an ordinal response, "" for any other parameter."""
    found = {one.name: one.support for one in FAMILIES[family].parameters}.get(name, "")
    return found if found in ("cuts", "ascending") else ""


def _laws(one: Entry, design: Design, family: str) -> tuple[Any, ...]:
    """Its scipy distributions: of thresholds one each, else a single one; none where one has no such."""
    if one.law is None:
        return ()
    several = _thresholds(one.parameter, family)
    laws = threshold_laws(one.law, len(design.categories) - 1) if several else (one.law,)
    found = tuple(scipy_or_none(law) for law in laws)
    return () if any(law is None for law in found) else found


def _by_numpy(
    design: Design,
    entries: tuple[Entry, ...],
    family: str,
    center_predictors: bool,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    found = {one.parameter: one for one in entries}

    def values(name: str) -> np.ndarray:
        one = found[name]
        if one.fixed is not None:
            return np.full(draws, one.fixed)
        laws = _laws(one, design, family)
        if _thresholds(name, family) == "ascending":
            return ascending_draws(laws, draws, rng)
        drawn = [np.asarray(law.rvs(size=draws, random_state=rng), dtype=float) for law in laws]
        return np.stack(drawn, axis=-1) if _thresholds(name, family) else drawn[0]

    own = _coefficients(design, values, found, center_predictors, draws, rng)
    auxiliary = {
        one.name: values(one.name)[None]
        for one in FAMILIES[family].parameters
        if not (one.name == "sigma" and design.precision.sigma_known)
    }
    sigma = auxiliary.pop("sigma", None)
    return {**own, "sigma": sigma, "auxiliary": auxiliary}


def _coefficients(
    design: Design,
    values: Callable[[str], np.ndarray],
    found: dict[str, Entry],
    center_predictors: bool,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """beta, effects, sd and corr of a linear predictor, one chain."""
    p = len(design.common)
    beta = np.stack([values(name) for name in design.common], axis=-1) if p else np.empty((draws, 0))
    if center_predictors and design.has_intercept and p > 1:
        at = design.common.index("Intercept")
        others = [i for i in range(p) if i != at]
        beta[:, at] -= beta[:, others] @ design.X[:, others].mean(axis=0)  # from the predictors' means to their zeros
    effects, sds, correlations = [], [], []
    for block in design.blocks:
        if block.structure.hom:
            sd = np.repeat(values(block.columns[0].sd_name)[:, None], block.size, axis=1)
        else:
            sd = np.stack([values(column.sd_name) for column in block.columns], axis=-1)
        eta = found[block.corr_name].eta if block.pairs else None
        b, corr = _group_effects(block, sd, eta, rng)
        effects.append(b[None])
        sds.append(sd[None])
        correlations.append(None if corr is None else corr[None])
    return {"beta": beta[None], "effects": tuple(effects), "sd": tuple(sds), "corr": tuple(correlations)}


def _group_effects(
    block: Block, sd: np.ndarray, eta: float | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """b (d, J, k) and the correlation matrices (d, k, k) for sds (d, k)."""
    d, k = sd.shape
    z = rng.standard_normal((d, len(block.levels), k))
    if eta is None:
        return z * sd[:, None, :], None
    shapes = block.structure.beta_shapes(eta)
    with np.errstate(divide="ignore"):  # a draw of 1 - 1e-17 is a correlation of 1
        L = block.structure.correlation_root(np.arctanh(2 * rng.beta(shapes, shapes, size=(d, len(shapes))) - 1))
    return np.einsum("dij,dmj->dmi", L, z) * sd[:, None, :], correlation_matrix(L)


def _gaussian_data(record: Posterior, design: Design, part: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    eta = linear_predictor(some_draws(record, part), design)[0]
    noise = design.precision.sd(None if record.sigma is None else np.asarray(record.sigma)[0, part])
    return eta + noise * rng.standard_normal(eta.shape)


def _family_data(
    record: Posterior, design: Design, family: str, link: str, part: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(m, n): of counts out of trials the successes, of ordinal responses the categories as the data have them."""
    eta = linear_predictor(some_draws(record, part), design)[0]
    further = {name: values[0, part] for name, values in record.auxiliary.items()}
    if FAMILIES[family].ordinal:
        codes = category_draws(category_probabilities(family, link, eta, further["threshold"]), rng)
        return np.asarray(design.category_values[codes.astype(int)], dtype=float)
    further = {name: values[:, None] for name, values in further.items()}
    noise = None if record.sigma is None else design.precision.sd(record.sigma[0, part])
    return response_draws(family, bounded_inverse_link(link, eta), noise, design.trials, rng, True, further)


def some_draws(record: Posterior, part: np.ndarray) -> Posterior:
    """The coefficients and group effects of some draws; the rest as it is."""
    from dataclasses import replace

    return replace(record, beta=record.beta[:, part], effects=tuple(b[:, part] for b in record.b))


def drawn_by_graph(model: Any, design: Design, draws: int, seed: int) -> tuple[dict[str, Any], Any, np.ndarray]:
    """Draws of the priors by PyMC from a built graph: (1, draws, ...) by name, idata, and responses (draws, n)."""
    import pymc as pm

    from hiermod.engines.nuts.engine import _fixed, kept_names
    from hiermod.engines.nuts.quiet import collected

    names = kept_names(model, design)
    response = model.backend.model.observed_RVs[0].name
    with collected():
        raw = pm.sample_prior_predictive(
            draws=draws, var_names=[*names, response], model=model.backend.model, random_seed=seed
        )
        as_posterior = versions.make_idata({"posterior": versions.group_dataset(raw, "prior")[names]})
        dataset = versions.posterior_dataset(versions.bambi_clean(model, as_posterior))
        predictive = versions.group_dataset(raw, "prior_predictive")
        arrays = vars(extract(dataset, design, _fixed(model, design)))
    groups = {"prior": dataset, "prior_predictive": predictive}
    if "observed_data" in versions.group_names(raw):
        groups["observed_data"] = versions.group_dataset(raw, "observed_data")
    if design.categories:  # the graph counts from 0, in a column of its own
        for name in {"prior_predictive", "observed_data"} & set(groups):
            codes = groups[name][response]
            numbers = codes.copy(data=design.category_values[codes.values].astype(int))
            groups[name] = groups[name].assign({response: numbers}).rename({response: design.response})
        response = design.response
    y = np.asarray(groups["prior_predictive"][response].transpose("chain", "draw", ...).values, dtype=float)[0]
    return dict(arrays), versions.make_idata(groups), y.reshape(draws, -1)


def prior_idata(draws: PriorDraws, design: Design) -> Any:
    """Groups prior, prior_predictive (where it takes at most 200 MB) and observed_data, Bambi's variable names."""
    if draws.record.idata is not None:
        return draws.record.idata
    import xarray as xr

    whole = build_idata(draws.record, design, gaussian=is_linear(draws.family, draws.link))
    observed = versions.group_dataset(whole, "observed_data")
    prior = versions.posterior_dataset(whole)
    discrete = FAMILIES[draws.family].discrete
    largest = float(np.iinfo(np.int64).max)  # a count beyond it stays a float
    if not is_linear(draws.family, draws.link):  # as from the graph: without what is fixed, counts as whole numbers
        fixed = {one.parameter for one in draws.entries if one.fixed is not None}
        prior = prior.drop_vars(sorted(fixed & {"sigma", *draws.record.auxiliary}))
    if discrete:
        observed = observed.astype(int)
    groups = {"prior": prior}
    if 8.0 * draws.count * design.nobs <= KEPT:
        y = np.concatenate(list(draws.responses(design)))[None]
        coords = {"chain": [0], "draw": np.arange(draws.count), "__obs__": observed.coords["__obs__"]}
        y = y.astype(int) if discrete and y.max() < largest else y
        variables = {design.response: (("chain", "draw", "__obs__"), y)}
        groups["prior_predictive"] = xr.Dataset(variables, coords=coords, attrs={"modeling_interface": "hiermod"})
    groups["observed_data"] = observed
    return versions.make_idata(groups)
