"""Data and models of every family with known truth: one grouped design, correlated intercepts and slopes."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from hand_made import inference
from scipy import stats

from hiermod.core import versions
from hiermod.engines.nuts.engine import kept_names
from hiermod.engines.nuts.graph import build_bambi  # noqa: F401  (the model is built by it, through Model.bambi)
from hiermod.engines.posterior import extract
from hiermod.fits.bayesian import BayesianFit
from hiermod.model import Model

IDENTITY = ("gaussian", "t", "laplace", "lognormal", "vonmises")  # default links
UNIT = ("bernoulli", "binomial", "beta", "beta_binomial")  # whose location is a probability
GROUPS, EACH = 24, 15
SDS, RHO = (0.5, 0.3), 0.4
CUTS = (-1.0, 0.2, 1.1)


@dataclass(frozen=True)
class Case:
    """link: None for the family's first.  beta: intercept and slope.  further: the response's other parameters."""

    family: str
    link: str | None = None
    beta: tuple[float, float] = (0.5, 0.4)
    further: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str] | None = None
    sds: tuple[float, float] = SDS
    formula: str = "y ~ x + (x | g)"


CASES = {
    "gaussian": Case("gaussian", further={"sigma": 0.8}),
    "t": Case("t", further={"sigma": 0.6, "nu": 4.0}),
    "laplace": Case("laplace", further={"b": 0.5}),
    "bernoulli": Case("bernoulli"),
    "binomial": Case("binomial", formula="p(y, n) ~ x + (x | g)"),
    "beta": Case("beta", further={"kappa": 12.0}),
    "gamma": Case("gamma", "log", further={"alpha": 3.0}),
    "wald": Case("wald", "log", further={"lam": 4.0}),
    "exponential": Case("exponential"),
    "weibull": Case("weibull", further={"alpha": 2.0}),
    "poisson": Case("poisson"),
    "negativebinomial": Case("negativebinomial", further={"alpha": 3.0}),
    "zero_inflated_poisson": Case("zero_inflated_poisson", beta=(1.0, 0.4), further={"psi": 0.7}),
    "zero_inflated_negativebinomial": Case(
        "zero_inflated_negativebinomial", beta=(1.5, 0.4), further={"alpha": 4.0, "psi": 0.7}
    ),
    "hurdle_poisson": Case("hurdle_poisson", beta=(1.0, 0.4), further={"psi": 0.7}),
    "hurdle_negativebinomial": Case("hurdle_negativebinomial", beta=(1.5, 0.4), further={"alpha": 4.0, "psi": 0.7}),
    "hurdle_gamma": Case("hurdle_gamma", "log", further={"alpha": 3.0, "psi": 0.7}),
    "cumulative": Case("cumulative", beta=(0.0, 0.7)),
    "cumulative, probit": Case("cumulative", "probit", beta=(0.0, 0.7)),
    "sratio": Case("sratio", beta=(0.0, 0.7)),
    "sigma": Case("gaussian", parameters={"sigma": "z + (1 | g)"}),
    "psi": Case("zero_inflated_poisson", beta=(1.0, 0.4), parameters={"psi": "z"}),
    "lognormal": Case("lognormal", further={"sigma": 0.6}),
    "beta_binomial": Case("beta_binomial", further={"kappa": 9.0}, formula="p(y, n) ~ x + (x | g)"),
    "vonmises": Case("vonmises", further={"kappa": 6.0}),
}
SIGMA = {"sigma_Intercept": -0.5, "sigma_z": 0.4, "sigma_1|g_sigma": 0.3}  # of log sigma
PSI = {"psi_Intercept": 0.8, "psi_z": 1.0}  # of logit psi

INVERSE = {
    "identity": lambda e: e,
    "log": np.exp,
    "logit": lambda e: 1 / (1 + np.exp(-e)),
    "probit": stats.norm.cdf,
}


def law(family: str, mu: Any, p: dict[str, Any], n: Any = 1) -> Any:
    """The frozen scipy law of a response without extra zeros, written from PyMC's documentation of its density."""
    match family:
        case "gaussian":
            return stats.norm(mu, p["sigma"])
        case "t":
            return stats.t(p["nu"], mu, p["sigma"])
        case "laplace":
            return stats.laplace(mu, p["b"])
        case "bernoulli":
            return stats.bernoulli(mu)
        case "binomial":
            return stats.binom(n, mu)
        case "lognormal":
            return stats.lognorm(p["sigma"], scale=np.exp(mu))
        case "beta_binomial":
            return stats.betabinom(n, mu * p["kappa"], (1 - mu) * p["kappa"])
        case "vonmises":
            return stats.vonmises(p["kappa"], mu)
        case "beta":
            return stats.beta(mu * p["kappa"], (1 - mu) * p["kappa"])
        case "gamma" | "hurdle_gamma":
            return stats.gamma(p["alpha"], scale=mu / p["alpha"])
        case "wald":
            return stats.invgauss(mu / p["lam"], scale=p["lam"])
        case "exponential":
            return stats.expon(scale=mu)
        case "weibull":
            from scipy.special import gamma

            return stats.weibull_min(p["alpha"], scale=mu / gamma(1 + 1 / p["alpha"]))
    if family.endswith("poisson"):
        return stats.poisson(mu)
    return stats.nbinom(p["alpha"], p["alpha"] / (p["alpha"] + mu))


