"""Which method of denominator degrees of freedom a fit's tests and intervals take: what ``ddf=`` may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermod.core.synonyms import VALUES
from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, ArgumentTypeError, UnsupportedError, nearest

if TYPE_CHECKING:
    from hiermod.fits.vocabulary import Fit

DDF = ("satterthwaite", "kenward-roger")


def is_bayesian(fit: Fit) -> bool:
    """Draws, not estimates."""
    return isinstance(fit.record, Posterior)


def chosen_ddf(fit: Fit, ddf: str | None) -> str | None:
    """The method of degrees of freedom: "auto" is Satterthwaite's for Gaussian REML and ML fits, none elsewhere.

    A linear model has its residual degrees of freedom whatever is asked.

    UnsupportedError where degrees of freedom are asked of a fit that has none."""
    generalised = isinstance(fit.record, GeneralisedMixedFit | GeneralisedLinearFit)
    if is_bayesian(fit) or generalised:
        if ddf not in ("auto", None):
            why = "its intervals come from draws" if is_bayesian(fit) else "its tests are normal (z)"
            raise UnsupportedError(f"ddf={ddf!r} is for Gaussian REML and ML fits; of this fit {why}. Leave ddf out")
        return None
    return "satterthwaite" if ddf == "auto" else check_ddf(ddf)


def check_ddf(ddf: str | None) -> str | None:
    """The method's name in lower case.  ArgumentTypeError, ArgumentError for what is none."""
    if ddf is None:
        return None
    if not isinstance(ddf, str):
        raise ArgumentTypeError(f"ddf must be 'satterthwaite', 'kenward-roger' or None, got {type(ddf).__name__}")
    name = ddf.lower().replace("_", "-")
    if name not in DDF:
        here = VALUES.get(("ddf", name))
        hint = f" It is called {here!r} here." if here else nearest(name, DDF)
        raise ArgumentError(f"ddf must be 'satterthwaite', 'kenward-roger' or None, got {ddf!r}.{hint}")
    return name
