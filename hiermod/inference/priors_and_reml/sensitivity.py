"""Sensitivity of a posterior to its priors and to its likelihood, by power-scaling.

Kallioinen, Paananen, Buerkner and Vehtari (2024, Stat. Comput. 34, 57): p(theta)^alpha p(y | theta), reached from the
draws there are by importance weights.  That both move a posterior is no conflict yet: where prior and data share the
say, either moves it.  A conflict needs the tail test of the parameter's own prior besides (tail_tests.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core import versions
from hiermod.core.annotated import noted
from hiermod.core.checked import checked
from hiermod.engines.marginal.density import MarginalDensity, marginal_density
from hiermod.engines.marginal.integrated_likelihood import integrated_log_likelihood
from hiermod.engines.posterior import labelled, pooled
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError, listing, nearest
from hiermod.inference.priors_and_reml.prior_density import log_priors, prior_behind
from hiermod.inference.priors_and_reml.tail_tests import UNTESTED, TailTest, own_tests
from hiermod.inference.priors_and_reml.verdicts import CONFLICT, DATA, DECIDES, FIXED, SAY, by_power, p_words
from hiermod.inference.scores.level_quadrature import check_quadrature, level_logs
from hiermod.inference.scores.row_likelihood import AT_ONCE, row_log_likelihood

if TYPE_CHECKING:
    from hiermod.fits.bayesian import BayesianFit

THRESHOLD = 0.05  # of the sensitivity: a mean that moves about 0.3 posterior sds per doubling of the power (the paper)
ALPHAS = (0.99, 1.01)  # the sensitivity is a derivative at 1, by differences
WEAKER, STRONGER = 0.8, 1.25  # powers that are looked at: the same factor down and up
MAX_K = 0.7  # Pareto k-hat above which importance weights are not to be trusted
SLOW_DRAWS = 500  # draws used where every factor takes a good part of a second, and the fewest by quadrature
QUADRATURE = 4_000_000  # rows x draws to integrate by quadrature: some ten seconds
COLUMNS = ("prior", "likelihood", "prior_shift", "conflict_p", "conflict_p_data", "moved_by", "verdict", "words")


@dataclass(frozen=True, eq=False)
class Scaled:
    """A component of the posterior that can be raised to a power.  log_density (c, d), every ``step``-th draw."""

    log_density: np.ndarray
    step: int = 1

    def weights(self, alpha: float) -> np.ndarray:
        """(c, d) weights of the draws, summing to 1, under the component to the power alpha."""
        if np.ptp(self.log_density) == 0 or alpha == 1:
            return np.full(self.log_density.shape, 1 / self.log_density.size)
        return versions.power_scaled(self.log_density, alpha)

    def k(self, alpha: float) -> float:
        """Pareto k-hat of those weights."""
        if np.ptp(self.log_density) == 0:
            return float("nan")
        return float(versions.psis((alpha - 1) * self.log_density.ravel())[1])

    def sensitivity(self, draws: np.ndarray) -> float:
        """Of one parameter (c, d of the fit): 0 for a component that is the same at every draw."""
        if np.ptp(self.log_density) == 0:
            return 0.0
        return versions.power_scaling(draws[:, :: self.step], self.log_density, ALPHAS)


def scaled_priors(
    fit: BayesianFit, parameters: Sequence[str] | str | None = None
) -> tuple[dict[str, Scaled], tuple[str, ...]]:
    """Every prior by its name, or those of ``parameters``; and what to say about priors left out.

    UnknownNameError for a prior that does not exist, UnsupportedError where none of them can be evaluated."""
    found, unknown = log_priors(fit)
    notes: tuple[str, ...] = ()
    if parameters is not None:
        names = [parameters] if isinstance(parameters, str) else list(parameters)
        for name in names:
            if name not in found:
                raise UnknownNameError(
                    f"no prior of {name!r} to scale.{nearest(str(name), found)} There are: {listing(found, 20)}"
                )
        found = {name: found[name] for name in names}
    elif unknown:
        notes = (f"Not scaled, since only the graph can evaluate them: {listing(unknown)}.",)
    if not found:
        raise UnsupportedError(
            "every prior of this model is flat, a fixed number, or known to the graph alone: there is none to scale"
        )
    if not all(np.isfinite(one).all() for one in found.values()):
        raise UnsupportedError(
            "the prior density is 0 at some draws, as when draws and priors come from different models: fit again"
        )
    return {name: Scaled(one) for name, one in found.items()}, notes


def together(priors: Mapping[str, Scaled]) -> Scaled:
    """The joint prior."""
    return Scaled(np.sum([one.log_density for one in priors.values()], axis=0))


def scaled_prior(fit: BayesianFit, parameters: Sequence[str] | str | None = None) -> tuple[Scaled, tuple[str, ...]]:
    """The joint prior, or that of ``parameters`` alone, and the notes of ``scaled_priors``."""
    priors, notes = scaled_priors(fit, parameters)
    return together(priors), notes


def movers(fit: BayesianFit) -> Callable[[str], tuple[str, ...]]:
    """A function of a parameter's name: the priors that move it, the strongest first; none where that is not known."""
    try:
        priors, _ = scaled_priors(fit)
    except UnsupportedError:
        return lambda name: ()
    draws = dict(labelled_draws(fit))
    return lambda name: _moving(_alone(priors, draws[name]), THRESHOLD) if name in draws else ()


