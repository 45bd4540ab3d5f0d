"""Long runs of NUTS on the PyMC graph: what tests/engines/marginal/test_long_runs.py holds the marginal engine to.

Nothing is shared with that engine but the numbers of the priors, which are written out and kept beside the answers.
Run by hand (nutpie, about half a minute a model on two cores):  python benchmarks/long_runs.py [--cases NAME ...]"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.datasets import load_dataset
from hiermod.engines.posterior import Posterior, labelled
from hiermod.errors import HiermodWarning
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.model import Model
from hiermod.priors.distributions import Distribution
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

OUT = Path(__file__).parents[1] / "tests" / "reference" / "posterior" / "graph"
CHAINS, TUNE, SEED = 4, 2000, 20240601
PACKAGES = ("nutpie", "pymc", "pytensor", "bambi", "arviz", "arviz-stats", "numpy", "numba")


@dataclass(frozen=True)
class Case:
    """A model, and how hard NUTS must work for it.  Priors: Bambi's defaults unless given."""

    formula: str
    data: str
    draws: int = 25_000  # per chain
    target_accept: float = 0.95
    centered: bool = False  # group effects as they are, with a mass matrix that knows the intercept's ridge with them
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "sleepstudy_intercept": Case("Reaction ~ Days + (1 | Subject)", "sleepstudy", centered=True),
    "sleepstudy_slope": Case("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "sleepstudy_uncorrelated": Case("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "sleepstudy_slope_only": Case("Reaction ~ Days + (0 + Days | Subject)", "sleepstudy", centered=True),
    "sleepstudy_no_fixed_slope": Case("Reaction ~ 1 + (Days | Subject)", "sleepstudy", centered=True),
    "penicillin": Case("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", centered=True),
    # near a boundary, where too long a step would leave the funnel's neck out
    "pastes": Case("strength ~ 1 + (1 | batch) + (1 | cask:batch)", "pastes", draws=50_000, target_accept=0.995),
    "cake": Case("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake", centered=True),
    "cake_slopes": Case(  # six correlated effects: 22 variance parameters
        "angle ~ recipe + temperature + (temperature | recipe:replicate)", "cake", draws=10_000
    ),
    "dyestuff2": Case("Yield ~ 1 + (1 | Batch)", "dyestuff2", draws=50_000, target_accept=0.995),
    "mtcars": Case("mpg ~ wt + (wt | cyl)", "mtcars", draws=50_000, target_accept=0.995),
    "eight_schools": Case(
        "effect ~ 1 + (1 | school)", "eight_schools", draws=50_000, target_accept=0.995, options={"se": "se"}
    ),
}


def written_out(design: Design) -> dict[str, str]:
    """Bambi's default priors of this model, and LKJ(2), as texts for ``priors=``."""
    resolved = gaussian_priors(design, resolve_priors(None, design))
    found = {}
    for term in dict.fromkeys(design.common_terms):
        where = [i for i, name in enumerate(design.common_terms) if name == term]
        found[term] = f"Normal({_numbers(resolved.mean[where])}, {_numbers(resolved.sd[where])})"
    for block, sds, eta in zip(design.blocks, resolved.sds, resolved.eta, strict=True):
        for name in dict.fromkeys(column.variable for column in block.columns):
            mine = [sd for column, sd in zip(block.columns, sds, strict=True) if column.variable == name]
            found[name] = f"HalfNormal({_numbers(np.array([float(sd.get('sigma')) for sd in mine]))})"  # type: ignore[arg-type]
        if block.size > 1:
            found[block.corr_name] = f"LKJ({eta:g})"
    if isinstance(resolved.sigma, Distribution):
        found["sigma"] = str(resolved.sigma)
    return found


def _numbers(values: np.ndarray) -> str:
    texts = [f"{value:.10g}" for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def arrays(record: Posterior, design: Design) -> dict[str, np.ndarray]:
    """Every common effect, variance parameter and correlation, and the effects of the first, the middle and the last
    level of each factor: (chains, draws) each."""
    found = dict(labelled(record, design, effects=False))  # type: ignore[arg-type]
    for block, b in zip(design.blocks, record.b, strict=True):
        J = len(block.levels)
        for i, column in enumerate(block.columns):
            for j in sorted({0, J // 2, J - 1}):
                where = "" if column.level is None else f"{column.level},"
                found[f"{column.variable}[{where}{block.levels[j]}]"] = b[..., j, i]
    return found


def summary(found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Means, sds and outer quantiles with their Monte Carlo errors, R-hat and ESS; one row per parameter."""
    x = np.stack(list(found.values()), axis=-1)
    columns = {"mean": x.mean(axis=(0, 1)), "mcse_mean": versions.mcse(x)}
    columns |= {"sd": x.std(axis=(0, 1)), "mcse_sd": versions.mcse(x, "sd")}
    for name, p in (("q2.5", 0.025), ("q97.5", 0.975)):
        columns |= {name: np.quantile(x, p, axis=(0, 1)), f"mcse_{name}": versions.mcse(x, "quantile", p)}
    columns |= {"r_hat": versions.r_hat(x), "ess_bulk": versions.ess_bulk(x), "ess_tail": versions.ess_tail(x)}
    return pd.DataFrame(columns, index=pd.Index(list(found), name="parameter"))


def run(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of one case, and how it came about."""
    case = CASES[name]
    data = load_dataset(case.data)
    priors = written_out(build_design(case.formula, data, **case.options))
    model = Model(case.formula, data, priors=priors, noncentered=not case.centered, **case.options)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HiermodWarning)  # what they say is in the record
        fit = model.fit(
            inference_method="nutpie",
            draws=case.draws,
            tune=TUNE,
            chains=CHAINS,
            target_accept=case.target_accept,
            random_seed=SEED,
            progressbar=False,
            **({"low_rank_modified_mass_matrix": True} if case.centered else {}),
        )
    table = summary(arrays(fit.record, model.spec))
    about = {
        "formula": case.formula,
        "data": case.data,
        "options": case.options,
        "priors": priors,
        "center_predictors": True,
        "noncentered": not case.centered,
        "chains": CHAINS,
        "draws": case.draws,
        "tune": TUNE,
        "target_accept": case.target_accept,
        "low_rank_modified_mass_matrix": case.centered,
        "seed": SEED,
        "divergences": fit.inference.divergences,
        "max_r_hat": round(fit.inference.max_r_hat, 5),
        "min_ess_bulk": round(fit.inference.min_ess_bulk),
        "min_ess_tail": round(fit.inference.min_ess_tail),
        "cpu_seconds": round(time.process_time() - start, 1),
        "versions": {one: importlib.metadata.version(one) for one in PACKAGES} | {"python": platform.python_version()},
    }
    return table, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.cases:
        table, about = run(name)
        table.to_csv(options.out / f"{name}.csv", float_format="%.8g")
        (options.out / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        print(
            f"{name}: {about['divergences']} divergences, R-hat {about['max_r_hat']}, least ESS "
            f"{about['min_ess_bulk']} and {about['min_ess_tail']}, {about['cpu_seconds']} s of processor time",
            flush=True,
        )


if __name__ == "__main__":
    main()
