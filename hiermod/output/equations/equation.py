"""A model as equations: level 1, the levels above it, the variance components and the priors, in the person's names.

Notation of Raudenbush and Bryk (2002) for one factor and for two nested ones; of Gelman and Hill (2007), with the level
of row i as an index, where factors cross."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from hiermod.core.checked import checked
from hiermod.core.escaping import latex, markdown, terminal
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.design import Block, Design
from hiermod.formula.parts import parts_of
from hiermod.output.equations.covariance_matrix import TOLD, covariance_matrix, spreads
from hiermod.output.equations.equation_levels import INTERCEPT, Coefficient, Levels, Predictor, read_levels
from hiermod.output.equations.equation_notation import Latex, Text
from hiermod.output.equations.equation_parameters import parameter_lines

if TYPE_CHECKING:
    from hiermod.model import Model


LETTERS = "uvwrsq"  # one for the effects of each grouping factor
MATRIX_SIZE = 4  # larger covariance matrices are named, not written out

COUNTS = re.compile(r"^(p|prop|proportion|cbind)\((\w+), ?(\w+)\)$")


@dataclass(frozen=True)
class Section:
    """A titled group of lines."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Equation:
    """What ``Model.equation()`` returns: prints as text, shows as mathematics in notebooks.

    text, latex: the same sections in both notations.  symbols: DataFrame, which symbol is which parameter of
    ``fit.parameters()`` (index symbol; column parameter)."""

    text: tuple[Section, ...]
    latex_sections: tuple[Section, ...]
    symbols: pd.DataFrame = field(repr=False)

    @property
    def latex(self) -> str:
        """One ``align*`` environment for a paper (amsmath)."""
        rows = []
        for section in self.latex_sections:
            rows += [rf"&\textbf{{{latex(section.title)}}}", *section.lines]
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def __str__(self) -> str:
        return terminal("\n\n".join("\n".join([s.title, *(f"  {line}" for line in s.lines)]) for s in self.text))

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        pieces = []
        for section in self.latex_sections:
            body = " \\\\\n".join(section.lines)
            pieces.append(f"**{markdown(section.title)}**\n\n$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$")
        return "\n\n".join(pieces)


@checked
def equation(model: Model, priors: bool = False) -> Equation:
    """The model as equations, level by level, in the person's names: text, and mathematics in notebooks.

    priors: with those of ``m.priors()``; the intercept's is on its value at the predictors' means.

    >>> import hiermod as hm
    >>> print(hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).equation())
    Level 1
      Yield_ij = β0j + εij
      εij ~ Normal(0, σ²)
    <BLANKLINE>
    Level 2 (Batch)
      β0j = γ00 + u0j
    <BLANKLINE>
    Variance components
      u0j ~ Normal(0, τ0²)
    """
    told = model.priors().set_index("parameter")["distribution"].to_dict() if priors else None
    return equations_of(model.spec, model.family, model.link, told, model.center_predictors)


def equations_of(
    design: Design, family: str, link: str, priors: Mapping[str, str] | None = None, centred: bool = True
) -> Equation:
    """The equations of a model.  priors: distribution by parameter name, or None to leave them out; centred: the
    intercept's is on its value where predictors are at their means."""
    levels = read_levels(design)
    plain, tex = (_Writer(design, family, link, levels, notation) for notation in (Text(), Latex()))
    text, latex = (tuple(writer.sections(priors, centred)) for writer in (plain, tex))
    names = pd.Series(plain.parameters, name="parameter").rename_axis("symbol")
    return Equation(text, latex, names.to_frame())


