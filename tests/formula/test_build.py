"""Formula and data to Design: X and the blocks against numpy and pandas written by hand, independent of formulae."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.errors import DataError
from hiermod.formula.build import build_design
from hiermod.formula.newdata import new_rows

N = 60


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"y": rng.normal(5, 1, N), "x": rng.normal(size=N), "z": rng.uniform(1, 2, N)})
    frame["f"] = rng.choice(list("abc"), N)
    frame["h"] = rng.choice(["u", "v"], N)
    frame["g"] = rng.choice(["p", "q", "r", "s"], N)
    frame["a"] = rng.choice([10, 9, 8], N)
    frame["b"] = rng.choice(["k", "l"], N)
    frame["c"] = rng.choice([True, False], N)
    frame["my x"] = frame["x"] + 1
    frame["my.x"] = frame["x"] ** 2
    frame["class"] = frame["x"] ** 3
    return frame


def dummy(values: pd.Series, level: object) -> np.ndarray:
    return (values == level).to_numpy(dtype=float)


def scaled(values: pd.Series) -> np.ndarray:
    return ((values - values.mean()) / values.std(ddof=0)).to_numpy()


# right side -> {label: column}; the labels are Bambi's
COLUMNS = {
    "1": {"Intercept": lambda d: np.ones(N)},
    "x": {"Intercept": lambda d: np.ones(N), "x": lambda d: d.x},
    "0 + x": {"x": lambda d: d.x},
    "x - 1": {"x": lambda d: d.x},
    "x + f": {
        "Intercept": lambda d: np.ones(N),
        "x": lambda d: d.x,
        "f[b]": lambda d: dummy(d.f, "b"),
        "f[c]": lambda d: dummy(d.f, "c"),
    },
    "0 + f": {f"f[{level}]": lambda d, level=level: dummy(d.f, level) for level in "abc"},
    "0 + x*h": {
        "x": lambda d: d.x,
        "h[u]": lambda d: dummy(d.h, "u"),
        "h[v]": lambda d: dummy(d.h, "v"),
        "x:h[v]": lambda d: d.x * dummy(d.h, "v"),
    },
    "f*h": {
        "Intercept": lambda d: np.ones(N),
        "f[b]": lambda d: dummy(d.f, "b"),
        "f[c]": lambda d: dummy(d.f, "c"),
        "h[v]": lambda d: dummy(d.h, "v"),
        "f[b]:h[v]": lambda d: dummy(d.f, "b") * dummy(d.h, "v"),
        "f[c]:h[v]": lambda d: dummy(d.f, "c") * dummy(d.h, "v"),
    },
    "h/x": {
        "Intercept": lambda d: np.ones(N),
        "h[v]": lambda d: dummy(d.h, "v"),
        "h[u]:x": lambda d: d.x * dummy(d.h, "u"),
        "h[v]:x": lambda d: d.x * dummy(d.h, "v"),
    },
    "z + h:(z + x)": {
        "Intercept": lambda d: np.ones(N),
        "z": lambda d: d.z,
        "h[v]:z": lambda d: d.z * dummy(d.h, "v"),
        "h[u]:x": lambda d: d.x * dummy(d.h, "u"),
        "h[v]:x": lambda d: d.x * dummy(d.h, "v"),
    },
    "0 + (x + z)**2": {"x": lambda d: d.x, "z": lambda d: d.z, "x:z": lambda d: d.x * d.z},
    "0 + I(x**2)": {"I(x ** 2)": lambda d: d.x**2},
    "0 + {x / z}": {"I(x / z)": lambda d: d.x / d.z},
    "0 + np.log(z)": {"np.log(z)": lambda d: np.log(d.z)},
    "0 + log(z)": {"log(z)": lambda d: np.log(d.z)},
    "0 + scale(x)": {"scale(x)": lambda d: scaled(d.x)},
    "0 + center(x)": {"center(x)": lambda d: d.x - d.x.mean()},
    "0 + c": {"c[False]": lambda d: 1.0 - d.c, "c[True]": lambda d: d.c.astype(float)},
    "0 + `my x` + my.x + class": {
        "my x": lambda d: d.x + 1,
        "my.x": lambda d: d["my.x"],
        "class": lambda d: d["class"],
    },
    "factor(a)": {  # a is a number: its levels are in numerical order
        "Intercept": lambda d: np.ones(N),
        "factor(a)[9]": lambda d: dummy(d.a, 9),
        "factor(a)[10]": lambda d: dummy(d.a, 10),
    },
    "0 + a": {"a": lambda d: d.a},
    "C(h, Sum)": {"Intercept": lambda d: np.ones(N), "C(h, Sum)[u]": lambda d: dummy(d.h, "u") - dummy(d.h, "v")},
    "T(h, ref='v')": {"Intercept": lambda d: np.ones(N), "T(h, ref='v')[u]": lambda d: dummy(d.h, "u")},
}


@pytest.mark.parametrize("right", COLUMNS)
def test_common_columns(data, right):
    design = build_design(f"y ~ {right}", data)
    assert design.common == tuple(COLUMNS[right])
    expected = np.column_stack([np.asarray(column(data), dtype=float) for column in COLUMNS[right].values()])
    np.testing.assert_allclose(design.X, expected, rtol=1e-12, atol=1e-14)  # the same sums, in another order
    assert design.X.shape == (N, len(design.common_terms))
    assert design.estimable.all()
    np.testing.assert_array_equal(design.y, data["y"])


def test_orthogonal_polynomials_are_those_of_the_definition(data):
    """Columns of unit length, orthogonal to each other and to 1, spanning x and x^2: unique up to sign; R's sign."""
    X = build_design("y ~ poly(x, 2)", data).X
    np.testing.assert_allclose(X[:, 1:].T @ X, np.c_[np.zeros(2), np.eye(2)], atol=1e-12)
    x = data["x"].to_numpy()
    q, r = np.linalg.qr(np.column_stack([np.ones(N), x, x**2]))
    np.testing.assert_allclose(X[:, 1:], (q * np.sign(np.diag(r)))[:, 1:], atol=1e-12)


