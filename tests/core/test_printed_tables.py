"""Tables as a terminal of 80 columns shows them: every column, whole sentences; and DataFrames all the same."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core.annotated import NotedFrame, as_text, noted
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def model() -> hm.Model:
    return hm.Model(FORMULA, hm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def reml(model: hm.Model) -> FrequentistFit:
    return model.reml()


@pytest.fixture(scope="module")
def bayes(model: hm.Model) -> BayesianFit:
    return model.fit(random_seed=1, progressbar=False)


@pytest.fixture(scope="module")
def tables(model: hm.Model, reml: FrequentistFit, bayes: BayesianFit) -> dict[str, pd.DataFrame]:
    simple = hm.Model("Reaction ~ Days + (1 | Subject)", hm.load_dataset("sleepstudy"))
    prior = model.prior_predictive(draws=200, random_seed=1)
    return {
        "priors": model.priors(),
        "prior.priors": prior.priors(),
        "against": prior.against(reml),
        "agreement": hm.agreement(bayes, reml),
        "sensitivity": bayes.prior_sensitivity(),
        "compare": hm.compare({"slopes": bayes, "intercepts": simple.fit(random_seed=1, progressbar=False)}),
        "criteria": hm.information_criteria({"intercepts": simple.ml(), "slopes": reml}),
        "lrt": hm.lrt(simple.reml(), reml),
        "datasets": hm.list_datasets(),
    }


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_nothing_is_cut_at_80_columns(tables: dict[str, pd.DataFrame]) -> None:
    options = (pd.get_option("display.max_colwidth"), pd.get_option("display.max_columns"))
    for name, table in tables.items():
        text = repr(table)
        assert str(table) == text, name
        assert max(map(len, text.split("\n"))) <= 80, name
        assert "..." not in text, name
        heads = set(text.replace("\\", " ").split())
        aside = table.attrs.get("aside", ())
        assert all(column in " ".join(table.attrs["notes"]) for column in aside), name
        for column in table.columns.difference(aside, sort=False):
            sentences = [cell for cell in table[column] if isinstance(cell, str) and cell]
            assert column in heads or sentences, (name, column)
            for sentence in sentences:
                assert one_line(sentence).rstrip(".") in one_line(text), (name, column)
        for note in (*table.attrs.get("notes", ()), *table.attrs.get("sentences", ())):
            assert one_line(note) in one_line(text), name
        page = table._repr_html_()
        assert page is not None, name
        assert "..." not in page, name
    assert options == (pd.get_option("display.max_colwidth"), pd.get_option("display.max_columns"))


def test_they_are_data_frames(tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        assert isinstance(table, NotedFrame), name
        assert type(table.iloc[:2]) is pd.DataFrame
        assert type(table.copy()) is pd.DataFrame
        assert table.iloc[:2].attrs == table.attrs
        again = pickle.loads(pickle.dumps(table))
        assert repr(again) == repr(table)
        assert again.attrs == table.attrs
        assert table.to_latex().count("\\\\") >= len(table)


def test_estimates_stand_beside_each_other(reml: FrequentistFit, bayes: BayesianFit) -> None:
    table = hm.compare_estimates({"Bayes": bayes, "REML": reml})
    lines = repr(table).split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["Bayes", "Bayes", "se", "REML", "REML", "se", "difference"]
    assert lines[1].split()[0] == "Intercept"
    assert lines[1].split()[3:5] == ["251.41", "6.82"]  # lme4's 251.405 and 6.825 (sleepstudy, Bates et al. 2015)
    assert lines[8].split() == ["Bayes", "lower,", "upper", "REML", "lower,", "upper"]
    assert "in standard errors of REML" in one_line(repr(table))
    assert "tabular" in table.to_latex()
    assert type(table["REML"]) is pd.DataFrame
    assert repr(pickle.loads(pickle.dumps(table))) == repr(table)


def test_numbers_have_the_decimals_they_need() -> None:
    table = pd.DataFrame({"a": [251.4051, 0.06555], "p": [0.5, 2e-10], "whole": [2.0, np.nan], "n": [1, 20], "t": "x"})
    shown = as_text(table)
    assert shown["a"].tolist() == ["251.405", "0.066"]
    assert shown["p"].tolist() == ["0.5", "2e-10"]
    assert shown["whole"].tolist() == ["2.0", ""]
    assert shown["n"].tolist() == [1, 20]
    assert shown["t"].tolist() == ["x", "x"]
    assert as_text(pd.DataFrame({"a": [np.nan, np.inf]}))["a"].tolist() == ["", "inf"]


def test_long_tables_are_cut_by_rows_alone() -> None:
    table = noted(pd.DataFrame({"estimate": np.arange(5000.0), "words": ["a sentence of some length, " * 4] * 5000}))
    text = repr(table)
    assert len(text.split("\n")) < 250
    assert "4940 rows more" in text


def test_two_columns_of_one_name_and_none() -> None:
    assert "1.5" in repr(noted(pd.DataFrame([[1.5, 2.5]], columns=["a", "a"])))
    assert "Empty DataFrame" in repr(noted(pd.DataFrame()))
