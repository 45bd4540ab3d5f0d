"""The same design with another response: refits, and responses simulated from a fit (lme4's refit and simulate).

Only the products with y change.  What X and Z contribute to the cross-products is kept, so that a refit costs little
more than its search."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

from hiermod.engines.likelihood.least_squares import LinearFit, fit_linear
from hiermod.engines.likelihood.mixed import MixedFit, fit_problem
from hiermod.errors import ArgumentTypeError, DataError, DesignError
from hiermod.formula.data import by_label
from hiermod.formula.design import Design
from hiermod.kernel.conditioning import GroupTerm, condition
from hiermod.kernel.criterion import Problem
from hiermod.kernel.stacks import rows_times
from hiermod.kernel.structure import merge
from hiermod.kernel.threads import suitable_threads


@dataclass(frozen=True, eq=False)
class Products:
    """What S responses contribute to the cross-products, in the conditioned coordinates of the problem."""

    squares: np.ndarray  # (S,) r'r, r the least-squares residual
    gamma: np.ndarray  # (S, p) Q'y
    by_factor: tuple[np.ndarray, ...]  # (S, J, K) Z'r per grouping factor


class Responses:
    """The rows of a design, kept to make cross-products of other responses.  design and problem of one fit."""

    def __init__(self, design: Design, problem: Problem) -> None:
        terms = [GroupTerm(b.factor, b.text, b.codes, len(b.levels), b.values) for b in design.blocks]
        rows = condition(design.y, design.X[:, design.estimable], terms, design.precision, design.offset)
        self.problem, self.offset, self.precision, self.Q = problem, design.offset, design.precision, rows.Q
        self.Z = []
        for factor in merge(rows.terms):
            at = np.arange(0, design.nobs * factor.size + 1, factor.size)
            columns = (factor.codes[:, None] * factor.size + np.arange(factor.size)).ravel()
            shape = (design.nobs, factor.n_levels * factor.size)
            self.Z.append(sparse.csr_matrix((factor.values.ravel(), columns, at), shape=shape).T.tocsr())

    def products(self, Y: np.ndarray) -> Products:
        """Y (S, n): one response per row, as in the data.  What a response gives does not depend on the others."""
        R = self.precision.whiten_responses(Y if self.offset is None else Y - self.offset)
        gamma = rows_times(R, self.Q)
        R = R - rows_times(gamma, self.Q.T)
        correction = rows_times(R, self.Q)  # a second pass, as in kernel.conditioning
        R = R - rows_times(correction, self.Q.T)
        layouts = zip(self.problem.factors, self.Z, strict=True)
        by_factor = tuple((Z @ R.T).T.reshape(len(Y), layout.n_levels, layout.size) for layout, Z in layouts)
        return Products(np.einsum("sn,sn->s", R, R), gamma + correction, by_factor)

    def problem_with(self, products: Products, s: int) -> Problem:
        """The problem with the s-th response in the place of its own."""
        changed = self.problem.cross.with_response([one[s] for one in products.by_factor], products.squares[s])
        return replace(self.problem, cross=changed, gamma_ols=products.gamma[s])


def check_response(design: Design, y: object) -> np.ndarray:
    """(n,) a response for the rows of the design; a Series is matched to them by its index.

    ArgumentTypeError when it is no sequence of numbers, DataError for another length or index or values that are not
    finite."""
    if isinstance(y, pd.Series) and len(y) == design.nobs:
        y = by_label("y", y, design.index)
    try:
        values = np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"y must be a column of numbers, got {type(y).__name__}: {error}") from error
    if values.shape != (design.nobs,):
        dropped = design.n_rows_data - design.nobs
        hint = f" ({dropped} of the data's {design.n_rows_data} rows were dropped)" if dropped > 0 else ""
        raise DataError(
            f"y must have one value for each of the {design.nobs} rows of the fit{hint}, got shape {values.shape}"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"y has {bad.sum()} missing or infinite values (first in row {design.index[bad.argmax()]!r}): a refit "
            "keeps the rows of the design, so each needs a value"
        )
    return values


def with_response(design: Design, y: np.ndarray) -> Design:
    """The design with another y; its frame too, where the response is a column as it stands."""
    frame = design.frame
    if design.response in frame.columns:
        frame = frame.assign(**{design.response: y})
    return replace(design, y=y, frame=frame)


def refit(fit: MixedFit | LinearFit, y: object) -> MixedFit | LinearFit:
    """The same model and method for another response, on the scale of the formula's left side (log(y) for log(y)).

    DesignError when the fixed part explains y exactly; otherwise as ``check_response``."""
    values = check_response(fit.design, y)
    design = with_response(fit.design, values)
    if isinstance(fit, LinearFit):
        return fit_linear(design, fit.reml)
    responses = Responses(fit.design, fit.problem)
    products = responses.products(values[None])
    if not products.squares[0] > 1e-24 * float(values @ values):
        raise DesignError(
            f"the fixed part explains the new {design.response} exactly in every row: nothing is left to estimate "
            "variances from"
        )
    problem = responses.problem_with(products, 0)
    with suitable_threads(problem.n_dense):
        return fit_problem(design, problem, fit.reml)


def simulated(fit: MixedFit | LinearFit, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n) new responses from the fit: group effects and noise drawn anew, offset included.

    A draw's numbers do not depend on how many follow it."""
    design = fit.design
    blocks = design.blocks if isinstance(fit, MixedFit) else ()
    sizes = [len(block.levels) * block.size for block in blocks]
    normal = rng.standard_normal((draws, sum(sizes) + design.nobs))
    noise = design.precision.sd(fit.sigma)
    Y = normal[:, sum(sizes) :] * noise
    Y += design.X[:, design.estimable] @ fit.beta[design.estimable]
    if design.offset is not None:
        Y += design.offset
    start = 0
    for block, size, Lam in zip(blocks, sizes, fit.Lambda if isinstance(fit, MixedFit) else (), strict=True):
        b = normal[:, start : start + size].reshape(draws, -1, block.size) @ (fit.sigma * Lam).T
        start += size
        for column in range(block.size):
            Y += block.values[:, column] * b[:, block.codes, column]
    return Y
