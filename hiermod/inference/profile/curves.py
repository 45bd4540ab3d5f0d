"""Profile likelihood of every parameter of a (generalised) mixed model (Bates et al. 2015, J. Stat. Softw. 67(1), 5).

zeta(v) is the signed square root of the ML deviance, minimised with the parameter held at v, less its minimum; the
limits are where it reaches the normal quantiles.  A REML fit is profiled by its ML deviance too, as lme4 does.  lme4
reads the limits off a spline; here each is solved for, and the curve is kept with its exact slopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.mixed import MixedFit, fit_problem
from hiermod.errors import FitError, UnsupportedError
from hiermod.formula.design import FrozenArrays
from hiermod.inference.profile.deviance import Held, Parameter
from hiermod.inference.profile.generalised_deviance import held_functions
from hiermod.inference.profile.local_minimum import curvature
from hiermod.inference.profile.tracer import LowerMinimum, Point, Walk
from hiermod.kernel.threads import SHORT, suitable_threads

Fit = MixedFit | GeneralisedMixedFit | GeneralisedLinearFit


@dataclass(frozen=True, eq=False)
class Curve(FrozenArrays):
    """The profile of one parameter: points in ascending order of value.  The estimate is ML's and has zeta 0."""

    parameter: Parameter
    estimate: float
    lower: float  # nan: see note
    upper: float
    value: np.ndarray  # (m,)
    zeta: np.ndarray  # (m,)
    slope: np.ndarray  # (m,) d zeta / d value; nan where it has none (at a boundary)
    note: str = ""  # in words, where a limit is a boundary or could not be had


@dataclass(frozen=True, eq=False)
class Profile:
    """Curves in the order asked for.  level: the limits' confidence; fit: the ML fit they start from."""

    fit: Fit
    level: float
    curves: tuple[Curve, ...]
    evaluations: int


def parameters_of(fit: Fit) -> tuple[Parameter, ...]:
    """Fixed effects that are estimable, each block's sds and correlations, sigma: as ``fit.parameters()`` has them."""
    found = [Parameter("fixed", i=i) for i in range(int(fit.design.estimable.sum()))]
    if isinstance(fit, GeneralisedLinearFit):
        return (*found, *_auxiliary(fit))
    for number, block in enumerate(fit.design.blocks):
        found += [Parameter("sd", number, i) for i in range(block.size)]
        found += [Parameter("corr", number, i, j) for i, j in block.pairs]
    if isinstance(fit, GeneralisedMixedFit):
        return (*found, *_auxiliary(fit))
    return tuple(found) if fit.sigma_known else (*found, Parameter("sigma"))


def _auxiliary(fit: GeneralisedMixedFit | GeneralisedLinearFit) -> list[Parameter]:
    """The family's further parameters."""
    return [Parameter("auxiliary", i=k, name=name) for k, name in enumerate(fit.likelihood.auxiliary_names)]


def profile(
    fit: Fit,
    level: float = 0.95,
    parameters: Sequence[Parameter] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Profile:
    """Limits and zeta curves of some parameters (default: all).  FitError when the ML fit cannot be found.

    report(done, of how many) is called after every parameter.  UnsupportedError where a covariance has a structure."""
    for block in fit.design.structured_blocks:
        raise UnsupportedError(
            f"profiles move one standard deviation or correlation by itself, and those of {block.term} depend on one "
            "another. Use confint(method='bootstrap'), or method='wald' for the common effects"
        )
    columns = SHORT if isinstance(fit, GeneralisedLinearFit) else fit.problem.n_dense
    with suitable_threads(columns if isinstance(fit, MixedFit) else max(columns, SHORT)):
        ml = _by_ml(fit, fit.theta) if isinstance(fit, MixedFit) and fit.reml else fit
        for _ in range(4):
            try:
                return _profile(ml, level, parameters_of(ml) if parameters is None else parameters, report)
            except LowerMinimum as lower:
                ml = _by_ml(fit, lower.theta)
    raise FitError(
        "the ML deviance kept falling below its supposed minimum while it was profiled: the model has many local "
        "minima. Simplify the group effects, or use method='bootstrap'."
    )


def _by_ml(fit: Fit, theta: np.ndarray) -> Fit:
    """The fit by maximum likelihood, searched for from theta."""
    if isinstance(fit, MixedFit):
        return fit_problem(fit.design, fit.problem, False, theta)
    if isinstance(fit, GeneralisedLinearFit):  # concave: there is no lower minimum
        return fit
    return fit_generalised(fit.design, fit.likelihood.family, fit.likelihood.link, fit.nodes, theta)


def _functions(ml: Fit) -> Callable[[Parameter], Held]:
    """What makes the function to profile out of a parameter."""
    if not isinstance(ml, MixedFit):
        return held_functions(ml)
    return lambda parameter: Held(ml.problem, parameter, ml.Lambda, ml.sigma, ml.beta[ml.design.estimable])


def _profile(
    ml: Fit, level: float, parameters: Sequence[Parameter], report: Callable[[int, int], None] | None
) -> Profile:
    quantile, curves, evaluations = float(stats.norm.ppf(0.5 + level / 2)), [], 0
    function = _functions(ml)
    for done, parameter in enumerate(parameters, 1):
        held = function(parameter)
        curves.append(_curve(held, ml.criterion, quantile))
        evaluations += held.evaluations
        if report is not None:
            report(done, len(parameters))
    return Profile(ml, level, tuple(curves), evaluations)


def _curve(held: Held, minimum: float, quantile: float) -> Curve:
    """Walk both ways from the estimate."""
    kind = held.parameter.kind
    if kind == "corr" and not (held.start[:2] > 0).all():
        nothing = "an sd is estimated as 0, so the correlation is undefined and the data exclude none"
        none = np.zeros(0)
        return Curve(held.parameter, np.nan, -1.0, 1.0, none, none, none, nothing)
    hessian = curvature(held, held.phi, held.start)
    inner = hessian[1:, 1:]
    values, vectors = np.linalg.eigh(inner)
    floor = max(1e-7 * float(np.abs(values).max(initial=0.0)), 1e-12)
    along = vectors.T @ hessian[1:, 0]
    rise = float(hessian[0, 0] - (along**2 / np.maximum(values, floor)).sum())
    slope = np.sqrt(0.5 * rise) if rise > 0 else np.nan
    tangent = -vectors @ (along / np.maximum(values, floor))
    start = Point(held.phi, 0.0, slope, held.start, np.zeros(len(held.start)))
    sides, limits, notes = [], [], []
    for sign, end in ((-1.0, held.low), (1.0, held.high)):
        walk = Walk(held, minimum, sign, end, start, tangent, inner)
        limit, note = walk.to(quantile)
        sides.append(walk.points[1:])
        limits.append(limit)
        notes.append(note)
    points = [*reversed(sides[0]), start, *sides[1]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes = [np.divide(point.slope, held.natural_slope(point.phi)) for point in points]
    return Curve(
        parameter=held.parameter,
        estimate=held.natural(held.phi),
        lower=limits[0],
        upper=limits[1],
        value=np.array([held.natural(point.phi) for point in points]),
        zeta=np.array([point.zeta for point in points]),
        slope=np.array([slope if abs(slope) < 1e12 else np.nan for slope in slopes]),
        note="; ".join(note for note in notes if note),
    )
