"""Residuals and group effects on the scale on which the model says they are standard normal, and tables for figures.

Given the variance parameters Var(y_i - fitted_i) = sigma^2 / w_i - Var(x'beta + z'b | y) and
Var(b_j estimated) = Sigma - Var(b_j | y) (Haslett and Haslett 2007, Int. Stat. Rev. 75(1); Snijders and Bosker 2012,
Multilevel Analysis, section 10.6).  Shrunken effects hide what is not normal about the true ones (Verbeke and Lesaffre
1996, J. Am. Stat. Assoc. 91); ``reliability`` says by how much each is shrunken."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import joint_variance
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError, nearest
from hiermod.families.catalogue import FAMILIES
from hiermod.fits.level_draws import level_moments
from hiermod.fits.tables import check_group, check_level, effects_frame, stack_effects
from hiermod.fits.vocabulary import Fit
from hiermod.inference.assumptions.lowess import lowess
from hiermod.inference.assumptions.qq_bands import local_level, uniform_band
from hiermod.kernel import conditional
from hiermod.kernel.threads import SHORT, suitable_threads

NO_SPREAD = 1e-8  # variance of an estimate relative to the variance it estimates, below which there is nothing to show
_KEPT: WeakKeyDictionary[Any, pd.DataFrame] = WeakKeyDictionary()  # residual points by fit
ELSEWHERE = "look at fit.simulated_residuals() and hm.plots.simulated_residuals(fit) instead"


# --- level 1 ----------------------------------------------------------------------------------------------------------
def standardised_residuals(fit: Fit) -> pd.Series:
    """(n,) residuals over their own standard deviations, which are smaller than sigma where a row pulls the fit.

    Gaussian fits of both kinds; UnsupportedError for the other families.  ``attrs["df"]``: the sum over rows of the
    share of their variance that is left, n less the effective number of coefficients."""
    if not FAMILIES[fit.family].normal_errors:
        raise UnsupportedError(
            f"residuals of family {fit.family!r} are not normal even under a true model, so that nothing standardises "
            f"them: {ELSEWHERE}"
        )
    points = _gaussian_points(fit)
    series = points["residual"].rename("standardised")
    series.attrs["df"] = points.attrs["df"]
    return series


def _gaussian_points(fit: Fit) -> pd.DataFrame:
    """fitted, residual over its own sd.  Kept as long as the fit, which does not change: every row's draws are dear."""
    if fit not in _KEPT:
        noise = _noise_variance(fit)
        fitted, explained = _fitted_and_variance(fit, noise)
        left = 1.0 - explained / noise
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (fit.design.y - fitted) / np.sqrt(np.where(left > NO_SPREAD, noise * left, np.nan))
        table = pd.DataFrame({"fitted": fitted, "residual": values}, index=fit.design.index)
        table.attrs["df"] = float(left.clip(min=0.0).sum())
        table.attrs["slope"] = _shrinkage_slope(fit, table, noise * left)
        _KEPT[fit] = table
    return _KEPT[fit].copy()


def _shrinkage_slope(fit: Any, points: pd.DataFrame, variance: np.ndarray) -> float:
    """Slope of the standardised residuals on the fitted values that shrinkage makes in a true model.

    With e = R P y (P: the projection of REML, P V P = P) the mean of e'(y - e) is tr(R P V) - tr(R P R): the noise
    variance times n - p, less the sum of the residuals' own.  0 without group effects, where e and fitted are apart."""
    if not fit.design.blocks:
        return 0.0
    noise = _noise_variance(fit)
    free = 1.0 - int(fit.design.estimable.sum()) / fit.nobs
    product = free * noise.sum() - variance.clip(min=0.0).sum()
    spread = np.square(points["fitted"] - points["fitted"].mean()).sum()
    return float(product / spread / np.sqrt(variance.clip(min=0.0).mean())) if spread > 0 else 0.0


