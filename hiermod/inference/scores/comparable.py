"""Which scores may be compared: those that estimate the same thing from the same data (docs/architecture.md).

Differences are paired, unit by unit: Vehtari, Gelman and Gabry (2017, Statistics and Computing 27), equation 24."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.inference.scores.record import NAMES, Score, standard_error


def difference(a: Score, b: Score) -> tuple[float, float]:
    """elpd of ``a`` less that of ``b``, and the standard error of the difference, from units paired one by one.

    Raises ArgumentError, saying why, where the two do not estimate the same thing: another criterion, other units,
    other data."""
    check_comparable(a, b)
    paired = a.elpd_i - b.elpd_i
    return float(paired.sum()), standard_error(paired)


def paired_units(a: Score, b: Score) -> pd.DataFrame:
    """One row per unit, index its label: a, b (elpd of each), difference (a - b), k_a, k_b."""
    check_comparable(a, b)
    columns = {"a": a.elpd_i, "b": b.elpd_i, "difference": a.elpd_i - b.elpd_i, "k_a": a.pareto_k, "k_b": b.pareto_k}
    return pd.DataFrame(columns, index=pd.Index(a.labels, name=a.unit))


def check_comparable(a: Score, b: Score) -> None:
    """Raises ArgumentError where the two scores do not estimate the same thing, ArgumentTypeError for no scores."""
    for one in (a, b):
        if not isinstance(one, Score):
            raise ArgumentTypeError(
                f"scores come from fit.loo(), fit.logo(), fit.waic() or fit.kfold(), got {type(one).__name__}"
            )
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
        raise ArgumentError(_other_response(a, b))
    if a.labels != b.labels:
        raise ArgumentError("the units have different labels and cannot be paired. Fit both to the same data frame")
    if a.folds is not None and b.folds is not None and not np.array_equal(a.folds, b.folds):
        raise ArgumentError(
            "the two scores divide the data into different folds, so part of their difference is the luck of the "
            "draw. Give both the same k, group, stratify and random_seed"
        )


def _other_response(a: Score, b: Score) -> str:
    one, other = a.untransformed(), b.untransformed()
    if one.data == other.data:
        return (
            f"{a.response!r} and {b.response!r} are one variable in two units, and so are their densities: a density "
            f"of {b.response!r} has to be multiplied by the slope of the transformation (the Jacobian) before it says "
            f"anything about {other.response!r}. hm.compare(..., jacobian=True) does so, or score.untransformed()"
        )
    return (
        f"the responses differ ({a.response!r} and {b.response!r}): other data, rows in another order, or a "
        "transformed response, whose density is in other units. Fit both to the same response"
    )