def _alone(priors: Mapping[str, Scaled], draws: np.ndarray) -> dict[str, float]:
    """The sensitivity of one parameter's draws to each prior by itself."""
    return {name: one.sensitivity(draws) for name, one in priors.items()}


def _moving(alone: Mapping[str, float], threshold: float) -> tuple[str, ...]:
    """Priors that count by themselves, the strongest first; where only together they do, the strongest."""
    ordered = sorted((name for name in alone if alone[name] > 0), key=lambda name: -alone[name])
    return tuple(name for name in ordered if alone[name] >= threshold) or tuple(ordered[:1])


def scaled_likelihood(fit: BayesianFit, integrated: bool | str = "auto") -> tuple[Scaled, str]:
    """The likelihood, and how the group effects were dealt with: "exact", "quadrature" or "" (at their draws)."""
    if integrated not in (True, False, "auto"):
        raise ArgumentError(f"integrated must be True, False or 'auto', got {integrated!r}")
    if integrated is not False:
        found = _in_closed_form(fit) or _by_quadrature(fit)
        if found is not None:
            return found
    if integrated is True:
        raise UnsupportedError(
            f"the group effects of {fit.formula!r} (family {fit.family!r}) do not integrate out, neither in closed "
            "form nor by quadrature over one factor: use integrated='auto'"
        )
    return Scaled(_summed(fit)), ""


def _in_closed_form(fit: BayesianFit) -> tuple[Scaled, str] | None:
    density = _density(fit)
    if density is None:
        return None
    step = _step(fit, SLOW_DRAWS) if density.batch is None else 1
    record = fit.record
    phi, beta = record.unconstrained_draws(density.coordinates)[:, ::step], record.beta[:, ::step]
    flat = integrated_log_likelihood(density, pooled(phi), pooled(beta))
    return (Scaled(flat.reshape(phi.shape[:2]), step), "exact") if np.isfinite(flat).all() else None


def _by_quadrature(fit: BayesianFit) -> tuple[Scaled, str] | None:
    factors = list(fit.design.ngroups)
    if len(factors) != 1:
        return None
    try:
        likelihood = check_quadrature(fit.design, factors[0], fit.family, fit.link)
    except UnsupportedError:
        return None
    count = QUADRATURE // fit.nobs
    if count < SLOW_DRAWS:
        return None
    step, record = _step(fit, count), fit.record
    record = replace(
        record,
        beta=record.beta[:, ::step],
        effects=tuple(one[:, ::step] for one in record.b),
        sd=tuple(one[:, ::step] for one in record.sd),
        corr=tuple(None if one is None else one[:, ::step] for one in record.corr),
    )
    total = level_logs(fit.design, record, factors[0], likelihood).integrated.sum(axis=0)
    return (Scaled(total.reshape(record.shape), step), "quadrature") if np.isfinite(total).all() else None


def _step(fit: BayesianFit, most: int) -> int:
    """Every how many-th draw to take, for at most ``most`` in all."""
    return max(1, int(np.ceil(np.prod(fit.record.shape) / most)))


def _density(fit: BayesianFit) -> MarginalDensity | None:
    if fit.priors is None or not fit.design.blocks:
        return None
    try:
        return marginal_density(fit.design, fit.priors)
    except UnsupportedError:
        return None


