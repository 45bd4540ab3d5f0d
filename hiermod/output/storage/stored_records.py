"""Which parts of a fit a file keeps, and how the rest is made again on reading: cross-products, evaluator, likelihood.

Estimates, draws and the design's arrays are read back as they were; what is made again is checked against them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.likelihoods import likelihood_of
from hiermod.engines.likelihood.mixed import MixedFit, problem_of
from hiermod.engines.marginal.on_demand import EffectsOnDemand
from hiermod.engines.posterior import Draws, Posterior, extract
from hiermod.errors import ArgumentTypeError, FileError, HiermodError, UnknownNameError, listing
from hiermod.formula.bambi_text import check_for_bambi
from hiermod.formula.design import Design
from hiermod.formula.evaluate import Evaluator
from hiermod.formula.support import category_values
from hiermod.kernel.conditioning import GroupTerm
from hiermod.kernel.weighted import prepare
from hiermod.output.storage.stored_values import RENAMED, storable

DRAWS = tuple(Draws.__dataclass_fields__)  # the arrays of a Posterior
MADE_AGAIN: dict[str, Any] = {"design": None, "problem": None, "likelihood": None}


def instead_of(design: Design, draws: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the file holds in the place of what it cannot hold, or has elsewhere; ``draws``: of the Posterior."""
    state = design.evaluator.__getstate__() | {"frame": None}
    own = state.pop("extra_namespace")
    state["extra_namespace"] = {name: value for name, value in own.items() if storable(value)}
    state["needed"] = [name for name in own if name not in state["extra_namespace"] and _mentions(design, name)]
    records = ("MixedFit", "LinearFit", "GeneralisedMixedFit", "GeneralisedLinearFit")
    return {"Design": {"evaluator": state}, "Posterior": {"idata": None, **draws}} | {
        name: MADE_AGAIN for name in records
    }


def _mentions(design: Design, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", design.formula) is not None


def read_design(given: Mapping[str, Any] | None, **fields: Any) -> Design:
    """The design, its evaluator made again from formula and data.  given: names for the formula, from the reader.

    UnknownNameError for functions that the file could not hold; FileError where the columns come out otherwise."""
    state = dict(fields.pop("evaluator"))
    needed = [name for name in state.pop("needed") if name not in (given or {})]
    if needed:
        entries = ", ".join(f"{name!r}: ..." for name in needed)
        raise UnknownNameError(
            f"the formula {fields['formula']!r} uses {listing(needed)}, of the author's own, and a file holds no code: "
            f"load it with extra_namespace={{{entries}}}, functions that may be called with whatever the file says"
        )
    if len(fields["frame"]) != len(fields["y"]):
        raise FileError(f"its data have {len(fields['frame'])} rows, its response {len(fields['y'])}")
    state |= {"frame": fields["frame"], "extra_namespace": state["extra_namespace"] | dict(given or {})}
    codes = np.arange(len(fields.get("categories") or ()))
    if len(codes) and np.array_equal(np.unique(fields["y"]), codes):  # files of earlier versions: codes from 0
        fields["y"] = category_values(fields["categories"])[np.asarray(fields["y"], dtype=int)]
    evaluator = Evaluator.__new__(Evaluator)
    try:
        evaluator.__setstate__(state)
        design = Design(**fields, evaluator=evaluator)
        check_for_bambi(design.bambi_formula, design.frame.columns, evaluator.extra_namespace)
        same = _same_columns(design)
    except HiermodError as error:
        raise FileError(f"its formula {fields['formula']!r} cannot be evaluated again: {error}") from error
    if not same:
        raise FileError(
            f"evaluated again, the formula {fields['formula']!r} gives other columns than those of the fit: a function "
            "in extra_namespace, or one of the packages behind formulas, does something else than when it was saved"
        )
    return design


def _same_columns(design: Design) -> bool:
    """The evaluator gives the design's own X and left sides; rounding apart, which differs between machines."""
    terms = [term for term in design.evaluator.common_terms() if not term.is_offset]
    X = np.hstack([np.empty((design.nobs, 0)), *(term.values for term in terms)])
    pairs = [(design.X, X)]
    for block in design.blocks:
        left = np.hstack([term.values for term in design.evaluator.left_terms(block.bar)])
        pairs.append((block.values, left[:, list(block.positions)]))
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-7, atol=1e-9 * (1 + np.abs(a).max(initial=0.0)))
               for a, b in pairs)  # fmt: skip


