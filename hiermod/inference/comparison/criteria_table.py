"""Likelihood criteria of the ML fits beside the predictive ones of the Bayesian fits, model by model, in one table.

AIC (Akaike 1973) and BIC (Schwarz 1978) of the marginal likelihood, group effects integrated out: AIC is about new
groups, as leave-one-group-out is; leave-one-out and WAIC are about new rows in known groups (Vaida and Blanchard 2005,
Biometrika 92)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.inference.comparison.likelihood_ratio import _by_likelihood, lrt

REML = "REML fits were refitted by maximum likelihood: {names}."
TARGETS = (
    "AIC and BIC are of the likelihood with group effects integrated out, so AIC is about rows of new groups, as logo "
    "is; loo and waic are about new rows of the same groups. The two kinds need not agree."
)


@checked
def information_criteria(
    models: Mapping[str, Any],
    group: str | None = None,
    random_seed: int | np.random.Generator | None = None,
    **fit: Any,
) -> pd.DataFrame:
    """npar, loglik, aic, bic and likelihood-ratio tests of the ML fits, beside loo and waic of the Bayesian ones.

    models: name -> a Model (fitted here both ways, by Bayes with ``random_seed`` and ``fit``'s arguments), a fit of
    either kind (of a Bayesian one the ML fit is made here), or a pair of both.  Put the smaller model first: chisq, df
    and p test each model against the one above it, where that is nested in it.  group: also leave-one-group-out.

    Returns a DataFrame in the order given, index model: npar, loglik, aic, bic, chisq, df, p, elpd_loo, p_loo, looic,
    elpd_waic, p_waic, waic (+ elpd_logo, logoic); looic, waic and logoic are -2 elpd, so smaller is better, as with
    aic.  nan where a model has no such fit.  attrs["notes"]: sentences.

    Raises ArgumentTypeError for other values, ArgumentError for fits of different data.

    >>> import hiermod as hm
    >>> d = hm.load_dataset("sleepstudy")
    >>> ml = {x: hm.Model(f"Reaction ~ Days + ({x} | Subject)", d).ml() for x in ("1", "Days")}
    >>> hm.information_criteria(ml)[["npar", "aic", "chisq", "df"]].round(1)
           npar     aic  chisq   df
    model
    1         4  1802.1    NaN  NaN
    Days      6  1763.9   42.1  2.0
    """
    if not isinstance(models, Mapping) or not models:
        raise ArgumentTypeError(
            f"information_criteria takes a dict of name -> model or fits, got {type(models).__name__}"
        )
    notes: list[str] = []
    pairs = {str(name): _pair(str(name), value, random_seed, fit, notes) for name, value in models.items()}
    _check_same(pairs)
    rows = {name: _likelihood(name, ml) | _predictive(bayes, group) for name, (ml, bayes) in pairs.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    tests = [(np.nan, np.nan, np.nan), *(_test(one, other, pairs, notes) for one, other in pairwise(pairs))]
    for at, (name, values) in enumerate(zip(("chisq", "df", "p"), zip(*tests, strict=True), strict=True)):
        table.insert(4 + at, name, np.array(values, dtype=float))
    if table["npar"].notna().all():
        table["npar"] = table["npar"].astype(int)
    refitted = [n for n, (ml, _) in pairs.items() if ml is not None and getattr(ml, "reml", False) and ml.ngroups]
    if refitted:
        notes.append(REML.format(names=", ".join(refitted)))
    if any(ml is not None and ml.ngroups for ml, _ in pairs.values()):
        notes.append(TARGETS)
    if table.filter(like="elpd").isna().all(axis=None):
        table = table.drop(columns=list(table.columns[7:]))
    return noted(table, notes)


def _pair(
    name: str, value: Any, seed: Any, fit: Mapping[str, Any], notes: list[str]
) -> tuple[FrequentistFit | None, BayesianFit | None]:
    """The ML (or REML) fit and the Bayesian fit of one model; None where there is none."""
    given = value if isinstance(value, tuple | list) else (value,)
    frequentist = next((one for one in given if isinstance(one, FrequentistFit)), None)
    bayes = next((one for one in given if isinstance(one, BayesianFit)), None)
    model = next((one for one in given if hasattr(one, "spec") and hasattr(one, "ml")), None)
    if sum(one is not None for one in (frequentist, bayes, model)) != len(given):
        kinds = ", ".join(type(one).__name__ for one in given)
        raise ArgumentTypeError(
            f"{name!r} is {kinds}; a model is given as a Model, as what m.ml(), m.reml() or m.fit() returned, or as a "
            "pair of such fits"
        )
    if model is not None and bayes is None:
        bayes = model.fit(**({"random_seed": seed, "progressbar": False} | dict(fit)))
    source = model if model is not None else getattr(bayes, "model", None)
    if frequentist is None and source is not None:
        try:
            frequentist = source.ml()
        except UnsupportedError as error:
            notes.append(f"{name} has no ML fit: {error}.")
    return frequentist, bayes


def _check_same(pairs: Mapping[str, tuple[FrequentistFit | None, BayesianFit | None]]) -> None:
    """All fits are about the same rows and the same response."""
    first: tuple[str, Any] | None = None
    for name, pair in pairs.items():
        for one in pair:
            if one is None:
                continue
            if first is None:
                first = (name, one)
                continue
            a, b = first[1].design, one.design
            same = a.nobs == b.nobs and a.index.equals(b.index) and np.array_equal(a.y, b.y)
            if not same:
                raise ArgumentError(
                    f"{first[0]!r} and {name!r} are fits of different data ({a.response}, {a.nobs} rows, and "
                    f"{b.response}, {b.nobs} rows; or other rows): no criterion compares those. Fit both to one data "
                    "frame without missing values, and to the same response"
                )


def _likelihood(name: str, ml: FrequentistFit | None) -> dict[str, float]:
    if ml is None:
        return dict.fromkeys(("npar", "loglik", "aic", "bic"), np.nan)
    entry = _by_likelihood(name, ml)
    bic = np.log(ml.nobs) * entry.npar - 2 * entry.loglik
    return {"npar": entry.npar, "loglik": entry.loglik, "aic": 2 * entry.npar - 2 * entry.loglik, "bic": float(bic)}


def _predictive(bayes: BayesianFit | None, group: str | None) -> dict[str, float]:
    names = ["elpd_loo", "p_loo", "looic", "elpd_waic", "p_waic", "waic"]
    names += ["elpd_logo", "logoic"] if group is not None else []
    if bayes is None:
        return dict.fromkeys(names, np.nan)
    loo, waic = bayes.loo(), bayes.waic()
    values = [loo.elpd, loo.p, -2 * loo.elpd, waic.elpd, waic.p, -2 * waic.elpd]
    if group is not None:
        elpd = bayes.logo(group).elpd if group in bayes.ngroups else np.nan
        values += [elpd, -2 * elpd]
    return dict(zip(names, values, strict=True))


def _test(
    one: str, other: str, pairs: Mapping[str, tuple[FrequentistFit | None, Any]], notes: list[str]
) -> tuple[float, float, float]:
    """Chi-square, df and p of a model against the one above it; nan, with the reason, where there is no such test."""
    small, large = pairs[one][0], pairs[other][0]
    if small is None or large is None:
        return np.nan, np.nan, np.nan
    try:
        table = lrt({one: small, other: large})
    except (ArgumentError, UnsupportedError) as error:
        notes.append(f"No likelihood-ratio test of {other}: {error}.")
        return np.nan, np.nan, np.nan
    if list(table.index) != [one, other]:
        notes.append(f"No likelihood-ratio test of {other}: it is the smaller of the two, put it first.")
        return np.nan, np.nan, np.nan
    row = table.iloc[1]
    return float(row["chisq"]), float(row["df"]), float(row["p"])
