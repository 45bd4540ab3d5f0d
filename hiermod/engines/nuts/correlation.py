"""Group effects on a PyMC graph, centred or not: LKJ correlation matrices built from partial correlations.

Lewandowski, Kurowicka and Joe (2009, J. Multivar. Anal. 100, 1989-2001), section 2.4: independent partial correlations
r = 2 u - 1, u ~ Beta(b, b), with b = eta + (k - 2 - j) / 2 in column j = 0, 1, ..., make a matrix with density
proportional to det(R)^(eta - 1).  Imports PyMC, so it is itself imported only when a graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermod.formula.design import Block

HELPER = "_offset"  # Bambi drops variables whose name ends so, and so does hiermod


@dataclass(frozen=True)
class Slot:
    """Where a column of a block lives: a variable of the graph, and the position in its vector (None: it is scalar)."""

    variable: str
    position: int | None
    mean: Any = 0.0  # the mu of its prior, when that is a number
    common: Any = 0.0  # what common predictors add, for all or per level, sampled with its effects where it is centred
    aliases: Mapping[str, str] = field(default_factory=dict)  # of its hyperparameters: "sigma" -> what it is called

    def pick(self, value: Any) -> Any:
        """This column's part of something with one entry per coefficient of the variable, or one for all."""
        return value if self.position is None or value.ndim == 0 else value[..., self.position]


@dataclass(frozen=True, eq=False)
class Correlated:
    """One block to be correlated, or centred: its slots in the order of its columns."""

    block: Block
    eta: float
    slots: tuple[Slot, ...]
    noncentered: bool
    common_sd: tuple[str, dict[str, Any]] | None = None  # the prior of the one sd of all columns, where there is one


def vine_shape(k: int, eta: float) -> np.ndarray:
    """The Beta parameter of each partial correlation, row after row below the diagonal: (k (k - 1) / 2,)."""
    return np.array([eta + (k - 2 - j) / 2 for i in range(k) for j in range(i)])


def cholesky_rows(u: Any, k: int) -> list[list[Any]]:
    """The Cholesky factor of the correlation matrix with partial correlations 2 u - 1, as scalars, row after row.

    ``u``: k (k - 1) / 2 numbers in (0, 1), row after row.  sqrt(1 - r^2) = 2 sqrt(u (1 - u)) keeps its digits near +-1.
    Scalars, not a matrix: the products fuse into the rest of the graph, which compiles in two thirds of the time."""
    partial, rest = 2 * u - 1, 2 * pt.sqrt(u * (1 - u))
    rows: list[list[Any]] = [[1.0]]
    for i in range(1, k):
        row: list[Any] = []
        left: Any = 1.0  # what earlier columns leave of the row's unit length
        for j in range(i):
            at = i * (i - 1) // 2 + j
            row.append(partial[at] * left)
            left = rest[at] * left
        rows.append([*row, left])
    return rows


def correlate(model: Any, work: list[Correlated]) -> Any:
    """A new PyMC model in which these blocks are correlated; Bambi's priors of the sds are kept.

    In a non-centred block ``<variable> = <variable>_offset * <variable>_sigma`` becomes rows of L z times the same sds,
    z being Bambi's offsets; in a centred one ``<variable>`` becomes a free variable with the density of L z times the
    sds, and its offsets, if Bambi made any, become constants.  A block of one column has L = 1."""
    replacements: dict[str, Any] = {}
    columns: dict[str, dict[int, Any]] = {}
    for one in work:
        factor = _correlation(model, one.block, one.eta) if one.block.size > 1 else [[1.0]]
        sd = None if one.common_sd is None else _common_sd(model, one, replacements)
        effects = _noncentered(model, one, factor, sd) if one.noncentered else _centered(model, one, factor, sd)
        for slot, effect in zip(one.slots, effects, strict=True):
            columns.setdefault(slot.variable, {})[-1 if slot.position is None else slot.position] = effect
            if not one.noncentered and slot.variable + HELPER in model.named_vars:
                offset = model[slot.variable + HELPER]
                replacements[offset.name] = np.zeros(tuple(offset.shape.eval()))
    replacements |= {variable: _gathered(parts) for variable, parts in columns.items()}
    return pm.do(model, replacements) if replacements else model


def _correlation(model: Any, block: Block, eta: float) -> list[list[Any]]:
    """Adds the partial correlations and ``<corr_name>``, a (k, k) matrix labelled by the block's terms; returns L."""
    name, k = block.corr_name, block.size
    if not block.structure.free:
        return _structured(model, block, eta)
    dims = (f"{name}_dim_0", f"{name}_dim_1")
    with model:
        model.add_coords({dim: list(block.labels) for dim in dims})  # without coords Bambi's clean-up drops the matrix
        b = vine_shape(k, eta)
        u = pm.Beta(f"{name}_partial{HELPER}", alpha=b, beta=b, shape=len(b))
        rows = cholesky_rows(u, k)
        matrix = [[pt.as_tensor(1.0)] * k for _ in range(k)]
        for i in range(k):
            for j in range(i):
                dot = sum((rows[i][m] * rows[j][m] for m in range(1, j + 1)), rows[i][0] * rows[j][0])
                matrix[i][j] = matrix[j][i] = dot
        pm.Deterministic(name, pt.stack([pt.stack(row) for row in matrix]), dims=dims)
    return rows


