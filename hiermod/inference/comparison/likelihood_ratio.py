"""Likelihood-ratio tests of nested models (lme4's anova; at boundaries Stram and Lee 1994, Biometrics 50).

The table is a DataFrame that prints its notes: which fits were refitted, and what the plain p is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.annotated import noted
from hiermod.core.arguments import generator
from hiermod.core.checked import checked
from hiermod.core.progress import progress
from hiermod.errors import ArgumentError, ArgumentTypeError, ConvergenceWarning, UnsupportedError, warn
from hiermod.fits.by_likelihood import by_likelihood
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit
from hiermod.fits.targets import choice
from hiermod.inference.bootstrap.null_distribution import NullDistribution, Record, null_distribution
from hiermod.inference.comparison.nested import nesting

ROUNDING = 1e-6  # a chi-square below -ROUNDING is no rounding: the larger model was not maximised

REFITTED = (
    "REML fits were refitted by maximum likelihood: REML likelihoods of models with other common effects do not "
    "compare. Refitted: {names}."
)
CONSERVATIVE = (
    "p is conservative (too large) where a variance is tested, its null value 0 being on the boundary; p_boundary is "
    "the mixture of chi-squares for one added variance (Stram and Lee 1994), good for many groups."
)
SEVERAL = (
    "{name}: {count} variances are added at once, for which no simple mixture holds, so p_boundary is nan, and p is "
    "conservative (too large). Add the terms one at a time, or simulate: p_boundary='bootstrap'."
)
SIMULATED = (
    "{name}: p_boundary is the share of {draws} responses simulated from {small} whose statistic is at least as large "
    "(Monte Carlo error {error:.2g}, random_seed {seed})."
)
BOUNDARY = "The plain p is conservative (too large) where variances are tested: their null value 0 is on the boundary."
SINGULAR = "{name} is a singular fit (a variance of 0, or a correlation of -1 or 1): its check() says more."
METHODS = ("mixture", "bootstrap")
COLUMNS = ("chisq", "df", "p", "p_boundary")  # of a test


@dataclass(frozen=True, eq=False)
class _Entry:
    """One model by maximum likelihood."""

    name: str
    fit: FrequentistFit
    record: Record  # by maximum likelihood
    loglik: float
    npar: int
    refitted: bool
    singular: bool


@dataclass(frozen=True, eq=False)
class _Test:
    """A model against the next smaller one."""

    chisq: float
    df: float
    p: float
    added: int  # variances that only the larger model has
    p_boundary: float = np.nan


@checked
def lrt(
    *fits: FrequentistFit | Mapping[str, FrequentistFit],
    names: Sequence[str] | None = None,
    p_boundary: str = "mixture",
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Compare nested models by their likelihoods, each with the next smaller one, as lme4's ``anova(m0, m1)``.

    fits: two or more, in any order, or one dict name -> fit; linear and mixed models may be mixed, and so may
    generalised ones.  REML fits are refitted by maximum likelihood.  names: for the index; by default the formulas.
    p_boundary: "mixture", or "bootstrap": simulate ``draws`` responses from the smaller model, refit both, and count
    (every comparison, also one of common effects alone, which it corrects for small samples); ``cores`` processes give
    the same numbers as one.

    Returns a DataFrame, smallest model first: npar, loglik, aic, bic, deviance (-2 loglik), chisq, df, p (of
    chi-square with df degrees of freedom), p_boundary ("mixture": where exactly one variance is tested, half
    chi-square with df - 1, half with df; nan where that does not apply).  Its notes are printed under it and stand in
    attrs["notes"]: which fits were refitted, that the plain p is conservative where variances are tested.

    Raises ArgumentTypeError for what is not a frequentist fit; ArgumentError for fewer than two, for other data,
    another response, family or number of quadrature nodes, and for models that are not nested.

    >>> import hiermod as hm
    >>> d = hm.load_dataset("sleepstudy")
    >>> m0, m1 = (hm.Model(f"Reaction ~ Days + ({x} | Subject)", d).reml() for x in ("1", "Days"))
    >>> hm.lrt(m0, m1, names=["intercepts", "slopes"])[["npar", "chisq", "df"]].round(2)
                npar  chisq   df
    model
    intercepts     4    NaN  NaN
    slopes         6  42.14  2.0
    """
    choice("p_boundary", p_boundary, METHODS)
    entries = sorted((_by_likelihood(name, fit) for name, fit in _named(fits, names)), key=lambda e: e.npar)
    base = entries[0].fit
    for entry in entries[1:]:
        _check_data(base, entry.fit)
    _check_nodes(entries)
    refitted = [entry.name for entry in entries if entry.refitted]
    notes = [REFITTED.format(names=", ".join(refitted))] if refitted else []
    tests = [_compare(small, large, notes) for small, large in pairwise(entries)]
    if p_boundary == "bootstrap":
        rng = generator(random_seed) if len(tests) > 1 else random_seed
        for position, (small, large) in enumerate(pairwise(entries)):
            found = _simulated(small, large, draws, rng, cores, progressbar)
            tests[position] = replace(tests[position], p_boundary=found.p(tests[position].chisq))
            error, count = found.error(tests[position].chisq), len(found.statistic) - found.failed
            words = {"name": large.name, "small": small.name, "draws": count, "error": error, "seed": found.seed}
            notes.append(SIMULATED.format(**words))
        if any(test.added for test in tests):
            notes.append(BOUNDARY)
    else:
        tests = [replace(t, p_boundary=_mixture(t.chisq, int(t.df))) if t.added == 1 else t for t in tests]
        for test, entry in zip(tests, entries[1:], strict=True):
            if test.added > 1:
                notes.append(SEVERAL.format(name=entry.name, count=test.added))
        if any(test.added == 1 for test in tests):
            notes.append(CONSERVATIVE)
    notes += [SINGULAR.format(name=e.name) for e in entries if e.singular]
    return noted(_table(entries, tests), notes)


