"""The log likelihood of a design's response as a function of the linear predictor, under a family that has one.

What the family is, its record knows (families/family.py); here stand the data: y, and the trials of counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hiermod.errors import DataError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.family import Derivatives, Family, PredictorLikelihood
from hiermod.families.links import bounded_inverse_link
from hiermod.formula.design import Design, FrozenArrays


@dataclass(frozen=True, eq=False)
class Likelihood(FrozenArrays):
    """y given eta: successes out of trials (trials 1 for bernoulli), or counts."""

    family: str
    link: str
    y: np.ndarray  # (n,)
    trials: np.ndarray  # (n,) ones where there are none
    constant: np.ndarray = field(init=False)  # (n,) what does not depend on eta

    def __post_init__(self) -> None:
        object.__setattr__(self, "constant", self._law.constant(self.y, self.trials))
        super().__post_init__()

    @property
    def record(self) -> Family:
        """The family."""
        return FAMILIES[self.family]

    @property
    def _law(self) -> PredictorLikelihood:
        law = self.record.likelihood
        if law is None:
            raise UnsupportedError(f"family {self.family!r} has no maximum likelihood here")
        return law

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

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Expected response: a probability, or a count."""
        return bounded_inverse_link(self.link, eta)

    def start(self) -> np.ndarray:
        """(n,) linear predictors near the data (R's mustart): where the first iteration is made."""
        return self._law.start(self.link, self.y, self.trials)

    def unit_deviances(self, eta: np.ndarray) -> np.ndarray:
        """(n,) twice the log likelihood of the saturated model less that at eta: R's dev.resids."""
        return np.maximum(2.0 * (self._law.saturated(self.y, self.trials) - self.rows(eta)), 0.0)

    def directions(self) -> np.ndarray:
        """(n,) the direction in which eta may go for ever without loss: 1, -1, or 0 for neither."""
        return self._law.directions(self.y, self.trials)

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """(n,) variance of the response given its mean; of counts out of trials, of their proportion."""
        variance = self.record.variance
        if variance is None:
            raise UnsupportedError(f"family {self.family!r} has no variance here")
        return variance(mean, {"trials": self.trials})

    def draw(self, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) new responses; of counts out of trials the successes."""
        draw = self.record.draw
        if draw is None:
            raise UnsupportedError(f"responses of family {self.family!r} are not drawn here")
        return draw(mean, {"trials": self.trials}, rng)

    def law(self, mean: np.ndarray, trials: np.ndarray) -> Any:
        """scipy's distribution of a response; of counts out of trials, of the successes."""
        return self._law.law(mean, trials)

    def _shaped(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self.y, self.trials) if eta.ndim == 1 else (self.y[:, None], self.trials[:, None])


def likelihood_of(design: Design, family: str, link: str) -> Likelihood:
    """The design's response under a family and link.

    UnsupportedError for a family or link without maximum likelihood here; DataError for a response it cannot have."""
    record = FAMILIES.get(family)
    if record is None or record.likelihood is None or link not in record.likelihood.links:
        known = "; ".join(
            f"{name}: {', '.join(one.likelihood.links)}" for name, one in FAMILIES.items() if one.likelihood is not None
        )
        raise UnsupportedError(
            f"ml() has no family {family!r} with link {link!r}. It has gaussian with identity link; {known}. "
            "fit() fits the others by Bayes"
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
    refusal = record.likelihood.refusal(design.response, y)
    if refusal:
        raise DataError(f"family {family!r} {refusal}")
    trials = np.ones(len(y)) if not record.out_of_trials else np.asarray(design.trials, dtype=float)
    return Likelihood(family, link, y, trials)
