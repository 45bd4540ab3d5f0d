"""The Design: everything a fit needs to know about formula and data, as arrays with labels, immutable.

y = X beta + Z b + e (Bates et al. 2015, J. Stat. Softw. 67(1), section 2).  Z is never formed: a Block keeps, for each
row, the level it belongs to and the few numbers on the left of the bar."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hiermod.covariance.residual_precision import ResidualPrecision
from hiermod.covariance.structure import HOM_BY_DEFAULT, CovarianceStructure, structure_of


def read_only(array: np.ndarray) -> np.ndarray:
    """The same values in an array that refuses writing (copied only when someone else could still write it)."""
    if array.flags.writeable:
        array = array.copy()
        array.setflags(write=False)
    return array


class FrozenArrays:
    """Makes every array of a frozen dataclass read-only, those in tuples too, after construction and after unpickling.

    What a cached_property keeps is not pickled: it comes back when asked for."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                object.__setattr__(self, name, read_only(value))
            elif isinstance(value, tuple) and any(isinstance(item, np.ndarray) for item in value):
                frozen = tuple(read_only(item) if isinstance(item, np.ndarray) else item for item in value)
                object.__setattr__(self, name, frozen)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a Block: how people and Bambi call it."""

    label: str  # as in tables: "Intercept", "Days", "Machine[B]"
    variable: str  # Bambi's variable: "1|Subject", "Days|Subject", "Machine|Worker"
    level: str | None = None  # coordinate inside that variable, None when it is scalar: "B"

    @property
    def sd_name(self) -> str:
        """The parameter's name: ``Days|Subject_sigma``, ``Machine|Worker_sigma[B]``."""
        return f"{self.variable}_sigma" + ("" if self.level is None else f"[{self.level}]")


@dataclass(frozen=True, eq=False)
class Block(FrozenArrays):
    """Group effects with one k x k covariance: ``(lhs | factor)``, or one column of ``(lhs || factor)``.

    codes (n,): the level of each row, 0..J-1.  values (n, k): the columns left of the bar."""

    factor: str  # "Subject", "batch:cask"
    factor_columns: tuple[str, ...]  # the data columns it is made of: ("batch", "cask")
    levels: tuple[str, ...]  # J labels, in order
    columns: tuple[Column, ...]  # k
    codes: np.ndarray
    values: np.ndarray
    text: str  # as typed: "Days | Subject"
    corr_name: str = ""  # "Subject_corr", "Subject_corr_2" for a second correlated block of the group
    bar: int = 0  # which bar of the formula it comes from ...
    positions: tuple[int, ...] = (0,)  # ... and which of that bar's columns it holds
    covariance: str = "us"  # the structure of the covariance as typed: "us", "diag", "cs", "ar1" ...
    hom: bool = False  # ... and whether all columns have one standard deviation

    @cached_property
    def structure(self) -> CovarianceStructure:
        """What the covariance may look like."""
        return structure_of(self.covariance, self.size, self.hom)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of columns i < j that correlate: all of them, or none."""
        if self.structure.name == "diag":
            return ()
        return tuple((i, j) for i in range(self.size) for j in range(i + 1, self.size))

    @property
    def term(self) -> str:
        """The term as it stands in a formula: ``(Days | Subject)``, ``cs(0 + f | g, hom=True)``."""
        if self.covariance == "us" or self.structure.free:
            return f"({self.text})"
        told = "" if self.hom == HOM_BY_DEFAULT[self.covariance] else f", hom={self.hom}"
        return f"{self.covariance}({self.text}{told})"

    @property
    def size(self) -> int:
        """k, the number of effects per level."""
        return len(self.columns)

    @property
    def labels(self) -> tuple[str, ...]:
        """The k columns' names as in tables."""
        return tuple(column.label for column in self.columns)


@dataclass(frozen=True, eq=False)
class Design(FrozenArrays):
    """Formula and data, resolved once.  n rows are those used; p columns are all that the formula asks for.

    estimable (p,) is False for columns that earlier ones explain (R leaves those out of the fit); see ``rank.py``."""

    formula: str  # as the person typed it
    response: str  # label of y
    y: np.ndarray  # (n,); successes for counts
    X: np.ndarray  # (n, p)
    common: tuple[str, ...]  # p labels, Bambi's names
    common_terms: tuple[str, ...]  # p names of the term each column belongs to
    estimable: np.ndarray  # (p,) bool
    blocks: tuple[Block, ...]  # in formula order
    frame: pd.DataFrame  # the columns used, complete rows, as both engines read them
    evaluator: Any  # evaluates the same columns on new data (newdata.py)
    bambi_formula: str  # the same model in Bambi's language, group effects independent
    trials: np.ndarray | None = None  # (n,) for counts
    offset: np.ndarray | None = None  # (n,)
    weights: np.ndarray | None = None  # (n,) prior weights: var(e_i) = sigma^2 / w_i
    se: np.ndarray | None = None  # (n,) known residual sds: sigma is fixed
    special: str | None = None  # "weighted", "censored", ...: a response only Bambi's likelihood understands
    n_rows_data: int = 0  # rows of the frame given
    missing: dict[str, int] = field(default_factory=dict)  # missing values per column, when rows were dropped
    categories: tuple[str, ...] = ()  # of an ordinal response, whose y holds their numbers
    formulas: dict[str, str] = field(default_factory=dict)  # further parameter of the response -> its formula's text
    row_columns: dict[str, str] = field(
        default_factory=dict
    )  # "weights", "se" -> the data's column, where one was named

    @cached_property
    def category_values(self) -> np.ndarray:
        """(K,) the number that stands for each category in y: its own, or its place from 1."""
        from hiermod.formula.support import category_values

        return category_values(self.categories)

    @cached_property
    def precision(self) -> ResidualPrecision:
        """What weights and se mean for the rows: the only reader of both."""
        return ResidualPrecision(self.nobs, self.weights, self.se)

    @property
    def nobs(self) -> int:
        """n, the number of rows used."""
        return len(self.y)

    @property
    def index(self) -> pd.Index:
        """The labels of the rows used, as in the person's frame."""
        return self.frame.index

    @property
    def has_intercept(self) -> bool:
        """Whether X has a column of ones of that name."""
        return "Intercept" in self.common

    @property
    def ngroups(self) -> dict[str, int]:
        """Levels per grouping factor, in formula order."""
        return {block.factor: len(block.levels) for block in self.blocks}

    @property
    def correlated_blocks(self) -> tuple[Block, ...]:
        """The blocks whose effects correlate: of more than one column, and not diagonal."""
        return tuple(block for block in self.blocks if block.pairs)

    @property
    def n_covariance(self) -> int:
        """How many numbers determine the covariances of the group effects, relative to sigma."""
        return sum(block.structure.n_parameters for block in self.blocks)

    @property
    def structured_blocks(self) -> tuple[Block, ...]:
        """The blocks whose covariance is not free: diagonal with one standard deviation, cs, ar1."""
        return tuple(block for block in self.blocks if not block.structure.free)
