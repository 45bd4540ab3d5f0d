"""Thousands of random models against dense algebra, and against a search of its own: counts of what failed, and where.

    python benchmarks/random_models.py 10000 --seed 0 --processes 2 --out random_models.jsonl

Every number from ``--seed`` on is one model (every fifth a generalised one), fitted by REML and ML; tests/random_models
says what is compared.  Each model leaves a line in ``--out`` when it is done, and those found there are not done again:
a run that was stopped goes on, and several files can be counted together (``--count FILE ...``)."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the processes share the cores
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from random_models import Case, Report, check, draw

GENERALISED = 5  # every so many
MOST_ROWS = (45, 45, 120, 500)  # small models have the most optima
STARTS = 8


def case_of(number: int) -> Case:
    """The model of a number: ``draw`` with the sizes that this run gives it."""
    generalised = number % GENERALISED == 0
    most = MOST_ROWS[number // GENERALISED % len(MOST_ROWS)]
    return draw(number, generalised, min(most, 120) if generalised else most)


def one(job: tuple[int, int]) -> dict[str, object]:
    """What a model's line in the file holds."""
    number, starts = job
    begin = time.process_time()
    case = case_of(number)
    few = 2 if number % GENERALISED == 0 else starts
    try:
        report = check(case, starts=few if len(case.y) <= 150 else min(few, 2))
    except np.linalg.LinAlgError as error:  # hiermod's own are caught: here the reference has no answer
        report = Report(case.seed, case.formula, [("the reference failed", str(error))])
    return {
        "number": number,
        "formula": report.formula,
        "rows": len(case.y),
        "family": case.family,
        "failures": report.failures,
        "notes": report.notes,
        "seconds": round(time.process_time() - begin, 3),
    }


def read(paths: Iterable[Path]) -> dict[int, dict]:
    """The lines of earlier runs, by number; a line that was cut short is not counted."""
    found = {}
    for path in paths:
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):
                    record = json.loads(line)
                    found[record["number"]] = record
    return found


def count(records: dict[int, dict]) -> str:
    """A table: kind of failure, how many models, their numbers; then the notes."""
    kinds: dict[str, list[int]] = defaultdict(list)
    notes: dict[str, list[int]] = defaultdict(list)
    for number, record in sorted(records.items()):
        for kind in dict.fromkeys(kind for kind, _ in record["failures"]):
            kinds[kind].append(number)
        for note in dict.fromkeys(" ".join(note.split(":")[:3])[:60] for note in record["notes"]):
            notes[note].append(number)
    seconds = sum(record["seconds"] for record in records.values())
    lines = [f"{len(records)} models, {seconds:.0f} s of processor time"]
    lines += [f"{len(kinds)} kinds of failure" if kinds else "no failure"]
    for title, table in (("", kinds), ("not failures:", notes)):
        lines += [title] if title else []
        for kind, numbers in sorted(table.items(), key=lambda item: -len(item[1])):
            told = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
            lines.append(f"{len(numbers):6d}  {kind}: {told}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first model's number")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--starts", type=int, default=STARTS, help="random starts of the search for a lower criterion")
    parser.add_argument("--out", type=Path, default=Path("random_models.jsonl"))
    parser.add_argument("--count", type=Path, nargs="+", metavar="FILE", help="only count what these files hold")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="only print one model as code, and what is found")
    options = parser.parse_args()
    if options.count:
        print(count(read(options.count)))
        return
    if options.show is not None:
        print(case_of(options.show).code())
        print(json.dumps(one((options.show, options.starts)), indent=2))
        return
    wanted = range(options.seed, options.seed + options.models)
    done = read([options.out])
    jobs = [(number, options.starts) for number in wanted if number not in done]
    with (
        multiprocessing.get_context("spawn").Pool(options.processes) as pool,
        options.out.open("a", encoding="utf-8") as file,
    ):
        for record in pool.imap_unordered(one, jobs, chunksize=5):
            file.write(json.dumps(record) + "\n")
            file.flush()
            done[record["number"]] = record
            if record["failures"]:
                kinds = ", ".join(dict.fromkeys(kind for kind, _ in record["failures"]))
                print(f"{record['number']}: {record['formula']}: {kinds}", flush=True)
    print(count({number: done[number] for number in wanted}))


if __name__ == "__main__":
    main()
