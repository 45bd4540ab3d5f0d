"""hiermod: one formula, fitted by REML and by Bayes, side by side.

>>> import hiermod as hm
>>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
>>> reml = m.reml()
>>> round(reml.criterion, 1)
1743.6

Names are loaded when first used: importing hiermod loads neither PyMC, Bambi, ArviZ nor matplotlib."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiermod import designs as designs
    from hiermod import exercises as exercises
    from hiermod import plots as plots
    from hiermod import stories as stories
    from hiermod.batch.power_study import power as power
    from hiermod.batch.recovery_study import recovery as recovery
    from hiermod.bayes.elicit import prior_from as prior_from
    from hiermod.comparison.criteria_table import information_criteria as information_criteria
    from hiermod.comparison.estimates import compare_estimates as compare_estimates
    from hiermod.comparison.likelihood_ratio import lrt as lrt
    from hiermod.comparison.model_scores import compare as compare
    from hiermod.datasets import list_datasets as list_datasets
    from hiermod.datasets import load_dataset as load_dataset
    from hiermod.errors import ConvergenceWarning as ConvergenceWarning
    from hiermod.errors import HiermodError as HiermodError
    from hiermod.errors import HiermodWarning as HiermodWarning
    from hiermod.errors import RankDeficiencyWarning as RankDeficiencyWarning
    from hiermod.errors import SingularFitWarning as SingularFitWarning
    from hiermod.model import Model as Model
    from hiermod.pooling import Pooling as Pooling
    from hiermod.results.bayesian import BayesianFit as BayesianFit
    from hiermod.results.frequentist import FrequentistFit as FrequentistFit
    from hiermod.results.prior_and_reml.agreement_table import agreement as agreement
    from hiermod.simulation import simulate as simulate
    from hiermod.stored import load as load

_HOMES = {
    "BayesianFit": "hiermod.results.bayesian",
    "ConvergenceWarning": "hiermod.errors",
    "FrequentistFit": "hiermod.results.frequentist",
    "HiermodError": "hiermod.errors",
    "HiermodWarning": "hiermod.errors",
    "Model": "hiermod.model",
    "Pooling": "hiermod.pooling",
    "RankDeficiencyWarning": "hiermod.errors",
    "SingularFitWarning": "hiermod.errors",
    "agreement": "hiermod.results.prior_and_reml.agreement_table",
    "compare": "hiermod.comparison.model_scores",
    "compare_estimates": "hiermod.comparison.estimates",
    "information_criteria": "hiermod.comparison.criteria_table",
    "list_datasets": "hiermod.datasets",
    "load": "hiermod.stored",
    "load_dataset": "hiermod.datasets",
    "lrt": "hiermod.comparison.likelihood_ratio",
    "power": "hiermod.batch.power_study",
    "prior_from": "hiermod.bayes.elicit",
    "recovery": "hiermod.batch.recovery_study",
    "simulate": "hiermod.simulation",
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
    raise AttributeError(f"module 'hiermod' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
