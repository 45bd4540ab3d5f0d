"""Groups that the prior thinks possible, as lines along a predictor: what prior predictive pictures show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermod.core.arguments import check_count, generator
from hiermod.engines.gaussian_rows import linear_predictor
from hiermod.engines.prior_draws import PriorDraws, some_draws
from hiermod.errors import UnknownNameError, UnsupportedError, nearest
from hiermod.families.links import inverse_link
from hiermod.families.responses import check_mean
from hiermod.fits.tables import check_group
from hiermod.formula.design import Block, Design


def prior_lines(
    draws: PriorDraws,
    design: Design,
    family: str,
    link: str,
    x: str | None,
    group: str | None,
    count: int,
    random_seed: int | np.random.Generator | None,
) -> pd.DataFrame:
    """See ``PriorPredictive.lines``."""
    check_mean(family)
    check_count("draws", count, 1)
    rng = generator(random_seed)
    blocks = check_group(design, group)
    block = blocks[0] if blocks else None
    column = _column(design, x)
    chosen = rng.choice(draws.count, size=min(int(count), draws.count), replace=False)
    mean = inverse_link(link, linear_predictor(some_draws(draws.record, chosen), design)[0])
    y = design.y if design.trials is None else design.y / design.trials
    if column is None:
        if block is None:
            raise UnsupportedError(f"{design.formula!r} has neither a numeric predictor nor groups to draw along")
        across = np.array(block.levels, dtype=object)[block.codes]
        pieces = [_means(index, "", block.levels, block, row) for index, row in zip(chosen, mean, strict=True)]
    else:
        across = design.frame[column].to_numpy(dtype=float)
        pieces = [_line(index, block, across, row, rng) for index, row in zip(chosen, mean, strict=True)]
    table = pd.concat(pieces, ignore_index=True)
    table.attrs["x"] = column
    table.attrs["group"] = None if block is None else block.factor
    table.attrs["data"] = pd.DataFrame({"x": across, "y": y})
    return table


def _line(
    index: int, block: Block | None, across: np.ndarray, mean: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """One level's expected responses, averaged where rows share x."""
    level, rows = "", np.ones(len(across), dtype=bool)
    if block is not None:
        code = int(rng.choice(np.unique(block.codes)))
        level, rows = block.levels[code], block.codes == code
    where, inverse = np.unique(across[rows], return_inverse=True)
    y = np.bincount(inverse, mean[rows]) / np.bincount(inverse)
    return pd.DataFrame({"draw": index, "level": level, "x": where, "y": y})


def _means(index: int, level: str, levels: tuple[str, ...], block: Block, mean: np.ndarray) -> pd.DataFrame:
    """The expected response of every level, side by side."""
    sizes = np.bincount(block.codes, minlength=len(levels))
    with np.errstate(invalid="ignore"):
        y = np.bincount(block.codes, mean, minlength=len(levels)) / sizes
    return pd.DataFrame({"draw": index, "level": level, "x": np.array(levels, dtype=object), "y": y})


def _column(design: Design, x: str | None) -> str | None:
    numeric = [
        str(name) for name in design.frame.select_dtypes("number").columns if not _is_response(design, str(name))
    ]
    factors = {name for block in design.blocks for name in block.factor_columns}
    numeric = [name for name in numeric if name not in factors]
    if x is not None:
        if x not in numeric:
            raise UnknownNameError(
                f"x={x!r} is not a numeric column of this model's data.{nearest(x, numeric)} "
                f"Those are: {', '.join(numeric) or 'none'}"
            )
        return x
    labels = [label for block in design.blocks for label in block.labels] + list(design.common)
    return next((label for label in labels if label in numeric), None)


def _is_response(design: Design, name: str) -> bool:
    return name == design.response or (name in design.response and name not in design.common)
