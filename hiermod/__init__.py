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
    from hiermod import plots as plots
    from hiermod.comparison.estimates import compare_estimates as compare_estimates
    from hiermod.comparison.likelihood_ratio import lrt as lrt
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
    "compare_estimates": "hiermod.comparison.estimates",
    "list_datasets": "hiermod.datasets",
    "load_dataset": "hiermod.datasets",
    "lrt": "hiermod.comparison.likelihood_ratio",
}

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
    "compare_estimates",
    "list_datasets",
    "load_dataset",
    "lrt",
    "plots",
]

try:
    __version__ = version("hiermod")
except PackageNotFoundError:  # the source tree on sys.path without an installation
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "plots":
        return importlib.import_module("hiermod.plots")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'hiermod' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
