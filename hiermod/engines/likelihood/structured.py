"""Where a criterion of structured covariances is searched: each block's own coordinates, and the chain rule to Lambda.

The kernel's criterion is a function of every element of the whitened Lambdas, with its gradient.  A block of free
covariance is searched over those elements; a structured one (covariance/) over its search coordinates, in units that
make every column's root mean square 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hiermod.covariance.structure import CovarianceStructure
from hiermod.engines.likelihood.other_minima import SPAN, spread_points
from hiermod.formula.design import Design
from hiermod.kernel.covariance import Template
from hiermod.kernel.criterion import Problem
from hiermod.kernel.topograph import even_points

UNIT = 0.1  # as in other_minima: distances are linear below, logarithmic above
LARGEST = SPAN[1]


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """Coordinates s (d,), blocks in formula order, for the blocks' whitened Lambdas, x (n_theta,)."""

    problem: Problem
    structures: tuple[CovarianceStructure, ...]

    @classmethod
    def of(cls, design: Design, problem: Problem) -> SearchSpace:
        """The space of a design's blocks."""
        return cls(problem, tuple(block.structure for block in design.blocks))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The part of s that belongs to each block."""
        ends = np.cumsum([structure.n_parameters for structure in self.structures])
        return tuple(slice(int(e) - s.n_parameters, int(e)) for e, s in zip(ends, self.structures, strict=True))

    @property
    def d(self) -> int:
        """How many coordinates."""
        return self.slices[-1].stop if self.slices else 0

    @cached_property
    def units(self) -> tuple[np.ndarray, ...]:
        """Per block (n_sds,): the standard deviation that theta's 1 stands for in the search."""
        found = []
        for structure, rms in zip(self.structures, self.problem.rms, strict=True):
            if structure.free:
                found.append(np.ones(structure.n_sds))
            else:
                found.append(1.0 / (np.array([np.sqrt(np.square(rms).mean())]) if structure.hom else rms))
        return tuple(found)

    def _scaled(self, block: int, s: np.ndarray) -> np.ndarray:
        """The search coordinates (..., m) of a structured block in its columns as typed."""
        structure, unit = self.structures[block], self.units[block]
        inner = s[..., self.slices[block]].copy()
        inner[..., : structure.n_sds] *= unit if structure.hom else np.sqrt(unit)
        return inner

    def lambdas(self, s: np.ndarray) -> list[np.ndarray]:
        """Lambda (..., k, k) of each block in the columns as typed; columns may have either sign."""
        found = []
        for block, structure in enumerate(self.structures):
            if structure.free:
                found.append(self.problem.typed_lambda(block, structure.factor(s[..., self.slices[block]])))
            else:
                found.append(structure.search_factor(self._scaled(block, s)))
        return found

    def x(self, s: np.ndarray) -> np.ndarray:
        """(..., n_theta): the free elements of the whitened Lambdas."""
        template = self.problem.template
        x = np.empty((*np.shape(s)[:-1], template.n_theta))
        for block, structure in enumerate(self.structures):
            part = s[..., self.slices[block]]
            if not structure.free:
                Lam = self.problem.search_lambda(block, structure.search_factor(self._scaled(block, s)))
                columns, rows = np.triu_indices(structure.size)
                part = Lam[..., rows, columns]
            x[..., template.slices[block]] = part
        return x

    def gradient(self, s: np.ndarray, by_x: np.ndarray) -> np.ndarray:
        """d f / d s (d,) from d f / d x (n_theta,)."""
        found = np.empty(self.d)
        blocks = self.problem.template.unpack(by_x)
        for block, structure in enumerate(self.structures):
            where = self.slices[block]
            if structure.free:
                found[where] = by_x[self.problem.template.slices[block]]
                continue
            own = structure.search_pullback(self._scaled(block, s), self.problem.typed_slope(block, blocks[block]))
            own[: structure.n_sds] *= self.units[block] if structure.hom else np.sqrt(self.units[block])
            found[where] = own
        return found

    def s(self, lambdas: Sequence[np.ndarray]) -> np.ndarray:
        """Coordinates of Lambdas in the columns as typed; the nearest of the structure where they are of none."""
        found = np.empty(self.d)
        for block, (structure, Lam) in enumerate(zip(self.structures, lambdas, strict=True)):
            if structure.free:
                found[self.slices[block]] = structure.theta_of(self.problem.search_lambda(block, Lam))
                continue
            inner = structure.search(structure.theta_of(Lam))
            inner[: structure.n_sds] /= self.units[block] if structure.hom else np.sqrt(self.units[block])
            found[self.slices[block]] = inner
        return found

    def inside(self, s: np.ndarray) -> np.ndarray:
        """(d,) True for coordinates that are not at a bound, where the criterion is even in them.

        Of a free block: those of Lambda's columns that are not zero."""
        found = np.ones(self.d, dtype=bool)
        for block, structure in enumerate(self.structures):
            part = s[self.slices[block]]
            if structure.free:
                Lam = structure.factor(part)
                found[self.slices[block]] = np.broadcast_to((Lam != 0).any(axis=0), Lam.shape)[
                    np.triu_indices(structure.size)[::-1]
                ]
                continue
            own = part != 0
            if structure.n_parameters > structure.n_sds:
                own[-1] = own[: structure.n_sds].any() and abs(np.sin(2.0 * part[-1])) > 1e-12
            found[self.slices[block]] = own
        return found

    def tidy(self, s: np.ndarray) -> np.ndarray:
        """The same covariances with standard deviations of no sign and angles from 0 to pi / 2."""
        s = s.copy()
        for block, structure in enumerate(self.structures):
            if not structure.free:
                s[self.slices[block]] = structure.search(structure.from_search(s[self.slices[block]]))
        return s

    def spread(self, count: int) -> np.ndarray:
        """(count, d) points: standard deviations over their logarithms, structured correlations over their range."""
        points = np.empty((count, self.d))
        free = [block for block, structure in enumerate(self.structures) if structure.free]
        own = sum(structure.n_parameters for structure in self.structures if not structure.free)
        rest = Template(tuple(self.structures[block].size for block in free), tuple(range(len(free))))
        u = even_points(count, own + rest.n_theta + 1)
        if free:
            others = spread_points(rest, count, SPAN)
            shuffled = others[np.argsort(u[:, -1], kind="stable")]
            for block, part in zip(free, rest.slices, strict=True):
                points[:, self.slices[block]] = shuffled[:, part]
        at = 0
        for block, structure in enumerate(self.structures):
            if structure.free:
                continue
            mine = u[:, at : at + structure.n_parameters].copy()
            at += structure.n_parameters
            sds = SPAN[0] * (SPAN[1] / SPAN[0]) ** mine[:, : structure.n_sds]
            mine[:, : structure.n_sds] = sds if structure.hom else np.sqrt(sds)
            mine[:, structure.n_sds :] *= 0.5 * np.pi
            points[:, self.slices[block]] = mine
        return points

    def places(self, s: np.ndarray) -> np.ndarray:
        """(..., d) where distances between points are measured."""
        z = np.arcsinh(s / UNIT)
        for block, structure in enumerate(self.structures):
            if not structure.free:
                own = slice(self.slices[block].start, self.slices[block].start + structure.n_sds)
                angle = slice(own.stop, self.slices[block].stop)
                z[..., own] = np.arcsinh((s[..., own] if structure.hom else np.square(s[..., own])) / UNIT)
                z[..., angle] = 4.0 * s[..., angle]
        return z
