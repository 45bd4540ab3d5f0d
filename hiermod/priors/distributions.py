"""Prior distributions: each kind with all that is known of it in one class, and the record of one prior.

A kind has PyMC's name, its arguments in PyMC's order and meaning, the support, the log density with its derivative,
the same of a standard deviation on the log scale, the scipy distribution, and what ``prior_from`` needs to choose
arguments.  What a kind has not is None: then only the PyMC graph can do it.  A new kind is one subclass of Kind here,
and an example in tests/priors/test_prior_distributions.py, which puts every kind through one contract."""

# ruff: noqa: D102 - what each method of a kind gives is said once, in Kind

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy.stats takes half a second to load, and is loaded where it is first used
from scipy import special

from hiermod.errors import UnsupportedError
from hiermod.priors import terms

Values = Mapping[str, float]  # arguments by name, those that were given
Density = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # points -> log density and its derivative, same shape

REAL, POSITIVE, UNIT = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)


class Kind:
    """A kind of distribution, such as Normal.  Its methods raise KeyError where a value that they need is lacking."""

    arguments: tuple[str, ...] = ()  # in PyMC's order; a test compares them with the installed PyMC
    real: tuple[str, ...] = ()  # those that may be 0 or negative; the others are scales, rates and shapes
    improper = False  # whether it gives every value the same weight: no draws, no quantiles
    location_and_scale: tuple[str, str] | None = None  # the arguments that are these, of a density on all numbers
    scale_from_zero: str | None = None  # the scale of a density that falls from 0 on

    def support(self, a: Values) -> tuple[float, float]:
        """The ends of the interval in which the density is positive."""
        return REAL

    def log_density(self, a: Values) -> Density | None:
        """x -> log p(x) and its derivative, valid inside the support."""
        return None

    def log_scale_density(self, a: Values) -> Density | None:
        """t = log x -> log p(x) + t (the Jacobian) and its derivative, valid inside the support; for a prior of sds.

        A formula of its own, and not ``log_density`` at exp(t): the sampler goes to where x over- and underflows."""
        return None

    def scipy(self, a: Values) -> Any:
        """A frozen scipy distribution: rvs, logpdf, cdf, ppf.  None where there is none."""
        return None

    def from_shape(self, shape: float, scale: float) -> Values | None:
        """Arguments from a shape, which sets the ratio of any two quantiles, and a scale."""
        return None

    def as_terms(self, a: Values) -> Mapping[int, float] | None:
        """The coefficients of terms.py that are not 0; None for a density that is no sum of such terms."""
        return None


def _sd(a: Values, name: str = "sigma", precision: str = "tau") -> float:
    return a[precision] ** -0.5 if precision in a else a.get(name, 1.0)


def _normal(z: Any) -> Any:
    """The log density of N(0, 1)."""
    return -0.5 * np.log(2 * np.pi) - 0.5 * z**2


def _hazard(z: Any) -> Any:
    """phi(z) / Phi(z), the derivative of log Phi(z)."""
    return np.exp(_normal(z) - special.log_ndtr(z))


class AsymmetricLaplace(Kind):
    """Rates b kappa above mu and b / kappa below it; q is the quantile that mu is."""

    arguments, real = ("kappa", "mu", "b", "q"), ("mu",)

    def log_density(self, a: Values) -> Density:
        kappa = (a["q"] / (1 - a["q"])) ** 0.5 if "q" in a else a["kappa"]
        mu, b = a["mu"], a["b"]

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            slope = np.where(x >= mu, -b * kappa, b / kappa)
            return np.log(b / (kappa + 1 / kappa)) + slope * (x - mu), slope

        return density


