"""The columns of formulas against R's: the space they span, their names, tests of terms, and lme4's fits.

tests/reference/formulas.json is what R and lme4 answer on data made there (make_formulas.R beside it)."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REFERENCE

import hiermod as hm
from hiermod.errors import RankDeficiencyWarning, SingularFitWarning, UnsupportedError
from hiermod.formula.build import build_design
from hiermod.formula.evaluate import Evaluator
from hiermod.formula.newdata import new_rows

R: dict[str, Any] = json.loads((REFERENCE / "formulas.json").read_text(encoding="utf-8"))
DATA = pd.DataFrame(R["data"])
VECTOR = np.array(R["vector"])
EMPTY = ("e", "m")  # factors with an empty cell beside f


def by_formula(kind: str) -> dict[str, dict[str, Any]]:
    return {one["formula"][0]: one for one in R[kind]}


def space(X: np.ndarray) -> tuple[int, np.ndarray]:
    """Rank, and the projection of VECTOR."""
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    rank = int((s > 1e-9 * s[0]).sum())
    return rank, U[:, :rank] @ (U[:, :rank].T @ VECTOR)


@pytest.mark.parametrize("formula", by_formula("common"))
def test_columns_span_rs_space_and_have_names_of_their_own(formula: str) -> None:
    told = by_formula("common")[formula]
    design = build_design(f"y ~ {formula}", DATA)
    rank, projected = space(design.X)
    assert rank == told["rank"][0] == design.estimable.sum()
    np.testing.assert_allclose(projected, told["projected"], atol=1e-8)  # R's were written with ten digits
    assert len(set(design.common)) == len(design.common)
    if not any(f":{name}" in formula or f"*{name}" in formula or f"{name}:" in formula for name in EMPTY):
        assert design.X.shape[1] == rank + (formula == "b + I(b * 2):f")  # no column too many, but where R has one
    assert set(design.common_terms) <= {"Intercept", *(name for name in design.common_terms if name)}
    pd.testing.assert_frame_equal(design.frame, build_design(f"y ~ {formula}", DATA).frame)
    np.testing.assert_allclose(new_rows(design, DATA, groups=False).X, design.X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("formula", by_formula("lefts"))
def test_columns_left_of_a_bar_span_rs_space(formula: str) -> None:
    told = by_formula("lefts")[formula]
    design = build_design(f"y ~ 1 + ({formula} | g)", DATA)
    (block,) = design.blocks
    rank, projected = space(block.values)
    assert rank == told["rank"][0] == block.size
    np.testing.assert_allclose(projected, told["projected"], atol=1e-8)
    assert len(set(block.labels)) == block.size
    np.testing.assert_array_equal(new_rows(design, DATA).values[0], block.values)


INDICATORS = {  # a column is what its label says
    "f:h": lambda d: {f"f[{f}]:h[{h}]": (d.f == f) & (d.h == h) for f in "abc" for h in "uv" if (f, h) != ("a", "u")},
    "f:h + h": lambda d: {f"f[{f}]:h[{h}]": (d.f == f) & (d.h == h) for f in "bc" for h in "uv"} | {"h[v]": d.h == "v"},
    "f:h + f": lambda d: {f"f[{f}]:h[v]": (d.f == f) & (d.h == "v") for f in "abc"}
    | {f"f[{f}]": d.f == f for f in "bc"},
    "f:b": lambda d: {
        f"f[{f}]:b[{b}]": (d.f == f) & (d.b == b) for f in "abc" for b in (False, True) if (f, b) != ("a", False)
    },
    "I(x > 0):b": lambda d: {
        f"I(x > 0)[{p}]:b[{b}]": ((d.x > 0) == p) & (d.b == b) for p in (False, True) for b in (False, True) if p or b
    },
    "x:f:h + x": lambda d: {
        f"x:f[{f}]:h[{h}]": d.x * ((d.f == f) & (d.h == h)) for f in "abc" for h in "uv" if (f, h) != ("a", "u")
    } | {"x": d.x},
    "b:x": lambda d: {f"b[{b}]:x": d.x * (d.b == b) for b in (False, True)},
    "b + b:x": lambda d: {"b[True]": d.b} | {f"b[{b}]:x": d.x * (d.b == b) for b in (False, True)},
}  # fmt: skip


@pytest.mark.parametrize("formula", INDICATORS)
def test_a_label_says_what_its_column_is(formula: str) -> None:
    design = build_design(f"y ~ {formula}", DATA)
    expected = INDICATORS[formula](DATA)
    assert design.common == ("Intercept", *expected)
    for label, values in expected.items():
        np.testing.assert_array_equal(design.X[:, design.common.index(label)], np.asarray(values, dtype=float))


def test_the_reference_level_decides_which_cell_has_no_column() -> None:
    design = build_design("y ~ T(f, ref='b'):h", DATA)
    assert "T(f, ref='b')[b]:h[u]" not in design.common
    assert design.X.shape[1] == np.linalg.matrix_rank(design.X) == 6
    sums = build_design("y ~ C(f, Sum):h", DATA)
    assert space(sums.X)[0] == 6
    np.testing.assert_allclose(space(sums.X)[1], by_formula("common")["f:h"]["projected"], atol=1e-8)


@pytest.mark.parametrize("formula", by_formula("anova"))
def test_a_term_has_one_row_with_all_its_degrees_of_freedom(formula: str) -> None:
    told = by_formula("anova")[formula]
    with warnings.catch_warnings():
        if "e" in formula:
            warnings.simplefilter("ignore", RankDeficiencyWarning)
        fit = hm.Model(f"y ~ {formula}", DATA).reml()
    table = fit.anova()
    assert fit.sigma == pytest.approx(told["sigma"][0], rel=1e-9)
    assert dict(table["num_df"]) == dict(zip(told["term"], told["df"], strict=True))
    last = told["term"][-1]  # R's tests are sequential: the last is adjusted for all others, as ours are
    assert table.loc[last, "F"] == pytest.approx(told["F"][-1], rel=1e-8)


@pytest.mark.parametrize("formula", by_formula("mixed"))
def test_mixed_models_with_truth_values_and_interactions_are_lme4s(formula: str) -> None:
    """lme4 with bobyqa at rhoend 1e-9: the criterion is flat, so that it agrees far better than theta."""
    told = by_formula("mixed")[formula]
    with warnings.catch_warnings():
        if "e" in formula:
            warnings.simplefilter("ignore", RankDeficiencyWarning)
        model = hm.Model(f"y ~ {formula}", DATA)
        if "I(x > 0)" in formula:
            warnings.simplefilter("ignore", SingularFitWarning)  # in lme4 as well
        ml, reml = model.ml(), model.reml()
    assert reml.criterion == pytest.approx(told["reml"][0], abs=1e-7)
    assert ml.deviance == pytest.approx(told["deviance"][0], abs=1e-7)
    assert ml.sigma == pytest.approx(told["sigma"][0], rel=1e-5)
    np.testing.assert_allclose(ml.fitted(), told["fitted"], atol=1e-5)


# --- the same model in every engine --------------------------------------------------------------------------------

GRAPHS = [
    "f:h", "f:h + f", "f:h + h", "f:h:k + f", "k + f:h:k", "x + x:f:h", "x:f:h + x:f", "b", "0 + b", "b:x", "f:b",
    "b:c:x + x", "I(x > 0):f + f", "b + I(b * 2):f", "I(x > 0):b", "I(x * 1e-3) + I((x > 0) + (x > 1))", "f:e",
    "poly(x, 2):f", "scale(log(z)) + scale(z)", "offset(log(z)) + offset(x)", "as.factor(h):x", "x:f + f:x",
]  # fmt: skip


@pytest.mark.stack
@pytest.mark.parametrize("formula", GRAPHS)
def test_bambi_has_the_same_columns(formula: str) -> None:
    """build_bambi compares Bambi's columns with the Design's and refuses others."""
    pytest.importorskip("bambi")
    from hiermod.core import versions
    from hiermod.engines.nuts.graph import build_bambi

    design = build_design(f"y ~ {formula} + (1 | g)", DATA)
    terms = versions.bambi_parent(build_bambi(design)).common_terms
    assert {"Intercept", *terms} >= set(design.common_terms) - {"Intercept"}
    for name, term in terms.items():
        mine = sum(owner == name for owner in design.common_terms)
        assert [len(one) for one in term.coords.values()] == ([mine] if term.coords else [])


@pytest.mark.stack
@pytest.mark.parametrize("left", ["b", "0 + b", "0 + I(x > 0)", "I(x > 0)", "I(b * 2)"])
def test_bambi_has_the_same_group_effects(left: str) -> None:
    pytest.importorskip("bambi")
    from hiermod.engines.nuts.graph import build_bambi

    build_bambi(build_design(f"y ~ x + ({left} | g)", DATA))


@pytest.mark.stack
def test_what_bambi_cannot_code_is_refused_with_the_way_out() -> None:
    pytest.importorskip("bambi")
    from hiermod.engines.nuts.graph import build_bambi

    for formula in ("f + h + f:h:k", "f:x:h + x", "h + f:h:k"):
        with pytest.raises(UnsupportedError, match="as terms of their own"):
            build_bambi(build_design(f"y ~ {formula}", DATA))


# --- truth values everywhere ---------------------------------------------------------------------------------------


def test_truth_values_in_new_data_means_and_contrasts() -> None:
    """The same fit as with a factor of text, which R's is."""
    text = DATA.assign(b=DATA["b"].map({False: "False", True: "True"}))
    one, other = (hm.Model("y ~ b*x + (1 | g)", data).reml() for data in (DATA, text))
    pd.testing.assert_frame_equal(one.fixef(), other.fixef())
    pd.testing.assert_frame_equal(one.means("b"), other.means("b"))
    pd.testing.assert_frame_equal(one.contrasts("b"), other.contrasts("b"))
    pd.testing.assert_frame_equal(one.slopes("x", by="b"), other.slopes("x", by="b"))
    new = pd.DataFrame({"b": [True, False], "x": [0.5, 1.0], "g": ["g01", "g02"]})
    expected = other.predict(new.assign(b=["True", "False"]), interval=0.9)
    for b in ([True, False], ["True", "False"], pd.array([True, False], dtype="boolean")):
        pd.testing.assert_frame_equal(one.predict(new.assign(b=b), interval=0.9), expected)
    with pytest.raises(hm.HiermodError, match="'b' has levels"):
        one.predict(new.assign(b=[1, 0]))
    assert list(one.means("b")["b"] if "b" in one.means("b") else one.means("b").index) == ["False", "True"]


