"""Small models for the whitened engine, and their log densities written with numpy and scipy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from glmm_cases import STRUCTURES, frame
from scipy import stats

from hiermod.engines.marginal.coordinates import correlation_matrix
from hiermod.engines.whitened.model_arrays import Start, start_of
from hiermod.engines.whitened.whitening import Whitening
from hiermod.families.catalogue import FAMILIES
from hiermod.families.links import inverse_link
from hiermod.model import Model

LEFT = {
    ("binomial", "logit"): "p(k, n)",
    ("bernoulli", "logit"): "one",
    ("poisson", "log"): "count",
    ("negativebinomial", "log"): "count",
}
PRIORS: dict[str, dict[str, str]] = {
    "one factor": {"1|a": "Exponential(2)", "x": "StudentT(nu=4, mu=0.5, sigma=2)"},
    "slopes, crossed, offset": {"1|a": "HalfStudentT(nu=3, sigma=2)", "x|a": "HalfCauchy(beta=1)", "a_corr": "LKJ(1)"},
    "chain of three": {"1|site": "Gamma(alpha=2, beta=3)", "z|site": "LogNormal(mu=0, sigma=1)", "x": "Flat()"},
    "nested and crossed": {"1|b": "Uniform(lower=0, upper=2)", "Intercept": "Cauchy(alpha=0, beta=2)"},
    "uncorrelated": {"x|a": "InverseGamma(alpha=3, beta=1)", "1|a": "Weibull(alpha=2, beta=1)"},
}
MORE = {"three effects": "x * z + (x + z | a) + (1 | b)", "no groups": "x + z"}


def model_of(structure: str, family: str = "bernoulli", link: str = "logit", priors: Any = None) -> Model:
    """A model of glmm_cases' rows; its priors are PRIORS' unless others are given."""
    right = (STRUCTURES | MORE)[structure]
    given = PRIORS.get(structure) if priors is None else priors
    return Model(f"{LEFT[family, link]} ~ {right}", frame(), family=family, link=link, priors=given)


def whitened(model: Model) -> tuple[Start, Whitening]:
    """Its arrays, whitened where the search for the mode starts."""
    start = start_of(model._specification())
    w = start.whitening
    return start, w.at(start.t, start.eta, *w.weights(start.eta, w.further(start.t)))


def natural_log_density(model: Model, start: Start, w: Whitening, q: np.ndarray, x: np.ndarray) -> float:
    """log p(y, beta, b, sd, R) of a model in natural parameters, at q and its x; |sd| for sds with a sign."""
    design, t = model.spec, q[: w.head]
    beta = x[: w.p].copy()
    laws = {entry.parameter: entry for entry in model._prior_entries()}
    total = sum(_log(laws[name].law, value) for name, value in zip(design.common, beta, strict=True))
    beta[design.common.index("Intercept")] -= beta @ start.shift
    eta = design.X @ beta + (0.0 if design.offset is None else design.offset)
    for g, group in enumerate(w.groups):
        at, begin = int(w.arrays.x_at[g]), 0
        b_all = x[at : at + group.levels * group.size].reshape(group.levels, group.size)
        Lam = w.root(t, g)
        for index in group.blocks:
            block = design.blocks[index]
            own = slice(begin, begin + block.size)
            b, S = b_all[:, own], Lam[own, own] @ Lam[own, own].T
            begin += block.size
            total += stats.multivariate_normal(np.zeros(block.size), S).logpdf(b).sum()
            sd = np.sqrt(np.diagonal(S))
            total += sum(_log(laws[c.sd_name].law, value) for c, value in zip(block.columns, sd, strict=True))
            if block.pairs:
                R = correlation_matrix(Lam[own, own] / sd[:, None])
                total += (laws[block.corr_name].eta - 1.0) * np.log(np.linalg.det(R))
            eta = eta + (block.values * b[block.codes]).sum(axis=1)
    further = {}
    for k, (name, _) in enumerate(start.further):
        value = float(w.scalar(t, int(w.arrays.scalar_of[k])))
        total += _log(laws[name].law, value)
        further[name] = np.array(value)
    if design.trials is not None:
        further["trials"] = design.trials
    family = FAMILIES[model.family]
    assert family.logpdf is not None
    return float(total + family.logpdf(design.y, inverse_link(model.link, eta), further).sum())


def _log(law: Any, value: float) -> float:
    return 0.0 if law.name == "Flat" else float(law.scipy().logpdf(value))


def natural(w: Whitening, q: np.ndarray) -> np.ndarray:
    """(size,) beta, b, values of scalars and the entries of correlation matrices that the coordinates stand for."""
    t, x = q[: w.head], w.density(q)[2]
    scalars = [float(w.scalar(t, s)) for s in range(len(w.arrays.kind))]
    entries: list[float] = []
    for g, group in enumerate(w.groups):
        Lam = w.root(t, g)
        R = Lam @ Lam.T / np.sqrt(np.outer(np.diagonal(Lam @ Lam.T), np.diagonal(Lam @ Lam.T)))
        entries += [R[a, i] for a in range(group.size) for i in range(int(group.first[a]), a)]
    return np.concatenate([x, scalars, entries])


__all__ = ["model_of", "natural", "natural_log_density", "whitened"]
