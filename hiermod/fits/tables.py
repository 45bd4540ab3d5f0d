"""The tables every fit gives, built from plain arrays: effects by group, variances and correlations, long tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, listing, nearest
from hiermod.formula.design import Block, Design

EFFECT_COLUMNS = ["group", "level", "term", "estimate", "std_error", "lower", "upper"]
LEVEL = 0.95  # the interval printed unless asked otherwise: 95 %, equal-tailed


def check_level(level: float, name: str = "level") -> float:
    """A probability strictly between 0 and 1; 95 is told to be 0.95."""
    if not isinstance(level, (int, float)) or isinstance(level, bool) or not 0 < level < 1:
        hint = f": it is the first setting, the others go by name, {level!r} too" if isinstance(level, str) else ""
        hint = f": write {level / 100:g}" if isinstance(level, (int, float)) and 1 < level < 100 else hint
        raise ArgumentError(f"{name} must be a number between 0 and 1, such as 0.95, got {level!r}{hint}")
    return float(level)


def quantile(level: float, df: np.ndarray | float = np.inf) -> np.ndarray:
    """Half-width of a two-sided interval in standard errors: normal, or Student t where df is finite."""
    df = np.asarray(df, dtype=float)
    tail = 0.5 + level / 2
    return np.where(np.isfinite(df), stats.t.ppf(tail, np.where(np.isfinite(df), df, 1.0)), stats.norm.ppf(tail))


def values_as_groups(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Codes (n,) of a column's values and the values in order, whole ones as whole numbers: day 3, not 3.0."""
    codes, values = pd.factorize(column, sort=True)
    found = pd.Index(values)
    if found.dtype.kind == "f" and (found == np.floor(found)).all() and np.abs(found).max() < 2**53:
        found = found.astype(int)
    return codes.astype(np.intp), found


def check_group(design: Design, group: str | None) -> tuple[Block, ...]:
    """The blocks of one grouping factor, or all; UnknownNameError when there is no such factor."""
    if group is None:
        return design.blocks
    chosen = tuple(block for block in design.blocks if block.factor == group)
    if not chosen:
        known = list(design.ngroups)
        what = f"The grouping factors are: {', '.join(known)}." if known else "The model has no group effects."
        raise UnknownNameError(f"no grouping factor is named {group!r}.{nearest(str(group), known)} {what}")
    return chosen


def effects_frame(
    factor: str,
    levels: Sequence[str],
    terms: Sequence[str],
    estimate: np.ndarray,
    std_error: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
) -> pd.DataFrame:
    """Tidy table of (J, t) arrays: one row per level and term, levels outermost."""
    J, t = estimate.shape
    return pd.DataFrame(
        {
            "group": factor,
            "level": np.repeat(np.asarray(levels, dtype=object), t),
            "term": np.tile(np.asarray(terms, dtype=object), J),
            "estimate": estimate.ravel(),
            "std_error": std_error.ravel(),
            "lower": lower.ravel(),
            "upper": upper.ravel(),
        },
        columns=EFFECT_COLUMNS,
    )


def stack_effects(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of several blocks as one; blocks of one factor are interleaved by level."""
    if not pieces:
        return pd.DataFrame(columns=EFFECT_COLUMNS)
    merged = []
    for factor in dict.fromkeys(piece["group"].iloc[0] for piece in pieces):
        mine = [piece for piece in pieces if piece["group"].iloc[0] == factor]
        if len(mine) == 1:
            merged.append(mine[0])
            continue
        joined = pd.concat(mine, ignore_index=True)
        position = pd.concat([piece.groupby("level", sort=False).ngroup() for piece in mine], ignore_index=True)
        merged.append(joined.iloc[np.argsort(position.to_numpy(), kind="stable")])
    return pd.concat(merged, ignore_index=True)


def varcorr_rows(block: Block, cov: np.ndarray) -> list[dict[str, object]]:
    """Variances, then correlations, of one block's (k, k) covariance, as lme4's as.data.frame(VarCorr)."""
    sd = np.sqrt(np.diag(cov))
    rows: list[dict[str, object]] = [
        {"group": block.factor, "term1": label, "term2": None, "sdcor": sd[i], "vcov": cov[i, i]}
        for i, label in enumerate(block.labels)
    ]
    for i, j in block.pairs:
        scale = sd[i] * sd[j]
        rows.append(
            {
                "group": block.factor,
                "term1": block.labels[i],
                "term2": block.labels[j],
                "sdcor": cov[i, j] / scale if scale > 0 else np.nan,
                "vcov": cov[i, j],
            }
        )
    return rows


def sd_names(block: Block) -> list[str]:
    """Parameter names of a block's sds: ``1|Subject_sigma``, ``Machine|Worker_sigma[B]``."""
    return [column.sd_name for column in block.columns]


def corr_names(block: Block) -> list[str]:
    """Parameter names of a block's correlations, ``Subject_corr[Intercept,Days]``, in the order of ``varcorr_rows``."""
    return [f"{block.corr_name}[{block.labels[i]},{block.labels[j]}]" for i, j in block.pairs]


def simulated_frame(design: Design, y: np.ndarray) -> pd.DataFrame:
    """(draws, n) simulated responses as columns sim_1, sim_2, ... under the rows' labels; categories as in the data."""
    names = [f"sim_{d + 1}" for d in range(len(y))]
    if not design.categories:
        return pd.DataFrame(y.T, index=design.index, columns=names)
    column = design.frame.get(design.response.strip("`"))
    if column is not None and not isinstance(column.dtype, pd.CategoricalDtype):
        return pd.DataFrame(y.T.astype(int), index=design.index, columns=names)
    codes = np.searchsorted(design.category_values, y)
    dtype = pd.CategoricalDtype(list(design.categories), ordered=True)
    return pd.DataFrame(
        {name: pd.Categorical.from_codes(one, dtype=dtype) for name, one in zip(names, codes, strict=True)},
        index=design.index,
    )


def coef_terms(design: Design, blocks: Sequence[Block]) -> list[str]:
    """Terms of ``coef``: the common coefficients, then group effects without a common counterpart."""
    extra = [label for block in blocks for label in block.labels if label not in design.common]
    return [*design.common, *dict.fromkeys(extra)]


def tidy_effects(fixed: pd.DataFrame, varcorr: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """broom's tidy(): fixed effects and variance parameters in one long table."""
    head = fixed.reset_index(names="term")
    head.insert(0, "effect", "fixed")
    head.insert(1, "group", None)
    rest = varcorr.copy()
    is_sd = rest["term2"].isna()
    term = np.where(
        is_sd,
        "sd__" + rest["term1"].fillna("Observation"),
        "cor__" + rest["term1"].fillna("") + "." + rest["term2"].fillna(""),
    )
    rest = rest.assign(effect="ran_pars", term=term, estimate=rest["sdcor"])
    wanted = ["effect", "group", "term", *columns]
    # pandas 2 warns where one of two tables has no rows, or nothing but missing values of another dtype
    parts = [part.reindex(columns=wanted).astype({"group": object}) for part in (head, rest) if len(part)]
    return pd.concat(parts, ignore_index=True)


def chosen_names(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names asked for, in the order of ``known``; UnknownNameError for a name that the fit does not have."""
    if isinstance(wanted, str) or not all(isinstance(name, str) for name in wanted):
        raise ArgumentTypeError(f"parameters must be a list of names such as ['sigma'], got {wanted!r}")
    for name in wanted:
        if name not in known:
            raise UnknownNameError(
                f"the fit has no parameter {name!r}.{nearest(name, known)} It has: {listing(known, 20)}."
            )
    return [name for name in known if name in wanted]
