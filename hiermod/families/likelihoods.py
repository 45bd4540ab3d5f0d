"""Binomial, Bernoulli and Poisson likelihoods of a linear predictor, with the derivatives that fitting needs.

McCullagh and Nelder (1989), Generalized Linear Models, 2nd ed., chapters 2, 4 and 6.  Everything is a function of eta,
in forms that stay exact where a probability is as good as 0 or 1.  Constants (binomial coefficients, y!) are kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from hiermod.errors import DataError, UnsupportedError, listing
from hiermod.formula.design import Design, FrozenArrays

LINKS = {"bernoulli": ("logit", "probit", "cloglog"), "binomial": ("logit", "probit", "cloglog"), "poisson": ("log",)}
CANONICAL = ("logit", "log")
FAR = 700.0  # a linear predictor beyond this overflows exp
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False, slots=True)
class Derivatives:
    """Derivatives of the log likelihood with respect to eta, each (n,)."""

    score: np.ndarray  # first derivative
    observed: np.ndarray  # minus the second derivative
    expected: np.ndarray  # its expectation, the weight of Fisher scoring
    slope: np.ndarray  # derivative of ``expected``


@dataclass(frozen=True, eq=False)
class Likelihood(FrozenArrays):
    """y given eta: successes out of trials (trials 1 for bernoulli), or counts."""

    family: str
    link: str
    y: np.ndarray  # (n,)
    trials: np.ndarray  # (n,) ones for bernoulli and poisson
    constant: np.ndarray = field(init=False)  # (n,) what does not depend on eta

    def __post_init__(self) -> None:
        if self.family == "poisson":
            constant = -special.gammaln(self.y + 1.0)
        else:
            n, k = self.trials, self.y
            constant = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
        object.__setattr__(self, "constant", constant)
        super().__post_init__()

    @property
    def canonical(self) -> bool:
        """Observed and expected information are the same."""
        return self.link in CANONICAL

    def rows(self, eta: np.ndarray) -> np.ndarray:
        """Log likelihood of each row, without its constant.  eta (n,) or (n, m): m linear predictors for each row."""
        y, n = self._shaped(eta)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.link == "log":
                return y * eta - np.exp(eta)
            if self.link == "logit":
                return y * eta - n * np.logaddexp(0.0, eta)
            if self.link == "probit":
                return y * special.log_ndtr(eta) + (n - y) * special.log_ndtr(-eta)
            t = np.exp(eta)
            return np.where(y > 0, y * _log1mexp(t), 0.0) - (n - y) * t

    def loglik(self, eta: np.ndarray) -> float:
        """Sum over rows, constants included.  -inf or nan where eta is out of reach."""
        return float((self.rows(eta) + self.constant).sum())

    def score(self, eta: np.ndarray) -> np.ndarray:
        """d log likelihood / d eta of each row; eta as in ``rows``."""
        y, n = self._shaped(eta)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.link == "log":
                return y - np.exp(eta)
            if self.link == "logit":
                return y - n * special.expit(eta)
            if self.link == "probit":
                up, down = _mills(eta), _mills(-eta)
                return y * up - (n - y) * down
            t, r = _cloglog_parts(eta)
            return y * r - (n - y) * t

    def derivatives(self, eta: np.ndarray) -> Derivatives:
        """Score, both informations and the slope of the expected one, at eta (n,)."""
        y, n = self.y, self.trials
        with np.errstate(over="ignore", invalid="ignore"):
            if self.link == "log":
                mean = np.exp(eta)
                return Derivatives(y - mean, mean, mean, mean)
            if self.link == "logit":
                mean = special.expit(eta)
                w = n * mean * special.expit(-eta)
                return Derivatives(y - n * mean, w, w, w * (1.0 - 2.0 * mean))
            if self.link == "probit":
                up, down = _mills(eta), _mills(-eta)
                observed = y * up * (eta + up) + (n - y) * down * (down - eta)
                expected = n * up * down
                return Derivatives(y * up - (n - y) * down, observed, expected, expected * (down - up - 2.0 * eta))
            t, r = _cloglog_parts(eta)
            observed = (n - y) * t + y * r * (t + r - 1.0)
            expected = n * t * r
            return Derivatives(y * r - (n - y) * t, observed, expected, expected * (2.0 - t - r))

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Expected response: a probability, or a count."""
        return inverse_link(self.link, eta)

    def start(self) -> np.ndarray:
        """(n,) linear predictors near the data (R's mustart): where the first iteration is made."""
        if self.family == "poisson":
            return np.log(self.y + 0.1)
        share = (self.y + 0.5) / (self.trials + 1.0)
        if self.link == "logit":
            return special.logit(share)
        return special.ndtri(share) if self.link == "probit" else np.log(-np.log1p(-share))

    def unit_deviances(self, eta: np.ndarray) -> np.ndarray:
        """(n,) twice the log likelihood of the saturated model less that at eta: R's dev.resids."""
        return np.maximum(2.0 * (self._saturated() - self.rows(eta)), 0.0)

    def _saturated(self) -> np.ndarray:
        y, n = self.y, self.trials
        if self.family == "poisson":
            return special.xlogy(y, y) - y
        return special.xlogy(y, y / n) + special.xlogy(n - y, 1.0 - y / n)

    def directions(self) -> np.ndarray:
        """(n,) the direction in which eta may go for ever without loss: 1, -1, or 0 for neither."""
        if self.family == "poisson":
            return np.where(self.y == 0, -1, 0)
        return np.where(self.y == 0, -1, np.where(self.y == self.trials, 1, 0))

    def _shaped(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self.y, self.trials) if eta.ndim == 1 else (self.y[:, None], self.trials[:, None])


