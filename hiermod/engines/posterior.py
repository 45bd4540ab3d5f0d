"""What every Bayesian engine returns: draws as arrays in the Design's order, and how they came about.

Arrays have (chain, draw) first.  R-hat and ESS: Vehtari et al. (2021, Bayesian Analysis 16(2), 667-718)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.engines.marginal.coordinates import Coordinates
from hiermod.engines.marginal.on_demand import LARGEST, EffectsOnDemand
from hiermod.errors import FitError
from hiermod.formula.design import Block, Design, FrozenArrays
from hiermod.formula.parts import parts_of
from hiermod.kernel.batch import NUMBERS

ALL = slice(None)
MAX_R_HAT = 1.01  # Vehtari et al. (2021), and what Stan and ArviZ advise
MIN_ESS = 400.0  # the same source: 100 per chain with the usual four


@dataclass(frozen=True)
class Inference:
    """How a posterior was computed, and whether it can be trusted, in numbers and in words."""

    method: str  # "nutpie", "pymc", "numpyro", "blackjax"
    reason: str  # why this method
    seconds: float  # wall time, compilation included
    draws: int  # kept, per chain
    tune: int
    chains: int
    seed: int  # the one used, also where none was given
    divergences: int
    max_r_hat: float  # over all parameters and group effects; nan with too few draws
    min_ess_bulk: float
    min_ess_tail: float
    messages: tuple[str, ...] = ()  # what deserves attention, one sentence or two each; empty when all is well
    k_hat: float = float("nan")  # Pareto k-hat of the marginal engine's proposals; nan for other engines
    importance_efficiency: float = float("nan")  # their importance effective sample size, as a share
    proposals: int = 0  # evaluations of the marginal density by the chains
    group_effects: str = ""  # NUTS on the graph: which group effects were sampled centred, and why

    @property
    def ok(self) -> bool:
        """No divergent transition, every R-hat at most 1.01 and every ESS at least 400."""
        return (
            self.divergences == 0
            and self.max_r_hat <= MAX_R_HAT
            and min(self.min_ess_bulk, self.min_ess_tail) >= MIN_ESS
        )


class GroupEffects:
    """How the records below hand out draws of group effects, which may not have been made yet."""

    beta: np.ndarray
    effects: tuple[np.ndarray | EffectsOnDemand, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(chains, draws)."""
        return self.beta.shape[0], self.beta.shape[1]

    @property
    def b(self) -> tuple[np.ndarray, ...]:
        """Per block all draws, (c, d, J, k)."""
        return tuple(self.effects_of(i).reshape(one.shape) for i, one in enumerate(self.effects))

    def effects_of(self, i: int, levels: Any = ALL, draws: Any = ALL) -> np.ndarray:
        """Draws of some levels of block i, (draws, levels, k), chain after chain."""
        held = self.effects[i]
        if isinstance(held, EffectsOnDemand):
            return held.draws(levels, draws)
        return flat_draws(held)[draws][:, levels]

    def effect_moments(self, i: int, levels: Any = ALL) -> tuple[np.ndarray, np.ndarray | float]:
        """(draws, levels, k) means and variances of the laws that mix to the posterior: draws that are there, and 0."""
        held = self.effects[i]
        if isinstance(held, EffectsOnDemand):
            return held.moments(levels)
        return self.effects_of(i, levels), 0.0

    def level_parts(self, i: int) -> list[slice]:
        """The levels of block i in parts to ask for one after the other, so that what is computed of them is small."""
        held = self.effects[i]
        if isinstance(held, EffectsOnDemand):
            return held.factor.parts(held.shape[2])
        chains, draws, J, k = held.shape
        step = max(1, NUMBERS // (4 * chains * draws * k))
        return [slice(start, min(start + step, J)) for start in range(0, J, step)]

    def waits(self, i: int) -> bool:
        """Whether the effects of block i are drawn when asked for."""
        return isinstance(self.effects[i], EffectsOnDemand)


@dataclass(frozen=True, eq=False)
class Posterior(GroupEffects, FrozenArrays):
    """Draws of every parameter.  c chains, d draws, p common columns, J levels and k columns per block."""

    beta: np.ndarray  # (c, d, p) in the order of Design.common; nan for a column the graph has not
    effects: tuple[np.ndarray | EffectsOnDemand, ...]  # per block (c, d, J, k)
    sd: tuple[np.ndarray, ...]  # per block (c, d, k)
    corr: tuple[np.ndarray | None, ...]  # per block (c, d, k, k); None when k == 1
    sigma: np.ndarray | None  # (c, d); None when the residual sds are known, or the family has no sigma
    auxiliary: dict[str, np.ndarray]  # the family's other parameters (c, d, ...): alpha, nu, kappa, threshold
    inference: Inference
    idata: Any  # arviz.InferenceData or xarray.DataTree with Bambi's variable names; None: not yet built (idata.py)
    stats: dict[str, np.ndarray] = field(default_factory=dict)  # sample_stats of the marginal engine, (c, d) each
    parts: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # per parameter with a formula: its beta, effects, sd, corr
    unconstrained: np.ndarray | None = None  # (c, d, number of Coordinates.d) of the marginal engine, which drew them

    def unconstrained_draws(self, coordinates: Coordinates) -> np.ndarray:
        """(c, d, coordinates.d): those that were drawn, else (NUTS on the graph, files of old) from sds and corr."""
        if self.unconstrained is not None:
            return self.unconstrained
        if not coordinates.d:
            return np.zeros((*self.shape, 0))
        return coordinates.unconstrained(self.sd, self.corr, self.sigma)

    def drawn(self) -> Posterior:
        """With all effects drawn, for work that goes through them many times; itself where that would not fit."""
        waiting = [one for one in self.effects if isinstance(one, EffectsOnDemand)]
        if not waiting or 8.0 * sum(np.prod(one.shape) for one in waiting) > LARGEST:
            return self
        return replace(self, effects=self.b)


@dataclass(frozen=True, eq=False)
class Draws(GroupEffects):
    """The arrays of a Posterior before it is known how good they are."""

    beta: np.ndarray
    effects: tuple[np.ndarray | EffectsOnDemand, ...]
    sd: tuple[np.ndarray, ...]
    corr: tuple[np.ndarray | None, ...]
    sigma: np.ndarray | None
    auxiliary: dict[str, np.ndarray]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)