class Beta(Kind):
    """By two shapes, or by its mean and either its sd or the sum nu of the shapes."""

    arguments = ("alpha", "beta", "mu", "sigma", "nu")

    def support(self, a: Values) -> tuple[float, float]:
        return UNIT

    def _shapes(self, a: Values) -> tuple[float, float]:
        if "mu" in a:
            nu = a["nu"] if "nu" in a else a["mu"] * (1 - a["mu"]) / a["sigma"] ** 2 - 1
            return a["mu"] * nu, (1 - a["mu"]) * nu
        return a["alpha"], a["beta"]

    def log_density(self, a: Values) -> Density:
        p, q = self._shapes(a)
        constant = special.betaln(p, q)
        return lambda x: (
            special.xlogy(p - 1, x) + special.xlog1py(q - 1, -x) - constant,
            (p - 1) / x - (q - 1) / (1 - x),
        )

    def scipy(self, a: Values) -> Any:
        return scipy.stats.beta(*self._shapes(a))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        p, q = self._shapes(a)
        return {terms.LOGX: p - 1, terms.LOG_REST: q - 1}


class Cauchy(Kind):
    """Location alpha, scale beta."""

    arguments, real, location_and_scale = ("alpha", "beta"), ("alpha",), ("alpha", "beta")

    def log_density(self, a: Values) -> Density:
        return StudentT().log_density({"nu": 1.0, "mu": a["alpha"], "sigma": a["beta"]})

    def scipy(self, a: Values) -> Any:
        return scipy.stats.cauchy(a["alpha"], a["beta"])

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.TAIL: -1.0, terms.SPREAD: a["beta"] ** -2.0, terms.PLACE: a["alpha"]}


class ChiSquared(Kind):
    """A Gamma with shape nu / 2 and rate 1 / 2."""

    arguments = ("nu",)

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        return Gamma().log_density({"alpha": a["nu"] / 2, "beta": 0.5})

    def scipy(self, a: Values) -> Any:
        return scipy.stats.chi2(a["nu"])

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.LOGX: a["nu"] / 2 - 1, terms.LINEAR: -0.5}


class ExGaussian(Kind):
    """The sum of N(mu, sigma^2) and an exponential with mean nu."""

    arguments, real = ("mu", "sigma", "nu"), ("mu",)

    def log_density(self, a: Values) -> Density:
        mu, s, nu = a.get("mu", 0.0), a["sigma"], a["nu"]

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (x - mu) / s - s / nu
            value = -np.log(nu) - (x - mu) / nu + s**2 / (2 * nu**2) + special.log_ndtr(z)
            return value, _hazard(z) / s - 1 / nu

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.exponnorm(a["nu"] / a["sigma"], a.get("mu", 0.0), a["sigma"])


class Exponential(Kind):
    """By its rate lam, or its scale."""

    arguments, scale_from_zero = ("lam", "scale"), "scale"

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def _rate(self, a: Values) -> float:
        return 1 / a["scale"] if "scale" in a else a.get("lam", 1.0)

    def log_density(self, a: Values) -> Density:
        lam = self._rate(a)
        return lambda x: (np.log(lam) - lam * x, np.full_like(x, -lam))

    def log_scale_density(self, a: Values) -> Density:
        lam = self._rate(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = np.exp(t)
            return np.log(lam) - lam * x + t, 1 - lam * x

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.expon(scale=a["scale"] if "scale" in a else 1 / a.get("lam", 1.0))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.LINEAR: -self._rate(a)}


class Flat(Kind):
    """The same weight for every number."""

    improper = True

    def log_density(self, a: Values) -> Density:
        return lambda x: (np.zeros_like(x), np.zeros_like(x))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {}


