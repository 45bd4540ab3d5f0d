"""Ordered categories by stopping: P(y = k given y >= k) = F(threshold_k - eta), Tutz (1991)."""

from __future__ import annotations

import numpy as np

from hiermod.families.binomial import LATENT_VARIANCES
from hiermod.families.family import Family, Notation, Parameter


def _categories(stops: np.ndarray) -> np.ndarray:
    reached = np.cumprod(1 - stops, axis=-1)
    before = np.concatenate([np.ones((*stops.shape[:-1], 1)), reached], axis=-1)
    return np.concatenate([stops * before[..., :-1], before[..., -1:]], axis=-1)


SRATIO = Family(
    name="sratio",
    kind="ordinal",
    links=("logit", "probit", "cloglog"),
    notation=Notation("P(y = k | y ≥ k)"),
    parameters=(Parameter("threshold", link="identity", support="cuts", formula=False, prior="Normal(mu=0, sigma=1)"),),
    categories=_categories,
    mean=None,
    link_variance=LATENT_VARIANCES,
)
