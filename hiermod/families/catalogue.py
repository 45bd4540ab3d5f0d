"""The families a model may have, found by name.  A new one is a file in this folder and a line in the list here."""

from __future__ import annotations

from typing import Any

from hiermod.errors import ArgumentError, ArgumentTypeError, nearest
from hiermod.families.bernoulli import BERNOULLI
from hiermod.families.beta import BETA
from hiermod.families.beta_binomial import BETA_BINOMIAL
from hiermod.families.binomial import BINOMIAL
from hiermod.families.cumulative import CUMULATIVE
from hiermod.families.exponential import EXPONENTIAL
from hiermod.families.family import Family
from hiermod.families.gamma import GAMMA
from hiermod.families.gaussian import GAUSSIAN
from hiermod.families.hurdle_gamma import HURDLE_GAMMA
from hiermod.families.hurdle_negativebinomial import HURDLE_NEGATIVEBINOMIAL
from hiermod.families.hurdle_poisson import HURDLE_POISSON
from hiermod.families.laplace import LAPLACE
from hiermod.families.lognormal import LOGNORMAL
from hiermod.families.negativebinomial import NEGATIVEBINOMIAL
from hiermod.families.poisson import POISSON
from hiermod.families.sratio import SRATIO
from hiermod.families.t import T
from hiermod.families.vonmises import VONMISES
from hiermod.families.wald import WALD
from hiermod.families.weibull import WEIBULL
from hiermod.families.zero_inflated_negativebinomial import ZERO_INFLATED_NEGATIVEBINOMIAL
from hiermod.families.zero_inflated_poisson import ZERO_INFLATED_POISSON

# In the order in which they are shown to people.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        GAUSSIAN,
        T,
        LAPLACE,
        BERNOULLI,
        BINOMIAL,
        BETA,
        GAMMA,
        WALD,
        EXPONENTIAL,
        WEIBULL,
        POISSON,
        NEGATIVEBINOMIAL,
        ZERO_INFLATED_POISSON,
        ZERO_INFLATED_NEGATIVEBINOMIAL,
        HURDLE_POISSON,
        HURDLE_NEGATIVEBINOMIAL,
        HURDLE_GAMMA,
        CUMULATIVE,
        SRATIO,
        LOGNORMAL,
        BETA_BINOMIAL,
        VONMISES,
    )
}
GENERALISED = tuple(name for name, family in FAMILIES.items() if family.generalised_links)  # ml() fits them
ALSO_CALLED = {other: name for name, family in FAMILIES.items() for other in family.also_called}


def check_family(family: Any) -> str:
    """The family's name in lower case.  ArgumentTypeError, ArgumentError for what is none."""
    if not isinstance(family, str):
        raise ArgumentTypeError(f"family must be a name such as 'gaussian' or 'poisson', got {type(family).__name__}")
    name = family.lower()
    if name not in FAMILIES:
        hint = f" It is called {ALSO_CALLED[name]!r} here." if name in ALSO_CALLED else nearest(name, FAMILIES)
        raise ArgumentError(f"family {family!r} is not known.{hint} Families: {', '.join(FAMILIES)}")
    return name


def check_link(family: str, link: Any) -> str:
    """The link's name, the family's first for None.  ArgumentError for a link that does not go with the family."""
    links = FAMILIES[family].links
    if link is None:
        return links[0]
    if link not in links:
        raise ArgumentError(
            f"link {link!r} does not go with family {family!r}.{nearest(str(link), links)} Links: {', '.join(links)}"
        )
    return str(link)


def is_linear(family: Any, link: Any) -> bool:
    """Whether these are the linear model, Normal with identity link.  Also of a family or link that is not listed."""
    return isinstance(family, str) and family in FAMILIES and FAMILIES[family].linear(link)