def _summed(fit: BayesianFit) -> np.ndarray:
    """log p(y | beta, b, ...) (c, d), rows in parts that fit into memory."""
    rows, n = row_log_likelihood(fit), fit.design.nobs
    step = max(1, AT_ONCE // int(np.prod(fit.record.shape)))
    return np.sum([rows(slice(start, start + step)).sum(axis=-1) for start in range(0, n, step)], axis=0)


@checked
def prior_sensitivity(
    fit: BayesianFit,
    parameters: Sequence[str] | str | None = None,
    integrated: bool | str = "auto",
    threshold: float = 0.05,
) -> pd.DataFrame:
    """How much each estimate depends on the strength of priors and data, by power-scaling; no refit.

    parameters: scale only these priors, by the names of ``m.priors()`` ("Days", "1|Subject_sigma", "Subject_corr");
    by default all of them at once.  The distribution of group effects given their sds belongs to the model and is
    never scaled.  integrated: "auto" takes the likelihood with group effects integrated out where that has a closed
    form (Gaussian models) or by quadrature (bernoulli, binomial, poisson with one factor), since given the effects
    the data say little about what these are drawn from; True insists, False never does.  threshold: sensitivity
    from which it counts.

    Index parameter; prior and likelihood: the distance (cumulative Jensen-Shannon) the posterior moves for a
    doubling of the power, 0.05 being about 0.3 sd; prior_shift: how far the mean goes, in sds, between a prior to
    the power of 0.8 and of 1.25; conflict_p and conflict_p_data: the tail test of the parameter's own prior at
    REML's or ML's estimate, as in ``prior.against``; moved_by: the priors that move it, the strongest first;
    verdict: "data decide", "prior has a say", "prior decides" (it moves the posterior at least as far as the data),
    "prior-data conflict" (by the tail test, Holm's correction for the number of priors, and the prior matters:
    of data from the priors at most 5 in 100 sets are called so); words.  attrs: sentences; by_prior, the
    sensitivity of each such parameter to every prior alone; scaled, the priors; pareto_k of the weights, not to be
    trusted above 0.7; integrated ("exact", "quadrature" or ""); threshold.  Kallioinen et al. (2024), Evans and
    Moshonov (2006).  Raises UnknownNameError, UnsupportedError (all priors flat or unknown);
    ``hm.plots.power_scaling`` draws it.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> m.fit(random_seed=1).prior_sensitivity()["verdict"].unique().tolist()
    ['data decide']
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise ArgumentTypeError(f"threshold must be a number, got {type(threshold).__name__}")
    if not threshold > 0:
        raise ArgumentError(f"threshold must be positive, such as {THRESHOLD}, got {threshold!r}")
    threshold = float(threshold)
    priors, notes = scaled_priors(fit, parameters)
    prior, behind = together(priors), prior_behind(fit)
    likelihood, how = scaled_likelihood(fit, integrated)
    weaker, stronger = prior.weights(WEAKER), prior.weights(STRONGER)
    rows, alone = {}, {}
    for name, draws in labelled_draws(fit):
        shift = float(((stronger - weaker) * draws).sum() / draws.std()) if np.ptp(draws) > 0 else float("nan")
        rows[name] = {
            "prior": prior.sensitivity(draws),
            "likelihood": likelihood.sensitivity(draws),
            "prior_shift": shift,
        }
    tests, felt, why = own_tests(fit)
    for name, draws in labelled_draws(fit):
        own = behind.get(name, "")
        suspect = own in priors and name in tests and tests[name].conflict
        if rows[name]["prior"] >= threshold or suspect:
            alone[name] = _alone(priors, draws)
        # a conflict with a prior too wide to matter is none of this table's; one that has won moves nothing any more
        if not suspect or not (alone[name][own] >= threshold or name in felt):
            tests[name] = replace(tests.get(name, UNTESTED), conflict=False)
    table = _table(rows, {name: _moving(one, threshold) for name, one in alone.items()}, tests, threshold)
    k = {"prior": max(prior.k(ALPHAS[0]), prior.k(ALPHAS[1]))}
    k["likelihood"] = max(likelihood.k(ALPHAS[0]), likelihood.k(ALPHAS[1]))
    k["prior_shift"] = max(prior.k(WEAKER), prior.k(STRONGER))
    table.attrs |= {"threshold": threshold, "integrated": how, "pareto_k": k, "by_prior": alone}
    table.attrs["scaled"] = tuple(priors)
    table.attrs["sentences"] = (*_sentences(table, bool(fit.design.blocks), why), *notes, *_doubts(k))
    return noted(table)


def _table(
    rows: dict[str, dict[str, float]],
    moving: dict[str, tuple[str, ...]],
    tests: dict[str, TailTest],
    threshold: float,
) -> pd.DataFrame:
    against = [name for name, test in tests.items() if test.conflict]
    full: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        test, by = tests.get(name, UNTESTED), moving.get(name, ())
        verdict = (
            FIXED
            if np.isnan(row["prior"] + row["likelihood"])
            else by_power(row["prior"], row["likelihood"], threshold, test.conflict)
        )
        full[name] = {**row, "conflict_p": test.p, "conflict_p_data": test.p_data, "moved_by": ", ".join(by)}
        full[name] |= {"verdict": verdict, "words": _words(verdict, row["prior_shift"], name, by, test, against)}
    return pd.DataFrame.from_dict(full, orient="index", columns=list(COLUMNS)).rename_axis("parameter")


def labelled_draws(fit: BayesianFit) -> list[tuple[str, np.ndarray]]:
    """Every parameter with its draws, in the order of ``fit.parameters()``."""
    draws = dict(labelled(fit.record, fit.design, effects=False))
    return [(str(name), draws[str(name)]) for name in fit.parameters().index if str(name) in draws]


def _words(verdict: str, shift: float, name: str, by: tuple[str, ...], test: TailTest, against: Sequence[str]) -> str:
    if verdict == FIXED:
        return "does not vary in the posterior"
    moved = f"a prior {WEAKER:g} to {STRONGER:g} times as strong moves its mean by {abs(shift):.2g} sd"
    if verdict == DATA:
        return f"another weight of the prior changes it little: {moved}"
    whose = "its own prior" if by in ((), (name,)) else f"the prior of {', '.join(by)}"
    others = [one for one in by if one in against and one != name]
    besides = f"; {CONFLICT} in {', '.join(others)}" if others else ""
    if verdict == CONFLICT:
        said = f"its prior and the data contradict each other ({p_words(test.p_data)})"
        return f"{said}; {whose} moves it: {moved}{besides}"
    if verdict == DECIDES:
        return f"{whose} weighs more than the data: {moved}{besides}"
    return f"the data weigh more, and {whose} has a say: {moved}{besides}"


def _sentences(table: pd.DataFrame, grouped: bool, untested: str) -> list[str]:
    out = []
    conflicts = [str(name) for name in table.index[table["verdict"] == CONFLICT]]
    if conflicts:
        found = [f"{name} ({p_words(table.loc[name, 'conflict_p_data'])})" for name in conflicts]
        out.append(
            f"Prior-data conflict in {', '.join(found)}: REML's estimate is a surprise under the prior, and the prior "
            "moves the answer. Look whether it says what was meant (m.priors(), prior.against(reml))."
        )
    for verdict, said, advice in (
        (DECIDES, "The prior decides", "say so in a report, and show what another prior gives"),
        (SAY, "The prior has a say in", "the data decide most of it"),
    ):
        found = [
            str(name) if by in ("", str(name)) else f"{name} (the prior of {by})"
            for name, by in table.loc[table["verdict"] == verdict, "moved_by"].items()
        ]
        if found:
            out.append(f"{said} {', '.join(found)}: {advice}.")
    if not out:
        out.append("No parameter depends on how strong the priors are.")
    if untested:
        out.append(f"Whether a prior conflicts with the data is not known: {untested}.")
    how = table.attrs["integrated"]
    if grouped and how:
        out.append("The likelihood is that with the group effects integrated out; their distribution is not scaled.")
    elif grouped:
        out.append(
            "The likelihood is that given the group effects. It says little about what those effects are drawn from, "
            f"so that {DECIDES!r} of a coefficient that varies, or of an sd, may as well be {SAY!r}."
        )
    return out


def _doubts(k: dict[str, float]) -> list[str]:
    names = {"prior": "prior", "likelihood": "likelihood", "prior_shift": "shift"}
    bad = [names[name] for name, value in k.items() if value > MAX_K]
    if not bad:
        return []
    return [
        f"Pareto k-hat above {MAX_K} for the weights behind {', '.join(bad)} ({max(k.values()):.2f}): the numbers are "
        "rough. Refit with a prior of another scale to be sure."
    ]
