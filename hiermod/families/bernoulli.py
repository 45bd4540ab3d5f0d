"""Bernoulli(p): responses of 0 and 1, or two categories."""

from __future__ import annotations

import numpy as np
from scipy import special

from hiermod.errors import listing
from hiermod.families.binomial import LATENT_VARIANCES, ROWS, BinomialLikelihood
from hiermod.families.family import Family, Notation, Support, inside


class BernoulliLikelihood(BinomialLikelihood):
    """The binomial one of a single trial, which has nothing but 0 and 1."""

    def refusal(self, response: str, y: np.ndarray) -> str:
        """Of other numbers."""
        others = y[~np.isin(y, (0.0, 1.0))]
        if not len(others):
            return ""
        found = listing([f"{value:g}" for value in np.unique(others)], 3)
        return f"needs a response of 0 and 1; {response!r} holds {found} too"


_SUPPORT = Support(
    lambda y: (y != 0) & (y != 1),
    "for 0 and 1",
    "For counts out of trials write p(successes, trials) with family='binomial'; for two categories a column of text "
    "will do",
)
BERNOULLI = Family(
    name="bernoulli",
    kind="binary",
    links=("logit", "probit", "cloglog", "identity"),
    notation=Notation("Bernoulli", "p"),
    also_called=("binary", "logistic"),
    support=_SUPPORT,
    logpdf=inside(_SUPPORT, lambda y, p, _: special.xlogy(y, p) + special.xlog1py(1 - y, -p)),
    draw=lambda p, _, rng: rng.binomial(1, p),
    variance=lambda p, _: p * (1.0 - p),
    likelihood=BernoulliLikelihood(),
    link_variance=LATENT_VARIANCES,
    default_scale="latent",
    rows=ROWS,
)
