"""Calibration of predicted probabilities: how often what was given p per cent comes true (CORP reliability diagrams).

The calibrated probability is the isotonic regression of outcomes on predictions, found by pooling adjacent violators;
the Brier score is miscalibration - discrimination + uncertainty (Dimitriadis, Gneiting and Jordan 2021, PNAS 118(8)).
The band holds the curve of outcomes that are drawn with the predicted probabilities (consistency resampling)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary
from hiermod.errors import UnsupportedError
from hiermod.fits.tables import check_level
from hiermod.fits.targets import choice
from hiermod.formula.design import FrozenArrays
from hiermod.inference.predictive.replicates import bayesian_record, kind_of, replicates
from hiermod.inference.scores.row_likelihood import row_log_likelihood
from hiermod.inference.scores.smoothing import _smoothed

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit


@dataclass(frozen=True, eq=False)
class Calibration(FrozenArrays):
    """What ``fit.calibration()`` returns, at m different predicted probabilities.  Immutable."""

    predicted: np.ndarray  # (m,) ascending
    calibrated: np.ndarray  # (m,) isotonic regression of the outcomes
    lower: np.ndarray  # (m,) band of the curve under calibration, each point by itself
    upper: np.ndarray
    trials: np.ndarray  # (m,) outcomes behind each prediction
    brier: float
    miscalibration: float  # 0 or more; what recalibrating would gain
    discrimination: float  # 0 or more; what calibrated predictions gain over the overall share
    uncertainty: float  # Brier score of the overall share
    p: float  # of so much miscalibration among outcomes drawn with the predicted probabilities
    predictions: str  # "loo" or "fitted"
    level: float

    def table(self) -> pd.DataFrame:
        """predicted, calibrated, lower, upper, trials."""
        names = ("predicted", "calibrated", "lower", "upper", "trials")
        return pd.DataFrame({name: np.array(getattr(self, name)) for name in names})

    def summary(self) -> Summary:
        """The Brier score and its parts."""
        of = "leave-one-out predictions" if self.predictions == "loo" else "fitted probabilities"
        lines = (
            f"{int(self.trials.sum())} outcomes, {of}.",
            f"Brier score {self.brier:.4f} = miscalibration {self.miscalibration:.4f} - discrimination "
            f"{self.discrimination:.4f} + uncertainty {self.uncertainty:.4f}.",
            f"So much miscalibration has p = {self.p:.3g} among outcomes drawn with the predicted probabilities.",
        )
        return Summary("Calibration", tuple(Section("", line) for line in lines))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@checked
def calibration(
    fit: BayesianFit,
    predictions: str = "loo",
    level: float = 0.95,
    resamples: int = 500,
    random_seed: int | None = 0,
) -> Calibration:
    """Do events that were given p per cent happen p per cent of the time?  For 0/1 responses and counts of trials.

    predictions: "loo" (each row's probability given the other rows) or "fitted" (given all, its own included).
    ``.table()``: predicted, calibrated, lower, upper, trials; ``.brier`` and its parts; ``.p``.  The band is that
    of each point, from ``resamples`` sets of outcomes.  Drawn by ``hm.plots.calibration``.  UnsupportedError."""
    record = bayesian_record(fit)
    check_level(level)
    check_count("resamples", resamples, 20)
    predictions = choice("predictions", predictions, ("loo", "fitted"))
    y = np.asarray(fit.design.y, dtype=float)
    if kind_of(fit, y) != "binary" and fit.design.trials is None:
        raise UnsupportedError(
            f"calibration is for yes/no responses and counts out of trials, and family {fit.family!r} has neither: "
            "hm.plots.loo_pit_ecdf(fit) asks the same question of other responses"
        )
    rng = generator(random_seed)
    log_p = row_log_likelihood(fit)(slice(None)).reshape(record.shape[0] * record.shape[1], -1).T
    if fit.design.trials is None:
        trials, density = np.ones(len(y)), np.exp(log_p)
        probability = np.where(y[:, None] == 1, density, 1.0 - density)  # of a 1, at each draw
    else:
        trials = np.asarray(fit.design.trials, dtype=float)
        probability = (replicates(fit, None, rng).simulated / trials).T
    weights = np.exp(_smoothed(-np.ascontiguousarray(log_p))[0]) if predictions == "loo" else 1.0 / log_p.shape[1]
    return calibrate((weights * probability).sum(axis=1), y, trials, predictions, level, resamples, rng)


def calibrate(
    probability: np.ndarray,
    successes: np.ndarray,
    trials: np.ndarray,
    predictions: str,
    level: float,
    resamples: int,
    rng: np.random.Generator,
) -> Calibration:
    """From predicted probabilities, successes and trials, (n,) each."""
    probability = np.clip(probability, 0.0, 1.0)
    x, place = np.unique(np.round(probability, 12), return_inverse=True)
    count = np.bincount(place, weights=trials)
    share = np.bincount(place, weights=successes) / count
    curve = _isotonic(share, count)
    drawn = rng.binomial(count.astype(np.int64), x, size=(resamples, len(x))) / count
    curves = np.stack([_isotonic(one, count) for one in drawn])
    lower, upper = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    parts = _parts(x, share, curve, count)
    others = np.array([_parts(x, one, fitted, count)[0] for one, fitted in zip(drawn, curves, strict=True)])
    total, overall = count.sum(), float(successes.sum() / trials.sum())
    return Calibration(
        predicted=x,
        calibrated=curve,
        lower=lower,
        upper=upper,
        trials=count,
        brier=float((count * (share * (1 - x) ** 2 + (1 - share) * x**2)).sum() / total),
        miscalibration=parts[0],
        discrimination=parts[1],
        uncertainty=overall * (1 - overall),
        p=float((1 + (others >= parts[0]).sum()) / (1 + len(others))),
        predictions=predictions,
        level=level,
    )


def _isotonic(share: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.asarray(isotonic_regression(share, weights=count).x)


def _parts(x: np.ndarray, share: np.ndarray, curve: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Miscalibration and discrimination: Brier scores of x and of the overall share, less that of the curve."""
    total = count.sum()
    overall = (count * share).sum() / total
    own = (count * np.square(share - curve)).sum()
    return (
        float(((count * np.square(share - x)).sum() - own) / total),
        float(((count * np.square(share - overall)).sum() - own) / total),
    )
