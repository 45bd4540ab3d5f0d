"""BayesianFit: draws from the posterior in the common vocabulary.

Estimates are posterior means, std_error posterior standard deviations, intervals equal-tailed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.core.answers import answers
from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.core.versions import ess_bulk, ess_tail, mcse, r_hat
from hiermod.engines.posterior import Draws, Inference, Posterior, part_of, pooled
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.fits import row_draws
from hiermod.fits.bayesian_predict import Predictor, sigma_of_rows
from hiermod.fits.ddf import chosen_ddf
from hiermod.fits.level_draws import level_table
from hiermod.fits.tables import (
    LEVEL,
    check_group,
    check_level,
    chosen_names,
    coef_terms,
    corr_names,
    sd_names,
    simulated_frame,
    stack_effects,
    tidy_effects,
)
from hiermod.fits.targets import Request, choice, read_request
from hiermod.fits.vocabulary import BAYESIAN_FIT, Fit
from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of
from hiermod.priors.gaussian import GaussianPriors

if TYPE_CHECKING:
    from hiermod.inference.predictive.loo_pit import loo_pit as _loo_pit
    from hiermod.inference.predictive.predictive_checks import predictive_check as _predictive_check
    from hiermod.inference.predictive.predictive_checks import predictive_intervals as _predictive_intervals
    from hiermod.inference.predictive.reliability import calibration as _calibration
    from hiermod.inference.priors_and_reml.sensitivity import prior_sensitivity as _prior_sensitivity
    from hiermod.inference.scores.cross_validation import kfold as _kfold
    from hiermod.inference.scores.of_fit import logo as _logo
    from hiermod.inference.scores.of_fit import loo as _loo
    from hiermod.inference.scores.of_fit import waic as _waic
    from hiermod.output.bayesian_text import check as _check
    from hiermod.output.bayesian_text import summary as _summary

SUMMARIES = ("estimate", "std_error", "lower", "upper", "mcse", "ess_bulk", "ess_tail", "r_hat")


@answers(BAYESIAN_FIT)
@checked
class BayesianFit(Fit):
    """What ``Model.fit()`` returns.  Immutable; pickles.

    ``record`` holds the draws as arrays, (chain, draw, ...); ``design`` the data."""

    record: Posterior

    if TYPE_CHECKING:
        loo, logo, waic, kfold = _loo, _logo, _waic, _kfold
        predictive_check, predictive_intervals = _predictive_check, _predictive_intervals
        loo_pit, calibration, prior_sensitivity = _loo_pit, _calibration, _prior_sensitivity
        summary, check = _summary, _check

    def __init__(
        self,
        design: Design,
        record: Posterior,
        family: str = "gaussian",
        link: str = "identity",
        priors: GaussianPriors | None = None,
        model: Any = None,
    ) -> None:
        self.design, self.record, self.family, self.link = design, record, family, link
        self._added: dict[str, Any] = {}  # groups of idata that were asked for before idata itself
        self.priors = priors  # as numbers, where effects integrate out; None where they do not
        self.model = model  # the Model that was fitted: its graph, for refits and log likelihoods; None: not known

    # --- the fit as a whole -------------------------------------------------------------------------------------
    @property
    def idata(self) -> Any:
        """The draws for ArviZ: InferenceData (ArviZ 0.x) or DataTree (1.x), Bambi's variable names."""
        return self._idata

    @cached_property
    def _idata(self) -> Any:
        from hiermod.engines.idata import build_idata

        # a copy of the engine's own, whose groups share their arrays: what is asked for later is kept beside the record
        own = self.record.idata
        found = (
            build_idata(self.record, self.design, gaussian=row_draws.is_gaussian(self))
            if own is None
            else versions.replace_groups(own)
        )
        for group, dataset in self._added.items():
            versions.set_group(found, group, dataset)
        return found

    @property
    def inference(self) -> Inference:
        """Which engine ran, why, for how long, and how well."""
        return self.record.inference

    @property
    def sigma(self) -> float:
        """Posterior mean of the residual standard deviation; nan when there is none to estimate."""
        return float("nan") if self.record.sigma is None else float(self.record.sigma.mean())

    # --- estimates ----------------------------------------------------------------------------------------------
    def vcov(self) -> pd.DataFrame:
        """Posterior covariance of the coefficients of ``fixef``, (p, p)."""
        names, draws = self._common()
        draws = pooled(draws)
        cov = np.atleast_2d(np.cov(draws, rowvar=False)) if draws.shape[1] else np.empty((0, 0))
        return pd.DataFrame(cov, index=names, columns=names)

    def _predictors(self) -> list[tuple[Design, Posterior | Draws]]:
        """The formula's own linear predictor, then those of further parameters with a formula: design and draws."""
        parts = parts_of(self.design).items()
        return [(self.design, self.record), *((part, part_of(self.record, name)) for name, part in parts)]

    def _common(self) -> tuple[list[str], np.ndarray]:
        """Names and (c, d, p) draws of every common coefficient."""
        found = self._predictors()
        return [n for design, _ in found for n in design.common], np.concatenate([d.beta for _, d in found], axis=-1)

    def fixef(self, level: float = LEVEL, ddf: str | None = "auto") -> pd.DataFrame:
        """Common effects: estimate, std_error, lower, upper, mcse, ess_bulk, ess_tail, r_hat; index term.

        ddf: a posterior has no degrees of freedom, so anything but "auto" and None raises UnsupportedError.
        Those of a further parameter's formula follow, on its own scale: ``sigma_Intercept``, ``sigma_x`` of log sigma.
        An ordinal model has no Intercept: its thresholds are in ``parameters()``."""
        chosen_ddf(self, ddf)
        names, draws = self._common()
        table = self._draw_table(draws, names, check_level(level))
        return table.rename_axis("term")

    @staticmethod
    def _draw_table(draws: np.ndarray, names: list[str], level: float) -> pd.DataFrame:
        """Summaries of (c, d, t) draws, one row per name, with their diagnostics."""
        if not names:  # an ordinal model, or one without an intercept, can have no common effect
            return pd.DataFrame(columns=list(SUMMARIES), dtype=float)
        lower, upper = _interval(draws, level)
        mean, sd = draws.mean(axis=(0, 1)), draws.std(axis=(0, 1), ddof=1)
        columns = (mean, sd, lower, upper, mcse(draws), ess_bulk(draws), ess_tail(draws), r_hat(draws))
        return pd.DataFrame(dict(zip(SUMMARIES, columns, strict=True)), index=names)

    def ranef(self, group: str | None = None, level: float = LEVEL) -> pd.DataFrame:
        """Group effects: group, level, term, estimate, std_error, lower, upper."""
        check_level(level)
        pieces = []
        self._check_group(group)
        for design, record in self._predictors():
            for block in design.blocks:
                if group in (None, block.factor):
                    pieces.append(level_table(design, record, [block], block.labels, level, fixed=False))
        return stack_effects(pieces)

    def _check_group(self, group: str | None) -> None:
        if not any(group in part.ngroups for part in parts_of(self.design).values()):
            check_group(self.design, group)

    def coef(self, group: str | None = None, level: float = LEVEL) -> pd.DataFrame:
        """Coefficients per level, fixef + ranef draw by draw: the columns of ``ranef``."""
        check_level(level)
        self._check_group(group)
        pieces = []
        for design, record in self._predictors():
            for factor in [group] if group is not None else list(design.ngroups):
                blocks = [block for block in design.blocks if block.factor == factor]
                if blocks:
                    pieces.append(level_table(design, record, blocks, coef_terms(design, blocks), level))
        return stack_effects(pieces)

    def varcorr(self, level: float = LEVEL) -> pd.DataFrame:
        """Variances and correlations: group, term1, term2, sdcor, vcov, lower, upper.

        sdcor and vcov are each their own posterior mean; lower and upper belong to sdcor."""
        check_level(level)
        rows: list[dict[str, object]] = []

        def add(group: str, term1: str | None, term2: str | None, sdcor: np.ndarray, vcov: np.ndarray) -> None:
            lower, upper = np.quantile(sdcor, [(1 - level) / 2, (1 + level) / 2])
            rows.append(
                {
                    "group": group,
                    "term1": term1,
                    "term2": term2,
                    "sdcor": sdcor.mean(),
                    "vcov": vcov.mean(),
                    "lower": lower,
                    "upper": upper,
                }
            )

        found = [zip(design.blocks, record.sd, record.corr, strict=True) for design, record in self._predictors()]
        for block, sd, corr in (one for blocks in found for one in blocks):
            for i, label in enumerate(block.labels):
                add(block.factor, label, None, sd[..., i], np.square(sd[..., i]))
            for i in range(block.size):
                for j in range(i + 1, block.size):
                    if corr is not None:
                        r = corr[..., i, j]
                        add(block.factor, block.labels[i], block.labels[j], r, r * sd[..., i] * sd[..., j])
        if self.record.sigma is not None:
            add("Residual", None, None, self.record.sigma, np.square(self.record.sigma))
        return pd.DataFrame(rows, columns=["group", "term1", "term2", "sdcor", "vcov", "lower", "upper"])

    def parameters(self, level: float = LEVEL) -> pd.DataFrame:
        """Every parameter under its name in the posterior, with the columns of ``fixef``; index parameter."""
        names, beta = self._common()
        pieces = [beta]
        found = [zip(design.blocks, record.sd, record.corr, strict=True) for design, record in self._predictors()]
        for block, sd, corr in (one for blocks in found for one in blocks):
            pieces.append(sd)
            names += sd_names(block)
            if corr is not None:
                upper = np.triu_indices(block.size, 1)
                pieces.append(corr[..., upper[0], upper[1]])
                names += corr_names(block)
        if self.record.sigma is not None:
            pieces.append(self.record.sigma[..., None])
            names.append("sigma")
        for name, draws in self.record.auxiliary.items():
            flat = draws.reshape(*draws.shape[:2], -1)
            pieces.append(flat)
            names += [name] if flat.shape[-1] == 1 else [f"{name}[{i}]" for i in range(flat.shape[-1])]
        return self._draw_table(np.concatenate(pieces, axis=-1), names, check_level(level)).rename_axis("parameter")

    # --- fitted values and predictions --------------------------------------------------------------------------
    def fitted(self) -> pd.Series:
        """Posterior mean of the expected response of the rows used; UnsupportedError for ordinal responses."""
        if FAMILIES[self.family].ordinal:
            raise UnsupportedError(
                "an ordinal response has no mean, so there are no fitted values and no residuals: fit.predict() gives "
                "the probability of each category, fit.predict(kind='response') the median category"
            )
        return self.predict()["estimate"].rename("fitted")

    def residuals(self, kind: str = "response") -> pd.Series:
        """response: y - fitted; pearson: divided by the sd of the response up to sigma; scaled: and by sigma."""
        kind = choice("kind", kind, ("response", "pearson", "scaled"))
        design = self.design
        if kind != "response" and not FAMILIES[self.family].normal_errors:
            raise UnsupportedError(f"kind={kind!r} is for Gaussian models; family {self.family!r} has kind='response'")
        y = design.y / design.trials if design.trials is not None else design.y
        values = y - self.fitted().to_numpy()
        if kind == "scaled" or (kind == "pearson" and not design.precision.sigma_known):
            values = design.precision.whiten(values)
        if kind == "scaled" and not design.precision.sigma_known:
            values = values / sigma_of_rows(self)
        return pd.Series(values, index=design.index, name="residual")

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        target: str = "conditional",
        interval: float | None = None,
        kind: str = "mean",
        new_levels: str = "raise",
        random_seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Predictions: estimate (+ lower, upper), indexed like ``newdata`` (default: the rows of the fit).

        target: "conditional", "population" (group effects 0) or "new_group" (integrates over a new level of every
        factor).  interval: equal-tailed, of the expected response, or with ``kind="response"`` of new observations.
        new_levels: "raise", "zero" or "sample".  ``random_seed`` matters where new groups or responses are drawn.
        Weights and known sds of new rows are those of ``newdata``, in the column that ``weights=`` or ``se=`` named (no
        column: weight 1, as a note says; se is refused).
        Counts out of trials are predicted as proportions (trials for ``kind="response"`` from ``newdata``).  Ordinal
        responses: a row per row and ``category`` with its probability; with ``kind="response"`` categories, estimate
        the median."""
        request = read_request(self.design, newdata, target, interval, kind, new_levels)
        return self._predictor(request).table(generator(random_seed))

    def _predictor(self, request: Request) -> Predictor:
        return Predictor(self.design, self.record, self.family, self.link, request)

    def simulate(self, draws: int = 1, random_seed: int | np.random.Generator | None = None) -> pd.DataFrame:
        """New responses, group effects drawn anew, one posterior draw per column: (n, draws), sim_1, sim_2, ...

        Successes for counts out of trials, categories as the data have them for ordinal responses."""
        check_count("draws", draws)
        return simulated_frame(self.design, self._simulated(int(draws), generator(random_seed)))

    def _simulated(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """The numbers of ``simulate``, (draws, n)."""
        request = read_request(self.design, None, "new_group", LEVEL, "response", "raise")
        return self._predictor(request).responses(draws, rng)

    posterior_predictive = row_draws.posterior_predictive
    log_likelihood = row_draws.log_likelihood

    def confint(
        self,
        level: float = LEVEL,
        method: str = "auto",
        parameters: Sequence[str] | None = None,
        *,
        draws: int = 1000,
        random_seed: int | np.random.Generator | None = None,
        cores: int = 1,
        progressbar: bool = True,
    ) -> pd.DataFrame:
        """Equal-tailed credible intervals ("auto" is "equal-tailed"): lower, upper.

        parameters: only these, by their names in ``parameters()``.  draws, random_seed, cores and progressbar are the
        bootstrap's and the profiles', of REML and ML fits; a posterior has its draws."""
        choice("method", method, ("auto", "equal-tailed"))
        table = self.parameters(level)[["lower", "upper"]]
        return table if parameters is None else table.loc[chosen_names(parameters, list(table.index))]

    # --- tables and text ----------------------------------------------------------------------------------------

    def tidy(self) -> pd.DataFrame:
        """broom's tidy(): effect, group, term, estimate, std_error, lower, upper, ess_bulk, r_hat."""
        varcorr, p = self.varcorr(), len(self._common()[0])
        columns = ["std_error", "ess_bulk", "r_hat"]
        varcorr[columns] = self.parameters()[columns].to_numpy()[p : p + len(varcorr)]  # the same order as varcorr
        return tidy_effects(self.fixef(), varcorr, ["estimate", "std_error", "lower", "upper", "ess_bulk", "r_hat"])

    def glance(self) -> pd.DataFrame:
        """One row about the whole fit: nobs, sigma, engine, draws, divergences, max_r_hat, min_ess_bulk, ..."""
        i = self.inference
        row = {
            "nobs": self.nobs,
            "sigma": self.sigma,
            "engine": i.method,
            "chains": i.chains,
            "draws": i.draws,
            "divergences": i.divergences,
            "max_r_hat": i.max_r_hat,
            "min_ess_bulk": i.min_ess_bulk,
            "min_ess_tail": i.min_ess_tail,
            "seconds": i.seconds,
            "seed": i.seed,
        }
        return pd.DataFrame([row])

    def augment(self) -> pd.DataFrame:
        """The rows used with fitted values, population predictions and residuals beside them (broom's augment())."""
        fitted = self.fitted()
        columns = {
            ".fitted": fitted,
            ".fixed": self.predict(target="population")["estimate"],
            ".resid": self.residuals(),
        }
        return self.design.frame.assign(**columns)


def _interval(draws: np.ndarray, level: float) -> np.ndarray:
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=(0, 1))