def flat_draws(draws: np.ndarray) -> np.ndarray:
    """(chain, draw, ...) as (chain * draw, ...), also where nothing is drawn: no common coefficients."""
    return draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])


def part_of(draws: Draws | Posterior, name: str) -> Draws:
    """The coefficients and group effects of one further parameter (parts_of its design) as Draws of their own."""
    return Draws(**draws.parts[name], sigma=None, auxiliary={})


def extract(dataset: Any, design: Design, auxiliary: dict[str, Any]) -> Draws:
    """Draws from a posterior Dataset with Bambi's names.

    ``auxiliary``: the response's own parameters -> None when they were sampled, or the number they are fixed at.
    Raises FitError when the labels of the Dataset are not the Design's."""
    shape = (dataset.sizes["chain"], dataset.sizes["draw"])
    values = {}
    for name, fixed in auxiliary.items():
        values[name] = _array(dataset, name) if fixed is None else np.full(shape, float(fixed))
    sigma = values.pop("sigma", None)
    return Draws(
        **_coefficients(dataset, design, shape),
        sigma=sigma,
        auxiliary=values,
        parts={name: _coefficients(dataset, part, shape) for name, part in parts_of(design).items()},
    )


def _coefficients(dataset: Any, design: Design, shape: tuple[int, int]) -> dict[str, Any]:
    """beta, effects, sd and corr of one linear predictor."""
    return {
        "beta": _beta(dataset, design, shape),
        "effects": tuple(_effects(dataset, block) for block in design.blocks),
        "sd": tuple(_sds(dataset, block, shape) for block in design.blocks),
        "corr": tuple(_array(dataset, block.corr_name) if block.pairs else None for block in design.blocks),
    }