def makers(design_of: Callable[[], Design], family: str, link: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """How records are made from their fields in the file."""

    def mixed(**fields: Any) -> MixedFit:
        return MixedFit(**fields | {"design": design_of(), "problem": problem_of(design_of())})

    def linear(**fields: Any) -> LinearFit:
        return LinearFit(**fields | {"design": design_of()})

    def generalised_mixed(**fields: Any) -> GeneralisedMixedFit:
        design = design_of()
        likelihood = likelihood_of(design, family, link).at(fields.get("auxiliary", ()))
        terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
        rows = prepare(design.X[:, design.estimable], terms)
        problem = replace(rows.reweighted(likelihood.derivatives(fields["eta"]).weight), sigma_known=True)
        return GeneralisedMixedFit(**fields | {"design": design, "likelihood": likelihood, "problem": problem})

    def generalised_linear(**fields: Any) -> GeneralisedLinearFit:
        design = design_of()
        likelihood = likelihood_of(design, family, link).at(fields.get("auxiliary", ()))
        return GeneralisedLinearFit(**fields | {"design": design, "likelihood": likelihood})

    def posterior(**fields: Any) -> Posterior:
        """Parts are plain dicts, whose entries had other names too."""
        for entries in (fields.get("parts") or {}).values():
            for old in [key for key in entries if ("Posterior", key) in RENAMED]:
                entries[RENAMED["Posterior", old]] = entries.pop(old)
        waiting = [one for one in fields["effects"] or () if isinstance(one, EffectsOnDemand)]
        if len(waiting) > 1:  # blocks of one factor: the file has it once for each
            one = waiting[0].factor
            fields["effects"] = tuple(replace(e, factor=one) if e in waiting else e for e in fields["effects"])
        return Posterior(**fields)

    return {
        "Posterior": posterior,
        "Design": partial(read_design, given),
        "MixedFit": mixed,
        "LinearFit": linear,
        "GeneralisedMixedFit": generalised_mixed,
        "GeneralisedLinearFit": generalised_linear,
    }


# --- draws: once in the file, under Bambi's names where that loses nothing ---------------------------------------


def draws_in(dataset: Any, record: Posterior, design: Design) -> dict[str, Any] | None:
    """How to take the record's arrays from the posterior Dataset; None where they would not be the same bits."""
    names = [*record.auxiliary, *(["sigma"] if record.sigma is not None else [])]
    how: dict[str, float | None] = {}
    for name in names:
        array = record.sigma if name == "sigma" else record.auxiliary[name]
        if name in dataset:
            how[name] = None
        elif array is not None and np.ptp(array) == 0:
            how[name] = float(array.ravel()[0])
        else:
            return None
    try:
        found = extract(dataset, design, how)
    except (HiermodError, KeyError, ValueError, IndexError):
        return None  # a posterior whose shape is not Bambi's: its arrays go into the file as they are
    return how if all(_same(getattr(found, name), getattr(record, name)) for name in DRAWS) else None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_same(one, other) for one, other in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[name], b[name]) for name in a)
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


def check_namespace(given: Any) -> Mapping[str, Any] | None:
    """ArgumentTypeError unless it is a dict or None."""
    if given is not None and not isinstance(given, Mapping):
        raise ArgumentTypeError(f"extra_namespace must be a dict of names for the formula, got {type(given).__name__}")
    return given
