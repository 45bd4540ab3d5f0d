"""Generalised mixed models against R's glmer on this machine, in one run: seconds from formula to summary, peak memory.

    python benchmarks/bench_glmm.py [--runs 5] [--cases verbagg ...]

Each row is a process of its own, imports done before the clock starts; the median of the runs is printed.  R's lme4
where Rscript finds it, with its default optimiser: its criterion is a little higher where it stops early."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# case: data set, formula, family, link, nodes, factors for R, seconds to reach
CASES = {
    "verbagg": ("verbagg", "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "bernoulli", "logit", 1,
                "id,item,Gender,btype,situ,r2", "3"),
    "grouseticks": ("grouseticks", "TICKS ~ YEAR + HEIGHT_s + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
                    "log", 1, "BROOD,INDEX,LOCATION,YEAR", "-"),
    "cbpp": ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", "logit", 1,
             "herd,period", "-"),
    "cbpp, 25 nodes": ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", "logit", 25,
                       "herd,period", "-"),
    "insteval > 3": ("insteval", "high ~ service + (1 | s) + (1 | d) + (1 | dept:service)", "bernoulli", "logit", 1,
                     "s,d,dept,service", "-"),
}  # fmt: skip
SLOW_IN_R = ("insteval > 3",)  # more than ten minutes there: only with --all

HIERMOD = """
import sys, time, resource
import pandas as pd
from hiermod.formula.build import build_design
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.fits.generalised import GeneralisedFit
path, formula, family, link, nodes, runs = sys.argv[1:7]
d = pd.read_pickle(path)
for run in range(int(runs) + 1):
    t = time.perf_counter()
    design = build_design(formula, d, family=family)
    fit = GeneralisedFit(design, fit_generalised(design, family, link, int(nodes)), family)
    str(fit.summary())
    if run:  # the first one warms up
        print("seconds", time.perf_counter() - t, "criterion", fit.criterion)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
LME4 = """
suppressMessages(library(lme4)); a <- commandArgs(TRUE)
d <- read.csv(a[1]); for (f in strsplit(a[4], ",")[[1]]) d[[f]] <- factor(d[[f]])
family <- if (a[5] == "poisson") poisson() else binomial(a[6])
for (i in seq_len(as.integer(a[3]))) {
  t <- proc.time()[["elapsed"]]
  fit <- suppressMessages(suppressWarnings(glmer(as.formula(a[2]), d, family, nAGQ = as.integer(a[7]))))
  s <- capture.output(print(summary(fit)))
  cat("seconds", proc.time()[["elapsed"]] - t, "criterion", -2 * as.numeric(logLik(fit)), "\\n") }
status <- readLines("/proc/self/status"); peak <- status[grepl("VmHWM", status)]
cat("memory", as.numeric(gsub("[^0-9]", "", peak)) / 1e6, "\\n")
"""


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
    parser.add_argument("--cases", nargs="*", default=[case for case in CASES if case not in SLOW_IN_R], choices=CASES)
    parser.add_argument("--all", action="store_true", help="R too where it takes more than ten minutes")
    options = parser.parse_args()
    from hiermod.datasets import load_dataset

    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, numpy {np.__version__}"
    )
    print(f"{'case':16s}{'program':10s}{'seconds':>10s}{'goal':>6s}{'peak GB':>9s}  criterion")
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases:
            name, formula, family, link, nodes, factors, goal = CASES[case]
            d = load_dataset(name)
            if name == "insteval":
                d = d.assign(high=(d["y"] > 3).astype(int))
            pickle, csv = Path(folder) / "data.pkl", Path(folder) / "data.csv"
            d.to_pickle(pickle)
            d.to_csv(csv, index=False)
            runs = str(options.runs)
            python = [sys.executable, "-c", HIERMOD, str(pickle), formula, family, link, str(nodes), runs]
            programs = {"hiermod": python}
            if shutil.which("Rscript") and (options.all or case not in SLOW_IN_R):
                few = "1" if case == "verbagg" else runs
                programs["lme4"] = ["Rscript", "-e", LME4, str(csv), formula, few, factors, family, link, str(nodes)]
            for program, command in programs.items():
                seconds, memory, criterion = measure(command, timeout=600)
                aim = goal if program == "hiermod" else ""
                print(f"{case:16s}{program:10s}{seconds:10.4f}{aim:>6s}{memory:9.2f}  {criterion}", flush=True)


if __name__ == "__main__":
    main()