def _array(dataset: Any, name: str) -> np.ndarray:
    """A variable as floats with (chain, draw) first."""
    return np.asarray(dataset[name].transpose("chain", "draw", ...).values, dtype=float)


def _beta(dataset: Any, design: Design, shape: tuple[int, int]) -> np.ndarray:
    out = np.full((*shape, len(design.common)), np.nan)
    for term in dict.fromkeys(design.common_terms):
        columns = [i for i, owner in enumerate(design.common_terms) if owner == term]
        if term not in dataset:
            continue
        draws = _array(dataset, term).reshape(*shape, -1)
        if draws.shape[-1] != len(columns):
            raise FitError(f"the graph has {draws.shape[-1]} coefficients for {term!r}, the formula {len(columns)}")
        levels = dataset.coords[f"{term}_dim"].values if f"{term}_dim" in dataset.coords else ()
        found = [f"{term}[{level}]" for level in levels]
        labels = [design.common[i] for i in columns]
        if set(found) == set(labels):  # by name where both have names; else both keep formulae's order
            draws = draws[..., [found.index(label) for label in labels]]
        out[..., columns] = draws
    return out


def _vector_position(array: Any, level: str | None) -> Any:
    """The part of a group variable that belongs to one column of the block, without its expression dim."""
    dim = next((str(dim) for dim in array.dims if str(dim).endswith("__expr_dim")), None)
    if dim is None:
        return array
    levels = [str(one) for one in array.coords[dim].values]
    return array.isel({dim: 0 if level is None else levels.index(level)})


def _effects(dataset: Any, block: Block) -> np.ndarray:
    columns = []
    for column in block.columns:
        array = _vector_position(dataset[column.variable], column.level)
        dim = next(str(dim) for dim in array.dims if str(dim).endswith("__factor_dim"))
        place = {str(level): i for i, level in enumerate(array.coords[dim].values)}
        if len(place) != len(block.levels) or any(level not in place for level in block.levels):
            raise FitError(f"the graph and the formula disagree on the levels of {block.factor!r}")
        order = [place[level] for level in block.levels]
        columns.append(np.asarray(array.transpose("chain", "draw", dim).values, dtype=float)[..., order])
    return np.stack(columns, axis=-1)


def _sds(dataset: Any, block: Block, shape: tuple[int, int]) -> np.ndarray:
    columns = []
    for column in block.columns:
        name = f"{column.variable}_sigma"
        if name not in dataset:  # a group prior of another shape, such as a Laplace
            columns.append(np.full(shape, np.nan))
            continue
        columns.append(np.asarray(_vector_position(dataset[name], column.level).values, dtype=float))
    return np.stack(columns, axis=-1)


def labelled(draws: Draws | Posterior, design: Design, effects: bool = True) -> list[tuple[str, np.ndarray]]:
    """Every scalar parameter with its name in tables, (c, d) each: what R-hat and ESS are computed for.

    effects: group effects too (not needed where they were drawn exactly given the rest)."""
    out = [(name, draws.beta[..., i]) for i, name in enumerate(design.common)]
    if draws.sigma is not None:
        out.append(("sigma", draws.sigma))
    for name, values in draws.auxiliary.items():
        flat = values.reshape(*values.shape[:2], -1)
        out += [(name if flat.shape[-1] == 1 else f"{name}[{i}]", flat[..., i]) for i in range(flat.shape[-1])]
    for number, (block, sd, corr) in enumerate(zip(design.blocks, draws.sd, draws.corr, strict=True)):
        out += [(column.sd_name, sd[..., i]) for i, column in enumerate(block.columns)]
        if corr is not None:
            for i in range(block.size):
                for j in range(i):
                    out.append((f"{block.corr_name}[{block.labels[j]},{block.labels[i]}]", corr[..., j, i]))
        if not effects:
            continue
        b = draws.effects_of(number).reshape(*draws.shape, len(block.levels), block.size)
        for i, column in enumerate(block.columns):
            where = "" if column.level is None else f"{column.level},"
            out += [(f"{column.variable}[{where}{level}]", b[..., j, i]) for j, level in enumerate(block.levels)]
    for name, part in parts_of(design).items():
        out += labelled(part_of(draws, name), part, effects)
    return out