# bar term -> the blocks it makes: factor, columns of the grouping, {label: column}
one = {"Intercept": lambda d: np.ones(N)}
x = {"x": lambda d: d.x}
f = {"f[b]": lambda d: dummy(d.f, "b"), "f[c]": lambda d: dummy(d.f, "c")}
BLOCKS = {
    "(1|g)": [("g", one)],
    "(x|g)": [("g", one | x)],
    "(0+x|g)": [("g", x)],
    "(-1+x|g)": [("g", x)],
    "(x||g)": [("g", one), ("g", x)],
    "(0+x||g)": [("g", x)],
    "(1|g) + (0+x|g)": [("g", one), ("g", x)],
    "(1|g/b)": [("g", one), ("g:b", one)],
    "(1|g/b/h)": [("g", one), ("g:b", one), ("g:b:h", one)],
    "(1|g:b)": [("g:b", one)],
    "(x||g/b)": [("g", one), ("g", x), ("g:b", one), ("g:b", x)],
    "(1|g) + (1|b)": [("g", one), ("b", one)],
    "(x+z|g)": [("g", one | x | {"z": lambda d: d.z})],
    "(f|g)": [("g", one | f)],
    "(0+f|g)": [("g", {"f[a]": lambda d: dummy(d.f, "a")} | f)],
    "(f||g)": [("g", one), ("g", {"f[b]": f["f[b]"]}), ("g", {"f[c]": f["f[c]"]})],
    "(x*f|g)": [
        (
            "g",
            one | x | f | {"x:f[b]": lambda d: d.x * dummy(d.f, "b"), "x:f[c]": lambda d: d.x * dummy(d.f, "c")},
        )
    ],
    "(scale(x)|g)": [("g", one | {"scale(x)": lambda d: scaled(d.x)})],
    "(I(x**2)|g)": [("g", one | {"I(x ** 2)": lambda d: d.x**2})],
    "(1|a)": [("a", one)],
    "(1|c)": [("c", one)],
    "(1|factor(g))": [("g", one)],
}


def pandas_groups(data: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, list[str]]:
    """Codes and labels by pandas alone, in the order of the columns' own values."""
    grouped = data.groupby(columns if len(columns) > 1 else columns[0], sort=True)
    names = [key if isinstance(key, tuple) else (key,) for key in grouped.groups]
    return grouped.ngroup().to_numpy(), [":".join(str(part) for part in name) for name in names]


@pytest.mark.parametrize("text", BLOCKS)
def test_blocks(data, text):
    design = build_design(f"y ~ 1 + {text}", data)
    assert [(block.factor, block.labels) for block in design.blocks] == [
        (factor, tuple(columns)) for factor, columns in BLOCKS[text]
    ]
    for block, (factor, columns) in zip(design.blocks, BLOCKS[text], strict=True):
        codes, labels = pandas_groups(data, factor.split(":"))
        np.testing.assert_array_equal(block.codes, codes)
        assert list(block.levels) == labels
        expected = np.column_stack([np.asarray(column(data), dtype=float) for column in columns.values()])
        np.testing.assert_allclose(block.values, expected, rtol=1e-12, atol=1e-14)
    assert design.ngroups == {block.factor: len(block.levels) for block in design.blocks}


