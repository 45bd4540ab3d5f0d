"""A prior from a plausible interval: the member of a family whose central mass lies between two numbers.

The central interval of mass m has (1 - m) / 2 of the prior below and above it; a family that starts at 0 and falls from
there (HalfNormal, Exponential, ...) has m below ``upper``.  Quantiles and equations are scipy's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, ArgumentTypeError, FitError, UnsupportedError, nearest
from hiermod.priors.distributions import CATALOGUE, Distribution, Kind

SOLVED = ("Beta", "Uniform")  # by equations of their own, below
FAMILIES = tuple(
    sorted(
        name
        for name, kind in CATALOGUE.items()
        if kind.location_and_scale or kind.scale_from_zero or kind.from_shape(1.0, 1.0) or name in SOLVED
    )
)


@dataclass(frozen=True)
class Elicited(Distribution):
    """A prior that knows what it was asked for; goes into ``priors=`` as it is.  ``str()`` is its text alone."""

    said: str = ""

    def __str__(self) -> str:  # the dataclass would otherwise not inherit it
        return super().__str__()

    def __repr__(self) -> str:
        return f"{self}\n{self.said}"


@checked
def prior_from(
    lower: float, upper: float, mass: float = 0.95, family: str = "Normal", nu: float | None = None
) -> Elicited:
    """The prior of this family that puts ``mass`` between ``lower`` and ``upper``, as much below as above.

    family: one of Beta, Cauchy, Exponential, Gamma, Gumbel, HalfCauchy, HalfNormal, HalfStudentT, InverseGamma,
    Laplace, Logistic, LogNormal, Normal, StudentT, Uniform, Weibull.  HalfNormal, HalfStudentT, HalfCauchy and
    Exponential begin at 0, so ``lower`` must be 0 and all that is left over lies above ``upper``.  nu: degrees of
    freedom of StudentT and HalfStudentT, 4 by default.  Returns a prior for ``priors=``; printed, it says what was got.
    Raises ArgumentTypeError, ArgumentError (an interval that the family cannot have), FitError.

    >>> import hiermod as hm
    >>> hm.prior_from(0, 20)
    Normal(mu=10, sigma=5.10213)
    95 % between 0 and 20: 2.5 % below, 2.5 % above, median 10
    >>> hm.prior_from(0, 80, family="HalfNormal")
    HalfNormal(sigma=40.8171)
    95 % between 0 and 80: 5 % above, median 27.53
    >>> priors = {"Days": hm.prior_from(0, 20), "1|Subject": hm.prior_from(0, 80, family="HalfNormal")}
    """
    low, high, m = _number("lower", lower), _number("upper", upper), _number("mass", mass)
    if not 0 < m < 1:
        hint = f": write {m / 100:g}" if 1 < m < 100 else ""
        raise ArgumentError(f"mass must lie between 0 and 1, such as 0.95, got {mass!r}{hint}")
    if not low < high:
        raise ArgumentError(f"lower must be below upper, got {lower!r} and {upper!r}")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ArgumentError(f"family is {family!r}.{nearest(str(family), FAMILIES)} Families: {', '.join(FAMILIES)}")
    if nu is not None and not _has_nu(family):
        raise ArgumentError(f"nu= is for StudentT and HalfStudentT, not for {family}")
    args = _arguments(low, high, m, family, 4.0 if nu is None else _positive_nu(nu))
    exact = Distribution(family, tuple((name, float(value)) for name, value in args.items()))
    short = Distribution(family, tuple((name, float(f"{value:.6g}")) for name, value in exact.args))
    wanted, got = exact.scipy().cdf([low, high]), short.scipy().cdf([low, high])
    prior = short if np.abs(wanted - got).max() < 1e-5 else exact  # six digits, unless the interval needs more
    return Elicited(family, prior.args, _said(prior.scipy(), low, high))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ArgumentError(f"{name} must be finite, got {value!r}")
    return float(value)


def _positive_nu(nu: Any) -> float:
    value = _number("nu", nu)
    if value <= 0:
        raise ArgumentError(f"nu must be positive, got {nu!r}: small values give heavy tails, 30 is nearly normal")
    return value


def _arguments(low: float, high: float, m: float, family: str, nu: float) -> dict[str, float]:
    tail, kind = (1 - m) / 2, CATALOGUE[family]
    fixed = {"nu": nu} if _has_nu(family) else {}
    if kind.location_and_scale:
        location_name, scale_name = kind.location_and_scale
        standard = kind.scipy(fixed | {location_name: 0.0, scale_name: 1.0})
        a, b = standard.ppf(tail), standard.isf(tail)
        scale = (high - low) / (b - a)
        location = (high + low) / 2 - scale * (a + b) / 2
        return fixed | {location_name: location, scale_name: scale}
    if family == "Uniform":
        return {"lower": (low + high) / 2 - (high - low) / (2 * m), "upper": (low + high) / 2 + (high - low) / (2 * m)}
    if kind.scale_from_zero:
        if low != 0:
            raise ArgumentError(
                f"{family} begins at 0 and is densest there, so its interval begins at 0 too; got lower={low:g}. Use "
                "lower=0, or a family that may keep away from 0: 'Gamma', 'LogNormal'"
            )
        standard = kind.scipy(fixed | {kind.scale_from_zero: 1.0})
        return fixed | {kind.scale_from_zero: high / float(standard.ppf(m))}
    if low <= 0:
        raise ArgumentError(
            f"{family} is a prior of positive numbers, with {100 * tail:g} % below lower={low:g}: lower must be "
            "positive. Use a small positive number, or 'HalfNormal' with lower=0"
        )
    if family == "Beta":
        return _beta(low, high, tail)
    return _by_shape(low, high, tail, family)


def _has_nu(family: str) -> bool:
    kind = CATALOGUE[family]
    return "nu" in kind.arguments and bool(kind.location_and_scale or kind.scale_from_zero)


def _by_shape(low: float, high: float, tail: float, family: str) -> dict[str, float]:
    """A shape gives the ratio of the two quantiles, then the scale follows."""
    kind = CATALOGUE[family]
    wanted = math.log(high / low)

    def excess(log_shape: float) -> float:
        with np.errstate(all="ignore"):
            standard = kind.scipy(_made(kind, math.exp(log_shape), 1.0))
            ratio = float(np.log(standard.isf(tail)) - np.log(standard.ppf(tail)))
        return (1e6 if not math.isfinite(ratio) else ratio) - wanted

    try:
        shape = math.exp(optimize.brentq(excess, -7.0, 18.0, xtol=1e-13))
    except ValueError:
        raise FitError(
            f"no {family} has {100 * (1 - 2 * tail):g} % between {low:g} and {high:g}: they are too far apart or too "
            "close together. Use 'LogNormal' or 'Normal', or another interval"
        ) from None
    standard = kind.scipy(_made(kind, shape, 1.0))
    return _made(kind, shape, high / float(standard.isf(tail)))


def _made(kind: Kind, shape: float, scale: float) -> dict[str, float]:
    found = kind.from_shape(shape, scale)
    if found is None:  # FAMILIES holds none such
        raise UnsupportedError(f"{type(kind).__name__} is not chosen by a shape and a scale")
    return dict(found)


def _beta(low: float, high: float, tail: float) -> dict[str, float]:
    if high >= 1:
        raise ArgumentError(f"Beta lives between 0 and 1, so upper must be below 1, got {high:g}")
    mean, spread = (low + high) / 2, (high - low) / 4
    nu = max(mean * (1 - mean) / spread**2 - 1, 0.5)

    def excess(logs: np.ndarray) -> np.ndarray:
        found = stats.beta(*np.exp(np.clip(logs, -10, 20)))
        return np.array([_logit(found.cdf(low)), _logit(found.sf(high))]) - _logit(tail)

    solved = optimize.root(excess, np.log([mean * nu, (1 - mean) * nu]))
    if not solved.success:
        raise FitError(f"no Beta was found with {100 * (1 - 2 * tail):g} % between {low:g} and {high:g}")
    a, b = np.exp(solved.x)
    return {"alpha": float(a), "beta": float(b)}


def _logit(p: float) -> float:
    """Log odds, kept finite."""
    p = min(max(float(p), 1e-300), 1 - 1e-16)
    return math.log(p) - math.log1p(-p)


def _said(found: Any, low: float, high: float) -> str:
    below, above = float(found.cdf(low)), float(found.sf(high))
    parts = [f"{100 * below:.3g} % below"] if below > 1e-12 else []
    parts += [f"{100 * above:.3g} % above", f"median {float(found.median()):.4g}"]
    return f"{100 * (1 - below - above):.4g} % between {low:g} and {high:g}: {', '.join(parts)}"
