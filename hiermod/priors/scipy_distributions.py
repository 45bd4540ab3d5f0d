"""Prior records as scipy distributions (rvs, logpdf, cdf, ppf), PyMC's parameters; and two laws that scipy has not.

The half-Student-t of PyMC is a t folded at 0; a correlation under LKJ(eta) in k dimensions is a Beta(b, b) stretched
over (-1, 1), b = eta + (k - 2) / 2 (Lewandowski, Kurowicka and Joe 2009, J. Multivar. Anal. 100, 1989-2001)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from hiermod.errors import UnsupportedError
from hiermod.priors.distributions import CATALOGUE, Distribution

IMPROPER = ("Flat", "HalfFlat")  # no draws, no quantiles, no density that integrates to one


class _FoldedT(stats.rv_continuous):
    """|t| with nu degrees of freedom; loc and scale as in scipy."""

    def _argcheck(self, nu: Any) -> Any:
        return np.asarray(nu) > 0

    def _logpdf(self, x: Any, nu: Any) -> Any:
        return np.log(2) + stats.t.logpdf(x, nu)

    def _pdf(self, x: Any, nu: Any) -> Any:
        return 2 * stats.t.pdf(x, nu)

    def _cdf(self, x: Any, nu: Any) -> Any:
        return 1 - 2 * stats.t.sf(x, nu)

    def _sf(self, x: Any, nu: Any) -> Any:
        return 2 * stats.t.sf(x, nu)

    def _ppf(self, q: Any, nu: Any) -> Any:
        return stats.t.ppf(0.5 + np.asarray(q) / 2, nu)

    def _isf(self, q: Any, nu: Any) -> Any:
        return stats.t.isf(np.asarray(q) / 2, nu)

    def _rvs(self, nu: Any, size: Any = None, random_state: Any = None) -> Any:
        return np.abs(random_state.standard_t(nu, size=size))


folded_t = _FoldedT(a=0.0, name="folded_t", shapes="nu")


def _scale(a: dict[str, float], name: str = "sigma", precision: str = "tau") -> float:
    return a[precision] ** -0.5 if precision in a else a.get(name, 1.0)


def _gamma(a: dict[str, float]) -> Any:
    if "mu" in a:
        return stats.gamma(a["mu"] ** 2 / a["sigma"] ** 2, scale=a["sigma"] ** 2 / a["mu"])
    return stats.gamma(a["alpha"], scale=1 / a.get("beta", 1.0))


def _inverse_gamma(a: dict[str, float]) -> Any:
    if "mu" in a:
        ratio = a["mu"] ** 2 / a["sigma"] ** 2
        return stats.invgamma(ratio + 2, scale=a["mu"] * (ratio + 1))
    return stats.invgamma(a["alpha"], scale=a.get("beta", 1.0))


def _beta(a: dict[str, float]) -> Any:
    if "mu" in a:
        nu = a["nu"] if "nu" in a else a["mu"] * (1 - a["mu"]) / a["sigma"] ** 2 - 1
        return stats.beta(a["mu"] * nu, (1 - a["mu"]) * nu)
    return stats.beta(a["alpha"], a["beta"])


def _truncated_normal(a: dict[str, float]) -> Any:
    mu, s = a.get("mu", 0.0), _scale(a)
    low, high = (a.get("lower", -np.inf) - mu) / s, (a.get("upper", np.inf) - mu) / s
    return stats.truncnorm(low, high, loc=mu, scale=s)


def _triangular(a: dict[str, float]) -> Any:
    low, high = a.get("lower", 0.0), a.get("upper", 1.0)
    return stats.triang((a.get("c", 0.5) - low) / (high - low), loc=low, scale=high - low)


KINDS: dict[str, Callable[[dict[str, float]], Any]] = {
    "Beta": _beta,
    "Cauchy": lambda a: stats.cauchy(a["alpha"], a["beta"]),
    "ChiSquared": lambda a: stats.chi2(a["nu"]),
    "ExGaussian": lambda a: stats.exponnorm(a["nu"] / a["sigma"], a.get("mu", 0.0), a["sigma"]),
    "Exponential": lambda a: stats.expon(scale=a["scale"] if "scale" in a else 1 / a.get("lam", 1.0)),
    "Gamma": _gamma,
    "Gumbel": lambda a: stats.gumbel_r(a["mu"], a["beta"]),
    "HalfCauchy": lambda a: stats.halfcauchy(scale=a["beta"]),
    "HalfNormal": lambda a: stats.halfnorm(scale=_scale(a)),
    "HalfStudentT": lambda a: folded_t(a["nu"], scale=_scale(a, precision="lam")),
    "InverseGamma": _inverse_gamma,
    "Laplace": lambda a: stats.laplace(a["mu"], a["b"]),
    "Logistic": lambda a: stats.logistic(a.get("mu", 0.0), a.get("s", 1.0)),
    "LogNormal": lambda a: stats.lognorm(_scale(a), scale=np.exp(a.get("mu", 0.0))),
    "Normal": lambda a: stats.norm(a.get("mu", 0.0), _scale(a)),
    "Pareto": lambda a: stats.pareto(a["alpha"], scale=a["m"]),
    "SkewNormal": lambda a: stats.skewnorm(a.get("alpha", 1.0), a.get("mu", 0.0), _scale(a)),
    "StudentT": lambda a: stats.t(a["nu"], a.get("mu", 0.0), _scale(a, precision="lam")),
    "Triangular": _triangular,
    "TruncatedNormal": _truncated_normal,
    "Uniform": lambda a: stats.uniform(a.get("lower", 0.0), a.get("upper", 1.0) - a.get("lower", 0.0)),
    "Weibull": lambda a: stats.weibull_min(a["alpha"], scale=a["beta"]),
}


def law(prior: Distribution) -> Any:
    """A frozen scipy distribution.  UnsupportedError for what is improper, nested, vector-valued or not among KINDS."""
    if prior.name in IMPROPER:
        raise UnsupportedError(f"{prior} is improper: it gives every value the same weight, so it cannot be drawn from")
    numbers = {name: value for name, value in prior.args if isinstance(value, float)}
    if prior.name not in KINDS or len(numbers) != len(prior.args):
        raise UnsupportedError(f"{prior} is not evaluated here, only on the graph")
    try:
        found = KINDS[prior.name](numbers)
    except (KeyError, ZeroDivisionError) as error:
        takes = ", ".join(CATALOGUE[prior.name][0])
        raise UnsupportedError(f"{prior} lacks an argument ({prior.name} takes {takes})") from error
    if not np.isfinite(found.ppf(0.5)):
        raise UnsupportedError(f"{prior} has no median: its arguments do not make a distribution")
    return found


def law_or_none(prior: Distribution | None) -> Any:
    """As ``law``, None where there is none."""
    try:
        return None if prior is None else law(prior)
    except UnsupportedError:
        return None


def lkj_marginal(eta: float, k: int) -> Any:
    """The law of each correlation of a k x k matrix under LKJ(eta)."""
    b = eta + (k - 2) / 2
    return stats.beta(b, b, loc=-1.0, scale=2.0)
