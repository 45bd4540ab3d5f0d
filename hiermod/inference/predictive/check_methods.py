"""What a Bayesian fit can say about itself beside its data: predictive checks, LOO-PIT, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermod.core.checked import checked

if TYPE_CHECKING:
    import pandas as pd

    from hiermod.fits.bayesian import BayesianFit
    from hiermod.inference.predictive.loo_pit import LooPit
    from hiermod.inference.predictive.predictive_checks import Statistics
    from hiermod.inference.predictive.reliability import Calibration


@checked
class CheckMethods:
    """Mixed into BayesianFit."""

    def predictive_check(  # type: ignore[misc]
        self: BayesianFit,
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
        from hiermod.inference.predictive.predictive_checks import predictive_check

        return predictive_check(self, statistic, group, draws, target, level, random_seed)

    def predictive_intervals(  # type: ignore[misc]
        self: BayesianFit,
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
        from hiermod.inference.predictive.predictive_checks import predictive_intervals

        return predictive_intervals(self, group, draws, target, level, inner, random_seed)

    def loo_pit(  # type: ignore[misc]
        self: BayesianFit,
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
        from hiermod.inference.predictive.loo_pit import loo_pit

        return loo_pit(self, integrated, random_seed)

    def calibration(  # type: ignore[misc]
        self: BayesianFit,
        predictions: str = "loo",
        level: float = 0.95,
        resamples: int = 500,
        random_seed: int | None = 0,
    ) -> Calibration:
        """Do events that were given p per cent happen p per cent of the time?  For 0/1 responses and counts of trials.

        predictions: "loo" (each row's probability given the other rows) or "fitted" (given all, its own included).
        ``.table()``: predicted, calibrated, lower, upper, trials; ``.brier`` and its parts; ``.p``.  The band is that
        of each point, from ``resamples`` sets of outcomes.  Drawn by ``hm.plots.calibration``.  UnsupportedError."""
        from hiermod.inference.predictive.reliability import calibration

        return calibration(self, predictions, level, resamples, random_seed)
