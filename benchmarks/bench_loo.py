"""Scores of Bayesian fits: seconds, elpd, the largest Pareto k and how many units needed a proposal of their own.

    python benchmarks/bench_loo.py [--seeds 5] [--draws 1000]

Seconds are the median over repeated calls after the first; the fit is not counted.  The conditional rows are the peer:
what ArviZ's loo computes from the log likelihood at the draws of the effects.  K-fold is the price of exact refits."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

import hiermod as hm
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.scores.record import Score

CASES = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "gaussian"),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "gaussian"),
    "pastes": ("strength ~ 1 + (1 | batch/cask)", "gaussian"),
    "cbpp": ("p(incidence, size) ~ period + (1 | herd)", "binomial"),  # NUTS; its K-fold compiles once
}
GOAL = {("sleepstudy", "loo"): "0.3"}


def calls(fit: BayesianFit) -> dict[str, Callable[[], Score]]:
    """Every score of a fit, by name."""
    found: dict[str, Callable[[], Score]] = {"loo": fit.loo, "loo conditional": lambda: fit.loo(False, refit_bad=False)}
    found["waic"] = fit.waic
    found["kfold 10"] = lambda: fit.kfold(10, random_seed=1, progressbar=False)
    return found | {f"logo {group}": (lambda group=group: fit.logo(group)) for group in fit.ngroups}


def seconds(call: Callable[[], Score], repeats: int = 5) -> float:
    """Median wall time of some calls."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000, help="per chain, of four")
    options = parser.parse_args()
    out = sys.stdout.write
    out(f"{'data':11}{'score':18}{'s':>7}{'goal':>6}{'elpd':>10}{'se':>7}{'p':>7}{'mcse':>7}{'max k':>7}")
    out(f"{'own, by seed':>22}\n")
    for name, (formula, family) in CASES.items():
        model = hm.Model(formula, hm.load_dataset(name), family=family)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hm.HiermodWarning)
            fits = [
                model.fit(draws=options.draws, random_seed=seed, progressbar=False)
                for seed in range(1, options.seeds + 1)
            ]
        for label in calls(fits[0]):
            scores = [calls(fit)[label]() for fit in fits]
            first = scores[0]
            worst = max((score.worst_k for score in scores if np.isfinite(score.worst_k)), default=float("nan"))
            needed = ", ".join(str(len(score.own_proposals)) for score in scores)
            out(
                f"{name:11}{label:18}{seconds(calls(fits[0])[label]):7.3f}{GOAL.get((name, label), '-'):>6}"
                f"{first.elpd:10.2f}{first.se:7.2f}{first.p:7.2f}{first.mcse:7.3f}{worst:7.2f}{needed:>22}\n"
            )


if __name__ == "__main__":
    main()
