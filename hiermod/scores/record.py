"""What a score is: an expected log predictive density with all that is needed to judge it and refuse bad comparisons.

elpd, se and p as in Vehtari, Gelman and Gabry (2017, Statistics and Computing 27, 1413-1432)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hiermod.errors import ArgumentError, ArgumentTypeError, listing
from hiermod.formula.design import FrozenArrays

MAX_K = 0.7  # Pareto k above which an importance sampling estimate is not to be trusted (Vehtari et al. 2024)
MAX_P_WAIC = 0.4  # Vehtari et al. (2017), section 2.2: WAIC is doubtful where a row's posterior variance is larger
NAMES = {
    "loo": "leave-one-out",
    "logo": "leave-one-group-out",
    "waic": "WAIC",
}


@dataclass(frozen=True, eq=False)
class Score(FrozenArrays):
    """Expected log predictive density of units (rows, or levels of a grouping factor) that the model has not seen."""

    criterion: Literal["loo", "logo", "waic"]
    unit: str  # "row", or the name of the grouping factor
    labels: tuple[Any, ...]  # (U,) of the units: row labels of the data, or levels
    elpd: float
    se: float  # of elpd, from the spread of its units; nan with one unit
    p: float  # effective number of parameters: log density of the data seen, effects kept in, less elpd
    elpd_i: np.ndarray  # (U,)
    pareto_k: np.ndarray  # (U,) of the estimator that gave elpd_i; nan where it needs none
    mcse_i: np.ndarray  # (U,) Monte Carlo standard error of elpd_i; nan where unknown
    estimator: Literal["integrated", "conditional"]  # are group effects integrated out, or at their draws
    reason: str  # why this estimator, in words
    own_proposals: tuple[int, ...]  # positions of the units that needed a proposal of their own
    nobs: int  # rows of data behind the units
    data: str  # fingerprint of the response
    p_i: np.ndarray  # (U,) each unit's part of p
    response: str = ""
    draws: tuple[int, int] = (0, 0)  # posterior draws used, and how many there are

    @property
    def n_units(self) -> int:
        """U, how many units were left out."""
        return len(self.elpd_i)

    @property
    def mcse(self) -> float:
        """Monte Carlo standard error of elpd, units taken as independent; nan where it is unknown."""
        return float(np.sqrt(np.square(self.mcse_i).sum()))

    @property
    def messages(self) -> tuple[str, ...]:
        """What deserves attention, one sentence or two each; empty when all is well."""
        words = []
        bad = np.flatnonzero(self.pareto_k > MAX_K)
        if len(bad):
            names = listing([self.labels[i] for i in bad])
            words.append(
                f"Pareto k is above {MAX_K} for {len(bad)} of {self.n_units} {self._plural} ({names}): each of these "
                "alone changes the posterior so much that its elpd cannot be had from the draws, and the total is "
                f"unreliable. {self._way_out}"
            )
        if self.criterion == "waic":
            loud = np.flatnonzero(self.p_i > MAX_P_WAIC)
            if len(loud):
                names = listing([self.labels[i] for i in loud])
                words.append(
                    f"p_waic is above {MAX_P_WAIC} for {len(loud)} of {self.n_units} rows ({names}): WAIC is "
                    "unreliable there. Use loo()"
                )
        return tuple(words)

    @property
    def _way_out(self) -> str:
        if self.estimator == "conditional":
            return "Integrated leave-one-out, where the model allows it, or refits without those rows give the answer"
        return "Refit without them, or take more draws"

    @property
    def _plural(self) -> str:
        return "rows" if self.unit == "row" else f"levels of {self.unit}"

    def __str__(self) -> str:
        effects = {"integrated": "effects integrated out", "conditional": "effects at their draws"}
        lines = [
            f"{NAMES[self.criterion]}: {self.n_units} {self._plural}, {effects[self.estimator]}",
            f"elpd {self.elpd:.1f}, standard error {self.se:.1f}; effective parameters {self.p:.1f}",
        ]
        known = self.pareto_k[~np.isnan(self.pareto_k)]
        if known.size:
            tail = ""
            if self.own_proposals:
                count = len(self.own_proposals)
                tail = f"; {count} {'unit' if count == 1 else 'units'} got a proposal of its own on the remaining data"
                tail = tail if count == 1 else tail.replace("its own", "their own")
            lines.append(f"largest Pareto k {known.max():.2f} (trustworthy up to {MAX_K}){tail}")
        used, there = self.draws
        if used < there:
            lines.append(
                f"from {used} of the {there} posterior draws, since this model is large; no own proposals were tried"
            )
        if not np.isnan(self.mcse):
            lines.append(f"Monte Carlo error of elpd {self.mcse:.2f}")
        return "\n".join([*lines, *self.messages])

    def __repr__(self) -> str:
        return str(self)


def fingerprint(*arrays: np.ndarray | None) -> str:
    """A short text that two data sets share only when their responses are the same numbers in the same order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else np.ascontiguousarray(array, dtype=float).tobytes())
    return digest.hexdigest()[:16]


def standard_error(elpd_i: np.ndarray) -> float:
    """Standard error of a sum of U terms, sqrt(U var): Vehtari et al. (2017), equation 23; nan for one term."""
    return float(np.sqrt(len(elpd_i) * np.var(elpd_i, ddof=1))) if len(elpd_i) > 1 else float("nan")


def difference(a: Score, b: Score) -> tuple[float, float]:
    """elpd of ``a`` less that of ``b``, and the standard error of the difference, from units paired one by one.

    Raises ArgumentError, saying why, where the two do not estimate the same thing: another criterion, other units,
    other data."""
    check_comparable(a, b)
    paired = a.elpd_i - b.elpd_i
    return float(paired.sum()), standard_error(paired)


def check_comparable(a: Score, b: Score) -> None:
    """Raises ArgumentError where the two scores do not estimate the same thing."""
    for one in (a, b):
        if not isinstance(one, Score):
            raise ArgumentTypeError(f"scores come from fit.loo(), fit.logo() or fit.waic(), got {type(one).__name__}")
    if a.criterion != b.criterion:
        raise ArgumentError(
            f"{NAMES[a.criterion]} and {NAMES[b.criterion]} are different quantities, so their difference means "
            "nothing. Compute the same criterion for both fits"
        )
    if a.unit != b.unit:
        raise ArgumentError(
            f"one score leaves out each {a.unit}, the other each {b.unit}: they answer different questions and cannot "
            "be compared. Leave out the same units from both fits"
        )
    if a.nobs != b.nobs or a.n_units != b.n_units:
        raise ArgumentError(
            f"one score is about {a.nobs} rows in {a.n_units} units, the other about {b.nobs} rows in {b.n_units}: "
            "fits are compared on the same data. Fit both to the same rows (dropna leaves out rows by the columns that "
            "each model uses)"
        )
    if a.data != b.data:
        raise ArgumentError(
            f"the responses differ ({a.response!r} and {b.response!r}): other data, rows in another order, or a "
            "transformed response, whose density is in other units. Fit both to the same response"
        )
    if a.labels != b.labels:
        raise ArgumentError("the units have different labels and cannot be paired. Fit both to the same data frame")
