"""The equations of a further parameter's formula, such as log sigma: coefficients delta, group effects s.

As the level of row i on one line, whatever the depth of the model, since the effects enter on the parameter's scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hiermod.families.family import Parameter
from hiermod.formula.design import Block, Design
from hiermod.output.equations.covariance_matrix import covariance_matrix, spreads
from hiermod.output.equations.equation_notation import Latex, Text

COEFFICIENT, EFFECT, SPREAD, CORRELATION = "delta", "s", "tau", "rho"


def parameter_lines(
    parameter: Parameter,
    part: Design,
    notation: Text,
    row: str,
    index: Callable[[str], str],
    known: Callable[[str, str], str],
) -> Iterator[str]:
    """The linear predictor of a parameter of the response, then the law of its group effects.

    row: the index of a row; index: of a row's level of a factor; known: records which symbol is which parameter."""
    name, symbol = parameter.name, parameter.written
    n, letter = notation, notation.symbol(symbol)
    between = " " if isinstance(notation, Latex) else ""
    factors = list(part.ngroups)

    def sub(q: str, factor: str = "") -> str:
        mark = str(factors.index(factor)) + between if len(factors) > 1 and factor else ""
        return f"{letter}{between}{mark}{q}"

    labels = [label.removeprefix(f"{name}_") for label in part.common]
    labels += [
        label
        for label in dict.fromkeys(one.removeprefix(f"{name}_") for block in part.blocks for one in block.labels)
        if label not in labels
    ]
    number = {label: str(q) for q, label in enumerate(labels)}

    def times(coefficient: str, label: str) -> str:
        return coefficient if label == "Intercept" else n.product(coefficient, n.variable(label, row))

    terms = []
    for label, coefficient in zip(labels, part.common, strict=False):
        terms.append(times(known(n.symbol(COEFFICIENT, sub(number[label])), coefficient), label))
    effects = {block: _effects(block, name, n, number, sub, index(block.factor)) for block in part.blocks}
    for block, symbols in effects.items():
        terms += [times(one, label.removeprefix(f"{name}_")) for one, label in zip(symbols, block.labels, strict=True)]
    if part.offset is not None:
        terms.append(n.variable("offset", row))
    yield f"{n.link(parameter.link, n.symbol(symbol, row))}{n.equals}{n.plus.join(terms)}"
    for block, symbols in effects.items():
        at = [number[label.removeprefix(f"{name}_")] for label in block.labels]
        sds = spreads(block, at, lambda q: n.symbol(SPREAD, sub(q, block.factor)), known)  # noqa: B023
        if block.size == 1:
            yield f"{symbols[0]}{n.distributed}{n.call('Normal', '0', n.squared(sds[0]))}"
            continue
        factor = block.factor
        entries = covariance_matrix(block, sds, at, lambda q: n.symbol(CORRELATION, sub(q, factor)), known, n)  # noqa: B023
        yield f"{n.vector(symbols)}{n.distributed}{n.call('Normal', '0', n.matrix(entries))}"


def _effects(
    block: Block, name: str, n: Text, number: dict[str, str], sub: Callable[..., str], index: str
) -> list[str]:
    return [
        n.symbol(EFFECT, sub(number[label.removeprefix(f"{name}_")], block.factor) + index) for label in block.labels
    ]