def pooled(draws: np.ndarray) -> np.ndarray:
    """The draws (c, d, ...) of all chains, (c d, ...), of no parameter too."""
    return draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])


def assess(
    draws: Draws, design: Design, divergences: int, effects: bool = True, worst: int | None = None
) -> tuple[float, float, float, tuple[str, ...]]:
    """max R-hat, min bulk ESS, min tail ESS over all parameters, and what they mean in words.

    worst: of the group effects look only at those that two quick measures rank last, so many by each; None: at all."""
    named = labelled(draws, design, effects)
    if worst is not None and effects:
        parameters = labelled(draws, design, effects=False)
        others = {name for name, _ in parameters}
        named = [*parameters, *_slowest([one for one in named if one[0] not in others], worst)]
    names, arrays = zip(*named, strict=True)
    stacked = np.stack(arrays, axis=-1)
    r_hat, bulk, tail = versions.r_hat(stacked), versions.ess_bulk(stacked), versions.ess_tail(stacked)
    chains, kept = stacked.shape[:2]
    words = []
    if divergences:
        words.append(
            f"{divergences} of {chains * kept} transitions diverged: parts of the posterior could not be explored, so "
            "estimates may be biased. Raise target_accept (0.95 or 0.99), or give the group sds tighter priors."
        )
    worst = _largest(r_hat)
    if worst is not None and r_hat[worst] > MAX_R_HAT:
        words.append(
            f"{int((r_hat > MAX_R_HAT).sum())} of {len(names)} parameters have R-hat above {MAX_R_HAT} (worst: "
            f"{names[worst]}, {r_hat[worst]:.3f}): the chains disagree. Run longer (tune=, draws=)."
        )
    if chains < 2:
        words.append("With one chain, R-hat cannot see chains that disagree. Run four.")
    lowest = _largest(-np.minimum(bulk, tail))
    if lowest is not None and min(bulk[lowest], tail[lowest]) < MIN_ESS:
        words.append(
            f"The smallest effective sample size is {min(bulk[lowest], tail[lowest]):.0f} ({names[lowest]}), below "
            f"{MIN_ESS:.0f}: means and interval ends are noisy. Take more draws."
        )
    return _edge(r_hat, np.max), _edge(bulk, np.min), _edge(tail, np.min), tuple(words)


BATCHES = 8  # of each chain


def _slowest(named: list[tuple[str, np.ndarray]], worst: int) -> list[tuple[str, np.ndarray]]:
    """Those whose means, and those whose squares' means, differ most between batches, beside what independent draws'
    would: effective sample sizes by batch means, which need no sort (Flegal and Jones 2010, Ann. Stat. 38, 1034)."""
    if len(named) <= 2 * worst:
        return named
    chains, kept = named[0][1].shape
    length = max(kept // BATCHES, 1)
    found = np.empty((2, len(named)))
    for i, (_, values) in enumerate(named):
        away = values - values.mean()
        for k, one in enumerate((away, np.square(away))):
            means = one[:, : kept // length * length].reshape(chains, -1, length).mean(axis=2)
            spread = one.var()
            found[k, i] = means.var() / spread if spread > 0.0 else 0.0
    chosen = np.unique(np.argsort(-found, axis=1, kind="stable")[:, :worst])
    return [named[i] for i in chosen]


def _largest(values: np.ndarray) -> int | None:
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def _edge(values: np.ndarray, pick: Any) -> float:
    kept = values[~np.isnan(values)]
    return float(pick(kept)) if kept.size else float("nan")
