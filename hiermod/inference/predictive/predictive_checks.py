"""Posterior predictive checks in numbers: a statistic of the data among the same statistic of simulated data.

p = Pr(T(y_rep) > T(y)) + Pr(T(y_rep) = T(y)) / 2 (Gelman, Meng and Stern 1996, Statistica Sinica 6; the middle p-value
for ties).  Under a true model p keeps away from 0 and 1 more than a uniform number does where the statistic is one that
the model fits, such as the mean (Meng 1994, Ann. Stat. 22)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import NotedFrame, noted
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, UnknownNameError, listing, nearest
from hiermod.fits.tables import LEVEL, check_level
from hiermod.formula.design import FrozenArrays
from hiermod.inference.predictive.replicates import MANY, Kind, Replicates, group_codes, replicates
from hiermod.inference.priors_and_reml.data_summaries import data_summaries

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

Statistic = str | Callable[[np.ndarray], float]
Statistics = Statistic | Sequence[Statistic] | Mapping[str, Callable[[np.ndarray], float]] | None
Piece = tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray], Replicates]


def skewness(y: np.ndarray) -> np.ndarray:
    """(m,) third central moment over the cubed sd of each row of (m, n); 0 where all values are equal."""
    away = y - y.mean(axis=1, keepdims=True)
    sd = np.sqrt(np.square(away).mean(axis=1))
    return np.where(sd > 0, (away**3).mean(axis=1) / np.where(sd > 0, sd, 1.0) ** 3, 0.0)


BY_NAME: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # (m, n) responses to (m,) numbers
    "mean": lambda y: y.mean(axis=1),
    "sd": lambda y: y.std(axis=1, ddof=1) if y.shape[1] > 1 else np.full(len(y), np.nan),
    "min": lambda y: y.min(axis=1),
    "max": lambda y: y.max(axis=1),
    "median": lambda y: np.median(y, axis=1),
    "skew": skewness,
    "zeros": lambda y: (y == 0).mean(axis=1),
    "range": lambda y: np.ptp(y, axis=1),
}
DEFAULT: dict[Kind, tuple[str, ...]] = {
    "continuous": ("mean", "sd", "min", "max", "median", "skew"),
    "count": ("mean", "sd", "max", "zeros", "dispersion"),
    "binary": ("mean",),
    "category": ("mean", "sd"),
}


@dataclass(frozen=True, eq=False)
class StatisticDraws(FrozenArrays):
    """T statistics (or one per level) of the data and of S simulated data sets."""

    names: tuple[tuple[str, ...], ...]  # T of (statistic,) or (statistic, level)
    observed: np.ndarray  # (T,)
    simulated: np.ndarray  # (S, T)
    group: str | None
    target: str

    @property
    def p(self) -> np.ndarray:
        """(T,) share of simulated data sets above the data, ties by half; nan where the data's number is undefined."""
        above = (self.simulated > self.observed).mean(axis=0)
        p = above + 0.5 * (self.simulated == self.observed).mean(axis=0)
        known = np.isfinite(self.observed) & np.isfinite(self.simulated).all(axis=0)
        return np.where(known, p, np.nan)


def statistic_draws(
    fit: BayesianFit,
    statistic: Statistics = None,
    group: str | None = None,
    draws: int | None = MANY,
    target: str = "conditional",
    random_seed: int | np.random.Generator | None = None,
    drawn: Replicates | None = None,
) -> StatisticDraws:
    """Statistics of the data and of simulated data; drawn: simulated already."""
    known = _known(fit)
    where = None if group is None else group_codes(fit, group)
    drawn = replicates(fit, draws, random_seed, target) if drawn is None else drawn
    chosen = _chosen(statistic, known, drawn.kind, grouped=group is not None)
    if where is None:
        pieces: list[Piece] = [((name,), function, drawn) for name, function in chosen.items()]
    else:
        codes, levels = where
        parts = [(level, drawn.rows(codes == j)) for j, level in enumerate(levels) if (codes == j).any()]
        pieces = [((name, level), function, part) for name, function in chosen.items() for level, part in parts]
    values = [_evaluate(name[0], function, part) for name, function, part in pieces]
    return StatisticDraws(
        names=tuple(name for name, _, _ in pieces),
        observed=np.array([one[0] for one in values]),
        simulated=np.stack([one[1:] for one in values], axis=1),
        group=group,
        target=drawn.target,
    )


