"""Every prior of a model with the reason for its scale in words: as given, or Bambi's default and the numbers in it.

Gaussian models need no Bambi (gaussian.py has its rules, after rstanarm: 2.5 sd(y) / sd(x)); for other families
the priors are read from the built Bambi model, and a reason is told only where its numbers agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import NotedFrame, noted
from hiermod.errors import UnsupportedError
from hiermod.formula.design import Block, Design
from hiermod.priors.distributions import Distribution
from hiermod.priors.gaussian import GaussianPriors, gaussian_priors
from hiermod.priors.given import PriorSet
from hiermod.priors.lkj import DEFAULT_ETA
from hiermod.priors.model_priors import SPREAD, column_scale, is_constant

PLACEHOLDER = Distribution("Normal", (("mu", 0.0), ("sigma", 1.0)))
BAMBI = "Bambi's"
CENTRED = "Its prior is that of the intercept where every predictor is at its mean."


@dataclass(frozen=True)
class Entry:
    """The prior of one parameter.  law: None where only the graph can evaluate it, or where the parameter is fixed."""

    parameter: str  # as in fit.parameters()
    key: str  # what to write in priors=
    law: Distribution | None
    why: str  # below 50 characters, which is what pandas shows of a cell of a plain DataFrame
    fixed: float | None = None
    eta: float | None = None  # of an LKJ prior: the parameter is a block's correlation matrix
    other: str = ""  # how to show what is none of these
    note: str = ""  # a sentence or two more

    @property
    def text(self) -> str:
        """``Normal(mu=0, sigma=48.8942)``, ``LKJ(eta=2)``, ``fixed at 1``."""
        if self.fixed is not None:
            return f"fixed at {self.fixed:.6g}"
        if self.eta is not None:
            return f"LKJ(eta={self.eta:.6g})"
        return self.law.text(6) if self.law is not None else self.other


def priors_frame(entries: tuple[Entry, ...]) -> NotedFrame:
    """parameter, distribution, why, key: one row per prior, in the order of the model's tables; attrs: notes."""
    rows = [(one.parameter, one.text, one.why, one.key) for one in entries]
    table = pd.DataFrame(rows, columns=["parameter", "distribution", "why", "key"])
    return noted(table, [f"{one.parameter}: {one.note}" for one in entries if one.note])


def numbers_of(design: Design, priors: PriorSet, center_predictors: bool) -> GaussianPriors | None:
    """GaussianPriors where a common or residual prior may be of any kind; None where group effects are not Normal."""
    given = dict(priors.given)
    for key in (*dict.fromkeys(design.common_terms), "common"):
        if key in given:
            given[key] = PLACEHOLDER  # given, so that it widens no default
    if "sigma" in given:
        given["sigma"] = 1.0
    try:
        return gaussian_priors(design, PriorSet(given, priors.eta), center_predictors)
    except UnsupportedError:
        return None


def given_law(value: Any, key: str, position: int) -> Distribution | None:
    """One column's prior as given; None for a prior that only the graph can evaluate."""
    try:
        return Distribution.from_bambi(value, key).column(position)
    except (UnsupportedError, TypeError, ValueError):
        return None


def gaussian_entries(design: Design, priors: PriorSet, numbers: GaussianPriors) -> tuple[Entry, ...]:
    """One entry per parameter of a Gaussian model, the reasons with the numbers in them."""
    y_sd = float(np.std(design.y))
    out = [_common_entry(design, priors, numbers, i, y_sd) for i in range(len(design.common))]
    for block, sds in zip(design.blocks, numbers.sds, strict=True):
        for i, column in enumerate(block.columns):
            why = source(priors, column.variable, "group_specific", "group effects")
            if not why and column.variable.startswith("1|"):
                why = f"{BAMBI}: the scale of the intercept's prior"
            out.append(
                Entry(
                    column.sd_name,
                    column.variable,
                    sds[i],
                    why or slope_reason(y_sd, block.values[:, i]),
                    note="" if why else constant_note(block.values[:, i]),
                )
            )
        if block.pairs:
            out.append(correlation_entry(block, priors))
    if not design.precision.sigma_known:
        value = priors.given.get("sigma")
        if isinstance(value, float):
            out.append(Entry("sigma", "sigma", None, "given as a number", fixed=value))
        elif value is not None:
            out.append(Entry("sigma", "sigma", given_law(value, "sigma", 0), "given", other=str(value)))
        else:
            law = Distribution("HalfStudentT", (("nu", 4.0), ("sigma", y_sd)))
            out.append(Entry("sigma", "sigma", law, f"{BAMBI}: sd(y) = {y_sd:.4g}"))
    return tuple(out)


