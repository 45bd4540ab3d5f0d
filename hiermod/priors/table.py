"""Every prior of a model with the reason for its scale in words: as given, or a default and the numbers in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiermod.core.annotated import NotedFrame, noted
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.design import Block, Design
from hiermod.formula.parts import parts_of
from hiermod.priors.distributions import Distribution, is_bambi_prior
from hiermod.priors.given import PriorSet
from hiermod.priors.lkj import DEFAULT_ETA
from hiermod.priors.model_priors import (
    LATENT_INTERCEPT,
    SPREAD,
    Defaults,
    Law,
    ModelPriors,
    OnGraph,
    column_scale,
    defaults_of,
    is_constant,
    model_priors,
)

BAMBI = "Bambi's"
DEFAULT = f"{BAMBI} default"
CENTRED = "Its prior is that of the intercept where every predictor is at its mean."
ON_THE_LINK = "on the scale of the link"


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


def prior_entries(
    design: Design, priors: PriorSet, family: str, link: str | None, center_predictors: bool
) -> tuple[Entry, ...]:
    """One entry per coefficient, group sd, correlation matrix and further parameter of the response.

    Those of further formulas (parameters=) follow, with the parameter's name before theirs."""
    found = model_priors(design, priors, family, link, center_predictors)
    defaults = defaults_of(design, family, link)
    scaled = FAMILIES[family].default_scale == "response"
    reasons = _Reasons(design, priors, found, defaults, float(np.std(design.y)) if scaled else None)
    out = [*reasons.common(), *reasons.groups()]
    parts = parts_of(design)
    for parameter in FAMILIES[family].parameters:
        name = parameter.name
        if name in parts:
            out += _further(name, parts[name], priors, found.further[name])
        elif name in found.auxiliary:
            out.append(_auxiliary(name, found.auxiliary[name], priors, family, reasons.y_sd))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class _Reasons:
    """Entries of the formula's own coefficients and group effects.  y_sd: sd(y) where defaults go by it."""

    design: Design
    priors: PriorSet
    found: ModelPriors
    defaults: Defaults
    y_sd: float | None

    def common(self) -> Iterator[Entry]:
        """One entry per column of X."""
        for i, (label, term, law) in enumerate(
            zip(self.design.common, self.design.common_terms, self.found.common, strict=True)
        ):
            why, more = source(self.priors, term, "common", "common terms"), ""
            if not why:
                why, more = self._intercept(law) if term == "Intercept" else self._slope(term, self.design.X[:, i])
            if term == "Intercept" and self.found.centred:
                more = f"{CENTRED} {more}".strip()
            yield _entry(label, term, law, why, more)

    def _intercept(self, law: Law) -> tuple[str, str]:
        if self.defaults.latent:
            return f"{BAMBI}: {LATENT_INTERCEPT:g} {ON_THE_LINK}", ""
        own = float(self.defaults.spread or 1.0)
        base = f"{SPREAD:g} {ON_THE_LINK}" if self.y_sd is None else f"mean(y); {SPREAD:g} sd(y) = {own:.4g}"
        sd = law.get("sigma") if isinstance(law, Distribution) else None
        return intercept_reason(sd if isinstance(sd, float) else own, own, base)

    def _slope(self, term: str, x: np.ndarray) -> tuple[str, str]:
        if not self.defaults.latent:
            return slope_reason(self.y_sd, x), constant_note(x)
        columns = self.defaults.predictor(term)
        if columns is None:
            return f"{BAMBI}: 1 for a factor, scale of the link", "" if x.any() else constant_note(x)
        together = columns.shape[1] == 1 and self.design.common_terms.count(term) > 1
        return latent_reason(columns[:, 0] if together else x, together), constant_note(x)

    def groups(self) -> Iterator[Entry]:
        """The sds of group effects (or what stands for them), and correlations."""
        seen: dict[str, int] = {}
        for block, sds in zip(self.design.blocks, self.found.sds, strict=True):
            for i, (column, law) in enumerate(zip(block.columns, sds, strict=True)):
                position = seen[column.variable] = seen.get(column.variable, -1) + 1
                why = source(self.priors, column.variable, "group_specific", "group effects")
                if isinstance(law, OnGraph):
                    yield from _nested(law, column.sd_name, column.variable, position, why)
                    continue
                x, note = block.values[:, i], ""
                if not why and column.variable.startswith("1|"):
                    whose = "an" if self.y_sd is None else "the"
                    why = f"{BAMBI}: the scale of {whose} intercept's prior"
                elif not why:
                    why, note = slope_reason(self.y_sd, x), constant_note(x)
                    if block.structure.hom:
                        note = f"One sd for all columns of {block.term}: the root mean square of their scales."
                yield _entry(column.sd_name, column.variable, law, why, note)
            if block.pairs:
                yield correlation_entry(block, self.priors)


