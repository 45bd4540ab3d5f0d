"""One number for "is this term there?" from one fit: the p value of a term by each method power can be asked for.

A term with several coefficients (a factor of three levels) is tested by all of them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError, listing, nearest
from hiermod.formula.design import Design
from hiermod.inference.coefficient_tests.ftests import DegreesOfFreedom, Residual
from hiermod.inference.coefficient_tests.kenward_roger import kenward_roger
from hiermod.inference.coefficient_tests.satterthwaite import satterthwaite

METHODS = ("satterthwaite", "kenward-roger", "wald", "lrt", "bayes")
WITH_DF: dict[str, Callable[[MixedFit], DegreesOfFreedom]] = {
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
}


def term_columns(design: Design, term: str | None) -> np.ndarray:
    """(p,) True for the columns of X that belong to a coefficient or to a whole term of the formula.

    None: the only term besides the intercept.  UnknownNameError, ArgumentError where there are none or several."""
    terms = [*dict.fromkeys(name for name in design.common_terms if name != "Intercept")]
    if term is None:
        if len(terms) != 1:
            raise ArgumentError(
                f"term: say which effect the study is about; {design.formula!r} has {listing(terms) or 'none'}"
            )
        term = terms[0]
    chosen = np.array([term in (name, label) for name, label in zip(design.common_terms, design.common, strict=True)])
    if not chosen.any():
        known = [*dict.fromkeys((*design.common_terms, *design.common))]
        raise UnknownNameError(f"the formula has no term {term!r}.{nearest(term, known)} It has: {listing(known, 20)}.")
    if not (chosen & design.estimable).any():
        raise ArgumentError(f"the term {term!r} cannot be estimated in this design: earlier columns explain it")
    return chosen


def without(design: Design, columns: np.ndarray) -> Design:
    """The design of the null hypothesis: those columns of X left out."""
    keep = ~columns
    common = tuple(name for name, kept in zip(design.common, keep, strict=True) if kept)
    terms = tuple(name for name, kept in zip(design.common_terms, keep, strict=True) if kept)
    return replace(design, X=design.X[:, keep], estimable=design.estimable[keep], common=common, common_terms=terms)


def p_of_test(record: Any, columns: np.ndarray, method: str) -> float:
    """p of beta = 0 in these columns by "satterthwaite", "kenward-roger" or "wald" (normal); nan where undefined.

    A linear model has its exact t and F, whatever the method but "wald"."""
    used = record.design.estimable
    beta, vcov = record.beta[used], record.vcov_beta[np.ix_(used, used)]
    L = np.eye(len(beta))[columns[used]]
    if method == "wald":
        values = L @ beta
        try:
            chisq = float(values @ np.linalg.solve(L @ vcov @ L.T, values))
        except np.linalg.LinAlgError:
            return float("nan")
        return float(stats.chi2.sf(chisq, len(L))) if chisq >= 0 else float("nan")
    if isinstance(record, MixedFit):
        test = WITH_DF[method](record).f_test(L, beta)
    else:
        df = np.inf if record.design.precision.sigma_known else float(record.df_residual)
        test = Residual(vcov, df).f_test(L, beta)
    if np.isinf(test.den_df):
        return float(stats.chi2.sf(test.statistic * test.num_df, test.num_df))
    return float(stats.f.sf(test.statistic, test.num_df, test.den_df))


def p_of_ratio(large: Any, small: Any, df: int) -> float:
    """p of the likelihood ratio of two fits by maximum likelihood, chi-square with df degrees of freedom."""
    return float(stats.chi2.sf(max(0.0, float(small.criterion) - float(large.criterion)), df))


def p_of_draws(record: Posterior, columns: np.ndarray) -> float:
    """Twice the smaller tail of the posterior at 0: below alpha where the 1 - alpha interval leaves 0 out."""
    draws = record.beta[..., columns].ravel()
    below = (np.count_nonzero(draws < 0) + 0.5) / (len(draws) + 1.0)  # never 0: the draws are finitely many
    return float(2.0 * min(below, 1.0 - below))


def check_method(method: str | None, gaussian: bool, count: int) -> str:
    """The method's name; None: Satterthwaite for Gaussian models, else Wald's.  count: coefficients of the term."""
    if method is None:
        return "satterthwaite" if gaussian else "wald"
    name = method.lower().replace("_", "-") if isinstance(method, str) else method
    if name not in METHODS:
        hint = nearest(name, METHODS) if isinstance(name, str) else ""
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}, got {method!r}.{hint}")
    if not gaussian and name not in ("wald", "lrt"):
        raise UnsupportedError(f"method {name!r} is for Gaussian models; for generalised ones use 'wald' or 'lrt'")
    if name == "bayes" and count > 1:
        raise UnsupportedError(
            "method 'bayes' looks at the posterior interval of one coefficient, and the term has "
            f"{count}: name one of its coefficients"
        )
    return str(name)