def _table(entries: Sequence[_Entry], tests: Sequence[_Test]) -> pd.DataFrame:
    n = entries[0].fit.nobs
    none = _Test(np.nan, np.nan, np.nan, 0)
    table = pd.DataFrame(
        [(e.npar, e.loglik, 2 * e.npar - 2 * e.loglik, np.log(n) * e.npar - 2 * e.loglik) for e in entries],
        columns=["npar", "loglik", "aic", "bic"],
        index=pd.Index([e.name for e in entries], name="model"),
    )
    found = [(test.chisq, test.df, test.p, test.p_boundary) for test in (none, *tests)]
    return table.assign(deviance=-2 * table["loglik"], **dict(zip(COLUMNS, np.transpose(found), strict=True)))


def _simulated(
    small: _Entry,
    large: _Entry,
    draws: int,
    random_seed: int | np.random.Generator | None,
    cores: int,
    progressbar: bool,
) -> NullDistribution:
    """The statistic's law under the smaller model; warns when refits failed."""
    with progress("likelihood ratios", progressbar) as report:
        found = null_distribution(small.record, large.record, draws, random_seed, cores, report)
    if found.failed or found.not_converged:
        warn(
            f"of {draws} simulated likelihood ratios of {small.name!r} and {large.name!r} {found.failed} failed and "
            f"are left out, {found.not_converged} did not converge and are kept: {'; '.join(found.messages[:3])}",
            ConvergenceWarning,
        )
    return found


def _named(fits: tuple[Any, ...], names: Sequence[str] | None) -> list[tuple[str, FrequentistFit]]:
    """Names and fits, checked."""
    if len(fits) == 1 and isinstance(fits[0], Mapping):
        if names is not None:
            raise ArgumentError("a dict of fits has its names already: leave names= out")
        fits, names = tuple(fits[0].values()), [str(name) for name in fits[0]]
    for fit in fits:
        if not isinstance(fit, FrequentistFit):
            raise ArgumentTypeError(
                f"lrt compares what m.reml() and m.ml() return, got {type(fit).__name__}; "
                "hm.compare compares Bayesian fits"
            )
    chosen = [fit for fit in fits if isinstance(fit, FrequentistFit)]
    if len(chosen) < 2:
        raise ArgumentError(f"a likelihood ratio needs two fits or more, got {len(chosen)}")
    labels = [fit.formula for fit in chosen] if names is None else list(names)
    if len(labels) != len(chosen) or len(set(labels)) != len(labels):
        raise ArgumentError(f"{len(chosen)} fits need as many different names, got {labels}: give names=[...]")
    return list(zip(labels, chosen, strict=True))


