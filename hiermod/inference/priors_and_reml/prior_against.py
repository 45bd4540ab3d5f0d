"""Prior set against REML: where each estimate falls in its prior, and whether prior or data decide the answer.

Conflict: the tail test of each parameter's own prior (tail_tests.py).  Weight: the prior's information beside the
likelihood's (prior_weight.py).  The verdicts on priors are those of verdicts.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.prior_draws import PriorDraws
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import corr_names, sd_names
from hiermod.formula.design import Design
from hiermod.inference.priors_and_reml.conflict import drawn_conflict_p
from hiermod.inference.priors_and_reml.data_summaries import at_least_zero, data_summaries, summarise
from hiermod.inference.priors_and_reml.prior_weight import reml_interval
from hiermod.inference.priors_and_reml.prior_words import sentences, words_of
from hiermod.inference.priors_and_reml.tail_tests import (
    UNTESTED,
    Estimate,
    Marginal,
    TailTest,
    at_boundary,
    estimates_of,
    holm,
    tail_tests,
)
from hiermod.inference.priors_and_reml.verdicts import BOUNDARY, CONFLICT, FIXED, NO_ERROR, UNDEFINED, by_weight
from hiermod.priors.distributions import Distribution, scipy_or_none
from hiermod.priors.lkj import correlation_law

COLUMNS = (
    *("kind", "reml", "std_error", "lower", "upper", "prior_median", "prior_lower", "prior_upper", "prior_quantile"),
    *("conflict_p", "conflict_p_data", "conflict", "prior_weight", "prior_shift", "verdict", "words"),
)
WIDE, TOO_WIDE = 0.025, 0.01  # observed spread below these quantiles of the simulated ones ...
TIMES = 20.0  # ... and this many times smaller than their median: the prior expects absurd data
OVERALL = ("sd", "range")  # of these; groups may well be alike, however much a prior lets them differ


def marginals(draws: PriorDraws, design: Design, centred: bool) -> dict[str, Marginal]:
    """Every parameter that REML estimates too, by name."""
    record, entries = draws.record, {one.parameter: one for one in draws.entries}
    found: dict[str, Marginal] = {}

    def add(name: str, kind: str, exact: Any, values: np.ndarray) -> None:
        found[name] = Marginal(name, kind, exact, np.asarray(values, dtype=float))

    for i, name in enumerate(design.common):
        entry = entries.get(name)
        exact = scipy_or_none(entry.law) if entry is not None else None
        if name == "Intercept" and centred and len(design.common) > 1:
            exact = _intercept_law(draws, design)
        add(name, "fixed", exact, record.beta[0, :, i])
    for b, block in enumerate(design.blocks):
        for i, name in enumerate(sd_names(block)):
            add(name, "sd", scipy_or_none(entries[name].law) if name in entries else None, record.sd[b][0, :, i])
        corr = record.corr[b]
        if corr is not None:
            eta = entries[block.corr_name].eta
            for name, (row, column) in zip(corr_names(block), block.pairs, strict=True):
                exact = None if eta is None else correlation_law(block, eta, (row, column))
                add(name, "corr", exact, corr[0, :, row, column])
    if record.sigma is not None and not design.precision.sigma_known:
        entry = entries.get("sigma")
        add("sigma", "sigma", None if entry is None else scipy_or_none(entry.law), record.sigma[0])
    return found


def stated_intercept(draws: PriorDraws, design: Design) -> Marginal:
    """The intercept at the predictors' means, where its prior is."""
    entry = next((one for one in draws.entries if one.parameter == "Intercept"), None)
    weights = [1.0 if name == "Intercept" else mean for name, mean in zip(design.common, _means(design), strict=True)]
    own = None if entry is None else scipy_or_none(entry.law)
    return Marginal("Intercept", "fixed", own, draws.record.beta[0] @ np.array(weights))


def _means(design: Design) -> list[float]:
    return [float(mean) for mean in design.X.mean(axis=0)]


def _intercept_law(draws: PriorDraws, design: Design) -> Any:
    """Normal priors at the predictors' means, moved to their zeros; None where a prior is not Normal."""
    mean, variance = 0.0, 0.0
    entries = {one.parameter: one.law for one in draws.entries}
    for i, name in enumerate(design.common):
        prior = entries.get(name)
        if prior is None or prior.name != "Normal":
            return None
        factor = 1.0 if name == "Intercept" else -float(design.X[:, i].mean())
        own = prior.scipy()
        mean, variance = mean + factor * own.mean(), variance + factor**2 * own.var()
    return Distribution("Normal", (("mu", mean), ("sigma", float(np.sqrt(variance))))).scipy()