class Gamma(Kind):
    """By shape alpha and rate beta, or by mean and sd."""

    arguments = ("alpha", "beta", "mu", "sigma")

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def _shape_and_rate(self, a: Values) -> tuple[float, float]:
        if "mu" in a:
            return a["mu"] ** 2 / a["sigma"] ** 2, a["mu"] / a["sigma"] ** 2
        return a["alpha"], a.get("beta", 1.0)

    def log_density(self, a: Values) -> Density:
        shape, rate = self._shape_and_rate(a)
        constant = shape * np.log(rate) - special.gammaln(shape)
        return lambda x: (constant + special.xlogy(shape - 1, x) - rate * x, (shape - 1) / x - rate)

    def log_scale_density(self, a: Values) -> Density:
        shape, rate = self._shape_and_rate(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = np.exp(t)
            return shape * np.log(rate) - special.gammaln(shape) + shape * t - rate * x, shape - rate * x

        return density

    def scipy(self, a: Values) -> Any:
        if "mu" in a:
            return scipy.stats.gamma(a["mu"] ** 2 / a["sigma"] ** 2, scale=a["sigma"] ** 2 / a["mu"])
        return scipy.stats.gamma(a["alpha"], scale=1 / a.get("beta", 1.0))

    def from_shape(self, shape: float, scale: float) -> Values:
        return {"alpha": shape, "beta": 1 / scale}

    def as_terms(self, a: Values) -> Mapping[int, float]:
        shape, rate = self._shape_and_rate(a)
        return {terms.LOGX: shape - 1, terms.LINEAR: -rate}


class Gumbel(Kind):
    """Of largest values: location mu, scale beta."""

    arguments, real, location_and_scale = ("mu", "beta"), ("mu",), ("mu", "beta")

    def log_density(self, a: Values) -> Density:
        mu, scale = a["mu"], a["beta"]

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (x - mu) / scale
            return -np.log(scale) - z - np.exp(-z), np.expm1(-z) / scale

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.gumbel_r(a["mu"], a["beta"])


class HalfCauchy(Kind):
    """|x| of a Cauchy around 0 with scale beta."""

    arguments, scale_from_zero = ("beta",), "beta"

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        return HalfStudentT().log_density({"nu": 1.0, "sigma": a["beta"]})

    def log_scale_density(self, a: Values) -> Density:
        return HalfStudentT().log_scale_density({"nu": 1.0, "sigma": a["beta"]})

    def scipy(self, a: Values) -> Any:
        return scipy.stats.halfcauchy(scale=a["beta"])

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.TAIL: -1.0, terms.SPREAD: a["beta"] ** -2.0}


class HalfFlat(Kind):
    """The same weight for every positive number."""

    improper = True

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        return lambda x: (np.zeros_like(x), np.zeros_like(x))


class HalfNormal(Kind):
    """|x| of a Normal around 0 with sd sigma or precision tau."""

    arguments, scale_from_zero = ("sigma", "tau"), "sigma"

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        s = _sd(a)
        return lambda x: (np.log(2) + _normal(x / s) - np.log(s), -x / s**2)

    def log_scale_density(self, a: Values) -> Density:
        s = _sd(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            square = np.exp(2 * (t - np.log(s)))
            return 0.5 * np.log(2 / np.pi) - np.log(s) - 0.5 * square + t, 1 - square

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.halfnorm(scale=_sd(a))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.SQUARE: -0.5 * _sd(a) ** -2.0}


class HalfStudentT(Kind):
    """|x| of a t with nu degrees of freedom around 0, scale sigma or lam = 1 / sigma^2."""

    arguments, scale_from_zero = ("nu", "sigma", "lam"), "sigma"

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        whole = StudentT().log_density({name: value for name, value in a.items() if name != "mu"})

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, slope = whole(x)
            return np.log(2) + value, slope

        return density

    def log_scale_density(self, a: Values) -> Density:
        nu, s = a["nu"], _sd(a, precision="lam")
        constant = (
            np.log(2) + special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(s)
        )

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            square = np.exp(2 * (t - np.log(s))) / nu
            return constant - (nu + 1) / 2 * np.log1p(square) + t, 1 - (nu + 1) * square / (1 + square)

        return density

    def scipy(self, a: Values) -> Any:
        from hiermod.priors.folded_t import folded_t

        return folded_t(a["nu"], scale=_sd(a, precision="lam"))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        spread = _sd(a, "sigma", "lam") ** -2.0 / a["nu"]
        return {terms.TAIL: -0.5 * (a["nu"] + 1), terms.SPREAD: spread}


