"""REML against its peers on this machine, in one run: seconds from formula to fit, and peak memory of the process.

    python benchmarks/bench_reml.py [--runs 5]

Each row is a process of its own (so that peak memory is that row's), imports done before the clock starts; the median
of the runs is printed.  Peers: R's lme4 where Rscript finds it, mixedlm where it is installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

CASES = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "insteval": "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
    "groups125k": "y ~ x1 + x2 + x3 + (1 | g)",
    "nested": "y ~ x1 + (1 | school) + (1 | school:pupil)",
}
FACTORS = {
    "sleepstudy": ["Subject"],
    "insteval": ["s", "d", "dept", "service"],
    "groups125k": ["g"],
    "nested": ["school", "pupil"],
}
GOALS = {"sleepstudy": "0.010", "insteval": "3", "groups125k": "2.5", "nested": "-"}

HIERMOD = """
import sys, time, resource
import pandas as pd
import hiermod as hm
from hiermod.model import Model
d = pd.read_pickle(sys.argv[1])
hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()  # imports and first calls
for _ in range(int(sys.argv[3])):
    t = time.perf_counter()
    fit = Model(sys.argv[2], d).reml()
    print("seconds", time.perf_counter() - t, "criterion", fit.criterion)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
MIXEDLM = """
import sys, time, resource
import pandas as pd
import mixedlm
d = pd.read_pickle(sys.argv[1])
for _ in range(int(sys.argv[3])):
    t = time.perf_counter()
    fit = mixedlm.lmer(sys.argv[2].replace("school:pupil", "pupil").replace("dept:service", "deptservice"), d)
    print("seconds", time.perf_counter() - t, "criterion", getattr(fit, "deviance", float("nan")))
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
LME4 = """
suppressMessages(library(lme4)); a <- commandArgs(TRUE)
d <- read.csv(a[1]); for (f in strsplit(a[4], ",")[[1]]) d[[f]] <- factor(d[[f]])
for (i in seq_len(as.integer(a[3]))) {
  t <- proc.time()[["elapsed"]]; n <- if (nrow(d) < 1000) 20 else 1
  for (j in seq_len(n)) fit <- suppressMessages(suppressWarnings(lmer(as.formula(a[2]), d)))
  cat("seconds", (proc.time()[["elapsed"]] - t) / n, "criterion", REMLcrit(fit), "\\n") }
status <- readLines("/proc/self/status"); peak <- status[grepl("VmHWM", status)]
cat("memory", as.numeric(gsub("[^0-9]", "", peak)) / 1e6, "\\n")
"""


def frame(case: str) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    if case in ("sleepstudy", "insteval"):
        import hiermod as hm

        d = hm.load_dataset(case).copy()
        if case == "insteval":
            d["deptservice"] = d["dept"].astype(str) + ":" + d["service"].astype(str)
        return d
    if case == "groups125k":
        groups = 125_066
        g = np.repeat(np.arange(groups), 3)
        d = pd.DataFrame({"g": g, **{f"x{i}": rng.standard_normal(len(g)) for i in (1, 2, 3)}})
        return d.assign(y=1 + d.x1 - d.x2 + rng.standard_normal(groups)[g] + rng.standard_normal(len(g)))
    school = np.repeat(np.arange(20_000), 15)
    pupil = np.repeat(np.arange(100_000), 3)
    d = pd.DataFrame({"school": school, "pupil": pupil, "x1": rng.standard_normal(300_000)})
    noise = rng.standard_normal(300_000)
    return d.assign(y=d.x1 + rng.standard_normal(20_000)[school] + 0.7 * rng.standard_normal(100_000)[pupil] + noise)


def measure(command: list[str], timeout: float) -> tuple[float, float, str]:
    """Median seconds, peak GB and criterion of one process; nan where it failed or took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return float("nan"), float("nan"), f"more than {timeout:g} s"
    lines = [line.split() for line in done.stdout.splitlines()]
    seconds = [float(words[1]) for words in lines if words and words[0] == "seconds"]
    memory = [float(words[1]) for words in lines if words and words[0] == "memory"]
    if done.returncode or not seconds:
        return float("nan"), float("nan"), "failed: " + (done.stderr.strip().splitlines() or ["no output"])[-1][:60]
    criterion = [words[3] for words in lines if words and words[0] == "seconds"][-1]
    return statistics.median(seconds), memory[-1] if memory else float("nan"), criterion[:14]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, numpy {np.__version__}"
    )
    print(f"{'case':12s}{'program':12s}{'seconds':>10s}{'goal':>8s}{'peak GB':>9s}  criterion")
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases:
            d = frame(case)
            pickle, csv = Path(folder) / f"{case}.pkl", Path(folder) / f"{case}.csv"
            d.to_pickle(pickle)
            d.to_csv(csv, index=False)
            runs = str(options.runs)
            programs = {"hiermod": [sys.executable, "-c", HIERMOD, str(pickle), CASES[case], runs]}
            if importlib.util.find_spec("mixedlm"):
                programs["mixedlm"] = [sys.executable, "-c", MIXEDLM, str(pickle), CASES[case], runs]
            if shutil.which("Rscript"):
                programs["lme4"] = ["Rscript", "-e", LME4, str(csv), CASES[case], runs, ",".join(FACTORS[case])]
            for name, command in programs.items():
                seconds, memory, criterion = measure(command, timeout=300)
                goal = GOALS[case] if name == "hiermod" else ""
                print(f"{case:12s}{name:12s}{seconds:10.4f}{goal:>8s}{memory:9.2f}  {criterion}", flush=True)


if __name__ == "__main__":
    main()
