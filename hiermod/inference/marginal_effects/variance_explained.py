"""ICC and R2 of mixed models (Nakagawa, Johnson and Schielzeth 2017, J. R. Soc. Interface 14; random slopes: Johnson
2014, Methods Ecol. Evol. 5), with the choices of R's package performance.

On the scale of the linear predictor: variance of the common part, of the groups' effects, and of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.checked import checked
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit, fit_glm
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.posterior import Posterior, pooled
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import FAMILIES, is_linear
from hiermod.fits.tables import LEVEL, check_group, check_level
from hiermod.formula.design import Design
from hiermod.inference import intervals
from hiermod.inference.bootstrap.bootstrap import Bootstrap
from hiermod.inference.marginal_effects.reference_grid import mean_offset

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

ALL = "(all)"  # the name of all grouping factors together
Seed = int | np.random.Generator | None


@dataclass(frozen=True, eq=False)
class Shares:
    """Variances of the linear predictor's parts, (s,) each: one value, or one per draw.  notes: sentences."""

    fixed: np.ndarray
    groups: Mapping[str, np.ndarray]  # grouping factor -> mean over rows of z' Sigma z
    residual: np.ndarray
    notes: tuple[str, ...]

    @property
    def between(self) -> np.ndarray:
        """Of all groups' effects together."""
        return np.sum(list(self.groups.values()), axis=0) if self.groups else np.zeros_like(self.residual)

    @property
    def total(self) -> np.ndarray:
        """All of it."""
        return self.fixed + self.between + self.residual


@checked
def icc(
    fit: Fit,
    group: str | None = None,
    level: float = LEVEL,
    bootstrap: int | None = None,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
) -> pd.DataFrame:
    """Intraclass correlation, the share of variance between groups: group, icc, estimate, lower, upper.

    "adjusted": of the variance that predictors leave; "unadjusted": of all.  With several grouping factors, first
    all together, "(all)", then each.  Variance of random slopes: the mean over rows of z' Sigma z (Johnson 2014).
    lower and upper are nan for REML and ML, unless ``bootstrap=`` refits (a number) are asked for; a Bayesian fit
    has the mean and interval of its draws.  Generalised models: on the scale of the linear predictor, with the
    residual variance in ``attrs["notes"]``.  UnsupportedError for a model without groups.

    >>> import hiermod as hm
    >>> fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()
    >>> round(float(fit.icc().loc[0, "estimate"]), 3)
    0.418
    """
    level, blocks = check_level(level), check_group(fit.design, group)
    if not blocks:
        raise UnsupportedError(
            f"{fit.formula!r} has no group effects, so no share of the variance lies between groups: add a term such "
            "as (1 | g), or ask for r2()"
        )
    point, draws = _both(fit, bootstrap, random_seed, cores)
    factors = list(point.groups) if group is None else [group]
    names = [ALL, *factors] if group is None and len(factors) > 1 else factors
    rows = []
    for name in names:
        for kind in ("adjusted", "unadjusted"):
            spread = None if draws is None else _icc(draws, name, kind)
            rows.append({"group": name, "icc": kind} | _row(_icc(point, name, kind), spread, level))
    table = pd.DataFrame(rows)
    table.attrs |= {"level": level, "notes": list(point.notes)}
    return table