class InverseGamma(Kind):
    """1 / x of a Gamma: by shape alpha and scale beta, or by mean and sd."""

    arguments = ("alpha", "beta", "mu", "sigma")

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def _shape_and_scale(self, a: Values) -> tuple[float, float]:
        if "mu" in a:
            ratio = a["mu"] ** 2 / a["sigma"] ** 2
            return ratio + 2, a["mu"] * (ratio + 1)
        return a["alpha"], a.get("beta", 1.0)

    def log_density(self, a: Values) -> Density:
        shape, scale = self._shape_and_scale(a)
        constant = shape * np.log(scale) - special.gammaln(shape)
        return lambda x: (constant - (shape + 1) * np.log(x) - scale / x, scale / x**2 - (shape + 1) / x)

    def log_scale_density(self, a: Values) -> Density:
        shape, scale = self._shape_and_scale(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inverse = np.exp(-t)
            value = shape * np.log(scale) - special.gammaln(shape) - shape * t - scale * inverse
            return value, -shape + scale * inverse

        return density

    def scipy(self, a: Values) -> Any:
        shape, scale = self._shape_and_scale(a)
        return scipy.stats.invgamma(shape, scale=scale)

    def from_shape(self, shape: float, scale: float) -> Values:
        return {"alpha": shape, "beta": scale}

    def as_terms(self, a: Values) -> Mapping[int, float]:
        shape, scale = self._shape_and_scale(a)
        return {terms.LOGX: -shape - 1, terms.INVERSE: -scale}


class Kumaraswamy(Kind):
    """Like a Beta, with F(x) = 1 - (1 - x^a)^b."""

    arguments = ("a", "b")

    def support(self, a: Values) -> tuple[float, float]:
        return UNIT

    def log_density(self, a: Values) -> Density:
        p, q = a["a"], a["b"]
        return lambda x: (
            np.log(p * q) + special.xlogy(p - 1, x) + special.xlog1py(q - 1, -(x**p)),
            (p - 1) / x - (q - 1) * p * x ** (p - 1) / (1 - x**p),
        )


class Laplace(Kind):
    """Location mu, scale b."""

    arguments, real, location_and_scale = ("mu", "b"), ("mu",), ("mu", "b")

    def log_density(self, a: Values) -> Density:
        mu, b = a["mu"], a["b"]
        return lambda x: (-np.log(2 * b) - np.abs(x - mu) / b, -np.sign(x - mu) / b)

    def scipy(self, a: Values) -> Any:
        return scipy.stats.laplace(a["mu"], a["b"])


class Logistic(Kind):
    """Location mu, scale s."""

    arguments, real, location_and_scale = ("mu", "s"), ("mu",), ("mu", "s")

    def log_density(self, a: Values) -> Density:
        mu, s = a.get("mu", 0.0), a.get("s", 1.0)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (x - mu) / s
            return special.log_expit(z) + special.log_expit(-z) - np.log(s), -np.tanh(z / 2) / s

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.logistic(a.get("mu", 0.0), a.get("s", 1.0))


class LogitNormal(Kind):
    """The logit is Normal(mu, sigma)."""

    arguments, real = ("mu", "sigma", "tau"), ("mu",)

    def support(self, a: Values) -> tuple[float, float]:
        return UNIT

    def log_density(self, a: Values) -> Density:
        mu, s = a.get("mu", 0.0), _sd(a)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (special.logit(x) - mu) / s
            return _normal(z) - np.log(s) - np.log(x) - np.log1p(-x), (2 * x - 1 - z / s) / (x * (1 - x))

        return density


class LogNormal(Kind):
    """The logarithm is Normal(mu, sigma)."""

    arguments, real = ("mu", "sigma", "tau"), ("mu",)

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        mu, s = a.get("mu", 0.0), _sd(a)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (np.log(x) - mu) / s
            return _normal(z) - np.log(s) - np.log(x), -(1 + z / s) / x

        return density

    def log_scale_density(self, a: Values) -> Density:
        mu, s = a.get("mu", 0.0), _sd(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (t - mu) / s
            return -0.5 * np.log(2 * np.pi) - np.log(s) - 0.5 * z**2, -z / s

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.lognorm(_sd(a), scale=np.exp(a.get("mu", 0.0)))

    def from_shape(self, shape: float, scale: float) -> Values:
        return {"mu": float(np.log(scale)), "sigma": 1 / shape}

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.LOGX: -1.0, terms.LOG_SQUARE: -0.5 * _sd(a) ** -2.0, terms.LOG_PLACE: a.get("mu", 0.0)}


class Normal(Kind):
    """Mean mu, sd sigma or precision tau."""

    arguments, real, location_and_scale = ("mu", "sigma", "tau"), ("mu",), ("mu", "sigma")

    def log_density(self, a: Values) -> Density:
        mu, s = a.get("mu", 0.0), _sd(a)
        return lambda x: (_normal((x - mu) / s) - np.log(s), -(x - mu) / s**2)

    def scipy(self, a: Values) -> Any:
        return scipy.stats.norm(a.get("mu", 0.0), _sd(a))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.SQUARE: -0.5 * _sd(a) ** -2.0, terms.PLACE: a.get("mu", 0.0)}


