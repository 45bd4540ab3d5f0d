"""The priors of a built Bambi model, component by component, in the names of hiermod's tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.design import Column, Design
from hiermod.priors.distributions import CATALOGUE, Distribution, is_bambi_prior
from hiermod.priors.given import PriorSet
from hiermod.priors.model_priors import SPREAD, column_scale, common_law, is_constant
from hiermod.priors.table import (
    BAMBI,
    CENTRED,
    Entry,
    constant_note,
    correlation_entry,
    intercept_reason,
    slope_reason,
    source,
)

DEFAULT = f"{BAMBI} default"


def read_entries(
    model: Any, design: Design, priors: PriorSet, family: Any, center_predictors: bool
) -> tuple[Entry, ...]:
    """Entries of the formula's own parameters, its group sds and correlations, then the others of the response."""
    reader = _Reader(model, design, priors, family, center_predictors)
    out = [*reader.common(), *reader.groups()]
    parent = model.family.likelihood.parent
    for name, component in versions.bambi_parameters(model).items():
        if name != parent:
            out += reader.constant(name, component) if hasattr(component, "prior") else reader.modelled(name, component)
    return tuple(out)


class _Reader:
    def __init__(self, model: Any, design: Design, priors: PriorSet, family: Any, center: bool) -> None:
        self.design, self.priors, self.center = design, priors, center
        self.component = versions.bambi_parent(model)
        self.family = family if isinstance(family, str) else getattr(family, "name", "")
        known = FAMILIES.get(self.family)
        scaled = known is not None and known.default_scale == "response"  # Bambi's defaults then go by sd(y)
        self.y_sd = float(np.std(design.y)) if scaled else None

    def common(self) -> list[Entry]:
        """One entry per column of X that the graph has."""
        out, component = [], self.component
        terms = dict(component.common_terms)
        if component.intercept_term is not None:
            terms["Intercept"] = component.intercept_term
        for term in dict.fromkeys(self.design.common_terms):
            if term not in terms:
                continue  # ordinal families keep the intercept in their thresholds
            columns = [i for i, owner in enumerate(self.design.common_terms) if owner == term]
            for position, i in enumerate(columns):
                law = _law(terms[term].prior, position)
                why, more = source(self.priors, term, "common", "common terms"), ""
                if not why:
                    why, more = self._reason(law, i, term)
                if term == "Intercept" and self.center and len(self.design.common) > 1:
                    more = f"{CENTRED} {more}".strip()
                other = str(terms[term].prior)
                out.append(Entry(self.design.common[i], term, law, why, other=other, note=more))
        return out

    def _reason(self, law: Distribution | None, i: int, term: str) -> tuple[str, str]:
        sd = law.get("sigma") if law is not None and law.name == "Normal" else None
        if not isinstance(sd, float):
            return DEFAULT, ""
        if term != "Intercept":
            x = self.design.X[:, i]
            factor = self.design.common[i].endswith("]")
            return self._slope(sd, x, factor), constant_note(x)
        if self.y_sd is None and np.isclose(sd, 1.5):
            return f"{BAMBI}: 1.5 on the scale of the link", ""
        own = SPREAD * (1.0 if self.y_sd is None else self.y_sd)
        base = f"{SPREAD:g} on the scale of the link"
        if self.y_sd is not None:
            base = f"mean(y); {SPREAD:g} sd(y) = {own:.4g}"
        return intercept_reason(sd, own, base) if sd > own * (1 - 1e-9) else (DEFAULT, "")

    def _slope(self, sd: float, x: np.ndarray, factor: bool = True) -> str:
        scale = float(column_scale(x))
        if np.isclose(sd, SPREAD * (1.0 if self.y_sd is None else self.y_sd) / scale):
            return slope_reason(self.y_sd, x)
        if np.isclose(sd, 1 / scale) and not (factor and is_constant(x)):
            if not is_constant(x):
                return f"{BAMBI}: 1 / sd(x) = 1 / {scale:.3g}, scale of the link"
            told = f"1 / |x| = 1 / {scale:.3g}" if x.any() else "1, x is 0"
            return f"hiermod's: {told}, scale of the link"
        return f"{BAMBI}: 1 for a factor, scale of the link" if sd == 1 else DEFAULT

    def groups(self) -> list[Entry]:
        """The sds of group effects (or what stands for them), and correlations."""
        out: list[Entry] = []
        terms = self.component.group_specific_terms
        seen: dict[str, int] = {}
        for block in self.design.blocks:
            for i, column in enumerate(block.columns):
                position = seen.get(column.variable, 0)
                seen[column.variable] = position + 1
                prior = terms[column.variable].prior
                out += self._group(prior, column, position, block.values[:, i])
            if block.structure.hom:
                own = out[-block.size :]
                if all(one.law is not None for one in own):
                    law = common_law(block, [one.law for one in own if one.law is not None])
                    out[-block.size :] = [replace(one, law=law) for one in own]
            if block.pairs:
                out.append(correlation_entry(block, self.priors))
        return out

    def _group(self, prior: Any, column: Column, position: int, x: np.ndarray) -> list[Entry]:
        out = []
        for name, value in prior.args.items():
            if not is_bambi_prior(value):
                continue
            law = _law(value, position)
            why = source(self.priors, column.variable, "group_specific", "group effects")
            scale = law.get("sigma") if law is not None and law.name == "HalfNormal" else None
            if not why and isinstance(scale, float):
                intercept = column.variable.startswith("1|")
                why = f"{BAMBI}: the scale of an intercept's prior" if intercept else self._slope(scale, x)
            label = column.sd_name if name == "sigma" else column.sd_name.replace("_sigma", f"_{name}")
            out.append(Entry(label, column.variable, law, why or DEFAULT, other=str(value)))
        return out

    def constant(self, name: str, component: Any) -> list[Entry]:
        """A parameter with one value for all rows, such as alpha of a negative binomial."""
        prior, given = component.prior, name in self.priors.given
        if name == "sigma" and self.design.precision.sigma_known:
            return []
        if not is_bambi_prior(prior):
            return [Entry(name, name, None, "given as a number" if given else DEFAULT, fixed=float(prior))]
        law = _law(prior, 0) if _width(prior) == 1 else None
        why = "given" if given else f"{DEFAULT} for {self.family!r}"
        if not given and law is not None and self.y_sd is not None and law.get("sigma") == self.y_sd:
            why = f"{BAMBI}: sd(y) = {self.y_sd:.4g}"
        return [Entry(name, name, law, why, other=str(prior))]

    def modelled(self, parameter: str, component: Any) -> list[Entry]:
        """A parameter with a formula of its own: Bambi's names, ``sigma_x``, and texts of their priors."""
        terms = dict(component.common_terms) | dict(component.group_specific_terms)
        if component.intercept_term is not None:
            terms = {"Intercept": component.intercept_term} | terms
        why = f"in the formula for {parameter}; {DEFAULT} unless given"
        return [
            Entry(f"{parameter}_{name}", parameter, None, why, other=str(term.prior)) for name, term in terms.items()
        ]


def _width(prior: Any) -> int:
    sizes = [np.size(value) for value in prior.args.values() if isinstance(value, int | float | np.ndarray)]
    return max(sizes, default=1)


def _law(prior: Any, position: int) -> Distribution | None:
    """One column's prior as a record; None where it is not of plain numbers."""
    try:
        whole = Distribution.from_bambi(prior, "")
    except (UnsupportedError, TypeError, ValueError):
        return None
    if whole.name not in CATALOGUE or whole.nested:
        return None
    return whole.column(position)
