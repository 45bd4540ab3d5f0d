"""Inverse links, expected and random responses of every family, in numpy, parametrised as in Bambi and PyMC.

``location`` is the parameter that the formula describes, after the inverse link; ``further`` the others by Bambi's
names.  In zero-inflated families psi is the share of rows that are *not* structural zeros, in hurdle families the
probability of a response above 0 (PyMC's docs of ZeroInflatedPoisson and HurdlePoisson)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import special, stats

from hiermod.errors import UnsupportedError

Arrays = Mapping[str, np.ndarray]
LARGEST_MEAN = 9e18  # numpy draws no larger counts
INVERSE_LINKS = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
    "inverse": lambda eta: 1 / eta,
    "inverse_squared": lambda eta: 1 / np.sqrt(eta),
}
# In these the linear predictor is that of one part of the response (positive values, a threshold), not of its mean.
NOT_THE_MEAN = ("zero_inflated_", "hurdle_", "cumulative", "sratio")


def check_mean(family: str) -> None:
    """UnsupportedError for a family whose expected response is not the inverse link of the linear predictor."""
    if family.startswith(NOT_THE_MEAN):
        raise UnsupportedError(
            f"the expected response of family {family!r} is not a function of the linear predictor alone, and this is "
            "for families where it is: use fit.predict(newdata)"
        )


def inverse_link(link: str, eta: np.ndarray) -> np.ndarray:
    """Expected response at linear predictor ``eta``; UnsupportedError for a link that is not listed."""
    if link not in INVERSE_LINKS:
        raise UnsupportedError(
            f"predictions for link {link!r} are not available here: use model.bambi.predict(fit.idata)"
        )
    return INVERSE_LINKS[link](eta)


def expected(family: str, location: np.ndarray, further: Arrays) -> np.ndarray:
    """E(y) given the parameters, of the shape of ``location``; for binomial the proportion.  Not for ordinal ones."""
    if family.startswith("zero_inflated_"):
        return location * further["psi"]
    if family == "hurdle_gamma":
        return location * further["psi"]
    if family.startswith("hurdle_"):
        with np.errstate(invalid="ignore", divide="ignore"):
            above = -np.expm1(_log_zero(family, location, further))
            mean = np.where(above > 0, location / above, 1.0)  # a count above 0 with a mean of 0 is 1
        return mean * further["psi"]
    return location


def category_probabilities(family: str, link: str, eta: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """P(y = k), (s, m, K), from the linear predictor (s, m) and the thresholds (s, K - 1)."""
    below = inverse_link(link, threshold[:, None, :] - eta[..., None])
    if family == "sratio":  # P(y = k | y >= k)
        reached = np.cumprod(1 - below, axis=-1)
        before = np.concatenate([np.ones((*eta.shape, 1)), reached], axis=-1)
        return np.concatenate([below * before[..., :-1], before[..., -1:]], axis=-1)
    ends = np.concatenate([np.zeros((*eta.shape, 1)), below, np.ones((*eta.shape, 1))], axis=-1)
    return np.maximum(np.diff(ends, axis=-1), 0.0)


def category_draws(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes 0..K-1, (s, m), one for each row of probabilities (s, m, K)."""
    cumulative = np.cumsum(probabilities[..., :-1], axis=-1)
    return (rng.random(probabilities.shape[:-1])[..., None] > cumulative).sum(axis=-1).astype(float)


def response_draws(
    family: str,
    mean: np.ndarray,
    noise: np.ndarray | None,
    trials: np.ndarray | None,
    rng: np.random.Generator,
    counts: bool = False,
    auxiliary: Arrays | None = None,
) -> np.ndarray:
    """One response per location, (draws, rows); for binomial the proportion, or with ``counts`` the successes.

    mean: the location, (draws, rows), which for most families is the mean.  noise: sigma.  auxiliary: the other
    parameters.  Both broadcast with ``mean``.  UnsupportedError where a parameter the family needs is not given."""
    further = dict(auxiliary or {}) | ({} if noise is None else {"sigma": noise})
    if family == "binomial" and trials is not None:
        successes = rng.binomial(np.asarray(trials).astype(int), mean).astype(float)
        return successes if counts else successes / trials
    law = LAWS.get(family)
    missing = [name for name in law[0] if name not in further] if law is not None else []
    if law is None or missing:
        why = f" without {', '.join(missing)}" if missing else ""
        raise UnsupportedError(
            f"responses of family {family!r} are not drawn here{why}: use "
            "model.bambi.predict(fit.idata, kind='response')"
        )
    return np.asarray(law[1](mean, further, rng), dtype=float)