class Pareto(Kind):
    """From m on, falling with the power alpha + 1."""

    arguments = ("alpha", "m")

    def support(self, a: Values) -> tuple[float, float]:
        return a["m"], np.inf

    def log_density(self, a: Values) -> Density:
        power, m = a["alpha"], a["m"]
        constant = np.log(power) + power * np.log(m)
        return lambda x: (constant - (power + 1) * np.log(x), -(power + 1) / x)

    def scipy(self, a: Values) -> Any:
        return scipy.stats.pareto(a["alpha"], scale=a["m"])


class Rice(Kind):
    """The length of a Normal vector in the plane, sd sigma in each direction, mean of length nu = b sigma."""

    arguments, real = ("nu", "sigma", "b"), ("nu",)

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        s = a.get("sigma", 1.0)
        nu = a["nu"] if "nu" in a else a["b"] * s

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = x * nu / s**2
            value = np.log(x) - 2 * np.log(s) - 0.5 * ((x - nu) / s) ** 2 + np.log(special.i0e(z)) + np.abs(z) - z
            return value, 1 / x - x / s**2 + nu / s**2 * special.i1e(z) / special.i0e(z)

        return density


class SkewNormal(Kind):
    """Azzalini's: skewness alpha, location mu, scale sigma or precision tau."""

    arguments, real = ("alpha", "mu", "sigma", "tau"), ("alpha", "mu")

    def log_density(self, a: Values) -> Density:
        skew, mu, s = a.get("alpha", 1.0), a.get("mu", 0.0), _sd(a)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (x - mu) / s
            value = np.log(2) + _normal(z) - np.log(s) + special.log_ndtr(skew * z)
            return value, (skew * _hazard(skew * z) - z) / s

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.skewnorm(a.get("alpha", 1.0), a.get("mu", 0.0), _sd(a))


class StudentT(Kind):
    """nu degrees of freedom, location mu, scale sigma or lam = 1 / sigma^2."""

    arguments, real, location_and_scale = ("nu", "mu", "sigma", "lam"), ("mu",), ("mu", "sigma")

    def log_density(self, a: Values) -> Density:
        nu, mu, s = a["nu"], a.get("mu", 0.0), _sd(a, precision="lam")
        constant = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(s)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = (x - mu) / s
            return constant - (nu + 1) / 2 * np.log1p(z**2 / nu), -(nu + 1) * z / (nu + z**2) / s

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.t(a["nu"], a.get("mu", 0.0), _sd(a, precision="lam"))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        spread = _sd(a, "sigma", "lam") ** -2.0 / a["nu"]
        return {terms.TAIL: -0.5 * (a["nu"] + 1), terms.SPREAD: spread, terms.PLACE: a.get("mu", 0.0)}


class Triangular(Kind):
    """From lower to upper, densest at c."""

    arguments, real = ("lower", "upper", "c"), ("lower", "upper", "c")

    def support(self, a: Values) -> tuple[float, float]:
        return a.get("lower", 0.0), a.get("upper", 1.0)

    def log_density(self, a: Values) -> Density:
        (low, high), top = self.support(a), a.get("c", 0.5)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rising = x < top
            height = np.where(rising, (x - low) / (top - low), (high - x) / (high - top))
            slope = np.where(rising, 1 / (x - low), -1 / (high - x))
            return np.log(2 / (high - low)) + np.log(height), slope

        return density

    def scipy(self, a: Values) -> Any:
        low, high = self.support(a)
        return scipy.stats.triang((a.get("c", 0.5) - low) / (high - low), loc=low, scale=high - low)


