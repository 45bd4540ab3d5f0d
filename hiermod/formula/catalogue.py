"""The families a model may have and the links that go with each, under Bambi's names."""

from __future__ import annotations

from typing import Any

from hiermod.errors import ArgumentError, ArgumentTypeError, nearest

# Bambi's families and their links; the first is the default (bambi.families.univariate).
FAMILIES: dict[str, tuple[str, ...]] = {
    "gaussian": ("identity", "log", "inverse"),
    "t": ("identity", "log", "inverse"),
    "laplace": ("identity", "log", "inverse"),
    "bernoulli": ("logit", "probit", "cloglog", "identity"),
    "binomial": ("logit", "probit", "cloglog", "identity"),
    "beta": ("logit", "probit", "cloglog"),
    "gamma": ("inverse", "log", "identity"),
    "wald": ("inverse_squared", "inverse", "log", "identity"),
    "exponential": ("log", "identity", "inverse"),
    "weibull": ("log", "identity", "inverse"),
    "poisson": ("log", "identity"),
    "negativebinomial": ("log", "identity", "cloglog"),
    "zero_inflated_poisson": ("log", "identity"),
    "zero_inflated_negativebinomial": ("log", "identity", "cloglog"),
    "hurdle_poisson": ("log", "identity"),
    "hurdle_negativebinomial": ("log", "identity", "cloglog"),
    "hurdle_gamma": ("log", "identity", "inverse"),
    "cumulative": ("logit", "probit", "cloglog"),
    "sratio": ("logit", "probit", "cloglog"),
}
GENERALISED = ("bernoulli", "binomial", "poisson")  # families that ml() fits by Laplace's approximation
ORDINAL = ("cumulative", "sratio")  # their intercepts are the thresholds between the categories
COUNTS = tuple(name for name in FAMILIES if name.endswith(("poisson", "negativebinomial")))
ZEROS_APART = tuple(name for name in FAMILIES if name.startswith(("zero_inflated_", "hurdle_")))
POSITIVE = ("gamma", "wald", "exponential", "weibull")
# Parameters of the response that may have a formula of their own (parameters=), and the links Bambi gives them.
FURTHER: dict[str, tuple[str, ...]] = {
    "gaussian": ("sigma",),
    "t": ("sigma", "nu"),
    "laplace": ("b",),
    "beta": ("kappa",),
    "gamma": ("alpha",),
    "wald": ("lam",),
    "weibull": ("alpha",),
    "negativebinomial": ("alpha",),
    "zero_inflated_poisson": ("psi",),
    "zero_inflated_negativebinomial": ("alpha", "psi"),
    "hurdle_poisson": ("psi",),
    "hurdle_negativebinomial": ("alpha", "psi"),
    "hurdle_gamma": ("alpha", "psi"),
}


def further_link(parameter: str) -> str:
    """The link of a parameter's own formula, Bambi's default: probabilities logit, everything positive log."""
    return "logit" if parameter == "psi" else "log"


# What others call these families; no near misspelling of the name here, so ``nearest`` would suggest another.
ALSO_CALLED = {
    "normal": "gaussian",
    "norm": "gaussian",
    "gauss": "gaussian",
    "linear": "gaussian",
    "student": "t",
    "student_t": "t",
    "studentt": "t",
    "binary": "bernoulli",
    "logistic": "bernoulli",
    "count": "poisson",
    "counts": "poisson",
    "nbinom": "negativebinomial",
    "negbin": "negativebinomial",
    "negative_binomial": "negativebinomial",
    "inverse_gaussian": "wald",
    "inverse.gaussian": "wald",
    "inversegaussian": "wald",
    "zip": "zero_inflated_poisson",
    "zinb": "zero_inflated_negativebinomial",
    "ordinal": "cumulative",
}


def check_family(family: Any) -> str:
    """The family's name in lower case.  ArgumentTypeError, ArgumentError for what is none."""
    if not isinstance(family, str):
        raise ArgumentTypeError(f"family must be a name such as 'gaussian' or 'poisson', got {type(family).__name__}")
    name = family.lower()
    if name not in FAMILIES:
        if name in ALSO_CALLED:
            hint = f" It is called {ALSO_CALLED[name]!r} here."
        elif name in ("lognormal", "log_normal"):
            hint = " Write log(y) left of '~' with family 'gaussian': that is the lognormal model of y."
        else:
            hint = nearest(name, FAMILIES)
        raise ArgumentError(f"family {family!r} is not known.{hint} Families: {', '.join(FAMILIES)}")
    return name


def check_link(family: str, link: Any) -> str:
    """The link's name, the family's first for None.  ArgumentError for a link that does not go with the family."""
    if link is None:
        return FAMILIES[family][0]
    if link not in FAMILIES[family]:
        raise ArgumentError(
            f"link {link!r} does not go with family {family!r}.{nearest(str(link), FAMILIES[family])} "
            f"Links: {', '.join(FAMILIES[family])}"
        )
    return str(link)
