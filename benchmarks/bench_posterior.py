"""The marginal engine against its goals and peers on this machine, in one run: seconds, effective sizes, peak memory.

    python benchmarks/bench_posterior.py [--runs 3] [--cases sleepstudy cake ...] [--peers] [--nuts nutpie pymc]

Each row is a process of its own (so that peak memory is that row's).  Imports are done before the clock starts, except
in the rows called cold, which are whole processes from start to printed summary; the median of the runs is printed.
Peer, with --peers: Bambi sampling by nutpie, compilation included (its group effects are uncorrelated: a simpler
model)."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np

SLEEPSTUDY = "Reaction ~ Days + (Days | Subject)"


@dataclass(frozen=True)
class Case:
    """What to fit: a data set of hiermod's or the name of one made here, draws per chain, and the goal in seconds."""

    formula: str
    data: str
    draws: int = 1000
    goal: str = "-"


CASES = {
    "sleepstudy": Case(SLEEPSTUDY, "sleepstudy", goal="0.3"),
    "penicillin": Case("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", goal="0.5"),
    "pastes": Case("strength ~ 1 + (1 | batch / cask)", "pastes", goal="0.5"),
    "cake": Case("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake", goal="0.5"),
    "dyestuff2": Case("Yield ~ 1 + (1 | Batch)", "dyestuff2"),
    "insteval": Case("y ~ service + (1 | s) + (1 | d) + (1 | dept:service)", "insteval", 250, "120, 2 GB"),
    "groups125k": Case("y ~ x1 + x2 + x3 + (1 | g)", "groups125k", 500, "30, 3 GB"),
    **{f"rows 1e{k}": Case("y ~ x + (1 | g)", f"rows1e{k}") for k in range(3, 8)},
}

HIERMOD = """
import sys, time, resource, warnings
import numpy as np, pandas as pd
import hiermod as hm
from hiermod.engines.marginal.engine import sample_marginal
warnings.simplefilter("ignore")
formula, data, draws, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def frame():
    rng = np.random.default_rng(1)
    if data == "groups125k":
        g = np.repeat(np.arange(125_066), 3)
        d = pd.DataFrame({"g": g, **{f"x{i}": rng.standard_normal(len(g)) for i in (1, 2, 3)}})
        return d.assign(y=1 + d.x1 - d.x2 + rng.standard_normal(125_066)[g] + rng.standard_normal(len(g)))
    if data.startswith("rows"):
        n = int(float(data.removeprefix("rows")))
        g = np.arange(n) % 1000
        d = pd.DataFrame({"g": g.astype(str) if n < 1e6 else pd.Categorical(g), "x": rng.standard_normal(n)})
        b = rng.standard_normal((1000, 2))[g]
        return d.assign(y=1 + b[:, 0] + (0.5 + b[:, 1]) * d.x + rng.standard_normal(n))
    return hm.load_dataset(data)
hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).fit(random_seed=1)  # imports and first calls
d = frame()
for _ in range(runs):
    t = time.perf_counter()
    model = hm.Model(formula, d)
    density = model._marginal_density()
    density.batch
    built = time.perf_counter() - t
    record = sample_marginal(density, model.spec, draws=draws, random_seed=1)
    i = record.inference
    print("seconds", time.perf_counter() - t, "built", built, "ess", min(i.min_ess_bulk, i.min_ess_tail),
          "k", i.k_hat, i.method)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
COLD = """
import sys
import hiermod as hm
fit = hm.Model(sys.argv[1], hm.load_dataset(sys.argv[2])).fit(random_seed=1)
print(fit.summary())
"""
NUTS = """
import sys, time
import hiermod as hm
formula, data, family, method = sys.argv[1:]
model = hm.Model(formula, hm.load_dataset(data), family=family)
for seed in (1, 2):
    t = time.perf_counter()
    fit = model.fit(random_seed=seed, inference_method=method, progressbar=False)
    i = fit.inference
    print("fit", time.perf_counter() - t, min(i.min_ess_bulk, i.min_ess_tail), i.divergences)
