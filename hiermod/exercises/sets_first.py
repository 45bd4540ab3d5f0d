"""Exercises to notebooks 1 to 5: reading a fit, pooling, simulated stories, the boundary, crossed factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod import designs, stories
from hiermod.exercises import fits
from hiermod.exercises.exercise import Answerer, Exercise
from hiermod.exercises.fits import SLEEP, fixed, only, own, sd
from hiermod.study.simulation import simulate


def _sleep36(rng: np.random.Generator) -> pd.DataFrame:
    return fits.sleep(rng, subjects=36)


def _engines(read: Callable[[Any], float]) -> dict[str, Answerer]:
    """The same quantity from the other engines."""

    def by(fit: Callable[[str, pd.DataFrame], Any]) -> Answerer:
        return lambda d: read(fit(SLEEP, d))

    return {"ML": by(fits.ml), "Bayes (posterior mean)": by(fits.bayes)}


QUICKSTART = (
    Exercise(
        question=f"Fit `{SLEEP}`. By how many milliseconds does the reaction time of the average subject grow per day?",
        data=_sleep36,
        answer=lambda d: fixed(fits.reml(SLEEP, d), "Days"),
        tolerance=lambda d: 0.25 * fixed(fits.reml(SLEEP, d), "Days", "std_error"),
        also=_engines(lambda fit: fixed(fit, "Days")),
        wrong={
            "the intercept, the level on day 0; the change per day is another row": lambda d: fixed(
                fits.reml(SLEEP, d), "Intercept"
            ),
            "the standard error of the change, not the change": lambda d: fixed(
                fits.reml(SLEEP, d), "Days", "std_error"
            ),
            "how much the subjects' slopes differ (their sd), not the slope of the average subject": lambda d: sd(
                fits.reml(SLEEP, d), "Subject", "Days"
            ),
        },
        hints=("`fit.fixef()` has a row per common coefficient.", "The row is called `Days`."),
    ),
    Exercise(
        question=f"Fit `{SLEEP}`. By how much do the subjects differ in their change per day: what is the standard "
        "deviation of their slopes?",
        data=_sleep36,
        answer=lambda d: sd(fits.reml(SLEEP, d), "Subject", "Days"),
        tolerance=lambda d: 0.75 * fits.spread(36) * sd(fits.reml(SLEEP, d), "Subject", "Days"),
        also=_engines(lambda fit: sd(fit, "Subject", "Days")),
        wrong={
            "the variance, not the standard deviation": lambda d: sd(fits.reml(SLEEP, d), "Subject", "Days") ** 2,
            "the standard error of the average slope, which says how well the average is known, not how much subjects "
            "differ": lambda d: fixed(fits.reml(SLEEP, d), "Days", "std_error"),
            "the sd of the subjects' intercepts, not of their slopes": lambda d: sd(fits.reml(SLEEP, d), "Subject"),
        },
        hints=("`fit.varcorr()` has the spread of the group effects.", "Look at column `sdcor`, not `vcov`."),
    ),
    Exercise(
        question=f"Fit `{SLEEP}`. By how much do single measurements scatter around the line of their own subject: "
        "what is the residual standard deviation?",
        data=_sleep36,
        answer=lambda d: fits.residual(fits.reml(SLEEP, d)),
        tolerance=lambda d: 0.5 * fits.spread(len(d)) * fits.residual(fits.reml(SLEEP, d)),
        also=_engines(lambda fit: fits.residual(fit)),
        wrong={
            "the variance, not the standard deviation": lambda d: fits.residual(fits.reml(SLEEP, d)) ** 2,
            "the residual sd of a linear model without subjects: their differences are in it": lambda d: fits.residual(
                fits.reml("Reaction ~ Days", d)
            ),
        },
        hints=("The last row of `fit.varcorr()`, and `fit.sigma`.",),
    ),
)

POOLING = (
    Exercise(
        question=f"Fit `{SLEEP}`. What is the intercept of subject {{subject}} under partial pooling?",
        data=fits.sleep,
        answer=lambda d: own(fits.reml(SLEEP, d).coef(), d.attrs["subject"]),
        tolerance=lambda d: 0.2 * own(fits.reml(SLEEP, d).coef(), d.attrs["subject"], column="std_error"),
        also={"ML": lambda d: own(fits.ml(SLEEP, d).coef(), d.attrs["subject"])},
        wrong={
            "the subject's deviation from the average (ranef); its own intercept is the sum of the two (coef)": (
                lambda d: own(fits.reml(SLEEP, d).ranef(), d.attrs["subject"])
            ),
            "the intercept of the average subject (fixef), not this subject's": lambda d: fixed(
                fits.reml(SLEEP, d), "Intercept"
            ),
            "no pooling: the line through this subject's own rows": lambda d: fixed(
                fits.reml("Reaction ~ Days", only(d, "Subject", d.attrs["subject"])), "Intercept"
            ),
        },
        hints=(
            "The subject has its own intercept in the table `fit.coef()`.",
            "`fit.ranef()` has deviations from the average, `fit.coef()` the sum.",
        ),
        because="It lies between this subject's own line and that of the average subject.",
    ),
    Exercise(
        question="No pooling: what is the slope of `Reaction ~ Days` in the rows of subject {subject} alone?",
        data=fits.sleep,
        answer=lambda d: fixed(fits.reml("Reaction ~ Days", only(d, "Subject", d.attrs["subject"])), "Days"),
        wrong={
            "complete pooling: the slope through the rows of all subjects": lambda d: fixed(
                fits.reml("Reaction ~ Days", d), "Days"
            ),
            "partial pooling: the mixed model has drawn it towards the average": lambda d: own(
                fits.reml(SLEEP, d).coef(), d.attrs["subject"], "Days"
            ),
            "the intercept, not the slope": lambda d: fixed(
                fits.reml("Reaction ~ Days", only(d, "Subject", d.attrs["subject"])), "Intercept"
            ),
        },
        hints=("Keep the rows of that subject and fit the linear model to them.", "Or see `m.pooling().table()`."),
    ),
    Exercise(
        question=f"Fit `{SLEEP}`. What is the standard error of the average slope, `Days`?",
        data=fits.sleep,
        answer=lambda d: fixed(fits.reml(SLEEP, d), "Days", "std_error"),
        tolerance=lambda d: 0.06 * fixed(fits.reml(SLEEP, d), "Days", "std_error"),
        also={"ML": lambda d: fixed(fits.ml(SLEEP, d), "Days", "std_error")},
        wrong={
            "the standard error of the linear model, which takes rows of one subject for independent": lambda d: fixed(
                fits.reml("Reaction ~ Days", d), "Days", "std_error"
            ),
            "the sd of the subjects' slopes, which does not get smaller with more subjects": lambda d: sd(
                fits.reml(SLEEP, d), "Subject", "Days"
            ),
            "the standard error of the intercept": lambda d: fixed(fits.reml(SLEEP, d), "Intercept", "std_error"),
        },
        hints=("`fit.fixef()`, column `std_error`.",),
    ),
)

XY = "y ~ x + (1 | participant)"
TWO = stories.TWO


def _simpson(rng: np.random.Generator) -> pd.DataFrame:
    data = stories.simpson(participants=int(rng.integers(16, 28)), random_seed=rng)
    return fits.told(data.assign(y=data["y"] + rng.uniform(-5, 5) * data["x"]))


def _outlier(rng: np.random.Generator) -> pd.DataFrame:
    return fits.told(stories.outlier(int(rng.integers(16, 28)), float(rng.uniform(20, 40)), random_seed=rng))


def _paired(rng: np.random.Generator) -> pd.DataFrame:
    return fits.told(stories.paired(int(rng.integers(16, 28)), float(rng.uniform(0.1, 0.3)), random_seed=rng))


def _between_slope(d: pd.DataFrame) -> float:
    means = d.groupby("participant", observed=True)[["x", "y"]].mean()
    return float(np.polyfit(means["x"], means["y"], 1)[0])


def _t(d: pd.DataFrame, paired: bool) -> float:
    one, two = (d.loc[d["condition"] == level, "value"].to_numpy() for level in ("1", "2"))
    return float((stats.ttest_rel if paired else stats.ttest_ind)(two, one).statistic)


SIMULATION = (
    Exercise(
        question="How does y change with x within participants: what is the slope of x in `" + XY + "`?",
        data=_simpson,
        answer=lambda d: fixed(fits.reml(XY, d), "x"),
        tolerance=lambda d: 0.5 * fixed(fits.reml(XY, d), "x", "std_error"),
        also={
            "ML": lambda d: fixed(fits.ml(XY, d), "x"),
            "Bayes (posterior mean)": lambda d: fixed(fits.bayes(XY, d), "x"),
        },
        wrong={
            "the pooled slope of `y ~ x`, which mixes what happens within and between participants": lambda d: fixed(
                fits.reml("y ~ x", d), "x"
            ),
            "the slope between participants, through their means": _between_slope,
            "the intercept": lambda d: fixed(fits.reml(XY, d), "Intercept"),
        },
        hints=("The participants have to be told apart.", "Draw y against x, one colour for each participant."),
        because="Pooled over participants the slope is another one: Simpson's paradox.",
    ),
    Exercise(
        question=f"One participant lies far off in both conditions. What is the standard error of the difference "
        f"between the conditions in `{TWO}`?",
        data=_outlier,
        answer=lambda d: fixed(fits.reml(TWO, d), "condition[1]", "std_error"),
        tolerance=lambda d: 0.05 * fixed(fits.reml(TWO, d), "condition[1]", "std_error"),
        also={"ML": lambda d: fixed(fits.ml(TWO, d), "condition[1]", "std_error")},
        wrong={
            "the standard error of the linear model, to which the odd participant is residual": lambda d: fixed(
                fits.reml("value ~ condition", d), "condition[1]", "std_error"
            ),
            "the standard error of the intercept": lambda d: fixed(fits.reml(TWO, d), "Intercept", "std_error"),
            "the difference itself": lambda d: fixed(fits.reml(TWO, d), "condition[1]"),
        },
        hints=("`fit.fixef()`, column `std_error`, of the mixed model.",),
    ),
    Exercise(
        question=f"What is the t value of the condition in `{TWO}`?",
        data=_paired,
        answer=lambda d: fixed(fits.reml(TWO, d), "condition[2]", "t"),
        also={"paired t-test": lambda d: _t(d, True)},
        wrong={
            "the t of two independent samples, which forgets who is who": lambda d: _t(d, False),
            "the t value by ML, whose variances are too small by what the means cost: use REML": lambda d: fixed(
                fits.ml(TWO, d), "condition[2]", "t"
            ),
            "the difference, not its t value": lambda d: fixed(fits.reml(TWO, d), "condition[2]"),
        },
        hints=("The mixed model is the paired t-test.",),
    ),
)

MEAN = "yield_ ~ 1 + (1 | batch)"


def _story(rng: np.random.Generator) -> pd.DataFrame:
    n = int(rng.integers(16, 28))
    made = stories.different_slopes if rng.random() < 0.5 else stories.paired
    return fits.told(made(n, random_seed=rng))


def _batches(rng: np.random.Generator) -> pd.DataFrame:
    frame = designs.between(subjects=6, repeats=5, subject="batch")[["batch"]]
    truth: dict[str, Any] = {
        "fixef": {"Intercept": rng.uniform(1400, 1600)},
        "varcorr": {"1|batch": rng.uniform(25, 60)},
    }
    sigma = float(rng.uniform(30, 60))

    def make() -> pd.DataFrame:
        return fits.told(simulate(MEAN, frame, sigma=sigma, random_seed=rng, **truth).round({"yield_": 1}))

    return fits.until(make, lambda d: 0.005 < _boundary_p(d) < 0.2)


def _ratio(d: pd.DataFrame) -> float:
    """-2 log likelihood ratio of a model with batches against one without."""
    one, two = (fits.ml(formula, d).loglik for formula in ("yield_ ~ 1", MEAN))
    return max(2 * (two - one), 0.0)


def _boundary_p(d: pd.DataFrame) -> float:
    return float(0.5 * stats.chi2.sf(_ratio(d), 1))


BOUNDARY = (
    Exercise(
        question=f"Fit `{TWO}` by REML. Is the fit singular?",
        data=_story,
        answer=lambda d: "yes" if fits.reml(TWO, d).singular else "no",
        choices=("yes", "no"),
        wrong={
            "not what the estimated sd of the participants says; a fit is singular when it is 0": lambda d: (
                "no" if fits.reml(TWO, d).singular else "yes"
            ),
        },
        hints=("`fit.varcorr()` or `fit.check()`.", "`fit.singular` says it."),
    ),
    Exercise(
        question=f"Fit `{MEAN}` by REML. What is the standard deviation between batches?",
        data=_batches,
        answer=lambda d: sd(fits.reml(MEAN, d), "batch"),
        wrong={
            "the ML estimate, which is too small with few batches; the question is about REML": lambda d: sd(
                fits.ml(MEAN, d), "batch"
            ),
            "the variance, not the standard deviation": lambda d: sd(fits.reml(MEAN, d), "batch") ** 2,
            "the residual standard deviation, within batches": lambda d: fits.residual(fits.reml(MEAN, d)),
            "the sd of the batch means, which has noise in it": lambda d: (
                d.groupby("batch", observed=True)["yield_"].mean().std()
            ),
        },
        hints=("`m.reml().varcorr()`, column `sdcor`.",),
    ),
    Exercise(
        question=f"Compare `yield_ ~ 1` and `{MEAN}`, both by ML, with a likelihood ratio test. What is the p value, "
        "given that under the null hypothesis the sd lies on its boundary?",
        data=_batches,
        answer=_boundary_p,
        tolerance=lambda d: 0.02 * _boundary_p(d),
        wrong={
            "the p value of chi-square with 1 degree of freedom, twice too large: an sd cannot be negative": lambda d: (
                float(stats.chi2.sf(_ratio(d), 1))
            ),
            "the likelihood ratio statistic, not its p value": _ratio,
        },
        hints=("The statistic is 0 in half of all samples under the null hypothesis.",),
        because="Half of chi-square with 0 and half of chi-square with 1 degree of freedom.",
    ),
)

CROSSES = "rt ~ condition + (1 | subject) + (1 | item)"
NO_ITEMS = "rt ~ condition + (1 | subject)"
CONDITION = "condition[treatment]"


def _crossed(rng: np.random.Generator) -> pd.DataFrame:
    frame = designs.crossed(subjects=24, items=16, assign="item")
    truth: dict[str, Any] = {
        "fixef": {"Intercept": rng.uniform(500, 700), CONDITION: rng.uniform(20, 60)},
        "varcorr": {"1|subject": rng.uniform(60, 90), "1|item": rng.uniform(30, 50)},
        "sigma": rng.uniform(90, 120),
    }

    def make() -> pd.DataFrame:
        return fits.told(simulate(CROSSES, frame, random_seed=rng, **truth).round({"rt": 1}))

    return fits.until(make, lambda d: sd(fits.reml(CROSSES, d), "item") > 15)  # not on the boundary


def _share(d: pd.DataFrame, power: int = 2, items: bool = True) -> float:
    fit = fits.reml(CROSSES, d)
    parts = [sd(fit, "subject") ** power, fits.residual(fit) ** power, sd(fit, "item") ** power * items]
    return parts[0] / sum(parts)


CROSSED = (
    Exercise(
        question=f"Fit `{CROSSES}` by REML. What is the standard deviation between items?",
        data=_crossed,
        answer=lambda d: sd(fits.reml(CROSSES, d), "item"),
        tolerance=lambda d: 0.02 * sd(fits.reml(CROSSES, d), "item"),
        wrong={
            "the variance, not the standard deviation": lambda d: sd(fits.reml(CROSSES, d), "item") ** 2,
            "the sd between subjects": lambda d: sd(fits.reml(CROSSES, d), "subject"),
            "the residual sd": lambda d: fits.residual(fits.reml(CROSSES, d)),
        },
        hints=("`fit.varcorr()` has a row for each grouping factor.",),
    ),
    Exercise(
        question=f"Every item comes in one condition only. What is the standard error of the condition in `{CROSSES}`?",
        data=_crossed,
        answer=lambda d: fixed(fits.reml(CROSSES, d), CONDITION, "std_error"),
        tolerance=lambda d: 0.03 * fixed(fits.reml(CROSSES, d), CONDITION, "std_error"),
        wrong={
            "the standard error without items: it takes 16 items for hundreds of independent rows": lambda d: fixed(
                fits.reml(NO_ITEMS, d), CONDITION, "std_error"
            ),
            "the standard error of the linear model, which knows neither subjects nor items": lambda d: fixed(
                fits.reml("rt ~ condition", d), CONDITION, "std_error"
            ),
            "the standard error of the intercept": lambda d: fixed(fits.reml(CROSSES, d), "Intercept", "std_error"),
        },
        hints=("Both factors belong into the formula.", "`fit.fixef()`, column `std_error`."),
    ),
    Exercise(
        question=f"Fit `{CROSSES}` by REML. Which share of the variance (0 to 1) is due to subjects?",
        data=_crossed,
        answer=_share,
        tolerance=0.01,
        wrong={
            "a share of standard deviations; only variances add up": lambda d: _share(d, power=1),
            "the share without the items' variance in the total": lambda d: _share(d, items=False),
        },
        hints=("The variances are column `vcov` of `fit.varcorr()`.", "Divide by the sum of all three."),
    ),
)