def _entry(parameter: str, key: str, law: Law, why: str, note: str = "") -> Entry:
    if isinstance(law, OnGraph):
        return Entry(parameter, key, None, why, other=str(law), note=note)
    return Entry(parameter, key, law, why, note=note)


def _nested(given: OnGraph, sd_name: str, key: str, position: int, why: str) -> Iterator[Entry]:
    """The priors inside a prior of group effects that is no Normal around 0: of its sd, mean or degrees of freedom."""
    arguments = dict(given.prior.args)
    for name, value in arguments.items():
        if not (isinstance(value, Distribution) or is_bambi_prior(value)):
            continue
        law: Law
        try:
            law = Distribution.from_bambi(value, key).column(position)
        except UnsupportedError:
            law = OnGraph(key, value)
        yield _entry(sd_name if name == "sigma" else sd_name.replace("_sigma", f"_{name}"), key, law, why)


def _auxiliary(name: str, law: Law | float, priors: PriorSet, family: str, y_sd: float | None) -> Entry:
    """A parameter with one value for all rows, such as alpha of a negative binomial; thresholds."""
    given = name in priors.given
    if isinstance(law, float):
        return Entry(name, name, None, "given as a number", fixed=law)
    why = "given" if given else f"{DEFAULT} for {family!r}"
    if not given and name == "sigma" and y_sd is not None:
        why = f"{BAMBI}: sd(y) = {y_sd:.4g}"
    ascending = FAMILIES[family].parameter(name).support == "ascending"
    return _entry(name, name, law, why, "Its values are ascending." if ascending else "")


def _further(parameter: str, part: Design, priors: PriorSet, found: ModelPriors) -> Iterator[Entry]:
    """Entries of a formula of its own: nothing is scaled there, and the wide keys are not for it."""
    for label, term, law in zip(part.common, part.common_terms, found.common, strict=True):
        note = CENTRED if term == f"{parameter}_Intercept" and found.centred else ""
        yield _entry(label, term, law, _of_formula(parameter, term, priors), note)
    seen: dict[str, int] = {}
    for block, sds in zip(part.blocks, found.sds, strict=True):
        for column, law in zip(block.columns, sds, strict=True):
            position = seen[column.variable] = seen.get(column.variable, -1) + 1
            why = _of_formula(parameter, column.variable, priors)
            if isinstance(law, OnGraph):
                yield from _nested(law, column.sd_name, column.variable, position, why)
            else:
                yield _entry(column.sd_name, column.variable, law, why)
        if block.pairs:
            yield correlation_entry(block, priors)


def _of_formula(parameter: str, key: str, priors: PriorSet) -> str:
    return "given" if key in priors.given else f"{DEFAULT} in the formula for {parameter}"


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


def latent_reason(x: np.ndarray, together: bool) -> str:
    """``Bambi's: 1 / sd(x) = 1 / 2.87, scale of the link``; together: x is the sum of an interaction's columns."""
    scale, what = float(column_scale(x)), "sum" if together else "x"
    where = "" if together else ", scale of the link"
    if not is_constant(x):
        return f"{BAMBI}: 1 / sd({what}) = 1 / {scale:.3g}{where}"
    return f"hiermod's: {f'1 / |{what}| = 1 / {scale:.3g}' if x.any() else f'1, {what} is 0'}{where}"


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
