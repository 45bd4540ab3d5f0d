"""Ordered categories by cumulative probabilities: P(y <= k) = F(threshold_k - eta), McCullagh (1980)."""

from __future__ import annotations

import numpy as np

from hiermod.families.binomial import LATENT_VARIANCES
from hiermod.families.family import Family, Notation, Parameter


def _categories(below: np.ndarray) -> np.ndarray:
    ends = np.ones((*below.shape[:-1], 1))
    return np.maximum(np.diff(np.concatenate([0 * ends, below, ends], axis=-1), axis=-1), 0.0)


CUMULATIVE = Family(
    name="cumulative",
    kind="ordinal",
    links=("logit", "probit", "cloglog"),
    notation=Notation("P(y ≤ k)"),
    parameters=(
        Parameter("threshold", link="identity", support="ascending", formula=False, prior="Normal(mu=0, sigma=1)"),
    ),
    also_called=("ordinal",),
    categories=_categories,
    mean=None,
    link_variance=LATENT_VARIANCES,
)
