"""Recovery: what ``hm.recovery`` returns.  Bias, coverage and ranks, each with its Monte Carlo error.

Morris, White and Crowther (2019, Statistics in Medicine 38, 2074-2102, table 6); ranks: Talts et al. (2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.summary import Section, Summary
from hiermod.errors import UnsupportedError
from hiermod.study.power_result import wilson
from hiermod.study.recovery_jobs import RANKED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 10  # of a rank histogram


@dataclass(frozen=True, eq=False)
class Recovery:
    """What ``hm.recovery`` returns.

    estimates: one row per fit, method and parameter: fit, method, parameter, truth, estimate, std_error, lower, upper,
    rank (of the truth among 99 posterior draws), converged, singular; nan where a fit failed."""

    formula: str
    estimates: pd.DataFrame
    level: float
    seed: int
    from_prior: bool  # whether every data set had parameters of its own
    messages: tuple[str, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per parameter and method: truth, mean, bias, bias_mcse, rmse, coverage, coverage_mcse,
        coverage_lower, coverage_upper, fits, failed, singular (share).

        bias: mean of estimate - truth; bias_mcse, coverage_mcse: Monte Carlo standard errors.  coverage: share of the
        intervals that hold the truth, with Wilson's 95 % interval; nan where the method gives none.  truth: the mean,
        if drawn from priors."""
        found = []
        for (parameter, method), part in self.estimates.groupby(["parameter", "method"], sort=False):
            error = (part["estimate"] - part["truth"]).dropna()
            limits = part.dropna(subset=["lower", "upper", "truth"])
            inside = limits["truth"].between(limits["lower"], limits["upper"])
            n, share = len(error), inside.mean() if len(inside) else np.nan
            low, high = wilson(int(inside.sum()), len(inside)) if len(inside) else (np.nan, np.nan)
            found.append(
                {
                    "parameter": parameter,
                    "method": method,
                    "truth": part["truth"].mean(),
                    "mean": part["estimate"].mean(),
                    "bias": error.mean() if n else np.nan,
                    "bias_mcse": error.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan,
                    "rmse": np.sqrt((error**2).mean()) if n else np.nan,
                    "coverage": share,
                    "coverage_mcse": np.sqrt(share * (1 - share) / len(inside)) if len(inside) else np.nan,
                    "coverage_lower": low,
                    "coverage_upper": high,
                    "fits": len(part),
                    "failed": int(part["failed"].sum()),
                    "singular": part["singular"].mean(),
                }
            )
        return pd.DataFrame(found).set_index(["parameter", "method"])

    def ranks(self) -> pd.DataFrame:
        """Ranks of the truth among 99 posterior draws, one column per parameter; index fit."""
        bayes = self.estimates[self.estimates["method"] == "Bayes"]
        if bayes.empty:
            raise UnsupportedError("ranks are those among posterior draws: ask for methods with 'Bayes'")
        wide = bayes.pivot(index="fit", columns="parameter", values="rank")
        return wide[[name for name in bayes["parameter"].unique() if wide[name].notna().any()]]

    def uniformity(self) -> pd.DataFrame:
        """Chi-square test that ranks are uniform, in ten bins; index parameter: fits, chisq, p, p_adjusted (Holm).

        Only meaningful where the parameters were drawn from the priors (truth="prior")."""
        if not self.from_prior:
            raise UnsupportedError(
                "ranks are uniform only where parameters are drawn from the priors of the fits: use truth='prior'"
            )
        rows = {}
        for name, column in self.ranks().items():
            counts = rank_counts(column.dropna().to_numpy())
            test = stats.chisquare(counts)
            rows[name] = (int(counts.sum()), float(test.statistic), float(test.pvalue))
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["fits", "chisq", "p"]).rename_axis("parameter")
        order = np.argsort(table["p"].to_numpy())
        steps = table["p"].to_numpy()[order] * np.arange(len(order), 0, -1)
        adjusted = np.empty(len(order))
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
        return table.assign(p_adjusted=adjusted)

    def rank_counts(self) -> pd.DataFrame:
        """The rank histogram: one row per bin (its first rank), one column per parameter.

        attrs: lower and upper, between which a bin's count lies in 99 of 100 studies if ranks are uniform."""
        ranks = self.ranks()
        counts = pd.DataFrame({name: rank_counts(column.dropna().to_numpy()) for name, column in ranks.items()})
        counts.index = pd.Index(np.arange(BINS) * (RANKED + 1) // BINS, name="rank")
        n = int(ranks.notna().sum().max())
        counts.attrs = {"lower": stats.binom.ppf(0.005, n, 1 / BINS), "upper": stats.binom.ppf(0.995, n, 1 / BINS)}
        counts.attrs["expected"] = n / BINS
        return counts

    def plot_bias(self, ax: Axes | None = None) -> Axes:
        """Bias of every parameter by method, in standard deviations of the estimates."""
        from hiermod.plots.draw_recovery import recovery_bias

        return recovery_bias(self, ax)

    def plot_coverage(self, ax: Axes | None = None) -> Axes:
        """Coverage of every parameter's intervals by method."""
        from hiermod.plots.draw_recovery import recovery_coverage

        return recovery_coverage(self, ax)

    def plot_ranks(self) -> Figure:
        """Rank histograms, one panel per parameter."""
        from hiermod.plots.draw_recovery import rank_histogram

        return rank_histogram(self)

    def summary(self) -> Summary:
        """The table with its Monte Carlo errors, and what went wrong."""
        table = self.table
        shown = pd.DataFrame(
            {
                "truth": table["truth"].map(_number),
                "mean": table["mean"].map(_number),
                "bias (mcse)": _pairs(table["bias"], table["bias_mcse"]),
                "rmse": table["rmse"].map(_number),
                f"{self.level:.0%} coverage (mcse)": _pairs(table["coverage"], table["coverage_mcse"]),
                "failed": table["failed"],
                "singular": table["singular"].map("{:.1%}".format),
            }
        )
        failed = f"What went wrong: {'; '.join(self.messages[:3])}. " if self.messages else ""
        drawn = "Every data set has parameters of its own, drawn from the priors. " if self.from_prior else ""
        note = f"{drawn}mcse: Monte Carlo standard error. {failed}Random seed {self.seed}."
        count = self.estimates["fit"].nunique()
        return Summary(
            f"Recovery of {self.formula}, {count} simulated data sets", (Section("", shown.reset_index(), note, False),)
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"


def _pairs(values: pd.Series, errors: pd.Series) -> list[str]:
    return ["" if np.isnan(v) else f"{v:.3g} ({e:.2g})" for v, e in zip(values, errors, strict=True)]


def rank_counts(ranks: np.ndarray) -> np.ndarray:
    """(10,) how many ranks fall into each of ten equal bins.

    >>> rank_counts(np.array([0, 9, 10, 99])).tolist()
    [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    return np.bincount((ranks.astype(int) * BINS) // (RANKED + 1), minlength=BINS)
