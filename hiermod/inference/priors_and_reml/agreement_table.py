"""A posterior set against REML, parameter by parameter: how far apart, and what makes the difference.

Sds and sigma are compared on the log scale, correlations on Fisher's, in REML standard errors.  For Gaussian models the
difference splits exactly: the priors move the posterior's mode away from REML's (natural_mode.py), and averaging over
what the data leave open moves the mean away from the mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.natural_mode import natural_mode
from hiermod.engines.posterior import labelled
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import LEVEL, check_level, corr_names, sd_names
from hiermod.inference.priors_and_reml.agreement_words import (
    Context,
    levels_behind,
    own_prior,
    sentences,
    verdict_and_words,
)
from hiermod.inference.priors_and_reml.prior_density import centred_at, marginal_laws, stated_laws
from hiermod.inference.priors_and_reml.prior_weight import EDGE, prior_pull, to_scale, transformed
from hiermod.inference.priors_and_reml.scale_errors import estimates_and_errors
from hiermod.inference.priors_and_reml.sensitivity import movers
from hiermod.inference.priors_and_reml.tail_tests import (
    UNTESTED,
    TailTest,
    estimates_of,
    parameter_kinds,
    priors_and_estimates,
    tail_tests,
)

COLUMNS = (
    *("kind", "estimate", "std_error", "lower", "upper", "reml", "reml_std_error", "difference", "lower_difference"),
    *(
        "upper_difference",
        "sd_ratio",
        "by_prior",
        "by_averaging",
        "prior_weight",
        "conflict_p",
        "conflict_p_data",
        "r_hat",
        "levels",
        "verdict",
        "words",
    ),
)
SMALL = 1e-4  # an sd of REML below this share of its residual sd is 0


def agreement(fit: BayesianFit, reml: FrequentistFit, level: float = LEVEL) -> pd.DataFrame:
    """How far a posterior is from REML (or ML) for every parameter of both, and why; index parameter.

    The two fits may come in either order.
    Columns: kind (fixed, sd, corr, sigma); estimate, std_error, lower, upper of the posterior (mean, sd, equal-tailed);
    reml, reml_std_error (observed information; nan at a boundary); difference: posterior mean minus REML's estimate in
    REML standard errors, sds on the log scale and correlations on Fisher's; lower_difference, upper_difference: the
    interval there; sd_ratio: posterior sd over REML's standard error, on that scale; by_prior and by_averaging: the two
    parts of the difference, from REML to the posterior's mode and from there to its mean (Gaussian models whose effects
    integrate out; else nan); prior_weight: the prior's share of the information; conflict_p and conflict_p_data, as in
    ``prior.against``; r_hat; levels of the factor behind it; verdict: "agree", "boundary" (REML at 0 or -1/+1, or what
    moves with it), "few groups" or "little information" (the posterior averages over sds that the data hardly know),
    "prior has a say", "prior decides", "prior-data conflict" (what the priors did, as in ``prior_sensitivity``; words
    say which of them), "not converged", "no standard error"; words.
    attrs["sentences"] sums it up; ``hm.plots.agreement`` draws it.

    Raises ArgumentTypeError for other objects, ArgumentError for fits of different models or data.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> hm.agreement(m.fit(random_seed=1), m.reml())["verdict"].unique().tolist()
    ['agree']
    """
    fit, reml = _checked(fit, reml)
    table = fit.parameters(check_level(level))
    draws = dict(labelled(fit.record, fit.design, effects=False))
    estimates, errors = estimates_and_errors(reml)
    kinds = parameter_kinds(fit)
    modes = _modes(fit, reml)
    laws, tests = _laws(fit), _tests(fit, reml)
    tail = (1 - level) / 2
    rows: dict[str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        if name not in estimates:
            continue
        estimate, error = estimates[name], errors.get(name, float("nan"))
        if kind == "sd" and estimate < SMALL * reml.sigma:
            estimate, error = 0.0, float("nan")
        at, se = transformed(kind, estimate, error)
        t = to_scale(kind, draws[name])
        lower, upper = np.quantile(t, [tail, 1 - tail])
        own = table.loc[name]
        row = {"kind": kind} | {one: float(own[one]) for one in ("estimate", "std_error", "lower", "upper")}
        row |= {"reml": estimate, "reml_std_error": error, "difference": (t.mean() - at) / se}
        row |= {"lower_difference": (lower - at) / se, "upper_difference": (upper - at) / se}
        row["sd_ratio"] = t.std(ddof=1) / se
        mode = modes.get(name, float("nan"))
        row |= {"by_prior": (mode - at) / se, "by_averaging": (t.mean() - mode) / se}
        unknown = (float("nan"), float("nan"))
        pulls = [prior_pull(law, kind, *at) for law, at in _pulling(fit, reml, laws, name, (estimate, error))]
        weight, shift = max(pulls, key=lambda pull: pull[0], default=unknown)
        test = tests.get(name, UNTESTED)
        row |= {"prior_weight": weight, "prior_shift": shift, "conflict_p": test.p, "conflict_p_data": test.p_data}
        row |= {"r_hat": float(own["r_hat"]), "levels": levels_behind(name, kind, fit.design)}
        rows[name] = row
    context = Context(
        method="REML" if reml.reml else "ML",
        converged=reml.converged,
        divergences=fit.inference.divergences,
        edges=tuple(name for name, row in rows.items() if at_boundary(row["kind"], row["reml"])),
        strong=tuple(name for name, row in rows.items() if own_prior(row)),
        conflicts=tuple(name for name, test in tests.items() if test.conflict),
        movers=movers(fit),
    )
    for name, row in rows.items():
        row["verdict"], row["words"] = verdict_and_words(name, row, context)
    out = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("parameter")
    out.attrs |= {"method": context.method, "level": float(level), "formula": fit.formula}
    out.attrs["sentences"] = sentences(out)
    return noted(out)


def at_boundary(kind: str, estimate: float) -> bool:
    """An sd of 0, a correlation of -1 or 1, or one that an sd of 0 leaves undefined."""
    return bool(kind == "sd" and estimate == 0.0) or bool(kind == "corr" and not abs(estimate) <= EDGE)


def _pulling(
    fit: BayesianFit, reml: FrequentistFit, laws: dict[str, Any], name: str, at: tuple[float, float]
) -> list[tuple[Any, tuple[float, float]]]:
    """The laws that pull at a parameter, with REML's estimate and error there.

    Two for an intercept: as it is shown, where the predictors are 0, and where its prior is, at their means."""
    found = [(laws[name], at)] if name in laws else []
    centre = centred_at(fit) if name == "Intercept" and laws else None
    if centre is not None:
        own = stated_laws(fit).get(name)
        there = estimates_of(reml, centre)["Intercept"]
        found += [] if own is None else [(own, (there.value, there.error))]
    return found


def _tests(fit: BayesianFit, reml: FrequentistFit) -> dict[str, TailTest]:
    try:
        return tail_tests(priors_and_estimates(fit, reml), reml)
    except UnsupportedError:
        return {}


def _laws(fit: BayesianFit) -> dict[str, Any]:
    try:
        return marginal_laws(fit)
    except UnsupportedError:
        return {}


def _modes(fit: BayesianFit, reml: FrequentistFit) -> dict[str, float]:
    """Each parameter at the posterior's mode (sds, correlations, sigma as they are), on the scale of the comparison.

    Empty where effects do not integrate out; nan for what the mode itself has at a boundary."""
    if fit.priors is None:
        return {}
    try:
        density = marginal_density(fit.design, fit.priors)
    except UnsupportedError:
        return {}
    if density.coordinates.d == 0:
        return {}
    found = natural_mode(density, _start(density, fit, reml))
    coordinates = density.coordinates
    modes = dict(zip(fit.design.common, found.beta.tolist(), strict=True))
    sds, factors = coordinates.sds(found.phi), coordinates.correlation_factors(found.phi)
    for block, (where_sd, where_z), sd, L in zip(fit.design.blocks, coordinates.parts(), sds, factors, strict=True):
        gone = found.at_edge[where_sd]
        modes |= dict(zip(sd_names(block), np.where(gone, np.nan, np.log(sd)).tolist(), strict=True))
        rows, columns = np.triu_indices(block.size, 1)
        corr = (L @ L.T)[rows, columns]
        lost = gone[rows] | gone[columns] | found.at_edge[where_z].any()
        z = np.where(lost, np.nan, to_scale("corr", corr))
        modes |= dict(zip(corr_names(block), z.tolist(), strict=True))
    if coordinates.has_sigma:
        modes["sigma"] = float(found.phi[-1])
    return modes


def _start(density: MarginalDensity, fit: BayesianFit, reml: FrequentistFit) -> np.ndarray:
    """phi (d,) at REML's estimate, moved inside where that is at a boundary; else at the posterior's medians."""
    estimates, _ = estimates_and_errors(reml)
    phi = fit.record.unconstrained_draws(density.coordinates)
    start = np.median(phi.reshape(-1, phi.shape[-1]), axis=0)
    for block, (where, _) in zip(fit.design.blocks, density.coordinates.parts(), strict=True):
        for at, name in zip(range(where.start, where.stop), sd_names(block), strict=True):
            if estimates.get(name, 0.0) > SMALL * (reml.sigma if np.isfinite(reml.sigma) else 1.0):
                start[at] = np.log(estimates[name])
    return start


def _checked(fit: Any, reml: Any) -> tuple[BayesianFit, FrequentistFit]:
    """The posterior and the other fit, whichever came first."""
    if isinstance(fit, FrequentistFit) and isinstance(reml, BayesianFit):
        fit, reml = reml, fit
    if not isinstance(fit, BayesianFit):
        raise ArgumentTypeError(f"one fit must be Bayesian, what m.fit() returns, got {type(fit).__name__}")
    if not isinstance(reml, FrequentistFit):
        raise ArgumentTypeError(f"one fit must be by REML or ML (m.reml(), m.ml()), got {type(reml).__name__}")
    mine, other = fit.design, reml.design
    shape = [
        (one.common, one.response, [(block.factor, *block.labels) for block in one.blocks]) for one in (mine, other)
    ]
    if shape[0] != shape[1] or fit.family != reml.family:
        raise ArgumentError(
            f"the posterior is of {mine.formula!r} ({fit.family}) and the other fit of {other.formula!r} "
            f"({reml.family}): their parameters are not the same. Take both from one Model"
        )
    if not (mine.nobs == other.nobs and np.array_equal(mine.y, other.y)):
        raise ArgumentError("the two fits are of different data: take both from one Model")
    return fit, reml
