"""The model matrices as pictures: X beside Z, dark where an entry is large, so that blocks of groups are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermod.errors import ArgumentError
from hiermod.plots.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hiermod.output.equations.matrices import DesignMatrices

CELLS = 2_000_000  # entries of Z that a picture can show; beyond it columns melt into each other


def design_matrices(design: DesignMatrices, rows: int | None = None) -> Figure:
    """Draw ``Model.design()``: X on the left, Z on the right, each column scaled by its largest entry.

    rows: only the first so many.  Returns the Figure.  Raises ArgumentError where Z is too large for a picture."""
    import matplotlib.pyplot as plt

    n = design.record.nobs if rows is None else min(rows, design.record.nobs)
    X = np.array(design.record.X[:n])
    blocks = design.record.blocks
    q = design.shapes["Z"][1]
    if n * q > CELLS:
        raise ArgumentError(
            f"Z has {n} rows and {q} columns: too many for a picture. Show fewer with rows=, such as rows={CELLS // q}"
        )
    with styled():
        widths = [max(1.0, 0.5 * X.shape[1])] + ([5.0] if blocks else [])
        figure, axes = plt.subplots(
            1, len(widths), figsize=(2.0 + sum(widths), 5.0), width_ratios=widths, squeeze=False, sharey=True
        )
        left = axes[0, 0]
        left.set_title(f"X ({n} × {X.shape[1]})")
        left.set_xticks(range(X.shape[1]), list(design.record.common), rotation=90)
        left.set_ylabel("row")
        _heat(left, X)
        if blocks:
            right = axes[0, 1]
            _heat(right, design.Z[:n].toarray())
            right.set_title(f"Z ({n} × {q})")
            starts = np.concatenate([[0], np.cumsum([len(b.levels) * b.size for b in blocks])])
            for start in starts[1:-1]:
                right.axvline(start - 0.5, color="black", lw=0.8)
            right.set_xticks(
                (starts[:-1] + starts[1:] - 1) / 2, [f"{b.factor}\n({', '.join(b.labels)})" for b in blocks]
            )
        for ax in axes.flat:
            ax.grid(False)
        return figure


def _heat(ax: object, values: np.ndarray) -> None:
    """Entries as shades, blue below zero and red above; a column of ones is full colour."""
    top = np.abs(values).max(axis=0, initial=0.0)
    shown = values / np.where(top > 0, top, 1.0)
    ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")  # type: ignore[attr-defined]
