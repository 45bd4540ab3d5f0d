"""Names that people bring along from R and from other packages, and what each is called here.

One table for attributes (of fits, of a model, of the package), one for arguments, one for values of arguments.  Every
answer is a line to paste: ``fit`` a fit, ``m`` a model, ``d`` the data with columns y, x, f and g.  docs/coming_from/
names.md is this table; tests/core/test_synonyms.py runs every line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hiermod.errors import ArgumentError, ArgumentTypeError, nearest


@dataclass(frozen=True)
class Here:
    """What to write here.  bayes: for posteriors, where it is another line; empty where there is none for them.

    of: the fits that ``line`` is for where no other is given: "any", "likelihood" or "posterior"."""

    line: str
    bayes: str | None = None
    words: str = ""  # a remark that follows the line
    of: str = "any"

    def told(self, bayesian: bool) -> str:
        """``here it is fit.varcorr()``, with the remark."""
        line = self.line if self.bayes is None or not bayesian else self.bayes
        remark = f". {self.words}" if self.words else ""
        return f"here it is {line}{remark}" if line else self.words


_MEANS = Here('fit.means("f")')
_PAIRS = Here('fit.contrasts("f")')
_SLOPES = Here('fit.slopes("x")')
_SCORES = Here("fit.loglik", "fit.loo().elpd")
_AIC = Here("fit.aic", "fit.loo()", "Posteriors are compared by fit.loo() and hm.compare()")
_ANOVA = Here("fit.anova()", "fit.fixef()", "Two REML or ML fits are compared by hm.lrt(smaller, larger)")
_DRAWS = Here("m.fit(draws=1000).idata.posterior", "fit.idata.posterior")
_SD = Here("fit.varcorr()")
_POSTERIOR = "fit is a posterior, m.fit()"
_PPC = Here("hm.plots.predictive_density(m.fit(), curves=50)", "hm.plots.predictive_density(fit, curves=50)")

FIT: dict[str, Here] = {
    # lme4, lmerTest, nlme
    "VarCorr": _SD,
    "logLik": _SCORES,
    "AIC": _AIC,
    "BIC": Here("fit.bic", "fit.loo()"),
    "REMLcrit": Here("fit.criterion", "", "A posterior has no REML criterion: m.reml().criterion is the model's"),
    "getME": Here("fit.theta", "", "A posterior has no theta: fit.varcorr() has the standard deviations"),
    "isSingular": Here("fit.singular", "fit.check()"),
    "ngrps": Here("fit.ngroups"),
    "drop1": _ANOVA,
    "Anova": _ANOVA,
    "ranova": Here("hm.lrt(smaller, larger)", "hm.compare({'a': fit_a, 'b': fit_b})"),
    "lrtest": Here("hm.lrt(smaller, larger)", "hm.compare({'a': fit_a, 'b': fit_b})"),
    "bootMer": Here('fit.confint(method="bootstrap", draws=100)', "fit.confint()"),
    "resid": Here("fit.residuals()"),
    "fixed_effects": Here("fit.fixef()"),
    "coefficients": Here("fit.fixef()", words="fit.coef() has those of each group, as in lme4"),
    "df_resid": Here('fit.fixef()["df"]', "fit.fixef()"),
    "cooks_distance": Here('fit.influence("g")["cooks_distance"]', "fit.loo().pareto_k"),
    "hatvalues": Here('fit.influence()["leverage"]', "fit.loo().pareto_k"),
    "get_influence": Here('fit.influence("g")', "fit.loo().pareto_k"),
    # emmeans, ggeffects, marginaleffects
    "emmeans": _MEANS,
    "lsmeans": _MEANS,
    "emmip": Here('hm.plots.effects(fit, "f")'),
    "ggpredict": Here('hm.plots.effects(fit, "x")'),
    "predictions": _MEANS,
    "avg_predictions": _MEANS,
    "pairs": _PAIRS,
    "contrast": _PAIRS,
    "comparisons": _PAIRS,
    "avg_comparisons": _PAIRS,
    "t_test_pairwise": _PAIRS,
    "emtrends": _SLOPES,
    "avg_slopes": _SLOPES,
    "marginal_effects": _SLOPES,
    "get_margeff": _SLOPES,
    # performance, DHARMa
    "check_model": Here("hm.plots.assumptions(fit)"),
    "simulateResiduals": Here("fit.simulated_residuals()"),
    "r_squared": Here("fit.r2()"),
    "rsquared": Here("fit.r2()"),
    "r2_nakagawa": Here("fit.r2()"),
    "r2_score": Here("fit.r2()"),
    # statsmodels
    "params": Here('fit.fixef()["estimate"]'),
    "fe_params": Here('fit.fixef()["estimate"]'),
    "coef_": Here('fit.fixef()["estimate"]'),
    "intercept_": Here('fit.fixef()["estimate"]'),
    "bse": Here('fit.fixef()["std_error"]'),
    "bse_fe": Here('fit.fixef()["std_error"]'),
    "tvalues": Here('fit.fixef()["t"]', "fit.fixef()"),
    "pvalues": Here(
        'fit.fixef()["p"]', "fit.fixef()", "A posterior has no p values: its intervals, and prob_direction in contrasts"
    ),
    "conf_int": Here("fit.confint()"),
    "cov_params": Here("fit.vcov()"),
    "random_effects": Here("fit.ranef()"),
    "cov_re": _SD,
    "vcomp": _SD,
    "scale": Here("fit.sigma**2"),
    "llf": _SCORES,
    "fittedvalues": Here("fit.fitted()"),
    "predict_proba": Here("fit.predict()"),
    "get_prediction": Here("fit.predict(interval=0.95)"),
    "t_test": _PAIRS,
    "wald_test": _ANOVA,
    "wald_test_terms": _ANOVA,
    "bootstrap": Here('fit.confint(method="bootstrap", draws=100)', "fit.confint()"),
    # brms, rstanarm, Bambi, ArviZ
    "posterior": _DRAWS,
    "as_draws_df": _DRAWS,
    "posterior_samples": _DRAWS,
    "sample_stats": Here("m.fit().idata.sample_stats", "fit.idata.sample_stats"),
    "posterior_predict": Here('fit.predict(interval=0.95, kind="response")'),
    "posterior_epred": Here("fit.predict(interval=0.95)"),
    "posterior_linpred": Here("fit.predict(interval=0.95)"),
    "posterior_interval": Here("fit.confint()"),
    "pp_check": _PPC,
    "plot_ppc": _PPC,
    "conditional_effects": Here('hm.plots.effects(fit, "x")'),
    "mcmc_plot": Here("hm.plots.trace(m.fit())", "hm.plots.trace(fit)"),
    "plot_trace": Here("hm.plots.trace(m.fit())", "hm.plots.trace(fit)"),
    "plot_forest": Here("hm.plots.forest(fit)"),
    "bayes_R2": Here("fit.r2()"),
    "rhat": Here('m.fit().fixef()["r_hat"]', 'fit.fixef()["r_hat"]'),
    "neff_ratio": Here('m.fit().fixef()["ess_bulk"]', 'fit.fixef()["ess_bulk"]'),
    "prior_summary": Here("m.priors()"),
    "psis_loo": Here("m.fit().loo()", "fit.loo()"),
}  # fmt: skip

MODEL: dict[str, Here] = {
    "sample": Here("m.fit()"),
    "build": Here("m.bambi", words="The graph is built when it is first asked for"),
    "set_priors": Here('hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})'),
    "prior_summary": Here("m.priors()"),
    "get_prior": Here("m.priors()"),
    "sample_prior_predictive": Here("m.prior_predictive()"),
    "exog": Here("m.design()"),
    "model_matrix": Here("m.design()"),
    "backend": Here("m.pymc"),
}

PACKAGE: dict[str, Here] = {
    # fitting functions
    "lmer": Here('hm.Model("y ~ x + (x | g)", d).reml()', words="REML = FALSE is .ml()"),
    "lme": Here('hm.Model("y ~ x + (x | g)", d).reml()'),
    "mixedlm": Here('hm.Model("y ~ x + (x | g)", d).reml()'),
    "MixedLM": Here('hm.Model("y ~ x + (x | g)", d).reml()'),
    "glmer": Here('hm.Model("count ~ x + (1 | g)", d, family="poisson").ml()'),
    "lm": Here('hm.Model("y ~ x", d).reml()'),
    "ols": Here('hm.Model("y ~ x", d).reml()'),
    "glm": Here('hm.Model("count ~ x", d, family="poisson").ml()'),
    "brm": Here('hm.Model("y ~ x + (x | g)", d).fit()'),
    "stan_lmer": Here('hm.Model("y ~ x + (x | g)", d).fit()'),
    "stan_glmer": Here('hm.Model("y ~ x + (x | g)", d).fit()'),
    "fit": Here('hm.Model("y ~ x + (x | g)", d).fit()'),
    "Prior": Here('hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})'),
    "set_prior": Here('hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})'),
    "prior": Here('hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})'),
    # functions of fits
    "anova": Here("hm.lrt(smaller, larger)", words="The F tests of one fit are fit.anova()"),
    "loo_compare": Here('hm.compare({"a": fit_a, "b": fit_b})'),
    "VarCorr": _SD,
    "fixef": Here("fit.fixef()"),
    "ranef": Here("fit.ranef()"),
    "coef": Here("fit.coef()"),
    "summary": Here("fit.summary()"),
    "confint": Here("fit.confint()"),
    "profile": Here("fit.profile()", of="likelihood"),
    "logLik": _SCORES,
    "AIC": _AIC,
    "BIC": Here("fit.bic", of="likelihood"),
    "predict": Here("fit.predict()"),
    "residuals": Here("fit.residuals()"),
    "resid": Here("fit.residuals()"),
    "emmeans": _MEANS,
    "pairs": _PAIRS,
    "contrasts": _PAIRS,
    "emtrends": _SLOPES,
    "icc": Here("fit.icc()"),
    "r2": Here("fit.r2()"),
    "isSingular": Here("fit.singular", of="likelihood"),
    "check_model": Here("hm.plots.assumptions(fit)"),
    "loo": Here("fit.loo()", words=_POSTERIOR, of="posterior"),
    "waic": Here("fit.waic()", words=_POSTERIOR, of="posterior"),
    "plot_trace": Here("hm.plots.trace(fit)", words=_POSTERIOR, of="posterior"),
    "plot_forest": Here("hm.plots.forest(fit)"),
    "plot_ppc": Here("hm.plots.predictive_density(fit, curves=50)", words=_POSTERIOR, of="posterior"),
    # data and studies
    "load_data": Here('hm.load_dataset("sleepstudy")'),
    "read_table": Here('hm.read_csv("file.csv")'),
    "read_csv2": Here('hm.read_csv("file.csv")', words="Semicolons and decimal commas are found"),
    "powerSim": Here(
        'hm.power("y ~ x + f + (1 | g)", d, fixef=fit.fixef()["estimate"], varcorr=fit.varcorr(), '
        'sigma=fit.sigma, term="x", fits=20)'
    ),
}  # fmt: skip

# (function, argument) -> the line it is here; where the function's own arguments are named, any spelling of it
ARGUMENTS: dict[tuple[str, str], str] = {
    ("Model", "REML"): 'hm.Model("y ~ x + (1 | g)", d).reml(), and .ml() for REML=False',
    ("Model", "method"): 'hm.Model("y ~ x + (1 | g)", d).reml(), .ml() or .fit()',
    ("Model", "groups"): 'hm.Model("y ~ x + (1 | g)", d)',
    ("Model", "re_formula"): 'hm.Model("y ~ x + (x | g)", d)',
    ("Model", "vc_formula"): 'hm.Model("y ~ x + (1 | g) + (1 | f)", d)',
    ("Model", "random"): 'hm.Model("y ~ x + (x | g)", d)',
    ("Model", "prior"): 'hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})',
    ("Model", "offset"): 'hm.Model("y ~ x + offset(x) + (1 | g)", d)',
    ("Model", "subset"): 'hm.Model("y ~ x + (1 | g)", d[d["x"] > 0])',
    ("Model", "na_action"): 'hm.Model("y ~ x + (1 | g)", d, dropna=True)',
    ("Model", "missing"): 'hm.Model("y ~ x + (1 | g)", d, dropna=True)',
    ("Model", "contrasts"): 'hm.Model("y ~ C(f, Sum) + (1 | g)", d)',
    ("Model", "nAGQ"): 'hm.Model("count ~ x + (1 | g)", d, family="poisson").ml(nodes=9)',
    ("Model", "chains"): 'hm.Model("y ~ x + (1 | g)", d).fit(chains=4)',
    ("Model", "iter"): 'hm.Model("y ~ x + (1 | g)", d).fit(draws=1000)',
    ("Model", "seed"): 'hm.Model("y ~ x + (1 | g)", d).fit(random_seed=1)',
    ("Model", "auto_scale"): 'hm.Model("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 10)"})',
    ("fit", "seed"): "m.fit(random_seed=1)",
    ("fit", "random_state"): "m.fit(random_seed=1)",
    ("fit", "rng"): "m.fit(random_seed=1)",
    ("fit", "iter"): "m.fit(draws=1000)",
    ("fit", "samples"): "m.fit(draws=1000)",
    ("fit", "num_samples"): "m.fit(draws=1000)",
    ("fit", "warmup"): "m.fit(tune=1000)",
    ("fit", "num_warmup"): "m.fit(tune=1000)",
    ("fit", "progress_bar"): "m.fit(progressbar=False)",
    ("fit", "adapt_delta"): "m.fit(target_accept=0.9)",
    ("fit", "reml"): "m.reml()",
    ("fit", "REML"): "m.reml()",
    ("fit", "method"): "m.reml(), m.ml() or m.fit()",
    ("ml", "nAGQ"): "m.ml(nodes=1)",
    ("reml", "REML"): "m.ml()",
    ("predict", "re_form"): 'fit.predict(target="population")',
    ("predict", "re_formula"): 'fit.predict(target="population")',
    ("predict", "random_only"): 'fit.predict(target="conditional")',
    ("predict", "type"): "fit.predict()",
    ("predict", "allow_new_levels"): 'fit.predict(d, new_levels="zero")',
    ("predict", "exog"): "fit.predict(d)",
    ("predict", "data"): "fit.predict(d)",
    ("predict", "level"): "fit.predict(interval=0.95)",
    ("predict", "se_fit"): "fit.predict(interval=0.95)",
    ("means", "type"): 'fit.means("f", scale="response")',
    ("means", "specs"): 'fit.means("f")',
    ("means", "by"): 'fit.means(["f", "x"])',
    ("means", "adjust"): 'fit.contrasts("f", adjust="holm")',
    ("contrasts", "type"): 'fit.contrasts("f", scale="response")',
    ("contrasts", "ref"): 'fit.contrasts("f", "treatment", reference="b")',
    ("contrasts", "specs"): 'fit.contrasts("f")',
    ("contrasts", "simple"): 'fit.contrasts("f", by="x")',
    ("slopes", "type"): 'fit.slopes("x", scale="response")',
    ("slopes", "var"): 'fit.slopes("x")',
    ("slopes", "variables"): 'fit.slopes("x")',
    ("slopes", "specs"): 'fit.slopes("x", by="f")',
    ("ranef", "whichel"): 'fit.ranef("g")',
    ("ranef", "condVar"): 'fit.ranef()["std_error"]',
    ("coef", "summary"): "fit.coef()",
    ("confint", "parm"): 'fit.confint(parameters=["x"])',
    ("confint", "alpha"): "fit.confint(level=0.95)",
    ("confint", "oldNames"): "fit.confint()",
    ("confint", "nsim"): 'fit.confint(method="bootstrap", draws=100)',
    ("fixef", "summary"): "fit.fixef()",
    ("anova", "type"): "fit.anova()",
    ("residuals", "type"): 'fit.residuals(kind="pearson")',
    ("simulate", "nsim"): "fit.simulate(draws=10)",
    ("simulate", "seed"): "fit.simulate(random_seed=1)",
    ("influence", "groups"): 'fit.influence("g")',
    ("loo", "moment_match"): 'fit.loo(refit_bad="auto")',
    ("loo", "reloo"): 'fit.loo(refit_bad="auto")',
    ("kfold", "K"): "fit.kfold(k=10)",
    ("kfold", "folds"): "fit.kfold(k=10)",
    ("read_csv", "sep"): 'hm.read_csv("file.csv", separator=";")',
    ("read_csv", "delimiter"): 'hm.read_csv("file.csv", separator=";")',
    ("read_csv", "dec"): 'hm.read_csv("file.csv", decimal=",")',
    ("read_csv", "fileEncoding"): 'hm.read_csv("file.csv", encoding="utf-8")',
    ("read_csv", "na_values"): 'hm.read_csv("file.csv", missing=["-99"])',
    ("read_csv", "na"): 'hm.read_csv("file.csv", missing=["-99"])',
    ("read_csv", "dtype"): 'hm.read_csv("file.csv", types={"g": "category"})',
    ("read_csv", "col_types"): 'hm.read_csv("file.csv", types={"g": "category"})',
    ("read_csv", "colClasses"): 'hm.read_csv("file.csv", types={"g": "category"})',
    ("read_csv", "parse_dates"): 'hm.read_csv("file.csv", dates={"day": "%d.%m.%Y"})',
    ("read_csv", "dayfirst"): 'hm.read_csv("file.csv", dates={"day": "%d.%m.%Y"})',
    ("read_csv", "usecols"): 'hm.read_csv("file.csv", columns=["y", "g"])',
    ("read_csv", "header"): 'hm.read_csv("file.csv", names=["y", "g", "x", "day"], skip=1)',
    ("read_csv", "col_names"): 'hm.read_csv("file.csv", names=["y", "g", "x", "day"], skip=1)',
    ("read_csv", "skiprows"): 'hm.read_csv("file.csv", skip=0)',
    ("read_csv", "skipfooter"): 'hm.read_csv("file.csv", footer=0)',
}

VALUES: dict[tuple[str, str], str] = {  # (argument, value in small letters) -> the value here
    ("adjust", "bonf"): "bonferroni",
    ("adjust", "fdr_bh"): "fdr",
    ("adjust", "benjamini-hochberg"): "fdr",
    ("adjust", "hsd"): "tukey",
    ("adjust", "tukeyhsd"): "tukey",
    ("adjust", "no"): "none",
    ("method", "boot"): "bootstrap",
    ("method", "likelihood"): "profile",
    ("method", "normal"): "wald",
    ("method", "pairs"): "pairwise",
    ("method", "tukey"): "pairwise",
    ("method", "trt.vs.ctrlk"): "treatment",
    ("method", "ref"): "treatment",
    ("method", "polynomial"): "poly",
    ("ddf", "kr"): "kenward-roger",
    ("ddf", "kenward"): "kenward-roger",
    ("ddf", "sat"): "satterthwaite",
    ("ddf", "satt"): "satterthwaite",
    ("kind", "raw"): "response",
    ("kind", "working"): "response",
    ("kind", "standardized"): "scaled",
    ("kind", "studentized"): "scaled",
    ("kind", "prediction"): "response",
    ("kind", "confidence"): "mean",
    ("scale", "logit"): "link",
    ("scale", "lp"): "link",
    ("scale", "resp"): "response",
    ("scale", "prob"): "response",
    ("target", "fixed"): "population",
    ("target", "marginal"): "new_group",
    ("new_levels", "allow"): "zero",
    ("new_levels", "sample_new_levels"): "sample",
}


def spelled(name: str) -> str:
    """A name as this package would spell it: ``conf.int`` and ``confInt`` are ``conf_int``.

    >>> spelled("re.form"), spelled("seFit"), spelled("nAGQ")
    ('re_form', 'se_fit', 'n_agq')
    """
    out = "".join("_" + one if one.isupper() and i and name[i - 1].islower() else one for i, one in enumerate(name))
    return out.replace(".", "_").lower()


def _line(function: str, argument: str) -> str | None:
    """What to write for an argument of that name, in any spelling; None where the table has none."""
    own = {one: line for (owner, one), line in ARGUMENTS.items() if owner == function}
    return own.get(argument) or next((line for one, line in own.items() if spelled(one) == spelled(argument)), None)


def no_attribute(
    thing: Any, name: str, table: Mapping[str, Here], bayesian: bool = False, otherwise: str = ""
) -> AttributeError:
    """The error for an attribute that is not there: what it is called here, or ``otherwise``."""
    found = table.get(name)
    if found is None and not otherwise and not name.startswith("_"):  # what Python and notebooks ask for is never ours
        found = next((here for one, here in table.items() if spelled(one) == spelled(name)), None)
    told = otherwise if found is None else found.told(bayesian)
    what = "module 'hiermod'" if table is PACKAGE else f"{type(thing).__name__!r} object"
    return AttributeError(f"{what} has no attribute {name!r}{f': {told}' if told else ''}", name=name, obj=thing)


def refuse_argument(function: str, argument: str, own: Collection[str]) -> None:
    """Raise ArgumentTypeError for an argument that ``function`` has not, saying what to write instead."""
    line = _line(function, argument)
    if line is not None:
        raise ArgumentTypeError(f"{function}() has no argument {argument!r}: here it is {line}")
    listed = f" Its arguments are: {', '.join(own)}." if own else " It takes none."
    raise ArgumentTypeError(f"{function}() has no argument {argument!r}.{nearest(argument, own)}{listed}")


def refuse_setting(name: str, known: Collection[str], otherwise: str) -> None:
    """Raise ArgumentError for a setting of fit() that is none of ``known``."""
    line = _line("fit", name)
    if line is not None:
        raise ArgumentError(f"fit() has no argument {name!r}: here it is {line}")
    if name not in known:
        raise ArgumentError(f"fit() has no argument {name!r}, and {otherwise}")


def refuse_value(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise ArgumentError for a value that is not one of ``allowed``, with the one that was meant."""
    here = VALUES.get((name, value.lower())) if isinstance(value, str) else None
    meant = f" It is called {here!r} here." if here in allowed else nearest(str(value), allowed)
    raise ArgumentError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.{meant}")
