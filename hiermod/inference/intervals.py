"""Confidence intervals as tables: by profile of the ML deviance, and by parametric bootstrap (lme4's confint).

Rows are named and ordered as in ``FrequentistFit.parameters()``; what a number cannot say stands in ``attrs["notes"]``,
in words, and is warned of where a limit is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.checked import checked
from hiermod.core.progress import progress
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.errors import ConvergenceWarning, warn
from hiermod.fits.tables import LEVEL, check_level, chosen_names, quantile
from hiermod.fits.targets import choice
from hiermod.formula.design import Design
from hiermod.inference.bootstrap.bootstrap import Bootstrap, bootstrap
from hiermod.inference.profile.curves import Fit as Profiled
from hiermod.inference.profile.curves import Profile, parameters_of
from hiermod.inference.profile.curves import profile as profile_of
from hiermod.inference.profile.deviance import Parameter

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

UNESTIMABLE = "not estimable: earlier columns explain it"
Seed = int | np.random.Generator | None
Record = Profiled | LinearFit


@checked
def confint(
    fit: FrequentistFit,
    level: float = LEVEL,
    method: str = "auto",
    parameters: Sequence[str] | None = None,
    *,
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Confidence intervals: lower, upper.

    "profile", which "auto" is: of the ML deviance, for a REML fit too, as lme4 does (generalised fits: of the
    likelihood that was fitted, Laplace's or the quadrature's); coefficients, sds, correlations, sigma.  "wald": the
    coefficients, normal quantiles (lm: t).  "bootstrap": parametric, percentiles of ``draws`` refits; ``cores``
    processes give the same numbers as one.  parameters: only these, by their names in ``parameters()``.
    ``attrs["notes"]`` says why a limit is missing.

    >>> import hiermod as hm
    >>> d = hm.load_dataset("cbpp")
    >>> fit = hm.Model("p(incidence, size) ~ period + (1 | herd)", d, family="binomial").ml()
    >>> fit.confint(parameters=["1|herd_sigma"]).round(3)
                  lower  upper
    parameter
    1|herd_sigma  0.346    1.1
    """
    method = choice("method", method, ("auto", "profile", "wald", "bootstrap"))
    level = check_level(level)
    if method in ("auto", "profile"):
        return profile_limits(fit.record, level, parameters, progressbar)
    if method == "bootstrap":
        found = bootstrap_record(fit.record, draws, random_seed, cores, progressbar)
        return bootstrap_limits(fit.record, found, level, parameters)
    return fit.fixef(ddf=None, level=level)[["lower", "upper"]]


@checked
def profile(fit: FrequentistFit, level: float = LEVEL, parameters: Sequence[str] | None = None) -> pd.DataFrame:
    """The curves behind profile intervals, zeta against each parameter; ``hm.plots.profile`` draws them."""
    record = fit.record
    return profile_curves(fit._mixed if isinstance(record, LinearFit) else record, level, parameters)


def parameter_name(design: Design, parameter: Parameter) -> str:
    """``Days``, ``Days|Subject_sigma``, ``Subject_corr[Intercept,Days]``, ``sigma``."""
    if parameter.kind == "fixed":
        return [name for name, used in zip(design.common, design.estimable, strict=True) if used][parameter.i]
    if parameter.kind in ("sigma", "auxiliary"):
        return parameter.name or "sigma"
    block = design.blocks[parameter.block]
    if parameter.kind == "sd":
        return block.columns[parameter.i].sd_name
    return f"{block.corr_name}[{block.labels[parameter.i]},{block.labels[parameter.j]}]"


def profile_record(
    record: Profiled, level: float = LEVEL, parameters: Sequence[str] | None = None, progressbar: bool = True
) -> Profile:
    """Profiles of the parameters named (default: all).  UnknownNameError for a name that the fit does not have."""
    chosen = _chosen(record.design, parameters_of(record), parameters)
    with progress("profile", progressbar) as report:
        return profile_of(record, check_level(level), chosen, report)


def profile_limits(
    record: Profiled | LinearFit,
    level: float = LEVEL,
    parameters: Sequence[str] | None = None,
    progressbar: bool = True,
) -> pd.DataFrame:
    """lower, upper by profile likelihood; index parameter.  A linear model: its exact t intervals, as in R.

    The ML deviance is profiled for a REML fit too, as lme4 does: its REML estimate need not lie in the middle.  The
    lower limit of an sd is 0 (that of a correlation -1, and 1 above) where the data do not exclude that boundary."""
    if isinstance(record, LinearFit):
        return _t_limits(record, check_level(level), parameters)
    found = profile_record(record, level, parameters, progressbar)
    design = record.design
    rows = {parameter_name(design, c.parameter): (c.lower, c.upper) for c in found.curves}
    notes = {parameter_name(design, c.parameter): c.note for c in found.curves if c.note}
    missing = {name: note for name, note in notes.items() if not np.isfinite(rows[name]).all()}
    if missing:
        words = "; ".join(f"{name}: {note}" for name, note in missing.items())
        warn(f"some profile limits could not be had. {words}", ConvergenceWarning)
    return _table(design, rows, parameters, {"method": "profile", "level": float(level), "notes": notes})


