"""Which units alone determine a combination of coefficients that has a flat prior: without them it has no posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiermod.errors import DesignError, listing
from hiermod.inference.scores.rows import Units

ALL = 1 - 1e-9  # of the information about one direction


def check_estimable(units: Units, labels: Sequence[object], unit: str) -> None:
    """Raises DesignError for units whose removal leaves a coefficient with a flat prior without any information."""
    alone = np.flatnonzero(units.leverage > ALL)
    if len(alone):
        what = "rows" if unit == "row" else f"levels of {unit}"
        raise DesignError(
            f"without some {what} ({listing([labels[int(u)] for u in alone])}) the remaining data say nothing about a "
            "coefficient whose prior is flat, so these have no predictive density. Give them Normal priors"
        )