def _common_entry(design: Design, priors: PriorSet, numbers: GaussianPriors, i: int, y_sd: float) -> Entry:
    label, term = design.common[i], design.common_terms[i]
    note = CENTRED if label == "Intercept" and numbers.centred else ""
    why = source(priors, term, "common", "common terms")
    if why:
        value = priors.given.get(term, priors.given.get("common"))
        position = [j for j, one in enumerate(design.common_terms) if one == term].index(i)
        return Entry(label, term, given_law(value, term, position), why, other=str(value), note=note)
    sd = float(numbers.sd[i])
    law = Distribution("Normal", (("mu", float(numbers.mean[i])), ("sigma", sd)))
    if term != "Intercept":
        x = design.X[:, i]
        return Entry(label, term, law, slope_reason(y_sd, x), note=constant_note(x))
    why, more = intercept_reason(sd, SPREAD * y_sd, f"mean(y); {SPREAD:g} sd(y) = {SPREAD * y_sd:.4g}")
    return Entry(label, term, law, why, note=" ".join(part for part in (note, more) if part))


def intercept_reason(sd: float, own: float, base: str) -> tuple[str, str]:
    """The reason of a default intercept, and a sentence where the slopes' priors have widened it."""
    if np.isclose(sd, own):
        return f"{BAMBI}: {base}", ""
    more = (
        f"Bambi widens its scale, {own:.4g}, by the slopes' default priors times the predictors' means: "
        f"sqrt({own:.4g}² + sum of (slope's sd × mean(x))²) = {sd:.4g}."
    )
    return f"{BAMBI}: {base}, widened", more


def slope_reason(y_sd: float | None, x: np.ndarray) -> str:
    """``Bambi's: 2.5 sd(y) / sd(x) = 2.5 × 56.2 / 2.87`` for a column x; y_sd None: the response is not rescaled.

    ``hiermod's: 2.5 sd(y)/|x| = 2.5 × 56.2 / 3`` where sd(x) is 0."""
    scale, y = float(column_scale(x)), "" if y_sd is None else " sd(y)"
    numbers = f"{SPREAD:g} / {scale:.3g}" if y_sd is None else f"{SPREAD:g} × {y_sd:.3g} / {scale:.3g}"
    if not is_constant(x):
        return f"{BAMBI}: {SPREAD:g}{y or ' '}/{'' if y else ' '}sd(x) = {numbers}"
    if not x.any():
        return (
            f"hiermod's: {SPREAD:g}{y} = {SPREAD * y_sd:.4g}, x is 0"
            if y_sd is not None
            else f"hiermod's: {SPREAD:g}, x is 0"
        )
    return f"hiermod's: {SPREAD:g}{y}/|x| = {numbers}"


def constant_note(x: np.ndarray) -> str:
    """A sentence where a default prior could not be scaled by the column's sd."""
    if not is_constant(x):
        return ""
    if not x.any():
        return (
            "The column is 0 in every row (an empty cell, say): the data say nothing about its coefficient, whose "
            "posterior is this prior. Its scale is that for a column of sd 1."
        )
    return "The column does not vary, so its size stands where Bambi divides by its sd, which is 0."


def correlation_entry(block: Block, priors: PriorSet) -> Entry:
    """The LKJ prior of a block's correlation matrix."""
    eta = priors.eta[block.corr_name]
    if eta == DEFAULT_ETA:
        why = "hiermod's: leans gently to 0; LKJ(1) is flat"
    else:
        leaning = "flat over correlation matrices" if eta == 1 else f"leans towards {'0' if eta > 1 else '±1'}"
        why = f"given: {leaning}"
    note = ""
    if not block.structure.free:
        low, high = block.structure.bounds[-1]
        note = f"The correlation of {block.term} is Beta({eta:g}, {eta:g}) over its range, {low:.3g} to {high:g}."
    return Entry(block.corr_name, block.corr_name, None, why, eta=eta, note=note)


def source(priors: PriorSet, key: str, wide: str, what: str) -> str:
    """``given``, ``given for all common terms``, or nothing when it is a default."""
    if key in priors.given:
        return "given"
    return f"given for all {what}" if wide in priors.given else ""
