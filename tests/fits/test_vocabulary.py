"""One vocabulary: both kinds of fit answer to the same names with the same tables, print what R prints, and travel."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made

from hiermod.core.versions import posterior_dataset
from hiermod.datasets import load_dataset
from hiermod.errors import ConvergenceWarning, RankDeficiencyWarning, SingularFitWarning
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.vocabulary import ELSEWHERE
from hiermod.model import Model

SLOPE = "Reaction ~ Days + (Days | Subject)"
FORMULAS = [SLOPE, "Reaction ~ Days + (Days || Subject)", "Reaction ~ 1 + (Days | Subject)", "Reaction ~ Days"]


def answers(fit: Any) -> dict[str, pd.DataFrame]:
    """Every table of the shared vocabulary."""
    return {
        "fixef": fit.fixef(),
        "ranef": fit.ranef(),
        "coef": fit.coef(),
        "varcorr": fit.varcorr(),
        "vcov": fit.vcov(),
        "fitted": fit.fitted().to_frame(),
        "residuals": fit.residuals("scaled").to_frame(),
        "predict": fit.predict(interval=0.9, target="new_group"),
        "simulate": fit.simulate(2, random_seed=1),
        "confint": fit.confint(),
        "tidy": fit.tidy(),
        "glance": fit.glance(),
        "augment": fit.augment(),
    }


COLUMNS = {
    "ranef": ["group", "level", "term", "estimate", "std_error", "lower", "upper"],
    "coef": ["group", "level", "term", "estimate", "std_error", "lower", "upper"],
    "varcorr": ["group", "term1", "term2", "sdcor", "vcov"],
    "fixef": ["estimate", "std_error", "lower", "upper"],
    "predict": ["estimate", "lower", "upper"],
    "tidy": ["effect", "group", "term", "estimate", "std_error", "lower", "upper"],
    "confint": ["lower", "upper"],
    "simulate": ["sim_1", "sim_2"],
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_both_kinds_of_fit_give_the_same_tables(formula: str) -> None:
    model = Model(formula, load_dataset("sleepstudy"))
    by_reml, by_bayes = answers(model.reml()), answers(hand_made(model, draws=20))
    for name, columns in COLUMNS.items():
        for tables in (by_reml, by_bayes):
            assert list(tables[name].columns[: len(columns)]) == columns, name
    for name in ("fixef", "ranef", "coef", "vcov", "fitted", "residuals", "predict", "simulate", "augment"):
        assert list(by_reml[name].index) == list(by_bayes[name].index), name
    for name, keys in (
        ("ranef", ["group", "level", "term"]),
        ("coef", ["group", "level", "term"]),
        ("varcorr", ["group", "term1", "term2"]),
        ("tidy", ["effect", "group", "term"]),
    ):
        pd.testing.assert_frame_equal(by_reml[name][keys], by_bayes[name][keys])
    assert by_reml["fixef"].index.name == "term"
    assert list(by_reml["varcorr"]["group"])[-1] == "Residual"
    assert list(model.reml().parameters().index) == list(hand_made(model, draws=20).parameters().index)


def test_the_answers_belong_to_the_caller() -> None:
    """Changing a table that a fit gave does not change the fit."""
    fit = Model(SLOPE, load_dataset("sleepstudy")).reml()
    for accessor in (fit.fixef, fit.ranef, fit.varcorr, fit.vcov, fit.fitted, fit.residuals, fit.augment):
        first = pd.DataFrame(accessor())
        kept = first.copy()
        first.iloc[:, -1] = -1.0
        pd.testing.assert_frame_equal(pd.DataFrame(accessor()), kept)


# R 4.2.2, lme4 1.1-31, print(summary(lmer(Reaction ~ Days + (Days | Subject), sleepstudy))), in hiermod's layout. One
# number differs: R prints the variance 612.10, where its optimiser stopped; at the optimum it is 612.09.
SLEEPSTUDY = """\
Linear mixed model fit by REML

Formula: Reaction ~ Days + (Days | Subject)

REML criterion at convergence: 1743.6

Scaled residuals:
    Min      1Q Median     3Q    Max
-3.9536 -0.4634 0.0231 0.4634 5.1793

Random effects:
Groups   Name      Variance Std.Dev. Corr
Subject  Intercept   612.09   24.740
         Days         35.07    5.922 0.07
