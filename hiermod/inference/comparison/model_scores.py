"""Models ranked by how well they predict data they have not seen, with what makes each number doubtful, in words.

Vehtari, Gelman and Gabry (2017, Statistics and Computing 27); small differences: Sivula, Magnusson, Matamoros and
Vehtari (2020, arXiv 2008.10296)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.arguments import resolve_seed
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, ArgumentTypeError, HiermodWarning, nearest, warn
from hiermod.fits.bayesian import BayesianFit
from hiermod.inference.comparison.weights import METHODS, model_weights
from hiermod.inference.scores.comparable import check_comparable, difference
from hiermod.inference.scores.record import MAX_K, MAX_P_WAIC, NAMES, Score

SMALL = 4.0  # a difference of elpd below this is small, whatever its standard error (Sivula et al. 2020)
FEW = 100  # units below which the normal approximation behind dse is rough (the same source)
CRITERIA = tuple(NAMES)
COLUMNS = ["elpd", "elpd_diff", "se", "dse", "p", "weight", "estimator", "worst_k", "note"]


@checked
def compare(
    models: Mapping[str, BayesianFit | Score],
    criterion: str | None = None,
    group: str | None = None,
    weights: str | None = "stacking",
    k: int | str = 10,
    stratify: str | None = None,
    jacobian: bool = False,
    random_seed: int | np.random.Generator | None = None,
    cores: int = 1,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Fits of one data set, best first, by expected log predictive density (elpd); larger is better.

    models: name -> fit, or a score made before.  criterion: "loo" (the default), "waic", "logo" (leave out whole levels
    of ``group``) or "kfold" (k, group, stratify, cores as in ``fit.kfold``; all models get the same folds).
    weights: "stacking", "pseudo-bma+", "pseudo-bma" or None.  jacobian: bring scores of log(y), sqrt(y), ... back to
    the scale of y, so that models of a variable and of its transformation can be compared.

    Returns a DataFrame, index model: elpd; elpd_diff, elpd less the best model's, 0 or negative; se of elpd; dse of
    elpd_diff, from paired units; p, effective parameters; weight; estimator, what became of the group effects;
    worst_k, the largest Pareto k; note.  attrs["notes"]: sentences.  Doubtful estimates also warn (HiermodWarning).

    Raises ArgumentTypeError for what is neither fit nor score; ArgumentError, with the reason, for scores of different
    data, units, criteria or transformations of the response.

    >>> import hiermod as hm
    >>> d = hm.load_dataset("sleepstudy")
    >>> fits = {x: hm.Model(f"Reaction ~ Days + ({x} | Subject)", d).fit(random_seed=1) for x in ("1", "Days")}
    >>> list(hm.compare(fits).index)
    ['Days', '1']
    """
    if not isinstance(models, Mapping):
        raise ArgumentTypeError(
            f"compare takes a dict of name -> fit, such as {{'slopes': fit}}, got {type(models).__name__}"
        )
    if len(models) < 2:
        raise ArgumentError(f"a comparison needs two models or more, got {len(models)}")
    if weights is not None and weights not in METHODS:
        raise ArgumentError(f"weights is {weights!r}.{nearest(str(weights), METHODS)} Possible: {', '.join(METHODS)}")
    criterion = _criterion(models, criterion, group)
    seed = resolve_seed(random_seed)
    options: dict[str, Any] = {"k": k, "stratify": stratify, "random_seed": seed, "cores": cores}
    scores = {str(n): _score(n, one, criterion, group, options, progressbar) for n, one in models.items()}
    if jacobian:
        scores = {name: score.untransformed() for name, score in scores.items()}
    _check_all(scores)
    order = sorted(scores, key=lambda name: -scores[name].elpd)
    best = scores[order[0]]
    elpd_i = np.column_stack([scores[name].elpd_i for name in order])
    weight = np.full(len(order), np.nan) if weights is None else model_weights(elpd_i, weights, seed)
    rows = []
    for name, share in zip(order, weight, strict=True):
        score = scores[name]
        diff, dse = (0.0, 0.0) if score is best else difference(score, best)
        note = _note(score, diff, dse, score is best)
        rows.append((score.elpd, diff, score.se, dse, score.p, share, score.estimator, score.worst_k, note))
    table = pd.DataFrame(rows, columns=COLUMNS, index=pd.Index(order, name="model"))
    doubts = _doubts(scores)
    table.attrs |= {"criterion": criterion, "unit": best.unit, "n_units": best.n_units, "weights": weights}
    table.attrs["notes"] = (*doubts, *_remarks(table, best))
    if doubts:
        warn(" ".join(doubts), HiermodWarning)
    return noted(table)


