"""The sample and the model of a fit in sentences: rows, groups, variables; predictors, group effects, family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.paper_table import decimals, number
from hiermod.errors import listing
from hiermod.families.catalogue import FAMILIES, is_linear
from hiermod.fits.bayesian import BayesianFit
from hiermod.formula.design import Block, Design
from hiermod.formula.parse import parse_formula

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

CODE = "\ue000\ue001"  # private characters around what is code, taken out of names
MOST = 8  # variables described one by one, and levels named


def code(text: object) -> str:
    """A name or formula, marked so that each kind of output can set it apart."""
    return f"{CODE[0]}{str(text).translate(dict.fromkeys(map(ord, CODE)))}{CODE[1]}"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def joined(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def sample(fit: Fit) -> tuple[str, ...]:
    """Rows, groups, what was left out; then the response and the predictors."""
    design = fit.design
    told = [f"The analysis used {counted(design.nobs, 'observation')} of {code(design.response)}"]
    groups = [_group(block) for block in {block.factor: block for block in design.blocks}.values()]
    told[0] += f", from {joined(groups)}." if groups else "."
    left_out = design.n_rows_data - design.nobs
    if left_out > 0:
        columns = joined([f"{name}: {count}" for name, count in design.missing.items()])
        told.append(
            f"Of the {counted(design.n_rows_data, 'row')} of the data, {left_out:,} "
            f"{'was' if left_out == 1 else 'were'} left out for missing values ({columns})."
        )
    described = _variables(fit)
    return (" ".join(told), *([" ".join(described)] if described else []))


def _group(block: Block) -> str:
    """``18 levels of Subject (10 each)``."""
    sizes = np.bincount(block.codes, minlength=len(block.levels))
    low, high = int(sizes.min()), int(sizes.max())
    each = f"{low:,} each" if low == high else f"{low:,} to {high:,} each, median {np.median(sizes):g}"
    return f"{counted(len(block.levels), 'level')} of {code(block.factor)} ({each})"


def _variables(fit: Fit) -> list[str]:
    design = fit.design
    found = []
    if design.trials is not None:
        trials, successes = design.trials.sum(), design.y.sum()
        found.append(f"There were {successes:,.0f} successes in {trials:,.0f} trials ({_percent(successes / trials)}).")
    elif FAMILIES[fit.family].kind == "binary":
        found.append(f"The outcome was 1 in {design.y.sum():,.0f} of {counted(design.nobs, 'row')} "
                     f"({_percent(design.y.mean())}).")  # fmt: skip
    elif design.special is None and not design.categories:
        found.append(_spread(f"{code(design.response)}", design.y))
    names = predictors(design)
    for name in names[:MOST]:
        values = design.frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            counts = values.value_counts(sort=False)
            cells = [f"{level} ({count:,})" for level, count in counts.items()]
            found.append(f"{code(name)} had {counted(len(cells), 'category', 'categories')}: {listing(cells, MOST)}.")
        else:
            found.append(_spread(f"{code(name)}", values.to_numpy(dtype=float)))
    if len(names) > MOST:
        found.append(f"The other predictors were {joined([f'{code(name)}' for name in names[MOST:]])}.")
    return found


def _spread(name: str, values: np.ndarray) -> str:
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    places = decimals(np.array([sd]), values, 2)
    mean, spread = number(float(values.mean()), places), number(sd, places)
    whole = np.array_equal(values, np.round(values))
    low, high = (number(float(end), 0 if whole else places + 1) for end in (values.min(), values.max()))
    ends = f"{low} to {high}"
    return f"{name} had a mean of {mean} (SD {spread}) and ranged from {ends}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def predictors(design: Design) -> list[str]:
    """Columns of the data that the right side uses and that do not only form groups, in order of mention."""
    parsed = parse_formula(design.formula)
    texts = [parsed.common, *(bar.left for bar in parsed.bars)]
    mentioned = dict.fromkeys(token.text for text in texts for token in parse_formula(f"y ~ {text}").names[1:])
    return [name for name in mentioned if name in design.frame.columns]


# --- the model ------------------------------------------------------------------------------------------------------


def model(fit: Fit) -> tuple[str, ...]:
    """Kind of model, predictors, group effects, weights, family; the formula as typed."""
    design = fit.design
    told = [f"{_kind(fit)} was fitted to {code(design.response)} with {_common(design)}."]
    references = _references(design)
    if references:
        told.append(f"The reference {'category was' if len(references) == 1 else 'categories were'} "
                    f"{joined(references)}.")  # fmt: skip
    told += group_effects(design)
    if design.precision.kind == "weights":
        told.append("Observations had prior weights: the residual variance is inversely proportional to the weight.")
    if design.precision.sigma_known:
        told.append("The residual standard deviation of every observation was taken as known.")
    if design.offset is not None:
        told.append("The linear predictor had an offset.")
    left_out = [f"{code(name)}" for name, kept in zip(design.common, design.estimable, strict=True) if not kept]
    if left_out:
        verb = "is" if len(left_out) == 1 else "are"
        told.append(f"The model matrix is rank deficient: {joined(left_out)} {verb} explained by earlier columns.")
    told.append(f"In formula notation: {code(design.formula)}.")
    return (" ".join(told),)


def _kind(fit: Fit) -> str:
    link = getattr(fit, "link", "identity")
    kind = "linear mixed model" if fit.design.blocks else "linear model"
    article = "A Bayesian " if isinstance(fit, BayesianFit) else "A "
    if is_linear(fit.family, link):
        return article + kind
    return f"{article}generalised {kind} of family {fit.family} with {link} link"


def _common(design: Design) -> str:
    terms = [term for term in dict.fromkeys(design.common_terms) if term != "Intercept"]
    if not terms:
        return "no fixed effect but the intercept" if design.has_intercept else "no fixed effects"
    plain = [f"{code(term)}" for term in terms if ":" not in term]
    crossed = [f"{code(term)}" for term in terms if ":" in term]
    told = []
    if plain:
        told.append(f"{'a fixed effect' if len(plain) == 1 else 'fixed effects'} of {joined(plain)}")
    if crossed:
        told.append(f"the interaction{'s' if len(crossed) > 1 else ''} {joined(crossed)}")
    without = "" if design.has_intercept else ", without an intercept"
    return " and ".join(told) + without


def _references(design: Design) -> list[str]:
    """Treatment coding's reference levels, of categorical columns that stand in the formula as they are."""
    found = []
    for term in dict.fromkeys(design.common_terms):
        if term not in design.frame.columns or not isinstance(design.frame[term].dtype, pd.CategoricalDtype):
            continue
        levels = [str(level) for level in design.frame[term].cat.categories]
        mine = [label for label, owner in zip(design.common, design.common_terms, strict=True) if owner == term]
        if mine == [f"{term}[{level}]" for level in levels[1:]]:
            found.append(f"{levels[0]} for {code(term)}")
    return found


def group_effects(design: Design) -> list[str]:
    """``The intercept and the slope of Days varied by Subject, and were allowed to correlate.``"""
    found = []
    for bar, factor in dict.fromkeys((block.bar, block.factor) for block in design.blocks):
        blocks = [block for block in design.blocks if (block.bar, block.factor) == (bar, factor)]
        labels = [label for block in blocks for label in block.labels]
        names = ["the intercept" if label == "Intercept" else f"the effect of {code(label)}" for label in labels]
        told = f"{joined(names)} varied by {code(factor)}"
        if len(labels) > 1:
            told += ", with correlations estimated" if len(blocks) == 1 else ", without correlations"
        found.append(told[0].upper() + told[1:] + ".")
    return found