def inverse_link(link: str, eta: np.ndarray) -> np.ndarray:
    """Mean at a linear predictor."""
    if link == "log":
        return np.exp(np.minimum(eta, FAR))
    if link == "logit":
        return special.expit(eta)
    return special.ndtr(eta) if link == "probit" else -np.expm1(-np.exp(np.minimum(eta, FAR)))


def _mills(eta: np.ndarray) -> np.ndarray:
    """phi(eta) / Phi(eta)."""
    return np.exp(-0.5 * eta * eta - HALF_LOG_2PI - special.log_ndtr(eta))


def _log1mexp(t: np.ndarray) -> np.ndarray:
    """log(1 - exp(-t)), t > 0."""
    with np.errstate(divide="ignore"):
        return np.where(t < 0.7, np.log(-np.expm1(-t)), np.log1p(-np.exp(-t)))


def _cloglog_parts(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """t = exp(eta) and t / (exp(t) - 1), which is 1 where t vanishes."""
    t = np.exp(np.minimum(eta, FAR))
    return t, np.where(t > 0, t / np.expm1(np.where(t > 0, t, 1.0)), 1.0)


def likelihood_of(design: Design, family: str, link: str) -> Likelihood:
    """The design's response under a family and link.

    UnsupportedError for a family or link without maximum likelihood here; DataError for a response it cannot have."""
    if family not in LINKS or link not in LINKS[family]:
        known = "; ".join(f"{name}: {', '.join(links)}" for name, links in LINKS.items())
        raise UnsupportedError(
            f"ml() has no family {family!r} with link {link!r}. It has gaussian with identity link; {known}. "
            "fit() fits the others by Bayes"
        )
    if design.special is not None:
        raise UnsupportedError(
            f"the response {design.response!r} weighs or censors the log likelihood of each row: fit() can, ml() cannot"
        )
    y = np.asarray(design.y, dtype=float)
    if family == "binomial" and design.trials is None:
        raise DataError(
            "family 'binomial' needs counts: write p(successes, trials) or cbind(successes, failures) left of '~'; "
            "for a response of 0 and 1 use family='bernoulli'"
        )
    if family == "bernoulli" and not np.isin(y, (0.0, 1.0)).all():
        found = listing([f"{value:g}" for value in np.unique(y[~np.isin(y, (0.0, 1.0))])], 3)
        raise DataError(f"family 'bernoulli' needs a response of 0 and 1; {design.response!r} holds {found} too")
    if family == "poisson" and ((y < 0).any() or (y != np.round(y)).any()):
        raise DataError(f"family 'poisson' needs counts 0, 1, 2, ...; {design.response!r} has other values")
    trials = np.ones(len(y)) if family != "binomial" else np.asarray(design.trials, dtype=float)
    return Likelihood(family, link, y, trials)
