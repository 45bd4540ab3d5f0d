"""The line under the table of fixed effects: how df and p came about, or why there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.errors import ConvergenceWarning
from hiermod.fits.frequentist import FrequentistFit
from hiermod.model import Model
from hiermod.output import frequentist_text

pytestmark = pytest.mark.numeric

METHOD = "df and p by Satterthwaite's method"


def classes() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    size = np.repeat(rng.integers(15, 30, 8), 6)
    d = pd.DataFrame({"class": np.repeat(list("abcdefgh"), 6), "class_size": size})
    return d.assign(score=rng.normal(50, 5, 48), year=np.tile(np.arange(6.0), 8))


def footer(fit: FrequentistFit) -> str:
    return next(part.note for part in fit.summary().sections if part.title == "Fixed effects:").replace("\n", " ")


@pytest.mark.filterwarnings("ignore::hiermod.HiermodWarning")
def test_a_factor_on_both_sides_has_no_df_and_the_footer_says_why() -> None:
    fit = Model("score ~ class_size + class + (1 | class)", classes()).reml()
    assert fit.fixef()["p"].isna().all()
    assert METHOD not in str(fit.summary())
    assert footer(fit).startswith("No df and p: Satterthwaite's method needs")
    assert "class stands in the formula as a common effect and as a grouping factor" in footer(fit)
    assert max(map(len, str(fit.summary()).splitlines())) <= 80


@pytest.mark.filterwarnings("ignore::hiermod.SingularFitWarning")
@pytest.mark.parametrize("term", ["1", "year"])
def test_what_reml_cannot_tell_is_the_same_on_every_processor(term: str) -> None:
    """A'Z is 0 for the intercepts: the criterion is that of least squares whatever their sd, which lme4 leaves at 1."""
    data = classes()
    with pytest.warns(ConvergenceWarning, match=rf"explain those of \({term} \| class\), so that REML says nothing"):
        fit = Model(f"score ~ class + ({term} | class)", data).reml()
    assert not fit.converged
    assert fit.theta.iloc[0] == 1.0
    plain = Model("score ~ class", data).reml()
    if term == "1":
        assert fit.criterion == pytest.approx(plain.criterion, abs=1e-8)
        means = data.groupby("class")["score"].mean()
        assert fit.fixef()["estimate"].tolist() == pytest.approx([means["a"], *(means - means["a"]).iloc[1:]])
        assert fit.sigma == pytest.approx(plain.sigma)
        # var(mean of a class) = sigma^2 / 6 + sd^2, and sd = sigma
        assert fit.fixef().loc["Intercept", "std_error"] == pytest.approx(plain.sigma * np.sqrt(1 / 6 + 1))
    assert fit.fixef()["df"].isna().all()


@pytest.mark.filterwarnings("ignore::hiermod.HiermodWarning")
def test_where_there_are_df_it_names_the_method() -> None:
    assert footer(Model("score ~ class_size + (1 | class)", classes()).ml()) == METHOD
    schools = load_dataset("eight_schools")
    assert footer(Model("effect ~ 1 + (1 | school)", schools, se="se").ml()) == ""


@pytest.mark.filterwarnings("ignore::hiermod.HiermodWarning")
def test_some_df_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Model("score ~ year + (1 | year) + (1 | class)", classes()).reml()
    table = fit.fixef()
    monkeypatch.setattr(FrequentistFit, "fixef", lambda self: table.assign(df=[np.nan, 3.0]))
    words = frequentist_text._method_note(fit).replace("\n", " ")
    assert words.startswith("No df and p where none stand above: ")
    assert "stands in the formula" not in words  # a number's slope leaves its levels their effects
