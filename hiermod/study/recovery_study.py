"""hm.recovery: do fits find the parameters that made the data?  Simulate, fit, compare, many times.

With parameters drawn from the priors it is simulation-based calibration (Talts et al. 2018, arXiv 1804.06788)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.arguments import LARGEST_CORES, LARGEST_FITS, check_count, resolve_seed
from hiermod.core.checked import checked
from hiermod.core.jobs import run_jobs
from hiermod.core.progress import progress
from hiermod.errors import ArgumentError, FitError, UnsupportedError
from hiermod.families.catalogue import FAMILIES, GENERALISED, check_family
from hiermod.fits.tables import LEVEL, check_level
from hiermod.model import Model
from hiermod.priors.gaussian import GaussianPriors, gaussian_priors
from hiermod.priors.given import resolve_priors
from hiermod.study.recovery_jobs import RANKED, THIN, Fits, RecoveryWorker, Study, chunks, parameter_draws
from hiermod.study.recovery_result import Recovery
from hiermod.study.simulated_fits import CHAINS, SimulatedFits, frozen_priors
from hiermod.study.simulation import response_column, simulator

METHODS = ("REML", "ML", "Bayes")


@checked
def recovery(
    formula: str,
    data: pd.DataFrame,
    fixef: Mapping[str, float] | pd.Series | pd.DataFrame | None = None,
    varcorr: Mapping[str, Any] | pd.DataFrame | None = None,
    sigma: float | None = None,
    *,
    truth: str = "given",
    fits: int = 200,
    methods: Sequence[str] | None = None,
    family: str = "gaussian",
    link: str | None = None,
    weights: str | None = None,
    se: str | None = None,
    priors: Mapping[str, Any] | None = None,
    profile: bool = False,
    level: float = LEVEL,
    draws: int = 250,
    extra_namespace: Mapping[str, Any] | None = None,
    cores: int = 1,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Recovery:
    """Simulate ``fits`` data sets from known parameters, fit each, and see how well the parameters come back.

    data: predictors and groups.  fixef, varcorr, sigma: the truth, as in ``hm.simulate``.
    truth: "given", or "prior": every data set has parameters of its own, drawn from the model's priors, and then the
    ranks of the true values among posterior draws must be uniform (simulation-based calibration).
    methods: of "REML", "ML" and "Bayes" (marginal, ``draws`` in each of four chains); by default REML and Bayes, and ML
    for generalised families.  Common effects by REML and ML have Satterthwaite t intervals (generalised: normal).
    profile: profile intervals of sds and correlations as well (ML deviance; some tenths of a second each).
    priors: as in ``hm.Model``, frozen: every fit has the same, default ones at the scale of typical data (with "prior",
    of the response in ``data``, without which all priors must be given).
    cores: processes; the numbers are the same with any number.

    Raises as ``hm.simulate``; UnsupportedError for Bayesian fits of families that are not Gaussian; FitError where no
    fit succeeds.

    >>> import hiermod as hm
    >>> found = hm.recovery(
    ...     "y ~ time + (1 | subject)", hm.designs.longitudinal(subjects=20, times=5), {"Intercept": 10, "time": 2},
    ...     {"1|subject": 3}, sigma=2, fits=50, methods=["REML"], random_seed=1,
    ... )
    >>> found.table.loc[("time", "REML"), ["truth", "mean"]].round(1).tolist()
    [2.0, 2.0]
    """
    fits, cores = check_count("fits", fits, most=LARGEST_FITS), check_count("cores", cores, most=LARGEST_CORES)
    draws = check_count("draws", draws)
    level = check_level(level)
    if truth not in ("given", "prior"):
        raise ArgumentError(f"truth must be 'given' or 'prior', got {truth!r}")
    seed = resolve_seed(random_seed)
    options: dict[str, Any] = {
        "family": family,
        "link": link,
        "weights": weights,
        "se": se,
        "extra_namespace": extra_namespace,
    }
    chosen = _methods(methods, family)
    if "Bayes" in chosen and draws * CHAINS < RANKED * THIN:
        raise ArgumentError(f"draws is {draws}; ranks need at least {-(-RANKED * THIN // CHAINS) + THIN} in each chain")
    frozen: GaussianPriors | None = None
    drawn = None
    if truth == "prior":
        if fixef is not None or varcorr is not None or sigma is not None:
            raise ArgumentError("truth='prior' draws the parameters: leave fixef, varcorr and sigma out")
        model = _model(formula, data, priors, options)
        made, names, drawn = _from_prior(model, formula, data, options, fits, seed)
        frozen = gaussian_priors(model.spec, model._priors, model.center_predictors)
    else:
        made = simulator(formula, data, fixef, varcorr, sigma, **options)
        names = tuple(made.truth())
        if "Bayes" in chosen:
            frozen = frozen_priors(made, resolve_priors(priors, made.design, family), seed)
        elif priors is not None:
            raise ArgumentError("priors= is for the method 'Bayes', which methods= leaves out")
    for method in chosen:
        if method != "Bayes":
            SimulatedFits(made, reml=method == "REML")  # raises here, not in a process
    study = Study(made, names, frozen, bool(profile), level, draws, seed, drawn)
    jobs = chunks(chosen, fits)
    with progress("recovery", progressbar) as report:
        parts: list[Fits] = run_jobs(RecoveryWorker(study), jobs, cores, report, [job[0] for job in jobs])
    return _result(study, parts, formula)


def _methods(methods: Sequence[str] | None, family: str) -> list[str]:
    if methods is None:
        return ["ML"] if family in GENERALISED else ["REML", "Bayes"]
    chosen = [methods] if isinstance(methods, str) else list(methods)
    wrong = [name for name in chosen if name not in METHODS]
    if wrong or not chosen:
        raise ArgumentError(f"methods must be some of {', '.join(METHODS)}, got {methods!r}")
    if family in GENERALISED and "REML" in chosen:
        raise UnsupportedError(f"family {family!r} has no REML: use methods=['ML']")
    return list(dict.fromkeys(chosen))


def _model(formula: str, data: pd.DataFrame, priors: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Model:
    """The model whose priors the parameters come from; default priors need a response to be scaled to."""
    column = response_column(formula)
    if not FAMILIES[check_family(options["family"])].normal_errors:
        raise UnsupportedError("truth='prior' is for Gaussian models, which alone can be fitted by Bayes many times")
    known = column in data.columns
    frame = data if known else data.assign(**{column: np.resize((0.0, 1.0), len(data))})
    model = Model(formula, frame, priors=priors, **options)
    if not known:
        table = model.priors()
        default = table.loc[(table["why"] != "given") & ~table["parameter"].str.contains("_corr"), "parameter"]
        if len(default):
            raise ArgumentError(
                f"default priors are scaled to the response, and the data have no column {column!r}: give priors= for "
                f"{', '.join(default)}, or data with a response"
            )
    return model


def _from_prior(
    model: Model, formula: str, data: pd.DataFrame, options: Mapping[str, Any], fits: int, seed: int
) -> tuple[Any, tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    """Simulator (for its design), names, and (data, parameters) drawn from the priors."""
    prior = model.prior_predictive(fits, random_seed=seed)
    record, design = prior.record, model.spec
    made = simulator(
        formula,
        data,
        dict.fromkeys(design.common, 0.0),
        {column.sd_name: 1.0 for block in design.blocks for column in block.columns},
        None if design.precision.sigma_known else 1.0,
        **options,
    )
    Y = np.concatenate(list(prior.draws.responses(design)))
    return made, tuple(made.truth()), (Y, parameter_draws(record, design)[0])


def _result(study: Study, parts: Sequence[Fits], formula: str) -> Recovery:
    truth = np.array([study.simulator.truth().get(name, np.nan) for name in study.names])
    pieces = []
    for part in parts:
        c, q = part.estimate.shape
        rows = slice(part.start, part.start + c)
        true = np.tile(truth, (c, 1)) if study.drawn is None else study.drawn[1][rows]
        columns = {
            "fit": np.repeat(np.arange(part.start, part.start + c), q),
            "method": part.method,
            "parameter": np.tile(np.array(study.names, dtype=object), c),
            "truth": true.ravel(),
        }
        columns |= {n: getattr(part, n).ravel() for n in ("estimate", "std_error", "lower", "upper", "rank")}
        columns |= {n: np.repeat(getattr(part, n), q) for n in ("failed", "converged", "singular")}
        pieces.append(pd.DataFrame(columns))
    words = Counter(message for part in parts for message in part.messages)
    told = tuple(f"{message} ({count} times)" for message, count in words.most_common())
    table = pd.concat(pieces, ignore_index=True)
    if table["failed"].all():
        raise FitError(f"none of the fits succeeded: {'; '.join(told[:3])}")
    return Recovery(formula, table, study.level, study.seed, study.drawn is not None, told)