def _fitted_and_variance(fit: Any, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) expected response, and (n,) its variance given the data, which the residual's is short of the noise's."""
    design, record = fit.design, fit.record
    if isinstance(record, Posterior):
        mean, variance = _posterior_moments(fit)
        return (mean if fit.link == "identity" else fit.fitted().to_numpy()), variance
    fitted = fit.fitted().to_numpy()
    if isinstance(record, LinearFit):
        return fitted, noise * record.hat
    rows = [(np.asarray(block.codes), np.asarray(block.values)) for block in design.blocks]
    with suitable_threads(max(SHORT, len(record.factor.U))):
        return fitted, joint_variance(record, np.asarray(design.X), rows)


def _noise_variance(fit: Fit) -> np.ndarray:
    """(n,) variance of the response given its mean."""
    design, record = fit.design, fit.record
    if design.precision.sigma_known:
        variance = 1.0
    elif isinstance(record, Posterior):
        variance = float(np.square(np.asarray(record.sigma)).mean())
    elif isinstance(record, LinearFit):
        variance = record.rss / record.df_residual
    else:
        variance = float(record.sigma) ** 2
    return design.precision.variance(variance)


def _posterior_moments(fit: Any) -> tuple[np.ndarray, np.ndarray]:
    """(n,) posterior mean and (n,) variance of the linear predictor, in one pass over its draws."""
    from hiermod.fits.targets import read_request

    request = read_request(fit.design, None, "conditional", None, "mean", "raise")
    predictor, rng = fit._predictor(request), np.random.default_rng(0)  # nothing is drawn: every level is known
    step = max(1, 2_000_000 // (fit.record.beta.shape[0] * fit.record.beta.shape[1]))
    mean, variance = np.empty(fit.nobs), np.empty(fit.nobs)
    for at in range(0, fit.nobs, step):
        drawn = predictor.linear(slice(at, at + step), rng)
        mean[at : at + step], variance[at : at + step] = drawn.mean(axis=0), drawn.var(axis=0)
    return mean, variance


def residual_points(fit: Fit) -> pd.DataFrame:
    """fitted and standardised residual of every row: what plots of residuals show, indexed like the rows used.

    Gaussian: residuals over their own sd.  Poisson and binomial counts: Pearson residuals, (y - mean) / sd of y given
    the mean.  UnsupportedError for 0/1 and other families, whose residuals lie on two lines or have no such scale."""
    if FAMILIES[fit.family].normal_errors:
        return _gaussian_points(fit)
    fitted = fit.fitted()
    family = FAMILIES[fit.family]
    if not family.pearson_residuals:
        raise UnsupportedError(
            f"residuals of family {fit.family!r} against fitted values show the family's shape, not the model's "
            f"faults: {ELSEWHERE}"
        )
    design, mean = fit.design, fitted.to_numpy()
    y = design.y if design.trials is None else design.y / design.trials
    variance = mean if design.trials is None else mean * (1.0 - mean) / design.trials
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.where(y == mean, 0.0, (y - mean) / np.sqrt(variance))
    return pd.DataFrame({"fitted": fitted, "residual": residual}, index=design.index)


def residual_smooth(points: pd.DataFrame, column: str = "residual") -> pd.DataFrame:
    """The lowess curve of a column of ``residual_points`` against fitted: fitted, curve."""
    known = points[["fitted", column]].dropna()
    with suitable_threads(SHORT):  # thousands of short sums, which waiting for threads makes ten times slower
        x, curve = lowess(known["fitted"].to_numpy(), known[column].to_numpy())
    return pd.DataFrame({"fitted": x, "curve": curve})


def residuals_within_groups(fit: Fit, group: str | None = None) -> pd.DataFrame:
    """Residuals of each level of a grouping factor: rows, mean, sd, min, q1, median, q3, max; index level.

    The residuals are those of ``residual_points``.  ``attrs["spread_p"]``: Brown and Forsythe's (1974) test that all
    levels have the same spread, over levels with at least three rows; nan with fewer than two such levels."""
    block = _one_block(fit, group)
    points = residual_points(fit)
    values, share = points["residual"].to_numpy(), points.attrs.get("df", fit.nobs) / fit.nobs
    known = np.isfinite(values)
    values, codes = values[known], block.codes[known]
    groups = pd.Series(values).groupby(codes)
    columns = {"rows": groups.size(), "mean": groups.mean(), "sd": groups.std()}
    quantiles = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}
    columns |= {name: groups.quantile(at) for name, at in quantiles.items()}
    table = pd.DataFrame(columns).reindex(range(len(block.levels)))
    table["rows"] = table["rows"].fillna(0).astype(int)
    table.index = pd.Index(block.levels, name=block.factor)
    order = np.argsort(codes, kind="stable")
    parts = np.split(values[order], np.cumsum(table["rows"].to_numpy())[:-1])
    table.attrs["spread_p"] = spread_test([part for part in parts if len(part) >= 3], share)
    return table


def spread_test(parts: list[np.ndarray], share: float = 1.0) -> float:
    """p of Brown and Forsythe's (1974) test that all parts have the same spread about their medians; nan if undefined.

    share: independent residuals for each row.  Where effects take up many degrees of freedom residuals repeat each
    other (two rows of a level with its own intercept: the same with both signs), and F counts that much less."""
    rows = sum(len(part) for part in parts)
    free = share * rows - len(parts)
    if len(parts) < 2 or free < 1:
        return float("nan")
    away = np.concatenate([np.abs(part - np.median(part)) for part in parts])
    sizes = np.array([len(part) for part in parts])
    means = np.add.reduceat(away, np.cumsum(sizes) - sizes) / sizes
    between = float(sizes @ np.square(means - away.mean())) / (len(parts) - 1)
    within = float(np.square(away - np.repeat(means, sizes)).sum()) / free  # the degrees of freedom that are there
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(stats.f.sf(np.divide(between, within), len(parts) - 1, free))


# --- level 2 ----------------------------------------------------------------------------------------------------------
def standardised_effects(fit: Fit, group: str | None = None) -> pd.DataFrame:
    """Group effects over the sd that their estimates have under the model.

    group, level, term, estimate, sd, reliability, standardised.  reliability: variance of the estimate over that of
    the true effects, 1 without shrinkage; ``standardised`` is nan where a variance is estimated as 0."""
    blocks = check_group(fit.design, group)
    if not blocks:
        raise UnsupportedError(f"{fit.formula!r} has no group effects: there is no second level to look at")
    pieces = []
    for block in blocks:
        i = fit.design.blocks.index(block)
        estimate, prior, known = _effect_variances(fit, i)
        variance = np.maximum(prior - known, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            reliability = np.where(prior > 0, variance / prior, np.nan)
            sd = np.where(reliability > NO_SPREAD, np.sqrt(variance), np.nan)
        table = effects_frame(block.factor, block.levels, block.labels, estimate, sd, reliability, estimate / sd)
        pieces.append(table)
    names = {"std_error": "sd", "lower": "reliability", "upper": "standardised"}
    return stack_effects(pieces).rename(columns=names)


def _effect_variances(fit: Any, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J, k) estimates of block i, (k,) their variance in the population, (J, k) what is unknown of each."""
    record = fit.record
    if isinstance(record, Posterior):
        block = fit.design.blocks[i]
        parts = [level_moments(fit.design, record, [block], block.labels, one) for one in record.level_parts(i)]
        mean, sd = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        return mean, np.square(record.sd[i]).mean(axis=(0, 1)), np.square(sd)
    if isinstance(record, LinearFit | GeneralisedLinearFit):
        raise UnsupportedError(f"{fit.formula!r} has no group effects: there is no second level to look at")
    unknown = conditional.covariance_blocks(record.problem, record.factor, with_fixed=True)[i]
    variance = float(record.sigma) ** 2 * np.einsum("jaa->ja", unknown)
    return np.array(record.modes[i]), np.diag(record.covariance[i]), variance


