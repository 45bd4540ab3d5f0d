"""Whether a prior contradicts the data: the tail test of one parameter's own prior at its REML or ML estimate.

Evans and Moshonov (2006, Bayesian Analysis 1, 893-914): the prior probability of a value no denser than the estimate,
of the parameter itself and of the estimate as it would be under the prior, its own error added.  A conflict needs both.
A model has many priors: by Holm's correction (1979, Scand. J. Stat. 6, 65-70) the chance that any right one is called a
conflict is alpha."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.errors import HiermodError, UnsupportedError
from hiermod.families.catalogue import GENERALISED, is_linear
from hiermod.fits.by_likelihood import by_likelihood
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit
from hiermod.fits.tables import corr_names, sd_names
from hiermod.formula.parts import parts_of
from hiermod.inference.coefficient_tests.tables import linear_tests
from hiermod.inference.priors_and_reml.conflict import (
    bandwidth,
    blurred_conflict_p,
    conflict_p,
    drawn_conflict_p,
    kernel_density,
)
from hiermod.inference.priors_and_reml.prior_density import centred_at, stated_laws
from hiermod.inference.priors_and_reml.prior_weight import EDGE, prior_pull, to_scale, transformed
from hiermod.inference.priors_and_reml.scale_errors import estimates_and_errors
from hiermod.inference.priors_and_reml.verdicts import CONFLICT, DATA, by_weight, p_words

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

ALPHA = 0.05
LOOSE = 0.5  # an error on the log or Fisher's scale beyond which the likelihood is not normal there: profiles instead


@dataclass(frozen=True, eq=False)
class Marginal:
    """What is known of one parameter under the prior: its law where there is a closed form, and draws (d,)."""

    name: str
    kind: str  # "fixed", "sd", "corr", "sigma"
    law: Any
    draws: np.ndarray

    def quantile(self, u: float) -> float:
        """Of the law, else of the draws."""
        return float(self.law.ppf(u)) if self.law is not None else float(np.nanquantile(self.draws, u))

    def cdf(self, x: float) -> float:
        """P(X <= x)."""
        if not np.isfinite(x):
            return float("nan")
        return float(self.law.cdf(x)) if self.law is not None else float((self.draws <= x).mean())

    def density(self, x: np.ndarray) -> np.ndarray:
        """f(x), of the law, else a kernel estimate from the draws."""
        if self.law is not None:
            return np.asarray(self.law.pdf(x), dtype=float)
        return kernel_density(x, self.draws, bandwidth(self.draws), positive=self.kind in ("sd", "sigma"))

    def conflict(self, x: float) -> float:
        """P(f(X) <= f(x))."""
        if self.law is not None:
            return conflict_p(self.law, x)
        return drawn_conflict_p(self.draws, x, positive=self.kind in ("sd", "sigma"))

    def blurred(self, x: float, se: float, df: float = np.inf) -> float:
        """The same of an estimate under the prior, on the scale on which its error is nearest to normal.

        There the error hardly depends on where the parameter lies: a correlation of 0.9 has a small one, which says
        nothing of the estimates that a correlation of 0 gives."""
        at, error = transformed(self.kind, x, se)
        if not np.isfinite(at + error):
            return float("nan")
        if self.law is not None:
            return blurred_conflict_p(self.law, x, error, lambda values: to_scale(self.kind, values), df)
        rng = np.random.default_rng(0)  # a fixed grid of errors: no new randomness
        noise = rng.standard_normal(len(self.draws)) if np.isinf(df) else rng.standard_t(df, len(self.draws))
        return drawn_conflict_p(to_scale(self.kind, self.draws) + error * noise, at)

    def pull(self, estimate: float, se: float) -> tuple[float, float]:
        """Weight and shift of the prior; from a normal with the draws' middle 68 % where there is no law."""
        if self.law is not None:
            return prior_pull(self.law, self.kind, estimate, se)
        at, error = transformed(self.kind, estimate, se)
        with np.errstate(all="ignore"):
            ends = [transformed(self.kind, self.quantile(u), 1.0)[0] for u in (0.158655, 0.841345)]
        return prior_pull(stats.norm((ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2), "fixed", at, error)


@dataclass(frozen=True)
class Estimate:
    """Of REML or ML: value, standard error (nan: not known) and its degrees of freedom (inf: normal)."""

    value: float
    error: float = float("nan")
    df: float = float("inf")


@dataclass(frozen=True)
class TailTest:
    """p: of the estimate taken as the value; p_data: with its error; conflict: both small enough, Holm's way."""

    p: float
    p_data: float
    conflict: bool


UNTESTED = TailTest(float("nan"), float("nan"), False)


def tail_tests(
    pairs: Mapping[str, tuple[Marginal, Estimate]], fit: FrequentistFit, alpha: float = ALPHA
) -> dict[str, TailTest]:
    """The tests of some priors at the estimates of ``fit``, by name; alpha is for all of them together.

    No conflict where the estimate's error is not known.  At a boundary, and where an sd or a correlation is known so
    loosely that its likelihood is far from normal, p_data is the largest p of the values in a profile interval."""
    tested = {name: pair for name, pair in pairs.items() if np.isfinite(pair[1].value)}
    level = 1 - alpha / max(len(tested), 1)
    found = {}
    for name, (marginal, at) in tested.items():
        p, p_data = marginal.conflict(at.value), marginal.blurred(at.value, at.error, at.df)
        error = transformed(marginal.kind, at.value, at.error)[1]
        if p < alpha and marginal.kind != "fixed" and not error <= LOOSE:
            p_data = _best_within(marginal, fit, level)
        found[name] = (p, p_data)
    rejected = holm({name: max(pair) for name, pair in found.items() if np.isfinite(pair).all()}, len(found), alpha)
    return {name: TailTest(*pair, name in rejected) for name, pair in found.items()}


def holm(p: Mapping[str, float], count: int, alpha: float) -> set[str]:
    """Hypotheses that Holm's step-down procedure rejects among ``count``."""
    rejected: set[str] = set()
    for name in sorted(p, key=lambda one: p[one]):
        if p[name] >= alpha / (count - len(rejected)):
            break
        rejected.add(name)
    return rejected


def at_boundary(kind: str, estimate: float) -> bool:
    """An sd of 0, or a correlation of -1 or 1."""
    return bool(kind == "sd" and estimate == 0.0) or bool(kind == "corr" and abs(estimate) > EDGE)


def _best_within(marginal: Marginal, fit: FrequentistFit, level: float) -> float:
    """The largest conflict p of the values in the profile interval; nan where that cannot be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of limits at the boundary: that is where we are
            limits = fit.confint(level, "profile", [marginal.name], progressbar=False).loc[marginal.name]
    except (HiermodError, np.linalg.LinAlgError):
        return float("nan")
    if not np.isfinite(limits.to_numpy(dtype=float)).all():
        return float("nan")
    values = np.linspace(limits["lower"], limits["upper"], 401)
    density = np.nan_to_num(marginal.density(values), nan=-np.inf, posinf=np.inf)
    return marginal.conflict(float(values[np.argmax(density)]))  # p rises with the density


def estimates_of(fit: FrequentistFit, centre: np.ndarray | None = None) -> dict[str, Estimate]:
    """Every estimate by the parameter's name in tables, coefficients with Satterthwaite's degrees of freedom.

    centre (p,): of the predictors, where the intercept is taken; None: at zero."""
    values, errors = estimates_and_errors(fit)
    found = {name: Estimate(value, errors.get(name, float("nan"))) for name, value in values.items()}
    table, common = fit.fixef(), fit.design.common
    if "df" in table:  # generalised fits have none
        found |= {str(name): _row(row) for name, row in table.iterrows()}
    if centre is None or "Intercept" not in common:
        return found
    at = common.index("Intercept")
    row = np.where(np.arange(len(common)) == at, 1.0, centre)
    if isinstance(fit, GeneralisedFit):
        beta, cov = table["estimate"].to_numpy(dtype=float), fit.vcov().to_numpy(dtype=float)
        known = np.flatnonzero(np.isfinite(beta))
        variance = row[known] @ cov[np.ix_(known, known)] @ row[known]
        found["Intercept"] = Estimate(float(row[known] @ beta[known]), float(np.sqrt(variance)))
    else:
        found["Intercept"] = _row(linear_tests(fit, row).iloc[0])
    return found


def _row(row: pd.Series) -> Estimate:
    return Estimate(float(row["estimate"]), float(row["std_error"]), float(row["df"]) if row["df"] > 0 else np.inf)


# --- the tests of a posterior's priors --------------------------------------------------------------------------------
def likelihood_fit(fit: BayesianFit) -> tuple[FrequentistFit | None, str]:
    """REML or ML of a posterior's model and data, or why there is none."""
    design, family = fit.design, fit.family
    if design.special is not None or parts_of(design) or not (
        is_linear(family, fit.link) or family in GENERALISED
    ):  # fmt: skip
        return None, f"there is no fit of {fit.formula!r} (family {family!r}) by REML or maximum likelihood"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # singular fits are common and no matter here
            found = by_likelihood(design, family, fit.link, reml=True)
    except (HiermodError, np.linalg.LinAlgError) as error:
        return None, f"REML or maximum likelihood gives no estimate: {str(error).split('. ')[0].rstrip('.')}"
    return (found, "") if found.converged else (None, "REML or maximum likelihood did not converge")


def priors_and_estimates(fit: BayesianFit, reml: FrequentistFit) -> dict[str, tuple[Marginal, Estimate]]:
    """Each parameter's own prior, where that has a closed form, and REML's estimate, by the parameter's name in tables.

    The intercept's are where its prior is, at the predictors' means if that is the case."""
    laws, kinds = stated_laws(fit), parameter_kinds(fit)
    estimates = estimates_of(reml, centred_at(fit))
    return {
        name: (Marginal(name, kind, laws[name], np.empty(0)), estimates[name])
        for name, kind in kinds.items()
        if name in laws and name in estimates
    }


def parameter_kinds(fit: BayesianFit) -> dict[str, str]:
    """Parameters that REML has too, with their kind, in the order of the tables."""
    kinds = dict.fromkeys(fit.design.common, "fixed")
    for block in fit.design.blocks:
        kinds |= dict.fromkeys(sd_names(block), "sd") | dict.fromkeys(corr_names(block), "corr")
    return kinds | ({"sigma": "sigma"} if fit.record.sigma is not None and not fit.design.precision.sigma_known else {})


def own_tests(fit: BayesianFit) -> tuple[dict[str, TailTest], set[str], str]:
    """Each parameter's test; the conflicts in which the prior outweighs or moves the data; why there are no tests."""
    reml, why = likelihood_fit(fit)
    if reml is None:
        return {}, set(), why
    pairs = priors_and_estimates(fit, reml)
    found = tail_tests(pairs, reml)
    conflicts = [(name, *pairs[name]) for name, test in found.items() if test.conflict]
    felt = {name for name, prior, at in conflicts if by_weight(*prior.pull(at.value, at.error)) != DATA}
    return found, felt, ""


def conflict_sentence(fit: BayesianFit) -> str:
    """The conflicts that matter, in a sentence for check() and report(); empty where none is known."""
    try:
        tests, felt, _ = own_tests(fit)
    except UnsupportedError:  # the priors are not known
        return ""
    told = [f"{name} ({p_words(tests[name].p_data)})" for name in tests if name in felt]
    return f"{CONFLICT[0].upper()}{CONFLICT[1:]} in {', '.join(told)}" if told else ""
