"""How often a prior that is right is called a conflict, and how far off a prior must be to be called one.

    python benchmarks/prior_conflict.py [--sets 100] [--groups 18 5] [--only default time ...] [--quick] [--seed 1]

Data as sleepstudy's: some subjects, 10 times, intercepts and slopes that vary.  A false alarm is a set of data in which
`fit.prior_sensitivity()` says "prior-data conflict" of any parameter; a detection, one in which it says so of the
parameter whose prior is wrong.  Wrong priors are off by so many sds, an sd being that of the prior and REML's error
together (of sds on the log scale, of correlations on Fisher's, where the data's correlation is what differs from the
prior's 0).  `against` and `agreement` count the same for `prior.against(reml)` and `hm.agreement(fit, reml)`.
--quick: only `against`, without the posteriors; the other two find a conflict only where it does, which is checked."""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import hiermod as hm

FORMULA = "y ~ time + (time | subject)"
CONFLICT = "prior-data conflict"
CORR = "subject_corr[Intercept,time]"
TRUTH = {"time": 10.0, "1|subject": 25.0, "time|subject": 6.0, CORR: 0.0, "sigma": 25.0}
ROW = {
    "time": "time",
    "1|subject": "1|subject_sigma",
    "time|subject": "time|subject_sigma",
    CORR: CORR,
    "sigma": "sigma",
}
PRIOR_SD = {"time": 1.0, "1|subject": 0.15, "time|subject": 0.15, CORR: 0.13, "sigma": 0.05}  # on the scales above
ERROR = {  # REML's, typical of these data, by groups
    18: {"time": 1.55, "1|subject": 0.24, "time|subject": 0.21, CORR: 0.33, "sigma": 0.059},
    5: {"time": 2.95, "1|subject": 0.46, "time|subject": 0.40, CORR: 0.65, "sigma": 0.112},
}
LKJ = {0.13: "LKJ(30)", 0.35: "LKJ(4)"}  # sds of Fisher's z under them
COLUMNS = ("sensitivity", "against", "agreement")
SIZES = (3.0, 5.0, 7.0)


def strong(name: str, off: float = 0.0, sd: float | None = None) -> str:
    """A prior for one parameter, ``off`` from the truth on its scale."""
    sd = PRIOR_SD[name] if sd is None else sd
    if name == "time":
        return f"Normal({TRUTH[name] + off}, {sd})"
    return LKJ[sd] if name == CORR else f"LogNormal({np.log(TRUTH[name]) + off}, {sd})"


@dataclass
class Design:
    """Priors, the parameter that is wrong ("": none), and how true values come about."""

    name: str
    priors: dict[str, str] = field(default_factory=dict)
    wrong: str = ""
    truth: dict[str, float] = field(default_factory=dict)
    drawn: bool = False


def key(name: str) -> str:
    return "subject_corr" if name == CORR else name


def designs(groups: int) -> list[Design]:
    """In the order of the table."""
    found = [Design("default priors")]
    found += [Design(f"{ROW[name]} right", {key(name): strong(name)}) for name in TRUTH]
    found.append(Design("all right", {key(name): strong(name) for name in TRUTH}))
    wide = {"time": 3.0, "1|subject": 0.4, "time|subject": 0.4, CORR: 0.35, "sigma": 0.2}
    found.append(Design("drawn from priors", {key(n): strong(n, sd=wide[n]) for n in TRUTH}, drawn=True))
    for size in SIZES:
        for name in TRUTH:
            off = size * float(np.hypot(PRIOR_SD[name], ERROR[groups][name]))
            label = f"{ROW[name]} off by {size:g}"
            if name == CORR:  # the prior has its centre at 0: the truth is elsewhere
                found.append(Design(label, {key(name): strong(name)}, ROW[name], {CORR: float(np.tanh(off))}))
            else:
                found.append(Design(label, {key(name): strong(name, off)}, ROW[name]))
    return found


def true_values(design: Design, rng: np.random.Generator) -> dict[str, float]:
    values = TRUTH | design.truth
    if design.drawn:
        values = {
            "time": rng.normal(10, 3),
            "1|subject": 25 * np.exp(rng.normal(0, 0.4)),
            "time|subject": 6 * np.exp(rng.normal(0, 0.4)),
            CORR: 2 * rng.beta(4, 4) - 1,
            "sigma": 25 * np.exp(rng.normal(0, 0.2)),
        }
    return values


def one_set(design: Design, groups: int, seed: int, quick: bool) -> dict[str, Any]:
    """The parameters called a conflict by each of the three."""
    values = true_values(design, np.random.default_rng([seed, 1]))
    sds = {name: float(values[name]) for name in ("1|subject", "time|subject", CORR)}
    fixef = {"Intercept": 250.0, "time": float(values["time"])}
    frame = hm.designs.longitudinal(subjects=groups, times=10)
    data = hm.simulate(FORMULA, frame, fixef=fixef, varcorr=sds, sigma=float(values["sigma"]), random_seed=seed)
    model = hm.Model(FORMULA, data, priors=design.priors or None)
    reml = model.reml()
    tables = {"against": model.prior_predictive(draws=50, random_seed=seed).against(reml).query("kind != 'data'")}
    if not quick:
        fit = model.fit(draws=250, random_seed=seed)
        tables |= {"sensitivity": fit.prior_sensitivity(), "agreement": hm.agreement(fit, reml)}
    return {what: set(table.index[table["verdict"] == CONFLICT]) for what, table in tables.items()}


def main() -> None:
    """One line for each design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--groups", type=int, nargs="+", default=[18, 5], choices=list(ERROR))
    parser.add_argument("--only", nargs="+", default=[], help="words in the names of designs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # singular fits, and few draws
    print(f"| groups | {'prior':42} | sets | sensitivity | against | agreement | s |\n|---|---|---|---|---|---|---|")
    for groups in arguments.groups:
        for design in designs(groups):
            if arguments.only and not any(word in design.name for word in arguments.only):
                continue
            begin, counts = time.perf_counter(), Counter[str]()
            for seed in range(arguments.seed, arguments.seed + arguments.sets):
                found = one_set(design, groups, seed, arguments.quick)
                counts.update(w for w, names in found.items() if (design.wrong in names if design.wrong else names))
                counts["beyond"] += any(not names <= found["against"] for names in found.values())
            told = " | ".join(str(counts[what]) if what in found else "" for what in COLUMNS)
            assert not counts["beyond"], "a conflict that the tail test does not see"
            took = time.perf_counter() - begin
            print(f"| {groups} | {design.name:42} | {arguments.sets} | {told} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