def _poisson(mean: np.ndarray, _: Arrays, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(np.minimum(mean, LARGEST_MEAN)).astype(float)


def _negative_binomial(mean: np.ndarray, further: Arrays, rng: np.random.Generator) -> np.ndarray:
    alpha = np.broadcast_to(further["alpha"], mean.shape)
    return _poisson(mean * rng.standard_gamma(alpha) / alpha, further, rng)


def _gamma(mean: np.ndarray, further: Arrays, rng: np.random.Generator) -> np.ndarray:
    alpha = np.broadcast_to(further["alpha"], mean.shape)
    return rng.standard_gamma(alpha) * mean / alpha


def _beta(mean: np.ndarray, further: Arrays, rng: np.random.Generator) -> np.ndarray:
    kappa, least = further["kappa"], np.finfo(float).tiny
    return rng.beta(np.maximum(mean * kappa, least), np.maximum((1 - mean) * kappa, least))


def _weibull(mean: np.ndarray, further: Arrays, rng: np.random.Generator) -> np.ndarray:
    alpha = np.broadcast_to(further["alpha"], mean.shape)
    return mean / special.gamma(1 + 1 / alpha) * rng.weibull(alpha)


def _log_zero(family: str, mean: np.ndarray, further: Arrays) -> np.ndarray:
    """log P(0) of the count before its zeros are taken away."""
    if family.endswith("negativebinomial"):
        return -further["alpha"] * np.log1p(mean / further["alpha"])
    return -mean


def _above_zero(family: str) -> Callable[[np.ndarray, Arrays, np.random.Generator], np.ndarray]:
    """Counts of a family without zeros, by inversion."""

    def draw(mean: np.ndarray, further: Arrays, rng: np.random.Generator) -> np.ndarray:
        zero = np.exp(_log_zero(family, mean, further))
        u = np.minimum(zero + (1 - zero) * rng.random(mean.shape), 1 - 1e-16)
        if family.endswith("negativebinomial"):
            alpha = np.broadcast_to(further["alpha"], mean.shape)
            found = stats.nbinom.ppf(u, alpha, alpha / (alpha + mean))
        else:
            found = stats.poisson.ppf(u, mean)
        return np.maximum(found, 1.0)  # a mean so small that P(0) rounds to 1

    return draw


def _or_zero(
    draw: Callable[[np.ndarray, Arrays, np.random.Generator], np.ndarray],
) -> Callable[[np.ndarray, Arrays, np.random.Generator], np.ndarray]:
    """The draw with probability psi, else 0."""
    return lambda mean, further, rng: np.where(rng.random(mean.shape) < further["psi"], draw(mean, further, rng), 0.0)


# family -> the further parameters it needs, and one draw per location
LAWS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray, Arrays, np.random.Generator], np.ndarray]]] = {
    "gaussian": (("sigma",), lambda mu, p, rng: mu + p["sigma"] * rng.standard_normal(mu.shape)),
    "t": (
        ("sigma", "nu"),
        lambda mu, p, rng: mu + p["sigma"] * rng.standard_t(np.broadcast_to(p["nu"], mu.shape)),
    ),
    "laplace": (("b",), lambda mu, p, rng: mu + p["b"] * rng.laplace(size=mu.shape)),
    "bernoulli": ((), lambda mu, p, rng: rng.binomial(1, mu)),
    "beta": (("kappa",), _beta),
    "gamma": (("alpha",), _gamma),
    "wald": (("lam",), lambda mu, p, rng: rng.wald(mu, np.broadcast_to(p["lam"], mu.shape))),
    "exponential": ((), lambda mu, p, rng: mu * rng.standard_exponential(mu.shape)),
    "weibull": (("alpha",), _weibull),
    "poisson": ((), _poisson),
    "negativebinomial": (("alpha",), _negative_binomial),
    "zero_inflated_poisson": (("psi",), _or_zero(_poisson)),
    "zero_inflated_negativebinomial": (("alpha", "psi"), _or_zero(_negative_binomial)),
    "hurdle_poisson": (("psi",), _or_zero(_above_zero("poisson"))),
    "hurdle_negativebinomial": (("alpha", "psi"), _or_zero(_above_zero("negativebinomial"))),
    "hurdle_gamma": (("alpha", "psi"), _or_zero(_gamma)),
}
DRAWN = (*LAWS, "binomial", "cumulative", "sratio")  # families whose new responses are drawn here
