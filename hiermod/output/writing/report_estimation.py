"""How a fit was estimated, in sentences: criterion, tests, priors, engine, diagnostics, software."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermod.engines.catalogue import method_named
from hiermod.engines.posterior import MAX_R_HAT, MIN_ESS, Inference
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit
from hiermod.inference.priors_and_reml.tail_tests import conflict_sentence
from hiermod.output.frequentist_text import boundary
from hiermod.output.storage.fingerprint import Origin
from hiermod.output.storage.origins import origin_of
from hiermod.output.writing.report_sample import code, joined

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

# Packages to name, with their names in print; an engine brings its own.
BASE = {"hiermod": "hiermod", "numpy": "NumPy", "scipy": "SciPy"}


def estimation(fit: Fit) -> tuple[str, ...]:
    """Paragraphs: estimation and what went wrong in it; priors and diagnostics; software."""
    origin = origin_of(fit)
    if isinstance(fit, BayesianFit):
        return (_priors(fit, origin), _sampling(fit), _software(fit, origin))
    told = [*_likelihood(fit), *_warnings(fit)] if isinstance(fit, FrequentistFit) else []
    return (" ".join(told), _software(fit, origin))


def _likelihood(fit: FrequentistFit) -> list[str]:
    if isinstance(fit, GeneralisedFit):
        how = ""
        if fit.is_mixed:
            how = " with the Laplace approximation" if fit.nodes == 1 else (
                f" with adaptive Gauss-Hermite quadrature ({fit.nodes} nodes)")  # fmt: skip
        return [f"Parameters were estimated by maximum likelihood{how}; tests and confidence intervals of the fixed "
                "effects are Wald's (normal)."]  # fmt: skip
    if not fit.is_mixed:
        how = "weighted least squares" if not fit.design.precision.is_iid else (
            "ordinary least squares")  # fmt: skip
        law = "normal distribution" if fit.design.precision.sigma_known else "t distribution with the residual df"
        by = how if fit.reml else f"maximum likelihood (for the coefficients {how})"
        return [f"Parameters were estimated by {by}; tests and confidence intervals use the {law}."]
    how = "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood"
    return [f"Parameters were estimated by {how}; degrees of freedom of the fixed effects, for tests and confidence "
            "intervals, are Satterthwaite's."]  # fmt: skip


def _warnings(fit: FrequentistFit) -> list[str]:
    if not fit.is_mixed:
        return []
    told = []
    if not fit.converged:
        told.append("The optimiser did not converge, so these estimates should not be reported.")
    if fit.singular:
        told.append(f"The fit is singular (at the boundary of the parameter space): {'; '.join(boundary(fit))}.")
    return told or ["The optimiser converged, and no variance or correlation was at its boundary."]


def _priors(fit: BayesianFit, origin: Origin) -> str:
    if not origin.priors:
        return "The priors are not known: the fit was made without its model."
    told = [code(f"{name} ~ {text}" if "(" in text else f"{name} {text}") for name, text in origin.priors.items()]
    design = fit.design
    centred = origin.center_predictors and design.has_intercept and len(design.common) > 1
    where = " The prior of the intercept is on its value where the predictors are at their means." if centred else ""
    conflict = conflict_sentence(fit)
    against = f" {conflict}: REML's estimate is a surprise under that prior." if conflict else ""
    return f"{'The prior was' if len(told) == 1 else 'Priors were'} {', '.join(told)}.{where}{against}"


def _sampling(fit: BayesianFit) -> str:
    how = fit.inference
    tuning = f" after {how.tune:,} tuning steps each" if how.tune else ""
    method = method_named(how.method)
    effects = f"The fixed effects{' and the group effects' if fit.design.blocks else ''}"
    engine = method.sentence.format(effects=effects)
    told = [f"{engine}: {_chains(how.chains, how.draws)}{tuning} (seed {how.seed})."]
    r_hat = f"The largest R-hat was {how.max_r_hat:.3f}, the" if how.max_r_hat == how.max_r_hat else "The"
    sizes = f"{how.min_ess_bulk:,.0f} (bulk) and {how.min_ess_tail:,.0f} (tail)"
    told.append(f"{r_hat} smallest effective sample sizes were {sizes}")
    if not method.transitions:
        told[-1] += f"; Pareto k-hat of the proposals was {how.k_hat:.2f}." if how.k_hat == how.k_hat else "."
    else:
        kept = how.chains * how.draws
        many = "no transition" if how.divergences == 0 else f"{how.divergences:,} of {kept:,} transitions"
        told[-1] += f"; {many} diverged."
    told += _doubts(how)
    told.append("Estimates are posterior means with posterior standard deviations and 95 % equal-tailed credible "
                "intervals.")  # fmt: skip
    return " ".join(told)


def _doubts(how: Inference) -> list[str]:
    """What a reader must know of a run that its own numbers call into doubt; what to do about it fit.check() says."""
    told = []
    if how.divergences:
        told.append(
            "Parts of the posterior in which transitions diverge may be unexplored, so estimates may be biased."
        )
    if how.max_r_hat > MAX_R_HAT:
        told.append(f"An R-hat above {MAX_R_HAT} means that the chains had not reached one distribution.")
    if how.chains < 2:
        told.append("With one chain, R-hat cannot see chains that disagree.")
    if min(how.min_ess_bulk, how.min_ess_tail) < MIN_ESS:
        told.append(f"An effective sample size below {MIN_ESS:.0f} leaves means and interval ends noisy.")
    return told


def _chains(chains: int, draws: int) -> str:
    return f"{chains} {'chain' if chains == 1 else 'chains'} of {draws:,} draws"


def _software(fit: Fit, origin: Origin) -> str:
    names = dict(BASE)
    if isinstance(fit, BayesianFit):
        names |= method_named(fit.inference.method).software
    found = [f"{shown} {origin.versions[name]}" for name, shown in names.items() if name in origin.versions]
    python = f" (Python {origin.versions['python']})" if "python" in origin.versions else ""
    return f"The analysis used {joined(found)}{python}."
