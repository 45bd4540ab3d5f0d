"""Posteriors of generalised mixed models: seconds, processor seconds and effective sizes, by engine, on this machine.

    python benchmarks/bench_generalised.py [--cases cbpp grouseticks ...] [--engines whitened nutpie] [--seeds 2]

Each case is a process of its own; its first line is the whole first fit (imports are done; compiled code is taken from
the machine's folder), the others are further fits of the same model."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd


def people(groups: int, rows: int, seed: int, slope: bool, sd: float = 1.0) -> pd.DataFrame:
    """0 and 1 in groups, with intercepts and slopes that correlate by 0.5."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), rows), rng.normal(size=groups * rows)
    b = rng.normal(size=(groups, 2)) @ np.linalg.cholesky(np.array([[sd * sd, 0.3 * sd], [0.3 * sd, 0.36]])).T
    eta = -0.5 + 0.8 * x + b[g, 0] + (b[g, 1] * x if slope else 0.0)
    return pd.DataFrame({"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "g": g})


SIMULATED = {
    "groups500": lambda: people(500, 10, 1, True),
    "groups20k": lambda: people(20_000, 5, 2, False),
    "visits": lambda: people(300, 7, 3, False, 4.0),
}
CASES = {  # formula, data, family
    "cbpp": ("p(incidence, size) ~ period + (1 | herd)", "cbpp", "binomial"),
    "ucb": ("cbind(admitted, rejected) ~ gender + (1 | dept)", "ucb_admissions", "binomial"),
    "grouseticks": ("TICKS ~ YEAR + HEIGHT_s + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "grouseticks", "poisson"),
    "ticks nb": ("TICKS ~ YEAR + HEIGHT_s + (1 | BROOD) + (1 | LOCATION)", "grouseticks", "negativebinomial"),
    "groups500": ("y ~ x + (x | g)", "groups500", "bernoulli"),
    "verbagg": ("r2 ~ (Anger + Gender + btype + situ)**2 + (1 | id) + (1 | item)", "verbagg", "bernoulli"),
    "visits": ("y ~ x + (1 | g)", "visits", "bernoulli"),
    "groups20k": ("y ~ x + (1 | g)", "groups20k", "bernoulli"),
}


def one(case: str, engine: str, seeds: int) -> None:
    """In a process of its own: a line of JSON for each fit."""
    import hiermod as hm
    from hiermod.engines.posterior import assess

    formula, data, family = CASES[case]
    frame = SIMULATED[data]() if data in SIMULATED else hm.load_dataset(data)
    for seed in range(1, seeds + 1):
        wall, processor = time.perf_counter(), time.process_time()
        model = hm.Model(formula, frame, family=family)
        fit = model.fit(random_seed=seed, inference_method=engine, progressbar=False)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        steps = fit.record.stats.get("n_steps")
        line: dict[str, Any] = {
            "seconds": wall,
            "processor": processor,
            "parameters": assess(fit.record, fit.design, 0, effects=False)[1],
            "all": fit.inference.min_ess_bulk,
            "r_hat": fit.inference.max_r_hat,
            "divergences": fit.inference.divergences,
            "steps": None if steps is None else float(np.mean(steps)),
            "by": fit.inference.method,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--engines", nargs="*", default=["whitened"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one, options.seeds)
        return
    print("| model | engine | fit | seconds | processor | ESS parameters | ESS all | R-hat | divergences | steps |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in options.cases:
        for engine in options.engines:
            command = [sys.executable, "-W", "ignore", __file__, "--one", case, engine, "--seeds", str(options.seeds)]
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                print(f"| {case} | {engine} | {done.stderr.strip().splitlines()[-1]} |", flush=True)
                continue
            for number, text in enumerate(done.stdout.splitlines(), 1):
                t = json.loads(text)
                steps = "" if t["steps"] is None else f"{t['steps']:.1f}"
                print(
                    f"| {case} | {t['by']} | {number} | {t['seconds']:.2f} | {t['processor']:.2f} | "
                    f"{t['parameters']:.0f} | {t['all']:.0f} | {t['r_hat']:.4f} | {t['divergences']} | {steps} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
