"""Singular fits in words: what is at the boundary, what that means for the question asked, what to try.

A block's covariance is singular when some combination of its effects has no variance: one effect alone (a variance of
0), two (a correlation of -1 or 1), or more (Bates et al. 2015, J. Stat. Softw. 67(1), sections 2.2 and 5; on what to
leave out Bates, Kliegl, Vasishth and Baayen 2015, arXiv 1506.04967)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from hiermod.core.summary import Section
from hiermod.errors import ArgumentError, ArgumentTypeError, listing
from hiermod.fits.tables import corr_names
from hiermod.fits.vocabulary import Fit
from hiermod.formula.design import Block

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

NO_SD = (
    1e-4  # an sd of an effect at its column's root mean square, in residual sds, that counts as 0 (lme4's tolerance)
)
EXTREME = 0.999  # a correlation beyond this counts as -1 or 1
AT_BOUND = 1e-6  # of rho
FEW = 6  # levels below which a correlation can hardly be estimated


@dataclass(frozen=True)
class Boundary:
    """One thing at its boundary.  parameters: their names in ``fit.parameters()``."""

    kind: Literal["variance", "correlation", "combination"]
    parameters: tuple[str, ...]
    what: str  # a clause: "the variance of Intercept between levels of g is estimated as 0"
    meaning: str  # sentences
    remedy: str


def boundaries(fit: FrequentistFit) -> list[Boundary]:
    """What is at the boundary, in formula order; empty for a fit that is not singular."""
    if not fit.singular:
        return []
    record, found = fit.record, []
    rms, nulls = record.problem.rms, record.null_directions  # type: ignore[union-attr]
    for block, Lambda, scale, null in zip(fit.design.blocks, record.Lambda, rms, nulls, strict=True):  # type: ignore[union-attr]
        if null.shape[1]:
            found += _of_block(block, Lambda, scale, null)
    return found


def _of_block(block: Block, Lambda: np.ndarray, rms: np.ndarray, null: np.ndarray) -> list[Boundary]:
    scaled = rms[:, None] * Lambda
    sds = np.sqrt(np.square(scaled).sum(axis=1))
    zero = [a for a in range(block.size) if sds[a] < NO_SD]
    if not block.structure.free:
        return _of_structure(block, Lambda, zero)
    found = [_no_variance(block, a) for a in zero]
    if null.shape[1] == len(zero):
        return found
    rest = [a for a in range(block.size) if a not in zero]
    direction = np.linalg.svd(scaled[rest])[0][:, -1] * rms[rest]  # of the effects as typed: this sum has no variance
    correlation = (scaled @ scaled.T) / np.outer(np.where(sds > 0, sds, 1.0), np.where(sds > 0, sds, 1.0))
    pairs = [(i, j) for i in rest for j in rest if i < j and abs(correlation[i, j]) > EXTREME]
    names = dict(zip(block.pairs, corr_names(block), strict=True))
    if len(rest) > 2 and not pairs:
        return [*found, _no_spread(block, rest, direction)]
    return found + [_tied(block, i, j, float(correlation[i, j]), names[i, j], Lambda) for i, j in pairs]


def _of_structure(block: Block, Lambda: np.ndarray, zero: list[int]) -> list[Boundary]:
    """Parameters of the structure at a bound: standard deviations, then rho."""
    structure = block.structure
    if structure.hom and zero:
        what = f"the standard deviation of {block.term} between levels of {block.factor} is estimated as 0"
        meaning = (
            f"The levels of {block.factor} differ no more than chance differences of their rows would make them "
            "differ. Each gets the same coefficients, as if the term were not there."
        )
        remedy = f"Leave out {block.term}: nothing else changes. Keep it if the design calls for it, and say so."
        return [Boundary("variance", tuple(column.sd_name for column in block.columns), what, meaning, remedy)]
    found = [_no_variance(block, a) for a in zero]
    low, high = structure.bounds[-1]
    rho = float(structure.theta_of(Lambda)[-1])
    if (
        structure.n_parameters == structure.n_sds
        or block.size - len(zero) < 2
        or low + AT_BOUND < rho < high - AT_BOUND
    ):
        return found
    what = f"the correlation of {block.term} is estimated as {rho:+.2f}, its {'upper' if rho > 0 else 'lower'} bound"
    if rho > 0:
        meaning = (
            f"In the estimate a level's effects are all multiples of one number: the levels of {block.factor} differ "
            "in one way."
        )
        remedy = f"Write (1 | {block.factor}) if the effects are of one size; compare with hm.lrt."
    elif structure.name == "cs":
        meaning = (
            f"In the estimate the effects of a level, each over its standard deviation, add up to 0: the levels of "
            f"{block.factor} do not differ on average."
        )
        remedy = "A common effect of the level, (1 | g), cannot mend this: its variance would be negative. Try diag()."
    else:
        meaning = "In the estimate neighbouring effects of a level are opposite: often there is nothing to relate."
        remedy = "Try diag(), or a term of one intercept for each level; compare AIC."
    name = corr_names(block)[0]
    few = "" if len(block.levels) >= FEW else f" {block.factor} has only {len(block.levels)} levels."
    return [*found, Boundary("correlation", (name,), what, f"{meaning}{few}", remedy)]


def _no_variance(block: Block, a: int) -> Boundary:
    label, factor = block.labels[a], block.factor
    if label == "Intercept":
        meaning = (
            f"The levels of {factor} differ no more than chance differences of their rows would make them differ. Each "
            "gets the same intercept, as if the term were not there."
        )
    else:
        meaning = (
            f"The effect of {label} differs between levels of {factor} no more than chance would make it. Each level "
            "gets the same one, as if the term were not there."
        )
    meaning += (
        f" That is an estimate, not evidence that there is no difference: {_by_confint(block.columns[a].sd_name)}"
    )
    alone = block.term if block.size == 1 else f"{label} from {block.term}"
    remedy = (
        f"Leave out {alone}: likelihood, coefficients and their standard errors stay exactly what they are, with fewer "
        "parameters. Keep it if the design calls for it and say that its estimate is 0."
    )
    if block.size > 1:
        remedy = f"Leave out {alone}; its correlations go with it, and nothing else changes."
    what = f"the variance of {label} between levels of {factor} is estimated as 0"
    return Boundary("variance", (block.columns[a].sd_name,), what, meaning, remedy)


def _tied(block: Block, i: int, j: int, value: float, name: str, Lambda: np.ndarray) -> Boundary:
    one, two, factor, J = block.labels[i], block.labels[j], block.factor, len(block.levels)
    what = f"the correlation of {one} and {two} within {factor} is estimated as {value:+.2f}"
    meaning = f"In the estimate a level's {one} fixes its {two}: the levels of {factor} differ in one way, not two."
    if one == "Intercept" and block.columns[j].level is None:
        own = Lambda @ Lambda.T
        crossing = -own[i, j] / own[j, j]
        meaning += f" All their lines cross at {two} = {crossing:.3g}, where the levels do not differ at all."
    few = f", which is very few: {J} points hardly show a correlation" if J < FEW else ""
    meaning += f" {factor} has {J} levels{few}; {_by_confint(name)}"
    if J < FEW:
        meaning += " With so few levels its limits are narrower than they should be: such data give ±1 often by chance."
    simpler = f"({block.text.replace('|', '||', 1)})" if block.size == 2 else f"a term without {two}, or with || for |"
    centre = " (centre the predictor first: what || leaves out depends on where it is 0)" if one == "Intercept" else ""
    remedy = (
        f"Drop the correlation, {simpler}{centre}; or drop {two} from {block.term}, if hm.lrt shows that nothing is "
        "lost. Where the differing effects are the question, keep them and use the posterior."
    )
    return Boundary("correlation", (name,), what, meaning, remedy)


def _no_spread(block: Block, rest: list[int], direction: np.ndarray) -> Boundary:
    labels = [block.labels[a] for a in rest]
    weights = direction / direction[np.abs(direction).argmax()]
    kept = [(w, label) for w, label in zip(weights, labels, strict=True) if abs(w) > 1e-3]
    terms = [
        f"{'-' if w < 0 else '+'} {'' if abs(abs(w) - 1) < 5e-4 else f'{abs(w):.3g} '}{label}" for w, label in kept
    ]
    text = " ".join(terms).removeprefix("+ ")
    what = f"the combination {text} has no variance between levels of {block.factor}"
    meaning = (
        f"The {block.size} effects of {block.term} vary in fewer than {len(rest)} ways: given the others, a level's "
        f"{kept[-1][1]} is fixed. No single variance or correlation shows it."
    )
    sizes = {block.labels[a]: block.columns[a].sd_name for a in rest}
    remedy = (
        f"Drop correlations, ({block.text.replace('|', '||', 1)}), or the effect of least interest among "
        f"{listing(labels)}; hm.lrt compares."
    )
    return Boundary("combination", tuple(sizes.values()), what, meaning, remedy)


def _by_confint(name: str) -> str:
    return f"confint(parameters=['{name}']) shows which values the data leave open."


def sections(fit: FrequentistFit, posterior: Fit | None) -> list[Section]:
    """For ``check()``: one section for each thing at its boundary, then the numbers, a posterior's beside them."""
    found = boundaries(fit)
    parts = [
        Section(
            f"Boundary (singular) fit: {entry.what}.",
            f"What it means: {entry.meaning}\nWhat to try: {entry.remedy}",
        )
        for entry in found
    ]
    names = list(dict.fromkeys(name for entry in found for name in entry.parameters))
    if posterior is not None:
        parts.append(_beside(fit, posterior, names))
    elif found:
        parts.append(
            Section(
                "",
                "A prior keeps the Bayesian fit off the boundary: fit = m.fit() makes it, and check(posterior=fit) "
                "shows its posterior beside these estimates.",
            )
        )
    return parts