def _by_likelihood(name: str, fit: FrequentistFit) -> _Entry:
    """The fit by maximum likelihood (a linear model's likelihood is that already)."""
    again = by_likelihood(fit.design, fit.family, fit.link) if fit.reml else fit
    if fit.reml and fit.is_mixed:
        return _Entry(name, fit, again.record, again.loglik, again.npar, True, again.singular)
    return _Entry(name, fit, again.record, float(fit.loglik), int(fit.npar), False, fit.singular)


def _check_nodes(entries: Sequence[_Entry]) -> None:
    """Laplace's approximation and a quadrature differ by more than many a likelihood ratio."""
    nodes = {e.name: e.fit.nodes for e in entries if isinstance(e.fit, GeneralisedFit) and e.fit.is_mixed}
    if len(set(nodes.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in nodes.items())
        raise ArgumentError(
            f"the fits approximate the likelihood with different numbers of quadrature nodes ({told}), and so differ "
            "though the models be equal. Fit all with the same nodes=, 1 if one model has several group effects"
        )


def _check_data(one: FrequentistFit, other: FrequentistFit) -> None:
    """Likelihoods compare only for the same numbers: same rows, response, weights, offset and family."""
    a, b = one.design, other.design
    if (one.family, getattr(one, "link", None)) != (other.family, getattr(other, "link", None)):
        raise ArgumentError(f"fits of different families or links: {one.family} and {other.family}. Use one for both")
    if a.nobs != b.nobs or not a.index.equals(b.index):
        raise ArgumentError(
            f"the fits use different rows ({a.nobs} and {b.nobs}), perhaps since dropna looked at different columns. "
            "Make one data frame of complete rows and fit every model to it"
        )
    if not np.array_equal(a.y, b.y) or not _same(a.trials, b.trials):
        raise ArgumentError(
            f"the fits have different responses, {a.response} and {b.response}: likelihoods of different data, or of "
            "different transformations of one variable, do not compare"
        )
    for what in ("weights", "se", "offset"):
        if not _same(getattr(a, what), getattr(b, what)):
            raise ArgumentError(f"the fits have different {what}: use the same for every model")


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _compare(small: _Entry, large: _Entry, notes: list[str]) -> _Test:
    """Chi-square, its df and p, and how many variances the larger model adds."""
    found = nesting(small.fit.design, large.fit.design)
    if found.obstacle is not None or small.npar == large.npar:
        why = found.obstacle or "both have the same number of parameters"
        raise ArgumentError(
            f"{small.name!r} is not nested in {large.name!r}: {why}. A likelihood-ratio test needs the smaller "
            "model to be a special case of the larger; AIC and BIC compare others"
        )
    chisq, df = 2.0 * (large.loglik - small.loglik), large.npar - small.npar
    if not np.isfinite(chisq):
        raise UnsupportedError("a likelihood is infinite: one of the models explains the response exactly")
    if chisq < -ROUNDING * max(1.0, abs(large.loglik)):
        notes.append(f"{large.name} has a lower likelihood than {small.name}: its fit did not converge, do not use p.")
    chisq = max(chisq, 0.0)
    return _Test(chisq, df, float(stats.chi2.sf(chisq, df)), found.added_variances)


def _mixture(chisq: float, df: int) -> float:
    """P(T >= chisq), T half chi-square with df - 1 and half with df degrees of freedom; with 0 it is the number 0."""
    below = float(stats.chi2.sf(chisq, df - 1)) if df > 1 else float(chisq <= 0.0)
    return 0.5 * (below + float(stats.chi2.sf(chisq, df)))
