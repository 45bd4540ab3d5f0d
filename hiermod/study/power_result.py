"""Power: what ``hm.power`` returns.  Shares with Wilson's interval (1927), the fitted curve, the smallest size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.summary import Section, Summary
from hiermod.fits.tables import LEVEL, check_level
from hiermod.study.required_size import MISFIT, RequiredSize, isotonic, power_at, probit_line, required_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Power:
    """What ``hm.power`` returns.  fits: one row per fit: size, fit, p, estimate, singular, converged."""

    formula: str
    term: str
    method: str
    alpha: float
    seed: int
    fits: pd.DataFrame
    rows: dict[int, int]  # size -> rows of its data
    truth: dict[str, float]
    messages: tuple[str, ...]  # what went wrong, most frequent first

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per size: rows, fits, failed, not_converged, singular (counts), power, mcse, lower, upper, estimate,
        exaggeration, wrong_sign.

        power: share of all fits with p below alpha; a fit that failed found nothing.  mcse: its Monte Carlo standard
        error; lower, upper: Wilson's 95 % interval.  estimate: mean over fits.  exaggeration: mean absolute estimate of
        the significant fits over the true one; wrong_sign: share of them with the other sign (Gelman and Carlin 2014,
        Perspectives on Psychological Science 9, 641-651).  Both nan for several coefficients and for no effect."""
        truth = self.truth.get(self.term, np.nan)
        found = {}
        for size, part in self.fits.groupby("size", sort=True):
            n, p = len(part), part["p"].to_numpy()
            hit = p < self.alpha  # nan is no discovery
            share = hit.mean()
            lower, upper = wilson(int(hit.sum()), n)
            estimate = part["estimate"].to_numpy()
            told = hit.any() and np.isfinite(truth) and truth != 0
            found[size] = {
                "rows": self.rows[int(size)],
                "fits": n,
                "failed": int(np.isnan(p).sum()),
                "not_converged": int((~part["converged"].to_numpy() & np.isfinite(p)).sum()),
                "singular": int(part["singular"].sum()),
                "power": share,
                "mcse": np.sqrt(share * (1 - share) / n),
                "lower": lower,
                "upper": upper,
                "estimate": np.nanmean(estimate) if np.isfinite(estimate).any() else np.nan,
                "exaggeration": np.abs(estimate[hit]).mean() / abs(truth) if told else np.nan,
                "wrong_sign": (np.sign(estimate[hit]) != np.sign(truth)).mean() if told else np.nan,
            }
        return pd.DataFrame.from_dict(found, orient="index").rename_axis("size")

    def smallest_size(self, power: float = 0.8, level: float = LEVEL) -> RequiredSize:
        """The smallest sample size that reaches ``power``, with an interval: ``.size``, ``.estimate``, ``.lower``.

        A probit line in the square root of the size, with Fieller's interval; where the shares contradict the line
        (p below 0.01), isotonic regression with a bootstrap interval.  nan where the answer lies outside the sizes."""
        check_level(power, "power")
        sizes, hits, fits = self._counts()
        return required_size(sizes, hits, fits, power, check_level(level), self.seed)

    def curve(self, points: int = 101, level: float = LEVEL) -> pd.DataFrame:
        """The fitted curve between the smallest and the largest size: size, power, lower, upper (nan if isotonic)."""
        sizes, hits, fits = self._counts()
        line = probit_line(sizes, hits, fits)
        if line is not None and line.beta[1] > 0 and not line.misfit < MISFIT:
            at = np.linspace(sizes[0], sizes[-1], points)
            share, lower, upper = power_at(line, at, check_level(level))
            return pd.DataFrame({"size": at, "power": share, "lower": lower, "upper": upper})
        return pd.DataFrame({"size": sizes, "power": isotonic(hits, fits), "lower": np.nan, "upper": np.nan})

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self.table
        hits = (table["power"] * table["fits"]).round().to_numpy()
        return table.index.to_numpy(dtype=float), hits, table["fits"].to_numpy(dtype=float)

    def plot(self, power: float = 0.8, ax: Axes | None = None) -> Axes:
        """The curve with its Monte Carlo intervals; the dotted lines are the smallest size for ``power``."""
        from hiermod.plots.draw_power import power_curve

        return power_curve(self, power, ax)

    def summary(self) -> Summary:
        """The table, the smallest size for 80 %, and what went wrong."""
        table = self.table.dropna(axis=1, how="all")
        shown = table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value))
        failed = f"What went wrong: {'; '.join(self.messages[:3])}." if self.messages else ""
        return Summary(
            f"Power of the test of {self.term} in {self.formula}, {self.method}, alpha {self.alpha:g}",
            (
                Section("By sample size:", shown, failed),
                Section("", f"{self.smallest_size()}.", f"Random seed {self.seed}."),
            ),
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share.

    >>> [round(limit, 4) for limit in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    interval = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