def log_density(family: str, y: np.ndarray, mu: Any, p: dict[str, Any], n: Any = 1) -> np.ndarray:
    """log p(y) of one response per entry, extra zeros included."""
    base = law(family, mu, p, n)
    logs = (
        base.logpmf(y)
        if hasattr(base.dist, "logpmf")
        else base.logpdf(np.where(y == 0, 1.0, y) if family == "hurdle_gamma" else y)
    )
    if family.startswith("zero_inflated"):
        return np.log(np.where(y == 0, 1 - p["psi"], 0.0) + p["psi"] * np.exp(logs))
    if family.startswith("hurdle"):
        above = logs if family == "hurdle_gamma" else logs - np.log1p(-base.pmf(0))
        return np.where(y == 0, np.log1p(-p["psi"]), np.log(p["psi"]) + above)
    return logs


@functools.cache
def data(name: str) -> pd.DataFrame:
    """Responses drawn by scipy's generators, not hiermod's."""
    case = CASES[name]
    rng = np.random.default_rng(list(CASES).index(name) + 100)
    g = np.repeat(np.arange(GROUPS), EACH)
    x, z = rng.uniform(-1.5, 1.5, (2, len(g)))
    L = np.linalg.cholesky([[1, RHO], [RHO, 1]])
    b = rng.standard_normal((GROUPS, 2)) @ L.T * case.sds
    eta = case.beta[0] + case.beta[1] * x + b[g, 0] + b[g, 1] * x
    frame = pd.DataFrame({"g": [f"g{i:02d}" for i in g], "x": x, "z": z, "n": rng.integers(3, 12, len(g))})
    if case.family in ("cumulative", "sratio"):
        F = INVERSE["probit" if case.link == "probit" else "logit"](np.array(CUTS) - eta[:, None])
        u = rng.random((len(g), 3 if case.family == "sratio" else 1))
        codes = (u > F).sum(axis=1) if case.family == "cumulative" else (np.cumprod(u > F, axis=1)).sum(axis=1)
        labels = ["none", "some", "much", "all"]
        frame["y"] = pd.Categorical.from_codes(codes, labels, ordered=True)
        return frame
    p: dict[str, Any] = dict(case.further)
    if name == "sigma":
        s = SIGMA["sigma_1|g_sigma"] * rng.standard_normal(GROUPS)
        p["sigma"] = np.exp(SIGMA["sigma_Intercept"] + SIGMA["sigma_z"] * z + s[g])
    if name == "psi":
        p["psi"] = INVERSE["logit"](PSI["psi_Intercept"] + PSI["psi_z"] * z)
    model_link = case.link or dict.fromkeys(IDENTITY, "identity").get(case.family)
    logit = case.family in UNIT
    mu = INVERSE[model_link or ("logit" if logit else "log")](eta)
    base = law(case.family, mu, p, frame["n"].to_numpy())
    y = base.rvs(size=len(g), random_state=rng)
    if case.family.startswith("hurdle_") and case.family != "hurdle_gamma":
        zero = base.pmf(0)
        y = base.ppf(zero + (1 - zero) * rng.random(len(g)))
    if "psi" in p:
        y = np.where(rng.random(len(g)) < p["psi"], y, 0)
    frame["y"] = np.angle(np.exp(1j * y)) if case.family == "vonmises" else y
    return frame


@functools.cache
def model(name: str) -> Model:
    case = CASES[name]
    return Model(case.formula, data(name), family=case.family, link=case.link, parameters=case.parameters)


def truth(name: str) -> dict[str, float]:
    """Every parameter under its name in ``fit.parameters()``."""
    case = CASES[name]
    found = {"Intercept": case.beta[0], "x": case.beta[1], **case.further}
    if name == "sigma":
        found |= SIGMA
    if name == "psi":
        found |= PSI
    if case.family in ("cumulative", "sratio"):
        found |= {f"threshold[{i}]": cut for i, cut in enumerate(CUTS)}
        del found["Intercept"]
    return found | {"1|g_sigma": case.sds[0], "x|g_sigma": case.sds[1], "g_corr[Intercept,x]": RHO}


@functools.cache
def fitted(name: str, draws: int = 400) -> BayesianFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short runs say that they are short
        return model(name).fit(draws=draws, tune=400, chains=2, cores=2, random_seed=11, progressbar=False)


def made_up(name: str, draws: int = 7) -> BayesianFit:
    """A fit whose posterior is numbers made up, under Bambi's names and dims: nothing is sampled or compiled."""
    import xarray as xr

    made, rng = model(name), np.random.default_rng(5)
    graph, design = made.pymc, made.spec
    variables, coords = {}, {"chain": [0, 1], "draw": np.arange(draws)}
    for variable in sorted(kept_names(made.bambi, design)):  # Bambi's own order varies between processes
        dims = tuple(graph.named_vars_to_dims.get(variable, ()))
        coords |= {dim: list(graph.coords[dim]) for dim in dims}
        shape = (2, draws, *(len(graph.coords[dim]) for dim in dims))
        values = 0.4 * rng.standard_normal(shape)
        if variable == "threshold":
            values = np.array(CUTS) + np.sort(values, axis=-1)
        elif variable.endswith("_corr"):
            values = np.broadcast_to(np.array([[1, 0.3], [0.3, 1]]), shape).copy()
        elif variable == "psi":
            values = 1 / (1 + np.exp(-values))
        elif variable.endswith("_sigma") or variable in ("sigma", "nu", "alpha", "kappa", "lam", "b"):
            values = np.exp(values) + (3 if variable == "nu" else 0)
        variables[variable] = (("chain", "draw", *dims), values)
    dataset = xr.Dataset(variables, coords=coords)
    constants = dict.fromkeys(versions.bambi_constants(made.bambi))
    arrays = extract(dataset, design, constants)
    from hiermod.engines.posterior import Posterior

    idata = versions.make_idata({"posterior": dataset})
    record = Posterior(**vars(arrays), inference=inference(draws, 2), idata=idata)
    return BayesianFit(design, record, made.family, made.link, None, made)
