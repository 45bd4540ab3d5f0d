"""Estimated marginal means over a reference grid, and contrasts among them (Searle, Speed and Milliken 1980; the
conventions are those of R's emmeans)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.responses import check_mean
from hiermod.fits.ddf import chosen_ddf, is_bayesian
from hiermod.fits.tables import LEVEL, check_level
from hiermod.fits.targets import choice
from hiermod.formula.data import level_labels
from hiermod.inference.marginal_effects.coefficient_functions import (
    Family,
    Functions,
    combined,
    function_table,
    lost_notes,
)
from hiermod.inference.marginal_effects.contrast_methods import OWN_ADJUSTMENT, contrast_rows
from hiermod.inference.marginal_effects.multiplicity import ADJUSTMENTS
from hiermod.inference.marginal_effects.reference_grid import ReferenceGrid, check_variables, reference_grid

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

Names = str | Sequence[str]
SCALES = ("link", "response")
CONTRAST_SCALES = ("link", "response", "difference")
MEAN_TARGETS = ("population", "new_group")
RATIO_LINKS = {"log": "ratios", "logit": "odds ratios"}


@dataclass(frozen=True, eq=False)
class Averages:
    """J means before anything is done with them: labels, and the functions of beta they are."""

    grid: ReferenceGrid
    labels: pd.DataFrame  # (J, variables)
    functions: Functions  # on the link scale, or for a new group on the response scale
    L: np.ndarray  # (J, p) the averages of X, on which it is judged what the data can tell


@checked
def means(
    fit: Fit,
    variables: Names,
    at: Mapping[str, Any] | None = None,
    weights: str = "equal",
    scale: str = "link",
    target: str = "population",
    ddf: str | None = "auto",
    level: float = LEVEL,
) -> pd.DataFrame:
    """Estimated marginal means, as R's emmeans: the model's expected response at each level of ``variables``.

    variables: a predictor or several (all combinations); they index the table.  Other factors are averaged over,
    numbers stand at their mean (those with only two values at both).  at: other values, ``{"x": [0, 1]}``.
    weights: of the levels averaged over: "equal"; "proportional" to their frequency; "cells": of the row's own.
    scale: "link", or "response" for the inverse link of those (standard error by the delta method).
    target: "population", a typical group; "new_group", the expected response averaged over groups, which differs
    where the link is not the identity.  ddf: "auto" (Satterthwaite where there are degrees of freedom),
    "satterthwaite", "kenward-roger" or None.  Raises UnknownNameError, ArgumentError, UnsupportedError.

    >>> import hiermod as hm
    >>> cake = hm.Model("angle ~ recipe * temperature + (1 | recipe:replicate)", hm.load_dataset("cake")).reml()
    >>> cake.means("recipe")["estimate"].round(2).to_dict()
    {'A': 33.12, 'B': 31.64, 'C': 31.6}
    """
    level, ddf, scale = check_level(level), chosen_ddf(fit, ddf), choice("scale", scale, SCALES)
    _check_origin(fit)
    names = check_variables(fit.design, variables, "variables")
    found = averages(fit, names, at, weights, target)
    check_scale(fit, scale, target)
    f = found.functions
    functions = Functions(f.L, f.offset, f.C, scale == "response", effects=f.effects)
    table = function_table(fit, functions, label_index(found.labels), level, ddf)
    notes = [*averaged_over(found.grid, names, weights), *found.grid.notes, *scale_notes(fit, scale, target, "means")]
    notes += lost_notes(fit, fit.design, found.L, level_names(found.labels))
    return described(table, scale, target, ddf, level, notes)


@checked
def contrasts(
    fit: Fit,
    variables: Names,
    method: Any = "pairwise",
    by: Names | None = None,
    adjust: str = "auto",
    reference: str | None = None,
    at: Mapping[str, Any] | None = None,
    weights: str = "equal",
    scale: str = "link",
    target: str = "population",
    ddf: str | None = "auto",
    level: float = LEVEL,
) -> pd.DataFrame:
    """Comparisons of marginal means, with p values and intervals adjusted for their number.

    method: "pairwise", "revpairwise"; "treatment" (or "trt.vs.ctrl": against ``reference``, by default the first);
    "sum" (or "eff": against the mean of all); "poly", "consec"; a dict of name -> numbers, one for each mean, or ->
    {level: number}; or a matrix with a row for each contrast.  by: within each level of these, a family of its own.
    adjust: "tukey", "dunnett", "bonferroni", "holm", "sidak", "fdr", "none"; "auto" is Tukey for pairs, Dunnett
    (emmeans' dunnettx) for "treatment", fdr for "sum", Sidak for "consec", none for the rest.
    scale: "link"; "response": ratios (log link) or odds ratios (logit); "difference": of expected responses.
    The rest as in ``means``.  Raises UnknownNameError, ArgumentError, UnsupportedError.

    >>> import hiermod as hm
    >>> cake = hm.Model("angle ~ recipe + temperature + (1 | recipe:replicate)", hm.load_dataset("cake")).reml()
    >>> cake.contrasts("recipe", "treatment")["estimate"].round(2).to_dict()
    {'B - A': -1.48, 'C - A': -1.52}
    """
    level, ddf, scale = check_level(level), chosen_ddf(fit, ddf), choice("scale", scale, CONTRAST_SCALES)
    names = check_variables(fit.design, variables, "variables")
    within = [] if by is None else check_variables(fit.design, by, "by")
    both = [name for name in within if name in names]
    if both:
        raise ArgumentError(f"{both[0]!r} cannot be compared and held at once: it is in variables and in by")
    found = averages(fit, [*within, *names], at, weights, target)
    ratio = scale == "response" and fit.link != "identity"
    _check_contrast_scale(fit, scale, target, ratio)
    groups = np.zeros(len(found.labels), dtype=int)
    if within:
        groups = found.labels.groupby(within, sort=False, observed=True).ngroup().to_numpy()
    pieces, heads, families, size = [], [], [], 0
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        labels, rows, kind = contrast_rows(method, level_names(found.labels.iloc[members][names]), reference, ratio)
        if ratio and np.abs(rows.sum(axis=1)).max() > 1e-8:
            raise ArgumentError("a ratio compares means, so each contrast must sum to 0: use scale='link'")
        if np.abs(rows.sum(axis=1)).max() > 1e-8:
            _check_origin(fit)
        C = np.zeros((len(rows), len(groups)))
        C[:, members] = rows
        pieces.append(C)
        held = {name: [found.labels[name].iloc[members[0]]] * len(rows) for name in within}
        heads.append(pd.DataFrame(held | {"contrast": labels}))
        families.append(Family(size + np.arange(len(rows)), _adjustment(fit, adjust, kind), len(members)))
        size += len(rows)
    C, head = np.concatenate(pieces), pd.concat(heads, ignore_index=True)
    f = found.functions
    if scale == "difference":
        functions = Functions(f.L, f.offset, C if f.C is None else combined(C, f.C), response=True, effects=f.effects)
    else:
        functions = Functions(combined(C, found.L), combined(C, f.offset[:, None])[:, 0], ratio=ratio)
    table = function_table(fit, functions, label_index(head), level, ddf, families)
    notes = [*averaged_over(found.grid, [*within, *names], weights), *found.grid.notes]
    notes += scale_notes(fit, scale, target, "contrasts") + _adjust_notes(families)
    notes += lost_notes(fit, fit.design, combined(C, found.L), level_names(head))
    described(table, scale, target, ddf, level, notes)
    table.attrs["adjust"] = families[0].adjust
    return table


def averages(fit: Fit, names: Sequence[str], at: Mapping[str, Any] | None, weights: str, target: str) -> Averages:
    """The means of the combinations of ``names``: over the grid on the link scale; for a new group, over the expected
    responses of the grid's rows."""
    target = choice("target", target, MEAN_TARGETS)
    new_group = target == "new_group" and bool(fit.design.blocks) and fit.link != "identity"
    grid = reference_grid(fit.design, at, lefts=new_group)
    labels, W = grid.averages(names, weights)
    X, offset = grid.rows()
    if new_group:
        return Averages(grid, labels, Functions(X, offset, W, effects=grid.effect_values()), W @ X)
    return Averages(grid, labels, Functions(W @ X, W @ offset), W @ X)


def check_scale(fit: Fit, scale: str, target: str) -> None:
    """The response scale needs an expected response, and averages over groups need the response scale."""
    link = fit.link
    if scale != "link":
        check_mean(fit.family)
    elif target == "new_group" and link != "identity":
        raise ArgumentError(
            f"target='new_group' averages expected responses over groups; on the {link} scale the average group is the "
            "typical one. Use scale='response' (contrasts: scale='difference'), or target='population'"
        )


def _check_origin(fit: Fit) -> None:
    """UnsupportedError where the linear predictor has no zero of its own: means are then no numbers, contrasts are."""
    if FAMILIES[fit.family].ordinal:
        raise UnsupportedError(
            f"family {fit.family!r} has thresholds in the place of an intercept, so a mean on the {fit.link} scale has "
            "no zero to be counted from: fit.predict(newdata, target='population') gives the probability of each "
            "category, fit.contrasts(...) and fit.slopes(...) what changes it"
        )


def _check_contrast_scale(fit: Fit, scale: str, target: str, ratio: bool) -> None:
    check_scale(fit, scale, target)
    link = fit.link
    if ratio and link not in RATIO_LINKS:
        raise UnsupportedError(
            f"contrasts on the {link} scale do not become ratios on the response scale: scale='difference' compares "
            f"expected responses, scale='link' stays on the {link} scale"
        )
    if ratio and target == "new_group":
        raise UnsupportedError("ratios are for target='population'; for groups averaged over use scale='difference'")


def _adjustment(fit: Fit, adjust: str, kind: str) -> str:
    """The method for p values and intervals; "auto" is the one that goes with the kind of contrast."""
    name = str(adjust).lower() if isinstance(adjust, str) else adjust
    name = {"dunnettx": "dunnett", "bh": "fdr"}.get(name, name)
    choice("adjust", name, ("auto", *ADJUSTMENTS))
    if is_bayesian(fit):
        if name not in ("auto", "none"):
            raise UnsupportedError(
                f"adjust={adjust!r} corrects p values and confidence intervals; a posterior has neither, and each of "
                "its intervals holds with its own probability. Leave adjust out"
            )
        return "none"
    if name == "tukey" and kind not in ("pairwise", "revpairwise"):
        raise ArgumentError(
            f"adjust='tukey' is for all pairs of means, not for {kind} contrasts: 'sidak', 'holm' or 'bonferroni' fit"
        )
    return OWN_ADJUSTMENT.get(kind, "none") if name == "auto" else str(name)


# --- words ------------------------------------------------------------------------------------------------------------
def label_index(labels: pd.DataFrame) -> pd.Index:
    """One column as a plain Index, several as a MultiIndex."""
    return (
        pd.Index(labels.iloc[:, 0], name=labels.columns[0])
        if labels.shape[1] == 1
        else pd.MultiIndex.from_frame(labels)
    )


def level_names(labels: pd.DataFrame) -> list[str]:
    """Each row in words: "A", "A 175"."""
    texts = [[f"{x:g}" if isinstance(x, float) else x for x in level_labels(labels[name])] for name in labels]
    return [" ".join(row) for row in zip(*texts, strict=True)]


def averaged_over(grid: ReferenceGrid, names: Sequence[str], weights: str) -> list[str]:
    """What was averaged over, if anything."""
    others = [name for name in grid.frame.columns if name not in names and grid.frame[name].nunique() > 1]
    how = {"equal": "equal weights", "proportional": "weights from the data", "cells": "the data's own cells"}[weights]
    return [f"averaged over {', '.join(others)} ({how})"] if others else []


def scale_notes(fit: Fit, scale: str, target: str, what: str) -> list[str]:
    """Which scale the numbers are on, and which group they are about."""
    link = fit.link
    if link == "identity":
        return []
    if scale == "link":
        other = "; scale='response' gives expected responses" if what == "means" else ""
        return [f"on the {link} scale{other if FAMILIES[fit.family].location_is_mean else ''}"]
    notes = []
    if what == "contrasts" and scale == "response":
        notes.append(f"{RATIO_LINKS[link]}; scale='difference' gives differences of expected responses")
    if fit.design.blocks:
        notes.append(
            "expected responses averaged over the groups of the population"
            if target == "new_group"
            else "for a typical group (group effects 0), which is not the average over groups (target='new_group')"
        )
    return notes


def _adjust_notes(families: Sequence[Family]) -> list[str]:
    family = families[0]
    if family.adjust == "none" or len(family.rows) == 1:
        return []
    whole = f"p and intervals adjusted ({family.adjust}) for {len(family.rows)} contrasts"
    if family.adjust in ("holm", "fdr"):
        whole = f"p adjusted ({family.adjust}) and intervals by Bonferroni for {len(family.rows)} contrasts"
    return [whole + (" in each family" if len(families) > 1 else "")]


def described(
    table: pd.DataFrame, scale: str, target: str, ddf: str | None, level: float, notes: Sequence[str]
) -> pd.DataFrame:
    """The table with what it is about in ``attrs``."""
    table.attrs |= {"scale": scale, "target": target, "ddf": ddf, "level": level, "notes": list(notes)}
    return table