"""
GRAPHS = {  # models whose group effects NUTS has to sample, or is asked to
    "cbpp": ("p(incidence, size) ~ period + (1 | herd)", "cbpp", "binomial"),
    "sleepstudy": (SLEEPSTUDY, "sleepstudy", "gaussian"),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "gaussian"),
}
BAMBI = """
import sys, time, resource, warnings, logging
warnings.simplefilter("ignore")
import bambi, nutpie, arviz, hiermod as hm
logging.disable(logging.WARNING)
d = hm.load_dataset(sys.argv[2])
for _ in range(int(sys.argv[4])):
    t = time.perf_counter()
    model = bambi.Model(sys.argv[1], d)
    idata = model.fit(draws=int(sys.argv[3]), inference_method="nutpie", random_seed=1, progress_bar=False)
    seconds = time.perf_counter() - t
    ess = min(float(arviz.ess(idata, method=m).to_dataset().to_array().min()) if hasattr(arviz.ess(idata, method=m),
              "to_dataset") else float(arviz.ess(idata, method=m).to_array().min()) for m in ("bulk", "tail"))
    print("seconds", seconds, "built", 0, "ess", ess, "k", "nan", "nuts")
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def measure(code: str, *arguments: str) -> dict[str, str]:
    """Median seconds, and what the last run printed, of one process; empty where it failed."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line]
    timed = [words for words in lines if words[0] == "seconds"]
    if done.returncode or not timed:
        print((done.stderr.strip().splitlines() or ["no output"])[-1][:110])
        return {}
    found = dict(zip(timed[-1][::2], timed[-1][1::2], strict=False)) | {"method": timed[-1][-1]}
    for name in ("seconds", "built"):
        found[name] = str(statistics.median(float(words[words.index(name) + 1]) for words in timed))
    return found | {"memory": lines[-1][1]}


def report(case: str, program: str, found: dict[str, str], goal: str) -> None:
    if not found:
        return
    seconds, built, ess, memory = (float(found[name]) for name in ("seconds", "built", "ess", "memory"))
    print(
        f"{case:18s}{program:18s}{seconds:9.3f}{built:9.3f}{goal:>11s}{ess:9.0f}{memory:9.2f}  {found['method']}",
        flush=True,
    )


def nuts(methods: list[str]) -> None:
    """The first and the second fit of a Model by NUTS, in a process without PyTensor's cache and in one that has it."""
    print(
        f"{'NUTS on the graph':18s}{'sampler':10s}{'cache':8s}{'first s':>9s}{'second s':>9s}{'min ESS':>9s}{'div':>5s}"
    )
    for name, arguments in GRAPHS.items():
        for method in methods:
            with tempfile.TemporaryDirectory() as folder:
                for cache in ("empty", "filled"):
                    environment = os.environ | {"PYTENSOR_FLAGS": f"base_compiledir={folder}"}
                    command = [sys.executable, "-W", "ignore", "-c", NUTS, *arguments, method]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    first, second = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("fit")]
                    print(
                        f"{name:18s}{method:10s}{cache:8s}{float(first[0]):9.1f}{float(second[0]):9.1f}"
                        f"{float(second[1]):9.0f}{second[2]:>5s}",
                        flush=True,
                    )


def cold(case: Case, runs: int) -> float:
    """Median seconds of a whole process."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", COLD, case.formula, case.data]
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=["cold", *CASES], choices=["cold", *CASES])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--nuts", nargs="+", metavar="SAMPLER", help="NUTS on the graph alone, by nutpie, pymc, ...")
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{platform.machine()}, {os.cpu_count()} processors (load {load:.1f}), Python {platform.python_version()}, "
        f"numpy {np.__version__}"
    )
    if options.nuts:
        nuts(options.nuts)
        return
    print(
        f"{'case':18s}{'program':18s}{'seconds':>9s}{'model':>9s}{'goal':>11s}{'min ESS':>9s}{'peak GB':>9s}  sampler"
    )
    for name in options.cases:
        if name == "cold":
            seconds = cold(CASES["sleepstudy"], options.runs)
            print(f"{'sleepstudy, cold':18s}{'hiermod':18s}{seconds:9.3f}{'':9s}{'2.5':>11s}", flush=True)
            continue
        case = CASES[name]
        runs = "1" if name in ("insteval", "groups125k", "rows 1e7") else str(options.runs)
        report(name, "hiermod", measure(HIERMOD, case.formula, case.data, str(case.draws), runs), case.goal)
        small = name in ("sleepstudy", "penicillin", "pastes", "cake", "dyestuff2")
        if options.peers and small and importlib.util.find_spec("bambi"):
            report(name, "Bambi, nutpie", measure(BAMBI, case.formula, case.data, str(case.draws), "1"), "")


if __name__ == "__main__":
    main()
