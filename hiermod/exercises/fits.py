"""Fits behind the answers, quietly: a singular fit is part of what is asked, not news.

Data whose parameters are drawn for each student, on the designs of hm.designs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd

from hiermod import designs
from hiermod.errors import FitError, HiermodWarning
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.model import Model
from hiermod.study.simulation import simulate

SLEEP = "Reaction ~ Days + (Days | Subject)"


@dataclass(frozen=True)
class _Frame:
    """A frame that equals another one of the same values, so that questions on the same data share their fits."""

    digest: bytes
    data: pd.DataFrame = field(compare=False)


@lru_cache(maxsize=32)
def _fit(method: str, formula: str, frame: _Frame, options: tuple[tuple[str, Any], ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HiermodWarning)
        model = Model(formula, frame.data, **dict(options))
        return model.fit(random_seed=1) if method == "fit" else getattr(model, method)()


def _fitted(method: str, formula: str, data: pd.DataFrame, options: dict[str, Any]) -> Any:
    rows = pd.util.hash_pandas_object(data).to_numpy().tobytes()
    digest = hashlib.sha256(rows + repr(list(data.columns)).encode()).digest()
    return _fit(method, formula, _Frame(digest, data.copy()), tuple(sorted(options.items())))


def reml(formula: str, data: pd.DataFrame, **options: Any) -> FrequentistFit:
    """The REML fit; least squares for a formula without groups."""
    return cast(FrequentistFit, _fitted("reml", formula, data, options))


def ml(formula: str, data: pd.DataFrame, **options: Any) -> FrequentistFit:
    """The maximum likelihood fit."""
    return cast(FrequentistFit, _fitted("ml", formula, data, options))


def bayes(formula: str, data: pd.DataFrame, **options: Any) -> BayesianFit:
    """The posterior under the default priors."""
    return cast(BayesianFit, _fitted("fit", formula, data, options))


def fixed(fit: Any, term: str, column: str = "estimate") -> float:
    """A common coefficient, or another column of its row."""
    return float(fit.fixef().loc[term, column])


def sd(fit: Any, group: str, term: str = "Intercept") -> float:
    """The standard deviation of a group's effects."""
    table = fit.varcorr()
    rows = (table["group"] == group) & (table["term1"] == term) & table["term2"].isna()
    return float(table.loc[rows, "estimate" if "estimate" in table else "sdcor"].iloc[0])


def residual(fit: Any) -> float:
    """The residual standard deviation."""
    sigma = fit.sigma
    return float(sigma["estimate"] if isinstance(sigma, pd.Series) else sigma)


def own(table: pd.DataFrame, level: str, term: str = "Intercept", column: str = "estimate") -> float:
    """One group's entry in ``fit.ranef()`` or ``fit.coef()``."""
    rows = (table["level"].astype(str) == level) & (table["term"] == term)
    return float(table.loc[rows, column].iloc[0])


def only(data: pd.DataFrame, column: str, level: str) -> pd.DataFrame:
    """The rows of one group."""
    return data[data[column].astype(str) == level]


def spread(groups: int) -> float:
    """About the standard error of an sd of that many groups, as a share of it: 1 / sqrt(2 (J - 1))."""
    return float(1 / np.sqrt(2 * (groups - 1)))


def sleep(rng: np.random.Generator, subjects: int = 18) -> pd.DataFrame:
    """Data like sleepstudy.  attrs["subject"]: the one whose intercept lies furthest from the mean."""
    frame = designs.longitudinal(subjects=subjects, times=10, subject="Subject", time="Days")
    data = simulate(
        SLEEP,
        frame,
        fixef={"Intercept": rng.uniform(220, 290), "Days": rng.uniform(6, 14)},
        varcorr={"1|Subject": rng.uniform(28, 40), "Days|Subject": rng.uniform(5, 8), "Subject_corr": 0.1},
        sigma=rng.uniform(20, 30),
        random_seed=rng,
    ).round({"Reaction": 2})
    means = data.groupby("Subject", observed=True)["Reaction"].mean()
    return told(data, subject=str((means - means.mean()).abs().idxmax()))


def told(data: pd.DataFrame, **names: Any) -> pd.DataFrame:
    """The data with names for the question's text, and without the truth."""
    data.attrs = {key: value for key, value in {**data.attrs, **names}.items() if key not in ("truth", "lesson")}
    return data


def until(make: Callable[[], pd.DataFrame], fits: Callable[[pd.DataFrame], bool], draws: int = 200) -> pd.DataFrame:
    """The first data set that fits the question.  Raises FitError after ``draws`` that do not."""
    for _ in range(draws):
        data = make()
        if fits(data):
            return data
    raise FitError(f"none of {draws} data sets was what the question needs: change the parameters they are drawn from")
