"""The cases of tests/reference/lme4 as fits, and R's names of coefficients as ours."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any

from conftest import REFERENCE, data_name, read_reference

from hiermod.datasets import load_dataset
from hiermod.errors import SingularFitWarning
from hiermod.fits.frequentist import FrequentistFit
from hiermod.model import Model

INDEX = json.loads((REFERENCE / "index.json").read_text(encoding="utf-8"))


@cache
def fitted(case: str) -> tuple[dict[str, Any], FrequentistFit]:
    r = read_reference(case)
    model = Model(r["formula"], load_dataset(data_name(r["data"])), weights=r.get("weights"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return r, model.reml() if r.get("reml", True) else model.ml()


def our_name(r: dict[str, Any], name: str) -> str:
    """R's ``recipeB:temperature185`` as ``recipe[B]:temperature[185]``; ``(Intercept)`` as ``Intercept``."""
    levels = read_levels(r)
    return ":".join(levels.get(part, part.replace("(Intercept)", "Intercept")) for part in name.split(":"))


def read_levels(r: dict[str, Any]) -> dict[str, str]:
    data = load_dataset(data_name(r["data"]))
    return {f"{f}{level}": f"{f}[{level}]" for f in r["categorical"] for level in map(str, data[f].unique())}
