"""The log density of every prior at each posterior draw, on the parameters' natural scale, of any fit.

Only the priors at the top are here: what a group effect has given its sd belongs to the model, not to the prior
(Kallioinen, Paananen, Buerkner and Vehtari 2024, Stat. Comput. 34, 57, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hiermod.engines.posterior import Draws, Posterior, labelled, part_of
from hiermod.errors import UnsupportedError
from hiermod.fits.tables import corr_names, sd_names
from hiermod.formula.design import Block, Design
from hiermod.formula.parts import parts_of
from hiermod.priors.distributions import Distribution, scipy_or_none
from hiermod.priors.gaussian import GaussianPriors
from hiermod.priors.lkj import correlation_law

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit


@dataclass(frozen=True, eq=False)
class Prior:
    """One prior.  law: a scipy distribution; eta: of a correlation matrix under LKJ; neither: it cannot be evaluated.

    why: what to say where it cannot; empty for a flat prior and a fixed number, which have nothing to scale."""

    name: str
    law: Any = None
    eta: float | None = None
    why: str = ""


def priors_of(fit: BayesianFit) -> tuple[Prior, ...]:
    """Every prior of a fit's model, by the names of its parameters (a correlation matrix by its own).

    UnsupportedError where the priors are not known, as of arrays that came from elsewhere."""
    if fit.priors is not None:
        return _from_numbers(fit, fit.priors)
    if fit.model is None:
        raise UnsupportedError(
            "this fit does not know its priors: its model is not stored with it. Fit the model with Model(...).fit()"
        )
    found, shared = [], set(shared_sds(fit))
    for entry in fit.model._prior_entries():
        if entry.parameter in shared:  # the one sd of a block has one prior
            continue
        law = scipy_or_none(entry.law)
        flat = entry.fixed is not None or (entry.law is not None and entry.law.kind.improper)
        why = "" if law is not None or entry.eta is not None or flat else f"{entry.parameter} ({entry.text})"
        found.append(Prior(entry.parameter, law, entry.eta, why))
    return tuple(found)


def shared_sds(fit: BayesianFit) -> dict[str, str]:
    """Sds that are those of another column, in blocks whose columns have one in common -> that one's name."""
    designs = (fit.design, *parts_of(fit.design).values())
    names = [sd_names(block) for one in designs for block in one.blocks if block.structure.hom]
    return {other: first for first, *others in names for other in others}


def _from_numbers(fit: BayesianFit, numbers: GaussianPriors) -> tuple[Prior, ...]:
    found = []
    for name, mean, sd in zip(fit.design.common, numbers.mean, numbers.sd, strict=True):
        found.append(Prior(name, stats.norm(mean, sd) if np.isfinite(sd) else None))
    for block, sds, eta in zip(fit.design.blocks, numbers.sds, numbers.eta, strict=True):
        for column, law in zip(block.columns, sds, strict=True):
            found.append(_of_law(column.sd_name, law))
        if block.pairs:
            found.append(Prior(block.corr_name, eta=float(eta)))
    if isinstance(numbers.sigma, Distribution):
        found.append(_of_law("sigma", numbers.sigma))
    return tuple(found)


def _of_law(name: str, prior: Distribution) -> Prior:
    law = scipy_or_none(prior)
    return Prior(name, law, why="" if law is not None or prior.kind.improper else f"{name} ({prior})")


def centred_at(fit: BayesianFit) -> np.ndarray | None:
    """The predictors' means (p,) at which the intercept's prior is about; None: it is about the intercept as typed."""
    if fit.priors is not None:
        return fit.priors.centre if fit.priors.centred else None
    return _centre(fit, fit.design, "Intercept")


def _centre(fit: BayesianFit, design: Design, intercept: str) -> np.ndarray | None:
    centred = bool(getattr(fit.model, "center_predictors", False)) and len(design.common) > 1
    return design.X.mean(axis=0) if centred and intercept in design.common else None


