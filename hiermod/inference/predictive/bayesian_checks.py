"""What ``check()`` says of a Bayesian fit's data: statistics that the model does not make, rows and groups far out.

Bounds are such that a true model is seldom accused: a statistic counts outside 0.01 to 0.99 of its posterior predictive
distribution, a row or group further out than the furthest of 99 in 100 true data sets, uniformity of LOO-PIT at p below
0.01.  A true model is accused of something in 1 to 5 of 100 data sets.  Tail probabilities of rows leave the row out,
effects and all (scores/row_laws.py).  A prior-data conflict is that of the tail test (tail_tests.py)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from hiermod.errors import DesignError, UnsupportedError, listing
from hiermod.families.catalogue import FAMILIES
from hiermod.fits.targets import read_request
from hiermod.inference.predictive.loo_pit import LooPit, integrated_pit
from hiermod.inference.predictive.predictive_checks import StatisticDraws, statistic_draws
from hiermod.inference.predictive.replicates import PLAIN, Replicates, as_replicates
from hiermod.inference.priors_and_reml.tail_tests import conflict_sentence
from hiermod.inference.scores.record import MAX_K

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

OUTSIDE = 0.01  # posterior predictive p-values below this, or above 1 less this, are told
RARE = 0.01  # chance that any of n rows, or of J groups, lies so far out
NUMBERS = 250_000  # draws x rows simulated here
LEAST_LEVELS = 5  # of a factor, among which one can be far from the others
LARGEST = 20_000  # rows beyond which the data are left to the person
DRAWS, QUICK, FEWEST = 1000, 500, 100  # of the posterior: for simulations, for tail probabilities, at least
SOUND = "Simulated data look like the data in {statistics}{rows}."


def data_sentences(fit: BayesianFit) -> list[str]:
    """One sentence or two for each doubt; one that says what was looked at when there is none."""
    if fit.nobs > LARGEST or fit.design.special not in PLAIN:
        why = f"with {fit.nobs} rows" if fit.nobs > LARGEST else f"for {fit.design.special}() responses"
        return [f"Whether the model makes such data is not looked at here {why}: fit.loo() judges the fit."]
    prior = conflict_sentence(fit)
    statistics, looked = _statistics(fit)
    pit = _transforms(fit)
    rows = [] if pit is None else [*_far(fit, pit), *_shape(pit), *_influential(pit)]
    found = [*statistics, *rows, *_groups(fit)]
    if not looked:
        way = f"Simulating responses of family {fit.family!r} takes seconds, so it is not done here: see"
        found.append(f"{way} fit.predictive_check() and hm.plots.loo_pit_ecdf(fit).")
    elif not found:
        found.append(
            SOUND.format(
                statistics=listing(looked, 12),
                rows="" if pit is None else ", and no row lies far from what the others predict for it",
            )
        )
    if prior:
        found.insert(0, f"{prior}: REML's estimate is a surprise under the prior. See fit.prior_sensitivity().")
    if looked and pit is None:
        found.append("Rows one by one: fit.loo_pit(), hm.plots.loo_pit_ecdf(fit), fit.simulated_residuals().")
    return found


# --- statistics of the whole --------------------------------------------------------------------------------------
def _statistics(fit: BayesianFit) -> tuple[list[str], list[str]]:
    """Sentences, and the names of the statistics that were compared; none where simulating is slow."""
    drawn = _fast(fit)
    if drawn is None:
        return [], []
    found = statistic_draws(fit, drawn=drawn)
    names = [name for (name,) in found.names]
    told = {}
    for name, value, p, simulated in zip(names, found.observed, found.p, found.simulated.T, strict=True):
        if p < OUTSIDE or p > 1 - OUTSIDE:  # nan is neither
            low, high = np.quantile(simulated, [0.025, 0.975])
            told[name] = f"{_called(name)} {value:.4g} ({low:.4g} to {high:.4g}, p = {p:.3g})"
    sentences = []
    if told:
        sentences.append(
            f"Simulated data differ from the data in {listing(told.values(), 12)}: in brackets where 95 of 100 "
            f"simulated data sets are, and the share of them that lies above. {_advice(told, fit, found)}"
        )
    return sentences, [_called(name) for name in names]


def _fast(fit: BayesianFit, target: str = "conditional") -> Replicates | None:
    """Simulated responses by the draws' own linear predictor; None for families without that."""
    record = fit.record
    draws = min(max(FEWEST, min(DRAWS, NUMBERS // fit.nobs)), record.shape[0] * record.shape[1])
    try:
        request = read_request(fit.design, None, target, 0.95, "response", "raise")
        simulated = fit._predictor(request).responses(draws, np.random.default_rng([fit.inference.seed, 3]))
    except UnsupportedError:
        return None
    if not np.isfinite(simulated).all() or draws < FEWEST:
        return None
    return as_replicates(fit, simulated, target)


def _called(name: str) -> str:
    return {"min": "minimum", "max": "maximum", "skew": "skewness", "zeros": "share of zeros"}.get(name, name)


def _advice(told: Collection[str], fit: BayesianFit, found: StatisticDraws) -> str:
    """What usually helps, by the most telling of the statistics."""
    p = {name: value for (name,), value in zip(found.names, found.p, strict=True)}
    if "dispersion" in told:
        if p["dispersion"] > 0.5:
            return "The counts vary less about their predictions than the family can: its intervals are too wide."
        return (
            "The counts vary more about their predictions than the family says: add a group effect for each row, or "
            "use a family with a dispersion parameter (negativebinomial); where only zeros are in excess "
            "(hm.plots.rootogram(fit)), a zero-inflated one."
        )
    if "zeros" in told:
        return "Look at hm.plots.rootogram(fit): zero-inflated and hurdle families have a parameter for zeros."
    if any(name.startswith("sd between") for name in told):
        return "Is that factor's group effect in the model, or its prior too narrow (fit.prior_sensitivity())?"
    if FAMILIES[fit.family].normal_errors:
        return (
            "Look at hm.plots.predictive_density(fit); a positive response that is skewed is often modelled by its "
            'logarithm or family="gamma", single values far out by family="t".'
        )
    return "Look at hm.plots.predictive_density(fit)."


# --- rows ---------------------------------------------------------------------------------------------------------
def _transforms(fit: BayesianFit) -> LooPit | None:
    """LOO-PIT where effects integrate out; None elsewhere, and where a row alone decides a coefficient."""
    try:
        found = integrated_pit(fit, quick=max(FEWEST, min(QUICK, NUMBERS // fit.nobs)))
    except (UnsupportedError, DesignError):
        return None
    return LooPit(found.below, found.above, found.k, fit.design.index, "integrated", False)


def _far(fit: BayesianFit, pit: LooPit) -> list[str]:
    far = np.flatnonzero(pit.tail < RARE / len(pit.pit))
    if not len(far):
        return []
    far = far[np.argsort(pit.tail[far], kind="stable")]
    told = [_row(fit, int(i), float(pit.tail[i])) for i in far]
    count = "1 row lies" if len(far) == 1 else f"{len(far)} rows lie"
    return [
        f"{count} further from what the other rows predict than any of {len(pit.pit)} should: {listing(told, 4)}. Look "
        'at those rows; if they are no errors, a fit with family="t" has heavier tails, and the fit without them shows '
        "what they decide."
    ]


def _row(fit: BayesianFit, i: int, tail: float) -> str:
    where = ", ".join(dict.fromkeys(f"{block.factor} {block.levels[block.codes[i]]}" for block in fit.design.blocks))
    return f"row {fit.design.index[i]}" + (f" ({where})" if where else "") + f", tail probability {tail:.1g}"


def _shape(pit: LooPit) -> list[str]:
    """The shape of the bulk, outlying rows aside, which have a sentence of their own."""
    inner = pit.tail >= RARE / len(pit.pit)
    if inner.sum() < 20:
        return []
    bulk = LooPit(pit.pit[inner], pit.upper[inner], pit.pareto_k[inner], pit.index[inner], pit.estimator, False)
    if bulk.p >= RARE:
        return []
    return [
        f"The places of the rows in their predictive distributions are not uniform (p = {bulk.p:.2g}): {bulk._shape()} "
        "See hm.plots.loo_pit_ecdf(fit)."
    ]


def _influential(pit: LooPit) -> list[str]:
    high = np.flatnonzero(pit.pareto_k > MAX_K)  # nan: not among those with uneven weights
    if not len(high):
        return []
    high = high[np.argsort(-pit.pareto_k[high], kind="stable")]
    told = [f"{pit.index[i]} ({pit.pareto_k[i]:.2f})" for i in high]
    return [
        f"{len(high)} {'row moves' if len(high) == 1 else 'rows move'} the posterior of the variances far when left "
        f"out (Pareto k above {MAX_K}: row {listing(told, 5)}). fit.loo() gives such rows a proposal of their own; "
        "report the fit without them too."
    ]


# --- groups -------------------------------------------------------------------------------------------------------
def _groups(fit: BayesianFit) -> list[str]:
    """The level furthest from its factor's others, by Grubbs's statistic, against data sets with new groups.

    Not by posterior means over their own sds: with few rows per group those have wide tails under a true model."""
    if not fit.design.blocks:
        return []
    drawn = _fast(fit, "new_group")
    if drawn is None:
        return []
    away = np.concatenate([drawn.y[None], drawn.simulated]) - drawn.simulated.mean(axis=0)
    found = []
    for block in fit.design.blocks:
        for label, x in zip(block.labels, block.values.T, strict=True):
            levels, values = level_slopes(away, block.codes, x, centred=label != "Intercept")
            if len(levels) < LEAST_LEVELS:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, ddof=1, keepdims=True)
            furthest = np.nan_to_num(np.abs(z)).max(axis=1)
            p = (1 + (furthest[1:] >= furthest[0]).sum()) / len(furthest)
            if p <= RARE:
                j = int(np.argmax(np.abs(z[0])))
                found.append(
                    f"{label} of {block.factor}: {block.levels[levels[j]]} lies {abs(z[0, j]):.1f} standard deviations "
                    f"of the levels from their mean, further than the furthest in simulated data with new groups "
                    f"(p = {p:.2g}). Look at its rows and at the fit without them: it widens the spread of all."
                )
    return found


def level_slopes(y: np.ndarray, codes: np.ndarray, x: np.ndarray, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Levels, and the least-squares coefficient of (m, n) on x within each, (m, L), where x varies."""
    order = np.argsort(codes, kind="stable")
    present, starts, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    x = x[order]
    if centred:
        x = x - np.repeat(np.add.reduceat(x, starts) / sizes, sizes)
    squares = np.add.reduceat(np.square(x), starts)
    varies = squares > 1e-12 * max(float(np.square(x).sum()), 1e-300)
    sums = np.add.reduceat(y[:, order] * x, starts, axis=1)
    return present[varies], sums[:, varies] / squares[varies]
