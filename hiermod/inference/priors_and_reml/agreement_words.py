"""Why a posterior and REML differ in one parameter: the verdict, and a sentence that a report can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.posterior import MAX_R_HAT
from hiermod.formula.design import Design
from hiermod.inference.priors_and_reml.verdicts import (
    BOUNDARY,
    CONFLICT,
    DECIDES,
    HALF,
    NO_ERROR,
    SAY,
    by_weight,
    p_words,
)

NEAR, ALIKE = 0.5, 1.5  # REML standard errors between means, and factor between sds, within which two fits agree
FEW = 10  # levels below which little information is a matter of few groups
AGREE, FEW_GROUPS, LITTLE, LOST = "agree", "few groups", "little information", "not converged"
BY_PRIOR = (CONFLICT, DECIDES, SAY)  # what a prior did, in the words of verdicts.py
VERDICTS = (AGREE, FEW_GROUPS, LITTLE, *BY_PRIOR, BOUNDARY, NO_ERROR, LOST)


def levels_behind(name: str, kind: str, design: Design) -> int:
    """Levels of the factor whose number decides how well a parameter is known; rows for sigma and without groups."""
    if kind == "sigma" or not design.blocks:
        return design.nobs
    mine = [block for block in design.blocks if _is_about(name, kind, block)]
    return min(len(block.levels) for block in mine or design.blocks)


def _is_about(name: str, kind: str, block: Any) -> bool:
    if kind == "fixed":
        return name in block.labels
    return name in [column.sd_name for column in block.columns] or name.startswith(f"{block.corr_name}[")


@dataclass(frozen=True)
class Context:
    """What one parameter's words need to know of the others.

    edges: parameters that REML has at a boundary; strong: those whose own prior outweighs or moves the data; conflicts:
    those whose prior the tail test finds in conflict with the data; movers: of a parameter, the parameters whose priors
    move it by power-scaling."""

    method: str
    converged: bool
    divergences: int
    edges: tuple[str, ...]
    strong: tuple[str, ...]
    conflicts: tuple[str, ...]
    movers: Callable[[str], tuple[str, ...]]


def own_prior(row: dict[str, Any]) -> bool:
    """Whether a parameter's own prior decides, or moves the likelihood by as much as counts as a difference."""
    return bool(row["prior_weight"] >= HALF or abs(row["prior_shift"]) >= NEAR)


def verdict_and_words(name: str, row: dict[str, Any], context: Context) -> tuple[str, str]:
    """One of VERDICTS, and a sentence."""
    method, edges = context.method, context.edges
    if not context.converged:
        return LOST, f"{method} did not converge, so its estimate is nothing to compare with"
    if row["r_hat"] > MAX_R_HAT:
        return LOST, f"the chains disagree (R-hat {row['r_hat']:.3f}): draw longer before comparing"
    if name in edges:
        return BOUNDARY, _boundary_words(row, method)
    if np.isnan(row["difference"]):
        return NO_ERROR, f"{method} gives no standard error to measure the difference by"
    gap, ratio = float(row["difference"]), float(row["sd_ratio"])
    said = f"{_gap(gap, method)}, its uncertainty {ratio:.2f} times {method}'s"
    if abs(gap) < NEAR and 1 / ALIKE < ratio < ALIKE:
        return AGREE, said
    if context.divergences:
        return LOST, f"{said}, and {context.divergences} transitions diverged: see fit.check() first"
    if name in context.strong or (not edges and _by_priors(row, context)):
        return _by_prior(name, row, context, said)
    parts = _parts(row)
    if edges:
        at = ", ".join(edges)
        return BOUNDARY, f"{said}: {method} has {at} at a boundary and conditions on it, the posterior does not{parts}"
    if row["kind"] != "sigma" and row["levels"] < FEW:
        return FEW_GROUPS, (
            f"{said}: {row['levels']} groups leave the sds open, and the posterior averages over what they may be, "
            f"where {method} takes the most likely{parts}"
        )
    return LITTLE, f"{said}: the data leave it open, and where a posterior is skewed its mean is not its mode{parts}"


def _by_priors(row: dict[str, Any], context: Context) -> bool:
    """Whether priors make the difference: exactly where its parts are known, else where there are strong ones."""
    if np.isnan(row["by_prior"]) and 2 * row["prior_shift"] / row["difference"] >= 1:
        return True  # at least half of it, in the same direction, is what the own prior does to a normal likelihood
    if row["sd_ratio"] < 1 / ALIKE or np.isnan(row["by_prior"]):
        return bool(context.strong)
    return abs(row["by_prior"]) > max(abs(row["by_averaging"]), NEAR / 2)


def _by_prior(name: str, row: dict[str, Any], context: Context, said: str) -> tuple[str, str]:
    """The word for what the priors did, and which of them did it."""
    own = name in context.strong
    conflict = own and name in context.conflicts
    verdict = by_weight(row["prior_weight"], np.inf, conflict) if own else SAY
    words = []
    if own:
        words.append(f"its prior has {100 * row['prior_weight']:.0f} % of the information and pulls")
        if conflict:
            words.append(f"prior and data contradict each other ({p_words(row['conflict_p_data'])})")
    else:
        others = [one for one in context.movers(name) if one != name] or list(context.strong)
        words.append(f"it follows from the prior of {', '.join(others)}" if others else "the priors together pull")
        against = [one for one in others if one in context.conflicts]
        if against:
            words.append(f"{CONFLICT} in {', '.join(against)}")
    if np.isfinite(row["by_prior"]) and abs(row["by_prior"]) >= 0.05:
        words.append(f"the mode moves by {row['by_prior']:+.2g} standard errors")
    return verdict, f"{said}: {': '.join(words)}"


def _parts(row: dict[str, Any]) -> str:
    if not np.isfinite(row["by_averaging"]):
        return ""
    return f" (averaging {row['by_averaging']:+.2f}, priors {row['by_prior']:+.2f} standard errors)"


def _boundary_words(row: dict[str, Any], method: str) -> str:
    if row["kind"] == "sd":
        where, why = "0", "an sd is above 0 in every draw, so its mean is too"
    elif np.isnan(row["reml"]):
        where, why = (
            "",
            f"{method} has an sd of 0 here, so that there is no correlation; the posterior's leans on its prior",
        )
    else:
        where, why = f"{np.sign(row['reml']):+.0f}", "a distribution over (-1, 1) has its mean inside"
    inside = f"; the posterior says {row['lower']:.3g} to {row['upper']:.3g}"
    return (f"{method} is at {where}: {why}" if where else why) + inside


def _gap(gap: float, method: str) -> str:
    if abs(gap) < 0.05:
        return f"posterior mean at {method}'s estimate"
    return f"posterior mean {abs(gap):.2g} standard errors {'above' if gap > 0 else 'below'} {method}'s estimate"


def sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """The table in words."""
    method = table.attrs["method"]
    agreed = table["verdict"] == AGREE
    if agreed.all():
        return (f"Posterior and {method} agree in all {len(table)} parameters.",)
    out = [f"Posterior and {method} agree in {int(agreed.sum())} of {len(table)} parameters."]
    for verdict in VERDICTS[1:]:
        names = [str(name) for name in table.index[table["verdict"] == verdict]]
        if names:
            out.append(f"{verdict[0].upper()}{verdict[1:]}: {', '.join(names)}.")
    return tuple(out)