def test_names_of_parameters_are_bambis(data):
    design = build_design("y ~ x + (x + f | g) + (0 + z | g) + (h | a:b) + (x || b) + (0 + c + y | g)", data)
    names = [[column.sd_name for column in block.columns] for block in design.blocks[:3]]
    assert names[0] == ["1|g_sigma", "x|g_sigma", "f|g_sigma[b]", "f|g_sigma[c]"]
    assert names[1:] == [["z|g_sigma"], ["1|a:b_sigma", "h|a:b_sigma[v]"]]
    assert [block.corr_name for block in design.blocks] == ["g_corr", "", "a:b_corr", "", "", "g_corr_2"]


def test_a_grouping_column_can_also_be_a_number(data):
    design = build_design("y ~ a + (a | a)", data)
    np.testing.assert_array_equal(design.X[:, 1], data["a"])
    np.testing.assert_array_equal(design.blocks[0].values[:, 1], data["a"])
    assert design.blocks[0].levels == ("8", "9", "10")


def test_offsets_add_up_and_are_no_columns(data):
    design = build_design("y ~ x + offset(z) + offset(2) + offset(np.log(z))", data)
    assert design.common == ("Intercept", "x")
    np.testing.assert_allclose(design.offset, data["z"] + np.log(data["z"]) + 2, rtol=1e-14)
    assert build_design("y ~ x", data).offset is None


def test_functions_of_ones_own(data):
    design = build_design("y ~ twice(x) + (twice(x) | g)", data, extra_namespace={"twice": lambda values: 2 * values})
    np.testing.assert_array_equal(design.X[:, 1], 2 * data["x"])
    assert design.blocks[0].labels == ("Intercept", "twice(x)")
    np.testing.assert_array_equal(build_design("y ~ I(x * k)", data, extra_namespace={"k": 3}).X[:, 1], 3 * data["x"])


def test_weights_and_known_sds_by_name_or_by_array(data):
    by_name = build_design("y ~ x", data, weights="z", se="z")
    by_array = build_design("y ~ x", data, weights=data["z"].to_numpy(), se=list(data["z"]))
    for design in (by_name, by_array):
        np.testing.assert_array_equal(design.weights, data["z"])
        np.testing.assert_array_equal(design.se, data["z"])


