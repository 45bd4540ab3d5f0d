"""The designs of further parameters of the response (sigma, psi, ...) that have a formula: on the same rows."""

from __future__ import annotations

from dataclasses import replace

from hiermod.core.answers import remembered
from hiermod.errors import ArgumentError
from hiermod.formula.build import build_design
from hiermod.formula.design import Block, Column, Design


@remembered
def parts_of(design: Design) -> dict[str, Design]:
    """Parameter -> its Design on the rows of ``design``, labels and Bambi's names prefixed by the parameter's; usually
    none."""
    found = {}
    for name, text in design.formulas.items():
        part = build_design(
            f"{design.response} ~ {text}", design.frame, extra_namespace=design.evaluator.extra_namespace
        )
        found[name] = replace(
            part,
            common=tuple(f"{name}_{label}" for label in part.common),
            common_terms=tuple(f"{name}_{term}" for term in part.common_terms),
            blocks=tuple(_prefixed(block, name) for block in part.blocks),
        )
    clash = {label for part in found.values() for label in part.common_terms} & set(design.common_terms)
    if clash:
        name = sorted(clash)[0]
        raise ArgumentError(
            f"the coefficient {name!r} of the formula has the name of one of parameters=: rename the column {name!r}"
        )
    return found


def _prefixed(block: Block, name: str) -> Block:
    columns = tuple(Column(f"{name}_{c.label}", f"{name}_{c.variable}", c.level) for c in block.columns)
    return replace(block, columns=columns, corr_name=f"{name}_{block.corr_name}" if block.corr_name else "")
