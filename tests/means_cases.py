"""The fits that tests of marginal means, contrasts and slopes share; their R counterparts are named in each test.

TIGHT is what two optimisers of the same criterion agree to.  R's fits: lmerControl(optimizer = "bobyqa", optCtrl =
list(rhoend = 1e-11, maxfun = 1e6)); glmer with rhoend = 1e-10 and tolPwrss = 1e-12."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.model import Model

TIGHT = 2e-6
COLUMNS = ["estimate", "std_error", "df", "lower", "upper"]


def close(
    table: pd.DataFrame, expected: list[list[float]], columns: list[str] | None = None, rel: float = TIGHT
) -> None:
    assert table[columns or COLUMNS].to_numpy() == pytest.approx(np.array(expected), rel=rel)


@cache
def cake() -> Any:
    return Model("angle ~ recipe * temperature + (1 | recipe:replicate)", load_dataset("cake")).reml()


@cache
def unbalanced() -> pd.DataFrame:
    """sleepstudy with factors of its own and rows left out: 155 rows.  In R:

    ss$Light <- factor(ifelse(as.integer(ss$Subject) %% 3 == 0, "on", "off")); ss$Age <- 20 + (as.integer(ss$Subject) *
    7) %% 13; ss$Phase <- factor(c("a","a","a","b","b","b","b","c","c","c")[ss$Days + 1]); ss$i <- seq_len(nrow(ss)) - 1
    u <- ss[(ss$i * 7) %% 11 != 0 & !(ss$Phase == "c" & ss$i %% 4 == 0), ]"""
    d = load_dataset("sleepstudy")
    code, i = d["Subject"].cat.codes.to_numpy() + 1, np.arange(len(d))
    phase = np.array(list("aaabbbbccc"))[d["Days"]]
    d = d.assign(Light=np.where(code % 3 == 0, "on", "off"), Phase=phase, Age=20 + (code * 7) % 13)
    return d[(i * 7 % 11 != 0) & ~((phase == "c") & (i % 4 == 0))]


@cache
def phases() -> Any:
    return Model("Reaction ~ Phase * Light + poly(Age, 2) + (1 | Subject)", unbalanced()).reml()


@cache
def herds() -> Model:
    return Model("p(incidence, size) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial")


@cache
def ticks() -> Any:
    d = load_dataset("grouseticks")
    d["h"] = (d["HEIGHT"] - 460) / 100
    return Model("TICKS ~ YEAR + h + (1 | BROOD) + (1 | LOCATION)", d, family="poisson").ml()
