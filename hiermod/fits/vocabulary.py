"""What every fit answers to, whatever the method: one vocabulary, the same signatures for each kind of fit.

What is computed further on (in ``inference``, ``output``) is a function of the fit there, and stands by its name in a
table here: these tables may point up, and ``core.answers`` resolves them.  Every other name is a method of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pandas as pd

from hiermod.core.answers import answers
from hiermod.core.checked import checked
from hiermod.core.synonyms import FIT, no_attribute
from hiermod.formula.design import Design

if TYPE_CHECKING:
    from hiermod.core.summary import Summary
    from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
    from hiermod.engines.likelihood.glm import GeneralisedLinearFit
    from hiermod.engines.likelihood.least_squares import LinearFit
    from hiermod.engines.likelihood.mixed import MixedFit
    from hiermod.engines.posterior import Posterior
    from hiermod.inference.assumptions.quantile_residuals import simulated_residuals as _simulated_residuals
    from hiermod.inference.marginal_effects.marginal_means import contrasts as _contrasts
    from hiermod.inference.marginal_effects.marginal_means import means as _means
    from hiermod.inference.marginal_effects.marginal_slopes import slopes as _slopes
    from hiermod.inference.marginal_effects.variance_explained import icc as _icc
    from hiermod.inference.marginal_effects.variance_explained import r2 as _r2
    from hiermod.output.storage.fingerprint import Origin
    from hiermod.output.storage.storage import save as _save
    from hiermod.output.writing.methods_report import report as _report

    Record = MixedFit | LinearFit | GeneralisedMixedFit | GeneralisedLinearFit | Posterior

# name -> the module of its function, whose first argument is the fit
EVERY_FIT = {
    "means": "hiermod.inference.marginal_effects.marginal_means",
    "contrasts": "hiermod.inference.marginal_effects.marginal_means",
    "slopes": "hiermod.inference.marginal_effects.marginal_slopes",
    "icc": "hiermod.inference.marginal_effects.variance_explained",
    "r2": "hiermod.inference.marginal_effects.variance_explained",
    "simulated_residuals": "hiermod.inference.assumptions.quantile_residuals",
    "report": "hiermod.output.writing.methods_report",
    "save": "hiermod.output.storage.storage",
}
LIKELIHOOD_FIT = {
    "fixef": "hiermod.inference.coefficient_tests.tables",
    "anova": "hiermod.inference.coefficient_tests.tables",
    "confint": "hiermod.inference.intervals",
    "profile": "hiermod.inference.intervals",
    "influence": "hiermod.inference.assumptions.deletion_table",
    "summary": "hiermod.output.frequentist_text",
    "check": "hiermod.output.frequentist_text",
}
GENERALISED_FIT = {
    "summary": "hiermod.output.generalised_text",
    "check": "hiermod.output.generalised_text",
}
BAYESIAN_FIT = {
    "loo": "hiermod.inference.scores.of_fit",
    "logo": "hiermod.inference.scores.of_fit",
    "waic": "hiermod.inference.scores.of_fit",
    "kfold": "hiermod.inference.scores.cross_validation",
    "predictive_check": "hiermod.inference.predictive.predictive_checks",
    "predictive_intervals": "hiermod.inference.predictive.predictive_checks",
    "loo_pit": "hiermod.inference.predictive.loo_pit",
    "calibration": "hiermod.inference.predictive.reliability",
    "prior_sensitivity": "hiermod.inference.priors_and_reml.sensitivity",
    "summary": "hiermod.output.bayesian_text",
    "check": "hiermod.output.bayesian_text",
}

ELSEWHERE = {  # names that one kind of fit has, and what to write when the other is asked
    **dict.fromkeys(
        (
            "idata",
            "inference",
            "kfold",
            "log_likelihood",
            "logo",
            "loo",
            "posterior_predictive",
            "prior_sensitivity",
            "waic",
        ),
        "belongs to Bayesian fits: m.fit()",
    ),
    **dict.fromkeys(
        (
            "aic",
            "anova",
            "bic",
            "criterion",
            "deviance",
            "influence",
            "loglik",
            "profile",
            "refit",
            "singular",
            "theta",
        ),
        "belongs to REML and ML fits: m.reml(), m.ml()",
    ),
}


@answers(EVERY_FIT)
@checked
class Fit:
    """A fitted model.  ``design``: the data it was fitted to; ``family``: the name of its family; ``record``: what the
    engine found.

    means, contrasts, slopes, icc and r2 are alike for REML, ML and Bayesian fits.  Each table has estimate, std_error,
    lower, upper; Gaussian REML and ML fits add df, t, p, generalised ones z, p, Bayesian ones prob_direction, the
    posterior probability of the sign.  A Bayesian table holds posterior means and equal-tailed intervals of the
    quantity itself, computed draw by draw.  ``attrs["notes"]`` says in words what was averaged, where numbers stand,
    and why a row is nan."""

    design: Design
    family: str
    link: str  # the link function's name
    record: Record
    origin: Origin | None = None  # versions, priors as text, fingerprint; None for a REML or ML fit made here

    if TYPE_CHECKING:
        means, contrasts, slopes, icc, r2 = _means, _contrasts, _slopes, _icc, _r2
        simulated_residuals, report, save = _simulated_residuals, _report, _save

        # what each kind of fit says in its own way
        @property
        def sigma(self) -> float:
            """Residual standard deviation; nan where there is none to estimate."""

        def vcov(self) -> pd.DataFrame:
            """Covariance of the common coefficients."""

        def fixef(self, level: float = ..., ddf: str | None = ...) -> pd.DataFrame:
            """Common effects: estimate, std_error, lower, upper, ...; index term."""

        def ranef(self, group: str | None = ..., level: float = ...) -> pd.DataFrame:
            """Group effects: group, level, term, estimate, std_error, lower, upper."""

        def coef(self, group: str | None = ..., level: float = ...) -> pd.DataFrame:
            """Coefficients per level, fixef + ranef: the columns of ``ranef``."""

        def varcorr(self, level: float = ...) -> pd.DataFrame:
            """Variances and correlations: group, term1, term2, sdcor, vcov, ..."""

        def parameters(self, level: float = ...) -> pd.DataFrame:
            """Every parameter: estimate, std_error, lower, upper, ...; index parameter."""

        def fitted(self) -> pd.Series:
            """The expected response of the rows used."""

        def residuals(self, kind: str = ...) -> pd.Series:
            """The response less ``fitted``, or in another unit."""

        def predict(
            self,
            newdata: pd.DataFrame | None = ...,
            target: str = ...,
            interval: float | None = ...,
            kind: str = ...,
            new_levels: str = ...,
            random_seed: int | np.random.Generator | None = ...,
        ) -> pd.DataFrame:
            """Predictions: estimate (+ lower, upper), indexed like ``newdata``."""

        def simulate(self, draws: int = ..., random_seed: int | np.random.Generator | None = ...) -> pd.DataFrame:
            """New responses: sim_1, sim_2, ..."""

        def confint(
            self,
            level: float = ...,
            method: str = ...,
            parameters: Sequence[str] | None = ...,
            *,
            draws: int = ...,
            random_seed: int | np.random.Generator | None = ...,
            cores: int = ...,
            progressbar: bool = ...,
        ) -> pd.DataFrame:
            """Intervals of the parameters: lower, upper."""

        def tidy(self) -> pd.DataFrame:
            """broom's tidy()."""

        def glance(self) -> pd.DataFrame:
            """One row about the whole fit."""

        def augment(self) -> pd.DataFrame:
            """The rows used, with fitted values and residuals."""

        def summary(self) -> Summary:
            """The fit in a page of text and tables."""

        def check(self, posterior: Fit | None = ...) -> Summary:
            """Convergence, singularity and assumptions in words."""

    else:  # for a checker of types every name would exist

        def __getattr__(self, name: str) -> NoReturn:
            bayesian = "inference" in dir(type(self))
            raise no_attribute(self, name, FIT, bayesian, f"it {ELSEWHERE[name]}" if name in ELSEWHERE else "")

    @property
    def formula(self) -> str:
        """The formula as typed."""
        return self.design.formula

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.design.nobs

    @property
    def ngroups(self) -> dict[str, int]:
        """Levels per grouping factor."""
        return self.design.ngroups

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