def test_a_call_on_truth_values_is_arithmetic_in_new_data_too() -> None:
    fit = hm.Model("y ~ b + I(b * 2):x + I(x > 0)", DATA).reml()
    new = pd.DataFrame({"b": [True, False, True], "x": [1.0, 1.0, -1.0]})
    beta = fit.fixef()["estimate"]
    assert list(beta.index) == ["Intercept", "b[True]", "I(b * 2):x", "I(x > 0)[True]"]
    values = [
        beta.iloc[0] + beta.iloc[1] + 2 * beta.iloc[2] + beta.iloc[3],
        beta.iloc[0] + beta.iloc[3],
        beta.iloc[0] + beta.iloc[1] - 2 * beta.iloc[2],
    ]
    np.testing.assert_allclose(fit.predict(new)["estimate"], values, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(new.iloc[[2]])["estimate"], values[2:], rtol=1e-12)


def test_a_truth_value_that_is_always_the_same_explains_nothing() -> None:
    for formula in ("y ~ I(x > 100)", "y ~ always", "y ~ x:I(x > 100)"):
        with pytest.raises(hm.HiermodError, match="one level"):
            build_design(formula, DATA.assign(always=True))


# --- whole numbers and powers of ten -------------------------------------------------------------------------------


def test_whole_numbers_do_not_overflow() -> None:
    """2,100,000**3 is 9.26e18, beyond int64: R, whose ^ is in floats, has no such limit."""
    k = np.arange(72) * 100_000
    d = DATA.assign(k=k, i32=k.astype("int32"), u=k.astype("uint64"))
    exact = np.array([float(int(one) ** 3) for one in k])
    for text in ("I(k**3)", "I(i32 * i32 * i32)", "np.power(k, 3)", "I(u**3)", "own(k)"):
        design = build_design(f"y ~ {text}", d, extra_namespace={"own": lambda x: x**3})
        np.testing.assert_allclose(design.X[:, 1], exact, rtol=1e-14, err_msg=text)
        np.testing.assert_allclose(new_rows(design, d.head(30), groups=False).X[:, 1], exact[:30], rtol=1e-14)
    both = build_design("y ~ I(k**3) + C(k > 5) + (I(k**3) | k)", d)
    np.testing.assert_allclose(both.X[:, 1], exact, rtol=1e-14)
    assert build_design("y ~ C(k)", d).common[1] == "C(k)[100000]"  # a factor's levels stay whole numbers
    response = build_design("I(k**3) ~ x", d)
    np.testing.assert_allclose(response.y, exact, rtol=1e-14)
    np.testing.assert_allclose(response.frame["I(k ** 3)"], exact, rtol=1e-14)  # what Bambi reads
    counts = build_design("I(k * 0 + 1 + (x > 0)) ~ z", d, family="poisson")
    np.testing.assert_array_equal(counts.y, 1.0 + (DATA["x"] > 0))


