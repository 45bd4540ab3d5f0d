"""compare_estimates: parameters of several fits side by side, differences in standard errors of REML."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import hand_made

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.inference.comparison.estimates import compare_estimates, printable
from hiermod.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


def test_every_parameter_with_its_difference(model: Model) -> None:
    reml, bayes = model.reml(), hand_made(model, beta=[258.0, 9.0], sds=20.0)
    table = compare_estimates({"Bayes": bayes, "REML": reml})
    assert list(table.index) == list(bayes.parameters().index)
    assert table.index.name == "parameter"
    assert list(table.columns)[::4] == [("Bayes", "estimate"), ("REML", "estimate"), ("difference", "Bayes")]
    for name, fit in (("Bayes", bayes), ("REML", reml)):
        expected = fit.parameters()[["estimate", "std_error", "lower", "upper"]]
        assert np.array_equal(table[name].to_numpy(), expected.to_numpy(), equal_nan=True)
    fixed = reml.fixef()
    gap = (bayes.fixef()["estimate"] - fixed["estimate"]) / fixed["std_error"]
    assert table["difference", "Bayes"].iloc[:2].to_numpy() == pytest.approx(gap.to_numpy(), rel=1e-12)
    assert table["difference", "Bayes"].iloc[2:].isna().all()  # REML gives variances no standard error
    assert table.attrs["reference"] == "REML"


def test_the_reference_is_reml_unless_told(model: Model) -> None:
    ml, reml = model.ml(), model.reml()
    assert compare_estimates({"ML": ml, "REML": reml}).attrs["reference"] == "REML"
    assert compare_estimates({"a": hand_made(model), "ML": ml}).attrs["reference"] == "ML"
    chosen = compare_estimates({"ML": ml, "REML": reml}, reference="ML")
    assert ("difference", "REML") in chosen.columns
    assert ("difference", "ML") not in chosen.columns


def test_models_with_different_parameters_share_a_table(model: Model) -> None:
    smaller = Model("Reaction ~ (1 | Subject)", load_dataset("sleepstudy"))
    table = compare_estimates({"small": smaller.reml(), "large": model.reml()}, reference="large")
    assert list(table.index[:2]) == ["Intercept", "Days"]  # coefficients first, whichever fit has them
    assert np.isnan(table.loc["Days", ("small", "estimate")])


def test_the_printed_table_fits_eighty_columns(model: Model) -> None:
    table = printable(compare_estimates({"Bayes": hand_made(model, [258.0, 9.0], sds=20.0), "REML": model.reml()}))
    assert list(table.columns) == ["Bayes", "Bayes se", "REML", "REML se", "difference"]
    assert max(map(len, table.to_string().splitlines())) <= 80
    assert table.loc["Intercept", "REML"] == "251.405"
    assert table.loc["sigma", "REML se"] == ""
    three = printable(compare_estimates({"a": hand_made(model), "b": hand_made(model, seed=2), "REML": model.reml()}))
    assert list(three.columns[-2:]) == ["difference a", "difference b"]


def test_what_cannot_be_compared(model: Model) -> None:
    reml = model.reml()
    other = Model("mpg ~ wt", load_dataset("mtcars")).reml()
    with pytest.raises(ArgumentError, match="different data"):
        compare_estimates({"a": reml, "b": other})
    with pytest.raises(ArgumentTypeError, match="a dict such as"):
        compare_estimates([reml])
    with pytest.raises(ArgumentTypeError, match="'a' is not a fit"):
        compare_estimates({"a": model})
    with pytest.raises(ArgumentError, match="at least one"):
        compare_estimates({})
    with pytest.raises(ArgumentError, match="not one of the fits"):
        compare_estimates({"a": reml}, reference="b")
    with pytest.raises(ArgumentError, match="cannot be called 'difference'"):
        compare_estimates({"difference": reml})
