"""Exercises to notebooks 9 and 10: generalised models, power."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod import designs, stories
from hiermod.exercises import fits
from hiermod.exercises.exercise import Exercise
from hiermod.exercises.fits import fixed, sd
from hiermod.study.simulation import simulate

DEPT = "p(admitted, applied) ~ gender + (1 | dept)"
VISITS = "visits ~ treated + (1 | clinic)"
MALE = "gender[Male]"


def _admissions(rng: np.random.Generator) -> pd.DataFrame:
    return fits.told(stories.admissions(int(rng.integers(3000, 6000)), random_seed=rng))


def _visits(rng: np.random.Generator) -> pd.DataFrame:
    frame = designs.nested({"clinic": 20, "patient": 12})
    frame["treated"] = np.tile([0, 1], len(frame) // 2)
    truth: dict[str, Any] = {
        "fixef": {"Intercept": rng.uniform(0.8, 1.4), "treated": rng.uniform(0.4, 0.8)},
        "varcorr": {"1|clinic": 0.5},
    }
    return fits.told(simulate(VISITS, frame, family="poisson", random_seed=rng, **truth))


def _male(d: pd.DataFrame, formula: str = DEPT, column: str = "estimate") -> float:
    return fixed(fits.ml(formula, d, family="binomial"), MALE, column)


def _rate(d: pd.DataFrame, column: str = "estimate") -> float:
    return fixed(fits.ml(VISITS, d, family="poisson"), "treated", column)


GENERALISED = (
    Exercise(
        question=f"Fit `{DEPT}` (binomial). What is the difference between men and women in log odds, at the same "
        "department?",
        data=_admissions,
        answer=_male,
        tolerance=lambda d: 0.25 * _male(d, column="std_error"),
        wrong={
            "the difference without departments: it is about where people apply": lambda d: _male(
                d, "p(admitted, applied) ~ gender"
            ),
            "the odds ratio, not the difference in log odds": lambda d: float(np.exp(_male(d))),
        },
        hints=('`hm.Model(formula, data, family="binomial").ml()`',),
        because="Within departments little is left of the difference.",
    ),
    Exercise(
        question="Now the linear model's cousin, `p(admitted, applied) ~ gender` (binomial): what is the odds ratio of "
        "men against women in all departments together?",
        data=_admissions,
        answer=lambda d: float(np.exp(_male(d, "p(admitted, applied) ~ gender"))),
        wrong={
            "the difference in log odds; the odds ratio is its exponential": lambda d: _male(
                d, "p(admitted, applied) ~ gender"
            ),
            "the odds ratio within departments": lambda d: float(np.exp(_male(d))),
            "the ratio of women to men": lambda d: float(np.exp(-_male(d, "p(admitted, applied) ~ gender"))),
        },
        hints=("Counts of all departments, added up, are enough.",),
    ),
    Exercise(
        question=f"Fit `{VISITS}` (poisson). By which factor does the treatment multiply the number of visits?",
        data=_visits,
        answer=lambda d: float(np.exp(_rate(d))),
        tolerance=lambda d: float(np.exp(_rate(d))) * 0.25 * _rate(d, "std_error"),
        wrong={
            "the coefficient, on the log scale": _rate,
            "the change in per cent; a factor of 1.2 is a change of 20 %": lambda d: 100 * float(np.expm1(_rate(d))),
            "the factor minus 1": lambda d: float(np.expm1(_rate(d))),
        },
        hints=("The link is the logarithm.", "exp of the coefficient."),
    ),
)

WITHIN = "y ~ condition + (1 | subject)"
TREATED = "condition[treatment]"


def _plan(rng: np.random.Generator) -> pd.DataFrame:
    """A pilot study within subjects; attrs: the number planned, and the effect hoped for."""
    effect, sigma = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.8, 1.0))
    data = simulate(
        WITHIN,
        designs.within(subjects=12),
        fixef={"Intercept": rng.uniform(3, 5), TREATED: effect},
        varcorr={"1|subject": rng.uniform(1.2, 1.8)},
        sigma=sigma,
        random_seed=rng,
    ).round({"y": 3})
    return fits.told(data, n=12 * int(rng.integers(3, 5)), effect=round(effect / 2, 2))


def _se(d: pd.DataFrame) -> float:
    """Standard error at the planned size: sigma sqrt(2 / n)."""
    return fits.residual(fits.reml(WITHIN, d)) * float(np.sqrt(2 / d.attrs["n"]))


def _se_between(d: pd.DataFrame) -> float:
    """The same with n subjects, half of them in each condition."""
    fit = fits.reml(WITHIN, d)
    return float(np.sqrt(4 * (sd(fit, "subject") ** 2 + fits.residual(fit) ** 2) / d.attrs["n"]))


def _power(d: pd.DataFrame, error: float, df: int) -> float:
    shift, limit = d.attrs["effect"] / error, stats.t.ppf(0.975, df)
    return float(stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift))


PLAN = (
    "The data are a pilot study of 12 subjects, each in both conditions. Take the REML estimates of `"
    + WITHIN
    + "` for "
)
POWER = (
    Exercise(
        question=PLAN + "true. What is the standard error of the condition with {n} subjects, each in both conditions?",
        data=_plan,
        answer=_se,
        tolerance=lambda d: 0.03 * _se(d),
        wrong={
            "the standard error of the pilot study, with 12 subjects": lambda d: fixed(
                fits.reml(WITHIN, d), TREATED, "std_error"
            ),
            "too small: the standard error falls with the square root of the number of subjects": lambda d: (
                fixed(fits.reml(WITHIN, d), TREATED, "std_error") * 12 / d.attrs["n"]
            ),
            "the standard error of a comparison between subjects": _se_between,
        },
        hints=("Within subjects their differences cancel: only sigma counts.", "sigma * sqrt(2 / n)"),
    ),
    Exercise(
        question=PLAN
        + "true, and a difference of {effect}. What is the power (5 %, two-sided) with {n} subjects, each in "
        "both conditions? A simulation of 1,000 fits or more will do.",
        data=_plan,
        answer=lambda d: _power(d, _se(d), d.attrs["n"] - 1),
        tolerance=0.05,
        wrong={
            "the probability to miss the effect; the power is the rest": lambda d: (
                1 - _power(d, _se(d), d.attrs["n"] - 1)
            ),
            "the power of a comparison between subjects": lambda d: _power(d, _se_between(d), d.attrs["n"] - 2),
        },
        hints=(
            "`hm.power(formula, lambda n: hm.designs.within(subjects=n), [...], fixef=..., varcorr=..., sigma=...)`",
        ),
    ),
    Exercise(
        question=PLAN
        + "true. What is the standard error with {n} subjects, if each is in one condition only (half in each)?",
        data=_plan,
        answer=_se_between,
        tolerance=lambda d: 0.02 * _se_between(d),
        wrong={
            "the standard error when each is in both conditions; now the subjects' differences do not cancel": _se,
            "computed as if all {n} were in each condition": lambda d: _se_between(d) / float(np.sqrt(2)),
        },
        hints=("The variance of one value is tau^2 + sigma^2.", "n / 2 values in each condition."),
    ),
)
