"""The observed responses of a fit beside responses simulated from it: what every predictive check compares.

p(y_rep | y) of Gelman et al. (2013, Bayesian Data Analysis, section 6.3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.core.arguments import check_count, generator
from hiermod.engines import predictive
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, UnknownNameError, UnsupportedError, nearest
from hiermod.families.catalogue import FAMILIES
from hiermod.fits import row_draws
from hiermod.fits.tables import values_as_groups
from hiermod.fits.targets import choice
from hiermod.formula.design import FrozenArrays
from hiermod.formula.further import DISTRIBUTIONAL

if TYPE_CHECKING:
    import xarray as xr

    from hiermod.fits.bayesian import BayesianFit

Kind = Literal["continuous", "count", "binary", "category"]
PLAIN = (None, DISTRIBUTIONAL, "categorical", "weighted")  # left sides whose response is one number per row
MANY = 1000  # simulated data sets that a check takes unless asked


@dataclass(frozen=True, eq=False)
class Replicates(FrozenArrays):
    """n rows, S simulated data sets.  Counts out of trials are kept as counts."""

    y: np.ndarray  # (n,)
    simulated: np.ndarray  # (S, n)
    trials: np.ndarray | None  # (n,)
    index: pd.Index
    kind: Kind
    response: str
    target: str
    categories: tuple[str, ...] = ()  # of ordinal responses; y and simulated hold their values
    values: np.ndarray = field(default_factory=lambda: np.empty(0))  # (K,) the number of each category

    @property
    def discrete(self) -> bool:
        """Whether responses are counts, 0/1 or categories, so that ties are the rule."""
        return self.kind != "continuous"

    def labels(self, values: np.ndarray) -> list[str]:
        """What stands on an axis at each of the values: a category's name, else the number."""
        names = dict(zip(self.values.tolist(), self.categories, strict=True))
        return [names.get(float(one), f"{one:g}") for one in values]

    def rows(self, where: np.ndarray) -> Replicates:
        """Some of the rows."""
        trials = None if self.trials is None else self.trials[where]
        return replace(
            self, y=self.y[where], simulated=self.simulated[:, where], trials=trials, index=self.index[where]
        )


def replicates(
    fit: BayesianFit,
    draws: int | None = MANY,
    random_seed: int | np.random.Generator | None = None,
    target: str = "conditional",
) -> Replicates:
    """Simulate the rows of a fit ``draws`` times, or once per posterior draw where there are fewer (None: always).

    target: "conditional" (the groups keep their effects) or "new_group" (every group is drawn anew).  The fit's idata
    stays as it is.  UnsupportedError for maximum-likelihood fits and responses that are more than a number."""
    record = bayesian_record(fit)
    target = choice("target", target, ("conditional", "new_group"))
    if fit.design.special not in PLAIN:
        raise UnsupportedError(
            f"{fit.design.special}(...) in the response: what was observed is not one number per row, so it cannot be "
            "set beside simulated responses. fit.loo() and fit.prior_sensitivity() still judge the fit"
        )
    if draws is not None:
        check_count("draws", draws, 2)
        draws = min(int(draws), record.shape[0] * record.shape[1])
    if target == "new_group":
        simulated = fit._simulated(draws or record.shape[0] * record.shape[1], generator(random_seed))
    else:
        simulated = _conditional(fit, draws, random_seed)
    return as_replicates(fit, simulated, target)


def as_replicates(fit: BayesianFit, simulated: np.ndarray, target: str) -> Replicates:
    """The data of a fit with (S, n) simulated responses."""
    design, y = fit.design, np.asarray(fit.design.y, dtype=float)
    return Replicates(
        y=y, simulated=simulated, trials=design.trials, index=design.index, kind=kind_of(fit, y),
        response=design.response, target=target, categories=design.categories, values=design.category_values,
    )  # fmt: skip


def bayesian_record(fit: BayesianFit) -> Posterior:
    """The posterior; UnsupportedError for fits that have none."""
    record = getattr(fit, "record", None)
    if not isinstance(record, Posterior):
        raise UnsupportedError(
            f"posterior predictive checks need a Bayesian fit, and this is a {type(fit).__name__}: use m.fit(), or "
            "fit.simulated_residuals(), which simulates at the estimates"
        )
    return record


def kind_of(fit: BayesianFit, y: np.ndarray) -> Kind:
    """What sort of number the response is."""
    family = FAMILIES[fit.family]
    if family.ordinal:
        return "category"
    if family.kind == "binary":
        return "binary"
    return "count" if family.discrete and (y == np.round(y)).all() else "continuous"


def group_codes(fit: BayesianFit, group: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and labels of a grouping factor, or of any column of the fit's data."""
    for block in fit.design.blocks:
        if block.factor == group:
            return block.codes, block.levels
    frame = fit.design.frame
    if group not in frame.columns:
        known = list(dict.fromkeys([*(block.factor for block in fit.design.blocks), *map(str, frame.columns)]))
        raise UnknownNameError(
            f"group {group!r} is neither a grouping factor nor a column of the model.{nearest(str(group), known)}"
        )
    codes, levels = values_as_groups(frame[group])
    if len(levels) > 0.5 * len(codes) and len(levels) > 20:
        raise ArgumentError(
            f"column {group!r} has {len(levels)} different values in {len(codes)} rows: as groups they are too many. "
            "Cut it into a few classes in a column of the data, and use that column in the model"
        )
    return codes, tuple(str(level) for level in levels)


def _conditional(fit: BayesianFit, draws: int | None, random_seed: int | np.random.Generator | None) -> np.ndarray:
    """(S, n).  A fit without its model (from a file) that numpy cannot simulate has what its idata kept."""
    record, design = fit.record, fit.design
    kept_there = record.idata is not None and predictive.PREDICTIVE in versions.group_names(fit.idata)
    if fit.model is None and kept_there and not row_draws.by_numpy(fit):
        kept = next(iter(versions.group_dataset(fit.idata, predictive.PREDICTIVE).data_vars.values()))
        values = _flat(kept, design.nobs)
        return values if draws is None else values[_spread(len(values), draws)]
    found = row_draws.new_responses(fit, draws, random_seed)
    return _flat(next(iter(found.data_vars.values())), design.nobs)


def _spread(there: int, wanted: int) -> np.ndarray:
    return np.linspace(0, there - 1, min(wanted, there)).round().astype(int)


def _flat(array: xr.DataArray, nobs: int) -> np.ndarray:
    """(chain * draw, n) of (chain, draw, n)."""
    array = array.transpose("chain", "draw", ...)
    values = np.asarray(array.values, dtype=float).reshape(array.sizes["chain"] * array.sizes["draw"], -1)
    if values.shape[1] != nobs:
        raise UnsupportedError(
            f"the engine simulates {values.shape[1]} numbers per draw for {nobs} rows, so rows cannot be compared"
        )
    return values
