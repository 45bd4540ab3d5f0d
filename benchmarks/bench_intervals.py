"""Profile and bootstrap intervals on this machine: seconds from a REML fit to its table.

    python benchmarks/bench_intervals.py [--runs 5]

The median of the runs after a first one is printed, beside the goal.  Peer: R's lme4 where Rscript finds it (100
bootstrap refits there, scaled to the number asked of hiermod)."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hiermod as hm
from hiermod.inference.intervals import Record, bootstrap_limits, bootstrap_record, profile_limits

CASES = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "penicillin": ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "pastes": ("pastes", "strength ~ 1 + (1 | batch) + (1 | cask:batch)"),
    "cake": ("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
    "cbpp": ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)"),
}
BINOMIAL = ("cbpp",)
DRAWS = {"sleepstudy": 10_000, "penicillin": 10_000, "pastes": 1_000, "cake": 1_000, "cbpp": 200}
GOALS = {("sleepstudy", "profile"): "0.150", ("sleepstudy", "bootstrap"): "10"}
LME4 = """
suppressMessages(library(lme4)); a <- commandArgs(TRUE); d <- read.csv(a[1], stringsAsFactors = TRUE)
groups <- c("Subject", "recipe", "replicate", "temperature", "herd", "period")
for (f in intersect(groups, names(d))) d[[f]] <- factor(d[[f]])
fit <- if (a[3] == "binomial") glmer(as.formula(a[2]), d, binomial) else lmer(as.formula(a[2]), d)
quiet <- function(x) suppressMessages(suppressWarnings(x))
cat("profile", system.time(quiet(confint(fit, method = "profile", quiet = TRUE)))[["elapsed"]], "\\n")
values <- function(x) c(fixef(x), as.data.frame(VarCorr(x))$sdcor)
cat("bootstrap", system.time(quiet(bootMer(fit, values, nsim = 100)))[["elapsed"]], "\\n")
"""


def seconds(work: Callable[[], object], runs: int) -> float:
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def lme4(case: str) -> dict[str, float]:
    """Seconds of R's lme4, empty where it is not installed."""
    if not shutil.which("Rscript"):
        return {}
    name, formula = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "data.csv"
        hm.load_dataset(name).to_csv(csv, index=False)
        family = "binomial" if case in BINOMIAL else "gaussian"
        command = ["Rscript", "-e", LME4, str(csv), formula, family]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {words[0]: float(words[1]) for words in map(str.split, done.stdout.splitlines()) if len(words) == 2}
    if "bootstrap" in found:
        found["bootstrap"] *= DRAWS[case] / 100
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, numpy {np.__version__}"
    )
    print(f"{'case':12s}{'intervals':24s}{'seconds':>10s}{'goal':>8s}{'lme4':>10s}")
    for case in options.cases:
        name, formula = CASES[case]
        data = hm.load_dataset(name)
        record = (
            hm.Model(formula, data, family="binomial").ml() if case in BINOMIAL else hm.Model(formula, data).reml()
        ).record
        draws, peer = DRAWS[case], lme4(case)

        def by_bootstrap(record: Record = record, draws: int = draws) -> object:
            return bootstrap_limits(record, bootstrap_record(record, draws, 1, progressbar=False))

        jobs: dict[str, Callable[[], object]] = {
            "profile": lambda record=record: profile_limits(record),
            "bootstrap": by_bootstrap,
        }
        for kind, work in jobs.items():
            taken = seconds(work, options.runs if kind == "profile" else 1)
            what = "profile, all parameters" if kind == "profile" else f"bootstrap, {draws:,} draws"
            theirs = f"{peer[kind]:10.3f}" if kind in peer else f"{'-':>10s}"
            print(f"{case:12s}{what:24s}{taken:10.4f}{GOALS.get((case, kind), '-'):>8s}{theirs}", flush=True)


if __name__ == "__main__":
    main()
