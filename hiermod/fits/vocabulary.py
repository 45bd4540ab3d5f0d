"""What every fit answers to, whatever the method: the names that FrequentistFit and BayesianFit share.

A name that several kinds of fit have takes the same arguments in each; ``level`` stands first where it is all there is.
Methods here say the same thing about either kind; what differs (fixef, varcorr, predict, ...) each kind defines."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from hiermod.core.checked import checked
from hiermod.formula.design import Design
from hiermod.inference.marginal_effects.effect_methods import EffectMethods
from hiermod.output.summary import Summary

if TYPE_CHECKING:
    from hiermod.inference.assumptions.quantile_residuals import SimulatedResiduals
    from hiermod.output.storage.fingerprint import Origin
    from hiermod.output.writing.methods_report import Report


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


@checked
class Fit(EffectMethods, ABC):
    """A fitted model.  ``design``: the data it was fitted to; ``family``: the name of its family."""

    design: Design
    family: str
    link: str  # the link function's name
    origin: Origin | None = None  # versions, priors as text, fingerprint; None for a REML or ML fit made here

    if not TYPE_CHECKING:  # for a checker of types every name would exist

        def __getattr__(self, name: str) -> NoReturn:
            told = f": it {ELSEWHERE[name]}" if name in ELSEWHERE else ""
            message = f"{type(self).__name__!r} object has no attribute {name!r}{told}"
            raise AttributeError(message, name=name, obj=self)

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

    @abstractmethod
    def summary(self) -> Summary:
        """The fit in a page of text and tables."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fit to a netCDF file; ``hm.load(path)`` reads it back, in another process too.

        It holds the rows and columns that the model used: share it as the data may be shared.  A file that is there is
        replaced once the new one is whole.  Returns the path; raises FileError."""
        from hiermod.output.storage.storage import save

        return save(self, path)

    def report(self) -> Report:
        """Sample, model, estimation and results in sentences: a draft for the methods section, text or Markdown."""
        from hiermod.output.writing.methods_report import report

        return report(self)

    def simulated_residuals(
        self, draws: int = 250, random_seed: int | np.random.Generator | None = None, conditional: bool = False
    ) -> SimulatedResiduals:
        """Residuals that are uniform under a true model of any family (Dunn and Smyth 1996), and tests of them.

        Each row's place among ``draws`` simulated responses; group effects drawn anew, or held with ``conditional``.
        ``.residuals``, ``.tests()``, and ``hm.plots.simulated_residuals``."""
        from hiermod.inference.assumptions.quantile_residuals import simulated_residuals

        return simulated_residuals(self, draws, random_seed, conditional)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
