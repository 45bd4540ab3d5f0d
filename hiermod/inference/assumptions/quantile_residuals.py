"""Randomised quantile residuals by simulation: uniform under a true model, whatever the family.

Dunn and Smyth (1996), J. Comput. Graph. Stat. 5(3); R's DHARMa (Hartig).  A row's residual is the rank of its response
among responses simulated for that row, ties broken at random; with D simulations the ranks are exchangeable, so the
residual is exactly uniform when the data come from the law that is simulated.  The p-values are Monte Carlo tests: each
simulated data set is given residuals among the others in the same way, so that rows of one group may depend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary
from hiermod.engines.posterior import Posterior
from hiermod.families.catalogue import FAMILIES
from hiermod.families.responses import response_draws
from hiermod.fits.targets import read_request
from hiermod.fits.vocabulary import Fit
from hiermod.formula.design import FrozenArrays

ROWS = 2_000_000  # numbers ranked at a time


@dataclass(frozen=True, eq=False)
class SimulatedResiduals(FrozenArrays):
    """What ``fit.simulated_residuals()`` returns.  Immutable."""

    scaled: np.ndarray  # (n,) between 0 and 1, uniform under the model
    observed: np.ndarray  # (n,) responses; successes for counts out of trials
    expected: np.ndarray  # (n,) mean of the simulated responses
    statistics: np.ndarray  # (1 + draws, tests): of the data, then of each simulated data set
    outside: np.ndarray  # (n,) -1 below every simulation, 1 above, else 0
    index: pd.Index
    names: tuple[str, ...]  # of the tests
    draws: int
    conditional: bool
    family: str

    @property
    def residuals(self) -> pd.Series:
        """The scaled residuals under the labels of the rows used."""
        return pd.Series(np.array(self.scaled), index=self.index, name="scaled_residual")

    def tests(self) -> pd.DataFrame:
        """statistic, expected (its mean over simulated data), ratio and p; index test.

        uniformity: Kolmogorov and Smirnov's distance.  dispersion: variance of observed - expected.  zeros: number of
        zeros (counts, and every family with zeros of their own).  outliers: rows beyond all simulations.  p is
        two-sided but for the distance, and cannot be below 1 / (draws + 1)."""
        data, simulated = self.statistics[0], self.statistics[1:]
        above = 1 + (simulated >= data * (1 - 1e-12)).sum(axis=0)
        below = 1 + (simulated <= data * (1 + 1e-12)).sum(axis=0)
        one_sided = np.array([name == "uniformity" for name in self.names])
        p = np.where(one_sided, above, np.minimum(2 * np.minimum(above, below), len(simulated) + 1))
        mean = simulated.mean(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(mean > 0, data / mean, np.nan)
        columns = {"statistic": data, "expected": mean, "ratio": ratio, "p": p / (len(simulated) + 1)}
        return pd.DataFrame(columns, index=pd.Index(self.names, name="test"))

    def summary(self) -> Summary:
        """The tests, and what they say in words."""
        table = self.tests()
        how = "group effects held" if self.conditional else "group effects drawn anew"
        head = f"{len(self.scaled)} rows, {self.draws} simulated data sets, {how}; family {self.family}"
        words = _WORDS | (_OWN_ZEROS if FAMILIES[self.family].own_zeros else {})
        told = [
            f"{words[name][0 if row['ratio'] > 1 or name in ('uniformity',) else 1]} (p = {row['p']:.3g})."
            for name, row in table.iterrows()
            if row["p"] < 0.05
        ]
        verdict = " ".join(told) if told else "None of the tests sees a difference from the model."
        shown = table.map(lambda value: f"{value:.4g}")
        return Summary("Simulated residuals", (Section("", head), Section("", shown), Section("", verdict)))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


_WORDS = {
    "uniformity": ("The residuals are not uniform: the responses have another shape than the model's",) * 2,
    "dispersion": (
        "The responses vary more than the model says: a group effect per row, or a family with a dispersion parameter",
        "The responses vary less than the model says",
    ),
    "zeros": (
        "There are more zeros than the model says: overdispersion, or a zero-inflated family",
        "There are fewer zeros than the model says",
    ),
    "outliers": ("More rows lie beyond everything simulated than should", "Fewer rows are extreme than should be"),
}
_OWN_ZEROS = {
    "zeros": tuple(
        f"There are {how} zeros than the model says, though it has a parameter for them: their share may depend on "
        'predictors or groups (parameters={"psi": ...})'
        for how in ("more", "fewer")
    )
}


@checked
def simulated_residuals(
    fit: Fit, draws: int = 250, random_seed: int | np.random.Generator | None = None, conditional: bool = False
) -> SimulatedResiduals:
    """Residuals that are uniform under a true model of any family (Dunn and Smyth 1996), and tests of them.

    Each row's place among ``draws`` simulated responses; group effects drawn anew, or held with ``conditional``.
    ``.residuals``, ``.tests()``, and ``hm.plots.simulated_residuals``."""
    draws = check_count("draws", draws, 20)
    rng = generator(random_seed)
    simulated = _conditional(fit, draws, rng) if conditional else _anew(fit, draws, rng)
    observed = np.asarray(fit.design.y, dtype=float)
    together = np.column_stack([observed, simulated])
    scaled = ranks(together, rng)
    family = FAMILIES[fit.family]
    zeros = family.kind in ("count", "proportion") or family.own_zeros
    names = ("uniformity", "dispersion", *(["zeros"] if zeros else []), "outliers")
    others = (together.sum(axis=1, keepdims=True) - together) / draws  # mean of the other data sets
    low, high = np.sort(together, axis=1)[:, [0, 1]], np.sort(together, axis=1)[:, [-1, -2]]
    under = (together == low[:, :1]) & (low[:, :1] < low[:, 1:])
    over = (together == high[:, :1]) & (high[:, :1] > high[:, 1:])
    statistics = {
        "uniformity": uniform_distance(scaled),
        "dispersion": np.square(together - others).mean(axis=0),
        "zeros": (together == 0).sum(axis=0).astype(float),
        "outliers": (under | over).sum(axis=0).astype(float),
    }
    return SimulatedResiduals(
        scaled=scaled[:, 0],
        observed=observed,
        expected=others[:, 0],
        statistics=np.column_stack([statistics[name] for name in names]),
        outside=over[:, 0].astype(int) - under[:, 0].astype(int),
        index=fit.design.index,
        names=names,
        draws=draws,
        conditional=bool(conditional),
        family=fit.family,
    )


def ranks(together: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, m) each value's place in its row, a uniform number within its place, over m; ties in random order."""
    n, m = together.shape
    result = np.empty((n, m))
    step = max(1, ROWS // m)
    for start in range(0, n, step):
        part = together[start : start + step]
        order = np.lexsort((rng.random(part.shape), part), axis=1)
        place = np.empty(part.shape)
        np.put_along_axis(place, order, np.broadcast_to(np.arange(m, dtype=float), part.shape), axis=1)
        result[start : start + step] = (place + rng.random(part.shape)) / m
    return result


def uniform_distance(values: np.ndarray) -> np.ndarray:
    """(m,) Kolmogorov and Smirnov's distance of each column of (n, m) from the uniform distribution."""
    n = len(values)
    ordered = np.sort(values, axis=0)
    i = np.arange(1, n + 1)[:, None]
    return np.maximum((i / n - ordered).max(axis=0), (ordered - (i - 1) / n).max(axis=0))


def _anew(fit: Any, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(n, draws) new responses of new groups."""
    if isinstance(fit.record, Posterior):
        return np.asarray(fit._simulated(draws, rng).T)
    return np.asarray(fit.simulate(draws, rng).to_numpy())


def _conditional(fit: Any, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(n, draws) new responses of the same groups."""
    design, record = fit.design, fit.record
    if isinstance(record, Posterior):
        request = read_request(design, None, "conditional", 0.95, "response", "raise")
        return fit._predictor(request).responses(draws, rng).T
    noise = design.precision.sd(record.sigma) if FAMILIES[fit.family].normal_errors else None
    mean = np.broadcast_to(np.array(record.fitted), (draws, design.nobs))
    return response_draws(fit.family, mean, noise, design.trials, rng, counts=True).T


def uniform_quantiles(residuals: SimulatedResiduals, level: float = 0.95) -> pd.DataFrame:
    """Ordered scaled residuals beside uniform quantiles and their simultaneous band: sample, theoretical, lower, upper.

    The band is that of independent rows: with group effects drawn anew the rows of a group move together, and the
    p-values of ``tests()``, which know that, have the last word."""
    from hiermod.inference.assumptions.qq_bands import local_level, uniform_band

    n = len(residuals.scaled)
    i = np.arange(1, n + 1)
    lower, upper = uniform_band(n, local_level(n, level))
    sample = np.sort(residuals.scaled)
    theoretical = stats.beta.median(i, n + 1 - i)
    return pd.DataFrame({"sample": sample, "theoretical": theoretical, "lower": lower, "upper": upper})