class TruncatedNormal(Kind):
    """Normal(mu, sigma), cut at lower and upper."""

    arguments, real = ("mu", "sigma", "tau", "lower", "upper"), ("mu", "lower", "upper")

    def support(self, a: Values) -> tuple[float, float]:
        return a.get("lower", -np.inf), a.get("upper", np.inf)

    def _constant(self, a: Values) -> float:
        """Of the log density, the mass between the bounds included."""
        (lower, upper), mu, s = self.support(a), a.get("mu", 0.0), _sd(a)
        low, high = (lower - mu) / s, (upper - mu) / s
        if low > 0:  # both bounds in the upper tail: the difference is taken where the digits are
            low, high = -high, -low
        mass = special.log_ndtr(high) + np.log1p(-np.exp(special.log_ndtr(low) - special.log_ndtr(high)))
        return float(-0.5 * np.log(2 * np.pi) - np.log(s) - mass)

    def log_density(self, a: Values) -> Density:
        mu, s, constant = a.get("mu", 0.0), _sd(a), self._constant(a)
        return lambda x: (constant - 0.5 * ((x - mu) / s) ** 2, -(x - mu) / s**2)

    def log_scale_density(self, a: Values) -> Density:
        mu, s, constant = a.get("mu", 0.0), _sd(a), self._constant(a)

        def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = np.exp(t)
            z = (x - mu) / s
            return constant - 0.5 * z**2 + t, 1 - z * x / s

        return density

    def scipy(self, a: Values) -> Any:
        (lower, upper), mu, s = self.support(a), a.get("mu", 0.0), _sd(a)
        return scipy.stats.truncnorm((lower - mu) / s, (upper - mu) / s, loc=mu, scale=s)

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.SQUARE: -0.5 * _sd(a) ** -2.0, terms.PLACE: a.get("mu", 0.0)}


class Uniform(Kind):
    """From lower to upper."""

    arguments, real = ("lower", "upper"), ("lower", "upper")

    def support(self, a: Values) -> tuple[float, float]:
        return a.get("lower", 0.0), a.get("upper", 1.0)

    def log_density(self, a: Values) -> Density:
        lower, upper = self.support(a)
        return lambda x: (np.full_like(x, -np.log(upper - lower)), np.zeros_like(x))

    def log_scale_density(self, a: Values) -> Density:
        lower, upper = self.support(a)
        return lambda t: (t - np.log(upper - lower), np.ones_like(t))

    def scipy(self, a: Values) -> Any:
        return scipy.stats.uniform(a.get("lower", 0.0), a.get("upper", 1.0) - a.get("lower", 0.0))

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {}


class VonMises(Kind):
    """On the circle, from -pi to pi: mean direction mu, concentration kappa."""

    arguments, real = ("mu", "kappa"), ("mu",)

    def support(self, a: Values) -> tuple[float, float]:
        return -np.pi, np.pi

    def log_density(self, a: Values) -> Density:
        mu, kappa = a.get("mu", 0.0), a.get("kappa", 1.0)
        constant = -np.log(2 * np.pi * special.i0e(kappa)) - kappa
        return lambda x: (constant + kappa * np.cos(x - mu), -kappa * np.sin(x - mu))


class Wald(Kind):
    """Inverse Gaussian: mean mu, shape lam = mu phi, moved by alpha."""

    arguments = ("mu", "lam", "phi", "alpha")

    def support(self, a: Values) -> tuple[float, float]:
        return a.get("alpha", 0.0), np.inf

    def log_density(self, a: Values) -> Density:
        mu = a["mu"] if "mu" in a else a["lam"] / a["phi"]
        lam, start = mu * a["phi"] if "phi" in a else a.get("lam", 1.0), a.get("alpha", 0.0)

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            y = x - start
            value = 0.5 * np.log(lam / (2 * np.pi)) - 1.5 * np.log(y) - lam * (y - mu) ** 2 / (2 * mu**2 * y)
            return value, -1.5 / y - lam / (2 * mu**2) * (1 - (mu / y) ** 2)

        return density


