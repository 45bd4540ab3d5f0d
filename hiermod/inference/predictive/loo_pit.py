"""LOO-PIT: the place of each response in its predictive distribution given all other rows; uniform under a true model.

Exact in phi for Gaussian models (scores/row_laws.py), else weights of PSIS (Vehtari, Gelman and Gabry 2017).  The band
of the distribution function is simultaneous, as in Säilynoja, Bürkner and Vehtari (2022, Stat. Comput. 32), here for
every point rather than on a grid: it holds exactly where the ordered values keep the limits of qq_bands.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special, stats

from hiermod.core.arguments import generator
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary
from hiermod.engines.gaussian_rows import linear_predictor, residual_sd
from hiermod.engines.posterior import flat_draws
from hiermod.errors import UnsupportedError, listing
from hiermod.fits import row_draws
from hiermod.fits.tables import LEVEL, check_level
from hiermod.formula.design import FrozenArrays
from hiermod.inference.assumptions.qq_bands import EXACT, inside_probability, local_level, uniform_band
from hiermod.inference.predictive.replicates import bayesian_record, replicates
from hiermod.inference.scores.estimable import check_estimable
from hiermod.inference.scores.of_fit import _density
from hiermod.inference.scores.record import MAX_K
from hiermod.inference.scores.row_laws import Transforms, integrated_transforms, quick_transforms, weighted_normal
from hiermod.inference.scores.row_likelihood import row_log_likelihood
from hiermod.inference.scores.rows import row_units, take_rows
from hiermod.inference.scores.smoothing import _smoothed

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

NUMBERS = 4_000_000  # draws x rows at once


@dataclass(frozen=True, eq=False)
class LooPit(FrozenArrays):
    """What ``fit.loo_pit()`` returns.  Immutable."""

    pit: np.ndarray  # (n,) Pr(new y_i <= y_i | the other rows); for discrete responses a random point of its step
    upper: np.ndarray  # (n,) 1 - pit, with its own relative accuracy
    pareto_k: np.ndarray  # (n,) of the weights
    index: pd.Index
    estimator: str  # "integrated", "conditional" (Gaussian, effects at their draws) or "simulated"
    discrete: bool

    @property
    def values(self) -> pd.Series:
        """The transforms under the labels of the rows used."""
        return pd.Series(np.array(self.pit), index=self.index, name="loo_pit")

    @property
    def tail(self) -> np.ndarray:
        """(n,) two-sided tail probability of each response given the other rows."""
        return np.minimum(1.0, 2.0 * np.minimum(self.pit, self.upper))

    @property
    def p(self) -> float:
        """p-value of uniformity: how rarely n independent uniforms leave a band as wide as these need.

        It allows for looking at all points at once, not for what little dependence leaving out single rows brings."""
        n = len(self.pit)
        ordered, i = np.sort(self.pit), np.arange(1, n + 1)
        needed = 2.0 * np.minimum(stats.beta.cdf(ordered, i, n + 1 - i), stats.beta.sf(ordered, i, n + 1 - i))
        local = float(needed.min())
        if local >= 1.0:
            return 1.0
        if n > EXACT:  # the local level of 500 that stands for the same overall level
            local, n = min(1.0, local * local_level(EXACT, LEVEL) / local_level(n, LEVEL)), EXACT
        if local <= 1e-12:
            return float(min(1.0, local * n))
        return float(np.clip(1.0 - inside_probability(*uniform_band(n, local)), 0.0, 1.0))

    def ecdf(self, level: float = LEVEL) -> pd.DataFrame:
        """value, difference (the share of transforms up to it less the value), lower, upper: the simultaneous band."""
        check_level(level)
        n = len(self.pit)
        low, high = uniform_band(n, local_level(n, level))
        x = np.unique(np.concatenate([[0.0], self.pit, low, high, [1.0]]))  # where the curve or its band jumps
        share = np.searchsorted(np.sort(self.pit), x, side="right") / n
        lower = np.searchsorted(high, x, side="right") / n
        upper = np.searchsorted(low, x, side="right") / n
        return pd.DataFrame({"value": x, "difference": share - x, "lower": lower - x, "upper": upper - x})

    def summary(self) -> Summary:
        """How the transforms were had, and what they say."""
        how = {
            "integrated": "group effects integrated out exactly",
            "conditional": "group effects at their draws, reweighted",
            "simulated": "simulated responses, reweighted" + (", ties at random" if self.discrete else ""),
        }[self.estimator]
        lines = [f"{len(self.pit)} rows, {how}.", f"Uniformity: p = {self.p:.3g}. {self._shape()}"]
        bad = np.flatnonzero(self.pareto_k > MAX_K)
        if len(bad):
            lines.append(
                f"Pareto k is above {MAX_K} for {len(bad)} rows ({listing([self.index[i] for i in bad])}): theirs are "
                "not to be trusted."
            )
        return Summary("LOO-PIT", tuple(Section("", line) for line in lines))

    def _shape(self) -> str:
        """In words, when uniformity is in doubt."""
        if self.p >= 0.05:
            return "The predictive distributions show no fault."
        z = np.clip(special.ndtri(np.clip(self.pit, 1e-12, 1 - 1e-12)), -6, 6)
        if abs(z.mean()) > 3 / np.sqrt(len(z)):
            way = "below" if z.mean() < 0 else "above"
            return f"Responses lie {way} their predictions more often than they should."
        middle = float(((self.pit > 0.25) & (self.pit < 0.75)).mean())
        if middle > 0.5:
            return (
                f"{100 * middle:.0f} % of the responses lie in the middle half of their predictive distribution: it is "
                "wider than the data there. With some rows far out, heavier tails than the model's are the usual cause."
            )
        return (
            f"Only {100 * middle:.0f} % of the responses lie in the middle half of their predictive distribution: it "
            "is too narrow, or of another shape."
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@checked
def loo_pit(
    fit: BayesianFit,
    integrated: bool | str = "auto",
    random_seed: int | None = 0,
) -> LooPit:
    """The place of each response in its predictive distribution given all other rows: uniform under a true model.

    integrated: "auto" integrates group effects out where ``loo`` does; True insists, False never does.  Responses
    with ties (counts, 0/1) get a random place within their step, which ``random_seed`` fixes.  ``.values``, ``.p``
    of uniformity, ``.tail``, ``.pareto_k``; drawn by ``hm.plots.loo_pit_ecdf``.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).fit(random_seed=1)
    >>> int(fit.loo_pit().values.idxmax())
    56
    """
    bayesian_record(fit)
    if integrated is not False:
        try:
            found = integrated_pit(fit)
        except UnsupportedError:
            if integrated is True:
                raise
        else:
            return _record(fit, found, "integrated", False)
    if row_draws.is_gaussian(fit):
        return _record(fit, _at_draws(fit), "conditional", False)
    return _simulated(fit, generator(random_seed))


def integrated_pit(fit: BayesianFit, quick: int | None = None) -> Transforms:
    """Effects integrated out; quick: see ``quick_transforms``, how many draws.  UnsupportedError, DesignError."""
    density, record = _density(fit), fit.record
    units = row_units(fit.design, density)
    check_estimable(units, tuple(fit.design.index), "row")
    phi = flat_draws(record.unconstrained_draws(density.coordinates))
    if quick is not None:
        return quick_transforms(density, units, phi, quick)
    return integrated_transforms(density, units, phi, fit.inference.seed)


def _record(fit: BayesianFit, found: Transforms, estimator: str, discrete: bool) -> LooPit:
    return LooPit(found.below, found.above, found.k, fit.design.index, estimator, discrete)


def _at_draws(fit: BayesianFit) -> Transforms:
    """Gaussian: the normal distribution function at each draw of everything, weighted."""
    record, design = fit.record.drawn(), fit.design
    count, parts = record.shape[0] * record.shape[1], []
    step = max(1, NUMBERS // count)
    for start in range(0, design.nobs, step):
        some = take_rows(design, np.arange(design.nobs)[start : start + step])
        sd = residual_sd(record, some)
        z = ((some.y - linear_predictor(record, some)) / sd).reshape(count, -1)
        log_sd = np.broadcast_to(np.log(sd), (*record.shape, some.nobs)).reshape(count, -1)
        parts.append(weighted_normal(z.T, (-0.5 * np.square(z) - log_sd).T))
    return Transforms(*(np.concatenate(piece) for piece in zip(*parts, strict=True)))


def _simulated(fit: BayesianFit, rng: np.random.Generator) -> LooPit:
    """Weighted shares of simulated responses below the observed one; ties are split at random (Czado et al. 2009)."""
    drawn = replicates(fit, None, rng)
    logs = row_log_likelihood(fit)
    count, n = drawn.simulated.shape
    below, above, k = np.empty(n), np.empty(n), np.empty(n)
    step = max(1, NUMBERS // count)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        log_p = logs(rows).reshape(count, -1)
        log_weights, k[rows] = _smoothed(-np.ascontiguousarray(log_p.T))
        weights, new, y = np.exp(log_weights), drawn.simulated[:, rows].T, drawn.y[rows, None]
        less, more = (weights * (new < y)).sum(axis=1), (weights * (new > y)).sum(axis=1)
        tie = np.clip(1.0 - less - more, 0.0, 1.0)
        # between neighbouring simulated values the place is unknown: half a draw at random, so that none is 0 or 1
        u = rng.random(len(tie))
        below[rows] = np.clip((less + u * tie) * count / (count + 1) + u / (count + 1), 0.0, 1.0)
        above[rows] = 1.0 - below[rows]
    return LooPit(below, above, k, fit.design.index, "simulated", drawn.discrete)
