"""Small models of every structure that the kernel tells apart, and their dense matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag

from hiermod.engines.likelihood import other_minima
from hiermod.formula.design import Design
from hiermod.kernel import crossproducts, normal_equations
from hiermod.kernel.criterion import Problem

N = 150
CASES = {
    "one factor": ("y ~ x + (1 | a)", {}),
    "two correlated": ("y ~ x + (x | a)", {}),
    "three correlated": ("y ~ x + (x + z | a)", {}),
    "uncorrelated": ("y ~ x + (x || a)", {}),
    "same factor, split": ("y ~ x + (z | a) + (1 | b) + (0 + x | a)", {}),
    "chain of three": ("y ~ x + (z | site) + (x | batch) + (1 | cask)", {}),
    "crossed": ("y ~ x + (1 | a) + (1 | b)", {}),
    "crossed slopes": ("y ~ x + (x | a) + (z | b) + (1 | site)", {}),
    "nested and crossed": ("y ~ x + (x | cask) + (1 | batch) + (z | a) + (1 | b) + (1 | site)", {}),
    "weights": ("y ~ x + (x | a) + (1 | b)", {"weights": "w"}),
    "offset": ("y ~ x + offset(z) + (1 | a)", {"weights": "w"}),
    "known se": ("y ~ x + (x | a) + (1 | b)", {"se": "w"}),
    "no fixed part": ("y ~ 0 + (1 | a)", {}),
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    cask = np.concatenate([np.arange(24), rng.integers(0, 24, N - 24)])
    data = pd.DataFrame(
        {
            "cask": cask,
            "batch": cask // 3,
            "site": cask // 12,
            "a": np.concatenate([np.arange(15), rng.integers(0, 15, N - 15)]),
            "b": np.concatenate([np.arange(7), rng.integers(0, 7, N - 7)]),
            "x": rng.normal(5, 3, N),
            "z": rng.normal(size=N),
            "w": rng.uniform(0.3, 3, N),
        }
    )
    data["y"] = 1 + 2 * data.x + rng.normal(size=24)[cask] + rng.normal(size=15)[data.a] * data.z + rng.normal(size=N)
    groups = ["cask", "batch", "site", "a", "b"]
    return data.astype(dict.fromkeys(groups, "category"))


def dense_parts(
    design: Design, lambdas: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y less its offset, X, Z, G = Lambda Lambda' for all levels, diagonal of W^-1."""
    n = design.nobs
    y = design.y - (0 if design.offset is None else design.offset)
    Z, G = [], []
    for block, Lam in zip(design.blocks, lambdas, strict=True):
        z = np.zeros((n, len(block.levels), block.size))
        z[np.arange(n), block.codes] = block.values
        Z.append(z.reshape(n, -1))
        G.append(np.kron(np.eye(len(block.levels)), Lam @ Lam.T))
    noise = np.ones(n) if design.weights is None else 1 / design.weights
    noise = noise if design.se is None else design.se**2
    return y, design.X[:, design.estimable], np.hstack(Z), block_diag(*G), noise


@pytest.fixture(params=["dense rows", "sparse rows"])
def rows_to_tail(request, monkeypatch) -> str:
    """Both ways to keep the rows of the first factor; small problems would always choose the dense one."""
    if request.param == "sparse rows":
        monkeypatch.setattr(crossproducts, "SPARSE_FROM", 0)
        for module in (crossproducts, normal_equations):
            monkeypatch.setattr(module, "sparse_pays", lambda *_: True)
        # Where rows are sparse for their number, points are few: each takes a factorisation of its own.
        monkeypatch.setattr(other_minima, "POINTS", other_minima.LEAST_POINTS)
    return request.param


def points(problem: Problem) -> list[np.ndarray]:
    """Random Lambdas, one of them singular, one zero."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, problem.template.n_theta))
    second[0] = 0.0
    return [first, second, np.zeros(len(first))]
