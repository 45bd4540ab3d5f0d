"""Prior set against REML: where each estimate falls in its prior, and whether prior or data decide the answer.

Conflict: Evans and Moshonov (2006, Bayesian Analysis 1, 893-914), the prior probability of a value no denser than the
one found.  Weight: the prior's information beside the likelihood's (prior_weight.py)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.bayes.conflict import bandwidth, blurred_conflict_p, conflict_p, drawn_conflict_p, kernel_density
from hiermod.bayes.distributions import Distribution
from hiermod.bayes.laws import law, law_or_none, lkj_marginal
from hiermod.bayes.prior_draws import PriorDraws
from hiermod.errors import HiermodError
from hiermod.formula.design import Design
from hiermod.frequentist.mixed import MixedFit
from hiermod.results.frequentist import FrequentistFit
from hiermod.results.prior_and_reml.data_summaries import at_least_zero, data_summaries, summarise
from hiermod.results.prior_and_reml.prior_weight import EDGE, prior_pull, reml_interval, transformed
from hiermod.results.prior_and_reml.prior_words import sentences, words_of
from hiermod.results.prior_and_reml.scale_errors import estimates_and_errors
from hiermod.results.tables import corr_names, sd_names

COLUMNS = (
    *("kind", "reml", "std_error", "lower", "upper", "prior_median", "prior_lower", "prior_upper", "prior_quantile"),
    *("conflict_p", "conflict_p_data", "conflict", "prior_weight", "prior_shift", "verdict", "words"),
)
WIDE, TOO_WIDE = 0.025, 0.01  # observed spread below these quantiles of the simulated ones ...
TIMES = 20.0  # ... and this many times smaller than their median: the prior expects absurd data
OVERALL = ("sd", "range")  # of these; groups may well be alike, however much a prior lets them differ
DECIDES, A_SAY = 0.5, 0.1  # prior weight above which it decides, and above which it is heard ...
PULL = 0.5  # ... or a shift of this many standard errors


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

    def blurred(self, x: float, se: float) -> float:
        """The same with the estimate's own error."""
        if self.law is not None:
            return blurred_conflict_p(self.law, x, se)
        if not np.isfinite(se):
            return float("nan")
        noise = np.random.default_rng(0).standard_normal(len(self.draws))  # a fixed grid of errors: no new randomness
        return drawn_conflict_p(self.draws + se * noise, x)

    def pull(self, estimate: float, se: float) -> tuple[float, float]:
        """Weight and shift of the prior; from a normal with the draws' middle 68 % where there is no law."""
        if self.law is not None:
            return prior_pull(self.law, self.kind, estimate, se)
        at, error = transformed(self.kind, estimate, se)
        with np.errstate(all="ignore"):
            ends = [transformed(self.kind, self.quantile(u), 1.0)[0] for u in (0.158655, 0.841345)]
        return prior_pull(stats.norm((ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2), "fixed", at, error)


def marginals(draws: PriorDraws, design: Design, centred: bool) -> dict[str, Marginal]:
    """Every parameter that REML estimates too, by name."""
    record, entries = draws.record, {one.parameter: one for one in draws.entries}
    found: dict[str, Marginal] = {}

    def add(name: str, kind: str, exact: Any, values: np.ndarray) -> None:
        found[name] = Marginal(name, kind, exact, np.asarray(values, dtype=float))

    for i, name in enumerate(design.common):
        entry = entries.get(name)
        exact = law_or_none(entry.law) if entry is not None else None
        if name == "Intercept" and centred and len(design.common) > 1:
            exact = _intercept_law(draws, design)
        add(name, "fixed", exact, record.beta[0, :, i])
    for b, block in enumerate(design.blocks):
        for i, name in enumerate(sd_names(block)):
            add(name, "sd", law_or_none(entries[name].law) if name in entries else None, record.sd[b][0, :, i])
        corr = record.corr[b]
        if corr is not None:
            eta = entries[block.corr_name].eta
            exact = None if eta is None else lkj_marginal(eta, block.size)
            pairs = np.triu_indices(block.size, 1)
            for name, row, column in zip(corr_names(block), *pairs, strict=True):
                add(name, "corr", exact, corr[0, :, row, column])
    if record.sigma is not None and design.se is None:
        entry = entries.get("sigma")
        add("sigma", "sigma", None if entry is None else law_or_none(entry.law), record.sigma[0])
    return found


def _intercept_law(draws: PriorDraws, design: Design) -> Any:
    """Normal priors at the predictors' means, moved to their zeros; None where a prior is not Normal."""
    mean, variance = 0.0, 0.0
    entries = {one.parameter: one.law for one in draws.entries}
    for i, name in enumerate(design.common):
        prior = entries.get(name)
        if prior is None or prior.name != "Normal":
            return None
        factor = 1.0 if name == "Intercept" else -float(design.X[:, i].mean())
        own = law(prior)
        mean, variance = mean + factor * own.mean(), variance + factor**2 * own.var()
    return law(Distribution("Normal", (("mu", mean), ("sigma", float(np.sqrt(variance))))))


def against_table(
    draws: PriorDraws, design: Design, centred: bool, fit: FrequentistFit, alpha: float, simulated: dict[str, Any]
) -> pd.DataFrame:
    """One row per parameter, then one per data summary (``data: sd``); attrs: sentences, alpha.

    simulated: summaries of the prior's data, by name, (d,) each."""
    estimates, errors = estimates_and_errors(fit)
    fixed = {one.parameter: one.fixed for one in draws.entries if one.fixed is not None}
    rows: dict[str, dict[str, Any]] = {}
    for name, marginal in marginals(draws, design, centred).items():
        estimate, se = estimates.get(name, np.nan), errors.get(name, np.nan)
        rows[name] = (
            _fixed_row(marginal, estimate, se, fixed[name])
            if name in fixed
            else _parameter_row(marginal, estimate, se, fit, alpha)
        )
    observed = summarise(design.y[None], design, data_summaries(design))
    for name, values in simulated.items():
        rows[f"data: {name}"] = _data_row(name, float(observed[name][0]), values, alpha)
    for name, row in rows.items():
        row["words"] = words_of(name, row)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("parameter")
    table.attrs["alpha"] = alpha
    table.attrs["sentences"] = sentences(table)
    return table


def simulate_summaries(draws: PriorDraws, design: Design) -> dict[str, np.ndarray]:
    """Every summary of the data of every draw, (d,) each."""
    summaries = data_summaries(design)
    pieces: Iterable[dict[str, np.ndarray]] = [summarise(y, design, summaries) for y in draws.responses(design)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in summaries}


def _base(marginal: Marginal, estimate: float, se: float) -> dict[str, Any]:
    median, lower, upper = (marginal.quantile(u) for u in (0.5, 0.025, 0.975))
    ends = reml_interval(marginal.kind, estimate, se)
    row = {"kind": marginal.kind, "reml": estimate, "std_error": se, "lower": ends[0], "upper": ends[1]}
    return (
        row
        | {"prior_median": median}
        | {"prior_lower": lower, "prior_upper": upper, "prior_quantile": marginal.cdf(estimate)}
    )


def _fixed_row(marginal: Marginal, estimate: float, se: float, value: float) -> dict[str, Any]:
    nan = float("nan")
    row = _base(marginal, estimate, se) | {"prior_median": value}
    row |= {"prior_lower": value, "prior_upper": value, "prior_quantile": nan}
    return row | _outcome(nan, nan, False, 1.0, nan, "fixed")


def _outcome(p: float, p_data: float, conflict: bool, weight: float, shift: float, verdict: str) -> dict[str, Any]:
    return {
        "conflict_p": p,
        "conflict_p_data": p_data,
        "conflict": bool(conflict),
        "prior_weight": weight,
        "prior_shift": shift,
        "verdict": verdict,
    }


def _parameter_row(marginal: Marginal, estimate: float, se: float, fit: FrequentistFit, alpha: float) -> dict[str, Any]:
    row = _base(marginal, estimate, se)
    p, p_data = marginal.conflict(estimate), marginal.blurred(estimate, se)
    if p == 0.0 and _at_boundary(marginal, estimate):
        p_data = _best_within(marginal, fit)  # the prior avoids the boundary on purpose, and REML knows only "small"
        conflict = bool(p_data < alpha)
    else:
        conflict = bool(p < alpha and not p_data >= alpha)
    weight, shift = marginal.pull(estimate, se)
    if np.isnan(estimate):
        verdict = "undefined"
    elif conflict:
        verdict = "conflict"
    elif np.isnan(weight):
        verdict = "at the boundary" if _at_boundary(marginal, estimate) else "no standard error"
    else:
        heard = weight >= A_SAY or abs(shift) >= PULL
        verdict = "prior decides" if weight >= DECIDES else "prior has a say" if heard else "data decide"
    return row | _outcome(p, p_data, conflict, weight, shift, verdict)


def _at_boundary(marginal: Marginal, estimate: float) -> bool:
    return bool(marginal.kind == "sd" and estimate == 0.0) or bool(marginal.kind == "corr" and abs(estimate) > EDGE)


def _best_within(marginal: Marginal, fit: FrequentistFit) -> float:
    """The largest conflict p of the values in REML's 95 % profile interval; nan where that cannot be had."""
    if not isinstance(fit.record, MixedFit):
        return float("nan")  # generalised models have no profiles
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of limits at the boundary: that is where we are
            limits = fit.confint(parameters=[marginal.name]).loc[marginal.name]
    except (HiermodError, np.linalg.LinAlgError):
        return float("nan")
    if not np.isfinite(limits.to_numpy(dtype=float)).all():
        return float("nan")
    values = np.linspace(limits["lower"], limits["upper"], 101)
    return float(np.nanmax([marginal.conflict(float(value)) for value in values]))


def _data_row(name: str, observed: float, values: np.ndarray, alpha: float) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    lower, median, upper = np.quantile(finite, [0.025, 0.5, 0.975]) if len(finite) else [np.nan] * 3
    # ranks of ties are shared, so that a summary of counts that never changes is in the middle
    quantile = float((finite < observed).mean() + 0.5 * (finite == observed).mean()) if len(finite) else np.nan
    size, nan = at_least_zero(name), float("nan")
    p = drawn_conflict_p(finite, observed, positive=size)
    if size and quantile < 0.5:  # small spread under a wide prior is no conflict, until the prior is wide beyond sense
        absurd = name in OVERALL and quantile < TOO_WIDE and median >= TIMES * observed
        verdict = "too wide" if absurd else "wide" if quantile < WIDE else "as expected"
    else:
        verdict = "conflict" if p < alpha else "as expected"
    row = {"kind": "data", "reml": observed, "std_error": nan, "lower": nan, "upper": nan, "prior_median": median}
    row |= {"prior_lower": lower, "prior_upper": upper, "prior_quantile": quantile}
    return row | _outcome(p, nan, verdict in ("conflict", "too wide"), nan, nan, verdict)