def log_priors(fit: BayesianFit) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Log densities (c, d) by the prior's name, up to constants, and the priors that cannot be evaluated, in words.

    A flat prior and a fixed number have none: there is nothing to scale."""
    draws = dict(labelled(fit.record, fit.design, effects=False))
    predictors: list[tuple[str, Design, Posterior | Draws, np.ndarray | None]] = [
        ("Intercept", fit.design, fit.record, centred_at(fit))
    ]
    for name, part in parts_of(fit.design).items():
        intercept = f"{name}_Intercept"
        predictors.append((intercept, part, part_of(fit.record, name), _centre(fit, part, intercept)))
    correlations: dict[str, tuple[Block, np.ndarray]] = {}
    counted: set[str] = set()
    for intercept, design, record, centre in predictors:
        if centre is not None:
            others = [i for i, name in enumerate(design.common) if name != intercept]
            draws[intercept] = draws[intercept] + record.beta[..., others] @ centre[others]
        blocks = zip(design.blocks, record.corr, strict=True)
        correlations |= {block.corr_name: (block, corr) for block, corr in blocks if corr is not None}
        common = [block for block in design.blocks if block.structure.hom]
        counted |= {name for block in common for name in sd_names(block)[1:]}
    found: dict[str, np.ndarray] = {}
    unknown = []
    for prior in priors_of(fit):
        if prior.name in counted:  # an sd common to all columns has one prior, told with each
            continue
        if prior.eta is not None:
            found[prior.name] = _of_correlations(*correlations[prior.name], prior.eta)
        elif prior.law is not None and prior.name in draws:
            with np.errstate(divide="ignore"):
                found[prior.name] = np.asarray(prior.law.logpdf(draws[prior.name]), dtype=float)
        elif prior.why or prior.law is not None:
            unknown.append(prior.why or prior.name)
    return found, tuple(unknown)


def _of_correlations(block: Block, corr: np.ndarray, eta: float) -> np.ndarray:
    """(c, d): LKJ's log density up to a constant; where one rho makes them all, that of rho."""
    if block.structure.free:
        return np.asarray((eta - 1.0) * np.linalg.slogdet(corr)[1])
    return np.asarray(correlation_law(block, eta, (0, 1)).logpdf(corr[..., 0, 1]))


def stated_laws(fit: BayesianFit) -> dict[str, Any]:
    """The law of each parameter's own prior, as it was stated, where it has a closed form: scipy distributions.

    Under the parameter's name in tables; that of the intercept is where ``centred_at`` says."""
    priors = {prior.name: prior for prior in priors_of(fit)}
    found = {name: prior.law for name, prior in priors.items() if prior.law is not None}
    for block in fit.design.correlated_blocks:
        eta = priors[block.corr_name].eta if block.corr_name in priors else None
        if eta is not None:
            laws = {
                n: correlation_law(block, eta, pair) for n, pair in zip(corr_names(block), block.pairs, strict=True)
            }
            found |= {name: law for name, law in laws.items() if law is not None}
    return found | {name: found[first] for name, first in shared_sds(fit).items() if first in found}


def marginal_laws(fit: BayesianFit) -> dict[str, Any]:
    """The same, the intercept's moved from the predictors' means to their zeros, if all priors there are Normal."""
    found = stated_laws(fit)
    centre = centred_at(fit)
    if centre is not None and "Intercept" in found:
        laws: dict[str, Any] = {name: found.get(name) for name in fit.design.common}
        if all(one is not None and one.dist.name == "norm" for one in laws.values()):
            factor = [1.0 if name == "Intercept" else -x for name, x in zip(fit.design.common, centre, strict=True)]
            mean = sum(f * one.mean() for f, one in zip(factor, laws.values(), strict=True))
            variance = sum(f**2 * one.var() for f, one in zip(factor, laws.values(), strict=True))
            found["Intercept"] = stats.norm(mean, np.sqrt(variance))
        else:
            del found["Intercept"]
    return found


def prior_behind(fit: BayesianFit) -> dict[str, str]:
    """The name of the prior of each parameter: its own, but for correlations, whose matrix has one."""
    names = {name: name for name in (prior.name for prior in priors_of(fit))} | shared_sds(fit)
    for design in (fit.design, *parts_of(fit.design).values()):
        for block in design.correlated_blocks:
            names |= dict.fromkeys(corr_names(block), block.corr_name)
    return names
