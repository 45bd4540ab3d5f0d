"""GeneralisedFit: a generalised linear (mixed) model by maximum likelihood, in the common vocabulary, lme4's meanings.

Estimates and group effects are on the scale of the linear predictor; fitted values, residuals and predictions on that
of the response, which for counts out of trials is the proportion, as in R."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.annotated import noted
from hiermod.core.answers import answers
from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.generalised_refit import refit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.errors import UnsupportedError
from hiermod.fits import generalised_predict
from hiermod.fits.ddf import chosen_ddf
from hiermod.fits.estimable import lost_rows_note
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import (
    LEVEL,
    check_level,
    coef_terms,
    corr_names,
    effects_frame,
    quantile,
    sd_names,
    tidy_effects,
    varcorr_rows,
)
from hiermod.fits.targets import choice, read_request
from hiermod.fits.vocabulary import GENERALISED_FIT
from hiermod.formula.design import Design

if TYPE_CHECKING:
    from hiermod.output.generalised_text import check as _check
    from hiermod.output.generalised_text import summary as _summary

RESIDUALS = ("response", "pearson", "scaled", "deviance")
WALD = ["estimate", "std_error", "lower", "upper", "z", "p"]


@answers(GENERALISED_FIT)
@checked
class GeneralisedFit(FrequentistFit):
    """What ``Model.ml()`` returns for every family but the Gaussian.  Immutable; pickles."""

    record: GeneralisedMixedFit | GeneralisedLinearFit  # type: ignore[assignment]

    if TYPE_CHECKING:
        summary, check = _summary, _check

    def __init__(self, design: Design, record: GeneralisedMixedFit | GeneralisedLinearFit, family: str) -> None:
        super().__init__(design, record, family)  # type: ignore[arg-type]
        self.link = record.likelihood.link

    # --- the fit as a whole -------------------------------------------------------------------------------------
    @property
    def is_mixed(self) -> bool:
        """False for a formula without a bar: an ordinary generalised linear model."""
        return isinstance(self.record, GeneralisedMixedFit)

    @property
    def nodes(self) -> int:
        """Quadrature nodes for each level: 1 is the Laplace approximation (lme4's nAGQ)."""
        return self.record.nodes if isinstance(self.record, GeneralisedMixedFit) else 1

    @property
    def sigma(self) -> float:
        """nan: these families have no residual standard deviation."""
        return float("nan")

    @property
    def deviance(self) -> float:
        """-2 log likelihood with its constants, whatever the number of nodes.

        R's deviance() of a glm or glmer fit is another number: ``residual_deviance``."""
        return -2.0 * self.loglik

    @property
    def residual_deviance(self) -> float:
        """Sum of squared deviance residuals, R's deviance(): given the group effects for a mixed model."""
        return float(self.record.residual_deviance)

    @property
    def theta(self) -> pd.Series:
        """Covariance parameters, lme4's names and order (Cholesky factors by column)."""
        if not isinstance(self.record, GeneralisedMixedFit):
            return pd.Series(dtype=float, name="theta")
        return pd.Series(self.record.theta, index=list(self.record.theta_names), name="theta")

    @property
    def _mixed(self) -> GeneralisedMixedFit:  # type: ignore[override]
        if not isinstance(self.record, GeneralisedMixedFit):
            raise UnsupportedError(f"{self.formula!r} has no group effects: add a term such as (1 | g) to the formula")
        return self.record

    # --- estimates ----------------------------------------------------------------------------------------------
    def fixef(self, level: float = LEVEL, ddf: str | None = "auto") -> pd.DataFrame:
        """Common ("fixed") effects: estimate, std_error, lower, upper, z, p (Wald); index term.

        Standard errors come from the Hessian over (theta, beta), as glmer's.  ddf: there are no denominator degrees of
        freedom for these families, so anything but "auto" and None raises UnsupportedError."""
        chosen_ddf(self, ddf)
        half = quantile(check_level(level))
        estimate, se = np.array(self.record.beta), np.sqrt(np.diag(self.record.vcov_beta))
        with np.errstate(invalid="ignore", divide="ignore"):
            z = estimate / se
        columns = [estimate, se, estimate - half * se, estimate + half * se, z, 2 * stats.norm.sf(np.abs(z))]
        return pd.DataFrame(
            dict(zip(WALD, columns, strict=True)), index=pd.Index(self.design.common, name="term"), columns=WALD
        )

    def _coef(self, factor: str, level: float) -> pd.DataFrame:
        blocks = [block for block in self.design.blocks if block.factor == factor]
        terms = coef_terms(self.design, blocks)
        J, p = len(blocks[0].levels), len(self.design.common)
        estimate, se = np.zeros((J, len(terms))), np.empty((J, len(terms)))
        for t, term in enumerate(terms):
            X = np.zeros((J, p))
            if term in self.design.common:
                column = self.design.common.index(term)
                X[:, column] = 1.0
                estimate[:, t] = self.record.beta[column]
            rows = []
            for block, modes in zip(self.design.blocks, self._mixed.modes, strict=True):
                values = np.zeros((J, block.size))
                here = block.factor == factor and term in block.labels
                if here:
                    values[:, block.labels.index(term)] = 1.0
                    estimate[:, t] += modes[:, block.labels.index(term)]
                rows.append((np.arange(J) if here else np.full(J, -1), values))
            se[:, t] = np.sqrt(generalised_predict.linear_variance(self._mixed, X, rows))
            se[np.isnan(estimate[:, t]), t] = np.nan
        half = quantile(level) * se
        return effects_frame(factor, blocks[0].levels, terms, estimate, se, estimate - half, estimate + half)

    def varcorr(self, level: float = LEVEL) -> pd.DataFrame:
        """Variances and correlations: group, term1, term2, sdcor, vcov, on the scale of the linear predictor.

        There is no Residual row: the response's variance follows from its mean.  level: of the limits that a
        posterior's table has; those of this fit are in ``confint()``."""
        check_level(level)
        rows: list[dict[str, object]] = []
        if isinstance(self.record, GeneralisedMixedFit):
            for block, cov in zip(self.design.blocks, self.record.covariance, strict=True):
                rows += varcorr_rows(block, cov)
        return pd.DataFrame(rows, columns=["group", "term1", "term2", "sdcor", "vcov"])

    def parameters(self, level: float = LEVEL) -> pd.DataFrame:
        """Every parameter under its name in the posterior: estimate, std_error, lower, upper; index parameter."""
        fixed = self.fixef(level)[["estimate", "std_error", "lower", "upper"]]
        names = [name for block in self.design.blocks for name in (*sd_names(block), *corr_names(block))]
        rest = pd.DataFrame({"estimate": self.varcorr()["sdcor"].to_numpy(dtype=float)}, index=names)
        pieces = [fixed, rest.reindex(columns=fixed.columns)]
        if self.record.likelihood.auxiliary:
            pieces.append(self._auxiliary(level))
        return pd.concat(pieces).rename_axis("parameter")

    def _auxiliary(self, level: float) -> pd.DataFrame:
        """The family's further parameters: limits are Wald's on scales without ends, std_error by the delta method."""
        likelihood, rows = self.record.likelihood, {}
        half = quantile(check_level(level)) * np.sqrt(np.diag(self.record.vcov_auxiliary))
        for k, name in enumerate(likelihood.auxiliary_names):
            a = likelihood.auxiliary[k]
            lower, estimate, upper = (float(likelihood.natural(k, one)) for one in (a - half[k], a, a + half[k]))
            se = half[k] / quantile(level) * likelihood.natural_slope(k, a) if np.isfinite(half[k]) else np.nan
            rows[name] = {"estimate": estimate, "std_error": se, "lower": lower, "upper": upper}
        return pd.DataFrame.from_dict(rows, orient="index")

    # --- fitted values and predictions --------------------------------------------------------------------------
    def fitted(self) -> pd.Series:
        """Expected response of the rows used at the estimated group effects: a probability, or a count."""
        return super().fitted()

    def residuals(self, kind: str = "response") -> pd.Series:
        """response: y - fitted (of proportions for counts out of trials); pearson: over its standard deviation.

        scaled: the same as pearson; deviance: signed root of each row's share of ``residual_deviance``."""
        kind = choice("kind", kind, RESIDUALS)
        likelihood, mean = self.record.likelihood, np.array(self.record.fitted)
        eta = np.array(self.record.eta)
        values = likelihood.y / likelihood.trials - mean
        if kind == "deviance":
            values = np.sign(values) * np.sqrt(likelihood.unit_deviances(eta))
        elif kind != "response":
            variance = likelihood.variance(eta)
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(values == 0, 0.0, values / np.sqrt(variance))
        return pd.Series(values, index=self.design.index, name="residual")

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        target: str = "conditional",
        interval: float | None = None,
        kind: str = "mean",
        new_levels: str = "raise",
        random_seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Expected responses (probabilities, counts): estimate (+ lower, upper), indexed like ``newdata``.

        target: "conditional" (group effects as estimated), "population" (group effects 0: a typical group, not the
        average of groups), "new_group" (averaged over the group effects of a new level of every factor).  interval: a
        probability; normal for the linear predictor, given theta, then through the inverse link.  kind "response": the
        interval holds a new response (for counts out of trials its proportion; ``newdata`` must then have the column of
        trials).  new_levels: "raise", "zero", "sample".  random_seed: nothing is drawn here.  Raises UnknownNameError,
        ArgumentError, DataError."""
        request = read_request(self.design, newdata, target, interval, kind, new_levels)
        table = generalised_predict.predict(self.design, self.record, request)
        lost = lost_rows_note(self.design, request.rows.X, request.rows.index)
        return noted(table, (*request.notes, *lost)) if lost else table

    def simulate(self, draws: int = 1, random_seed: int | np.random.Generator | None = None) -> pd.DataFrame:
        """New responses, group effects drawn anew: (n, draws), columns sim_1, ...; of counts the successes."""
        check_count("draws", draws)
        return generalised_predict.simulate(self.design, self.record, int(draws), generator(random_seed))

    def anova(self, ddf: str | None = "auto") -> pd.DataFrame:
        """Not for generalised models: compare nested fits with ``hm.lrt``."""
        raise UnsupportedError(f"F tests are for Gaussian models, not family {self.family!r}: compare fits with hm.lrt")

    def refit(self, y: np.ndarray) -> GeneralisedFit:
        """The same model for another response (n,), rows in the order of this fit's; successes for counts."""
        record = refit(self.record, y)
        return GeneralisedFit(record.design, record, self.family)

    # --- tables and text ----------------------------------------------------------------------------------------

    def tidy(self) -> pd.DataFrame:
        """broom's tidy(): effect, group, term, estimate, std_error, lower, upper, z, p."""
        return tidy_effects(self.fixef(), self.varcorr(), WALD)

    def glance(self) -> pd.DataFrame:
        """One row about the whole fit: nobs, loglik, aic, bic, criterion, residual deviance, npar, ..."""
        row: dict[str, object] = {
            "nobs": self.nobs,
            "loglik": self.loglik,
            "aic": self.aic,
            "bic": self.bic,
            "criterion": self.criterion,
            "residual_deviance": self.residual_deviance,
            "npar": self.npar,
            "nodes": self.nodes,
            "converged": self.converged,
            "singular": self.singular,
        }
        if isinstance(self.record, GeneralisedLinearFit):
            row |= {"null_deviance": self.record.null_deviance, "df_residual": self.record.df_residual}
        return pd.DataFrame([row])
