"""The person's frame on its way in: kinds of columns, their levels, dropped rows, and that nothing of it changes."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.errors import DataError, HiermodWarning
from hiermod.formula.build import build_design
from hiermod.formula.newdata import new_rows

N = 24


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "z": rng.normal(size=N)})
    frame["f"] = list("cab") * 8
    frame["g"] = np.repeat([308, 35, 1000, 7], 6)
    return frame


FACTORS = {
    # values and what the levels must be: text in code-point order, categoricals in their own, numbers by size
    "text": (lambda: list("cab") * 8, ("a", "b", "c")),
    "object": (lambda: np.array(list("cab") * 8, dtype=object), ("a", "b", "c")),
    "string": (lambda: pd.array(list("cab") * 8, dtype="string"), ("a", "b", "c")),
    "capitals": (lambda: ["b", "B", "a"] * 8, ("B", "a", "b")),
    "digits": (lambda: ["10", "9", "8"] * 8, ("10", "8", "9")),
    "own order": (lambda: pd.Categorical(list("cab") * 8, categories=["b", "c", "a"]), ("b", "c", "a")),
    "unused": (lambda: pd.Categorical(list("cab") * 8, categories=list("dcbaz")), ("c", "b", "a")),
    "ordered": (lambda: pd.Categorical(list("cab") * 8, categories=["c", "a", "b"], ordered=True), ("c", "a", "b")),
    "of numbers": (lambda: pd.Categorical([2, 10, 1] * 8, categories=[10, 1, 2]), ("10", "1", "2")),
    "of halves": (lambda: pd.Categorical([0.5, 1.0, 2.0] * 8), ("0.5", "1", "2")),
    "intervals": (lambda: pd.cut(pd.Series([1, 2, 3] * 8), [0, 1, 2, 3]), ("(0, 1]", "(1, 2]", "(2, 3]")),
}


@pytest.mark.parametrize("kind", FACTORS)
def test_levels_of_a_factor(data, kind):
    values, levels = FACTORS[kind]
    data["k"] = values()
    design = build_design("y ~ 0 + k + (1 | k)", data)
    assert design.common == tuple(f"k[{level}]" for level in levels)
    assert design.blocks[0].levels == levels
    text = pd.Series(data["k"]).astype(object).map(lambda v: f"{v:g}" if isinstance(v, float) else str(v)).to_numpy()
    np.testing.assert_array_equal(design.X, (text[:, None] == np.array(levels)).astype(float))
    np.testing.assert_array_equal(np.array(levels)[design.blocks[0].codes], text)


NUMBERS = {
    "int8": lambda: np.arange(N, dtype="int8"),
    "uint64": lambda: np.arange(N, dtype="uint64"),
    "float32": lambda: np.arange(N, dtype="float32") / 4,
    "Int64": lambda: pd.array(range(N), dtype="Int64"),
    "Float64": lambda: pd.array(np.arange(N) / 4, dtype="Float64"),
    "sparse": lambda: pd.arrays.SparseArray(np.arange(N) % 3, fill_value=0),
    "object": lambda: np.array([*range(N - 1), 0.5], dtype=object),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_every_kind(data, kind):
    data["k"] = NUMBERS[kind]()
    design = build_design("y ~ k", data)
    assert design.common == ("Intercept", "k")
    np.testing.assert_array_equal(design.X[:, 1], [float(value) for value in data["k"]])


TRUTH = {
    "bool": lambda: [True, False] * 12,
    "object bool": lambda: np.array([True, False] * 12, dtype=object),
    "boolean": lambda: pd.array([True, False] * 12, dtype="boolean"),
}


@pytest.mark.parametrize("kind", TRUTH)
def test_truth_values_of_every_kind_are_factors(data, kind):
    data["k"] = TRUTH[kind]()
    design = build_design("y ~ k", data)
    assert design.common == ("Intercept", "k[True]")
    np.testing.assert_array_equal(design.X[:, 1], [float(value) for value in data["k"]])


@pytest.mark.parametrize("dtype", ["string[pyarrow]", "int64[pyarrow]", "double[pyarrow]", "bool[pyarrow]"])
def test_arrow_columns(data, dtype):
    pytest.importorskip("pyarrow")
    values = list("cab") * 8 if "string" in dtype else np.arange(N) % 2
    data["k"] = pd.array(values).astype(dtype)
    design = build_design("y ~ k + (1 | k)", data)
    labels = {"string": ("k[b]", "k[c]"), "bool": ("k[True]",)}.get(dtype.partition("[")[0], ("k",))
    levels = {"string": ("a", "b", "c"), "bool": ("False", "True")}.get(dtype.partition("[")[0], ("0", "1"))
    assert design.common == ("Intercept", *labels)
    assert design.blocks[0].levels == levels


def test_numbers_that_group_are_labels_in_order_of_size(data):
    assert build_design("y ~ (1|g)", data).blocks[0].levels == ("7", "35", "308", "1000")
    data["g"] = data["g"].astype(float)  # what a missing value makes of integers
    assert build_design("y ~ (1|g)", data).blocks[0].levels == ("7", "35", "308", "1000")
    data["g"] = data["g"] + 0.5
    assert build_design("y ~ (1|g)", data).blocks[0].levels == ("7.5", "35.5", "308.5", "1000.5")


def test_truth_values_that_group(data):
    data["k"] = [True, False] * 12
    assert build_design("y ~ x + (1|k)", data).blocks[0].levels == ("False", "True")
    both = build_design("y ~ k + (1|k)", data)  # a predictor too: one factor in both places, in new data as well
    assert both.blocks[0].levels == ("False", "True")
    assert both.common == ("Intercept", "k[True]")
    np.testing.assert_array_equal(new_rows(both, data).codes[0], both.blocks[0].codes)


@pytest.mark.parametrize("index", [list(range(100, 100 + N)), list("abcdefghijklmnopqrstuvwx"), [0] * N])
def test_the_index_is_kept_and_changes_nothing(data, index):
    plain = build_design("y ~ x + f + (x|g)", data)
    data.index = pd.Index(index, name="row")
    design = build_design("y ~ x + f + (x|g)", data, weights=np.arange(1.0, N + 1))
    pd.testing.assert_index_equal(design.index, data.index)
    np.testing.assert_array_equal(design.X, plain.X)
    np.testing.assert_array_equal(design.blocks[0].codes, plain.blocks[0].codes)
    np.testing.assert_array_equal(design.weights, np.arange(1.0, N + 1))


def test_dropna_looks_only_at_what_the_model_uses(data):
    data["other"] = np.nan
    data.index = np.arange(N) // 2
    data["w"] = 1.0
    data.iloc[[0, 5], 1] = np.nan  # x
    data["f"] = data["f"].astype(object)
    data.iloc[[5, 7], 3] = None  # f
    data.iloc[9, -1] = np.nan  # w
    se = np.ones(N)
    se[11] = np.nan
    with pytest.raises(DataError, match=r"x: 2, f: 2, w: 1, se: 1; 5 of 24 rows") as caught:
        build_design("y ~ x + f + (1|g)", data, weights="w", se=se)
    assert "dropna=True" in str(caught.value)
    design = build_design("y ~ x + f + (1|g)", data, weights="w", se=se, dropna=True)
    kept = np.setdiff1d(np.arange(N), [0, 5, 7, 9, 11])
    np.testing.assert_array_equal(design.y, data["y"].to_numpy()[kept])
    np.testing.assert_array_equal(design.X[:, 1], data["x"].to_numpy()[kept])
    assert list(design.index) == list(data.index[kept])
    assert (design.nobs, design.n_rows_data) == (19, 24)
    assert design.missing == {"x": 2, "f": 2, "w": 1, "se": 1}
    assert build_design("y ~ z", data).missing == {}


def test_levels_that_only_dropped_rows_had_are_gone(data):
    data["f"] = pd.Categorical(data["f"])
    data.loc[data["f"] == "b", "x"] = np.nan
    data.loc[data["g"] == 7, "x"] = np.nan
    design = build_design("y ~ x + f + (1|g)", data, dropna=True)
    assert design.common == ("Intercept", "x", "f[c]")
    assert design.blocks[0].levels == ("35", "308", "1000")


def test_a_missing_group_is_a_missing_value(data):
    data["g"] = data["g"].astype(str).where(data.index > 2, None)
    with pytest.raises(DataError, match="g: 3; 3 of 24 rows"):
        build_design("y ~ x + (1|g)", data)
    assert build_design("y ~ x + (1|g)", data, dropna=True).nobs == 21


def test_the_frame_is_never_changed(data):
    data["k"] = pd.Categorical(list("cab") * 8, categories=list("zcab"))
    data["i"] = pd.array(range(N), dtype="Int64")
    data.loc[3, "x"] = np.nan
    data.attrs["source"] = "a book"
    before, attrs = data.copy(deep=True), copy.deepcopy(data.attrs)
    design = build_design("y ~ scale(x) + k + i + (f|g/k) + offset(z)", data, dropna=True)
    new_rows(design, data.dropna())
    pd.testing.assert_frame_equal(data, before)
    assert data.attrs == attrs
    assert list(data["k"].cat.categories) == list("zcab")
    data["z"] = 0.0
    assert design.offset.any()  # and the Design does not hang on the caller's arrays


def double(values: pd.Series) -> pd.Series:
    return 2 * values


def test_a_design_pickles_and_its_copy_predicts_the_same(data):
    formula = "y ~ scale(x)*f + poly(z, 2) + double(x) + offset(z) + (center(x) + f | g) + (1 | f:g)"
    design = build_design(formula, data, extra_namespace={"double": double})
    twin = pickle.loads(pickle.dumps(design))
    fresh = data.sample(7, random_state=1).assign(x=lambda d: d["x"] * 3 + 1, z=0.5)
    mine, theirs = new_rows(design, fresh), new_rows(twin, fresh)
    for name in ("X", "y", "estimable", "offset"):
        np.testing.assert_array_equal(getattr(twin, name), getattr(design, name))
        assert not getattr(twin, name).flags.writeable
    np.testing.assert_array_equal(theirs.X, mine.X)
    np.testing.assert_array_equal(theirs.offset, mine.offset)
    for i in range(len(design.blocks)):
        assert twin.blocks[i].levels == design.blocks[i].levels
        assert not twin.blocks[i].values.flags.writeable
        np.testing.assert_array_equal(theirs.values[i], mine.values[i])
        np.testing.assert_array_equal(theirs.codes[i], mine.codes[i])


WRITTEN = {  # how numbers stand in a column of text -> (texts, the numbers)
    "percent": (["45%", "7 %", "12.5%", "0"], [45, 7, 12.5, 0]),
    "commas": (["1,5", "-2,25", "3", "4,0"], [1.5, -2.25, 3, 4]),
    "both": (["45,5 %", "7 %", "1.012,5 %", "0"], [45.5, 7, 1012.5, 0]),
    "currency": (["$1,234.50", "-$3", "$7.25", "$0"], [1234.5, -3, 7.25, 0]),
    "spaces": (["1 234,5", "12\u00a0345", "\u22127", "2,5"], [1234.5, 12345, -7, 2.5]),
    "apostrophes": (["1\u2019234.5", "1'000", "2", "3.5"], [1234.5, 1000, 2, 3.5]),
}


@pytest.mark.parametrize("style", WRITTEN)
def test_numbers_that_came_as_text_get_a_line_that_makes_numbers_of_them(style: str) -> None:
    texts, numbers = WRITTEN[style]
    d = pd.DataFrame({"v": texts * 3, "y": np.random.default_rng(1).normal(size=12), "g": [*"aabb"] * 3})
    told = []
    with pytest.warns(HiermodWarning, match="column 'v' is text and so a factor") as caught:
        hm.Model("y ~ v + (1 | g)", d)
    told.append(str(caught[0].message))
    for formula in ("v ~ y", "y ~ log(v)"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(DataError) as error:
                hm.Model(formula, d)
        told.append(str(error.value))
    for text in told:
        line = re.search(r"d\['v'\] = (d\['v'\].*?\.astype\(float\))", text)
        assert line is not None, text
        assert eval(line[1], {"d": d}).tolist() == numbers * 3
    for kept in (d.assign(v=d["v"].astype("category")), d.assign(v=["0.5", "1.5"] * 6), d.assign(v=[*"1212"] * 3)):
        hm.Model("y ~ v + (1 | g)", kept)  # a factor that was meant: no warning
    hm.Model("y ~ 1 + (1 | v)", d)  # groups have names of any kind


def test_numbers_as_text_that_could_be_two_get_both_lines() -> None:
    d = pd.DataFrame({"v": ["1,234", "2,345", "3,456"], "y": [1.0, 2, 4]})
    with pytest.raises(DataError, match="mark may stand before decimals or between thousands") as error:
        hm.Model("v ~ y", d)
    lines = re.findall(r"d\['v'\] = (d\['v'\].*?\.astype\(float\))", str(error.value))
    assert sorted(eval(line, {"d": d}).iloc[0] for line in lines) == [1.234, 1234.0]
    mixed = d.assign(v=["1,5", "2.5", "3"])
    with pytest.raises(DataError, match=r"needs numbers: convert the column with pandas.to_numeric$"):
        hm.Model("v ~ y", mixed)
