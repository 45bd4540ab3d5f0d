"""What the table of prior against REML says, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

WEIGHT = {
    "prior decides": "the prior decides: it outweighs the data ({weight} of the weight)",
    "prior has a say": "the data decide most, while the prior has a say ({weight} of the weight)",
    "data decide": "the data decide (the prior has {weight} of the weight)",
}


def words_of(name: str, row: dict[str, Any]) -> str:
    """One sentence about a parameter or a data summary."""
    where = f"the prior's middle 95 % is {_n(row['prior_lower'])} to {_n(row['prior_upper'])}"
    verdict = row["verdict"]
    if row["kind"] == "data":
        return _data_words(name.removeprefix("data: "), row, where)
    if verdict == "undefined":
        return "REML has no estimate, so there is nothing to set the prior against"
    if verdict == "fixed":
        return f"fixed at {_n(row['prior_median'])} by priors=; REML's estimate is {_n(row['reml'])}"
    said = f"REML's {_n(row['reml'])}; {where}"
    if verdict == "conflict":
        away = _distance(row)
        return (
            f"conflict: REML's {_n(row['reml'])} is a surprise under the prior ({_p(row['conflict_p'])}){away}; {where}"
        )
    if verdict == "at the boundary":
        return (
            f"{said}: no conflict, and with REML at the boundary the prior decides how far from it the posterior lies"
        )
    if verdict == "no standard error":
        return f"{said}: no conflict; REML gives no standard error to weigh the prior by"
    weight = WEIGHT[verdict].format(weight=_percent(row["prior_weight"]))
    if abs(row["prior_shift"]) >= 0.1:
        weight += f", moving the estimate by {row['prior_shift']:+.2g} standard errors"
    if row["conflict_p"] < 0.05:
        return f"{said}: far out in the prior, yet within its own standard error of it; {weight}"
    return f"{said}: no conflict, and {weight}"


def _distance(row: dict[str, Any]) -> str:
    half = (row["prior_upper"] - row["prior_lower"]) / 2
    away = abs(row["reml"] - row["prior_median"]) / half if half > 0 else np.inf
    return f", {away:.3g} times as far from its median as its 95 % limits" if np.isfinite(away) and away > 2 else ""


def _data_words(what: str, row: dict[str, Any], where: str) -> str:
    said = f"the data's {what} is {_n(row['reml'])}; {where.replace('prior', 'simulated data', 1)}"
    if row["verdict"] in ("wide", "too wide"):
        ratio = row["prior_median"] / row["reml"] if row["reml"] > 0 else np.inf
        times = f"about {ratio:.0f} times as large" if np.isfinite(ratio) else "larger"
        if row["verdict"] == "wide":
            return f"{said}: the prior expects it {times}, which is wide, not wrong"
        return f"too wide: {said}. The prior expects it {times}: check the units of its scales"
    if row["verdict"] == "conflict":
        return f"conflict: {said}, where such data are a surprise ({_p(row['conflict_p'])})"
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
        ("prior decides", "The prior, not the data, decides"),
        ("prior has a say", "The prior has a say in"),
        ("at the boundary", "REML is at the boundary, where the prior decides, for"),
    ):
        names = [str(name) for name in table.index[table["verdict"] == verdict]]
        if names:
            out.append(f"{said} {', '.join(names)}.")
    if (table.loc[~data, "verdict"] == "data decide").all() and len(out) == 1:
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


def _p(value: float) -> str:
    if np.isnan(value):
        return "p undefined"
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"
