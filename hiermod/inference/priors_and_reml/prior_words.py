"""What the table of prior against REML says, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hiermod.inference.priors_and_reml.verdicts import (
    BOUNDARY,
    CONFLICT,
    DATA,
    DECIDES,
    FIXED,
    NO_ERROR,
    SAY,
    UNDEFINED,
    p_words,
)

WEIGHT = {
    DECIDES: "the prior decides: it outweighs the data ({weight} of the weight)",
    SAY: "the data decide most, while the prior has a say ({weight} of the weight)",
    DATA: "the data decide (the prior has {weight} of the weight)",
}


def words_of(name: str, row: dict[str, Any]) -> str:
    """One sentence about a parameter or a data summary."""
    where = f"the prior's middle 95 % is {_n(row['prior_lower'])} to {_n(row['prior_upper'])}"
    verdict = row["verdict"]
    if row["kind"] == "data":
        return _data_words(name.removeprefix("data: "), row, where)
    if verdict == UNDEFINED:
        return "REML has no estimate, so there is nothing to set the prior against"
    if verdict == FIXED:
        return f"fixed at {_n(row['prior_median'])} by priors=; REML's estimate is {_n(row['reml'])}"
    said = f"REML's {_n(row['reml'])}; {where}"
    if verdict == CONFLICT:
        return f"{CONFLICT}: {_surprise(row)}"
    if verdict == BOUNDARY:
        return (
            f"{said}: no conflict, and with REML at the boundary the prior decides how far from it the posterior lies"
        )
    if verdict == NO_ERROR:
        return f"{said}: no conflict; REML gives no standard error to weigh the prior by"
    weight = WEIGHT[verdict].format(weight=_percent(row["prior_weight"]))
    if abs(row["prior_shift"]) >= 0.1:
        weight += f", moving the estimate by {row['prior_shift']:+.2g} standard errors"
    if row["conflict_p"] < 0.05:
        return f"{said}: far out in the prior, yet within its own standard error of it; {weight}"
    return f"{said}: no conflict, and {weight}"


def _surprise(row: dict[str, Any]) -> str:
    """What is a surprise; of an intercept where its prior is, at the predictors' means."""
    estimate, *prior = row.get("stated", [row[name] for name in ("reml", "prior_median", "prior_lower", "prior_upper")])
    there = " at the predictors' means" if "stated" in row else ""
    return (
        f"REML's {_n(estimate)}{there} is a surprise under the prior ({p_words(row['conflict_p'])})"
        f"{_distance(estimate, *prior)}; the prior's middle 95 % is {_n(prior[1])} to {_n(prior[2])}"
    )


def _distance(estimate: float, median: float, lower: float, upper: float) -> str:
    half = (upper - lower) / 2
    away = abs(estimate - median) / half if half > 0 else np.inf
    return f", {away:.3g} times as far from its median as its 95 % limits" if np.isfinite(away) and away > 2 else ""


def _data_words(what: str, row: dict[str, Any], where: str) -> str:
    said = f"the data's {what} is {_n(row['reml'])}; {where.replace('prior', 'simulated data', 1)}"
    if row["verdict"] in ("wide", "too wide"):
        ratio = row["prior_median"] / row["reml"] if row["reml"] > 0 else np.inf
        times = f"about {ratio:.0f} times as large" if np.isfinite(ratio) else "larger"
        if row["verdict"] == "wide":
            return f"{said}: the prior expects it {times}, which is wide, not wrong"
        return f"too wide: {said}. The prior expects it {times}: check the units of its scales"
    if row["verdict"] == CONFLICT:
        return f"{CONFLICT}: {said}, where such data are a surprise ({p_words(row['conflict_p'])})"
    return f"{said}: data like these are expected"


def sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """The table in words: what conflicts, what is too wide, where the prior decides or has a say."""
    data = table["kind"] == "data"
    surprising = table[table["conflict"]]
    counted = f"{int((~data).sum())} parameters and {int(data.sum())} summaries of the data"
    if len(surprising):
        out = [f"Prior and data conflict in {len(surprising)} of {counted}: {', '.join(surprising.index)}."]
    else:
        out = [f"No conflict between prior and data in {counted}."]
    out += [_sentence(name, row["words"]) for name, row in surprising.iterrows()]
    wide = [str(name).removeprefix("data: ") for name in table.index[table["verdict"] == "wide"]]
    if wide and not (table["verdict"] == "too wide").any():
        out.append(
            f"The prior expects wilder data than these ({', '.join(wide)}): it is wide, which by itself harms little."
        )
    for verdict, said in (
        (DECIDES, "The prior, not the data, decides"),
        (SAY, "The prior has a say in"),
        (BOUNDARY, "REML is at the boundary, where the prior decides, for"),
    ):
        names = [str(name) for name in table.index[table["verdict"] == verdict]]
        if names:
            out.append(f"{said} {', '.join(names)}.")
    if (table.loc[~data, "verdict"] == DATA).all() and len(out) == 1:
        out.append("The data decide every parameter: another prior of this kind would give nearly the same answer.")
    return tuple(out)


def _sentence(name: object, words: str) -> str:
    return f"{name}: {words}."


def _n(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    if value < 0.001:
        return "less than 0.1 %"
    return "more than 99 %" if value > 0.99 else f"{100 * value:.2g} %"