def _criterion(models: Mapping[str, Any], criterion: str | None, group: str | None) -> str:
    """The one asked for, else that of the scores given, else leave-one-out."""
    for name, one in models.items():
        if not isinstance(one, BayesianFit | Score):
            hint = ""
            if type(one).__name__ in ("FrequentistFit", "GeneralisedFit"):
                hint = ". hm.lrt compares fits by REML and ML, hm.information_criteria shows them beside Bayesian ones"
            raise ArgumentTypeError(
                f"{name!r} is a {type(one).__name__}; compare takes what m.fit() returns, or its scores{hint}"
            )
    found = [one.criterion for one in models.values() if isinstance(one, Score)]
    chosen = criterion or (found[0] if found else "loo")
    if chosen not in CRITERIA:
        raise ArgumentError(f"criterion is {chosen!r}.{nearest(str(chosen), CRITERIA)} Possible: {', '.join(CRITERIA)}")
    if chosen == "logo" and group is None and len(found) < len(models):
        raise ArgumentError('criterion="logo" leaves out whole levels of a grouping factor: name it with group=')
    if group is not None and chosen in ("loo", "waic"):
        raise ArgumentError(
            f"criterion={chosen!r} leaves out rows, so group={group!r} has no place. Leave whole levels out with "
            'criterion="logo" or "kfold"'
        )
    return str(chosen)


def _score(
    name: str, one: BayesianFit | Score, criterion: str, group: str | None, options: dict[str, Any], progressbar: bool
) -> Score:
    if isinstance(one, Score):
        return one
    if criterion == "waic":
        return one.waic()
    if criterion == "loo":
        return one.loo(progressbar=progressbar)
    if group is not None and group not in one.ngroups:
        raise ArgumentError(
            f"{name!r} has no effects of {group!r} (it has: {', '.join(one.ngroups) or 'none'}), so its levels cannot "
            f"be left out of it. Give each model a term of {group!r}, or compare by rows"
        )
    if criterion == "logo":
        return one.logo(str(group), progressbar=progressbar)
    return one.kfold(group=group, progressbar=progressbar, **options)


def _check_all(scores: Mapping[str, Score]) -> None:
    """Every score against the first; the error says which two models it is about."""
    first, *rest = scores
    for name in rest:
        try:
            check_comparable(scores[first], scores[name])
        except ArgumentError as error:
            raise ArgumentError(f"{first!r} and {name!r} cannot be compared: {error}") from None


def _note(score: Score, diff: float, dse: float, best: bool) -> str:
    """What to know about one model, in a few words."""
    words = []
    if not best and abs(diff) < SMALL:
        words.append(f"difference below {SMALL:g}: small")
    elif not best and abs(diff) < 2 * dse:
        words.append("difference within 2 dse")
    what = "row" if score.unit == "row" else "level"
    if len(score.bad):
        words.append(f"k > {MAX_K} for {len(score.bad)} {what}{'s' if len(score.bad) > 1 else ''}")
    loud = int((score.p_i > MAX_P_WAIC).sum()) if score.criterion == "waic" else 0
    if loud:
        words.append(f"p_waic > {MAX_P_WAIC} for {loud} row{'s' if loud > 1 else ''}")
    if score.refitted and score.estimator != "refits":
        words.append(f"{len(score.refitted)} {what}{'s' if len(score.refitted) > 1 else ''} refitted")
    return "; ".join(words)


def _doubts(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """What makes the ranking itself doubtful."""
    words = []
    bad = [name for name, score in scores.items() if len(score.bad)]
    if bad:
        counts = ", ".join(f"{name}: {len(scores[name].bad)} (up to {scores[name].worst_k:.2f})" for name in bad)
        words.append(
            f"Pareto k is above {MAX_K} for some units ({counts}), so these elpd are unreliable: loo(refit_bad=True), "
            "logo(..., refit_bad=True) or kfold() refit without them."
        )
        used = {score.estimator for score in scores.values()} & {"integrated", "conditional"}
        if len(used) == 2:
            words.append(
                "Some models have their effects integrated out and others do not. Both estimate the same elpd, but "
                f"only where k is good; here a k above {MAX_K} can pass for a difference between the models."
            )
    loud = [n for n, score in scores.items() if score.criterion == "waic" and (score.p_i > MAX_P_WAIC).any()]
    if loud:
        words.append(f"p_waic is above {MAX_P_WAIC} for some rows of {', '.join(loud)}: use criterion='loo'.")
    if len({score.discrete for score in scores.values()}) == 2:
        words.append(
            "Some models give probabilities of whole numbers and others densities: these compare only where the "
            "response has steps of 1 and a density changes little within a step."
        )
    return tuple(words)


def _remarks(table: pd.DataFrame, best: Score) -> tuple[str, ...]:
    """What helps to read the table."""
    words = []
    small = [str(name) for name, diff in table["elpd_diff"].iloc[1:].items() if abs(diff) < SMALL]
    if small:
        words.append(
            f"{', '.join(small)}: elpd within {SMALL:g} of the best, a small difference whatever its standard error; "
            "prefer the model that makes more sense."
        )
    if best.n_units < FEW:
        words.append(f"dse rests on {best.n_units} units; with fewer than {FEW} it is rough, mostly too small.")
    return tuple(words)