# --- quantiles --------------------------------------------------------------------------------------------------------
def qq_points(fit: Fit, group: str | None = None, term: str | None = None, level: float = 0.95) -> pd.DataFrame:
    """Ordered standardised residuals (group=None) or effects of one term, beside normal quantiles and their bands.

    label, sample, theoretical, lower, upper (all points inside with probability ``level``), pointwise_lower,
    pointwise_upper, outside.  Gaussian fits for residuals, any mixed fit for effects."""
    level = check_level(level)
    if group is None:
        if term is not None:
            raise ArgumentError(f"term={term!r} belongs to a grouping factor: give group= too")
        values = standardised_residuals(fit)
        labels, sample = values.index.to_numpy(), values.to_numpy()
    else:
        effects = standardised_effects(fit, group)
        known = list(dict.fromkeys(effects["term"]))
        term = known[0] if term is None else term
        if term not in known:
            raise UnknownNameError(
                f"{group!r} has no effect named {term!r}.{nearest(str(term), known)} It has: {', '.join(known)}"
            )
        mine = effects[effects["term"] == term]
        labels, sample = mine["level"].to_numpy(), mine["standardised"].to_numpy()
    finite = np.isfinite(sample)
    if not finite.any():
        what = "residuals" if group is None else f"{term} by {group}"
        raise UnsupportedError(f"{what}: every value is undefined (a variance estimated as 0), so there is no QQ plot")
    table = quantile_table(sample[finite], labels[finite], level)
    table.attrs |= {"group": group, "term": term, "level": level, "undefined": int((~finite).sum())}
    return table


def quantile_table(sample: np.ndarray, labels: np.ndarray, level: float) -> pd.DataFrame:
    """The table of ``qq_points`` for any values (n,) that should be standard normal."""
    n, order = len(sample), np.argsort(sample, kind="stable")
    i = np.arange(1, n + 1)
    ordered = sample[order]
    lower, upper = (stats.norm.ppf(limit) for limit in uniform_band(n, local_level(n, level)))
    low, high = (stats.norm.ppf(limit) for limit in uniform_band(n, 1.0 - level))
    return pd.DataFrame(
        {
            "label": labels[order],
            "sample": ordered,
            "theoretical": stats.norm.ppf(stats.beta.median(i, n + 1 - i)),
            "lower": lower,
            "upper": upper,
            "pointwise_lower": low,
            "pointwise_upper": high,
            "outside": (ordered < lower) | (ordered > upper),
        }
    )


def _one_block(fit: Fit, group: str | None) -> Any:
    if not fit.design.blocks:
        raise UnsupportedError(f"{fit.formula!r} has no grouping factor")
    return check_group(fit.design, group)[0]
