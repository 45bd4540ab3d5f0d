"""What every fit answers to, whatever the method: the names that FrequentistFit and BayesianFit share.

Methods here say the same thing about either kind; what differs (fixef, varcorr, predict, ...) each kind defines."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hiermod.formula.design import Design
from hiermod.results.summary import Summary


class Fit(ABC):
    """A fitted model.  ``design``: the data it was fitted to; ``family``: the name of its family."""

    design: Design
    family: str

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

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
