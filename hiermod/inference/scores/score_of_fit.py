"""A Score from arrays and a fit: the totals, and what says whether it may be compared with another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.families.catalogue import FAMILIES
from hiermod.formula.design import Design
from hiermod.inference.scores.record import Score, fingerprint, standard_error

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

# log |d t(x) / d x| of the transformations a response is usually given
LOG_SLOPES = {
    "log": lambda x: -np.log(x),
    "log2": lambda x: -np.log(x * np.log(2)),
    "log10": lambda x: -np.log(x * np.log(10)),
    "log1p": lambda x: -np.log1p(x),
    "sqrt": lambda x: -np.log(2 * np.sqrt(x)),
}
TRANSFORMED = re.compile(rf"(?:np\.|numpy\.)?({'|'.join(LOG_SLOPES)})\((\w+)\)")


def make_score(
    fit: BayesianFit, criterion: Any, unit: str, labels: tuple[Any, ...], members: Sequence[np.ndarray] | None,
    elpd: np.ndarray, p: np.ndarray, k: np.ndarray, mcse: np.ndarray, own_proposals: tuple[int, ...] = (), **rest: Any,
) -> Score:  # fmt: skip
    """members: the rows of each unit, None for one row each; elpd, p, k, mcse (U,)."""
    design: Design = fit.design
    return Score(
        criterion=criterion, unit=unit, labels=labels,
        elpd=float(elpd.sum()), se=standard_error(elpd), p=float(p.sum()),
        elpd_i=elpd, pareto_k=k, mcse_i=mcse, p_i=p, own_proposals=own_proposals,
        nobs=design.nobs, data=fingerprint(design.y, design.trials), response=design.response,
        discrete=FAMILIES[fit.family].discrete, **transformation(design, members), **rest,
    )  # fmt: skip


def transformation(design: Design, members: Sequence[np.ndarray] | None = None) -> dict[str, Any]:
    """column, column_data and log_slope of a response such as ``np.log(Reaction)``; empty for any other."""
    found = TRANSFORMED.fullmatch(design.response.replace(" ", ""))
    if found is None or found[2] not in design.frame or design.special is not None:
        return {}
    x = np.asarray(design.frame[found[2]], dtype=float)
    with np.errstate(all="ignore"):
        slope = LOG_SLOPES[found[1]](x)
    if not np.isfinite(slope).all():
        return {}
    if members is not None:
        slope = np.array([slope[rows].sum() for rows in members])
    return {"column": found[2], "column_data": fingerprint(x, None), "log_slope": slope}
