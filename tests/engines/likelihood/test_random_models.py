"""Random models of every kind that formulas allow: every number against dense algebra at the theta reported.

``random_models`` makes them and says what is compared; ``benchmarks/random_models.py`` does thousands.  A failure names
its seed: ``check(draw(seed))`` repeats it, ``draw(seed).code()`` is the model to paste."""

from __future__ import annotations

import pytest
from random_models import check, draw

CHUNK = 10
SMALL = 45  # rows, up to which the search for a lower criterion is quick, and several optima are most frequent


def told(generalised: bool, start: int, most_rows: int) -> list[str]:
    """What failed in a chunk; linear models by REML and ML in turn."""
    found = []
    for seed in range(start, start + CHUNK):
        case = draw(seed, generalised, most_rows)
        starts = 4 if len(case.y) <= SMALL and not generalised else 0
        report = check(case, starts, methods=("reml", "ml")[seed % 2 : seed % 2 + 1])
        found += [f"seed {seed}: {report.formula}: {kind}: {what}" for kind, what in report.failures]
    return found


@pytest.mark.parametrize("start", range(0, 260, CHUNK))
def test_linear_models(start: int) -> None:
    assert told(generalised=False, start=start, most_rows=45 if start % 20 else 400) == []


@pytest.mark.parametrize("start", range(0, 40, CHUNK))
def test_generalised_models(start: int) -> None:
    assert told(generalised=True, start=start, most_rows=80) == []


@pytest.mark.parametrize(
    ("seed", "generalised", "method"),
    [
        (420, True, "ml"),  # 13 parameters: the lower basin is the seventh of the points
        (2900, True, "ml"),  # a variance of 0 and another that is not
        (6640, True, "ml"),  # zeros and ones, of two nested factors: three minima
        (3727, False, "reml"),  # lowest where sigma is 0, which only the exact limit sees
        (3688, False, "reml"),  # groups that differ by 10,000 of their rows' known sds
    ],
)
def test_models_that_once_stopped_at_a_worse_optimum(seed: int, generalised: bool, method: str) -> None:
    assert check(draw(seed, generalised, SMALL), starts=4, methods=(method,)).failures == []