Residual             654.94   25.592
Number of obs: 180, groups: Subject, 18

Fixed effects:
          Estimate Std. Error     df t value  Pr(>|t|)
Intercept  251.405      6.825  17.00  36.838   < 2e-16
Days        10.467      1.546  17.00   6.771  3.26e-06
df and p by Satterthwaite's method

Correlation of Fixed Effects:
      (Intr)
Days  -0.138"""

# R 4.2.2, print(summary(lm(mpg ~ wt, mtcars))), in hiermod's layout.
MTCARS = """\
Linear model fit by least squares

Formula: mpg ~ wt

Residuals:
    Min      1Q  Median     3Q    Max
-4.5432 -2.3647 -0.1252 1.4096 6.8727

Coefficients:
          Estimate Std. Error t value  Pr(>|t|)
Intercept  37.2851     1.8776  19.858   < 2e-16
wt         -5.3445     0.5591  -9.559  1.29e-10

Residual standard error: 3.046 on 30 degrees of freedom
Multiple R-squared: 0.7528, adjusted R-squared: 0.7446
F-statistic: 91.38 on 1 and 30 DF, p-value: 1.29e-10"""


def test_summaries_print_what_r_prints() -> None:
    assert str(Model(SLOPE, load_dataset("sleepstudy")).reml().summary()) == SLEEPSTUDY
    assert str(Model("mpg ~ wt", load_dataset("mtcars")).reml().summary()) == MTCARS
    ml = str(Model(SLOPE, load_dataset("sleepstudy")).ml().summary())
    assert "AIC 1763.9   BIC 1783.1   logLik -876.0   deviance 1751.9" in ml  # the same, REML = FALSE


class Collector(HTMLParser):
    """Text, and tags that are closed in the order they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("br", "img", "meta", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("kind", ["REML", "Bayes"])
def test_html_is_well_formed_and_has_the_same_numbers(kind: str) -> None:
    model = Model("Reaction ~ Days + I(Days < 3) + (Days | Subject)", load_dataset("sleepstudy"))  # "<" must be escaped
    fit = model.reml() if kind == "REML" else hand_made(model)
    html = Collector()
    html.feed(fit._repr_html_())
    assert html.open == []
    assert "+ I(Days &lt; 3) +" in fit._repr_html_()  # the formula; tables are escaped by pandas
    shown = " ".join(html.text).split()
    for word in str(fit.summary()).split():
        if any(character.isdigit() for character in word):
            assert word.rstrip(":,;") in " ".join(shown), word


SINGULAR = {
    "mtcars": ("mpg ~ wt + (wt | cyl)", "the correlation of Intercept and wt within cyl is estimated as -1.00"),
    "dyestuff2": ("Yield ~ 1 + (1 | Batch)", "the variance of Intercept between levels of Batch is estimated as 0"),
    "different_slopes": (
        "value ~ condition + (1 | participant)",
        "the variance of Intercept between levels of participant",
    ),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_fits_warn_and_say_what_is_at_the_boundary(name: str) -> None:
    formula, words = SINGULAR[name]
    with pytest.warns(SingularFitWarning, match=words) as caught:
        fit = Model(formula, load_dataset(name)).reml()
    assert caught[0].filename == __file__  # the line that asked for the fit, not one of hiermod's
    assert fit.singular
    for text in (fit.check(), fit.summary()):
        told = " ".join(str(text).split())
        assert words in told
        assert "Bayesian fit" in told
    assert "no variance or correlation is at its boundary" in str(
        Model(SLOPE, load_dataset("sleepstudy")).reml().check()
    )


def test_rank_deficiency_is_told_and_leaves_nan() -> None:
    d = load_dataset("sleepstudy").assign(hours=lambda d: 24 * d["Days"])
    with pytest.warns(RankDeficiencyWarning, match="hours") as caught:
        model = Model("Reaction ~ Days + hours + (Days | Subject)", d)
    assert caught[0].filename == __file__
    fit, full = model.reml(), Model(SLOPE, load_dataset("sleepstudy")).reml()
    table = fit.fixef()
    assert table.loc["hours"].isna().all()
    assert table["estimate"].iloc[:2].to_numpy() == pytest.approx(full.fixef()["estimate"].to_numpy(), rel=1e-6)
    assert fit.vcov().loc["hours"].isna().all()
    assert fit.coef().query("term == 'hours'")[["estimate", "std_error"]].isna().all(axis=None)
    assert fit.fitted().to_numpy() == pytest.approx(full.fitted().to_numpy(), rel=1e-6)
    assert fit.npar == full.npar
    assert "no estimate for hours" in str(fit.summary())
    band = fit.predict(d.iloc[:3], interval=0.95)
    assert band.to_numpy() == pytest.approx(full.predict(d.iloc[:3], interval=0.95).to_numpy(), rel=1e-5)


def test_dropped_rows_are_told() -> None:
    d = load_dataset("sleepstudy")
    d.loc[[4, 9], "Reaction"] = np.nan
    model = Model(SLOPE, d, dropna=True)
    for fit in (model.reml(), hand_made(model)):
        assert "2 of 180 rows left out for missing values" in str(fit.summary())


def test_fits_and_models_pickle() -> None:
    model = Model(SLOPE, load_dataset("sleepstudy"))
    for fit in (
        model.reml(),
        model.ml(),
        hand_made(model),
        Model("Reaction ~ Days", load_dataset("sleepstudy")).reml(),
    ):
        again = pickle.loads(pickle.dumps(fit))
        assert str(again.summary()) == str(fit.summary())
        pd.testing.assert_frame_equal(again.predict(interval=0.9), fit.predict(interval=0.9))
        with pytest.raises(ValueError, match="read-only"):
            again.record.beta[...] = 0.0
    again = pickle.loads(pickle.dumps(model))
    assert again.reml().criterion == model.reml().criterion
    assert repr(again) == repr(model)


def criterion_of(model: Model) -> float:
    return model.reml().criterion


def test_a_model_is_fitted_in_a_spawned_process() -> None:
    models = [Model(formula, load_dataset("sleepstudy")) for formula in FORMULAS[:2]]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(criterion_of, models)
    assert found == [model.reml().criterion for model in models]


@pytest.fixture(scope="module")
def sampled() -> BayesianFit:
    model = Model(SLOPE, load_dataset("sleepstudy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 400 draws are few, and it says so
        return model.fit(200, 300, chains=2, inference_method="nutpie", random_seed=1, progressbar=False)


@pytest.mark.stack
def test_a_sampled_fit_answers_everything(sampled: BayesianFit) -> None:
    tables = answers(sampled)
    for name, columns in COLUMNS.items():
        assert list(tables[name].columns[: len(columns)]) == columns
        assert not tables[name].select_dtypes("number").isna().any(axis=None), name
    assert str(sampled.summary()).startswith("Bayesian hierarchical model, NUTS by nutpie\n")
    assert "nutpie" in str(sampled.check())
    effects = {"1|Subject", "Days|Subject", "1|Subject_sigma", "Days|Subject_sigma", "Subject_corr"}
    names = {"Intercept", "Days", "sigma", *effects}
    dataset = posterior_dataset(sampled.idata)
    assert names <= set(dataset.data_vars)
    assert dataset["Days"].shape == (2, 200)
    assert np.array_equal(dataset["Days"].values, sampled.record.beta[..., 1])
    again = pickle.loads(pickle.dumps(sampled))
    pd.testing.assert_frame_equal(again.parameters(), sampled.parameters())
    reml: FrequentistFit = Model(SLOPE, load_dataset("sleepstudy")).reml()
    # the same model on the same data: within one standard error, which no swap of columns or levels would leave true
    gap = (sampled.coef()["estimate"] - reml.coef()["estimate"]).abs() / reml.coef()["std_error"]
    assert gap.max() < 1


def test_what_only_the_other_kind_of_fit_has_says_so() -> None:
    model = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff"))
    reml, bayes = model.reml(), model.fit(random_seed=1)
    with pytest.raises(AttributeError, match=r"no attribute 'loo': it belongs to Bayesian fits: m\.fit\(\)"):
        reml.loo()
    with pytest.raises(AttributeError, match=r"no attribute 'anova': it belongs to REML and ML fits"):
        bayes.anova()
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = bayes.nonsense
    for name, words in ELSEWHERE.items():
        one, other = (bayes, reml) if "Bayesian" in words else (reml, bayes)
        assert hasattr(type(one), name), name
        assert not hasattr(other, name), name