def against_table(
    draws: PriorDraws, design: Design, centred: bool, fit: FrequentistFit, alpha: float, simulated: dict[str, Any]
) -> pd.DataFrame:
    """One row per parameter, then one per data summary (``data: sd``); attrs: sentences, alpha.

    simulated: summaries of the prior's data, by name, (d,) each."""
    shown = marginals(draws, design, centred)
    fixed = {one.parameter: one.fixed for one in draws.entries if one.fixed is not None}
    at = estimates_of(fit)
    pairs = {name: (one, at.get(name, Estimate(np.nan))) for name, one in shown.items() if name not in fixed}
    stated = dict(pairs)
    if centred and len(design.common) > 1 and "Intercept" in pairs:
        there = estimates_of(fit, np.array(_means(design)))["Intercept"]
        stated["Intercept"] = (stated_intercept(draws, design), there)
    tests = tail_tests(stated, fit, alpha)
    rows: dict[str, dict[str, Any]] = {}
    for name, marginal in shown.items():
        if name in fixed:
            rows[name] = _fixed_row(marginal, at.get(name, Estimate(np.nan)), fixed[name])
        else:
            rows[name] = _parameter_row(pairs[name], stated[name], tests.get(name, UNTESTED))
    observed = summarise(design.y[None], design, data_summaries(design))
    surprises = {
        name: drawn_conflict_p(values[np.isfinite(values)], float(observed[name][0]), at_least_zero(name))
        for name, values in simulated.items()
    }
    small = holm({name: p for name, p in surprises.items() if np.isfinite(p)}, len(surprises), alpha)
    for name, values in simulated.items():
        rows[f"data: {name}"] = _data_row(name, float(observed[name][0]), values, surprises[name], name in small)
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


def _base(marginal: Marginal, at: Estimate) -> dict[str, Any]:
    median, lower, upper = (marginal.quantile(u) for u in (0.5, 0.025, 0.975))
    ends = reml_interval(marginal.kind, at.value, at.error)
    row = {"kind": marginal.kind, "reml": at.value, "std_error": at.error, "lower": ends[0], "upper": ends[1]}
    return (
        row
        | {"prior_median": median}
        | {"prior_lower": lower, "prior_upper": upper, "prior_quantile": marginal.cdf(at.value)}
    )


def _fixed_row(marginal: Marginal, at: Estimate, value: float) -> dict[str, Any]:
    nan = float("nan")
    row = _base(marginal, at) | {"prior_median": value}
    row |= {"prior_lower": value, "prior_upper": value, "prior_quantile": nan}
    return row | _outcome(nan, nan, False, 1.0, nan, FIXED)


def _outcome(p: float, p_data: float, conflict: bool, weight: float, shift: float, verdict: str) -> dict[str, Any]:
    return {
        "conflict_p": p,
        "conflict_p_data": p_data,
        "conflict": bool(conflict),
        "prior_weight": weight,
        "prior_shift": shift,
        "verdict": verdict,
    }


def _parameter_row(
    shown: tuple[Marginal, Estimate], stated: tuple[Marginal, Estimate], test: TailTest
) -> dict[str, Any]:
    """stated: the prior as it was given, with the estimate there: for an intercept another place than the one shown."""
    (marginal, at), (own, there) = shown, stated
    row = _base(marginal, at)
    weight, shift = marginal.pull(at.value, at.error)
    if own is not marginal:
        row["stated"] = (there.value, *(own.quantile(u) for u in (0.5, 0.025, 0.975)))
        other = own.pull(there.value, there.error)
        weight, shift = other if other[0] > weight else (weight, shift)
    if np.isnan(at.value):
        verdict = UNDEFINED
    elif np.isnan(weight) and not test.conflict:
        verdict = BOUNDARY if at_boundary(marginal.kind, at.value) else NO_ERROR
    else:
        verdict = by_weight(weight, shift, test.conflict)
    return row | _outcome(test.p, test.p_data, test.conflict, weight, shift, verdict)


def _data_row(name: str, observed: float, values: np.ndarray, p: float, surprise: bool) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    lower, median, upper = np.quantile(finite, [0.025, 0.5, 0.975]) if len(finite) else [np.nan] * 3
    # ranks of ties are shared, so that a summary of counts that never changes is in the middle
    quantile = float((finite < observed).mean() + 0.5 * (finite == observed).mean()) if len(finite) else np.nan
    size, nan = at_least_zero(name), float("nan")
    if size and quantile < 0.5:  # small spread under a wide prior is no conflict, until the prior is wide beyond sense
        absurd = name in OVERALL and quantile < TOO_WIDE and median >= TIMES * observed
        verdict = "too wide" if absurd else "wide" if quantile < WIDE else "as expected"
    else:
        verdict = CONFLICT if surprise else "as expected"
    row = {"kind": "data", "reml": observed, "std_error": nan, "lower": nan, "upper": nan, "prior_median": median}
    row |= {"prior_lower": lower, "prior_upper": upper, "prior_quantile": quantile}
    return row | _outcome(p, nan, verdict in (CONFLICT, "too wide"), nan, nan, verdict)
