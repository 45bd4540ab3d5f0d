"""BayesianFit: draws from the posterior in the common vocabulary.

Estimates are posterior means, std_error posterior standard deviations, intervals equal-tailed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.core.versions import ess_bulk, ess_tail, mcse, r_hat
from hiermod.engines.posterior import Draws, Inference, Posterior, part_of
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.fits import row_draws
from hiermod.fits.bayesian_predict import Predictor, sigma_of_rows
from hiermod.fits.level_draws import level_table
from hiermod.fits.tables import (
    LEVEL,
    check_group,
    check_level,
    coef_terms,
    corr_names,
    sd_names,
    simulated_frame,
    stack_effects,
    tidy_effects,
)
from hiermod.fits.targets import Request, choice, read_request
from hiermod.fits.vocabulary import Fit
from hiermod.formula.design import Design
from hiermod.inference.coefficient_tests.tables import chosen_ddf
from hiermod.inference.intervals import chosen_names
from hiermod.inference.predictive.check_methods import CheckMethods
from hiermod.inference.priors_and_reml.sensitivity_methods import SensitivityMethods
from hiermod.inference.scores import cross_validation
from hiermod.inference.scores import of_fit as scores
from hiermod.inference.scores.record import Score
from hiermod.output import bayesian_text
from hiermod.output.summary import Summary
from hiermod.priors.gaussian import GaussianPriors

if TYPE_CHECKING:
    import xarray as xr


@checked
class BayesianFit(CheckMethods, SensitivityMethods, Fit):
    """What ``Model.fit()`` returns.  Immutable; pickles.

    ``record`` holds the draws as arrays, (chain, draw, ...); ``design`` the data."""

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
        if self.record.idata is not None:
            return self.record.idata
        from hiermod.engines.idata import build_idata

        found = build_idata(self.record, self.design)
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
        draws = draws.reshape(-1, draws.shape[-1])
        cov = np.atleast_2d(np.cov(draws, rowvar=False)) if draws.shape[1] else np.empty((0, 0))
        return pd.DataFrame(cov, index=names, columns=names)

    def _predictors(self) -> list[tuple[Design, Posterior | Draws]]:
        """The formula's own linear predictor, then those of further parameters with a formula: design and draws."""
        parts = self.design.parts.items()
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
        lower, upper = _interval(draws, level)
        columns = {
            "estimate": draws.mean(axis=(0, 1)),
            "std_error": draws.std(axis=(0, 1), ddof=1),
            "lower": lower,
            "upper": upper,
            "mcse": mcse(draws),
            "ess_bulk": ess_bulk(draws),
            "ess_tail": ess_tail(draws),
            "r_hat": r_hat(draws),
        }
        return pd.DataFrame(columns, index=names)

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
        if not any(group in part.ngroups for part in self.design.parts.values()):
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

    def posterior_predictive(
        self, draws: int | None = None, random_seed: int | np.random.Generator | None = None
    ) -> xr.DataArray:
        """New responses for the rows of the fit with their own group effects: (chain, draw, __obs__).

        One per posterior draw, or ``draws`` in all, evenly spaced; successes for counts out of trials; ordinal
        responses as numbers, 1, 2, ... where their categories are words (``attrs["categories"]``).  ``__obs__`` are
        the labels of the rows.  Also kept in ``fit.idata`` as the group posterior_predictive.  ``simulate`` draws new
        groups too.  ArgumentError where it takes more than 8 GB."""
        return row_draws.posterior_predictive(self, draws, random_seed)

    def log_likelihood(self) -> xr.DataArray:
        """log p(y_i | all parameters) of each row at each draw: (chain, draw, __obs__), kept in ``fit.idata`` too.

        ArgumentError where it takes more than 8 GB."""
        return row_draws.log_likelihood(self)

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

    # --- scores -------------------------------------------------------------------------------------------------
    def loo(self, integrated: bool | str = "auto", refit_bad: bool | str = "auto", progressbar: bool = True) -> Score:
        """Leave-one-out by row: elpd, se, p, and elpd and Pareto k per row.

        integrated: "auto" integrates common and group effects out exactly where the model allows it (Gaussian, Normal
        or flat priors on common effects), and the record says so; True insists (UnsupportedError); False never does.
        refit_bad: rows with Pareto k above 0.7 are scored by a refit without them: "auto" where effects are not
        integrated out and at most ten rows need it, True however many, False never."""
        return scores.loo(self, integrated, refit_bad, progressbar)

    def logo(self, group: str, refit_bad: bool | str = "auto", progressbar: bool = True) -> Score:
        """Leave-one-group-out: the joint density of all rows of each level of ``group``, given all other rows.

        The level's effects are integrated out: in closed form (Gaussian models), or by quadrature (bernoulli, binomial,
        poisson; one or two effects per level).  refit_bad: as in ``loo``.  UnsupportedError where neither is possible,
        DesignError where a level's removal leaves a coefficient with a flat prior without information."""
        return scores.logo(self, group, refit_bad, progressbar)

    def kfold(
        self,
        k: int | str = 10,
        group: str | None = None,
        stratify: str | None = None,
        random_seed: int | np.random.Generator | None = None,
        cores: int = 1,
        progressbar: bool = True,
    ) -> Score:
        """K-fold cross-validation by exact refits, priors and centring those of all data.

        k: number of folds, or "all" for one unit each (leave-one-out, leave-one-group-out).  group: leave out whole
        levels of this factor, scored jointly; else rows are left out, with ``stratify`` balanced within its levels.
        The same seed gives the same folds and numbers whatever ``cores``.  A model whose effects integrate out is
        refitted without sampling them, in tenths of a second; others by NUTS, on a graph that is compiled once."""
        return cross_validation.kfold(self, k, group, stratify, random_seed, cores, progressbar)

    def waic(self) -> Score:
        """WAIC by row, on the elpd scale, always at the draws of the effects.  ``loo`` is the safer of the two."""
        return scores.waic_score(self)

    # --- tables and text ----------------------------------------------------------------------------------------
    @cached_property
    def _summary(self) -> Summary:
        return bayesian_text.summary(self)

    def summary(self) -> Summary:
        """The sections of a mixed model's summary with posterior means, and how the sampling went."""
        return self._summary

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

    def check(self, posterior: Fit | None = None) -> Summary:
        """Divergences, R-hat and effective sample sizes in words.

        posterior: stands beside REML and ML fits; this fit is one itself, so another raises UnsupportedError."""
        if posterior is not None and posterior is not self:
            raise UnsupportedError(
                "posterior= sets a Bayesian fit beside a REML or ML fit, and this fit is Bayesian itself: "
                "reml.check(posterior=fit), or hm.compare_estimates({...}) for two posteriors"
            )
        return bayesian_text.check(self)


def _interval(draws: np.ndarray, level: float) -> np.ndarray:
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=(0, 1))
