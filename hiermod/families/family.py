"""A family of distributions of the response: one record of all that the rest of hiermod needs to know of it.

McCullagh and Nelder (1989), Generalized Linear Models, 2nd ed., chapter 2; parametrised as in Bambi and PyMC.  The
``location`` is the parameter that the formula describes, after the inverse link; ``further`` the others by Bambi's
names, and ``trials`` of counts out of trials.  What a family lacks is None: nothing is guessed for it.

A family is one file in this folder, whose record stands in the list of catalogue.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from hiermod.families.row_function import RowFunction

Kind = Literal["continuous", "count", "binary", "proportion", "ordinal"]
Further = Mapping[str, np.ndarray]
Density = Callable[[np.ndarray, np.ndarray, Further], np.ndarray]  # of y, location and further parameters
Moment = Callable[[np.ndarray, Further], np.ndarray]  # of location and further parameters
Draw = Callable[[np.ndarray, Further, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the response besides the location.

    link: of a formula of its own (parameters=), Bambi's default.  formula: whether it may have one.  support: the
    values it can have; "cuts" are a list of numbers, "ascending" ones each above the one before.  prior: Bambi's
    default as ``priors=`` understands it; that of sigma is in units of sd(y) where the family's default_scale is
    "response", and the locations of thresholds are priors/model_priors.py's."""

    name: str  # Bambi's
    link: str = "log"
    support: Literal["positive", "share", "cuts", "ascending"] = "positive"
    symbol: str = ""  # in equations, where it is not the name
    formula: bool = True
    prior: str = "HalfCauchy(beta=1)"
    limit: str = ""  # the family without it, to which this one comes where it grows without end: "family='poisson'"

    @property
    def written(self) -> str:
        """The symbol in equations."""
        return self.symbol or self.name


@dataclass(frozen=True, slots=True)
class Support:
    """The values that a response can have, and what to say of one that cannot."""

    outside: Callable[[np.ndarray], np.ndarray]  # (n,) numbers -> which the family gives no probability
    words: str  # after "family 'poisson' is": "for counts, whole numbers from 0 up"
    advice: str  # what to do instead


@dataclass(frozen=True, slots=True)
class Notation:
    """A family in equations: the distribution's name, the location's symbol, the parameters after it, Bambi's names.

    Ordinal families have the probability that the link is taken of instead of a distribution."""

    distribution: str
    location: str = "mu"
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkVariance:
    """The variance that the law of the response adds on the scale of the linear predictor, for icc() and r2().

    Nakagawa, Johnson and Schielzeth (2017, J. R. Soc. Interface 14).  variance: of the expected count (s,) and the
    further parameters, each (s,).  count: which one: "null", of a typical group in a model without predictors, or
    "rows", the mean over the rows of a typical group; None where it does not matter.  words: may name {link} and
    {count}."""

    variance: Callable[[np.ndarray, Further], np.ndarray]
    words: str
    count: Literal["null", "rows"] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Derivatives:
    """Derivatives of the log likelihood with respect to eta, each (n,)."""

    score: np.ndarray  # first derivative
    observed: np.ndarray  # minus the second derivative
    expected: np.ndarray  # its expectation, the weight of Fisher scoring
    slope: np.ndarray  # derivative of the determinant's weight
    determinant: np.ndarray | None = None  # the weight in Laplace's determinant; None: ``expected``, as glmer has it

    @property
    def weight(self) -> np.ndarray:
        """In Laplace's determinant."""
        return self.expected if self.determinant is None else self.determinant


