"""FrozenArrays: arrays and tuples of arrays are read-only, before and after pickling; kept values are not pickled."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from hiermod.formula.design import FrozenArrays


@dataclass(frozen=True, eq=False)
class Record(FrozenArrays):
    one: np.ndarray
    several: tuple[np.ndarray | None, ...]
    words: tuple[str, ...] = ("a",)

    @cached_property
    def total(self) -> float:
        return float(self.one.sum())


def test_nothing_can_be_written_to() -> None:
    mine = np.ones(3)
    record = Record(mine, (mine, None))
    assert record.total == 3.0
    for each in (record, pickle.loads(pickle.dumps(record))):
        for array in (each.one, each.several[0]):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 2.0
        assert each.several[1] is None
        assert each.words == ("a",)
    mine[0] = 5.0  # the caller's own array stays free, and is another one
    assert record.one[0] == record.several[0][0] == 1.0


def test_what_is_computed_once_is_not_pickled() -> None:
    record = Record(np.ones(3), ())
    assert record.total == 3.0
    assert "total" in vars(record)
    again = pickle.loads(pickle.dumps(record))
    assert "total" not in vars(again)
    assert again.total == 3.0
