"""hiermod: one formula, fitted by REML and by Bayes, side by side.

>>> import hiermod as hm
>>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
>>> reml = m.reml()
>>> round(reml.criterion, 1)
1743.6

Names are loaded when first used: importing hiermod loads neither PyMC, Bambi, ArviZ nor matplotlib."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiermod import designs as designs
    from hiermod import exercises as exercises
    from hiermod import plots as plots
    from hiermod import stories as stories
    from hiermod.app.stored import load as load
    from hiermod.csv_files import read_csv as read_csv
    from hiermod.datasets import list_datasets as list_datasets
    from hiermod.datasets import load_dataset as load_dataset
    from hiermod.errors import ConvergenceWarning as ConvergenceWarning
    from hiermod.errors import HiermodError as HiermodError
    from hiermod.errors import HiermodWarning as HiermodWarning
    from hiermod.errors import RankDeficiencyWarning as RankDeficiencyWarning
    from hiermod.errors import SingularFitWarning as SingularFitWarning
    from hiermod.fits.bayesian import BayesianFit as BayesianFit
    from hiermod.fits.frequentist import FrequentistFit as FrequentistFit
    from hiermod.inference.comparison.criteria_table import information_criteria as information_criteria
    from hiermod.inference.comparison.estimates import compare_estimates as compare_estimates
    from hiermod.inference.comparison.likelihood_ratio import lrt as lrt
    from hiermod.inference.comparison.model_scores import compare as compare
    from hiermod.inference.priors_and_reml.agreement_table import agreement as agreement
    from hiermod.model import Model as Model
    from hiermod.priors.elicit import prior_from as prior_from
    from hiermod.study.pooling import Pooling as Pooling
    from hiermod.study.power_study import power as power
    from hiermod.study.recovery_study import recovery as recovery
    from hiermod.study.simulation import simulate as simulate

_HOMES = {
    "BayesianFit": "hiermod.fits.bayesian",
    "ConvergenceWarning": "hiermod.errors",
    "FrequentistFit": "hiermod.fits.frequentist",
    "HiermodError": "hiermod.errors",
    "HiermodWarning": "hiermod.errors",
    "Model": "hiermod.model",
    "Pooling": "hiermod.study.pooling",
    "RankDeficiencyWarning": "hiermod.errors",
    "SingularFitWarning": "hiermod.errors",
    "agreement": "hiermod.inference.priors_and_reml.agreement_table",
    "compare": "hiermod.inference.comparison.model_scores",
    "compare_estimates": "hiermod.inference.comparison.estimates",
    "information_criteria": "hiermod.inference.comparison.criteria_table",
    "list_datasets": "hiermod.datasets",
    "load": "hiermod.app.stored",
    "load_dataset": "hiermod.datasets",
    "lrt": "hiermod.inference.comparison.likelihood_ratio",
    "power": "hiermod.study.power_study",
    "prior_from": "hiermod.priors.elicit",
    "read_csv": "hiermod.csv_files",
    "recovery": "hiermod.study.recovery_study",
    "simulate": "hiermod.study.simulation",
}

_MODULES = ("designs", "exercises", "plots", "stories")  # reached as hm.plots.shrinkage, hm.designs.longitudinal

__all__ = [
    "BayesianFit",
    "ConvergenceWarning",
    "FrequentistFit",
    "HiermodError",
    "HiermodWarning",
    "Model",
    "Pooling",
    "RankDeficiencyWarning",
    "SingularFitWarning",
    "agreement",
    "compare",
    "compare_estimates",
    "designs",
    "exercises",
    "information_criteria",
    "list_datasets",
    "load",
    "load_dataset",
    "lrt",
    "plots",
    "power",
    "prior_from",
    "read_csv",
    "recovery",
    "simulate",
    "stories",
]

try:
    __version__ = version("hiermod")
except PackageNotFoundError:  # the source tree on sys.path without an installation
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"hiermod.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    from hiermod.core.synonyms import PACKAGE, no_attribute

    raise no_attribute(sys.modules[__name__], name, PACKAGE)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
