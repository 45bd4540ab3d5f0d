"""hm.power: how often would a study of this size find the effect?  A curve over sample sizes, by simulation.

After simr (Green and MacLeod 2016, Methods in Ecology and Evolution 7, 493-498)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.arguments import LARGEST_CORES, LARGEST_FITS, check_count, resolve_seed
from hiermod.core.checked import checked
from hiermod.core.jobs import as_done
from hiermod.core.progress import Report, progress
from hiermod.errors import ArgumentError, DesignError, FileError, FitError
from hiermod.families.catalogue import is_linear
from hiermod.fits.tables import check_level
from hiermod.output.storage.fingerprint import design_fingerprint
from hiermod.priors.given import resolve_priors
from hiermod.study.checkpoint import Checkpoint
from hiermod.study.extended import sized_frames
from hiermod.study.power_jobs import CHUNK, COLUMNS, Plan, PowerWorker, chunks, is_chunk
from hiermod.study.power_result import Power
from hiermod.study.simulated_fits import SimulatedFits, frozen_priors
from hiermod.study.simulation import Simulator, simulator
from hiermod.study.term_tests import check_method, term_columns


@checked
def power(
    formula: str,
    design: Callable[[int], pd.DataFrame] | pd.DataFrame,
    sizes: Sequence[int] | None = None,
    fixef: Mapping[str, float] | pd.Series | pd.DataFrame | None = None,
    varcorr: Mapping[str, Any] | pd.DataFrame | None = None,
    sigma: float | None = None,
    *,
    term: str | None = None,
    along: str | None = None,
    method: str | None = None,
    alpha: float = 0.05,
    fits: int = 1000,
    family: str = "gaussian",
    link: str | None = None,
    weights: str | None = None,
    se: str | None = None,
    priors: Mapping[str, Any] | None = None,
    draws: int = 250,
    extra_namespace: Mapping[str, Any] | None = None,
    cores: int = 1,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Power:
    """How often a study finds an effect: simulate data from known parameters, fit, test, and count.

    design: a function from a sample size to a frame of predictors and groups (see ``hm.designs``), or a frame and
    ``along``, the grouping column to enlarge: its levels are repeated under new names, or left out from the end, until
    there are ``sizes`` of them (other columns keep their names: write nested groups as ``a/b``).  A frame without
    sizes: one point, as large as it is.
    fixef, varcorr, sigma: the true parameters, as in ``hm.simulate``; tables of a fit to pilot data will do.
    term: the coefficient or term tested, by default the only one.
    method: "satterthwaite" (default), "kenward-roger", "wald" (normal), "lrt" (ML, chi-square) or "bayes" (the
    1 - alpha posterior interval leaves 0 out; priors frozen, default ones at the scale of typical data; ``draws`` in
    each of four chains).  Generalised families: "wald" (default) or "lrt".
    cores: processes; the numbers are the same with any number.  In a script, more than one need
    ``if __name__ == "__main__":``.
    checkpoint: a file to which every finished chunk is written.  After Ctrl-C the same call goes on where it stopped,
    and so does one with more fits or more sizes; a file of other settings is refused with FileError.

    Raises as ``hm.simulate``, and FitError where no fit succeeds.

    >>> import hiermod as hm
    >>> found = hm.power(
    ...     "y ~ condition + (1 | subject)", lambda n: hm.designs.within(subjects=n), sizes=[8, 12, 16],
    ...     fixef={"Intercept": 0, "condition[treatment]": 0.8}, varcorr={"1|subject": 1}, sigma=0.8, fits=50,
    ...     random_seed=1,
    ... )
    >>> found.table["power"].tolist()
    [0.38, 0.58, 0.86]
    """
    fits, cores = check_count("fits", fits, most=LARGEST_FITS), check_count("cores", cores, most=LARGEST_CORES)
    draws = check_count("draws", draws)
    check_level(alpha, "alpha")
    options: dict[str, Any] = {
        "family": family,
        "link": link,
        "weights": weights,
        "se": se,
        "extra_namespace": extra_namespace,
    }
    frames = sized_frames(design, sizes, along)
    made = {size: simulator(formula, frame, fixef, varcorr, sigma, **options) for size, frame in frames.items()}
    first = next(iter(made.values()))
    columns = term_columns(first.design, term)
    name = _label(first, columns, term)
    gaussian = is_linear(first.family, first.link)
    chosen = check_method(method, gaussian, int(columns.sum()))
    for size, one in made.items():
        _check(one, size, term, chosen)
    store = None if checkpoint is None else Checkpoint(checkpoint)
    if random_seed is None and store is not None and store.header is not None:
        random_seed = store.header.get("seed")
    seed = resolve_seed(random_seed)
    frozen = {}
    if chosen == "bayes":
        frozen = {size: frozen_priors(s, resolve_priors(priors, s.design, family), seed) for size, s in made.items()}
    elif priors is not None:
        raise ArgumentError(f"priors= is for method='bayes'; the method is {chosen!r}")
    plan = Plan(made, frozen, name, chosen, draws, seed)
    marks = {size: design_fingerprint(one.design)[:16] for size, one in made.items()}
    if store is not None:
        settings: dict[str, Any] = {"work": "power", "formula": formula, "term": name}
        settings |= {"family": first.family, "link": first.link, "method": chosen}
        settings |= {"truth": first.truth(), "seed": seed, "chunk": CHUNK[chosen]}
        if chosen == "bayes":
            settings |= {"priors": {k: str(v) for k, v in (priors or {}).items()}, "draws": draws}
        store.begin(settings)
    with progress("power", progressbar) as report:
        parts = _work(plan, marks, fits, cores, store, report)
    return _result(formula, name, chosen, float(alpha), plan, parts, fits)


def _work(
    plan: Plan,
    marks: Mapping[int, str],
    fits: int,
    cores: int,
    store: Checkpoint | None,
    report: Report | None,
) -> dict[tuple[int, int], dict[str, Any]]:
    """Every chunk, those of the file first.  A chunk that the file has with fewer fits is made again."""
    wanted = [job for size in plan.simulators for job in chunks(size, fits, plan.method)]
    parts: dict[tuple[int, int], dict[str, Any]] = {}
    for record in store.records if store is not None else []:
        if not is_chunk(record):
            raise FileError("the checkpoint has a line that is no chunk of a power curve: remove the file")
        size, chunk = record["size"], record["chunk"]
        if size in marks and record.get("design") != marks[size]:
            raise FileError(
                f"the checkpoint's data of size {size} are not those of this design: predictors or groups differ. "
                "Give another file name, or remove it to start again"
            )
        parts[size, chunk] = record
    left = [j for j in wanted if len(parts.get((j.size, j.chunk), {"p": ()})["p"]) < j.fits]
    done, total = 0, sum(job.fits for job in left)
    if left:
        for index, part in as_done(PowerWorker(plan), left, cores):
            job = left[index]
            record = {**part, "design": marks[job.size]}
            if store is not None:
                store.add(record)
            parts[job.size, job.chunk] = record
            done += job.fits
            if report is not None:
                report(done, total)
    return {(job.size, job.chunk): parts[job.size, job.chunk] for job in wanted}


def _result(
    formula: str, name: str, method: str, alpha: float, plan: Plan, parts: dict[Any, dict[str, Any]], fits: int
) -> Power:
    pieces, words = [], Counter[str]()
    for size in plan.simulators:
        own = [part for (at, _), part in parts.items() if at == size]
        columns = {c: [value for part in own for value in part[c]][:fits] for c in COLUMNS}
        frame = pd.DataFrame({"size": size, "fit": np.arange(fits), **columns})
        pieces.append(frame.astype({"p": float, "estimate": float, "singular": bool, "converged": bool}))
        words.update(message for part in own for message in part["messages"])
    told = tuple(f"{message} ({count} times)" for message, count in words.most_common())
    table = pd.concat(pieces, ignore_index=True)
    if table["p"].isna().all():
        raise FitError(f"none of the {len(table)} fits gave a p value: {'; '.join(told[:3])}")
    rows = {size: one.design.nobs for size, one in plan.simulators.items()}
    truth = next(iter(plan.simulators.values())).truth()
    return Power(formula, name, method, alpha, plan.seed, table, rows, truth, told)


def _label(first: Simulator, columns: np.ndarray, term: str | None) -> str:
    """The term as given; a term of one coefficient under that coefficient's name, which the truth has."""
    labels = [label for label, mine in zip(first.design.common, columns, strict=True) if mine]
    if len(labels) == 1:
        return labels[0]
    return term or next(t for t, mine in zip(first.design.common_terms, columns, strict=True) if mine)


def _check(one: Simulator, size: int, term: str | None, method: str) -> None:
    """A size whose model cannot be fitted is told at once, not after an hour.  Its error gets the size in front."""
    term_columns(one.design, term)
    if method == "bayes":
        return
    try:
        SimulatedFits(one)
    except DesignError as error:
        raise DesignError(f"size {size}: {error}") from error
