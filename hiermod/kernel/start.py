"""Where to start the search for theta, and how curved the criterion is there: both from the cross-products alone."""

from __future__ import annotations

import numpy as np

from hiermod.kernel.covariance import triangle
from hiermod.kernel.criterion import Problem

MOST_INFLATED = 1e6  # beyond, the minimum is lost in rounding
FLAT = 1e-14  # of the largest curvature: where no level has rows of two columns nothing depends on their covariance
NOTHING = 1e-12  # information of rows without weight, as those are whose outcome is as good as certain
LEAST, MOST = 0.1, 5.0  # range of the starting relative standard deviations, in whitened columns


def _squares_and_sums(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each factor: v'v (J, K) and v'e (J, K) per level, v the whitened columns and e the least-squares residual."""
    cross, found = problem.cross, []
    for index, layout in enumerate(problem.factors):
        if index in cross.chain_factors:
            level = cross.chain[cross.chain_factors.index(index)]
            squares = np.diagonal(level.diagonal, axis1=1, axis2=2)
            sums = level.tail[:, :, -1] if isinstance(level.tail, np.ndarray) else level.tail.column_sums(-1)
        else:
            where = cross.tail_slices[cross.tail_factors.index(index)]
            squares = np.diag(cross.tail)[where].reshape(-1, layout.size)
            sums = cross.tail[where, -1].reshape(-1, layout.size)
        found.append((squares, sums))
    return found


def start_x(problem: Problem) -> np.ndarray:
    """(n_theta,) a diagonal start: squared sums of residuals per level against what independent rows would give.

    For one column v with residuals e, levels j: E (sum_j v'e)^2 = s2 sum_j v'v + tau2 sum_j (v'v)^2, other terms left
    out."""
    total = problem.cross.tail[-1, -1] / problem.n
    estimates = []
    for squares, sums in _squares_and_sums(problem):
        spread = (squares**2).sum(axis=0) - squares.sum(axis=0)
        excess = (sums**2).sum(axis=0) - total * squares.sum(axis=0)
        estimates.append(np.where(spread > 0, excess / np.where(spread > 0, spread, 1.0), 0.0).clip(min=0.0))
    explained = sum(float(estimate.sum()) for estimate in estimates)
    residual = 1.0 if problem.sigma_known else max(total - explained, 0.05 * total)
    start: list[np.ndarray] = [np.zeros((0, 0))] * len(problem.template.sizes)
    for layout, estimate in zip(problem.factors, estimates, strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            start[block] = np.diag(np.sqrt(estimate[where] / residual).clip(LEAST, MOST))
    return problem.template.pack(start)


def opposed_start(problem: Problem, least: float = 5.0) -> np.ndarray | None:
    """A second start for uncorrelated terms of one group whose columns are nearly collinear, else None.

    With ``(x || g)`` and x far from 0 the intercept and the slope can only make level lines differ near the data when
    both variances are large: often a second minimum, and the lower one.  The start gives each orthogonalised column a
    standard deviation of one residual's and reads the diagonal off; ``least`` is the variance inflation from which it
    is worth it."""
    cross = problem.cross
    start = problem.template.unpack(start_x(problem))
    found = False
    for index, layout in enumerate(problem.factors):
        if len(layout.blocks) < 2:
            continue
        if index in cross.chain_factors:
            gram = cross.chain[cross.chain_factors.index(index)].diagonal.sum(axis=0)
        else:
            where = cross.tail_slices[cross.tail_factors.index(index)]
            blocks = cross.tail[where, where].reshape(layout.n_levels, layout.size, layout.n_levels, layout.size)
            gram = np.einsum("jajb->ab", blocks)
        inflation = np.diag(np.linalg.pinv(gram / problem.n, hermitian=True))
        if not least <= inflation.max() <= MOST_INFLATED:
            continue
        found = True
        for block, columns in zip(layout.blocks, layout.columns, strict=True):
            start[block][:] = np.diag(np.sqrt(inflation[columns]))
    return problem.template.pack(start) if found else None


def curvature_guess(problem: Problem, x: np.ndarray) -> np.ndarray:
    """(n_theta,) positive: the diagonal of the expected Hessian of the criterion, factors taken one at a time.

    For element (a, b) of Lambda: 2 sum_j [A_a / (1 + l_a^2 A_a)] [l_b^2 A_b / (1 + l_b^2 A_b)], l the diagonal of
    Lambda, kept away from 0, where this information vanishes though the criterion bends."""
    lambdas = problem.template.unpack(x)
    guess: list[np.ndarray] = [np.zeros((0, 0))] * len(lambdas)
    for layout, (squares, _) in zip(problem.factors, _squares_and_sums(problem), strict=True):
        for block, where in zip(layout.blocks, layout.columns, strict=True):
            A = squares[:, where]
            information = np.maximum(A.mean(axis=0), NOTHING)
            variances = np.maximum(np.diag(lambdas[block]) ** 2, 1.0 / information)
            inner = A / (1.0 + variances * A)
            product = 2.0 * inner.T @ (variances * inner)
            product[np.diag_indices_from(product)] *= 2.0
            rows, columns = triangle(len(product))
            matrix = np.zeros_like(product)
            matrix[rows, columns] = np.maximum(product, max(FLAT * product.max(), NOTHING))[rows, columns]
            guess[block] = matrix
    return problem.template.pack(guess)