@pytest.mark.stack
def test_bambi_does_not_overflow_either() -> None:
    pytest.importorskip("bambi")
    from hiermod.engines.nuts.graph import build_bambi

    d = DATA.assign(k=np.arange(72) * 100_000)
    for formula in ("y ~ I(k**3) + C(k)", "I(k**3) ~ x", "y ~ I(k**3) + (1 | k)"):
        build_bambi(build_design(formula, d))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("1e-3", 1e-3), ("1E3", 1e3), ("2.5e+2", 2.5e2), ("1.e2", 1e2), (".5e1", 5.0), ("1e-300", 1e-300),
        ("1e99", 1e99), ("0e5", 0.0), ("1e15", 1e15),
    ],
)  # fmt: skip
def test_powers_of_ten(typed: str, read: float) -> None:
    design = build_design(f"y ~ 0 + I(x + {typed})", DATA)
    np.testing.assert_array_equal(design.X[:, 0], DATA["x"] + read)


def test_powers_of_ten_stand_for_themselves_in_names() -> None:
    d = DATA.assign(**{"1e3": DATA["x"], "x1e3": DATA["x"], "s": np.where(DATA["x"] > 0, "1e3", "b")})
    design = build_design("y ~ `1e3` + x1e3 + I(s == '1e3')", d)
    assert design.common == ("Intercept", "1e3", "x1e3", "I(s == '1e3')[True]")
    with pytest.raises(hm.HiermodError, match="the number 1e400 is too large"):
        build_design("y ~ I(x * 1e400)", DATA)