def _structured(model: Any, block: Block, eta: float) -> list[list[Any]]:
    """The same for a structure with one correlation, Beta(eta, eta) over its range; L of one without is constant."""
    name, k, structure = block.corr_name, block.size, block.structure
    if not block.pairs:
        return structure.root_rows(None, pt.sqrt)
    dims = (f"{name}_dim_0", f"{name}_dim_1")
    with model:
        model.add_coords({dim: list(block.labels) for dim in dims})
        share = pm.Beta(f"{name}_partial{HELPER}", alpha=eta, beta=eta)
        matrix = [[pt.as_tensor(1.0)] * k for _ in range(k)]
        for i, j in block.pairs:
            matrix[i][j] = matrix[j][i] = structure.correlation_entry(share, i, j)
        pm.Deterministic(name, pt.stack([pt.stack(row) for row in matrix]), dims=dims)
    return structure.root_rows(share, pt.sqrt)


def _common_sd(model: Any, one: Correlated, replacements: dict[str, Any]) -> Any:
    """Adds the sd that all columns share; Bambi's sds become copies of it."""
    name, args = one.common_sd  # type: ignore[misc]
    with model:
        sd = getattr(pm, name)(f"{one.block.factor}_{one.block.bar}_common{HELPER}", **args)
    for slot in one.slots:
        label = f"{slot.variable}_{slot.aliases.get('sigma', 'sigma')}"
        replacements[label] = np.ones(tuple(model[label].shape.eval())) * sd  # not of itself: it would stay free
    return sd


def _parameter(model: Any, slot: Slot, kind: str, otherwise: Any = None) -> Any:
    found = model.named_vars.get(f"{slot.variable}_{slot.aliases.get(kind, kind)}")
    return slot.pick(pt.as_tensor(otherwise) if found is None else found)


def _noncentered(model: Any, one: Correlated, rows: list[list[Any]], sd: Any = None) -> list[Any]:
    """The block's effects, one (J,) per column: mu_i + sigma_i (L z)_i."""
    z = [slot.pick(model[slot.variable + HELPER]) for slot in one.slots]
    effects = []
    for slot, row in zip(one.slots, rows, strict=True):
        mixed = sum((weight * value for weight, value in zip(row[1:], z[1:], strict=False)), row[0] * z[0])
        # Bambi forgets mu of a non-centred Normal prior (its issue 1003), so it is added here
        sigma = _parameter(model, slot, "sigma") if sd is None else sd
        effects.append(_parameter(model, slot, "mu", slot.mean) + mixed * sigma)
    return effects


def _centered(model: Any, one: Correlated, rows: list[list[Any]], sd: Any = None) -> list[Any]:
    """The block's effects, one free (J,) per column: Normal given the columns before it, so that no matrix is solved.

    (b_i - mu_i) / sigma_i = (L z)_i, and so b_i given z_1 .. z_(i-1) is Normal(mu_i + sigma_i sum L_ij z_j, sigma_i
    L_ii), where z_i = ((b_i - mu_i) / sigma_i - sum L_ij z_j) / L_ii.  What is sampled is b_i plus what
    the common predictors add to each level: hierarchical centring (centred_sums.py)."""
    effects: list[Any] = []
    z: list[Any] = []
    for i, (slot, row) in enumerate(zip(one.slots, rows, strict=True)):
        sigma, mean = _parameter(model, slot, "sigma") if sd is None else sd, _parameter(model, slot, "mu", slot.mean)
        mixed = sum((weight * value for weight, value in zip(row[1:i], z[1:], strict=False)), row[0] * z[0]) if i else 0
        where = "" if slot.position is None else f"_{slot.position}"
        name = f"{slot.variable}{where}_centred{HELPER}"
        with model:
            mu = slot.common + mean + sigma * mixed
            whole = pm.Normal(name, mu=mu, sigma=sigma * row[i], shape=len(one.block.levels))
        effects.append(whole - slot.common)  # an expression also where it is 0: pm.do would rename the variable
        if i + 1 < len(rows):
            z.append(((whole - slot.common - mean) / sigma - mixed) / row[i])
    return effects


def _gathered(parts: dict[int, Any]) -> Any:
    """Effects (J,) as Bambi's variable: (J,) for a scalar one, (J, e) for a vector of e coefficients."""
    return parts[-1] if -1 in parts else pt.stack([parts[i] for i in sorted(parts)], axis=1)
