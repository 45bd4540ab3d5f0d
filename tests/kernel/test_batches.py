"""A number does not depend on what else is computed with it: bit for bit, whatever the size of the batch.

BLAS adds up in another order for another number of rows, and how many rows share a batch depends on the number of
draws, of processes, and of searches that are still under way."""

from __future__ import annotations

import numpy as np
import pytest

import hiermod as hm
from hiermod.engines.likelihood.least_squares import fit_linear
from hiermod.engines.likelihood.mixed import fit_mixed
from hiermod.engines.likelihood.refit import Responses, simulated
from hiermod.engines.marginal.density import marginal_density
from hiermod.formula.build import build_design
from hiermod.inference.bootstrap.worker import Worker
from hiermod.kernel.stacks import TILE, cholesky_each, rows_solve, rows_times
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors

pytestmark = pytest.mark.numeric

MODELS = {
    "a correlated slope": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "unbalanced and crossed": ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "nested": ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    "three effects": ("cake", "angle ~ recipe + (recipe | replicate)"),
}


@pytest.mark.parametrize("k", [1, 2, 7, 9, 40, 180, 333])
@pytest.mark.parametrize("m", [1, 2, 5, 9, 25, 401])
def test_a_row_times_a_matrix_is_the_same_in_any_batch(k: int, m: int) -> None:
    rng = np.random.default_rng(k * m)
    rows, matrix = rng.standard_normal((3 * TILE + 5, k)), rng.standard_normal((k, m))
    whole = rows_times(rows, matrix)
    np.testing.assert_allclose(whole, rows @ matrix, rtol=1e-12, atol=1e-12 * np.sqrt(k))
    for chosen in ([0], [11], [28, 3], rng.permutation(len(rows))):
        assert (rows_times(rows[chosen], matrix) == whole[chosen]).all()
    turned = rows_times(rows, np.asfortranarray(matrix))
    assert (rows_times(rows[[17]], np.asfortranarray(matrix)) == turned[17]).all()
    assert rows_times(rows[:0], matrix).shape == (0, m)
    assert rows_times(rows, matrix[:, :0]).shape == (len(rows), 0)
    assert (rows_times(rows[:, :0], matrix[:0]) == np.zeros((len(rows), m))).all()


@pytest.mark.parametrize("p", [0, 1, 2, 7, 30])
def test_a_row_solved_is_the_same_in_any_batch(p: int) -> None:
    rng = np.random.default_rng(p)
    R, rows = np.triu(rng.standard_normal((p, p))) + 3 * np.eye(p), rng.standard_normal((2 * TILE + 3, p))
    whole = rows_solve(R, rows)
    np.testing.assert_allclose(whole @ R.T, rows, atol=1e-12)
    for chosen in ([0], [12], [18, 3], rng.permutation(len(rows))):
        assert (rows_solve(R, rows[chosen]) == whole[chosen]).all()


def test_a_matrix_without_a_factor_does_not_touch_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    roots = rng.standard_normal((5, 4, 4))
    good = roots @ np.swapaxes(roots, 1, 2) + np.eye(4)
    mixed = good.copy()
    mixed[2] = -np.eye(4)
    L, positive = cholesky_each(mixed)
    assert positive.tolist() == [True, True, False, True, True]
    assert (L[positive] == np.linalg.cholesky(good)[positive]).all()
    assert (L[2] == np.eye(4)).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "nested"])  # that one is refitted one by one
def test_a_refit_is_the_same_in_any_batch(name: str) -> None:
    data, formula = MODELS[name]
    worker = Worker(fit_mixed(build_design(formula, hm.load_dataset(data)), reml=True))
    assert worker.stacked
    Y = worker.simulate(60, np.random.default_rng(1))
    whole = worker.refits(Y)
    for chosen in (slice(0, 1), slice(7, 8), slice(20, 33), slice(0, 51), slice(None, None, -1)):
        part = worker.refits(Y[chosen])
        np.testing.assert_array_equal(part.values, whole.values[chosen])
        np.testing.assert_array_equal(part.criterion, whole.criterion[chosen])
        assert (part.converged == whole.converged[chosen]).all()


def test_a_least_squares_refit_is_the_same_in_any_batch() -> None:
    worker = Worker(fit_linear(build_design("Reaction ~ Days + I(Days**2)", hm.load_dataset("sleepstudy")), reml=True))
    Y = worker.simulate(60, np.random.default_rng(1))
    whole = worker.refits(Y)
    for chosen in (slice(0, 1), slice(7, 8), slice(20, 33)):
        np.testing.assert_array_equal(worker.refits(Y[chosen]).values, whole.values[chosen])


@pytest.mark.parametrize("name", list(MODELS))
def test_the_products_of_a_response_are_the_same_in_any_chunk(name: str) -> None:
    data, formula = MODELS[name]
    fit = fit_mixed(build_design(formula, hm.load_dataset(data)), reml=True)
    Y = simulated(fit, 23, np.random.default_rng(1))
    responses = Responses(fit.design, fit.problem)
    whole = responses.products(Y)
    for s in (0, 7, 22):
        alone = responses.products(Y[s : s + 1])
        assert (alone.squares[0] == whole.squares[s]).all()
        assert (alone.gamma[0] == whole.gamma[s]).all()
        for one, many in zip(alone.by_factor, whole.by_factor, strict=True):
            assert (one[0] == many[s]).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_a_marginal_density_is_the_same_in_any_batch(name: str) -> None:
    data, formula = MODELS[name]
    design = build_design(formula, hm.load_dataset(data))
    density = marginal_density(design, gaussian_priors(design, resolve_priors(None, design)))
    rng = np.random.default_rng(1)
    phi = 1.0 + rng.standard_normal((70, density.coordinates.d))
    phi[5] = 900.0  # a neighbour without a factor
    whole = density.values(phi)
    for chosen in (slice(0, 1), slice(9, 10), slice(20, 33), slice(None, None, -1)):
        assert (density.values(phi[chosen]) == whole[chosen]).all()
