"""Predictions and simulated responses of a Bayesian fit, draw by draw: known levels, new groups, new observations.

Every parameter of the response has its own linear predictor where it has a formula, and one value per draw else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.posterior import Draws, Posterior, flat_draws, part_of
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.links import inverse_link
from hiermod.families.responses import category_draws, category_probabilities, expected, response_draws
from hiermod.fits.targets import Request, read_request
from hiermod.formula.design import Design
from hiermod.formula.newdata import NewRows
from hiermod.formula.parts import parts_of

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
        """estimate, and lower and upper when the request asks for an interval; ordinal ones by category."""
        if FAMILIES[self.family].ordinal:
            return self._categories(rng) if self.request.kind == "mean" else self._new_categories(rng)
        request, level = self.request, self.request.level
        estimate, bounds = np.empty(len(request.rows)), np.empty((2, len(request.rows)))
        # new groups average out exactly on the identity scale: no need to draw them for the estimate
        averages_out = self.link == "identity" and FAMILIES[self.family].location_is_mean
        for part in self._steps():
            if averages_out:
                estimate[part] = self.linear(part, rng, averaged=True).mean(axis=0)
                if level is None:
                    continue
            location = inverse_link(self.link, self.linear(part, rng))
            further = {} if averages_out and request.kind == "mean" else self.further(part, rng)
            mean = expected(self.family, location, further)
            if not averages_out:
                estimate[part] = mean.mean(axis=0)
            if level is None:
                continue
            if request.kind == "response":
                mean = self._drawn(location, further, part, rng, counts=False)
                around = FAMILIES[self.family].around
                mean = mean if around is None else around(mean, location)
            bounds[:, part] = np.quantile(mean, _tails(level), axis=0)
        table = pd.DataFrame({"estimate": estimate}, index=request.rows.index)
        return table if level is None else request.with_notes(table.assign(lower=bounds[0], upper=bounds[1]))

    def _steps(self, each: int = 1) -> list[Any]:
        """Parts of the rows, ``each`` numbers per row and draw: slices, or level after level where effects wait."""
        count, rows = self.record.beta.shape[0] * self.record.beta.shape[1], len(self.request.rows)
        step = max(1, ROWS_AT_A_TIME // (count * each))
        starts = range(0, rows, step)
        waiting = [i for i in range(len(self.design.blocks)) if self.record.waits(i)]
        if not waiting or len(starts) == 1 or self.request.target != "conditional":
            return [slice(start, start + step) for start in starts]
        order = np.argsort(self.request.rows.codes[waiting[0]], kind="stable")
        return [order[start : start + step] for start in starts]

    # --- ordinal responses --------------------------------------------------------------------------------------
    def _probabilities(self, part: Any, rng: np.random.Generator, chosen: Any = ALL) -> np.ndarray:
        """(draws, rows, K)."""
        threshold = flat_draws(self.record.auxiliary["threshold"])[chosen]
        return category_probabilities(self.family, self.link, self.linear(part, rng, chosen), threshold)

    def _categories(self, rng: np.random.Generator) -> pd.DataFrame:
        """One row per row and category: its probability."""
        names, level = self.design.categories, self.request.level
        pieces = [np.empty((1 if level is None else 3, 0, len(names)))]
        for part in self._steps(len(names)):
            p = self._probabilities(part, rng)
            found = [p.mean(axis=0)[None]]
            if level is not None:
                found.append(np.quantile(p, _tails(level), axis=0))
            pieces.append(np.concatenate(found))
        values = np.concatenate(pieces, axis=1)
        index = self.request.rows.index.repeat(len(names))
        codes = np.tile(np.arange(len(names)), len(self.request.rows))
        table = pd.DataFrame({"category": _ordered(codes, names), "estimate": values[0].ravel()}, index=index)
        return table if level is None else table.assign(lower=values[1].ravel(), upper=values[2].ravel())

    def _new_categories(self, rng: np.random.Generator) -> pd.DataFrame:
        """The median category of new responses, and the categories at the ends of their interval."""
        names, level = self.design.categories, self.request.level
        columns = ["estimate"] if level is None else ["estimate", "lower", "upper"]
        at = [0.5] if level is None else [0.5, *_tails(level)]
        pieces = [np.empty((len(at), 0), dtype=int)]
        for part in self._steps(len(names)):
            codes = category_draws(self._probabilities(part, rng), rng)
            pieces.append(np.quantile(codes, at, axis=0, method="inverted_cdf").astype(int))
        values = np.concatenate(pieces, axis=1)
        return pd.DataFrame(
            {name: _ordered(codes, names) for name, codes in zip(columns, values, strict=True)},
            index=self.request.rows.index,
        )

    # --- new responses ------------------------------------------------------------------------------------------
    def responses(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """(draws, rows) new responses, each from one posterior draw.

        Counts of successes for binomial data, the numbers of their categories for ordinal ones."""
        count = self.record.beta.shape[0] * self.record.beta.shape[1]
        return self.responses_at(rng.choice(count, size=draws, replace=draws > count), rng)

    def responses_at(self, chosen: Any, rng: np.random.Generator, part: Any = ALL) -> np.ndarray:
        """(draws, rows) new responses of some rows, one from each chosen draw."""
        if FAMILIES[self.family].ordinal:
            codes = category_draws(self._probabilities(part, rng, chosen), rng)
            return np.asarray(self.design.category_values[codes.astype(int)])
        location = inverse_link(self.link, self.linear(part, rng, chosen))
        return self._drawn(location, self.further(part, rng, chosen), part, rng, counts=True)

    def _drawn(
        self, location: np.ndarray, further: dict[str, np.ndarray], part: Any, rng: np.random.Generator, counts: bool
    ) -> np.ndarray:
        noise = further.pop("sigma", None)
        trials = self.request.trials
        return response_draws(
            self.family, location, noise, None if trials is None else trials[part], rng, counts, further
        )

    # --- responses that were observed -----------------------------------------------------------------------------
    def log_densities(self, part: Any = ALL) -> np.ndarray:
        """(draws, rows) log density of the responses of the fit's own rows, given every parameter of each draw."""
        family, y, rng = FAMILIES[self.family], np.asarray(self.design.y, dtype=float)[part], np.random.default_rng(0)
        if family.ordinal:
            codes = np.searchsorted(self.design.category_values, y)
            chosen = np.take_along_axis(self._probabilities(part, rng), codes[None, :, None], axis=-1)[..., 0]
            with np.errstate(divide="ignore"):
                return np.log(chosen)
        if family.logpdf is None:
            raise UnsupportedError(f"family {self.family!r} has no log density here")
        eta = self.linear(part, rng)  # nothing is drawn: every level is known
        trials = None if self.request.trials is None else np.asarray(self.request.trials, dtype=float)[part]
        n = np.ones(len(y)) if trials is None else trials
        if family.likelihood is not None and family.generalised(self.link):  # exact where a probability is 0 or 1
            logs = family.likelihood.rows(self.link, y[:, None], n[:, None], eta.T).T
            return logs + family.likelihood.constant(y, n)
        further = self.further(part, rng) | ({} if trials is None else {"trials": trials})
        return family.logpdf(y, inverse_link(self.link, eta), further)

    # --- parameters ---------------------------------------------------------------------------------------------
    def further(self, part: Any, rng: np.random.Generator, chosen: Any = ALL) -> dict[str, np.ndarray]:
        """The other parameters of the response, each (draws, rows) or broadcasting to it."""
        found = {
            name: flat_draws(values)[chosen][:, None]
            for name, values in self.record.auxiliary.items()
            if values.ndim == 2  # thresholds are ordinal responses' own
        }
        scale = self.request.noise_scale[part]
        if self.design.precision.sigma_known:
            found["sigma"] = scale[None, :]
        elif self.record.sigma is not None:
            found["sigma"] = flat_draws(self.record.sigma)[chosen][:, None] * scale[None, :]
        for name, design in parts_of(self.design).items():
            eta = self._linear(design, part_of(self.record, name), self.request.parts[name], part, rng, chosen)
            found[name] = inverse_link(FAMILIES[self.family].parameter(name).link, eta)
        return found

    def linear(self, part: Any, rng: np.random.Generator, chosen: Any = ALL, averaged: bool = False) -> np.ndarray:
        """Linear predictor of some rows at the chosen draws, (draws, rows).

        averaged: new groups at 0, and effects that wait at their means given each draw, without draws of their own."""
        return self._linear(self.design, self.record, self.request.rows, part, rng, chosen, averaged)

    def _linear(
        self,
        design: Design,
        record: Posterior | Draws,
        rows: NewRows,
        part: Any,
        rng: np.random.Generator,
        chosen: Any,
        averaged: bool = False,
    ) -> np.ndarray:
        request = self.request
        eta = flat_draws(record.beta)[chosen] @ rows.X[part].T + rows.offset[part]
        if request.target == "population":
            return eta
        for i, (codes, values) in enumerate(zip(rows.codes, rows.values, strict=True)):
            code, value = codes[part], values[part]
            if request.target == "conditional":
                known = code >= 0
                if known.any():
                    levels, at = np.unique(code[known], return_inverse=True)
                    b = record.effect_moments(i, levels)[0] if averaged else record.effects_of(i, levels, chosen)
                    eta[:, known] += np.einsum("smk,mk->sm", b[:, at], value[known])
            new = np.ones(len(code), dtype=bool) if request.target == "new_group" else code < 0
            if not averaged and new.any() and (request.target == "new_group" or request.new_levels == "sample"):
                b = _new_effects(record, i, rows.labels[i][part][new], rng, chosen)
                eta[:, new] += np.einsum("smk,mk->sm", b, value[new])
        return eta