@checked
def r2(
    fit: Fit,
    level: float = LEVEL,
    bootstrap: int | None = None,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
) -> pd.DataFrame:
    """Nakagawa's R2: estimate, lower, upper; index "marginal" (predictors), "conditional" (predictors and groups).

    Interval and scale as in ``icc``.  A linear model without groups has its ordinary R2, and "adjusted"; other
    models without groups the share of the linear predictor's variance.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> fit.r2()["estimate"].round(3).to_dict()
    {'marginal': 0.279, 'conditional': 0.799}
    """
    level, record = check_level(level), fit.record
    if isinstance(record, LinearFit):
        _check_bootstrap(fit, bootstrap)
        values = {"r2": float(record.r_squared), "adjusted": float(record.adj_r_squared)}
        rows = {name: _row(np.array([value]), None, level) for name, value in values.items()}
        notes = ["an ordinary linear model: the share of the sum of squares, as in R's lm; there are no groups"]
    else:
        point, draws = _both(fit, bootstrap, random_seed, cores)
        parts = {"marginal": lambda s: s.fixed / s.total, "conditional": lambda s: (s.fixed + s.between) / s.total}
        notes = list(point.notes)
        if not fit.design.blocks:
            parts = {"r2": parts["marginal"]}
            notes.insert(0, "there are no groups: the variance of the linear predictor against all of it")
        rows = {name: _row(part(point), None if draws is None else part(draws), level) for name, part in parts.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("r2")
    table.attrs |= {"level": level, "notes": notes}
    return table


def _icc(shares: Shares, name: str, kind: str) -> np.ndarray:
    between = shares.between if name == ALL else shares.groups[name]
    return np.asarray(between / (shares.between + shares.residual if kind == "adjusted" else shares.total))


def _row(point: np.ndarray, draws: np.ndarray | None, level: float) -> dict[str, float]:
    """estimate, lower, upper: mean and quantiles of posterior draws; an estimate with the bootstrap's percentiles."""
    spread = point if len(point) > 1 else draws
    lower, upper = np.nan, np.nan
    if spread is not None and not np.isnan(spread).all():
        lower, upper = np.nanquantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return {"estimate": float(point.mean()), "lower": float(lower), "upper": float(upper)}


def _both(fit: Any, bootstrap: int | None, random_seed: Seed, cores: int) -> tuple[Shares, Shares | None]:
    """The shares at the estimate (or per posterior draw), and per bootstrap refit."""
    _check_bootstrap(fit, bootstrap)
    if fit.design.formulas:
        raise UnsupportedError(
            f"{', '.join(fit.design.formulas)} has a formula of its own, so the variance of a row differs from row to "
            "row and there is no one share of it: fit.predict(kind='response', interval=...) shows it row by row"
        )
    if isinstance(fit.record, Posterior):
        return _of_draws(fit), None
    point = _of_estimate(fit)
    if bootstrap is None:
        return point, None
    found = intervals.bootstrap_record(fit.record, bootstrap, random_seed, cores, progressbar=False)
    return point, shares_of_refits(fit.design, found)


def variances(fit: Any) -> Shares:
    """The variances of the linear predictor's parts, at the estimate or one per posterior draw."""
    return _both(fit, None, None, 1)[0]


def _check_bootstrap(fit: Fit, bootstrap: int | None) -> None:
    record = fit.record
    if bootstrap is None or isinstance(record, MixedFit):
        return
    if isinstance(record, Posterior):
        raise UnsupportedError("a Bayesian fit has its interval from its own draws: leave bootstrap out")
    raise ArgumentError(f"bootstrap= is for Gaussian mixed models; {fit.formula!r} is none: leave it out")


# --- variances --------------------------------------------------------------------------------------------------------
def _of_estimate(fit: Any) -> Shares:
    design, record = fit.design, fit.record
    covariances: tuple[np.ndarray, ...] = ()
    if isinstance(record, MixedFit | GeneralisedMixedFit):
        covariances = tuple((float(record.sigma) ** 2 * Lam @ Lam.T)[None] for Lam in record.Lambda)
    beta = np.nan_to_num(np.array(record.beta))[None]
    if isinstance(record, MixedFit):
        residual, notes = _gaussian(design, np.array([float(record.sigma) ** 2]))
    else:
        further = {name: np.reshape(value, (1, -1)) for name, value in record.likelihood.further.items()}
        residual, notes = _distribution(fit, beta, further)
    return Shares(_fixed(design, beta), _groups(design, covariances), residual, notes)


def _of_draws(fit: Any) -> Shares:
    design, record = fit.design, fit.record
    beta = np.nan_to_num(pooled(record.beta))
    covariances = []
    for sd, corr in zip(record.sd, record.corr, strict=True):
        sds = sd.reshape(-1, sd.shape[-1])
        R = np.eye(1) if corr is None else corr.reshape(-1, *corr.shape[2:])
        covariances.append(sds[:, :, None] * R * sds[:, None, :])
    auxiliary = {name: values.reshape(len(beta), -1) for name, values in record.auxiliary.items()}
    sigma2 = None if record.sigma is None else np.square(record.sigma.reshape(-1))
    if is_linear(fit.family, fit.link):
        residual, notes = _gaussian(design, np.zeros(len(beta)) if sigma2 is None else sigma2)
    else:
        if sigma2 is not None:
            auxiliary["sigma"] = record.sigma.reshape(-1, 1)
        residual, notes = _distribution(fit, beta, auxiliary)
    return Shares(
        _fixed(design, beta), _groups(design, tuple(covariances)), np.broadcast_to(residual, len(beta)), notes
    )


def shares_of_refits(design: Design, found: Bootstrap) -> Shares:
    """Variances of each bootstrap refit from its coefficients, sds and correlations."""
    values = found.values[~found.failed]
    beta, sigma2 = np.zeros((len(values), len(design.common))), np.zeros(len(values))
    used = np.flatnonzero(design.estimable)
    sds = [np.zeros((len(values), block.size)) for block in design.blocks]
    corr = [np.tile(np.eye(block.size), (len(values), 1, 1)) for block in design.blocks]
    for parameter, column in zip(found.parameters, values.T, strict=True):
        if parameter.kind == "fixed":
            beta[:, used[parameter.i]] = column
        elif parameter.kind == "sigma":
            sigma2 = column**2
        elif parameter.kind == "sd":
            sds[parameter.block][:, parameter.i] = column
        else:  # undefined where an sd is 0, and then multiplied by that 0
            corr[parameter.block][:, parameter.i, parameter.j] = np.nan_to_num(column)
            corr[parameter.block][:, parameter.j, parameter.i] = np.nan_to_num(column)
    covariances = tuple(sd[:, :, None] * R * sd[:, None, :] for sd, R in zip(sds, corr, strict=True))
    return Shares(_fixed(design, beta), _groups(design, covariances), _gaussian(design, sigma2)[0], ())


def _fixed(design: Design, beta: np.ndarray) -> np.ndarray:
    """(s,) variance over the rows (divisor n - 1) of X beta, offset left out."""
    centred = design.X - design.X.mean(axis=0)
    S = centred.T @ centred / max(1, design.nobs - 1)
    return np.einsum("sp,pq,sq->s", beta, S, beta).clip(min=0.0)


def _groups(design: Design, covariances: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Per grouping factor (s,): the mean over rows of z' Sigma z, Johnson (2014), equation 11."""
    total: dict[str, np.ndarray] = {}
    for block, Sigma in zip(design.blocks, covariances, strict=True):
        M = block.values.T @ block.values / design.nobs
        total[block.factor] = np.einsum("sij,ji->s", Sigma, M) + total.get(block.factor, np.zeros(len(Sigma)))
    return total


def _gaussian(design: Design, sigma2: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    if design.precision.sigma_known:
        mean = float(np.mean(design.precision.variance(1.0)))
        return np.full(len(sigma2), mean), ("residual variance: the mean of se squared",)
    if not design.precision.is_iid:
        return sigma2, ("residual variance: sigma squared, that of a row with weight 1",)
    return sigma2, ()


def _distribution(
    fit: Any, beta: np.ndarray, auxiliary: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The variance that the response's distribution adds on the scale of the linear predictor, and a note."""
    family, link = fit.family, fit.link
    found = FAMILIES[family].link_variance.get(link)
    if found is not None:
        count = np.full(len(beta), np.nan)
        if found.count == "null":
            count[:] = null_count(fit.design, link)
        elif found.count == "rows":
            offset = np.zeros(fit.nobs) if fit.design.offset is None else fit.design.offset
            count[:] = [np.exp(fit.design.X @ row + offset).mean() for row in beta]
        further = {name: values[:, 0] for name, values in auxiliary.items()}
        return found.variance(count, further) * np.ones(len(beta)), (found.words.format(link=link, count=count[0]),)
    raise UnsupportedError(
        f"the variance of family {family!r} with link {link!r} on the scale of the linear predictor is not defined "
        "here, so icc() and r2() have no denominator. They know gaussian, t, bernoulli, binomial, poisson, "
        "negativebinomial and gamma (log link)"
    )


def null_count(design: Design, link: str) -> float:
    """The expected count of a typical group in the model with an intercept and the same groups, by ML (lambda).

    At the mean offset, which performance leaves out."""
    null = replace(
        design,
        X=np.ones((design.nobs, 1)),
        common=("Intercept",),
        common_terms=("Intercept",),
        estimable=np.ones(1, dtype=bool),
    )
    record: GeneralisedMixedFit | GeneralisedLinearFit
    record = fit_generalised(null, "poisson", link, 1) if design.blocks else fit_glm(null, "poisson", link)
    return float(np.exp(record.beta[0] + mean_offset(design)))
