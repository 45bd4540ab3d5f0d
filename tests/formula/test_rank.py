"""Columns that earlier ones explain: which of them go, as R decides it.

Every answer below is R 4.2.2's, ``coef(lm(...))`` on the data of the test, the columns it gives as NA."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.formula.build import build_design
from hiermod.formula.rank import estimable_columns

pytestmark = pytest.mark.numeric


def left_out(formula: str, data: pd.DataFrame) -> list[str]:
    design = build_design(formula, data)
    return [name for name, keep in zip(design.common, design.estimable, strict=True) if not keep]


@pytest.fixture
def data() -> pd.DataFrame:
    """In R: data.frame(x = sin(1:12), f = rep(c("a", "b", "c"), 4)), z = 2 * x, y = cos((1:12)^2)."""
    i = np.arange(1.0, 13)
    return pd.DataFrame({"y": np.cos(i**2), "x": np.sin(i), "z": 2 * np.sin(i), "f": list("abc") * 4})


# formula -> the coefficients R gives as NA, in hiermod's names
R_SAYS = {
    "y ~ x + I(2*x)": ["I(2 * x)"],
    "y ~ x:f + x": [],  # R codes x:f without its first level because x stands there too, wherever it stands
    "y ~ x:f": [],
    "y ~ f + x:f + x": [],
    "y ~ 0 + f + x": [],
    "y ~ z + x": ["x"],
    "y ~ x:z + x + z": ["z"],
    "y ~ f:x + z + x": ["x"],  # main effects first: x gives way to z, f:x stays
    "y ~ x:f + z": ["x:f[c]"],  # main effects first, however they are typed
    "y ~ x*f + z:f": ["z:f[a]", "z:f[b]", "z:f[c]"],
    "y ~ f + I(f == 'b')": ["I(f == 'b')[True]"],
    "y ~ x + I(x - 0.5)": ["I(x - 0.5)"],
    "y ~ I(x/1000000000) + x": ["x"],
    "y ~ I(0*x) + x": ["I(0 * x)"],
    "y ~ poly(x, 3) + x": ["x"],
    "y ~ I(x + 0.00000001*y) + x": ["x"],  # differs by 1e-8 of itself: below the tolerance of 1e-7
    "y ~ I(x + 0.000001*y) + x": [],
}


@pytest.mark.parametrize("formula", R_SAYS)
def test_columns_left_out_are_rs(data, formula):
    assert left_out(formula, data) == R_SAYS[formula]


def test_an_empty_cell_takes_its_interaction(data):
    """R: lm(y ~ a*b) on 2 x 3 cells without (a2, b3) gives aa2:bb3 as NA."""
    cells = [(a, b) for b in ("b1", "b2", "b3") for a in ("a1", "a2") if (a, b) != ("a2", "b3")] * 3
    frame = pd.DataFrame(cells, columns=["a", "b"]).assign(y=np.sin(np.arange(15.0)))
    assert left_out("y ~ a*b", frame) == ["a[a2]:b[b3]"]


def test_more_columns_than_rows():
    """R: lm(y ~ x1 + x2 + x3 + x4) on 3 rows keeps the intercept, x1 and x2."""
    X = np.column_stack([np.ones(3), *np.random.default_rng(1).normal(size=(4, 3))])
    assert estimable_columns(X, np.array([0, 1, 1, 1, 1])).tolist() == [True, True, True, False, False]


def test_units_do_not_matter():
    """Columns of sizes 1e-150 to 1e150 are all estimable."""
    X = np.random.default_rng(2).normal(size=(50, 4)) * np.array([1e-150, 1.0, 1e8, 1e150])
    assert estimable_columns(X, np.ones(4)).all()
    X[:, 3] = X[:, 2] - 1e8 * X[:, 1]
    assert estimable_columns(X, np.ones(4)).tolist() == [True, True, True, False]


def test_no_columns():
    assert estimable_columns(np.empty((5, 0)), np.empty(0)).shape == (0,)
