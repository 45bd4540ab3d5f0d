"""The log likelihood of a design's response as a function of the linear predictor, under a family that has one.

What the family is, its record knows (families/family.py); here stand the data: y, and the trials of counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hiermod.engines.likelihood import row_likelihood
from hiermod.engines.likelihood.row_likelihood import RowLikelihood
from hiermod.errors import DataError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.family import Derivatives, Family, PredictorLikelihood
from hiermod.families.links import bounded_inverse_link
from hiermod.formula.design import Design, FrozenArrays


@dataclass(frozen=True, eq=False)
class Likelihood(FrozenArrays):
    """y given eta and the family's further parameters: successes out of trials (trials 1 for bernoulli), counts, ..."""

    family: str
    link: str
    y: np.ndarray  # (n,)
    trials: np.ndarray  # (n,) ones where there are none
    auxiliary: tuple[float, ...] = ()  # further parameters of the family, on scales without ends
    constant: np.ndarray = field(init=False)  # (n,) what does not depend on eta

    def __post_init__(self) -> None:
        object.__setattr__(self, "constant", self._law.constant(self.y, self.trials))
        super().__post_init__()

    @property
    def record(self) -> Family:
        """The family."""
        return FAMILIES[self.family]

    @property
    def _law(self) -> PredictorLikelihood | RowLikelihood:
        own = self.record.likelihood
        return self._rows if own is None else own

    @property
    def _rows(self) -> RowLikelihood:
        return RowLikelihood(self.record, self.link, self.auxiliary)

    def at(self, auxiliary: np.ndarray | tuple[float, ...]) -> Likelihood:
        """The same data with these further parameters."""
        return replace(self, auxiliary=tuple(float(one) for one in auxiliary))

    @property
    def auxiliary_names(self) -> tuple[str, ...]:
        """Bambi's names of the further parameters."""
        return self._rows.functions.names if self.record.likelihood is None else ()

    def natural(self, k: int, a: float) -> float:
        """The k-th further parameter on its own scale."""
        return float(self._rows.functions.natural(k, a))

    def natural_slope(self, k: int, a: float) -> float:
        """Its derivative there."""
        return float(self._rows.functions.natural_slope(k, a))

    @property
    def further(self) -> dict[str, np.ndarray]:
        """What the family's density, draws and moments take besides the location."""
        return self._rows.further(self.trials) if self.record.likelihood is None else {"trials": self.trials}

    def by_auxiliary(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, n) each: derivatives by the further parameters of the log likelihood, of its score and its curvature."""
        if self.record.likelihood is not None:
            none = np.zeros((0, len(eta)))
            return none, none, none
        return self._rows.by_auxiliary(self.y, self.trials, eta)

    def refusal(self, response: str) -> str:
        """What to say, after the family's name, of a response that it cannot have; "" for one that it can."""
        return self._law.refusal(response, self.y)

    @property
    def canonical(self) -> bool:
        """Observed and expected information are the same."""
        return self.link == self._law.canonical

    def rows(self, eta: np.ndarray) -> np.ndarray:
        """Log likelihood of each row, without its constant.  eta (n,) or (n, m): m linear predictors for each row."""
        return self._law.rows(self.link, *self._shaped(eta), eta)

    def loglik(self, eta: np.ndarray) -> float:
        """Sum over rows, constants included.  -inf or nan where eta is out of reach."""
        return float((self.rows(eta) + self.constant).sum())

    def score(self, eta: np.ndarray) -> np.ndarray:
        """d log likelihood / d eta of each row; eta as in ``rows``."""
        return self._law.score(self.link, *self._shaped(eta), eta)

    def derivatives(self, eta: np.ndarray) -> Derivatives:
        """Score, both informations and the slope of the expected one, at eta (n,)."""
        return self._law.derivatives(self.link, self.y, self.trials, eta)

    def location(self, eta: np.ndarray) -> np.ndarray:
        """The parameter that the formula describes: a probability, a mean, ..."""
        return bounded_inverse_link(self.link, eta)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Expected response: a probability, or a count."""
        location = self.location(eta)
        if self.record.location_is_mean or self.record.mean is None:
            return location
        return np.asarray(self.record.mean(location, self.further))

    def informative(self) -> np.ndarray:
        """(n,) whether a row says anything about the linear predictor."""
        law = self._law
        return law.informative(self.y, self.trials) if isinstance(law, RowLikelihood) else np.ones(len(self.y), bool)

    @property
    def unit(self) -> float:
        """One on the scale of the linear predictor: the spread of responses that it shares units with, else 1."""
        shared = self.link == "identity" and self.record.support is None
        spread = float(np.std(self.y)) if shared else 1.0
        return spread if spread > 0 else 1.0

    def start(self) -> np.ndarray:
        """(n,) linear predictors near the data (R's mustart): where the first iteration is made."""
        return self._law.start(self.link, self.y, self.trials)

    def unit_deviances(self, eta: np.ndarray) -> np.ndarray:
        """(n,) twice the log likelihood of the saturated model less that at eta: R's dev.resids."""
        return np.maximum(2.0 * (self._law.saturated(self.y, self.trials) - self.rows(eta)), 0.0)

    def directions(self) -> np.ndarray:
        """(n,) the direction in which eta may go for ever without loss: 1, -1, or 0 for neither."""
        return self._law.directions(self.y, self.trials)

    def variance(self, eta: np.ndarray) -> np.ndarray:
        """(n,) variance of the response given the linear predictor; of counts out of trials, of their proportion."""
        variance = self.record.variance
        if variance is None:
            raise UnsupportedError(f"family {self.family!r} has no variance here")
        return variance(self.location(eta), self.further)

    def draw(self, eta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) new responses; of counts out of trials the successes."""
        draw = self.record.draw
        if draw is None:
            raise UnsupportedError(f"responses of family {self.family!r} are not drawn here")
        return draw(self.location(eta), self.further, rng)

    def law(self, eta: np.ndarray, trials: np.ndarray) -> Any:
        """scipy's distribution of a response; of counts out of trials, of the successes."""
        return self._law.law(self.location(eta), trials)

    def _shaped(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self.y, self.trials) if eta.ndim == 1 else (self.y[:, None], self.trials[:, None])


def likelihood_of(design: Design, family: str, link: str) -> Likelihood:
    """The design's response under a family and link.

    UnsupportedError for a family or link without maximum likelihood here; DataError for a response it cannot have."""
    record = FAMILIES.get(family)
    if record is None or not record.generalised(link):
        known = "; ".join(
            f"{name}: {', '.join(one.generalised_links)}" for name, one in FAMILIES.items() if one.generalised_links
        )
        links = record.generalised_links if record is not None else ()
        instead = f"Write link={' or '.join(map(repr, links))}, which is another model. " if links else ""
        raise UnsupportedError(
            f"ml() has no family {family!r} with link {link!r}. {instead}It has gaussian with identity link; {known}. "
            "fit() fits the others by Bayes"
        )
    if design.formulas:
        raise UnsupportedError(
            f"ml() has no formulas for other parameters ({', '.join(design.formulas)}); fit() has: Bayes by NUTS"
        )
    if design.special is not None:
        raise UnsupportedError(
            f"the response {design.response!r} weighs or censors the log likelihood of each row: fit() can, ml() cannot"
        )
    y = np.asarray(design.y, dtype=float)
    if record.out_of_trials and design.trials is None:
        raise DataError(
            f"family {family!r} needs counts: write p(successes, trials) or cbind(successes, failures) left of '~'; "
            "for a response of 0 and 1 use family='bernoulli'"
        )
    trials = np.ones(len(y)) if not record.out_of_trials else np.asarray(design.trials, dtype=float)
    found = Likelihood(family, link, y, trials, (0.0,) * (0 if record.likelihood else len(record.rows[link].auxiliary)))
    refusal = found.refusal(design.response)
    if refusal:
        raise DataError(f"family {family!r} {refusal}")
    return found


def first_auxiliary(likelihood: Likelihood, offset: np.ndarray) -> tuple[float, ...]:
    """The family's further parameters in a model with nothing but an intercept: where a search starts."""
    if not likelihood.auxiliary:
        return ()
    record, y, trials = likelihood.record, likelihood.y, likelihood.trials
    return row_likelihood.first_auxiliary(record, likelihood.link, y, trials, offset)