def profile_curves(record: Profiled, level: float = LEVEL, parameters: Sequence[str] | None = None) -> pd.DataFrame:
    """The zeta curves: parameter, value, zeta, slope (d zeta / d value), in ascending order of value.

    zeta is the signed square root of the ML deviance's rise when the parameter is held at value.  attrs: level, and by
    parameter the estimate (ML) and the limits."""
    found, design, pieces = profile_record(record, level, parameters), record.design, []
    for curve in found.curves:
        name = parameter_name(design, curve.parameter)
        pieces.append(pd.DataFrame({"parameter": name, "value": curve.value, "zeta": curve.zeta, "slope": curve.slope}))
    table = pd.concat(pieces, ignore_index=True)
    names = [parameter_name(design, curve.parameter) for curve in found.curves]
    table.attrs["level"] = float(level)
    table.attrs["estimate"] = {name: float(c.estimate) for name, c in zip(names, found.curves, strict=True)}
    table.attrs["limits"] = {
        name: (float(c.lower), float(c.upper)) for name, c in zip(names, found.curves, strict=True)
    }
    return table


def bootstrap_record(
    record: Record, draws: int = 1000, random_seed: Seed = None, cores: int = 1, progressbar: bool = True
) -> Bootstrap:
    """Refits of simulated responses; warns ConvergenceWarning when some failed."""
    with progress("bootstrap", progressbar) as report:
        found = bootstrap(record, draws, random_seed, cores, report)
    failed, unsure = int(found.failed.sum()), int((~found.converged & ~found.failed).sum())
    if failed or unsure:
        parts = [f"{failed} failed and are left out"] * bool(failed)
        parts += [f"{unsure} did not converge and are kept"] * bool(unsure)
        warn(f"of {draws} bootstrap refits {', '.join(parts)}: {'; '.join(found.messages[:3])}", ConvergenceWarning)
    return found


def bootstrap_draws(record: Record, found: Bootstrap) -> pd.DataFrame:
    """The estimates of every refit, one column per parameter; index draw.  attrs: random_seed, failed, messages."""
    names = [parameter_name(record.design, parameter) for parameter in found.parameters]
    table = pd.DataFrame(np.array(found.values), columns=names).rename_axis("draw")
    table.attrs.update(_outcome(found))
    return table


def bootstrap_limits(
    record: Record, found: Bootstrap, level: float = LEVEL, parameters: Sequence[str] | None = None
) -> pd.DataFrame:
    """lower, upper: percentiles of the refits' estimates; index parameter.  attrs as in ``bootstrap_draws``."""
    _chosen(record.design, found.parameters, parameters)
    names = [parameter_name(record.design, parameter) for parameter in found.parameters]
    limits = zip(*found.limits(check_level(level)), strict=True)
    undefined = (~np.isfinite(found.values[~found.failed])).sum(axis=0)
    notes = {
        name: f"undefined in {count} refits, where an sd was 0: those are left out"
        for name, count in zip(names, undefined, strict=True)
        if count
    }
    details = {"method": "bootstrap", "level": float(level), "notes": notes, **_outcome(found)}
    return _table(record.design, dict(zip(names, limits, strict=True)), parameters, details)


def _outcome(found: Bootstrap) -> dict[str, object]:
    return {
        "draws": len(found.values),
        "random_seed": found.seed,
        "failed": int(found.failed.sum()),
        "not_converged": int((~found.converged & ~found.failed).sum()),
        "messages": list(found.messages),
    }


def _chosen(design: Design, available: Sequence[Parameter], wanted: Sequence[str] | None) -> tuple[Parameter, ...]:
    """The parameters named, in the fit's order."""
    if wanted is None:
        return tuple(available)
    by_name = {parameter_name(design, parameter): parameter for parameter in available}
    wanted = chosen_names(wanted, [*dict.fromkeys([*design.common, *by_name])])
    return tuple(parameter for name, parameter in by_name.items() if name in wanted)


def _table(
    design: Design,
    rows: dict[str, tuple[float, float]],
    wanted: Sequence[str] | None,
    details: dict[str, object],
) -> pd.DataFrame:
    """lower, upper; fixed effects that are not estimable have a row of nan, as in R."""
    notes: dict[str, str] = details["notes"]  # type: ignore[assignment]
    notes |= {name: UNESTIMABLE for name, used in zip(design.common, design.estimable, strict=True) if not used}
    names = [*design.common, *(name for name in rows if name not in design.common)]
    if wanted is not None:
        names = [name for name in names if name in wanted]
    limits = np.array([rows.get(name, (np.nan, np.nan)) for name in names], dtype=float).reshape(-1, 2)
    table = pd.DataFrame(limits, columns=["lower", "upper"], index=pd.Index(names, name="parameter"))
    details["notes"] = {name: note for name, note in notes.items() if name in names}
    table.attrs.update(details)
    return table


def _t_limits(record: LinearFit, level: float, parameters: Sequence[str] | None) -> pd.DataFrame:
    design = record.design
    fixed = tuple(Parameter("fixed", i=i) for i in range(int(design.estimable.sum())))
    _chosen(design, fixed, parameters)
    df = np.inf if design.precision.sigma_known else float(record.df_residual)
    half = quantile(level, df) * np.sqrt(np.diag(record.vcov_beta))
    pairs = zip(record.beta - half, record.beta + half, strict=True)
    rows = dict(zip(design.common, pairs, strict=True))
    return _table(design, rows, parameters, {"method": "t", "level": level, "notes": {}})
