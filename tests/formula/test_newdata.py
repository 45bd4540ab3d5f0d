"""The Design's columns on new rows: what transformations learned stays, levels are found by name, new ones are -1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.errors import ArgumentTypeError, DataError, UnknownNameError
from hiermod.formula.build import build_design
from hiermod.formula.newdata import fitted_rows, new_rows

FORMULA = "log(y) ~ scale(x) * f + poly(z, 2) + offset(w) + (center(x) + f || g) + (x | g:f) + (1 | k)"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({name: rng.uniform(1, 2, 40) for name in ("y", "x", "z", "w")})
    frame["f"] = list("abcd") * 10
    frame["g"] = np.repeat(["s1", "s2", "s3", "s4"], 10)
    frame["k"] = np.arange(40) % 5 + 300
    return frame


@pytest.fixture(scope="module")
def design(data):
    return build_design(FORMULA, data)


def test_the_rows_of_the_fit_come_back(data, design):
    for rows in (new_rows(design, data), fitted_rows(design)):
        np.testing.assert_allclose(rows.X, design.X, rtol=1e-12, atol=1e-13)  # poly's recursion runs in another order
        np.testing.assert_array_equal(rows.offset, design.offset)
        for i, block in enumerate(design.blocks):
            np.testing.assert_array_equal(rows.codes[i], block.codes)
            np.testing.assert_allclose(rows.values[i], block.values, rtol=1e-12, atol=1e-14)
            np.testing.assert_array_equal(rows.labels[i], np.array(block.levels)[block.codes])
        assert len(rows) == 40
        assert rows.unknown(design) == {}


def test_transformations_keep_what_they_learned(data, design):
    fresh = data.iloc[[3, 17]].assign(x=[5.0, -1.0], z=[0.0, 3.0])
    rows = new_rows(design, fresh)
    names = list(design.common)
    np.testing.assert_allclose(rows.X[:, names.index("scale(x)")], (fresh.x - data.x.mean()) / data.x.std(ddof=0))
    # An orthogonal polynomial is a polynomial: fitted on the data's own rows, it must continue to the new ones.
    for label in ("poly(z, 2)[0]", "poly(z, 2)[1]"):
        j = names.index(label)
        curve = np.polynomial.Polynomial.fit(data.z, design.X[:, j], 2)
        np.testing.assert_allclose(rows.X[:, j], curve(fresh.z.to_numpy()), rtol=1e-9)
    center = next(i for i, block in enumerate(design.blocks) if block.labels == ("center(x)",))
    np.testing.assert_allclose(rows.values[center][:, 0], fresh.x - data.x.mean())


def test_one_row_and_the_response_is_not_needed(data, design):
    row = data.iloc[[7]].drop(columns="y")
    np.testing.assert_allclose(new_rows(design, row).X[0], design.X[7], rtol=1e-12, atol=1e-13)
    assert new_rows(design, row).index.equals(row.index)


def test_without_groups_their_columns_are_not_needed(data, design):
    rows = new_rows(design, data.drop(columns=["y", "g", "k"]), groups=False)
    np.testing.assert_allclose(rows.X, design.X, rtol=1e-12, atol=1e-13)
    assert rows.codes == ()


def test_levels_are_found_by_their_text(data, design):
    for k in ([302.0], ["302"], pd.Categorical(["302"]), pd.array([302], dtype="Int64")):
        rows = new_rows(design, data.iloc[[2]].assign(k=k))
        assert design.blocks[-1].levels[rows.codes[-1][0]] == "302"


def test_new_levels_are_minus_one_and_named(data, design):
    rows = new_rows(design, data.iloc[:3].assign(g=["s1", "new", "s9"], k=[300, 1, 1]))
    assert rows.unknown(design) == {"g": ["new", "s9"], "g:f": ["new:b", "s9:c"], "k": ["1"]}
    g = next(i for i, block in enumerate(design.blocks) if block.factor == "g")
    np.testing.assert_array_equal(rows.codes[g], [0, -1, -1])


def test_an_index_with_duplicates_is_kept(data, design):
    fresh = pd.concat([data.iloc[:4], data.iloc[:4]])
    rows = new_rows(design, fresh)
    assert rows.index.equals(fresh.index)
    np.testing.assert_array_equal(rows.X[:4], rows.X[4:])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda d: d.to_dict(), ArgumentTypeError, "got dict"),
        (lambda d: d.head(0), DataError, "no rows"),
        (lambda d: d.drop(columns="x"), UnknownNameError, "lacks the column 'x'"),
        (lambda d: d.rename(columns={"k": "kk"}), UnknownNameError, "lacks the column 'k'.*Did you mean 'kk'"),
        (lambda d: d.assign(x=np.nan), DataError, "missing values .x: 40"),
        (lambda d: d.assign(g=None), DataError, "missing values .g: 40"),
        (lambda d: d.assign(x=np.inf), DataError, "infinite or undefined in 40 of 40"),
        (lambda d: d.assign(x="a"), DataError, "'x' is text, but the fit used numbers"),
        (lambda d: d.assign(f="zz"), DataError, "zz"),
        (lambda d: pd.concat([d, d.x], axis=1), DataError, "more than one column named 'x'"),
    ],
)
def test_new_data_that_cannot_be_used(data, design, change, error, says, capfd):
    with pytest.raises(error, match=f"(?s){says}"):
        new_rows(design, change(data))
    assert capfd.readouterr().out == ""
