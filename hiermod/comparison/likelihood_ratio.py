"""Likelihood-ratio tests of nested models (lme4's anova; at boundaries Stram and Lee 1994, Biometrics 50)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from hiermod.frequentist.mixed import MixedFit, fit_mixed
from hiermod.frequentist.nested import nesting
from hiermod.results.frequentist import FrequentistFit

ROUNDING = 1e-6  # a chi-square below -ROUNDING is no rounding: the larger model was not maximised

REFITTED = (
    "REML fits were refitted by maximum likelihood: REML likelihoods of models with other common effects do not "
    "compare. Refitted: {names}."
)
CONSERVATIVE = (
    "p is conservative (too large) where a variance is tested, its null value 0 being on the boundary; p_boundary is "
    "the mixture of chi-squares for one added variance (Stram and Lee 1994)."
)
SEVERAL = (
    "{name}: {count} variances are added at once, for which no simple mixture holds: p_boundary is nan and p is "
    "conservative. Add the terms one at a time, or simulate from the smaller model."
)


@dataclass(frozen=True, eq=False)
class _Entry:
    """One model by maximum likelihood."""

    name: str
    fit: FrequentistFit
    loglik: float
    npar: int
    refitted: bool
    singular: bool


def lrt(*fits: FrequentistFit | Mapping[str, FrequentistFit], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare nested models by their likelihoods, each with the next smaller one, as lme4's ``anova(m0, m1)``.

    fits: two or more, in any order, or one dict name -> fit; linear and mixed models may be mixed.  REML fits are
    refitted by maximum likelihood.  names: for the index; by default the formulas.
    Returns a DataFrame, smallest model first: npar, loglik, aic, bic, deviance (-2 loglik), chisq, df, p (of
    chi-square with df degrees of freedom), p_boundary (where exactly one variance is tested: half chi-square with
    df - 1, half with df; nan where that mixture does not apply).  attrs["notes"]: sentences, among them
    which fits were refitted.

    Raises ArgumentTypeError for what is not a frequentist fit; ArgumentError for fewer than two, for other data or
    another response, and for models that are not nested.

    >>> import hiermod as hm
    >>> d = hm.load_dataset("sleepstudy")
    >>> m0, m1 = (hm.Model(f"Reaction ~ Days + ({x} | Subject)", d).reml() for x in ("1", "Days"))
    >>> hm.lrt(m0, m1, names=["intercepts", "slopes"])[["npar", "chisq", "df"]].round(2)
                npar  chisq   df
    model
    intercepts     4    NaN  NaN
    slopes         6  42.14  2.0
    """
    entries = sorted((_by_likelihood(name, fit) for name, fit in _named(fits, names)), key=lambda e: e.npar)
    base = entries[0].fit
    for entry in entries[1:]:
        _check_data(base, entry.fit)
    refitted = [entry.name for entry in entries if entry.refitted]
    notes = [REFITTED.format(names=", ".join(refitted))] if refitted else []
    tests = [(np.nan, np.nan, np.nan, np.nan)]
    conservative = False
    for small, large in pairwise(entries):
        chisq, df, added = _compare(small, large, notes)
        p = float(stats.chi2.sf(chisq, df))
        tests.append((chisq, df, p, _mixture(chisq, df) if added == 1 else np.nan))
        conservative |= added == 1
        if added > 1:
            notes.append(SEVERAL.format(name=large.name, count=added))
    if conservative:
        notes.append(CONSERVATIVE)
    notes += [f"{e.name} is a singular fit: some variance is estimated as 0." for e in entries if e.singular]
    n = base.nobs
    rows = [
        (e.npar, e.loglik, 2 * e.npar - 2 * e.loglik, np.log(n) * e.npar - 2 * e.loglik, -2 * e.loglik, *test)
        for e, test in zip(entries, tests, strict=True)
    ]
    columns = ["npar", "loglik", "aic", "bic", "deviance", "chisq", "df", "p", "p_boundary"]
    table = pd.DataFrame(rows, index=pd.Index([e.name for e in entries], name="model"), columns=columns)
    table.attrs["notes"] = tuple(notes)
    return table


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
    if isinstance(fit.record, MixedFit) and fit.reml:
        record = fit_mixed(fit.design, reml=False)
        return _Entry(name, fit, float(record.loglik), int(record.npar), True, record.singular)
    return _Entry(name, fit, float(fit.loglik), int(fit.npar), False, fit.singular)


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


def _compare(small: _Entry, large: _Entry, notes: list[str]) -> tuple[float, int, int]:
    """Chi-square, its df, and how many variances the larger model adds."""
    found = nesting(small.fit.design, large.fit.design)
    if found.obstacle is not None or small.npar == large.npar:
        why = found.obstacle or "both have the same number of parameters"
        raise ArgumentError(
            f"{small.name!r} is not nested in {large.name!r}: {why}. A likelihood-ratio test needs the smaller "
            "model to be a special case of the larger; AIC and BIC compare others"
        )
    chisq = 2.0 * (large.loglik - small.loglik)
    if not np.isfinite(chisq):
        raise UnsupportedError("a likelihood is infinite: one of the models explains the response exactly")
    if chisq < -ROUNDING * max(1.0, abs(large.loglik)):
        notes.append(f"{large.name} has a lower likelihood than {small.name}: its fit did not converge, do not use p.")
    return max(chisq, 0.0), large.npar - small.npar, found.added_variances


def _mixture(chisq: float, df: int) -> float:
    """P(T >= chisq), T half chi-square with df - 1 and half with df degrees of freedom; with 0 it is the number 0."""
    below = float(stats.chi2.sf(chisq, df - 1)) if df > 1 else float(chisq <= 0.0)
    return 0.5 * (below + float(stats.chi2.sf(chisq, df)))