def test_a_series_of_weights_is_matched_by_its_index(data):
    frame = data.set_axis([f"row {i}" for i in range(len(data))])
    for what in ("weights", "se"):
        shuffled = frame["z"].sample(frac=1.0, random_state=3)
        assert not shuffled.index.equals(frame.index)
        np.testing.assert_array_equal(getattr(build_design("y ~ x", frame, **{what: shuffled}), what), frame["z"])
        np.testing.assert_array_equal(getattr(build_design("y ~ x", frame, **{what: frame["z"]}), what), frame["z"])
        for other in (frame["z"].reset_index(drop=True), frame["z"].rename({"row 3": "row 4"})):
            with pytest.raises(DataError, match=f"{what} is a Series.*matched to the rows by its index"):
                build_design("y ~ x", frame, **{what: other})
    repeated = frame.set_axis(np.repeat(np.arange(len(frame) // 2 + 1), 2)[: len(frame)])
    np.testing.assert_array_equal(build_design("y ~ x", repeated, weights=repeated["z"]).weights, frame["z"])
    with pytest.raises(DataError, match="labels repeat"):
        build_design("y ~ x", repeated, weights=repeated["z"].iloc[::-1])


def test_a_series_in_the_namespace_is_matched_by_its_index(data):
    frame = data.set_axis([f"row {i}" for i in range(len(data))])
    frame.loc["row 5", "x"] = np.nan
    shuffled = frame["z"].sample(frac=1.0, random_state=3)
    design = build_design("y ~ x + offset(o)", frame, extra_namespace={"o": shuffled}, dropna=True)
    np.testing.assert_array_equal(design.offset, frame["z"].drop("row 5"))
    with pytest.raises(DataError, match=r"'o' in extra_namespace is a Series.*matched to the rows by its index"):
        build_design("y ~ offset(o)", frame, extra_namespace={"o": frame["z"].reset_index(drop=True)})
    table = pd.Series({"u": 1.0, "v": 2.0})  # not of rows: something to look up in
    looked = build_design("y ~ find(h)", data, extra_namespace={"find": lambda h: table[list(h)].to_numpy()})
    np.testing.assert_array_equal(looked.X[:, 1], data["h"].map(table))
    with pytest.raises(DataError, match=r"a value for each row of the fit.*make it a column"):
        new_rows(design, frame.iloc[:4].dropna())


def test_a_design_cannot_be_changed(data):
    design = build_design("y ~ x + (x|g)", data)
    for array in (design.X, design.y, design.estimable, design.blocks[0].codes, design.blocks[0].values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        design.y = 1


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("y ~ x + (x||g)", "y ~ x + (x|g)"),
        ("y ~ (1|g/b)", "y ~ 1 + (1|g) + (1|`g:b`)"),
        ("y ~ x + (x - 1|g)", "y ~ x + (0 + `x`|g)"),  # which formulae does not read left of a bar
        ("y ~ x + (h + 0||g)", "y ~ x + (0 + `h`|g)"),
        ("y ~ x + (x + z - 1|g)", "y ~ x + (0 + `x` + `z`|g)"),  # where formulae would keep the intercept
        ("y ~ 0 + h/x", "y ~ 0 + `h` + `h`:`x`"),  # as typed, formulae gives h and h:x one coding
        ("y ~ (`my x` + h)**2", "y ~ 1 + `my x` + `h` + `my x`:`h`"),
        ("y ~ h/I((x + 1)**2)", "y ~ 1 + `h` + `h`:I((x + 1) ** 2)"),  # not by its name, I(x + 1 ** 2), another number
        ("y - z ~ x", "I(y - z) ~ x"),
    ],
)
def test_the_formula_for_bambi(data, typed, given):
    assert build_design(typed, data).bambi_formula == given


@pytest.mark.stack
def test_common_names_are_bambis(data):
    bambi = pytest.importorskip("bambi")
    from hiermod.core import versions

    formula = "y ~ f*h + x:f + poly(x, 2) + scale(z) + np.log(z) + `my x` + my.x + h/z"
    design = build_design(formula, data)
    terms = versions.bambi_parent(bambi.Model(design.bambi_formula, design.frame)).common_terms
    assert list(dict.fromkeys(design.common_terms)) == ["Intercept", *terms]
    for name, term in terms.items():
        mine = [label for label, owner in zip(design.common, design.common_terms, strict=True) if owner == name]
        levels = [", ".join(re.findall(r"\[(.*?)\]", label)) for label in mine]  # f[b]:h[v] -> "b, v", as Bambi has it
        assert [[str(level) for level in one] for one in term.coords.values()] == ([levels] if term.coords else [])


@pytest.mark.parametrize("case", ["sleepstudy_slope", "penicillin", "pastes_nested", "cake", "verbagg", "cbpp"])
def test_sizes_are_lme4s(reference, reference_data, case):
    """n, the fixed effects and the levels of every grouping factor, as lme4 counts them (tests/reference)."""
    told = reference(case)
    family = {"cbpp": "binomial", "verbagg": "bernoulli"}.get(case, "gaussian")
    design = build_design(told["formula"], reference_data(case), family=family)
    assert design.X.shape[1] == len(told["fixef"])
    assert design.nobs == told["n"]
    assert design.ngroups == told["ngroups"]


def test_many_groups_never_make_a_dense_matrix():
    groups = 125_066
    g = np.repeat(np.arange(groups), 3)
    rng = np.random.default_rng(1)
    data = pd.DataFrame({name: rng.normal(size=len(g)) for name in ("y", "x1", "x2", "x3")}).assign(g=g)
    tracemalloc.start()
    design = build_design("y ~ x1 + x2 + x3 + (1|g)", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert design.ngroups == {"g": groups}
    # X, y and the codes are 17 MB; measured peak 77 MB. A dense Z would be 375 GB, one row per level 47 GB.
    assert peak < 200e6


def test_crossed_factors_never_make_a_dense_matrix():
    data = load_dataset("insteval")
    tracemalloc.start()
    design = build_design("y ~ service + (1|s) + (1|d) + (1|dept:service)", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert design.ngroups == {"s": 2972, "d": 1128, "dept:service": 28}  # summary(InstEval) in lme4: 2972, 1128, 14 x 2
    assert peak < 100e6  # measured 18 MB; the dense indicators of s alone are 1.7 GB
