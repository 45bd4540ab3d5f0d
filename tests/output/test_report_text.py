"""fit.report(): true numbers, whole sentences, nothing left out that a reader must know."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made

import hiermod as hm
from hiermod.core.escaping import markdown, markdown_code
from hiermod.output.writing.methods_report import Report
from hiermod.output.writing.report_sample import CODE, counted, joined


def flat(report: Any) -> str:
    """The plain text without its line breaks."""
    return " ".join(str(report).split())


@pytest.fixture(scope="module")
def sleep() -> hm.Model:
    return hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))


def test_a_reml_report(sleep: hm.Model) -> None:
    text = flat(sleep.reml().report())
    for part in (
        "The analysis used 180 observations of Reaction, from 18 levels of Subject (10 each).",
        "Reaction had a mean of 299 (SD 56) and ranged from 194.3 to 466.4.",  # R: mean 298.51, sd 56.33
        "Days had a mean of 4.5 (SD 2.9) and ranged from 0 to 9.",
        "A linear mixed model was fitted to Reaction with a fixed effect of Days.",
        "The intercept and the effect of Days varied by Subject, with correlations estimated.",
        "In formula notation: Reaction ~ Days + (Days | Subject).",
        "by restricted maximum likelihood (REML); degrees of freedom",
        "Satterthwaite's. The optimiser converged, and no variance or correlation was at its boundary.",
        # lmerTest: 251.405 (6.825) t 36.838 on 17.00; 10.467 (1.546) t 6.771 on 17.00, p 3.26e-06
        "For the intercept the estimate was 251.4 (SE 6.8), 95 % CI [237.0, 265.8], t(17.0) = 36.84, p < 0.001.",
        "For Days the estimate was 10.5 (SE 1.5), 95 % CI [7.2, 13.7], t(17.0) = 6.77, p < 0.001.",
        # lme4's VarCorr: 24.7407, 5.9221, 0.066; 25.5918
        "the standard deviation was 24.7 for the intercept and 5.92 for the effect of Days, with a correlation of 0.07",
        "The residual standard deviation was 25.6.",
    ):
        assert part in text
    assert re.search(r"The analysis used hiermod \S+, NumPy [\d.]+ and SciPy [\d.]+ \(Python [\d.]+\)\.", text)
    assert max(map(len, str(sleep.reml().report()).splitlines())) <= 80


def test_ml_is_not_called_reml(sleep: hm.Model) -> None:
    text = flat(sleep.ml().report())
    assert "estimated by maximum likelihood; degrees" in text
    assert "REML" not in text


def test_a_bayesian_report(sleep: hm.Model) -> None:
    fit = hand_made(sleep, beta=[251.0, 10.5], spread=2.0, sds=20.0, method="pymc", divergences=3, chains=2)
    fit.model = sleep
    fit.priors = sleep._gaussian_priors(None)
    text = flat(fit.report())
    table, varcorr = fit.fixef(), fit.varcorr()
    mean, sd, low, high = table.loc["Days"][["estimate", "std_error", "lower", "upper"]]
    for part in (
        "A Bayesian linear mixed model was fitted to Reaction",
        "Priors were Intercept ~ Normal(298.508, 261.009), Days ~ Normal(0, 48.8915), sigma ~ HalfStudentT(nu=4, ",
        "Subject_corr ~ LKJ(2). The prior of the intercept is on its value where the predictors are at their means.",
        "No-U-Turn sampler of PyMC: 2 chains of 500 draws after 1,000 tuning steps each (seed 1).",
        "The largest R-hat was 1.000, the smallest effective sample sizes were 800 (bulk) and 700 (tail); "
        "3 of 1,000 transitions diverged.",
        f"For Days the posterior mean was {mean:.1f} (SD {sd:.1f}), 95 % CI [{low:.1f}, {high:.1f}].",
        f"The residual standard deviation was {varcorr['sdcor'].iloc[-1]:.1f} (95 % CI [",
        "posterior means with posterior standard deviations and 95 % equal-tailed credible intervals",
    ):
        assert part in text
    assert "PyMC 5" in text or "PyMC 6" in text
    assert "confidence interval" not in text
    assert ", p " not in text


def test_the_marginal_engine_by_its_own_name() -> None:
    fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).fit(draws=800, random_seed=1)
    text = flat(fit.report())
    assert "The fixed effects and the group effects were integrated out analytically" in text
    assert "4 chains of 800 draws (seed 1)" in text
    assert "Pareto k-hat of the proposals was 0." in text
    assert "diverged" not in text
    assert "PyMC" not in text  # it played no part
    assert "with no fixed effect but the intercept" in text
    assert "predictors are at their means" not in text  # there are none


def test_one_chain_has_no_r_hat(sleep: hm.Model) -> None:
    fit = hand_made(sleep, chains=1, max_r_hat=float("nan"), messages=("With one chain, nothing is sure.",))
    text = flat(fit.report())
    assert "1 chain of 500 draws" in text
    assert "nan" not in text
    assert "With one chain, R-hat cannot see chains that disagree." in text
    assert "nothing is sure" not in text
    assert "The priors are not known" in text


def test_a_methods_text_tells_faults_and_gives_no_advice_on_code(sleep: hm.Model) -> None:
    told = (
        "1 of 2 transitions diverged. Raise target_accept (0.95), or fit(tune=2000).",
        "Run longer (tune=, draws=).",
    )
    ill = hand_made(sleep, method="pymc", divergences=3, chains=1, max_r_hat=1.19, min_ess_bulk=120.0, messages=told)
    text = flat(ill.report())
    for part in (
        "The largest R-hat was 1.190",
        "may be unexplored, so estimates may be biased.",
        "An R-hat above 1.01 means that the chains had not reached one distribution.",
        "With one chain, R-hat cannot see chains that disagree.",
        "An effective sample size below 400 leaves means and interval ends noisy.",
    ):
        assert part in text
    well = flat(hand_made(sleep, method="pymc", divergences=0, chains=4).report())
    for part in ("unexplored", "above", "below", "With one chain"):
        assert part not in well
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"y": rng.normal(size=60), "x": rng.normal(size=60), "g": np.repeat([*"abcdef"], 10)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        singular = hm.Model("y ~ x + (x | g)", d).reml()
        assert singular.singular
    for fit in (ill, singular, sleep.reml()):
        for _, paragraphs in fit.report().sections:
            for plain in (part for one in paragraphs for part in re.split(f"[{CODE}]", one)[::2]):
                found = re.search(
                    r"[a-z_]{2,}\(|\w=|=\w|\|\||target_accept|tune\b|(?i:\b(raise|rescale|simplify|try|write)\b)", plain
                )
                assert found is None, (found, plain)


def test_counts_factors_and_odds() -> None:
    model = hm.Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    text = flat(model.ml().report())
    for part in (
        "56 observations of p(incidence, size), from 15 levels of herd (1 to 4 each, median 4)",
        "There were 99 successes in 842 trials (11.8 %).",  # sum(cbpp$incidence), sum(cbpp$size)
        "period had 4 categories: 1 (15), 2 (14), 3 (14), 4 (13).",
        "A generalised linear mixed model of family binomial with logit link",
        "The reference category was 1 for period.",
        "by maximum likelihood with the Laplace approximation; tests and confidence intervals of the fixed effects are "
        "Wald's",
        # lme4: period2 -0.9925 (0.3067) z -3.236 p 0.00121; exp(-0.9925) = 0.3707
        "For period[2] the estimate was −0.99 (SE 0.31), 95 % CI [−1.59, −0.39], z = −3.24, p = 0.001 "
        "(odds ratio 0.371 [0.203, 0.676]).",
        "Between levels of herd, the standard deviation was 0.642 for the intercept.",
    ):
        assert part in text
    assert "adaptive Gauss-Hermite quadrature (5 nodes)" in flat(model.ml(nodes=5).report())
    assert "odds ratio" not in text.split("For period[2]")[0]  # an intercept's odds are no ratio


def test_boundaries_are_told() -> None:
    model = hm.Model("mpg ~ wt + (wt | cyl)", hm.load_dataset("mtcars"))
    with pytest.warns(hm.SingularFitWarning):
        text = flat(model.reml().report())
    assert "The fit is singular (at the boundary of the parameter space): the correlation of Intercept and wt" in text
    assert "no variance or correlation was at its boundary" not in text


def test_least_squares() -> None:
    cars = hm.load_dataset("mtcars")
    text = flat(hm.Model("mpg ~ wt * hp + offset(qsec)", cars, weights="disp").reml().report())
    for part in (
        "A linear model was fitted to mpg with fixed effects of wt and hp and the interaction wt:hp.",
        "Observations had prior weights",
        "The linear predictor had an offset.",
        "by weighted least squares; tests and confidence intervals use the t distribution with the residual df.",
        "t(28) = ",
    ):
        assert part in text
    assert "levels of" not in text
    assert "converged" not in text


def test_group_effects_in_words() -> None:
    cake = hm.load_dataset("cake")
    text = _model_text("angle ~ 0 + recipe + (0 + recipe || replicate)", cake)
    assert (
        "The effect of recipe[A], the effect of recipe[B] and the effect of recipe[C] varied by replicate, without "
        "correlations." in text
    )
    assert "of recipe, without an intercept." in text
    two = _model_text("angle ~ recipe + (1 | replicate) + (1 | replicate:recipe)", cake)
    assert "The reference category was A for recipe." in two
    assert "The intercept varied by replicate. The intercept varied by replicate:recipe." in two
    assert "from 15 levels of replicate (18 each) and 45 levels of replicate:recipe (6 each)." in two


def _model_text(formula: str, data: pd.DataFrame) -> str:
    return flat(hand_made(hm.Model(formula, data)).report())


def test_rows_left_out_and_long_lists() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({f"x{i}": rng.normal(size=80) for i in range(15)}).assign(y=rng.normal(size=80))
    data.loc[4, "x0"] = np.nan
    formula = "y ~ " + " + ".join(f"x{i}" for i in range(15))
    text = flat(hm.Model(formula, data, dropna=True).ml().report())
    assert "Of the 80 rows of the data, 1 was left out for missing values (x0: 1)." in text
    assert "The other predictors were x8, x9, x10, x11, x12, x13 and x14." in text
    assert "The other 4 coefficients are in a table of their own." in text
    data.loc[5, "x1"] = np.nan
    assert "2 were left out for missing values (x0: 1 and x1: 1)" in flat(
        hm.Model(formula, data, dropna=True).ml().report()
    )


def test_rank_deficiency_and_known_residuals() -> None:
    data = pd.DataFrame({"y": [1.0, 3, 2, 5, 4, 6], "x": [0.0, 1, 2, 3, 4, 5], "s": np.full(6, 0.5)}).assign(
        z=lambda d: 2 * d["x"]
    )
    with pytest.warns(hm.RankDeficiencyWarning):
        fit = hm.Model("y ~ x + z", data, se="s").ml()
    text = flat(fit.report())
    assert "The model matrix is rank deficient: z is explained by earlier columns." in text
    assert "For z" not in text
    assert "The residual standard deviation of every observation was taken as known." in text


def test_a_loaded_fit_reports_the_versions_it_was_made_with(sleep: hm.Model, tmp_path: Any) -> None:
    from dataclasses import replace

    from hiermod.output.storage.origins import origin_of

    fit = sleep.reml()
    fit.origin = replace(origin_of(fit), versions={"hiermod": "0.0.7", "numpy": "1.0", "scipy": "1.1", "python": "3.9"})
    back = hm.load(fit.save(tmp_path / "fit.nc"))
    assert "The analysis used hiermod 0.0.7, NumPy 1.0 and SciPy 1.1 (Python 3.9)." in flat(back.report())


def test_markdown_and_html(sleep: hm.Model) -> None:
    report = sleep.reml().report()
    text = report.to_markdown()
    assert text.startswith("## Sample\n\n")
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## Sample", "## Methods", "## Results"]
    assert "`Reaction ~ Days + (Days | Subject)`" in text
    assert "\ue000" not in text + str(report) + report._repr_html_()
    assert "<code>Days</code>" in report._repr_html_()
    assert report.to_markdown("#").startswith("# Sample")
    awkward = Report((("T", ("a*b_c <b> \ue000x`y\ue001 p < 0.1",)),))
    assert awkward.to_markdown() == "## T\n\na\\*b\\_c \\<b> ``x`y`` p < 0.1\n"
    assert "&lt;b&gt;" in awkward._repr_html_()


def test_words() -> None:
    assert (counted(1, "row"), counted(1200, "row"), counted(2, "category", "categories")) == (
        "1 row", "1,200 rows", "2 categories",
    )  # fmt: skip
    assert [joined(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert markdown_code("`a b` ~ x") == "`` `a b` ~ x ``"
    assert markdown("p < 0.001") == "p < 0.001"