@checked
def predictive_check(
    fit: BayesianFit,
    statistic: Statistics = None,
    group: str | None = None,
    draws: int | None = 1000,
    target: str = "conditional",
    level: float = 0.95,
    random_seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """A statistic of the data beside the same statistic of data simulated from the posterior.

    statistic: "mean", "sd", "min", "max", "median", "skew", "zeros", "range", "dispersion" (of rows about
    their own predictions, in predictive variances: overdispersion of counts), "sd between Subject", "steepest Days
    within Subject", a function of an array of responses, a list of these, or ``{"name": function}``; by default
    those that suit the family.  group: within each level of a grouping factor or column of the model.  draws:
    simulated data sets (None: one per posterior draw).  target: "conditional" (groups keep their effects) or
    "new_group" (drawn anew).  Counts out of trials are taken as proportions.

    Index statistic (with ``group``: and level); observed; predicted, lower, upper: mean and equal-tailed interval
    over simulated data; p: their share above the data, ties by half.  p near 0 or 1: the model does not make such
    data.  Under a true model p is not uniform: it keeps nearer to 0.5 where the statistic is one that is fitted.
    Raises UnknownNameError, ArgumentError, UnsupportedError (censored responses, unknown model).

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).fit(random_seed=1)
    >>> table = fit.predictive_check(["sd", "max"], random_seed=1)
    >>> table.index.tolist(), table.columns.tolist()
    (['sd', 'max'], ['observed', 'predicted', 'lower', 'upper', 'p'])
    """
    return statistic_table(statistic_draws(fit, statistic, group, draws, target, random_seed), level)


def statistic_table(found: StatisticDraws, level: float = LEVEL) -> NotedFrame:
    """observed, predicted, lower, upper, p; index statistic, or statistic and level."""
    check_level(level)
    lower, upper = np.quantile(found.simulated, [(1 - level) / 2, (1 + level) / 2], axis=0)
    columns = {
        "observed": found.observed,
        "predicted": found.simulated.mean(axis=0),
        "lower": lower,
        "upper": upper,
        "p": found.p,
    }
    if found.group is None:
        index = pd.Index([name for (name,) in found.names], name="statistic")
    else:
        index = pd.MultiIndex.from_tuples(found.names, names=["statistic", found.group])
    groups = "groups keep their effects" if found.target == "conditional" else "every group is drawn anew"
    note = (
        f"{len(found.simulated)} simulated data sets, {groups}. p: share of them whose statistic is above the data's: "
        "near 0 or 1 the model does not make such data."
    )
    table = pd.DataFrame(columns, index=index)
    table.attrs.update(draws=len(found.simulated), target=found.target, level=level)
    return noted(table, [note])


@checked
def predictive_intervals(
    fit: BayesianFit,
    group: str | None = None,
    draws: int | None = 1000,
    target: str = "conditional",
    level: float = 0.95,
    inner: float = 0.5,
    random_seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Each response, or the mean of each level of ``group``, in its posterior predictive intervals.

    Index the rows used, or the levels: observed, predicted (mean), lower, inner_lower, inner_upper, upper, inside.
    Counts out of trials are taken as proportions.  Arguments and errors as for ``predictive_check``."""
    check_level(level)
    check_level(inner)
    if inner >= level:
        raise ArgumentError(f"inner is {inner:g} and level {level:g}: the inner interval must be the narrower one")
    drawn = replicates(fit, draws, random_seed, target)
    trials = 1.0 if drawn.trials is None else drawn.trials
    observed, simulated = drawn.y / trials, drawn.simulated / trials
    labels: Any = drawn.index
    if group is not None:
        codes, levels = group_codes(fit, group)
        present = np.unique(codes)
        columns = [np.flatnonzero(codes == j) for j in present]
        observed = np.array([observed[one].mean() for one in columns])
        simulated = np.stack([simulated[:, one].mean(axis=1) for one in columns], axis=1)
        labels = pd.Index([levels[j] for j in present], name=group)
    tails = [(1 - level) / 2, (1 - inner) / 2, (1 + inner) / 2, (1 + level) / 2]
    lower, inner_lower, inner_upper, upper = np.quantile(simulated, tails, axis=0)
    table = pd.DataFrame(
        {
            "observed": observed,
            "predicted": simulated.mean(axis=0),
            "lower": lower,
            "inner_lower": inner_lower,
            "inner_upper": inner_upper,
            "upper": upper,
            "inside": (observed >= lower) & (observed <= upper),
        },
        index=labels,
    )
    table.attrs.update(level=level, inner=inner, target=target, response=drawn.response, group=group)
    return table


# --- which statistics ---------------------------------------------------------------------------------------------
def _known(fit: BayesianFit) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: those of one sample, and the spreads between the levels of each factor."""
    summaries = data_summaries(fit.design)
    others = {name: one for name, one in summaries.items() if name not in BY_NAME}
    return BY_NAME | {"dispersion": BY_NAME["sd"]} | others  # a place holder: it needs what was simulated


def _chosen(
    statistic: Statistics, known: Mapping[str, Callable[[np.ndarray], np.ndarray]], kind: Kind, grouped: bool
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name -> function of (m, n)."""
    if statistic is None:
        between = [] if grouped else [name for name in known if name.startswith("sd between ")]
        return {name: known[name] for name in (*DEFAULT[kind], *between)}
    if isinstance(statistic, Mapping):
        return {str(name): _each_sample(str(name), function) for name, function in statistic.items()}
    asked = [statistic] if isinstance(statistic, str) or callable(statistic) else list(statistic)
    if not asked:
        raise ArgumentError("statistic is empty: name one, such as 'max', or leave it out")
    found = {}
    for one in asked:
        if callable(one):
            name = getattr(one, "__name__", type(one).__name__)
            found[name] = _each_sample(name, one)
        elif one not in known:
            raise UnknownNameError(
                f"no statistic is called {one!r}: there are {listing(known, 20)}, and any function of an array."
                f"{nearest(str(one), list(known))}"
            )
        elif grouped and one not in BY_NAME and one != "dispersion":
            raise ArgumentError(f"{one!r} compares groups with each other, so it has no value within one: drop group=")
        else:
            found[one] = known[one]
    return found


def _each_sample(name: str, function: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A person's function of one sample (n,), called for each."""
    if not callable(function):
        raise ArgumentError(f"statistic {name!r} must be a function of an array of responses, got {function!r}")

    def apply(y: np.ndarray) -> np.ndarray:
        values = [function(one) for one in y]
        if any(np.ndim(value) != 0 for value in values):
            raise ArgumentError(
                f"statistic {name!r} returned an array of shape {np.shape(values[0])}: it must return one number"
            )
        return np.array(values, dtype=float)

    return apply


def _evaluate(name: str, function: Callable[[np.ndarray], np.ndarray], part: Replicates) -> np.ndarray:
    """(1 + S,): of the data, then of each simulated data set; proportions for counts out of trials, except zeros.

    dispersion: mean over rows of (y - mean)^2 / variance, both of the row's simulated responses."""
    if name == "dispersion":
        mean, variance = part.simulated.mean(axis=0), part.simulated.var(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.where(variance > 0, 1.0 / variance, 0.0)
        return np.concatenate([(np.square(y - mean) * weights).mean(axis=1) for y in (part.y[None], part.simulated)])
    scale = 1.0 if part.trials is None or name == "zeros" else part.trials
    return np.concatenate([function(part.y[None] / scale), function(part.simulated / scale)])