class _Writer:
    """Writes one notation's lines; collects which symbol is which parameter."""

    def __init__(self, design: Design, family: str, link: str, levels: Levels, notation: Text) -> None:
        self.design, self.link, self.levels, self.n = design, link, levels, notation
        self.family = FAMILIES[family]
        self.depth = len(levels.chain)
        self.crossed = bool(design.blocks) and not self.depth
        self.factors = list(levels.chain) or list(dict.fromkeys(block.factor for block in design.blocks))
        self.number = {c.term: p for p, c in enumerate(levels.coefficients)}
        self.parameters: dict[str, str] = {}
        self.omitted = self._omitted()

    def _omitted(self) -> frozenset[str]:
        """Coefficients between the first and the last of a long block, where nothing but the block's effects is in
        their equations: dots stand for them, as ``u2j, …, u11j``."""
        plain = {
            c.term
            for c in self.levels.coefficients
            if len(c.predictors) == 1 and not c.predictors[0].column and len(c.factors) == 1
        }
        found: set[str] = set()
        for block in self.design.blocks:
            at = [self.number.get(label, -2) for label in block.labels]
            if block.size > MATRIX_SIZE and set(block.labels) <= plain and at == [*range(at[0], at[0] + block.size)]:
                found |= set(block.labels[1:-1])
        return frozenset(found)

    def _shortened(self, labels: Sequence[str], told: Sequence[str]) -> list[str]:
        """What is told of each label, with dots once for a run of those omitted."""
        kept: list[str] = []
        for label, one in zip(labels, told, strict=True):
            if label not in self.omitted:
                kept.append(one)
            elif kept[-1] != self.n.dots:
                kept.append(self.n.dots)
        return kept

    def sections(self, priors: Mapping[str, str] | None, centred: bool) -> Iterator[Section]:
        """Level 1, the levels above, the variance components, and the priors when given."""
        yield Section("Level 1" if self.design.blocks else "Model", tuple(self._level_one()))
        if self.crossed:
            yield Section(f"Level 2 ({', '.join(self.factors)})", tuple(self._crossed()))
        for height, factor in enumerate(self.levels.chain, 1):
            yield Section(f"Level {height + 1} ({factor})", tuple(self._level(height)))
        if self.design.blocks:
            yield Section("Variance components", tuple(self._components()))
        for name, part in parts_of(self.design).items():
            parameter = self.family.parameter(name)
            further = parameter_lines(parameter, part, self.n, self.row, self._level_of, self._known)
            yield Section(f"Formula for {name}", tuple(further))
        if priors is not None:
            known = {parameter: symbol for symbol, parameter in self.parameters.items()}
            lines = [
                f"{known.get(name, self.n.words(name))}{self.n.distributed}{self.n.words(told)}"
                for name, told in priors.items()
            ]
            moved = centred and self.design.has_intercept and len(self.design.common) > 1
            title = "Priors" + (" (the intercept's where predictors are at their means)" if moved else "")
            yield Section(title, tuple(lines))

    # --- indices ------------------------------------------------------------------------------------------------
    @property
    def row(self) -> str:
        return "i" + "jk"[: self.depth]

    def _group(self, height: int) -> str:
        """The index of a group at a level of the chain: j, k below; jk for one within another."""
        return "jk"[height - 1 : self.depth]

    def _level_of(self, factor: str) -> str:
        """The index of a row's level of any factor."""
        if factor in self.levels.chain:
            return self._group(self.levels.chain.index(factor) + 1)
        return self._index(factor)

    def _known(self, symbol: str, parameter: str) -> str:
        self.parameters[symbol] = parameter
        return symbol

    # --- level 1 ------------------------------------------------------------------------------------------------
    def _own(self, c: Coefficient) -> str:
        """The symbol of a level-1 coefficient, with the index of the groups it may differ by."""
        p = str(self.number[c.term])
        if self.depth:
            return self.n.symbol("pi" if self.depth == 2 else "beta", p + self._group(1))
        if c.factors:
            return self.n.symbol("beta", f"{p}i")
        return self._known(self.n.symbol("beta", p), c.term)

    def _predictor(self) -> str:
        """The linear predictor of a row."""
        terms = [
            self._own(c) if c.term == INTERCEPT else self.n.product(self._own(c), self.n.variable(c.term, self.row))
            for c in self.levels.coefficients
        ]
        terms = self._shortened([c.term for c in self.levels.coefficients], terms)
        if self.design.offset is not None:
            terms.append(self.n.variable("offset", self.row))
        return self.n.plus.join(terms) if terms else "0"

    def _sigma(self) -> str:
        """The residual variance of a row."""
        if self.design.precision.sigma_known:
            return self.n.squared(self.n.symbol("s", self.row))
        if "sigma" in self.design.formulas:
            return self.n.squared(self.n.symbol("sigma", self.row))
        squared = self.n.squared(self._known(self.n.symbol("sigma"), "sigma"))
        return squared if self.design.precision.is_iid else f"{squared} / {self.n.symbol('w', self.row)}"

    def _level_one(self) -> Iterator[str]:
        y = self.n.variable(self._response()[0], self.row)
        if self.family.ordinal:
            cut = self._known(self.n.symbol("theta", "k"), "threshold")
            chance = self.family.notation.distribution.replace(" ≤ ", self.n.at_most).replace("y", y)
            if isinstance(self.n, Latex):
                chance = chance.replace("≥", r"\ge").replace("|", r"\mid")
            yield f"{self.n.link(self.link, chance)}{self.n.equals}{cut} - ({self._predictor()})"
            return
        if self.family.linear(self.link):
            error = self.n.symbol("epsilon", self.row)
            yield f"{y}{self.n.equals}{self._predictor()}{self.n.plus}{error}"
            yield f"{error}{self.n.distributed}{self.n.call('Normal', '0', self._sigma())}"
            return
        notation = self.family.notation
        location = self.n.symbol(notation.location, self.row)
        args = [location, *(self._argument(name) for name in notation.arguments)]
        if self.family.out_of_trials:
            args = [self._trials(), *args]
        yield f"{y}{self.n.distributed}{self.n.call(notation.distribution, *args)}"
        yield f"{self.n.link(self.link, location)}{self.n.equals}{self._predictor()}"

    def _response(self) -> tuple[str, str]:
        """The response's name; of counts ``p(successes, trials)`` both names, of ``cbind()`` the successes."""
        counts = COUNTS.match(self.design.response)
        if counts is None:
            return self.design.response, ""
        return counts[2], "" if counts[1] == "cbind" else counts[3]

    def _trials(self) -> str:
        trials = self._response()[1]
        return self.n.variable(trials, self.row) if trials else self.n.symbol("n", self.row)

    def _argument(self, name: str) -> str:
        if self.family.normal_errors:
            return self._sigma()
        symbol = self.family.parameter(name).written
        if name in self.design.formulas:
            return self.n.symbol(symbol, self.row)
        return self._known(self.n.symbol(symbol), name)

    # --- the levels above ---------------------------------------------------------------------------------------
    def _level(self, height: int) -> Iterator[str]:
        """The equations of one level of the chain."""
        top = height == self.depth
        letter, last = "gamma" if top else "beta", ""
        for c in self.levels.coefficients:
            p = str(self.number[c.term])
            if height == 1:
                here = [x for x in c.predictors if x.height <= 1]
                if c.term in self.omitted:
                    if last not in self.omitted:
                        yield self.n.dots_below
                    last = c.term
                    continue
                last = c.term
                yield self._sum(self._own(c), here, letter, p, "0" * (self.depth - 1), height, c.term)
                continue
            inner = [x for x in c.predictors if x.height <= 1]
            above = [x for x in c.predictors if x.height > 1]
            for q, x in enumerate(inner):
                left = self.n.symbol("beta", f"{p}{q}k")
                outer = [Predictor(INTERCEPT, x.column, 0), *(above if q == 0 else [])]
                yield self._sum(left, outer, letter, f"{p}{q}", "", height, c.term if q == 0 else x.shown)

    def _sum(
        self, left: str, predictors: list[Predictor], letter: str, start: str, zeros: str, height: int, term: str
    ) -> str:
        """``left = constant + coefficient predictor + ... + effect``; a constant that X lacks is left out."""
        top, parts = height == self.depth, []
        for q, x in enumerate(predictors):
            sub = f"{start}{q}" + ("" if top else "k")
            symbol = self.n.symbol(letter, sub)
            if top and x.column:
                self._known(symbol, x.column)
            if x.shown != INTERCEPT:
                parts.append(self.n.product(symbol, self.n.variable(x.shown, self._group(max(x.height, 1)))))
            elif x.column or not top:
                parts.append(symbol)
        factor = self.levels.chain[height - 1]
        if any(factor == b.factor and term in b.labels for b in self.design.blocks):
            parts.append(self._effect(factor, term, self._group(height)))
        return f"{left}{self.n.equals}{self.n.plus.join(parts) if parts else '0'}"

    def _crossed(self) -> Iterator[str]:
        """One equation for each coefficient that varies, with the effects of all factors."""
        for c in self.levels.coefficients:
            if c.factors:
                parts = []
                if c.term in self.design.common:
                    parts.append(self._known(self.n.symbol("gamma", str(self.number[c.term])), c.term))
                parts += [self._effect(factor, c.term, self._index(factor)) for factor in c.factors]
                yield f"{self._own(c)}{self.n.equals}{self.n.plus.join(parts)}"

    def _index(self, factor: str) -> str:
        """``Subject[i]``, the level of row i."""
        return f",{self.n.words(factor)}[i]" if isinstance(self.n, Latex) else f", {factor}[i]"

    def _effect(self, factor: str, term: str, index: str) -> str:
        return self.n.symbol(LETTERS[self.factors.index(factor) % len(LETTERS)], f"{self.number[term]}{index}")

    # --- variance components ------------------------------------------------------------------------------------
    def _components(self) -> Iterator[str]:
        for factor in self.factors:
            for block in self.design.blocks:
                if block.factor == factor:
                    yield self._block(block)

    def _block(self, block: Block) -> str:
        letter = LETTERS[self.factors.index(block.factor) % len(LETTERS)]
        prefix = letter if len(self.factors) > 1 else ""
        height = self.levels.chain.index(block.factor) + 1 if self.depth else 0
        index = self._group(height) if self.depth else self._index(block.factor)
        p = [str(self.number[label]) for label in block.labels]
        sds = spreads(block, p, lambda at: self.n.symbol("tau", prefix + at), self._known)
        effects = [self._effect(block.factor, label, index) for label in block.labels]
        if block.size == 1:
            return f"{effects[0]}{self.n.distributed}{self.n.call('Normal', '0', self.n.squared(sds[0]))}"
        entries = covariance_matrix(block, sds, p, lambda at: self.n.symbol("rho", prefix + at), self._known, self.n)
        if block.size > MATRIX_SIZE:
            covariance = self.n.symbol("Sigma", prefix)
            told = self.n.words(f"({TOLD[block.structure.name, block.structure.hom].format(k=block.size)})")
            return (
                f"{self.n.vector(self._shortened(block.labels, effects))}{self.n.distributed}"
                f"{self.n.call('Normal', '0', covariance)}"
                f"{self.n.words(' ')}{told}"
            )
        return f"{self.n.vector(effects)}{self.n.distributed}{self.n.call('Normal', '0', self.n.matrix(entries))}"