def _beside(fit: FrequentistFit, posterior: Fit, names: list[str]) -> Section:
    """Estimates at the boundary and their posteriors; all sds and correlations where none is at a boundary."""
    if not isinstance(posterior, Fit) or hasattr(posterior, "reml"):
        raise ArgumentTypeError(f"posterior must be what m.fit() returns, got {type(posterior).__name__}")
    if posterior.nobs != fit.nobs or not np.array_equal(posterior.design.y, fit.design.y):
        raise ArgumentError("posterior is a fit of other data: give m.fit() of the same model")
    theirs, mine = posterior.parameters(), fit.parameters()
    if not names:
        names = [name for name in mine.index if name not in fit.design.common and name != "sigma"]
    absent = [name for name in names if name not in theirs.index]
    if absent:
        raise ArgumentError(
            f"posterior is a fit of another model, {posterior.formula!r}: it has no {listing(absent)}. Give m.fit() of "
            f"{fit.formula!r}"
        )
    columns = {
        "REML" if fit.reml else "ML": mine.loc[names, "estimate"],
        "posterior mean": theirs.loc[names, "estimate"],
        "2.5 %": theirs.loc[names, "lower"],
        "97.5 %": theirs.loc[names, "upper"],
    }
    table = pd.DataFrame({head: [f"{value:.3g}" for value in values] for head, values in columns.items()}, index=names)
    note = (
        "The interval holds 95 % of the posterior. Where it is wide the data say little about\nthe parameter, and the "
        "prior much: fit again with priors= of another width to see how much."
    )
    return Section("The posterior of the same parameters:", table, note)
