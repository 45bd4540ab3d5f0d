"""Writes the files of tests/output/test_storage.py on both stacks: run once on each, ``python tests/stored/make.py``.

A small logistic model sampled by NUTS; the numbers beside it are what the fit says before it is saved."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import hiermod as hm

HERE = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(11)
    data = pd.DataFrame({"x": rng.normal(size=36), "g": np.repeat(list("abcdéf"), 6)})
    data["y"] = (rng.random(36) < 1 / (1 + np.exp(-data["x"]))).astype(int)
    model = hm.Model("y ~ x + (x | g)", data, family="bernoulli")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.ConvergenceWarning)  # 10 draws are for files, not for conclusions
        fit = model.fit(draws=10, tune=200, chains=2, random_seed=1, progressbar=False)
    name = f"nuts-{sys.version_info.major}.{sys.version_info.minor}"
    fit.save(HERE / f"{name}.nc")
    numbers = {
        "fixef": fit.fixef()["estimate"].to_list(),
        "ranef": fit.ranef()["estimate"].to_list(),
        "sdcor": fit.varcorr()["sdcor"].to_list(),
        "predict": fit.predict(data.head(2))["estimate"].to_list(),
    }
    (HERE / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