def test_offsets_add_up_in_any_order() -> None:
    one, other = (
        build_design(f"y ~ {text}", DATA) for text in ("offset(log(z)) + offset(x)", "offset(x) + offset(log(z))")
    )
    np.testing.assert_allclose(one.offset, np.log(DATA["z"]) + DATA["x"], rtol=1e-14)
    np.testing.assert_array_equal(one.offset, other.offset)
    np.testing.assert_array_equal(new_rows(one, DATA.head(3), groups=False).offset, one.offset[:3])


def test_factor_by_any_of_its_names_on_both_sides_of_a_bar() -> None:
    for name in ("factor", "as.factor", "C"):
        design = build_design(f"y ~ {name}(h) + (0 + {name}(h) | {name}(g))", DATA.assign(g=np.arange(72) // 8))
        assert design.common == ("Intercept", f"{name}(h)[v]")
        assert design.blocks[0].labels == (f"{name}(h)[u]", f"{name}(h)[v]")


def test_fits_of_older_files_keep_the_coding_they_were_made_with() -> None:
    """Their truth values are numbers, their factors formulae's; nothing in their state says so."""
    frame = build_design("y ~ x + f + h", DATA).frame
    old = Evaluator.__new__(Evaluator)
    old.__setstate__({"common": "0 + I(x > 0) + f:h", "lefts": ("I(x > 0)",), "frame": frame, "extra_namespace": {}})
    labels = [label for term in old.common_terms() for label in term.labels]
    assert labels[0] == "I(x > 0)"
    np.testing.assert_array_equal(old.new_common(frame.head(5))[0][:, 0], (frame["x"] > 0)[:5])
    new = build_design("y ~ 0 + I(x > 0) + f:h", DATA).evaluator
    for one in (old, new):  # what a file or another process gets
        again = pickle.loads(pickle.dumps(one))
        assert again.as_in_r == one.as_in_r == (one is new)
        np.testing.assert_array_equal(again.new_common(frame)[0], one.new_common(frame)[0])
