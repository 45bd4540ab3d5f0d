"""Writes tests/stored/format-1: one file of each kind that hiermod writes, and what each must give back.

Run once, when format 1 was settled (``python tests/stored/make_kinds.py``, Python 3.11), and kept as it was then: later
versions must read these bytes (tests/output/test_stored_files.py), so files here are added to and never made again."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hiermod as hm
from hiermod.engines.marginal import on_demand

HERE = Path(__file__).parent / "format-1"
SHORT: dict[str, Any] = {"draws": 25, "chains": 2, "random_seed": 3, "progressbar": False}
NUTS: dict[str, Any] = {"draws": 10, "tune": 150, "chains": 2, "random_seed": 1, "progressbar": False}


def frame() -> pd.DataFrame:
    """48 rows: a factor with levels beyond ASCII, groups, counts, weights, dates, booleans, ordered answers."""
    rng = np.random.default_rng(21)
    n = 48
    d = pd.DataFrame(
        {
            "dose": np.tile([0.0, 1.0, 2.0, 3.5], 12),
            "größe": rng.normal(size=n).round(3),
            "Gerät": pd.Categorical(np.tile(["b|ä", "a/ü", "ç ñ"], 16), categories=["ç ñ", "b|ä", "a/ü", "nie"]),
            "school": np.repeat([f"№{i}" for i in range(8)], 6),
            "class": np.tile(["p", "q"], 24),
            "n": rng.integers(5, 9, n),
            "w": rng.uniform(0.5, 2.0, n).round(3),
            "ok": rng.random(n) < 0.5,
        },
        index=pd.date_range("2024-03-30", periods=n, freq="h", tz="Europe/Copenhagen", name="when"),
    )
    group = np.repeat(rng.normal(size=8), 6)
    slope = np.repeat(rng.normal(size=8), 6)
    d["y"] = (2 + d["dose"] * (0.7 + 0.4 * slope) + 1.3 * group + rng.normal(size=n)).round(3)
    d["k"] = rng.binomial(d["n"], 1 / (1 + np.exp(-0.4 * group - 0.3 * d["größe"])))
    d["events"] = rng.poisson(np.exp(0.6 + 0.3 * group + 0.2 * d["dose"]))
    d["answer"] = pd.Categorical(
        np.array(["no", "maybe", "yes"])[rng.integers(0, 3, n)], ["no", "maybe", "yes"], ordered=True
    )
    return d


def double(x: Any) -> Any:
    return x * 2.0


def fits() -> dict[str, Callable[[], Any]]:
    """Kind -> how a fit of it is made."""
    d = frame()
    priors = {
        "dose": "Normal(0, 20)",
        "1|school": "HalfNormal(5)",
        "sigma": "HalfStudentT(nu=4, sigma=3)",
        "school_corr": "LKJ(4)",
    }
    own = {"halved": double, "cut": 1.5, "table": np.array([1.0, 2.0])}
    missing = d.reset_index(drop=True)
    missing.loc[[3, 7], "dose"] = np.nan

    def demanded() -> Any:
        at_once, on_demand.AT_ONCE = on_demand.AT_ONCE, 0.0
        try:
            return hm.Model("y ~ dose + (dose | school) + (1 | Gerät)", d).fit(**SHORT)
        finally:
            on_demand.AT_ONCE = at_once

    return {
        "lm": lambda: hm.Model("y ~ dose * Gerät", d).reml(),
        "lm_ml": lambda: hm.Model("y ~ scale(dose) + poly(größe, 2)", missing, dropna=True).ml(),
        "reml": lambda: hm.Model("y ~ dose + Gerät + (dose | school)", d, weights="w").reml(),
        "reml_crossed": lambda: hm.Model("y ~ I(dose / 2) + ok + (1 | school/class) + (1 | Gerät)", d).reml(),
        "ml": lambda: hm.Model("y ~ dose + offset(w) + (class || school)", d).ml(),
        "ml_known_sds": lambda: hm.Model("y ~ dose + (1 | school)", d, se="w").ml(),
        "reml_own_function": lambda: hm.Model(
            "y ~ halved(dose) + I(dose > cut) + (1 | school)", d, extra_namespace=own
        ).reml(),
        "glm": lambda: hm.Model("events ~ dose", d, family="poisson").ml(),
        "glmm_laplace": lambda: hm.Model("events ~ dose + (dose | school)", d, family="poisson").ml(),
        "glmm_quadrature": lambda: hm.Model("p(k, n) ~ größe + (1 | school)", d, family="binomial").ml(nodes=5),
        "marginal": lambda: hm.Model("y ~ dose + (dose | school)", d, priors=priors).fit(**SHORT),
        "marginal_crossed": lambda: hm.Model("y ~ I(dose / 2) + (1 | school) + (1 | Gerät)", d, se="w").fit(**SHORT),
        "effects_on_demand": demanded,
        "nuts_bernoulli": lambda: hm.Model("ok ~ I(dose * 2) + (dose | school)", d, family="bernoulli").fit(**NUTS),
        "nuts_sigma": lambda: hm.Model(
            "y ~ dose + (1 | school)", d, family="t", parameters={"sigma": "dose + (1 | Gerät)"}
        ).fit(**NUTS),
        "nuts_ordinal": lambda: hm.Model("answer ~ dose + (1 | school)", d, family="cumulative").fit(**NUTS),
    }


def numbers(fit: Any) -> dict[str, Any]:
    """What a fit says: stored numbers, and those computed from them."""
    found: dict[str, Any] = {
        "formula": fit.formula,
        "nobs": fit.nobs,
        "fixef": list(fit.fixef()["estimate"]),
        "std_error": list(fit.fixef()["std_error"]),
        "terms": list(fit.fixef().index),
        "vcov": np.asarray(fit.vcov()).ravel().tolist(),
        "index": [str(one) for one in fit.design.index[:3]],
        "y": np.asarray(fit.design.y).tolist(),
    }
    if fit.design.blocks:
        table = fit.ranef()
        found |= {
            "ranef": list(table["estimate"]),
            "levels": list(table["level"]),
            "ranef_se": list(table["std_error"]),
        }
        found["sdcor"] = list(fit.varcorr()["sdcor"])
    if fit.family != "cumulative":
        found["predict"] = list(fit.predict(fit.design.frame.head(2))["estimate"])
    if isinstance(fit, hm.results.bayesian.BayesianFit):
        found["draws"] = np.asarray(fit.record.beta).ravel()[:40].tolist()
        found["inference"] = [fit.inference.method, fit.inference.seed, fit.inference.draws]
        found["priors"] = fit.origin.priors if fit.origin is not None else None
    else:
        found |= {"loglik": fit.loglik, "criterion": fit.criterion, "theta": list(fit.theta)}
    return found


def power(checkpoint: Path, fits: int, **how: Any) -> Any:
    """A small power curve; resumed where the file has its chunks."""
    return hm.power(
        "y ~ condition + (1 | subject)", lambda n: hm.designs.within(subjects=n), sizes=[8, 12],
        fixef={"Intercept": 0, "condition[treatment]": 0.8}, varcorr={"1|subject": 1}, sigma=0.8, fits=fits,
        random_seed=1, progressbar=False, checkpoint=checkpoint, **how,
    )  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore", hm.HiermodWarning)  # short chains and small data: for files, not for conclusions
    HERE.mkdir(exist_ok=True)
    expected: dict[str, Any] = {}
    for name, make in fits().items():
        path = HERE / f"{name}.nc"
        if path.exists():
            sys.exit(f"{path} is there: these files are kept as they are")
        make().save(path)
        names = {"extra_namespace": {"halved": double}} if name == "reml_own_function" else {}
        expected[name] = numbers(hm.load(path, **names))
    cache = HERE / "cache"
    cached = hm.Model("y ~ dose + (1 | school)", frame()).fit(**SHORT, cache=cache)
    (kept,) = cache.iterdir()
    expected[f"cache/{kept.stem}"] = numbers(hm.load(kept))
    assert expected[f"cache/{kept.stem}"]["fixef"] == list(cached.fixef()["estimate"])
    table = power(HERE / "power.jsonl", 30).table
    expected["power"] = {"power": list(table["power"]), "size": [int(n) for n in table.index]}
    (HERE / "numbers.json").write_text(json.dumps(expected, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
