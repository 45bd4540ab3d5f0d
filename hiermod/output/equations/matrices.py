"""The model matrices as a person writes them: y, X and Z with names on every column.

y = X beta + Z b + e (Bates et al. 2015, J. Stat. Softw. 67(1), section 2).  No fit forms Z; here it is, sparse,
to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary
from hiermod.formula.design import Block, Design

if TYPE_CHECKING:
    from hiermod.model import Model


SHOWN = 6  # rows and columns of a printed matrix


@checked
@dataclass(frozen=True, eq=False)
class DesignMatrices:
    """What ``Model.design()`` returns.  y (n,), X (n, p) and Z (n, q), under the frame's own index; q counts the
    columns of every level."""

    record: Design

    @property
    def y(self) -> pd.Series:
        """The response, (n,)."""
        return pd.Series(np.array(self.record.y), index=self.record.index, name=self.record.response)

    @property
    def X(self) -> pd.DataFrame:
        """The common columns, (n, p)."""
        return pd.DataFrame(np.array(self.record.X), index=self.record.index, columns=list(self.record.common))

    @cached_property
    def Z(self) -> sparse.csr_array:
        """The columns of the group effects, (n, q), sparse: blocks in formula order, levels within, terms innermost."""
        return sparse.csr_array(sparse.hstack([_block(block) for block in self.record.blocks], format="csr"))

    @property
    def columns(self) -> pd.MultiIndex:
        """The q columns of Z: group, level, term."""
        entries = [
            (block.factor, level, label)
            for block in self.record.blocks
            for level in block.levels
            for label in block.labels
        ]
        return pd.MultiIndex.from_tuples(entries, names=["group", "level", "term"])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of y, X, beta, Z and b."""
        n, p = self.record.X.shape
        q = sum(len(block.levels) * block.size for block in self.record.blocks)
        return {"y": (n,), "X": (n, p), "beta": (p,), "Z": (n, q), "b": (q,)}

    def head(self, rows: int = SHOWN, columns: int = SHOWN) -> pd.DataFrame:
        """The first rows and columns of Z as a table."""
        corner = self.Z[:rows, :columns].toarray()
        return pd.DataFrame(corner, index=self.record.index[:rows], columns=self.columns[:columns])

    def summary(self) -> Summary:
        """The shapes and the first rows of each matrix."""
        shapes = self.shapes
        n, p = shapes["X"]
        told = f"y ({n}) = X ({n} x {p}) beta ({p})"
        if self.record.blocks:
            q = shapes["Z"][1]
            parts = ", ".join(
                f"{len(b.levels)} levels of {b.factor} x {b.size} ({', '.join(b.labels)})" for b in self.record.blocks
            )
            told += f" + Z ({n} x {q}) b ({q}) + e ({n}).\nColumns of Z: {parts}."
        else:
            told += f" + e ({n})."
        sections = [
            Section("", told),
            Section("y:", self.y.head(SHOWN).to_frame()),
            Section("X:", self.X.iloc[:SHOWN]),
        ]
        if self.record.blocks:
            sections.append(Section(f"Z, its first {min(SHOWN, shapes['Z'][1])} columns:", self.head()))
        return Summary(f"Design of {self.record.formula}", tuple(sections))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@checked
def design(model: Model) -> DesignMatrices:
    """y, X and Z with names on every row and column, to be looked at: ``.X``, ``.Z`` (sparse), ``.shapes``."""
    return DesignMatrices(model.spec)


def _block(block: Block) -> sparse.csr_array:
    """(n, J k): row i holds its k values in the columns of its own level."""
    n, k = block.values.shape
    columns = block.codes[:, None] * k + np.arange(k)
    return sparse.csr_array(
        (np.array(block.values).ravel(), columns.ravel(), np.arange(0, n * k + 1, k)), shape=(n, len(block.levels) * k)
    )