class Weibull(Kind):
    """Shape alpha, scale beta."""

    arguments = ("alpha", "beta")

    def support(self, a: Values) -> tuple[float, float]:
        return POSITIVE

    def log_density(self, a: Values) -> Density:
        shape, scale = a["alpha"], a["beta"]

        def density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = x / scale
            value = np.log(shape / scale) + special.xlogy(shape - 1, z) - z**shape
            return value, (shape - 1 - shape * z**shape) / x

        return density

    def scipy(self, a: Values) -> Any:
        return scipy.stats.weibull_min(a["alpha"], scale=a["beta"])

    def from_shape(self, shape: float, scale: float) -> Values:
        return {"alpha": shape, "beta": scale}

    def as_terms(self, a: Values) -> Mapping[int, float]:
        return {terms.LOGX: a["alpha"] - 1, terms.POWER: -(a["beta"] ** -a["alpha"]), terms.EXPONENT: a["alpha"]}


CATALOGUE: dict[str, Kind] = {kind.__name__: kind() for kind in Kind.__subclasses__()}
_UNKNOWN = Kind()  # of a name that is not in the catalogue, as a bambi.Prior may have: nothing is known of it


@dataclass(frozen=True)
class Distribution:
    """A prior: a kind's name, which is PyMC's, and its arguments by name.  A name that is no kind's may come from a
    bambi.Prior or a file."""

    name: str
    args: tuple[tuple[str, float | tuple[float, ...] | Distribution], ...] = ()

    @property
    def kind(self) -> Kind:
        """What is known of distributions of this name."""
        return CATALOGUE.get(self.name, _UNKNOWN)

    def get(self, name: str) -> float | tuple[float, ...] | Distribution | None:
        """One argument's value, None when it was not given."""
        return dict(self.args).get(name)

    @property
    def nested(self) -> bool:
        """Whether an argument has a prior of its own."""
        return any(isinstance(value, Distribution) for _, value in self.args)

    @property
    def values(self) -> dict[str, float] | None:
        """The arguments where all are single numbers; else None."""
        found = {name: value for name, value in self.args if isinstance(value, float)}
        return found if len(found) == len(self.args) else None

    @property
    def support(self) -> tuple[float, float]:
        """The ends of the interval in which the density is positive; of all numbers where an end is not a number."""
        numbers = {name: value for name, value in self.args if isinstance(value, float)}
        open_ended = {"lower": -np.inf, "upper": np.inf}
        given = {name: open_ended.get(name, np.nan) for name, _ in self.args} | numbers
        try:
            return self.kind.support(given)
        except KeyError:  # an end that was not given: Pareto() begins at a positive number all the same
            return POSITIVE

    @property
    def positive(self) -> bool:
        """Whether every draw is positive, as a standard deviation must be."""
        return not self.support[0] < 0

    def column(self, position: int) -> Distribution:
        """The prior of one coefficient of a term, where arguments were given per coefficient."""

        def own(value: float | tuple[float, ...] | Distribution) -> float | Distribution:
            if isinstance(value, tuple):
                return value[position]
            return value.column(position) if isinstance(value, Distribution) else value

        return Distribution(self.name, tuple((name, own(value)) for name, value in self.args))

    def text(self, digits: int = 10) -> str:
        """``HalfStudentT(nu=4, sigma=60)``, what ``priors=`` understands, with so many digits."""
        return f"{self.name}({', '.join(f'{name}={show(value, digits)}' for name, value in self.args)})"

    def __str__(self) -> str:
        return self.text()

    def log_density(self) -> Density | None:
        """x -> log p(x), -inf outside the support, and its derivative, nan there; None where only the graph has it."""
        density = self._of_values(self.kind.log_density)
        if density is None:
            return None
        inside, (lower, upper) = density, self.support

        def whole(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with np.errstate(all="ignore"):  # outside the support
                value, slope = inside(np.asarray(x, dtype=float))
            allowed = (x >= lower) & (x <= upper)
            return np.where(allowed, value, -np.inf), np.where(allowed, slope, np.nan)

        return whole

    def log_scale_density(self) -> Density | None:
        """t -> log density of the logarithm of an sd, and its derivative; None where only the graph has it."""
        density = self._of_values(self.kind.log_scale_density)
        if density is None:
            return None
        lower, upper = max(self.support[0], 0.0), self.support[1]
        if (lower, upper) != POSITIVE:
            density = _within(density, lower, upper)
        somewhere = lower + 1.0 if not np.isfinite(upper) else (lower + upper) / 2
        with np.errstate(all="ignore"):  # arguments that make no distribution
            found = density(np.array([np.log(somewhere)]))[0]
        return density if np.isfinite(found).all() else None

    def _of_values(self, make: Callable[[Values], Density | None]) -> Density | None:
        values = self.values
        try:
            with np.errstate(all="ignore"):
                return None if values is None else make(values)
        except (KeyError, ZeroDivisionError):  # an argument is lacking, or 0
            return None

    def scipy(self) -> Any:
        """A frozen scipy distribution.  UnsupportedError for what is improper, nested, vector-valued or has none."""
        if self.kind.improper:
            raise UnsupportedError(
                f"{self} is improper: it gives every value the same weight, so it cannot be drawn from"
            )
        values = self.values
        try:
            found = None if values is None else self.kind.scipy(values)
        except (KeyError, ZeroDivisionError) as error:
            takes = ", ".join(self.kind.arguments)
            raise UnsupportedError(f"{self} lacks an argument ({self.name} takes {takes})") from error
        if found is None:
            raise UnsupportedError(f"{self} is not evaluated here, only on the graph")
        if not np.isfinite(found.ppf(0.5)):
            raise UnsupportedError(f"{self} has no median: its arguments do not make a distribution")
        return found

    def to_bambi(self) -> Any:
        """The same as a ``bambi.Prior``."""
        import bambi
        import pymc

        found = getattr(pymc, self.name, None)
        if not (
            isinstance(found, type) and found.__module__.startswith("pymc.distributions.")
        ):  # a name from a file, perhaps
            raise UnsupportedError(f"the prior {self} is no distribution of PyMC's")
        args: dict[str, Any] = {}
        for name, value in self.args:
            if isinstance(value, Distribution):
                args[name] = value.to_bambi()
            else:
                args[name] = np.array(value) if isinstance(value, tuple) else value
        return bambi.Prior(self.name, **args)

    @staticmethod
    def from_bambi(prior: Any, key: str) -> Distribution:
        """A ``bambi.Prior``, or a record, as a record.  UnsupportedError for one made by a function or of variables."""
        if isinstance(prior, Distribution):
            return prior
        if not is_bambi_prior(prior) or getattr(prior, "dist", None) is not None:
            raise UnsupportedError(f"the prior of {key!r} is {prior}, which only the graph can evaluate")
        args: list[tuple[str, Any]] = []
        for name, value in prior.args.items():
            if is_bambi_prior(value):
                args.append((name, Distribution.from_bambi(value, key)))
                continue
            try:
                number = np.asarray(value, dtype=float)
            except (TypeError, ValueError):  # a variable of PyMC
                raise UnsupportedError(f"the prior of {key!r} is {prior}, which only the graph can evaluate") from None
            args.append((name, number.item() if number.size == 1 else tuple(number.ravel().tolist())))
        return Distribution(prior.name, tuple(args))


def is_bambi_prior(value: Any) -> bool:
    """Whether this is a ``bambi.Prior``, without importing Bambi."""
    return any(cls.__module__.split(".")[0] == "bambi" and cls.__name__ == "Prior" for cls in type(value).__mro__)


def scipy_or_none(prior: Distribution | None) -> Any:
    """The prior's scipy distribution, None where there is none."""
    try:
        return None if prior is None else prior.scipy()
    except UnsupportedError:
        return None


def show(value: float | tuple[float, ...] | Distribution, digits: int = 10) -> str:
    """One argument as it is written: ``0.5``, ``[1, 2]``, ``HalfNormal(sigma=50)``."""
    if isinstance(value, Distribution):
        return value.text(digits)
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{one:.{digits}g}" for one in value) + "]"
    return f"{value:.{digits}g}"


def _within(inside: Density, lower: float, upper: float) -> Density:
    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = inside(t)
        with np.errstate(all="ignore"):  # an upper end below 0
            allowed = (t >= (np.log(lower) if lower > 0 else -np.inf)) & (t <= np.log(upper))
        return np.where(allowed, value, -np.inf), slope

    return density
