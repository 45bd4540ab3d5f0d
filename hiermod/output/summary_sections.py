"""Sections that summaries of every kind of fit have, laid out as lme4 prints them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.core.summary import Section, number_column


def varcorr_section(varcorr: pd.DataFrame, nobs: int, ngroups: dict[str, int]) -> Section:
    """lme4's "Random effects:" block: variances, sds and the correlation triangle."""
    rows: list[dict[str, str]] = []
    variances = varcorr[varcorr["term2"].isna()]
    shown_var = dict(zip(variances.index, number_column(variances["vcov"].to_numpy()), strict=True))
    shown_sd = dict(zip(variances.index, number_column(variances["sdcor"].to_numpy()), strict=True))
    correlated = varcorr[varcorr["term2"].notna()]
    width = 0
    previous = None
    for i, row in variances.iterrows():
        cells = {
            "Groups": "" if row["group"] == previous else str(row["group"]),
            "Name": "" if row["group"] == "Residual" else str(row["term1"]),
            "Variance": shown_var[i],
            "Std.Dev.": shown_sd[i],
        }
        mine = correlated[(correlated["group"] == row["group"]) & (correlated["term2"] == row["term1"])]
        for j, value in enumerate(mine["sdcor"]):
            cells[f"Corr{j}"] = f"{value:.2f}"
            width = max(width, j + 1)
        rows.append(cells)
        previous = row["group"]
    columns = ["Groups", "Name", "Variance", "Std.Dev.", *(f"Corr{j}" for j in range(width))]
    table = pd.DataFrame([{c: cells.get(c, "") for c in columns} for cells in rows], columns=columns)
    table.columns = pd.Index(["Groups", "Name", "Variance", "Std.Dev.", *(["Corr"] + [""] * (width - 1))[:width]])
    groups = "; ".join(f"{name}, {count}" for name, count in ngroups.items())
    return Section("Random effects:", _unique(table), f"Number of obs: {nobs}, groups: {groups}", show_index=False)


def _unique(table: pd.DataFrame) -> pd.DataFrame:
    """Blank headings made distinct by blanks, so that every column can be addressed."""
    seen: dict[str, int] = {}
    names = []
    for name in table.columns:
        seen[name] = seen.get(name, 0) + 1
        names.append(name + " " * (seen[name] - 1))
    return table.set_axis(names, axis=1)


def correlation_section(vcov: pd.DataFrame) -> Section | None:
    """lme4's lower triangle "Correlation of Fixed Effects"; None for one coefficient or more than 20."""
    if not 2 <= len(vcov) <= 20:
        return None
    sd = np.sqrt(np.diag(vcov))
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = vcov.to_numpy() / np.outer(sd, sd)
    cells = [
        [f"{corr[i, j]:.3f}" if j < i and np.isfinite(corr[i, j]) else "" for j in range(len(corr) - 1)]
        for i in range(1, len(corr))
    ]
    heads = [name if name != "Intercept" else "(Intr)" for name in vcov.columns[:-1]]
    table = pd.DataFrame(cells, index=vcov.index[1:], columns=[head[:6] for head in heads])
    return Section("Correlation of Fixed Effects:", table)
