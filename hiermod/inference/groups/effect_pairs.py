"""Two effects of the same groups: the fitted bivariate normal, its ellipses and correlation, and the groups on it.

Level 2 of a model with correlated effects (Bates et al. 2015, J. Stat. Softw. 67(1), section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.errors import UnknownNameError, UnsupportedError, nearest
from hiermod.fits.tables import LEVEL, check_group, check_level

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit


@dataclass(frozen=True, eq=False)
class EffectPair:
    """Effects of two terms by level.  correlation, lower, upper: nan where the model has none (``||``, or an sd of 0);
    the limits also for REML and ML."""

    group: str
    x: str
    y: str
    effects: pd.DataFrame  # level (index); x, x_lower, x_upper, y, y_lower, y_upper
    covariance: np.ndarray  # (2, 2) of the effects, by Bayes its posterior mean
    correlation: float
    lower: float
    upper: float

    def ellipse(self, share: float, points: int = 200) -> np.ndarray:
        """(2, points): around the ``share`` of groups that the fitted normal expects nearest to 0."""
        check_level(share, "share")
        values, vectors = np.linalg.eigh(self.covariance)
        angle = np.linspace(0.0, 2.0 * np.pi, points)
        radius = np.sqrt(-2.0 * np.log1p(-share))  # chi-square quantile with 2 degrees of freedom, in closed form
        root = vectors * np.sqrt(np.maximum(values, 0.0))  # rounding may leave -1e-17 where a variance is 0
        return np.asarray(radius * root @ np.array([np.cos(angle), np.sin(angle)]))


def effect_pair(
    fit: Fit, group: str | None = None, x: str | None = None, y: str | None = None, level: float = LEVEL
) -> EffectPair:
    """The effects of terms ``x`` and ``y`` of ``group``: by default the first two of the first factor with two.

    Raises UnknownNameError for a factor or a term, UnsupportedError where fewer than two terms vary."""
    check_level(level)
    design = fit.design
    terms = {
        f: list(dict.fromkeys(t for b in design.blocks if b.factor == f for t in b.labels)) for f in design.ngroups
    }
    if group is not None:
        check_group(design, group)
    group = group or next((factor for factor, labels in terms.items() if len(labels) > 1), None)
    if group is None or len(terms[group]) < 2:
        raise UnsupportedError(
            f"a correlation needs two effects of the same groups; {fit.formula!r} has "
            + (f"one of {group}" if group else "no factor with two")
            + ": add a slope, such as (x | g), or draw the one with hm.plots.caterpillar"
        )
    for term in (x, y):
        if term is not None and term not in terms[group]:
            raise UnknownNameError(
                f"{group!r} has no effect {term!r}.{nearest(str(term), terms[group])} It has: {', '.join(terms[group])}"
            )
    x = x or next(term for term in terms[group] if term != y)
    y = y or next(term for term in terms[group] if term != x)
    table = fit.varcorr()
    table = table[table["group"] == group]
    cov = np.zeros((2, 2))
    for i, term in enumerate((x, y)):
        cov[i, i] = float(table.loc[(table["term1"] == term) & table["term2"].isna(), "vcov"].sum())
    pair = table[table["term1"].isin([x, y]) & table["term2"].isin([x, y])]
    cov[0, 1] = cov[1, 0] = float(pair["vcov"].sum())
    known = pair.iloc[0] if len(pair) else pd.Series(dtype=float)
    numbers = [float(known.get(name, np.nan)) for name in ("sdcor", "lower", "upper")]
    return EffectPair(group, x, y, _effects(fit, group, x, y, level), cov, *numbers)


def _effects(fit: Fit, group: str, x: str, y: str, level: float) -> pd.DataFrame:
    table = fit.ranef(group, level=level)
    columns: dict[str, pd.Series] = {}
    for axis, term in (("x", x), ("y", y)):
        mine = table[table["term"] == term].set_index("level")
        mine = mine[~mine.index.duplicated()]
        columns |= {axis: mine["estimate"], f"{axis}_lower": mine["lower"], f"{axis}_upper": mine["upper"]}
    return pd.DataFrame(columns)