class PredictorLikelihood(Protocol):
    """The log likelihood as a function of the linear predictor, concave in it: what maximum likelihood needs.

    y: responses; n: trials (1 where there are none).  eta is (n,), in ``rows`` and ``score`` also (n, m) with y and n
    of shape (n, 1).  In forms that stay exact where a probability is as good as 0 or 1."""

    links: tuple[str, ...]
    canonical: str  # the link with which observed and expected information are the same

    def refusal(self, response: str, y: np.ndarray) -> str:
        """What to say, after the family's name, of a response that it cannot have; "" for one that it can."""
        ...

    def constant(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """(n,) what does not depend on eta."""
        ...

    def rows(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """Log likelihood of each row, without its constant."""
        ...

    def score(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """d log likelihood / d eta of each row."""
        ...

    def derivatives(self, link: str, y: np.ndarray, n: np.ndarray, eta: np.ndarray) -> Derivatives:
        """Score, both informations and the slope of the expected one."""
        ...

    def start(self, link: str, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """(n,) linear predictors near the data (R's mustart): where the first iteration is made."""
        ...

    def saturated(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """(n,) log likelihood of each row at its own best mean, without its constant."""
        ...

    def directions(self, y: np.ndarray, n: np.ndarray) -> np.ndarray:
        """(n,) the direction in which eta may go for ever without loss: 1, -1, or 0 for neither."""
        ...

    def law(self, mean: np.ndarray, n: np.ndarray) -> Any:
        """scipy's frozen distribution of the response."""
        ...


def the_location(location: np.ndarray, _: Further) -> np.ndarray:
    """The mean of a family whose location it is."""
    return location


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Family:
    """All that is known of a family.

    Counts out of trials: the location is the probability of a success, y, ``logpdf`` and ``draw`` are of successes,
    ``mean`` and ``variance`` of their proportion.  Ordinal families have ``categories`` instead of a law of numbers."""

    name: str  # Bambi's
    kind: Kind
    links: tuple[str, ...]  # of the location; the first is the default
    notation: Notation
    parameters: tuple[Parameter, ...] = ()  # besides the location
    also_called: tuple[str, ...] = ()  # elsewhere; no near misspellings, which are found without
    support: Support | None = None  # None: every number
    example: tuple[float, float] = (0.0, 1.0)  # two different responses that it can have

    logpdf: Density | None = None  # log density, or log probability; -inf outside the support
    draw: Draw | None = None  # one response per location
    mean: Moment | None = the_location
    variance: Moment | None = None
    categories: Callable[[np.ndarray], np.ndarray] | None = None  # F(threshold - eta) (..., K - 1) -> P(y = k) (..., K)

    # Of circular responses: y in the turn nearest to the location, so that no interval breaks where the circle is cut.
    around: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    likelihood: PredictorLikelihood | None = None  # maximum likelihood as glmer's, where ``rows`` alone is glmmTMB's
    law: Callable[[np.ndarray, Further], Any] | None = None  # scipy's frozen distribution of a response
    # By link: the log density of a row in the linear predictor and unconstrained parameters, with its derivatives.
    rows: Mapping[str, RowFunction] = field(default_factory=dict)
    # y = mean + e, e ~ Normal(0, sigma^2 / w): residuals with one sd, prior weights and known sds have a meaning
    normal_errors: bool = False
    own_zeros: bool = False  # zeros have a parameter of their own
    link_variance: Mapping[str, LinkVariance] = field(default_factory=dict)  # by link

    # The family for Bambi, where it has none of the name: a function, so that Bambi is imported only when it is needed.
    bambi: Callable[[], Any] | None = None
    # What Bambi's default priors are scaled by: sd(y), the latent scale of a logit or probit link, or neither.
    default_scale: Literal["response", "latent"] | None = None

    @property
    def ordinal(self) -> bool:
        """Whether responses are ordered categories; the intercepts are then the thresholds between them."""
        return self.kind == "ordinal"

    @property
    def discrete(self) -> bool:
        """Whether responses are counts, 0 and 1, or categories: log densities are log probabilities."""
        return self.kind != "continuous"

    @property
    def out_of_trials(self) -> bool:
        """Whether responses are counts out of trials."""
        return self.kind == "proportion"

    @property
    def location_is_mean(self) -> bool:
        """Whether the expected response is the inverse link of the linear predictor."""
        return self.mean is the_location

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Bambi's names of the parameters besides the location."""
        return tuple(parameter.name for parameter in self.parameters)

    def parameter(self, name: str) -> Parameter:
        """One of them by Bambi's name."""
        return next(parameter for parameter in self.parameters if parameter.name == name)

    @property
    def drawn(self) -> bool:
        """Whether new responses are drawn in numpy, without a graph."""
        return self.draw is not None or self.categories is not None

    @property
    def pearson_residuals(self) -> bool:
        """Whether (y - mean) / sd of y, where only the mean decides the sd, shows what is wrong with a model."""
        return self.likelihood is not None and self.kind != "binary"

    def linear(self, link: str) -> bool:
        """Whether this is the linear model, Normal with identity link: REML's, whose effects integrate out."""
        return self.normal_errors and link == "identity"

    def generalised(self, link: str) -> bool:
        """Whether maximum likelihood fits it as a generalised linear (mixed) model with this link."""
        return link in self.generalised_links

    @property
    def generalised_links(self) -> tuple[str, ...]:
        """The links with which maximum likelihood fits it as a generalised linear (mixed) model."""
        if self.likelihood is not None:
            return self.likelihood.links
        return tuple(link for link in self.links if link in self.rows and not self.linear(link))


def inside(support: Support, logs: Density) -> Density:
    """The log density within a support, -inf outside."""

    def density(y: np.ndarray, location: np.ndarray, further: Further) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(support.outside(y), -np.inf, logs(y, location, further))

    return density


INTEGERS = Support(
    lambda y: (y < 0) | (y != np.round(y)),
    "for counts, whole numbers from 0 up",
    "For measurements choose 'gaussian', or 'gamma' for positive ones; for counts out of a known total write "
    "p(successes, trials) with family='binomial'",
)
POSITIVE = Support(
    lambda y: y <= 0,
    "for positive numbers",
    "Where 0 is a value of its own choose 'hurdle_gamma'; where negative values occur, 'gaussian' or 't'",
)
