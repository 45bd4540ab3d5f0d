"""Power on this machine: seconds for 1,000 fits of a sleepstudy-like design (18 subjects, 10 days) by method and cores.

    python benchmarks/bench_power.py [--fits 1000] [--cores 1 2] [--peer]

Starting the processes is included.  --peer: R's lme4 with lmerTest where Rscript finds them (100 simulate-and-refit
rounds with Satterthwaite's test, scaled), one process.  The goal is 30 s for Satterthwaite on two cores."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time

import hiermod as hm

FORMULA = "Reaction ~ Days + (Days | Subject)"
TRUTH = {
    "fixef": {"Intercept": 250.0, "Days": 5.0},
    "varcorr": {"1|Subject": 25.0, "Days|Subject": 6.0},
    "sigma": 25.0,
}
METHODS = {"satterthwaite": 1.0, "kenward-roger": 1.0, "lrt": 1.0, "bayes": 0.1}  # share of the fits asked for
LMER = """
suppressMessages(library(lmerTest)); fit <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = TRUE)
begin <- proc.time()[3]
for (i in 1:100) { d <- sleepstudy; d$Reaction <- simulate(fit)[[1]]
  invisible(coef(summary(suppressMessages(lmer(formula(fit), d))))) }
cat((proc.time()[3] - begin) * 10)
"""


def seconds(method: str, fits: int, cores: int) -> float:
    """One power curve with one point."""
    frame = hm.load_dataset("sleepstudy")[["Days", "Subject"]]
    begin = time.perf_counter()
    hm.power(FORMULA, frame, method=method, fits=fits, cores=cores, random_seed=1, progressbar=False, **TRUTH)
    return time.perf_counter() - begin


def main() -> None:
    """Print one line for each method and number of cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'method':14} {'cores':>5} {'fits':>6} {'seconds':>8} {'ms per fit':>10}")
    for method, share in METHODS.items():
        fits = max(1, int(share * arguments.fits))
        for cores in arguments.cores:
            took = seconds(method, fits, cores)
            print(f"{method:14} {cores:5d} {fits:6d} {took:8.2f} {1e3 * took / fits:10.2f}")
    if arguments.peer and shutil.which("Rscript"):
        done = subprocess.run(["Rscript", "-e", LMER], capture_output=True, text=True, check=True)
        print(f"{'lme4, lmerTest':14} {1:5d} {1000:6d} {float(done.stdout):8.2f} {float(done.stdout):10.2f}")


if __name__ == "__main__":
    main()
