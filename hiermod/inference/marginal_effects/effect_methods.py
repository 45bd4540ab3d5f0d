"""The methods of every fit that turn coefficients into answers: means, contrasts, slopes, and shares of variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from hiermod.core.checked import checked

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

LEVEL = 0.95
Names = str | Sequence[str]


@checked
class EffectMethods:
    """Means, contrasts, slopes, icc and r2, alike for REML, ML and Bayesian fits.

    Every table has estimate, std_error, lower, upper; Gaussian REML and ML fits add df, t, p, generalised ones z, p,
    Bayesian ones prob_direction, the posterior probability of the sign.  A Bayesian table holds posterior means and
    equal-tailed intervals of the quantity itself, computed draw by draw.  ``attrs["notes"]`` says in words what was
    averaged, where numbers stand, and why a row is nan."""

    def means(
        self,
        variables: Names,
        at: Mapping[str, Any] | None = None,
        weights: str = "equal",
        scale: str = "link",
        target: str = "population",
        ddf: str | None = "auto",
        level: float = LEVEL,
    ) -> pd.DataFrame:
        """Estimated marginal means, as R's emmeans: the model's expected response at each level of ``variables``.

        variables: a predictor or several (all combinations); they index the table.  Other factors are averaged over,
        numbers stand at their mean (those with only two values at both).  at: other values, ``{"x": [0, 1]}``.
        weights: of the levels averaged over: "equal"; "proportional" to their frequency; "cells": of the row's own.
        scale: "link", or "response" for the inverse link of those (standard error by the delta method).
        target: "population", a typical group; "new_group", the expected response averaged over groups, which differs
        where the link is not the identity.  ddf: "auto" (Satterthwaite where there are degrees of freedom),
        "satterthwaite", "kenward-roger" or None.  Raises UnknownNameError, ArgumentError, UnsupportedError.

        >>> import hiermod as hm
        >>> cake = hm.Model("angle ~ recipe * temperature + (1 | recipe:replicate)", hm.load_dataset("cake")).reml()
        >>> cake.means("recipe")["estimate"].round(2).to_dict()
        {'A': 33.12, 'B': 31.64, 'C': 31.6}
        """
        from hiermod.inference.marginal_effects.marginal_means import means

        return means(cast("Fit", self), variables, at, weights, scale, target, ddf, level)

    def contrasts(
        self,
        variables: Names,
        method: Any = "pairwise",
        by: Names | None = None,
        adjust: str = "auto",
        reference: str | None = None,
        at: Mapping[str, Any] | None = None,
        weights: str = "equal",
        scale: str = "link",
        target: str = "population",
        ddf: str | None = "auto",
        level: float = LEVEL,
    ) -> pd.DataFrame:
        """Comparisons of marginal means, with p values and intervals adjusted for their number.

        method: "pairwise", "revpairwise"; "treatment" (or "trt.vs.ctrl": against ``reference``, by default the first);
        "sum" (or "eff": against the mean of all); "poly", "consec"; a dict of name -> numbers, one for each mean, or ->
        {level: number}; or a matrix with a row for each contrast.  by: within each level of these, a family of its own.
        adjust: "tukey", "dunnett", "bonferroni", "holm", "sidak", "fdr", "none"; "auto" is Tukey for pairs, Dunnett
        (emmeans' dunnettx) for "treatment", fdr for "sum", Sidak for "consec", none for the rest.
        scale: "link"; "response": ratios (log link) or odds ratios (logit); "difference": of expected responses.
        The rest as in ``means``.  Raises UnknownNameError, ArgumentError, UnsupportedError.

        >>> import hiermod as hm
        >>> cake = hm.Model("angle ~ recipe + temperature + (1 | recipe:replicate)", hm.load_dataset("cake")).reml()
        >>> cake.contrasts("recipe", "treatment")["estimate"].round(2).to_dict()
        {'B - A': -1.48, 'C - A': -1.52}
        """
        from hiermod.inference.marginal_effects.marginal_means import contrasts

        fit = cast("Fit", self)
        return contrasts(fit, variables, method, by, adjust, reference, at, weights, scale, target, ddf, level)

    def slopes(
        self,
        variable: str,
        by: Names | None = None,
        at: Mapping[str, Any] | None = None,
        over: str = "grid",
        weights: str = "equal",
        scale: str = "link",
        target: str = "population",
        ddf: str | None = "auto",
        level: float = LEVEL,
    ) -> pd.DataFrame:
        """Change of the expected response per unit of a numeric predictor, whatever poly(), log() or splines it is in.

        by: at each level of these.  at: values of predictors, ``variable`` itself among them.  over: "grid", at the
        reference grid of ``means`` (emmeans' emtrends); "rows", averaged over the rows of the data, or with ``by`` of
        each level (average marginal effects).  The rest as in ``means``.  Raises UnsupportedError for a factor.

        >>> import hiermod as hm
        >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
        >>> fit.slopes("Days")["estimate"].round(3).to_dict()
        {'Days': 10.467}
        """
        from hiermod.inference.marginal_effects.marginal_slopes import slopes

        return slopes(cast("Fit", self), variable, by, at, over, weights, scale, target, ddf, level)

    def icc(
        self,
        group: str | None = None,
        level: float = LEVEL,
        bootstrap: int | None = None,
        random_seed: int | np.random.Generator | None = None,
        cores: int = 1,
    ) -> pd.DataFrame:
        """Intraclass correlation, the share of variance between groups: group, icc, estimate, lower, upper.

        "adjusted": of the variance that predictors leave; "unadjusted": of all.  With several grouping factors, first
        all together, "(all)", then each.  Variance of random slopes: the mean over rows of z' Sigma z (Johnson 2014).
        lower and upper are nan for REML and ML, unless ``bootstrap=`` refits (a number) are asked for; a Bayesian fit
        has the mean and interval of its draws.  Generalised models: on the scale of the linear predictor, with the
        residual variance in ``attrs["notes"]``.  UnsupportedError for a model without groups.

        >>> import hiermod as hm
        >>> fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()
        >>> round(float(fit.icc().loc[0, "estimate"]), 3)
        0.418
        """
        from hiermod.inference.marginal_effects.variance_explained import icc

        return icc(cast("Fit", self), group, level, bootstrap, random_seed, cores)

    def r2(
        self,
        level: float = LEVEL,
        bootstrap: int | None = None,
        random_seed: int | np.random.Generator | None = None,
        cores: int = 1,
    ) -> pd.DataFrame:
        """Nakagawa's R2: estimate, lower, upper; index "marginal" (predictors), "conditional" (predictors and groups).

        Interval and scale as in ``icc``.  A linear model without groups has its ordinary R2, and "adjusted"; other
        models without groups the share of the linear predictor's variance.

        >>> import hiermod as hm
        >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
        >>> fit.r2()["estimate"].round(3).to_dict()
        {'marginal': 0.279, 'conditional': 0.799}
        """
        from hiermod.inference.marginal_effects.variance_explained import r2

        return r2(cast("Fit", self), level, bootstrap, random_seed, cores)
