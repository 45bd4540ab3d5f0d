"""Expected and random responses of every family at given parameters, in numpy."""

from __future__ import annotations

import numpy as np

from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.family import Further
from hiermod.families.links import inverse_link


def check_mean(family: str) -> None:
    """UnsupportedError for a family whose expected response is not the inverse link of the linear predictor."""
    if not FAMILIES[family].location_is_mean:
        raise UnsupportedError(
            f"the expected response of family {family!r} is not a function of the linear predictor alone, and this is "
            "for families where it is: use fit.predict(newdata)"
        )


def expected(family: str, location: np.ndarray, further: Further) -> np.ndarray:
    """E(y) given the parameters, of the shape of ``location``; of counts out of trials the proportion.

    UnsupportedError for ordinal families, which have no mean."""
    mean = FAMILIES[family].mean
    if mean is None:
        raise UnsupportedError(f"responses of family {family!r} are categories, which have no mean")
    return mean(location, further)


def category_probabilities(family: str, link: str, eta: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """P(y = k), (s, m, K), from the linear predictor (s, m) and the thresholds (s, K - 1)."""
    categories = FAMILIES[family].categories
    if categories is None:
        raise UnsupportedError(f"responses of family {family!r} are numbers, not ordered categories")
    return categories(inverse_link(link, threshold[:, None, :] - eta[..., None]))


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
    auxiliary: Further | None = None,
) -> np.ndarray:
    """One response per location, (draws, rows); of counts out of trials the proportion, or with ``counts`` successes.

    mean: the location, (draws, rows), which for most families is the mean.  noise: sigma.  auxiliary: the other
    parameters.  Both broadcast with ``mean``.  UnsupportedError where a parameter the family needs is not given."""
    further = dict(auxiliary or {})
    if noise is not None:
        further["sigma"] = noise
    if trials is not None:
        further["trials"] = np.asarray(trials)
    record = FAMILIES.get(family)
    needed = () if record is None else record.parameter_names + (("trials",) if record.out_of_trials else ())
    missing = [name for name in needed if name not in further]
    if record is None or record.draw is None or missing:
        why = f" without {', '.join(missing)}" if missing else ""
        raise UnsupportedError(
            f"responses of family {family!r} are not drawn here{why}: use "
            "model.bambi.predict(fit.idata, kind='response')"
        )
    drawn = np.asarray(record.draw(mean, further, rng), dtype=float)
    return drawn / further["trials"] if record.out_of_trials and not counts else drawn
