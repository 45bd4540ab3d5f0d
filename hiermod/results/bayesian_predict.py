"""Predictions and simulated responses of a Bayesian fit, draw by draw: known levels, new groups, new observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.bayes.posterior import Posterior
from hiermod.errors import ArgumentError
from hiermod.formula.design import Design
from hiermod.results.links import inverse_link, response_draws
from hiermod.results.targets import Request

ROWS_AT_A_TIME = 4_000_000  # draws x rows held at once: 32 MB
ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Predictor:
    """The draws and the rows they are applied to."""

    design: Design
    record: Posterior
    family: str
    link: str
    request: Request

    def table(self, rng: np.random.Generator) -> pd.DataFrame:
        """estimate, and lower and upper when the request asks for an interval."""
        request, level = self.request, self.request.level
        step = max(1, ROWS_AT_A_TIME // (self.record.beta.shape[0] * self.record.beta.shape[1]))
        estimate, bounds = [np.empty(0)], [np.empty((2, 0))]  # with no rows, a table without rows
        for start in range(0, len(request.rows), step):
            part = slice(start, start + step)
            if self.link == "identity":  # new groups average out exactly: no need to draw them for the estimate
                estimate.append(self.linear(part, rng, spread=False).mean(axis=0))
                if level is None:
                    continue
            mean = inverse_link(self.link, self.linear(part, rng))
            if self.link != "identity":
                estimate.append(mean.mean(axis=0))
            if level is None:
                continue
            if request.kind == "response":
                mean = response_draws(self.family, mean, self._noise(part), self._trials(part), rng)
            bounds.append(np.quantile(mean, [(1 - level) / 2, (1 + level) / 2], axis=0))
        table = pd.DataFrame({"estimate": np.concatenate(estimate)}, index=request.rows.index)
        if level is None:
            return table
        lower, upper = np.concatenate(bounds, axis=1)
        return table.assign(lower=lower, upper=upper)

    def responses(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """(draws, rows) new responses, each from one posterior draw; counts of successes for binomial data."""
        count = self.record.beta.shape[0] * self.record.beta.shape[1]
        chosen = rng.choice(count, size=draws, replace=draws > count)
        mean = inverse_link(self.link, self.linear(ALL, rng, chosen))
        return response_draws(self.family, mean, self._noise(ALL, chosen), self.design.trials, rng, counts=True)

    def linear(self, part: slice, rng: np.random.Generator, chosen: Any = ALL, spread: bool = True) -> np.ndarray:
        """Linear predictor of some rows at the chosen draws, (draws, rows); without ``spread`` new groups are at 0."""
        request, rows, record = self.request, self.request.rows, self.record
        eta = _flat(record.beta)[chosen] @ rows.X[part].T + rows.offset[part]
        if request.target == "population":
            return eta
        for i, (codes, values) in enumerate(zip(rows.codes, rows.values, strict=True)):
            code, value = codes[part], values[part]
            if request.target == "conditional":
                known = code >= 0
                if known.any():
                    b = _flat(record.b[i])[chosen]
                    eta[:, known] += np.einsum("smk,mk->sm", b[:, code[known]], value[known])
            new = np.ones(len(code), dtype=bool) if request.target == "new_group" else code < 0
            if spread and new.any() and (request.target == "new_group" or request.new_levels == "sample"):
                b = self._new_effects(i, rows.labels[i][part][new], rng, chosen)
                eta[:, new] += np.einsum("smk,mk->sm", b, value[new])
        return eta

    def _new_effects(self, i: int, labels: np.ndarray, rng: np.random.Generator, chosen: Any) -> np.ndarray:
        """Effects of unseen levels, (draws, rows, k): rows of one new level share theirs within a draw."""
        sd, corr = _flat(self.record.sd[i])[chosen], self.record.corr[i]
        L = None if corr is None else np.linalg.cholesky(_nudged(_flat(corr)[chosen]))
        names, which = np.unique(labels.astype(str), return_inverse=True)
        z = rng.standard_normal((len(sd), len(names), sd.shape[1]))
        b = (z if L is None else np.einsum("sij,smj->smi", L, z)) * sd[:, None, :]
        return b[:, which]

    def _noise(self, part: slice, chosen: Any = ALL) -> np.ndarray | None:
        """Residual sd per draw and row, None for families without one."""
        scale = self.request.noise_scale[part]
        if self.design.se is not None:
            return scale[None, :]
        return None if self.record.sigma is None else _flat(self.record.sigma)[chosen][:, None] * scale[None, :]

    def _trials(self, part: slice) -> np.ndarray | None:
        if self.design.trials is None:
            return None
        if not self.request.in_sample:
            raise ArgumentError(
                "kind='response' for counts needs the number of trials, known only for the rows of the fit"
            )
        return self.design.trials[part]


def _flat(draws: np.ndarray) -> np.ndarray:
    """(chain, draw, ...) as (chain * draw, ...)."""
    return draws.reshape(-1, *draws.shape[2:])


def _nudged(corr: np.ndarray) -> np.ndarray:
    """Correlation matrices kept positive definite where rounding made them singular."""
    return corr + 1e-12 * np.eye(corr.shape[-1])