def sigma_of_rows(fit: Any) -> Any:
    """Posterior mean of a fit's sigma: one number, or (n,) where it has a formula."""
    if "sigma" not in parts_of(fit.design):
        return fit.sigma
    request = read_request(fit.design, None, "conditional", None, "response", "raise")
    predictor = Predictor(fit.design, fit.record, fit.family, fit.link, request)
    return predictor.further(ALL, np.random.default_rng(0))["sigma"].mean(axis=0)


def _new_effects(
    record: Posterior | Draws, i: int, labels: np.ndarray, rng: np.random.Generator, chosen: Any
) -> np.ndarray:
    """Effects of unseen levels, (draws, rows, k): rows of one new level share theirs within a draw."""
    sd, corr = flat_draws(record.sd[i])[chosen], record.corr[i]
    L = None if corr is None else np.linalg.cholesky(_nudged(flat_draws(corr)[chosen]))
    names, which = np.unique(labels.astype(str), return_inverse=True)
    z = rng.standard_normal((len(sd), len(names), sd.shape[1]))
    b = (z if L is None else np.einsum("sij,smj->smi", L, z)) * sd[:, None, :]
    return b[:, which]


def _tails(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]


def _ordered(codes: np.ndarray, names: tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, list(names), ordered=True)


def _nudged(corr: np.ndarray) -> np.ndarray:
    """Correlation matrices kept positive definite where rounding made them singular."""
    return corr + 1e-12 * np.eye(corr.shape[-1])
