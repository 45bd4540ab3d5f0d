"""Assumptions in words, for ``fit.check()``: outlying rows and groups, unequal spread, groups that carry the result.

Each sentence has its number and what to do.  Bounds are such that a true model is seldom accused: tail probabilities
over all rows or groups of at most 1 in 100 (Bonferroni) or 1 in 1,000, and Cook's distances by Cook and Weisberg's
(1982) bound of 1 rather than by shares of the number of groups, which always accuse someone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.errors import UnsupportedError, listing
from hiermod.families.catalogue import FAMILIES
from hiermod.inference.assumptions.assumption_tables import residual_points, spread_test, standardised_effects
from hiermod.inference.assumptions.deletion import held_deletion
from hiermod.kernel.threads import SHORT, suitable_threads

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

RARE = 0.01  # chance that any of n normal values lies so far out
UNEQUAL = 0.001  # p below which spreads are called unequal ...
RATIO = 2.0  # ... when they also differ by so much
TREND = 0.3  # rank correlation of spread and fitted values worth a sentence
COOK = 1.0
OVERDISPERSED = 1.5  # sum of squared Pearson residuals over its degrees of freedom
LEVELS = 500  # of a factor, beyond which their spreads are too many to compare
WORK = 3e7  # rows x columns squared: what the checks may cost before they are left to the person
SOUND = (
    "Residuals and group effects show nothing that normal ones with equal spread would not, and no group carries the "
    "result alone (hm.plots.assumptions draws them)."
)


def assumption_sentences(fit: FrequentistFit) -> list[str]:
    """One sentence for each assumption in doubt; one that says so when there is none."""
    with suitable_threads(SHORT):  # many short steps: threads would only spin
        return _sentences(fit)


def _sentences(fit: FrequentistFit) -> list[str]:
    if np.isnan(fit.criterion):  # nothing was estimated: what to do about that is said elsewhere
        return []
    columns = len(fit.record.factor.U) if fit.is_mixed else fit.design.X.shape[1]  # type: ignore[union-attr]
    if float(fit.nobs) * columns**2 > WORK:
        return [
            f"With {fit.nobs} rows the assumptions are not looked at here: hm.plots.assumptions(fit), "
            "fit.influence(group=...) and fit.simulated_residuals() do, in seconds to minutes."
        ]
    if FAMILIES[fit.family].normal_errors:
        points = residual_points(fit)
        found = [*_rows(fit, points["residual"].to_numpy()), *_spread(fit, points)]
    else:
        found = _dispersion(fit)
    found += [*_levels(fit), *_influence(fit)]
    if found:
        return found
    if FAMILIES[fit.family].normal_errors:
        return [SOUND]
    return [
        "No group carries the result alone. Whether the family fits the responses is for fit.simulated_residuals() "
        "to say, which simulates."
    ]


def _rows(fit: FrequentistFit, residuals: np.ndarray) -> list[str]:
    """Residuals further out than the largest of n normal ones."""
    size = np.nan_to_num(np.abs(residuals))
    bound = float(stats.norm.isf(RARE / (2 * len(size))))
    far = np.flatnonzero(size > bound)
    if not len(far):
        return []
    far = far[np.argsort(-size[far])]
    told = [_row(fit, int(i), float(residuals[i])) for i in far]
    count = "1 residual is" if len(far) == 1 else f"{len(far)} residuals are"
    return [
        f"{count} further out than normal residuals get (beyond {bound:.1f} standard deviations, which 1 of "
        f"{round(1 / RARE)} such data sets has at all): {listing(told, 3)}. Look at those rows; if they are no errors, "
        "see how far the results depend on them: fit.influence() leaves out single rows, and "
        'Model(..., family="t").fit() has a heavy-tailed residual.'
    ]


def _row(fit: FrequentistFit, i: int, value: float) -> str:
    where = ", ".join(dict.fromkeys(f"{block.factor} {block.levels[block.codes[i]]}" for block in fit.design.blocks))
    return f"row {fit.design.index[i]}" + (f" ({where})" if where else "") + f" at {value:+.1f}"


def _spread(fit: FrequentistFit, points: pd.DataFrame) -> list[str]:
    """Spread of the residuals between levels of each factor, and along the fitted values."""
    values = points["residual"].to_numpy()
    finite = np.isfinite(values)
    found = []
    for block in {block.factor: block for block in fit.design.blocks}.values():
        if len(block.levels) > LEVELS:
            continue
        parts = [values[(block.codes == j) & finite] for j in range(len(block.levels))]
        sizes = np.array([len(part) for part in parts])
        if (sizes >= 3).sum() < 2:
            continue
        p = spread_test([part for part in parts if len(part) >= 3], points.attrs["df"] / fit.nobs)
        sds = np.array([part.std(ddof=1) if len(part) >= 3 else np.nan for part in parts])
        if p < UNEQUAL and np.nanmax(sds) > RATIO * np.nanmin(sds):
            least, most = int(np.nanargmin(sds)), int(np.nanargmax(sds))
            found.append(
                f"Residuals spread unequally between levels of {block.factor}: standard deviations from "
                f"{sds[least]:.2f} ({block.levels[least]}) to {sds[most]:.2f} ({block.levels[most]}) times the common "
                f"one (p = {p:.1g}, Brown and Forsythe's test). Standard errors of effects within groups rest on the "
                "common one; look at hm.plots.residuals_by_group(fit), transform the response, or model the spread."
            )
    fitted, values = points["fitted"].to_numpy()[finite], np.abs(values[finite])
    free = points.attrs["df"]  # rows of a group share its effect: so many are as good as independent
    if free >= 20 and len(np.unique(fitted)) > 2:
        r = float(stats.spearmanr(fitted, values).statistic)
        p = 2 * float(stats.t.sf(abs(r) * np.sqrt((free - 2) / max(1 - r * r, 1e-12)), free - 2))
        if p < UNEQUAL and abs(r) > TREND:
            way = "grows" if r > 0 else "shrinks"
            found.append(
                f"The spread of the residuals {way} with the fitted value (rank correlation {r:+.2f}). The logarithm "
                "of a positive response, or weights=, often mends that; see hm.plots.scale_location(fit)."
            )
    return found


def _levels(fit: FrequentistFit) -> list[str]:
    """Group effects further out than the largest of J normal ones."""
    if not fit.is_mixed:
        return []
    effects = standardised_effects(fit)
    found = []
    for (group, term), part in effects.groupby(["group", "term"], sort=False):
        z = part["standardised"].to_numpy()
        finite = np.isfinite(z)
        if not finite.any():
            continue
        bound = float(stats.norm.isf(RARE / (2 * finite.sum())))
        far = part[finite & (np.abs(z) > bound)]
        if len(far):
            told = [f"{level} at {value:+.1f}" for level, value in zip(far["level"], far["standardised"], strict=True)]
            found.append(
                f"{term} of {group}: {listing(told, 3)} standard deviations from the middle, further out than normal "
                f"effects get (bound {bound:.1f}). One such level widens the estimated variance for all: look at its "
                f"rows, and at the fit without it (fit.influence(group={group!r}, refit=True))."
            )
    return found


def _influence(fit: FrequentistFit) -> list[str]:
    """Groups without which the coefficients would be elsewhere."""
    found = []
    units: list[tuple[str | None, np.ndarray, tuple[str, ...]]] = [
        (block.factor, np.asarray(block.codes), block.levels)
        for block in {block.factor: block for block in fit.design.blocks}.values()
        if len(block.levels) > 2
    ]
    if not fit.is_mixed:
        units = [(None, np.arange(fit.nobs), tuple(str(label) for label in fit.design.index))]
    for group, codes, levels in units:
        measured = held_deletion(fit.record, fit.design, codes, levels)
        cook = np.nan_to_num(measured.cooks_distance)
        strong = np.flatnonzero(cook > COOK)
        for u in strong[np.argsort(-cook[strong])][:3]:
            dfbetas = np.nan_to_num(measured.dfbetas[u])
            k = int(np.argmax(np.abs(dfbetas)))
            who = f"row {levels[u]}" if group is None else f"{group} {levels[u]}"
            found.append(
                f"Without {who} the coefficients would be elsewhere (Cook's distance {cook[u]:.1f}; "
                f"{fit.design.common[k]} would change by {-measured.change[u, k]:+.4g}, {abs(dfbetas[k]):.1f} standard "
                "errors). Report the result with and without it: "
                + (f"fit.influence(group={group!r}, refit=True)." if group is not None else "fit.influence().")
            )
    return found


def _dispersion(fit: Any) -> list[str]:
    """Pearson's statistic of counts over its degrees of freedom; group effects make it small rather than large."""
    try:
        residuals = residual_points(fit)["residual"].dropna().to_numpy()
    except UnsupportedError:
        return []
    df = fit.nobs - fit.npar
    total = float(np.square(residuals).sum())
    if df <= 0 or total <= OVERDISPERSED * df or stats.chi2.sf(total, df) >= UNEQUAL:
        return []
    return [
        f"The counts vary more than the {fit.family} family says: squared Pearson residuals sum to {total / df:.1f} "
        "times their degrees of freedom, so standard errors are too small. Add a group effect for each row, "
        "or use a family with a dispersion parameter (negativebinomial in Model.fit()); fit.simulated_residuals() "
        "says how sure that is."
    ]
