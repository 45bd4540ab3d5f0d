"""Exercises to notebooks 6 to 8: priors, model comparison, shrinkage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod import designs
from hiermod.exercises import fits
from hiermod.exercises.exercise import Exercise
from hiermod.exercises.fits import SLEEP, fixed, own, sd
from hiermod.study.simulation import simulate


def _prior_mean(rng: np.random.Generator) -> pd.DataFrame:
    names = {"m": int(rng.integers(-5, 6)) * 10, "s": int(rng.integers(8, 15)), "sd": 20}
    data = pd.DataFrame(
        {"y": (names["m"] + rng.choice([-1, 1]) * 30 + rng.normal(0, 20, int(rng.integers(3, 7)))).round(1)}
    )
    return fits.told(data, **names)


def _weighted(d: pd.DataFrame, power: int = 2) -> float:
    """Mean of prior and data, weighted by one over sd (power 1) or variance (power 2)."""
    weights = np.array([d.attrs["s"], d.attrs["sd"] / np.sqrt(len(d))], dtype=float) ** -power
    return float(weights @ [d.attrs["m"], d["y"].mean()] / weights.sum())


def _tail(rng: np.random.Generator) -> pd.DataFrame:
    return fits.told(fits.sleep(rng), scale=int(rng.integers(20, 60)))


def _beyond(d: pd.DataFrame, term: str = "Intercept") -> float:
    """Prior probability of an sd above its REML estimate."""
    return float(2 * stats.norm.sf(sd(fits.reml(SLEEP, d), "Subject", term) / d.attrs["scale"]))


PRIORS = (
    Exercise(
        question="The rows of y are Normal(mu, {sd}) with known sd, and the prior of mu is Normal({m}, {s}). What is "
        "the posterior mean of mu?",
        data=_prior_mean,
        answer=_weighted,
        tolerance=lambda d: 0.05 / np.sqrt(len(d) / d.attrs["sd"] ** 2 + 1 / d.attrs["s"] ** 2),
        wrong={
            "the mean of the data: the prior is not in it": lambda d: d["y"].mean(),
            "weighted by one over the standard deviation; weights are one over the variance": lambda d: _weighted(d, 1),
            "weighted as if there were one row: the mean of n rows has the variance sd^2 / n": lambda d: float(
                np.average([d.attrs["m"], d["y"].mean()], weights=[d.attrs["s"] ** -2.0, d.attrs["sd"] ** -2.0])
            ),
        },
        hints=("Precision, one over the variance, is the weight.", "The mean of n rows has the precision n / sd^2."),
        because="The same formula shrinks a group towards the others: the prior is then what the others say.",
    ),
    Exercise(
        question=f"The prior of the sd of the subjects' intercepts is HalfNormal({{scale}}). Which probability does it "
        f"give to an sd above the REML estimate of `{SLEEP}`?",
        data=_tail,
        answer=_beyond,
        tolerance=0.005,
        wrong={
            "the tail of a Normal; a HalfNormal has all of its probability above 0, so twice as much there": lambda d: (
                _beyond(d) / 2
            ),
            "the probability below the estimate": lambda d: 1 - _beyond(d),
            "the probability for the slopes' sd": lambda d: _beyond(d, "Days"),
        },
        hints=("`scipy.stats.halfnorm(scale=...).sf(x)`",),
    ),
    Exercise(
        question=f"Fit `{SLEEP}` by Bayes with the default priors. What is the posterior mean of the slope, `Days`?",
        data=fits.sleep,
        answer=lambda d: fixed(fits.reml(SLEEP, d), "Days"),
        tolerance=lambda d: 0.25 * fixed(fits.reml(SLEEP, d), "Days", "std_error"),
        also={
            "REML": lambda d: fixed(fits.reml(SLEEP, d), "Days"),
            "Bayes": lambda d: fixed(fits.bayes(SLEEP, d), "Days"),
        },
        wrong={
            "the posterior mean of the intercept": lambda d: fixed(fits.reml(SLEEP, d), "Intercept"),
            "the slope of subject {subject}, not of the average one": lambda d: own(
                fits.reml(SLEEP, d).coef(), d.attrs["subject"], "Days"
            ),
        },
        hints=("`m.fit(random_seed=1).fixef()`",),
        because="With priors this wide it is the REML estimate, up to a small part of its standard error.",
    ),
)

SMALLER = "Reaction ~ 1 + (Days | Subject)"


def _faint(rng: np.random.Generator) -> pd.DataFrame:
    return fits.told(
        simulate(
            SLEEP,
            designs.longitudinal(subjects=18, times=10, subject="Subject", time="Days"),
            fixef={"Intercept": rng.uniform(220, 290), "Days": rng.uniform(2, 6)},
            varcorr={"1|Subject": rng.uniform(28, 40), "Days|Subject": rng.uniform(5, 8), "Subject_corr": 0.1},
            sigma=rng.uniform(20, 30),
            random_seed=rng,
        ).round({"Reaction": 2}),
    )


def _statistic(d: pd.DataFrame, by_reml: bool = False) -> float:
    fit = fits.reml if by_reml else fits.ml
    return 2 * (fit(SLEEP, d).loglik - fit(SMALLER, d).loglik)


COMPARISON = (
    Exercise(
        question=f"What is the likelihood ratio statistic (chi-square) of `{SLEEP}` against `{SMALLER}`?",
        data=_faint,
        answer=_statistic,
        tolerance=0.05,
        wrong={
            "the difference of REML criteria, which cannot compare models with other common terms: use ML": lambda d: (
                _statistic(d, True)
            ),
            "the difference of the log likelihoods; the statistic is twice that": lambda d: _statistic(d) / 2,
            "the p value, not the statistic": lambda d: float(stats.chi2.sf(_statistic(d), 1)),
        },
        hints=("`hm.lrt(smaller, larger)` refits by ML.", "Twice the difference of the ML log likelihoods."),
    ),
    Exercise(
        question=f"What is the AIC of the ML fit of `{SLEEP}`?",
        data=_faint,
        answer=lambda d: fits.ml(SLEEP, d).aic,
        tolerance=0.05,
        wrong={
            "the AIC of the REML fit": lambda d: fits.reml(SLEEP, d).aic,
            "the BIC": lambda d: fits.ml(SLEEP, d).bic,
            "the deviance, without 2 for each parameter": lambda d: -2 * fits.ml(SLEEP, d).loglik,
            "the AIC of the model without Days": lambda d: fits.ml(SMALLER, d).aic,
        },
        hints=("`m.ml().aic`",),
    ),
    Exercise(
        question=f"And its log likelihood, by ML, of `{SLEEP}`?",
        data=_faint,
        answer=lambda d: fits.ml(SLEEP, d).loglik,
        tolerance=0.02,
        wrong={
            "the restricted log likelihood, of the REML fit": lambda d: fits.reml(SLEEP, d).loglik,
            "the deviance, which is -2 times the log likelihood": lambda d: -2 * fits.ml(SLEEP, d).loglik,
        },
        hints=("`m.ml().loglik`",),
    ),
)

RADON = "radon ~ 1 + (1 | county)"


def _counties(rng: np.random.Generator) -> pd.DataFrame:
    """Counties of 2 to 30 houses.  attrs["county"]: that of few houses whose mean is furthest from the others."""
    sizes = rng.permutation(np.repeat([2, 3, 5, 10, 30], 5))
    labels = [f"C{i + 1:02d}" for i in range(len(sizes))]
    frame = pd.DataFrame({"county": pd.Categorical(np.repeat(labels, sizes), categories=labels)})
    truth: dict[str, Any] = {
        "fixef": {"Intercept": rng.uniform(1.0, 1.6)},
        "varcorr": {"1|county": rng.uniform(0.35, 0.45)},
    }
    sigma = float(rng.uniform(0.7, 0.8))

    def make() -> pd.DataFrame:
        data = simulate(RADON, frame, sigma=sigma, random_seed=rng, **truth).round({"radon": 3})
        means = data.groupby("county", observed=True)["radon"].agg(["mean", "size"])
        few = means[means["size"] <= 3]["mean"]
        return fits.told(data, county=str((few - data["radon"].mean()).abs().idxmax()))

    return fits.until(make, lambda d: _highest(d, True) != _highest(d, False))


def _highest(d: pd.DataFrame, partial: bool) -> str:
    if not partial:
        return str(d.groupby("county", observed=True)["radon"].mean().idxmax())
    table = fits.reml(RADON, d).coef()
    return str(table.loc[table["estimate"].idxmax(), "level"])


def _houses(d: pd.DataFrame) -> pd.Series:
    return fits.only(d, "county", d.attrs["county"])["radon"]


def _weight(d: pd.DataFrame, power: int = 2, one_row: bool = False) -> float:
    fit = fits.reml(RADON, d)
    between, within = sd(fit, "county") ** power, fits.residual(fit) ** power
    return between / (between + within / (1 if one_row else len(_houses(d))))


SHRINKAGE = (
    Exercise(
        question=f"Fit `{RADON}`. What is the estimate of county {{county}} under partial pooling?",
        data=_counties,
        answer=lambda d: own(fits.reml(RADON, d).coef(), d.attrs["county"]),
        tolerance=lambda d: 0.4 * own(fits.reml(RADON, d).coef(), d.attrs["county"], column="std_error"),
        also={
            "ML": lambda d: own(fits.ml(RADON, d).coef(), d.attrs["county"]),
            "Bayes (posterior mean)": lambda d: own(fits.bayes(RADON, d).coef(), d.attrs["county"]),
        },
        wrong={
            "the mean of the county's own houses: no pooling": lambda d: _houses(d).mean(),
            "the level of the average county (fixef)": lambda d: fixed(fits.reml(RADON, d), "Intercept"),
            "the county's deviation (ranef), not its level (coef)": lambda d: own(
                fits.reml(RADON, d).ranef(), d.attrs["county"]
            ),
        },
        hints=("`fit.coef()`",),
    ),
    Exercise(
        question=f"Fit `{RADON}` by REML. Between 0 (its own houses say nothing) and 1 (no pooling): which weight does "
        "the mean of its own houses have in the estimate of county {county}?",
        data=_counties,
        answer=_weight,
        tolerance=0.02,
        wrong={
            "one minus the weight: how far it is pooled": lambda d: 1 - _weight(d),
            "computed from standard deviations; the weight takes variances": lambda d: _weight(d, power=1),
            "the weight of a single house (the ICC); the county has more of them": lambda d: _weight(d, one_row=True),
        },
        hints=("tau^2 / (tau^2 + sigma^2 / n)", "n is the number of the county's own houses."),
    ),
    Exercise(
        question=f"You may send the measuring van to one county. Which has the highest estimate in `{RADON}`?",
        data=_counties,
        answer=lambda d: _highest(d, True),
        choices=lambda d: list(d["county"].cat.categories),
        wrong={
            "the county with the highest raw mean, which owes it to few houses": lambda d: _highest(d, False),
        },
        hints=("Sort `fit.coef()` by its estimate.",),
    ),
)
