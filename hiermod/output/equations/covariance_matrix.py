"""The covariance matrix of a block's effects in symbols, with as many symbols as its structure has parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hiermod.formula.design import Block
from hiermod.output.equations.equation_notation import Text

# Of matrices too large to be written out, by structure and whether it has one standard deviation.
TOLD = {
    ("us", False): "{k} standard deviations and their correlations",
    ("diag", True): "one standard deviation for {k} independent effects",
    ("cs", False): "{k} standard deviations, every two effects with the correlation ρ",
    ("cs", True): "one standard deviation, every two of {k} effects with the correlation ρ",
    ("ar1", False): "{k} standard deviations, effects d columns apart with the correlation ρ to the power d",
    ("ar1", True): "one standard deviation, of {k} effects those d columns apart with the correlation ρ to the power d",
}


def spreads(
    block: Block, indices: Sequence[str], symbol: Callable[[str], str], known: Callable[[str, str], str]
) -> list[str]:
    """(k,) the symbol of each column's standard deviation, one for all where the structure has one.

    symbol: of an index; known: records which symbol is which parameter and returns it."""
    columns = zip(indices, block.columns, strict=True)
    if block.structure.hom:
        return [known(symbol(indices[0]), block.columns[0].sd_name)] * block.size
    return [known(symbol(index), column.sd_name) for index, column in columns]


def covariance_matrix(
    block: Block,
    sds: Sequence[str],
    indices: Sequence[str],
    symbol: Callable[[str], str],
    known: Callable[[str, str], str],
    n: Text,
) -> list[list[str]]:
    """(k, k) entries: tau^2 on the diagonal; rho tau tau beside it, rho to the power of the distance for ar1."""
    k, name = block.size, block.structure.name
    entries = [[n.squared(sd) if i == j else "0" for j in range(k)] for i, sd in enumerate(sds)]
    for i, j in block.pairs:
        first = (0, 1) if name != "us" else (i, j)  # one rho for all pairs, or one for each
        one, two = (block.labels[a] for a in first)
        rho = known(symbol(indices[first[0]] + indices[first[1]]), f"{block.corr_name}[{one},{two}]")
        factor = n.power(rho, j - i) if name == "ar1" else rho
        spread = [n.squared(sds[0])] if block.structure.hom else [sds[i], sds[j]]
        entries[i][j] = entries[j][i] = n.product(factor, *spread)
    return entries
