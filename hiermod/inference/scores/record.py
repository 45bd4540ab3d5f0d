"""What a score is: an expected log predictive density with all that is needed to judge it and refuse bad comparisons.

elpd, se and p as in Vehtari, Gelman and Gabry (2017, Statistics and Computing 27, 1413-1432)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hiermod.errors import listing
from hiermod.formula.design import FrozenArrays

MAX_K = 0.7  # Pareto k above which an importance sampling estimate is not to be trusted (Vehtari et al. 2024)
MAX_P_WAIC = 0.4  # Vehtari et al. (2017), section 2.2: WAIC is doubtful where a row's posterior variance is larger
NAMES = {
    "loo": "leave-one-out",
    "logo": "leave-one-group-out",
    "waic": "WAIC",
    "kfold": "K-fold cross-validation",
}
EFFECTS = {
    "integrated": "effects integrated out",
    "conditional": "effects at their draws",
    "quadrature": "a level's effects integrated by quadrature",
    "refits": "by refits",
}


@dataclass(frozen=True, eq=False)
class Score(FrozenArrays):
    """Expected log predictive density of units (rows, or levels of a grouping factor) that the model has not seen."""

    criterion: Literal["loo", "logo", "waic", "kfold"]
    unit: str  # "row", or the name of the grouping factor
    labels: tuple[Any, ...]  # (U,) of the units: row labels of the data, or levels
    elpd: float
    se: float  # of elpd, from the spread of its units; nan with one unit
    p: float  # effective number of parameters: log density of the data seen, effects kept in, less elpd
    elpd_i: np.ndarray  # (U,)
    pareto_k: np.ndarray  # (U,) of the estimator that gave elpd_i; nan where it needs none
    mcse_i: np.ndarray  # (U,) Monte Carlo standard error of elpd_i; nan where unknown
    estimator: Literal["integrated", "conditional", "quadrature", "refits"]  # what becomes of the group effects
    reason: str  # why this estimator, in words
    own_proposals: tuple[int, ...]  # positions of the units that needed a proposal of their own
    nobs: int  # rows of data behind the units
    data: str  # fingerprint of the response
    p_i: np.ndarray  # (U,) each unit's part of p
    response: str = ""
    draws: tuple[int, int] = (0, 0)  # posterior draws used, and how many there are
    refitted: tuple[int, ...] = ()  # positions of the units scored by a refit without them
    folds: np.ndarray | None = None  # (U,) the fold of each unit, for K-fold
    seed: int | None = None  # of the folds and refits
    discrete: bool = False  # probabilities rather than densities
    notes: tuple[str, ...] = ()  # what the refits had to say
    column: str = ""  # where the response is a known transformation of one column: that column,
    column_data: str = ""  # its fingerprint, and
    log_slope: np.ndarray | None = None  # (U,) log |d response / d column|, summed over each unit

    @property
    def n_units(self) -> int:
        """U, how many units were left out."""
        return len(self.elpd_i)

    @property
    def mcse(self) -> float:
        """Monte Carlo standard error of elpd, units taken as independent; nan where it is unknown."""
        return float(np.sqrt(np.square(self.mcse_i).sum()))

    @property
    def bad(self) -> np.ndarray:
        """Positions of the units whose Pareto k is above 0.7."""
        return np.flatnonzero(self.pareto_k > MAX_K)

    @property
    def worst_k(self) -> float:
        """The largest Pareto k; nan where the estimator needs none."""
        known = self.pareto_k[~np.isnan(self.pareto_k)]
        return float(known.max()) if known.size else float("nan")

    def untransformed(self) -> Score:
        """The same score for the column behind a transformed response: elpd_i + log |d response / d column|.

        A density of log(y) is one of y after division by y; without that, scores of y and of log(y) do not compare.
        The score itself where the response is not a known transformation (log, log2, log10, log1p, sqrt)."""
        if self.log_slope is None:
            return self
        elpd_i = self.elpd_i + self.log_slope
        return replace(
            self,
            elpd=float(elpd_i.sum()),
            se=standard_error(elpd_i),
            elpd_i=elpd_i,
            data=self.column_data,
            response=self.column,
            log_slope=None,
        )

    @property
    def messages(self) -> tuple[str, ...]:
        """What deserves attention, one sentence or two each; empty when all is well."""
        words = []
        bad = self.bad
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
        return (*words, *self.notes)

    @property
    def _way_out(self) -> str:
        if self.estimator == "integrated":
            return "Take more draws, or refit without them: kfold() does that"
        if self.criterion == "logo":
            return "logo(..., refit_bad=True) refits without each of them"
        return (
            "Integrated leave-one-out, where the model allows it, gives the answer, and so does loo(refit_bad=True), "
            "which refits without each of them"
        )

    @property
    def _plural(self) -> str:
        return "rows" if self.unit == "row" else f"levels of {self.unit}"

    def __str__(self) -> str:
        folds = "" if self.folds is None else f" in {int(self.folds.max()) + 1} folds"
        lines = [
            f"{NAMES[self.criterion]}: {self.n_units} {self._plural}{folds}, {EFFECTS[self.estimator]}",
            f"elpd {self.elpd:.1f}, standard error {self.se:.1f}; effective parameters {self.p:.1f}",
        ]
        if not np.isnan(self.worst_k):
            tail = ""
            if self.own_proposals:
                count = len(self.own_proposals)
                tail = f"; {count} {'unit' if count == 1 else 'units'} got a proposal of its own on the remaining data"
                tail = tail if count == 1 else tail.replace("its own", "their own")
            lines.append(f"largest Pareto k {self.worst_k:.2f} (trustworthy up to {MAX_K}){tail}")
        if self.refitted and self.estimator != "refits":
            count = len(self.refitted)
            lines.append(
                "1 unit scored by a refit without it" if count == 1 else f"{count} units scored by refits without each"
            )
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
