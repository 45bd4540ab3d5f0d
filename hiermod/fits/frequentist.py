"""FrequentistFit: a REML, ML or least-squares fit in the common vocabulary, with lme4's meanings.

Bates et al. (2015), J. Stat. Softw. 67(1), section 5 defines the accessors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.answers import answers
from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit, joint_variance
from hiermod.engines.likelihood.refit import refit
from hiermod.errors import UnsupportedError
from hiermod.fits import frequentist_predict
from hiermod.fits.estimable import lost_rows_note
from hiermod.fits.tables import (
    LEVEL,
    check_group,
    check_level,
    coef_terms,
    corr_names,
    effects_frame,
    quantile,
    sd_names,
    stack_effects,
    tidy_effects,
    varcorr_rows,
)
from hiermod.fits.targets import choice, read_request
from hiermod.fits.vocabulary import LIKELIHOOD_FIT, Fit
from hiermod.formula.design import Block, Design

if TYPE_CHECKING:
    from hiermod.inference.assumptions.deletion_table import influence as _influence
    from hiermod.inference.coefficient_tests.tables import anova as _anova
    from hiermod.inference.coefficient_tests.tables import fixef as _fixef
    from hiermod.inference.intervals import confint as _confint
    from hiermod.inference.intervals import profile as _profile
    from hiermod.output.frequentist_text import check as _check
    from hiermod.output.frequentist_text import summary as _summary


@answers(LIKELIHOOD_FIT)
@checked
class FrequentistFit(Fit):
    """What ``Model.reml()`` and ``Model.ml()`` return.  Immutable; pickles.

    ``record`` is the engine's own result (theta, Lambda, modes), ``design`` the data it was fitted to."""

    record: MixedFit | LinearFit

    if TYPE_CHECKING:
        fixef, anova, confint, profile, influence = _fixef, _anova, _confint, _profile, _influence
        summary, check = _summary, _check

    def __init__(self, design: Design, record: MixedFit | LinearFit, family: str = "gaussian") -> None:
        self.design, self.record, self.family, self.link = design, record, family, "identity"

    # --- the fit as a whole -------------------------------------------------------------------------------------
    @property
    def reml(self) -> bool:
        """True for REML estimates, False for maximum likelihood."""
        return self.record.reml

    @property
    def is_mixed(self) -> bool:
        """False for a formula without a bar: an ordinary linear model."""
        return isinstance(self.record, MixedFit)

    @property
    def sigma(self) -> float:
        """Residual standard deviation, unit of the response; nan when ``se=`` gave one for every row."""
        return float("nan") if self.design.precision.sigma_known else float(self.record.sigma)

    @property
    def npar(self) -> int:
        """Parameters estimated: coefficients, covariance parameters, sigma."""
        return int(self.record.npar)

    @property
    def criterion(self) -> float:
        """REML criterion, or -2 log likelihood for ML: what the fit minimised."""
        return float(self.record.criterion)

    @property
    def loglik(self) -> float:
        """Log likelihood with its constants; the REML log likelihood for a REML fit, as R's logLik."""
        return float(self.record.loglik)

    @property
    def deviance(self) -> float:
        """-2 log likelihood of an ML fit.  Raises UnsupportedError for a REML fit: its criterion is no deviance."""
        if self.reml:
            raise UnsupportedError(
                "a REML fit has no deviance: .criterion is its REML criterion, and m.ml().deviance is -2 log likelihood"
            )
        return -2 * self.loglik

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 loglik + 2 npar, from the REML likelihood for a REML fit, as R's."""
        return -2 * self.loglik + 2 * self.npar

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 loglik + log(rows) npar, as R's."""
        return -2 * self.loglik + np.log(self.nobs) * self.npar

    @property
    def theta(self) -> pd.Series:
        """Covariance parameters relative to sigma, lme4's names and order (Cholesky factors by column)."""
        if not isinstance(self.record, MixedFit):
            return pd.Series(dtype=float, name="theta")
        return pd.Series(self.record.theta, index=list(self.record.theta_names), name="theta")

    @property
    def converged(self) -> bool:
        """The gradient is zero within tolerance and the curvature is not negative; True for least squares."""
        return bool(getattr(self.record, "converged", True))

    @property
    def singular(self) -> bool:
        """The estimated covariance of the group effects is rank deficient (lme4: isSingular)."""
        return bool(getattr(self.record, "singular", False))

    # --- estimates ----------------------------------------------------------------------------------------------
    def vcov(self) -> pd.DataFrame:
        """Covariance of the common coefficients, (p, p); nan for a coefficient that could not be estimated."""
        return pd.DataFrame(np.array(self.record.vcov_beta), index=self.design.common, columns=self.design.common)

    def ranef(self, group: str | None = None, level: float = LEVEL) -> pd.DataFrame:
        """Group ("random") effects, their conditional modes: group, level, term, estimate, std_error, lower, upper.

        std_error is lme4's condsd: given theta, sigma and the common coefficients."""
        check_level(level)
        pieces = []
        for block in check_group(self.design, group):
            i = self.design.blocks.index(block)
            modes = np.array(self._mixed.modes[i])
            sd = np.array(self._mixed.cond_sd[i])
            half = quantile(level) * sd
            pieces.append(
                effects_frame(block.factor, block.levels, block.labels, modes, sd, modes - half, modes + half)
            )
        return stack_effects(pieces)

    def coef(self, group: str | None = None, level: float = LEVEL) -> pd.DataFrame:
        """Coefficients per level, fixef + ranef, ``ranef``'s columns; std_error from their joint law given theta."""
        check_level(level)
        check_group(self.design, group)
        factors = dict.fromkeys(block.factor for block in self.design.blocks)
        return stack_effects([self._coef(f, level) for f in ([group] if group is not None else factors)])

    def _coef(self, factor: str, level: float) -> pd.DataFrame:
        blocks = [block for block in self.design.blocks if block.factor == factor]
        terms = coef_terms(self.design, blocks)
        J, p = len(blocks[0].levels), len(self.design.common)
        estimate, se = np.empty((J, len(terms))), np.empty((J, len(terms)))
        for t, term in enumerate(terms):
            X = np.zeros((J, p))
            if term in self.design.common:
                column = self.design.common.index(term)
                if not self.design.estimable[column]:
                    estimate[:, t] = se[:, t] = np.nan
                    continue
                X[:, column] = 1.0
            rows = [self._effect_rows(block, factor, term, J) for block in self.design.blocks]
            estimate[:, t] = frequentist_predict.linear_predictor(self.record, X, rows)
            se[:, t] = np.sqrt(joint_variance(self._mixed, X, rows))
        half = quantile(level) * se
        return effects_frame(factor, blocks[0].levels, terms, estimate, se, estimate - half, estimate + half)

    @staticmethod
    def _effect_rows(block: Block, factor: str, term: str, J: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that pick ``term``'s effect of each level, or nothing from another factor's block."""
        values = np.zeros((J, block.size))
        if block.factor != factor or term not in block.labels:
            return np.full(J, -1), values
        values[:, block.labels.index(term)] = 1.0
        return np.arange(J), values

    def varcorr(self, level: float = LEVEL) -> pd.DataFrame:
        """Variances and correlations: group, term1, term2, sdcor, vcov, as lme4's as.data.frame(VarCorr(fit)).

        term2 missing: sdcor is a standard deviation; else a correlation.  Last row: Residual (absent with ``se=``).
        level: of the limits that a posterior's table has; those of REML and ML are in ``confint()``."""
        check_level(level)
        rows: list[dict[str, object]] = []
        if isinstance(self.record, MixedFit):
            for block, Lambda in zip(self.design.blocks, self.record.Lambda, strict=True):
                rows += varcorr_rows(block, self.record.sigma**2 * Lambda @ Lambda.T)
        if not self.design.precision.sigma_known:
            rows.append({"group": "Residual", "term1": None, "term2": None, "sdcor": self.sigma, "vcov": self.sigma**2})
        return pd.DataFrame(rows, columns=["group", "term1", "term2", "sdcor", "vcov"])

    def parameters(self, level: float = LEVEL) -> pd.DataFrame:
        """Every parameter under its name in the posterior: estimate, std_error, lower, upper; index parameter."""
        fixed = self.fixef(level)[["estimate", "std_error", "lower", "upper"]]
        names = [name for block in self.design.blocks for name in (*sd_names(block), *corr_names(block))]
        varcorr = self.varcorr()
        if not self.design.precision.sigma_known:
            names.append("sigma")
        rest = pd.DataFrame({"estimate": varcorr["sdcor"].to_numpy()}, index=names)
        return pd.concat([fixed, rest.reindex(columns=fixed.columns)]).rename_axis("parameter")

    # --- fitted values and predictions --------------------------------------------------------------------------
    def fitted(self) -> pd.Series:
        """X beta + Z b + offset for the rows used, unit of the response."""
        return pd.Series(np.array(self.record.fitted), index=self.design.index, name="fitted")

    def residuals(self, kind: str = "response") -> pd.Series:
        """response: y - fitted; pearson: times sqrt(w); scaled: pearson / sigma (lme4's "scaled residuals")."""
        kind = choice("kind", kind, ("response", "pearson", "scaled"))
        values = self.design.y - np.array(self.record.fitted)
        if kind == "scaled" or (kind == "pearson" and not self.design.precision.sigma_known):
            values = self.design.precision.whiten(values)
        if kind == "scaled" and not self.design.precision.sigma_known:
            values = values / self.record.sigma
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
        """Predictions: estimate (+ lower, upper), indexed like ``newdata`` (default: the rows of the fit).

        target: "conditional" (group effects as estimated), "population" (group effects 0), "new_group" (a new level of
        every factor).  interval: a probability such as 0.95; normal, given theta, from the joint law of (beta, b).
        kind: "mean", or "response" to add residual noise; weights and known sds of new rows are those of ``newdata``,
        in the column that ``weights=`` or ``se=`` named (no column: weight 1, as a note says; se is refused).
        new_levels: "raise", "zero", or "sample" (adds the spread of groups).  random_seed: nothing is drawn here.
        Raises UnknownNameError, ArgumentError, DataError."""
        request = read_request(self.design, newdata, target, interval, kind, new_levels)
        table = frequentist_predict.predict(self.design, self.record, request)
        lost = lost_rows_note(self.design, request.rows.X, request.rows.index)
        return noted(table, (*request.notes, *lost)) if lost else table

    @property
    def _mixed(self) -> MixedFit:
        if not isinstance(self.record, MixedFit):
            raise UnsupportedError(f"{self.formula!r} has no group effects: add a term such as (1 | g) to the formula")
        return self.record

    # --- uncertainty and simulation -----------------------------------------------------------------------------

    def refit(self, y: np.ndarray) -> FrequentistFit:
        """The same model fitted to another response (n,), rows in the order of this fit's."""
        record = refit(self.record, y)
        return FrequentistFit(record.design, record, self.family)

    def simulate(self, draws: int = 1, random_seed: int | np.random.Generator | None = None) -> pd.DataFrame:
        """New responses from the fitted model, group effects drawn anew: (n, draws), columns sim_1, sim_2, ..."""
        check_count("draws", draws)
        return frequentist_predict.simulate(self.design, self.record, draws, generator(random_seed))

    # --- tables and text ----------------------------------------------------------------------------------------

    def tidy(self) -> pd.DataFrame:
        """broom's tidy(): effect, group, term, estimate, std_error, lower, upper, df, t, p."""
        columns = ["estimate", "std_error", "lower", "upper", "df", "t", "p"]
        return tidy_effects(self.fixef(), self.varcorr(), columns)

    def glance(self) -> pd.DataFrame:
        """One row about the whole fit: nobs, sigma, loglik, aic, bic, criterion, npar, ..."""
        row: dict[str, object] = {
            "nobs": self.nobs,
            "sigma": self.sigma,
            "loglik": self.loglik,
            "aic": self.aic,
            "bic": self.bic,
            "criterion": self.criterion,
            "npar": self.npar,
            "reml": self.reml,
            "converged": self.converged,
            "singular": self.singular,
        }
        if isinstance(self.record, LinearFit):
            F, df1, df2 = self.record.f_statistic
            row |= {
                "r_squared": self.record.r_squared,
                "adj_r_squared": self.record.adj_r_squared,
                "F": F,
                "df": df1,
                "df_residual": df2,
            }
        return pd.DataFrame([row])

    def augment(self) -> pd.DataFrame:
        """The rows used with fitted values, population predictions and residuals beside them (broom's augment())."""
        columns = {
            ".fitted": self.fitted(),
            ".fixed": self.predict(target="population")["estimate"],
            ".resid": self.residuals(),
            ".scaled_resid": self.residuals("scaled"),
        }
        return self.design.frame.assign(**columns)
